//! The entries of ENV's log and what applying them answers.

mod codec;

pub use codec::{COMMAND_BYTES_MAX, COMMAND_VERSION};

use crate::catalog::{Cluster, Database, Item, Role, Schema};
use crate::node::{Authority, NodeStatus, Placement, TokenHash};
use repr::{
    ClusterId, DatabaseId, Diff, GlobalId, NodeId, RoleId, Row, SchemaId, ShardId, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One log entry of ENV.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// First entry of an environment: ids, the default database, roles and cluster. Applied once; later ones are refused.
    Init {
        environment: u128,
        generation: u64,
        wall_us: u64,
        superusers: Vec<String>,
    },
    /// A group commit.
    Batch(Batch),
    /// Moves time on while nothing is written, so that frontiers and temporal filters progress.
    Close { wall_us: u64 },
    /// Raises input holds: the CLUSTER will read each shard only from its frontier on. Entries with an old incarnation, and frontiers
    /// that would go back, change nothing.
    Holds {
        cluster: ClusterId,
        incarnation: u64,
        frontiers: BTreeMap<ShardId, Timestamp>,
    },
    /// A gateway's standing lease: the oldest timestamp its transactions may still read; `None` ends it.
    Lease {
        gateway: Gateway,
        oldest: Option<Timestamp>,
    },
    /// The gateway's lease was silent for too long.
    ExpireLease { gateway: Gateway },
    /// A chunk of a transaction larger than one entry; invisible until a transaction links it.
    Stage {
        token: Token,
        number: u32,
        writes: Vec<Write>,
    },
    /// Staged chunks of this session are dropped and its token forgotten.
    EndSession { session: Session },
    /// This incarnation of a gateway has started: sessions of older ones are over.
    GatewayStarted { gateway: Gateway },
    /// The certificate authority. The first one is for ever; later ones change nothing.
    Authority(Authority),
    /// Who belongs to the environment. Answered by `Committed` or `Invalid`.
    Node(NodeOp),
    /// Where a CLUSTER runs, from the placement loop of ENV's leader. It changes nothing if its incarnation is lower than the one in force,
    /// or if a replica or a node that it names is not there.
    Place {
        cluster: ClusterId,
        placement: Placement,
    },
    /// As [`Command::EndSession`], of many sessions. Repeating it changes nothing.
    EndSessions { sessions: Vec<Session> },
}

/// A change of who belongs to the environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NodeOp {
    /// Lets a node in. With the hash of a token: it must be known, unused and not expired ([`crate::State::time_by`]), and is used up by this. Without:
    /// only while the environment is formed. The same key with the same token again is answered like the first time, whatever `node`
    /// says, so that an attempt with an unknown outcome can be repeated; [`crate::State::node_by_key`] then tells its id.
    Admit {
        /// Must be [`crate::State::next_node_id`].
        node: NodeId,
        public_key: Vec<u8>,
        mesh_addr: String,
        token_hash: Option<TokenHash>,
        /// The proposer's clamped clock.
        wall_us: u64,
    },
    /// A node has started: where it is reached from now on. Refused if it was removed, or was started once more since.
    Started {
        node: NodeId,
        incarnation: u64,
        mesh_addr: String,
        sql_addr: String,
        http_addr: String,
        version: String,
    },
    /// `Removed` is for ever, and ends the node's sessions and leases. One active node must remain.
    SetStatus { node: NodeId, status: NodeStatus },
    /// A new one-time join token.
    Token { hash: TokenHash, expires_us: u64 },
}

/// One process's life as a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gateway {
    pub node: NodeId,
    /// Counts the starts of the process on this node.
    pub incarnation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Session {
    pub gateway: Gateway,
    pub number: u64,
}

/// Names one attempt to write. A retry after an unknown outcome uses the same token and is executed at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token {
    pub session: Session,
    pub seq: u64,
    /// Index that the gateway had applied when it first sent the token.
    pub base: u64,
}

/// Transactions that share one entry and one timestamp. Each sees the effects of those before it and has its own outcome.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The proposer's clamped clock.
    pub wall_us: u64,
    pub txns: Vec<Txn>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Txn {
    pub token: Token,
    /// The catalog objects and versions the writes were planned against; a mismatch is `CatalogMoved`.
    pub schema: Vec<(GlobalId, u64)>,
    pub catalog_ops: Vec<CatalogOp>,
    pub checks: Vec<Check>,
    pub writes: Vec<Write>,
    /// Number of staged chunks (0..n) that belong to this transaction, applied before `writes`.
    pub staged: u32,
}

/// A condition on the state that must still hold; a violated one is a conflict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Check {
    /// No commit after `since` has touched the shard.
    ShardUnchanged { shard: ShardId, since: Timestamp },
    /// No commit after `since` has inserted or deleted a row with this key in key space `space` of the shard.
    KeyUnchanged {
        shard: ShardId,
        space: u32,
        key: Row,
        since: Timestamp,
    },
    /// The catalog is still at this version.
    CatalogUnchanged { version: u64 },
}

/// Changes of one shard. They carry no time: apply stamps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    pub shard: ShardId,
    pub updates: Vec<(Row, Diff)>,
    /// Truncates the shard first.
    pub truncate: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CatalogOp {
    CreateDatabase(Database),
    CreateSchema(Schema),
    CreateRole(Role),
    CreateCluster(Cluster),
    /// Creates the item, and for a table its shard with one key space per constraint; for an item with a plan also takes the CLUSTER's
    /// input holds on `plan.shards` at the entry's timestamp and sets `plan.as_of`. Ids come from `AllocateIds`-free pre-assignment: the
    /// gateway picks `catalog.next_id ..` under the precondition that the catalog version it planned at is unchanged.
    CreateItem(Arc<Item>),
    /// Replaces an existing item of the same id (for example an index-using view replanned when the index goes); version is raised.
    UpdateItem(Arc<Item>),
    /// Drops the items; the list must be closed under dependents.
    DropItems(Vec<GlobalId>),
    /// Only of an empty schema.
    DropSchema(SchemaId),
    RenameItem {
        id: GlobalId,
        name: String,
    },
    /// Replaces a cluster of the same id: settings, replicas, a higher incarnation.
    UpdateCluster(Cluster),
    /// Only of a cluster that no item uses.
    DropCluster(ClusterId),
    /// Only of a role that owns nothing.
    DropRole(RoleId),
    /// Only of a database without schemas.
    DropDatabase(DatabaseId),
    /// The CLUSTER's number of replicas is somebody's choice from now on: the placement loop does not change it with the number of nodes.
    KeepReplicas(ClusterId),
}

/// What became of one transaction. Every variant but `Committed` means: nothing was changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    Committed {
        ts: Timestamp,
    },
    /// A check failed; a retry at a new read point may succeed.
    Conflict {
        shard: Option<ShardId>,
    },
    /// A key exists already (23505). `space` indexes the table's constraints.
    UniqueViolation {
        shard: ShardId,
        space: u32,
        key: Row,
    },
    /// An object was changed or dropped since planning: plan again.
    CatalogMoved,
    /// A name is taken (42P07, 42P06, 42710 by kind), known only at commit.
    NameTaken {
        name: String,
    },
    /// The session is over or its horizon passed: the outcome of an earlier attempt is unknown.
    TokenExpired,
    /// A delete of a row that is not there, a chunk that is missing, a broken command: our bug or a lost stage.
    Invalid {
        reason: String,
    },
    /// Beyond the stated cap of stored rows (53100).
    TooLarge {
        limit_bytes: u64,
    },
    /// Its leader's disk is nearly full, and the transaction would grow the data (53100). Never an answer of S: it was not proposed.
    NoSpace,
}
