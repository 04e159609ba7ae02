//! Tasks and threads, each with a name.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Waker};

/// Wakes a task once this thread of the runtime has nothing else to do, or has not looked for news for long. Waking it at once, the second one, would wake
/// another thread for it. On a thread that is none of the runtime's the task is woken at once.
pub fn wake_when_idle(task: &Waker) {
    // That is how a task yields; it leaves its waker with the thread.
    let yielding = std::pin::pin!(tokio::task::yield_now());
    if yielding.poll(&mut Context::from_waker(task)).is_ready() {
        task.wake_by_ref();
    }
}

/// An owned, sendable future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The task panicked or was aborted before it ended.
#[derive(Debug, thiserror::Error)]
#[error("task {name} ended abnormally")]
pub struct TaskPanicked {
    /// The name it was spawned under.
    pub name: &'static str,
    #[source]
    source: tokio::task::JoinError,
}

/// A running async task. Dropping the handle lets the task run on.
#[derive(Debug)]
pub struct TaskHandle {
    name: &'static str,
    handle: tokio::task::JoinHandle<()>,
}

impl TaskHandle {
    /// The name it was spawned under.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Stops the task at its next await point.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// True once the task has ended, however it ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Waits until the task has ended.
    pub async fn join(self) -> Result<(), TaskPanicked> {
        let name = self.name;
        self.handle
            .await
            .map_err(|source| TaskPanicked { name, source })
    }
}

/// A running thread. Dropping the handle lets the thread run on.
#[derive(Debug)]
pub struct ThreadHandle {
    handle: std::thread::JoinHandle<()>,
}

impl ThreadHandle {
    /// Waits until the thread has ended; false when it panicked.
    pub fn join(self) -> bool {
        self.handle.join().is_ok()
    }

    /// Wakes the thread if it is parked.
    pub fn unpark(&self) {
        self.handle.thread().unpark();
    }
}

/// The only spawner of tasks and threads.
pub trait Spawn: Send + Sync + 'static {
    /// Runs `future` as a task; `name` shows in logs and in [`TaskPanicked`].
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> TaskHandle;

    /// Runs `work`, which may block, on a pool of threads for such work.
    fn spawn_blocking(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> TaskHandle;

    /// Runs `work` on its own thread, for loops that live as long as the process. The operating system shows the
    /// first 15 bytes of `name`. Errors: the system refuses another thread.
    fn spawn_thread(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<ThreadHandle>;
}

/// Tasks on a tokio runtime, threads of the operating system.
#[derive(Clone, Debug)]
pub struct TokioSpawn {
    runtime: tokio::runtime::Handle,
}

impl TokioSpawn {
    /// Spawns on the runtime of the caller. Panics outside one: a wiring mistake.
    pub fn current() -> TokioSpawn {
        TokioSpawn {
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// Spawns on `runtime`.
    pub fn on(runtime: tokio::runtime::Handle) -> TokioSpawn {
        TokioSpawn { runtime }
    }
}

impl Spawn for TokioSpawn {
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> TaskHandle {
        tracing::trace!(name, "spawn task");
        TaskHandle {
            name,
            handle: self.runtime.spawn(future),
        }
    }

    fn spawn_blocking(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) -> TaskHandle {
        tracing::trace!(name, "spawn blocking work");
        TaskHandle {
            name,
            handle: self.runtime.spawn_blocking(work),
        }
    }

    fn spawn_thread(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<ThreadHandle> {
        tracing::trace!(name, "spawn thread");
        let handle = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)?;
        Ok(ThreadHandle { handle })
    }
}
