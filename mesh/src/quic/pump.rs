//! Carries one direction of a stream between its queue in memory and a QUIC stream.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, VarInt};

use super::frame::{Decoder, Frame, FrameError};
use crate::stats::Counters;
use crate::stream::Item;
use crate::{StreamError, StreamReceiver, StreamSender};

/// The sender of a direction went away without an end.
pub(super) const RESET_LOST: VarInt = VarInt::from_u32(1);
/// Nobody reads the direction.
const STOPPED: VarInt = VarInt::from_u32(2);

/// Frames written at once.
const BATCH_BYTES: usize = 256 << 10;

/// Bytes asked of QUIC at once.
pub(super) const READ_BYTES: usize = 256 << 10;

/// Until the direction ends, or nobody reads it.
pub(super) async fn outward(mut from: StreamReceiver, mut to: SendStream, counters: Arc<Counters>) {
    let stopped = to.stopped();
    tokio::pin!(stopped);
    loop {
        let item = tokio::select! {
            biased;
            _ = &mut stopped => return,
            item = from.next_item() => item,
        };
        let Some(item) = item else { return };
        let mut batch = Batch::default();
        batch.add(item);
        while batch.is_open()
            && let Some(item) = from.ready_item()
        {
            batch.add(item);
        }
        Counters::add(&counters.bytes_sent, batch.bytes);
        // Whoever sends sees that it is gone when `from` is dropped.
        if to.write_all_chunks(&mut batch.chunks).await.is_err() {
            return;
        }
        match batch.last {
            Last::None => {}
            // An error means that the peer has stopped the stream: nothing is left to tell it.
            Last::Finish => return to.finish().unwrap_or_default(),
            Last::Reset => return to.reset(RESET_LOST).unwrap_or_default(),
        }
    }
}

#[derive(Default)]
struct Batch {
    chunks: Vec<Bytes>,
    bytes: usize,
    last: Last,
}

#[derive(Default, PartialEq)]
enum Last {
    #[default]
    None,
    Finish,
    Reset,
}

impl Batch {
    fn is_open(&self) -> bool {
        self.last == Last::None && self.bytes < BATCH_BYTES
    }

    fn add(&mut self, item: Item) {
        let frame = match item {
            Item::Frame(body) => Frame::Item { body },
            Item::End => {
                self.last = Last::Finish;
                Frame::End
            }
            Item::Failed(StreamError::Refused(refusal)) => {
                self.last = Last::Finish;
                Frame::Failed { refusal }
            }
            Item::Failed(
                StreamError::Gone
                | StreamError::Lost(_)
                | StreamError::Full
                | StreamError::TooLong { .. },
            ) => {
                self.last = Last::Reset;
                return;
            }
        };
        let mut head = BytesMut::new();
        let body = frame.encode_head(&mut head);
        self.bytes += head.len() + body.len();
        self.chunks.push(head.freeze());
        if !body.is_empty() {
            self.chunks.push(body);
        }
    }
}

/// Until the direction ends, or nobody reads it. An error is the peer's breach of the protocol, for which the connection ends.
pub(super) async fn inward(
    mut decoder: Decoder,
    mut from: RecvStream,
    to: StreamSender,
    counters: Arc<Counters>,
) -> Result<(), FrameError> {
    loop {
        while let Some(frame) = decoder.next()? {
            match frame {
                Frame::Item { body } => {
                    if to.send(body).await.is_err() {
                        return stop(from);
                    }
                }
                Frame::End => {
                    to.finish();
                    return Ok(());
                }
                Frame::Failed { refusal } => {
                    to.refuse(refusal);
                    return Ok(());
                }
                other @ (Frame::Call { .. }
                | Frame::OneWay { .. }
                | Frame::Cancel { .. }
                | Frame::Answer { .. }
                | Frame::Refused { .. }
                | Frame::Open { .. }) => return Err(FrameError::Unexpected(other.name())),
            }
        }
        let chunk = tokio::select! {
            biased;
            chunk = from.read_chunk(READ_BYTES, true) => chunk,
            () = to.gone() => return stop(from),
        };
        match chunk {
            Ok(Some(chunk)) => {
                Counters::add(&counters.bytes_received, chunk.bytes.len());
                decoder.feed(chunk.bytes);
            }
            Ok(None) => return Err(FrameError::Truncated),
            Err(ReadError::Reset(_)) => {
                to.fail(StreamError::Lost("its sender went away".to_owned()));
                return Ok(());
            }
            Err(error) => {
                to.fail(StreamError::Lost(error.to_string()));
                return Ok(());
            }
        }
    }
}

fn stop(mut from: RecvStream) -> Result<(), FrameError> {
    // It may have ended meanwhile, which is as well.
    let _ = from.stop(STOPPED);
    Ok(())
}
