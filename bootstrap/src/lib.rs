//! Forming an environment and opening what a node keeps of it.
//!
//! What this is: the data directory ([`DataDir`]): whose it is, that nobody else uses it, how often it was started. What this is not: the log and the
//! snapshots inside it belong to crate `raft`.
//!
//! The life of one start: [`DataDir::open`] takes the lock, reads or makes the identity, counts the start. A directory that holds anything else is refused.
//!
//! Caveats: joining several nodes (tokens, certificates, recovery) comes with the mesh; a directory made today already carries the environment and node id that it will need.

mod data_dir;
mod error;

pub use data_dir::{DataDir, Identity};
pub use error::OpenError;
