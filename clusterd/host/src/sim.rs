//! Simulated seams for tests of any crate: a disk that fails on demand, a clock that is set by hand, a seeded generator.

mod clock;
mod disk;
mod jump;
mod rng;

pub use clock::SimClock;
pub use disk::{CrashStyle, Faults, SimDisk};
pub use jump::JumpClock;
pub use rng::SimRng;
