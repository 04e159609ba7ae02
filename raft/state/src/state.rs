//! The state of an environment, and reading it.

mod apply;
mod ddl;
mod digest;
mod holds;
mod init;
mod members;
mod sessions;
mod snapshot;
mod stage;
mod txn;

use std::collections::BTreeMap;
use std::sync::Arc;

use repr::{ClusterId, ShardId, Timestamp};
use thiserror::Error;

use crate::catalog::Catalog;
use crate::command::{Gateway, Outcome};
use crate::shard::{Batch, MergeDone, MergeJob, Shard};

pub use holds::InputHold;
pub use init::{DEFAULT_CLUSTER, DEFAULT_DATABASE, DEFAULT_REPLICA, DEFAULT_ROLE, DEFAULT_SCHEMA};
use members::Members;
pub use members::{FIRST_NODE, NODES_MAX, SYSTEM_NODE, TOKENS_MAX};
use sessions::Sessions;
pub use snapshot::SnapshotError;
use stage::Stages;

/// How long history stays readable without any hold: longer than a failover and a retry.
pub const READ_WINDOW_US: u64 = 5_000_000;
/// Most bytes of rows (with [`ROW_OVERHEAD_BYTES`] each) that an environment stores.
pub const STORED_BYTES_MAX: u64 = 4 << 30;
/// What a row is counted as beyond its packed bytes.
pub const ROW_OVERHEAD_BYTES: u64 = 32;
/// Most bytes that one transaction may stage.
pub const STAGED_BYTES_MAX: u64 = 1 << 30;
/// Most bytes that all transactions together may have staged.
pub const STAGED_BYTES_TOTAL_MAX: u64 = 2 << 30;

/// Everything ENV knows after some log entry.
///
/// A clone shares all large parts and is a consistent view for readers and for snapshots.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// 0 before the first entry.
    environment: u128,
    generation: u64,
    /// Log index of the last entry applied.
    applied: u64,
    last_ts: Timestamp,
    /// Every shard is readable from here on unless a hold lies lower. Never goes back.
    read_floor: Timestamp,
    catalog: Arc<Catalog>,
    shards: BTreeMap<ShardId, Arc<Shard>>,
    holds: Arc<BTreeMap<ClusterId, InputHold>>,
    leases: Arc<BTreeMap<Gateway, Timestamp>>,
    sessions: Sessions,
    stages: Arc<Stages>,
    members: Arc<Members>,
    /// Rows of all shards: packed bytes and overhead.
    stored_bytes: u64,
    /// Hash over what each entry did.
    chain: u64,
}

/// What applying an entry answered and changed.
#[derive(Clone, Debug)]
pub struct Applied {
    /// For a batch: one per transaction, in order. For a change of nodes: one. For another command: empty, or the one reason why it
    /// changed nothing.
    pub outcomes: Vec<Outcome>,
    pub changes: Arc<Changes>,
}

/// What an entry changed, for those who follow the state.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub index: u64,
    /// The timestamp that the entry took, if it took one.
    pub ts: Option<Timestamp>,
    /// Every shard is complete below this time after the entry.
    pub upper: Timestamp,
    /// Updates, all at `ts`, in the order of the transactions. A shard occurs at least once per transaction that wrote it.
    /// A transaction that was staged brings several batches, in which a row may occur more than once.
    pub writes: Vec<(ShardId, Arc<Batch>)>,
    pub catalog_changed: bool,
    /// Nodes, join tokens, the authority or placements.
    pub nodes_changed: bool,
}

/// Why a shard cannot be read at a time. All are retryable; none is ever answered with rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    #[error("{shard} is not there")]
    UnknownShard { shard: ShardId },
    #[error("{shard} is readable from {since} on, not at {ts}")]
    SinceBeyondTs {
        shard: ShardId,
        since: Timestamp,
        ts: Timestamp,
    },
    #[error("tables are complete below {upper}, not at {ts}")]
    NotYet { upper: Timestamp, ts: Timestamp },
}

impl State {
    /// The state before the first entry.
    pub fn new() -> State {
        State::default()
    }

    /// Whether [`crate::Command::Init`] has been applied.
    pub fn initialized(&self) -> bool {
        self.environment != 0
    }

    pub fn environment(&self) -> u128 {
        self.environment
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Log index of the last entry applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The timestamp handed out last. A strict read of this state reads at it.
    pub fn last_ts(&self) -> Timestamp {
        self.last_ts
    }

    /// Every shard is complete below this time.
    pub fn upper(&self) -> Timestamp {
        self.last_ts + 1
    }

    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    pub fn shard(&self, id: ShardId) -> Option<&Arc<Shard>> {
        self.shards.get(&id)
    }

    pub fn shards(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.shards.values()
    }

    /// The first time at which a shard can be read: `since <= t < upper`.
    pub fn since(&self, id: ShardId) -> Option<Timestamp> {
        let created = self.shards.get(&id)?.created;
        Some(
            self.least_hold(id)
                .map_or(self.read_floor, |hold| hold.min(self.read_floor))
                .max(created),
        )
    }

    /// The shard, if it can be read at `ts`.
    ///
    /// # Errors
    /// If it is not there, `ts` has been forgotten, or `ts` is not complete yet.
    pub fn readable(&self, id: ShardId, ts: Timestamp) -> Result<&Arc<Shard>, ReadError> {
        let shard = self
            .shards
            .get(&id)
            .ok_or(ReadError::UnknownShard { shard: id })?;
        let since = self
            .since(id)
            .ok_or(ReadError::UnknownShard { shard: id })?;
        if ts < since {
            return Err(ReadError::SinceBeyondTs {
                shard: id,
                since,
                ts,
            });
        }
        if ts >= self.upper() {
            return Err(ReadError::NotYet {
                upper: self.upper(),
                ts,
            });
        }
        Ok(shard)
    }

    /// What transactions and statements without a lease of their own may still read.
    pub fn read_floor(&self) -> Timestamp {
        self.read_floor
    }

    pub fn holds(&self) -> &BTreeMap<ClusterId, InputHold> {
        &self.holds
    }

    pub fn leases(&self) -> &BTreeMap<Gateway, Timestamp> {
        &self.leases
    }

    /// Rows of all shards: packed bytes and [`ROW_OVERHEAD_BYTES`] each.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// An entry without a command (membership, a new leader's first): only the index moves.
    ///
    /// # Panics
    /// If the index does not rise.
    pub fn advance(&mut self, index: u64) {
        assert!(
            index > self.applied,
            "entry {index} applied after {}",
            self.applied
        );
        self.applied = index;
    }

    /// Merges worth doing outside of apply, at most one per shard and one for what each session has staged for it. The answer is for [`State::install_merge`] of this or a later
    /// state of the same node.
    pub fn merge_jobs(&self) -> Vec<MergeJob> {
        let job = |shard: &Arc<Shard>| shard.merge_job(self.since(shard.id)?);
        let shards = self.shards.values().filter_map(job);
        shards.chain(self.stages.merge_jobs()).collect()
    }

    /// Puts merged batches in place of their inputs. Physical only: contents and hash stay. False if the inputs are gone.
    pub fn install_merge(&mut self, done: &MergeDone) -> bool {
        match &done.staged_by {
            Some(session) => Arc::make_mut(&mut self.stages).install_merge(session, done),
            None => {
                let shard = self.shards.get_mut(&done.shard);
                shard.is_some_and(|shard| Arc::make_mut(shard).install(done))
            }
        }
    }
}
