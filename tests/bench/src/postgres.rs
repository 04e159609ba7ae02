//! A private PostgreSQL with its default configuration (but for 200 connections) on loopback.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::Target;

pub struct Postgres {
    bin: PathBuf,
    data: PathBuf,
    addr: SocketAddr,
}

impl Postgres {
    /// initdb and start below `dir`. Root runs it as the user `postgres`.
    pub fn start(bin: &Path, dir: &Path) -> Result<Postgres> {
        std::fs::create_dir_all(dir)?;
        let postgres = Postgres {
            bin: bin.to_owned(),
            data: dir.join("data"),
            addr: harness::server::free_addr(),
        };
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(dir))?;
        }
        postgres.tool(
            "initdb",
            &[
                "-A",
                "trust",
                "-U",
                "clusterd",
                "--locale=C",
                "--encoding=UTF8",
                "-D",
                &postgres.data(),
            ],
        )?;
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c max_connections=200",
            postgres.addr.port(),
            dir.display()
        );
        let log = dir.join("log").display().to_string();
        postgres.tool(
            "pg_ctl",
            &[
                "-D",
                &postgres.data(),
                "-w",
                "-l",
                &log,
                "-o",
                &options,
                "start",
            ],
        )?;
        Ok(postgres)
    }

    pub fn target(&self) -> Target {
        Target {
            dbname: "postgres".to_owned(),
            ..Target::clusterd(self.addr)
        }
    }

    fn data(&self) -> String {
        self.data.display().to_string()
    }

    fn tool(&self, name: &str, arguments: &[&str]) -> Result<()> {
        let program = self.bin.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        run(command.args(arguments).stdin(std::process::Stdio::null()))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.tool("pg_ctl", &["-D", &self.data(), "-m", "fast", "stop"]);
    }
}

fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Runs to its end with its output discarded: a daemon that it starts keeps no pipe of ours open.
fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
