//! The controller of one CLUSTER: what its Raft group's leader decides.
//!
//! What this is: a pure state machine. [`Controller::step`] takes an [`Event`] and appends [`Action`]s; a driver (`clusterd`) carries those
//! out. What this is not: no sockets, no clock, no log. The group's replicated state is [`log::LogState`], applied by the driver, which
//! tells the controller what was committed. Peeks never pass `step`: they need only a [`holds::Hold`] and [`routes::Route`]s, and
//! [`asking::Asking`] says which of those to take and which answer counts.
//!
//! The life of a dataflow: a catalog entry with a plan appears in the controller's wishes ([`Event::CatalogChanged`]) at the timestamp
//! that created it, with its inputs held there by ENV. Each replica is told to create it. From then on every tick proposes a *grant* for it:
//! the frontier up to which its history may be forgotten, `read_window` behind the last timestamp, and behind every lease, hold and
//! importing dataflow. When the grant is committed in the CLUSTER's log, and only then, the replicas are allowed to compact up to it, and
//! ENV is asked to raise the holds on the inputs. So at all times `hold(inputs of D) <= grant(D)`, and whoever re-creates D at its grant
//! finds its inputs readable.
//!
//! The life of a leadership: the driver reports [`Event::BecameLeader`] after the group's no-op is applied. Each connected replica is sent
//! Hello and answers with its inventory; dataflows of equal hash are kept, missing ones created at their grant, others dropped. Nothing is
//! remembered that cannot be had again from the catalog, the log and the replicas: the list of commands for a replica is always computed
//! from the wishes, never replayed.
//!
//! The life of a failure: a replica that cannot build a dataflow, or had to stop it, says so. The others go on serving it. The replica is told to build
//! it again after a while, ever more seldom, and at once when something else was dropped; see `retry`.
//!
//! Beside it, [`placement`] decides for ENV's leader on which nodes replicas run and who votes in each CLUSTER's group.
//!
//! Caveats:
//! * Commands are numbered from 1 per epoch and replica, over all connections to it; what was lost with a connection leaves a gap before the next Hello.
//! * Temporary dataflows (subscriptions, one-shot queries) are not in the log: a new leader drops them and their owners ask again.

pub mod asking;
mod controller;
pub mod desired;
mod event;
mod grants;
pub mod holds;
pub mod log;
mod order;
pub mod placement;
mod replica;
mod resume;
mod retry;
pub mod routes;
mod transient;

#[cfg(test)]
mod tests;

pub use asking::{Asking, Next};
pub use controller::{Config, Controller};
pub use desired::Desired;
pub use event::{Action, Event, ExportFrontier};
pub use holds::{Hold, HoldError, HoldTable};
pub use resume::Resume;
pub use routes::{Route, Routes};
