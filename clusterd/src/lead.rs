//! The CLUSTERs that this node leads: one driver task per controller, and the peek path beside it.
//!
//! [`controller::Controller`] decides, `driver` acts: it feeds events in, sends commands to replicas, proposes grants to the CLUSTER's own Raft group (`group`) and holds to ENV.
//! A peek passes none of that: it takes a hold and a route from shared tables and goes straight to the replicas' workers; the first answer that is rows or a definite error wins.

mod driver;
mod group;
mod queue;

use crate::adapter::error::{Result, SqlError};
use crate::env::Env;
use compute::ReplicaHandle;
use controller::{ExportFrontier, Hold, HoldError, HoldTable, Routes};
use driver::LeadEvent;
use host::Host;
use host::metrics::{Histogram, SECONDS_BUCKETS, histogram};
use parking_lot::{Mutex, RwLock};
use plan::{Dataflow, Mfp};
use protocol::{Peek, PeekId, PeekResponse, PeekTarget, Refusal};
pub use queue::SubscribeHandle;
use queue::SubscribeQueue;
use raft::{Election, Wal};
use repr::{ClusterId, Diff, GlobalId, ReplicaId, Row, Timestamp};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot, watch};

/// One read of one arrangement.
pub struct PeekRequest {
    pub export: GlobalId,
    pub keys: Option<Vec<Row>>,
    pub ts: Timestamp,
    pub mfp: Arc<Mfp>,
    pub limit: Option<u64>,
    pub bytes_max: u64,
    /// The catalog version the read was planned at: the controller must have seen it.
    pub catalog_version: u64,
}

/// A query that needs a dataflow of its own.
pub struct TransientQuery {
    /// The id that the dataflow and its export run under.
    pub id: GlobalId,
    pub dataflow: Arc<Dataflow>,
    pub ts: Timestamp,
    pub arity: usize,
    pub bytes_max: u64,
    pub catalog_version: u64,
}

/// All CLUSTERs of this node.
pub struct Clusters {
    leads: RwLock<BTreeMap<ClusterId, Arc<Lead>>>,
    /// Raised when a lead was started.
    started: watch::Sender<u64>,
    peek_ids: AtomicU64,
    peek_base: u64,
    peek_seconds: Histogram,
    shared: Shared,
}

/// What every lead is started with.
#[derive(Clone)]
struct Shared {
    env: Arc<Env>,
    host: Host,
    wal: Arc<Wal>,
    node: repr::NodeId,
    /// Directory below which each group keeps its snapshots.
    snapshots: PathBuf,
    election: Election,
}

/// One CLUSTER as the peek path sees it.
struct Lead {
    cluster: ClusterId,
    holds: Arc<HoldTable>,
    routes: Arc<Routes>,
    replicas: BTreeMap<ReplicaId, ReplicaHandle>,
    events: mpsc::UnboundedSender<LeadEvent>,
    /// Catalog version that the controller has acted on; raised after each step that may open exports or routes.
    seen: watch::Receiver<Seen>,
    frontiers: Arc<Mutex<BTreeMap<GlobalId, ExportFrontier>>>,
    group: group::ClusterGroup,
}

/// How far the controller has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub catalog_version: u64,
    /// Some replica knows all wishes.
    pub ready: bool,
}

impl Clusters {
    /// Starts the task that runs a lead for every CLUSTER of the catalog.
    pub fn start(
        env: Arc<Env>,
        host: Host,
        wal: Arc<Wal>,
        node: repr::NodeId,
        snapshots: PathBuf,
        election: Election,
    ) -> Arc<Clusters> {
        let peek_base = host.rng.next_u64();
        let spawn = Arc::clone(&host.spawn);
        let clusters = Arc::new(Clusters {
            leads: RwLock::default(),
            started: watch::Sender::new(0),
            peek_ids: AtomicU64::new(0),
            peek_base,
            peek_seconds: histogram(
                "clusterd_peek_seconds",
                "Time from sending a peek to its answer.",
                SECONDS_BUCKETS,
            ),
            shared: Shared {
                env,
                host,
                wal,
                node,
                snapshots,
                election,
            },
        });
        drop(spawn.spawn("clusters", Box::pin(Arc::clone(&clusters).follow_catalog())));
        clusters
    }

    async fn follow_catalog(self: Arc<Self>) {
        let mut applied = self.shared.env.storage().watch_applied();
        let mut version = None;
        loop {
            let state = self.shared.env.storage().view();
            let catalog = state.catalog();
            if version != Some(catalog.version) {
                version = Some(catalog.version);
                for cluster in catalog.clusters.values() {
                    if self.leads.read().contains_key(&cluster.id) {
                        continue;
                    }
                    match driver::start(&self.shared, cluster).await {
                        Ok(lead) => {
                            self.leads.write().insert(cluster.id, Arc::new(lead));
                            self.started.send_modify(|n| *n += 1);
                        }
                        Err(error) => {
                            tracing::error!(cluster = %cluster.name, %error, "a cluster cannot be led")
                        }
                    }
                }
            }
            if applied.changed().await.is_err() {
                return;
            }
        }
    }

    /// The lead of a CLUSTER; one that was just created is waited for.
    async fn lead(&self, cluster: ClusterId) -> Result<Arc<Lead>> {
        let mut started = self.started.subscribe();
        loop {
            if let Some(lead) = self.leads.read().get(&cluster) {
                return Ok(Arc::clone(lead));
            }
            if !self
                .shared
                .env
                .storage()
                .view()
                .catalog()
                .clusters
                .contains_key(&cluster)
            {
                return Err(SqlError::new(
                    "42704",
                    format!("cluster {cluster} does not exist"),
                ));
            }
            if started.changed().await.is_err() {
                return Err(SqlError::shutdown());
            }
        }
    }

    /// Reads an arrangement of a CLUSTER.
    pub async fn peek(&self, cluster: ClusterId, request: PeekRequest) -> Result<Vec<(Row, Diff)>> {
        let lead = self.lead(cluster).await?;
        lead.wait_for(request.catalog_version).await?;
        self.peek_lead(&lead, request).await
    }

    async fn peek_lead(&self, lead: &Lead, request: PeekRequest) -> Result<Vec<(Row, Diff)>> {
        let hold = lead.hold(request.export, request.ts)?;
        let timer = self.peek_seconds.start_timer();
        let id = PeekId(
            (u128::from(self.peek_base) << 64)
                | u128::from(self.peek_ids.fetch_add(1, Ordering::Relaxed)),
        );
        let answer = lead.ask(id, &request).await;
        timer.observe_duration();
        drop(hold);
        match answer? {
            PeekResponse::Rows(rows) => Ok(rows.rows),
            PeekResponse::Error(error) => Err(error.into()),
            PeekResponse::Refused(refusal) => Err(refused(refusal, &request)),
        }
    }

    /// Runs a query by a dataflow that lives as long as the query.
    pub async fn query(
        &self,
        cluster: ClusterId,
        query: TransientQuery,
    ) -> Result<Vec<(Row, Diff)>> {
        let TransientQuery {
            id: export,
            dataflow,
            ts,
            arity,
            bytes_max,
            catalog_version,
        } = query;
        let lead = self.lead(cluster).await?;
        lead.wait_for(catalog_version).await?;
        let mut dataflow = Dataflow::clone(&dataflow);
        dataflow.as_of = Some(ts);
        dataflow.until = Some(ts + 1);
        for e in &mut dataflow.exports {
            e.id = export;
        }
        let (failed, failure) = oneshot::channel();
        let transient = lead
            .create_transient(export, Arc::new(dataflow), driver::Owner::Query(failed))
            .await?;
        let request = PeekRequest {
            export,
            keys: None,
            ts,
            mfp: Arc::new(Mfp::identity(arity)),
            limit: None,
            bytes_max,
            catalog_version,
        };
        let answer = tokio::select! {
            biased;
            Ok(error) = failure => Err(error),
            answer = self.peek_lead(&lead, request) => answer,
        };
        drop(transient);
        answer
    }

    /// Starts a dataflow that sends its changes.
    pub async fn subscribe(
        &self,
        cluster: ClusterId,
        id: GlobalId,
        dataflow: Arc<Dataflow>,
        catalog_version: u64,
    ) -> Result<SubscribeHandle> {
        let lead = self.lead(cluster).await?;
        lead.wait_for(catalog_version).await?;
        let (sender, receiver) = SubscribeQueue::new();
        let transient = lead
            .create_transient(id, dataflow, driver::Owner::Subscribe(sender))
            .await?;
        Ok(SubscribeHandle::new(receiver, transient))
    }

    /// (since, upper) of an export, as last reported.
    pub fn frontiers(
        &self,
        cluster: ClusterId,
        export: GlobalId,
    ) -> (Option<Timestamp>, Option<Timestamp>) {
        let Some(lead) = self.leads.read().get(&cluster).cloned() else {
            return (None, None);
        };
        let reported = lead.frontiers.lock().get(&export).copied();
        (lead.holds.since(export), reported.and_then(|f| f.upper))
    }

    /// Who answers for a CLUSTER, for EXPLAIN TIMESTAMP.
    pub fn describe(&self, cluster: ClusterId) -> String {
        match self.leads.read().get(&cluster) {
            None => format!("cluster {cluster} has no leader here"),
            Some(lead) => {
                let replicas: Vec<_> = lead
                    .routes
                    .all()
                    .iter()
                    .map(|r| r.replica.to_string())
                    .collect();
                let (leader, term) = lead.group.leader();
                format!(
                    "cluster {}, leader node {leader}, term {term}, replicas {}",
                    lead.cluster,
                    replicas.join(", ")
                )
            }
        }
    }

    /// The exports of all CLUSTERs with their frontiers, for system relations.
    pub fn all_frontiers(&self) -> Vec<(ClusterId, GlobalId, ExportFrontier)> {
        let leads = self.leads.read();
        leads
            .iter()
            .flat_map(|(cluster, lead)| {
                lead.frontiers
                    .lock()
                    .iter()
                    .map(|(id, f)| (*cluster, *id, *f))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Stops the replicas' workers.
    pub fn shutdown(&self) {
        for lead in self.leads.read().values() {
            lead.replicas.values().for_each(ReplicaHandle::shutdown);
        }
    }
}

fn refused(refusal: Refusal, request: &PeekRequest) -> SqlError {
    match refusal {
        Refusal::HoldLost => {
            SqlError::forgotten(format!("timestamp {} has been compacted away", request.ts))
        }
        Refusal::UnknownId => SqlError::new(
            "57P03",
            format!("{} is not running on its cluster", request.export),
        )
        .hint(
            "It may have been stopped by an error or by its cluster's MEMORY LIMIT; see the log.",
        ),
        Refusal::Cancelled => SqlError::cancelled(),
        Refusal::Stopping => SqlError::shutdown(),
        Refusal::Busy => SqlError::new("53400", "too many reads wait for this cluster"),
        Refusal::StaleEpoch | Refusal::NotLeader => {
            SqlError::new("57P03", "the cluster's leader has changed").hint("Try again.")
        }
    }
}

impl Lead {
    fn is_ready(&self, version: u64) -> bool {
        let seen = *self.seen.borrow();
        seen.ready && seen.catalog_version >= version
    }

    /// Waits until the controller has acted on a catalog version and a replica can be asked.
    async fn wait_for(&self, version: u64) -> Result<()> {
        if self.is_ready(version) {
            return Ok(());
        }
        let mut seen = self.seen.clone();
        let reached = seen
            .wait_for(|seen| seen.ready && seen.catalog_version >= version)
            .await;
        reached.map(drop).map_err(|_| SqlError::shutdown())
    }

    fn hold(&self, export: GlobalId, ts: Timestamp) -> Result<Hold> {
        self.holds.acquire(export, ts).map_err(|error| match error {
            HoldError::Unknown { id } => {
                SqlError::new("57P03", format!("{id} is not running on its cluster"))
            }
            HoldError::Lost { since, ts, .. } => SqlError::forgotten(format!(
                "timestamp {ts} is not valid: history has been compacted up to {since}"
            ))
            .hint("Read AS OF a later time, or AS OF AT LEAST this one."),
        })
    }

    /// Asks every replica; rows or a definite error win, a refusal counts only when all refuse.
    async fn ask(&self, id: PeekId, request: &PeekRequest) -> Result<PeekResponse> {
        let routes = self.routes.all();
        if let [route] = routes.as_slice() {
            let (sender, receiver) = oneshot::channel();
            self.send(
                id,
                request,
                *route,
                Box::new(move |answer| drop(sender.send(answer))),
            )?;
            return receiver.await.map_err(|_| SqlError::shutdown());
        }
        let (sender, mut receiver) = mpsc::unbounded_channel();
        for route in &routes {
            let sender = sender.clone();
            self.send(
                id,
                request,
                *route,
                Box::new(move |answer| drop(sender.send(answer))),
            )?;
        }
        drop(sender);
        let mut refusal = None;
        while let Some(answer) = receiver.recv().await {
            match answer {
                PeekResponse::Refused(_) => refusal = Some(answer),
                PeekResponse::Rows(_) | PeekResponse::Error(_) => return Ok(answer),
            }
        }
        refusal
            .ok_or_else(|| SqlError::new("57P03", "the cluster has no replica that can be reached"))
    }

    fn send(
        &self,
        id: PeekId,
        request: &PeekRequest,
        route: controller::Route,
        reply: compute::Reply,
    ) -> Result<()> {
        let replica = self
            .replicas
            .get(&route.replica)
            .ok_or_else(|| SqlError::internal("a route to an unknown replica"))?;
        let peek = Peek {
            id,
            epoch: route.epoch,
            after: route.after,
            target: PeekTarget {
                id: request.export,
                keys: request.keys.clone(),
            },
            ts: request.ts,
            mfp: Arc::clone(&request.mfp),
            limit: request.limit,
            bytes_max: request.bytes_max,
        };
        replica.peek(peek, reply);
        Ok(())
    }

    async fn create_transient(
        &self,
        id: GlobalId,
        dataflow: Arc<Dataflow>,
        owner: driver::Owner,
    ) -> Result<Transient> {
        let (done, created) = oneshot::channel();
        let event = LeadEvent::Create {
            id,
            dataflow,
            owner,
            done,
        };
        self.events.send(event).map_err(|_| SqlError::shutdown())?;
        let transient = Transient {
            id,
            events: self.events.clone(),
        };
        created.await.map_err(|_| SqlError::shutdown())?;
        Ok(transient)
    }
}

/// A temporary dataflow; dropping this drops it.
pub(crate) struct Transient {
    id: GlobalId,
    events: mpsc::UnboundedSender<LeadEvent>,
}

impl Drop for Transient {
    fn drop(&mut self) {
        // A lead that has ended has no dataflows any more.
        let _ = self.events.send(LeadEvent::Drop { id: self.id });
    }
}
