//! The server binary from outside: start-up, durability, the wire, transactions, views, limits. Each test runs its own process on its own
//! data directory. [`arrows`] alone looks at the workspace instead: which crate may use which.

mod arrows;
mod clusters;
mod connections;
mod copy;
mod disk;
mod durability;
mod errors;
mod failover;
mod formation;
mod joins;
mod limits;
mod membership;
mod mesh;
mod node;
mod nodes;
mod placement;
mod recovery;
mod start;
mod transactions;
mod views;
mod waiting_reads;
mod wire;
