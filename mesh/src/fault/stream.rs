//! Streams through faults.

use std::time::Duration;

use protocol::Lane;
use repr::NodeId;

use super::Seam;
use super::rules::Direction;
use crate::stream::Item;
use crate::{Stream, StreamError, StreamReceiver, StreamSender};

/// A stream with a cut peer breaks after this, as a QUIC connection would.
const SILENCE: Duration = Duration::from_millis(750);

/// What is lost of a stream is sent again after this.
const SENT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The stream as its user sees it, when it passes through the faults of `seam`.
pub(super) fn faulty(stream: Stream, seam: Seam, peer: NodeId, lane: Lane) -> Stream {
    let (user, own) = Stream::pair();
    let way = |direction| Way {
        seam: seam.clone(),
        direction,
        peer,
        lane,
    };
    let outward = way(Direction::Out).carry(own.receiver, stream.sender);
    let inward = way(Direction::In).carry(stream.receiver, own.sender);
    let spawn = &seam.host.spawn;
    spawn.spawn("mesh-fault-out", Box::pin(outward));
    spawn.spawn("mesh-fault-in", Box::pin(inward));
    user
}

/// One direction of a stream.
struct Way {
    seam: Seam,
    direction: Direction,
    peer: NodeId,
    lane: Lane,
}

impl Way {
    async fn carry(self, mut from: StreamReceiver, to: StreamSender) {
        loop {
            let item = tokio::select! {
                biased;
                () = self.cut_for_long() => {
                    let reason = "nothing is heard from it".to_owned();
                    return to.fail(StreamError::Lost(reason));
                }
                () = to.gone() => return,
                item = self.next(&mut from) => item,
            };
            match item {
                Some(Item::Frame(frame)) => {
                    if to.send(frame).await.is_err() {
                        return;
                    }
                }
                Some(Item::End) => return to.finish(),
                Some(Item::Failed(error)) => return to.fail(error),
                None => return,
            }
        }
    }

    /// The next item, after its delay. While the way is cut nothing passes.
    async fn next(&self, from: &mut StreamReceiver) -> Option<Item> {
        let item = from.next_item().await;
        let Seam { faults, host, .. } = &self.seam;
        let mut changed = faults.watch();
        while faults.is_cut(self.peer, self.lane) {
            // The rules are part of `self`, so there is somebody to change them.
            let _ = changed.changed().await;
        }
        let fate = faults.fate(self.direction, self.peer, self.lane, &*host.rng);
        let again = match fate.lost {
            true => SENT_AGAIN_AFTER,
            false => Duration::ZERO,
        };
        self.seam.delay(fate.delay + again).await;
        item
    }

    /// Resolves when the peer was cut off for so long that a connection would be given up.
    async fn cut_for_long(&self) {
        let Seam { faults, host, .. } = &self.seam;
        let mut changed = faults.watch();
        loop {
            match faults.is_cut(self.peer, self.lane) {
                true => tokio::select! {
                    biased;
                    () = self.healed(&mut changed) => {}
                    () = host.clock.sleep(SILENCE) => return,
                },
                false => {
                    let _ = changed.changed().await;
                }
            }
        }
    }

    async fn healed(&self, changed: &mut tokio::sync::watch::Receiver<()>) {
        while self.seam.faults.is_cut(self.peer, self.lane) {
            let _ = changed.changed().await;
        }
    }
}
