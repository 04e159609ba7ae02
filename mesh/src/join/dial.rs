//! Asking at another node's door.

use std::net::SocketAddr;

use bytes::Bytes;
use host::Host;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, IdleTimeout, TransportConfig};
use rustls::pki_types::CertificateDer;
use tokio::net::lookup_host;

use super::frame::{self, FrameError, Status};
use super::{Binding, CONNECTION_TIMEOUT, JoinError, SILENCE_MAX};
use crate::TlsError;
use crate::quic::{CLOSED_REJECTED, CLOSED_STOPPING, tls};

/// The name in TLS; nobody compares it.
const SERVER_NAME: &str = "clusterd";

/// A connection to another node's door. Dropping it ends it.
pub struct JoinConnection {
    connection: Connection,
    binding: Binding,
    host: Host,
    version: u16,
}

/// How this side dials.
pub(super) fn client_config() -> Result<ClientConfig, TlsError> {
    let mut client = ClientConfig::new(std::sync::Arc::new(tls::join_client_config()?));
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IdleTimeout::try_from(SILENCE_MAX).ok())
        .keep_alive_interval(Some(SILENCE_MAX / 25))
        .max_concurrent_bidi_streams(0u32.into())
        .max_concurrent_uni_streams(0u32.into())
        .datagram_receive_buffer_size(None);
    client.transport_config(std::sync::Arc::new(transport));
    Ok(client)
}

impl JoinConnection {
    pub(super) async fn dial(
        endpoint: &Endpoint,
        client: ClientConfig,
        address: &str,
        host: &Host,
        version: u16,
    ) -> Result<JoinConnection, JoinError> {
        let dialed = tokio::select! {
            biased;
            dialed = connect(endpoint, client, address) => dialed,
            () = host.clock.sleep(SILENCE_MAX) => Err(JoinError::Unreachable("it does not answer".to_owned())),
        };
        let connection = dialed?;
        let binding = Binding::of(&connection);
        let binding = binding.ok_or_else(|| JoinError::Malformed("TLS gives no key".to_owned()))?;
        Ok(JoinConnection {
            connection,
            binding,
            host: host.clone(),
            version,
        })
    }

    pub fn binding(&self) -> Binding {
        self.binding
    }

    pub fn remote_address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// The certificate that the other side showed (DER), whose key it has proven to have. Who signed it was not looked at.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        let identity = self.connection.peer_identity()?;
        let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        Some(chain.first()?.to_vec())
    }

    /// Asks one question.
    ///
    /// # Errors
    /// If there is no answer, or a refusal.
    pub async fn ask(&self, body: &[u8]) -> Result<Bytes, JoinError> {
        let asked = tokio::select! {
            biased;
            asked = self.exchange(body) => asked,
            () = self.host.clock.sleep(CONNECTION_TIMEOUT) => {
                return Err(JoinError::Unreachable("it does not answer the question".to_owned()));
            }
        };
        match asked {
            Ok((Status::Answer, body)) => Ok(body.into()),
            Ok((Status::Refusal, body)) => Err(JoinError::Refused(
                String::from_utf8_lossy(&body).into_owned(),
            )),
            Ok((Status::Question, _)) => Err(JoinError::Malformed(FrameError::Status.to_string())),
            Err(FrameError::Lost) => Err(self.connection.closed().await.into()),
            Err(error) => {
                self.reject(&error.to_string());
                Err(JoinError::Malformed(error.to_string()))
            }
        }
    }

    async fn exchange(&self, body: &[u8]) -> Result<(Status, Vec<u8>), FrameError> {
        let opened = self.connection.open_bi().await;
        let (mut send, mut recv) = opened.map_err(|_| FrameError::Lost)?;
        frame::write(&mut send, self.version, Status::Question, body).await?;
        frame::read(&mut recv, self.version).await
    }

    /// Ends the connection, telling the other side what is wrong with it.
    pub fn reject(&self, reason: &str) {
        self.connection.close(CLOSED_REJECTED, reason.as_bytes());
    }
}

impl Drop for JoinConnection {
    fn drop(&mut self) {
        self.connection.close(CLOSED_STOPPING, b"");
    }
}

async fn connect(
    endpoint: &Endpoint,
    client: ClientConfig,
    address: &str,
) -> Result<Connection, JoinError> {
    let unreachable = |error: String| JoinError::Unreachable(error);
    let found = lookup_host(address).await;
    let mut found = found.map_err(|e| unreachable(format!("cannot look up {address}: {e}")))?;
    let bound = endpoint.local_addr();
    let bound = bound.map_err(|error| unreachable(error.to_string()))?;
    let found = found.find(|a| a.is_ipv4() == bound.is_ipv4());
    let found = found.ok_or_else(|| unreachable(format!("{address} has no usable address")))?;
    let connecting = endpoint.connect_with(client, found, SERVER_NAME);
    let connecting = connecting.map_err(|error| unreachable(error.to_string()))?;
    Ok(connecting.await?)
}

impl From<ConnectionError> for JoinError {
    fn from(error: ConnectionError) -> JoinError {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let reason = String::from_utf8_lossy(&close.reason).into_owned();
                match close.error_code == CLOSED_STOPPING {
                    true => JoinError::Unreachable(format!("it ended the connection: {reason}")),
                    false => JoinError::Refused(reason),
                }
            }
            ConnectionError::TimedOut => {
                JoinError::Unreachable("nothing is heard from it".to_owned())
            }
            ConnectionError::Reset => JoinError::Unreachable("it has restarted".to_owned()),
            ConnectionError::ConnectionClosed(close) => JoinError::Malformed(format!(
                "it does not speak as a clusterd node does ({close})"
            )),
            error @ (ConnectionError::TransportError(_)
            | ConnectionError::LocallyClosed
            | ConnectionError::VersionMismatch
            | ConnectionError::CidsExhausted) => JoinError::Malformed(error.to_string()),
        }
    }
}
