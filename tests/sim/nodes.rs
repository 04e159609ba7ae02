//! The simulated nodes: each the real ENV group, state, storage, read points, group commit and leases, on a simulated disk, network and clock.

use crate::history::History;
use crate::world::{LifeSpawn, NodeClock, Trace, Traced};
use clusterd::adapter::commit::Committer;
use clusterd::adapter::lease::{self, Leases};
use clusterd::adapter::read_point::ReadPoints;
use clusterd::env::{Env, Machine, merge};
use clusterd::node::{Groups, MeshPeers, Neighbours, leases, members};
use host::sim::{CrashStyle, JumpClock, SimDisk, SimRng};
use host::{Clock, Host, Rng, TokioSpawn};
use mesh::{FaultTransport, Faults, SimNet, Transport};
use raft::{
    ENV_GROUP, Election, FatalHook, GroupClass, GroupConfig, Member, RaftGroup, Wal, WalConfig,
    WrittenBy,
};
use repr::NodeId;
use state::NodeOp;
use state::command::{Command, Gateway};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The true time when a simulation begins.
const BEGIN_US: u64 = 1_700_000_000_000_000;
/// What waits for this long, waits for ever. A request whose answer is lost waits for a minute, unless another leader is known before.
const DEADLINE: Duration = Duration::from_secs(150);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What the simulated disk takes to make a batch of the log durable.
const SYNC_TAKES: Duration = Duration::from_micros(400);

/// One life of a node: from its start to its crash.
pub struct Life {
    pub env: Arc<Env>,
    pub read_points: Arc<ReadPoints>,
    pub committer: Committer,
    pub leases: Arc<Leases>,
    pub gateway: Gateway,
    pub sessions: AtomicU64,
    wal: Arc<Wal>,
    ended: watch::Sender<bool>,
}

impl Life {
    /// Resolves when this life ends.
    pub async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // The sender is part of `self`.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    pub fn session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }
}

pub struct Node {
    pub disk: SimDisk,
    pub clock: Arc<NodeClock>,
    pub faults: Arc<Faults>,
    pub life: Option<Arc<Life>>,
    starts: u64,
}

/// What the tasks of clients share with the script.
#[derive(Clone)]
pub struct Shared {
    pub clock: JumpClock,
    pub trace: Arc<Trace>,
    history: Arc<Mutex<History>>,
}

impl Shared {
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("nobody panics in here")
    }
}

pub struct Sim {
    pub shared: Shared,
    pub rng: Arc<SimRng>,
    pub nodes: BTreeMap<u64, Node>,
    net: SimNet,
    /// Log bytes between two snapshots.
    pub snapshot_log_bytes: u64,
}

impl Sim {
    /// Call it inside a runtime of one thread.
    pub fn new(seed: u64) -> Sim {
        let clock = JumpClock::start(&TokioSpawn::current(), BEGIN_US);
        raft::simulate_this_thread(Arc::new(clock.clone()), seed);
        let rng = Arc::new(SimRng::new(seed));
        let host = Host {
            clock: Arc::new(clock.clone()),
            disk: Arc::new(SimDisk::new(seed)),
            rng: rng.clone(),
            spawn: Arc::new(TokioSpawn::current()),
        };
        let shared = Shared {
            trace: Trace::new(clock.clone()),
            clock,
            history: Arc::default(),
        };
        Sim {
            shared,
            rng,
            nodes: BTreeMap::new(),
            net: SimNet::new(host),
            snapshot_log_bytes: 32 << 20,
        }
    }

    /// Adds a node that was never started.
    pub fn add(&mut self, id: u64) {
        let node = Node {
            disk: SimDisk::new(self.rng.next_u64()),
            clock: NodeClock::new(self.shared.clock.clone()),
            faults: Arc::new(Faults::new()),
            life: None,
            starts: 0,
        };
        self.nodes.insert(id, node);
    }

    pub fn node(&mut self, id: u64) -> Result<&mut Node> {
        let node = self.nodes.get_mut(&id);
        node.ok_or_else(|| format!("there is no node {id}").into())
    }

    pub fn life(&self, id: u64) -> Result<Arc<Life>> {
        let life = self.nodes.get(&id).and_then(|node| node.life.clone());
        life.ok_or_else(|| format!("node {id} does not run").into())
    }

    pub fn running(&self) -> Vec<(u64, Arc<Life>)> {
        let running = |(id, node): (&u64, &Node)| Some((*id, node.life.clone()?));
        self.nodes.iter().filter_map(running).collect()
    }

    /// Starts a life of a node; with `founders`, it founds the environment with them as voters.
    pub async fn start(&mut self, id: u64, founders: Option<&[u64]>) -> Result<()> {
        let seed = self.rng.next_u64();
        let (shared, snapshot_log_bytes) = (self.shared.clone(), self.snapshot_log_bytes);
        let net = self.net.clone();
        let node = self.node(id)?;
        node.starts += 1;
        let gateway = Gateway {
            node: NodeId(id),
            incarnation: node.starts,
        };
        let (end, ended) = watch::channel(false);
        let host = Host {
            clock: node.clock.clone(),
            disk: Arc::new(node.disk.clone()),
            rng: Arc::new(SimRng::new(seed)),
            spawn: Arc::new(LifeSpawn::new(shared.clock.clone(), ended.clone())),
        };
        let transport = Arc::new(net.start(NodeId(id), node.starts));
        let transport = FaultTransport::new(transport, node.faults.clone(), host.clone());
        let transport: Arc<dyn Transport> =
            Arc::new(Traced::new(Arc::new(transport), shared.trace.clone()));
        let fatal = fatal_hook(id, shared.clone(), ended);
        let wal = WalConfig {
            segment_bytes: 1 << 20,
            free_bytes_min: 0,
            written_by: WrittenBy::Task(SYNC_TAKES),
            ..WalConfig::new("/data/wal")
        };
        let wal = Wal::open(&host, wal, fatal.clone())?;
        let (machine, state, storage) = Machine::new();
        let marks = machine.marks();
        let spawn = |name, task| drop(host.spawn.spawn(name, task));
        spawn(
            "merge",
            Box::pin(merge(state, storage.clone(), host.clone())),
        );
        let config = GroupConfig {
            snapshot_log_bytes,
            log_keep_bytes: 0,
            ..GroupConfig::new(ENV_GROUP, id, GroupClass::Env, "/data/snapshots/env")
        };
        let peers = MeshPeers::new(transport.clone());
        let group =
            RaftGroup::start(config, &host, wal.clone(), machine, peers, fatal.clone()).await?;
        let groups = Arc::new(Groups::default());
        groups.join(ENV_GROUP, group.responder());
        groups.serve(&*transport);
        if let Some(founders) = founders {
            let member = |id: &u64| {
                let addr = format!("node {id}");
                (*id, Member { addr })
            };
            group.found(founders.iter().map(member).collect()).await?;
        }
        let env = Env::new(
            group,
            storage,
            marks,
            host.clone(),
            transport.clone(),
            Election::Lan,
        );
        let (committer, commit) = Committer::new(env.clone());
        spawn("group-commit", Box::pin(commit));
        env.share_commits(committer.clone());
        env.serve();
        let read_points = ReadPoints::new(env.clone());
        spawn("read-points", Box::pin(read_points.clone().run()));
        spawn("close", Box::pin(env.clone().close_when_idle()));
        let (_, draining) = watch::channel(false);
        let neighbours = Neighbours::new(
            env.clone(),
            host.clone(),
            transport.clone(),
            draining,
            fatal,
        );
        spawn("neighbours", Box::pin(neighbours.clone().run()));
        let addresses = members::follow_addresses(env.clone(), host.clone(), transport);
        drop(host.spawn.spawn("addresses", Box::pin(addresses)));
        let keep = members::run(env.clone(), host.clone(), neighbours.clone());
        spawn("members", Box::pin(keep));
        spawn(
            "leases",
            Box::pin(leases::run(env.clone(), host.clone(), neighbours)),
        );
        let open = Arc::new(Leases::default());
        let oldest = open.clone();
        let keep = lease::keep(
            move || oldest.oldest(),
            env.clone(),
            gateway,
            host.clock.clone(),
        );
        spawn("lease", Box::pin(keep));
        let introduced = introduce(env.clone(), host.clone(), gateway);
        spawn("introduce", Box::pin(introduced));
        node.life = Some(Arc::new(Life {
            env,
            read_points,
            committer,
            leases: open,
            gateway,
            sessions: AtomicU64::new(1),
            wal,
            ended: end,
        }));
        shared.trace.note(&format!("node {id} starts"));
        Ok(())
    }

    /// The node is gone from one moment to the next; its disk forgets what was not synced.
    pub async fn crash(&mut self, id: u64, style: CrashStyle) -> Result<()> {
        let life = self.life(id)?;
        self.shared.trace.note(&format!("node {id} crashes"));
        self.net.crash(NodeId(id));
        life.ended.send_replace(true);
        let node = self.node(id)?;
        node.life = None;
        node.disk.crash(style);
        // openraft's own tasks: they have neither disk nor network any more.
        let stopped = async {
            life.env.shutdown().await;
            life.wal.close();
        };
        self.within(stopped).await
    }

    /// Runs `work`, at most until the deadline.
    pub async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.shared.clock.sleep(DEADLINE) => Err("it takes for ever".into()),
        }
    }

    /// Lets time pass until a condition holds.
    pub async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
        let deadline = self.shared.clock.now() + DEADLINE;
        while !holds() {
            if self.shared.clock.now() >= deadline {
                return Err(format!("this never happens: {what}").into());
            }
            self.shared.clock.sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// The node that leads, for all it knows, in the highest term.
    pub fn leader(&self) -> Option<u64> {
        let running = self.running();
        let leads = running
            .iter()
            .filter(|(_, life)| life.env.group().is_leader());
        leads
            .max_by_key(|(_, life)| life.env.term())
            .map(|(id, _)| *id)
    }

    /// Waits until all running nodes have applied the same, and says whether their states are equal.
    pub async fn converge(&self) -> Result<()> {
        let applied = || {
            let running = self.running();
            let views = running.iter().map(|(_, life)| {
                let view = life.env.storage().view();
                (view.applied(), view.hash())
            });
            views.collect::<Vec<_>>()
        };
        self.until("all nodes have applied the same", || {
            let applied = applied();
            applied.windows(2).all(|pair| pair[0].0 == pair[1].0)
        })
        .await?;
        let applied = applied();
        if applied.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            self.shared
                .history()
                .violate(format!("states differ at one index: {applied:x?}"));
        }
        Ok(())
    }
}

/// What ends a process ends a node; that of one that has crashed means nothing.
fn fatal_hook(id: u64, shared: Shared, ended: watch::Receiver<bool>) -> FatalHook {
    Arc::new(move |error| {
        if !*ended.borrow() {
            shared
                .history()
                .violate(format!("node {id} stops: {error}"));
        }
    })
}

/// Tells ENV of this life, as a process does when it starts.
async fn introduce(env: Arc<Env>, host: Host, gateway: Gateway) {
    let started = NodeOp::Started {
        node: gateway.node,
        incarnation: gateway.incarnation,
        mesh_addr: format!("node {}", gateway.node.0),
        sql_addr: String::new(),
        http_addr: String::new(),
        version: String::new(),
    };
    for command in [Command::GatewayStarted { gateway }, Command::Node(started)] {
        while !env.storage().view().nodes().contains_key(&gateway.node)
            || env.propose(&command).await.is_err()
        {
            host.clock.sleep(Duration::from_millis(20)).await;
        }
    }
}
