//! clusterd beside etcd 3.4: three nodes each, on one machine and one file system, one load program, in one run.

mod client;
mod load;
mod servers;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use harness::mesh::Mesh;

use crate::measure::{fdatasync_us, load_average, median};
use load::{Done, Side, Work};
use servers::EtcdServers;

/// Clients that write while a leader is killed.
const GAP_CLIENTS: usize = 8;
/// Writers run this long before the kill, and after it.
const GAP_BEFORE: Duration = Duration::from_secs(1);
const GAP_AFTER: Duration = Duration::from_secs(6);
/// A write that takes longer is given up and tried again.
const GAP_TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Args)]
pub struct Options {
    #[arg(long, default_value = "target/release/clusterd")]
    binary: PathBuf,
    /// Where both keep their data; must be a disk, not memory.
    #[arg(long)]
    dir: Option<PathBuf>,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256])]
    clients: Vec<usize>,
    /// Rounds of killing the leader; 0 leaves it out.
    #[arg(long, default_value_t = 3)]
    kills: usize,
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
    throughput(options, dir.path()).await?;
    if options.kills > 0 {
        gaps(options, dir.path()).await?;
    }
    Ok(())
}

async fn throughput(options: &Options, dir: &std::path::Path) -> Result<()> {
    let etcd = EtcdServers::start(dir).await?;
    let mesh = Mesh::form(&options.binary, &dir.join("clusterd"), 3).await?;
    let sides = [
        (
            Side::Etcd(etcd.nodes.iter().map(|node| node.client).collect()),
            etcd.pids(),
        ),
        (
            Side::Clusterd(mesh.targets()),
            (0..mesh.count())
                .map(|place| mesh.node(place).pid())
                .collect(),
        ),
    ];
    for (side, _) in &sides {
        side.fill().await?;
    }
    println!(
        "medians of {} rounds of {} s, alternating; three nodes each, clients connect round robin; CPU in cores: load program / all servers",
        options.rounds, options.seconds
    );
    println!("| what | clients | etcd 3.4 | CPU | clusterd | CPU | ratio | fdatasync p50 | load |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for work in [Work::Put, Work::Get] {
        for clients in &options.clients {
            let mut done: [Vec<Done>; 2] = [vec![], vec![]];
            for _ in 0..options.rounds {
                for (at, (side, pids)) in sides.iter().enumerate() {
                    let time = Duration::from_secs(options.seconds);
                    done[at].push(load::run(side, pids, work, *clients, time).await?);
                }
            }
            print_row(work, *clients, &done, dir)?;
        }
    }
    Ok(())
}

fn print_row(
    work: Work,
    clients: usize,
    done: &[Vec<Done>; 2],
    dir: &std::path::Path,
) -> Result<()> {
    let middle =
        |runs: &[Done], of: fn(&Done) -> f64| median(&mut runs.iter().map(of).collect::<Vec<_>>());
    let [etcd, clusterd] = done;
    let rates = [etcd, clusterd].map(|runs| middle(runs, |d| d.per_second));
    let cpu = |runs: &[Done]| {
        format!(
            "{:.2} / {:.2}",
            middle(runs, |d| d.own_cpu),
            middle(runs, |d| d.servers_cpu)
        )
    };
    let what = match work {
        Work::Put => "durable write of one key, 256 B",
        Work::Get => "linearizable read of one key",
    };
    println!(
        "| {what} | {clients} | {:.0}/s | {} | {:.0}/s | {} | {:.2}x | {:.0} us | {} |",
        rates[0],
        cpu(etcd),
        rates[1],
        cpu(clusterd),
        rates[1] / rates[0],
        fdatasync_us(dir)?,
        load_average()
    );
    Ok(())
}

/// The longest time without a write by anybody, around a kill -9 of the leader; all writers are at the other nodes.
async fn gaps(options: &Options, dir: &std::path::Path) -> Result<()> {
    let mut found: [Vec<f64>; 2] = [vec![], vec![]];
    for round in 0..options.kills {
        let below = dir.join(format!("gap-{round}"));
        std::fs::create_dir_all(&below)?;
        {
            let mut etcd = EtcdServers::start(&below).await?;
            let leader = etcd.leader()?;
            let others = (0..3).filter(|place| *place != leader);
            let side = Side::Etcd(others.map(|place| etcd.nodes[place].client).collect());
            found[0].push(gap(&side, || etcd.kill(leader)).await?);
        }
        let mut mesh = Mesh::form(&options.binary, &below.join("clusterd"), 3).await?;
        Side::Clusterd(mesh.targets()).fill().await?;
        let leader = mesh.roles(0, None).await?.env_leader;
        let leader = mesh
            .place(leader)
            .context("the leader is none of the nodes")?;
        let targets = mesh.targets();
        let others = (0..3).filter(|place| *place != leader);
        let side = Side::Clusterd(others.map(|place| targets[place].clone()).collect());
        found[1].push(gap(&side, || mesh.node_mut(leader).kill9()).await?);
    }
    let [etcd, clusterd] = &mut found;
    println!();
    println!(
        "longest time without any write after kill -9 of the leader, {GAP_CLIENTS} writers at the other nodes, default time-outs, {} rounds:",
        options.kills
    );
    println!(
        "etcd {etcd:.2?} s, clusterd {clusterd:.2?} s, ratio of medians {:.2}x",
        median(clusterd) / median(etcd)
    );
    Ok(())
}

/// Seconds.
async fn gap(side: &Side, kill: impl FnOnce()) -> Result<f64> {
    let written = Arc::new(Mutex::new(Vec::<Instant>::new()));
    let mut tasks = tokio::task::JoinSet::new();
    let until = Instant::now() + GAP_BEFORE + GAP_AFTER;
    for client in 0..GAP_CLIENTS {
        let (side, written) = (side.clone(), Arc::clone(&written));
        tasks.spawn(async move {
            let mut connection = None;
            while Instant::now() < until {
                let attempt = async {
                    let mut open = match connection.take() {
                        Some(open) => open,
                        None => side.connect(client).await?,
                    };
                    open.put().await?;
                    anyhow::Ok(open)
                };
                // A write that failed is as good as none: what counts is when somebody succeeds again.
                if let Ok(Ok(open)) = tokio::time::timeout(GAP_TIMEOUT, attempt).await {
                    connection = Some(open);
                    written.lock().expect("times").push(Instant::now());
                }
            }
        });
    }
    tokio::time::sleep(GAP_BEFORE).await;
    let killed = Instant::now();
    kill();
    while tasks.join_next().await.is_some() {}
    let mut times = written.lock().expect("times").clone();
    times.sort();
    ensure!(
        times.iter().any(|at| *at < killed),
        "nothing was written before the kill"
    );
    let around = times.windows(2).filter(|pair| pair[1] >= killed);
    let longest = around.map(|pair| pair[1].duration_since(pair[0].max(killed)));
    let longest = longest
        .max()
        .context("nothing was written after the kill")?;
    Ok(longest.as_secs_f64())
}
