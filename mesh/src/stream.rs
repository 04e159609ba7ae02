//! Streams of frames between a caller and a handler.
//!
//! Each direction is a queue in memory with a window: whoever carries the stream (a QUIC stream, the simulated network, a move inside the
//! process) puts frames in at one end and takes them out at the other.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};

use crate::{Refusal, StreamError};

/// A frame may have this many bytes. Larger things are cut by whoever sends them.
pub const STREAM_FRAME_BYTES_MAX: usize = 8 << 20;

/// What one direction of a stream holds in one queue before its sender waits.
pub const STREAM_WINDOW_BYTES: usize = 1 << 20;

/// What a frame costs besides its bytes, so that empty frames are bounded too.
const FRAME_OVERHEAD_BYTES: usize = 64;

/// Both directions of a stream, as one side sees them. Take it apart to use the halves in different tasks.
#[derive(Debug)]
pub struct Stream {
    pub sender: StreamSender,
    pub receiver: StreamReceiver,
}

impl Stream {
    /// The two ends of a stream inside this process.
    pub fn pair() -> (Stream, Stream) {
        let (to_right, from_left) = pipe();
        let (to_left, from_right) = pipe();
        let left = Stream {
            sender: to_right,
            receiver: from_right,
        };
        let right = Stream {
            sender: to_left,
            receiver: from_left,
        };
        (left, right)
    }

    /// Ends both directions; the other side reads `refusal`.
    pub fn refuse(self, refusal: Refusal) {
        self.sender.refuse(refusal);
    }
}

/// What travels in one direction.
#[derive(Debug)]
pub(crate) enum Item {
    Frame(Bytes),
    End,
    Failed(StreamError),
}

fn cost(frame: &Bytes) -> u32 {
    let cost = (frame.len() + FRAME_OVERHEAD_BYTES).min(STREAM_WINDOW_BYTES);
    u32::try_from(cost).unwrap_or(u32::MAX)
}

pub(crate) fn pipe() -> (StreamSender, StreamReceiver) {
    let (queue, items) = mpsc::unbounded_channel();
    let window = Arc::new(Semaphore::new(STREAM_WINDOW_BYTES));
    let sender = StreamSender {
        queue,
        window: window.clone(),
    };
    let receiver = StreamReceiver {
        items,
        window,
        over: false,
    };
    (sender, receiver)
}

/// The sending half. Dropping it without [`StreamSender::finish`] makes the receiver see [`StreamError::Lost`].
#[derive(Debug)]
pub struct StreamSender {
    queue: mpsc::UnboundedSender<Item>,
    window: Arc<Semaphore>,
}

impl StreamSender {
    /// Sends a frame, after waiting until the receiver has taken enough of the earlier ones. `Ok` means queued.
    ///
    /// # Errors
    /// [`StreamError::Gone`] if nobody will read it, [`StreamError::TooLong`].
    pub async fn send(&self, frame: Bytes) -> Result<(), StreamError> {
        check_length(&frame)?;
        let permits = self.window.acquire_many(cost(&frame)).await;
        permits.map_err(|_| StreamError::Gone)?.forget();
        self.put(Item::Frame(frame))
    }

    /// Sends a frame if there is room for it.
    ///
    /// # Errors
    /// [`StreamError::Full`] if there is not; else as [`StreamSender::send`].
    pub fn try_send(&self, frame: Bytes) -> Result<(), StreamError> {
        use tokio::sync::TryAcquireError::{Closed, NoPermits};
        check_length(&frame)?;
        match self.window.try_acquire_many(cost(&frame)) {
            Ok(permits) => permits.forget(),
            Err(NoPermits) => return Err(StreamError::Full),
            Err(Closed) => return Err(StreamError::Gone),
        }
        self.put(Item::Frame(frame))
    }

    /// Ends the direction in good order: the receiver reads everything, then the end.
    pub fn finish(self) {
        // Nobody reads any more: as good as finished.
        let _ = self.put(Item::End);
    }

    /// Ends the direction with a reason, which the receiver reads after everything that was sent before.
    pub fn refuse(self, refusal: Refusal) {
        let _ = self.put(Item::Failed(StreamError::Refused(refusal)));
    }

    /// Resolves when nobody reads any more.
    pub async fn gone(&self) {
        self.queue.closed().await;
    }

    /// Whether nobody reads any more.
    pub fn is_gone(&self) -> bool {
        self.queue.is_closed()
    }

    pub(crate) fn fail(self, error: StreamError) {
        let _ = self.put(Item::Failed(error));
    }

    fn put(&self, item: Item) -> Result<(), StreamError> {
        self.queue.send(item).map_err(|_| StreamError::Gone)
    }
}

fn check_length(frame: &Bytes) -> Result<(), StreamError> {
    let (bytes, limit) = (frame.len(), STREAM_FRAME_BYTES_MAX);
    match bytes > limit {
        true => Err(StreamError::TooLong { bytes, limit }),
        false => Ok(()),
    }
}

/// The receiving half. Dropping it makes the sender's next send fail.
#[derive(Debug)]
pub struct StreamReceiver {
    items: mpsc::UnboundedReceiver<Item>,
    window: Arc<Semaphore>,
    /// The end, or an error, was read.
    over: bool,
}

impl StreamReceiver {
    /// The next frame; `None` after the sender has finished, or after an error.
    ///
    /// # Errors
    /// If the stream ended in any other way. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, StreamError>> {
        match self.next_item().await? {
            Item::Frame(frame) => Some(Ok(frame)),
            Item::End => None,
            Item::Failed(error) => Some(Err(error)),
        }
    }

    /// As [`StreamReceiver::next`], with the end as an item; `None` once that was given.
    pub(crate) async fn next_item(&mut self) -> Option<Item> {
        if self.over {
            return None;
        }
        let item = self.items.recv().await;
        Some(self.taken(item))
    }

    /// What is there without waiting.
    pub(crate) fn ready_item(&mut self) -> Option<Item> {
        if self.over {
            return None;
        }
        let item = self.items.try_recv().ok()?;
        Some(self.taken(Some(item)))
    }

    fn taken(&mut self, item: Option<Item>) -> Item {
        let dropped = || Item::Failed(StreamError::Lost("its sender went away".to_owned()));
        let item = item.unwrap_or_else(dropped);
        match &item {
            Item::Frame(frame) => self.window.add_permits(cost(frame) as usize),
            Item::End | Item::Failed(_) => self.over = true,
        }
        item
    }
}

impl Drop for StreamReceiver {
    fn drop(&mut self) {
        self.window.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> Bytes {
        Bytes::from(vec![7; bytes])
    }

    #[tokio::test]
    async fn frames_come_in_order_and_then_the_end() {
        let (left, mut right) = Stream::pair();
        for n in [0, 1, 100] {
            left.sender.send(frame(n)).await.unwrap();
        }
        left.sender.finish();
        for n in [0, 1, 100] {
            assert_eq!(right.receiver.next().await, Some(Ok(frame(n))));
        }
        assert_eq!(right.receiver.next().await, None);
        assert_eq!(right.receiver.next().await, None);
    }

    #[tokio::test]
    async fn a_sender_that_vanishes_is_not_an_end() {
        let (left, mut right) = Stream::pair();
        left.sender.send(frame(1)).await.unwrap();
        drop(left);
        assert_eq!(right.receiver.next().await, Some(Ok(frame(1))));
        let lost = right.receiver.next().await;
        assert!(matches!(lost, Some(Err(StreamError::Lost(_)))), "{lost:?}");
        assert_eq!(right.receiver.next().await, None);
    }

    #[tokio::test]
    async fn a_slow_receiver_stops_the_sender_and_a_gone_one_ends_it() {
        let (left, mut right) = Stream::pair();
        let mut sent = 0;
        while left.sender.try_send(frame(1000)).is_ok() {
            sent += 1;
        }
        assert_eq!(sent, STREAM_WINDOW_BYTES / (1000 + FRAME_OVERHEAD_BYTES));
        assert_eq!(left.sender.try_send(frame(1000)), Err(StreamError::Full));
        right.receiver.next().await.unwrap().unwrap();
        left.sender.try_send(frame(1000)).unwrap();
        let waiting = left.sender.send(frame(1000));
        drop(right.receiver);
        assert_eq!(waiting.await, Err(StreamError::Gone));
        left.sender.gone().await;
    }

    #[tokio::test]
    async fn a_frame_as_large_as_allowed_passes_alone() {
        let (left, mut right) = Stream::pair();
        let largest = frame(STREAM_FRAME_BYTES_MAX);
        left.sender.send(largest.clone()).await.unwrap();
        assert_eq!(left.sender.try_send(frame(0)), Err(StreamError::Full));
        assert_eq!(right.receiver.next().await, Some(Ok(largest)));
        let over = left.sender.send(frame(STREAM_FRAME_BYTES_MAX + 1)).await;
        assert!(matches!(over, Err(StreamError::TooLong { .. })));
    }
}
