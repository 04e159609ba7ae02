//! Shards: the durable content of tables.
//!
//! A shard is a log-structured merge tree of immutable batches. Its content at `ts` is the sum of all updates with times up to
//! `ts`. Which batches those updates lie in is a physical matter that differs between nodes; nothing that `apply` decides, hashes or
//! answers may depend on it.

mod batch;
mod cursor;
mod index;
mod keys;
mod merge;

use std::sync::Arc;

use repr::{Diff, Row, RowRef, ShardId, Timestamp};

pub use batch::Batch;
pub(crate) use batch::{BatchBuilder, Entry, consolidate, hash_row_key};
pub use cursor::Cursor;
pub(crate) use keys::KeyList;
pub use keys::KeySpace;
pub(crate) use merge::BATCH_BYTES_MAX;
pub use merge::{MergeDone, MergeJob};

/// One durable collection. Cloning shares the batches.
#[derive(Clone, Debug)]
pub struct Shard {
    pub(crate) id: ShardId,
    /// Columns of each row.
    pub(crate) arity: usize,
    pub(crate) spaces: Arc<[KeySpace]>,
    /// The timestamp that created it: nothing before can be read.
    pub(crate) created: Timestamp,
    /// In order of arrival.
    pub(crate) batches: Vec<Arc<Batch>>,
    pub(crate) last_write: Timestamp,
    /// Rows at the latest time, with multiplicity.
    pub(crate) rows: u64,
    /// Packed bytes of those rows.
    pub(crate) bytes: u64,
    /// Sum of the hashes of those rows.
    pub(crate) content: u64,
}

impl Shard {
    pub(crate) fn new(
        id: ShardId,
        arity: usize,
        spaces: Arc<[KeySpace]>,
        created: Timestamp,
    ) -> Shard {
        Shard {
            id,
            arity,
            spaces,
            created,
            batches: vec![],
            last_write: created,
            rows: 0,
            bytes: 0,
            content: 0,
        }
    }

    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The timestamp of the entry that created the shard.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// The timestamp of the last commit that touched the shard (its creation counts).
    pub fn last_write(&self) -> Timestamp {
        self.last_write
    }

    /// Rows at the latest time, with multiplicity.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Packed bytes of the rows at the latest time.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Memory of the batches, history and indexes included. Differs between nodes.
    pub fn heap_bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.heap_bytes()).sum()
    }

    /// One per PRIMARY KEY or UNIQUE constraint of the table, in order.
    pub fn key_spaces(&self) -> &[KeySpace] {
        &self.spaces
    }

    /// The batches that hold all updates. How updates are spread over them differs between nodes; times that nobody can tell apart any
    /// more may have been moved up to the shard's since.
    pub fn batches(&self) -> &[Arc<Batch>] {
        &self.batches
    }

    /// The rows at `ts`, in the order of their bytes. The caller has checked that `ts` is readable.
    pub fn cursor(&self, ts: Timestamp) -> SnapshotCursor {
        let visible = self
            .batches
            .iter()
            .filter(|batch| batch.time_min() <= ts)
            .cloned();
        SnapshotCursor {
            cursor: Cursor::new(visible),
            ts,
        }
    }

    /// Calls `f` with each row at `ts` and its multiplicity, in the order of the rows' bytes.
    pub fn for_each(&self, ts: Timestamp, mut f: impl FnMut(RowRef<'_>, Diff)) {
        let mut cursor = self.cursor(ts);
        while let Some((row, diff)) = cursor.next() {
            f(row, diff);
        }
    }

    /// All updates with times after `after`, by row and time.
    pub fn updates_after(&self, after: Timestamp) -> Vec<(Row, Timestamp, Diff)> {
        let mut cursor = Cursor::new(
            self.batches
                .iter()
                .filter(|batch| batch.time_max() > after)
                .cloned(),
        );
        let (mut out, mut updates) = (vec![], vec![]);
        while let Some(row) = cursor.next_updates(0, &mut updates) {
            out.extend(
                updates
                    .iter()
                    .filter(|(time, _)| *time > after)
                    .map(|(time, diff)| (row.to_row(), *time, *diff)),
            );
        }
        out
    }

    /// Calls `f` with each row that has this key at `ts`. `key` is canonical, in the order of the constraint's columns.
    pub fn lookup(
        &self,
        space: usize,
        key: RowRef<'_>,
        ts: Timestamp,
        mut f: impl FnMut(RowRef<'_>, Diff),
    ) {
        let Some(keys) = self.spaces.get(space) else {
            return;
        };
        let hash = hash_row_key(key);
        let mut found: Vec<(RowRef<'_>, Diff)> = vec![];
        for batch in self.batches.iter().filter(|batch| batch.time_min() <= ts) {
            for row in batch.find_key(space, keys, key, hash, ts) {
                let diff = batch.count_at(row, ts);
                found.extend((diff != 0).then(|| (batch.row(row), diff)));
            }
        }
        if found.len() > 1 {
            sum_by_row(&mut found);
        }
        for (row, diff) in found {
            f(row, diff);
        }
    }

    /// How often a row occurs at the latest time.
    pub(crate) fn count_row(&self, row: RowRef<'_>) -> Diff {
        let key = self
            .spaces
            .iter()
            .enumerate()
            .find_map(|(i, space)| Some((i, space, space.key(row)?)));
        let in_batch = |batch: &Batch| match &key {
            Some((i, space, key)) => {
                let mut same = batch
                    .find_key(*i, space, key.as_ref(), key.hash64(), Timestamp::MAX)
                    .filter(|r| batch.row(*r) == row);
                same.next()
            }
            None => batch.find_row(row),
        };
        let counts = self
            .batches
            .iter()
            .filter_map(|batch| Some(batch.count_at(in_batch(batch)?, Timestamp::MAX)));
        counts.fold(0, Diff::wrapping_add)
    }

    /// How many rows have a key at the latest time.
    pub(crate) fn count_key(&self, space: usize, key: RowRef<'_>, hash: u64) -> Diff {
        let keys = &self.spaces[space];
        let counts = self
            .batches
            .iter()
            .map(|batch| batch.count_key(space, keys, key, hash));
        counts.fold(0, Diff::wrapping_add)
    }

    /// Whether rows with this key were inserted or deleted after `since`. What came and went at one timestamp does not count,
    /// wherever it lies.
    pub(crate) fn key_changed(&self, space: usize, key: RowRef<'_>, since: Timestamp) -> bool {
        let Some(keys) = self.spaces.get(space) else {
            return true;
        };
        let hash = hash_row_key(key);
        let mut entries: Vec<Entry<'_>> = vec![];
        for batch in self.batches.iter().filter(|batch| batch.time_max() > since) {
            for r in batch.find_key(space, keys, key, hash, since) {
                let late = batch.updates_of(r).filter(|(time, _)| *time > since);
                entries.extend(late.map(|(time, diff)| Entry::new(batch.row(r), time, diff)));
            }
        }
        consolidate(&mut entries);
        !entries.is_empty()
    }

    /// Adds a commit's updates.
    pub(crate) fn push(&mut self, batch: Arc<Batch>, since: Timestamp) {
        if batch.updates() > 0 {
            self.batches.push(batch);
            self.merge_young(since);
        }
    }

    /// All updates, times moved up to `since`.
    pub(crate) fn history(&self) -> Cursor {
        Cursor::new(self.batches.iter().cloned())
    }
}

/// The rows of a shard at one time.
pub struct SnapshotCursor {
    cursor: Cursor,
    ts: Timestamp,
}

impl SnapshotCursor {
    /// The next row and its multiplicity; not an `Iterator` because the row is borrowed from the cursor.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<(RowRef<'_>, Diff)> {
        self.cursor.next_at(self.ts)
    }
}

/// Sums up equal rows; what sums to zero goes.
fn sum_by_row(rows: &mut Vec<(RowRef<'_>, Diff)>) {
    rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    rows.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 = kept.1.wrapping_add(next.1);
        }
        same
    });
    rows.retain(|(_, diff)| *diff != 0);
}

/// What one row adds to a shard's content hash.
pub(crate) fn row_hash(shard: ShardId, row: RowRef<'_>) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(row.as_bytes(), shard.0)
}
