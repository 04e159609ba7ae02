//! Table changes into the dataflows that read them.

use super::{ComputeWorker, Running, SNAPSHOT_ROWS_PER_ROUND};
use crate::feed::{TableChanges, TableScan, TableSnapshot};
use crate::render::source::SourcePort;
use crate::types::T;
use repr::{Diff, GlobalId, RowRef, ShardId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// One table's way into one dataflow.
pub struct Source {
    port: SourcePort,
    as_of: T,
    /// Changes before this time are in the snapshot.
    resume: T,
    /// What is left of the snapshot.
    snapshot: Option<Box<dyn TableScan>>,
    share: Share,
}

/// Which rows this worker takes.
#[derive(Clone, Copy)]
pub struct Share {
    pub index: usize,
    pub peers: usize,
}

impl Share {
    #[inline]
    fn takes(self, row: RowRef<'_>) -> bool {
        self.peers == 1 || row.hash64() % self.peers as u64 == self.index as u64
    }
}

impl Source {
    pub fn new(port: SourcePort, as_of: T, snapshot: Arc<dyn TableSnapshot>, share: Share) -> Self {
        Source {
            port,
            as_of,
            resume: snapshot.upper(),
            snapshot: Some(snapshot.scan()),
            share,
        }
    }

    pub fn shard(&self) -> ShardId {
        self.port.shard
    }

    #[inline]
    fn take(&mut self, row: RowRef<'_>, ts: T, diff: Diff) {
        if self.share.takes(row) {
            self.port.take(row, ts.max(self.as_of), diff);
        }
    }

    /// Feeds a piece of the snapshot; false if there is none left.
    fn hydrate(&mut self) -> bool {
        let Some(mut scan) = self.snapshot.take() else {
            return false;
        };
        let more = scan.next_chunk(SNAPSHOT_ROWS_PER_ROUND, &mut |row, ts, diff| {
            self.take(row, ts, diff)
        });
        self.port.flush();
        if more {
            self.snapshot = Some(scan);
        }
        more
    }

    /// Says that everything before `upper` has been fed. While the snapshot is being fed, that is nothing.
    fn advance_to(&mut self, upper: T) {
        if self.snapshot.is_none() {
            self.port.advance_to(upper.max(self.resume).max(self.as_of));
        }
    }
}

impl ComputeWorker {
    /// Feeds writes to all dataflows that read their tables; returns how many updates they had.
    pub(super) fn feed_writes(&mut self, changes: &TableChanges) -> usize {
        let mut updates = 0;
        for write in &changes.writes {
            updates += write.updates.len();
            if let Some(frontier) = write.lost_before
                && !planted::is("h36")
            {
                self.lose_history(write.shard, frontier);
            }
            let running = self.dataflows.values_mut().chain(&mut self.retired);
            for source in running
                .flat_map(|r| &mut r.sources)
                .filter(|s| s.shard() == write.shard)
            {
                let resume = source.resume;
                write.updates.for_each(&mut |row, ts, diff| {
                    if ts >= resume {
                        source.take(row, ts, diff);
                    }
                });
                source.port.flush();
            }
        }
        updates
    }

    /// Advances all inputs to what the tables are complete up to.
    pub(super) fn advance_inputs(&mut self) {
        let upper = self.upper;
        for source in self
            .dataflows
            .values_mut()
            .chain(&mut self.retired)
            .flat_map(|r| &mut r.sources)
        {
            source.advance_to(upper);
        }
    }

    /// Feeds a piece of every snapshot that is not yet fed; whether there is more.
    pub(super) fn feed_snapshots(&mut self) -> bool {
        let upper = self.upper;
        let mut more = false;
        for source in self
            .dataflows
            .values_mut()
            .chain(&mut self.retired)
            .flat_map(|r| &mut r.sources)
        {
            if source.snapshot.is_some() {
                more |= source.hydrate();
                source.advance_to(upper);
            }
        }
        more
    }

    /// Nothing that depends on the shard may be read before `frontier` any more: its history there is not what it was.
    fn lose_history(&mut self, shard: ShardId, frontier: T) {
        let mut lost: BTreeSet<GlobalId> = BTreeSet::new();
        loop {
            let depends = |running: &Running| {
                running.sources.iter().any(|s| s.shard() == shard)
                    || running.plan.indexes.keys().any(|id| lost.contains(id))
            };
            let found: Vec<GlobalId> = self
                .dataflows
                .values()
                .filter(|r| depends(r))
                .flat_map(|r| r.exports.iter().copied())
                .filter(|id| !lost.contains(id))
                .collect();
            if found.is_empty() {
                break;
            }
            lost.extend(found);
        }
        for id in lost {
            self.traces.grant(id, frontier);
            self.peeks.refuse_before(id, frontier);
        }
        self.traces.maintain(|_| None);
    }
}
