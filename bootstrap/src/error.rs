//! Why a data directory cannot be opened.

use std::io;
use std::path::PathBuf;

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
        "{path} was written by version {found} of the format, this program reads version {known}: use the program that wrote it"
    )]
    Version {
        path: PathBuf,
        found: u32,
        known: u32,
    },
}
