//! What of one CLUSTER is on this node.

use super::gauges::Gauges;
use super::group::{self, ClusterGroup, Incarnation};
use super::lookup::Lead;
use super::member::{self, Member};
use super::rows::Blocks;
use super::{PeekRequest, Rows, Shared};
use crate::adapter::error::{Result, SqlError};
use crate::replica::{Hosted, Size};
use compute::ReplicaHandle;
use parking_lot::{Mutex, RwLock};
use protocol::cluster::ClusterInfo;
use protocol::{Epoch, Peek, PeekId, PeekResponse, PeekTarget};
use repr::{ClusterId, NodeId, ReplicaId};
use state::State;
use state::catalog::Cluster;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Pause before something is tried again that the machine refused: threads, files.
const RETRY: Duration = Duration::from_secs(1);
/// How long a new leader may take when leadership is given away.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);

/// Where the parts of a CLUSTER belong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub size: Size,
    pub replicas: BTreeMap<ReplicaId, NodeId>,
    pub group: Option<WantedGroup>,
}

/// Who is to be in the CLUSTER's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedGroup {
    pub incarnation: Incarnation,
    pub founders: BTreeSet<NodeId>,
    pub voters: BTreeSet<NodeId>,
}

impl Wanted {
    /// What S says. A CLUSTER that has not been placed runs on the node that is there, if there is only one.
    pub fn of(state: &State, cluster: &Cluster, me: NodeId) -> Wanted {
        let size = Size::of(cluster);
        let in_incarnation = |number| Incarnation {
            cluster: cluster.id,
            number,
        };
        if let Some(placement) = state.placements().get(&cluster.id) {
            let in_catalog = |id: &ReplicaId| cluster.replicas.contains(id);
            let replicas = placement.replicas.iter();
            let group = WantedGroup {
                incarnation: in_incarnation(placement.incarnation),
                founders: state.founders(cluster.id).cloned().unwrap_or_default(),
                voters: placement.voters.clone(),
            };
            return Wanted {
                size,
                replicas: replicas
                    .filter(|(id, _)| in_catalog(id))
                    .map(|(id, node)| (*id, *node))
                    .collect(),
                group: Some(group),
            };
        }
        let alone = state.nodes().keys().all(|node| *node == me) && me == state::state::FIRST_NODE;
        let here = |id: &ReplicaId| (*id, me);
        let only_me = BTreeSet::from([me]);
        Wanted {
            size,
            replicas: cluster
                .replicas
                .iter()
                // A node runs no two replicas of a CLUSTER: the others wait to be placed.
                .take(usize::from(alone))
                .map(here)
                .collect(),
            group: alone.then(|| WantedGroup {
                incarnation: in_incarnation(cluster.incarnation),
                founders: only_me.clone(),
                voters: only_me,
            }),
        }
    }
}

pub(crate) struct Site {
    pub cluster: ClusterId,
    pub name: SiteName,
    pub shared: Arc<Shared>,
    wanted: watch::Sender<Wanted>,
    /// The CLUSTER was dropped: whoever still waits is told so.
    dropped: watch::Sender<bool>,
    is_dropped: AtomicBool,
    /// The leadership that this node holds.
    pub lead: watch::Sender<Option<Arc<Lead>>>,
    hosted: RwLock<BTreeMap<ReplicaId, Arc<Hosted>>>,
    group: RwLock<Option<ClusterGroup>>,
    /// The leader as others have named it; 0: nobody has.
    hint: AtomicU64,
    pub blocks: Blocks,
    /// What the leader last said of the CLUSTER.
    pub said: Mutex<Option<ClusterInfo>>,
    gauges: Gauges,
}

/// What the CLUSTER is called now.
pub(crate) struct SiteName(RwLock<String>);

impl SiteName {
    pub fn set(&self, name: &str) {
        if *self.0.read() != name {
            name.clone_into(&mut self.0.write());
        }
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.read())
    }
}

/// What a statement hears whose CLUSTER goes while it runs.
pub(super) fn cluster_dropped(name: &SiteName) -> SqlError {
    SqlError::new("42704", format!("cluster \"{name}\" was dropped"))
        .hint("SHOW CLUSTERS lists the clusters; SET cluster = name chooses one.")
}

impl Site {
    pub fn start(shared: &Arc<Shared>, cluster: &Cluster, wanted: Wanted) -> Arc<Site> {
        let site = Arc::new(Site {
            cluster: cluster.id,
            name: SiteName(RwLock::new(cluster.name.clone())),
            shared: Arc::clone(shared),
            wanted: watch::Sender::new(wanted),
            dropped: watch::Sender::new(false),
            is_dropped: AtomicBool::new(false),
            lead: watch::Sender::new(None),
            hosted: RwLock::default(),
            group: RwLock::default(),
            hint: AtomicU64::new(0),
            blocks: Blocks::default(),
            said: Mutex::default(),
            gauges: Gauges::default(),
        });
        let run = Arc::clone(&site).run();
        drop(shared.host.spawn.spawn("cluster-site", Box::pin(run)));
        site
    }

    /// Tells where the parts belong now.
    pub fn want(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|old| {
            let changed = *old != wanted;
            *old = wanted;
            changed
        });
    }

    pub fn wanted(&self) -> watch::Receiver<Wanted> {
        self.wanted.subscribe()
    }

    /// The CLUSTER was dropped.
    pub fn end(&self) {
        self.is_dropped.store(true, Ordering::Release);
        self.dropped.send_replace(true);
    }

    pub fn is_dropped(&self) -> bool {
        self.is_dropped.load(Ordering::Acquire)
    }

    /// Resolves when the CLUSTER is dropped.
    pub async fn until_dropped(&self) {
        let mut dropped = self.dropped.subscribe();
        // The sender lives as long as this does.
        let _ = dropped.wait_for(|dropped| *dropped).await;
    }

    /// Why nobody answers here any more, if there is nothing to wait for.
    pub fn ended(&self) -> Option<SqlError> {
        match (self.is_dropped(), self.shared.is_stopping()) {
            (true, _) => Some(cluster_dropped(&self.name)),
            (false, true) => Some(SqlError::shutdown()),
            (false, false) => None,
        }
    }

    /// The lead, if it is here.
    pub fn leading(&self) -> Option<Arc<Lead>> {
        self.lead.borrow().as_ref().map(Arc::clone)
    }

    pub fn group(&self) -> Option<ClusterGroup> {
        self.group.read().clone()
    }

    pub fn group_term(&self) -> u64 {
        let group = self.group.read();
        group
            .as_ref()
            .map_or(0, |group| group.status().borrow().term)
    }

    pub(super) fn set_group(&self, group: Option<ClusterGroup>) {
        *self.group.write() = group;
    }

    /// Who leads, as far as known: by the group if this node is in it, else by what others said.
    pub fn known_leader(&self) -> Option<NodeId> {
        match &*self.group.read() {
            Some(group) => group.leader(),
            None => Some(NodeId(self.hint.load(Ordering::Relaxed))).filter(|node| node.0 != 0),
        }
    }

    pub fn set_hint(&self, leader: Option<NodeId>) {
        let node = leader.map_or(0, |node| node.0);
        self.hint.store(node, Ordering::Relaxed);
    }

    pub fn hosted(&self, replica: ReplicaId) -> Option<Arc<Hosted>> {
        self.hosted.read().get(&replica).map(Arc::clone)
    }

    pub fn all_hosted(&self) -> Vec<Arc<Hosted>> {
        self.hosted.read().values().map(Arc::clone).collect()
    }

    pub fn report(&self) {
        self.gauges.set(self);
    }

    /// Stops the workers of the replicas here.
    pub fn stop_replicas(&self) {
        for hosted in self.all_hosted() {
            hosted.stop();
        }
    }

    async fn run(self: Arc<Self>) {
        let mut wanted = self.wanted.subscribe();
        let mut member = None;
        // The group that this node has left. What is stored of it stays, and does not bring it back.
        let mut left = None;
        self.remove_earlier();
        while !self.is_dropped() {
            let now = wanted.borrow_and_update().clone();
            let done = self.host_replicas(&now).await
                && self.keep_membership(&now, &mut member, left).await;
            let is_voter = now
                .group
                .is_some_and(|g| g.voters.contains(&self.shared.node));
            tokio::select! {
                biased;
                () = self.until_dropped() => {}
                changed = wanted.changed() => if changed.is_err() { break },
                () = member::left(member.as_ref().filter(|_| !is_voter), &self.shared) => {
                    left = member.as_ref().map(Member::incarnation);
                    self.end_member(member.take()).await;
                }
                () = self.shared.host.clock.sleep(RETRY), if !done => {}
            }
        }
        self.finish(member).await;
    }

    /// From those who act for the CLUSTER to those whom they use; nothing of them stays on disk.
    async fn finish(&self, member: Option<Member>) {
        self.end_member(member).await;
        let replicas = std::mem::take(&mut *self.hosted.write());
        for hosted in replicas.into_values() {
            self.stop_hosted(hosted).await;
        }
        self.remove_groups(|_| true);
    }

    /// Starts and stops replicas; false if one could not be started.
    async fn host_replicas(&self, wanted: &Wanted) -> bool {
        let me = self.shared.node;
        let belongs = |id: &ReplicaId, hosted: &Hosted| {
            wanted.replicas.get(id) == Some(&me) && hosted.resize(wanted.size)
        };
        let gone: Vec<_> = self
            .hosted
            .write()
            .extract_if(.., |id, hosted| !belongs(id, hosted))
            .collect();
        for (replica, hosted) in gone {
            tracing::info!(cluster = %self.name, %replica, "a replica ends here");
            self.stop_hosted(hosted).await;
        }
        let mut all = true;
        for replica in wanted.replicas.iter().filter(|(_, node)| **node == me) {
            all &= self.host_replica(*replica.0, wanted.size);
        }
        all
    }

    fn host_replica(&self, replica: ReplicaId, size: Size) -> bool {
        if self.hosted(replica).is_some() {
            return true;
        }
        match Hosted::start(self.shared.env.storage(), &self.shared.host, size) {
            Ok(hosted) => {
                self.hosted.write().insert(replica, Arc::new(hosted));
                true
            }
            Err(error) => {
                tracing::error!(cluster = %self.name, %replica, error = format!("{error:#}"), "a replica cannot be started");
                false
            }
        }
    }

    async fn stop_hosted(&self, hosted: Arc<Hosted>) {
        let spawn = &self.shared.host.spawn;
        let stopped = spawn.spawn_blocking("replica-end", Box::new(move || hosted.stop()));
        if let Err(error) = stopped.join().await {
            tracing::error!(cluster = %self.name, %error, "the end of a replica");
        }
    }

    /// Joins or founds the group, or goes over to a later incarnation of it; false if that has to be tried again.
    async fn keep_membership(
        self: &Arc<Self>,
        wanted: &Wanted,
        member: &mut Option<Member>,
        left: Option<Incarnation>,
    ) -> bool {
        let current = wanted.group.as_ref().map(|group| group.incarnation);
        let here = member.as_ref().map(Member::incarnation);
        if here.is_some() && here != current {
            self.end_member(member.take()).await;
            self.remove_groups(|group| Some(group) != current);
        }
        let Some(group) = &wanted.group else {
            return true;
        };
        let is_voter = group.voters.contains(&self.shared.node);
        let has_left = left == Some(group.incarnation);
        let may_vote = || !has_left && self.is_stored(group.incarnation);
        if member.is_none() && (is_voter || may_vote()) {
            match Member::start(self, group).await {
                Ok(started) => *member = Some(started),
                Err(error) => {
                    tracing::error!(cluster = %self.name, %error, "this node cannot be a member of a cluster's group");
                    return false;
                }
            }
        }
        true
    }

    async fn end_member(&self, member: Option<Member>) {
        if let Some(member) = member {
            member.end(self).await;
        }
    }

    fn is_stored(&self, incarnation: Incarnation) -> bool {
        let Shared {
            host,
            wal,
            snapshots,
            ..
        } = &*self.shared;
        group::stored(host, wal, snapshots).contains(&incarnation)
    }

    /// What the node still has of incarnations before the one that is wanted.
    fn remove_earlier(&self) {
        let current = self.wanted.borrow().group.as_ref().map(|g| g.incarnation);
        if let Some(current) = current {
            self.remove_groups(|group| group.number < current.number);
        }
    }

    fn remove_groups(&self, which: impl Fn(Incarnation) -> bool) {
        let Shared {
            host,
            wal,
            snapshots,
            ..
        } = &*self.shared;
        group::stored(host, wal, snapshots)
            .into_iter()
            .filter(|group| group.cluster == self.cluster && which(*group))
            .for_each(|group| member::remove(&self.shared, group));
    }

    /// Whether the group has the voters that it is to have, at least so many, if this node is to be one of them.
    pub fn is_formed(&self, voters_min: usize) -> bool {
        let wanted = self.wanted.borrow();
        let Some(wanted) = &wanted.group else {
            return false;
        };
        if wanted.voters.len() < voters_min {
            return false;
        }
        let group = self.group.read();
        match &*group {
            _ if !wanted.voters.contains(&self.shared.node) => true,
            Some(group) => {
                group.incarnation() == wanted.incarnation && group.is_led_by_all(&wanted.voters)
            }
            None => false,
        }
    }

    /// Whether this node leads and another could.
    pub fn may_hand_over(&self) -> bool {
        let group = self.group.read();
        let status = group.as_ref().map(|group| group.status());
        status.is_some_and(|status| {
            let status = status.borrow();
            status.is_leader && status.voters.len() > 1
        })
    }

    /// The other voters, if this node leads: who has most of the log comes first.
    pub fn heirs(&self) -> Vec<NodeId> {
        let group = self.group.read();
        group.as_ref().map(ClusterGroup::heirs).unwrap_or_default()
    }

    /// Gives leadership away, if it is here, and waits until somebody else has it.
    pub async fn hand_over(&self) {
        if let Some(heir) = self.heirs().first() {
            self.hand_over_to(*heir).await;
        }
    }

    /// The same, to this one.
    pub async fn hand_over_to(&self, heir: NodeId) {
        let Some(group) = self.group() else { return };
        let mut status = group.status();
        if !status.borrow().is_leader {
            return;
        }
        if let Err(error) = group.transfer_to(heir).await {
            tracing::warn!(cluster = %self.name, %error, "leadership was not given away");
            return;
        }
        let led = status.wait_for(|status| !status.is_leader && status.leader.is_some());
        tokio::select! {
            biased;
            _ = led => {}
            () = self.shared.host.clock.sleep(HAND_OVER_WITHIN) => {
                tracing::warn!(cluster = %self.name, %heir, "nobody took the leadership over in time");
            }
        }
    }

    /// Reads from a replica here, past the leader. `None`: none that is here can answer.
    ///
    /// The replica checks by itself that it has the time asked for, whoever asks; that it has the plan asked for, its session knows.
    pub async fn peek_here(&self, request: &PeekRequest) -> Option<Result<Rows>> {
        let knows = |hosted: &Arc<Hosted>| {
            let (epoch, after) = hosted.route(request.export, request.plan_hash)?;
            Some((hosted.handle.clone(), epoch, after))
        };
        let (handle, epoch, after) = self.hosted.read().values().find_map(knows)?;
        let id = self.shared.peek_id();
        match peek_replica(&handle, peek(id, epoch, after, request)).await {
            PeekResponse::Rows(rows) => Some(Ok(rows.rows)),
            PeekResponse::Error(error) => Some(Err(error.into())),
            PeekResponse::Refused(_) => None,
        }
    }
}

/// The request as a replica takes it.
pub(super) fn peek(id: PeekId, epoch: Epoch, after: u64, request: &PeekRequest) -> Peek {
    let PeekRequest {
        export,
        plan_hash: _,
        keys,
        ts,
        mfp,
        limit,
        bytes_max,
        catalog_version: _,
        relaxed: _,
    } = request;
    Peek {
        id,
        epoch,
        after,
        target: PeekTarget {
            id: *export,
            keys: keys.clone(),
        },
        ts: *ts,
        mfp: Arc::clone(mfp),
        limit: *limit,
        bytes_max: *bytes_max,
    }
}

/// Taken back unless it was answered.
struct Unanswered<'a> {
    handle: Option<&'a ReplicaHandle>,
    id: PeekId,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle {
            handle.forget_peek(self.id);
        }
    }
}

/// Asks a replica here for a reader that has no hold on a leader's table. Dropping this takes the read back.
pub(super) async fn peek_replica(handle: &ReplicaHandle, peek: Peek) -> PeekResponse {
    let (sender, receiver) = oneshot::channel();
    let mut unanswered = Unanswered {
        handle: Some(handle),
        id: peek.id,
    };
    handle.peek(peek, Box::new(move |answer| drop(sender.send(answer))));
    let answer = receiver.await;
    unanswered.handle = None;
    // A peek is always answered; a worker that ends refuses it.
    answer.unwrap_or(PeekResponse::Refused(protocol::Refusal::Stopping))
}
