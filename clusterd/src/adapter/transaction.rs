//! A transaction: one snapshot, its own writes, and what must still hold when it commits.

use crate::adapter::error::SqlError;
use crate::adapter::read_point::ReadPoint;
use repr::{Diff, GlobalId, Row, ShardId, Timestamp};
use state::State;
use state::command::{CatalogOp, Check, Write};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Writes of one transaction beyond this are refused (53400); they are staged in chunks when it commits.
pub const TRANSACTION_BYTES_MAX: usize = 1024 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Each statement is a transaction of its own.
    Auto,
    /// Several statements of one query string, or of one pipeline up to its Sync.
    Implicit,
    /// BEGIN ... COMMIT.
    Explicit,
}

pub fn transaction_too_large() -> SqlError {
    SqlError::new("53400", "the transaction is too large").hint(format!(
        "A transaction may write at most {TRANSACTION_BYTES_MAX} bytes; split it."
    ))
}

/// State of a session's current transaction.
pub struct Transaction {
    pub block: Block,
    pub failed: bool,
    pub read_only: bool,
    /// The current statement writes: what it reads must be remembered even if it stands alone.
    pub writing: bool,
    /// The current statement has had its effects (`pg_sleep`): trying it again does not repeat them.
    pub effects_done: bool,
    /// Fixed by the first statement that reads.
    pub read_point: Option<ReadPoint>,
    /// The read point's state with this transaction's own DDL and writes applied on top: what its statements read.
    pub scratch: Option<Arc<State>>,
    pub catalog_ops: Vec<CatalogOp>,
    /// Steps applied to `scratch`.
    pub steps: u64,
    /// Objects created here that only a dataflow could read: not readable before COMMIT.
    pub unreadable: BTreeSet<GlobalId>,
    pub writes: BTreeMap<ShardId, ShardWrites>,
    pub write_bytes: usize,
    pub reads: ReadSet,
    /// Objects written to, with the version planned against.
    pub schema: BTreeMap<GlobalId, u64>,
    /// When the block began; `None` outside of one.
    pub started: Option<repr::PgTimestamp>,
    /// Statements run so far.
    pub statements: u64,
}

/// Pending changes of one shard.
#[derive(Clone, Debug, Default)]
pub struct ShardWrites {
    pub truncate: bool,
    pub updates: Vec<(Row, Diff)>,
}

/// What the transaction has read, as fine as it can be checked.
#[derive(Clone, Debug, Default)]
pub struct ReadSet {
    pub shards: BTreeSet<ShardId>,
    pub keys: BTreeSet<(ShardId, u32, Row)>,
    /// A system relation was read.
    pub catalog: bool,
}

impl Transaction {
    pub fn new(block: Block, read_only: bool) -> Self {
        Transaction {
            block,
            failed: false,
            read_only,
            writing: false,
            effects_done: false,
            read_point: None,
            scratch: None,
            steps: 0,
            catalog_ops: vec![],
            unreadable: BTreeSet::new(),
            writes: BTreeMap::new(),
            write_bytes: 0,
            reads: ReadSet::default(),
            schema: BTreeMap::new(),
            started: None,
            statements: 0,
        }
    }

    pub fn ts(&self) -> Option<Timestamp> {
        self.read_point.as_ref().map(|p| p.ts)
    }

    /// The state that statements of this transaction read, and the time to read it at.
    pub fn view<'a>(&'a self, point: &'a ReadPoint) -> (&'a Arc<State>, Timestamp) {
        match &self.scratch {
            Some(scratch) => (scratch, scratch.last_ts()),
            None => (&point.state, point.ts),
        }
    }

    pub fn has_effects(&self) -> bool {
        !self.writes.is_empty() || !self.catalog_ops.is_empty()
    }

    /// Whether any of the shards holds something that only this transaction sees: its writes, or the shard itself.
    pub fn has_own(&self, shards: &BTreeSet<ShardId>, point: &ReadPoint) -> bool {
        shards.iter().any(|s| {
            self.writes.contains_key(s) || self.scratch.is_some() && point.state.shard(*s).is_none()
        })
    }

    /// The conditions of the commit. A transaction without effects has none.
    pub fn checks(&self) -> Vec<Check> {
        let Some(point) = &self.read_point else {
            return vec![];
        };
        let since = point.ts;
        // A table that this transaction has created was read by nobody else.
        let existed = |shard: &ShardId| point.state.shard(*shard).is_some();
        let shards = self
            .reads
            .shards
            .iter()
            .filter(|shard| existed(shard))
            .map(|shard| Check::ShardUnchanged {
                shard: *shard,
                since,
            });
        let keys = self
            .reads
            .keys
            .iter()
            .filter(|(shard, ..)| existed(shard) && !self.reads.shards.contains(shard))
            .map(|(shard, space, key)| Check::KeyUnchanged {
                shard: *shard,
                space: *space,
                key: key.clone(),
                since,
            });
        let catalog = (self.reads.catalog || !self.catalog_ops.is_empty())
            .then(|| {
                self.read_point.as_ref().map(|p| Check::CatalogUnchanged {
                    version: p.state.catalog().version,
                })
            })
            .flatten();
        shards.chain(keys).chain(catalog).collect()
    }

    pub fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
            .into_iter()
            .map(|(shard, w)| Write {
                shard,
                updates: consolidate(w.updates),
                truncate: w.truncate,
            })
            .filter(|w| w.truncate || !w.updates.is_empty())
            .collect()
    }
}

/// Sums the multiplicities of equal rows and drops those that cancel.
pub fn consolidate(mut updates: Vec<(Row, Diff)>) -> Vec<(Row, Diff)> {
    if updates.len() < 2 {
        updates.retain(|(_, d)| *d != 0);
        return updates;
    }
    updates.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    updates.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    updates.retain(|(_, d)| *d != 0);
    updates
}

#[cfg(test)]
mod tests {
    use super::*;
    use repr::Datum;

    #[test]
    fn updates_that_cancel_are_not_written() {
        let row = |n| Row::pack_slice(&[Datum::Int32(n)]);
        let left = consolidate(vec![
            (row(1), 1),
            (row(2), 1),
            (row(1), -1),
            (row(3), 2),
            (row(2), 1),
        ]);
        assert_eq!(left, [(row(2), 2), (row(3), 2)]);
    }
}
