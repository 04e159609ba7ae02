//! How tables reach the dataflows: a readable snapshot at creation, then every commit.

use repr::{Diff, RowRef, ShardId, Timestamp};
use std::sync::Arc;

/// The tables as a replica reads them.
///
/// Implementations must keep one order: a commit is visible in every snapshot taken after it was handed to
/// [`crate::ReplicaHandle::commit`].
pub trait TableFeed: Send + Sync + 'static {
    /// The content of a shard from `as_of` on, pinned.
    ///
    /// # Errors
    /// If the shard does not exist or has forgotten `as_of`.
    fn snapshot(
        &self,
        shard: ShardId,
        as_of: Timestamp,
    ) -> Result<Arc<dyn TableSnapshot>, FeedError>;
}

/// All updates of one shard before an upper bound.
pub trait TableSnapshot: Send + Sync {
    /// Every update at a time before this one is in the snapshot.
    fn upper(&self) -> Timestamp;

    /// A new pass over the updates: one (row, time, diff) after another, in any order; times may lie before the `as_of` asked for.
    fn scan(self: Arc<Self>) -> Box<dyn TableScan>;
}

/// One pass over a snapshot, in pieces.
pub trait TableScan {
    /// Visits about `rows_max` further updates. False: that was the end.
    fn next_chunk(
        &mut self,
        rows_max: usize,
        visit: &mut dyn FnMut(RowRef<'_>, Timestamp, Diff),
    ) -> bool;
}

/// One shard's updates of one commit, or of several.
#[derive(Clone)]
pub struct TableWrite {
    pub shard: ShardId,
    /// History before this time is lost: nothing that depends on the shard may be read before it any more.
    pub lost_before: Option<Timestamp>,
    pub updates: Arc<dyn TableUpdates>,
}

/// Updates, shared with whoever made them. All times are at or after the upper of the changes before.
pub trait TableUpdates: Send + Sync {
    fn for_each(&self, visit: &mut dyn FnMut(RowRef<'_>, Timestamp, Diff));

    /// How many there are, about.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl TableUpdates for Vec<(repr::Row, Timestamp, Diff)> {
    fn for_each(&self, visit: &mut dyn FnMut(RowRef<'_>, Timestamp, Diff)) {
        for (row, ts, diff) in self {
            visit(row.as_ref(), *ts, *diff);
        }
    }

    fn len(&self) -> usize {
        Vec::len(self)
    }
}

/// What one applied commit (or the passing of time) means to the dataflows.
#[derive(Clone)]
pub struct TableChanges {
    /// No later commit has a time before this one.
    pub upper: Timestamp,
    pub writes: Vec<TableWrite>,
}

/// Why a snapshot cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    #[error("{0} does not exist")]
    UnknownShard(ShardId),
    #[error("{shard} cannot be read at {as_of}: {reason}")]
    NotReadable {
        shard: ShardId,
        as_of: Timestamp,
        reason: String,
    },
    #[error("{shard} is readable from {since} on, not at {as_of}")]
    Forgotten {
        shard: ShardId,
        as_of: Timestamp,
        since: Timestamp,
    },
}
