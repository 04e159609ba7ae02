//! Dataflows over random histories hold, at every time, what their plan means.

#[path = "support/engine.rs"]
mod engine;
#[path = "support/lir.rs"]
mod lir;
#[path = "support/naive.rs"]
mod naive;

use compute::ReplicaConfig;
use engine::Engine;
use lir::*;
use plan::agg::AggregateFunc;
use plan::lir::{DeltaPath, ExportKind, IndexImport, JoinPlan, Node, TopKPlan};
use plan::mfp::TemporalBound;
use plan::mir::ColumnOrder;
use plan::{Dataflow, Mfp, ScalarExpr, TableFunc};
use protocol::compute::*;
use repr::{Datum, Diff, GlobalId, Numeric, Row, SqlType};
use std::collections::BTreeMap;
use std::sync::Arc;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

/// Tables 1 to 3 have columns: int8 key, nullable int8, numeric(,2), text.
const ARITY: usize = 4;

fn random_row(random: &mut Random) -> Row {
    let second = match random.below(6) {
        0 => Datum::Null,
        n => Datum::Int64(n as i64 - 2),
    };
    let money = Numeric::from_parts(i128::from(random.below(500)) - 100, 2).unwrap();
    let text = ["", "a", "some longer text that is not inline", "b"][random.below(4) as usize];
    Row::pack_slice(&[
        Datum::Int64(random.below(5) as i64),
        second,
        Datum::Numeric(money),
        Datum::String(text),
    ])
}

fn int(value: i64) -> ScalarExpr {
    lit(Datum::Int64(value), SqlType::Int64)
}

/// Plans that between them use every operator.
fn plans() -> Vec<(&'static str, Dataflow)> {
    let whole = |shard: u64| (shard, source(shard, Mfp::identity(ARITY)));
    let view = |node: Node, arity: usize, key: &[usize]| {
        dataflow(100, vec![whole(1), whole(2), whole(3)], node, arity, key)
    };
    let positive = |c: usize| call("gt", vec![col(c), int(0)], SqlType::Bool);
    let divided = call("int8div", vec![int(10), col(1)], SqlType::Int64);
    let minmax = vec![
        agg(AggregateFunc::Min(SqlType::Int64), col(1)),
        agg(AggregateFunc::Max(SqlType::Text), col(3)),
        count_all(),
        plan::AggregateExpr {
            distinct: true,
            ..agg(AggregateFunc::Count, col(3))
        },
        plan::AggregateExpr {
            distinct: true,
            ..agg(AggregateFunc::SumInt8, col(1))
        },
        agg(AggregateFunc::SumNumeric { scale: None }, col(2)),
        agg(
            AggregateFunc::ArrayAgg {
                element: SqlType::Int64,
            },
            col(1),
        ),
    ];
    let sums = vec![
        agg(AggregateFunc::SumInt8, col(1)),
        agg(AggregateFunc::Count, col(1)),
        agg(AggregateFunc::SumNumeric { scale: Some(2) }, col(2)),
        agg(AggregateFunc::BoolAnd, positive(1)),
        agg(AggregateFunc::BoolOr, positive(1)),
        count_all(),
    ];
    let order = vec![
        ColumnOrder {
            column: 1,
            desc: true,
            nulls_last: false,
        },
        ColumnOrder {
            column: 2,
            desc: false,
            nulls_last: true,
        },
    ];
    let top = |limit: Option<i64>, offset| TopKPlan {
        arity: ARITY,
        group_key: vec![0],
        order_key: order.clone(),
        limit: limit.map(int),
        offset,
    };
    let having = Node::Reduce {
        input: Box::new(get(1)),
        plan: plan::lir::ReducePlan {
            input_arity: ARITY,
            group_key: cols(&[3]),
            aggregates: vec![count_all()],
            mfp: mfp(
                2,
                vec![],
                vec![call("gt", vec![col(1), int(2)], SqlType::Bool)],
                &[1, 0],
            ),
        },
    };
    vec![
        ("copy", view(get(1), ARITY, &[0, 1, 2, 3])),
        (
            "filter and map",
            view(
                Node::Mfp {
                    input: Box::new(get(1)),
                    mfp: mfp(
                        ARITY,
                        vec![call("int8pl", vec![col(0), col(1)], SqlType::Int64)],
                        vec![positive(0)],
                        &[4, 3, 0],
                    ),
                },
                3,
                &[1],
            ),
        ),
        (
            "division that fails",
            view(
                Node::Mfp {
                    input: Box::new(get(1)),
                    mfp: mfp(ARITY, vec![divided.clone()], vec![], &[4, 0]),
                },
                2,
                &[0],
            ),
        ),
        ("failing key", {
            let mut d = view(get(1), ARITY, &[0]);
            d.exports[0].kind = ExportKind::Index {
                key: vec![divided],
                types: types(ARITY),
            };
            d
        }),
        (
            "sums",
            view(reduce(get(1), ARITY, &[0], sums.clone()), 7, &[0]),
        ),
        (
            "sums of all",
            view(reduce(get(1), ARITY, &[], sums), 6, &[]),
        ),
        (
            "least and greatest",
            view(reduce(get(1), ARITY, &[0], minmax), 8, &[0]),
        ),
        ("having", view(having, 2, &[1])),
        (
            "distinct",
            view(
                reduce(
                    Node::Mfp {
                        input: Box::new(get(1)),
                        mfp: project(ARITY, &[1, 3]),
                    },
                    2,
                    &[0, 1],
                    vec![],
                ),
                2,
                &[0, 1],
            ),
        ),
        (
            "first of each",
            view(
                Node::TopK {
                    input: Box::new(get(1)),
                    plan: top(Some(1), 0),
                },
                ARITY,
                &[0],
            ),
        ),
        (
            "third and fourth of each",
            view(
                Node::TopK {
                    input: Box::new(get(1)),
                    plan: top(Some(2), 2),
                },
                ARITY,
                &[0],
            ),
        ),
        (
            "two of many that are alike",
            view(
                Node::TopK {
                    input: Box::new(get(1)),
                    plan: TopKPlan {
                        order_key: order[..1].to_vec(),
                        ..top(Some(2), 0)
                    },
                },
                ARITY,
                &[0],
            ),
        ),
        (
            "all but the first",
            view(
                Node::TopK {
                    input: Box::new(get(1)),
                    plan: top(None, 1),
                },
                ARITY,
                &[0],
            ),
        ),
        (
            "except all",
            view(
                Node::Threshold {
                    input: Box::new(Node::Union {
                        inputs: vec![
                            get(1),
                            Node::Negate {
                                input: Box::new(get(2)),
                            },
                        ],
                    }),
                    arity: ARITY,
                },
                ARITY,
                &[0],
            ),
        ),
        (
            "series",
            view(
                Node::FlatMap {
                    input: Box::new(get(1)),
                    func: TableFunc::GenerateSeriesInt64,
                    args: vec![col(0), col(1)],
                    mfp: mfp(ARITY + 1, vec![], vec![positive(4)], &[0, 1, 4]),
                },
                3,
                &[2],
            ),
        ),
        (
            "let and constants",
            view(
                Node::Let {
                    id: 7,
                    value: Box::new(Node::Mfp {
                        input: Box::new(get(1)),
                        mfp: project(ARITY, &[0]),
                    }),
                    body: Box::new(Node::Union {
                        inputs: vec![
                            Node::Get {
                                id: plan::mir::Id::Local(7),
                            },
                            Node::Get {
                                id: plan::mir::Id::Local(7),
                            },
                            Node::Constant {
                                rows: Ok(vec![(Row::pack_slice(&[Datum::Int64(99)]), 3)]),
                            },
                        ],
                    }),
                },
                1,
                &[0],
            ),
        ),
        ("linear join", view(linear_join(), 5, &[0])),
        ("join of arrangements", view(arranged_join(), 3, &[0, 1])),
        ("delta join", view(delta_join(), 5, &[0])),
        (
            "temporal filter",
            view(
                Node::Mfp {
                    input: Box::new(get(1)),
                    mfp: temporal(),
                },
                ARITY,
                &[0],
            ),
        ),
        (
            "sums over a temporal filter",
            view(
                reduce(
                    Node::Mfp {
                        input: Box::new(get(1)),
                        mfp: temporal(),
                    },
                    ARITY,
                    &[0],
                    vec![count_all()],
                ),
                2,
                &[0],
            ),
        ),
        ("import that filters by time", {
            let mut d = view(get(1), ARITY, &[3]);
            d.sources.get_mut(&GlobalId(1)).unwrap().mfp = temporal();
            d
        }),
    ]
}

/// Present from 5 times the first column on, until 8 after that; for ever where the second column is not positive.
fn temporal() -> Mfp {
    let from = call("int8mul", vec![col(0), int(5)], SqlType::Int64);
    let until = call("int8pl", vec![from.clone(), int(8)], SqlType::Int64);
    let time = |e: ScalarExpr| call("cast_int8_to_mz_timestamp", vec![e], SqlType::MzTimestamp);
    let until = ScalarExpr::If {
        cond: Box::new(call("gt", vec![col(1), int(0)], SqlType::Bool)),
        then: Box::new(time(until)),
        els: Box::new(lit(Datum::MzTimestamp(u64::MAX), SqlType::MzTimestamp)),
    };
    Mfp {
        temporal: vec![TemporalBound::From(time(from)), TemporalBound::Until(until)],
        ..Mfp::identity(ARITY)
    }
}

/// 1 joins 2 on the nullable column, then 3 on the first.
fn linear_join() -> Node {
    let inputs = vec![
        get(1),
        arranged(get(2), ARITY, &[1]),
        arranged(get(3), ARITY, &[0]),
    ];
    let plan = JoinPlan::Linear {
        start: 0,
        initial: mfp(
            ARITY,
            vec![],
            vec![call("gt", vec![col(0), int(0)], SqlType::Bool)],
            &[0, 1, 3],
        ),
        stages: vec![
            stage((1, ARITY, &[1]), (3, &[1]), project(7, &[0, 1, 2, 6])),
            stage(
                (2, ARITY, &[0]),
                (4, &[0]),
                mfp(
                    8,
                    vec![call("int8pl", vec![col(0), col(5)], SqlType::Int64)],
                    vec![],
                    &[0, 1, 3, 7, 8],
                ),
            ),
        ],
    };
    Node::Join { inputs, plan }
}

/// Both sides arranged by the nullable column.
fn arranged_join() -> Node {
    let inputs = vec![arranged(get(1), ARITY, &[1]), arranged(get(2), ARITY, &[1])];
    let stages = vec![stage(
        (1, ARITY, &[1]),
        (ARITY, &[1]),
        project(8, &[1, 0, 4]),
    )];
    Node::Join {
        inputs,
        plan: JoinPlan::Linear {
            start: 0,
            initial: Mfp::identity(ARITY),
            stages,
        },
    }
}

/// 1 joins 2 on the nullable column and 3 on the first; output: 1.0, 1.1, 2.3, 3.3, 1.0 + 3.1.
fn delta_join() -> Node {
    let both = Node::ArrangeBy {
        input: Box::new(get(1)),
        keys: vec![cols(&[0]), cols(&[1])],
        arity: ARITY,
    };
    let inputs = vec![
        both,
        arranged(get(2), ARITY, &[1]),
        arranged(get(3), ARITY, &[0]),
    ];
    let result = |arity: usize, [a0, a1, b3, c3, c1]: [usize; 5]| {
        mfp(
            arity,
            vec![call("int8pl", vec![col(a0), col(c1)], SqlType::Int64)],
            vec![],
            &[a0, a1, b3, c3, arity],
        )
    };
    let paths = vec![
        DeltaPath {
            source: 0,
            source_key: cols(&[0]),
            initial: Mfp::identity(ARITY),
            stages: vec![
                stage((1, ARITY, &[1]), (4, &[1]), project(8, &[0, 1, 7])),
                stage((2, ARITY, &[0]), (3, &[0]), result(7, [0, 1, 2, 6, 4])),
            ],
        },
        DeltaPath {
            source: 1,
            source_key: cols(&[1]),
            initial: project(ARITY, &[1, 3]),
            stages: vec![
                stage((0, ARITY, &[1]), (2, &[0]), project(6, &[1, 2, 3])),
                stage((2, ARITY, &[0]), (3, &[1]), result(7, [1, 2, 0, 6, 4])),
            ],
        },
        DeltaPath {
            source: 2,
            source_key: cols(&[0]),
            initial: Mfp::identity(ARITY),
            stages: vec![
                stage((0, ARITY, &[0]), (4, &[0]), project(8, &[1, 3, 4, 5])),
                stage((1, ARITY, &[1]), (4, &[3]), result(8, [2, 3, 7, 1, 0])),
            ],
        },
    ];
    Node::Join {
        inputs,
        plan: JoinPlan::Delta { paths },
    }
}

type Tables = BTreeMap<u64, Vec<(Row, Diff)>>;

/// Random inserts and deletes of rows that are there, to up to three tables at once.
fn random_writes(random: &mut Random, tables: &mut Tables) -> Vec<(u64, Vec<(Row, Diff)>)> {
    let mut writes = vec![];
    for (shard, rows) in tables.iter_mut() {
        let mut updates = vec![];
        for _ in 0..random.below(4) {
            if random.below(3) > 0 || rows.is_empty() {
                let row = random_row(random);
                rows.push((row.clone(), 1));
                updates.push((row, 1));
            } else {
                let (row, _) = rows.swap_remove(random.below(rows.len() as u64) as usize);
                updates.push((row, -1));
            }
        }
        if !updates.is_empty() {
            writes.push((*shard, updates));
        }
    }
    writes
}

/// What a peek of everything says, in order.
fn peeked(engine: &mut Engine, arity: usize, ts: u64) -> Result<Vec<(Row, Diff)>, plan::EvalError> {
    match engine.peek(100, arity, ts) {
        PeekResponse::Rows(rows) => {
            let mut sums: BTreeMap<Row, Diff> = BTreeMap::new();
            for (row, diff) in rows.rows {
                *sums.entry(row).or_default() += diff;
            }
            Ok(sums.into_iter().collect())
        }
        PeekResponse::Error(error) => Err(error),
        PeekResponse::Refused(refusal) => panic!("refused at {ts}: {refusal:?}"),
    }
}

fn check(name: &str, dataflow: &Dataflow, workers: usize, seed: u64) {
    let mut random = Random(seed);
    let mut engine = replica(workers);
    let mut tables: Tables = (1..=3).map(|shard| (shard, vec![])).collect();
    let mut history: BTreeMap<u64, Tables> = BTreeMap::new();
    let as_of = 1 + random.below(10);
    let ExportKind::Index { types, .. } = &dataflow.exports[0].kind else {
        panic!("an index")
    };
    let arity = types.len();
    for _ in 0..25 {
        let ts = engine.commit(random_writes(&mut random, &mut tables));
        history.insert(ts, tables.clone());
        if ts == as_of + 2 {
            // Later than its as_of: it has to catch up with what came between.
            engine.create(dataflow.clone(), as_of);
        }
    }
    for (ts, tables) in history.range(as_of..) {
        let expected = naive::content(dataflow, tables, *ts);
        assert_eq!(
            peeked(&mut engine, arity, *ts),
            expected,
            "{name}, seed {seed}, {workers} workers, at {ts}"
        );
    }
    engine.replica.shutdown();
}

#[test]
fn dataflows_mean_what_their_plans_mean() {
    for (name, dataflow) in plans() {
        for seed in 1..=4 {
            check(name, &dataflow, 1 + (seed % 2) as usize, seed);
        }
    }
}

/// A replica with empty tables.
fn replica(workers: usize) -> Engine {
    let engine = Engine::new(ReplicaConfig {
        workers,
        ..ReplicaConfig::default()
    });
    (1..=3).for_each(|shard| engine.create_table(shard, vec![]));
    engine
}

/// Whatever two replicas have been through, they hold the same at the same time: one has one worker and has seen every commit as it came; the other has two, builds the dataflow
/// late, from what the history has become, and hears the rows of each commit in another order.
fn check_agreement(name: &str, dataflow: &Dataflow, seed: u64) {
    let mut random = Random(seed);
    let (mut early, mut late) = (replica(1), replica(2));
    let ExportKind::Index { types, .. } = &dataflow.exports[0].kind else {
        panic!("an index")
    };
    let arity = types.len();
    let begin = early.upper();
    early.create(dataflow.clone(), begin);
    let mut tables: Tables = (1..=3).map(|shard| (shard, vec![])).collect();
    let (as_of, mut last) = (begin + 10 + random.below(10), begin);
    while last < as_of + 15 {
        let writes = random_writes(&mut random, &mut tables);
        let mut reversed = writes.clone();
        reversed.reverse();
        reversed.iter_mut().for_each(|(_, rows)| rows.reverse());
        last = early.commit(writes);
        assert_eq!(late.commit(reversed), last);
        if last == as_of + 3 {
            late.create(dataflow.clone(), as_of);
        }
    }
    for ts in as_of..=last {
        assert_eq!(
            peeked(&mut early, arity, ts),
            peeked(&mut late, arity, ts),
            "{name}, seed {seed}: two replicas differ at {ts}"
        );
    }
    early.replica.shutdown();
    late.replica.shutdown();
}

#[test]
fn replicas_agree_at_every_time() {
    for (name, dataflow) in plans() {
        for seed in 1..=2 {
            check_agreement(name, &dataflow, seed);
        }
    }
}

/// It is chosen for the whole process: run this test alone.
#[cfg(feature = "planted")]
#[test]
fn a_planted_bug_of_agreement_is_caught() {
    planted::choose(Some("h25"));
    let missed = std::panic::catch_unwind(replicas_agree_at_every_time);
    planted::choose(None);
    assert!(missed.is_err(), "nothing notices the bug h25");
    replicas_agree_at_every_time();
}

/// A view over an index, and a join of two indexes, see what the indexes see.
#[test]
fn dataflows_read_indexes_of_others() {
    for seed in 1..=6 {
        let workers = 1 + (seed % 2) as usize;
        let mut random = Random(seed);
        let mut engine = Engine::new(ReplicaConfig {
            workers,
            ..ReplicaConfig::default()
        });
        let mut tables: Tables = (1..=3).map(|shard| (shard, vec![])).collect();
        for shard in 1..=3 {
            engine.create_table(shard, vec![]);
        }
        for shard in 1..=3u64 {
            let copy = |key: &[usize], export: u64| {
                let mut d = dataflow(
                    export,
                    vec![(shard, source(shard, Mfp::identity(ARITY)))],
                    get(shard),
                    ARITY,
                    key,
                );
                d.objects[0].0 = global(shard + 50);
                d.exports[0].from = global(shard + 50);
                d
            };
            engine.create(copy(&[0], 200 + shard), 1);
            engine.create(copy(&[1], 300 + shard), 1);
        }
        // The same join as over tables, over relations 51 to 53 instead.
        let over_indexes = |node: Node| {
            let mut d = dataflow(100, vec![], node, 5, &[0]);
            for shard in 1..=3u64 {
                for (index, key) in [(200, 0), (300, 1)] {
                    let import = IndexImport {
                        on: GlobalId(shard),
                        key: cols(&[key]),
                        types: types(ARITY),
                    };
                    d.indexes.insert(GlobalId(index + shard), import);
                }
            }
            d
        };
        let Node::Join { plan, .. } = (if seed % 3 == 0 {
            linear_join()
        } else {
            delta_join()
        }) else {
            unreachable!()
        };
        let node = Node::Join {
            inputs: vec![get(1), get(2), get(3)],
            plan,
        };
        let meaning = dataflow(
            100,
            (1..=3)
                .map(|s| (s, source(s, Mfp::identity(ARITY))))
                .collect(),
            node.clone(),
            5,
            &[0],
        );
        let mut history: BTreeMap<u64, Tables> = BTreeMap::new();
        let as_of = 6;
        for _ in 0..20 {
            let ts = engine.commit(random_writes(&mut random, &mut tables));
            history.insert(ts, tables.clone());
            if ts == as_of + random.below(4) && ts < 100 {
                engine.create(over_indexes(node.clone()), as_of);
            }
            if ts == 10 {
                engine.create(over_indexes(node.clone()), as_of);
            }
        }
        for (ts, tables) in history.range(as_of..) {
            assert_eq!(
                peeked(&mut engine, 5, *ts),
                naive::content(&meaning, tables, *ts),
                "seed {seed} at {ts}"
            );
        }
        // The indexes go, and what reads them goes on.
        for shard in 1..=3u64 {
            engine.command(Command::AllowCompaction {
                id: GlobalId(200 + shard),
                frontier: None,
            });
            engine.command(Command::AllowCompaction {
                id: GlobalId(300 + shard),
                frontier: None,
            });
        }
        let ts = engine.commit(random_writes(&mut random, &mut tables));
        assert_eq!(
            peeked(&mut engine, 5, ts),
            naive::content(&meaning, &tables, ts),
            "seed {seed} without its indexes' owners"
        );
        engine.replica.shutdown();
    }
}

#[test]
fn lookups_find_what_scans_find() {
    for workers in [1, 2] {
        let mut engine = Engine::new(ReplicaConfig {
            workers,
            ..ReplicaConfig::default()
        });
        let mut random = Random(3);
        let rows: Vec<Row> = (0..200).map(|_| random_row(&mut random)).collect();
        engine.create_table(1, rows.clone());
        engine.create(
            dataflow(
                100,
                vec![(1, source(1, Mfp::identity(ARITY)))],
                get(1),
                ARITY,
                &[0, 1],
            ),
            1,
        );
        engine.close(2);
        let keys: Vec<Row> = (0..7)
            .map(|k| Row::pack_slice(&[Datum::Int64(k), Datum::Int64(1)]))
            .collect();
        let projected = Arc::new(mfp(
            ARITY,
            vec![],
            vec![call(
                "ne",
                vec![col(3), lit(Datum::String("a"), SqlType::Text)],
                SqlType::Bool,
            )],
            &[3, 0],
        ));
        let peek = |peek: &mut Peek| {
            peek.target.keys = Some(keys.clone());
            peek.mfp = Arc::clone(&projected);
        };
        let PeekResponse::Rows(found) = engine.peek_with(peek, 100, ARITY, 1).recv().unwrap()
        else {
            panic!("rows")
        };
        let mut found: BTreeMap<Row, Diff> =
            found
                .rows
                .into_iter()
                .fold(BTreeMap::new(), |mut sums, (row, d)| {
                    *sums.entry(row).or_default() += d;
                    sums
                });
        for row in &rows {
            let matches = keys
                .iter()
                .any(|k| k.column(0) == row.column(0) && k.column(1) == row.column(1));
            if matches && row.column(3) != Datum::String("a") {
                let out = Row::pack_slice(&[row.column(3), row.column(0)]);
                *found.get_mut(&out).expect("found") -= 1;
            }
        }
        assert!(found.values().all(|count| *count == 0), "{found:?}");
        engine.replica.shutdown();
    }
}
