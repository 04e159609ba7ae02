//! Scripts, one per property, in `tests/placement`: who is there, and what is proposed until nothing is.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use goldenscript::Context;
use proptest::prelude::*;
use repr::{ClusterId, NodeId, ReplicaId};
use state::catalog::Cluster;
use state::command::{CatalogOp, Gateway, Session, Token, Txn};
use state::state::DEFAULT_CLUSTER;
use state::{Batch, Command, NodeOp, NodeStatus, Outcome, State};

use super::{GRACE, Liveness, decide};

/// Beyond this many steps it is going in circles.
const STEPS_MAX: usize = 50;

struct World {
    state: State,
    liveness: Liveness,
    next_seq: u64,
}

impl World {
    fn new() -> World {
        let mut world = World {
            state: State::new(),
            liveness: Liveness::default(),
            next_seq: 1,
        };
        world.apply(&Command::Init {
            environment: 1,
            generation: 0,
            wall_us: 1000,
            superusers: vec!["clusterd".into()],
        });
        world
    }

    fn apply(&mut self, command: &Command) -> Vec<Outcome> {
        let index = self.state.applied() + 1;
        self.state.apply(index, command).outcomes
    }

    fn admit(&mut self) -> NodeId {
        let node = self.state.next_node_id();
        let hash = [node.0 as u8; 32];
        let public_key = vec![node.0 as u8];
        for op in [
            NodeOp::Token {
                hash,
                expires_us: u64::MAX,
            },
            NodeOp::Admit {
                node,
                public_key,
                mesh_addr: String::new(),
                token_hash: Some(hash),
                wall_us: 5,
            },
        ] {
            self.apply(&Command::Node(op));
        }
        node
    }

    fn start(&mut self, node: NodeId) {
        self.apply(&Command::Node(NodeOp::Started {
            node,
            incarnation: 1,
            mesh_addr: String::new(),
            sql_addr: String::new(),
            http_addr: String::new(),
            version: String::new(),
        }));
    }

    fn status(&mut self, node: NodeId, status: NodeStatus) -> Vec<Outcome> {
        self.apply(&Command::Node(NodeOp::SetStatus { node, status }))
    }

    fn catalog(&mut self, catalog_ops: Vec<CatalogOp>) -> Vec<Outcome> {
        let gateway = Gateway {
            node: NodeId(1),
            incarnation: 1,
        };
        let token = Token {
            session: Session { gateway, number: 1 },
            seq: self.next_seq,
            base: self.state.applied(),
        };
        self.next_seq += 1;
        let txn = Txn {
            token,
            schema: vec![],
            catalog_ops,
            checks: vec![],
            writes: vec![],
            staged: 0,
        };
        self.apply(&Command::Batch(Batch {
            wall_us: 0,
            txns: vec![txn],
        }))
    }

    fn create(&mut self, replicas: u64) {
        let id = self.state.catalog().next_id;
        let cluster = Cluster {
            id: ClusterId(id),
            name: format!("c{id}"),
            incarnation: 1,
            workers: 1,
            memory_limit_bytes: None,
            replicas: (id + 1..=id + replicas).map(ReplicaId).collect(),
        };
        self.catalog(vec![CatalogOp::CreateCluster(cluster)]);
    }

    fn resize(&mut self, id: ClusterId, replicas: u64) {
        let Some(cluster) = self.state.catalog().clusters.get(&id) else {
            return;
        };
        let next = self.state.catalog().next_id;
        let mut cluster = Cluster::clone(cluster);
        let all = cluster.replicas.iter().copied();
        let all = all.chain((next..next + replicas).map(ReplicaId));
        cluster.replicas = all.take(replicas as usize).collect();
        self.catalog(vec![
            CatalogOp::UpdateCluster(cluster),
            CatalogOp::KeepReplicas(id),
        ]);
    }

    /// Carries out the next steps; what they were.
    fn step(&mut self) -> Vec<String> {
        let commands = decide(&self.state, &self.liveness);
        let placed = |command: &Command| {
            self.apply(command);
            self.show(command)
        };
        commands.iter().map(placed).collect()
    }

    fn show(&self, command: &Command) -> String {
        match command {
            Command::Place { cluster, placement } => {
                let name = &self.state.catalog().clusters[cluster].name;
                let hosts = placement.replicas.values();
                let hosts: Vec<String> = hosts.map(NodeId::to_string).collect();
                let voters: Vec<String> = placement.voters.iter().map(NodeId::to_string).collect();
                format!(
                    "{name}#{} on [{}] voters [{}]",
                    placement.incarnation,
                    hosts.join(" "),
                    voters.join(" ")
                )
            }
            Command::Batch(batch) => match &batch.txns[0].catalog_ops[..] {
                [CatalogOp::UpdateCluster(cluster)] => {
                    format!("{} wants {} replicas", cluster.name, cluster.replicas.len())
                }
                ops => format!("{ops:?}"),
            },
            command => format!("{command:?}"),
        }
    }

    fn settle(&mut self) -> Result<String, String> {
        let mut output = String::new();
        for _ in 0..STEPS_MAX {
            let steps = self.step();
            if steps.is_empty() {
                return Ok(output);
            }
            for step in steps {
                output += &(step + "\n");
            }
        }
        Err(format!("it does not come to rest:\n{output}"))
    }

    /// What must hold whenever all is as it should be.
    fn check(&self) {
        let (state, catalog) = (&self.state, self.state.catalog());
        let silent = |node: NodeId| self.liveness.unreachable.contains_key(&node);
        let active: Vec<NodeId> = state
            .nodes()
            .values()
            .filter(|node| node.status == NodeStatus::Active && node.incarnation > 0)
            .map(|node| node.id)
            .collect();
        let ready = active.iter().copied().filter(|node| !silent(*node));
        let ready: Vec<NodeId> = ready.collect();
        for cluster in catalog.clusters.values() {
            let Some(placement) = state.placements().get(&cluster.id) else {
                assert!(ready.is_empty(), "{} is not placed", cluster.name);
                continue;
            };
            let hosts: Vec<NodeId> = placement.replicas.values().copied().collect();
            let free = ready.iter().any(|node| !hosts.contains(node));
            let mut distinct = hosts.clone();
            distinct.sort();
            distinct.dedup();
            assert_eq!(distinct.len(), hosts.len(), "two replicas on one node");
            assert!(hosts.len() == cluster.replicas.len() || !free);
            for host in hosts {
                let removed = state.nodes()[&host].status == NodeStatus::Removed;
                assert!(!removed && (active.contains(&host) || !free));
            }
            let voters = &placement.voters;
            assert!(voters.len() % 2 == 1 && voters.len() <= 3, "{voters:?}");
            assert!(
                voters.len() == 3 || ready.len() < 3,
                "{voters:?} of {ready:?}"
            );
            let lost = |node: &NodeId| {
                let silent = self.liveness.unreachable.get(node);
                silent.is_some_and(|silent| *silent >= GRACE)
                    || state.nodes()[node].status == NodeStatus::Removed
            };
            let there = voters.iter().filter(|node| !lost(node)).count();
            assert!(there * 2 > voters.len() || ready.is_empty(), "{voters:?}");
        }
    }
}

impl goldenscript::Runner for World {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _: &Context,
    ) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let mut output = String::new();
        match command.name.as_str() {
            // admit: a node that has not started; node: one that has.
            "admit" => writeln!(output, "{}", self.admit())?,
            "node" => {
                let node = self.admit();
                self.start(node);
                writeln!(output, "{node}")?;
            }
            "start" => self.start(NodeId(args.next_pos().ok_or("a node")?.parse()?)),
            "drain" | "undrain" | "remove" => {
                let node = NodeId(args.next_pos().ok_or("a node")?.parse()?);
                let status = match command.name.as_str() {
                    "drain" => NodeStatus::Draining,
                    "undrain" => NodeStatus::Active,
                    _ => NodeStatus::Removed,
                };
                if let [Outcome::Invalid { reason }] = &self.status(node, status)[..] {
                    writeln!(output, "{reason}")?;
                }
            }
            // silent NODE=SECONDS... and nobody else.
            "silent" => {
                let mut unreachable = BTreeMap::new();
                while let Some((node, seconds)) = args.next_key() {
                    let seconds = Duration::from_secs(seconds.parse()?);
                    unreachable.insert(NodeId(node.parse()?), seconds);
                }
                self.liveness.unreachable = unreachable;
            }
            // unled CLUSTER=SECONDS... and no other.
            "unled" => {
                self.liveness.unled.clear();
                while let Some((name, seconds)) = args.next_key() {
                    let seconds = Duration::from_secs(seconds.parse()?);
                    let catalog = self.state.catalog();
                    let cluster = catalog.cluster_by_name(name).ok_or("a cluster")?.id;
                    self.liveness.unled.insert(cluster, seconds);
                }
            }
            "cluster" => self.create(args.next_pos().ok_or("replicas")?.parse()?),
            "resize-quickstart" => {
                let replicas = args.next_pos().ok_or("replicas")?.parse()?;
                self.resize(DEFAULT_CLUSTER, replicas);
            }
            "step" => {
                for step in self.step() {
                    writeln!(output, "{step}")?;
                }
            }
            "settle" => {
                output = self.settle()?;
                self.check();
            }
            name => return Err(format!("unknown command {name}").into()),
        }
        args.reject_next()?;
        Ok(output)
    }
}

#[test]
fn scripts() -> std::io::Result<()> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/placement");
    let mut paths = std::fs::read_dir(dir)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    assert!(!paths.is_empty());
    paths
        .iter()
        .try_for_each(|path| goldenscript::run(&mut World::new(), path))
}

#[derive(Clone, Debug)]
enum Event {
    Join,
    Admit,
    Start(u64),
    Drain(u64),
    Undrain(u64),
    Remove(u64),
    Silent(u64, u64),
    Back(u64),
    Create(u64),
    Resize(u64),
    Settle,
}

fn event() -> impl Strategy<Value = Event> {
    let node = 1..7u64;
    prop_oneof![
        3 => Just(Event::Join),
        1 => Just(Event::Admit),
        1 => node.clone().prop_map(Event::Start),
        1 => node.clone().prop_map(Event::Drain),
        1 => node.clone().prop_map(Event::Undrain),
        1 => node.clone().prop_map(Event::Remove),
        2 => (node.clone(), 1..120u64).prop_map(|(node, seconds)| Event::Silent(node, seconds)),
        2 => node.prop_map(Event::Back),
        1 => (0..6u64).prop_map(Event::Create),
        1 => (1..5u64).prop_map(Event::Resize),
        2 => Just(Event::Settle),
    ]
}

proptest! {
    /// Whatever happens, it comes to rest, and then everything is placed as well as it can be.
    #[test]
    fn it_always_comes_to_rest(events in proptest::collection::vec(event(), 1..40)) {
        let mut world = World::new();
        for event in events {
            match event {
                Event::Join => {
                    let node = world.admit();
                    world.start(node);
                }
                Event::Admit => drop(world.admit()),
                Event::Start(node) => world.start(NodeId(node)),
                Event::Drain(node) => drop(world.status(NodeId(node), NodeStatus::Draining)),
                Event::Undrain(node) => drop(world.status(NodeId(node), NodeStatus::Active)),
                Event::Remove(node) => drop(world.status(NodeId(node), NodeStatus::Removed)),
                Event::Silent(node, seconds) => {
                    let silent = &mut world.liveness.unreachable;
                    silent.insert(NodeId(node), Duration::from_secs(seconds));
                }
                Event::Back(node) => drop(world.liveness.unreachable.remove(&NodeId(node))),
                Event::Create(replicas) => world.create(replicas),
                Event::Resize(replicas) => world.resize(DEFAULT_CLUSTER, replicas),
                Event::Settle => drop(world.settle().unwrap()),
            }
        }
        // Who is still away stays away.
        for silent in world.liveness.unreachable.values_mut() {
            *silent = GRACE;
        }
        world.settle().unwrap();
        world.check();
    }
}
