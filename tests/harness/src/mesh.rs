//! Several server processes as one environment on loopback: formed as a user would, killed, paused, cut off, started again.
//!
//! Nodes are named by their place in the list, from 0; the id that the environment gave each of them is another thing ([`Mesh::id`]).

pub mod roles;

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::server::{Launch, Server, StartError, free_addr, http_post};
use crate::sql::{Sql, Target};

use roles::Roles;

/// How long all nodes together may take until each says that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long threads may take to stand still after SIGSTOP.
const STOPPED_WITHIN: Duration = Duration::from_secs(2);

/// Why several processes did not become one environment, or one of them did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    #[error("`{command}` failed: {reason}")]
    Token { command: String, reason: String },
    #[error("node at place {place}: {source}")]
    Start {
        place: usize,
        #[source]
        source: StartError,
    },
    #[error("node at place {place}: {reason}")]
    Session { place: usize, reason: String },
    /// A group has fewer voters than it should, or a replica has not caught up.
    #[error("after {waited:?} the node at place {place} says: {reason}")]
    NotWhole {
        place: usize,
        waited: Duration,
        reason: String,
    },
    #[error("node at place {place} refuses the order `{order}`: {reason}")]
    Order {
        place: usize,
        order: String,
        reason: String,
    },
}

/// Running nodes of one environment. Dropping it kills them all.
pub struct Mesh {
    nodes: Vec<Server>,
    /// Ids in the environment, by place.
    ids: Vec<u64>,
}

impl Mesh {
    /// Forms an environment of `count` new nodes below `dir` and waits until it is whole ([`Mesh::wait_whole`]). Their faults can be ordered with [`Mesh::order`].
    ///
    /// # Errors
    /// If a process ends, does not become ready, or takes no session.
    pub async fn form(binary: &Path, dir: &Path, count: usize) -> Result<Mesh, MeshError> {
        Mesh::form_with(binary, dir, count, |launch| launch).await
    }

    /// Like [`Mesh::form`], every node's recipe changed first.
    ///
    /// # Errors
    /// As those of [`Mesh::form`].
    pub async fn form_with(
        binary: &Path,
        dir: &Path,
        count: usize,
        change: impl Fn(Launch) -> Launch,
    ) -> Result<Mesh, MeshError> {
        let addrs: Vec<SocketAddr> = (0..count).map(|_| free_udp_addr()).collect();
        let join: Vec<String> = addrs.iter().map(SocketAddr::to_string).collect();
        let join = join.join(",");
        let token = new_token(binary)?;
        let mut nodes = Vec::new();
        for (place, addr) in addrs.iter().enumerate() {
            let launch = Launch::new(binary, node_dir(dir, place))
                .mesh_addr(*addr)
                .arg("--fault-injection");
            let launch = launch.arg("--join").arg(&join);
            let launch = launch.arg("--bootstrap-expect").arg(count.to_string());
            let launch = launch.arg("--join-token").arg(&token);
            let server = change(launch).spawn();
            nodes.push(server.map_err(|source| MeshError::Start { place, source })?);
        }
        let mut mesh = Mesh {
            nodes,
            ids: Vec::new(),
        };
        mesh.wait_ready(READY_WITHIN)?;
        for place in 0..count {
            let roles = mesh.roles(place, None).await?;
            mesh.ids.push(roles.gateway);
        }
        mesh.wait_whole(READY_WITHIN).await?;
        Ok(mesh)
    }

    /// How many nodes there are, dead ones included.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// The id that the environment gave to the node at `place`.
    pub fn id(&self, place: usize) -> u64 {
        self.ids[place]
    }

    /// The place of the node with this id.
    pub fn place(&self, id: u64) -> Option<usize> {
        self.ids.iter().position(|other| *other == id)
    }

    pub fn node(&self, place: usize) -> &Server {
        &self.nodes[place]
    }

    pub fn node_mut(&mut self, place: usize) -> &mut Server {
        &mut self.nodes[place]
    }

    /// Where SQL clients find each node.
    pub fn targets(&self) -> Vec<Target> {
        self.nodes.iter().map(Server::target).collect()
    }

    /// Opens a session at a node.
    ///
    /// # Errors
    /// If it takes none.
    pub async fn sql(&self, place: usize) -> Result<Sql, MeshError> {
        let session = self.nodes[place].target().connect().await;
        session.map_err(|error| MeshError::Session {
            place,
            reason: crate::sql::error_text(&error),
        })
    }

    /// Who leads, as the node at `place` sees it; the CLUSTER is the one that serves `view`.
    ///
    /// # Errors
    /// If it takes no session or cannot answer.
    pub async fn roles(&self, place: usize, view: Option<&str>) -> Result<Roles, MeshError> {
        let sql = self.sql(place).await?;
        let roles = Roles::ask(&sql, view).await;
        roles.map_err(|reason| MeshError::Session { place, reason })
    }

    /// Waits until every node answers 200 on `/readyz`.
    ///
    /// # Errors
    /// If one ends or takes longer than `within`.
    pub fn wait_ready(&mut self, within: Duration) -> Result<(), MeshError> {
        let deadline = Instant::now() + within;
        for (place, node) in self.nodes.iter_mut().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let ready = node.wait_ready_within(left);
            ready.map_err(|source| MeshError::Start { place, source })?;
        }
        Ok(())
    }

    /// Waits until the loss of any one node is survived: every group has the voters that so many nodes allow, every replica has caught up.
    ///
    /// # Errors
    /// If a node does not say so within this time.
    pub async fn wait_whole(&self, within: Duration) -> Result<(), MeshError> {
        let began = Instant::now();
        for place in 0..self.count() {
            while let Err(reason) = self.is_whole(place).await {
                let waited = began.elapsed();
                if waited > within {
                    return Err(MeshError::NotWhole {
                        place,
                        waited,
                        reason,
                    });
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// What is missing, as the node at `place` sees it.
    async fn is_whole(&self, place: usize) -> Result<(), String> {
        let sql = self.sql(place).await.map_err(|error| error.to_string())?;
        let read = async |query: &str| {
            let answer = sql.rows(query).await;
            answer.map_err(|error| format!("{query}: {}", crate::sql::error_text(&error)))
        };
        let groups = read("select name, voters from mz_internal.mz_groups").await?;
        for row in groups.rows() {
            let voters = row[1].as_deref().unwrap_or_default();
            let count = voters.split(',').filter(|id| !id.is_empty()).count();
            if count < self.count().min(3) {
                return Err(format!("group {:?} has voters {voters}", row[0]));
            }
        }
        let replicas = read("select node_id, ready from mz_internal.mz_replica_statuses").await?;
        let ready = |row: &crate::TextRow| row[1].as_deref() == Some("t");
        match replicas.rows().iter().find(|row| !ready(row)) {
            _ if groups.is_empty() => Err("it knows of no group".to_owned()),
            // A node that is no part of a CLUSTER may not have asked its leader yet.
            None if replicas.is_empty() && self.count() <= 3 => {
                Err("it knows of no replica".to_owned())
            }
            Some(row) => Err(format!("the replica on node {:?} is not ready", row[0])),
            None => Ok(()),
        }
    }

    /// Stops the process for the scheduler (SIGSTOP) and waits until every thread stands still: its connections stay, nothing moves.
    pub fn pause(&self, place: usize) {
        self.nodes[place].signal(libc::SIGSTOP);
        let tasks = format!("/proc/{}/task", self.nodes[place].pid());
        let deadline = Instant::now() + STOPPED_WITHIN;
        // A thread on another core runs on for a moment, long enough to answer.
        while !all_stopped(Path::new(&tasks)) && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }

    /// Ends [`Mesh::pause`].
    pub fn resume(&self, place: usize) {
        self.nodes[place].signal(libc::SIGCONT);
    }

    /// Starts an ended node again over its directory, without waiting for anything.
    ///
    /// # Errors
    /// If the binary cannot be run.
    pub fn spawn(&mut self, place: usize) -> Result<(), MeshError> {
        let fresh = self.nodes[place].spawn_again();
        self.nodes[place] = fresh.map_err(|source| MeshError::Start { place, source })?;
        Ok(())
    }

    /// Orders one fault at a node, such as `cut peer=2 direction=in` (ids, not places).
    ///
    /// # Errors
    /// If the node does not answer, or refuses the order.
    pub fn order(&self, place: usize, order: &str) -> Result<(), MeshError> {
        let refused = |reason: String| MeshError::Order {
            place,
            order: order.to_owned(),
            reason,
        };
        match http_post(self.nodes[place].http_addr(), "/faults", order) {
            Ok((200, _)) => Ok(()),
            Ok((status, body)) => Err(refused(format!("{status} {body}"))),
            Err(error) => Err(refused(error.to_string())),
        }
    }

    /// Nothing passes any more from `from` to `to`; the other direction is as before.
    ///
    /// # Errors
    /// As those of [`Mesh::order`].
    pub fn cut_one_way(&self, from: usize, to: usize) -> Result<(), MeshError> {
        self.order(to, &format!("cut peer={} direction=in", self.id(from)))?;
        self.order(from, &format!("cut peer={} direction=out", self.id(to)))
    }

    /// Nothing passes any more between these two.
    ///
    /// # Errors
    /// As those of [`Mesh::order`].
    pub fn cut(&self, one: usize, other: usize) -> Result<(), MeshError> {
        self.order(one, &format!("cut peer={}", self.id(other)))?;
        self.order(other, &format!("cut peer={}", self.id(one)))
    }

    /// Every running node forgets its faults.
    ///
    /// # Errors
    /// As those of [`Mesh::order`].
    pub fn heal(&mut self) -> Result<(), MeshError> {
        for place in 0..self.nodes.len() {
            if self.nodes[place].is_alive() {
                self.order(place, "clear")?;
            }
        }
        Ok(())
    }

    /// One metric of a node, all label values added up; `None` when the node does not answer or has no such metric.
    pub fn metric(&self, place: usize, name: &str) -> Option<f64> {
        let samples = self.nodes[place].metrics().ok()?;
        let own = samples.iter().filter(|(series, _)| {
            let rest = series.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        });
        own.map(|(_, value)| *value).reduce(|a, b| a + b)
    }

    /// The end of what each node printed, for a failure report.
    pub fn output_ends(&self) -> String {
        let ends = self.nodes.iter().enumerate().map(|(place, node)| {
            let id = self.ids.get(place).copied().unwrap_or_default();
            format!("--- place {place}, node {id}:\n{}\n", node.output_end())
        });
        ends.collect()
    }
}

/// Whether no thread below this directory of /proc can run.
fn all_stopped(tasks: &Path) -> bool {
    let Ok(tasks) = std::fs::read_dir(tasks) else {
        return true;
    };
    let mut stats = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        // The name before it is in parentheses and may hold anything.
        stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned())
    });
    stats.all(|stat| stat.starts_with(['T', 't', 'Z', 'X']))
}

/// The data directory of the node at `place`.
fn node_dir(dir: &Path, place: usize) -> PathBuf {
    dir.join(format!("node{place}"))
}

/// The secret that the founders have in common, made by the binary itself.
fn new_token(binary: &Path) -> Result<String, MeshError> {
    let failed = |reason: String| MeshError::Token {
        command: format!("{} token new", binary.display()),
        reason,
    };
    let output = Command::new(binary).args(["token", "new"]).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let token = printed.lines().next().unwrap_or_default().trim();
    match output.status.success() && !token.is_empty() {
        true => Ok(token.to_owned()),
        false => Err(failed(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

/// A loopback address where nothing listens, neither TCP nor UDP.
pub fn free_udp_addr() -> SocketAddr {
    loop {
        let addr = free_addr();
        if UdpSocket::bind(addr).is_ok() {
            return addr;
        }
    }
}
