//! What the controller is told, and what it wants done.

use std::collections::BTreeMap;
use std::sync::Arc;

use plan::EvalError;
use plan::lir::Dataflow;
use protocol::compute::{Epoch, Numbered, PeekId, Response, SubscribeBatch};
use repr::{GlobalId, ReplicaId, ShardId, Timestamp};

use crate::desired::Desired;

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// This node leads the group, and everything that was committed before has been reported.
    BecameLeader {
        epoch: Epoch,
    },
    /// Must be reported before any grant that a later leader committed: this one does not know which replicas that leader has to wait for.
    LostLeadership,
    /// The dataflows that the catalog wants on this CLUSTER: all of them, each time.
    CatalogChanged {
        dataflows: BTreeMap<GlobalId, Desired>,
    },
    /// A control lane to the replica is open; commands sent on it arrive in order.
    ReplicaConnected {
        replica: ReplicaId,
    },
    ReplicaDisconnected {
        replica: ReplicaId,
    },
    Response {
        replica: ReplicaId,
        response: Response,
    },
    /// Grants committed in the group's log. Reported on followers too; repetitions are harmless.
    GrantCommitted {
        grants: BTreeMap<GlobalId, Timestamp>,
    },
    /// The holds of this CLUSTER as ENV's state has them: all of them, each time they move.
    HoldsApplied {
        holds: BTreeMap<ShardId, Timestamp>,
    },
    /// About once a second: the last closed timestamp of an ENV state whose catalog has been reported, and the oldest lease.
    Tick {
        last_ts: Timestamp,
        oldest_lease: Option<Timestamp>,
    },
    /// A dataflow of one statement: a subscription or a query. `dataflow.as_of` is set.
    CreateTransient {
        id: GlobalId,
        hash: u64,
        dataflow: Arc<Dataflow>,
    },
    DropTransient {
        id: GlobalId,
    },
    /// Nobody waits for the answer of a peek any more, and not every replica has given one. Its hold is kept until this has been acted on.
    CancelPeek {
        id: PeekId,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a command to a replica, in this order.
    Send {
        replica: ReplicaId,
        command: Numbered,
    },
    /// Commit these grants in the group's log. If that fails, nothing is lost: a later tick proposes again.
    ProposeGrants(BTreeMap<GlobalId, Timestamp>),
    /// Remove the grants of dataflows that are gone from the group's log.
    ForgetGrants(Vec<GlobalId>),
    /// Raise the CLUSTER's input holds in ENV.
    ProposeHolds {
        incarnation: u64,
        frontiers: BTreeMap<ShardId, Timestamp>,
    },
    /// Exports whose readable range moved. A hint.
    Frontiers(BTreeMap<GlobalId, ExportFrontier>),
    /// Hand new changes to the subscriber. Batches of one subscription follow each other without gap or overlap.
    Subscribe { id: GlobalId, batch: SubscribeBatch },
    /// A replica could not build the dataflow or had to stop it. For a temporary one, with no other replica left to serve it: it is over.
    Failed {
        id: GlobalId,
        replica: ReplicaId,
        error: EvalError,
        last: bool,
    },
}

/// Where an export can be read: at `since <= t < upper`; upper `None` = complete for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportFrontier {
    pub since: Timestamp,
    pub upper: Option<Timestamp>,
}
