//! Clocks, medians, pgbench.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::{Sql, Target, sql::error_text};

/// Rows of the table and view that are looked up by key.
pub const KEYS: usize = 100_000;
/// Rows that one INSERT .. SELECT makes at most.
const ROWS_PER_INSERT: usize = 50_000;

/// The middle value.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which `percent` of the sorted values lie.
pub fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values
        .get((values.len() * percent / 100).min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

/// The load average of the last minute.
pub fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|t| t.split_whitespace().next().map(str::to_owned))
        .unwrap_or_default()
}

/// Median of 200 appends of 128 bytes with fdatasync, in microseconds.
pub fn fdatasync_us(dir: &Path) -> Result<f64> {
    let path = dir.join("fdatasync.probe");
    let mut file = std::fs::File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let started = Instant::now();
        file.write_all(&[7; 128])?;
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    std::fs::remove_file(path)?;
    Ok(median(&mut times))
}

/// One pgbench run: transactions per second.
pub fn pgbench(
    program: &Path,
    target: &Target,
    script: &Path,
    mode: &str,
    clients: usize,
    seconds: u64,
) -> Result<f64> {
    let output = Command::new(program)
        .args([
            "-h",
            &target.host,
            "-p",
            &target.port.to_string(),
            "-U",
            &target.user,
            "-n",
            "-M",
            mode,
        ])
        .args([
            "-c",
            &clients.to_string(),
            "-j",
            if clients > 1 { "2" } else { "1" },
            "-T",
            &seconds.to_string(),
            "-f",
        ])
        .arg(script)
        .arg(&target.dbname)
        .output()
        .with_context(|| format!("running {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success(),
        "pgbench -M {mode} -c {clients}: {errors:.500}"
    );
    let tps = text
        .lines()
        .find_map(|l| l.strip_prefix("tps = "))
        .and_then(|l| l.split_whitespace().next())
        .and_then(|v| v.parse().ok());
    tps.with_context(|| format!("pgbench printed no tps:\n{text}{errors:.500}"))
}

/// Runs a statement that must succeed.
pub async fn must(sql: &Sql, text: &str) -> Result<()> {
    sql.run(text)
        .await
        .map_err(|e| anyhow::anyhow!("{text}: {}", error_text(&e)))
}

/// Fills a table from `generate_series(1, rows)`, in several transactions.
pub async fn fill(sql: &Sql, table: &str, row: &str, rows: usize) -> Result<()> {
    for first in (1..=rows).step_by(ROWS_PER_INSERT) {
        let last = (first + ROWS_PER_INSERT - 1).min(rows);
        must(
            sql,
            &format!("insert into {table} select {row} from generate_series({first}, {last}) x"),
        )
        .await?;
    }
    Ok(())
}

/// `kv`, and `kvm`, a materialized view over it with an index on its key.
pub async fn make_keys(sql: &Sql) -> Result<()> {
    must(sql, "create table kv (k int primary key, v text)").await?;
    fill(
        sql,
        "kv",
        "x, 'value number ' || x::text || ' of the table'",
        KEYS,
    )
    .await?;
    must(sql, "create materialized view kvm as select k, v from kv").await?;
    must(sql, "create index kvm_k on kvm (k)").await
}

/// The pgbench script of a point lookup.
pub const LOOKUP: &str = "\\set k random(1, 100000)\nSELECT v FROM kvm WHERE k = :k;\n";
/// The pgbench script of a durable single-row INSERT.
pub const INSERT: &str = "\\set k random(1, 1000000000)\nINSERT INTO ins VALUES (:k, 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx');\n";
