//! A clock for tests. Monotonic time and sleeping are tokio's, so they follow `tokio::time::pause` and `advance`; the
//! wall clock is set by hand and runs on from there.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::{BoxFuture, Clock, Instant};

/// See the module. Create it inside a tokio runtime.
#[derive(Debug)]
pub struct SimClock {
    start: tokio::time::Instant,
    /// Wall time at `start`; the wall clock jumps when it is set.
    wall_at_start_us: AtomicU64,
}

impl SimClock {
    /// A clock whose wall time is `wall_us` now.
    pub fn new(wall_us: u64) -> SimClock {
        SimClock {
            start: tokio::time::Instant::now(),
            wall_at_start_us: AtomicU64::new(wall_us),
        }
    }

    /// Makes the wall clock jump to `wall_us`, in either direction.
    pub fn set_wall_us(&self, wall_us: u64) {
        self.wall_at_start_us
            .store(wall_us.saturating_sub(self.elapsed_us()), Relaxed);
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Clock for SimClock {
    fn wall_us(&self) -> u64 {
        self.wall_at_start_us
            .load(Relaxed)
            .saturating_add(self.elapsed_us())
    }

    fn now(&self) -> Instant {
        Instant::default() + self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
