//! Replicated logs: one write-ahead log per process, and on it one Raft group for the environment and one per CLUSTER.
//!
//! This is the only crate that knows openraft. What others see: [`Wal`], the process's log; [`RaftGroup`], a member of
//! a group, with `propose` and `read_index`; [`StateMachine`], what a group replicates; [`Peers`], how requests of
//! Raft travel. What this is not: it does not know what an entry means, and has no network of its own.
//!
//! Life of one proposal: [`RaftGroup::propose`] hands the bytes to openraft's core task, which appends them to the
//! group's log (`store`) and to the followers; the log's writer thread gathers the appends of all groups into one
//! batch, writes it, syncs once, and reports ([`wal`]); once a quorum has the entry, the apply task gives the whole run
//! of committed entries to the state machine (`machine`), and the response travels back, unencoded, to the proposer.
//!
//! Caveats: openraft 0.10 is an alpha, pinned exactly; formats on disk and on the wire are our own (`codec`, `rpc`),
//! so a new version of it changes neither. A term has at most one leader, as in the paper: fencing by term depends on
//! it. Reads use ReadIndex, never a lease (`readers`). A node that was leader before a restart has to be elected again.

mod codec;
mod config;
mod error;
mod group;
mod hearing;
mod machine;
mod network;
mod peers;
mod readers;
mod recover;
mod rpc;
mod runtime;
mod snapshot;
mod store;
mod types;
pub mod wal;

pub use config::{Election, GroupClass, GroupConfig};
pub use error::{GroupError, ProposeError, ReadError, SnapshotError};
pub use group::{GroupStatus, Progress, Proposed, RaftGroup, remove_group};
pub use machine::{Committed, SnapshotWriter, StateMachine};
pub use peers::{LocalPeers, NoPeers, PeerError, Peers, Responder, RpcKind};
pub use readers::Witness;
pub use recover::{Remains, go_on_alone, remains};
pub use runtime::simulate_this_thread;
pub use types::Member;
pub use wal::{LogPos, Wal, WalConfig, WalError, WrittenBy};

use std::sync::Arc;

/// Names a Raft group: 0 is ENV, others are CLUSTER ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

/// The environment's group.
pub const ENV_GROUP: GroupId = GroupId(0);

/// Called when this process must not go on: the log or a group failed in a way that leaves its state unknown. It is
/// expected to end the process, and may be called more than once, from any thread.
pub type FatalHook = Arc<dyn Fn(&(dyn std::error::Error + 'static)) + Send + Sync>;
