//! How requests reach the other members of a group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use host::BoxFuture;

pub use crate::rpc::RpcKind;
use crate::{GroupId, Member};

/// Why a request got no answer. Whether it was carried out is then unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The peer cannot be reached now.
    #[error("peer is unreachable: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("peer did not answer in time")]
    Timeout,
    /// The peer cannot serve the request: it is not a member, is shut down, or cannot read the request.
    #[error("peer refused: {0}")]
    Refused(String),
}

/// Carries requests to peers. An implementation gives up after `timeout`, delivers a request at most once, and may
/// lose, delay and reorder requests.
pub trait Peers: Send + Sync + 'static {
    /// Sends a request to node `to`, which the group's membership describes by `member`, and waits for its answer.
    fn call(
        &self,
        to: u64,
        member: &Member,
        group: GroupId,
        kind: RpcKind,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>>;
}

/// For a group whose only member is this node.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Peers for NoPeers {
    fn call(
        &self,
        to: u64,
        _member: &Member,
        _group: GroupId,
        _kind: RpcKind,
        _body: Bytes,
        _timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        Box::pin(async move {
            Err(PeerError::Unreachable(format!(
                "this node has no way to node {to}"
            )))
        })
    }
}

/// A member of a group that answers its peers' requests.
pub trait Responder: Send + Sync {
    /// Carries out a request and answers it.
    fn respond(&self, kind: RpcKind, body: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>>;
}

/// Members in one process that call each other directly; links can be cut in each direction. For tests and demos.
#[derive(Clone, Default)]
pub struct LocalPeers {
    inner: Arc<Mutex<Local>>,
}

#[derive(Default)]
struct Local {
    members: BTreeMap<(u64, GroupId), Arc<dyn Responder>>,
    /// Links (from, to) that lose everything.
    cut: BTreeSet<(u64, u64)>,
}

impl LocalPeers {
    /// Nobody yet.
    pub fn new() -> LocalPeers {
        LocalPeers::default()
    }

    /// Lets `node` be reached as a member of `group`.
    pub fn join(&self, node: u64, group: GroupId, member: Arc<dyn Responder>) {
        self.lock().members.insert((node, group), member);
    }

    /// `node` can no longer be reached.
    pub fn leave(&self, node: u64, group: GroupId) {
        self.lock().members.remove(&(node, group));
    }

    /// Cuts or heals the link from `from` to `to`: answers to requests of `to` get through.
    pub fn cut(&self, from: u64, to: u64, cut: bool) {
        let mut local = self.lock();
        if cut {
            local.cut.insert((from, to));
        } else {
            local.cut.remove(&(from, to));
        }
    }

    /// What node `from` calls its peers with.
    pub fn of(&self, from: u64) -> Arc<dyn Peers> {
        Arc::new(LocalPeersOf {
            from,
            all: self.clone(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Local> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct LocalPeersOf {
    from: u64,
    all: LocalPeers,
}

impl Peers for LocalPeersOf {
    fn call(
        &self,
        to: u64,
        _member: &Member,
        group: GroupId,
        kind: RpcKind,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let local = self.all.lock();
        let cut = local.cut.contains(&(self.from, to));
        let member = local.members.get(&(to, group)).cloned();
        drop(local);
        Box::pin(async move {
            let Some(member) = member.filter(|_| !cut) else {
                return Err(PeerError::Unreachable(format!("node {to} is cut off")));
            };
            let answer = tokio::time::timeout(timeout, member.respond(kind, body)).await;
            answer.unwrap_or(Err(PeerError::Timeout))
        })
    }
}
