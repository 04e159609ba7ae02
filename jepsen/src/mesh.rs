//! Several nodes as one database, faults, and clients that go to another node with every operation.
//!
//! All workloads run at the same time; what each client asked and was answered is judged as it comes, or at the end as one history. Between faults
//! every node must answer again; at the end every node must show all that was acknowledged, and hold nothing for statements that have ended.

mod append;
mod bank;
mod client;
mod ddl;
pub mod entries;
mod follow;
mod history;
mod nemesis;
mod register;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adya::Workload;
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use harness::mesh::{Mesh, MeshError};
use harness::sql::error_text;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use client::Shared;
use nemesis::{Field, Nemesis};

/// Pause between two faults.
const SETTLE: Duration = Duration::from_millis(700);
/// How long what ended statements have left behind may stay.
const QUIET_WITHIN: Duration = Duration::from_secs(20);
/// What must be zero on every node when no statement runs.
const LEFT_BEHIND: [&str; 2] = ["clusterd_read_holds", "clusterd_pending_peeks"];

#[derive(Args)]
pub struct Options {
    #[arg(long)]
    binary: PathBuf,
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Faults follow each other for at least so long.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Kinds of faults, separated by commas; all of them if not given.
    #[arg(long, value_delimiter = ',')]
    nemesis: Vec<Nemesis>,
    /// Where the nodes run, and so what cuts them off from each other.
    #[arg(long, value_enum, default_value_t = Network::Loopback)]
    network: Network,
    /// No faults at all, only clients.
    #[arg(long, conflicts_with = "nemesis")]
    peace: bool,
    /// Clients of each workload.
    #[arg(long, default_value_t = 3)]
    clients: usize,
    /// Nodes with a majority must answer again within this after a fault, in milliseconds.
    #[arg(long, default_value_t = 2000)]
    recover_ms_max: u64,
    /// Where the nodes' data and a history that does not hold are kept; a temporary directory if not given.
    #[arg(long)]
    dir: Option<PathBuf>,
    #[arg(long)]
    seed: Option<u64>,
}

/// What carries the packets between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Network {
    /// This machine's loopback; a wrapper in each node loses what is cut.
    Loopback,
    /// A network namespace for each node on one bridge; the kernel's packet filter drops what is cut. Needs root, iproute2 and nftables: without them the run fails.
    Namespaces,
    /// Namespaces, or loopback with a warning where the machine does not permit them.
    TryNamespaces,
}

/// The workloads' own state.
#[derive(Clone, Default)]
struct Workloads {
    lists: Arc<append::Lists>,
    registers: Arc<register::Registers>,
    entries: Arc<entries::Entries>,
}

pub async fn run(options: &Options) -> Result<()> {
    ensure!(
        options.nodes >= 3,
        "fewer than three nodes survive no fault"
    );
    let seed = options.seed.unwrap_or_else(rand::random);
    println!(
        "jepsen mesh: {} nodes, seed {seed} (replay with --seed {seed}; the faults follow it, the interleaving does not)",
        options.nodes
    );
    let temporary = tempfile::tempdir()?;
    let dir = options
        .dir
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    let mut mesh = form(options, &dir).await?;
    let result = clients_and_faults(options, seed, &mut mesh, &dir).await;
    if result.is_err() {
        println!("the nodes printed (end):\n{}", mesh.output_ends());
        let kept = temporary.keep();
        println!(
            "data and histories are kept at {}",
            options.dir.as_ref().unwrap_or(&kept).display()
        );
    }
    result.with_context(|| format!("seed {seed}"))
}

async fn form(options: &Options, dir: &Path) -> Result<Mesh, MeshError> {
    let Options { binary, nodes, .. } = options;
    let formed = match options.network {
        Network::Loopback => return Mesh::form(binary, dir, *nodes).await,
        Network::Namespaces | Network::TryNamespaces => {
            Mesh::form_in_namespaces(binary, dir, *nodes).await
        }
    };
    match formed {
        Err(MeshError::Namespaces(why)) if options.network == Network::TryNamespaces => {
            let line = "!".repeat(100);
            println!(
                "{line}\nNOT RUN IN NETWORK NAMESPACES, NO PACKET IS DROPPED BY THE KERNEL: {why}\nThe nodes run on loopback, and the fault wrapper cuts.\n{line}"
            );
            Mesh::form(binary, dir, *nodes).await
        }
        formed => formed,
    }
}

async fn clients_and_faults(
    options: &Options,
    seed: u64,
    mesh: &mut Mesh,
    dir: &Path,
) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    set_up(mesh).await?;
    let shared = Shared::new(mesh.targets());
    let workloads = Workloads::default();
    let clients = start(&shared, &workloads, options.clients, &mut rng);
    let faults = faults(options, mesh, &shared, &mut rng).await;
    shared.stop();
    for client in clients {
        client.await.context("a client task")?;
    }
    println!("operations: {}", shared.show_counts());
    let faults = faults?;
    judge(mesh, &shared, &workloads, dir).await?;
    let findings = shared.findings();
    ensure!(
        findings.is_empty(),
        "{} findings, the first: {}",
        findings.len(),
        findings[0]
    );
    println!("OK: {faults} faults, nothing lost, nothing stale, nobody hung; seed {seed}");
    Ok(())
}

async fn set_up(mesh: &Mesh) -> Result<()> {
    let setups = [
        "create table pulse (n bigint)",
        append::SETUP,
        register::SETUP,
        bank::SETUP,
        entries::SETUP,
    ];
    let statements = setups.iter().flat_map(|setup| setup.split(';'));
    for (number, statement) in statements.enumerate() {
        let sql = mesh.sql(number % mesh.count()).await?;
        let done = sql.run(statement).await;
        done.map_err(|error| anyhow::anyhow!("{statement}: {}", error_text(&error)))?;
    }
    Ok(())
}

fn start(
    shared: &Arc<Shared>,
    workloads: &Workloads,
    clients: usize,
    rng: &mut StdRng,
) -> Vec<tokio::task::JoinHandle<()>> {
    let mut tasks = Vec::new();
    for number in 0..clients {
        let shared = || Arc::clone(shared);
        let (lists, registers) = (workloads.lists.clone(), workloads.registers.clone());
        tasks.push(tokio::spawn(append::run(
            shared(),
            lists,
            number,
            rng.random(),
        )));
        tasks.push(tokio::spawn(register::run(
            shared(),
            registers,
            number,
            rng.random(),
        )));
        tasks.push(tokio::spawn(bank::run(shared(), number, rng.random())));
        tasks.push(tokio::spawn(entries::run(
            shared(),
            workloads.entries.clone(),
            number,
        )));
    }
    tasks.push(tokio::spawn(ddl::run(Arc::clone(shared), 0)));
    tasks.push(tokio::spawn(follow::run(Arc::clone(shared), 0)));
    tasks
}

/// Faults one after the other; how many.
async fn faults(
    options: &Options,
    mesh: &mut Mesh,
    shared: &Arc<Shared>,
    rng: &mut StdRng,
) -> Result<usize> {
    let time = Duration::from_secs(options.seconds);
    let begun = Instant::now();
    if options.peace {
        tokio::time::sleep(time).await;
        return Ok(0);
    }
    let all: Vec<Nemesis> = match options.nemesis.is_empty() {
        true => <Nemesis as clap::ValueEnum>::value_variants().to_vec(),
        false => options.nemesis.clone(),
    };
    let mut field = Field {
        mesh,
        shared: Arc::clone(shared),
        rng: StdRng::seed_from_u64(rng.random()),
        recover_max: Duration::from_millis(options.recover_ms_max),
        pulses: 0,
    };
    let (mut faults, mut turn) = (0, Vec::new());
    while begun.elapsed() < time {
        if turn.is_empty() {
            turn = all.clone();
            turn.shuffle(rng);
        }
        let Some(nemesis) = turn.pop() else {
            bail!("no kind of fault is wanted")
        };
        tokio::time::sleep(SETTLE).await;
        let done = field
            .strike(nemesis)
            .await
            .with_context(|| format!("{nemesis:?}"))?;
        println!("{:4} s: {done}", begun.elapsed().as_secs());
        faults += 1;
    }
    Ok(faults)
}

/// What must hold when all is over.
async fn judge(mesh: &mut Mesh, shared: &Shared, workloads: &Workloads, dir: &Path) -> Result<()> {
    for place in 0..mesh.count() {
        let sql = mesh.sql(place).await?;
        let held = workloads
            .entries
            .check(&sql)
            .await
            .with_context(|| format!("place {place}"))?;
        let read = workloads.lists.read_all(&sql).await;
        read.map_err(|error| {
            anyhow::anyhow!("reading the lists at place {place}: {}", error_text(&error))
        })?;
        println!("place {place} holds: {held}");
    }
    let lists = workloads
        .lists
        .history
        .check(Workload::ListAppend, &dir.join("append.jsonl"));
    println!("append: {}", lists.context("append")?);
    let registers = workloads
        .registers
        .history
        .check(Workload::RwRegister, &dir.join("register.jsonl"));
    println!("register: {}", registers.context("register")?);
    ensure!(
        shared.counted("comparison of a subscription", "ok") > 0,
        "no subscription was compared: the run shows nothing about them"
    );
    nothing_left_behind(mesh).await
}

/// Holds and peeks end with their statements.
async fn nothing_left_behind(mesh: &Mesh) -> Result<()> {
    let begun = Instant::now();
    for place in 0..mesh.count() {
        for metric in LEFT_BEHIND {
            loop {
                match mesh.metric(place, metric) {
                    Some(0.0) => break,
                    found => ensure!(
                        begun.elapsed() < QUIET_WITHIN,
                        "{metric} of place {place} is {found:?} although nobody asks anything"
                    ),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    Ok(())
}
