//! No hidden main loop: what every shared task does while 128 connections read at full rate and one writes 500 rows a second.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use harness::{Launch, Target};

use crate::measure::{LOOKUP, make_keys, must, pgbench};

const WRITES_PER_SECOND: u64 = 500;

#[derive(Args)]
pub struct Options {
    #[arg(long, default_value = "target/release/clusterd")]
    binary: PathBuf,
    #[arg(long, default_value = "/usr/lib/postgresql/15/bin/pgbench")]
    pgbench: PathBuf,
    #[arg(long, default_value_t = 15)]
    seconds: u64,
}

pub async fn run(options: &Options) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let server = Launch::new(&options.binary, directory.path().join("data")).start()?;
    let sql = server.target().connect().await?;
    make_keys(&sql).await?;
    must(&sql, "create table w (k bigint, g int)").await?;
    must(
        &sql,
        "create materialized view w_count as select g, count(*) as n from w group by g",
    )
    .await?;
    must(
        &sql,
        "create materialized view w_last as select max(k) as k from w",
    )
    .await?;
    let script = directory.path().join("select.sql");
    std::fs::write(&script, LOOKUP)?;

    let before = server.metrics()?;
    let started = Instant::now();
    let writer = tokio::spawn(write(
        server.target(),
        started + Duration::from_secs(options.seconds),
    ));
    let (program, target, seconds) = (options.pgbench.clone(), server.target(), options.seconds);
    let rate = tokio::task::spawn_blocking(move || {
        pgbench(&program, &target, &script, "prepared", 128, seconds)
    })
    .await??;
    let written = writer.await??;
    let (elapsed, after) = (started.elapsed().as_secs_f64(), server.metrics()?);

    println!(
        "{rate:.0} SELECTs/s, {:.0} durable writes/s, {elapsed:.1} s",
        written as f64 / elapsed
    );
    println!("| metric | growth | per second |\n|---|---|---|");
    for (name, growth) in growth(&before, &after) {
        println!("| `{name}` | {growth:.4} | {:.4} |", growth / elapsed);
    }
    Ok(())
}

/// Single-row writes at a fixed rate; how many were acknowledged.
async fn write(target: Target, until: Instant) -> Result<u64> {
    let sql = target.connect().await?;
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / WRITES_PER_SECOND));
    let mut written = 0;
    while Instant::now() < until {
        ticks.tick().await;
        must(
            &sql,
            &format!("insert into w values ({written}, {})", written % 10),
        )
        .await?;
        written += 1;
    }
    Ok(written)
}

/// Metrics that moved, without the buckets of histograms; gauges of longest steps are shown by their growth as well.
fn growth(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> Vec<(String, f64)> {
    let moved = after
        .iter()
        .filter(|(name, _)| !name.contains("_bucket"))
        .map(|(name, now)| (name.clone(), now - before.get(name).copied().unwrap_or(0.0)));
    moved.filter(|(_, growth)| *growth != 0.0).collect()
}
