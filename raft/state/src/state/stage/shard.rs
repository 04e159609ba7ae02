//! What one attempt has staged for one shard.

use std::collections::VecDeque;
use std::sync::Arc;

use repr::{Diff, RowRef, ShardId, Timestamp};

use crate::shard::{Batch, Entry, KeyList, Shard, consolidate};
use crate::state::txn::{Sums, first_duplicate};

/// Rows of other commits looked at within one of them.
const FOLLOW_ROWS: usize = 1024;
/// Rows of other commits looked at with one more chunk.
const CHUNK_ROWS: usize = 8192;

/// Updates on their way into a shard, checked as they come.
///
/// They are kept as a shard of their own whose updates all have time 0. It is *sound* while every key and row in it has
/// passed against what was stored when it came, and against every commit since; then linking has nothing left to
/// check. Being sound is about speed alone: what is not sound is checked whole when it is linked, with the same answer.
#[derive(Clone, Debug)]
pub(in crate::state) struct StagedShard {
    /// The shard was there when the first chunk came, and all rows have its columns: the keys are known.
    pub(in crate::state) known: bool,
    /// What was stored before goes.
    pub(in crate::state) truncate: bool,
    pub(in crate::state) updates: Shard,
    sums: Sums,
    sound: bool,
    /// Commits to the shard that were not looked at yet, and from which row on.
    behind: VecDeque<(Arc<Batch>, usize)>,
}

impl StagedShard {
    pub(in crate::state) fn new(id: ShardId, stored: Option<&Shard>) -> StagedShard {
        let spaces = stored.map_or_else(|| [].into(), |shard| shard.spaces.clone());
        let arity = stored.map_or(0, |shard| shard.arity);
        StagedShard {
            known: stored.is_some(),
            truncate: false,
            updates: Shard::new(id, arity, spaces, 0),
            sums: Sums::default(),
            sound: stored.is_some(),
            behind: VecDeque::new(),
        }
    }

    /// What a snapshot brought. Nothing is known about it, so it is not sound.
    pub(in crate::state) fn restored(
        id: ShardId,
        stored: Option<&Shard>,
        known: bool,
        truncate: bool,
    ) -> StagedShard {
        let stored = stored.filter(|_| known);
        StagedShard {
            // The shard may have been dropped since the first chunk came.
            known: stored.is_some(),
            truncate,
            sound: false,
            ..StagedShard::new(id, stored)
        }
    }

    /// Takes the updates of one write. The answer is the first key that now occurs twice, stored and staged rows
    /// together, and the number of its key space: a warning, since a later chunk may delete one of them.
    pub(in crate::state) fn add<'a>(
        &mut self,
        stored: Option<&Shard>,
        truncate: bool,
        updates: impl Iterator<Item = (RowRef<'a>, Diff)>,
    ) -> Option<(u32, repr::Row)> {
        if truncate {
            self.forget();
        }
        let mut entries: Vec<Entry<'_>> = updates
            .map(|(row, diff)| Entry::new(row, 0, diff))
            .collect();
        consolidate(&mut entries);
        if self.known
            && entries
                .iter()
                .any(|entry| entry.row.arity() != self.updates.arity)
        {
            self.known = false;
            self.updates.spaces = [].into();
        }
        let keys: Vec<KeyList> = self
            .updates
            .spaces
            .iter()
            .map(|space| KeyList::of(space, entries.iter().map(|entry| entry.row)))
            .collect();
        let stored = stored.filter(|_| self.known && !self.truncate);
        let duplicate = stored.and_then(|stored| self.duplicate(stored, &keys, &entries));
        let passes = stored.is_some_and(|stored| {
            duplicate.is_none() && entries.iter().all(|entry| self.deletable(stored, entry))
        });
        self.sound &= passes;
        self.sums.add(self.updates.id, &entries);
        let batch = Batch::from_entries(&entries, &keys);
        self.updates.push(Arc::new(batch), 0);
        duplicate
    }

    /// A truncation takes all that came before with it.
    fn forget(&mut self) {
        self.truncate = true;
        self.sound = false;
        self.updates.batches.clear();
        self.sums = Sums::default();
        self.behind.clear();
    }

    fn duplicate(
        &self,
        stored: &Shard,
        keys: &[KeyList],
        entries: &[Entry<'_>],
    ) -> Option<(u32, repr::Row)> {
        keys.iter().enumerate().find_map(|(space, keys)| {
            let staged = |key: RowRef<'_>, hash| self.updates.count_key(space, key, hash);
            let key = first_duplicate(stored, space, keys, entries, staged)?;
            Some((space as u32, key.to_row()))
        })
    }

    /// Whether all that is deleted of a row, with this entry, is stored.
    fn deletable(&self, stored: &Shard, entry: &Entry<'_>) -> bool {
        if entry.diff >= 0 {
            return true;
        }
        let staged = self.updates.count_row(entry.row).wrapping_add(entry.diff);
        staged >= 0 || stored.count_row(entry.row) >= staged.saturating_neg()
    }

    /// Whether commits to the shard matter to what is staged.
    pub(in crate::state) fn follows(&self) -> bool {
        self.sound
    }

    /// Notes a commit of others, which `stored` holds already.
    pub(in crate::state) fn follow(&mut self, stored: &Shard, batches: &[Arc<Batch>]) {
        if self.sound {
            self.behind
                .extend(batches.iter().map(|batch| (batch.clone(), 0)));
            self.catch_up(stored, FOLLOW_ROWS);
        }
    }

    /// Looks at some of the commits since the last chunk.
    pub(in crate::state) fn catch_up_some(&mut self, stored: &Shard) {
        self.catch_up(stored, CHUNK_ROWS);
    }

    fn catch_up(&mut self, stored: &Shard, mut rows_max: usize) {
        while let Some((batch, next)) = self.behind.pop_front() {
            if !self.sound {
                self.behind.clear();
                return;
            }
            let end = batch.rows().min(next.saturating_add(rows_max));
            rows_max -= end - next;
            self.sound = (next..end).all(|row| self.stands(stored, &batch, row));
            if end < batch.rows() {
                self.behind.push_front((batch, end));
                return;
            }
        }
    }

    /// Whether what is staged still passes after one row of a commit.
    fn stands(&self, stored: &Shard, commit: &Batch, row: usize) -> bool {
        let (row, diff) = (commit.row(row), commit.count_at(row, Timestamp::MAX));
        if diff < 0 {
            let staged = self.updates.count_row(row);
            return staged >= 0 || stored.count_row(row) >= staged.saturating_neg();
        }
        let keys = self.updates.spaces.iter().enumerate();
        keys.filter_map(|(space, keys)| Some((space, keys.key(row)?)))
            .all(|(space, key)| {
                let hash = crate::shard::hash_row_key(key.as_ref());
                let staged = self.updates.count_key(space, key.as_ref(), hash);
                staged <= 0 || staged + stored.count_key(space, key.as_ref(), hash) <= 1
            })
    }

    /// The batches to put into the shard at `ts`, and what they add up to, if nothing is left to be checked.
    pub(in crate::state) fn linked(
        mut self,
        stored: &Shard,
        ts: Timestamp,
    ) -> Option<(Vec<Arc<Batch>>, Sums)> {
        self.catch_up(stored, usize::MAX);
        let batches = self.updates.batches.iter();
        self.sound.then(|| {
            let batches = batches.map(|batch| Arc::new(batch.at_time(ts))).collect();
            (batches, self.sums)
        })
    }

    /// All updates.
    pub(in crate::state) fn iter(&self) -> impl Iterator<Item = (RowRef<'_>, Diff)> {
        let batches = self.updates.batches.iter();
        batches.flat_map(|batch| batch.iter().map(|(row, _, diff)| (row, diff)))
    }

    /// Adds what a snapshot brought.
    pub(in crate::state) fn put(&mut self, batch: Batch) {
        self.updates
            .batches
            .extend((batch.updates() > 0).then(|| Arc::new(batch)));
    }
}
