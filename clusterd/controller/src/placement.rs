//! Where replicas and voters go: what ENV's leader proposes, given who is there.
//!
//! [`decide`] looks at everything anew each time it is asked and proposes the next step for each CLUSTER, so it may be asked at any time, by
//! any leader, and twice. What has been given stays where it is as long as that works: moving a replica costs its dataflows a rebuild.
//!
//! A CLUSTER gets its first placement when there is a node to place it on; until then no group of it should be started, for the first
//! placement also says who its first voters are.

mod nodes;
mod replicas;
mod size;
#[cfg(test)]
mod tests;
mod unled;
mod voters;

use std::collections::BTreeMap;
use std::time::Duration;

use repr::{ClusterId, NodeId};
use state::catalog::Cluster;
use state::{Command, Placement, State};

pub use unled::Unled;

use nodes::Nodes;

/// What stays silent for this long is given up: longer than any restart of a process or a machine's hiccup, because what moves is rebuilt.
pub const GRACE: Duration = Duration::from_secs(60);

/// How far ENV's leader reaches.
#[derive(Clone, Debug, Default)]
pub struct Liveness {
    /// For how long each node that cannot be reached has been out of reach. The others are reachable.
    pub unreachable: BTreeMap<NodeId, Duration>,
    /// For how long each CLUSTER has had no leader although most of the voters of its placement were there, see [`Unled`].
    pub unled: BTreeMap<ClusterId, Duration>,
}

impl Liveness {
    /// A group that elects nobody for so long, with most of its voters there, has other members than its placement says, and has lost most of those.
    fn is_headless(&self, cluster: ClusterId) -> bool {
        self.unled.get(&cluster).is_some_and(|time| *time >= GRACE)
    }
}

/// The next steps: at most one per CLUSTER, to be proposed to ENV in this order. None, if all is as it should be.
///
/// Outcomes may be ignored: a step that S refuses, because the state has moved on, is decided anew.
pub fn decide(state: &State, liveness: &Liveness) -> Vec<Command> {
    let mut nodes = Nodes::new(state, liveness);
    if nodes.is_empty() {
        return vec![];
    }
    let catalog = state.catalog();
    let steps = catalog.clusters.values().filter_map(|cluster| {
        let headless = liveness.is_headless(cluster.id);
        size::adjust(state, cluster, &nodes).or_else(|| place(state, cluster, headless, &mut nodes))
    });
    steps.collect()
}

/// How many voters a CLUSTER's group is to have where so many nodes are.
pub fn voters_among(nodes: usize) -> usize {
    voters::odd(nodes).max(1)
}

/// One of: new replicas get a node, one replica moves, the voters change, another group takes the place of one that is lost.
fn place(state: &State, cluster: &Cluster, headless: bool, nodes: &mut Nodes) -> Option<Command> {
    let old = match state.placements().get(&cluster.id) {
        Some(placement) => Placement::clone(placement),
        None => Placement {
            incarnation: cluster.incarnation,
            ..Placement::default()
        },
    };
    let mut new = old.clone();
    replicas::place_waiting(&mut new, cluster, nodes);
    if new.voters.is_empty() {
        new.voters = voters::choose(&new, nodes);
    } else if let Some(voters) = voters::of_new_group(&new, headless, nodes) {
        new.voters = voters;
        new.incarnation += 1;
    } else if new == old && !replicas::move_one(&mut new, nodes) {
        voters::change(&mut new, nodes);
    }
    nodes.count_voters(&old, &new);
    let changed = new != old && !new.voters.is_empty();
    changed.then_some(Command::Place {
        cluster: cluster.id,
        placement: new,
    })
}
