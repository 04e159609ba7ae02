//! Answering strangers.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use host::Host;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::sync::Semaphore;

use super::frame::{self, FrameError, Status};
use super::{Binding, CONNECTION_TIMEOUT, JoinHandler, QUESTIONS_MAX, Question, STRANGERS_MAX};
use crate::quic::{CLOSED_MALFORMED, CLOSED_REJECTED, CLOSED_STOPPING};

/// Where strangers are received, by a node with or without a certificate.
pub(crate) struct Door {
    version: u16,
    handler: RwLock<Option<Arc<dyn JoinHandler>>>,
    places: Semaphore,
}

impl Door {
    pub(crate) fn new(version: u16) -> Door {
        Door {
            version,
            handler: RwLock::default(),
            places: Semaphore::new(STRANGERS_MAX),
        }
    }

    /// From now on `handler` answers.
    pub(crate) fn open(&self, handler: Arc<dyn JoinHandler>) {
        *self.handler.write().unwrap_or_else(PoisonError::into_inner) = Some(handler);
    }

    fn handler(&self) -> Option<Arc<dyn JoinHandler>> {
        let handler = self.handler.read();
        handler.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers one stranger's questions, to the end of the connection.
    pub(crate) async fn receive(&self, host: &Host, connection: Connection) {
        let from = connection.remote_address();
        let Ok(_place) = self.places.try_acquire() else {
            let reason = "too many nodes want to join at once; try again";
            return connection.close(CLOSED_STOPPING, reason.as_bytes());
        };
        let ended = tokio::select! {
            biased;
            ended = self.answer_all(&connection) => ended,
            () = host.clock.sleep(CONNECTION_TIMEOUT) => Err(End::Refused("it took too long".to_owned())),
        };
        match ended {
            Ok(()) => {}
            Err(End::Refused(reason)) => {
                tracing::info!(%from, %reason, "a node that wants to join was refused");
                connection.close(CLOSED_REJECTED, reason.as_bytes());
            }
            Err(End::Malformed(error)) => {
                tracing::warn!(%from, %error, "a node that wants to join was refused");
                connection.close(CLOSED_MALFORMED, error.to_string().as_bytes());
            }
        }
    }

    async fn answer_all(&self, connection: &Connection) -> Result<(), End> {
        let from = connection.remote_address();
        let binding = Binding::of(connection);
        let binding = binding.ok_or_else(|| End::Refused("TLS gives no key".to_owned()))?;
        for asked in 0.. {
            match connection.accept_bi().await {
                Ok(_) if asked == QUESTIONS_MAX => break,
                Ok((send, recv)) => self.answer_one(from, binding, send, recv).await?,
                Err(error) => {
                    log_end(connection, &error);
                    return Ok(());
                }
            }
        }
        Err(End::Refused("too many questions".to_owned()))
    }

    async fn answer_one(
        &self,
        from: std::net::SocketAddr,
        binding: Binding,
        mut send: SendStream,
        mut recv: RecvStream,
    ) -> Result<(), End> {
        let (status, body) = frame::read(&mut recv, self.version).await?;
        if status != Status::Question {
            return Err(FrameError::Status.into());
        }
        let Some(handler) = self.handler() else {
            let reason = "this node does not take others in yet; try again";
            return Err(End::Refused(reason.to_owned()));
        };
        let body = Bytes::from(body);
        let answer = handler.answer(Question {
            from,
            binding,
            body,
        });
        let (status, body) = match answer.await {
            Ok(body) => (Status::Answer, body),
            Err(reason) => {
                tracing::info!(%from, %reason, "a node that wants to join was refused");
                (Status::Refusal, Bytes::from(reason))
            }
        };
        frame::write(&mut send, self.version, status, &body).await?;
        Ok(())
    }
}

/// Why a stranger hears no more.
enum End {
    Refused(String),
    Malformed(FrameError),
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> End {
        match error {
            FrameError::Version { .. } | FrameError::Magic => End::Refused(error.to_string()),
            FrameError::Status
            | FrameError::TooLong(_)
            | FrameError::Truncated
            | FrameError::Lost => End::Malformed(error),
        }
    }
}

/// What a stranger did not like about this node is worth a line here too.
fn log_end(connection: &Connection, error: &ConnectionError) {
    let from = connection.remote_address();
    if let ConnectionError::ApplicationClosed(close) = error
        && close.error_code == CLOSED_REJECTED
    {
        let reason = String::from_utf8_lossy(&close.reason);
        tracing::warn!(%from, %reason, "a node that wants to join refused this one");
    }
}
