//! Where CLUSTERs run: what ENV's leader does about it. The decisions are [`controller::placement`]'s.

use super::Neighbours;
use crate::env::Env;
use controller::placement::{Liveness, decide};
use host::Host;
use state::{Command, Placement};
use std::sync::Arc;
use std::time::Duration;

/// How often the leader looks if nothing has changed: nodes fall silent without a word.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Proposes what is decided while this node leads ENV.
pub async fn run(env: Arc<Env>, host: Host, neighbours: Arc<Neighbours>) {
    let concerns = |changes: &state::Changes| changes.catalog_changed || changes.nodes_changed;
    let (_, mut changes) = env.storage().listen_for(concerns);
    loop {
        if env.group().is_leader() {
            step(&env, &host, &neighbours).await;
        }
        tokio::select! {
            biased;
            () = changes.wait() => drop(changes.drain()),
            () = host.clock.sleep(LOOK_EVERY) => {}
        }
    }
}

async fn step(env: &Env, host: &Host, neighbours: &Neighbours) {
    let now = host.clock.now();
    let silent = neighbours
        .known()
        .into_iter()
        .filter_map(|(node, neighbour)| {
            let since = neighbour.silent_since?;
            Some((node, now.since(since)))
        });
    let liveness = Liveness {
        unreachable: silent.collect(),
    };
    let commands = decide(&env.storage().view(), &liveness);
    for command in commands {
        // One that is refused is decided anew from the next state.
        if let Err(error) = env.propose_as_leader(&command).await {
            tracing::warn!(%error, "a placement was not committed");
            return;
        }
        if let Command::Place { cluster, placement } = &command {
            let Placement {
                incarnation,
                replicas,
                voters,
            } = placement;
            tracing::info!(%cluster, incarnation, ?replicas, ?voters, "a cluster is placed");
        }
    }
}
