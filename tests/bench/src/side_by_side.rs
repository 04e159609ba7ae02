//! clusterd beside PostgreSQL 15 in one run, as rows of a Markdown table.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use harness::{Launch, Server, Sql, Target};

use crate::measure::{
    INSERT, LOOKUP, fdatasync_us, fill, load_average, make_keys, median, must, percentile, pgbench,
};
use crate::postgres::Postgres;

/// Rows below the GROUP BY view.
const GROUPED_ROWS: usize = 1_000_000;
/// Updates that are timed until they are visible.
const UPDATES: usize = 200;

#[derive(Args)]
pub struct Options {
    #[arg(long, default_value = "target/release/clusterd")]
    binary: PathBuf,
    #[arg(long, default_value = "/usr/lib/postgresql/15/bin")]
    pg_bin: PathBuf,
    /// Where both servers keep their data; must be a disk, not memory.
    #[arg(long)]
    dir: Option<PathBuf>,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of one pgbench run.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// select, insert, visible; all if not given.
    #[arg(long)]
    only: Vec<String>,
}

/// The two servers of a run.
struct Pair {
    clusterd: Server,
    postgres: Postgres,
    dir: PathBuf,
    pgbench: PathBuf,
}

pub async fn run(options: &Options) -> Result<()> {
    ensure!(
        options.rounds > 0 && options.seconds > 0,
        "nothing to measure"
    );
    let temporary = match &options.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    // PostgreSQL runs as another user and has to reach its directory.
    std::fs::set_permissions(
        temporary.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )?;
    let pair = Pair {
        clusterd: Launch::new(&options.binary, temporary.path().join("clusterd")).start()?,
        postgres: Postgres::start(&options.pg_bin, &temporary.path().join("pg"))?,
        dir: temporary.path().to_owned(),
        pgbench: options.pg_bin.join("pgbench"),
    };
    println!(
        "medians of {} rounds of {} s, alternating; client and servers share the cores",
        options.rounds, options.seconds
    );
    println!("| what | PostgreSQL 15 | clusterd | ratio | load average | fdatasync p50 |");
    println!("|---|---|---|---|---|---|");
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|o| o == name);
    if wanted("select") {
        select(&pair, options).await?;
    }
    if wanted("insert") {
        insert(&pair, options).await?;
    }
    if wanted("visible") {
        visible(&pair, options).await?;
    }
    Ok(())
}

impl Pair {
    async fn sessions(&self) -> Result<[Sql; 2]> {
        Ok([
            self.postgres.target().connect().await?,
            self.clusterd.target().connect().await?,
        ])
    }

    fn targets(&self) -> [Target; 2] {
        [self.postgres.target(), self.clusterd.target()]
    }

    /// Alternating runs of one script: the median of each server, the load and the disk while it ran.
    fn rounds(
        &self,
        what: &str,
        script: &Path,
        mode: &str,
        clients: usize,
        options: &Options,
    ) -> Result<()> {
        let mut rates = [Vec::new(), Vec::new()];
        let (mut disk, mut load) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            for (target, rates) in self.targets().iter().zip(&mut rates) {
                disk.push(fdatasync_us(&self.dir)?);
                rates.push(pgbench(
                    &self.pgbench,
                    target,
                    script,
                    mode,
                    clients,
                    options.seconds,
                )?);
                load.push(load_average());
            }
        }
        let [postgres, clusterd] = rates.map(|mut r| median(&mut r));
        let what = format!(
            "{what}, {clients} connection{}, {mode}",
            if clients == 1 { "" } else { "s" }
        );
        println!(
            "| {what} | {postgres:.0}/s | {clusterd:.0}/s | {:.2}x | {} | {:.0} us |",
            clusterd / postgres,
            load.join(" "),
            median(&mut disk)
        );
        Ok(())
    }

    fn script(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

async fn select(pair: &Pair, options: &Options) -> Result<()> {
    for sql in pair.sessions().await? {
        make_keys(&sql).await?;
    }
    must(&pair.postgres.target().connect().await?, "vacuum analyze").await?;
    let script = pair.script("select.sql", LOOKUP)?;
    for mode in ["simple", "prepared"] {
        for clients in [1, 128] {
            pair.rounds(
                "SELECT by key of an indexed materialized view of 100k rows",
                &script,
                mode,
                clients,
                options,
            )?;
        }
    }
    Ok(())
}

async fn insert(pair: &Pair, options: &Options) -> Result<()> {
    for sql in pair.sessions().await? {
        must(&sql, "create table ins (k bigint, v text)").await?;
    }
    let script = pair.script("insert.sql", INSERT)?;
    for clients in [1, 128] {
        pair.rounds(
            "durable single-row INSERT",
            &script,
            "simple",
            clients,
            options,
        )?;
    }
    Ok(())
}

/// One changed row of a million until the GROUP BY view shows it: by REFRESH there, at once here.
async fn visible(pair: &Pair, options: &Options) -> Result<()> {
    let [postgres, clusterd] = pair.sessions().await?;
    for sql in [&postgres, &clusterd] {
        must(sql, "create table big (id int primary key, g int, v int)").await?;
        fill(sql, "big", "x, x % 1000, x % 777", GROUPED_ROWS).await?;
        must(sql, "create materialized view grouped as select g, count(*) as n, sum(v) as s from big group by g").await?;
        must(sql, "create index grouped_g on grouped (g)").await?;
    }
    must(&postgres, "vacuum analyze").await?;
    let (mut refresh, mut change, mut disk) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds {
        disk.push(fdatasync_us(&pair.dir)?);
        for n in 0..3 {
            refresh.push(
                until_visible(
                    &postgres,
                    round * 1000 + n,
                    Some("refresh materialized view grouped"),
                )
                .await?,
            );
        }
        for n in 0..UPDATES {
            change.push(until_visible(&clusterd, round * 1000 + n, None).await?);
        }
    }
    let (theirs, ours) = (median(&mut refresh), median(&mut change));
    println!(
        "| one update of 1M rows until a GROUP BY view shows it | {:.1} ms (REFRESH) | {:.3} ms (p99 {:.3} ms) | {:.0}x | {} | {:.0} us |",
        theirs * 1e3,
        ours * 1e3,
        percentile(&mut change, 99) * 1e3,
        theirs / ours,
        load_average(),
        median(&mut disk)
    );
    Ok(())
}

/// Seconds from sending an update to having read its effect.
async fn until_visible(sql: &Sql, n: usize, between: Option<&str>) -> Result<f64> {
    let id = n * 37 % GROUPED_ROWS + 1;
    let read = format!("select s from grouped where g = {}", id % 1000);
    let before: i64 = sql.one(&read).await?.parse()?;
    let started = Instant::now();
    must(sql, &format!("update big set v = v + 1 where id = {id}")).await?;
    if let Some(statement) = between {
        must(sql, statement).await?;
    }
    let after: i64 = sql.one(&read).await?.parse()?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(
        after == before + 1,
        "the view shows {after} after one more than {before}"
    );
    Ok(seconds)
}
