//! Several server processes as one environment, on loopback or each in a network namespace: formed as a user would, killed, paused, cut off, started again, removed and
//! replaced.
//!
//! Nodes are named by their place in the list, from 0; the id that the environment gave each of them is another thing ([`Mesh::id`]).

pub mod namespaces;
pub mod roles;

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::server::{Launch, Server, StartError, free_addr, http_post};
use crate::sql::{Sql, Target};

use namespaces::{NamespaceError, Namespaces};
use roles::Roles;

/// How long all nodes together may take until each says that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Where nodes listen that have a network of their own.
const SQL_PORT: u16 = 6875;
const HTTP_PORT: u16 = 6878;
const MESH_PORT: u16 = 2100;
/// How long threads may take to stand still after SIGSTOP.
const STOPPED_WITHIN: Duration = Duration::from_secs(2);

/// Why several processes did not become one environment, or one of them did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    #[error("`{command}` failed: {reason}")]
    Command { command: String, reason: String },
    #[error("no network namespaces")]
    Namespaces(#[from] NamespaceError),
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
    binary: PathBuf,
    /// How each node is started, without what forms or joins an environment.
    recipes: Vec<Launch>,
    /// The mesh addresses of all.
    join: String,
    /// Where they run, if not on loopback. Goes after the nodes.
    namespaces: Option<Namespaces>,
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
        let recipe = |place| {
            let launch = Launch::new(binary, node_dir(dir, place)).mesh_addr(free_udp_addr());
            change(launch.arg("--fault-injection"))
        };
        Mesh::start(binary, (0..count).map(recipe).collect(), None).await
    }

    /// Like [`Mesh::form`], each node in a network namespace of its own: what is cut is cut by the kernel.
    ///
    /// # Errors
    /// As those of [`Mesh::form`], and if the machine does not permit it.
    pub async fn form_in_namespaces(
        binary: &Path,
        dir: &Path,
        count: usize,
    ) -> Result<Mesh, MeshError> {
        let namespaces = Namespaces::make(count)?;
        let recipe = |place| {
            let wrapper = namespaces.wrapper(place);
            let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
            Launch::new(binary, node_dir(dir, place))
                .wrapper(&wrapper)
                .sql_addr(namespaces.addr(place, SQL_PORT))
                .http_addr(namespaces.addr(place, HTTP_PORT))
                .mesh_addr(namespaces.addr(place, MESH_PORT))
                .args(&["--fault-injection", "--insecure"])
        };
        let recipes = (0..count).map(recipe).collect();
        Mesh::start(binary, recipes, Some(namespaces)).await
    }

    async fn start(
        binary: &Path,
        recipes: Vec<Launch>,
        namespaces: Option<Namespaces>,
    ) -> Result<Mesh, MeshError> {
        let addrs = recipes.iter().map(|launch| launch.mesh_address());
        let join: Vec<String> = addrs.map(|addr| addr.to_string()).collect();
        let mut mesh = Mesh {
            nodes: Vec::new(),
            ids: Vec::new(),
            binary: binary.to_owned(),
            recipes,
            join: join.join(","),
            namespaces,
        };
        let token = mesh.command(&["token", "new"])?;
        for place in 0..mesh.recipes.len() {
            let server = mesh.founder(place, &token).spawn();
            let server = server.map_err(|source| MeshError::Start { place, source })?;
            mesh.nodes.push(server);
        }
        mesh.wait_ready(READY_WITHIN)?;
        for place in 0..mesh.count() {
            let roles = mesh.roles(place, None).await?;
            mesh.ids.push(roles.gateway);
        }
        mesh.wait_whole(READY_WITHIN).await?;
        Ok(mesh)
    }

    /// The line with which a new environment is formed.
    fn founder(&self, place: usize, token: &str) -> Launch {
        let expect = self.recipes.len().to_string();
        self.newcomer(place, token)
            .args(&["--bootstrap-expect", &expect])
    }

    /// The line with which a node comes in at `place`.
    fn newcomer(&self, place: usize, token: &str) -> Launch {
        self.recipes[place]
            .clone()
            .args(&["--join", &self.join, "--join-token", token])
    }

    /// Runs a command of the binary that is not a node, and gives the first line that it printed.
    ///
    /// # Errors
    /// If it does not end with success.
    pub fn command(&self, words: &[&str]) -> Result<String, MeshError> {
        let failed = |reason: String| MeshError::Command {
            command: format!("{} {}", self.binary.display(), words.join(" ")),
            reason,
        };
        let output = Command::new(&self.binary).args(words).output();
        let output = output.map_err(|error| failed(error.to_string()))?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let first = printed.lines().next().unwrap_or_default().trim();
        match output.status.success() {
            true => Ok(first.to_owned()),
            false => Err(failed(String::from_utf8_lossy(&output.stderr).into_owned())),
        }
    }

    /// Removes the node at `place`, which has ended, from the environment for ever, as an operator would at the node at `through`.
    ///
    /// # Errors
    /// If the command fails.
    pub fn remove(&self, place: usize, through: usize) -> Result<(), MeshError> {
        let (id, at) = (self.id(place).to_string(), self.nodes[through].sql_addr());
        let words = ["node", "remove", &id, "--sql-addr", &at.to_string()];
        self.command(&words).map(drop)
    }

    /// Starts a node over an empty directory at a place whose node has ended, with a token that the node at `through` has made. It is ready, and another node for the environment.
    ///
    /// # Errors
    /// If there is no token, or the node does not come in.
    pub async fn join_anew(&mut self, place: usize, through: usize) -> Result<(), MeshError> {
        let at = self.nodes[through].sql_addr().to_string();
        let token = self.command(&["token", "new", "--sql-addr", &at])?;
        let started = |source| MeshError::Start { place, source };
        self.nodes[place] = self.newcomer(place, &token).start().map_err(started)?;
        self.ids[place] = self.roles(place, None).await?.gateway;
        Ok(())
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
        if let Some(namespaces) = &self.namespaces {
            return Ok(namespaces.cut_one_way(from, to)?);
        }
        self.order(to, &format!("cut peer={} direction=in", self.id(from)))?;
        self.order(from, &format!("cut peer={} direction=out", self.id(to)))
    }

    /// Nothing passes any more between these two.
    ///
    /// # Errors
    /// As those of [`Mesh::order`].
    pub fn cut(&self, one: usize, other: usize) -> Result<(), MeshError> {
        if let Some(namespaces) = &self.namespaces {
            namespaces.cut_one_way(one, other)?;
            return Ok(namespaces.cut_one_way(other, one)?);
        }
        self.order(one, &format!("cut peer={}", self.id(other)))?;
        self.order(other, &format!("cut peer={}", self.id(one)))
    }

    /// Every running node forgets its faults.
    ///
    /// # Errors
    /// As those of [`Mesh::order`].
    pub fn heal(&mut self) -> Result<(), MeshError> {
        if let Some(namespaces) = &self.namespaces {
            namespaces.heal()?;
        }
        for place in 0..self.nodes.len() {
            if self.nodes[place].is_alive() {
                self.order(place, "clear")?;
            }
        }
        Ok(())
    }

    /// The network namespaces of the nodes, if they have any.
    pub fn namespaces(&self) -> Option<&Namespaces> {
        self.namespaces.as_ref()
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

/// A loopback address where nothing listens, neither TCP nor UDP.
pub fn free_udp_addr() -> SocketAddr {
    loop {
        let addr = free_addr();
        if UdpSocket::bind(addr).is_ok() {
            return addr;
        }
    }
}
