//! Putting a node together: the only file, with those below it, that knows all parts.
//!
//! Start-up is recovery: the data directory is opened, the log is read, S is rebuilt from its newest snapshot and the log behind it, the CLUSTERs' dataflows are built again
//! from the catalog while the SQL port answers already: reads of a view wait for its dataflow, reads of tables do not.

use crate::adapter::commit::Committer;
use crate::adapter::read_point::ReadPoints;
use crate::adapter::{Adapter, lease};
use crate::config::Config;
use crate::lead::{Clusters, Foundation};
use crate::node::{Groups, Neighbours, leases, members, placement};
use anyhow::{Context, Result, anyhow};
use bootstrap::{DataDir, Desk, Invitation, Member, Say};
use host::Host;
use mesh::{
    EnvironmentId, FaultTransport, Faults, NodeName, QuicConfig, QuicTransport, Timing, Transport,
};
use raft::{Election, Wal};
use state::command::Gateway;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

mod admission;
mod environment;
mod expelled;
mod front;

use front::Front;
pub(crate) use front::Serving;

use admission::EnvAdmission;
use expelled::Expelled;

/// Sessions get this long to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(5);

/// A running node.
pub struct Server {
    adapter: Arc<Adapter>,
    wal: Arc<Wal>,
    transport: Arc<dyn Transport>,
    _data_dir: DataDir,
    stop: watch::Sender<bool>,
    expelled: Expelled,
}

/// What is printed once the node serves.
pub struct Banner {
    pub data_dir: PathBuf,
    pub sql: std::net::SocketAddr,
    pub http: std::net::SocketAddr,
    pub user: String,
}

impl Server {
    /// Starts a node and returns when it serves SQL.
    pub async fn start(config: Config) -> Result<(Server, Banner)> {
        let host = Host::real();
        // Ports first: a port in use is the most frequent mistake, and finding it must not cost a recovery.
        let mesh_socket = bind_mesh(&config)?;
        let (sql, http) = bind_ports(&config).await?;
        let (stop, stopping) = watch::channel(false);
        let faults = config.fault_injection.then(|| Arc::new(Faults::new()));
        let front = Front::open(&host, sql, http, faults.clone(), stopping.clone())?;
        let advertised = config.advertised(mesh_socket.local_addr()?);
        let mut member = join(&config, &host, &mesh_socket, &advertised).await?;
        let transport = start_mesh(&config, &host, &member, mesh_socket)?;
        // Other founders may need this node before ENV has a majority.
        let desk = Desk::new(&host, &member.data_dir)?;
        transport.serve_joins(desk.clone());
        let expelled = transport.expelled();
        let transport = with_faults(&host, transport, faults);
        let node = member.data_dir.identity().node_id();
        let gateway = Gateway {
            node,
            incarnation: member.data_dir.starts(),
        };
        let groups = Arc::new(Groups::default());
        let (wal, env) = environment::open(&config, &host, &member, &transport, &groups).await?;
        groups.serve(&*transport);
        let (committer, commit_task) = Committer::new(Arc::clone(&env));
        drop(host.spawn.spawn("group-commit", Box::pin(commit_task)));
        let addresses =
            members::follow_addresses(Arc::clone(&env), host.clone(), Arc::clone(&transport));
        drop(host.spawn.spawn("addresses", Box::pin(addresses)));
        env.share_commits(committer.clone());
        env.serve();
        let place = environment::Place {
            gateway,
            mesh_addr: advertised,
            sql_addr: front.sql.to_string(),
            http_addr: front.http.to_string(),
        };
        let mut expelled = Expelled::new(&env, &host, expelled);
        tokio::select! {
            biased;
            error = expelled.wait() => return Err(error),
            introduced = environment::introduce(&env, &host, &mut member, place) => introduced?,
        }
        desk.open(Arc::new(EnvAdmission {
            env: Arc::clone(&env),
            generation: member.data_dir.identity().generation(),
        }));
        let Member { data_dir, .. } = member;

        let read_points = ReadPoints::new(Arc::clone(&env));
        let clusters = Clusters::start(Foundation {
            env: Arc::clone(&env),
            host: host.clone(),
            wal: Arc::clone(&wal),
            snapshots: data_dir.snapshots(),
            election: election(&config),
            transport: Arc::clone(&transport),
            groups: Arc::clone(&groups),
        });
        let neighbours = Neighbours::new(
            Arc::clone(&env),
            host.clone(),
            Arc::clone(&transport),
            stopping.clone(),
            fatal_hook(),
        );
        let place = placement::run(
            Arc::clone(&env),
            host.clone(),
            Arc::clone(&neighbours),
            Arc::clone(&clusters),
        );
        let (adapter, forget_task) = Adapter::new(
            config.clone(),
            host.clone(),
            Arc::clone(&env),
            Arc::clone(&read_points),
            committer,
            clusters,
            Arc::clone(&neighbours),
            gateway,
            stopping,
        );
        let spawn = |name, future| drop(host.spawn.spawn(name, future));
        spawn("read-points", Box::pin(read_points.run()));
        spawn("forget-sessions", Box::pin(forget_task));
        spawn("close", Box::pin(Arc::clone(&env).close_when_idle()));
        spawn("report", Box::pin(Arc::clone(&env).report()));
        spawn("neighbours", Box::pin(Arc::clone(&neighbours).run()));
        let keep_members = members::run(Arc::clone(&env), host.clone(), Arc::clone(&neighbours));
        spawn("members", Box::pin(keep_members));
        let end_leases = leases::run(Arc::clone(&env), host.clone(), neighbours);
        spawn("leases", Box::pin(end_leases));
        spawn("placement", Box::pin(place));
        adapter.serve_cancels(&*transport);
        let open = Arc::clone(&adapter);
        let keep = lease::keep(
            move || open.leases.oldest(),
            Arc::clone(&env),
            gateway,
            Arc::clone(&host.clock),
        );
        spawn("lease", Box::pin(keep));
        spawn(
            "sources",
            Box::pin(crate::generator::run(Arc::clone(&adapter))),
        );

        let banner = Banner {
            data_dir: config.data_dir.clone(),
            sql: front.sql,
            http: front.http,
            user: "clusterd".to_owned(),
        };
        front.serve(Arc::clone(&adapter));
        Ok((
            Server {
                adapter,
                wal,
                transport,
                _data_dir: data_dir,
                stop,
                expelled,
            },
            banner,
        ))
    }

    /// Waits until this node is no part of its environment any more, and says what to do: it must be stopped then.
    pub async fn removed(&self) -> anyhow::Error {
        self.expelled.clone().wait().await
    }

    /// Hands leadership over, ends sessions with 57P01, stops the groups, closes the log.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        // First: writers on other nodes should not have to wait for an election.
        tokio::join!(
            self.adapter.env.hand_over(),
            self.adapter.clusters.hand_over()
        );
        self.adapter.sessions.stop();
        let drained = async {
            while !self.adapter.sessions.activity().is_empty() {
                self.adapter
                    .host
                    .clock
                    .sleep(Duration::from_millis(10))
                    .await;
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("some sessions did not end in time");
        }
        self.adapter.clusters.shutdown();
        self.adapter.env.shutdown().await;
        self.transport.close("the node is stopping").await;
        self.wal.close();
    }
}

/// Opens the data directory; if it is empty and the user says so, with the help of other nodes.
async fn join(
    config: &Config,
    host: &Host,
    socket: &UdpSocket,
    advertised: &str,
) -> Result<Member> {
    let invitation = Invitation {
        addresses: config.join.clone(),
        expect: config.bootstrap_expect,
        token: config.join_token.clone(),
        advertise: advertised.to_owned(),
    };
    let say: Say = Arc::new(|text: &str| eprintln!("clusterd: {text}"));
    Ok(Member::join(host, &config.data_dir, socket, invitation, say).await?)
}

/// Opens this node's UDP port.
fn bind_mesh(config: &Config) -> Result<UdpSocket> {
    let addr = config.mesh_addr;
    UdpSocket::bind(addr).map_err(|error| cannot_bind("--mesh-addr", addr, error))
}

/// Starts to talk to other nodes.
fn start_mesh(
    config: &Config,
    host: &Host,
    member: &Member,
    socket: UdpSocket,
) -> Result<Arc<QuicTransport>> {
    let identity = member.data_dir.identity();
    let name = NodeName {
        environment: EnvironmentId(identity.environment_id()),
        node: identity.node_id(),
    };
    let identity = mesh::Identity {
        name,
        generation: identity.generation(),
        incarnation: member.data_dir.starts(),
        process: host.rng.next_u64(),
    };
    let mut quic = QuicConfig::new(config.mesh_addr, identity, member.credentials.clone());
    quic.timing = match election(config) {
        Election::Lan => Timing::lan(),
        Election::Dev => Timing::dev(),
        Election::Wan => Timing::wan(),
    };
    let transport = QuicTransport::start_on(socket, quic, host.clone())
        .with_context(|| format!("cannot listen on --mesh-addr {}", config.mesh_addr))?;
    Ok(Arc::new(transport))
}

/// The transport, misbehaving if that is asked for.
fn with_faults(
    host: &Host,
    transport: Arc<QuicTransport>,
    faults: Option<Arc<Faults>>,
) -> Arc<dyn Transport> {
    match faults {
        None => transport,
        Some(faults) => Arc::new(FaultTransport::new(transport, faults, host.clone())),
    }
}

async fn bind_ports(config: &Config) -> Result<(TcpListener, TcpListener)> {
    let sql = bind("--sql-addr", config.sql_addr).await?;
    let http = bind("--http-addr", config.http_addr).await?;
    Ok((sql, http))
}

async fn bind(flag: &str, addr: SocketAddr) -> Result<TcpListener> {
    let bound = TcpListener::bind(addr).await;
    bound.map_err(|error| cannot_bind(flag, addr, error))
}

fn cannot_bind(flag: &str, addr: SocketAddr, error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow!(
            "{flag} {addr} is in use by another process: stop it, or choose another port with {flag}"
        ),
        _ => anyhow!(error).context(format!("cannot listen on {flag} {addr}")),
    }
}

/// An fsync that failed, or a broken invariant, ends the process: what the disk holds is no longer known.
pub(crate) fn fatal_hook() -> raft::FatalHook {
    Arc::new(|error: &(dyn std::error::Error + 'static)| {
        tracing::error!(error, "fatal: the process ends");
        eprintln!("clusterd: fatal: {error}");
        std::process::abort();
    })
}

fn election(config: &Config) -> Election {
    match config.election.as_str() {
        "dev" => Election::Dev,
        "wan" => Election::Wan,
        _ => Election::Lan,
    }
}
