//! The seams between the project and the machine: time, randomness, files, tasks, metrics.
//!
//! `host` is the only crate that reads a clock, a random number or a file, and the only one that starts a task or a
//! thread. Everything else is handed an `Arc<dyn Clock>`, `Arc<dyn Disk>`, `Arc<dyn Rng>`, `Arc<dyn Spawn>`, so a test
//! can replace each of them by a simulated one and replay a run from a seed.
//!
//! What this is not: it has no policy. It knows nothing of logs, nodes or SQL; a retry, a time-out or a format belongs
//! to the caller.
//!
//! Life of one request: a crate asks [`Disk`] for a [`DiskFile`], writes at a position, calls
//! [`DiskFile::sync_data`]; with [`RealDisk`] these are `pwrite` and `fdatasync`, with [`sim::SimDisk`] they change a
//! table in memory which forgets everything unsynced when [`sim::SimDisk::crash`] is called.
//!
//! Caveats: [`Clock::wall_us`] may jump in either direction, so no correctness may hang on it. A failed
//! [`DiskFile::sync_data`] leaves the file's durable content unknown: the caller has to stop the process, since a
//! second call may report success for data that the kernel has dropped.

mod clock;
mod disk;
pub mod metrics;
mod rng;
pub mod sim;
mod spawn;

pub use clock::{Clock, Instant, RealClock};
pub use disk::{Disk, DiskFile, DiskLock, OpenMode, RealDisk};
pub use rng::{RealRng, Rng};
pub use spawn::{
    BoxFuture, Spawn, TaskHandle, TaskPanicked, ThreadHandle, TokioSpawn, wake_when_idle,
};

use std::sync::Arc;

/// All four seams together, as most constructors want them. Cloning shares them.
#[derive(Clone)]
pub struct Host {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// Tasks and threads.
    pub spawn: Arc<dyn Spawn>,
}

impl Host {
    /// The machine itself. Call it inside the tokio runtime on which tasks shall run.
    pub fn real() -> Host {
        Host {
            clock: Arc::new(RealClock::new()),
            disk: Arc::new(RealDisk),
            rng: Arc::new(RealRng),
            spawn: Arc::new(TokioSpawn::current()),
        }
    }
}
