//! What callers see of the mesh.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use host::{BoxFuture, Instant};
use protocol::{Kind, Lane};
use repr::NodeId;

use crate::{CallError, LinkStats, Refusal, Stream};

/// A message on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub lane: Lane,
    pub kind: Kind,
    /// Opaque to the transport; encode it with `repr::codec`, so that it carries a version. Cloning shares the bytes.
    pub body: Bytes,
}

impl Message {
    pub fn new(lane: Lane, kind: Kind, body: impl Into<Bytes>) -> Message {
        let body = body.into();
        Message { lane, kind, body }
    }
}

/// Who sent a request. The node id is proven by the peer's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller {
    pub node: NodeId,
    /// How often that node has started: a higher number is a later life.
    pub incarnation: u64,
}

/// A message that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub from: Caller,
    pub lane: Lane,
    pub kind: Kind,
    pub body: Bytes,
    /// When the caller stops waiting, by this node's clock; `None` for one-way messages and streams. The handler's future is dropped then, and
    /// also when the caller cancels or its connection ends.
    pub deadline: Option<Instant>,
}

/// Answers calls, and receives one-way messages, whose answers go nowhere.
///
/// The future is first polled where messages are read: it must not block there, and what takes long should begin with an await. It may be dropped
/// at any await. A message may arrive more than once only if its sender sent it more than once.
pub trait CallHandler: Send + Sync + 'static {
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Bytes, Refusal>>;
}

/// Serves streams that peers open.
pub trait StreamHandler: Send + Sync + 'static {
    /// `request.body` is what the stream was opened with. The stream ends when both halves are dropped.
    fn open(&self, request: Request, stream: Stream) -> BoxFuture<'static, ()>;
}

impl<F> CallHandler for F
where
    F: Fn(Request) -> BoxFuture<'static, Result<Bytes, Refusal>> + Send + Sync + 'static,
{
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        self(request)
    }
}

impl<F> StreamHandler for F
where
    F: Fn(Request, Stream) -> BoxFuture<'static, ()> + Send + Sync + 'static,
{
    fn open(&self, request: Request, stream: Stream) -> BoxFuture<'static, ()> {
        self(request, stream)
    }
}

/// The way to the other nodes of the environment. A message to this node itself is handled here and never leaves the process.
///
/// Calls and one-way messages are delivered at most once, and in no particular order, not even on one lane: what needs order opens a stream.
/// Queues are bounded: when one is full, sending fails at once.
pub trait Transport: Send + Sync + 'static {
    /// This node.
    fn node(&self) -> NodeId;

    /// Sends a request and waits for its answer, at most `timeout`. Dropping the future cancels the request.
    ///
    /// # Errors
    /// Fails at once while the peer is known to be unreachable; waits for a connection only while the first try to make one goes on.
    /// [`CallError::delivery`] says whether the peer may have acted.
    fn call(
        &self,
        to: NodeId,
        message: Message,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>>;

    /// Sends a message without an answer. `Ok` means queued; it may still be lost.
    ///
    /// # Errors
    /// As [`Transport::call`], except that nothing is known of the peer's side.
    fn send(&self, to: NodeId, message: Message) -> Result<(), CallError>;

    /// Opens a stream of frames in both directions, ordered and with backpressure, that ends when either side ends it. `timeout` bounds the wait
    /// for a connection and for a place among the open streams, and the sending of `message`; not what comes after. Dropping the future gives the
    /// stream up. That the peer refuses the stream is seen when reading from it.
    fn open(
        &self,
        to: NodeId,
        message: Message,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Stream, CallError>>;

    /// From now on `handler` answers this kind on this lane; it replaces an earlier one.
    fn serve_calls(&self, lane: Lane, kind: Kind, handler: Arc<dyn CallHandler>);

    /// From now on `handler` serves streams of this kind on this lane; it replaces an earlier one.
    fn serve_streams(&self, lane: Lane, kind: Kind, handler: Arc<dyn StreamHandler>);

    /// Where `node` is reached: `host:port`, the name looked up at each connection. A changed address takes effect at the next connection.
    fn set_peer(&self, node: NodeId, address: &str);

    /// `node` is no longer part of the environment: its connections end, and it is refused from now on. Node ids are never used again, so there
    /// is no way back.
    fn remove_peer(&self, node: NodeId);

    /// What happened so far, per peer and lane that was ever used.
    fn stats(&self) -> Vec<LinkStats>;

    /// Ends all connections; peers hear `reason`. Everything outstanding fails with [`CallError::Closed`].
    fn close(&self, reason: &str) -> BoxFuture<'static, ()>;
}

/// Time until `to` has answered a small message on `lane`.
///
/// # Errors
/// As [`Transport::call`].
pub async fn ping(
    transport: &dyn Transport,
    clock: &dyn host::Clock,
    to: NodeId,
    lane: Lane,
    timeout: Duration,
) -> Result<Duration, CallError> {
    let start = clock.now();
    let message = Message::new(lane, Kind::PING, Bytes::from_static(b"ping"));
    transport.call(to, message, timeout).await?;
    Ok(clock.now().since(start))
}
