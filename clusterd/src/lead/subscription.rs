//! A subscription as its gateway sees it: batches follow each other, whoever computes them.

use super::gateway::{Leader, Search};
use super::lookup::Transient;
use super::miss::{Miss, Try, from_failure};
use super::queue::Receiver;
use super::site::Site;
use super::wire::MessageReceiver;
use crate::adapter::error::{Result, SqlError};
use controller::Resume;
use host::TaskHandle;
use mesh::Message;
use plan::Dataflow;
use plan::lir::ExportKind;
use protocol::cluster::{self, SubscribeCall, SubscribeMessage};
use protocol::{Kind, Lane, SubscribeBatch};
use repr::{NodeId, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Batches taken from another node that wait for the client; then the stream has to.
const WAITING_MAX: usize = 16;
const OPEN_WITHIN: Duration = Duration::from_secs(2);

/// A running subscription. Dropping it ends its dataflow.
pub struct SubscribeHandle {
    site: Arc<Site>,
    dataflow: Dataflow,
    catalog_version: u64,
    seen: Resume,
    source: Option<Source>,
}

/// Where the batches come from at the moment.
enum Source {
    Here {
        batches: Receiver,
        _transient: Transient,
    },
    Elsewhere {
        batches: mpsc::Receiver<Try<SubscribeBatch>>,
        _pump: Pump,
    },
}

/// Takes the batches from a stream.
struct Pump(TaskHandle);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SubscribeHandle {
    pub(super) async fn begin(
        site: Arc<Site>,
        dataflow: Dataflow,
        catalog_version: u64,
    ) -> Result<SubscribeHandle> {
        let mut handle = SubscribeHandle {
            seen: Resume::new(dataflow.as_of.unwrap_or(0)),
            site,
            dataflow,
            catalog_version,
            source: None,
        };
        handle.source = Some(handle.attach().await?);
        Ok(handle)
    }

    /// The next batch; `None` when the node stops. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Result<SubscribeBatch>> {
        loop {
            if self.source.is_none() {
                match self.attach().await {
                    Ok(source) => self.source = Some(source),
                    Err(_) if self.site.shared.is_stopping() => return None,
                    Err(error) => return Some(Err(error)),
                }
            }
            let next = match &mut self.source {
                Some(source) => source.next().await,
                None => None,
            };
            match next {
                Some(Ok(batch)) => {
                    if let Some(batch) = self.seen.accept(batch) {
                        return Some(Ok(batch));
                    }
                }
                Some(Err(Miss::Sql(error))) => return Some(Err(error)),
                // The next leader goes on from what has been seen.
                Some(Err(Miss::Moved(_))) | None => self.source = None,
            }
        }
    }

    /// What another leader would have to read from, to go on after the last batch.
    pub fn needed_from(&self) -> Timestamp {
        self.seen.needed_from()
    }

    /// Whether nothing waits.
    pub fn is_idle(&self) -> bool {
        match &self.source {
            Some(Source::Here { batches, .. }) => batches.is_idle(),
            Some(Source::Elsewhere { batches, .. }) => batches.is_empty(),
            None => true,
        }
    }

    /// The dataflow for what has not been seen.
    fn rest(&self) -> Dataflow {
        let mut dataflow = self.dataflow.clone();
        dataflow.as_of = Some(self.seen.needed_from());
        for export in &mut dataflow.exports {
            if let ExportKind::Subscribe { with_snapshot, .. } = &mut export.kind {
                *with_snapshot &= self.seen.wants_snapshot();
            }
        }
        dataflow
    }

    /// Has the leader begin.
    async fn attach(&self) -> Result<Source> {
        let site = &*self.site;
        let rest = self.rest();
        let mut search = Search::new(site);
        loop {
            let (asked, begun) = match search.next().await? {
                Leader::Here(lead) => {
                    let begun = lead.subscribe(&rest, self.catalog_version).await;
                    let source = begun.map(|(batches, _transient)| Source::Here {
                        batches,
                        _transient,
                    });
                    (None, source)
                }
                Leader::At(node) => (Some(node), self.open(node, &rest).await),
            };
            match begun {
                Ok(source) => {
                    search.found(asked);
                    return Ok(source);
                }
                Err(Miss::Sql(error)) => return Err(error),
                Err(Miss::Moved(named)) => search.missed(asked, named),
            }
        }
    }

    /// Opens the stream to a node that should lead. That it does is seen by its first message.
    async fn open(&self, node: NodeId, rest: &Dataflow) -> Try<Source> {
        let call = SubscribeCall {
            cluster: self.site.cluster,
            dataflow: Arc::new(rest.clone()),
            catalog_version: self.catalog_version,
        };
        let message = Message::new(Lane::Bulk, Kind::SUBSCRIBE, cluster::encode(&call));
        let shared = &self.site.shared;
        let stream = shared.transport.open(node, message, OPEN_WITHIN).await;
        let stream = stream.map_err(|error| match error {
            mesh::CallError::TooLong { .. } => Miss::Sql(SqlError::new("54000", error.to_string())),
            _ => Miss::Moved(None),
        })?;
        let mut messages = MessageReceiver::new(stream.receiver);
        if read(&mut messages).await?.is_some() {
            tracing::warn!(%node, "a subscription whose changes came before its beginning");
            return Err(Miss::Moved(None));
        }
        let (sender, batches) = mpsc::channel(WAITING_MAX);
        // The other side ends when nobody can write to it any more.
        let hold = stream.sender;
        let pump = async move {
            let _hold = hold;
            loop {
                let batch = match read(&mut messages).await {
                    Ok(None) => continue,
                    Ok(Some(batch)) => Ok(batch),
                    Err(miss) => Err(miss),
                };
                let is_end = batch.is_err();
                if sender.send(batch).await.is_err() || is_end {
                    return;
                }
            }
        };
        let pump = shared.host.spawn.spawn("subscribe-pump", Box::pin(pump));
        Ok(Source::Elsewhere {
            batches,
            _pump: Pump(pump),
        })
    }
}

/// The next message of the leader; `None`: it has begun.
async fn read(messages: &mut MessageReceiver) -> Try<Option<SubscribeBatch>> {
    match messages.next().await {
        Some(Ok(SubscribeMessage::Begun)) => Ok(None),
        Some(Ok(SubscribeMessage::Batch(batch))) => Ok(Some(batch)),
        Some(Ok(SubscribeMessage::Failed(failure))) => Err(Miss::Sql(from_failure(failure))),
        Some(Ok(SubscribeMessage::NotLeader { leader })) => Err(Miss::Moved(leader)),
        Some(Err(error)) => {
            tracing::debug!(%error, "the stream of a subscription was lost");
            Err(Miss::Moved(None))
        }
        None => Err(Miss::Moved(None)),
    }
}

impl Source {
    async fn next(&mut self) -> Option<Try<SubscribeBatch>> {
        match self {
            Source::Here { batches, .. } => batches.next().await,
            Source::Elsewhere { batches, .. } => batches.recv().await,
        }
    }
}
