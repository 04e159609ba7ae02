//! Who is in ENV's group, and whose vote counts: what its leader does about it.
//!
//! Every node of the environment is a member, so that each has all of the catalog and the tables; a few are voters. The leader compares the nodes that S knows with the group's
//! membership and makes one change at a time: a new node becomes a learner, learners that have caught up become voters until there are enough, a removed node leaves. A voter
//! that is only silent stays a voter until somebody can take its place.

use super::Neighbours;
use crate::env::Env;
use bootstrap::env_voters;
use host::Host;
use mesh::Transport;
use raft::{GroupStatus, Member};
use repr::NodeId;
use state::{Node, NodeStatus, State};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How often the leader looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A voter that was silent for longer is replaced when another node can take its place.
const GRACE: Duration = Duration::from_secs(60);
/// A change that takes longer is given up and tried again.
const CHANGE_WITHIN: Duration = Duration::from_secs(120);

/// One change of the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Learner(NodeId),
    Voters(BTreeSet<u64>),
    Leave(NodeId),
}

/// What a node is good for in ENV's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fitness {
    /// It answers: it may become a voter.
    Good,
    /// It has been silent for less than the grace time: it stays a voter if it is one.
    Doubtful,
    /// It is draining, or was silent for longer: it stays a voter only until somebody can take its place.
    Unfit,
}

/// The next change, if one is due. `nodes`: those that shall be members.
fn next_change(
    nodes: &BTreeMap<NodeId, Fitness>,
    status: &GroupStatus,
    me: NodeId,
) -> Option<Change> {
    let member = |id: &NodeId| status.members.contains_key(&id.0);
    let voter = |id: &NodeId| status.voters.contains(&id.0);
    if let Some(new) = nodes.keys().find(|id| !member(id)) {
        return Some(Change::Learner(*new));
    }
    let good = |id: &NodeId| nodes[id] == Fitness::Good;
    let mut chosen: BTreeSet<u64> = BTreeSet::new();
    // Those that vote already, the leader before all; then others; those that are unfit only for want of better ones.
    let by_rank: [&dyn Fn(&NodeId) -> bool; 4] = [
        &|id| *id == me && nodes[id] != Fitness::Unfit,
        &|id| voter(id) && nodes[id] != Fitness::Unfit,
        &|id| good(id),
        &|id| voter(id),
    ];
    let wanted = env_voters(nodes.len());
    for rank in by_rank {
        for id in nodes.keys().filter(|id| rank(id)) {
            if chosen.len() < wanted {
                chosen.insert(id.0);
            }
        }
    }
    // An even number tolerates no more losses than the odd one below it.
    if chosen.len().is_multiple_of(2)
        && let Some(newest) = chosen
            .iter()
            .rev()
            .find(|id| !status.voters.contains(id))
            .copied()
    {
        chosen.remove(&newest);
    }
    // A change that its leader did not live to finish is finished by the next one.
    if (chosen != status.voters || status.joint) && !chosen.is_empty() {
        return Some(Change::Voters(chosen));
    }
    let gone = status.members.keys().map(|id| NodeId(*id));
    gone.into_iter()
        .find(|id| !nodes.contains_key(id))
        .map(Change::Leave)
}

/// The nodes that shall be members.
fn wanted(
    state: &State,
    silent_for: impl Fn(NodeId) -> Option<Duration>,
) -> BTreeMap<NodeId, Fitness> {
    let fitness = |id| match silent_for(id) {
        Some(Duration::ZERO) => Fitness::Good,
        // Not asked yet is as good as silent since a moment.
        None => Fitness::Doubtful,
        Some(silence) if silence <= GRACE => Fitness::Doubtful,
        Some(_) => Fitness::Unfit,
    };
    let member = |(id, node): (&NodeId, &Arc<Node>)| match node.status {
        NodeStatus::Active => Some((*id, fitness(*id))),
        NodeStatus::Draining => Some((*id, Fitness::Unfit)),
        NodeStatus::Removed => None,
    };
    state.nodes().iter().filter_map(member).collect()
}

/// Keeps the way to each node known, from before this node is part of its environment: whoever leads may have joined since this node was last told an address.
pub async fn follow_addresses(env: Arc<Env>, host: Host, transport: Arc<dyn Transport>) {
    let mut known = BTreeMap::new();
    loop {
        learn_addresses(&env.storage().view(), &env, &*transport, &mut known);
        host.clock.sleep(LOOK_EVERY).await;
    }
}

/// Keeps the membership in order while this node leads.
pub async fn run(env: Arc<Env>, host: Host, neighbours: Arc<Neighbours>) {
    loop {
        let state = env.storage().view();
        let status = env.group().status().borrow().clone();
        if status.is_leader && !state.nodes().is_empty() {
            let now = host.clock.now();
            let known = neighbours.known();
            let nodes = wanted(&state, |node| {
                if node == env.node() {
                    return Some(Duration::ZERO);
                }
                let neighbour = known.get(&node)?;
                let silence = neighbour.silent_since.map(|since| now.since(since));
                Some(silence.unwrap_or_default())
            });
            if let Some(change) = next_change(&nodes, &status, env.node()) {
                tracing::info!(?change, "the membership of the environment's group changes");
                carry_out(&env, &host, &state, change).await;
            }
        }
        drop(state);
        host.clock.sleep(LOOK_EVERY).await;
    }
}

/// Tells the transport where the nodes are, and who is not welcome any more.
fn learn_addresses(
    state: &State,
    env: &Env,
    transport: &dyn Transport,
    known: &mut BTreeMap<NodeId, Option<String>>,
) {
    let members = env.group().status().borrow().members.clone();
    let from_raft = members
        .iter()
        .map(|(id, member)| (NodeId(*id), Some(member.addr.clone())));
    let mut current: BTreeMap<NodeId, Option<String>> = from_raft.collect();
    for node in state.nodes().values() {
        let is_member = members.contains_key(&node.id.0);
        // A removed node that is still a member may be needed for the entry that ends its membership.
        let address = match node.status {
            NodeStatus::Removed if !is_member => None,
            NodeStatus::Active | NodeStatus::Draining | NodeStatus::Removed => {
                Some(node.mesh_addr.clone())
            }
        };
        // An address that the node has said itself is newer than the one it was admitted with.
        if address.as_deref() != Some("") {
            current.insert(node.id, address);
        }
    }
    for (id, address) in current {
        if id == env.node() || known.get(&id) == Some(&address) {
            continue;
        }
        match &address {
            Some(address) if address.is_empty() => continue,
            Some(address) => transport.set_peer(id, address),
            None => transport.remove_peer(id),
        }
        known.insert(id, address);
    }
}

async fn carry_out(env: &Env, host: &Host, state: &State, change: Change) {
    let group = env.group();
    let done = async {
        match &change {
            Change::Learner(node) => {
                let addr = state.nodes().get(node).map(|n| n.mesh_addr.clone());
                let member = Member {
                    addr: addr.unwrap_or_default(),
                };
                group.add_learner(node.0, member).await
            }
            Change::Voters(voters) => group.change_voters(voters.clone()).await,
            Change::Leave(node) => group.remove_member(node.0).await,
        }
    };
    tokio::select! {
        biased;
        done = done => if let Err(error) = done {
            tracing::warn!(?change, %error, "the membership was not changed");
        },
        () = host.clock.sleep(CHANGE_WITHIN) => tracing::warn!(?change, "the membership was not changed in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::Fitness::{Doubtful, Good, Unfit};
    use super::*;

    fn status(voters: &[u64], members: &[u64]) -> GroupStatus {
        let member = |id: &u64| {
            (
                *id,
                Member {
                    addr: format!("n{id}"),
                },
            )
        };
        GroupStatus {
            term: 1,
            leader: voters.first().copied(),
            is_leader: true,
            voters: voters.iter().copied().collect(),
            joint: false,
            members: members.iter().map(member).collect(),
        }
    }

    fn next(nodes: &[(u64, Fitness)], voters: &[u64], members: &[u64]) -> Option<Change> {
        let nodes = nodes.iter().map(|(id, fit)| (NodeId(*id), *fit)).collect();
        next_change(&nodes, &status(voters, members), NodeId(1))
    }

    fn voters(ids: &[u64]) -> Option<Change> {
        Some(Change::Voters(ids.iter().copied().collect()))
    }

    #[test]
    fn an_environment_grows_one_change_at_a_time() {
        let two = [(1, Good), (2, Good)];
        assert_eq!(next(&two, &[1], &[1]), Some(Change::Learner(NodeId(2))));
        assert_eq!(next(&two, &[1], &[1, 2]), None);
        let three = [(1, Good), (2, Good), (3, Good)];
        assert_eq!(next(&three, &[1], &[1, 2, 3]), voters(&[1, 2, 3]));
        let six: Vec<_> = (1..=6).map(|id| (id, Good)).collect();
        assert_eq!(
            next(&six, &[1, 2, 4], &[1, 2, 3, 4, 5, 6]),
            voters(&[1, 2, 3, 4, 5])
        );
    }

    #[test]
    fn a_silent_voter_is_replaced_only_if_somebody_is_there() {
        let three = [(1, Good), (2, Unfit), (3, Good)];
        assert_eq!(next(&three, &[1, 2, 3], &[1, 2, 3]), None);
        let four = [(1, Good), (2, Unfit), (3, Good), (4, Good)];
        assert_eq!(next(&four, &[1, 2, 3], &[1, 2, 3, 4]), voters(&[1, 3, 4]));
    }

    #[test]
    fn a_node_that_does_not_answer_gets_no_vote() {
        let three = [(1, Good), (2, Good), (3, Doubtful)];
        assert_eq!(next(&three, &[1], &[1, 2, 3]), None);
    }

    #[test]
    fn a_removed_node_first_loses_its_vote() {
        let two = [(1, Good), (3, Good)];
        assert_eq!(next(&two, &[1, 2, 3], &[1, 2, 3]), voters(&[1]));
        assert_eq!(next(&two, &[1], &[1, 2, 3]), Some(Change::Leave(NodeId(2))));
    }
}
