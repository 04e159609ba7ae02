//! A network of its own for each node: network namespaces on one bridge, cut by the kernel's packet filter.
//!
//! What the nodes see is what a broken switch does: packets vanish, in one direction or both, and nobody is told. Needs root, `ip` (iproute2) and `nft` (nftables), and a kernel that lets
//! a process make namespaces. The addresses are those of a private /24 that only this machine sees; the test itself is at the bridge and never cut off.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output};

/// Where administrators' programs are, also for those whose PATH does not say so.
const PATH: &str = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin";
/// What the names of bridges and namespaces begin with; the process id follows.
const PREFIX: &str = "cdb";
/// Networks that are tried until one is free: 10.HIGH.x.0/24.
const HIGH: u8 = 213;
/// The bridge's own address in the network.
const BRIDGE: u8 = 254;
/// The table of the packet filter in each namespace: nothing is dropped yet.
const TABLE: &str = "add table inet cuts; add chain inet cuts input { type filter hook input priority 0; policy accept; }";

/// Why there is no such network.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error("cannot run `{command}`: {source}")]
    Missing {
        command: String,
        #[source]
        source: std::io::Error,
    },
    #[error("`{command}`: {reason}")]
    Refused { command: String, reason: String },
}

/// Namespaces of nodes, by place. Dropping it takes all of them away; their processes must have ended.
#[derive(Debug)]
pub struct Namespaces {
    /// Of this process, as it begins every name.
    prefix: String,
    network: u8,
    count: usize,
}

impl Namespaces {
    /// Makes one namespace for each of `count` nodes, and takes away what a process that was killed has left.
    ///
    /// # Errors
    /// If the machine does not let this process do so, or a program is missing.
    pub fn make(count: usize) -> Result<Namespaces, NamespaceError> {
        sweep()?;
        let prefix = format!("{PREFIX}{}", std::process::id());
        let network = free_network()?;
        // Half a network is taken away, too.
        let made = Namespaces {
            prefix,
            network,
            count,
        };
        made.bridge()?;
        (0..count).try_for_each(|place| made.namespace(place))?;
        Ok(made)
    }

    fn bridge(&self) -> Result<(), NamespaceError> {
        let bridge = &self.prefix;
        ip(&format!("link add {bridge} type bridge"))?;
        let addr = self.ip(BRIDGE);
        ip(&format!("addr add {addr}/24 dev {bridge}"))?;
        ip(&format!("link set {bridge} up"))
    }

    fn namespace(&self, place: usize) -> Result<(), NamespaceError> {
        let (bridge, name) = (&self.prefix, self.name(place));
        let link = format!("{bridge}v{place}");
        ip(&format!("netns add {name}"))?;
        ip(&format!(
            "link add {link} type veth peer name eth0 netns {name}"
        ))?;
        ip(&format!("link set {link} master {bridge} up"))?;
        let addr = self.addr(place, 0).ip();
        ip(&format!("-n {name} addr add {addr}/24 dev eth0"))?;
        ip(&format!("-n {name} link set eth0 up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        self.nft(place, TABLE)
    }

    fn name(&self, place: usize) -> String {
        format!("{}n{place}", self.prefix)
    }

    fn ip(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, HIGH, self.network, host)
    }

    /// Where a node listens, reached from here and from the other nodes.
    pub fn addr(&self, place: usize, port: u16) -> SocketAddr {
        let host = u8::try_from(place + 1).expect("fewer nodes than addresses");
        SocketAddr::new(IpAddr::V4(self.ip(host)), port)
    }

    /// What a command line begins with so that it runs in the namespace at `place`, as the same process.
    pub fn wrapper(&self, place: usize) -> Vec<String> {
        let words = format!("ip netns exec {}", self.name(place));
        words.split(' ').map(str::to_owned).collect()
    }

    /// From now on nothing arrives at one place from another.
    ///
    /// # Errors
    /// If the packet filter does not take the rule.
    pub fn cut_one_way(&self, from: usize, to: usize) -> Result<(), NamespaceError> {
        let from = self.addr(from, 0).ip();
        let rule = format!("insert rule inet cuts input ip saddr {from} counter drop");
        self.nft(to, &rule)
    }

    /// Everything arrives again.
    ///
    /// # Errors
    /// If the packet filter does not take it.
    pub fn heal(&self) -> Result<(), NamespaceError> {
        (0..self.count).try_for_each(|place| self.nft(place, "flush chain inet cuts input"))
    }

    /// How many packets were dropped since the last [`Namespaces::heal`].
    ///
    /// # Errors
    /// If the packet filter does not say.
    pub fn dropped(&self) -> Result<u64, NamespaceError> {
        let mut sum = 0;
        for place in 0..self.count {
            let name = self.name(place);
            let words = format!("netns exec {name} nft list chain inet cuts input");
            let listed = run("ip", words.split(' '))?;
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            let counters = listed.split("counter packets ").skip(1);
            let numbers = counters.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
            sum += numbers.sum::<u64>();
        }
        Ok(sum)
    }

    fn nft(&self, place: usize, rules: &str) -> Result<(), NamespaceError> {
        let name = self.name(place);
        let words = ["netns", "exec", &name, "nft", rules];
        run("ip", words).map(drop)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        take_away(&self.prefix);
    }
}

/// A network that no interface of this machine has.
fn free_network() -> Result<u8, NamespaceError> {
    let taken = run("ip", ["-o", "-4", "addr"])?;
    let taken = String::from_utf8_lossy(&taken.stdout).into_owned();
    let first = (std::process::id() % 250) as u8;
    let mut networks = (0..250).map(|step: u8| ((u16::from(first) + u16::from(step)) % 250) as u8);
    let free = networks.find(|network| !taken.contains(&format!(" 10.{HIGH}.{network}.")));
    free.ok_or_else(|| NamespaceError::Refused {
        command: "ip addr".to_owned(),
        reason: format!("no network 10.{HIGH}.x.0/24 is free"),
    })
}

/// Takes away the networks of processes that are gone.
fn sweep() -> Result<(), NamespaceError> {
    let links = run("ip", ["-o", "link", "show", "type", "bridge"])?;
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    let names = links.lines().filter_map(|line| line.split(": ").nth(1));
    for name in names {
        let Some(pid) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let is_pid = pid.bytes().all(|byte| byte.is_ascii_digit());
        if is_pid && !Path::new("/proc").join(pid).exists() {
            take_away(name);
        }
    }
    Ok(())
}

/// Deletes what has this prefix; what is not there any more is not missed.
fn take_away(prefix: &str) {
    let Ok(listed) = run("ip", ["netns", "list"]) else {
        return;
    };
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names = listed.lines().filter_map(|line| line.split(' ').next());
    let own = format!("{prefix}n");
    // Each takes its end of the cable with it.
    for name in names.filter(|name| name.starts_with(&own)) {
        let _ = ip(&format!("netns del {name}"));
    }
    let _ = ip(&format!("link del {prefix}"));
}

fn ip(words: &str) -> Result<(), NamespaceError> {
    run("ip", words.split(' ')).map(drop)
}

fn run<'a>(
    program: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> Result<Output, NamespaceError> {
    let words: Vec<&str> = words.into_iter().collect();
    let command = format!("{program} {}", words.join(" "));
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(&words)
        .env("PATH", format!("{path}:{PATH}"))
        .output();
    let output = match output {
        Ok(output) => output,
        Err(source) => return Err(NamespaceError::Missing { command, source }),
    };
    match output.status.success() {
        true => Ok(output),
        false => Err(NamespaceError::Refused {
            command,
            reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
    }
}
