//! The seam to ENV's log.

use repr::Timestamp;
use state::{Command, Outcome, Txn};
use thiserror::Error;
use tokio::sync::watch;

use host::BoxFuture;

/// ENV's log as sessions use it. Implemented by the process with its Raft group; by a single state in tests.
pub trait EnvLog: Send + Sync {
    /// Writes: the transaction waits for the next group commit. The same token may be sent again after an unknown outcome, and only then.
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Outcome, ProposeError>>;

    /// Any other command. The answer is empty, or the one reason why it changed nothing.
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Vec<Outcome>, ProposeError>>;

    /// A point that covers everything acknowledged before the call. The caller then waits until `index` is applied here.
    fn read_point(&self) -> BoxFuture<'_, Result<ReadPoint, ProposeError>>;

    /// The index applied on this node.
    fn applied(&self) -> u64;

    /// The same, as it moves.
    fn watch(&self) -> watch::Receiver<u64>;
}

/// What a strict statement reads at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPoint {
    /// The index that must be applied before reading.
    pub index: u64,
    /// The timestamp to read tables and views at.
    pub ts: Timestamp,
    pub catalog_version: u64,
    /// Of the ENV leader that answered.
    pub term: u64,
}

/// Why a proposal has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// Nothing was proposed.
    #[error("ENV has no leader that can be reached")]
    Unavailable,
    /// Nothing was proposed: too many wait already.
    #[error("too many proposals are waiting")]
    Busy,
    /// Nothing was proposed: the disk is nearly full and the command would make it fuller.
    #[error("the disk is nearly full")]
    DiskLow,
    /// Nothing was proposed: the command is larger than an entry may be.
    #[error("the command has {bytes} bytes, allowed are {limit_bytes}")]
    TooLarge { bytes: usize, limit_bytes: usize },
    /// It may or may not have been committed; only the same token can find out.
    #[error("the outcome is unknown")]
    Unknown,
}
