//! Endless updates of a small table with two views: memory must not grow with them.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use harness::Launch;

use crate::measure::{fill, must};

/// Rows of the table.
const ROWS: usize = 100_000;

#[derive(Args)]
pub struct Options {
    #[arg(long, default_value = "target/release/clusterd")]
    binary: PathBuf,
    /// Updated rows in all.
    #[arg(long, default_value_t = 10_000_000)]
    updates: usize,
    /// Updated rows per statement.
    #[arg(long, default_value_t = 10_000)]
    batch: usize,
    /// Growth allowed between the third of the updates that warms up and the end: history is kept for some seconds, so
    /// that much has to come together first.
    #[arg(long, default_value_t = 1.3)]
    growth_max: f64,
}

pub async fn run(options: &Options) -> Result<()> {
    ensure!(
        options.batch > 0 && options.batch <= ROWS && options.updates >= 20 * options.batch,
        "too few updates for a warm-up"
    );
    let directory = tempfile::tempdir()?;
    let server = Launch::new(&options.binary, directory.path().join("data")).start()?;
    let sql = server.target().connect().await?;
    must(&sql, "create table t (k int primary key, g int, v bigint)").await?;
    fill(&sql, "t", "x, x % 1000, 0", ROWS).await?;
    must(&sql, "create materialized view by_group as select g, count(*) as n, sum(v) as s from t group by g").await?;
    must(
        &sql,
        "create materialized view largest as select k, v from t order by v desc, k limit 10",
    )
    .await?;
    let statements = options.updates / options.batch;
    let mut samples = Vec::new();
    let started = Instant::now();
    println!("| updated rows | resident MiB | seconds |\n|---|---|---|");
    for n in 1..=statements {
        let first = (n - 1) * options.batch % ROWS + 1;
        must(
            &sql,
            &format!(
                "update t set v = v + 1 where k between {first} and {}",
                first + options.batch - 1
            ),
        )
        .await?;
        if n % (statements / 20).max(1) == 0 {
            let resident = server.resident_bytes().context("resident memory")? >> 20;
            println!(
                "| {} | {resident} | {:.1} |",
                n * options.batch,
                started.elapsed().as_secs_f64()
            );
            samples.push(resident as f64);
        }
    }
    let updated: i64 = sql.one("select sum(s) from by_group").await?.parse()?;
    ensure!(
        updated == (statements * options.batch) as i64,
        "the view counted {updated} updates"
    );
    let most = |samples: &[f64]| samples.iter().copied().fold(0.0, f64::max);
    ensure!(samples.len() >= 3, "too few samples: give it more updates");
    let third = samples.len() / 3;
    let warm = most(&samples[..third]);
    let last = most(&samples[samples.len() - third..]);
    println!(
        "after warm-up {warm:.0} MiB, at the end {last:.0} MiB: {:.2}x",
        last / warm
    );
    ensure!(
        last <= warm * options.growth_max,
        "memory grows with updates"
    );
    Ok(())
}
