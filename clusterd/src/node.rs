//! This node among the others: what every part that talks over the mesh shares.
//!
//! [`raft_peers`] carries the messages of all Raft groups; [`members`], [`placement`] and [`leases`] are what ENV's leader does
//! about who is in the group, where CLUSTERs run, and gateways that have died; [`neighbours`] knows how the other nodes
//! fare; [`clocks`] compares wall clocks.

pub mod clocks;
pub mod leases;
pub mod members;
pub mod neighbours;
pub mod placement;
pub mod raft_peers;

pub use clocks::Clocks;
pub use neighbours::{Neighbour, Neighbours};
pub use raft_peers::{Groups, MeshPeers};
