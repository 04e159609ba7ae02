//! How long clients wait when a node dies, or is stopped, while others work.
//!
//! Per round one node is killed under load: ENV's leader, the CLUSTER's leader, or a node that is both. Probes on the surviving gateways ask every few
//! milliseconds; a round's figure is that of the probe that waited longest. Reads must only be late. A write may end with an honest "unknown"; what was
//! acknowledged is there, once. No survivor builds a dataflow.

mod probe;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use harness::mesh::Mesh;
use harness::mesh::roles::Roles;
use harness::sql::error_text;

use crate::mesh::entries::Entries;
use probe::{Probes, Seen};
use report::Report;

const SETUP: &str = "
    create table kv (id int primary key, v bigint not null);
    insert into kv select x, x from generate_series(0, 9999) x;
    create table entry (client int, seq bigint);
    create materialized view totals as select id % 100 as k, sum(v) as s, count(*) as n from kv group by id % 100;
    create materialized view entries as select client, count(*) as n, max(seq) as last from entry group by client;
    create index totals_k on totals (k)";

/// The view that probes read, and whose CLUSTER's leader is meant.
const VIEW: &str = "totals";
/// Load before a fault, so that everything is under way.
const WARM_UP: Duration = Duration::from_millis(1000);
/// Probes go on for so long after a fault, at least.
const AFTERWARDS: Duration = Duration::from_millis(2500);
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Tries to bring both leaderships to one node, or to two.
const STEPS_MAX: usize = 30;
const CREATED: &str = "clusterd_controller_dataflows_created_total";
const LEADER_CHANGES: &str = "clusterd_raft_leader_changes_total";

/// Whom the fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Victim {
    /// ENV's leader, while another node leads the CLUSTER.
    Env,
    /// The CLUSTER's leader, while another node leads ENV.
    Cluster,
    /// One node that leads both.
    Both,
}

#[derive(Args)]
pub struct Options {
    #[arg(long)]
    binary: PathBuf,
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Whom to hit, separated by commas; each gets all rounds.
    #[arg(long, value_delimiter = ',', default_values = ["env", "cluster", "both"])]
    victim: Vec<Victim>,
    /// SIGTERM instead of SIGKILL: the figure is the longest gap of a writer on another gateway.
    #[arg(long)]
    graceful: bool,
    /// With --graceful: no writer elsewhere may wait this long, in milliseconds.
    #[arg(long, default_value_t = 50)]
    gap_ms_max: u64,
    /// No faults for so many minutes: no group may elect anybody.
    #[arg(long, conflicts_with = "graceful")]
    quiet_minutes: Option<f64>,
    #[arg(long, default_value_t = 8)]
    probes: usize,
    /// Time between two operations of a probe.
    #[arg(long, default_value_t = 5)]
    every_ms: u64,
    /// Sessions that write and read without pause beside the probes.
    #[arg(long, default_value_t = 4)]
    load: usize,
    /// Report figures that miss their limits, and do not fail for them. For machines that are busy with something else.
    #[arg(long)]
    lenient: bool,
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub async fn run(options: &Options) -> Result<()> {
    ensure!(
        options.nodes >= 3,
        "fewer than three nodes survive no fault"
    );
    let temporary = tempfile::tempdir()?;
    let dir = options
        .dir
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    let mut mesh = Mesh::form(&options.binary, &dir, options.nodes).await?;
    let done = measure(options, &mut mesh).await;
    if done.is_err() {
        println!("the nodes printed (end):\n{}", mesh.output_ends());
        if options.dir.is_none() {
            println!("data is kept at {}", temporary.keep().display());
        }
    }
    done
}

async fn measure(options: &Options, mesh: &mut Mesh) -> Result<()> {
    let sql = mesh.sql(0).await?;
    for statement in SETUP.split(';') {
        let done = sql.run(statement).await;
        done.map_err(|error| anyhow::anyhow!("{statement}: {}", error_text(&error)))?;
    }
    drop(sql);
    if let Some(minutes) = options.quiet_minutes {
        return quiet(options, mesh, minutes).await;
    }
    let entries = Arc::new(Entries::default());
    let mut missed = Vec::new();
    for victim in &options.victim {
        let mut report = Report::new(
            options
                .graceful
                .then(|| Duration::from_millis(options.gap_ms_max)),
        );
        for round in 1..=options.rounds {
            let seen = one_round(options, mesh, &entries, *victim).await;
            let seen = seen.with_context(|| format!("{victim:?}, round {round}"))?;
            println!("{victim:?} {round}: {}", report.add(&seen));
        }
        println!("{victim:?}: {}", report.summary());
        missed.extend(
            report
                .missed()
                .into_iter()
                .map(|what| format!("{victim:?}: {what}")),
        );
    }
    match missed.is_empty() {
        true => println!("OK"),
        false if options.lenient => println!("MISSED, not counted: {}", missed.join("; ")),
        false => bail!("{}", missed.join("; ")),
    }
    Ok(())
}

async fn one_round(
    options: &Options,
    mesh: &mut Mesh,
    entries: &Arc<Entries>,
    victim: Victim,
) -> Result<Seen> {
    let place = find(mesh, victim).await?;
    let others: Vec<usize> = (0..mesh.count()).filter(|other| *other != place).collect();
    let probes = Probes::start(options, mesh, &others, entries).await?;
    tokio::time::sleep(WARM_UP).await;
    let before = total(mesh, &others, CREATED)?;
    let node = mesh.node_mut(place);
    if !options.graceful {
        node.signal(libc::SIGKILL);
    }
    // What began after this cannot have been answered by the dead.
    let fault = Instant::now();
    let ended = tokio::task::block_in_place(|| match options.graceful {
        true => node.terminate().is_some_and(|status| status.success()),
        false => {
            node.kill9();
            true
        }
    });
    ensure!(
        ended,
        "SIGTERM did not end the node with status 0:\n{}",
        mesh.node(place).output_end()
    );
    tokio::time::sleep(AFTERWARDS.saturating_sub(fault.elapsed())).await;
    let after = total(mesh, &others, CREATED)?;
    let seen = probes.stop(fault).await?;
    ensure!(
        before == after,
        "survivors built dataflows: {before} before, {after} after"
    );
    mesh.spawn(place)?;
    tokio::task::block_in_place(|| mesh.wait_ready(READY_WITHIN))?;
    mesh.wait_whole(READY_WITHIN).await?;
    for place in 0..mesh.count() {
        let sql = mesh.sql(place).await?;
        entries
            .check(&sql)
            .await
            .with_context(|| format!("place {place}"))?;
    }
    Ok(seen)
}

/// A metric of these nodes together.
fn total(mesh: &Mesh, places: &[usize], name: &str) -> Result<f64> {
    let values = places.iter().map(|place| {
        let value = mesh.metric(*place, name);
        value.with_context(|| format!("place {place} has no {name}"))
    });
    values.sum()
}

/// Waits until a node has the wanted part, moving leaderships by restarts if need be.
async fn find(mesh: &mut Mesh, victim: Victim) -> Result<usize> {
    for _ in 0..STEPS_MAX {
        let roles = settled(mesh).await?;
        let place = |id: u64| {
            mesh.place(id)
                .context("a leader that is not one of these nodes")
        };
        let (env, cluster) = (
            place(roles.env_leader)?,
            place(roles.cluster_leader.context("no leader of the CLUSTER")?)?,
        );
        match victim {
            Victim::Env if env != cluster => return Ok(env),
            Victim::Cluster if env != cluster => return Ok(cluster),
            Victim::Both if env == cluster => return Ok(env),
            Victim::Env | Victim::Cluster | Victim::Both => {}
        }
        // Whoever takes over the CLUSTER: in time it is, or is not, ENV's leader.
        tokio::task::block_in_place(|| mesh.node_mut(cluster).kill9());
        settled_without(mesh, cluster).await?;
        mesh.spawn(cluster)?;
        tokio::task::block_in_place(|| mesh.wait_ready(READY_WITHIN))?;
        mesh.wait_whole(READY_WITHIN).await?;
    }
    bail!("in {STEPS_MAX} elections no node came to be {victim:?}")
}

/// The leaders, once all nodes name the same ones.
async fn settled(mesh: &Mesh) -> Result<Roles> {
    let started = Instant::now();
    while started.elapsed() < READY_WITHIN {
        let mut named = Vec::new();
        for place in 0..mesh.count() {
            named.extend(mesh.roles(place, Some(VIEW)).await.ok());
        }
        let agree = |a: &Roles, b: &Roles| {
            (a.env_leader, a.env_term, a.cluster_leader)
                == (b.env_leader, b.env_term, b.cluster_leader)
        };
        if named.len() == mesh.count() && named.iter().all(|roles| agree(roles, &named[0])) {
            return Ok(named.swap_remove(0));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the nodes do not agree about who leads")
}

async fn settled_without(mesh: &Mesh, dead: usize) -> Result<()> {
    let started = Instant::now();
    let asked = (dead + 1) % mesh.count();
    while started.elapsed() < READY_WITHIN {
        if let Ok(roles) = mesh.roles(asked, Some(VIEW)).await
            && roles.cluster_leader != Some(mesh.id(dead))
            && roles.env_leader != mesh.id(dead)
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("nobody takes over from the node at place {dead}")
}

/// Load without faults: nobody is elected.
async fn quiet(options: &Options, mesh: &mut Mesh, minutes: f64) -> Result<()> {
    let entries = Arc::new(Entries::default());
    let all: Vec<usize> = (0..mesh.count()).collect();
    let before = settled(mesh).await?;
    let built = total(mesh, &all, CREATED)?;
    let changes = total(mesh, &all, LEADER_CHANGES)?;
    let probes = Probes::start(options, mesh, &all, &entries).await?;
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(minutes * 60.0)).await;
    let seen = probes.stop(began).await?;
    let after = settled(mesh).await?;
    let changes = total(mesh, &all, LEADER_CHANGES)? - changes;
    let terms = |roles: &Roles| (roles.env_term, roles.cluster_term);
    println!(
        "{:.1} minutes: {}; {changes} changes of leaders; terms of ENV and the CLUSTER {:?} before, {:?} after; {} dataflows built",
        minutes,
        report::volume(&seen),
        terms(&before),
        terms(&after),
        total(mesh, &all, CREATED)? - built
    );
    for place in all {
        let sql = mesh.sql(place).await?;
        entries.check(&sql).await?;
    }
    ensure!(
        changes == 0.0 && terms(&before) == terms(&after),
        "there were elections without a fault"
    );
    ensure!(
        seen.read_errors.is_empty() && seen.write_errors.is_empty(),
        "errors without a fault: {:?} {:?}",
        seen.read_errors,
        seen.write_errors
    );
    println!("OK: no election");
    Ok(())
}
