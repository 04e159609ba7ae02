//! S, the state machine of ENV: everything about an environment that must not be lost.
//!
//! What this is: a pure, deterministic, total function from (state, log entry) to (state, outcomes, changes): catalog, timestamp oracle,
//! table commits, input holds, leases, statement tokens. It reads no clock, no randomness and no file; the same log gives the same
//! state and the same hash on every node.
//!
//! What this is not: no replication (crate `raft`), no planning (plans are opaque bytes and a hash here), no waiting.
//!
//! The life of one write: a gateway sends a [`command::Txn`]; the ENV leader packs the waiting ones into one [`command::Command::Batch`], which becomes one
//! log entry; `State::apply` stamps a timestamp, walks the transactions in order, gives each its own [`command::Outcome`], and
//! publishes the changes as one `Applied`.

pub mod catalog;
pub mod command;

pub use catalog::Catalog;
pub use command::{Batch, Command, Outcome, Txn};
