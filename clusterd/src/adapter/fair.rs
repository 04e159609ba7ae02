//! Queues for writers of one shard that have met a conflict: the next to try is the one who has waited longest.

use parking_lot::Mutex;
use repr::ShardId;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

type Queue = Arc<tokio::sync::Mutex<()>>;
type Queues = Arc<Mutex<BTreeMap<ShardId, Queue>>>;

/// One queue per shard, as long as somebody stands in it.
#[derive(Default)]
pub struct FairQueues {
    queues: Queues,
}

/// The writer's turn: the others wait until it is dropped.
pub struct Turn {
    _turn: OwnedMutexGuard<()>,
    // Dropped last: it counts those who are left.
    _place: Place,
}

/// A place in the queue, before and during the turn. The last one to leave takes the queue away.
struct Place {
    queues: Queues,
    shard: ShardId,
    queue: Queue,
}

impl FairQueues {
    /// Waits in line. Cancelling it leaves the line.
    pub async fn wait(&self, shard: ShardId) -> Turn {
        let queue = Arc::clone(self.queues.lock().entry(shard).or_default());
        let place = Place {
            queues: Arc::clone(&self.queues),
            shard,
            queue,
        };
        let turn = Arc::clone(&place.queue).lock_owned().await;
        Turn {
            _turn: turn,
            _place: place,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = self.queues.lock();
        // Places are handed out under the lock: only the table and this one hold it, so nobody else stands there.
        if Arc::strong_count(&self.queue) == 2 {
            queues.remove(&self.shard);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_queue_goes_with_the_last_one_in_it() {
        let fair = FairQueues::default();
        let shard = ShardId(1);
        let first = fair.wait(shard).await;
        let mut second = Box::pin(fair.wait(shard));
        let mut cancelled = Box::pin(fair.wait(shard));
        assert!(
            second.as_mut().now_or_never().is_none(),
            "it is not its turn"
        );
        assert!(cancelled.as_mut().now_or_never().is_none());
        drop(fair.wait(ShardId(2)).await);
        assert_eq!(fair.queues.lock().len(), 1);
        drop(cancelled);
        drop(first);
        let second = second.now_or_never().expect("its turn");
        assert_eq!(fair.queues.lock().len(), 1);
        drop(second);
        assert!(fair.queues.lock().is_empty());
        let holder = fair.wait(shard).await;
        let mut last = Box::pin(fair.wait(shard));
        assert!(last.as_mut().now_or_never().is_none());
        drop(holder);
        drop(last);
        assert!(
            fair.queues.lock().is_empty(),
            "whoever had the turn but left before"
        );
    }
}
