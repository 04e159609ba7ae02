//! The way from a leader to one replica, on this node or another: orders there, responses back, and connected anew when it is lost.

use super::Shared;
use super::driver::{LeadEvent, LeadEvents};
use super::site::Site;
use super::wire::{MessageReceiver, MessageSender};
use crate::replica::session::{NotAttached, Session};
use compute::ReplicaHandle;
use host::TaskHandle;
use mesh::{Message, Stream};
use protocol::cluster::{self, ComputeCall, FeedCall, ReplicaMessage};
use protocol::{Epoch, Kind, Lane, Numbered};
use repr::{NodeId, ReplicaId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Pauses before a replica is connected to anew, the first and the longest.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// How long a stream may take to open.
const OPEN_WITHIN: Duration = Duration::from_secs(2);

/// Keeps the way open until it is dropped.
pub(super) struct Link {
    pub node: NodeId,
    task: TaskHandle,
}

/// Takes orders, in their order. They are lost with the connection.
pub(crate) enum Orders {
    Here(Session),
    Elsewhere(mpsc::UnboundedSender<Numbered>),
}

/// Where a replica is asked.
#[derive(Clone)]
pub(crate) enum Target {
    Here(ReplicaHandle),
    Elsewhere(NodeId),
}

impl Orders {
    pub fn send(&self, numbered: Numbered) {
        match self {
            // A session that was replaced is reported by its link.
            Orders::Here(session) => drop(session.send(numbered)),
            Orders::Elsewhere(orders) => drop(orders.send(numbered)),
        }
    }
}

impl Target {
    pub fn node(&self, shared: &Shared) -> NodeId {
        match self {
            Target::Here(_) => shared.node,
            Target::Elsewhere(node) => *node,
        }
    }
}

/// How an attempt to be connected ended.
enum End {
    /// It had been connected.
    Lost,
    /// It had not.
    Refused,
    /// The replica obeys a later leader.
    Superseded(Epoch),
}

/// One link's own view.
struct Way {
    site: Arc<Site>,
    replica: ReplicaId,
    node: NodeId,
    epoch: Epoch,
    events: LeadEvents,
}

impl Link {
    pub fn open(
        site: &Arc<Site>,
        replica: ReplicaId,
        node: NodeId,
        epoch: Epoch,
        events: &LeadEvents,
    ) -> Link {
        let way = Way {
            site: Arc::clone(site),
            replica,
            node,
            epoch,
            events: events.clone(),
        };
        let spawn = &site.shared.host.spawn;
        let task = spawn.spawn("replica-link", Box::pin(way.keep()));
        Link { node, task }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Way {
    async fn keep(self) {
        let clock = Arc::clone(&self.site.shared.host.clock);
        let mut pause = BACKOFF_MIN;
        for connection in 1.. {
            let end = match self.node == self.site.shared.node {
                true => self.here(connection).await,
                false => self.elsewhere(connection).await,
            };
            match end {
                End::Superseded(by) => {
                    self.events.send(LeadEvent::Superseded { by });
                    return;
                }
                End::Lost => {
                    let replica = self.replica;
                    let lost = LeadEvent::Disconnected {
                        replica,
                        connection,
                    };
                    if !self.events.send(lost) {
                        return;
                    }
                    pause = BACKOFF_MIN;
                }
                End::Refused => pause = (pause * 2).min(BACKOFF_MAX),
            }
            clock.sleep(pause).await;
        }
    }

    fn tell(&self, connection: u64, orders: Orders, target: Target) {
        self.events.send(LeadEvent::Connected {
            replica: self.replica,
            connection,
            orders,
            target,
        });
    }

    /// Responses go from the workers to the driver, with nothing in between.
    async fn here(&self, connection: u64) -> End {
        let Some(hosted) = self.site.hosted(self.replica) else {
            return End::Refused;
        };
        let (events, replica) = (self.events.clone(), self.replica);
        let respond = move |response| {
            events.send(LeadEvent::Response {
                replica,
                connection,
                response,
            });
        };
        match hosted.attach(self.epoch, Arc::new(respond)) {
            Err(NotAttached::Stale(later)) => End::Superseded(later),
            Err(NotAttached::Ended) => End::Refused,
            Ok((session, replaced)) => {
                let target = Target::Here(hosted.handle.clone());
                self.tell(connection, Orders::Here(session), target);
                // Resolves when the session's other side lets go of it.
                let _ = replaced.await;
                End::Lost
            }
        }
    }

    /// The stream on which the changes of subscriptions come.
    async fn open_feed(&self, session: u64) -> Option<Stream> {
        let call = FeedCall {
            cluster: self.site.cluster,
            replica: self.replica,
            session,
        };
        let message = Message::new(Lane::Bulk, Kind::COMPUTE, cluster::encode(&call));
        let transport = &self.site.shared.transport;
        match transport.open(self.node, message, OPEN_WITHIN).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::debug!(replica = %self.replica, node = %self.node, %error, "a replica's subscriptions cannot be fetched");
                None
            }
        }
    }

    async fn elsewhere(&self, connection: u64) -> End {
        let call = ComputeCall {
            cluster: self.site.cluster,
            replica: self.replica,
            epoch: self.epoch,
        };
        let message = Message::new(Lane::Control, Kind::COMPUTE, cluster::encode(&call));
        let transport = &self.site.shared.transport;
        let stream = match transport.open(self.node, message, OPEN_WITHIN).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(replica = %self.replica, node = %self.node, %error, "a replica cannot be reached");
                return End::Refused;
            }
        };
        let sender = MessageSender::new(stream.sender);
        let mut receiver = MessageReceiver::new(stream.receiver);
        let session = match receiver.next().await {
            Some(Ok(ReplicaMessage::AttachedAs { session })) => session,
            Some(Ok(ReplicaMessage::Stale { epoch })) => return End::Superseded(epoch),
            Some(
                Ok(
                    ReplicaMessage::Attached
                    | ReplicaMessage::Unknown
                    | ReplicaMessage::Response(_),
                )
                | Err(_),
            )
            | None => return End::Refused,
        };
        let Some(feed) = self.open_feed(session).await else {
            return End::Refused;
        };
        // The other side ends when nobody can write to it any more.
        let _hold = feed.sender;
        let mut batches = MessageReceiver::new(feed.receiver);
        let (orders, mut waiting) = mpsc::unbounded_channel();
        let target = Target::Elsewhere(self.node);
        self.tell(connection, Orders::Elsewhere(orders), target);
        loop {
            tokio::select! {
                order = waiting.recv() => {
                    let Some(order) = order else { return End::Lost };
                    if sender.send(&order).await.is_err() {
                        return End::Lost;
                    }
                }
                message = receiver.next() => match message {
                    Some(Ok(ReplicaMessage::Response(response))) => {
                        let replica = self.replica;
                        self.events.send(LeadEvent::Response { replica, connection, response });
                    }
                    Some(Ok(ReplicaMessage::Stale { epoch })) => return End::Superseded(epoch),
                    Some(
                        Ok(
                            ReplicaMessage::Attached
                            | ReplicaMessage::AttachedAs { .. }
                            | ReplicaMessage::Unknown,
                        )
                        | Err(_),
                    )
                    | None => return End::Lost,
                },
                // Without its changes a subscription would wait for ever: all begins anew.
                message = batches.next() => {
                    let Some(Ok(ReplicaMessage::Response(response))) = message else {
                        return End::Lost;
                    };
                    let replica = self.replica;
                    self.events.send(LeadEvent::Response { replica, connection, response });
                }
            }
        }
    }
}
