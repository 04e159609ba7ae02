//! A clock that jumps: time passes only when everybody waits for it, and then at once.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use crate::{BoxFuture, Clock, Instant, Spawn};

/// How often every task may run without touching the clock before all are taken to be waiting.
const IDLE_ROUNDS: u32 = 64;

/// For simulations on one thread, where it makes a run a function of its seeds: whoever sleeps is woken in the order of the deadlines, to the nanosecond.
///
/// A task of its own yields to all others until none has anything left to do, then moves the time to the earliest deadline. What waits for
/// the world outside (sockets, threads) is not seen by it, so nothing of that kind belongs in such a simulation.
#[derive(Clone, Debug)]
pub struct JumpClock {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Somebody sleeps.
    sleeper: Notify,
}

#[derive(Debug, Default)]
struct State {
    now: Instant,
    wall_at_start_us: u64,
    sleepers: BTreeMap<(Instant, u64), Waker>,
    next: u64,
    /// Changes with every use.
    uses: u64,
}

impl JumpClock {
    /// A clock at zero whose wall time is `wall_us`. Call it inside a runtime of one thread.
    pub fn start(spawn: &dyn Spawn, wall_us: u64) -> JumpClock {
        let state = State {
            wall_at_start_us: wall_us,
            ..State::default()
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            sleeper: Notify::new(),
        });
        let driver = drive(shared.clone());
        spawn.spawn("sim-clock", Box::pin(driver));
        JumpClock { shared }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn drive(shared: Arc<Shared>) {
    loop {
        let uses = shared.lock().uses;
        for _ in 0..IDLE_ROUNDS {
            tokio::task::yield_now().await;
        }
        if shared.lock().uses != uses {
            continue;
        }
        if !shared.lock().jump() {
            shared.sleeper.notified().await;
        }
    }
}

impl State {
    /// Wakes whoever has the earliest deadline; false if nobody sleeps.
    fn jump(&mut self) -> bool {
        let Some((&(deadline, _), _)) = self.sleepers.first_key_value() else {
            return false;
        };
        self.now = self.now.max(deadline);
        self.uses += 1;
        while let Some(entry) = self.sleepers.first_entry()
            && entry.key().0 <= deadline
        {
            entry.remove().wake();
        }
        true
    }
}

impl Clock for JumpClock {
    fn wall_us(&self) -> u64 {
        let state = self.shared.lock();
        state.wall_at_start_us + state.now.as_nanos() / 1_000
    }

    fn now(&self) -> Instant {
        self.shared.lock().now
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let deadline = self.now() + duration;
        Box::pin(Sleep {
            shared: self.shared.clone(),
            deadline,
            place: None,
        })
    }
}

struct Sleep {
    shared: Arc<Shared>,
    deadline: Instant,
    /// Among the sleepers.
    place: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        state.uses += 1;
        if state.now >= self.deadline {
            return Poll::Ready(());
        }
        let place = *self.place.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        let waker = context.waker().clone();
        state.sleepers.insert((self.deadline, place), waker);
        drop(state);
        shared.sleeper.notify_one();
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let mut state = self.shared.lock();
            state.uses += 1;
            state.sleepers.remove(&(self.deadline, place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokioSpawn;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn sleepers_wake_in_order_and_no_time_is_spent() {
        let clock = JumpClock::start(&TokioSpawn::current(), 5_000_000);
        let (woken, mut order) = mpsc::unbounded_channel();
        let sleep = |name: &'static str, nanos: u64| {
            let (clock, woken) = (clock.clone(), woken.clone());
            async move {
                clock.sleep(Duration::from_nanos(nanos)).await;
                let _ = woken.send((name, clock.now().as_nanos()));
            }
        };
        let hour = 3_600_000_000_000;
        tokio::join!(sleep("c", hour), sleep("a", 1), sleep("b", 2));
        // A sleep that is given up does not move the time.
        let given_up = clock.sleep(Duration::from_nanos(hour));
        tokio::select! {
            biased;
            () = given_up => panic!("the other is earlier"),
            () = sleep("d", 1_000_000) => {}
        }
        let mut seen = Vec::new();
        while let Ok(next) = order.try_recv() {
            seen.push(next);
        }
        let expected = [("a", 1), ("b", 2), ("c", hour), ("d", hour + 1_000_000)];
        assert_eq!(seen, expected);
        assert_eq!(clock.wall_us(), 5_000_000 + (hour + 1_000_000) / 1_000);
    }

    /// A chain of tasks that wake each other is work, not waiting.
    #[tokio::test]
    async fn time_stands_still_while_there_is_work() {
        let clock = JumpClock::start(&TokioSpawn::current(), 0);
        let alarm = clock.sleep(Duration::from_secs(1));
        let work = async {
            for _ in 0..IDLE_ROUNDS / 2 {
                let (done, result) = tokio::sync::oneshot::channel();
                let next = async move { done.send(()).unwrap_or(()) };
                TokioSpawn::current().spawn("link", Box::pin(next));
                result.await.unwrap_or(());
            }
            clock.now().as_nanos()
        };
        let ((), at) = tokio::join!(alarm, work);
        assert_eq!(at, 0);
    }
}
