//! Measurements that anyone can repeat: clusterd beside PostgreSQL 15, memory under endless updates, time to come back, who is busy.
//!
//! What this is: a SQL client with a clock. Both servers run on loopback with their default configuration, the rounds alternate (A B A B), the figure
//! is the median, and the load average and the median fdatasync of the same moment stand beside it. Ratios count, not absolute figures.
//! What this is not: the engine without SQL; `floor/` is that, as a package of its own.

mod busy;
mod etcd;
mod measure;
mod memory;
mod mesh;
mod postgres;
mod recovery;
mod side_by_side;

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
    /// Point SELECT, durable INSERT, and update-to-visible against REFRESH, beside PostgreSQL 15.
    SideBySide(side_by_side::Options),
    /// Resident memory while a small table with two views is updated again and again.
    Memory(memory::Options),
    /// Time from start to the first answer over a directory that a killed server left.
    Recovery(recovery::Options),
    /// Busy time of every shared task while 128 connections read and a few write 500 rows a second.
    Busy(busy::Options),
    /// Durable writes, linearizable reads and the gap after a leader's death, beside etcd 3.4; three nodes each.
    Etcd(etcd::Options),
    /// Three nodes: another gateway beside the leader, one CLUSTER's trouble beside another's reads, 64 CLUSTERs at rest.
    Mesh(mesh::Options),
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
        Command::SideBySide(options) => side_by_side::run(&options).await,
        Command::Memory(options) => memory::run(&options).await,
        Command::Recovery(options) => recovery::run(&options).await,
        Command::Busy(options) => busy::run(&options).await,
        Command::Etcd(options) => etcd::run(&options).await,
        Command::Mesh(options) => mesh::run(&options).await,
    }
}
