//! Messages of any length on the mesh's streams, whose frames are limited: each frame begins with a byte that says whether the message goes on in the next.

use bytes::{BufMut, Bytes, BytesMut};
use host::Clock;
use mesh::{StreamError, StreamReceiver, StreamSender};
use protocol::cluster::{self, STREAM_MESSAGE_BYTES_MAX};
use repr::codec::CodecError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Bytes of a message in one frame: small enough that frames of other streams get their turn.
const PIECE_BYTES: usize = 256 << 10;
const LAST: u8 = 0;
const MORE: u8 = 1;

/// Why no message came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("a message cannot be read: {0}")]
    Malformed(#[from] CodecError),
    #[error(
        "a frame without its first byte, or a message of more than {STREAM_MESSAGE_BYTES_MAX} bytes"
    )]
    Frame,
}

pub(crate) struct MessageSender(StreamSender);

impl MessageSender {
    pub fn new(sender: StreamSender) -> MessageSender {
        MessageSender(sender)
    }

    /// Sends a message, after waiting until the receiver has taken enough of the earlier ones.
    pub async fn send<T: Serialize>(&self, message: &T) -> Result<(), StreamError> {
        let bytes = cluster::encode(message);
        let mut pieces = bytes.chunks(PIECE_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            let mut frame = BytesMut::with_capacity(1 + piece.len());
            frame.put_u8(if pieces.peek().is_some() { MORE } else { LAST });
            frame.put_slice(piece);
            self.0.send(frame.freeze()).await?;
        }
        Ok(())
    }

    pub fn finish(self) {
        self.0.finish();
    }
}

pub(crate) struct MessageReceiver {
    frames: StreamReceiver,
    /// The message so far.
    gathered: Vec<u8>,
}

impl MessageReceiver {
    pub fn new(frames: StreamReceiver) -> MessageReceiver {
        MessageReceiver {
            frames,
            gathered: vec![],
        }
    }

    /// The next message; `None` at the end of the stream. Cancel safe.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Option<Result<T, WireError>> {
        loop {
            let frame = match self.frames.next().await? {
                Ok(frame) => frame,
                Err(error) => return Some(Err(error.into())),
            };
            match self.take(&frame) {
                Ok(None) => {}
                Ok(Some(message)) => return Some(Ok(message)),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The next message, unless nothing at all comes for as long as `silence`.
    pub async fn next_unless_silent<T: DeserializeOwned>(
        &mut self,
        clock: &dyn Clock,
        silence: Duration,
    ) -> Option<Result<T, WireError>> {
        let mut had = self.gathered.len();
        loop {
            tokio::select! {
                biased;
                message = self.next() => return message,
                () = clock.sleep(silence) => {}
            }
            if self.gathered.len() == had {
                return None;
            }
            had = self.gathered.len();
        }
    }

    fn take<T: DeserializeOwned>(&mut self, frame: &Bytes) -> Result<Option<T>, WireError> {
        let (kind, piece) = frame.split_first().ok_or(WireError::Frame)?;
        if self.gathered.len() + piece.len() > STREAM_MESSAGE_BYTES_MAX || *kind > MORE {
            return Err(WireError::Frame);
        }
        if *kind == LAST && self.gathered.is_empty() {
            return Ok(Some(cluster::decode(STREAM_MESSAGE_BYTES_MAX, piece)?));
        }
        self.gathered.extend_from_slice(piece);
        if *kind == MORE {
            return Ok(None);
        }
        let message = std::mem::take(&mut self.gathered);
        Ok(Some(cluster::decode(STREAM_MESSAGE_BYTES_MAX, &message)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh::Stream;
    use protocol::PeekRows;
    use repr::{Datum, Row};

    fn rows(count: i32) -> PeekRows {
        let row = |n| {
            (
                Row::pack_slice(&[Datum::Int32(n), Datum::String("text")]),
                1,
            )
        };
        PeekRows {
            rows: (0..count).map(row).collect(),
        }
    }

    #[tokio::test]
    async fn messages_larger_than_a_frame_come_whole_and_in_order() {
        let (left, right) = Stream::pair();
        let sizes = [1, 200_000, 0, 3];
        let send = async move {
            let sender = MessageSender::new(left.sender);
            for count in sizes {
                sender.send(&rows(count)).await.unwrap();
            }
            sender.finish();
            drop(left.receiver);
        };
        let receive = async move {
            let mut receiver = MessageReceiver::new(right.receiver);
            for count in sizes {
                let message: PeekRows = receiver.next().await.unwrap().unwrap();
                assert_eq!(message, rows(count));
            }
            assert!(receiver.next::<PeekRows>().await.is_none());
        };
        tokio::join!(send, receive);
    }

    #[tokio::test]
    async fn who_falls_silent_within_a_message_is_not_waited_for() {
        let host = host::Host::real();
        let (left, right) = Stream::pair();
        left.sender
            .send(Bytes::from_static(b"\x01x"))
            .await
            .unwrap();
        let mut receiver = MessageReceiver::new(right.receiver);
        let silence = Duration::from_millis(20);
        let next = receiver.next_unless_silent::<PeekRows>(&*host.clock, silence);
        assert!(next.await.is_none());
        drop(left);
    }

    #[tokio::test]
    async fn what_a_peer_sends_is_checked() {
        for bad in [&b""[..], b"\x02x", b"\x00\x63nonsense"] {
            let (left, right) = Stream::pair();
            left.sender.send(Bytes::from_static(bad)).await.unwrap();
            let mut receiver = MessageReceiver::new(right.receiver);
            assert!(receiver.next::<PeekRows>().await.unwrap().is_err());
        }
    }
}
