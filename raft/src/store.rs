//! One group's part of the log, as openraft wants to see it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use futures::{Stream, stream};
use openraft::LogState;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};

use crate::GroupId;
use crate::machine::Shared;
use crate::types::{
    Entry, LogId, Types, Vote, log_entry, log_id, log_pos, raft_entry, stored_vote, vote,
};
use crate::wal::{EntryKind, Wal};

/// How much of the log is read at once for the apply task: bounds memory after a restart.
const READ_BYTES_MAX: u64 = 4 << 20;

/// An append up to this size may be written by the core task itself, see [`Shared::core_may_write`]. Many writers at once make larger entries.
const INLINE_BYTES_MAX: usize = 1 << 10;

/// See the module. Cloning shares the log.
#[derive(Clone)]
pub(crate) struct GroupStore {
    wal: Arc<Wal>,
    group: GroupId,
    shared: Arc<Shared>,
}

impl GroupStore {
    pub fn new(wal: Arc<Wal>, shared: Arc<Shared>) -> GroupStore {
        let group = shared.config.group;
        if let Some(vote) = wal.state(group).vote {
            shared.readers.votes(vote.term);
        }
        GroupStore { wal, group, shared }
    }

    fn read(&self, range: Range<u64>, bytes_max: u64) -> io::Result<Vec<Entry>> {
        let entries = self.wal.read(self.group, range, bytes_max)?;
        let entries: Option<Vec<_>> = entries.into_iter().map(raft_entry).collect();
        entries.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "a membership in the log cannot be read",
            )
        })
    }

    /// The next piece of `range`, and what is left of it. The range may reach beyond the log.
    fn next_piece(&self, range: Range<u64>) -> Option<(Vec<io::Result<Entry>>, Range<u64>)> {
        if range.is_empty() {
            return None;
        }
        let done = range.end..range.end;
        match self.read(range.clone(), READ_BYTES_MAX) {
            Err(error) => Some((vec![Err(error)], done)),
            Ok(entries) => {
                let rest = entries.last()?.log_id.index() + 1..range.end;
                Some((entries.into_iter().map(Ok).collect(), rest))
            }
        }
    }
}

fn indexes(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(i) => *i,
        Bound::Excluded(i) => i.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(i) => i.saturating_add(1),
        Bound::Excluded(i) => *i,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<Types> for GroupStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        self.read(indexes(&range), u64::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, READ_BYTES_MAX)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let store = self.clone();
        let pieces = stream::unfold(indexes(&range), move |range| {
            std::future::ready(store.next_piece(range))
        });
        futures::StreamExt::flat_map(pieces, stream::iter)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.wal.state(self.group).vote.map(vote))
    }
}

impl RaftLogStorage<Types> for GroupStore {
    type LogReader = GroupStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.wal.state(self.group);
        Ok(LogState {
            last_purged_log_id: state.purged.map(log_id),
            last_log_id: state.last.map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> GroupStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.shared.readers.votes(stored_vote(vote).term);
        let (done, durable) = tokio::sync::oneshot::channel();
        // A receiver that is gone has been shut down, and waits for nothing.
        let done = Box::new(move |result| drop(done.send(result)));
        self.wal.vote(self.group, stored_vote(vote), done)?;
        durable
            .await
            .map_err(|_| io::Error::other("the log's writer is gone"))?
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        match committed {
            Some(id) => self.wal.committed(self.group, log_pos(&id)),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.wal.state(self.group).committed.map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<_> = entries.into_iter().map(log_entry).collect();
        let memberships = entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::Membership);
        if let Some(membership) = memberships.last() {
            self.shared.readers.membership(membership.pos.index);
        }
        let bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
        // Others are rare, and go with elections, which must not overtake what is told of them.
        let commands = entries.iter().all(|entry| entry.kind == EntryKind::Normal);
        let done = Box::new(move |result| callback.io_completed(result));
        if bytes > INLINE_BYTES_MAX || !commands || !self.shared.core_may_write() {
            return self.wal.append(self.group, entries, done);
        }
        self.wal.append_now(self.group, entries, done)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let last = last_log_id.map(|id| id.index());
        self.shared.readers.truncated(last.unwrap_or(0));
        self.wal.truncate_after(self.group, last)
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.wal.purge(self.group, log_pos(&log_id))
    }
}

#[cfg(test)]
mod tests;
