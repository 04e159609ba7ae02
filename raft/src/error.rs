//! Errors of groups, proposals, reads and snapshots.

use std::io;
use std::path::PathBuf;

use crate::wal::RECOVERY;

/// Why a group cannot start, or went down.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// A snapshot cannot be read or written.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// There is a snapshot, but no log to go with it: the log's directory was lost.
    #[error("group {group} has a snapshot up to entry {index} but its log is gone; {RECOVERY}")]
    LogMissing {
        /// The group.
        group: u64,
        /// Last entry in the snapshot.
        index: u64,
    },
    /// The log begins after the snapshot ends: the snapshot that freed the entries between is gone.
    #[error("group {group} lacks the snapshot up to entry {index}; {RECOVERY}")]
    SnapshotMissing {
        /// The group.
        group: u64,
        /// Last entry freed from the log.
        index: u64,
    },
    /// openraft refuses the settings.
    #[error("settings of group {group}: {reason}")]
    Config {
        /// The group.
        group: u64,
        /// What is wrong.
        reason: String,
    },
    /// The group ended itself.
    #[error("group {group} stopped: {reason}")]
    Stopped {
        /// The group.
        group: u64,
        /// What openraft said.
        reason: String,
    },
    /// The state machine panicked while applying: its state is unknown.
    #[error("group {group}: the state machine failed at entry {index}: {message}")]
    ApplyFailed {
        /// The group.
        group: u64,
        /// The first entry of the run that failed.
        index: u64,
        /// The panic's message.
        message: String,
    },
    /// The change of membership, or the founding, was refused.
    #[error("group {group}: {reason}")]
    Refused {
        /// The group.
        group: u64,
        /// Why.
        reason: String,
    },
}

/// What became of a proposal that got no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not proposed: this node does not lead the group. Definite.
    #[error("not the leader of the group")]
    NotLeader {
        /// Who does, as far as known.
        leader: Option<u64>,
    },
    /// Not proposed: it exceeds the limit for an entry. Definite.
    #[error("a log entry of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Nobody knows: the entry may be committed later, or never. Retry only what the state machine can recognise.
    #[error("the outcome of the proposal is unknown: {reason}")]
    Unknown {
        /// Why.
        reason: String,
    },
    /// Not proposed: the group is shut down. Definite.
    #[error("the group is shut down")]
    Closed,
}

/// Why a read point could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// This node does not lead the group.
    #[error("not the leader of the group")]
    NotLeader {
        /// Who does, as far as known.
        leader: Option<u64>,
    },
    /// No quorum confirmed that this node still leads.
    #[error("no quorum of the group answers")]
    NoQuorum,
    /// The group is down.
    #[error("the group is shut down: {reason}")]
    Closed {
        /// Why.
        reason: String,
    },
}

/// What is wrong with a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system failed.
    #[error("cannot {action} snapshot {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not as it was written.
    #[error("snapshot {path} is damaged at byte {offset}: {reason}; {RECOVERY}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Offset in the file of the block that is wrong.
        offset: u64,
        /// What was found.
        reason: &'static str,
    },
    /// The file is sound, but the state machine cannot read it.
    #[error("snapshot {path} cannot be restored: {source}")]
    Restore {
        /// The file.
        path: PathBuf,
        /// What the state machine said.
        source: io::Error,
    },
}

impl SnapshotError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: io::Error,
    ) -> SnapshotError {
        SnapshotError::Io {
            action,
            path: path.into(),
            source,
        }
    }
}
