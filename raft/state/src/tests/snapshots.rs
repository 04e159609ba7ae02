//! What a snapshot carries, and what it refuses.

use repr::{GlobalId, ShardId};

use super::build::{batch, gateway, index, row, session, token, txn, with_tables, write};
use crate::command::{CatalogOp, Command, Outcome};
use crate::state::{DEFAULT_CLUSTER, State};

const KEYED: ShardId = ShardId(16384);

/// A state with something of everything.
fn full() -> State {
    let mut state = with_tables();
    let mut create = txn(token(1, 2, 2));
    create.catalog_ops = vec![CatalogOp::CreateItem(index(
        16500,
        "i",
        16384,
        DEFAULT_CLUSTER,
    ))];
    create.writes = vec![write(KEYED, (0..3000).map(|i| (row(i, None), 1)).collect())];
    let update = write(KEYED, vec![(row(5, None), -1), (row(5, Some(1)), 1)]);
    let mut change = txn(token(2, 1, 3));
    change.writes = vec![
        update,
        write(KEYED, (5000..8000).map(|i| (row(i, None), 1)).collect()),
    ];
    let commands = [
        batch(3000, vec![create]),
        batch(9_000_000, vec![change]),
        Command::Lease {
            gateway: gateway(2, 1),
            oldest: Some(8_000_000),
        },
        Command::GatewayStarted {
            gateway: gateway(3, 4),
        },
        Command::EndSession {
            session: session(9),
        },
        Command::Stage {
            token: token(3, 1, 5),
            number: 0,
            writes: vec![write(KEYED, vec![(row(-1, None), 1)])],
        },
    ];
    for (command, index) in commands.iter().zip(3..) {
        for outcome in state.apply(index, command).outcomes {
            assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
        }
    }
    state
}

fn bytes(state: &State) -> Vec<u8> {
    let mut bytes = vec![];
    state.write_snapshot(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_staged_for_a_dropped_table_does_not_spoil_a_snapshot() {
    let mut original = full();
    let mut drop = txn(token(2, 2, 8));
    drop.catalog_ops = vec![CatalogOp::DropItems(vec![GlobalId(16500), GlobalId(16384)])];
    let dropped = original.apply(20, &batch(9_500_000, vec![drop]));
    assert!(
        matches!(dropped.outcomes[..], [Outcome::Committed { .. }]),
        "{:?}",
        dropped.outcomes
    );
    let mut restored = State::read_snapshot(&mut &bytes(&original)[..]).unwrap();
    assert_eq!(restored.hash(), original.hash());
    let mut linked = txn(token(3, 1, 5));
    linked.staged = 2;
    let commands = [
        Command::Stage {
            token: token(3, 1, 5),
            number: 1,
            writes: vec![write(KEYED, vec![(row(-2, None), 1)])],
        },
        batch(9_600_000, vec![linked]),
    ];
    for (command, index) in commands.iter().zip(21..) {
        let (a, b) = (
            restored.apply(index, command),
            original.apply(index, command),
        );
        assert_eq!(a.outcomes, b.outcomes);
        assert!(
            !matches!(a.outcomes[..], [Outcome::Committed { .. }]),
            "{:?}",
            a.outcomes
        );
        assert_eq!(restored.hash(), original.hash());
    }
}

#[test]
fn a_restored_state_goes_on_as_the_original() {
    let mut original = full();
    let mut restored = State::read_snapshot(&mut &bytes(&original)[..]).unwrap();
    assert_eq!(restored.hash(), original.hash());
    assert_eq!(restored.catalog(), original.catalog());
    assert_eq!(restored.holds(), original.holds());
    assert_eq!(restored.leases(), original.leases());
    assert_eq!(restored.since(KEYED), original.since(KEYED));
    let mut linked = txn(token(3, 1, 5));
    linked.staged = 1;
    let commands = [
        // A retry of a decided transaction, one of an ended session, one of an old gateway, and staged chunks.
        batch(
            9_500_000,
            vec![txn(token(2, 1, 3)), txn(token(9, 1, 3)), linked],
        ),
        batch(
            9_600_000,
            vec![txn(crate::command::Token {
                session: crate::command::Session {
                    gateway: gateway(3, 3),
                    number: 1,
                },
                seq: 1,
                base: 9,
            })],
        ),
        Command::Close {
            wall_us: 99_000_000,
        },
    ];
    for (command, index) in commands.iter().zip(20..) {
        let outcomes = original.apply(index, command).outcomes;
        assert_eq!(restored.apply(index, command).outcomes, outcomes);
        assert_eq!(restored.hash(), original.hash());
        if index == 20 {
            let committed = |ts| Outcome::Committed { ts };
            assert_eq!(
                outcomes,
                [
                    committed(9_000_000),
                    Outcome::TokenExpired,
                    committed(9_500_000)
                ]
            );
        }
        if index == 21 {
            assert_eq!(outcomes, [Outcome::TokenExpired]);
        }
    }
}

#[test]
fn layout_does_not_show() {
    let mut state = full();
    let before = bytes(&state);
    state.apply(
        30,
        &Command::Close {
            wall_us: 99_000_000,
        },
    );
    let mut merged = state.clone();
    while let Some(job) = merged.merge_jobs().pop() {
        assert!(merged.install_merge(&job.run()));
    }
    assert!(
        merged.shard(KEYED).unwrap().batches().len() < state.shard(KEYED).unwrap().batches().len()
    );
    assert_eq!(bytes(&merged), bytes(&state));
    assert_ne!(bytes(&state), before);
}

#[test]
fn damage_is_an_error() {
    let good = bytes(&full());
    for cut in (0..good.len()).step_by(good.len() / 50) {
        assert!(
            State::read_snapshot(&mut &good[..cut]).is_err(),
            "cut at {cut}"
        );
    }
    for at in (0..good.len()).step_by(good.len() / 300) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert!(
            State::read_snapshot(&mut &bad[..]).is_err(),
            "flipped at {at}"
        );
    }
}
