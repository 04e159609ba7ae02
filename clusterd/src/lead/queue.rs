//! The batches of one SUBSCRIBE between its dataflow and whoever takes them: its client, or the stream to its gateway.

use super::miss::Miss;
use crate::adapter::error::SqlError;
use protocol::SubscribeBatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// Changes that may wait for a slow client; beyond this the subscription ends (53400) instead of pinning memory.
pub const SUBSCRIBE_BUFFER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The sending side, held by the lead.
pub(crate) struct SubscribeQueue {
    batches: mpsc::UnboundedSender<Result<SubscribeBatch, Miss>>,
    waiting: Arc<Waiting>,
}

#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    overflowed: AtomicBool,
}

/// The receiving side.
pub(crate) struct Receiver {
    batches: mpsc::UnboundedReceiver<Result<SubscribeBatch, Miss>>,
    waiting: Arc<Waiting>,
}

impl SubscribeQueue {
    pub fn new() -> (SubscribeQueue, Receiver) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::new(Waiting::default());
        (
            SubscribeQueue {
                batches: sender,
                waiting: Arc::clone(&waiting),
            },
            Receiver {
                batches: receiver,
                waiting,
            },
        )
    }

    pub fn push(&self, batch: SubscribeBatch) {
        if self.waiting.overflowed.load(Ordering::Relaxed) {
            return;
        }
        let bytes = batch.byte_len();
        if self.waiting.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
            > SUBSCRIBE_BUFFER_BYTES_MAX
        {
            self.waiting.overflowed.store(true, Ordering::Relaxed);
            let slow = SqlError::new("53400", "the subscription's client is too slow")
                .detail(format!(
                    "More than {SUBSCRIBE_BUFFER_BYTES_MAX} bytes of changes were waiting for it."
                ))
                .hint("Subscribe again AS OF the last progress, or fetch faster.");
            self.fail(slow.into());
            return;
        }
        // A receiver that is gone drops the dataflow.
        let _ = self.batches.send(Ok(batch));
    }

    pub fn fail(&self, miss: Miss) {
        let _ = self.batches.send(Err(miss));
    }
}

impl Receiver {
    /// The next batch; `None` when its lead has ended. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Result<SubscribeBatch, Miss>> {
        let batch = self.batches.recv().await?;
        if let Ok(batch) = &batch {
            self.waiting
                .bytes
                .fetch_sub(batch.byte_len(), Ordering::Relaxed);
        }
        Some(batch)
    }

    /// Whether nothing waits.
    pub fn is_idle(&self) -> bool {
        self.batches.is_empty()
    }
}
