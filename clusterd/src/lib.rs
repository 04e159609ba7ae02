//! clusterd: a streaming SQL database in one binary.
//!
//! What this is: the process. [`server`] puts the parts together; [`adapter`] is the gateway that speaks the Postgres protocol; [`mod@env`] plugs the state machine S into its Raft
//! group; [`lead`] drives one controller per CLUSTER that this node leads, and the replicas beside it; [`http`] serves metrics; [`cli`] has the commands
//! that are clients of a node.
//!
//! What this is not: planning (crate `planner`), durability (`raft`, `state`), maintenance of views (`compute`), decisions about replicas (`controller`): each is a room of its own.
//!
//! The life of one request is told in [`adapter`]; the map of the whole project in `docs/architecture.md`.

pub mod adapter;
pub mod cli;
pub mod config;
pub mod env;
pub mod generator;
pub mod http;
pub mod lead;
pub mod node;
mod recover;
pub mod replica;
pub mod server;

use anyhow::{Context, Result};
use config::{Cli, CliCommand, ConfigCommand, StartArgs};
use server::{Banner, Server};
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Stack of each thread that runs sessions. Plans are walked by recursion to a bounded depth; the bound is well within this, in debug builds too.
const STACK_BYTES: usize = 8 << 20;

/// What `version()` answers.
pub const VERSION_TEXT: &str = concat!(
    "PostgreSQL 15.0 on ",
    "x86_64-unknown-linux-gnu",
    " (clusterd ",
    env!("CARGO_PKG_VERSION"),
    ")"
);

/// Runs the command line; errors go to standard error.
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        None => start(cli.start),
        Some(CliCommand::Start(args)) => start(args),
        Some(CliCommand::Demo(args)) => cli::run_demo(args),
        Some(CliCommand::Token { command }) => cli::run_token(command),
        Some(CliCommand::Node { command }) => cli::run_node(command),
        Some(CliCommand::Config {
            command: ConfigCommand::Show(args),
        }) => show(args),
        Some(CliCommand::Recover { command }) => recover::run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clusterd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show(args: StartArgs) -> Result<()> {
    print!("{}", toml::to_string(&args.resolve()?)?);
    Ok(())
}

fn start(args: StartArgs) -> Result<()> {
    let config = args.resolve()?;
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log_filter)
        .with_context(|| format!("--log-filter {:?}", config.log_filter))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build()
        .context("starting the runtime")?;
    let served = runtime.block_on(serve(config));
    // Sessions that did not end in time are cut off here.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    served
}

async fn serve(config: config::Config) -> Result<()> {
    let mut ends = Ends::listen()?;
    let (server, banner) = tokio::select! {
        biased;
        () = ends.asked() => {
            // A start may wait for others as long as they like. Whatever it has written is enough to begin again.
            eprintln!("clusterd: stopped before the node served");
            return Ok(());
        }
        started = Server::start(config) => started?,
    };
    print_banner(&banner);
    let removed = tokio::select! {
        biased;
        () = ends.asked() => None,
        error = server.removed() => Some(error),
    };
    if let Some(error) = &removed {
        tracing::error!(%error, "this node stops");
    }
    server.stop().await;
    removed.map_or(Ok(()), Err)
}

/// The signals that ask the process to end.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    fn listen() -> Result<Ends> {
        Ok(Ends {
            terminate: signal(SignalKind::terminate()).context("waiting for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("waiting for SIGINT")?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn print_banner(banner: &Banner) {
    let Banner {
        data_dir,
        sql,
        http,
        user,
    } = banner;
    let (ip, port) = (sql.ip(), sql.port());
    println!("clusterd {}", env!("CARGO_PKG_VERSION"));
    println!("  data directory  {}", data_dir.display());
    println!("  SQL             postgres://{user}@{sql}/clusterd");
    println!("  HTTP            http://{http}");
    println!();
    println!("  psql -h {ip} -p {port} -U {user} clusterd");
    println!();
}
