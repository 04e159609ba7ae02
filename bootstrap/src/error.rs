//! Why a data directory cannot be opened.

use std::io;
use std::path::PathBuf;

use mesh::NodeName;

/// What to do about a data directory that cannot be believed. An old copy of one node of several has forgotten votes and entries that the others count on.
pub const REPAIR: &str = "If it is one of several nodes, never put an old copy in its place: remove the node on another one (clusterd node remove), empty the directory and let it join anew. \
     If it is the only node of its environment, restore the directory from a copy, or start with an empty one";

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
    #[error("{path} is damaged at offset {offset}: {reason}. Nothing was changed. {REPAIR}")]
    Damaged {
        path: PathBuf,
        offset: u64,
        reason: String,
    },
    #[error(
        "{path} belongs to an environment that has been in use, but its log is missing (there is no file in {path}/{log}): \
         acknowledged writes would be lost. Nothing was changed. If {log} and snapshots were moved, put the same files back. {REPAIR}, chosen with --data-dir"
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
        "{path} holds the key and certificate of {certified}, but says that it is {identity}: files of two nodes are mixed. {REPAIR}"
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
