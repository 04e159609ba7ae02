//! The configuration of one process: flags > environment > file > defaults, validated once.

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
    /// Show what the configuration is made of.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
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
    pub workers: u32,
    pub election: String,
    pub log_filter: String,
    pub insecure: bool,
}

const WORKERS_MAX: u32 = 64;

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
            workers: self.workers.or(file.workers).unwrap_or(1),
            election: self
                .election
                .or(file.election)
                .unwrap_or_else(|| "lan".to_owned()),
            log_filter: self
                .log_filter
                .or(file.log_filter)
                .unwrap_or_else(|| "info,openraft=warn".to_owned()),
            insecure: self.insecure || file.insecure,
        };
        config.check()?;
        Ok(config)
    }
}

impl Config {
    fn check(&self) -> Result<()> {
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
}
