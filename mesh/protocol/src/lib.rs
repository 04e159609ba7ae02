//! Everything that crosses the mesh, as types.
//!
//! Each message states its duties: what must precede it, what must follow it, what a violation does. Enums are append-only and old golden
//! bytes decode for ever; frames are versioned and size-limited by `repr::codec`. Inside one process the same types travel by move.
//!
//! What this is not: no sockets (crate `mesh`), no decisions (crates `controller` and `raft`).

pub mod compute;
pub mod mesh;
pub mod raft;

pub use compute::{
    Command, Epoch, Numbered, Peek, PeekId, PeekResponse, PeekRows, PeekTarget, Refusal, Response,
    SubscribeBatch,
};
pub use mesh::{Kind, Lane};
