//! The dataflow engine of a replica: it keeps views up to date and answers reads of them.
//!
//! What this is: timely worker threads that obey the leader of a CLUSTER ([`protocol::compute`]), render plans ([`plan::lir`]) to differential
//! dataflow, keep the results as arrangements, and answer peeks of them at exact timestamps.
//!
//! What this is not: it plans nothing, stores nothing durably, decides nothing about holds or history: it forgets when it is told.
//!
//! The life of one commit: the owner of the tables calls [`ReplicaHandle::commit`]; each worker takes its share of the rows through the
//! import's filter and projection into every dataflow that reads the table, at the commit's own time; then it advances all inputs once and steps
//! timely. When the frontier of an export passes a time, peeks at that time are answered.
//!
//! The life of one peek: [`ReplicaHandle::peek`] puts it into the mailboxes of the workers that own its keys; each parks it until the command it
//! follows has been processed and its time is complete, answers it together with all others of the same arrangement, and the last share calls
//! the reply.
//!
//! Caveats:
//! * Reductions, top-k, distinct and threshold rely on the total order of time; recursive queries will need variants that do not.
//! * A group lives on one worker, so one huge group does not use several.
//! * Working state is in memory, beside the arrangements that are counted against the memory limit.

mod batch;
mod batcher;
mod error_row;
mod exert;
mod feed;
mod footprint;
mod mailbox;
mod peek;
mod render;
mod replica;
mod rows;
mod tables;
mod traces;
mod types;
mod worker;

pub use exert::Exertion;
pub use feed::{
    FeedError, TableChanges, TableFeed, TableScan, TableSnapshot, TableUpdates, TableWrite,
};
pub use peek::Reply;
pub use replica::{Replica, ReplicaConfig, ReplicaHandle, ResponseSink};
