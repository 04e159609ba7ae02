//! What a replica owes its leader: epochs, inventory, holds, peeks, subscriptions, limits.

#[path = "support/engine.rs"]
mod engine;
#[path = "support/lir.rs"]
mod lir;

use compute::ReplicaConfig;
use engine::Engine;
use lir::*;
use plan::lir::{Export, ExportKind};
use plan::{Dataflow, Mfp};
use protocol::compute::*;
use repr::{Datum, GlobalId, Row, SqlType};
use std::sync::Arc;

fn row(a: i64, b: i64) -> Row {
    Row::pack_slice(&[Datum::Int64(a), Datum::Int64(b)])
}

fn copy(export: u64) -> Dataflow {
    dataflow(
        export,
        vec![(1, source(1, Mfp::identity(2)))],
        get(1),
        2,
        &[0],
    )
}

fn started(workers: usize) -> Engine {
    let mut engine = Engine::new(ReplicaConfig {
        workers,
        ..ReplicaConfig::default()
    });
    engine.create_table(1, vec![]);
    engine.create(copy(100), 1);
    engine
}

fn refusal(response: PeekResponse) -> Refusal {
    match response {
        PeekResponse::Refused(refusal) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn peeks_read_the_past_until_it_may_be_forgotten() {
    for workers in [1, 2] {
        let mut engine = started(workers);
        let first = engine.commit(vec![(1, vec![(row(1, 1), 1)])]);
        let second = engine.commit(vec![(1, vec![(row(1, 1), -1), (row(2, 2), 1)])]);
        assert_eq!(engine.rows(100, 2, first), vec![(row(1, 1), 1)]);
        assert_eq!(engine.rows(100, 2, second), vec![(row(2, 2), 1)]);
        engine.command(Command::AllowCompaction {
            id: GlobalId(100),
            frontier: Some(second),
        });
        engine.wait(|heard| heard.sinces.get(&GlobalId(100)) == Some(&second));
        assert_eq!(refusal(engine.peek(100, 2, first)), Refusal::HoldLost);
        assert_eq!(engine.rows(100, 2, second), vec![(row(2, 2), 1)]);
    }
}

#[test]
fn compaction_waits_for_peeks_that_were_accepted() {
    let mut engine = started(1);
    let past = engine.commit(vec![(1, vec![(row(1, 1), 1)])]);
    engine.wait_for(100, past);
    // Nothing is complete there yet, so it waits; history may go further than what it needs.
    let future = past + 5;
    let waiting = engine.peek_with(|_| {}, 100, 2, future);
    let cancelled = engine.peek_with(|_| {}, 100, 2, future);
    assert_eq!(
        engine.rows(100, 2, past),
        vec![(row(1, 1), 1)],
        "accepted before this one was answered"
    );
    engine.command(Command::AllowCompaction {
        id: GlobalId(100),
        frontier: Some(future + 10),
    });
    engine.command(Command::CancelPeek { id: PeekId(2) });
    assert_eq!(refusal(cancelled.recv().unwrap()), Refusal::Cancelled);
    engine.wait(|heard| heard.sinces.get(&GlobalId(100)) == Some(&future));
    engine.close(future + 20);
    let PeekResponse::Rows(rows) = waiting.recv().unwrap() else {
        panic!("rows")
    };
    assert_eq!(rows.rows, vec![(row(1, 1), 1)]);
    engine.wait(|heard| heard.sinces.get(&GlobalId(100)) == Some(&(future + 10)));
}

#[test]
fn peeks_wait_for_the_command_that_they_follow() {
    let mut engine = started(2);
    let ts = engine.commit(vec![(1, vec![(row(1, 1), 1)])]);
    let follows = engine.seq + 1;
    let early = engine.peek_with(|peek| peek.after = follows, 101, 2, ts);
    assert_eq!(refusal(engine.peek(101, 2, ts)), Refusal::UnknownId);
    engine.create(copy(101), 1);
    let PeekResponse::Rows(rows) = early.recv().unwrap() else {
        panic!("rows")
    };
    assert_eq!(rows.rows, vec![(row(1, 1), 1)]);
}

#[test]
fn a_new_leader_keeps_equal_plans_and_older_ones_are_refused() {
    let mut engine = started(1);
    engine.create(copy(101), 1);
    let ts = engine.commit(vec![(1, vec![(row(1, 1), 1)])]);
    engine.wait_for(101, ts);
    let old = engine.epoch;
    engine.epoch.term += 1;
    engine.seq = 0;
    engine.command(Command::Hello);
    engine.wait(|heard| heard.inventories.len() == 2);
    let inventory = engine.heard.0.lock().unwrap().inventories[1].clone();
    assert_eq!(
        inventory
            .iter()
            .map(|e| (e.id.0, e.hash, e.since, e.upper))
            .collect::<Vec<_>>(),
        vec![(100, 100, 1, Some(ts + 1)), (101, 101, 1, Some(ts + 1)),]
    );
    // A table that is gone: whoever reads 100 again reads what was kept, not what would be built anew.
    engine.create_table(1, vec![]);
    engine.create(copy(100), 1);
    engine.command(Command::InitializationComplete);
    assert_eq!(
        engine.rows(100, 2, ts),
        vec![(row(1, 1), 1)],
        "kept untouched"
    );
    assert_eq!(
        refusal(engine.peek(101, 2, ts)),
        Refusal::UnknownId,
        "not named again"
    );
    assert_eq!(
        refusal(
            engine
                .peek_with(|peek| peek.epoch = old, 100, 2, ts)
                .recv()
                .unwrap()
        ),
        Refusal::StaleEpoch
    );
    let stale = Command::AllowCompaction {
        id: GlobalId(100),
        frontier: None,
    };
    engine.replica.send(Numbered {
        epoch: old,
        seq: 99,
        command: stale,
    });
    assert_eq!(
        engine.rows(100, 2, ts),
        vec![(row(1, 1), 1)],
        "an older leader's order is refused"
    );
    // Another plan under the same id replaces the old one.
    let mut other = copy(100);
    other.sources.get_mut(&GlobalId(1)).unwrap().mfp.predicates =
        vec![(2, plan::ScalarExpr::bool(false))];
    other.as_of = Some(ts);
    engine.command(Command::CreateDataflow {
        id: GlobalId(100),
        hash: 7,
        dataflow: Arc::new(other),
    });
    assert_eq!(engine.rows(100, 2, ts), vec![]);
}

#[test]
fn dataflows_that_cannot_be_built_say_so() {
    let mut engine = started(2);
    engine.create(
        dataflow(101, vec![(9, source(9, Mfp::identity(2)))], get(9), 2, &[0]),
        1,
    );
    engine.create(dataflow(102, vec![], get(77), 2, &[0]), 1);
    engine.wait(|heard| heard.failed.len() == 2);
    let failed: Vec<u64> = engine
        .heard
        .0
        .lock()
        .unwrap()
        .failed
        .iter()
        .map(|(id, _)| id.0)
        .collect();
    assert_eq!(failed, vec![101, 102]);
    let ts = engine.commit(vec![(1, vec![(row(1, 1), 1)])]);
    assert_eq!(
        engine.rows(100, 2, ts),
        vec![(row(1, 1), 1)],
        "the others go on"
    );
}

#[test]
fn answers_are_limited() {
    for workers in [1, 2] {
        let mut engine = started(workers);
        let rows = (0..100).map(|i| (row(i, i), 2)).collect();
        let ts = engine.commit(vec![(1, rows)]);
        let PeekResponse::Rows(some) = engine
            .peek_with(|peek| peek.limit = Some(7), 100, 2, ts)
            .recv()
            .unwrap()
        else {
            panic!("rows")
        };
        assert_eq!(some.rows.iter().map(|(_, d)| d).sum::<i64>(), 7);
        let PeekResponse::Error(error) = engine
            .peek_with(|peek| peek.bytes_max = 100, 100, 2, ts)
            .recv()
            .unwrap()
        else {
            panic!("error")
        };
        assert_eq!(error.sqlstate, "53400");
    }
}

#[test]
fn the_youngest_dataflow_fails_when_memory_runs_out() {
    let mut engine = Engine::new(ReplicaConfig {
        workers: 2,
        memory_bytes_max: Some(1 << 20),
        ..ReplicaConfig::default()
    });
    engine.create_table(1, vec![]);
    engine.create_table(2, (0..100_000).map(|i| row(i, i)).collect());
    engine.create(copy(100), 1);
    engine.create(
        dataflow(101, vec![(2, source(2, Mfp::identity(2)))], get(2), 2, &[0]),
        1,
    );
    let ts = engine.commit(vec![(1, vec![(row(1, 1), 1)])]);
    engine.wait(|heard| !heard.failed.is_empty());
    let (id, error) = engine.heard.0.lock().unwrap().failed[0].clone();
    assert_eq!((id, error.sqlstate.as_str()), (GlobalId(101), "53200"));
    assert_eq!(engine.rows(100, 2, ts), vec![(row(1, 1), 1)]);
}

#[test]
fn an_error_in_a_view_is_served_until_the_bad_row_is_gone() {
    for workers in [1, 2] {
        let mut engine = started(workers);
        let divide = call("int8div", vec![col(0), col(1)], SqlType::Int64);
        let node = plan::lir::Node::Mfp {
            input: Box::new(get(1)),
            mfp: mfp(2, vec![divide], vec![], &[0, 2]),
        };
        engine.create(
            dataflow(101, vec![(1, source(1, Mfp::identity(2)))], node, 2, &[0]),
            1,
        );
        let good = engine.commit(vec![(1, vec![(row(6, 3), 1)])]);
        let bad = engine.commit(vec![(1, vec![(row(1, 0), 1)])]);
        let healed = engine.commit(vec![(1, vec![(row(1, 0), -1)])]);
        assert_eq!(engine.rows(101, 2, good), vec![(row(6, 2), 1)]);
        let key =
            |peek: &mut Peek| peek.target.keys = Some(vec![Row::pack_slice(&[Datum::Int64(6)])]);
        for response in [
            engine.peek(101, 2, bad),
            engine.peek_with(key, 101, 2, bad).recv().unwrap(),
        ] {
            let PeekResponse::Error(error) = response else {
                panic!("error")
            };
            assert_eq!(error.sqlstate, "22012");
        }
        assert_eq!(engine.rows(101, 2, healed), vec![(row(6, 2), 1)]);
    }
}

#[test]
fn subscribers_get_the_snapshot_and_every_change_in_order() {
    for workers in [1, 2] {
        let mut engine = started(workers);
        let before = engine.commit(vec![(1, vec![(row(1, 1), 1), (row(2, 2), 1)])]);
        let subscribe = |id: u64, with_snapshot: bool, until: Option<u64>| {
            let mut d = copy(id);
            let kind = ExportKind::Subscribe {
                types: types(2),
                with_snapshot,
            };
            d.exports = vec![Export {
                id: GlobalId(id),
                from: d.exports[0].from,
                kind,
            }];
            d.until = until;
            d
        };
        engine.create(subscribe(101, true, None), before);
        let change = engine.commit(vec![(1, vec![(row(1, 1), -1), (row(3, 3), 1)])]);
        engine.create(subscribe(102, false, Some(change + 1)), before);
        engine.close(change + 10);
        let reached = |batches: &[(GlobalId, SubscribeBatch)], id: u64, end: Option<u64>| {
            batches
                .iter()
                .any(|(of, batch)| of.0 == id && batch.upper == end)
        };
        engine.wait(|heard| {
            reached(&heard.subscribed, 101, Some(change + 10))
                && reached(&heard.subscribed, 102, None)
        });
        let heard = engine.heard.0.lock().unwrap();
        let updates = |id: u64| -> Vec<(u64, Row, i64)> {
            let mut lower = before;
            let batches = heard.subscribed.iter().filter(|(of, _)| of.0 == id);
            batches
                .flat_map(|(_, batch)| {
                    assert_eq!(batch.lower, lower, "batches follow each other");
                    lower = batch.upper.unwrap_or(u64::MAX);
                    batch.updates.clone().unwrap()
                })
                .collect()
        };
        let changes = vec![(change, row(1, 1), -1), (change, row(3, 3), 1)];
        let snapshot = vec![(before, row(1, 1), 1), (before, row(2, 2), 1)];
        assert_eq!(updates(101), [snapshot, changes.clone()].concat());
        assert_eq!(updates(102), changes);
    }
}

#[test]
fn lost_history_is_refused_and_the_difference_taken() {
    for workers in [1, 2] {
        let mut engine = started(workers);
        let before = engine.commit(vec![(1, vec![(row(1, 1), 1)])]);
        // A view over the index loses what the index loses.
        let import = plan::lir::IndexImport {
            on: GlobalId(50),
            key: cols(&[0]),
            types: types(2),
        };
        let mut over = dataflow(101, vec![], get(50), 2, &[1]);
        over.indexes.insert(GlobalId(100), import);
        engine.create(over, before);
        assert_eq!(engine.rows(101, 2, before), vec![(row(1, 1), 1)]);
        let jump = before + 50;
        let difference = vec![(row(1, 1), jump, -1), (row(2, 2), jump, 1)];
        let write = compute::TableWrite {
            shard: repr::ShardId(1),
            lost_before: Some(jump),
            updates: Arc::new(difference),
        };
        engine.replica.commit(compute::TableChanges {
            upper: jump + 1,
            writes: vec![write],
        });
        for export in [100, 101] {
            assert_eq!(engine.rows(export, 2, jump), vec![(row(2, 2), 1)]);
            assert_eq!(refusal(engine.peek(export, 2, jump - 1)), Refusal::HoldLost);
        }
    }
}

#[test]
fn a_shutdown_refuses_what_waits() {
    let mut engine = started(2);
    let waiting = engine.peek_with(|_| {}, 100, 2, 1_000);
    engine.replica.shutdown();
    assert_eq!(refusal(waiting.recv().unwrap()), Refusal::Stopping);
}

/// Each planted bug makes the test of its hazard fail. One is chosen for the whole process: run this test alone.
#[cfg(feature = "planted")]
#[test]
fn planted_bugs_are_caught() {
    let bugs: [(_, fn()); 4] = [
        ("h6", compaction_waits_for_peeks_that_were_accepted),
        (
            "h9",
            a_new_leader_keeps_equal_plans_and_older_ones_are_refused,
        ),
        ("h34", peeks_wait_for_the_command_that_they_follow),
        ("h36", lost_history_is_refused_and_the_difference_taken),
    ];
    for (bug, test) in bugs {
        planted::choose(Some(bug));
        let missed = std::panic::catch_unwind(test);
        planted::choose(None);
        assert!(missed.is_err(), "nothing notices the bug {bug}");
        test();
    }
}
