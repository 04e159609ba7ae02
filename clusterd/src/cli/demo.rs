//! `clusterd demo`: several nodes on this machine, to look at.

use super::client::{self, RoleArgs};
use anyhow::{Context, Result, bail, ensure};
use bootstrap::Token;
use clap::Args;
use host::Host;
use serde::{Deserialize, Serialize};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio_postgres::Client;

/// More nodes than this on one machine show nothing new.
const NODES_MAX: u32 = 9;
/// Ports are tried from here, so that the first demo on a machine has numbers that can be remembered.
const FIRST_SQL_PORT: u16 = 6875;
const FIRST_HTTP_PORT: u16 = 7875;
const FIRST_MESH_PORT: u16 = 2100;
/// The nodes have this long to become an environment.
const FORM_WITHIN: Duration = Duration::from_secs(60);
/// Pause between two looks at a node.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The nodes have this long to end by themselves.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// What is there to be looked at. Statements that find their object there already change nothing.
const SHOWN: [&str; 2] = [
    "CREATE SOURCE IF NOT EXISTS ticks FROM LOAD GENERATOR COUNTER (TICK INTERVAL '100ms')",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS ticks_by_digit AS SELECT counter % 10 AS digit, count(*) AS ticks FROM ticks GROUP BY counter % 10",
];

#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How many nodes to start.
    #[arg(long, default_value_t = 3)]
    pub nodes: u32,
    /// Where to keep their data; a directory that is removed at the end if it is left out.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
}

/// Where the nodes are, as a file: a demo that is started again finds its nodes where they know each other to be.
#[derive(Serialize, Deserialize)]
struct Places {
    nodes: Vec<Place>,
}

/// Where one node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Place {
    name: String,
    data_dir: PathBuf,
    sql: SocketAddr,
    http: SocketAddr,
    mesh: SocketAddr,
}

struct Node {
    place: Place,
    process: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, which is what was wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub async fn run(args: DemoArgs) -> Result<()> {
    ensure!(
        (1..=NODES_MAX).contains(&args.nodes),
        "--nodes must be between 1 and {NODES_MAX}"
    );
    let (dir, temporary) = match &args.data_dir {
        Some(dir) => (dir.clone(), false),
        None => (temporary_dir(), true),
    };
    let shown = demonstrate(&dir, args.nodes).await;
    if temporary {
        let removed = std::fs::remove_dir_all(&dir);
        removed.with_context(|| format!("removing {}", dir.display()))?;
    }
    shown
}

fn temporary_dir() -> PathBuf {
    std::env::temp_dir().join(format!("clusterd-demo-{}", std::process::id()))
}

async fn demonstrate(dir: &Path, nodes: u32) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let places = places(dir, nodes)?;
    let token = token(dir)?;
    println!("{nodes} nodes in {}", dir.display());
    let start = |place: &Place| start(place, &places, &token);
    let mut nodes = places.iter().map(start).collect::<Result<Vec<Node>>>()?;
    let shown = async {
        let client = ready(&mut nodes).await?;
        fill(&client).await?;
        print_hints(&nodes);
        attend(&mut nodes).await
    };
    let shown = tokio::select! {
        shown = shown => shown,
        stopped = stop_signal() => stopped,
    };
    stop(nodes).await;
    shown
}

/// The founders' token, which is kept for a demo that is started again before its nodes had formed.
fn token(dir: &Path) -> Result<String> {
    let path = dir.join("token");
    if let Ok(token) = std::fs::read_to_string(&path) {
        return Ok(token);
    }
    let token = Token::bootstrap(&Host::real()).to_string();
    std::fs::write(&path, &token).with_context(|| format!("writing {}", path.display()))?;
    Ok(token)
}

/// What an earlier demo in this directory used, or free ports.
fn places(dir: &Path, nodes: u32) -> Result<Vec<Place>> {
    let path = dir.join("demo.toml");
    if let Ok(text) = std::fs::read_to_string(&path) {
        let known: Places =
            toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        let count = known.nodes.len();
        ensure!(
            count == nodes as usize,
            "{} holds a demo of {count} nodes: give --nodes {count}, or another directory",
            dir.display()
        );
        return Ok(known.nodes);
    }
    let nodes = free_places(dir, nodes)?;
    let text = toml::to_string(&Places {
        nodes: nodes.clone(),
    })?;
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(nodes)
}

/// Free ports for each node.
fn free_places(dir: &Path, nodes: u32) -> Result<Vec<Place>> {
    let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let tcp = |port: &u16| TcpListener::bind(loopback(*port)).is_ok();
    let udp = |port: &u16| UdpSocket::bind(loopback(*port)).is_ok();
    let mut sql = (FIRST_SQL_PORT..FIRST_HTTP_PORT).filter(tcp).map(loopback);
    let mut http = (FIRST_HTTP_PORT..u16::MAX).filter(tcp).map(loopback);
    let mut mesh = (FIRST_MESH_PORT..FIRST_SQL_PORT).filter(udp).map(loopback);
    // Letters: which of them becomes node 1 is for them to find out.
    let place = |letter| {
        let name = format!("node-{letter}");
        let ports = (|| Some((sql.next()?, http.next()?, mesh.next()?)))();
        let (sql, http, mesh) = ports.context("this machine has no free ports")?;
        Ok(Place {
            data_dir: dir.join(&name),
            name,
            sql,
            http,
            mesh,
        })
    };
    ('a'..).take(nodes as usize).map(place).collect()
}

/// Starts one node as a user would, but for the log, which goes to a file.
fn start(place: &Place, all: &[Place], token: &str) -> Result<Node> {
    let addresses: Vec<String> = all.iter().map(|place| place.mesh.to_string()).collect();
    let log_path = place.data_dir.with_extension("log");
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path);
    let log = log.with_context(|| format!("writing {}", log_path.display()))?;
    let binary = std::env::current_exe().context("looking for this program")?;
    let mut command = Command::new(binary);
    command
        .arg("start")
        .arg("--data-dir")
        .arg(&place.data_dir)
        .args(["--sql-addr", &place.sql.to_string()])
        .args(["--http-addr", &place.http.to_string()])
        .args(["--mesh-addr", &place.mesh.to_string()])
        .args(["--join", &addresses.join(",")])
        .args(["--bootstrap-expect", &all.len().to_string()])
        .env("CLUSTERD_JOIN_TOKEN", token)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C is for this process, which ends them in order.
        .process_group(0);
    let process = command.spawn().context("starting a node")?;
    Ok(Node {
        place: place.clone(),
        process,
    })
}

/// Waits until every node answers a query, and returns a connection to the first.
async fn ready(nodes: &mut [Node]) -> Result<Client> {
    let role = RoleArgs {
        user: "clusterd".to_owned(),
        database: "clusterd".to_owned(),
    };
    let wait = async {
        let mut first = None;
        for node in nodes {
            let client = loop {
                check_alive(node)?;
                if let Ok(client) = client::connect(&node.place.sql.to_string(), &role).await
                    && client::query(&client, "SELECT 1").await.is_ok()
                {
                    break client;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            };
            first.get_or_insert(client);
        }
        first.context("there are no nodes")
    };
    let waited = tokio::time::timeout(FORM_WITHIN, wait).await;
    waited.context("the nodes have not formed an environment in time; their logs say why")?
}

fn check_alive(node: &mut Node) -> Result<()> {
    if let Some(status) = node.process.try_wait()? {
        let log = node.place.data_dir.with_extension("log");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!("{} ended ({status}):\n{}", node.place.name, last.join("\n"));
    }
    Ok(())
}

async fn fill(client: &Client) -> Result<()> {
    for sql in SHOWN {
        client::query(client, sql)
            .await
            .with_context(|| sql.to_owned())?;
    }
    Ok(())
}

fn print_hints(nodes: &[Node]) {
    for Node { place, process } in nodes {
        let pid = process.id();
        println!(
            "  {}  postgres://clusterd@{}/clusterd  http://{}/metrics  pid {pid}",
            place.name, place.sql, place.http
        );
    }
    let (Some(first), Some(last)) = (nodes.first(), nodes.last()) else {
        return;
    };
    let (ip, port) = (first.place.sql.ip(), first.place.sql.port());
    println!();
    println!("A source writes ten rows a second, and a view counts them. Look at it on any node:");
    println!(
        "  psql -h {ip} -p {port} -U clusterd clusterd -c 'SELECT * FROM ticks_by_digit ORDER BY digit'"
    );
    println!(
        "  psql -h {ip} -p {port} -U clusterd clusterd -c 'COPY (SUBSCRIBE ticks_by_digit) TO STDOUT'"
    );
    if nodes.len() > 2 {
        println!("Then take a node away, and see that the others go on:");
        println!("  kill -9 {}", last.process.id());
    }
    println!();
    println!("Ctrl-C ends all of them.");
}

/// Stays as long as a node runs. Those that somebody kills are missed, not restarted.
async fn attend(nodes: &mut [Node]) -> Result<()> {
    let mut ended = vec![false; nodes.len()];
    while ended.contains(&false) {
        for (node, ended) in nodes.iter_mut().zip(&mut ended) {
            if !*ended && let Some(status) = node.process.try_wait()? {
                *ended = true;
                println!("{} has ended ({status})", node.place.name);
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

async fn stop_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("waiting for SIGINT"),
    }
}

/// Ends the nodes as an operator would; those that do not end are killed.
async fn stop(mut nodes: Vec<Node>) {
    nodes.iter_mut().for_each(terminate);
    let ended = async {
        while nodes.iter_mut().any(is_running) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if tokio::time::timeout(STOP_WITHIN, ended).await.is_err() {
        eprintln!("clusterd: some nodes did not end in time and are killed");
    }
}

fn is_running(node: &mut Node) -> bool {
    matches!(node.process.try_wait(), Ok(None))
}

fn terminate(node: &mut Node) {
    if is_running(node)
        && let Ok(pid) = libc::pid_t::try_from(node.process.id())
    {
        // SAFETY: kill(2) takes plain integers; the pid is that of our own child, which was not waited for yet.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
}
