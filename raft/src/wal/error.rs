//! What can be wrong with a log, and what the operator can do about it.

use std::io;
use std::path::PathBuf;

/// Why the log cannot be opened or went down.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The file system failed.
    #[error("cannot {action} log file {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes that had been acknowledged have changed or are gone.
    #[error("log file {path} is damaged at byte {offset}: {reason}; {RECOVERY}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Offset in the file.
        offset: u64,
        /// What was found.
        reason: &'static str,
    },
    /// A file of the log is missing, or belongs to another log.
    #[error("log file {path}: {reason}; {RECOVERY}")]
    WrongFile {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: &'static str,
    },
    /// The records are sound but do not make a log: a gap in a group's entries.
    #[error("log in {path}: group {group} has a gap at entry {index}; {RECOVERY}")]
    Gap {
        /// Directory of the log.
        path: PathBuf,
        /// The group.
        group: u64,
        /// The first missing entry.
        index: u64,
    },
}

/// What to do about damage, for every message that reports it.
pub(crate) const RECOVERY: &str = "this node's copy cannot be trusted and nothing was changed. If other nodes hold \
     the data: remove this node (`clusterd node remove`), empty its data directory, join it again. If this is the \
     only node: restore the data directory from a backup";

impl WalError {
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: io::Error,
    ) -> WalError {
        WalError::Io {
            action,
            path: path.into(),
            source,
        }
    }
}
