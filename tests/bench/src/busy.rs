//! No hidden main loop: what every shared task does while 128 connections read at full rate and a few write 500 rows a second.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use harness::{Launch, Target};

use crate::measure::{LOOKUP, make_keys, must, pgbench};

const WRITES_PER_SECOND: u64 = 500;
/// Connections that share the writing: one alone would wait for the disk and for its turn among the readers.
const WRITERS: u64 = 8;

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
    let until = started + Duration::from_secs(options.seconds);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(server.target(), writer, until));
    }
    let (program, target, seconds) = (options.pgbench.clone(), server.target(), options.seconds);
    let rate = tokio::task::spawn_blocking(move || {
        pgbench(&program, &target, &script, "prepared", 128, seconds)
    })
    .await??;
    let mut written = 0;
    while let Some(writer) = writers.join_next().await {
        written += writer??;
    }
    let (elapsed, after) = (started.elapsed().as_secs_f64(), server.metrics()?);

    println!(
        "{rate:.0} SELECTs/s, {:.0} durable writes/s, {elapsed:.1} s",
        written as f64 / elapsed
    );
    let run = Run {
        before: &before,
        after: &after,
        seconds: elapsed,
    };
    run.print_goals(rate, written);
    println!("\n| metric | growth | per second |\n|---|---|---|");
    for (name, growth) in growth(&before, &after) {
        println!("| `{name}` | {growth:.4} | {:.4} |", growth / elapsed);
    }
    Ok(())
}

/// The metrics at both ends of a run.
struct Run<'a> {
    before: &'a BTreeMap<String, f64>,
    after: &'a BTreeMap<String, f64>,
    seconds: f64,
}

impl Run<'_> {
    fn growth(&self, metric: &str, task: &str) -> f64 {
        let name = format!("{metric}{{task=\"{task}\"}}");
        let at = |metrics: &BTreeMap<String, f64>| metrics.get(&name).copied().unwrap_or(0.0);
        at(self.after) - at(self.before)
    }

    /// Percent of one core that these tasks were busy.
    fn busy(&self, tasks: &[&str]) -> f64 {
        let busy = |task: &&str| self.growth("clusterd_task_busy_seconds_total", task);
        tasks.iter().map(busy).sum::<f64>() / self.seconds * 100.0
    }

    /// The longest step in seconds of those tasks that had a longer one than ever before, and whose it was.
    fn longest_step(&self) -> (f64, &str) {
        let steps = self.after.iter().filter_map(|(name, seconds)| {
            let task = name.strip_prefix("clusterd_task_longest_step_seconds{task=\"")?;
            let before = self.before.get(name).copied().unwrap_or(0.0);
            (*seconds > before).then_some((*seconds, task.trim_end_matches("\"}")))
        });
        steps.fold((0.0, ""), |a, b| if b.0 > a.0 { b } else { a })
    }

    fn print_goals(&self, selects: f64, written: u64) {
        let steps = |task| self.growth("clusterd_task_steps_total", task);
        let (longest, whose) = self.longest_step();
        println!("| what | measured | goal |\n|---|---|---|");
        println!(
            "| read points + ENV core + apply | {:.1} % of one core | under 20 % |",
            self.busy(&["read_points", "env-core", "env-apply", "env-state-apply"])
        );
        println!(
            "| controller | {:.2} % of one core | under 5 % |",
            self.busy(&["controller"])
        );
        println!(
            "| longest single step | {:.1} ms ({whose}) | under 5 ms |",
            longest * 1e3
        );
        // What passes neither for a SELECT has steps per write and per second, however many SELECTs there are.
        println!(
            "| steps beside {:.0} SELECTs | ENV's apply {:.0} for {written} writes, controller {:.0} | none for SELECTs |",
            selects * self.seconds,
            steps("env-state-apply"),
            steps("controller"),
        );
    }
}

/// One writer's share of single-row writes at a fixed rate; how many were acknowledged.
async fn write(target: Target, writer: u64, until: Instant) -> Result<u64> {
    let sql = target.connect().await?;
    let mut ticks = tokio::time::interval(Duration::from_micros(
        1_000_000 * WRITERS / WRITES_PER_SECOND,
    ));
    let mut written = 0;
    while Instant::now() < until {
        ticks.tick().await;
        must(
            &sql,
            &format!(
                "insert into w values ({}, {})",
                written * WRITERS + writer,
                written % 10
            ),
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
