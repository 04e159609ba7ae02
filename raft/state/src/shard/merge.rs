//! When batches are merged, and how that happens outside of apply.
//!
//! Batches lie in order of arrival. The youngest ones, all small, are merged within apply: bounded work. The others are *settled*: only a [`MergeJob`] replaces them, which runs on another thread on shared, immutable batches and is
//! installed later. A merge moves times up to the shard's since and changes nothing that can be read.

use std::sync::Arc;

use repr::{ShardId, Timestamp};

use super::Shard;
use super::batch::Batch;
use super::keys::KeySpace;
use crate::command::Session;

/// A batch with at least this many updates, or
const SETTLED_UPDATES: usize = if cfg!(test) { 16 } else { 4096 };
/// at least this many bytes of rows, is no longer merged within apply: a merge there takes about a millisecond.
const SETTLED_BYTES: usize = 4 << 20;
/// Bytes of rows in one batch; offsets have 32 bits.
pub(crate) const BATCH_BYTES_MAX: usize = 3 << 30;
/// A lone batch is rewritten when one in this many of its updates would vanish.
const REMOVABLE_FRACTION: usize = 4;

/// A merge to be done elsewhere.
#[derive(Debug)]
pub struct MergeJob {
    /// Whose staged updates these are; `None`: the shard's own.
    staged_by: Option<Session>,
    shard: ShardId,
    inputs: Vec<Arc<Batch>>,
    since: Timestamp,
    spaces: Arc<[KeySpace]>,
}

/// A merge that was done.
#[derive(Debug)]
pub struct MergeDone {
    pub(crate) staged_by: Option<Session>,
    pub(crate) shard: ShardId,
    pub(crate) inputs: Vec<Arc<Batch>>,
    pub(crate) output: Arc<Batch>,
}

impl MergeJob {
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The same for what a session has staged for the shard.
    pub(crate) fn of_stage(self, session: Session) -> MergeJob {
        MergeJob {
            staged_by: Some(session),
            ..self
        }
    }

    /// How much work it is.
    pub fn updates(&self) -> usize {
        self.inputs.iter().map(|batch| batch.updates()).sum()
    }

    /// Does the work; takes about 100 ns per update.
    pub fn run(self) -> MergeDone {
        let output = Batch::merge(
            self.inputs.iter().map(|batch| &**batch),
            self.since,
            &self.spaces,
        );
        MergeDone {
            staged_by: self.staged_by,
            shard: self.shard,
            inputs: self.inputs,
            output: Arc::new(output),
        }
    }
}

fn is_settled(batch: &Batch) -> bool {
    batch.updates() >= SETTLED_UPDATES || batch.row_bytes() >= SETTLED_BYTES
}

impl Shard {
    /// Merges young batches while the one before is at most twice what is to be merged with it.
    pub(super) fn merge_young(&mut self, since: Timestamp) {
        let Some(last) = self.batches.last() else {
            return;
        };
        if is_settled(last) {
            return;
        }
        let (mut total, mut bytes) = (last.updates(), last.row_bytes());
        let mut first = self.batches.len() - 1;
        while first > 0 && total < SETTLED_UPDATES && bytes < SETTLED_BYTES {
            let before = &self.batches[first - 1];
            if is_settled(before) || before.updates() > 2 * total {
                break;
            }
            total += before.updates();
            bytes += before.row_bytes();
            first -= 1;
        }
        if first + 1 < self.batches.len() {
            let merged = Batch::merge(
                self.batches[first..].iter().map(|batch| &**batch),
                since,
                &self.spaces,
            );
            self.batches.truncate(first);
            self.batches
                .extend((merged.updates() > 0).then(|| Arc::new(merged)));
        }
    }

    /// The next merge worth doing outside of apply.
    pub(crate) fn merge_job(&self, since: Timestamp) -> Option<MergeJob> {
        let range = self.crowded().or_else(|| self.worn(since))?;
        Some(MergeJob {
            staged_by: None,
            shard: self.id,
            inputs: self.batches[range].to_vec(),
            since,
            spaces: self.spaces.clone(),
        })
    }

    /// Settled neighbours of which the elder is at most twice the younger, and what fits before them by the same rule.
    fn crowded(&self) -> Option<std::ops::Range<usize>> {
        let settled = self.batches.iter().rposition(|batch| is_settled(batch))? + 1;
        let size = |at: usize| self.batches[at].updates();
        let fits = |at: usize, total: usize, bytes: usize| {
            size(at) <= 2 * total && self.batches[at].row_bytes() + bytes <= BATCH_BYTES_MAX
        };
        let bytes = |at: usize| self.batches[at].row_bytes();
        let last = (1..settled)
            .rev()
            .find(|at| fits(at - 1, size(*at), bytes(*at)))?;
        let (mut first, mut total, mut total_bytes) = (last, size(last), bytes(last));
        while first > 0 && fits(first - 1, total, total_bytes) {
            first -= 1;
            total += size(first);
            total_bytes += bytes(first);
        }
        Some(first..last + 1)
    }

    /// A settled batch that is largely history nobody can read any more.
    fn worn(&self, since: Timestamp) -> Option<std::ops::Range<usize>> {
        let worn = |batch: &Batch| {
            is_settled(batch)
                && batch.removable() * REMOVABLE_FRACTION >= batch.updates()
                && batch.time_max() <= since
        };
        let at = self.batches.iter().position(|batch| worn(batch))?;
        Some(at..at + 1)
    }

    /// Puts a merge's result in place of its inputs; false if they are gone.
    pub(crate) fn install(&mut self, done: &MergeDone) -> bool {
        let is_input = |at: usize| {
            (0..done.inputs.len()).all(|i| {
                self.batches
                    .get(at + i)
                    .is_some_and(|b| Arc::ptr_eq(b, &done.inputs[i]))
            })
        };
        let Some(at) = (0..self.batches.len()).find(|at| is_input(*at)) else {
            return false;
        };
        let output = (done.output.updates() > 0).then(|| done.output.clone());
        self.batches.splice(at..at + done.inputs.len(), output);
        true
    }
}
