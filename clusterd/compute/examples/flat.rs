//! Memory under endless updates: a table of 100,000 rows with two views takes ten million updates, and the resident memory stays flat.
//!
//! `flat [UPDATES]`. Exits with an error if memory grew by more than a quarter after the first million.

#[path = "../tests/support/engine.rs"]
mod engine;
#[path = "../tests/support/lir.rs"]
mod lir;

use compute::ReplicaConfig;
use engine::{Engine, Packed};
use lir::*;
use plan::Mfp;
use plan::agg::AggregateFunc;
use protocol::compute::Command;
use repr::{Datum, GlobalId, Row, SqlType};

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn main() {
    const ROWS: u64 = 100_000;
    const BATCH: u64 = 1000;
    let updates: u64 = std::env::args()
        .nth(1)
        .map_or(10_000_000, |n| n.parse().unwrap());
    let mut engine = Engine::new(ReplicaConfig::default());
    let encode = |id: u64, value: i64| {
        Row::pack_slice(&[
            Datum::Int64(id as i64),
            Datum::Int64((id % 1000) as i64),
            Datum::Int64(value),
            Datum::String("some text of the row"),
        ])
    };
    let mut values = vec![0i64; ROWS as usize];
    engine.create_table(1, (0..ROWS).map(|id| encode(id, 0)).collect());
    // All rows by their key; and per group a sum, a count, the least and the greatest.
    let copy = dataflow(100, vec![(1, source(1, Mfp::identity(4)))], get(1), 4, &[0]);
    let aggregates = vec![
        agg(AggregateFunc::SumInt8, col(2)),
        count_all(),
        agg(AggregateFunc::Min(SqlType::Int64), col(2)),
        agg(AggregateFunc::Max(SqlType::Int64), col(2)),
    ];
    let groups = dataflow(
        101,
        vec![(1, source(1, Mfp::identity(4)))],
        reduce(get(1), 4, &[1], aggregates),
        5,
        &[0],
    );
    engine.create(copy, 0);
    engine.create(groups, 0);
    let mut seed = 1u64;
    let mut warm = 0;
    let mut most = 0;
    for round in 0..updates / BATCH {
        let mut packed = Packed::default();
        for _ in 0..BATCH {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let id = (seed >> 33) % ROWS;
            packed.push(&encode(id, values[id as usize]), -1);
            values[id as usize] = (seed >> 40) as i64 % 10_000;
            packed.push(&encode(id, values[id as usize]), 1);
        }
        let ts = engine.commit_packed(1, packed);
        if round % 10 == 9 {
            engine.wait_for(100, ts);
            engine.wait_for(101, ts);
            // History trails by a hundred commits.
            let frontier = ts.saturating_sub(100);
            engine.command(Command::AllowCompaction {
                id: GlobalId(100),
                frontier: Some(frontier),
            });
            engine.command(Command::AllowCompaction {
                id: GlobalId(101),
                frontier: Some(frontier),
            });
        }
        let done = (round + 1) * BATCH;
        if done == 1_000_000.min(updates / 2) {
            warm = resident_kib();
        }
        if done.is_multiple_of(1_000_000) {
            most = most.max(resident_kib());
            println!(
                "{done} updates: resident {} MiB, arrangements {} KiB",
                resident_kib() / 1024,
                engine.heard.0.lock().unwrap().bytes / 1024
            );
        }
    }
    let ts = engine.upper() - 1;
    let rows = engine.rows(100, 4, ts);
    assert_eq!(rows.len() as u64, ROWS, "the view holds the table");
    assert!(rows.iter().all(|(row, d)| *d == 1
        && values[row.column(0).unwrap_int64() as usize] == row.column(2).unwrap_int64()));
    assert_eq!(engine.rows(101, 5, ts).len(), 1000);
    engine.replica.shutdown();
    if warm > 0 && most > warm + warm / 4 {
        eprintln!("memory grew from {} to {} MiB", warm / 1024, most / 1024);
        std::process::exit(1);
    }
}
