//! The transport inside one process, for simulations.
//!
//! Time and chance come from the [`Host`] alone: with a [`JumpClock`](host::sim::JumpClock), a seeded generator and one thread, a run is a function of the seed. The network
//! itself is kind: it delivers everything once, after a latency drawn anew for each message, so messages overtake each other. What
//! else may go wrong is the business of [`FaultTransport`](crate::FaultTransport), and of [`SimNet::crash`].
//!
//! Caveat: a handler runs inside the future of its call; it stops when the caller goes away, when its node crashes, or at its deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use host::{BoxFuture, Host};
use protocol::{Kind, Lane};
use repr::NodeId;
use tokio::sync::watch;

use crate::local;
use crate::registry::Registry;
use crate::stats::Counters;
use crate::stream::{Item, pipe};
use crate::{
    CallError, CallHandler, Caller, LinkStats, Message, Request, Stream, StreamError,
    StreamHandler, StreamReceiver, StreamSender, Transport,
};

const REMOVED: &str = "a node was removed from the environment";

/// A network in memory. Cloning shares it.
#[derive(Clone)]
pub struct SimNet {
    inner: Arc<Net>,
}

struct Net {
    host: Host,
    state: Mutex<State>,
}

struct State {
    latency: (Duration, Duration),
    silence_max: Duration,
    nodes: BTreeMap<NodeId, Arc<SimNode>>,
}

/// One life of a node.
struct SimNode {
    me: Caller,
    registry: Registry,
    /// True once this life has ended, and why.
    ended: watch::Sender<Option<String>>,
    counters: Mutex<BTreeMap<(NodeId, Lane), Arc<Counters>>>,
    removed: watch::Sender<BTreeSet<NodeId>>,
}

impl SimNet {
    /// Messages take 100 microseconds to 2 ms; a crashed peer is given up after 750 ms.
    pub fn new(host: Host) -> SimNet {
        let state = State {
            latency: (Duration::from_micros(100), Duration::from_millis(2)),
            silence_max: Duration::from_millis(750),
            nodes: BTreeMap::new(),
        };
        let inner = Net {
            host,
            state: Mutex::new(state),
        };
        SimNet {
            inner: Arc::new(inner),
        }
    }

    /// What a message takes from now on, in one direction.
    pub fn set_latency(&self, min: Duration, max: Duration) {
        self.inner.lock().latency = (min, max.max(min));
    }

    /// Starts a life of `node`; an earlier one that still runs crashes.
    pub fn start(&self, node: NodeId, incarnation: u64) -> SimTransport {
        self.crash(node);
        let life = Arc::new(SimNode {
            me: Caller { node, incarnation },
            registry: Registry::default(),
            ended: watch::Sender::new(None),
            counters: Mutex::default(),
            removed: watch::Sender::default(),
        });
        self.inner.lock().nodes.insert(node, life.clone());
        SimTransport {
            net: self.inner.clone(),
            node: life,
        }
    }

    /// Ends the life of `node` without a word: its handlers stop, its peers hear nothing any more. The tasks of the node itself are the caller's to stop.
    pub fn crash(&self, node: NodeId) {
        if let Some(life) = self.inner.lock().nodes.remove(&node) {
            life.end("it crashed");
        }
    }
}

impl Net {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn travel(&self) {
        let (min, max) = self.lock().latency;
        let span = u64::try_from((max - min).as_nanos()).unwrap_or(u64::MAX);
        let drawn = Duration::from_nanos(self.host.rng.below(span.saturating_add(1)));
        self.host.clock.sleep(min + drawn).await;
    }

    /// The running life of `to`, if both sides let each other in.
    fn find(&self, from: &SimNode, to: NodeId) -> Result<Arc<SimNode>, CallError> {
        let found = self.lock().nodes.get(&to).cloned();
        let Some(found) = found else {
            let reason = "nobody is there".to_owned();
            return Err(CallError::Unreachable { to, reason });
        };
        match from.has_removed(to) || found.has_removed(from.me.node) {
            true => Err(CallError::Rejected {
                to,
                reason: REMOVED.to_owned(),
            }),
            false => Ok(found),
        }
    }

    async fn call(
        self: Arc<Net>,
        from: Arc<SimNode>,
        to: NodeId,
        message: Message,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let deadline = self.host.clock.now() + timeout;
        self.travel().await;
        let peer = self.find(&from, to)?;
        let mut request = peer.request(from.me, message);
        request.deadline = Some(deadline);
        let answer = tokio::select! {
            biased;
            reason = peer.ended() => return self.lost(to, reason).await,
            answer = peer.registry.call(request) => answer,
        };
        self.travel().await;
        answer.map_err(|refusal| CallError::Refused { to, refusal })
    }

    /// That somebody is gone is noticed by their silence.
    async fn lost<T>(&self, to: NodeId, reason: String) -> Result<T, CallError> {
        let silence_max = self.lock().silence_max;
        self.host.clock.sleep(silence_max).await;
        Err(CallError::Lost { to, reason })
    }

    fn carry(self: &Arc<Net>, ends: [Arc<SimNode>; 2], from: StreamReceiver, to: StreamSender) {
        let net = self.clone();
        let work = net.clone().carried(ends, from, to);
        net.host.spawn.spawn("mesh-sim-stream", Box::pin(work));
    }

    async fn carried(
        self: Arc<Net>,
        ends: [Arc<SimNode>; 2],
        mut from: StreamReceiver,
        to: StreamSender,
    ) {
        let [left, right] = &ends;
        loop {
            let item = tokio::select! {
                biased;
                reason = left.ended() => return self.broken(to, reason).await,
                reason = right.ended() => return self.broken(to, reason).await,
                () = left.removal_of(right.me.node) => return to.fail(removed()),
                () = right.removal_of(left.me.node) => return to.fail(removed()),
                () = to.gone() => return,
                item = from.next_item() => item,
            };
            self.travel().await;
            let mut next = item;
            while let Some(item) = next {
                match item {
                    Item::Frame(frame) => {
                        if to.send(frame).await.is_err() {
                            return;
                        }
                    }
                    Item::End => return to.finish(),
                    Item::Failed(error) => return to.fail(error),
                }
                next = from.ready_item();
            }
        }
    }

    async fn broken(&self, to: StreamSender, reason: String) {
        let silence_max = self.lock().silence_max;
        self.host.clock.sleep(silence_max).await;
        to.fail(StreamError::Lost(reason));
    }
}

/// Whoever removes a node ends its connections, and says why.
fn removed() -> StreamError {
    StreamError::Lost(REMOVED.to_owned())
}

impl SimNode {
    fn end(&self, reason: &str) {
        self.ended.send_replace(Some(reason.to_owned()));
    }

    /// Resolves with the reason when this life ends.
    async fn ended(&self) -> String {
        let mut ended = self.ended.subscribe();
        let reason = ended.wait_for(Option::is_some).await;
        // The sender is part of `self`, so it is there.
        let reason = reason.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_default()
    }

    fn check_open(&self) -> Result<(), CallError> {
        match self.ended.borrow().is_some() {
            true => Err(CallError::Closed),
            false => Ok(()),
        }
    }

    fn has_removed(&self, node: NodeId) -> bool {
        self.removed.borrow().contains(&node)
    }

    /// Resolves when this node removes `node`.
    async fn removal_of(&self, node: NodeId) {
        let mut removed = self.removed.subscribe();
        // The sender is part of `self`, so it is there.
        let _ = removed.wait_for(|removed| removed.contains(&node)).await;
    }

    fn counters(&self, peer: NodeId, lane: Lane) -> Arc<Counters> {
        let mut all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry((peer, lane)).or_default().clone()
    }

    /// What this node sees of a message that has arrived.
    fn request(&self, from: Caller, message: Message) -> Request {
        let counters = self.counters(from.node, message.lane);
        Counters::add(&counters.requests_received, 1);
        Counters::add(&counters.bytes_received, message.body.len());
        let Message { lane, kind, body } = message;
        Request {
            from,
            lane,
            kind,
            body,
            deadline: None,
        }
    }

    fn count_sent(&self, to: NodeId, message: &Message) -> Arc<Counters> {
        let counters = self.counters(to, message.lane);
        Counters::add(&counters.requests_sent, 1);
        Counters::add(&counters.bytes_sent, message.body.len());
        counters
    }
}

/// A node's side of a [`SimNet`].
pub struct SimTransport {
    net: Arc<Net>,
    node: Arc<SimNode>,
}

impl Transport for SimTransport {
    fn node(&self) -> NodeId {
        self.node.me.node
    }

    fn call(
        &self,
        to: NodeId,
        message: Message,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        if let Err(error) = self.node.check_open() {
            return Box::pin(std::future::ready(Err(error)));
        }
        if to == self.node() {
            let (registry, host) = (&self.node.registry, &self.net.host);
            return local::call(registry, host, self.node.me, message, timeout);
        }
        let (net, from) = (self.net.clone(), self.node.clone());
        Box::pin(async move {
            let counters = from.count_sent(to, &message);
            let clock = net.host.clock.clone();
            let answer = tokio::select! {
                biased;
                answer = net.call(from, to, message, timeout) => answer,
                () = clock.sleep(timeout) => Err(CallError::Deadline { to }),
            };
            answer.inspect_err(|_| Counters::add(&counters.requests_failed, 1))
        })
    }

    fn send(&self, to: NodeId, message: Message) -> Result<(), CallError> {
        self.node.check_open()?;
        let host = &self.net.host;
        if to == self.node() {
            local::send(&self.node.registry, host, self.node.me, message);
            return Ok(());
        }
        self.node.count_sent(to, &message);
        let (net, from) = (self.net.clone(), self.node.clone());
        let work = async move {
            net.travel().await;
            if let Ok(peer) = net.find(&from, to) {
                let request = peer.request(from.me, message);
                tokio::select! {
                    biased;
                    _ = peer.ended() => {}
                    _ = peer.registry.call(request) => {}
                }
            }
        };
        host.spawn.spawn("mesh-sim-message", Box::pin(work));
        Ok(())
    }

    fn open(
        &self,
        to: NodeId,
        message: Message,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Stream, CallError>> {
        if let Err(error) = self.node.check_open() {
            return Box::pin(std::future::ready(Err(error)));
        }
        if to == self.node() {
            let (registry, host) = (&self.node.registry, &self.net.host);
            let stream = local::open(registry, host, self.node.me, message);
            return Box::pin(std::future::ready(Ok(stream)));
        }
        let (net, from) = (self.net.clone(), self.node.clone());
        Box::pin(async move {
            from.count_sent(to, &message);
            let peer = net.find(&from, to)?;
            let clock = net.host.clock.clone();
            tokio::select! {
                biased;
                () = net.travel() => {}
                () = clock.sleep(timeout) => return Err(CallError::Deadline { to }),
            }
            let (sender, outward) = pipe();
            let (inward, receiver) = pipe();
            let (carried, theirs) = Stream::pair();
            let ends = [from.clone(), peer.clone()];
            net.carry(ends.clone(), outward, carried.sender);
            net.carry(ends, carried.receiver, inward);
            let request = peer.request(from.me, message);
            if let Some(handler) = peer.registry.open(request, theirs) {
                let work = async move {
                    tokio::select! {
                        biased;
                        _ = peer.ended() => {}
                        () = handler => {}
                    }
                };
                net.host.spawn.spawn("mesh-sim-handler", Box::pin(work));
            }
            Ok(Stream { sender, receiver })
        })
    }

    fn serve_calls(&self, lane: Lane, kind: Kind, handler: Arc<dyn CallHandler>) {
        self.node.registry.serve_calls(lane, kind, handler);
    }

    fn serve_streams(&self, lane: Lane, kind: Kind, handler: Arc<dyn StreamHandler>) {
        self.node.registry.serve_streams(lane, kind, handler);
    }

    /// Nodes find each other by their ids.
    fn set_peer(&self, _node: NodeId, _address: &str) {}

    fn remove_peer(&self, node: NodeId) {
        self.node.removed.send_modify(|removed| {
            removed.insert(node);
        });
    }

    fn stats(&self) -> Vec<LinkStats> {
        let all = self
            .node
            .counters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let stats = all.iter().map(|((peer, lane), counters)| {
            let mut stats = LinkStats::new(*peer, *lane);
            counters.read_into(&mut stats);
            stats
        });
        stats.collect()
    }

    fn close(&self, reason: &str) -> BoxFuture<'static, ()> {
        let mut state = self.net.lock();
        let current = state.nodes.get(&self.node());
        if current.is_some_and(|life| Arc::ptr_eq(life, &self.node)) {
            state.nodes.remove(&self.node());
        }
        drop(state);
        self.node.end(reason);
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Refusal;
    use host::sim::{JumpClock, SimDisk, SimRng};

    fn host(seed: u64) -> Host {
        Host {
            clock: Arc::new(JumpClock::start(&host::TokioSpawn::current(), 0)),
            disk: Arc::new(SimDisk::new(seed)),
            rng: Arc::new(SimRng::new(seed)),
            spawn: Arc::new(host::TokioSpawn::current()),
        }
    }

    fn message(body: impl Into<Bytes>) -> Message {
        Message::new(Lane::Control, Kind(1), body)
    }

    /// The order in which ten messages arrive.
    async fn arrivals(seed: u64) -> Vec<u8> {
        let net = SimNet::new(host(seed));
        let (one, two) = (net.start(NodeId(1), 1), net.start(NodeId(2), 1));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let handler = move |request: Request| -> BoxFuture<'static, Result<Bytes, Refusal>> {
            log.lock().unwrap().push(request.body[0]);
            Box::pin(async { Ok(Bytes::new()) })
        };
        two.serve_calls(Lane::Control, Kind(1), Arc::new(handler));
        for n in 0..10 {
            one.send(NodeId(2), message(vec![n])).unwrap();
        }
        net.inner.host.clock.sleep(Duration::from_secs(1)).await;
        let seen = seen.lock().unwrap();
        seen.clone()
    }

    #[tokio::test]
    async fn the_same_seed_is_the_same_run_and_messages_overtake_each_other() {
        let first = arrivals(1).await;
        assert_eq!(first.len(), 10);
        assert_eq!(first, arrivals(1).await);
        assert!(!first.is_sorted(), "{first:?}");
        assert_ne!(first, arrivals(2).await);
    }

    #[tokio::test]
    async fn a_crash_is_noticed_by_silence_and_a_new_life_answers() {
        let net = SimNet::new(host(1));
        let (one, two) = (net.start(NodeId(1), 1), net.start(NodeId(2), 1));
        let never = |_: Request| -> BoxFuture<'static, Result<Bytes, Refusal>> {
            Box::pin(std::future::pending())
        };
        two.serve_calls(Lane::Control, Kind(1), Arc::new(never));
        let hold = |_: Request, stream: Stream| -> BoxFuture<'static, ()> {
            Box::pin(async move {
                stream
                    .sender
                    .send(Bytes::from_static(b"here"))
                    .await
                    .unwrap();
                std::future::pending().await
            })
        };
        two.serve_streams(Lane::Bulk, Kind(2), Arc::new(hold));
        let minute = Duration::from_secs(60);
        let opening = Message::new(Lane::Bulk, Kind(2), "");
        let mut stream = one.open(NodeId(2), opening, minute).await.unwrap();
        assert_eq!(stream.receiver.next().await, Some(Ok("here".into())));
        let clock = net.inner.host.clock.clone();
        let call = one.call(NodeId(2), message(""), minute);
        let crash = async {
            clock.sleep(Duration::from_secs(1)).await;
            net.crash(NodeId(2));
        };
        let (lost, ()) = tokio::join!(call, crash);
        assert!(matches!(lost, Err(CallError::Lost { .. })), "{lost:?}");
        let elapsed = clock.now().as_nanos() / 1_000_000;
        assert!((1750..1770).contains(&elapsed), "{elapsed}");
        let read = stream.receiver.next().await;
        assert!(matches!(read, Some(Err(StreamError::Lost(_)))), "{read:?}");
        let gone = one.call(NodeId(2), message(""), minute).await;
        assert!(
            matches!(gone, Err(CallError::Unreachable { .. })),
            "{gone:?}"
        );
        assert!(matches!(
            two.send(NodeId(1), message("")),
            Err(CallError::Closed)
        ));
        let _again = net.start(NodeId(2), 2);
        let ping = crate::ping(&one, &*clock, NodeId(2), Lane::Raft, minute).await;
        assert!(ping.unwrap() <= Duration::from_millis(10));
        let refused = one.call(NodeId(2), message(""), minute).await;
        assert!(
            matches!(refused, Err(CallError::Refused { .. })),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn removing_a_node_ends_its_streams_on_both_sides() {
        let net = SimNet::new(host(1));
        let (one, two) = (net.start(NodeId(1), 1), net.start(NodeId(2), 1));
        let (noticed, mut notices) = tokio::sync::mpsc::unbounded_channel();
        let hold = move |_: Request, mut stream: Stream| -> BoxFuture<'static, ()> {
            let noticed = noticed.clone();
            Box::pin(async move {
                stream.sender.send(Bytes::new()).await.unwrap();
                let _ = noticed.send(stream.receiver.next().await);
            })
        };
        two.serve_streams(Lane::Bulk, Kind(2), Arc::new(hold));
        let opening = Message::new(Lane::Bulk, Kind(2), "");
        let minute = Duration::from_secs(60);
        let mut stream = one.open(NodeId(2), opening, minute).await.unwrap();
        assert_eq!(stream.receiver.next().await, Some(Ok(Bytes::new())));
        two.remove_peer(NodeId(1));
        assert_eq!(stream.receiver.next().await, Some(Err(removed())));
        assert_eq!(notices.recv().await, Some(Some(Err(removed()))));
    }
}
