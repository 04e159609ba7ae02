//! ENV as one node sees it: the Raft group that replicates S, and the tables that S holds.
//!
//! [`Machine`] plugs [`state::State`] into the group: it decodes entries, applies them, and publishes one view per run of entries. [`Env`] is the handle that sessions, the
//! group commit and the controllers use, whichever node leads: `leader` asks the one that does, `serve` answers for it.

mod leader;
mod serve;

pub use leader::Applied;

use crate::adapter::commit::Committer;
use crate::adapter::error::{Result, SqlError};
use crate::node::Clocks;
use host::Host;
use host::metrics::{BusyMeter, Gauge, gauge_f64};
use mesh::Transport;
use parking_lot::Mutex;
use raft::{Committed, Election, RaftGroup, SnapshotWriter, StateMachine};
use repr::{NodeId, Timestamp};
use state::command::CatalogOp;
use state::{Command, Outcome, State, Txn};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use storage::Storage;

/// When nothing was written for this long, time is moved on so that frontiers and temporal filters progress.
const CLOSE_EVERY: Duration = Duration::from_secs(1);
/// Pause between looking for merges while there are commits.
const MERGE_EVERY: Duration = Duration::from_millis(100);
/// Updates rewritten in one round of merging.
const MERGE_UPDATES_MAX: usize = 4_000_000;

/// The hash of the state is kept at each index that is a multiple of this, to be compared between nodes.
const MARK_EVERY: u64 = 256;
/// How many of them are kept: nodes that lag further behind each other are not compared.
const MARKS_MAX: usize = 256;

/// Hashes of the state at some indexes, the newest last.
type Marks = Arc<Mutex<VecDeque<(u64, u64)>>>;

/// The state machine of ENV's group.
pub struct Machine {
    state: Arc<Mutex<State>>,
    storage: Storage,
    marks: Marks,
    meter: BusyMeter,
}

impl Machine {
    /// The machine before the first entry, and the tables that will follow it.
    pub fn new() -> (Machine, Arc<Mutex<State>>, Storage) {
        let state = State::new();
        let storage = Storage::new(Arc::new(state.clone()));
        let state = Arc::new(Mutex::new(state));
        let machine = Machine {
            state: Arc::clone(&state),
            storage: storage.clone(),
            marks: Marks::default(),
            meter: BusyMeter::named("env-state-apply"),
        };
        (machine, state, storage)
    }
}

impl Machine {
    /// Where the state's hashes are found.
    pub fn marks(&self) -> Marks {
        Arc::clone(&self.marks)
    }

    fn mark(&self, index: u64, hash: u64) {
        let mut marks = self.marks.lock();
        if marks.len() == MARKS_MAX {
            marks.pop_front();
        }
        marks.push_back((index, hash));
    }
}

impl StateMachine for Machine {
    type Response = Vec<Outcome>;

    fn apply(&mut self, run: &[Committed]) -> Vec<Vec<Outcome>> {
        let _busy = self.meter.start();
        let mut state = self.state.lock();
        let mut changes = Vec::with_capacity(run.len());
        let mut responses = Vec::with_capacity(run.len());
        for entry in run {
            // Entries in between that are not commands leave gaps in the indexes.
            let outcomes = match Command::decode(&entry.payload) {
                Ok(command) => {
                    let applied = state.apply(entry.pos.index, &command);
                    changes.push(applied.changes);
                    if entry.pos.index % MARK_EVERY == 0 {
                        self.mark(entry.pos.index, state.hash());
                    }
                    applied.outcomes
                }
                // Going on without it would make this node's state another one than the others'.
                Err(error) => panic!(
                    "entry {} of ENV's log cannot be read by this binary: {error}",
                    entry.pos.index
                ),
            };
            responses.push(outcomes);
        }
        // Under the lock: a merge installed in between must not be undone by an older view.
        self.storage.publish(Arc::new(state.clone()), changes);
        responses
    }

    fn snapshot(&self) -> Box<dyn SnapshotWriter> {
        Box::new(Snapshot(self.state.lock().clone()))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let restored = State::read_snapshot(snapshot).map_err(io::Error::other)?;
        let mut state = self.state.lock();
        *state = restored;
        self.storage.install(Arc::new(state.clone()));
        Ok(())
    }
}

struct Snapshot(State);

impl SnapshotWriter for Snapshot {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.0.write_snapshot(out).map_err(io::Error::other)
    }
}

/// Merges batches of tables, off the apply path. Runs from before the log is replayed: each lookup of a key goes through all
/// batches, so a replay that lets them pile up takes time with the square of the log's length.
pub async fn merge(state: Arc<Mutex<State>>, storage: Storage, host: Host) {
    let mut applied = storage.watch_applied();
    loop {
        let view = storage.view();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let work = move || {
            // The receiver is gone only when the process stops.
            let _ = sender.send(storage::merge_once(&view, MERGE_UPDATES_MAX));
        };
        host.spawn.spawn_blocking("merge", Box::new(work));
        let Ok(run) = receiver.await else { return };
        if run.done.is_empty() {
            if applied.changed().await.is_err() {
                return;
            }
            host.clock.sleep(MERGE_EVERY).await;
            continue;
        }
        let mut state = state.lock();
        let mut installed = false;
        for done in &run.done {
            installed |= state.install_merge(done);
        }
        if installed {
            storage.publish(Arc::new(state.clone()), vec![]);
        }
    }
}

/// The handle on ENV.
pub struct Env {
    group: RaftGroup<Machine>,
    storage: Storage,
    host: Host,
    transport: Arc<dyn Transport>,
    /// How long a request looks for a leader before it fails.
    patience: Duration,
    /// The last request that looked for a leader found none: the next ones have a tenth of the patience, so that a minority fails fast.
    abandoned: AtomicBool,
    /// How far this node's clock is behind or ahead of the others': see [`crate::node::clocks`].
    clocks: Clocks,
    marks: Marks,
    /// Where the transactions of other gateways queue while this node leads.
    committer: OnceLock<Committer>,
}

impl Env {
    pub fn new(
        group: RaftGroup<Machine>,
        storage: Storage,
        marks: Marks,
        host: Host,
        transport: Arc<dyn Transport>,
        election: Election,
    ) -> Arc<Env> {
        Arc::new(Env {
            group,
            storage,
            host,
            transport,
            patience: 2 * election.leader_wait(),
            abandoned: AtomicBool::new(false),
            clocks: Clocks::default(),
            marks,
            committer: OnceLock::new(),
        })
    }

    /// The newest index at which the state's hash is known here, and the hash.
    pub fn newest_mark(&self) -> Option<(u64, u64)> {
        self.marks.lock().back().copied()
    }

    /// The state's hash at an index, if it is still known here.
    pub fn mark_at(&self, index: u64) -> Option<u64> {
        let marks = self.marks.lock();
        let at = marks.binary_search_by_key(&index, |(at, _)| *at).ok()?;
        Some(marks[at].1)
    }

    /// This node's membership in the group.
    pub fn group(&self) -> &RaftGroup<Machine> {
        &self.group
    }

    /// What is known of the other nodes' clocks.
    pub fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// Hands leadership to another voter, if this node has it and there is another. Returns when it is gone, or cannot be.
    pub async fn hand_over(&self) {
        let status = self.group.status().borrow().clone();
        let own = self.node().0;
        let heir = self.group.most_caught_up();
        if !status.is_leader {
            return;
        }
        let Some(heir) = heir.filter(|heir| *heir != own) else {
            return;
        };
        if let Err(error) = self.group.transfer_leader(heir).await {
            tracing::warn!(%error, heir, "leadership was not handed over");
            return;
        }
        let mut status = self.group.status();
        let moved = status.wait_for(|status| status.leader.is_some_and(|leader| leader != own));
        tokio::select! {
            biased;
            _ = moved => {}
            () = self.host.clock.sleep(self.patience) => tracing::warn!("leadership was not handed over in time"),
        }
    }

    pub fn node(&self) -> NodeId {
        self.transport.node()
    }

    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// This node's clock, but not far ahead of the others': timestamps never go back, so one fast clock would hurry everybody.
    pub fn wall_us(&self) -> u64 {
        self.clocks.clamp(self.host.clock.wall_us())
    }

    pub fn leader(&self) -> Option<NodeId> {
        self.group.leader().map(NodeId)
    }

    pub fn term(&self) -> u64 {
        self.group.term()
    }

    /// Refuses a transaction that could make the data larger while the disk is nearly full.
    pub fn admits(&self, txn: &Txn) -> Result<()> {
        if self.group.disk_low() && txn_grows(txn) {
            Err(disk_full())
        } else {
            Ok(())
        }
    }

    /// Waits until time has passed `ts`, so that nothing can be written at it any more.
    pub async fn wait_for_time(&self, ts: Timestamp) -> Result<()> {
        let mut applied = self.storage.watch_applied();
        while self.storage.view().last_ts() < ts {
            if applied.changed().await.is_err() {
                return Err(SqlError::shutdown());
            }
        }
        Ok(())
    }

    /// Moves time on while nothing is written.
    pub async fn close_when_idle(self: Arc<Self>) {
        let mut before = 0;
        loop {
            self.host.clock.sleep(CLOSE_EVERY).await;
            let now = self.storage.view().last_ts();
            // One node does it for all; a new leader begins at its first turn.
            if now == before
                && self.group.is_leader()
                && let Err(error) = self
                    .propose_as_leader(&Command::Close {
                        wall_us: self.wall_us(),
                    })
                    .await
            {
                tracing::warn!(%error, "time was not moved on");
            }
            before = self.storage.view().last_ts();
        }
    }

    /// Keeps the gauges of the state current.
    pub async fn report(self: Arc<Self>) {
        let stored = gauge_f64("clusterd_stored_bytes", "Bytes of rows in all tables.");
        let applied = gauge_f64(
            "clusterd_env_applied_index",
            "Log index that this node has applied.",
        );
        let lag = gauge_f64(
            "clusterd_env_time_lag_seconds",
            "How far the last closed timestamp is behind the wall clock.",
        );
        let set = |gauge: &Gauge, value: f64| gauge.set(value);
        loop {
            let view = self.storage.view();
            set(&stored, view.stored_bytes() as f64);
            set(&applied, view.applied() as f64);
            set(
                &lag,
                self.wall_us().saturating_sub(view.last_ts()) as f64 / 1e6,
            );
            self.host.clock.sleep(Duration::from_secs(1)).await;
        }
    }

    pub async fn shutdown(&self) {
        self.group.shutdown().await;
    }
}

/// Whether a command may make the stored data larger. Deletes, drops and bookkeeping live on the log's reserve.
fn grows(command: &Command) -> bool {
    match command {
        Command::Batch(batch) => batch.txns.iter().any(txn_grows),
        Command::Stage { .. } => true,
        Command::Init { .. }
        | Command::Close { .. }
        | Command::Holds { .. }
        | Command::Lease { .. }
        | Command::ExpireLease { .. }
        | Command::EndSession { .. }
        | Command::EndSessions { .. }
        | Command::GatewayStarted { .. }
        | Command::Authority(_)
        | Command::Node(_)
        | Command::Place { .. } => false,
    }
}

fn txn_grows(txn: &Txn) -> bool {
    let adds = txn
        .writes
        .iter()
        .any(|w| w.updates.iter().any(|(_, diff)| *diff > 0));
    let creates = txn
        .catalog_ops
        .iter()
        .any(|op| !matches!(op, CatalogOp::DropItems(_) | CatalogOp::DropSchema(_)));
    adds || creates || txn.staged > 0
}

pub(crate) fn disk_full() -> SqlError {
    SqlError::new(
        "53100",
        "could not write to the log: the disk is nearly full",
    )
    .hint("Free some space. Reads, DROP and TRUNCATE go on working.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use repr::{Datum, Row, ShardId};
    use state::command::{Gateway, Session, Token, Write};

    fn txn(diffs: &[i64]) -> Txn {
        let gateway = Gateway {
            node: NodeId(1),
            incarnation: 1,
        };
        let token = Token {
            session: Session { gateway, number: 1 },
            seq: 1,
            base: 0,
        };
        let updates = diffs
            .iter()
            .map(|diff| (Row::pack_slice(&[Datum::Int32(1)]), *diff))
            .collect();
        let writes = vec![Write {
            shard: ShardId(1),
            updates,
            truncate: diffs.is_empty(),
        }];
        Txn {
            token,
            schema: vec![],
            catalog_ops: vec![],
            checks: vec![],
            writes,
            staged: 0,
        }
    }

    #[test]
    fn deletes_and_truncate_do_not_grow_the_data() {
        assert!(!txn_grows(&txn(&[-1, -2])));
        assert!(!txn_grows(&txn(&[])));
        assert!(txn_grows(&txn(&[-1, 1])));
        let dropping = Txn {
            catalog_ops: vec![CatalogOp::DropItems(vec![])],
            ..txn(&[])
        };
        assert!(!txn_grows(&dropping));
    }
}
