//! Test support: runs a real server process and talks to it the way any client does.
//!
//! What this is: the process control ([`server`]), the text-protocol SQL client ([`sql`]), the hand-made wire messages ([`wire`]) and the exact
//! comparison of answers ([`answer`]) that `tests/it`, `tests/tpch`, `tests/slt` and `jepsen` share.
//! What this is not: a way into the server. Nothing here links a crate of the server; everything goes through its binary and its ports.
//!
//! Life of one test: [`server::Launch::new`] picks free loopback ports, [`server::Launch::start`] spawns the binary and waits until `/readyz`
//! answers 200 (or the process ended, which is an error with its output), the test talks SQL, and dropping the [`server::Server`] kills it.
//!
//! Caveats: a free port is found by binding it and letting go, so another process can take it in between; `start` reports that as an early exit.

pub mod answer;
pub mod files;
pub mod mesh;
pub mod server;
pub mod sql;
pub mod wire;

pub use answer::{Answer, TextRow};
pub use server::{Launch, Server, StartError};
pub use sql::{Sql, Target, sqlstate};
