//! Time and chance, as openraft sees them: the machine's, or those of a simulation.
//!
//! openraft asks its runtime for both by type, not by value, so a simulation is a property of a thread: its groups all live on one.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use host::sim::SimRng;
use host::{BoxFuture, Clock, RealRng, Rng};

struct Simulation {
    clock: Arc<dyn Clock>,
    rng: SimRng,
    /// Where its time begins.
    epoch: tokio::time::Instant,
}

thread_local! {
    static SIMULATION: RefCell<Option<Simulation>> = const { RefCell::new(None) };
}

/// From now on the groups of this thread live by `clock`, and what openraft draws (how patient a follower is, when a timer starts) is a function of `seed`.
pub fn simulate_this_thread(clock: Arc<dyn Clock>, seed: u64) {
    SIMULATION.set(Some(Simulation {
        clock,
        rng: SimRng::new(seed),
        epoch: tokio::time::Instant::now(),
    }));
}

fn simulated<T>(get: impl FnOnce(&Simulation) -> T) -> Option<T> {
    SIMULATION.with_borrow(|simulation| simulation.as_ref().map(get))
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupInstant(tokio::time::Instant);

impl GroupInstant {
    pub fn now() -> GroupInstant {
        let now = simulated(|s| s.epoch + Duration::from_nanos(s.clock.now().as_nanos()));
        GroupInstant(now.unwrap_or_else(tokio::time::Instant::now))
    }
}

impl openraft::async_runtime::Instant for GroupInstant {
    fn now() -> GroupInstant {
        GroupInstant::now()
    }
}

impl Add<Duration> for GroupInstant {
    type Output = GroupInstant;

    fn add(self, rhs: Duration) -> GroupInstant {
        GroupInstant(self.0 + rhs)
    }
}

impl AddAssign<Duration> for GroupInstant {
    fn add_assign(&mut self, rhs: Duration) {
        self.0 += rhs;
    }
}

impl Sub<Duration> for GroupInstant {
    type Output = GroupInstant;

    fn sub(self, rhs: Duration) -> GroupInstant {
        GroupInstant(self.0 - rhs)
    }
}

impl SubAssign<Duration> for GroupInstant {
    fn sub_assign(&mut self, rhs: Duration) {
        self.0 -= rhs;
    }
}

/// Zero if the other one is later.
impl Sub<GroupInstant> for GroupInstant {
    type Output = Duration;

    fn sub(self, rhs: GroupInstant) -> Duration {
        self.0.saturating_duration_since(rhs.0)
    }
}

pub type Sleep = BoxFuture<'static, ()>;

pub fn sleep(duration: Duration) -> Sleep {
    simulated(|s| s.clock.sleep(duration)).unwrap_or_else(|| Box::pin(tokio::time::sleep(duration)))
}

/// The time of a [`Timeout`] is up.
#[derive(Debug, thiserror::Error)]
#[error("the time is up")]
pub struct Elapsed;

/// A future with a deadline.
pub struct Timeout<T> {
    future: Pin<Box<T>>,
    sleep: Sleep,
}

impl<T> Timeout<T> {
    pub fn new(duration: Duration, future: T) -> Timeout<T> {
        Timeout {
            future: Box::pin(future),
            sleep: sleep(duration),
        }
    }
}

impl<T: Future> Future for Timeout<T> {
    type Output = Result<T::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        self.sleep.as_mut().poll(context).map(|()| Err(Elapsed))
    }
}

/// What openraft draws from.
#[derive(Debug)]
pub struct GroupRng;

impl rand::TryRng for GroupRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.try_next_u64()? >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(simulated(|s| s.rng.next_u64()).unwrap_or_else(|| RealRng.next_u64()))
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Infallible> {
        if simulated(|s| s.rng.fill(dest)).is_none() {
            RealRng.fill(dest);
        }
        Ok(())
    }
}
