//! The mesh port of a node that has no certificate yet.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use host::{Host, TaskHandle};
use quinn::{ClientConfig, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig};
use tokio::sync::Semaphore;

use super::{
    Door, JoinConnection, JoinError, JoinHandler, QUESTIONS_MAX, SILENCE_MAX, STRANGERS_MAX, dial,
};
use crate::StartError;
use crate::ca::{self, NodeKey};
use crate::quic::{CLOSED_STOPPING, tls};

/// Closing waits this long for the others to hear of it.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// Listens for other nodes that have no certificate either, and dials them. [`JoinListener::close`] frees the port for the transport.
pub struct JoinListener {
    endpoint: Endpoint,
    client: ClientConfig,
    host: Host,
    version: u16,
    accepting: TaskHandle,
}

impl JoinListener {
    /// Listens on `socket`, with a certificate that only shows that the node has `key`.
    ///
    /// # Errors
    /// If the socket or the key cannot be used.
    pub fn start(
        socket: UdpSocket,
        key: &NodeKey,
        host: &Host,
        handler: Arc<dyn JoinHandler>,
    ) -> Result<JoinListener, StartError> {
        JoinListener::start_version(socket, key, host, handler, crate::PROTOCOL_VERSION)
    }

    pub(crate) fn start_version(
        socket: UdpSocket,
        key: &NodeKey,
        host: &Host,
        handler: Arc<dyn JoinHandler>,
        version: u16,
    ) -> Result<JoinListener, StartError> {
        let client = dial::client_config()?;
        let certificate = ca::self_signed(key)?;
        let mut server = ServerConfig::with_crypto(Arc::new(tls::join_server_config(certificate)?));
        let mut transport = TransportConfig::default();
        transport
            .max_idle_timeout(IdleTimeout::try_from(SILENCE_MAX).ok())
            .max_concurrent_bidi_streams(u32::try_from(QUESTIONS_MAX).unwrap_or(1).into())
            .max_concurrent_uni_streams(0u32.into())
            .datagram_receive_buffer_size(None);
        server
            .transport_config(Arc::new(transport))
            .max_incoming(STRANGERS_MAX);
        let bind = |source: io::Error| StartError::Bind {
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            source,
        };
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(server), socket, runtime);
        let endpoint = endpoint.map_err(bind)?;
        let door = Arc::new(Door::new(version));
        door.open(handler);
        let accept = accept(endpoint.clone(), door, host.clone());
        let accepting = host.spawn.spawn("join-accept", Box::pin(accept));
        Ok(JoinListener {
            endpoint,
            client,
            host: host.clone(),
            version,
            accepting,
        })
    }

    /// Connects to the door of the node at `address` (host:port).
    ///
    /// # Errors
    /// If nobody answers, or not as a node should.
    pub async fn dial(&self, address: &str) -> Result<JoinConnection, JoinError> {
        let client = self.client.clone();
        JoinConnection::dial(&self.endpoint, client, address, &self.host, self.version).await
    }

    /// Ends all connections, and leaves the socket to its other holders.
    pub async fn close(&self) {
        self.endpoint
            .close(CLOSED_STOPPING, b"it goes on; try again");
        tokio::select! {
            biased;
            () = self.endpoint.wait_idle() => {}
            () = self.host.clock.sleep(CLOSE_TIMEOUT) => {}
        }
        self.leave_socket();
    }

    /// A closed endpoint goes on receiving until its connections are forgotten, which takes seconds: it would refuse those who mean the transport on the same port.
    fn leave_socket(&self) {
        // The endpoint listens to the last two sockets that it was given.
        for _ in 0..2 {
            let elsewhere = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
            if let Err(error) = elsewhere.and_then(|socket| self.endpoint.rebind(socket)) {
                tracing::warn!(%error, "the mesh port stays shared for some seconds");
            }
        }
    }
}

impl Drop for JoinListener {
    fn drop(&mut self) {
        self.accepting.abort();
        self.endpoint.close(CLOSED_STOPPING, b"stopping");
        self.leave_socket();
    }
}

async fn accept(endpoint: Endpoint, door: Arc<Door>, host: Host) {
    let places = Arc::new(Semaphore::new(STRANGERS_MAX));
    while let Some(incoming) = endpoint.accept().await {
        let Ok(place) = places.clone().try_acquire_owned() else {
            // They try again.
            incoming.ignore();
            continue;
        };
        let (door, at) = (door.clone(), host.clone());
        let receive = async move {
            let connected = async { incoming.accept()?.await };
            let connection = tokio::select! {
                biased;
                connected = connected => connected,
                () = at.clock.sleep(SILENCE_MAX) => return,
            };
            drop(place);
            if let Ok(connection) = connection {
                door.receive(&at, connection).await;
            }
        };
        drop(host.spawn.spawn("join-stranger", Box::pin(receive)));
    }
}
