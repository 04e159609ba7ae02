//! The CLUSTERs as one node sees them: what of each runs here, and the way to the leader of each.
//!
//! For every CLUSTER of the catalog a node has a `site`, with three parts that live apart:
//! * *replicas* placed here ([`crate::replica`]): they obey whichever leader comes with the highest epoch, and go on when leaders change;
//! * a *membership* in the CLUSTER's Raft group (`member`, `group`), if the node is one of its voters;
//! * while the group's leader is here, a *lead*: `driver` feeds [`controller::Controller`] with events and carries out what it decides, `link` keeps the way to each
//!   replica, here or elsewhere, `lookup` answers reads.
//!
//! The life of a read: `gateway` asks the lead if it is here, else the replica that is here, else the leader wherever it is (`serve` answers there), and asks again, at
//! the same timestamp, when leaders change or die. What is read at a timestamp is the same whoever answers, so asking twice is safe. A read passes no event loop: a hold, a
//! route and the worker's queue are all it touches.
//!
//! The life of a subscription: `subscription` has the leader create it and takes its batches; when the leader goes it begins anew at the next one, at the last progress.
//!
//! No CLUSTER waits for another: each site has tasks of its own.

mod driver;
mod gateway;
mod gauges;
mod group;
mod info;
mod kept;
mod link;
mod lookup;
mod member;
mod miss;
mod present;
mod queue;
mod rows;
mod serve;
mod site;
mod subscription;
mod wire;

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "tests have deadlines of their own"
)]
mod tests;

use crate::adapter::error::{Result, SqlError};
use crate::env::Env;
use crate::node::{Groups, MeshPeers};
use group::Incarnation;
use host::metrics::{Histogram, IntCounter, SECONDS_BUCKETS, counter, histogram};
use host::{Host, Instant};
pub use info::{GroupInfo, describe, frontiers_of};
use kept::KeptRows;
use mesh::Transport;
use parking_lot::{Mutex, RwLock};
use plan::{Dataflow, Mfp};
use protocol::PeekId;
use raft::{Election, Wal};
use repr::{ClusterId, Diff, GlobalId, NodeId, Row, Timestamp};
use site::{Site, Wanted};
use state::{Catalog, Node, NodeStatus};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
pub use subscription::SubscribeHandle;
use tokio::sync::watch;

/// How long a node that starts waits for its groups to have their members.
const FORMED_WITHIN: Duration = Duration::from_secs(10);

/// What a read finds.
pub(crate) type Rows = Vec<(Row, Diff)>;

/// One read of one arrangement.
#[derive(Clone)]
pub struct PeekRequest {
    pub export: GlobalId,
    /// Of the dataflow that exports it, as the catalog has it that the read was planned with.
    pub plan_hash: u64,
    pub keys: Option<Vec<Row>>,
    pub ts: Timestamp,
    pub mfp: Arc<Mfp>,
    pub limit: Option<u64>,
    pub bytes_max: u64,
    /// The catalog version the read was planned at: the controller must have seen it.
    pub catalog_version: u64,
    /// It was asked for what can be had without leaders (`serializable`): any replica may answer, and nobody is waited for.
    pub relaxed: bool,
}

/// A query that needs a dataflow of its own.
#[derive(Clone)]
pub struct TransientQuery {
    pub dataflow: Arc<Dataflow>,
    pub ts: Timestamp,
    pub arity: usize,
    pub bytes_max: u64,
    pub catalog_version: u64,
    /// As [`PeekRequest::relaxed`]: a leader that cannot be reached is not waited for.
    pub relaxed: bool,
}

/// All CLUSTERs.
pub struct Clusters {
    sites: RwLock<BTreeMap<ClusterId, Arc<Site>>>,
    /// Raised when the sites are those of a newer catalog.
    followed: watch::Sender<u64>,
    /// When this node started; forgotten once its groups had their members, see [`Clusters::are_formed`].
    forming: Mutex<Option<Instant>>,
    shared: Arc<Shared>,
}

/// What every site is started with.
pub(crate) struct Shared {
    env: Arc<Env>,
    host: Host,
    wal: Arc<Wal>,
    node: NodeId,
    /// Directory below which each group keeps its snapshots.
    snapshots: PathBuf,
    election: Election,
    transport: Arc<dyn Transport>,
    groups: Arc<Groups>,
    peers: Arc<dyn raft::Peers>,
    /// The node stops: whoever waits is told so.
    stopping: AtomicBool,
    peek_ids: AtomicU64,
    peek_base: u64,
    peek_seconds: Histogram,
    created: IntCounter,
    takeovers: IntCounter,
    kept: KeptRows,
    /// ENV's leader answered when it was last asked.
    sees_env: AtomicBool,
}

/// What the CLUSTERs need of the node that they run on.
pub struct Foundation {
    pub env: Arc<Env>,
    pub host: Host,
    pub wal: Arc<Wal>,
    /// Directory below which each group keeps its snapshots.
    pub snapshots: PathBuf,
    pub election: Election,
    pub transport: Arc<dyn Transport>,
    pub groups: Arc<Groups>,
}

impl Shared {
    fn new(foundation: Foundation) -> Arc<Shared> {
        let Foundation {
            env,
            host,
            wal,
            snapshots,
            election,
            transport,
            groups,
        } = foundation;
        Arc::new(Shared {
            node: transport.node(),
            peers: MeshPeers::new(Arc::clone(&transport)),
            stopping: AtomicBool::new(false),
            peek_ids: AtomicU64::new(0),
            peek_base: host.rng.next_u64(),
            peek_seconds: histogram(
                "clusterd_peek_seconds",
                "Time from sending a peek to its answer.",
                SECONDS_BUCKETS,
            ),
            created: counter(
                "clusterd_controller_dataflows_created_total",
                "Dataflows that replicas were told to build because they did not have them.",
            ),
            takeovers: counter(
                "clusterd_cluster_takeovers_total",
                "How often this node became the leader of a CLUSTER.",
            ),
            kept: KeptRows::default(),
            sees_env: AtomicBool::new(true),
            env,
            host,
            wal,
            snapshots,
            election,
            transport,
            groups,
        })
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn peek_id(&self) -> PeekId {
        let number = self.peek_ids.fetch_add(1, Ordering::Relaxed);
        PeekId((u128::from(self.peek_base) << 64) | u128::from(number))
    }
}

impl Clusters {
    /// Starts the task that keeps a site for every CLUSTER of the catalog, and serves the other nodes.
    pub fn start(foundation: Foundation) -> Arc<Clusters> {
        let shared = Shared::new(foundation);
        let spawn = Arc::clone(&shared.host.spawn);
        let clusters = Arc::new(Clusters {
            sites: RwLock::default(),
            followed: watch::Sender::new(0),
            forming: Mutex::new(Some(shared.host.clock.now())),
            shared,
        });
        serve::serve(&clusters);
        drop(spawn.spawn("clusters", Box::pin(Arc::clone(&clusters).follow())));
        let watch = Arc::clone(&clusters).watch_env();
        drop(spawn.spawn("clusters-env", Box::pin(watch)));
        clusters
    }

    /// Keeps the sites those of the catalog, and tells each where its parts belong.
    async fn follow(self: Arc<Self>) {
        let storage = self.shared.env.storage();
        let concerned = |changes: &state::Changes| changes.catalog_changed || changes.nodes_changed;
        let (_, mut changes) = storage.listen_for(concerned);
        self.remove_dropped();
        loop {
            let state = storage.view();
            self.end_dropped(state.catalog());
            for cluster in state.catalog().clusters.values() {
                let wanted = Wanted::of(&state, cluster, self.shared.node);
                let known = self.sites.read().get(&cluster.id).cloned();
                match known {
                    Some(site) => {
                        site.name.set(&cluster.name);
                        site.want(wanted);
                    }
                    None => {
                        let site = Site::start(&self.shared, cluster, wanted);
                        self.sites.write().insert(cluster.id, site);
                    }
                }
            }
            self.followed.send_modify(|n| *n += 1);
            // The rows of this state must not be kept until the catalog changes again.
            drop(state);
            changes.wait().await;
            drop(changes.drain());
        }
    }

    /// Ends the sites of CLUSTERs that a catalog does not have any more.
    fn end_dropped(&self, catalog: &Catalog) {
        let mut sites = self.sites.write();
        let dropped = sites.extract_if(.., |id, _| !catalog.clusters.contains_key(id));
        for (_, site) in dropped {
            tracing::info!(cluster = %site.name, "a cluster was dropped");
            site.end();
        }
    }

    /// Removes the groups of CLUSTERs that were dropped before this start. The catalog must hold everything that was acknowledged.
    fn remove_dropped(&self) {
        let state = self.shared.env.storage().view();
        let catalog = state.catalog();
        // An id that the catalog has yet to give away may be that of a CLUSTER to come.
        let is_dropped = |group: &Incarnation| {
            let id = group.cluster;
            id.0 != 0 && id.0 < catalog.next_id && !catalog.clusters.contains_key(&id)
        };
        let shared = &self.shared;
        group::stored(&shared.host, &shared.wal, &shared.snapshots)
            .into_iter()
            .filter(is_dropped)
            .for_each(|group| member::remove(shared, group));
    }

    /// The site of a CLUSTER; one that was just created is waited for.
    async fn site(&self, cluster: ClusterId) -> Result<Arc<Site>> {
        let known = || self.sites.read().get(&cluster).map(Arc::clone);
        if let Some(site) = known() {
            return Ok(site);
        }
        let mut followed = self.followed.subscribe();
        loop {
            if let Some(site) = known() {
                return Ok(site);
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

    /// The site, if there is one now.
    fn known_site(&self, cluster: ClusterId) -> Option<Arc<Site>> {
        self.sites.read().get(&cluster).map(Arc::clone)
    }

    fn all_sites(&self) -> Vec<Arc<Site>> {
        self.sites.read().values().map(Arc::clone).collect()
    }

    /// Whether the groups that this node votes in have had the voters that they are to have, since it started. Before that, the loss of one node may be the loss of a group.
    ///
    /// A node is not kept waiting for ever: its groups may lack a majority, and it serves what it can.
    pub fn are_formed(&self) -> bool {
        let mut forming = self.forming.lock();
        let Some(began) = *forming else { return true };
        let sites = self.all_sites();
        let state = self.shared.env.storage().view();
        let active = |node: &&Arc<Node>| node.status == NodeStatus::Active;
        let active = state.nodes().values().filter(active).count();
        // Those that have been admitted and have yet to start will vote, too.
        let voters_min = controller::placement::voters_among(active);
        let formed = !sites.is_empty() && sites.iter().all(|site| site.is_formed(voters_min));
        let waited = self.shared.host.clock.now().since(began);
        if formed || waited >= FORMED_WITHIN {
            *forming = None;
        }
        forming.is_none()
    }

    /// Sets the gauges of each CLUSTER to what is the case now.
    pub fn report(&self) {
        for site in self.all_sites() {
            site.report();
        }
    }

    /// Gives the leaderships of this node to other voters and waits until they have them, or a while.
    pub async fn hand_over(&self) {
        let sites = self.all_sites().into_iter();
        let all = sites.map(|site| async move { site.hand_over().await });
        futures::future::join_all(all).await;
    }

    /// Stops the replicas' workers.
    pub fn shutdown(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        for site in self.all_sites() {
            site.stop_replicas();
        }
    }
}
