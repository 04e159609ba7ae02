//! Putting a node together: the only file that knows all parts.
//!
//! Start-up is recovery: the data directory is opened, the log is read, S is rebuilt from its newest snapshot and the log behind it, the CLUSTERs' dataflows are built again
//! from the catalog while the SQL port answers already: reads of a view wait for its dataflow, reads of tables do not.

use crate::adapter::commit::Committer;
use crate::adapter::read_point::ReadPoints;
use crate::adapter::{Adapter, lease, pgwire};
use crate::config::Config;
use crate::env::{Env, Machine, merge};
use crate::http;
use crate::lead::Clusters;
use anyhow::{Context, Result, anyhow};
use bootstrap::DataDir;
use host::Host;
use raft::{Election, GroupClass, GroupConfig, NoPeers, RaftGroup, Wal, WalConfig};
use state::command::{Command, Gateway};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The group id of ENV.
const ENV_GROUP: raft::GroupId = raft::GroupId(0);
/// Sessions get this long to end after SIGTERM.
const DRAIN: Duration = Duration::from_secs(5);

/// A running node.
pub struct Server {
    adapter: Arc<Adapter>,
    wal: Arc<Wal>,
    _data_dir: DataDir,
    stop: watch::Sender<bool>,
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
        let sql = bind("--sql-addr", config.sql_addr).await?;
        let http_listener = bind("--http-addr", config.http_addr).await?;
        let mut data_dir = DataDir::open(&host, &config.data_dir)?;
        let node = data_dir.identity().node_id();
        let gateway = Gateway {
            node,
            incarnation: data_dir.starts(),
        };
        let (wal, env) = open_env(&config, &host, &data_dir).await?;
        introduce(&env, &data_dir, gateway).await?;
        // From here on writes are acknowledged: a directory that loses its log is not formed anew.
        data_dir.mark_formed(&host)?;

        let (stop, stopping) = watch::channel(false);
        let read_points = ReadPoints::new(Arc::clone(&env));
        let (committer, commit_task) = Committer::new(Arc::clone(&env));
        let clusters = Clusters::start(
            Arc::clone(&env),
            host.clone(),
            Arc::clone(&wal),
            node,
            data_dir.snapshots(),
            election(&config),
        );
        let (adapter, forget_task) = Adapter::new(
            config.clone(),
            host.clone(),
            Arc::clone(&env),
            Arc::clone(&read_points),
            committer,
            clusters,
            gateway,
            stopping,
        );
        let spawn = |name, future| drop(host.spawn.spawn(name, future));
        spawn("read-points", Box::pin(read_points.run()));
        spawn("group-commit", Box::pin(commit_task));
        spawn("forget-sessions", Box::pin(forget_task));
        spawn("close", Box::pin(Arc::clone(&env).close_when_idle()));
        spawn("report", Box::pin(Arc::clone(&env).report()));
        let leases = Arc::clone(&adapter);
        let keep = lease::keep(
            move || leases.leases.oldest(),
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
            sql: sql.local_addr()?,
            http: http_listener.local_addr()?,
            user: "clusterd".to_owned(),
        };
        spawn("accept-sql", Box::pin(accept(Arc::clone(&adapter), sql)));
        let router = http::router(Arc::clone(&adapter));
        let serve = async move {
            if let Err(error) = axum::serve(http_listener, router).await {
                tracing::error!(%error, "the HTTP port stopped");
            }
        };
        spawn("http", Box::pin(serve));
        Ok((
            Server {
                adapter,
                wal,
                _data_dir: data_dir,
                stop,
            },
            banner,
        ))
    }

    /// Ends sessions with 57P01, stops the group, closes the log.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
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
        self.wal.close();
    }
}

async fn bind(flag: &str, addr: std::net::SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(addr).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow!("{flag} {addr} is in use by another process: stop it, or choose another port with {flag}")
        }
        _ => anyhow!(error).context(format!("cannot listen on {flag} {addr}")),
    })
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

async fn open_env(
    config: &Config,
    host: &Host,
    data_dir: &DataDir,
) -> Result<(Arc<Wal>, Arc<Env>)> {
    let wal_config = WalConfig {
        expected: data_dir.identity().formed,
        ..WalConfig::new(data_dir.wal())
    };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let opener = host.clone();
    // Reading the log may take a while: not on a thread of the runtime.
    let open = move || {
        let _ = sender.send(Wal::open(&opener, wal_config, fatal_hook()));
    };
    host.spawn.spawn_blocking("wal-open", Box::new(open));
    let wal = receiver.await.context("opening the log")??;
    let mut group = GroupConfig::new(
        ENV_GROUP,
        data_dir.identity().node,
        GroupClass::Env,
        data_dir.snapshots().join("env"),
    );
    group.election = election(config);
    let (machine, state, storage) = Machine::new();
    let merge = merge(state, storage.clone(), host.clone());
    drop(host.spawn.spawn("merge", Box::pin(merge)));
    let group = RaftGroup::start(
        group,
        host,
        Arc::clone(&wal),
        machine,
        Arc::new(NoPeers),
        fatal_hook(),
    )
    .await?;
    group.found_alone("").await?;
    Ok((wal, Env::new(group, storage, host.clone())))
}

/// Makes the environment if this is its first start, and announces this life of the gateway.
async fn introduce(env: &Arc<Env>, data_dir: &DataDir, gateway: Gateway) -> Result<()> {
    let failed = |error: crate::adapter::error::SqlError| {
        anyhow!("{error}: {}", error.detail.clone().unwrap_or_default())
    };
    env.read_index().await.map_err(failed)?;
    let identity = data_dir.identity();
    let state = env.storage().view();
    if !state.initialized() && identity.formed {
        return Err(anyhow!(
            "{} belongs to environment {}, which has been in use, but its log and snapshots hold nothing of it: acknowledged writes would be lost. \
             Restore the directory from a copy, or start with an empty one",
            data_dir.path().display(),
            identity.environment
        ));
    }
    if !state.initialized() {
        let mut superusers = vec!["clusterd".to_owned()];
        superusers.extend(os_user().filter(|user| user != "clusterd"));
        let init = Command::Init {
            environment: identity.environment_id(),
            generation: identity.generation,
            wall_us: env.wall_us(),
            superusers,
        };
        env.propose(&init).await.map_err(failed)?;
    } else if state.environment() != identity.environment_id() {
        return Err(anyhow!(
            "{} holds the log of environment {:032x} but says it belongs to {}: files of two environments are mixed. \
             Restore the directory from a copy, or start with an empty one",
            data_dir.path().display(),
            state.environment(),
            identity.environment
        ));
    }
    env.propose(&Command::GatewayStarted { gateway })
        .await
        .map_err(failed)?;
    Ok(())
}

/// The name of the user who runs the process.
fn os_user() -> Option<String> {
    ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .filter(|name| !name.is_empty())
}

async fn accept(adapter: Arc<Adapter>, listener: TcpListener) {
    let mut stopping = adapter.stopping.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let session = pgwire::serve(Arc::clone(&adapter), stream);
                drop(adapter.host.spawn.spawn("session", Box::pin(session)));
            }
            Err(error) => {
                // Out of file descriptors, most likely: those in use go on.
                tracing::warn!(%error, "a connection could not be accepted");
                adapter.host.clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
