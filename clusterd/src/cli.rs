//! Commands that are not a node: they make tokens, ask a running node something, or start several nodes to play with.
//!
//! A command that needs a running node is a client of it: it speaks SQL, and can do nothing that SQL cannot.

mod client;
mod demo;
mod node;
mod token;

pub use demo::DemoArgs;
pub use node::NodeCommand;
pub use token::TokenCommand;

use anyhow::{Context, Result};

pub fn run_token(command: TokenCommand) -> Result<()> {
    runtime()?.block_on(token::run(command))
}

pub fn run_node(command: NodeCommand) -> Result<()> {
    runtime()?.block_on(node::run(command))
}

pub fn run_demo(args: DemoArgs) -> Result<()> {
    runtime()?.block_on(demo::run(args))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("starting the runtime")
}
