//! Kill and come back: how long until the first answer, and until every view answers.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use harness::Launch;

use crate::measure::must;

#[derive(Args)]
pub struct Options {
    #[arg(long, default_value = "target/release/clusterd")]
    binary: PathBuf,
    /// A directory with tables and materialized views, such as `tpch check` leaves; the server over it must have ended.
    #[arg(long)]
    data_dir: PathBuf,
    /// The table of the first SELECT.
    #[arg(long, default_value = "orders")]
    table: String,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Empty the page cache before each start. For root on Linux.
    #[arg(long)]
    cold: bool,
}

pub async fn run(options: &Options) -> Result<()> {
    let launch = Launch::new(&options.binary, &options.data_dir);
    let mut server = launch.start()?;
    println!("| round | ready s | first SELECT s | all views s |\n|---|---|---|---|");
    for round in 1..=options.rounds {
        server.kill9();
        if options.cold {
            drop_page_cache()?;
        }
        let started = Instant::now();
        server = launch.start()?;
        let ready = started.elapsed().as_secs_f64();
        let sql = server.target().connect().await?;
        must(&sql, &format!("select count(*) from {}", options.table)).await?;
        let first = started.elapsed().as_secs_f64();
        for row in sql.rows("show materialized views").await?.rows() {
            if let Some(Some(view)) = row.first() {
                must(&sql, &format!("select count(*) from {view}")).await?;
            }
        }
        println!(
            "| {round} | {ready:.2} | {first:.2} | {:.2} |",
            started.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

/// Pages that are not written yet cannot be dropped.
fn drop_page_cache() -> Result<()> {
    // SAFETY: sync takes no arguments and always succeeds.
    unsafe { libc::sync() };
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("emptying the page cache")
}
