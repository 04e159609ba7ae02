//! Three nodes beside themselves: asking the leader and asking another gateway, one CLUSTER's trouble and another's reads, many CLUSTERs at rest.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use harness::mesh::Mesh;
use harness::{Sql, Target};
use tokio::task::JoinSet;

use crate::measure::{LOOKUP, load_average, make_keys, median, must, percentile, pgbench};

/// Clients that read from CLUSTER b while CLUSTER a is in trouble.
const PROBES: usize = 8;
/// Clients that flood CLUSTER a.
const FLOOD: usize = 32;

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
    let ping = sql
        .one("select min(round_trip_seconds) * 1000000 from mz_internal.mz_mesh_links where connected")
        .await?;
    println!(
        "medians of {} rounds of {} s, alternating; ENV is led by node {}",
        options.rounds, options.seconds, roles.env_leader
    );
    println!(
        "| point SELECT of a view | at the CLUSTER's leader (node {leader}) | through node {other} | ratio | load |"
    );
    println!("|---|---|---|---|---|");
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
    }
    println!(
        "least smoothed round trip of a mesh link that node {} sees: {ping} us",
        roles.gateway
    );
    Ok(())
}

/// What a client of CLUSTER b sees.
struct Seen {
    p99_us: f64,
    per_second: f64,
    ddl_ms: f64,
}

async fn isolation(options: &Options, dir: &Path) -> Result<()> {
    let mut mesh = Mesh::form(&options.binary, dir, 3).await?;
    let sql = mesh.sql(0).await?;
    must(
        &sql,
        "create table rows (k int primary key, v int not null)",
    )
    .await?;
    must(
        &sql,
        "insert into rows select g, g % 97 from generate_series(1, 20000) g",
    )
    .await?;
    let env_leader = mesh.roles(0, None).await?.env_leader;
    // One after the other, until two CLUSTERs are on nodes that do not lead ENV: what is measured is the CLUSTER's trouble, not a leader's.
    let mut placed: Vec<(String, u64)> = vec![];
    for number in 0..6 {
        let name = format!("c{number}");
        must(
            &sql,
            &format!("create cluster {name} (replication factor 1)"),
        )
        .await?;
        must(
            &sql,
            &format!(
                "create materialized view {name}_view in cluster {name} as select k, v from rows"
            ),
        )
        .await?;
        must(
            &sql,
            &format!("create index {name}_key in cluster {name} on {name}_view (k)"),
        )
        .await?;
        let replica = "select r.node_id from mz_catalog.mz_cluster_replicas r join mz_catalog.mz_clusters c on c.id = r.cluster_id";
        let node = wait_for(
            &sql,
            &format!("{replica} where c.name = '{name}' and r.node_id is not null"),
        )
        .await?;
        // So that it is complete before anything is measured.
        wait_for(&sql, &format!("select v from {name}_view where k = 1")).await?;
        placed.push((name, node.parse()?));
    }
    let a = placed.iter().find(|(_, node)| *node != env_leader);
    let (a, a_node) = a.context("every cluster is on ENV's leader")?.clone();
    let b = placed.iter().find(|(_, node)| *node != a_node);
    let (b, b_node) = b.context("all clusters are on one node")?.clone();
    let place = |id: u64| mesh.place(id).context("an unknown node");
    let (a_place, b_place) = (place(a_node)?, place(b_node)?);
    pin(&[mesh.node(a_place).pid()], "0")?;
    let rest: Vec<u32> = (0..3)
        .filter(|p| *p != a_place)
        .map(|p| mesh.node(p).pid())
        .chain([std::process::id()])
        .collect();
    pin(&rest, "1")?;
    println!(
        "CLUSTER {a} on node {a_node} and its clients have one core, everything else the other; {b} on node {b_node}, ENV led by node {env_leader}"
    );
    println!("| | {b}: reads by key, p99 | {b}: reads/s | CREATE and DROP VIEW, median |");
    println!("|---|---|---|---|");
    let (at_b, view) = (mesh.node(b_place).target(), format!("{b}_view"));
    let time = Duration::from_secs(options.seconds * options.rounds as u64);
    let calm = probe(&at_b, &view, time).await?;
    print_seen("nothing else", &calm, None);
    let mut burners = Flood::burners()?;
    let burnt = probe(&at_b, &view, time).await?;
    print_seen(
        "control: programs that only compute on the other core",
        &burnt,
        Some(&calm),
    );
    burners.stop();
    let mut flood = Flood::start(&options.pgbench, &mesh.node(a_place).target(), &a, dir)?;
    let flooded = probe(&at_b, &view, time).await?;
    print_seen(
        &format!("{FLOOD} clients read all of {a}'s view, a cross join runs there"),
        &flooded,
        Some(&calm),
    );
    flood.stop();
    mesh.node_mut(a_place).kill9();
    let alone = probe(&at_b, &view, time).await?;
    print_seen(
        &format!("{a}'s only replica was killed"),
        &alone,
        Some(&calm),
    );
    Ok(())
}

fn print_seen(what: &str, seen: &Seen, calm: Option<&Seen>) {
    let ratio = |now: f64, then: fn(&Seen) -> f64| {
        calm.map_or(String::new(), |calm| format!(" ({:.2}x)", now / then(calm)))
    };
    println!(
        "| {what} | {:.0} us{} | {:.0} | {:.1} ms{} |",
        seen.p99_us,
        ratio(seen.p99_us, |s| s.p99_us),
        seen.per_second,
        seen.ddl_ms,
        ratio(seen.ddl_ms, |s| s.ddl_ms)
    );
}

/// Reads of a view by key, with a pause of a millisecond between two of a client, and DDL beside them.
async fn probe(target: &Target, view: &str, time: Duration) -> Result<Seen> {
    let stop = Arc::new(AtomicBool::new(false));
    let next = Arc::new(AtomicU64::new(1));
    let mut clients = JoinSet::new();
    for _ in 0..PROBES {
        let sql = target.connect().await?;
        let (stop, next, view) = (Arc::clone(&stop), Arc::clone(&next), view.to_owned());
        clients.spawn(async move {
            let mut times = vec![];
            while !stop.load(Ordering::Relaxed) {
                let key = next.fetch_add(7, Ordering::Relaxed) % 20_000 + 1;
                let started = Instant::now();
                let found = sql
                    .one(&format!("select v from {view} where k = {key}"))
                    .await?;
                times.push(started.elapsed().as_secs_f64() * 1e6);
                ensure!(!found.is_empty(), "key {key} was not found");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            anyhow::Ok(times)
        });
    }
    let ddl = target.connect().await?;
    let (started, mut ddl_times) = (Instant::now(), vec![]);
    while started.elapsed() < time {
        let begun = Instant::now();
        must(&ddl, "create view probe_ddl as select 1 as one").await?;
        must(&ddl, "drop view probe_ddl").await?;
        ddl_times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    stop.store(true, Ordering::Relaxed);
    let mut times = vec![];
    while let Some(client) = clients.join_next().await {
        times.extend(client??);
    }
    let per_second = times.len() as f64 / started.elapsed().as_secs_f64();
    Ok(Seen {
        p99_us: percentile(&mut times, 99),
        per_second,
        ddl_ms: median(&mut ddl_times),
    })
}

/// Clients of CLUSTER a, on its core.
struct Flood {
    processes: Vec<std::process::Child>,
}

impl Flood {
    fn start(program: &Path, target: &Target, cluster: &str, dir: &Path) -> Result<Flood> {
        let reads = dir.join("flood.sql");
        std::fs::write(&reads, format!("select sum(k + v) from {cluster}_view;\n"))?;
        let runaway = dir.join("runaway.sql");
        let view = format!("{cluster}_view");
        std::fs::write(
            &runaway,
            format!(
                "set cluster = {cluster};\nselect count(*) from {view} x, {view} y, {view} z where x.v + y.v + z.v = 1;\n"
            ),
        )?;
        let start = |script: &Path, clients: usize| {
            std::process::Command::new("taskset")
                .args(["-c", "0"])
                .arg(program)
                .args([
                    "-h",
                    &target.host,
                    "-p",
                    &target.port.to_string(),
                    "-U",
                    &target.user,
                    "-n",
                ])
                .args(["-c", &clients.to_string(), "-T", "600", "-f"])
                .arg(script)
                .arg(&target.dbname)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .context("running pgbench below taskset")
        };
        Ok(Flood {
            processes: vec![start(&reads, FLOOD)?, start(&runaway, 1)?],
        })
    }

    /// Nothing of the database: what two cores of one machine do to each other.
    fn burners() -> Result<Flood> {
        let start = || {
            std::process::Command::new("taskset")
                .args(["-c", "0", "sh", "-c", "while :; do :; done"])
                .spawn()
                .context("running taskset")
        };
        Ok(Flood {
            processes: vec![start()?, start()?],
        })
    }

    fn stop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Pins all threads of processes to a core.
fn pin(pids: &[u32], core: &str) -> Result<()> {
    for pid in pids {
        let done = std::process::Command::new("taskset")
            .args(["-a", "-c", "-p", core, &pid.to_string()])
            .stdout(std::process::Stdio::null())
            .status()
            .context("running taskset")?;
        ensure!(done.success(), "process {pid} was not pinned");
    }
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
