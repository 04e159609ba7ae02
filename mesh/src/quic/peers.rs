//! What a node knows of its peers: addresses, lives, removals.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::Lane;
use quinn::Connection;
use repr::NodeId;

use super::hello::{CLOSED_REJECTED, CLOSED_REPLACED, Rejection};
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
    /// Why the last connection from an address was refused.
    refusals: BTreeMap<IpAddr, String>,
}

/// Addresses whose refusals are remembered.
const REFUSALS_MAX: usize = 256;

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
            connection.close(CLOSED_REJECTED, reason.as_bytes());
        }
    }

    pub(super) fn check_not_removed(&self, node: NodeId) -> Result<(), Rejection> {
        match self.lock().removed.contains(&node) {
            true => Err(Rejection::Removed(node)),
            false => Ok(()),
        }
    }

    /// Admits a connection with one life of a node. A newer life ends the connections of older ones; an older one, or a second process of the same
    /// one, is refused.
    pub(super) fn meet(&self, them: &Identity, connection: &Connection) -> Result<(), Rejection> {
        let node = them.name.node;
        self.check_not_removed(node)?;
        let life = Life {
            incarnation: them.incarnation,
            process: them.process,
        };
        let outlived = {
            let mut inner = self.lock();
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

    /// Whether a refusal should be told again: a refused node keeps trying, and says the same each time.
    pub(super) fn is_news(&self, from: IpAddr, refusal: &str) -> bool {
        let mut inner = self.lock();
        if inner
            .refusals
            .get(&from)
            .is_some_and(|last| last == refusal)
        {
            return false;
        }
        if inner.refusals.len() >= REFUSALS_MAX {
            inner.refusals.clear();
        }
        inner.refusals.insert(from, refusal.to_owned());
        true
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
