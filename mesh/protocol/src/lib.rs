//! Everything that crosses the mesh, as types.
//!
//! Each message states its duties: what must precede it, what must follow it, what a violation does. Enums are append-only and old golden
//! bytes decode for ever; frames are versioned and size-limited by `repr::codec`. Inside one process the same types travel by move.
//!
//! What this is not: no sockets (crate `mesh`), no decisions (crates `controller` and `raft`).

/// Gives a type its encoding: a version, and a limit on what is read.
macro_rules! message {
    ($version:expr, $type:ty, $limit:expr) => {
        impl $type {
            pub fn encode(&self) -> Vec<u8> {
                repr::codec::encode($version, self)
            }

            /// # Errors
            /// If the bytes are no such message of a known version.
            pub fn decode(bytes: &[u8]) -> Result<Self, repr::codec::CodecError> {
                repr::codec::decode(1..=$version, $limit, bytes)
            }
        }
    };
}
pub(crate) use message;

pub mod cluster;
pub mod compute;
pub mod env;
pub mod mesh;
pub mod node;
pub mod raft;

pub use compute::{
    Command, Epoch, Numbered, Peek, PeekId, PeekResponse, PeekRows, PeekTarget, Refusal, Response,
    SubscribeBatch,
};
pub use env::{ProposeAnswer, ReadPointAnswer, ReadPointCall};
pub use mesh::{Kind, Lane};
pub use node::{Cancel, NodeInfo};
