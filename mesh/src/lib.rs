//! The mesh: how nodes reach each other.
//!
//! What this will be: one QUIC endpoint per node, mutually authenticated, with lanes that do not block each other. What is here today: nothing but the room, because an
//! environment has one node. What crosses the mesh is defined beside it, in crate `protocol`; Raft's own traffic already goes through `raft::Peers`, which the mesh will
//! implement.
