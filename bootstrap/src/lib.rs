//! Forming an environment, joining one, and opening what a node keeps of it.
//!
//! What this is: the data directory ([`DataDir`]): whose it is, that nobody else uses it, how often it was started; in its folder `mesh/` the node's key, its certificate, and whom it
//! was introduced to ([`Member`]); the [`Token`]s that operators carry about, and both sides of using one: [`Member::join`] at the node that wants in, [`Desk`] at those that are
//! in. What this is not: the log and the snapshots inside the directory belong to crate `raft`; who the nodes are today, and where, is in ENV's state; whom a join token lets in
//! is for whoever implements [`Admission`].
//!
//! The life of one start: [`ClaimedDir::claim`] takes the lock and reads who the node is. If it is nobody, it becomes node 1 of an environment of its own; or, with a bootstrap
//! token, one of its founders (`form` talks, `formation` decides); or, with a join token, a later node (`enter`). Then its keys are read and the start is counted. A directory
//! that holds anything else is refused.
//!
//! Caveats: `identity.toml` is written last, so a directory that has one has everything else too; what is in `mesh/` before that is an unfinished start, and `mesh/joining.toml` says
//! what the node has promised to others by then. A promise is kept: founders that have agreed on each other form an environment together or none.

mod data_dir;
mod desk;
mod enter;
mod error;
mod files;
mod form;
mod formation;
mod hex;
mod join;
mod keys;
mod member;
mod pace;
mod token;
mod wire;

pub use data_dir::{ClaimedDir, DataDir, Identity};
pub use desk::{Admission, Applicant, Desk, Refused};
pub use error::{OpenError, REPAIR};
pub use join::{Invitation, JoinFailed, Say};
pub use keys::{AuthorityKey, Peer, Peers};
pub use member::{Member, env_voters, forget_authority, form_locally};
pub use token::{Secret, Token, TokenError};
pub use wire::Admitted;

#[cfg(test)]
mod tests;
