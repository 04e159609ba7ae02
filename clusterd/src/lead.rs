//! The CLUSTERs that this node leads: one driver task per controller, and the peek path beside it.
//!
//! [`controller::Controller`] decides, `driver` acts: it feeds events in, sends commands to replicas, proposes grants to the CLUSTER's own Raft group (`group`) and holds to ENV.
//! A peek passes none of that: it takes a hold and a route from shared tables and goes straight to the replicas' workers; the first answer that is rows or a definite error wins.

mod driver;
mod ended;
mod gauges;
mod group;
mod peeks;
mod queue;

use crate::adapter::error::{Result, SqlError};
use crate::env::Env;
use compute::ReplicaHandle;
use controller::{ExportFrontier, HoldTable, Routes};
use driver::LeadEvent;
use gauges::Gauges;
use host::metrics::{Histogram, SECONDS_BUCKETS, histogram};
use host::{Host, TaskHandle};
use parking_lot::{Mutex, RwLock};
pub use peeks::PeekRequest;
use plan::{Dataflow, EvalError, Mfp};
pub use queue::SubscribeHandle;
use queue::SubscribeQueue;
use raft::{Election, Wal};
use repr::{ClusterId, Diff, GlobalId, ReplicaId, Row, Timestamp};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// SQLSTATE of a read of what is not there to be read at the moment.
const NOT_RUNNING: &str = "57P03";
/// How long a query waits for the reason why its dataflow was given up.
const REASON_WAIT: Duration = Duration::from_secs(1);

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
    /// Raised when the leads are those of a newer catalog.
    followed: watch::Sender<u64>,
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
    name: String,
    /// The CLUSTER was dropped: whoever still waits is told so.
    dropped: AtomicBool,
    holds: Arc<HoldTable>,
    routes: Arc<Routes>,
    replicas: BTreeMap<ReplicaId, ReplicaHandle>,
    tasks: Mutex<Tasks>,
    events: mpsc::UnboundedSender<LeadEvent>,
    /// Catalog version that the controller has acted on; raised after each step that may open exports or routes.
    seen: watch::Receiver<Seen>,
    frontiers: Arc<Mutex<BTreeMap<GlobalId, ExportFrontier>>>,
    failures: Failures,
    group: group::ClusterGroup,
    gauges: Gauges,
}

/// Why the catalog's dataflows do not run that no replica could run.
type Failures = Arc<Mutex<BTreeMap<GlobalId, EvalError>>>;

/// What runs for a lead until its CLUSTER is dropped.
#[derive(Default)]
struct Tasks {
    driver: Option<TaskHandle>,
    feeds: Vec<TaskHandle>,
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
            followed: watch::Sender::new(0),
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
        let storage = self.shared.env.storage();
        let (_, mut catalog_changes) = storage.listen_for(|changes| changes.catalog_changed);
        self.remove_dropped();
        let mut version = None;
        loop {
            let state = self.shared.env.storage().view();
            let catalog = state.catalog();
            if version != Some(catalog.version) {
                version = Some(catalog.version);
                self.end_dropped(catalog);
                for cluster in catalog.clusters.values() {
                    if self.leads.read().contains_key(&cluster.id) {
                        continue;
                    }
                    match driver::start(&self.shared, cluster).await {
                        Ok(lead) => {
                            self.leads.write().insert(cluster.id, Arc::new(lead));
                        }
                        Err(error) => {
                            tracing::error!(cluster = %cluster.name, %error, "a cluster cannot be led")
                        }
                    }
                }
                self.followed.send_modify(|n| *n += 1);
            }
            // The rows of this state must not be kept until the catalog changes again.
            drop(state);
            catalog_changes.wait().await;
            drop(catalog_changes.drain());
        }
    }

    /// The lead of a CLUSTER; one that was just created is waited for.
    async fn lead(&self, cluster: ClusterId) -> Result<Arc<Lead>> {
        let known = || self.leads.read().get(&cluster).map(Arc::clone);
        if let Some(lead) = known() {
            return Ok(lead);
        }
        let mut followed = self.followed.subscribe();
        loop {
            if let Some(lead) = known() {
                return Ok(lead);
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
            if followed.changed().await.is_err() {
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
        let (failed, mut failure) = oneshot::channel();
        let _until_answered = lead
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
        let refused = tokio::select! {
            biased;
            Ok(error) = &mut failure => return Err(error),
            answer = self.peek_lead(&lead, request) => match answer {
                Err(error) if error.sqlstate == NOT_RUNNING => error,
                answer => return answer,
            },
        };
        // The worker that could not build the dataflow refuses its peek at once; why comes by way of the controller.
        tokio::select! {
            biased;
            Ok(error) = failure => Err(error),
            () = self.shared.host.clock.sleep(REASON_WAIT) => Err(refused),
        }
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

    /// Sets the gauges of each CLUSTER to what is the case now.
    pub fn report(&self) {
        for lead in self.leads.read().values() {
            lead.gauges.set(lead);
        }
    }

    /// Stops the replicas' workers.
    pub fn shutdown(&self) {
        for lead in self.leads.read().values() {
            lead.replicas.values().for_each(ReplicaHandle::shutdown);
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
        reached.map(drop).map_err(|_| self.ended())
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
        self.events.send(event).map_err(|_| self.ended())?;
        let transient = Transient {
            id,
            events: self.events.clone(),
        };
        created.await.map_err(|_| self.ended())?;
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
