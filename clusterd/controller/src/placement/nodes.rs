//! Who is there, and how much each has to do.

use std::collections::{BTreeMap, BTreeSet};

use repr::NodeId;
use state::{NodeStatus, Placement, State};

use super::{GRACE, Liveness};

/// What a node is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Takes new work.
    Ready,
    /// Keeps what it has: out of reach for less than the grace time, or it has not started for the first time.
    Silent,
    /// Out of reach for longer: its work goes to others, if there are any.
    Lost,
    /// Serves, but is to be emptied.
    Draining,
    /// Removed, or never there.
    Gone,
}

pub(super) struct Nodes {
    standing: BTreeMap<NodeId, Standing>,
    replicas: BTreeMap<NodeId, usize>,
    votes: BTreeMap<NodeId, usize>,
}

impl Nodes {
    pub(super) fn new(state: &State, liveness: &Liveness) -> Nodes {
        let standing = state.nodes().values().map(|node| {
            let standing = match (node.status, liveness.unreachable.get(&node.id)) {
                (NodeStatus::Removed, _) => Standing::Gone,
                (_, Some(silent)) if *silent >= GRACE => Standing::Lost,
                (NodeStatus::Draining, _) => Standing::Draining,
                (NodeStatus::Active, Some(_)) => Standing::Silent,
                (NodeStatus::Active, None) if node.incarnation == 0 => Standing::Silent,
                (NodeStatus::Active, None) => Standing::Ready,
            };
            (node.id, standing)
        });
        let mut nodes = Nodes {
            standing: standing.collect(),
            replicas: BTreeMap::new(),
            votes: BTreeMap::new(),
        };
        for placement in state.placements().values() {
            let hosts = placement.replicas.values();
            hosts.for_each(|node| nodes.count_replica(*node));
            nodes.count_voters(&Placement::default(), placement);
        }
        nodes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.standing.is_empty()
    }

    pub(super) fn standing(&self, node: NodeId) -> Standing {
        self.standing.get(&node).copied().unwrap_or(Standing::Gone)
    }

    pub(super) fn ready(&self) -> impl Iterator<Item = NodeId> + '_ {
        let standing = self.standing.iter();
        let ready = standing.filter(|(_, standing)| **standing == Standing::Ready);
        ready.map(|(node, _)| *node)
    }

    /// The node with the fewest replicas that takes one and has none of these.
    pub(super) fn for_replica(&self, placement: &Placement) -> Option<NodeId> {
        let taken: BTreeSet<NodeId> = placement.replicas.values().copied().collect();
        let free = self.ready().filter(|node| !taken.contains(node));
        free.min_by_key(|node| (self.replicas.get(node).copied().unwrap_or(0), *node))
    }

    /// Nodes that take a vote and have none here, best first: those with a replica, then those with the fewest votes.
    pub(super) fn for_votes(&self, placement: &Placement) -> Vec<NodeId> {
        let free = self.ready().filter(|node| !placement.voters.contains(node));
        let mut free: Vec<NodeId> = free.collect();
        free.sort_by_key(|node| {
            let elsewhere = !placement.replicas.values().any(|host| host == node);
            (elsewhere, self.votes.get(node).copied().unwrap_or(0), *node)
        });
        free
    }

    pub(super) fn count_replica(&mut self, node: NodeId) {
        *self.replicas.entry(node).or_default() += 1;
    }

    pub(super) fn uncount_replica(&mut self, node: NodeId) {
        if let Some(count) = self.replicas.get_mut(&node) {
            *count = count.saturating_sub(1);
        }
    }

    pub(super) fn count_voters(&mut self, old: &Placement, new: &Placement) {
        for node in new.voters.difference(&old.voters) {
            *self.votes.entry(*node).or_default() += 1;
        }
        for node in old.voters.difference(&new.voters) {
            if let Some(count) = self.votes.get_mut(node) {
                *count = count.saturating_sub(1);
            }
        }
    }
}
