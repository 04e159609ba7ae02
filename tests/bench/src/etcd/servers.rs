//! Three etcd processes on loopback with their default time-outs, fsync on.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use harness::server::free_addr;

use super::client::EtcdClient;

const READY_WITHIN: Duration = Duration::from_secs(30);

pub struct EtcdNode {
    pub client: SocketAddr,
    process: Child,
}

/// Dropping it kills them.
pub struct EtcdServers {
    pub nodes: Vec<EtcdNode>,
}

impl EtcdServers {
    pub async fn start(dir: &Path) -> Result<EtcdServers> {
        let addrs: Vec<(SocketAddr, SocketAddr)> =
            (0..3).map(|_| (free_addr(), free_addr())).collect();
        let members: Vec<String> = addrs
            .iter()
            .enumerate()
            .map(|(i, (_, peer))| format!("n{i}=http://{peer}"))
            .collect();
        let start = |(i, (client, peer)): (usize, &(SocketAddr, SocketAddr))| {
            let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
            let process = Command::new("etcd")
                .args(["--name", &format!("n{i}")])
                .arg("--data-dir")
                .arg(dir.join(format!("etcd-{i}")))
                .args(["--listen-client-urls", &client_url])
                .args(["--advertise-client-urls", &client_url])
                .args(["--listen-peer-urls", &peer_url])
                .args(["--initial-advertise-peer-urls", &peer_url])
                .args(["--initial-cluster", &members.join(",")])
                .args(["--initial-cluster-state", "new", "--log-level", "error"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .context("running etcd; Debian's package is etcd-server")?;
            Ok(EtcdNode {
                client: *client,
                process,
            })
        };
        let nodes = addrs.iter().enumerate().map(start);
        let servers = EtcdServers {
            nodes: nodes.collect::<Result<_>>()?,
        };
        servers.wait_ready().await?;
        Ok(servers)
    }

    async fn wait_ready(&self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        for node in &self.nodes {
            loop {
                let put = async {
                    let mut client = EtcdClient::connect(node.client).await?;
                    client.put(b"ready", b"yes").await
                };
                match tokio::time::timeout(Duration::from_secs(1), put).await {
                    Ok(Ok(())) => break,
                    Ok(Err(error)) if Instant::now() > deadline => return Err(error),
                    Err(_) if Instant::now() > deadline => bail!("etcd did not become ready"),
                    Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        }
        Ok(())
    }

    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.process.id()).collect()
    }

    /// Which of them leads.
    pub fn leader(&self) -> Result<usize> {
        let endpoints: Vec<String> = self.nodes.iter().map(|n| n.client.to_string()).collect();
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &endpoints.join(","), "endpoint", "status"])
            .args(["-w", "json"])
            .output()
            .context("running etcdctl; Debian's package is etcd-client")?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let leads = |row: &serde_json::Value| {
            let status = &row["Status"];
            (status["leader"] == status["header"]["member_id"]).then(|| row["Endpoint"].clone())
        };
        let rows = status.as_array().context("etcdctl answered no list")?;
        let leader = rows.iter().find_map(leads).context("etcd has no leader")?;
        let leader = leader.as_str().unwrap_or_default().to_owned();
        let place = endpoints.iter().position(|endpoint| *endpoint == leader);
        place.context("an unknown leader")
    }

    /// SIGKILL.
    pub fn kill(&mut self, place: usize) {
        let process = &mut self.nodes[place].process;
        let _ = process.kill();
        let _ = process.wait();
    }
}

impl Drop for EtcdServers {
    fn drop(&mut self) {
        (0..self.nodes.len()).for_each(|place| self.kill(place));
    }
}
