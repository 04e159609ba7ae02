//! Three nodes beside themselves: asking the leader and asking another gateway, one CLUSTER's trouble and another's reads, many CLUSTERs at rest.

mod isolation;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use harness::Sql;
use harness::mesh::Mesh;

use crate::measure::{LOOKUP, load_average, make_keys, median, must, pgbench};
use isolation::isolation;

#[derive(Args)]
pub struct Options {
    #[arg(long, default_value = "target/release/clusterd")]
    binary: PathBuf,
    /// pgbench of PostgreSQL 15.
    #[arg(long, default_value = "/usr/lib/postgresql/15/bin/pgbench")]
    pgbench: PathBuf,
    #[arg(long)]
    dir: Option<PathBuf>,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// gateway, isolation, idle; all if not given.
    #[arg(long)]
    only: Vec<String>,
}

pub async fn run(options: &Options) -> Result<()> {
    ensure!(
        options.rounds > 0 && options.seconds > 0,
        "nothing to measure"
    );
    let dir = match &options.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let wanted = |part: &str| options.only.is_empty() || options.only.iter().any(|o| o == part);
    if wanted("gateway") {
        gateway(options, &dir.path().join("gateway")).await?;
    }
    if wanted("isolation") {
        isolation(options, &dir.path().join("isolation")).await?;
    }
    if wanted("idle") {
        idle(options, &dir.path().join("idle")).await?;
    }
    Ok(())
}

/// Point SELECTs of a materialized view at its CLUSTER's leader, and at a gateway that neither leads it nor ENV.
async fn gateway(options: &Options, dir: &Path) -> Result<()> {
    let mesh = Mesh::form(&options.binary, dir, 3).await?;
    let sql = mesh.sql(0).await?;
    make_keys(&sql).await?;
    let roles = mesh.roles(0, Some("kvm")).await?;
    let leader = roles.cluster_leader.context("the cluster has no leader")?;
    let other = (0..mesh.count())
        .map(|place| mesh.id(place))
        .find(|id| *id != leader && *id != roles.env_leader)
        .context("no node without a lead")?;
    let script = dir.join("lookup.sql");
    std::fs::write(&script, LOOKUP)?;
    let at = |id: u64| mesh.place(id).map(|place| mesh.node(place).target());
    let targets = [leader, other].map(|id| at(id).context("an unknown node"));
    let [leading, forwarding] = targets;
    let (leading, forwarding) = (leading?, forwarding?);
    println!(
        "medians of {} rounds of {} s, alternating; ENV is led by node {}",
        options.rounds, options.seconds, roles.env_leader
    );
    println!(
        "| point SELECT of a view | at the CLUSTER's leader (node {leader}) | through node {other} | ratio | load |"
    );
    println!("|---|---|---|---|---|");
    let mut extra_us = 0.0;
    for clients in [1, 64] {
        let mut rates = [vec![], vec![]];
        for _ in 0..options.rounds {
            for (at, target) in [&leading, &forwarding].into_iter().enumerate() {
                rates[at].push(pgbench(
                    &options.pgbench,
                    target,
                    &script,
                    "prepared",
                    clients,
                    options.seconds,
                )?);
            }
        }
        let [a, b] = &mut rates;
        let (a, b) = (median(a), median(b));
        println!(
            "| {clients} connections, prepared | {a:.0}/s ({:.0} us each) | {b:.0}/s ({:.0} us each) | {:.2}x | {} |",
            1e6 * clients as f64 / a,
            1e6 * clients as f64 / b,
            b / a,
            load_average()
        );
        if clients == 1 {
            extra_us = 1e6 / b - 1e6 / a;
        }
    }
    // The median of pings, as that gateway has measured them while it was asked.
    let place = mesh.place(other).context("an unknown node")?;
    let ping = format!(
        "select round_trip_seconds * 1000000 from mz_internal.mz_mesh_links where node_id = {leader} and lane = 'peek' and round_trip_seconds is not null"
    );
    let ping: f64 = wait_for(&mesh.sql(place).await?, &ping).await?.parse()?;
    println!(
        "p50 of the mesh's own ping between them: {ping:.0} us; another gateway adds {extra_us:.0} us to a single reader's latency, {:.1} of them",
        extra_us / ping
    );
    Ok(())
}

/// CPU and memory of nodes that have nothing to do.
async fn idle(options: &Options, dir: &Path) -> Result<()> {
    let mesh = Mesh::form(&options.binary, dir, 3).await?;
    let sql = mesh.sql(0).await?;
    println!(
        "| CLUSTERs at rest, 3 nodes, each in every group | CPU per node, of a core | resident memory per node |"
    );
    println!("|---|---|---|");
    print_idle(&mesh, 1).await?;
    for number in 0..63 {
        must(
            &sql,
            &format!("create cluster idle{number} (replication factor 3)"),
        )
        .await?;
    }
    wait_for_leaders(&sql, 64).await?;
    print_idle(&mesh, 64).await
}

/// The first value of a query, once it has one.
async fn wait_for(sql: &Sql, query: &str) -> Result<String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match sql.one(query).await {
            Ok(value) if !value.is_empty() => return Ok(value),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
        ensure!(Instant::now() < deadline, "in vain: {query}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn wait_for_leaders(sql: &Sql, count: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let led = sql
            .one("select count(distinct cluster_id) from mz_internal.mz_cluster_leaders")
            .await?;
        if led.parse::<usize>().is_ok_and(|led| led >= count) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "only {led} of {count} clusters are led"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn print_idle(mesh: &Mesh, clusters: usize) -> Result<()> {
    const REST: Duration = Duration::from_secs(3);
    const WATCHED: Duration = Duration::from_secs(10);
    tokio::time::sleep(REST).await;
    let pids: Vec<u32> = (0..mesh.count())
        .map(|place| mesh.node(place).pid())
        .collect();
    let before = pids
        .iter()
        .map(|pid| cpu_seconds(*pid))
        .collect::<Result<Vec<_>>>()?;
    tokio::time::sleep(WATCHED).await;
    let after = pids
        .iter()
        .map(|pid| cpu_seconds(*pid))
        .collect::<Result<Vec<_>>>()?;
    let cpu: Vec<String> = before
        .iter()
        .zip(&after)
        .map(|(b, a)| format!("{:.1} %", (a - b) / WATCHED.as_secs_f64() * 100.0))
        .collect();
    let memory: Vec<String> = (0..mesh.count())
        .map(|place| {
            format!(
                "{} MiB",
                mesh.node(place).resident_bytes().unwrap_or(0) >> 20
            )
        })
        .collect();
    println!(
        "| {clusters} | {} | {} |",
        cpu.join(", "),
        memory.join(", ")
    );
    Ok(())
}

/// CPU seconds that a process has used so far.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may hold anything: utime and stime are the 14th and 15th field of all.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |at: usize| {
        fields
            .split_whitespace()
            .nth(at)
            .and_then(|f| f.parse::<u64>().ok())
    };
    let ticks = field(11).unwrap_or(0) + field(12).unwrap_or(0);
    Ok(ticks as f64 / TICKS_PER_SECOND)
}
