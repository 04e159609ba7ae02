//! S, the state machine of ENV: everything about an environment that must not be lost.
//!
//! What this is: a pure, deterministic, total function from (state, log entry) to (state, outcomes, changes): catalog, timestamp oracle,
//! table commits, input holds, leases, statement tokens, nodes and what is placed on them. It reads no clock, no randomness and no file; the same log gives the same
//! state and the same hash on every node.
//!
//! What this is not: no replication (crate `raft`), no planning (plans are opaque bytes and a hash here), no waiting.
//!
//! The life of one write: a gateway sends a [`command::Txn`]; the ENV leader packs the waiting ones into one [`command::Command::Batch`], which becomes one
//! log entry; `State::apply` stamps a timestamp, walks the transactions in order, gives each its own [`command::Outcome`], and
//! publishes the changes as one `Applied`.
//!
//! The life of a row: it arrives packed; apply sorts a transaction's rows into one immutable [`shard::Batch`] stamped with the entry's
//! time, which readers and dataflows share from then on. Batches are merged, in apply while they are small and by [`State::merge_jobs`]
//! elsewhere when they are large; a merge changes nothing that can be read.
//!
//! Caveats:
//! * All rows are in memory, at most [`state::STORED_BYTES_MAX`] of them; history that holds keep alive comes on top.
//! * TRUNCATE writes one deletion per row.
//! * A key that changes thousands of times within the read window is looked up slowly at any time but the latest: its versions are all
//!   looked at.

pub mod catalog;
pub mod command;
pub mod node;
pub mod shard;
pub mod state;
#[cfg(test)]
mod tests;

pub use catalog::Catalog;
pub use command::{Batch, Command, NodeOp, Outcome, Txn};
pub use node::{Authority, JoinToken, Node, NodeStatus, Placement, TokenHash};
pub use shard::Shard;
pub use state::{Applied, Changes, ReadError, State};
