//! A transport that misbehaves on demand.
//!
//! [`FaultTransport`] stands around another transport and delays, loses and repeats what passes, as its [`Faults`] say; they may be changed at any
//! time from anywhere, also as text ([`Faults::execute`]), so that a running process can be told to. Each node decides for both of its directions: cutting
//! what comes in from a peer and what goes out to it are separate rules, which makes one-way partitions.
//!
//! What is lost behaves as over QUIC: a one-way message vanishes; what is lost once of a call or a stream is sent again and late; a cut that lasts ends
//! both as the loss of a connection would. (A cut that only the other side has ordered is not seen here: calls end at their deadline.) Random delays make
//! messages overtake each other, also between lanes. A stream keeps its order. Messages of a node to itself never misbehave.

mod rules;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use host::{BoxFuture, Host};
use protocol::{Kind, Lane};
use repr::NodeId;

use crate::{
    CallError, CallHandler, LinkStats, Message, Refusal, Request, Stream, StreamHandler, Transport,
};

use rules::Fate;
pub use rules::{Direction, Fault, FaultCommandError, Faults, Scope};

/// What needs a connection ends when its peer has been cut off for this long, as a QUIC connection would.
const SILENCE: Duration = Duration::from_millis(750);
/// What is lost of a call or a stream is sent again after this.
const SENT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// See the module.
pub struct FaultTransport {
    inner: Arc<dyn Transport>,
    seam: Seam,
}

/// What every decision needs.
#[derive(Clone)]
struct Seam {
    faults: Arc<Faults>,
    host: Host,
    me: NodeId,
}

impl FaultTransport {
    /// Nothing misbehaves until `faults` has rules.
    pub fn new(inner: Arc<dyn Transport>, faults: Arc<Faults>, host: Host) -> FaultTransport {
        let me = inner.node();
        FaultTransport {
            inner,
            seam: Seam { faults, host, me },
        }
    }

    /// Where its rules are.
    pub fn faults(&self) -> &Arc<Faults> {
        &self.seam.faults
    }
}

impl Seam {
    fn fate(&self, direction: Direction, peer: NodeId, lane: Lane) -> Fate {
        match peer == self.me {
            true => Fate::default(),
            false => self.faults.fate(direction, peer, lane, &*self.host.rng),
        }
    }

    async fn delay(&self, delay: Duration) {
        if !delay.is_zero() {
            self.host.clock.sleep(delay).await;
        }
    }

    /// Waits out something's way. While it is cut nothing passes.
    async fn pass(&self, direction: Direction, peer: NodeId, lane: Lane) {
        let fate = self.arrive(direction, peer, lane).await;
        self.delay(fate.delay).await;
    }

    /// Waits until something that is sent again when it is lost gets through; what else happens to it.
    async fn arrive(&self, direction: Direction, peer: NodeId, lane: Lane) -> Fate {
        loop {
            let fate = self.fate(direction, peer, lane);
            if !fate.lost {
                return fate;
            }
            self.healed(&mut self.faults.watch(), peer, lane).await;
            self.delay(SENT_AGAIN_AFTER).await;
        }
    }

    /// Resolves when the peer was cut off for so long that a connection would be given up.
    async fn cut_for_long(&self, peer: NodeId, lane: Lane) {
        let mut changed = self.faults.watch();
        loop {
            match peer != self.me && self.faults.is_cut(peer, lane) {
                true => tokio::select! {
                    biased;
                    () = self.healed(&mut changed, peer, lane) => {}
                    () = self.host.clock.sleep(SILENCE) => return,
                },
                false => {
                    // The rules are part of `self`, so there is somebody to change them.
                    let _ = changed.changed().await;
                }
            }
        }
    }

    async fn healed(
        &self,
        changed: &mut tokio::sync::watch::Receiver<()>,
        peer: NodeId,
        lane: Lane,
    ) {
        while self.faults.is_cut(peer, lane) {
            let _ = changed.changed().await;
        }
    }
}

impl Transport for FaultTransport {
    fn node(&self) -> NodeId {
        self.seam.me
    }

    fn call(
        &self,
        to: NodeId,
        message: Message,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let (seam, inner) = (self.seam.clone(), self.inner.clone());
        let (clock, wire) = (seam.host.clock.clone(), seam.clone());
        let lane = message.lane;
        let answered = async move {
            let fate = seam.arrive(Direction::Out, to, lane).await;
            seam.delay(fate.delay).await;
            if fate.twice {
                let again = inner.call(to, message.clone(), timeout);
                let again = async move {
                    // Its answer is the one that nobody waits for.
                    let _ = again.await;
                };
                seam.host.spawn.spawn("mesh-fault-again", Box::pin(again));
            }
            let answer = inner.call(to, message, timeout).await;
            if let Ok(_) | Err(CallError::Refused { .. }) = answer {
                seam.pass(Direction::In, to, lane).await;
            }
            answer
        };
        Box::pin(async move {
            tokio::select! {
                biased;
                answer = answered => answer,
                () = wire.cut_for_long(to, lane) => Err(lost(to)),
                () = clock.sleep(timeout) => Err(CallError::Deadline { to }),
            }
        })
    }

    fn send(&self, to: NodeId, message: Message) -> Result<(), CallError> {
        let fate = self.seam.fate(Direction::Out, to, message.lane);
        if fate.lost {
            return Ok(());
        }
        if fate.delay.is_zero() && !fate.twice {
            return self.inner.send(to, message);
        }
        let (seam, inner) = (self.seam.clone(), self.inner.clone());
        let late = async move {
            seam.delay(fate.delay).await;
            for _ in 0..1 + u8::from(fate.twice) {
                // What is late cannot tell its sender any more.
                let _ = inner.send(to, message.clone());
            }
        };
        self.seam
            .host
            .spawn
            .spawn("mesh-fault-late", Box::pin(late));
        Ok(())
    }

    fn open(
        &self,
        to: NodeId,
        message: Message,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Stream, CallError>> {
        let (seam, inner) = (self.seam.clone(), self.inner.clone());
        let (clock, wire) = (seam.host.clock.clone(), seam.clone());
        let lane = message.lane;
        let opened = async move {
            seam.pass(Direction::Out, to, lane).await;
            let stream = inner.open(to, message, timeout).await?;
            Ok(stream::faulty(stream, seam, to, lane))
        };
        Box::pin(async move {
            tokio::select! {
                biased;
                opened = opened => opened,
                () = wire.cut_for_long(to, lane) => Err(lost(to)),
                () = clock.sleep(timeout) => Err(CallError::Deadline { to }),
            }
        })
    }

    fn serve_calls(&self, lane: Lane, kind: Kind, handler: Arc<dyn CallHandler>) {
        let seam = self.seam.clone();
        let handler = move |request: Request| -> BoxFuture<'static, Result<Bytes, Refusal>> {
            let (seam, handler) = (seam.clone(), handler.clone());
            Box::pin(async move { serve(seam, handler, request).await })
        };
        self.inner.serve_calls(lane, kind, Arc::new(handler));
    }

    fn serve_streams(&self, lane: Lane, kind: Kind, handler: Arc<dyn StreamHandler>) {
        let seam = self.seam.clone();
        let handler = move |request: Request, stream: Stream| -> BoxFuture<'static, ()> {
            let (seam, handler) = (seam.clone(), handler.clone());
            let (peer, lane) = (request.from.node, request.lane);
            Box::pin(async move {
                seam.pass(Direction::In, peer, lane).await;
                let stream = match peer == seam.me {
                    true => stream,
                    false => stream::faulty(stream, seam, peer, lane),
                };
                handler.open(request, stream).await;
            })
        };
        self.inner.serve_streams(lane, kind, Arc::new(handler));
    }

    fn set_peer(&self, node: NodeId, address: &str) {
        self.inner.set_peer(node, address);
    }

    fn remove_peer(&self, node: NodeId) {
        self.inner.remove_peer(node);
    }

    fn stats(&self) -> Vec<LinkStats> {
        self.inner.stats()
    }

    fn close(&self, reason: &str) -> BoxFuture<'static, ()> {
        self.inner.close(reason)
    }
}

fn lost(to: NodeId) -> CallError {
    let reason = "nothing is heard from it".to_owned();
    CallError::Lost { to, reason }
}

/// A request that came in, and its answer on the way out.
async fn serve(
    seam: Seam,
    handler: Arc<dyn CallHandler>,
    request: Request,
) -> Result<Bytes, Refusal> {
    let (peer, lane) = (request.from.node, request.lane);
    let fate = match request.deadline {
        // The caller gives up by itself when a cut lasts.
        Some(_) => seam.arrive(Direction::In, peer, lane).await,
        None => seam.fate(Direction::In, peer, lane),
    };
    if fate.lost {
        return Err(Refusal::Abandoned);
    }
    seam.delay(fate.delay).await;
    if fate.twice {
        let _ = handler.call(request.clone()).await;
    }
    let waits = request.deadline.is_some();
    let answer = handler.call(request).await;
    if waits {
        seam.pass(Direction::Out, peer, lane).await;
    }
    answer
}

#[cfg(test)]
mod tests;
