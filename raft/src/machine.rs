//! The state machine of a group: what others implement, and how openraft drives it.

use std::any::Any;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use host::metrics::{self, Histogram};
use host::{Host, Instant};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{RaftSnapshotBuilder, Snapshot};
use tokio::sync::{Notify, watch};

use crate::config::replay_cost;
use crate::error::{GroupError, SnapshotError};
use crate::group::GroupStatus;
use crate::hearing::Hearing;
use crate::readers::Readers;
use crate::snapshot::{SnapshotDir, SnapshotFile};
use crate::types::{EntryPayload, LogId, Response, SnapshotMeta, StoredMembership, Types, log_pos};
use crate::wal::LogPos;
use crate::{FatalHook, GroupConfig};

/// Commands applied in one call at most, and their bytes: bounds the time of one step of the apply task.
const RUN_ENTRIES_MAX: usize = 256;
const RUN_BYTES_MAX: usize = 256 << 10;
/// Readers count as gone after this long without one.
const READERS_GONE: Duration = Duration::from_millis(50);
/// Pause before a snapshot that could not be written is tried again.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(5);

/// A committed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log. Indexes grow, but not always by one: some entries are not commands.
    pub pos: LogPos,
    /// The bytes that were proposed.
    pub payload: Bytes,
}

/// What a group replicates. All members apply the same commands in the same order, so every method must be
/// deterministic; none may block on anything.
pub trait StateMachine: Send + 'static {
    /// What a command answers to its proposer, unencoded; on other nodes it is dropped.
    type Response: Send + 'static;

    /// Applies a run of committed commands, in order, and answers each. Called once per run, so that a view can be
    /// published once per run; the responses are sent after this returns. A panic ends the process.
    fn apply(&mut self, run: &[Committed]) -> Vec<Self::Response>;

    /// The state as of now, by cloning pointers: applying waits for this call.
    fn snapshot(&self) -> Box<dyn SnapshotWriter>;

    /// Replaces the state by a snapshot's. The bytes come as they were written; each block has been checked. Errors
    /// leave the state undefined, and the node stops.
    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()>;
}

/// A state to be written out while the state machine goes on.
pub trait SnapshotWriter: Send + Sync + 'static {
    /// Writes the state. May be called again if writing failed.
    fn write(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// A state machine without its types.
trait Erased: Send {
    fn apply(&mut self, run: &[Committed]) -> Vec<Response>;
    fn snapshot(&self) -> Box<dyn SnapshotWriter>;
    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()>;
}

impl<SM: StateMachine> Erased for SM {
    fn apply(&mut self, run: &[Committed]) -> Vec<Response> {
        let responses = StateMachine::apply(self, run);
        assert_eq!(responses.len(), run.len(), "one response per command");
        responses
            .into_iter()
            .map(|response| Response::new(Box::new(response)))
            .collect()
    }

    fn snapshot(&self) -> Box<dyn SnapshotWriter> {
        StateMachine::snapshot(self)
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        StateMachine::restore(self, snapshot)
    }
}

/// What a group's handle and its state machine share.
pub(crate) struct Shared {
    pub config: GroupConfig,
    pub host: Host,
    pub snapshots: SnapshotDir,
    /// The last entry applied.
    pub applied: watch::Sender<Option<LogPos>>,
    /// Last entry in the newest durable snapshot.
    pub snapshot: watch::Sender<Option<LogPos>>,
    /// How long writing the last snapshot took, in nanoseconds.
    pub snapshot_nanos: AtomicU64,
    /// Signalled when enough has been applied for a snapshot.
    pub snapshot_due: Notify,
    /// The group has no member but this node.
    pub alone: AtomicBool,
    /// Another node leads the group.
    pub follows: AtomicBool,
    /// When somebody last asked this node's core for a read position, in nanoseconds of the host's clock.
    pub read_nanos: AtomicU64,
    /// Whether the peers answer this node while it leads.
    pub hearing: Hearing,
    pub readers: Readers,
    /// The group has been shut down.
    pub stopped: AtomicBool,
    pub fatal: FatalHook,
}

impl Shared {
    /// Whether the core task may write by itself, which saves waking the log's thread: a follower has nothing else to do with an entry, and its leader waits for it. The leader of
    /// others has to send them the entry meanwhile; one that is alone may, as long as nobody who reads is likely to wait for it behind a slow sync.
    pub fn core_may_write(&self) -> bool {
        if self.follows.load(Ordering::Relaxed) {
            return true;
        }
        let read = Instant::from_nanos(self.read_nanos.load(Ordering::Relaxed));
        self.alone.load(Ordering::Relaxed) && self.host.clock.now().since(read) > READERS_GONE
    }

    /// Takes over from a status what this node is in the group.
    pub fn set_role(&self, status: &GroupStatus) {
        let own = self.config.node;
        let alone = !status.members.is_empty() && status.members.keys().all(|node| *node == own);
        self.alone.store(alone, Ordering::Relaxed);
        let follows = status.leader.is_some_and(|leader| leader != own);
        self.follows.store(follows, Ordering::Relaxed);
        self.hearing.set_voters(&status.voters);
    }
}

/// See the module.
pub(crate) struct Machine {
    shared: Arc<Shared>,
    inner: Arc<Mutex<Inner>>,
    pause_seconds: Histogram,
    run_entries: Histogram,
    /// Refuse entries that leave a gap. Off only for openraft's storage suite, which makes gaps.
    strict: bool,
}

struct Inner {
    state: Box<dyn Erased>,
    last: Option<LogId>,
    membership: StoredMembership,
    current: Option<SnapshotFile>,
    /// What was applied since the last snapshot was cut, see [`replay_cost`].
    log_since_snapshot: u64,
}

impl Machine {
    /// The state machine as of its newest snapshot. Errors: the snapshot is damaged or cannot be restored.
    pub fn open(shared: Arc<Shared>, state: impl StateMachine) -> Result<Machine, SnapshotError> {
        let mut inner = Inner {
            state: Box::new(state),
            last: None,
            membership: StoredMembership::default(),
            current: None,
            log_since_snapshot: 0,
        };
        if let Some(snapshot) = shared.snapshots.newest()? {
            inner.install(&snapshot)?;
        }
        shared
            .applied
            .send_replace(inner.last.as_ref().map(log_pos));
        shared.snapshot.send_replace(inner.snapshot_last());
        let pause_seconds = metrics::histogram(
            "clusterd_raft_snapshot_pause_seconds",
            "Time that cutting a snapshot keeps a group from applying",
            metrics::SECONDS_BUCKETS,
        );
        let run_entries = metrics::histogram(
            "clusterd_raft_apply_run_entries",
            "Commands applied in one step",
            metrics::COUNT_BUCKETS,
        );
        Ok(Machine {
            shared,
            inner: Arc::new(Mutex::new(inner)),
            pause_seconds,
            run_entries,
            strict: true,
        })
    }

    #[cfg(test)]
    pub fn lenient(self) -> Machine {
        Machine {
            strict: false,
            ..self
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply_run(&self, run: &mut Run) -> io::Result<()> {
        let Run {
            commands,
            responders,
            bytes: _,
            cost,
            consecutive,
            first,
            last,
            membership,
        } = std::mem::take(run);
        let (Some(first), Some(last)) = (first, last) else {
            return Ok(());
        };
        let mut inner = self.lock();
        let follows = inner.last.is_none_or(|last| last.index() + 1 == first);
        if self.strict && !(follows && consecutive) {
            // Going on without a committed entry would make this node differ from the others for ever.
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "committed entries are missing",
            ));
        }
        // Whoever looks at the state may see it before this returns.
        self.shared.readers.tells(log_pos(&last));
        let responses = if commands.is_empty() {
            Vec::new()
        } else {
            self.run_entries.observe(commands.len() as f64);
            let state = &mut inner.state;
            match catch_unwind(AssertUnwindSafe(|| state.apply(&commands))) {
                Ok(responses) => responses,
                Err(panic) => return Err(self.apply_failed(commands[0].pos.index, &*panic)),
            }
        };
        inner.last = Some(last);
        if let Some(membership) = membership {
            inner.membership = membership;
        }
        inner.log_since_snapshot += cost;
        let snapshot_bytes = inner.current.as_ref().map_or(0, |file| file.file_bytes);
        let due = inner.log_since_snapshot >= self.shared.config.snapshot_due_at(snapshot_bytes);
        drop(inner);
        self.shared.applied.send_replace(Some(log_pos(&last)));
        for (responder, response) in responders.into_iter().zip(responses) {
            if let Some(responder) = responder {
                responder.send(response);
            }
        }
        if due {
            self.shared.snapshot_due.notify_one();
        }
        Ok(())
    }

    fn apply_failed(&self, index: u64, panic: &(dyn Any + Send)) -> io::Error {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let message = text
            .or(panic.downcast_ref::<&str>().copied())
            .unwrap_or("panic")
            .to_owned();
        let error = GroupError::ApplyFailed {
            group: self.shared.config.group.0,
            index,
            message,
        };
        (self.shared.fatal)(&error);
        io::Error::other(error)
    }
}

impl Inner {
    fn snapshot_last(&self) -> Option<LogPos> {
        self.current
            .as_ref()
            .and_then(|s| s.meta.last_log_id.as_ref().map(log_pos))
    }

    fn install(&mut self, snapshot: &SnapshotFile) -> Result<(), SnapshotError> {
        snapshot.restore(|reader| self.state.restore(reader))?;
        let SnapshotMeta {
            last_log_id,
            last_membership,
        } = &snapshot.meta;
        self.last = *last_log_id;
        self.membership = last_membership.clone();
        self.current = Some(snapshot.clone());
        self.log_since_snapshot = 0;
        Ok(())
    }
}

/// Committed entries gathered for one call of the state machine.
struct Run {
    commands: Vec<Committed>,
    responders: Vec<Option<ApplyResponder<Types>>>,
    bytes: usize,
    /// What replaying it will cost.
    cost: u64,
    /// No index was passed over.
    consecutive: bool,
    first: Option<u64>,
    last: Option<LogId>,
    membership: Option<StoredMembership>,
}

impl Default for Run {
    fn default() -> Run {
        let (commands, responders) = (Vec::new(), Vec::new());
        Run {
            commands,
            responders,
            bytes: 0,
            cost: 0,
            consecutive: true,
            first: None,
            last: None,
            membership: None,
        }
    }
}

impl Run {
    fn push(&mut self, (entry, responder): EntryResponder<Types>) {
        let id = entry.log_id;
        self.consecutive &= self.last.is_none_or(|last| last.index() + 1 == id.index());
        self.first.get_or_insert(id.index());
        self.last = Some(id);
        match entry.payload {
            EntryPayload::Normal(payload) => {
                self.bytes += payload.0.len();
                self.cost += replay_cost(payload.0.len());
                self.commands.push(Committed {
                    pos: log_pos(&id),
                    payload: payload.0,
                });
                self.responders.push(responder);
            }
            EntryPayload::Blank => respond_empty(responder),
            EntryPayload::Membership(membership) => {
                self.membership = Some(StoredMembership::new(Some(id), membership));
                respond_empty(responder);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.commands.len() >= RUN_ENTRIES_MAX || self.bytes >= RUN_BYTES_MAX
    }
}

/// Entries that are not commands have no view to be published first, so their proposers hear at once.
fn respond_empty(responder: Option<ApplyResponder<Types>>) {
    if let Some(responder) = responder {
        responder.send(Response::none());
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let inner = self.lock();
        Ok((inner.last, inner.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + Send,
    {
        let mut run = Run::default();
        while let Some(entry) = entries.next().await {
            run.push(entry?);
            if run.is_full() {
                self.apply_run(&mut run)?;
                // A long log after a restart must not keep others from this core.
                tokio::task::yield_now().await;
            }
        }
        self.apply_run(&mut run)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let before = self.shared.host.clock.now();
        let mut inner = self.lock();
        let content = inner.state.snapshot();
        let meta = SnapshotMeta {
            last_log_id: inner.last,
            last_membership: inner.membership.clone(),
        };
        inner.log_since_snapshot = 0;
        drop(inner);
        self.pause_seconds
            .observe((self.shared.host.clock.now() - before).as_secs_f64());
        Builder {
            shared: self.shared.clone(),
            inner: self.inner.clone(),
            meta,
            content: content.into(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> io::Result<()> {
        let shared = self.shared.clone();
        let inner = self.inner.clone();
        let snapshot = SnapshotFile {
            meta: meta.clone(),
            ..snapshot
        };
        let install = move || -> Result<(), SnapshotError> {
            let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.install(&snapshot)?;
            inner.current = Some(shared.snapshots.adopt(&snapshot)?);
            shared
                .applied
                .send_replace(inner.last.as_ref().map(log_pos));
            shared.snapshot.send_replace(inner.snapshot_last());
            Ok(())
        };
        blocking(&self.shared.host, "raft-install", install).await
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<Snapshot<ClidOf, u64, crate::Member, SnapshotFile>>> {
        let current = self.lock().current.clone();
        Ok(current.map(|file| Snapshot {
            meta: file.meta.clone(),
            snapshot: file,
        }))
    }
}

pub(crate) type ClidOf = openraft::type_config::alias::CommittedLeaderIdOf<Types>;

/// Runs `work` off the async threads.
async fn blocking(
    host: &Host,
    name: &'static str,
    work: impl FnOnce() -> Result<(), SnapshotError> + Send + 'static,
) -> io::Result<()> {
    let (done, result) = tokio::sync::oneshot::channel();
    // A receiver that is gone belongs to a group that was shut down.
    host.spawn
        .spawn_blocking(name, Box::new(move || drop(done.send(work()))));
    match result.await {
        Ok(result) => result.map_err(io::Error::other),
        Err(_) => Err(io::Error::other("work on a snapshot panicked")),
    }
}

/// Writes one snapshot, cut when this was made.
pub(crate) struct Builder {
    shared: Arc<Shared>,
    inner: Arc<Mutex<Inner>>,
    meta: SnapshotMeta,
    content: Arc<dyn SnapshotWriter>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(
        &mut self,
    ) -> io::Result<Snapshot<ClidOf, u64, crate::Member, SnapshotFile>> {
        loop {
            match self.write().await {
                Ok(()) => break,
                // openraft does not end this task with the group.
                Err(error) if self.shared.stopped.load(Ordering::Relaxed) => return Err(error),
                // Ending the group for want of space would make matters worse: the log stays, and is longer.
                Err(error) => tracing::warn!(%error, "cannot write a snapshot; trying again"),
            }
            self.shared.host.clock.sleep(SNAPSHOT_RETRY).await;
        }
        let current = self
            .inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .current
            .clone();
        let file = current.ok_or_else(|| io::Error::other("the snapshot just written is gone"))?;
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: file,
        })
    }
}

impl Builder {
    async fn write(&self) -> io::Result<()> {
        let (shared, inner) = (self.shared.clone(), self.inner.clone());
        let (meta, content) = (self.meta.clone(), self.content.clone());
        let write = move || -> Result<(), SnapshotError> {
            let before = shared.host.clock.now();
            let file = shared
                .snapshots
                .write(&meta, &mut |out| content.write(out))?;
            let took = shared.host.clock.now() - before;
            shared
                .snapshot_nanos
                .store(took.as_nanos() as u64, Ordering::Relaxed);
            let bytes = file.file_bytes;
            let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
            let newer = inner
                .current
                .as_ref()
                .is_some_and(|c| c.meta.last_log_id > file.meta.last_log_id);
            if !newer {
                inner.current = Some(file);
            }
            shared.snapshot.send_replace(inner.snapshot_last());
            drop(inner);
            tracing::info!(group = shared.config.group.0, bytes, "wrote a snapshot");
            Ok(())
        };
        blocking(&self.shared.host, "raft-snapshot", write).await
    }
}
