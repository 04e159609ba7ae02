//! tokio as openraft's runtime, with the busy time of its tasks metered. Time and chance can be simulated: see [`time`].

mod time;
mod turn;

use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use host::BoxFuture;
use host::metrics::BusyMeter;
use openraft::OptionalSend;
use openraft_rt_tokio::TokioRuntime;

use crate::config::GroupClass;
pub use time::simulate_this_thread;
use time::{Elapsed, GroupInstant, GroupRng, Sleep, Timeout};
use turn::{Role, Turn};

thread_local! {
    /// The class of the group that is being started on this thread: openraft starts its core and apply tasks
    /// synchronously, so this is how they learn whose they are.
    static STARTING: Cell<Option<GroupClass>> = const { Cell::new(None) };
    /// What will run beside the core of the group that is being started.
    static BESIDE_CORE: Cell<Option<BoxFuture<'static, ()>>> = const { Cell::new(None) };
}

/// Runs `start`, with the tasks it spawns metered on account of `class`.
pub(crate) fn starting<T>(class: GroupClass, start: impl FnOnce() -> T) -> T {
    STARTING.set(Some(class));
    let result = start();
    STARTING.set(None);
    BESIDE_CORE.set(None);
    result
}

/// The value of the type that has only one.
fn nothing<T: 'static>() -> Option<T> {
    let nothing: Box<dyn Any> = Box::new(());
    nothing.downcast().ok().map(|value| *value)
}

/// See the module.
#[derive(Debug)]
pub struct MeteredRuntime {
    inner: TokioRuntime,
}

/// What the task that runs a future of type `F` does.
fn role<F>() -> Role {
    // openraft does not name its tasks; the types of their futures do.
    let future = std::any::type_name::<F>();
    if future.contains("sm::worker") {
        Role::Apply
    } else if future.contains("io_completion_forwarder") && STARTING.get().is_some() {
        Role::Forwarder
    } else if future.contains("raft_core::RaftCore") && STARTING.get().is_some() {
        Role::Core
    } else {
        Role::Other
    }
}

/// The meter of a task.
fn meter(role: Role) -> BusyMeter {
    let class = STARTING.get();
    BusyMeter::named(match role {
        Role::Apply => class.map_or("raft-apply", GroupClass::apply_task),
        Role::Core => class.map_or("raft-core", GroupClass::core_task),
        Role::Forwarder | Role::Other => "raft-other",
    })
}

impl openraft::AsyncRuntime for MeteredRuntime {
    type JoinError = <TokioRuntime as openraft::AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> =
        <TokioRuntime as openraft::AsyncRuntime>::JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = GroupInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = GroupRng;
    type Mpsc = <TokioRuntime as openraft::AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as openraft::AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as openraft::AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as openraft::AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let role = role::<T>();
        let meter = meter(role);
        match role {
            Role::Core => {
                let both = turn::beside(BESIDE_CORE.take(), Box::pin(future));
                TokioRuntime::spawn(Turn::new(role, meter.meter(both)))
            }
            Role::Apply => TokioRuntime::spawn(Turn::new(role, meter.meter(future))),
            Role::Forwarder => match nothing::<T::Output>() {
                Some(nothing) => {
                    BESIDE_CORE.set(Some(Box::pin(async { drop(future.await) })));
                    // Nobody waits for its end.
                    TokioRuntime::spawn(std::future::ready(nothing))
                }
                None => TokioRuntime::spawn(meter.meter(future)),
            },
            Role::Other => TokioRuntime::spawn(meter.meter(future)),
        }
    }

    fn sleep(duration: Duration) -> Sleep {
        time::sleep(duration)
    }

    fn sleep_until(deadline: GroupInstant) -> Sleep {
        time::sleep(deadline - GroupInstant::now())
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Timeout<F> {
        Timeout::new(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: GroupInstant,
        future: F,
    ) -> Timeout<F> {
        Timeout::new(deadline - GroupInstant::now(), future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        GroupRng
    }

    fn new(threads: usize) -> Self {
        MeteredRuntime {
            inner: TokioRuntime::new(threads),
        }
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.inner.block_on(future)
    }
}
