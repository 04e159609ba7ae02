//! Streams through faults.

use protocol::Lane;
use repr::NodeId;

use super::Seam;
use super::rules::Direction;
use crate::stream::Item;
use crate::{Stream, StreamError, StreamReceiver, StreamSender};

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
                () = self.seam.cut_for_long(self.peer, self.lane) => {
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

    /// The next item, after its way.
    async fn next(&self, from: &mut StreamReceiver) -> Option<Item> {
        let item = from.next_item().await;
        self.seam.pass(self.direction, self.peer, self.lane).await;
        item
    }
}
