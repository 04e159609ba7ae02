//! One CLUSTER's trouble and another's reads: what a flood of reads and a runaway query on CLUSTER a do to reads of CLUSTER b and to DDL on other nodes.
//!
//! Node and clients of a have one core, everything else the other, in every phase. The flood runs on a: what its sessions cannot answer by a peek runs there too,
//! for the session's CLUSTER is a. (The default CLUSTER has replicas on all nodes: a flood of that would not be a's trouble.)

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::Target;
use harness::mesh::Mesh;
use harness::server::Server;
use tokio::task::JoinSet;

use super::{Options, wait_for};
use crate::measure::{median, must, percentile};

/// Clients that read from CLUSTER b while CLUSTER a is in trouble.
const PROBES: usize = 8;
/// Clients that flood CLUSTER a.
const FLOOD: usize = 32;
/// How long each state lasts before it is measured: what the last one left is done by then.
const SETTLING: Duration = Duration::from_secs(1);
/// Reads by key, each of them a peek.
const PEEKS: &str = "\\set k random(1, 20000)\nselect v from {view} where k = :k;\n";
/// Reads of everything, each of them a dataflow on a.
const SUMS: &str = "select sum(k + v) from {view};\n";
/// Does not end.
const RUNAWAY: &str =
    "select count(*) from {view} x, {view} y, {view} z where x.v + y.v + z.v = 1;\n";

/// What a client of CLUSTER b sees.
#[derive(Clone, Copy, Default)]
struct Seen {
    p99_us: f64,
    per_second: f64,
    ddl_ms: f64,
    /// Statements of the clients of a meanwhile.
    flood_per_second: f64,
}

impl Seen {
    /// Each figure's median over the rounds.
    fn medians(seen: &[Seen]) -> Seen {
        let of =
            |figure: fn(&Seen) -> f64| median(&mut seen.iter().map(figure).collect::<Vec<f64>>());
        Seen {
            p99_us: of(|s| s.p99_us),
            per_second: of(|s| s.per_second),
            ddl_ms: of(|s| s.ddl_ms),
            flood_per_second: of(|s| s.flood_per_second),
        }
    }
}

/// What goes on while b is looked at.
enum Phase {
    Calm,
    Burners,
    /// Scripts, each with so many clients.
    Flood {
        what: &'static str,
        scripts: &'static [(&'static str, usize)],
    },
}

/// One after the other in each round; all are compared with the first.
const PHASES: [Phase; 5] = [
    Phase::Calm,
    Phase::Burners,
    Phase::Flood {
        what: "look up keys of",
        scripts: &[(PEEKS, FLOOD)],
    },
    Phase::Flood {
        what: "look up keys, beside a cross join, of",
        scripts: &[(PEEKS, FLOOD), (RUNAWAY, 1)],
    },
    Phase::Flood {
        what: "sum up, beside a cross join, all of",
        scripts: &[(SUMS, FLOOD), (RUNAWAY, 1)],
    },
];

pub async fn isolation(options: &Options, dir: &Path) -> Result<()> {
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
    println!(
        "medians of {} rounds of {} s in each of these states",
        options.rounds, options.seconds
    );
    println!("| | {b}: reads by key, p99 | {b}: reads/s | CREATE and DROP VIEW, median |");
    println!("|---|---|---|---|");
    let (at_b, view) = (mesh.node(b_place).target(), format!("{b}_view"));
    let time = Duration::from_secs(options.seconds);
    let mut seen: Vec<Vec<Seen>> = PHASES.iter().map(|_| vec![]).collect();
    for _ in 0..options.rounds {
        for (phase, seen) in PHASES.iter().zip(&mut seen) {
            let node = mesh.node(a_place);
            let _trouble = match phase {
                Phase::Calm => Flood::default(),
                Phase::Burners => Flood::burners()?,
                Phase::Flood { scripts, what: _ } => {
                    Flood::start(&options.pgbench, &node.target(), &a, scripts, dir)?
                }
            };
            probe(&at_b, &view, SETTLING).await?;
            let (before, since) = (statements(node)?, Instant::now());
            let mut now = probe(&at_b, &view, time).await?;
            now.flood_per_second = (statements(node)? - before) / since.elapsed().as_secs_f64();
            seen.push(now);
        }
    }
    mesh.node_mut(a_place).kill9();
    let mut alone = vec![];
    for _ in 0..options.rounds {
        alone.push(probe(&at_b, &view, time).await?);
    }
    let seen: Vec<Seen> = seen.iter().map(|seen| Seen::medians(seen)).collect();
    for (phase, now) in PHASES.iter().zip(&seen) {
        let what = match phase {
            Phase::Calm => "nothing else".to_owned(),
            Phase::Burners => "control: programs that only compute on the other core".to_owned(),
            Phase::Flood { what, scripts: _ } => {
                let rate = now.flood_per_second;
                format!("{FLOOD} clients {what} {a}'s view ({rate:.0}/s)")
            }
        };
        print_seen(&what, now, &seen[0]);
    }
    let alone = Seen::medians(&alone);
    print_seen(&format!("{a}'s only replica was killed"), &alone, &seen[0]);
    Ok(())
}

fn print_seen(what: &str, seen: &Seen, calm: &Seen) {
    println!(
        "| {what} | {:.0} us ({:.2}x) | {:.0} | {:.1} ms ({:.2}x) |",
        seen.p99_us,
        seen.p99_us / calm.p99_us,
        seen.per_second,
        seen.ddl_ms,
        seen.ddl_ms / calm.ddl_ms
    );
}

/// Statements that a node has been asked.
fn statements(node: &Server) -> Result<f64> {
    let samples = node.metrics()?;
    let all = samples.get("clusterd_statements_total");
    all.copied()
        .context("the node does not count its statements")
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
        flood_per_second: 0.0,
    })
}

/// Clients of CLUSTER a, on its core; dropping this ends them.
#[derive(Default)]
struct Flood {
    processes: Vec<std::process::Child>,
}

impl Flood {
    /// Each script by so many clients.
    fn start(
        program: &Path,
        target: &Target,
        cluster: &str,
        scripts: &[(&str, usize)],
        dir: &Path,
    ) -> Result<Flood> {
        let mut flood = Flood::default();
        for (number, (script, clients)) in scripts.iter().enumerate() {
            let path = dir.join(format!("flood{number}.sql"));
            std::fs::write(&path, script.replace("{view}", &format!("{cluster}_view")))?;
            let client = std::process::Command::new("taskset")
                .args(["-c", "0"])
                .arg(program)
                .env("PGOPTIONS", format!("-c cluster={cluster}"))
                .args(["-h", &target.host, "-p", &target.port.to_string()])
                .args(["-U", &target.user, "-n", "-T", "600"])
                .args(["-c", &clients.to_string(), "-f"])
                .arg(&path)
                .arg(&target.dbname)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .context("running pgbench below taskset")?;
            flood.processes.push(client);
        }
        Ok(flood)
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
}

impl Drop for Flood {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
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
