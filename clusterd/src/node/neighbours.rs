//! How the other nodes fare: every node asks every other twice a second.
//!
//! The answers are hints: they bound clocks ([`super::clocks`]), tell ENV's leader who can be reached when it decides about placement, and fill system relations. Only one of
//! them is more: two nodes whose states differ at the same index of ENV's log stop, because one of them is wrong and nobody knows which.

use crate::env::Env;
use bytes::Bytes;
use host::{BoxFuture, Host, Instant};
use mesh::{Message, Request, Transport};
use parking_lot::Mutex;
use protocol::{Kind, Lane, NodeInfo};
use repr::NodeId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often each other node is asked.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Every so many rounds each lane is pinged, in the first too: a lane that nothing has been sent on has a connection from then on.
const PING_ROUNDS: u64 = 2;
/// Round trips of a lane that are kept.
const PINGS_MAX: usize = 31;
/// An answer that takes longer says nothing about the clock.
const ANSWER_WITHIN: Duration = Duration::from_millis(400);

/// What is known of another node.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// Since when it has not answered; `None` if it answered last time.
    pub silent_since: Option<Instant>,
    /// Of its last answer.
    pub round_trip: Option<Duration>,
    /// Its last answer.
    pub info: Option<NodeInfo>,
}

/// All other nodes of ENV's group.
pub struct Neighbours {
    env: Arc<Env>,
    host: Host,
    transport: Arc<dyn Transport>,
    draining: watch::Receiver<bool>,
    fatal: raft::FatalHook,
    known: Mutex<BTreeMap<NodeId, Neighbour>>,
    /// The last round trips of each lane, the newest at the end.
    pings: Mutex<BTreeMap<(NodeId, Lane), VecDeque<Duration>>>,
}

/// Two nodes hold different states.
#[derive(Debug, thiserror::Error)]
#[error(
    "this node's state and that of node {node} differ at entry {index} of the environment's log: one of them is damaged. \
     Remove the one that is wrong (clusterd node remove), empty its data directory and let it join anew; never put an old copy in its place"
)]
struct Diverged {
    node: NodeId,
    index: u64,
}

impl Neighbours {
    /// Answers the others from now on; [`Neighbours::run`] asks them.
    pub fn new(
        env: Arc<Env>,
        host: Host,
        transport: Arc<dyn Transport>,
        draining: watch::Receiver<bool>,
        fatal: raft::FatalHook,
    ) -> Arc<Neighbours> {
        let neighbours = Arc::new(Neighbours {
            env,
            host,
            transport: Arc::clone(&transport),
            draining,
            fatal,
            known: Mutex::default(),
            pings: Mutex::default(),
        });
        let answering = Arc::clone(&neighbours);
        let answer = move |_: Request| -> BoxFuture<'static, Result<Bytes, mesh::Refusal>> {
            let info = answering.own_info();
            Box::pin(async move { Ok(Bytes::from(info.encode())) })
        };
        transport.serve_calls(Lane::Control, Kind::NODE_INFO, Arc::new(answer));
        neighbours
    }

    /// What is known of each.
    pub fn known(&self) -> BTreeMap<NodeId, Neighbour> {
        self.known.lock().clone()
    }

    /// The median of the last half minute's round trips on a lane, as messages have them that nobody has to work for.
    pub fn round_trip(&self, node: NodeId, lane: Lane) -> Option<Duration> {
        let pings = self.pings.lock();
        let mut last: Vec<Duration> = pings.get(&(node, lane))?.iter().copied().collect();
        last.sort_unstable();
        last.get(last.len() / 2).copied()
    }

    async fn ping(&self, node: NodeId, lane: Lane) {
        let (transport, clock) = (&*self.transport, &*self.host.clock);
        let Ok(round_trip) = mesh::ping(transport, clock, node, lane, ANSWER_WITHIN).await else {
            return;
        };
        let mut pings = self.pings.lock();
        let last = pings.entry((node, lane)).or_default();
        last.push_back(round_trip);
        if last.len() > PINGS_MAX {
            last.pop_front();
        }
    }

    fn own_info(&self) -> NodeInfo {
        NodeInfo {
            wall_us: self.host.clock.wall_us(),
            applied: self.env.storage().view().applied(),
            draining: *self.draining.borrow(),
            hash: self.env.newest_mark(),
        }
    }

    /// Asks for ever.
    pub async fn run(self: Arc<Self>) {
        for round in 0_u64.. {
            let members = self.env.group().status().borrow().members.clone();
            let own = self.env.node();
            let others: Vec<NodeId> = members
                .keys()
                .map(|id| NodeId(*id))
                .filter(|id| *id != own)
                .collect();
            self.known.lock().retain(|id, _| others.contains(id));
            self.env.clocks().retain(&others);
            self.pings.lock().retain(|(id, _), _| others.contains(id));
            let asks = others.iter().map(|node| self.ask(*node));
            futures::future::join_all(asks).await;
            if round.is_multiple_of(PING_ROUNDS) {
                let lanes = |node: NodeId| Lane::ALL.map(|lane| self.ping(node, lane));
                futures::future::join_all(others.into_iter().flat_map(lanes)).await;
            }
            self.host.clock.sleep(ASK_EVERY).await;
        }
    }

    async fn ask(&self, node: NodeId) {
        let clock = &self.host.clock;
        let sent = clock.now();
        let message = Message::new(Lane::Control, Kind::NODE_INFO, Bytes::new());
        let answer = self.transport.call(node, message, ANSWER_WITHIN).await;
        let round_trip = clock.now().since(sent);
        let info = answer.ok().and_then(|bytes| NodeInfo::decode(&bytes).ok());
        // What the clock of a node was that does not answer now still bounds this node's.
        if let Some(info) = &info {
            let half = (round_trip / 2).as_micros() as i64;
            let now = clock.wall_us() as i64;
            let ahead = info.wall_us as i64 + half - now;
            self.env.clocks().observe(node, ahead);
            self.compare(node, info);
        }
        let mut known = self.known.lock();
        let neighbour = known.entry(node).or_insert(Neighbour {
            silent_since: None,
            round_trip: None,
            info: None,
        });
        match info {
            Some(info) => {
                *neighbour = Neighbour {
                    silent_since: None,
                    round_trip: Some(round_trip),
                    info: Some(info),
                }
            }
            None => {
                // Not from when it was asked: this process may have been stopped meanwhile.
                neighbour.silent_since.get_or_insert(clock.now());
            }
        }
    }

    /// One of two that differ is damaged. With others to ask, it is the one that most of them contradict.
    fn compare(&self, node: NodeId, info: &NodeInfo) {
        let Some((index, hash)) = info.hash else {
            return;
        };
        if self.env.mark_at(index).is_none_or(|own| own == hash) {
            return;
        }
        let known = self.known.lock();
        let others = known.iter().filter(|(other, _)| **other != node);
        let agrees = |neighbour: &Neighbour| {
            let mark = neighbour.info.as_ref().and_then(|info| info.hash);
            mark.is_some_and(|(index, hash)| self.env.mark_at(index) == Some(hash))
        };
        let supported = others.filter(|(_, neighbour)| agrees(neighbour)).count();
        let diverged = Diverged { node, index };
        match supported {
            0 => (self.fatal)(&diverged),
            _ => tracing::error!(%diverged, "other nodes have the same state as this one"),
        }
    }
}
