//! The configuration of one process: flags > environment > file > defaults, validated once.

use crate::cli::{DemoArgs, NodeCommand, TokenCommand};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// clusterd: a streaming SQL database in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "clusterd",
    version,
    about,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<CliCommand>,
    #[command(flatten)]
    pub start: StartArgs,
}

#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Start a node (the default).
    Start(StartArgs),
    /// Start several nodes on this machine, with something to look at.
    Demo(DemoArgs),
    /// Make tokens that let nodes into an environment.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// The nodes of an environment.
    Node {
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// Show what the configuration is made of.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Go on with one node after the majority of the environment's voters is lost for good.
    Recover {
        #[command(subcommand)]
        command: RecoverCommand,
    },
}

#[derive(Debug, Subcommand)]
pub enum RecoverCommand {
    /// Say what this data directory has, and what would be lost. Changes nothing.
    Plan(RecoverArgs),
    /// Make this node the only one of its environment. The others must never start again with their old directories.
    Apply(RecoverArgs),
}

#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// Data directory of the node that is left, which must not run. Of several choose the one that `plan` says has most.
    #[arg(long, env = "CLUSTERD_DATA_DIR", default_value = "./clusterd-data")]
    pub data_dir: PathBuf,
    /// For apply: the environment's id, as `plan` prints it.
    #[arg(long)]
    pub confirm: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the effective configuration as TOML.
    Show(StartArgs),
}

/// Every flag has the same name in the environment (`CLUSTERD_DATA_DIR`) and in the TOML file (`data-dir`).
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StartArgs {
    /// Directory of this node's log and snapshots.
    #[arg(long, env = "CLUSTERD_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the Postgres wire protocol.
    #[arg(long, env = "CLUSTERD_SQL_ADDR")]
    pub sql_addr: Option<SocketAddr>,
    /// Address of /metrics, /livez, /readyz and POST /sql.
    #[arg(long, env = "CLUSTERD_HTTP_ADDR")]
    pub http_addr: Option<SocketAddr>,
    /// UDP address where other nodes reach this one. They must show a certificate of the environment, so it may be public.
    #[arg(long, env = "CLUSTERD_MESH_ADDR")]
    pub mesh_addr: Option<SocketAddr>,
    /// What other nodes are told to reach this one at, if not --mesh-addr: host:port.
    #[arg(long, env = "CLUSTERD_ADVERTISE_ADDR")]
    pub advertise_addr: Option<String>,
    /// Mesh addresses of nodes to form or join an environment with, separated by commas. Means nothing once the data directory holds one.
    #[arg(long, env = "CLUSTERD_JOIN", value_delimiter = ',')]
    pub join: Option<Vec<String>>,
    /// Form a new environment as soon as exactly so many nodes with the same --join-token are there.
    #[arg(long, env = "CLUSTERD_BOOTSTRAP_EXPECT")]
    pub bootstrap_expect: Option<u32>,
    /// What `clusterd token new` printed.
    #[arg(long, env = "CLUSTERD_JOIN_TOKEN", hide_env_values = true)]
    pub join_token: Option<String>,
    /// Timely workers per replica of a new CLUSTER.
    #[arg(long, env = "CLUSTERD_WORKERS")]
    pub workers: Option<u32>,
    /// Election time-outs: lan, dev or wan.
    #[arg(long, env = "CLUSTERD_ELECTION")]
    pub election: Option<String>,
    /// Filter of log lines, in the syntax of tracing's EnvFilter.
    #[arg(long, env = "CLUSTERD_LOG_FILTER")]
    pub log_filter: Option<String>,
    /// Allow addresses other than loopback although connections are neither encrypted nor authenticated.
    #[arg(long, env = "CLUSTERD_INSECURE")]
    pub insecure: bool,
    /// For tests: messages to and from other nodes are delayed and lost as POST /faults on the HTTP port says.
    #[arg(long, env = "CLUSTERD_FAULT_INJECTION", hide = true)]
    pub fault_injection: bool,
    /// TOML file with the same names.
    #[arg(long, env = "CLUSTERD_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// Validated configuration of a node.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    pub data_dir: PathBuf,
    pub sql_addr: SocketAddr,
    pub http_addr: SocketAddr,
    pub mesh_addr: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise_addr: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub join: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_expect: Option<u32>,
    /// A secret: not shown.
    #[serde(skip)]
    pub join_token: Option<String>,
    pub workers: u32,
    pub election: String,
    pub log_filter: String,
    pub insecure: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub fault_injection: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

const WORKERS_MAX: u32 = 64;
/// Founders of one environment; more nodes join later.
const FOUNDERS_MAX: u32 = 16;
/// Addresses in --join.
const JOIN_MAX: usize = 64;

impl StartArgs {
    /// Merges the file under the flags, fills in defaults, checks.
    pub fn resolve(self) -> Result<Config> {
        let file = match &self.config {
            None => StartArgs::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("reading {}", path.display()))?;
                toml::from_str(&text).with_context(|| format!("in {}", path.display()))?
            }
        };
        let config = Config {
            data_dir: self
                .data_dir
                .or(file.data_dir)
                .unwrap_or_else(|| PathBuf::from("./clusterd-data")),
            sql_addr: self
                .sql_addr
                .or(file.sql_addr)
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 6875))),
            http_addr: self
                .http_addr
                .or(file.http_addr)
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 6876))),
            mesh_addr: self
                .mesh_addr
                .or(file.mesh_addr)
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 2100))),
            advertise_addr: self.advertise_addr.or(file.advertise_addr),
            join: self.join.or(file.join).unwrap_or_default(),
            bootstrap_expect: self.bootstrap_expect.or(file.bootstrap_expect),
            join_token: self.join_token.or(file.join_token),
            workers: self.workers.or(file.workers).unwrap_or(1),
            election: self
                .election
                .or(file.election)
                .unwrap_or_else(|| "lan".to_owned()),
            log_filter: self
                .log_filter
                .or(file.log_filter)
                .unwrap_or_else(|| "info,openraft=error".to_owned()),
            insecure: self.insecure || file.insecure,
            fault_injection: self.fault_injection || file.fault_injection,
        };
        config.check()?;
        Ok(config)
    }
}

impl Config {
    /// What other nodes are told to reach this one at. `bound` is where its mesh listens: the port is known only then if 0 was asked for.
    pub fn advertised(&self, bound: SocketAddr) -> String {
        match &self.advertise_addr {
            Some(address) => address.clone(),
            None => bound.to_string(),
        }
    }

    fn check_mesh(&self) -> Result<()> {
        for (flag, address) in self
            .join
            .iter()
            .map(|address| ("--join", address))
            .chain(self.advertise_addr.iter().map(|a| ("--advertise-addr", a)))
        {
            ensure!(
                is_host_and_port(address),
                "{flag} must be host:port, not {address:?}"
            );
        }
        ensure!(
            self.join.len() <= JOIN_MAX,
            "--join takes {JOIN_MAX} addresses at most"
        );
        if self.join.is_empty() {
            ensure!(
                self.bootstrap_expect.is_none() && self.join_token.is_none(),
                "--bootstrap-expect and --join-token belong to --join, which says where the other nodes are"
            );
            return Ok(());
        }
        ensure!(
            self.advertise_addr.is_some() || !self.mesh_addr.ip().is_unspecified(),
            "--mesh-addr {} is every address of this machine: say with --advertise-addr at which one other nodes reach it",
            self.mesh_addr
        );
        if let Some(expect) = self.bootstrap_expect {
            ensure!(
                (1..=FOUNDERS_MAX).contains(&expect),
                "--bootstrap-expect must be between 1 and {FOUNDERS_MAX}; more nodes join later"
            );
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        self.check_mesh()?;
        ensure!(
            (1..=WORKERS_MAX).contains(&self.workers),
            "--workers must be between 1 and {WORKERS_MAX}"
        );
        if !["lan", "dev", "wan"].contains(&self.election.as_str()) {
            bail!(
                "--election must be lan, dev or wan, not {:?}",
                self.election
            );
        }
        for (flag, addr) in [
            ("--sql-addr", self.sql_addr),
            ("--http-addr", self.http_addr),
        ] {
            ensure!(
                addr.ip().is_loopback() || self.insecure,
                "{flag} {addr} is not a loopback address: anybody who reaches it could do anything. \
                 Give --insecure if that is what you want"
            );
        }
        Ok(())
    }
}

fn is_host_and_port(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_address_needs_the_spelled_out_flag() {
        let args = StartArgs {
            sql_addr: Some("0.0.0.0:6875".parse().unwrap()),
            ..Default::default()
        };
        assert!(
            args.clone()
                .resolve()
                .unwrap_err()
                .to_string()
                .contains("--insecure")
        );
        assert!(
            StartArgs {
                insecure: true,
                ..args
            }
            .resolve()
            .is_ok()
        );
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "workers = 3\nelection = \"dev\"\n").unwrap();
        let args = StartArgs {
            workers: Some(2),
            config: Some(file),
            ..Default::default()
        };
        let config = args.resolve().unwrap();
        assert_eq!((config.workers, config.election.as_str()), (2, "dev"));
    }

    #[test]
    fn unknown_keys_of_the_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "wrkers = 3\n").unwrap();
        assert!(
            StartArgs {
                config: Some(file),
                ..Default::default()
            }
            .resolve()
            .is_err()
        );
    }

    #[test]
    fn a_line_to_join_with_is_checked() {
        let words = |line: &str| {
            let words = std::iter::once("clusterd").chain(line.split(' '));
            Cli::try_parse_from(words).unwrap().start.resolve()
        };
        let config = words("--join a:1,b:2 --bootstrap-expect 3 --join-token T").unwrap();
        assert_eq!(config.join, ["a:1", "b:2"]);
        assert_eq!(config.bootstrap_expect, Some(3));
        assert!(!toml::to_string(&config).unwrap().contains("token"));
        let bound = "127.0.0.1:7".parse().unwrap();
        assert_eq!(config.advertised(bound), "127.0.0.1:7");
        let config = words("--advertise-addr db1:2100").unwrap();
        assert_eq!(config.advertised(bound), "db1:2100");
        for (line, hint) in [
            ("--join a", "host:port"),
            ("--join a:1,:2", "host:port"),
            ("--advertise-addr a:70000", "host:port"),
            ("--join-token T", "--join"),
            ("--bootstrap-expect 3", "--join"),
            ("--join a:1 --bootstrap-expect 0", "--bootstrap-expect"),
            ("--join a:1 --mesh-addr 0.0.0.0:2100", "--advertise-addr"),
        ] {
            let error = words(line).unwrap_err().to_string();
            assert!(error.contains(hint), "{line}: {error}");
        }
        assert!(words("--mesh-addr 0.0.0.0:2100").is_ok());
    }
}
