//! What this node does for the CLUSTERs of others: reads and subscriptions as a leader, orders and reads as the node of a replica.

use super::lookup::Lead;
use super::miss::{Miss, Try, to_failure};
use super::site::{Site, peek, peek_replica};
use super::wire::{MessageReceiver, MessageSender};
use super::{Clusters, PeekRequest, Rows, TransientQuery};
use crate::adapter::error::SqlError;
use crate::replica::feed::{FEED_BYTES_MAX, Feed};
use crate::replica::session::NotAttached;
use bytes::Bytes;
use host::BoxFuture;
use mesh::{CallHandler, Refusal as Refused, Request, Stream, StreamHandler};
use protocol::cluster::{
    self, CALL_BYTES_MAX, ClusterInfoCall, ClustersLed, ComputeCall, FeedCall, PeekAnswer,
    PeekCall, ReplicaMessage, RowsCall, SubscribeCall, SubscribeMessage,
};
use protocol::{Command, Kind, Lane, Numbered, PeekResponse, PeekRows, Refusal, Response};
use repr::codec::CodecError;
use repr::{ClusterId, NodeId};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// What a leader that does not read may leave unread of a replica's responses; beyond, its session ends.
const RESPONSES_BYTES_MAX: usize = 512 << 20;

/// Lets the other nodes in.
pub(super) fn serve(clusters: &Arc<Clusters>) {
    let transport = &clusters.shared.transport;
    transport.serve_calls(Lane::Peek, Kind::PEEK, call(clusters, Clusters::answer));
    transport.serve_calls(
        Lane::Control,
        Kind::CLUSTER_INFO,
        call(clusters, Clusters::tell),
    );
    transport.serve_calls(
        Lane::Control,
        Kind::CLUSTERS_LED,
        call(clusters, Clusters::tell_led),
    );
    transport.serve_calls(
        Lane::Control,
        Kind::SEES_ENV,
        call(clusters, Clusters::tell_sight),
    );
    transport.serve_streams(Lane::Bulk, Kind::PEEK, stream(clusters, Clusters::hand_out));
    transport.serve_streams(
        Lane::Bulk,
        Kind::SUBSCRIBE,
        stream(clusters, Clusters::feed_subscriber),
    );
    transport.serve_streams(
        Lane::Control,
        Kind::COMPUTE,
        stream(clusters, Clusters::obey),
    );
    transport.serve_streams(
        Lane::Bulk,
        Kind::COMPUTE,
        stream(clusters, Clusters::feed_leader),
    );
}

fn call<F>(
    clusters: &Arc<Clusters>,
    answer: impl Fn(Arc<Clusters>, Bytes) -> F + Send + Sync + 'static,
) -> Arc<dyn CallHandler>
where
    F: Future<Output = Result<Bytes, Refused>> + Send + 'static,
{
    let clusters = Arc::downgrade(clusters);
    let handler = move |request: Request| -> BoxFuture<'static, Result<Bytes, Refused>> {
        match clusters.upgrade() {
            Some(clusters) if !clusters.shared.is_stopping() => {
                Box::pin(answer(clusters, request.body))
            }
            Some(_) | None => Box::pin(std::future::ready(Err(Refused::Stopping))),
        }
    };
    Arc::new(handler)
}

fn stream<F>(
    clusters: &Arc<Clusters>,
    serve: impl Fn(Arc<Clusters>, Bytes, Stream) -> F + Send + Sync + 'static,
) -> Arc<dyn StreamHandler>
where
    F: Future<Output = ()> + Send + 'static,
{
    let clusters = Arc::downgrade(clusters);
    let handler = move |request: Request, stream: Stream| -> BoxFuture<'static, ()> {
        match clusters.upgrade() {
            Some(clusters) if !clusters.shared.is_stopping() => {
                Box::pin(serve(clusters, request.body, stream))
            }
            Some(_) | None => {
                stream.refuse(Refused::Stopping);
                Box::pin(std::future::ready(()))
            }
        }
    };
    Arc::new(handler)
}

fn malformed(error: CodecError) -> Refused {
    Refused::Malformed(error.to_string())
}

impl Clusters {
    async fn answer(self: Arc<Self>, body: Bytes) -> Result<Bytes, Refused> {
        let answer = match cluster::decode(CALL_BYTES_MAX, &body).map_err(malformed)? {
            PeekCall::Export {
                cluster,
                read,
                catalog_version,
            } => {
                let rows = match self.lead_of(cluster).await {
                    Err(miss) => Err(miss),
                    Ok((site, lead)) => {
                        let request = PeekRequest {
                            catalog_version,
                            ..site.blocks.request(read).map_err(malformed)?
                        };
                        lead.peek(&request).await
                    }
                };
                self.answer_of_leader(cluster, rows)
            }
            PeekCall::Query {
                cluster,
                dataflow,
                ts,
                arity,
                bytes_max,
                catalog_version,
            } => {
                let query = TransientQuery {
                    dataflow,
                    ts,
                    arity: usize::try_from(arity).unwrap_or(usize::MAX),
                    bytes_max,
                    catalog_version,
                    relaxed: false,
                };
                let rows = match self.lead_of(cluster).await {
                    Err(miss) => Err(miss),
                    Ok((_, lead)) => lead.query(&query).await,
                };
                self.answer_of_leader(cluster, rows)
            }
            PeekCall::Replica {
                cluster,
                replica,
                id,
                epoch,
                after,
                read,
            } => {
                let site = self.known_site(cluster);
                match site.and_then(|site| Some((site.hosted(replica)?, site))) {
                    None => PeekAnswer::Refused(Refusal::Stopping),
                    Some((hosted, site)) => {
                        let request = site.blocks.request(read).map_err(malformed)?;
                        let peek = peek(id, epoch, after, &request);
                        self.answer_of_replica(cluster, peek_replica(&hosted.handle, peek).await)
                    }
                }
            }
            PeekCall::Direct {
                cluster,
                plan_hash,
                read,
            } => match self.known_site(cluster) {
                None => PeekAnswer::Refused(Refusal::UnknownId),
                Some(site) => {
                    let request = PeekRequest {
                        plan_hash,
                        ..site.blocks.request(read).map_err(malformed)?
                    };
                    match site.peek_here(&request).await {
                        Some(Ok(rows)) => self.answer_rows(cluster, rows),
                        Some(Err(error)) => PeekAnswer::Failed(to_failure(error)),
                        None => PeekAnswer::Refused(Refusal::UnknownId),
                    }
                }
            },
        };
        Ok(cluster::encode(&answer).into())
    }

    /// The lead of a CLUSTER, if it is here. A CLUSTER that this node has not heard of yet is waited for.
    async fn lead_of(&self, cluster: ClusterId) -> Try<(Arc<Site>, Arc<Lead>)> {
        let site = self.site(cluster).await.map_err(|_| Miss::Moved(None))?;
        match site.leading() {
            Some(lead) => Ok((site, lead)),
            None => Err(Miss::Moved(self.leader_elsewhere(&site))),
        }
    }

    fn leader_elsewhere(&self, site: &Site) -> Option<NodeId> {
        let leader = site.group()?.leader();
        leader.filter(|node| *node != self.shared.node)
    }

    fn answer_rows(&self, cluster: ClusterId, rows: Rows) -> PeekAnswer {
        let now = self.shared.host.clock.now();
        self.shared.kept.answer(cluster, rows, now)
    }

    fn answer_of_leader(&self, cluster: ClusterId, rows: Try<Rows>) -> PeekAnswer {
        match rows {
            Ok(rows) => self.answer_rows(cluster, rows),
            Err(Miss::Moved(leader)) => PeekAnswer::NotLeader { leader },
            Err(Miss::Sql(error)) => PeekAnswer::Failed(to_failure(error)),
        }
    }

    fn answer_of_replica(&self, cluster: ClusterId, response: PeekResponse) -> PeekAnswer {
        match response {
            PeekResponse::Rows(rows) => self.answer_rows(cluster, rows.rows),
            PeekResponse::Error(error) => PeekAnswer::Failed(to_failure(SqlError::from(error))),
            PeekResponse::Refused(refusal) => PeekAnswer::Refused(refusal),
        }
    }

    /// What this node knows as the leader.
    async fn tell(self: Arc<Self>, body: Bytes) -> Result<Bytes, Refused> {
        let ClusterInfoCall { cluster } =
            cluster::decode(CALL_BYTES_MAX, &body).map_err(malformed)?;
        let site = self.known_site(cluster);
        let lead = site.and_then(|site| site.leading());
        Ok(cluster::encode(&lead.map(|lead| lead.info())).into())
    }

    async fn tell_led(self: Arc<Self>, _: Bytes) -> Result<Bytes, Refused> {
        let led = self.led().into_iter().collect();
        Ok(cluster::encode(&ClustersLed { led }).into())
    }

    /// Rows that did not fit into an answer.
    async fn hand_out(self: Arc<Self>, body: Bytes, stream: Stream) {
        let call: RowsCall = match cluster::decode(CALL_BYTES_MAX, &body) {
            Ok(call) => call,
            Err(error) => return stream.refuse(malformed(error)),
        };
        // Nothing comes from the other side.
        let Stream { sender, receiver } = stream;
        drop(receiver);
        let sender = MessageSender::new(sender);
        if let Some(rows) = self.shared.kept.take(call.ticket)
            && let Err(error) = sender.send(&PeekRows { rows }).await
        {
            tracing::debug!(%error, "the rows of an answer were not taken");
        }
        sender.finish();
    }

    async fn feed_subscriber(self: Arc<Self>, body: Bytes, stream: Stream) {
        let call: SubscribeCall = match cluster::decode(CALL_BYTES_MAX, &body) {
            Ok(call) => call,
            Err(error) => return stream.refuse(malformed(error)),
        };
        let Stream {
            sender,
            mut receiver,
        } = stream;
        let sender = MessageSender::new(sender);
        let feed = self.feed(call, &sender);
        // The gateway says nothing; that it is gone is all there is to be read.
        tokio::select! {
            biased;
            _ = receiver.next() => return,
            end = feed => match end {
                Ok(()) => {}
                Err(miss) => {
                    let last = match miss {
                        Miss::Sql(error) => SubscribeMessage::Failed(to_failure(error)),
                        Miss::Moved(leader) => SubscribeMessage::NotLeader { leader },
                    };
                    // A gateway that is gone hears nothing.
                    let _ = sender.send(&last).await;
                }
            },
        }
        sender.finish();
    }

    /// Batches until the gateway is gone (`Ok`) or the subscription is over here.
    async fn feed(&self, call: SubscribeCall, sender: &MessageSender) -> Try<()> {
        let SubscribeCall {
            cluster,
            dataflow,
            catalog_version,
        } = call;
        let (_, lead) = self.lead_of(cluster).await?;
        let (mut batches, _until_done) = lead.subscribe(&dataflow, catalog_version).await?;
        drop(lead);
        if sender.send(&SubscribeMessage::Begun).await.is_err() {
            return Ok(());
        }
        while let Some(batch) = batches.next().await {
            if sender.send(&SubscribeMessage::Batch(batch?)).await.is_err() {
                return Ok(());
            }
        }
        Err(Miss::Moved(None))
    }

    /// A dataflow begins with what the tables hold at a time that the leader has seen, and this node may not have seen yet.
    async fn catch_up(&self, command: &Command) {
        if let Command::CreateDataflow { dataflow, .. } = command
            && let Some(as_of) = dataflow.as_of
            && let Err(error) = self.shared.env.wait_for_time(as_of).await
        {
            tracing::debug!(%error, "the tables do not come up to a dataflow's beginning");
        }
    }

    /// A leader comes to a replica of this node.
    async fn obey(self: Arc<Self>, body: Bytes, stream: Stream) {
        let call: ComputeCall = match cluster::decode(CALL_BYTES_MAX, &body) {
            Ok(call) => call,
            Err(error) => return stream.refuse(malformed(error)),
        };
        let ComputeCall {
            cluster,
            replica,
            epoch,
        } = call;
        let Stream { sender, receiver } = stream;
        let sender = MessageSender::new(sender);
        let site = self.known_site(cluster);
        let Some(hosted) = site.and_then(|site| site.hosted(replica)) else {
            let _ = sender.send(&ReplicaMessage::Unknown).await;
            return sender.finish();
        };
        let (responses, waiting) = mpsc::unbounded_channel();
        let backlog = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&backlog);
        let respond = move |response: Response| {
            let bytes = response_bytes(&response);
            // Beyond the limit the responses are lost, and with them the session: the writer sees the count.
            if counted.fetch_add(bytes, Ordering::Relaxed) <= RESPONSES_BYTES_MAX {
                let _ = responses.send((bytes, response));
            }
        };
        let (feed, batches) = Feed::new(FEED_BYTES_MAX);
        let respond = move |response: Response| match response {
            Response::Subscribe { epoch, id, batch } => {
                if let Some(failed) = feed.push(epoch, id, batch) {
                    respond(failed);
                }
            }
            Response::Inventory { .. }
            | Response::Frontiers { .. }
            | Response::DataflowFailed { .. } => respond(response),
        };
        let (session, replaced) = match hosted.attach(epoch, Arc::new(respond)) {
            Ok(attached) => attached,
            Err(NotAttached::Stale(epoch)) => {
                let _ = sender.send(&ReplicaMessage::Stale { epoch }).await;
                return sender.finish();
            }
            Err(NotAttached::Ended) => {
                let _ = sender.send(&ReplicaMessage::Unknown).await;
                return sender.finish();
            }
        };
        let number = session.number();
        let _kept = hosted.keep_feed(number, batches);
        let mut orders = MessageReceiver::new(receiver);
        let read = async {
            while let Some(Ok(numbered)) = orders.next::<Numbered>().await {
                self.catch_up(&numbered.command).await;
                if !session.send(numbered) {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            _ = replaced => {}
            () = read => {}
            () = write(&sender, number, waiting, &backlog) => {}
        }
    }

    /// A leader fetches the changes of its subscriptions, for as long as its session lasts.
    async fn feed_leader(self: Arc<Self>, body: Bytes, stream: Stream) {
        let call: FeedCall = match cluster::decode(CALL_BYTES_MAX, &body) {
            Ok(call) => call,
            Err(error) => return stream.refuse(malformed(error)),
        };
        let Stream {
            sender,
            mut receiver,
        } = stream;
        let sender = MessageSender::new(sender);
        let site = self.known_site(call.cluster);
        let hosted = site.and_then(|site| site.hosted(call.replica));
        let feed = async {
            let mut batches = hosted?.take_feed(call.session)?;
            while let Some(batch) = batches.next().await {
                sender.send(&ReplicaMessage::Response(batch)).await.ok()?;
            }
            Some(())
        };
        // The leader says nothing; that it is gone is all there is to be read.
        tokio::select! {
            biased;
            _ = receiver.next() => {}
            _ = feed => {}
        }
        sender.finish();
    }
}

/// What a response counts for while it waits.
fn response_bytes(response: &Response) -> usize {
    match response {
        Response::Subscribe { batch, .. } => batch.byte_len(),
        Response::Frontiers { frontiers, .. } => 64 + 24 * frontiers.len(),
        Response::Inventory { dataflows, .. } => 64 + 40 * dataflows.len(),
        Response::DataflowFailed { .. } => 256,
    }
}

/// Sends responses until the leader is gone or too slow.
async fn write(
    sender: &MessageSender,
    session: u64,
    mut waiting: mpsc::UnboundedReceiver<(usize, Response)>,
    backlog: &AtomicUsize,
) {
    let attached = ReplicaMessage::AttachedAs { session };
    if sender.send(&attached).await.is_err() {
        return;
    }
    while let Some((bytes, response)) = waiting.recv().await {
        let message = ReplicaMessage::Response(response);
        if sender.send(&message).await.is_err() {
            return;
        }
        if backlog.fetch_sub(bytes, Ordering::Relaxed) > RESPONSES_BYTES_MAX {
            tracing::warn!("a leader does not read what a replica says; its session ends");
            return;
        }
    }
}
