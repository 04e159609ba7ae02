//! All updates of a shard, for dataflows that start.

use std::sync::Arc;

use repr::{Diff, RowRef, ShardId, Timestamp};
use state::shard::Batch;
use state::{ReadError, State};

/// Every update of one shard before an upper bound. Batches are shared, not copied.
///
/// Summed up to any `t` with `as_of <= t < upper` it gives the shard's content at `t`. Times below `as_of` say nothing more.
#[derive(Clone)]
pub struct History {
    batches: Arc<[Arc<Batch>]>,
    upper: Timestamp,
}

/// Pins a shard's updates.
///
/// # Errors
/// See [`State::readable`].
pub fn history(state: &State, shard: ShardId, as_of: Timestamp) -> Result<History, ReadError> {
    let shard = state.readable(shard, as_of)?;
    Ok(History {
        batches: shard.batches().into(),
        upper: state.upper(),
    })
}

impl History {
    /// Every update at a time before this one is here.
    pub fn upper(&self) -> Timestamp {
        self.upper
    }

    /// How many updates there are.
    pub fn updates(&self) -> usize {
        self.batches.iter().map(|batch| batch.updates()).sum()
    }

    /// A new pass over the updates, in no particular order.
    pub fn scan(&self) -> HistoryScan {
        HistoryScan {
            batches: self.batches.clone(),
            batch: 0,
            row: 0,
        }
    }
}

/// One pass over a history, in pieces.
pub struct HistoryScan {
    batches: Arc<[Arc<Batch>]>,
    batch: usize,
    row: usize,
}

impl HistoryScan {
    /// Visits up to `rows_max` further rows with all their updates. False: that was the end.
    pub fn next_chunk(
        &mut self,
        rows_max: usize,
        mut visit: impl FnMut(RowRef<'_>, Timestamp, Diff),
    ) -> bool {
        for _ in 0..rows_max {
            let Some(batch) = self.batches.get(self.batch) else {
                return false;
            };
            if self.row < batch.rows() {
                let row = batch.row(self.row);
                batch
                    .updates_of(self.row)
                    .for_each(|(time, diff)| visit(row, time, diff));
                self.row += 1;
            } else {
                self.batch += 1;
                self.row = 0;
            }
        }
        self.batch < self.batches.len()
    }
}
