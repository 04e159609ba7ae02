//! Read positions: who can confirm a leader, and that nobody is sent back behind what somebody has seen.

use super::*;
use crate::Witness;

/// How long a position may take that must not come.
const IN_VAIN: Duration = Duration::from_millis(300);

async fn position(group: &RaftGroup<Toy>, witness: Option<Witness>) -> Option<LogPos> {
    let asked = group.read_position(witness);
    tokio::time::timeout(IN_VAIN, asked).await.ok()?.ok()
}

fn other(leader: u64) -> u64 {
    leader % 3 + 1
}

/// Asks a leader that hears nobody, with words of witnesses that must and must not count.
async fn witnesses() -> Result<(), String> {
    let three = Three::new(config).await;
    let leader = three.propose(command(0)).await;
    let group = &three.nodes[&leader].group;
    let last = group.propose(command(1)).await.unwrap().pos;
    let node = other(leader);
    let voter = three.nodes[&node].group.clone();
    wait(|| voter.voted_term() == last.term).await;
    three.isolate(leader, true);
    let term = voter.voted_term();
    let found = position(group, Some(Witness { node, term })).await;
    // An election may have been under way for all we know; then nobody must be answered.
    if group.is_leader() && voter.voted_term() == term {
        let reached = found.is_some_and(|pos| pos >= last);
        assert!(reached, "{found:?} after {last:?}");
    }
    let wrong = [
        Witness {
            node,
            term: term + 1,
        },
        Witness {
            node,
            term: term - 1,
        },
        // No voter; and the leader itself.
        Witness { node: 9, term },
        Witness { node: leader, term },
    ];
    for witness in wrong {
        if let Some(pos) = position(group, Some(witness)).await {
            return Err(format!("{witness:?} was believed: {pos:?}"));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_asks_confirms_the_leader_of_its_own_term_only() {
    assert_eq!(witnesses().await, Ok(()));
}

#[cfg(feature = "planted")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_witnesses_are_caught() {
    planted::choose(Some("h1w"));
    let caught = witnesses().await;
    planted::choose(None);
    println!("h1w is noticed: {}", caught.unwrap_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_leader_hears_so_from_those_it_asks() {
    let three = Three::new(config).await;
    let old = three.propose(command(0)).await;
    three.isolate(old, true);
    let rest: Vec<u64> = (1..=3).filter(|id| *id != old).collect();
    wait(|| rest.iter().any(|id| three.nodes[id].group.is_leader())).await;
    let new = three.propose(command(1)).await;
    let seen = three.nodes[&new].group.read_index().await.unwrap();
    let group = &three.nodes[&old].group;
    assert!(group.is_leader(), "it has heard of nothing");
    // It can ask, and is answered; nobody tells it anything by himself.
    for id in &rest {
        three.peers.cut(old, *id, false);
    }
    let term = three.nodes[&rest[0]].group.voted_term();
    let node = rest[0];
    for witness in [None, Some(Witness { node, term })] {
        let found = position(group, witness).await;
        assert!(
            found.is_none_or(|pos| pos >= seen),
            "{found:?} after {seen:?}"
        );
    }
}

/// What any member has applied is below every position that is asked for later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_are_never_behind_what_a_member_has_shown() {
    let three = Three::new(config).await;
    let leader = three.propose(command(0)).await;
    let group = three.nodes[&leader].group.clone();
    let writes = tokio::spawn(async move {
        for i in 1..400 {
            if group.propose(command(i)).await.is_err() {
                return;
            }
        }
    });
    let mut answered = 0;
    while !writes.is_finished() {
        let seen = three.nodes.values().map(|node| node.toy.len()).max();
        let node = other(leader);
        let reader = &three.nodes[&node];
        let term = reader.group.voted_term();
        let asked = three.nodes[&leader]
            .group
            .read_position(Some(Witness { node, term }));
        let Ok(pos) = asked.await else { continue };
        reader.group.wait_applied(pos.index).await.unwrap();
        assert!(Some(reader.toy.len()) >= seen);
        answered += 1;
    }
    assert!(answered > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_goes_on_without_a_voter_that_is_gone() {
    let mut three = Three::new(config).await;
    let leader = three.propose(command(0)).await;
    three.kill(other(leader)).await;
    let group = &three.nodes[&leader].group;
    for i in 1..200 {
        let done = group.propose(command(i)).await.unwrap();
        let pos = group.read_index().await.unwrap();
        assert!(pos >= done.pos);
    }
}
