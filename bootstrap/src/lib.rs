//! Forming an environment and opening what a node keeps of it.
//!
//! What this is: the data directory ([`DataDir`]): whose it is, that nobody else uses it, how often it was started; and in its folder `mesh/` the node's key,
//! its certificate, and whom it was introduced to ([`Member`]). What this is not: the log and the snapshots inside it belong to crate `raft`; who the nodes are
//! today, and where, is in ENV's state.
//!
//! The life of one start: [`ClaimedDir::claim`] takes the lock and reads who the node is; [`Member::open`] makes an environment of one node if it is nobody yet,
//! reads its keys, counts the start. A directory that holds anything else is refused.
//!
//! Caveats: `identity.toml` is written last, so a directory that has one has everything else too; what is in `mesh/` before that is an unfinished start.

mod data_dir;
mod error;
mod files;
mod hex;
mod keys;
mod member;

pub use data_dir::{ClaimedDir, DataDir, Identity};
pub use error::OpenError;
pub use keys::{AuthorityKey, Peer, Peers};
pub use member::{Member, env_voters, forget_authority, form_locally};
