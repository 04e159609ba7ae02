//! The engine without SQL, wire or disk: the same work as the hand-written `tests/bench/floor`, for the same figures.
//!
//! `floor agg|peek|q1|q3|q3d|q5 WORKERS [DIRECTORY]`: the directory holds TPC-H `.tbl` files.

#[path = "../tests/support/engine.rs"]
mod engine;
#[path = "../tests/support/lir.rs"]
mod lir;

use compute::ReplicaConfig;
use engine::{Engine, Packed};
use lir::*;
use plan::agg::AggregateFunc;
use plan::lir::{DeltaPath, JoinPlan, Node};
use plan::{Dataflow, Mfp};
use repr::{Date, Datum, Diff, Numeric, Row, RowPacker, SqlType};
use std::time::Instant;

/// That of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((self.0 >> 18) ^ self.0) >> 27
    }
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

/// Seconds that the worker threads have been running, which other load on the machine does not change.
fn worker_seconds() -> f64 {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with("compute-") {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            nanos += stat
                .split_whitespace()
                .next()
                .and_then(|n| n.parse::<u64>().ok())
                .unwrap_or(0);
        }
    }
    nanos as f64 / 1e9
}

fn percentiles(mut seconds: Vec<f64>) -> String {
    seconds.sort_by(f64::total_cmp);
    let at = |p: usize| seconds[(seconds.len() - 1) * p / 100] * 1e6;
    format!(
        "n={} p50={:.1}us p99={:.1}us",
        seconds.len(),
        at(50),
        at(99)
    )
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mode = args.get(1).map_or("agg", |s| s.as_str()).to_owned();
    let workers = args.get(2).map_or(1, |s| s.parse().unwrap());
    let dir = args.get(3).cloned().unwrap_or_default();
    let mut engine = Engine::new(ReplicaConfig {
        workers,
        ..ReplicaConfig::default()
    });
    match mode.as_str() {
        "agg" => aggregate(&mut engine),
        "peek" => peek(&mut engine),
        "q1" | "q3" | "q3d" | "q5" => tpch(&mut engine, &mode, &dir),
        other => panic!("no mode {other}"),
    }
    engine.replica.shutdown();
}

/// Group by over a million rows of a thousand groups.
fn aggregate(engine: &mut Engine) {
    const ROWS: u64 = 1_000_000;
    const GROUPS: u64 = 1000;
    let mut random = Random(42);
    let mut values: Vec<(i32, i32)> = (0..ROWS)
        .map(|_| {
            (
                (random.next() % GROUPS) as i32,
                (random.next() % 1000) as i32,
            )
        })
        .collect();
    let encode = |id: usize, (g, v): (i32, i32)| {
        Row::pack_slice(&[Datum::Int32(id as i32), Datum::Int32(g), Datum::Int32(v)])
    };
    engine.create_table(
        1,
        values
            .iter()
            .enumerate()
            .map(|(i, v)| encode(i, *v))
            .collect(),
    );
    let node = reduce(
        get(1),
        2,
        &[0],
        vec![agg(AggregateFunc::SumInt, col(1)), count_all()],
    );
    let dataflow = dataflow(
        100,
        vec![(1, source(1, project(3, &[1, 2])))],
        node,
        3,
        &[0],
    );
    let before = resident_mib();
    load(engine, dataflow, 3, ROWS, before);
    run(engine, "agg", before, || {
        let i = (random.next() % ROWS) as usize;
        let old = encode(i, values[i]);
        values[i].1 = (random.next() % 1000) as i32;
        (1, [(old, -1), (encode(i, values[i]), 1)])
    });
}

/// Lookups by key in a view of a hundred thousand rows.
fn peek(engine: &mut Engine) {
    const ROWS: u64 = 100_000;
    let encode = |id: u64| {
        Row::pack_slice(&[
            Datum::Int64(id as i64),
            Datum::Int64(7),
            Datum::String("a value of some length"),
        ])
    };
    engine.create_table(1, (0..ROWS).map(encode).collect());
    engine.create(
        dataflow(100, vec![(1, source(1, Mfp::identity(3)))], get(1), 3, &[0]),
        0,
    );
    engine.wait_for(100, 0);
    let mut random = Random(42);
    let mfp = std::sync::Arc::new(Mfp::identity(3));
    for outstanding in [1, 64, 1024] {
        let (replies, answered) = std::sync::mpsc::channel();
        let total = if outstanding == 1 { 50_000 } else { 500_000 };
        let mut latencies = Vec::with_capacity(total);
        let cpu = worker_seconds();
        let start = Instant::now();
        for n in 0..total + outstanding {
            if n >= outstanding {
                let (sent, rows): (Instant, usize) = answered.recv().unwrap();
                assert_eq!(rows, 1);
                latencies.push(sent.elapsed().as_secs_f64());
            }
            if n < total {
                let key = Row::pack_slice(&[Datum::Int64((random.next() % ROWS) as i64)]);
                let peek = protocol::compute::Peek {
                    id: protocol::compute::PeekId(n as u128),
                    epoch: engine.epoch,
                    after: engine.seq,
                    target: protocol::compute::PeekTarget {
                        id: repr::GlobalId(100),
                        keys: Some(vec![key]),
                    },
                    ts: 0,
                    mfp: std::sync::Arc::clone(&mfp),
                    limit: None,
                    bytes_max: 1 << 20,
                };
                let (replies, sent) = (replies.clone(), Instant::now());
                let reply = move |response| {
                    if let protocol::compute::PeekResponse::Rows(rows) = response {
                        let _ = replies.send((sent, rows.rows.len()));
                    }
                };
                engine.replica.peek(peek, Box::new(reply));
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{:.0} peeks/s, {:.0} per CPU second  {outstanding} outstanding: {}",
            total as f64 / seconds,
            total as f64 / (worker_seconds() - cpu),
            percentiles(latencies)
        );
    }
}

fn load(engine: &mut Engine, dataflow: Dataflow, arity: usize, rows: u64, before: u64) {
    let start = Instant::now();
    engine.create(dataflow, 0);
    engine.wait_for(100, 0);
    println!(
        "load {rows} rows + first result: {:.3}s, {:.3}s of CPU",
        start.elapsed().as_secs_f64(),
        worker_seconds()
    );
    let found = engine.rows(100, arity, 0);
    println!(
        "{} rows in the view, e.g. {:?}; resident +{} MiB",
        found.len(),
        &found[..found.len().min(5)],
        resident_mib() as i64 - before as i64
    );
}

/// Updates in batches of several sizes, each awaited.
fn run(
    engine: &mut Engine,
    name: &str,
    before: u64,
    mut update: impl FnMut() -> (u64, [(Row, Diff); 2]),
) {
    for (batch, rounds) in [
        (1usize, 5000),
        (10, 1000),
        (100, 500),
        (1000, 100),
        (10_000, 20),
    ] {
        let mut latencies = vec![];
        let cpu = worker_seconds();
        for _ in 0..rounds {
            let mut shard = 0;
            let mut updates = Packed::default();
            for _ in 0..batch {
                let (of, both) = update();
                shard = of;
                both.iter().for_each(|(row, diff)| updates.push(row, *diff));
            }
            let start = Instant::now();
            let ts = engine.commit_packed(shard, updates);
            engine.wait_for(100, ts);
            latencies.push(start.elapsed().as_secs_f64());
        }
        let median = {
            let mut sorted = latencies.clone();
            sorted.sort_by(f64::total_cmp);
            sorted[sorted.len() / 2]
        };
        let per_cpu = (rounds * batch) as f64 / (worker_seconds() - cpu);
        println!(
            "{:.0} updates/s (median), {per_cpu:.0} per CPU second  {name} batch={batch}: {}",
            batch as f64 / median,
            percentiles(latencies)
        );
        let upper = engine.upper() - 1;
        engine.command(protocol::compute::Command::AllowCompaction {
            id: repr::GlobalId(100),
            frontier: Some(upper),
        });
    }
    println!(
        "{name}: resident {} MiB, +{} MiB",
        resident_mib(),
        resident_mib() as i64 - before as i64
    );
}

fn date(text: &str) -> Date {
    let mut parts = text.split('-').map(|p| p.parse::<i64>().unwrap());
    let (y, m, d) = (
        parts.next().unwrap(),
        parts.next().unwrap(),
        parts.next().unwrap(),
    );
    // Days since 2000-01-01, the proleptic Gregorian way.
    let days = |y: i64, m: i64, d: i64| {
        let y = if m <= 2 { y - 1 } else { y };
        let era = y.div_euclid(400);
        let yoe = y - era * 400;
        let doy = (153 * (if m > 2 { m - 3 } else { m + 9 }) + 2) / 5 + d - 1;
        era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy
    };
    Date((days(y, m, d) - days(2000, 1, 1)) as i32)
}

fn money(text: &str) -> Numeric {
    match text.split_once('.') {
        Some((whole, cents)) => Numeric::from_parts(
            whole.parse::<i128>().unwrap() * 100 + cents.parse::<i128>().unwrap(),
            2,
        )
        .unwrap(),
        None => Numeric::from_parts(text.parse::<i128>().unwrap() * 100, 2).unwrap(),
    }
}

/// One letter per column: int4, numeric, date, string.
fn table(dir: &str, name: &str, columns: &str) -> Vec<Row> {
    let text = std::fs::read_to_string(format!("{dir}/{name}.tbl")).unwrap();
    let mut packer = RowPacker::new();
    text.lines()
        .map(|line| {
            for (field, ty) in line.split('|').zip(columns.chars()) {
                packer.push(match ty {
                    'i' => Datum::Int32(field.parse().unwrap()),
                    'n' => Datum::Numeric(money(field)),
                    'd' => Datum::Date(date(field)),
                    _ => Datum::String(field),
                });
            }
            packer.finish_row()
        })
        .collect()
}

fn tpch(engine: &mut Engine, mode: &str, dir: &str) {
    let mut lineitem = table(dir, "lineitem", "iiiinnnnssdddsss");
    engine.create_table(1, lineitem.clone());
    let plan = match mode {
        "q1" => q1(),
        _ => {
            engine.create_table(2, table(dir, "orders", "iisndssis"));
            engine.create_table(3, table(dir, "customer", "issisnss"));
            engine.create_table(4, table(dir, "supplier", "issisns"));
            let regions = table(dir, "region", "iss");
            let asia = regions
                .iter()
                .find(|r| r.column(1) == Datum::String("ASIA"))
                .unwrap()
                .column(0)
                .unwrap_int32();
            let nations = table(dir, "nation", "isis");
            engine.create_table(
                5,
                nations
                    .into_iter()
                    .filter(|n| n.column(2) == Datum::Int32(asia))
                    .collect(),
            );
            match mode {
                "q3" => q3(),
                "q3d" => q3_delta(),
                _ => q5(),
            }
        }
    };
    let before = resident_mib();
    let arity = plan.1;
    load(engine, plan.0, arity, lineitem.len() as u64, before);
    let mut random = Random(7);
    run(engine, mode, before, || {
        let i = (random.next() % lineitem.len() as u64) as usize;
        let old = lineitem[i].clone();
        let mut datums = old.unpack();
        let price = datums[5].unwrap_numeric();
        datums[5] = Datum::Numeric(
            Numeric::from_parts(price.mantissa() + 1 + (random.next() % 100) as i128, 2).unwrap(),
        );
        let new = Row::pack_slice(&datums);
        lineitem[i] = new.clone();
        (1, [(old, -1), (new, 1)])
    });
}

fn compare(function: &str, column: usize, day: &str) -> plan::ScalarExpr {
    call(
        function,
        vec![col(column), lit(Datum::Date(date(day)), SqlType::Date)],
        SqlType::Bool,
    )
}

fn equals(column: usize, text: &str) -> plan::ScalarExpr {
    call(
        "eq",
        vec![col(column), lit(Datum::String(text), SqlType::Text)],
        SqlType::Bool,
    )
}

fn sum(expr: plan::ScalarExpr, scale: u16) -> plan::AggregateExpr {
    agg(AggregateFunc::SumNumeric { scale: Some(scale) }, expr)
}

fn q1() -> (Dataflow, usize) {
    let charge = call(
        "numeric_mul",
        vec![col(16), call("numeric_add", vec![col(7), one()], numeric())],
        numeric(),
    );
    // returnflag, linestatus, quantity, price, price * (1 - discount), that * (1 + tax), discount
    let import = mfp(
        16,
        vec![revenue(5, 6), charge],
        vec![compare("le", 10, "1998-09-02")],
        &[8, 9, 4, 5, 16, 17, 6],
    );
    let aggregates = vec![
        sum(col(2), 2),
        sum(col(3), 2),
        sum(col(4), 4),
        sum(col(5), 6),
        count_all(),
        sum(col(6), 2),
    ];
    let node = reduce(get(1), 7, &[0, 1], aggregates);
    (
        dataflow(100, vec![(1, source(1, import))], node, 8, &[0, 1]),
        8,
    )
}

fn q3_sources() -> Vec<(u64, plan::lir::SourceImport)> {
    vec![
        (
            1,
            source(
                1,
                mfp(
                    16,
                    vec![],
                    vec![compare("gt", 10, "1995-03-15")],
                    &[0, 5, 6],
                ),
            ),
        ),
        (
            2,
            source(
                2,
                mfp(
                    9,
                    vec![],
                    vec![compare("lt", 4, "1995-03-15")],
                    &[0, 1, 4, 7],
                ),
            ),
        ),
        (
            3,
            source(3, mfp(8, vec![], vec![equals(6, "BUILDING")], &[0])),
        ),
    ]
}

fn q3_result(join: Node) -> (Dataflow, usize) {
    let node = reduce(join, 4, &[0, 1, 2], vec![sum(col(3), 4)]);
    (dataflow(100, q3_sources(), node, 4, &[0, 1, 2]), 4)
}

fn q3() -> (Dataflow, usize) {
    let inputs = vec![get(2), arranged(get(3), 1, &[0]), arranged(get(1), 3, &[0])];
    let plan = JoinPlan::Linear {
        start: 0,
        initial: Mfp::identity(4),
        stages: vec![
            stage((1, 1, &[0]), (4, &[1]), project(5, &[0, 2, 3])),
            stage(
                (2, 3, &[0]),
                (3, &[0]),
                mfp(6, vec![revenue(4, 5)], vec![], &[0, 1, 2, 6]),
            ),
        ],
    };
    q3_result(Node::Join { inputs, plan })
}

fn q3_delta() -> (Dataflow, usize) {
    let orders = Node::ArrangeBy {
        input: Box::new(get(2)),
        keys: vec![cols(&[0]), cols(&[1])],
        arity: 4,
    };
    let inputs = vec![orders, arranged(get(3), 1, &[0]), arranged(get(1), 3, &[0])];
    let last = |stream: usize, order: &[usize; 4], price: usize| {
        mfp(
            stream,
            vec![revenue(price, price + 1)],
            vec![],
            &[order[0], order[1], order[2], stream],
        )
    };
    let paths = vec![
        DeltaPath {
            source: 0,
            source_key: cols(&[0]),
            initial: Mfp::identity(4),
            stages: vec![
                stage((1, 1, &[0]), (4, &[1]), project(5, &[0, 2, 3])),
                stage((2, 3, &[0]), (3, &[0]), last(6, &[0, 1, 2, 6], 4)),
            ],
        },
        DeltaPath {
            source: 1,
            source_key: cols(&[0]),
            initial: Mfp::identity(1),
            stages: vec![
                stage((0, 4, &[1]), (1, &[0]), project(5, &[1, 3, 4])),
                stage((2, 3, &[0]), (3, &[0]), last(6, &[0, 1, 2, 6], 4)),
            ],
        },
        DeltaPath {
            source: 2,
            source_key: cols(&[0]),
            initial: Mfp::identity(3),
            stages: vec![
                stage((0, 4, &[0]), (3, &[0]), project(7, &[0, 1, 2, 4, 5, 6])),
                stage((1, 1, &[0]), (6, &[3]), last(7, &[0, 4, 5, 7], 1)),
            ],
        },
    ];
    q3_result(Node::Join {
        inputs,
        plan: JoinPlan::Delta { paths },
    })
}

fn q5() -> (Dataflow, usize) {
    let mut window = vec![
        compare("ge", 4, "1994-01-01"),
        compare("lt", 4, "1995-01-01"),
    ];
    let sources = vec![
        (1, source(1, project(16, &[0, 2, 5, 6]))),
        (
            2,
            source(2, mfp(9, vec![], std::mem::take(&mut window), &[0, 1])),
        ),
        (3, source(3, project(8, &[0, 3]))),
        (4, source(4, project(7, &[0, 3]))),
        (5, source(5, project(4, &[0, 1]))),
    ];
    let inputs = vec![
        get(2),
        arranged(get(3), 2, &[0]),
        arranged(get(1), 4, &[0]),
        arranged(get(4), 2, &[0, 1]),
        arranged(get(5), 2, &[0]),
    ];
    let plan = JoinPlan::Linear {
        start: 0,
        initial: Mfp::identity(2),
        stages: vec![
            stage((1, 2, &[0]), (2, &[1]), project(4, &[0, 3])),
            stage((2, 4, &[0]), (2, &[0]), project(6, &[1, 3, 4, 5])),
            stage((3, 2, &[0, 1]), (4, &[1, 0]), project(6, &[0, 2, 3])),
            stage(
                (4, 2, &[0]),
                (3, &[0]),
                mfp(5, vec![revenue(1, 2)], vec![], &[4, 5]),
            ),
        ],
    };
    let node = reduce(Node::Join { inputs, plan }, 2, &[0], vec![sum(col(1), 4)]);
    (dataflow(100, sources, node, 2, &[0]), 2)
}
