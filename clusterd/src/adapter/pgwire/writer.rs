//! Messages to the client, encoded into one buffer that is flushed as late as the protocol allows.

use crate::adapter::error::SqlError;
use crate::adapter::pgwire::rows::framed;
use bytes::{BufMut, BytesMut};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::{
    EmptyQueryResponse, ErrorResponse, NoticeResponse, TransactionStatus,
};
use pgwire::messages::startup::ParameterStatus;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;

/// Beyond this the buffer is sent although no flush was asked for.
const FLUSH_BYTES: usize = 64 * 1024;

/// The sending half of a connection.
pub struct Writer {
    buffer: BytesMut,
    socket: OwnedWriteHalf,
}

/// A notice or warning for the client.
#[derive(Clone, Debug)]
pub struct Notice {
    pub severity: &'static str,
    pub sqlstate: &'static str,
    pub message: String,
}

impl Notice {
    pub fn plain(message: impl Into<String>) -> Self {
        Notice {
            severity: "NOTICE",
            sqlstate: "00000",
            message: message.into(),
        }
    }

    pub fn warning(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Notice {
            severity: "WARNING",
            sqlstate,
            message: message.into(),
        }
    }
}

impl Writer {
    pub fn new(socket: OwnedWriteHalf) -> Self {
        Writer {
            buffer: BytesMut::with_capacity(8 * 1024),
            socket,
        }
    }

    /// The buffer, for messages that are encoded in place (data rows).
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    pub fn message(&mut self, message: PgWireBackendMessage) -> std::io::Result<()> {
        message
            .encode(&mut self.buffer)
            .map_err(std::io::Error::other)
    }

    pub fn complete(&mut self, tag: &str) -> std::io::Result<()> {
        framed(b'C', &mut self.buffer, |out| {
            out.put_slice(tag.as_bytes());
            out.put_u8(0);
        });
        Ok(())
    }

    pub fn empty_query(&mut self) -> std::io::Result<()> {
        self.message(PgWireBackendMessage::EmptyQueryResponse(
            EmptyQueryResponse::new(),
        ))
    }

    pub fn ready(&mut self, status: TransactionStatus) -> std::io::Result<()> {
        framed(b'Z', &mut self.buffer, |out| out.put_u8(status as u8));
        Ok(())
    }

    pub fn parameter(&mut self, name: &str, value: &str) -> std::io::Result<()> {
        self.message(PgWireBackendMessage::ParameterStatus(ParameterStatus::new(
            name.to_owned(),
            value.to_owned(),
        )))
    }

    pub fn error(&mut self, error: &SqlError) -> std::io::Result<()> {
        let severity = if error.fatal { "FATAL" } else { "ERROR" };
        let mut fields = vec![
            (b'S', severity.to_owned()),
            (b'V', severity.to_owned()),
            (b'C', error.sqlstate.clone()),
            (b'M', error.message.clone()),
        ];
        let mut optional = |code, value: Option<String>| fields.extend(value.map(|v| (code, v)));
        optional(b'D', error.detail.clone());
        optional(b'H', error.hint.clone());
        optional(b'P', error.position.map(|p| p.to_string()));
        optional(b'W', error.context.clone());
        optional(b's', error.constraint.as_ref().map(|c| c.schema.clone()));
        optional(b't', error.constraint.as_ref().map(|c| c.table.clone()));
        optional(
            b'n',
            error.constraint.as_ref().map(|c| c.constraint.clone()),
        );
        self.message(PgWireBackendMessage::ErrorResponse(ErrorResponse::new(
            fields,
        )))
    }

    pub fn notice(&mut self, notice: &Notice) -> std::io::Result<()> {
        let fields = vec![
            (b'S', notice.severity.to_owned()),
            (b'V', notice.severity.to_owned()),
            (b'C', notice.sqlstate.to_owned()),
            (b'M', notice.message.clone()),
        ];
        self.message(PgWireBackendMessage::NoticeResponse(NoticeResponse::new(
            fields,
        )))
    }

    /// One CopyData message with these bytes.
    pub fn copy_data(&mut self, bytes: &[u8]) {
        self.buffer.put_u8(b'd');
        self.buffer
            .put_u32(u32::try_from(bytes.len() + 4).expect("a row is far below 4 GiB"));
        self.buffer.put_slice(bytes);
    }

    /// Sends the buffer if it has grown large: the client's speed limits ours.
    pub async fn relieve(&mut self) -> std::io::Result<()> {
        if self.buffer.len() >= FLUSH_BYTES {
            self.flush().await
        } else {
            Ok(())
        }
    }

    pub async fn flush(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.socket.write_all(&self.buffer).await?;
        self.buffer.clear();
        if self.buffer.capacity() > 4 * FLUSH_BYTES {
            self.buffer = BytesMut::with_capacity(8 * 1024);
        }
        Ok(())
    }
}
