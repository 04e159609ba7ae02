//! How many replicas the CLUSTER of a new environment has: one per node and at most three, until somebody chooses another number.

use repr::ReplicaId;
use state::catalog::Cluster;
use state::command::{CatalogOp, Check, Gateway, Session, Token, Txn};
use state::state::{DEFAULT_CLUSTER, SYSTEM_NODE};
use state::{Batch, Command, NodeStatus, State};

use super::nodes::{Nodes, Standing};

const REPLICAS_MAX: usize = 3;

/// The change of the catalog, if the number of nodes asks for one.
pub(super) fn adjust(state: &State, cluster: &Cluster, nodes: &Nodes) -> Option<Command> {
    if cluster.id != DEFAULT_CLUSTER || state.is_sized_by_user(cluster.id) {
        return None;
    }
    let members = state.nodes().values();
    let active = members.filter(|node| node.status == NodeStatus::Active && node.incarnation > 0);
    let wanted = active.count().clamp(1, REPLICAS_MAX);
    let mut replicas = cluster.replicas.clone();
    if replicas.len() == wanted {
        return None;
    }
    if replicas.len() > wanted {
        replicas
            .sort_by_key(|replica| (how_dispensable(state, cluster, nodes, *replica), *replica));
        replicas.truncate(wanted);
        replicas.sort();
    } else {
        let missing = (wanted - replicas.len()) as u64;
        let first = state.catalog().next_id;
        replicas.extend((first..first + missing).map(ReplicaId));
    }
    Some(update(
        state,
        Cluster {
            replicas,
            ..cluster.clone()
        },
    ))
}

fn how_dispensable(state: &State, cluster: &Cluster, nodes: &Nodes, replica: ReplicaId) -> u8 {
    let placement = state.placements().get(&cluster.id);
    match placement.and_then(|placement| placement.replicas.get(&replica)) {
        None => 4,
        Some(node) => match nodes.standing(*node) {
            Standing::Ready => 0,
            Standing::Silent => 1,
            Standing::Draining => 2,
            Standing::Lost | Standing::Gone => 3,
        },
    }
}

/// A transaction like any other, so that it is ordered with those of users and moves the catalog's version, but of no session: its token
/// belongs to a node that does not exist, and is numbered by that version. So it is executed at most once, however often it is proposed.
fn update(state: &State, cluster: Cluster) -> Command {
    let version = state.catalog().version;
    let session = Session {
        gateway: Gateway {
            node: SYSTEM_NODE,
            incarnation: 0,
        },
        number: cluster.id.0,
    };
    let txn = Txn {
        token: Token {
            session,
            seq: version,
            base: state.applied(),
        },
        schema: vec![],
        catalog_ops: vec![CatalogOp::UpdateCluster(cluster)],
        checks: vec![Check::CatalogUnchanged { version }],
        writes: vec![],
        staged: 0,
    };
    Command::Batch(Batch {
        wall_us: 0,
        txns: vec![txn],
    })
}
