//! The transport over QUIC.
//!
//! Each node has one UDP socket. A lane to a peer is one QUIC connection, made by the side that sends the requests (`link`) and accepted by the side
//! that answers them (`serve`): four lanes share no congestion window, no flow control and no buffer, and the two directions fail apart. On a
//! connection small messages are frames on one long-lived stream (`frame`, `queue`), gathered into one write per wake-up; large messages and streams of
//! the transport are QUIC streams (`pump`).
//!
//! A peer proves who it is by a certificate of the environment's authority (`tls`), then both say hello (`hello`).

mod config;
mod frame;
mod hello;
mod link;
mod peers;
mod pump;
mod queue;
mod serve;
pub(crate) mod tls;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use host::{BoxFuture, Host};
use protocol::{Kind, Lane};
use quinn::{
    ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, ServerConfig,
};
use repr::NodeId;
use ring::hmac;
use tokio::sync::{Semaphore, watch};

use crate::join::{Door, JoinHandler};
use crate::local::{self, SharedRegistry};
use crate::registry::Registry;
use crate::{CallError, CallHandler, Caller, LinkStats, Message, Stream, StreamHandler, Transport};

pub use config::{Limits, QuicConfig, Timing};
use hello::Rejection;
pub(crate) use hello::{CLOSED_MALFORMED, CLOSED_REJECTED, CLOSED_STOPPING};
use link::Link;
use peers::Peers;
pub use tls::TlsError;

/// Closing waits this long for peers to hear of it.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Why a transport cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen for other nodes on {address}/udp: {source}")]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Key(#[from] crate::ca::CaError),
    #[error("this node's certificate is not for {0}")]
    OtherNode(crate::NodeName),
}

/// What links and sessions share.
struct Shared {
    host: Host,
    config: QuicConfig,
    endpoint: Endpoint,
    client: ClientConfig,
    bound: SocketAddr,
    registry: SharedRegistry,
    peers: Peers,
    links: Mutex<Links>,
    /// Where nodes without a certificate are received.
    door: Door,
    /// Set when a peer says that this node was removed from the environment.
    expelled: watch::Sender<Option<String>>,
}

#[derive(Default)]
struct Links {
    links: HashMap<(NodeId, Lane), Arc<Link>>,
    closed: bool,
}

/// See [`Transport`]. Cloning the `Arc` shares it; [`Transport::close`] ends it.
pub struct QuicTransport {
    shared: Arc<Shared>,
}

impl QuicTransport {
    /// Binds the socket and listens. Handlers should be registered right after: until then peers are refused with "nothing handles".
    ///
    /// # Errors
    /// If the address is in use, or the credentials do not fit each other or the identity.
    pub fn start(config: QuicConfig, host: Host) -> Result<QuicTransport, StartError> {
        let bind = |source| StartError::Bind {
            address: config.bind,
            source,
        };
        let socket = UdpSocket::bind(config.bind).map_err(bind)?;
        QuicTransport::start_on(socket, config, host)
    }

    /// As [`QuicTransport::start`], on a socket that is bound already; `config.bind` is not used.
    ///
    /// # Errors
    /// If the socket cannot be used, or the credentials do not fit each other or the identity.
    pub fn start_on(
        socket: UdpSocket,
        config: QuicConfig,
        host: Host,
    ) -> Result<QuicTransport, StartError> {
        let own = tls::verified_name(
            &config.credentials.certificate,
            &config.credentials.authority,
        )?;
        if own != config.identity.name {
            return Err(StartError::OtherNode(config.identity.name));
        }
        let mut server =
            ServerConfig::with_crypto(Arc::new(tls::server_config(&config.credentials)?));
        server.transport_config(Arc::new(config.quic(false)));
        let mut client = ClientConfig::new(Arc::new(tls::client_config(&config.credentials)?));
        client.transport_config(Arc::new(config.quic(true)));
        let bind = |source| StartError::Bind {
            address: config.bind,
            source,
        };
        let bound = socket.local_addr().map_err(bind)?;
        let version = config.version;
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(
            endpoint_config(&config, &host),
            Some(server),
            socket,
            runtime,
        );
        let shared = Arc::new(Shared {
            endpoint: endpoint.map_err(bind)?,
            host,
            config,
            client,
            bound,
            registry: Arc::new(Registry::default()),
            peers: Peers::default(),
            links: Mutex::default(),
            door: Door::new(version),
            expelled: watch::Sender::new(None),
        });
        let accept = accept(shared.clone());
        shared.host.spawn.spawn("mesh-accept", Box::pin(accept));
        Ok(QuicTransport { shared })
    }

    /// Answers nodes that have no certificate yet and want to join. Until then they are asked to try again.
    pub fn serve_joins(&self, handler: Arc<dyn JoinHandler>) {
        self.shared.door.open(handler);
    }

    /// What a peer has said, once one has, that knows that this node was removed from the environment. All others will say so too.
    pub fn expelled(&self) -> watch::Receiver<Option<String>> {
        self.shared.expelled.subscribe()
    }

    /// Where it listens: the port is known only now if 0 was asked for.
    pub fn local_address(&self) -> SocketAddr {
        self.shared.bound
    }

    fn me(&self) -> Caller {
        let identity = &self.shared.config.identity;
        Caller {
            node: identity.name.node,
            incarnation: identity.incarnation,
        }
    }
}

/// A node keeps its key for resets over restarts, so that peers of its last life learn from its first packet that it has restarted.
fn endpoint_config(config: &QuicConfig, host: &Host) -> EndpointConfig {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, config.credentials.key.secret_der());
    let reset = hmac::sign(&secret, b"clusterd mesh: stateless reset");
    let mut endpoint =
        EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset.as_ref())));
    // The default generator takes the ids of an earlier life for noise and would stay silent.
    let rng = host.rng.clone();
    endpoint.cid_generator(move || Box::new(RandomIds(rng.clone())));
    endpoint
}

/// Connection ids that tell nothing.
struct RandomIds(Arc<dyn host::Rng>);

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.next_u64().to_le_bytes())
    }

    fn cid_len(&self) -> usize {
        size_of::<u64>()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

async fn accept(shared: Arc<Shared>) {
    let strangers_max = shared
        .config
        .limits
        .strangers_max
        .min(Semaphore::MAX_PERMITS);
    let places = Arc::new(Semaphore::new(strangers_max));
    while let Some(incoming) = shared.endpoint.accept().await {
        let Ok(place) = places.clone().try_acquire_owned() else {
            incoming.ignore();
            continue;
        };
        let crowded = places.available_permits() < strangers_max / 2;
        if crowded && !incoming.remote_address_validated() {
            // An address that is not validated may always be asked to come again.
            let _ = incoming.retry();
            continue;
        }
        let session = serve::serve(shared.clone(), incoming, place);
        shared.host.spawn.spawn("mesh-session", Box::pin(session));
    }
}

impl Shared {
    /// A peer says that this node was removed.
    fn expel(&self, reason: &str) {
        let first = |known: &mut Option<String>| {
            let is_first = known.is_none();
            known.get_or_insert_with(|| reason.to_owned());
            is_first
        };
        self.expelled.send_if_modified(first);
    }

    fn links(&self) -> std::sync::MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link, which is made when it is first asked for.
    fn link(self: &Arc<Shared>, to: NodeId, lane: Lane) -> Result<Arc<Link>, CallError> {
        let mut links = self.links();
        if let Some(link) = links.links.get(&(to, lane)) {
            return Ok(link.clone());
        }
        if links.closed {
            return Err(CallError::Closed);
        }
        let link = Link::start(self, to, lane);
        links.links.insert((to, lane), link.clone());
        Ok(link)
    }

    /// Tries to reach `node` now on the lanes that wait for their next try.
    fn kick(&self, node: NodeId) {
        let links = self.links();
        let of_node = Lane::ALL
            .iter()
            .filter_map(|lane| links.links.get(&(node, *lane)));
        of_node.for_each(|link| link.kick());
    }
}

impl Drop for QuicTransport {
    fn drop(&mut self) {
        // Closing happens at once; only the wait for the peers to hear of it is given up.
        drop(self.close("stopping"));
    }
}

impl Transport for QuicTransport {
    fn node(&self) -> NodeId {
        self.me().node
    }

    fn call(
        &self,
        to: NodeId,
        message: Message,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        if to == self.node() {
            let Shared { registry, host, .. } = &*self.shared;
            return local::call(registry, host, self.me(), message, timeout);
        }
        match self.shared.link(to, message.lane) {
            Ok(link) => Box::pin(link.call(message, timeout)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn send(&self, to: NodeId, message: Message) -> Result<(), CallError> {
        if to == self.node() {
            let Shared { registry, host, .. } = &*self.shared;
            local::send(registry, host, self.me(), message);
            return Ok(());
        }
        self.shared.link(to, message.lane)?.send(message)
    }

    fn open(
        &self,
        to: NodeId,
        message: Message,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Stream, CallError>> {
        if to == self.node() {
            let Shared { registry, host, .. } = &*self.shared;
            let stream = local::open(registry, host, self.me(), message);
            return Box::pin(std::future::ready(Ok(stream)));
        }
        match self.shared.link(to, message.lane) {
            Ok(link) => Box::pin(link.open(message, timeout)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn serve_calls(&self, lane: Lane, kind: Kind, handler: Arc<dyn CallHandler>) {
        self.shared.registry.serve_calls(lane, kind, handler);
    }

    fn serve_streams(&self, lane: Lane, kind: Kind, handler: Arc<dyn StreamHandler>) {
        self.shared.registry.serve_streams(lane, kind, handler);
    }

    fn set_peer(&self, node: NodeId, address: &str) {
        self.shared.peers.set_address(node, address);
        self.shared.kick(node);
    }

    fn remove_peer(&self, node: NodeId) {
        let reason = Rejection::Removed(node).to_string();
        self.shared.peers.remove(node);
        let mut links = self.shared.links();
        let of_node: Vec<_> = Lane::ALL
            .iter()
            .filter_map(|lane| links.links.remove(&(node, *lane)))
            .collect();
        drop(links);
        for link in of_node {
            let to = node;
            let reason = reason.clone();
            link.end(
                &CallError::Rejected {
                    to,
                    reason: reason.clone(),
                },
                &reason,
            );
        }
    }

    fn stats(&self) -> Vec<LinkStats> {
        let links = self.shared.links();
        let linked = links.links.iter().map(|(key, link)| (*key, link.stats()));
        let mut all: std::collections::BTreeMap<_, _> = linked.collect();
        drop(links);
        for ((node, lane), counters) in self.shared.peers.all_counters() {
            all.entry((node, lane)).or_insert_with(|| {
                let mut stats = LinkStats::new(node, lane);
                counters.read_into(&mut stats);
                stats
            });
        }
        all.into_values().collect()
    }

    fn close(&self, reason: &str) -> BoxFuture<'static, ()> {
        let shared = self.shared.clone();
        let links: Vec<_> = {
            let mut links = shared.links();
            links.closed = true;
            links.links.drain().map(|(_, link)| link).collect()
        };
        for link in links {
            link.end(&CallError::Closed, reason);
        }
        shared.endpoint.close(CLOSED_STOPPING, reason.as_bytes());
        Box::pin(async move {
            tokio::select! {
                biased;
                () = shared.endpoint.wait_idle() => {}
                () = shared.host.clock.sleep(CLOSE_TIMEOUT) => {}
            }
        })
    }
}

#[cfg(test)]
mod tests;
