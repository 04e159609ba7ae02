//! One load program for both sides: clients that each do one thing after the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::Target;
use tokio_postgres::{Client, NoTls, Statement};

use super::client::EtcdClient;
use crate::mesh::cpu_seconds;

/// Bytes of a value.
pub const VALUE_BYTES: usize = 256;
/// Keys that are read.
pub const KEYS: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A durable write of one new key.
    Put,
    /// A linearizable read of one existing key.
    Get,
}

/// Where the clients of a side connect to, round robin.
#[derive(Clone)]
pub enum Side {
    Etcd(Vec<SocketAddr>),
    Clusterd(Vec<Target>),
}

/// One connection of either side.
pub enum Connection {
    Etcd(EtcdClient),
    Clusterd(Box<Session>),
}

pub struct Session {
    client: Client,
    put: Statement,
    get: Statement,
}

/// Keys that no earlier client has written.
static NEXT_KEY: AtomicU64 = AtomicU64::new(1 << 32);

fn new_key() -> u64 {
    NEXT_KEY.fetch_add(1, Ordering::Relaxed)
}

fn etcd_key(key: u64) -> [u8; 8] {
    key.to_be_bytes()
}

impl Side {
    pub async fn connect(&self, client: usize) -> Result<Connection> {
        match self {
            Side::Etcd(nodes) => {
                let client = EtcdClient::connect(nodes[client % nodes.len()]).await?;
                Ok(Connection::Etcd(client))
            }
            Side::Clusterd(nodes) => {
                let config = nodes[client % nodes.len()].config();
                let (client, connection) = config.connect(NoTls).await?;
                tokio::spawn(async move { drop(connection.await) });
                let put = client.prepare("insert into puts values ($1, $2)").await?;
                let get = client.prepare("select v from puts where k = $1").await?;
                Ok(Connection::Clusterd(Box::new(Session { client, put, get })))
            }
        }
    }

    /// Makes the keys that are read.
    pub async fn fill(&self) -> Result<()> {
        let value = "v".repeat(VALUE_BYTES);
        match self {
            Side::Etcd(nodes) => {
                let mut client = EtcdClient::connect(nodes[0]).await?;
                for key in 0..KEYS {
                    client.put(&etcd_key(key), value.as_bytes()).await?;
                }
                Ok(())
            }
            Side::Clusterd(nodes) => {
                let sql = nodes[0].connect().await?;
                for text in [
                    "create table puts (k bigint primary key, v text not null)".to_owned(),
                    format!(
                        "insert into puts select g, '{value}' from generate_series(0, {}) g",
                        KEYS - 1
                    ),
                ] {
                    sql.run(&text).await?;
                }
                Ok(())
            }
        }
    }
}

impl Connection {
    pub async fn put(&mut self) -> Result<()> {
        let key = new_key();
        match self {
            Connection::Etcd(client) => client.put(&etcd_key(key), &[b'v'; VALUE_BYTES]).await,
            Connection::Clusterd(session) => {
                let value = std::str::from_utf8(&[b'v'; VALUE_BYTES])?.to_owned();
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
                    [&(key as i64), &value];
                let done = session.client.execute(&session.put, &parameters).await;
                done.map(drop).context("insert")
            }
        }
    }

    async fn get(&mut self, key: u64) -> Result<()> {
        match self {
            Connection::Etcd(client) => client.get(&etcd_key(key)).await.map(drop),
            Connection::Clusterd(session) => {
                let key = key as i64;
                let row = session.client.query_one(&session.get, &[&key]).await;
                row.map(drop).context("select")
            }
        }
    }
}

/// What a run brought.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    pub per_second: f64,
    /// CPU seconds per second, of this load program.
    pub own_cpu: f64,
    /// The same of all servers.
    pub servers_cpu: f64,
}

/// `clients` of them do `work` for `time`. Any error ends the run.
pub async fn run(
    side: &Side,
    pids: &[u32],
    work: Work,
    clients: usize,
    time: Duration,
) -> Result<Done> {
    let mut connections = Vec::with_capacity(clients);
    for client in 0..clients {
        connections.push(side.connect(client).await?);
    }
    let count = Arc::new(AtomicU64::new(0));
    let (own, servers) = (cpu_of(&[std::process::id()])?, cpu_of(pids)?);
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for (client, mut connection) in connections.into_iter().enumerate() {
        let count = Arc::clone(&count);
        tasks.spawn(async move {
            let mut key = client as u64 * 7919;
            while started.elapsed() < time {
                match work {
                    Work::Put => connection.put().await?,
                    Work::Get => connection.get(key % KEYS).await?,
                }
                // Coprime to the number of keys: all are read.
                key += 4_001;
                count.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Done {
        per_second: count.load(Ordering::Relaxed) as f64 / seconds,
        own_cpu: (cpu_of(&[std::process::id()])? - own) / seconds,
        servers_cpu: (cpu_of(pids)? - servers) / seconds,
    })
}

/// CPU seconds that processes have used so far.
fn cpu_of(pids: &[u32]) -> Result<f64> {
    pids.iter().map(|pid| cpu_seconds(*pid)).sum()
}
