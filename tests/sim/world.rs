//! What a simulated node runs on: its clock, its tasks, and the record of all that travels.

use bytes::Bytes;
use host::sim::JumpClock;
use host::{BoxFuture, Clock, Instant, Spawn, TaskHandle, ThreadHandle, TokioSpawn};
use mesh::{CallError, CallHandler, LinkStats, Message, Stream, StreamHandler, Transport};
use protocol::{Kind, Lane};
use repr::NodeId;
use std::hash::Hasher as _;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use xxhash_rust::xxh3::Xxh3;

/// The clock of one node: everybody's time, and a wall clock that may be wrong.
pub struct NodeClock {
    common: JumpClock,
    ahead_us: AtomicI64,
}

impl NodeClock {
    pub fn new(common: JumpClock) -> Arc<NodeClock> {
        Arc::new(NodeClock {
            common,
            ahead_us: AtomicI64::new(0),
        })
    }

    /// From now on the wall clock is this far ahead of the true one.
    pub fn set_ahead(&self, micros: i64) {
        self.ahead_us.store(micros, Ordering::Relaxed);
    }
}

impl Clock for NodeClock {
    fn wall_us(&self) -> u64 {
        let ahead = self.ahead_us.load(Ordering::Relaxed);
        self.common.wall_us().saturating_add_signed(ahead)
    }

    fn now(&self) -> Instant {
        self.common.now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.common.sleep(duration)
    }
}

/// The tasks of one life of a node: they end with it.
pub struct LifeSpawn {
    tokio: TokioSpawn,
    clock: JumpClock,
    ended: watch::Receiver<bool>,
}

impl LifeSpawn {
    pub fn new(clock: JumpClock, ended: watch::Receiver<bool>) -> LifeSpawn {
        LifeSpawn {
            tokio: TokioSpawn::current(),
            clock,
            ended,
        }
    }
}

/// What work that would go to another thread takes.
const BLOCKING_TAKES: Duration = Duration::from_millis(2);

impl Spawn for LifeSpawn {
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> TaskHandle {
        let mut ended = self.ended.clone();
        let until_the_end = async move {
            tokio::select! {
                biased;
                _ = ended.wait_for(|ended| *ended) => {}
                () = future => {}
            }
        };
        self.tokio.spawn(name, Box::pin(until_the_end))
    }

    fn spawn_blocking(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> TaskHandle {
        let done = self.clock.sleep(BLOCKING_TAKES);
        let later = async move {
            done.await;
            work();
        };
        self.spawn(name, Box::pin(later))
    }

    fn spawn_thread(&self, _: &str, _: Box<dyn FnOnce() + Send>) -> io::Result<ThreadHandle> {
        Err(io::Error::other("a simulation has no threads"))
    }
}

/// All that happened, as one number; in words on standard error with `SIM_TRACE=1`.
pub struct Trace {
    clock: JumpClock,
    hash: Mutex<Xxh3>,
    shown: bool,
}

impl Trace {
    pub fn new(clock: JumpClock) -> Arc<Trace> {
        Arc::new(Trace {
            clock,
            hash: Mutex::new(Xxh3::new()),
            shown: std::env::var_os("SIM_TRACE").is_some(),
        })
    }

    pub fn note(&self, what: &str) {
        let at = self.clock.now().as_nanos();
        if self.shown {
            eprintln!("{:>12.6} {what}", at as f64 / 1e9);
        }
        let mut hash = self.hash.lock().expect("nobody panics in here");
        hash.write_u64(at);
        hash.write(what.as_bytes());
    }

    pub fn hash(&self) -> u64 {
        self.hash.lock().expect("nobody panics in here").digest()
    }
}

/// A transport whose traffic is in the trace.
pub struct Traced {
    inner: Arc<dyn Transport>,
    trace: Arc<Trace>,
}

impl Traced {
    pub fn new(inner: Arc<dyn Transport>, trace: Arc<Trace>) -> Traced {
        Traced { inner, trace }
    }

    fn describe(&self, to: NodeId, message: &Message) -> String {
        let Message { lane, kind, body } = message;
        let hash = xxhash_rust::xxh3::xxh3_64(body);
        let from = self.inner.node();
        format!("{from} -> {to} {lane} kind {} {hash:016x}", kind.0)
    }
}

impl Transport for Traced {
    fn node(&self) -> NodeId {
        self.inner.node()
    }

    fn call(
        &self,
        to: NodeId,
        message: Message,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let what = self.describe(to, &message);
        self.trace.note(&what);
        let (trace, call) = (self.trace.clone(), self.inner.call(to, message, timeout));
        Box::pin(async move {
            let answer = call.await;
            match &answer {
                Ok(bytes) => trace.note(&format!("{what}: {} bytes", bytes.len())),
                Err(error) => trace.note(&format!("{what}: {error}")),
            }
            answer
        })
    }

    fn send(&self, to: NodeId, message: Message) -> Result<(), CallError> {
        self.trace.note(&self.describe(to, &message));
        self.inner.send(to, message)
    }

    fn open(
        &self,
        to: NodeId,
        message: Message,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Stream, CallError>> {
        self.trace.note(&self.describe(to, &message));
        self.inner.open(to, message, timeout)
    }

    fn serve_calls(&self, lane: Lane, kind: Kind, handler: Arc<dyn CallHandler>) {
        self.inner.serve_calls(lane, kind, handler);
    }

    fn serve_streams(&self, lane: Lane, kind: Kind, handler: Arc<dyn StreamHandler>) {
        self.inner.serve_streams(lane, kind, handler);
    }

    fn set_peer(&self, node: NodeId, address: &str) {
        self.inner.set_peer(node, address);
    }

    fn remove_peer(&self, node: NodeId) {
        self.inner.remove_peer(node);
    }

    fn stats(&self) -> Vec<LinkStats> {
        self.inner.stats()
    }

    fn close(&self, reason: &str) -> BoxFuture<'static, ()> {
        self.inner.close(reason)
    }
}
