//! A replica: its worker threads, and the handle through which everybody talks to them.

use crate::exert::{Exertion, worker_config};
use crate::feed::{FeedError, TableChanges, TableFeed};
use crate::mailbox::{Mailbox, Order, RoutedCommand, Snapshots, lock};
use crate::peek::{PeekTask, PendingPeeks, Reply};
use crate::render::arrange::key_hash;
use crate::worker::{ComputeWorker, WorkerShared};
use host::{Clock, Spawn, ThreadHandle};
use plan::EvalError;
use protocol::compute::{Command, Numbered, Peek, PeekId, Response};
use repr::{Row, ShardId};
use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use timely::CommunicationConfig;
use timely::communication::{Allocator, AllocatorBuilder};

/// How a replica runs.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Threads; at least one.
    pub workers: usize,
    /// How hard idle arrangements are merged.
    pub exertion: Exertion,
    /// Arrangements may occupy this many bytes; beyond that the youngest dataflow fails.
    pub memory_bytes_max: Option<u64>,
    /// Peeks that may wait per worker.
    pub peeks_max: usize,
}

impl Default for ReplicaConfig {
    fn default() -> Self {
        ReplicaConfig {
            workers: 1,
            exertion: Exertion::default(),
            memory_bytes_max: None,
            peeks_max: 100_000,
        }
    }
}

/// Takes responses, on a worker's thread: it must not block.
pub type ResponseSink = Arc<dyn Fn(Response) + Send + Sync>;

/// Starts replicas.
pub struct Replica;

impl Replica {
    /// Starts the worker threads.
    ///
    /// # Errors
    /// If the system refuses another thread.
    pub fn spawn(
        config: ReplicaConfig,
        feed: Arc<dyn TableFeed>,
        responses: ResponseSink,
        clock: Arc<dyn Clock>,
        spawner: &dyn Spawn,
    ) -> io::Result<ReplicaHandle> {
        let workers = config.workers.max(1);
        let (builders, _no_network) = CommunicationConfig::Process(workers)
            .try_build()
            .map_err(io::Error::other)?;
        let mailboxes: Arc<[Arc<Mailbox>]> = (0..workers).map(|_| Arc::default()).collect();
        let timely_config = worker_config(config.exertion);
        let bytes: Arc<[AtomicU64]> = (0..workers).map(|_| AtomicU64::new(0)).collect();
        let bytes_max = Arc::new(AtomicU64::new(as_limit(config.memory_bytes_max)));
        let mut threads = vec![];
        for (index, builder) in builders.into_iter().enumerate() {
            let shared = WorkerShared {
                config: config.clone(),
                mailboxes: Arc::clone(&mailboxes),
                responses: Arc::clone(&responses),
                clock: Arc::clone(&clock),
                bytes: Arc::clone(&bytes),
                bytes_max: Arc::clone(&bytes_max),
            };
            let timely_config = timely_config.clone();
            // Timely decides by its own timer how long it may sleep; without one it never does.
            let timer = std::time::Instant::now();
            let run = move || {
                let worker = timely::worker::Worker::new(
                    timely_config,
                    allocator(builder, workers),
                    Some(timer),
                );
                ComputeWorker::new(worker, index, shared).run();
            };
            threads.push(spawner.spawn_thread(
                &format!("compute-{index}"),
                Box::new(move || abort_on_panic(run)),
            )?);
        }
        let inner = Inner {
            mailboxes,
            bytes,
            bytes_max,
            pending: PendingPeeks::default(),
            feed,
            ordering: Mutex::new(()),
            threads: Mutex::new(threads),
            shards: Mutex::default(),
            serving: AtomicBool::new(false),
        };
        Ok(ReplicaHandle {
            inner: Arc::new(inner),
        })
    }
}

/// As the workers look at it: without one, no number is beyond it.
fn as_limit(bytes_max: Option<u64>) -> u64 {
    bytes_max.unwrap_or(u64::MAX)
}

/// One worker needs no channels between threads.
fn allocator(builder: AllocatorBuilder, workers: usize) -> Allocator {
    match builder {
        AllocatorBuilder::Process(builder) if workers > 1 => Allocator::Process(builder.build()),
        AllocatorBuilder::Process(_) | AllocatorBuilder::Thread(_) | AllocatorBuilder::Tcp(_) => {
            Allocator::Thread(Default::default())
        }
    }
}

/// A panic in a worker is a bug, and leaves other workers waiting for ever: the process ends.
fn abort_on_panic(run: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
        tracing::error!("a compute worker panicked; the process ends");
        std::process::abort();
    }
}

/// Talks to a replica. Cloning shares it; the replica stops with the last handle.
#[derive(Clone)]
pub struct ReplicaHandle {
    inner: Arc<Inner>,
}

struct Inner {
    mailboxes: Arc<[Arc<Mailbox>]>,
    /// Bytes of arrangements, per worker.
    bytes: Arc<[AtomicU64]>,
    /// What they may have together.
    bytes_max: Arc<AtomicU64>,
    pending: PendingPeeks,
    feed: Arc<dyn TableFeed>,
    /// Held while orders are handed out, so that all workers see one order, and so that a snapshot and the changes after it fit together.
    ordering: Mutex<()>,
    threads: Mutex<Vec<ThreadHandle>>,
    /// Shards that some dataflow has read.
    shards: Mutex<BTreeSet<ShardId>>,
    /// There has been a dataflow. Changed in `ordering` only.
    serving: AtomicBool,
}

impl ReplicaHandle {
    /// Arrangements may occupy this many bytes from now on. A dataflow that was stopped for its size has to be told to begin again.
    pub fn set_memory_bytes_max(&self, bytes_max: Option<u64>) {
        let limit = as_limit(bytes_max);
        self.inner.bytes_max.store(limit, Ordering::Relaxed);
    }

    /// Gives the workers a command. Commands must come in the order of their numbers.
    pub fn send(&self, numbered: Numbered) {
        let _in_order = lock(&self.inner.ordering);
        let snapshots = match &numbered.command {
            Command::CreateDataflow { dataflow, .. } => {
                self.inner.serving.store(true, Ordering::Relaxed);
                self.snapshots(dataflow)
            }
            Command::Hello
            | Command::AllowCompaction { .. }
            | Command::CancelPeek { .. }
            | Command::InitializationComplete => Ok(Snapshots::new()),
        };
        self.broadcast(&Order::Command(Arc::new(RoutedCommand {
            numbered,
            snapshots,
        })));
    }

    fn snapshots(&self, dataflow: &plan::Dataflow) -> Result<Snapshots, EvalError> {
        let Some(as_of) = dataflow.as_of else {
            return Err(EvalError::new(
                "XX000",
                format!("dataflow {} has no as_of", dataflow.name),
            ));
        };
        let mut snapshots = Snapshots::new();
        for source in dataflow.sources.values() {
            let snapshot = self
                .inner
                .feed
                .snapshot(source.shard, as_of)
                .map_err(|error| not_readable(&error))?;
            snapshots.insert(source.shard, snapshot);
            lock(&self.inner.shards).insert(source.shard);
        }
        Ok(snapshots)
    }

    pub(crate) fn shards_read(&self) -> BTreeSet<ShardId> {
        lock(&self.inner.shards).clone()
    }

    /// Tells the dataflows what was committed. Must be called in the order of commits, after the commit is visible in the feed's snapshots.
    pub fn commit(&self, changes: TableChanges) {
        let _in_order = lock(&self.inner.ordering);
        if self.inner.serving.load(Ordering::Relaxed) {
            self.broadcast(&Order::Tables(Arc::new(changes)));
            return;
        }
        // Nobody waits for these changes, and a dataflow that comes later begins with a snapshot that has them: workers go on sleeping.
        let upper = TableChanges {
            upper: changes.upper,
            writes: vec![],
        };
        let upper = Order::Tables(Arc::new(upper));
        for mailbox in self.inner.mailboxes.iter() {
            mailbox.replace_tables(upper.clone());
        }
    }

    fn broadcast(&self, order: &Order) {
        for mailbox in self.inner.mailboxes.iter() {
            mailbox.push_order(order.clone());
        }
    }

    /// Reads an arrangement. `reply` is called exactly once, on a worker's thread, and must not block.
    pub fn peek(&self, peek: Peek, reply: Reply) {
        if let [mailbox] = &*self.inner.mailboxes {
            return mailbox.push_peek(PeekTask::whole(peek, reply, &self.inner.pending));
        }
        let shares = shares(&peek, self.inner.mailboxes.len());
        for (worker, task) in PeekTask::split(Arc::new(peek), shares, reply, &self.inner.pending) {
            self.inner.mailboxes[worker].push_peek(task);
        }
    }

    /// Nobody waits for a peek any more that was given to [`ReplicaHandle::peek`] before; it may be answered all the same.
    pub fn forget_peek(&self, id: PeekId) {
        let _in_order = lock(&self.inner.ordering);
        self.broadcast(&Order::Forget(id));
    }

    /// Peeks that have not been answered: parked ones, and those that are being worked on.
    pub fn pending_peeks(&self) -> usize {
        self.inner.pending.count()
    }

    /// Bytes of arrangements, as last counted.
    pub fn arrangement_bytes(&self) -> u64 {
        let bytes = self.inner.bytes.iter();
        bytes.map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }

    /// Stops the workers and waits for them. Peeks that wait are refused.
    pub fn shutdown(&self) {
        self.inner.stop();
        for thread in std::mem::take(&mut *lock(&self.inner.threads)) {
            thread.join();
        }
    }
}

impl Inner {
    fn stop(&self) {
        let _in_order = lock(&self.ordering);
        for mailbox in self.mailboxes.iter() {
            mailbox.push_order(Order::Shutdown);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// 72000 says that history is gone: a statement that did not ask for that time may try a later one.
fn not_readable(error: &FeedError) -> EvalError {
    EvalError::new(
        match error {
            FeedError::Forgotten { .. } => "72000",
            FeedError::UnknownShard(_) | FeedError::NotReadable { .. } => "55000",
        },
        format!("an input of the dataflow cannot be read: {error}"),
    )
}

/// Which workers answer a peek: all, or the owners of its keys.
fn shares(peek: &Peek, workers: usize) -> Vec<(usize, Option<Vec<Row>>)> {
    match &peek.target.keys {
        None => (0..workers).map(|worker| (worker, None)).collect(),
        Some(keys) => {
            let mut by_worker: Vec<Vec<Row>> = vec![vec![]; workers];
            for key in keys {
                by_worker[(key_hash(key.as_ref()) % workers as u64) as usize].push(key.clone());
            }
            let mut shares: Vec<_> = by_worker
                .into_iter()
                .enumerate()
                .filter(|(_, keys)| !keys.is_empty())
                .map(|(w, keys)| (w, Some(keys)))
                .collect();
            if shares.is_empty() {
                shares.push((0, Some(vec![])));
            }
            shares
        }
    }
}
