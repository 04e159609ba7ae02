//! Where CLUSTERs run: what ENV's leader does about it. The decisions are [`controller::placement`]'s.

use super::Neighbours;
use crate::env::Env;
use crate::lead::Clusters;
use controller::placement::{Liveness, Unled, decide};
use host::{Host, Instant};
use repr::NodeId;
use state::{Command, Placement};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often the leader looks if nothing has changed: nodes fall silent without a word.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the nodes are asked which CLUSTERs they lead.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Proposes what is decided while this node leads ENV.
pub async fn run(env: Arc<Env>, host: Host, neighbours: Arc<Neighbours>, clusters: Arc<Clusters>) {
    let concerns = |changes: &state::Changes| changes.catalog_changed || changes.nodes_changed;
    let (_, mut changes) = env.storage().listen_for(concerns);
    let mut look = Look {
        env: Arc::clone(&env),
        host: host.clone(),
        neighbours,
        clusters,
        unled: Unled::default(),
        asked: None,
    };
    loop {
        match env.group().is_leader() {
            true => look.step().await,
            // Who leads anew has heard nothing of late.
            false => look.unled = Unled::default(),
        }
        tokio::select! {
            biased;
            () = changes.wait() => drop(changes.drain()),
            () = host.clock.sleep(LOOK_EVERY) => {}
        }
    }
}

/// What the leader looks at.
struct Look {
    env: Arc<Env>,
    host: Host,
    neighbours: Arc<Neighbours>,
    clusters: Arc<Clusters>,
    unled: Unled,
    /// When the nodes were last asked which CLUSTERs they lead.
    asked: Option<Instant>,
}

impl Look {
    async fn step(&mut self) {
        let now = self.host.clock.now();
        let unreachable = self.unreachable(now);
        if self.asked.is_none_or(|at| now.since(at) >= ASK_EVERY) {
            self.asked = Some(now);
            self.ask(&unreachable).await;
        }
        let liveness = Liveness {
            unreachable,
            unled: self.unled.times(),
        };
        let commands = decide(&self.env.storage().view(), &liveness);
        for command in commands {
            // One that is refused is decided anew from the next state.
            if let Err(error) = self.env.propose_as_leader(&command).await {
                tracing::warn!(%error, "a placement was not committed");
                return;
            }
            tell(&command);
        }
    }

    fn unreachable(&self, now: Instant) -> BTreeMap<NodeId, Duration> {
        let known = self.neighbours.known().into_iter();
        let silent = known.filter_map(|(node, neighbour)| {
            let since = neighbour.silent_since?;
            Some((node, now.since(since)))
        });
        silent.collect()
    }

    /// Asks whoever can be reached which CLUSTERs it leads.
    async fn ask(&mut self, unreachable: &BTreeMap<NodeId, Duration>) {
        let own = self.env.node();
        let others = self.neighbours.known().into_keys();
        let reachable = others.filter(|node| *node != own && !unreachable.contains_key(node));
        let mut answers = self.clusters.led_by(reachable.collect()).await;
        answers.insert(own, self.clusters.led());
        let now = Duration::from_nanos(self.host.clock.now().as_nanos());
        self.unled.heard(&self.env.storage().view(), &answers, now);
    }
}

fn tell(command: &Command) {
    if let Command::Place { cluster, placement } = command {
        let Placement {
            incarnation,
            replicas,
            voters,
        } = placement;
        tracing::info!(%cluster, incarnation, ?replicas, ?voters, "a cluster is placed");
    }
}
