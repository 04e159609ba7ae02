//! The end of leases whose gateways are gone.
//!
//! A lease keeps history readable for the open transactions of one gateway. A gateway that has died cannot end its own: ENV's leader does, once the node has been silent for
//! half a minute. The end is an entry of the log, never a clock: a gateway that was only slow finds its lease gone and its transactions fail with 40001, they read nothing wrong.

use super::Neighbours;
use crate::env::Env;
use host::{Host, Instant};
use repr::NodeId;
use state::command::{Command, Gateway};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often the leader looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A gateway that was silent for longer loses its lease. A new leader counts from its election.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The gateways with a lease whose nodes were silent for too long.
fn expired(
    leases: impl Iterator<Item = Gateway>,
    silent_since: &BTreeMap<NodeId, Instant>,
    leading_since: Instant,
    now: Instant,
) -> Vec<Gateway> {
    let silent = |gateway: &Gateway| {
        let since = silent_since.get(&gateway.node)?;
        Some(now.since((*since).max(leading_since)) > SILENCE_MAX)
    };
    leases
        .filter(|gateway| silent(gateway).unwrap_or(false))
        .collect()
}

/// Ends leases while this node leads ENV.
pub async fn run(env: Arc<Env>, host: Host, neighbours: Arc<Neighbours>) {
    let mut leading_since = None;
    loop {
        host.clock.sleep(LOOK_EVERY).await;
        let now = host.clock.now();
        if !env.group().is_leader() {
            leading_since = None;
            continue;
        }
        let leading_since = *leading_since.get_or_insert(now);
        let silent = neighbours
            .known()
            .into_iter()
            .filter_map(|(node, neighbour)| Some((node, neighbour.silent_since?)));
        let leases = env.storage().view().leases().clone();
        for gateway in expired(leases.into_keys(), &silent.collect(), leading_since, now) {
            tracing::warn!(node = %gateway.node, "the lease of a silent gateway ends");
            if let Err(error) = env
                .propose_as_leader(&Command::ExpireLease { gateway })
                .await
            {
                tracing::warn!(%error, "a lease was not ended");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_silence_ends_a_lease_and_a_new_leader_waits() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let gateway = |node| Gateway {
            node: NodeId(node),
            incarnation: 1,
        };
        let leases = || [1, 2, 3].map(gateway).into_iter();
        let silent = BTreeMap::from([(NodeId(2), at(100)), (NodeId(3), at(125))]);
        let ended = |leading, now| expired(leases(), &silent, at(leading), at(now));
        assert_eq!(ended(0, 129), vec![]);
        assert_eq!(ended(0, 131), vec![gateway(2)]);
        assert_eq!(ended(120, 131), vec![]);
        assert_eq!(ended(120, 156), vec![gateway(2), gateway(3)]);
    }
}
