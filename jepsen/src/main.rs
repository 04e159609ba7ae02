//! The fault injector and the checkers that anyone can run against their own server.
//!
//! What this is: a SQL client that breaks things and then checks what a correct server must still show. `kill9` kills the process under load,
//! `flip` damages its files, `random` compares its ways of answering; `mesh`, `failover` and `cancel` do the same to several nodes.
//! What this is not: a part of the server; it links none of it.
//!
//! Every run prints its seed and the arguments that replay it, and ends with exit status 0 only if everything was checked and held.

mod cancel;
mod failover;
mod flip;
mod kill9;
mod mesh;
mod random;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// SIGKILL at random moments under write load; nothing acknowledged may be lost, doubled or halved.
    Kill9(kill9::Options),
    /// Single flipped bits in durable files; each is refused with file and offset, or the data is exactly right.
    Flip(flip::Options),
    /// Statements that wait for another node end when they are cancelled, when their time is over, or when nobody answers.
    Cancel(cancel::Options),
    /// How long clients of other nodes wait when a leader dies or stops.
    Failover(failover::Options),
    /// Several nodes under faults, clients that change nodes with every operation, histories judged.
    Mesh(mesh::Options),
    /// Random queries: the view, the interpreter and PostgreSQL must agree.
    Random(random::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Kill9(options) => kill9::run(&options).await,
        Command::Flip(options) => flip::run(&options).await,
        Command::Cancel(options) => cancel::run(&options).await,
        Command::Failover(options) => failover::run(&options).await,
        Command::Mesh(options) => mesh::run(&options).await,
        Command::Random(options) => random::run(&options).await,
    }
}
