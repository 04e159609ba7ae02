//! This node's membership in one group.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::marker::PhantomData;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use host::metrics::{IntCounter, IntGauge, counter_vec, gauge_vec};
use host::{BoxFuture, Host, Instant};
use openraft::async_runtime::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::{
    ClientWriteError, Fatal, ForwardToLeader, InitializeError, LinearizableReadError, RaftError,
};
use openraft::{Raft, ReadPolicy, ServerState};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};

use crate::error::{GroupError, ProposeError, ReadError};
use crate::hearing::Hearing;
use crate::machine::{Machine, Shared, StateMachine};
use crate::network::{Network, Server};
use crate::peers::{PeerError, Peers, Responder, RpcKind};
use crate::readers::{Confirmer, Readers, Witness};
use crate::snapshot::SnapshotDir;
use crate::store::GroupStore;
use crate::types::{Member, Payload, Response, Types, log_pos};
use crate::wal::{LogPos, Wal};
use crate::{FatalHook, GroupConfig, GroupId, runtime};

/// Unit of the limit on proposals in flight.
const PERMIT_BYTES: usize = 1024;
/// Share of the time that snapshots to relieve a full disk may take: one part in this many.
const LOW_DISK_SHARE: u32 = 20;
/// Pause between attempts while the group has no leader.
const LEADER_RETRY: Duration = Duration::from_millis(2);

/// Who leads a group, and who is in it, as this node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// The highest term seen.
    pub term: u64,
    /// The leader of that term, once known.
    pub leader: Option<u64>,
    /// True while this node is the leader, for all it knows. Reads need more: [`RaftGroup::read_index`].
    pub is_leader: bool,
    /// Nodes whose votes count.
    pub voters: BTreeSet<u64>,
    /// A change of the voters has begun and is not finished: both the old and the new ones have to agree.
    pub joint: bool,
    /// All members, learners included.
    pub members: BTreeMap<u64, Member>,
}

/// How far this node's member of a group has come. Hints: each moves on its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Of the last entry in its log.
    pub last: Option<u64>,
    /// Of the last entry that it knows a quorum to have.
    pub committed: Option<u64>,
    pub applied: Option<u64>,
}

/// A proposal that was committed and applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed<R> {
    /// Its place in the log.
    pub pos: LogPos,
    /// What the state machine answered.
    pub response: R,
}

/// A member of a group. Cloning shares it. It goes on until [`RaftGroup::shutdown`], whoever drops a handle.
pub struct RaftGroup<SM: StateMachine> {
    inner: Arc<Inner>,
    types: PhantomData<fn() -> SM>,
}

impl<SM: StateMachine> Clone for RaftGroup<SM> {
    fn clone(&self) -> Self {
        RaftGroup {
            inner: self.inner.clone(),
            types: PhantomData,
        }
    }
}

struct Inner {
    shared: Arc<Shared>,
    wal: Arc<Wal>,
    raft: Raft<Types, Machine>,
    server: Arc<Server>,
    status: watch::Receiver<GroupStatus>,
    inflight: Semaphore,
    stop: Arc<Notify>,
    confirmer: Confirmer,
}

impl<SM: StateMachine> RaftGroup<SM> {
    /// Starts this node's membership: restores the newest snapshot into `state`, replays what is known to be committed,
    /// and stands for election at once when there is no other voter. A group that was never founded waits for
    /// [`RaftGroup::found`] or for a leader that adds it.
    ///
    /// Errors: the snapshot or the log is damaged or missing; the settings are wrong.
    pub async fn start(
        config: GroupConfig,
        host: &Host,
        wal: Arc<Wal>,
        state: SM,
        peers: Arc<dyn Peers>,
        fatal: FatalHook,
    ) -> Result<RaftGroup<SM>, GroupError> {
        let group = config.group.0;
        let raft_config = config.openraft().map_err(|e| GroupError::Config {
            group,
            reason: e.to_string(),
        })?;
        let snapshots = SnapshotDir::open(host.disk.clone(), &config.snapshot_dir)?;
        let shared = Arc::new(Shared {
            config,
            host: host.clone(),
            snapshots,
            applied: watch::Sender::new(None),
            snapshot: watch::Sender::new(None),
            snapshot_nanos: AtomicU64::new(0),
            snapshot_due: Notify::new(),
            alone: AtomicBool::new(false),
            follows: AtomicBool::new(false),
            read_nanos: AtomicU64::new(0),
            hearing: Hearing::default(),
            readers: Readers::default(),
            stopped: AtomicBool::new(false),
            fatal,
        });
        let machine = Machine::open(shared.clone(), state)?;
        check_log(&shared, &wal, *shared.snapshot.borrow())?;
        let store = GroupStore::new(wal.clone(), shared.clone());
        let network = Network {
            shared: shared.clone(),
            peers: peers.clone(),
        };
        let built = Raft::build(shared.config.node, raft_config, network, store, machine).await;
        let raft = built.map_err(|e| stopped(group, &e))?;
        runtime::starting(shared.config.class, || raft.run());
        let inner = Inner::new(shared, wal, raft, peers);
        inner.elect_if_alone().await?;
        Ok(RaftGroup {
            inner,
            types: PhantomData,
        })
    }

    /// Founds the group with `members` as its voters, this node among them. Founding a group that has been founded
    /// changes nothing.
    pub async fn found(&self, members: BTreeMap<u64, Member>) -> Result<(), GroupError> {
        match self.inner.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
                self.inner.elect_if_alone().await
            }
            Err(RaftError::APIError(error)) => Err(self.inner.refused(&error)),
            Err(RaftError::Fatal(fatal)) => Err(stopped(self.inner.group(), &fatal)),
        }
    }

    /// Founds the group with this node as its only voter.
    pub async fn found_alone(&self, addr: &str) -> Result<(), GroupError> {
        let member = Member {
            addr: addr.to_owned(),
        };
        self.found(BTreeMap::from([(self.inner.shared.config.node, member)]))
            .await
    }

    /// Adds a learner, and waits until it has caught up. Leader only.
    pub async fn add_learner(&self, node: u64, member: Member) -> Result<(), GroupError> {
        let added = self.inner.raft.add_learner(node, member, true).await;
        added.map(drop).map_err(|e| self.inner.refused(&e))
    }

    /// Makes `voters`, all of them members, the voters; others that were voters become learners. Leader only, one
    /// change at a time.
    pub async fn change_voters(&self, voters: BTreeSet<u64>) -> Result<(), GroupError> {
        let changed = self.inner.raft.change_membership(voters, true).await;
        changed.map(drop).map_err(|e| self.inner.refused(&e))
    }

    /// Removes a member that is no voter. Leader only, one change at a time.
    pub async fn remove_member(&self, node: u64) -> Result<(), GroupError> {
        let nodes = openraft::ChangeMembers::RemoveNodes(BTreeSet::from([node]));
        let changed = self.inner.raft.change_membership(nodes, true).await;
        changed.map(drop).map_err(|e| self.inner.refused(&e))
    }

    /// Proposes a command and waits until it is applied here. Only the leader can.
    ///
    /// While an election is going on this waits for its end, at most [`crate::Election::leader_wait`]. The bytes are
    /// shared with the log, not copied.
    pub async fn propose(&self, payload: Bytes) -> Result<Proposed<SM::Response>, ProposeError> {
        let inner = &self.inner;
        inner.check_size(&payload)?;
        let _permit = inner.permit(payload.len()).await?;
        let deadline = inner.leader_deadline();
        loop {
            match inner.raft.client_write(Payload(payload.clone())).await {
                Ok(done) => return proposed(log_pos(&done.log_id), done.data),
                Err(RaftError::Fatal(fatal)) => return Err(unknown(&fatal)),
                Err(RaftError::APIError(error)) => inner.retry_write(error, deadline).await?,
            }
        }
    }

    /// Proposes commands that follow each other in the log as closely as possible; answers in order. Each stands for
    /// itself: some may fail and others not.
    pub async fn propose_all(
        &self,
        payloads: Vec<Bytes>,
    ) -> Result<Vec<Result<Proposed<SM::Response>, ProposeError>>, ProposeError> {
        let inner = &self.inner;
        payloads
            .iter()
            .try_for_each(|payload| inner.check_size(payload))?;
        let _permit = inner.permit(payloads.iter().map(Bytes::len).sum()).await?;
        inner.await_leader().await?;
        let sent = inner
            .raft
            .client_write_many(payloads.into_iter().map(Payload))
            .await;
        let results = sent.map_err(|fatal| unknown(&fatal))?;
        let results = results.map(|result| match result {
            Ok(Ok(done)) => proposed(log_pos(&done.log_id), done.response),
            Ok(Err(error)) => Err(write_error(error)),
            Err(fatal) => Err(unknown(&fatal)),
        });
        Ok(results.collect().await)
    }

    /// Confirms with a quorum that this node leads, and waits until everything committed before this call began is
    /// applied here: a read of the state is then linearizable. Never relies on a lease. Returns the read's log
    /// position.
    pub async fn read_index(&self) -> Result<LogPos, ReadError> {
        let pos = self.read_position(None).await?;
        self.wait_applied(pos.index).await?;
        Ok(pos)
    }

    /// The highest term in which this node has voted or followed a leader: what it can tell the leader as a [`Witness`].
    pub fn voted_term(&self) -> u64 {
        self.inner.shared.readers.term()
    }

    /// Like [`RaftGroup::read_index`] without the wait: for a read on another member, which waits there. `witness`: what that member says of itself, which saves asking it.
    pub async fn read_position(&self, witness: Option<Witness>) -> Result<LogPos, ReadError> {
        let inner = &self.inner;
        let now = inner.shared.host.clock.now();
        inner
            .shared
            .read_nanos
            .store(now.as_nanos(), Ordering::Relaxed);
        let deadline = inner.leader_deadline();
        if planted::is("h1")
            && self.is_leader()
            && let Some(pos) = *inner.shared.applied.borrow()
        {
            return Ok(pos);
        }
        if let Some(pos) = inner.confirmer.confirm(witness).await {
            return Ok(pos);
        }
        loop {
            match inner.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
                Ok(read) => return Ok(log_pos(read.read_log_id().log_id())),
                Err(RaftError::Fatal(fatal)) => {
                    return Err(ReadError::Closed {
                        reason: fatal.to_string(),
                    });
                }
                Err(RaftError::APIError(error)) => inner.retry_read(error, deadline).await?,
            }
        }
    }

    /// Waits until the entry with `index` is applied here.
    pub async fn wait_applied(&self, index: u64) -> Result<(), ReadError> {
        let mut applied = self.inner.shared.applied.subscribe();
        let reached = applied.wait_for(|pos| pos.is_some_and(|pos| pos.index >= index));
        let closed = || ReadError::Closed {
            reason: "shut down".to_owned(),
        };
        let mut status = self.inner.status.clone();
        let ended = async move { while status.changed().await.is_ok() {} };
        match futures::future::select(pin!(reached), pin!(ended)).await {
            futures::future::Either::Left((reached, _)) => reached.map(drop).map_err(|_| closed()),
            futures::future::Either::Right(_) => Err(closed()),
        }
    }

    /// The last entry applied here; changes with every run of entries.
    pub fn applied(&self) -> watch::Receiver<Option<LogPos>> {
        self.inner.shared.applied.subscribe()
    }

    /// How far the log has come here.
    pub fn progress(&self) -> Progress {
        let metrics = self.inner.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        Progress {
            last: metrics.last_log.map(|id| id.index),
            committed: metrics.cluster_committed.map(|id| id.index),
            applied: metrics.last_applied.map(|id| id.index),
        }
    }

    /// Leader, term and members, and their changes.
    pub fn status(&self) -> watch::Receiver<GroupStatus> {
        self.inner.status.clone()
    }

    /// The leader, as far as known.
    pub fn leader(&self) -> Option<u64> {
        self.inner.status.borrow().leader
    }

    /// The highest term seen.
    pub fn term(&self) -> u64 {
        self.inner.status.borrow().term
    }

    /// True while this node leads, for all it knows.
    pub fn is_leader(&self) -> bool {
        self.inner.status.borrow().is_leader
    }

    /// True while the disk is too full for commands that add data; see [`Wal::disk_low`].
    pub fn disk_low(&self) -> bool {
        self.inner.wal.disk_low()
    }

    /// The largest command that can be proposed, in bytes.
    pub fn payload_bytes_max(&self) -> usize {
        self.inner.wal.config().entry_bytes_max()
    }

    /// Hands leadership to `node`, a voter. Returns when the request is on its way.
    pub async fn transfer_leader(&self, node: u64) -> Result<(), GroupError> {
        let sent = self.inner.raft.trigger().transfer_leader(node).await;
        sent.map_err(|fatal| stopped(self.inner.group(), &fatal))
    }

    /// Whether this node leads, for all it knows, and a quorum has confirmed so within about an election time-out. A hint: for deciding when to give up.
    pub fn has_quorum(&self) -> bool {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let config = &self.inner.shared.config;
        let mut voters = metrics.membership_config.membership().voter_ids();
        if metrics.state != ServerState::Leader {
            return false;
        }
        let recent = config.election.quorum_patience();
        let acked = metrics.last_quorum_acked.as_ref();
        voters.all(|voter| voter == config.node) || acked.is_some_and(|at| at.elapsed() <= recent)
    }

    /// Of the other voters, the one that has most of the log, as far as this node knows while it leads.
    pub fn most_caught_up(&self) -> Option<u64> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.as_ref()?;
        let membership = metrics.membership_config.membership();
        let voters = membership.voter_ids();
        let matched = |node: &u64| {
            replication
                .get(node)
                .and_then(|log_id| log_id.as_ref())
                .map(log_pos)
        };
        let own = self.inner.shared.config.node;
        voters.filter(|node| *node != own).max_by_key(matched)
    }

    /// Cuts a snapshot now, and frees the log below it once it is durable.
    pub async fn trigger_snapshot(&self) -> Result<(), GroupError> {
        let sent = self.inner.raft.trigger().snapshot().await;
        sent.map_err(|fatal| stopped(self.inner.group(), &fatal))
    }

    /// Last entry in the newest durable snapshot.
    pub fn snapshot_last(&self) -> Option<LogPos> {
        *self.inner.shared.snapshot.borrow()
    }

    /// What answers the requests of this group's other members.
    pub fn responder(&self) -> Arc<dyn Responder> {
        self.inner.clone()
    }

    /// Ends this membership. The log stays open.
    pub async fn shutdown(&self) {
        self.inner.shared.stopped.store(true, Ordering::Relaxed);
        self.inner.stop.notify_waiters();
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(group = self.inner.group(), %error, "raft's core task ended abnormally");
        }
    }
}

/// Removes what is stored of a group that is no more. This node must not be a member any longer, see [`RaftGroup::shutdown`].
///
/// The snapshots go first: a group that is still in the log ([`Wal::groups`]) after a crash is to be removed again. Errors: as the disk says.
pub fn remove_group(
    host: &Host,
    wal: &Wal,
    group: GroupId,
    snapshot_dir: &Path,
) -> Result<(), GroupError> {
    SnapshotDir::remove_all(&*host.disk, snapshot_dir)?;
    wal.remove_group(group).map_err(|e| GroupError::Stopped {
        group: group.0,
        reason: e.to_string(),
    })
}

/// The log must reach down to the snapshot, or to the beginning when there is none.
fn check_log(shared: &Shared, wal: &Wal, snapshot: Option<LogPos>) -> Result<(), GroupError> {
    let group = shared.config.group.0;
    let state = wal.state(shared.config.group);
    match (snapshot, state.purged) {
        (Some(LogPos { index, .. }), _) if state.vote.is_none() => {
            Err(GroupError::LogMissing { group, index })
        }
        (snapshot, Some(purged)) if snapshot.is_none_or(|s| s.index < purged.index) => {
            Err(GroupError::SnapshotMissing {
                group,
                index: purged.index,
            })
        }
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

fn stopped(group: u64, fatal: &Fatal<Types>) -> GroupError {
    GroupError::Stopped {
        group,
        reason: fatal.to_string(),
    }
}

fn unknown(fatal: &Fatal<Types>) -> ProposeError {
    ProposeError::Unknown {
        reason: fatal.to_string(),
    }
}

fn proposed<R: 'static>(pos: LogPos, response: Response) -> Result<Proposed<R>, ProposeError> {
    match response.take() {
        Some(response) => Ok(Proposed { pos, response }),
        // Only if the handle and the state machine disagree about types: a mistake of ours.
        None => Err(ProposeError::Unknown {
            reason: "the response has another type".to_owned(),
        }),
    }
}

fn write_error(error: ClientWriteError<Types>) -> ProposeError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => ProposeError::NotLeader {
            leader: forward.leader_id,
        },
        // The entry was in this node's log, so another leader may have committed it.
        other @ (ClientWriteError::LogEntryDiscarded(_)
        | ClientWriteError::ChangeMembershipError(_)
        | ClientWriteError::PreconditionFailed(_)) => ProposeError::Unknown {
            reason: other.to_string(),
        },
    }
}

impl Inner {
    fn new(
        shared: Arc<Shared>,
        wal: Arc<Wal>,
        raft: Raft<Types, Machine>,
        peers: Arc<dyn Peers>,
    ) -> Arc<Inner> {
        let (status, watched) = watch::channel(current_status(&raft));
        shared.set_role(&status.borrow());
        let server = Server {
            shared: shared.clone(),
            raft: raft.clone(),
            incoming: tokio::sync::Mutex::new(None),
        };
        let server = Arc::new(server);
        let confirmer = Confirmer {
            shared: shared.clone(),
            raft: raft.clone(),
            peers,
        };
        let permits = shared.config.inflight_bytes_max as usize / PERMIT_BYTES;
        let inner = Arc::new(Inner {
            shared: shared.clone(),
            wal,
            raft,
            server,
            status: watched,
            inflight: Semaphore::new(permits.max(1)),
            stop: Arc::new(Notify::new()),
            confirmer,
        });
        // Both end with openraft's core task, at the latest.
        let (raft, stop) = (inner.raft.clone(), inner.stop.clone());
        let follow = follow_status(shared.clone(), raft.clone(), status, stop.clone());
        shared.host.spawn.spawn("raft-status", Box::pin(follow));
        let snapshots = drive_snapshots(shared.clone(), inner.wal.clone(), raft, stop);
        shared
            .host
            .spawn
            .spawn("raft-snapshots", Box::pin(snapshots));
        inner
    }

    fn group(&self) -> u64 {
        self.shared.config.group.0
    }

    fn refused(&self, error: &dyn std::fmt::Display) -> GroupError {
        GroupError::Refused {
            group: self.group(),
            reason: error.to_string(),
        }
    }

    /// A lone voter has nobody to wait for.
    async fn elect_if_alone(&self) -> Result<(), GroupError> {
        let node = self.shared.config.node;
        let alone = self.raft.with_raft_state(move |state| {
            let voters: Vec<u64> = state.membership_state.effective().voter_ids().collect();
            voters == [node] && state.server_state != ServerState::Leader
        });
        if alone.await.map_err(|fatal| stopped(self.group(), &fatal))? {
            let elected = self.raft.trigger().elect(false).await;
            elected.map_err(|fatal| stopped(self.group(), &fatal))?;
        }
        Ok(())
    }

    fn check_size(&self, payload: &Bytes) -> Result<(), ProposeError> {
        let (bytes, limit) = (payload.len(), self.wal.config().entry_bytes_max());
        if bytes > limit {
            Err(ProposeError::TooLarge { bytes, limit })
        } else {
            Ok(())
        }
    }

    async fn permit(&self, bytes: usize) -> Result<SemaphorePermit<'_>, ProposeError> {
        let most = self.shared.config.inflight_bytes_max as usize / PERMIT_BYTES;
        let permits = (bytes / PERMIT_BYTES + 1).min(most.max(1));
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        self.inflight
            .acquire_many(permits)
            .await
            .map_err(|_| ProposeError::Closed)
    }

    fn leader_deadline(&self) -> Instant {
        self.shared.host.clock.now() + self.shared.config.election.leader_wait()
    }

    /// Right after founding or an election openraft may not yet know that this node leads, and answers "not leader"
    /// without naming one. Nothing was proposed then, so trying again is safe.
    async fn retry_write(
        &self,
        error: ClientWriteError<Types>,
        deadline: Instant,
    ) -> Result<(), ProposeError> {
        match &error {
            ClientWriteError::ForwardToLeader(forward) if self.worth_waiting(forward, deadline) => {
                self.shared.host.clock.sleep(LEADER_RETRY).await;
                Ok(())
            }
            ClientWriteError::ForwardToLeader(_)
            | ClientWriteError::LogEntryDiscarded(_)
            | ClientWriteError::ChangeMembershipError(_)
            | ClientWriteError::PreconditionFailed(_) => Err(write_error(error)),
        }
    }

    async fn retry_read(
        &self,
        error: LinearizableReadError<Types>,
        deadline: Instant,
    ) -> Result<(), ReadError> {
        match error {
            LinearizableReadError::ForwardToLeader(forward)
                if self.worth_waiting(&forward, deadline) =>
            {
                self.shared.host.clock.sleep(LEADER_RETRY).await;
                Ok(())
            }
            LinearizableReadError::ForwardToLeader(forward) => Err(ReadError::NotLeader {
                leader: forward.leader_id,
            }),
            LinearizableReadError::QuorumNotEnough(_) => Err(ReadError::NoQuorum),
        }
    }

    fn worth_waiting(&self, forward: &ForwardToLeader<Types>, deadline: Instant) -> bool {
        let elsewhere = forward
            .leader_id
            .is_some_and(|leader| leader != self.shared.config.node);
        !elsewhere && self.shared.host.clock.now() < deadline
    }

    /// Waits until some node leads; errors: another node does, or none in time.
    async fn await_leader(&self) -> Result<(), ProposeError> {
        let deadline = self.leader_deadline();
        loop {
            match self.raft.as_leader() {
                Ok(_) => return Ok(()),
                Err(forward) => {
                    self.retry_write(ClientWriteError::ForwardToLeader(forward), deadline)
                        .await?
                }
            }
        }
    }
}

impl Responder for Inner {
    fn respond(&self, kind: RpcKind, body: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let server = self.server.clone();
        Box::pin(async move { server.respond(kind, body).await })
    }
}

fn current_status(raft: &Raft<Types, Machine>) -> GroupStatus {
    let metrics = raft.server_metrics();
    let metrics = metrics.borrow_watched();
    let membership = metrics.membership_config.membership();
    GroupStatus {
        term: metrics.vote.leader_id().term,
        leader: metrics.current_leader,
        is_leader: metrics.state == ServerState::Leader,
        voters: membership.voter_ids().collect(),
        joint: membership.get_joint_config().len() > 1,
        members: membership
            .nodes()
            .map(|(node, member)| (*node, member.clone()))
            .collect(),
    }
}

/// What operators see of a group.
struct Gauges {
    term: IntGauge,
    leader: IntGauge,
    voters: IntGauge,
    changes: IntCounter,
}

impl Gauges {
    fn new(group: GroupId) -> Gauges {
        let label = &[&*group.0.to_string()];
        let gauge = |name, help| gauge_vec(name, help, &["group"]).with_label_values(label);
        Gauges {
            term: gauge("clusterd_raft_term", "Highest term seen of the group."),
            leader: gauge(
                "clusterd_raft_leader",
                "Node that leads the group, 0 if none is known.",
            ),
            voters: gauge(
                "clusterd_raft_voters",
                "Nodes whose votes count in the group.",
            ),
            changes: counter_vec(
                "clusterd_raft_leader_changes_total",
                "How often this node has learned of another leader of the group.",
                &["group"],
            )
            .with_label_values(label),
        }
    }

    fn set(&self, current: &GroupStatus, before: &GroupStatus) {
        self.term.set(current.term as i64);
        self.leader.set(current.leader.unwrap_or(0) as i64);
        self.voters.set(current.voters.len() as i64);
        let elected = |status: &GroupStatus| status.leader.map(|leader| (status.term, leader));
        if elected(current).is_some() && elected(current) != elected(before) {
            self.changes.inc();
        }
    }
}

/// Runs `work` until it ends or the group stops.
async fn until_stopped(stop: &Notify, work: impl Future<Output = ()>) {
    futures::future::select(pin!(stop.notified()), pin!(work)).await;
}

/// Publishes the status, and reports the end of the core task if nobody asked for it.
async fn follow_status(
    shared: Arc<Shared>,
    raft: Raft<Types, Machine>,
    status: watch::Sender<GroupStatus>,
    stop: Arc<Notify>,
) {
    let follow = async {
        let mut metrics = raft.server_metrics();
        let gauges = Gauges::new(shared.config.group);
        while metrics.changed().await.is_ok() {
            let current = current_status(&raft);
            gauges.set(&current, &status.borrow());
            shared.set_role(&current);
            status.send_if_modified(|old| {
                let changed = *old != current;
                *old = current;
                changed
            });
        }
        let ended = raft.metrics().borrow_watched().running_state.clone();
        match ended {
            Ok(()) | Err(Fatal::Stopped) => {}
            Err(fatal) => (shared.fatal)(&stopped(shared.config.group.0, &fatal)),
        }
    };
    until_stopped(&stop, follow).await;
}

/// Asks for snapshots while the disk is low: only a snapshot lets go of log, and of rows that were deleted.
async fn relieve_disk(shared: &Shared, wal: &Wal) {
    loop {
        let last = Duration::from_nanos(shared.snapshot_nanos.load(Ordering::Relaxed));
        let pause = shared.config.relieve_interval.max(last * LOW_DISK_SHARE);
        shared.host.clock.sleep(pause).await;
        if wal.disk_low() && *shared.applied.borrow() != *shared.snapshot.borrow() {
            shared.snapshot_due.notify_one();
        }
    }
}

/// Cuts snapshots when the state machine asks for one, and frees the log below each that is durable.
async fn drive_snapshots(
    shared: Arc<Shared>,
    wal: Arc<Wal>,
    raft: Raft<Types, Machine>,
    stop: Arc<Notify>,
) {
    let cut = async {
        loop {
            shared.snapshot_due.notified().await;
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
    };
    let free = async {
        let mut progress = raft.watch_snapshot_progress();
        while progress.changed().await.is_ok() {
            let Some(last) = progress.get() else { continue };
            let upto = log_pos(&last).index;
            // Without followers, or without space, nothing is kept for those that lag.
            let alone = current_status(&raft).members.len() <= 1;
            let keep_bytes = match alone || wal.disk_low() {
                true => 0,
                false => shared.config.log_keep_bytes,
            };
            let keep_from = wal.keep_from(shared.config.group, upto, keep_bytes);
            if let Some(purge_to) = keep_from.checked_sub(1)
                && raft.trigger().purge_log(purge_to).await.is_err()
            {
                return;
            }
        }
    };
    let relieve = relieve_disk(&shared, &wal);
    let (cut, free, relieve) = (pin!(cut), pin!(free), pin!(relieve));
    let any = async move {
        futures::future::select(futures::future::select(cut, free), relieve).await;
    };
    until_stopped(&stop, any).await;
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "tests have deadlines of their own"
)]
mod tests;
