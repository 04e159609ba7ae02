//! The sessions of this node: who they are, and how their statements are ended from outside.

use crate::adapter::error::{Result, SqlError};
use futures::task::AtomicWaker;
use host::Rng;
use host::metrics::{IntGauge, gauge};
use parking_lot::Mutex;
use repr::NodeId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

/// Connections of one node; more are refused (53300).
pub const SESSIONS_MAX: usize = 5_000;
/// A pid is the node's slot (10 bits) and a counter (21 bits), so that a cancel request that reaches another node can be sent on.
const COUNTER_BITS: u32 = 21;
const SLOT_MASK: u32 = 0x3ff;

/// Which of the 1,024 slots of pids a node's sessions are in.
pub fn slot_of_node(node: NodeId) -> u32 {
    (node.0 & u64::from(SLOT_MASK)) as u32
}

/// The slot that a pid is in.
pub fn slot_of_pid(pid: i32) -> u32 {
    (pid as u32 >> COUNTER_BITS) & SLOT_MASK
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey {
    pub pid: i32,
    pub secret: i32,
    /// Unique in the life of the process.
    pub number: u64,
}

/// Ends the running statement of one session, or the session.
#[derive(Debug, Default)]
pub struct CancelHandle {
    running: AtomicBool,
    cancelled: AtomicBool,
    /// The client is gone: nothing that runs or would run here is wanted.
    hung_up: AtomicBool,
    stopping: AtomicBool,
    committing: AtomicU32,
    /// When the running statement has used up its time.
    deadline: Mutex<Option<tokio::time::Instant>>,
    /// The session's task. One task at a time waits here.
    waiter: AtomicWaker,
}

/// Why a session's statement is to end early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    Cancelled,
    /// The server stops.
    Shutdown,
}

impl From<Interrupt> for SqlError {
    fn from(interrupt: Interrupt) -> SqlError {
        match interrupt {
            Interrupt::Cancelled => SqlError::cancelled(),
            Interrupt::Shutdown => SqlError::shutdown(),
        }
    }
}

impl CancelHandle {
    /// Asks the running statement to stop; without one nothing happens.
    pub fn cancel(&self) {
        if self.running.load(Ordering::Acquire) {
            self.cancelled.store(true, Ordering::Release);
            self.waiter.wake();
        }
    }

    /// Asks the running statement and all later ones to stop.
    pub fn hang_up(&self) {
        self.hung_up.store(true, Ordering::Release);
        self.waiter.wake();
    }

    /// The server stops: ends the session, idle or not.
    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.waiter.wake();
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire) || self.hung_up.load(Ordering::Acquire)
    }

    /// For work that does not await: an error once the statement was cancelled, its time is up, or the server stops.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(SqlError::cancelled());
        }
        if self.is_stopping() && !self.is_committing() {
            return Err(SqlError::shutdown());
        }
        match *self.deadline.lock() {
            Some(deadline) if tokio::time::Instant::now() >= deadline => Err(SqlError::timeout()),
            Some(_) | None => Ok(()),
        }
    }

    /// Resolves when the statement is asked to stop.
    pub async fn interrupted(&self) -> Interrupt {
        let reason = || match (self.is_cancelled(), self.is_stopping()) {
            (true, _) => Some(Interrupt::Cancelled),
            (false, true) => Some(Interrupt::Shutdown),
            (false, false) => None,
        };
        self.wait_for(reason).await
    }

    /// Resolves when the server stops.
    pub async fn stopped(&self) {
        self.wait_for(|| self.is_stopping().then_some(())).await;
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    async fn wait_for<T>(&self, happened: impl Fn() -> Option<T>) -> T {
        std::future::poll_fn(|context| {
            if let Some(happened) = happened() {
                return Poll::Ready(happened);
            }
            self.waiter.register(context.waker());
            // What happened before the waker was there has woken nobody.
            happened().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Marks a statement as running, for at most `limit`, until the guard is dropped.
    pub fn running(self: &Arc<Self>, limit: Option<Duration>) -> Running {
        let limited = limit.is_some();
        if limited {
            *self.deadline.lock() =
                limit.and_then(|limit| tokio::time::Instant::now().checked_add(limit));
        }
        self.cancelled.store(false, Ordering::Release);
        self.running.store(true, Ordering::Release);
        Running {
            handle: Arc::clone(self),
            limited,
        }
    }

    /// Past this the outcome belongs to the log, until the guard is dropped.
    pub fn commit(self: &Arc<Self>) -> Committing {
        self.committing.fetch_add(1, Ordering::AcqRel);
        Committing(Arc::clone(self))
    }

    pub fn is_committing(&self) -> bool {
        self.committing.load(Ordering::Acquire) > 0
    }
}

pub struct Running {
    handle: Arc<CancelHandle>,
    limited: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.running.store(false, Ordering::Release);
        if self.limited {
            *self.handle.deadline.lock() = None;
        }
        self.handle.cancelled.store(false, Ordering::Release);
    }
}

pub struct Committing(Arc<CancelHandle>);

impl Drop for Committing {
    fn drop(&mut self) {
        self.0.committing.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What pg_stat_activity knows of a session.
#[derive(Clone, Debug)]
pub struct Activity {
    pub pid: i32,
    pub user: String,
    pub database: String,
    /// A statement runs.
    pub active: bool,
}

struct Entry {
    secret: i32,
    handle: Arc<CancelHandle>,
    activity: Activity,
}

pub struct Sessions {
    entries: Mutex<Registry>,
    rng: Arc<dyn Rng>,
    slot: u32,
    open: IntGauge,
}

#[derive(Default)]
struct Registry {
    by_pid: BTreeMap<i32, Entry>,
    next: u64,
    stopping: bool,
}

impl Sessions {
    pub fn new(rng: Arc<dyn Rng>, slot: u32) -> Self {
        let open = gauge("clusterd_sessions", "Open SQL sessions.");
        Sessions {
            entries: Mutex::default(),
            rng,
            slot,
            open,
        }
    }

    pub fn register(&self, user: &str, database: &str) -> Result<(SessionKey, Arc<CancelHandle>)> {
        let mut registry = self.entries.lock();
        if registry.by_pid.len() >= SESSIONS_MAX {
            return Err(SqlError::fatal("53300", "sorry, too many clients already"));
        }
        let (number, pid) = loop {
            registry.next += 1;
            let counter = (registry.next % (1 << COUNTER_BITS)) as u32;
            let pid = ((self.slot << COUNTER_BITS) | counter) as i32;
            if pid != 0 && !registry.by_pid.contains_key(&pid) {
                break (registry.next, pid);
            }
        };
        let key = SessionKey {
            pid,
            secret: self.rng.next_u64() as i32,
            number,
        };
        let handle = Arc::new(CancelHandle::default());
        if registry.stopping {
            handle.stop();
        }
        let activity = Activity {
            pid,
            user: user.to_owned(),
            database: database.to_owned(),
            active: false,
        };
        registry.by_pid.insert(
            pid,
            Entry {
                secret: key.secret,
                handle: Arc::clone(&handle),
                activity,
            },
        );
        self.open.set(registry.by_pid.len() as i64);
        Ok((key, handle))
    }

    pub fn remove(&self, key: &SessionKey) {
        let mut registry = self.entries.lock();
        registry.by_pid.remove(&key.pid);
        self.open.set(registry.by_pid.len() as i64);
    }

    /// A CancelRequest packet: a wrong secret is ignored, as the protocol asks.
    pub fn cancel(&self, pid: i32, secret: &[u8]) {
        let registry = self.entries.lock();
        if let Some(entry) = registry.by_pid.get(&pid)
            && entry.secret.to_be_bytes() == secret
        {
            entry.handle.cancel();
        }
    }

    /// `pg_cancel_backend`.
    pub fn cancel_by_pid(&self, pid: i32) -> bool {
        let registry = self.entries.lock();
        let entry = registry.by_pid.get(&pid);
        if let Some(entry) = entry {
            entry.handle.cancel();
        }
        entry.is_some()
    }

    /// Ends all sessions, those that are still to come included.
    pub fn stop(&self) {
        let mut registry = self.entries.lock();
        registry.stopping = true;
        registry.by_pid.values().for_each(|e| e.handle.stop());
    }

    pub fn activity(&self) -> Vec<Activity> {
        self.entries
            .lock()
            .by_pid
            .values()
            .map(|e| Activity {
                active: e.handle.running.load(Ordering::Acquire),
                ..e.activity.clone()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_secret_cancels_and_only_a_running_statement() {
        let sessions = Sessions::new(Arc::new(host::RealRng), 1);
        let (key, handle) = sessions.register("me", "db").unwrap();
        sessions.cancel(key.pid, &key.secret.to_be_bytes());
        assert!(!handle.is_cancelled(), "nothing was running");
        let running = handle.running(None);
        sessions.cancel(key.pid, &(!key.secret).to_be_bytes());
        assert!(!handle.is_cancelled());
        sessions.cancel(key.pid, &key.secret.to_be_bytes());
        assert!(handle.is_cancelled());
        drop(running);
        assert!(!handle.is_cancelled(), "the next statement starts afresh");
        assert!(handle.check().is_ok());
        let late = handle.running(Some(Duration::ZERO));
        assert_eq!(handle.check().unwrap_err(), SqlError::timeout());
        drop(late);
        assert!(
            handle.check().is_ok(),
            "the time limit belongs to one statement"
        );
        handle.hang_up();
        let _next = handle.running(None);
        assert!(handle.is_cancelled(), "nobody is there for the next one");
        sessions.remove(&key);
        assert!(sessions.activity().is_empty());
    }

    #[test]
    fn a_waiting_session_hears_of_cancel_and_shutdown() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        runtime.block_on(async {
            let sessions = Sessions::new(Arc::new(host::RealRng), 1);
            let (key, handle) = sessions.register("me", "db").unwrap();
            let waiting = {
                let (handle, running) = (Arc::clone(&handle), handle.running(None));
                tokio::spawn(async move {
                    let _running = running;
                    handle.interrupted().await
                })
            };
            sessions.cancel(key.pid, &key.secret.to_be_bytes());
            assert_eq!(waiting.await.unwrap(), Interrupt::Cancelled);
            let idle = tokio::spawn(async move { handle.stopped().await });
            sessions.stop();
            idle.await.unwrap();
            let (_, late) = sessions.register("me", "db").unwrap();
            assert_eq!(late.interrupted().await, Interrupt::Shutdown);
        });
    }
}
