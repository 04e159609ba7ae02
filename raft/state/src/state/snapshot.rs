//! Snapshots: the whole state as a stream of bytes.

use thiserror::Error;

/// Why a snapshot could not be written or read.
#[derive(Debug, Error)]
pub enum SnapshotError {
    #[error("snapshot: {0}")]
    Io(#[from] std::io::Error),
    #[error("snapshot: {0}")]
    Codec(#[from] repr::codec::CodecError),
    #[error("snapshot is damaged: {0}")]
    Damaged(&'static str),
}
