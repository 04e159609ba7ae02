//! Making a connection, and saying why there is none.

use quinn::{ConnectionError, RecvStream, SendStream};
use tokio::net::lookup_host;

use super::Link;
use crate::CallError;
use crate::quic::hello::{self, CLOSED_REJECTED, CLOSED_REMOVED, Hello, ReadHelloError, Rejection};
use quinn::Connection;

/// The name in TLS; who answers is checked by the certificate's URI.
const SERVER_NAME: &str = "clusterd";

/// QUIC's codes 0x100 to 0x1ff are TLS alerts.
const TLS_ALERTS: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;
const ALERT_UNKNOWN_CA: u64 = 48;

/// Why a connection ended, or could not be made.
#[derive(Debug)]
pub(in crate::quic) enum Reason {
    /// The sides do not belong together.
    Rejected(String),
    /// The other side says that this node was removed from the environment.
    Expelled(String),
    Ended(String),
}

impl From<String> for Reason {
    fn from(reason: String) -> Reason {
        Reason::Ended(reason)
    }
}

impl From<Rejection> for Reason {
    fn from(rejection: Rejection) -> Reason {
        Reason::Rejected(rejection.to_string())
    }
}

impl From<ConnectionError> for Reason {
    fn from(error: ConnectionError) -> Reason {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let text = String::from_utf8_lossy(&close.reason);
                let text = format!("the other side says: {text}");
                match close.error_code {
                    CLOSED_REJECTED => Reason::Rejected(text),
                    CLOSED_REMOVED => Reason::Expelled(text),
                    _ => Reason::Ended(text),
                }
            }
            ConnectionError::ConnectionClosed(close) => {
                alert(u64::from(close.error_code), "it does not believe", "its")
                    .unwrap_or_else(|| Reason::Ended(close.to_string()))
            }
            ConnectionError::TransportError(error) => {
                let code = u64::from(error.code);
                alert(code, "this node does not believe", "this node's")
                    .unwrap_or_else(|| Reason::Ended(error.to_string()))
            }
            ConnectionError::TimedOut => Reason::Ended("nothing is heard from it".to_owned()),
            ConnectionError::Reset => Reason::Ended("it has restarted".to_owned()),
            ConnectionError::LocallyClosed => Reason::Ended("this node closed it".to_owned()),
            error @ (ConnectionError::VersionMismatch | ConnectionError::CidsExhausted) => {
                Reason::Ended(error.to_string())
            }
        }
    }
}

/// A TLS alert in words. `whose`: of whom the authority is.
fn alert(code: u64, who: &str, whose: &str) -> Option<Reason> {
    let alert = TLS_ALERTS.contains(&code).then_some(code & 0xff)?;
    Some(Reason::Rejected(match alert {
        ALERT_UNKNOWN_CA => {
            format!("{who} the certificate: it is not signed by {whose} environment's authority")
        }
        alert => format!("{who} the certificate (TLS alert {alert})"),
    }))
}

impl Link {
    /// A connection with the peer, whoever it is proven and willing.
    pub(super) async fn dial(&self) -> Result<(Connection, SendStream, RecvStream), CallError> {
        let timing = &self.shared.config.timing;
        let dialed = tokio::select! {
            biased;
            dialed = self.try_dial() => dialed,
            () = self.shared.host.clock.sleep(timing.connect_timeout) => {
                Err(Reason::Ended("it does not answer".to_owned()))
            }
        };
        let to = self.to;
        dialed.map_err(|reason| match reason {
            Reason::Rejected(reason) => CallError::Rejected { to, reason },
            Reason::Expelled(reason) => {
                self.shared.expel(&reason);
                CallError::Rejected { to, reason }
            }
            Reason::Ended(reason) => CallError::Unreachable { to, reason },
        })
    }

    async fn try_dial(&self) -> Result<(Connection, SendStream, RecvStream), Reason> {
        let shared = &self.shared;
        shared.peers.check_not_removed(self.to)?;
        let address = shared.peers.address(self.to);
        let address = address.ok_or_else(|| "its address is not known".to_owned())?;
        let found = lookup_host(&address).await;
        let mut found = found.map_err(|error| format!("cannot look up {address}: {error}"))?;
        let found = found.find(|a| a.is_ipv4() == shared.bound.is_ipv4());
        let found = found.ok_or_else(|| format!("{address} has no usable address"))?;
        let connecting = shared
            .endpoint
            .connect_with(shared.client.clone(), found, SERVER_NAME);
        let connecting = connecting.map_err(|error| error.to_string())?;
        let connection = connecting.await?;
        self.greet(&connection)
            .await
            .map(|(send, recv)| (connection, send, recv))
    }

    /// Says hello and listens to the answer.
    async fn greet(&self, connection: &Connection) -> Result<(SendStream, RecvStream), Reason> {
        let met = self.hello(connection).await;
        match met {
            Ok(streams) => Ok(streams),
            Err(ReadHelloError::Rejected(rejection)) => {
                let text = rejection.to_string();
                connection.close(rejection.code(), text.as_bytes());
                Err(rejection.into())
            }
            Err(ReadHelloError::Ended) => Err(connection.closed().await.into()),
        }
    }

    async fn hello(
        &self,
        connection: &Connection,
    ) -> Result<(SendStream, RecvStream), ReadHelloError> {
        let proven = hello::proven_name(connection).map_err(ReadHelloError::Rejected)?;
        let mine = Hello {
            version: self.shared.config.version,
            identity: self.shared.config.identity,
            lane: self.lane,
        };
        let opened = connection.open_bi().await;
        let (mut send, mut recv) = opened.map_err(|_| ReadHelloError::Ended)?;
        hello::write(&mut send, &mine).await?;
        let theirs = hello::read(&mut recv, mine.version).await?;
        self.accept(&mine, &theirs, proven, connection)
            .map_err(ReadHelloError::Rejected)?;
        Ok((send, recv))
    }

    fn accept(
        &self,
        mine: &Hello,
        theirs: &Hello,
        proven: crate::NodeName,
        connection: &Connection,
    ) -> Result<(), Rejection> {
        mine.check(theirs, proven)?;
        let (expected, found) = (self.to, proven.node);
        if found != expected {
            return Err(Rejection::OtherNode { expected, found });
        }
        if theirs.lane != mine.lane {
            return Err(Rejection::Malformed);
        }
        self.shared.peers.meet(&theirs.identity, connection)
    }
}
