//! The tables of this node: what S says exists, readable locally at any held timestamp.
//!
//! What this is: a shared handle on the newest applied [`State`], for sessions and for dataflows alike. What this is not: it does not
//! decide what is applied (crate `raft` drives [`State::apply`]) and holds nothing that cannot be had from the log again.
//!
//! The life of one commit: the driver applies an entry, then calls [`Storage::publish`] with the state after it and its [`Changes`].
//! From that moment readers see the new state ([`Storage::view`], wait-free), every [`Listener`] has the changes in its queue, in log
//! order, and whoever waits for the index ([`Storage::wait_applied`]) goes on.
//!
//! The life of one read: [`Storage::view`] gives a state that never changes; [`State::readable`] says whether a shard can be read at a
//! timestamp; [`snapshot`], [`lookup`] and [`history`] read it without locks and without copying batches.
//!
//! Caveats:
//! * A listener that does not drain is not a leak: beyond a limit its queue collapses into one [`Jump`].
//! * A view pins the batches it was made of. Readers drop it when the statement ends.

mod history;
mod jump;
mod listen;
mod maintain;

use std::sync::Arc;

use arc_swap::ArcSwap;
use repr::{Diff, Row, RowRef, ShardId, Timestamp};
pub use state::ReadError;
use state::shard::SnapshotCursor;
use state::{Changes, State};
use tokio::sync::watch;

pub use history::{History, HistoryScan, history};
pub use jump::{Jump, ShardJump};
use listen::Listeners;
pub use listen::{Event, Interest, LISTENER_EVENTS_MAX, Listener};
pub use maintain::{MergeRun, merge_once};

/// The newest applied state and those who follow it. Cloning shares it.
#[derive(Clone)]
pub struct Storage {
    shared: Arc<Shared>,
}

struct Shared {
    view: ArcSwap<State>,
    applied: watch::Sender<u64>,
    /// Locked while a state is published, so that nobody begins to listen between a view and its changes.
    listeners: Listeners,
}

impl Storage {
    pub fn new(state: Arc<State>) -> Storage {
        let applied = watch::Sender::new(state.applied());
        let listeners = Listeners::default();
        Storage {
            shared: Arc::new(Shared {
                view: ArcSwap::new(state),
                applied,
                listeners,
            }),
        }
    }

    /// Makes a state visible, and what led to it from the one before: the changes of all entries in between, in order. Without changes
    /// only batches were merged.
    ///
    /// Called by the one driver that applies entries.
    pub fn publish(&self, view: Arc<State>, changes: Vec<Arc<Changes>>) {
        let applied = view.applied();
        self.shared
            .listeners
            .publish(&changes, || self.shared.view.store(view.clone()), &view);
        self.shared
            .applied
            .send_if_modified(|now| std::mem::replace(now, applied) != applied);
    }

    /// Makes a state visible that did not come about entry by entry: a snapshot was installed. Listeners get a [`Jump`].
    pub fn install(&self, view: Arc<State>) {
        let applied = view.applied();
        self.shared
            .listeners
            .jump(|| self.shared.view.store(view.clone()), &view);
        self.shared
            .applied
            .send_if_modified(|now| std::mem::replace(now, applied) != applied);
    }

    /// The newest applied state.
    pub fn view(&self) -> Arc<State> {
        self.shared.view.load_full()
    }

    /// The newest state and every change after it, without a gap.
    pub fn listen(&self) -> (Arc<State>, Listener) {
        self.listen_for(|_| true)
    }

    /// Like [`Storage::listen`], without the entries that are not of interest. Jumps are told always.
    pub fn listen_for(&self, interest: Interest) -> (Arc<State>, Listener) {
        self.shared
            .listeners
            .listen(interest, || self.shared.view.load_full())
    }

    /// The index of the newest state, as it moves.
    pub fn watch_applied(&self) -> watch::Receiver<u64> {
        self.shared.applied.subscribe()
    }

    /// Waits until the command at `index` (or a later one) has been applied, and returns a state that has it. Entries without a command
    /// move it only if the driver publishes after [`State::advance`].
    pub async fn wait_applied(&self, index: u64) -> Arc<State> {
        let mut applied = self.watch_applied();
        // The sender lives as long as `self`.
        let _ = applied.wait_for(|now| *now >= index).await;
        self.view()
    }

    /// The rows of a shard at `ts`.
    ///
    /// # Errors
    /// See [`State::readable`].
    pub fn snapshot(&self, shard: ShardId, ts: Timestamp) -> Result<Snapshot, ReadError> {
        snapshot(&self.view(), shard, ts)
    }

    /// The rows that have a key of one of the shard's key spaces at `ts`; the key is canonical.
    ///
    /// # Errors
    /// See [`State::readable`].
    pub fn lookup(
        &self,
        shard: ShardId,
        space: usize,
        key: &Row,
        ts: Timestamp,
    ) -> Result<Vec<(Row, Diff)>, ReadError> {
        lookup(&self.view(), shard, space, key, ts)
    }

    /// Calls `f` with each row of a shard at `ts`, without copying.
    ///
    /// # Errors
    /// See [`State::readable`].
    pub fn scan_with(
        &self,
        shard: ShardId,
        ts: Timestamp,
        f: impl FnMut(RowRef<'_>, Diff),
    ) -> Result<(), ReadError> {
        self.view().readable(shard, ts)?.for_each(ts, f);
        Ok(())
    }

    /// All updates of a shard, pinned, for a dataflow that starts at `as_of`.
    ///
    /// # Errors
    /// See [`State::readable`].
    pub fn history(&self, shard: ShardId, as_of: Timestamp) -> Result<History, ReadError> {
        history(&self.view(), shard, as_of)
    }
}

/// The rows of a shard at one time, consolidated, in the order of their bytes. It owns what it reads.
pub struct Snapshot {
    cursor: SnapshotCursor,
}

impl Snapshot {
    /// The next row, borrowed, and its multiplicity.
    pub fn next_ref(&mut self) -> Option<(RowRef<'_>, Diff)> {
        self.cursor.next()
    }
}

impl Iterator for Snapshot {
    type Item = (Row, Diff);

    fn next(&mut self) -> Option<(Row, Diff)> {
        self.cursor.next().map(|(row, diff)| (row.to_row(), diff))
    }
}

/// The rows of a shard at `ts`, in a given state.
///
/// # Errors
/// See [`State::readable`].
pub fn snapshot(state: &State, shard: ShardId, ts: Timestamp) -> Result<Snapshot, ReadError> {
    Ok(Snapshot {
        cursor: state.readable(shard, ts)?.cursor(ts),
    })
}

/// The rows with a key at `ts`, in a given state.
///
/// # Errors
/// See [`State::readable`].
pub fn lookup(
    state: &State,
    shard: ShardId,
    space: usize,
    key: &Row,
    ts: Timestamp,
) -> Result<Vec<(Row, Diff)>, ReadError> {
    let mut found = vec![];
    state
        .readable(shard, ts)?
        .lookup(space, key.as_ref(), ts, |row, diff| {
            found.push((row.to_row(), diff))
        });
    Ok(found)
}

#[cfg(test)]
mod tests;
