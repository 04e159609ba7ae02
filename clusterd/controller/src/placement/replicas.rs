//! Which node each replica of a CLUSTER runs on. No node runs two of one CLUSTER: both would be lost with it.

use repr::ReplicaId;
use state::Placement;
use state::catalog::Cluster;

use super::nodes::{Nodes, Standing};

/// Gives the replicas that have no node one each, as far as there are nodes; the rest waits.
pub(super) fn place_waiting(placement: &mut Placement, cluster: &Cluster, nodes: &mut Nodes) {
    for replica in &cluster.replicas {
        if placement.replicas.contains_key(replica) {
            continue;
        }
        let Some(node) = nodes.for_replica(placement) else {
            return;
        };
        placement.replicas.insert(*replica, node);
        nodes.count_replica(node);
    }
}

/// Moves the replica that needs it most, if one does and there is a place for it. One on a node that is gone waits if there is none.
pub(super) fn move_one(placement: &mut Placement, nodes: &mut Nodes) -> bool {
    let need = |standing| match standing {
        Standing::Ready | Standing::Silent => None,
        Standing::Draining => Some(2),
        Standing::Lost => Some(1),
        Standing::Gone => Some(0),
    };
    let needy = placement.replicas.iter().filter_map(|(replica, node)| {
        let standing = nodes.standing(*node);
        Some((need(standing)?, *replica, *node, standing))
    });
    let Some((_, replica, from, standing)) =
        needy.min_by_key(|(need, replica, ..)| (*need, *replica))
    else {
        return false;
    };
    match nodes.for_replica(placement) {
        Some(to) => {
            nodes.uncount_replica(from);
            nodes.count_replica(to);
            placement.replicas.insert(replica, to);
            true
        }
        None => standing == Standing::Gone && forget(placement, replica),
    }
}

fn forget(placement: &mut Placement, replica: ReplicaId) -> bool {
    placement.replicas.remove(&replica).is_some()
}
