//! Why a data directory cannot be opened.

use std::io;
use std::path::PathBuf;

use mesh::NodeName;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use {path} as data directory: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{path} is in use by another clusterd process. Stop that process, or give this one a directory of its own with --data-dir"
    )]
    Locked { path: PathBuf },
    #[error(
        "{path} is not empty and is not a clusterd data directory (there is no file {file}). \
         Nothing was changed; choose an empty directory with --data-dir"
    )]
    Foreign { path: PathBuf, file: &'static str },
    #[error(
        "{path} is damaged at offset {offset}: {reason}. Nothing was changed. \
         Restore the directory from a copy, or start with an empty one"
    )]
    Damaged {
        path: PathBuf,
        offset: u64,
        reason: String,
    },
    #[error(
        "{path} belongs to an environment that has been in use, but its log is missing (there is no file in {path}/{log}): \
         acknowledged writes would be lost. Nothing was changed. Put {log} and snapshots back where they were, or restore the directory from a copy; \
         to start an empty environment instead, choose an empty directory with --data-dir"
    )]
    LogMissing { path: PathBuf, log: &'static str },
    #[error(
        "{path} was written by version {found} of the format, this program reads version {known}: use the program that wrote it"
    )]
    Version {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error(transparent)]
    Keys(#[from] mesh::ca::CaError),
    #[error(
        "{path} holds the key and certificate of {certified}, but says that it is {identity}: files of two nodes are mixed. \
         Restore the directory from a copy, or start with an empty one"
    )]
    OtherNode {
        path: PathBuf,
        certified: NodeName,
        identity: NodeName,
    },
    #[error("{path} is the data directory of a node already; choose an empty one")]
    Occupied { path: PathBuf },
    #[error(
        "{path} has begun to join other nodes, which may count on it: start it with the same --join and --join-token again, \
         or choose an empty directory with --data-dir"
    )]
    Joining { path: PathBuf },
}
