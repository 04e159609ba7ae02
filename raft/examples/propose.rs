//! How many durable proposals a second a group of one voter makes on this disk, and how fast it is ready.
//!
//! `cargo run --release -p raft --example propose -- [directory]`

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock itself"
)]

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use host::metrics::BusyMeter;
use host::{Disk, Host, OpenMode, RealDisk};
use raft::{
    Committed, ENV_GROUP, GroupClass, GroupConfig, NoPeers, RaftGroup, SnapshotWriter, StateMachine,
};
use raft::{Wal, WalConfig};

#[derive(Default)]
struct Counter {
    bytes: u64,
}

struct Nothing;

impl SnapshotWriter for Nothing {
    fn write(&self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

impl StateMachine for Counter {
    type Response = u64;

    fn apply(&mut self, run: &[Committed]) -> Vec<u64> {
        let mut totals = Vec::with_capacity(run.len());
        for command in run {
            self.bytes += command.payload.len() as u64;
            totals.push(self.bytes);
        }
        totals
    }

    fn snapshot(&self) -> Box<dyn SnapshotWriter> {
        Box::new(Nothing)
    }

    fn restore(&mut self, _snapshot: &mut dyn Read) -> io::Result<()> {
        Ok(())
    }
}

struct Node {
    group: RaftGroup<Counter>,
    wal: Arc<Wal>,
}

async fn start(dir: &std::path::Path) -> Node {
    let host = Host::real();
    let fatal: raft::FatalHook = Arc::new(|error| panic!("{error}"));
    let before = Instant::now();
    let wal =
        Wal::open(&host, WalConfig::new(dir.join("wal")), fatal.clone()).expect("the log opens");
    let opened = before.elapsed();
    let config = GroupConfig::new(ENV_GROUP, 1, GroupClass::Env, dir.join("snapshots"));
    let group = RaftGroup::start(
        config,
        &host,
        wal.clone(),
        Counter::default(),
        Arc::new(NoPeers),
        fatal,
    );
    let group = group.await.expect("the group starts");
    group.found_alone("here").await.expect("founded");
    group.read_index().await.expect("ready");
    println!(
        "log open after {opened:?}, ready after {:?}",
        before.elapsed()
    );
    Node { group, wal }
}

/// Proposals of `bytes` from `clients` tasks for two seconds.
async fn run(node: &Node, clients: usize, bytes: usize) {
    let payload = Bytes::from(vec![7; bytes]);
    let start = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (group, payload) = (node.group.clone(), payload.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while start.elapsed() < Duration::from_secs(2) {
                    let before = Instant::now();
                    group.propose(payload.clone()).await.expect("proposed");
                    latencies.push(before.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("no panic"));
    }
    let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
    latencies.sort();
    let at = |q: f64| latencies[((latencies.len() - 1) as f64 * q) as usize];
    let mib = rate * bytes as f64 / 1048576.0;
    println!(
        "{clients:>4} clients x {bytes:>8} B: {rate:>9.0}/s {mib:>7.1} MiB/s p50 {:>9.1?} p99 {:>9.1?}",
        at(0.5),
        at(0.99)
    );
}

fn raw_sync(dir: &std::path::Path) {
    std::fs::create_dir_all(dir).expect("directory");
    for (name, zeroed) in [("fallocated", false), ("zeroed", true)] {
        let file = RealDisk
            .open(&dir.join("raw"), OpenMode::Truncate)
            .expect("file");
        file.preallocate(64 << 20).expect("space");
        if zeroed {
            for i in 0..64 {
                file.write_at(i << 20, &vec![0; 1 << 20]).expect("zeros");
            }
        }
        file.sync_data().expect("sync");
        let mut times: Vec<_> = (0..2000u64)
            .map(|i| {
                let before = Instant::now();
                file.write_at(i * 300, &[1; 300]).expect("write");
                file.sync_data().expect("sync");
                before.elapsed()
            })
            .collect();
        times.sort();
        println!(
            "300 B write + fdatasync, {name}: p50 {:?} p99 {:?}",
            times[1000], times[1980]
        );
    }
    RealDisk.remove(&dir.join("raw")).expect("remove");
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let temp = tempfile::tempdir().expect("temporary directory");
    let dir = std::env::args()
        .nth(1)
        .map_or_else(|| temp.path().to_owned(), PathBuf::from);
    raw_sync(&dir);
    let node = start(&dir).await;
    node.group
        .propose(Bytes::from_static(b"one"))
        .await
        .expect("proposed");
    node.group.shutdown().await;
    node.wal.close();
    print!("restart with little data: ");
    let node = start(&dir).await;
    for (clients, bytes) in [
        (1, 128),
        (1, 2048),
        (1, 1 << 20),
        (64, 128),
        (64, 2048),
        (256, 128),
        (8, 1 << 18),
    ] {
        run(&node, clients, bytes).await;
    }
    let before = Instant::now();
    for _ in 0..10_000 {
        node.group.read_index().await.expect("read");
    }
    println!(
        "read_index one at a time: {:?} each",
        before.elapsed() / 10_000
    );
    for task in ["env-core", "env-apply", "wal-writer", "raft-other"] {
        let meter = BusyMeter::named(task);
        println!(
            "{task}: busy {:?}, longest step {:?}",
            meter.busy(),
            meter.longest_step()
        );
    }
    node.group.shutdown().await;
    node.wal.close();
    print!("restart with much data: ");
    let node = start(&dir).await;
    node.group.shutdown().await;
}
