//! What waits to be written to a lane.

use bytes::{Bytes, BytesMut};

use super::frame::{Frame, SMALL_BODY_BYTES_MAX};

/// Frames in order, the small ones as bytes already. Bounded by whoever asks [`Queue::has_room`].
#[derive(Debug, Default)]
pub(super) struct Queue {
    small: BytesMut,
    large: Vec<Large>,
    /// Large ones that wait or are being sent.
    large_bytes: usize,
}

/// A frame that gets a QUIC stream of its own.
#[derive(Debug)]
pub(super) struct Large {
    pub head: Bytes,
    pub body: Bytes,
}

impl Large {
    pub(super) fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// Everything that waited.
#[derive(Debug)]
pub(super) struct Batch {
    pub small: Bytes,
    pub large: Vec<Large>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_empty()
    }
}

impl Queue {
    /// Whether `bytes` more may wait. An empty queue has room for anything.
    pub(super) fn has_room(&self, bytes: usize, bytes_max: usize) -> bool {
        self.bytes() == 0 || self.bytes() + bytes <= bytes_max
    }

    pub(super) fn bytes(&self) -> usize {
        self.small.len() + self.large_bytes
    }

    pub(super) fn push(&mut self, frame: Frame) {
        let mut head = BytesMut::new();
        let at = self.small.len();
        let body = frame.encode_head(&mut self.small);
        if body.len() <= SMALL_BODY_BYTES_MAX {
            self.small.extend_from_slice(&body);
            return;
        }
        head.extend_from_slice(&self.small[at..]);
        self.small.truncate(at);
        let large = Large {
            head: head.freeze(),
            body,
        };
        self.large_bytes += large.bytes();
        self.large.push(large);
    }

    pub(super) fn take(&mut self) -> Batch {
        Batch {
            small: std::mem::take(&mut self.small).freeze(),
            large: std::mem::take(&mut self.large),
        }
    }

    /// A large frame of so many bytes was sent, or failed.
    pub(super) fn large_done(&mut self, bytes: usize) {
        self.large_bytes = self.large_bytes.saturating_sub(bytes);
    }

    /// Forgets what waits; what is being sent still counts until it is done.
    pub(super) fn clear(&mut self) {
        let Batch { small: _, large } = self.take();
        for large in large {
            self.large_done(large.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(bytes: usize) -> Frame {
        Frame::Item {
            body: Bytes::from(vec![1; bytes]),
        }
    }

    #[test]
    fn large_bodies_are_neither_copied_nor_mixed_with_small_ones() {
        let mut queue = Queue::default();
        let body = Bytes::from(vec![2; SMALL_BODY_BYTES_MAX + 1]);
        queue.push(item(10));
        queue.push(Frame::Item { body: body.clone() });
        queue.push(item(SMALL_BODY_BYTES_MAX));
        assert_eq!(
            queue.bytes(),
            15 + body.len() + 5 + SMALL_BODY_BYTES_MAX + 5
        );
        let Batch { small, large } = queue.take();
        assert_eq!(small.len(), 15 + SMALL_BODY_BYTES_MAX + 5);
        assert_eq!(large.len(), 1);
        assert_eq!(large[0].body.as_ptr(), body.as_ptr());
        // It still counts until it is sent.
        assert!(queue.take().is_empty());
        assert_eq!(queue.bytes(), large[0].bytes());
        queue.large_done(large[0].bytes());
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn the_bound_lets_one_frame_of_any_size_through() {
        let mut queue = Queue::default();
        assert!(queue.has_room(1_000_000, 100));
        queue.push(item(50));
        assert!(queue.has_room(45, 100));
        assert!(!queue.has_room(46, 100));
        queue.clear();
        assert!(queue.has_room(46, 100));
    }
}
