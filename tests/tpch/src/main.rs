//! TPC-H as maintained views: the data, the queries, and the comparison with PostgreSQL after every batch of changes.
//!
//! What this is: a client of two servers. It loads both through COPY, creates the queries as materialized views on the subject, applies the same
//! random changes to both, and compares every answer after every batch, numbers exactly.
//! What this is not: the TPC-H benchmark; no figure here is a TPC-H result.
//!
//! Q3 and Q10 order by one more key than their specification, so that their LIMIT has one right answer.

mod change;
mod check;
mod data;

use std::path::PathBuf;
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
    /// Writes the eight tables as .tbl files.
    Gen {
        #[arg(long, default_value_t = 0.01)]
        scale: f64,
        #[arg(long)]
        out: PathBuf,
    },
    /// Loads both servers, maintains the views, changes rows, compares.
    Check(check::Options),
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
        Command::Gen { scale, out } => data::write_tbl(scale, &out),
        Command::Check(options) => check::run(&options).await,
    }
}
