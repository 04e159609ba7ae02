//! What a node knows of its peers: addresses, lives, removals.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::Instant;
use protocol::Lane;
use quinn::Connection;
use repr::NodeId;

use super::hello::{CLOSED_REMOVED, CLOSED_REPLACED, Rejection};
use crate::Identity;
use crate::stats::Counters;

/// Shared by all connections of an endpoint.
#[derive(Default)]
pub(super) struct Peers {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    peers: BTreeMap<NodeId, Peer>,
    removed: BTreeSet<NodeId>,
    counters: BTreeMap<(NodeId, Lane), Arc<Counters>>,
    /// What was told last of an address.
    refusals: BTreeMap<IpAddr, Refused>,
}

/// Why a connection was refused, and when that was told.
struct Refused {
    reason: String,
    at: Instant,
}

/// Addresses whose refusals are remembered; of more at a time nothing is told.
const REFUSALS_MAX: usize = 256;

/// Of one address, refusals are told this far apart at least.
const REFUSALS_APART: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Peer {
    address: Option<String>,
    /// The newest life that was met.
    life: Option<Life>,
    /// Connections of that life, in both directions.
    connections: Vec<Connection>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Life {
    incarnation: u64,
    process: u64,
}

impl Peers {
    pub(super) fn set_address(&self, node: NodeId, address: &str) {
        let mut inner = self.lock();
        inner.peers.entry(node).or_default().address = Some(address.to_owned());
    }

    pub(super) fn address(&self, node: NodeId) -> Option<String> {
        self.lock().peers.get(&node)?.address.clone()
    }

    /// Ends what there is with `node` and refuses it from now on.
    pub(super) fn remove(&self, node: NodeId) {
        let peer = {
            let mut inner = self.lock();
            inner.removed.insert(node);
            inner.peers.remove(&node)
        };
        let reason = Rejection::Removed(node).to_string();
        for connection in peer.into_iter().flat_map(|p| p.connections) {
            connection.close(CLOSED_REMOVED, reason.as_bytes());
        }
    }

    pub(super) fn check_not_removed(&self, node: NodeId) -> Result<(), Rejection> {
        self.lock().check_not_removed(node)
    }

    /// Admits a connection with one life of a node. A newer life ends the connections of older ones; an older one, or a second process of the same
    /// one, is refused.
    pub(super) fn meet(&self, them: &Identity, connection: &Connection) -> Result<(), Rejection> {
        let node = them.name.node;
        let life = Life {
            incarnation: them.incarnation,
            process: them.process,
        };
        let outlived = {
            let mut inner = self.lock();
            inner.check_not_removed(node)?;
            let peer = inner.peers.entry(node).or_default();
            let outlived = peer.meet(node, life)?;
            peer.connections.retain(|c| c.close_reason().is_none());
            peer.connections.push(connection.clone());
            outlived
        };
        for old in outlived {
            old.close(CLOSED_REPLACED, b"a later start of this node was met");
        }
        Ok(())
    }

    /// Whether a refusal should be told: a refused node keeps trying, and says the same each time; others may say something new each time.
    pub(super) fn is_news(&self, from: IpAddr, reason: &str, now: Instant) -> bool {
        let mut inner = self.lock();
        let is_recent = |told: &Refused| now.since(told.at) < REFUSALS_APART;
        match inner.refusals.get(&from) {
            Some(last) if last.reason == reason || is_recent(last) => return false,
            Some(_) => {}
            None if inner.refusals.len() < REFUSALS_MAX => {}
            None => inner.refusals.retain(|_, told| is_recent(told)),
        }
        let is_news = inner.refusals.len() < REFUSALS_MAX || inner.refusals.contains_key(&from);
        if is_news {
            let reason = reason.to_owned();
            inner.refusals.insert(from, Refused { reason, at: now });
        }
        is_news
    }

    pub(super) fn counters(&self, node: NodeId, lane: Lane) -> Arc<Counters> {
        let mut inner = self.lock();
        inner.counters.entry((node, lane)).or_default().clone()
    }

    pub(super) fn all_counters(&self) -> BTreeMap<(NodeId, Lane), Arc<Counters>> {
        self.lock().counters.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn check_not_removed(&self, node: NodeId) -> Result<(), Rejection> {
        match self.removed.contains(&node) {
            true => Err(Rejection::Removed(node)),
            false => Ok(()),
        }
    }
}

impl Peer {
    /// The connections that the new life ends.
    fn meet(&mut self, node: NodeId, life: Life) -> Result<Vec<Connection>, Rejection> {
        match self.life {
            Some(known) if known == life => Ok(Vec::new()),
            Some(known) if known.incarnation == life.incarnation => Err(Rejection::Twice(node)),
            Some(known) if known.incarnation > life.incarnation => Err(Rejection::OlderStart {
                node,
                said: life.incarnation,
                known: known.incarnation,
            }),
            Some(_) | None => {
                self.life = Some(life);
                Ok(std::mem::take(&mut self.connections))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_once_and_not_too_often() {
        let peers = Peers::default();
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let from = |n: u32| IpAddr::from(n.to_be_bytes());
        assert!(peers.is_news(from(0), "foreign", at(0)));
        assert!(!peers.is_news(from(0), "foreign", at(3600)));
        // Something new, but not each second.
        assert!(peers.is_news(from(0), "old", at(3600)));
        assert!(!peers.is_news(from(0), "foreign", at(3659)));
        assert!(peers.is_news(from(0), "foreign", at(3660)));
        // So many addresses at a time that one line for each would be a flood.
        let told = (1..1000).filter(|n| peers.is_news(from(*n), "foreign", at(3661)));
        assert_eq!(told.count(), REFUSALS_MAX - 1);
        assert!(peers.is_news(from(1000), "foreign", at(3721)));
    }
}
