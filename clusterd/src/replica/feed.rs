//! The changes of subscriptions on their way from a replica to a leader on another node.
//!
//! Workers do not wait, so what the leader does not take piles up here. Each subscription has a budget of its own: beyond it that one fails on this replica, and nothing else.

use parking_lot::Mutex;
use plan::EvalError;
use protocol::{Epoch, Response, SubscribeBatch};
use repr::GlobalId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Bytes of changes of one subscription that may wait for the leader.
pub const FEED_BYTES_MAX: usize = 256 << 20;

/// The workers' side.
pub struct Feed {
    batches: mpsc::UnboundedSender<Waiting>,
    counts: Arc<Mutex<Counts>>,
    bytes_max: usize,
}

/// The side of the stream to the leader.
pub struct Batches {
    batches: mpsc::UnboundedReceiver<Waiting>,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct Counts {
    /// What waits of each subscription.
    bytes: BTreeMap<GlobalId, usize>,
    overflowed: BTreeSet<GlobalId>,
}

struct Waiting {
    epoch: Epoch,
    id: GlobalId,
    bytes: usize,
    batch: SubscribeBatch,
}

impl Feed {
    pub fn new(bytes_max: usize) -> (Feed, Batches) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let counts = Arc::new(Mutex::new(Counts::default()));
        let feed = Feed {
            batches: sender,
            counts: Arc::clone(&counts),
            bytes_max,
        };
        let batches = Batches {
            batches: receiver,
            counts,
        };
        (feed, batches)
    }

    /// Lets a batch wait. The answer is what the leader is to be told in its place, at once, if there is no room for it; once for each subscription.
    pub fn push(&self, epoch: Epoch, id: GlobalId, batch: SubscribeBatch) -> Option<Response> {
        let bytes = batch.byte_len();
        {
            let mut counts = self.counts.lock();
            if counts.overflowed.contains(&id) {
                return None;
            }
            let waiting = counts.bytes.entry(id).or_default();
            *waiting += bytes;
            if *waiting > self.bytes_max {
                counts.bytes.remove(&id);
                counts.overflowed.insert(id);
                let error = too_slow(self.bytes_max);
                return Some(Response::DataflowFailed { epoch, id, error });
            }
        }
        // Without a stream the session ends, and with it all this.
        let _ = self.batches.send(Waiting {
            epoch,
            id,
            bytes,
            batch,
        });
        None
    }
}

impl Batches {
    /// The next batch, as the leader is told of it; `None` when the session is over. Cancel safe.
    pub async fn next(&mut self) -> Option<Response> {
        loop {
            let Waiting {
                epoch,
                id,
                bytes,
                batch,
            } = self.batches.recv().await?;
            let mut counts = self.counts.lock();
            if counts.overflowed.contains(&id) {
                continue;
            }
            if let Some(waiting) = counts.bytes.get_mut(&id) {
                *waiting -= bytes;
                if *waiting == 0 {
                    counts.bytes.remove(&id);
                }
            }
            return Some(Response::Subscribe { epoch, id, batch });
        }
    }
}

fn too_slow(bytes_max: usize) -> EvalError {
    let mut error = EvalError::new(
        "53400",
        "the changes of a subscription are not taken fast enough",
    );
    error.detail = Some(format!(
        "More than {bytes_max} bytes of them were waiting on a replica for the leader of its cluster."
    ));
    error.hint = Some("Subscribe again AS OF the last progress.".to_owned());
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use repr::{Datum, Row};

    fn batch(lower: u64, text: usize) -> SubscribeBatch {
        let row = Row::pack_slice(&[Datum::String(&"x".repeat(text))]);
        SubscribeBatch {
            lower,
            upper: Some(lower + 1),
            updates: Ok(vec![(lower, row, 1)]),
        }
    }

    #[tokio::test]
    async fn a_subscription_that_is_not_taken_ends_and_the_others_go_on() {
        let (slow, other) = (GlobalId(1), GlobalId(2));
        let epoch = Epoch::default();
        let (feed, mut batches) = Feed::new(10_000);
        assert_eq!(feed.push(epoch, slow, batch(0, 6000)), None);
        assert_eq!(feed.push(epoch, other, batch(0, 6000)), None);
        match feed.push(epoch, slow, batch(1, 6000)) {
            Some(Response::DataflowFailed { id, error, .. }) => {
                assert_eq!((id, &*error.sqlstate), (slow, "53400"));
            }
            told => panic!("{told:?}"),
        }
        assert_eq!(feed.push(epoch, slow, batch(2, 1)), None, "told once");
        let taken = batches.next().await;
        let expected = |lower| Response::Subscribe {
            epoch,
            id: other,
            batch: batch(lower, 6000),
        };
        assert_eq!(taken, Some(expected(0)), "nothing of the one that failed");
        // What was taken has room again.
        for lower in 1..9 {
            assert_eq!(feed.push(epoch, other, batch(lower, 6000)), None);
            assert_eq!(batches.next().await, Some(expected(lower)));
        }
        drop(feed);
        assert_eq!(batches.next().await, None);
    }
}
