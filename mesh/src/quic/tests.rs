//! Several endpoints in one process, over loopback.

#![allow(
    clippy::disallowed_methods,
    reason = "these run on the real network and the real clock"
)]

mod failures;
mod handshake;
mod hostile;
mod traffic;

use super::*;
use crate::ca::{Authority, Credentials, NodeKey};
use crate::{EnvironmentId, Generation, Identity, NodeName, Refusal, Request};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Answers with the request's body.
const ECHO: Kind = Kind(100);
/// Never answers.
const STUCK: Kind = Kind(101);
/// Answers with as many bytes as the body says.
const SIZED: Kind = Kind(102);
/// Panics, the first time at once, the second time later.
const PANIC: Kind = Kind(103);

/// Long enough for a loaded machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// An environment's authority.
struct World {
    environment: EnvironmentId,
    authority: Authority,
}

impl World {
    fn new(environment: u128) -> World {
        let environment = EnvironmentId(environment);
        World {
            environment,
            authority: Authority::create(environment).unwrap(),
        }
    }

    fn name(&self, node: u64) -> NodeName {
        NodeName {
            environment: self.environment,
            node: NodeId(node),
        }
    }

    fn credentials(&self, name: NodeName) -> Credentials {
        let key = NodeKey::generate().unwrap();
        let certificate = self.authority.issue(name, key.public_key()).unwrap();
        Credentials::new(self.authority.certificate(), &certificate, &key)
    }

    /// A node in its first life.
    fn config(&self, node: u64) -> QuicConfig {
        static PROCESSES: AtomicU64 = AtomicU64::new(1);
        let identity = Identity {
            name: self.name(node),
            generation: Generation::FIRST,
            incarnation: 1,
            process: PROCESSES.fetch_add(1, Relaxed),
        };
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = QuicConfig::new(bind, identity, self.credentials(identity.name));
        // Debug builds on busy machines are slow; silence is what only some tests are about.
        config.timing = Timing {
            silence_max: PATIENCE,
            connect_timeout: PATIENCE,
            ..Timing::dev()
        };
        config
    }

    fn start(&self, node: u64) -> QuicTransport {
        start(self.config(node))
    }

    /// Nodes 1 and 2, which know each other.
    fn pair(&self) -> (QuicTransport, QuicTransport) {
        let (one, two) = (self.start(1), self.start(2));
        introduce(&one, &two);
        introduce(&two, &one);
        (one, two)
    }
}

fn start(config: QuicConfig) -> QuicTransport {
    let transport = QuicTransport::start(config, Host::real()).unwrap();
    for lane in Lane::ALL {
        serve_test_kinds(&transport, lane);
    }
    transport
}

fn serve_test_kinds(transport: &QuicTransport, lane: Lane) {
    type Handled = BoxFuture<'static, Result<Bytes, Refusal>>;
    let echo = |request: Request| -> Handled { Box::pin(async move { Ok(request.body) }) };
    transport.serve_calls(lane, ECHO, Arc::new(echo));
    let stuck = |_: Request| -> Handled { Box::pin(std::future::pending()) };
    transport.serve_calls(lane, STUCK, Arc::new(stuck));
    let sized = |request: Request| -> Handled {
        let size = std::str::from_utf8(&request.body).map(str::parse);
        Box::pin(async move {
            let Ok(Ok(size)) = size else {
                return Err(Refusal::Malformed("not a number".to_owned()));
            };
            // Not at once, as most handlers.
            tokio::task::yield_now().await;
            Ok(Bytes::from(vec![7; size]))
        })
    };
    transport.serve_calls(lane, SIZED, Arc::new(sized));
    let panics = |request: Request| -> Handled {
        assert!(request.body.is_empty(), "at once");
        Box::pin(async {
            tokio::task::yield_now().await;
            panic!("later");
        })
    };
    transport.serve_calls(lane, PANIC, Arc::new(panics));
}

/// `from` learns where `to` is.
fn introduce(from: &QuicTransport, to: &QuicTransport) {
    from.set_peer(to.node(), &to.local_address().to_string());
}

fn message(lane: Lane, kind: Kind, body: impl Into<Bytes>) -> Message {
    Message::new(lane, kind, body)
}

async fn echo(from: &QuicTransport, to: NodeId, lane: Lane) -> Result<Bytes, CallError> {
    let message = message(lane, ECHO, Bytes::from_static(b"hello"));
    from.call(to, message, PATIENCE).await
}

/// Tries until it succeeds: the next connection has to come by itself.
async fn echo_at_last(from: &QuicTransport, to: NodeId, lane: Lane) {
    let tries = async {
        while let Err(error) = echo(from, to, lane).await {
            tracing::debug!(%error, "once more");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, tries)
        .await
        .expect("reached");
}

/// Waits for a condition that comes true by itself.
async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("in time");
}

fn rejection(result: Result<Bytes, CallError>) -> String {
    match result {
        Err(CallError::Rejected { reason, .. }) => reason,
        other => panic!("rejected was expected, not {other:?}"),
    }
}

fn link(transport: &QuicTransport, peer: NodeId, lane: Lane) -> LinkStats {
    let stats = transport.stats().into_iter();
    let mut found = stats.filter(|s| s.peer == peer && s.lane == lane);
    found.next().unwrap_or_else(|| LinkStats::new(peer, lane))
}
