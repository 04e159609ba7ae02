//! The node's own tables as a feed.

use crate::feed::{
    FeedError, TableChanges, TableFeed, TableScan, TableSnapshot, TableUpdates, TableWrite,
};
use crate::replica::ReplicaHandle;
use repr::{Diff, RowRef, ShardId, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use storage::{Event, History, HistoryScan, ReadError, Storage};

impl TableFeed for Storage {
    fn snapshot(
        &self,
        shard: ShardId,
        as_of: Timestamp,
    ) -> Result<Arc<dyn TableSnapshot>, FeedError> {
        match self.history(shard, as_of) {
            Ok(history) => Ok(Arc::new(history)),
            Err(ReadError::SinceBeyondTs { since, .. }) => Err(FeedError::Forgotten {
                shard,
                as_of,
                since,
            }),
            Err(error @ (ReadError::UnknownShard { .. } | ReadError::NotYet { .. })) => {
                Err(FeedError::NotReadable {
                    shard,
                    as_of,
                    reason: error.to_string(),
                })
            }
        }
    }
}

impl TableSnapshot for History {
    fn upper(&self) -> Timestamp {
        History::upper(self)
    }

    fn scan(self: Arc<Self>) -> Box<dyn TableScan> {
        Box::new(History::scan(&self))
    }
}

impl TableScan for HistoryScan {
    fn next_chunk(
        &mut self,
        rows_max: usize,
        visit: &mut dyn FnMut(RowRef<'_>, Timestamp, Diff),
    ) -> bool {
        HistoryScan::next_chunk(self, rows_max, visit)
    }
}

/// Updates that a function visits.
struct Visits<F> {
    len: usize,
    visit_all: F,
}

impl<F> TableUpdates for Visits<F>
where
    F: Fn(&mut dyn FnMut(RowRef<'_>, Timestamp, Diff)) + Send + Sync,
{
    fn for_each(&self, visit: &mut dyn FnMut(RowRef<'_>, Timestamp, Diff)) {
        (self.visit_all)(visit);
    }

    fn len(&self) -> usize {
        self.len
    }
}

impl ReplicaHandle {
    /// Tells the dataflows what happened to the tables. Events must come in their order; what they tell must be visible in [`Storage`] before.
    ///
    /// After [`Storage::listen`], first tell how far the tables are with [`ReplicaHandle::tables_are_at`].
    pub fn follow(&self, event: &Event) {
        match event {
            Event::Changes(changes) => {
                let writes = changes.writes.iter().map(|(shard, batch)| {
                    let batch = Arc::clone(batch);
                    let len = batch.updates();
                    let visit_all = move |visit: &mut dyn FnMut(RowRef<'_>, Timestamp, Diff)| {
                        for index in 0..batch.rows() {
                            let row = batch.row(index);
                            batch
                                .updates_of(index)
                                .for_each(|(time, diff)| visit(row, time, diff));
                        }
                    };
                    TableWrite {
                        shard: *shard,
                        lost_before: None,
                        updates: Arc::new(Visits { len, visit_all }),
                    }
                });
                self.commit(TableChanges {
                    upper: changes.upper,
                    writes: writes.collect(),
                });
            }
            Event::Jump(jump) => {
                let read: BTreeSet<ShardId> = self.shards_read();
                let writes = read.into_iter().filter_map(|shard| {
                    let moved = jump.shard(shard)?;
                    Some(TableWrite {
                        shard,
                        lost_before: moved.lost_before,
                        updates: Arc::new(moved.updates),
                    })
                });
                self.commit(TableChanges {
                    upper: jump.to.upper(),
                    writes: writes.collect(),
                });
            }
        }
    }

    /// The tables are complete before this time, as far as this replica has been told.
    pub fn tables_are_at(&self, upper: Timestamp) {
        self.commit(TableChanges {
            upper,
            writes: vec![],
        });
    }
}
