//! The CLUSTER's own Raft group: soft control state (grants and leases), in the node's one log.

use super::Shared;
use bytes::Bytes;
use controller::log::{Entry, LogState};
use host::Host;
use parking_lot::Mutex;
use raft::{
    Committed, GroupClass, GroupConfig, GroupError, GroupId, GroupStatus, Member, Progress,
    RaftGroup, SnapshotWriter, StateMachine, Wal,
};
use repr::{ClusterId, GlobalId, NodeId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Takes committed grants and the term of the leader that proposed them.
type GrantSink = Box<dyn Fn(u64, BTreeMap<GlobalId, Timestamp>) + Send>;

/// Log bytes after which the group's small state is written out.
const SNAPSHOT_LOG_BYTES: u64 = 1 << 20;

pub(crate) struct Machine {
    state: Arc<Mutex<LogState>>,
    granted: GrantSink,
}

impl StateMachine for Machine {
    type Response = ();

    fn apply(&mut self, run: &[Committed]) -> Vec<()> {
        for entry in run {
            match Entry::decode(&entry.payload) {
                Ok(decoded) => {
                    let grants = self.state.lock().apply(&decoded);
                    if !grants.is_empty() {
                        (self.granted)(entry.pos.term, grants);
                    }
                }
                // Soft state: what cannot be read is as good as lost, and is proposed again by the next tick.
                Err(error) => {
                    tracing::error!(%error, index = entry.pos.index, "an entry of a cluster's group cannot be read")
                }
            }
        }
        vec![(); run.len()]
    }

    fn snapshot(&self) -> Box<dyn SnapshotWriter> {
        Box::new(Snapshot(self.state.lock().encode()))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut bytes = vec![];
        snapshot.read_to_end(&mut bytes)?;
        let restored = LogState::decode(&bytes).map_err(io::Error::other)?;
        let grants = restored.grants.clone();
        *self.state.lock() = restored;
        // Only followers are sent snapshots: what is in it counts as a later leader's.
        (self.granted)(u64::MAX, grants);
        Ok(())
    }
}

struct Snapshot(Vec<u8>);

impl SnapshotWriter for Snapshot {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.0)
    }
}

/// Bits of a group's id that say which CLUSTER it belongs to; the others count the incarnations after the first.
const CLUSTER_BITS: u32 = 40;

/// One incarnation of a CLUSTER's group. Each has a Raft group and a directory of its own, so that members of a group that was lost and of the one that took its place cannot
/// be mixed up, whatever comes back from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Incarnation {
    pub cluster: ClusterId,
    pub number: u64,
}

impl Incarnation {
    pub fn group(self) -> GroupId {
        assert!(
            self.cluster.0 < 1 << CLUSTER_BITS && self.number < 1 << (64 - CLUSTER_BITS),
            "ids and incarnations are counted up from 1"
        );
        GroupId(self.cluster.0 | self.number.saturating_sub(1) << CLUSTER_BITS)
    }

    fn of_group(group: GroupId) -> Incarnation {
        Incarnation {
            cluster: ClusterId(group.0 & ((1 << CLUSTER_BITS) - 1)),
            number: (group.0 >> CLUSTER_BITS) + 1,
        }
    }

    fn dir(self, snapshots: &Path) -> PathBuf {
        match self.number {
            0 | 1 => snapshots.join(format!("cluster-{}", self.cluster.0)),
            number => snapshots.join(format!("cluster-{}-{number}", self.cluster.0)),
        }
    }

    fn of_dir(name: &str) -> Option<Incarnation> {
        let rest = name.strip_prefix("cluster-")?;
        let (cluster, number) = rest.split_once('-').unwrap_or((rest, "1"));
        Some(Incarnation {
            cluster: ClusterId(cluster.parse().ok()?),
            number: number.parse().ok()?,
        })
    }
}

/// Groups of which something is stored here. A group makes its directory before it writes to the log.
pub(crate) fn stored(host: &Host, wal: &Wal, snapshots: &Path) -> BTreeSet<Incarnation> {
    let names = host.disk.list_dirs(snapshots).unwrap_or_else(|error| {
        tracing::warn!(dir = %snapshots.display(), %error, "cannot list the groups' snapshots");
        vec![]
    });
    let in_snapshots = names.iter().filter_map(|name| Incarnation::of_dir(name));
    let in_log = wal.groups().into_iter().filter(|group| group.0 != 0);
    in_snapshots
        .chain(in_log.map(Incarnation::of_group))
        .collect()
}

/// Removes what is stored of a group that this node is no member of any more.
pub(crate) fn remove(
    group: Incarnation,
    host: &Host,
    wal: &Wal,
    snapshots: &Path,
) -> Result<(), GroupError> {
    raft::remove_group(host, wal, group.group(), &group.dir(snapshots))
}

/// This node's membership in the group.
#[derive(Clone)]
pub(crate) struct ClusterGroup {
    group: RaftGroup<Machine>,
    state: Arc<Mutex<LogState>>,
    incarnation: Incarnation,
}

impl ClusterGroup {
    /// Starts this node's membership. `granted` hears of every committed grant.
    pub async fn start(
        incarnation: Incarnation,
        shared: &Shared,
        granted: GrantSink,
    ) -> Result<ClusterGroup, GroupError> {
        let state = Arc::new(Mutex::new(LogState::default()));
        let machine = Machine {
            state: Arc::clone(&state),
            granted,
        };
        let dir = incarnation.dir(&shared.snapshots);
        let id = incarnation.group();
        let mut config = GroupConfig::new(id, shared.node.0, GroupClass::Cluster, dir);
        config.election = shared.election;
        config.snapshot_log_bytes = SNAPSHOT_LOG_BYTES;
        config.log_keep_bytes = SNAPSHOT_LOG_BYTES;
        let group = RaftGroup::start(
            config,
            &shared.host,
            Arc::clone(&shared.wal),
            machine,
            Arc::clone(&shared.peers),
            crate::server::fatal_hook(),
        )
        .await?;
        shared.groups.join(id, group.responder());
        Ok(ClusterGroup {
            group,
            state,
            incarnation,
        })
    }

    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Founds the group. All its founders may do so, each with the same set.
    pub async fn found(&self, founders: &BTreeSet<NodeId>) -> Result<(), GroupError> {
        let members = founders.iter().map(|node| (node.0, member()));
        self.group.found(members.collect()).await
    }

    /// Ends this node's membership.
    pub async fn shutdown(&self, shared: &Shared) {
        shared.groups.leave(self.incarnation.group());
        self.group.shutdown().await;
    }

    pub fn status(&self) -> watch::Receiver<GroupStatus> {
        self.group.status()
    }

    pub fn progress(&self) -> Progress {
        self.group.progress()
    }

    /// Waits until this node leads and everything committed before is applied; the term.
    pub async fn lead(&self) -> Result<u64, raft::ReadError> {
        // The newest committed entry is the leader's own or follows it, so it carries its term.
        Ok(self.group.read_index().await?.term)
    }

    pub fn leader(&self) -> Option<NodeId> {
        self.group.leader().map(NodeId)
    }

    /// Whether this node leads and a quorum has confirmed so of late.
    pub fn has_quorum(&self) -> bool {
        self.group.has_quorum()
    }

    /// The other voters; none if this node does not lead. The best prepared comes first.
    pub fn heirs(&self) -> Vec<NodeId> {
        let Some(best) = self.group.most_caught_up() else {
            return vec![];
        };
        let status = self.group.status();
        let status = status.borrow();
        let mut heirs = vec![NodeId(best)];
        let others = status.voters.iter().copied();
        let others = others.filter(|node| Some(*node) != status.leader && *node != best);
        heirs.extend(others.map(NodeId));
        heirs
    }

    /// Asks another voter to lead. Returns when the request is on its way.
    pub async fn transfer_to(&self, node: NodeId) -> Result<(), GroupError> {
        self.group.transfer_leader(node.0).await
    }

    /// Makes `voters` the voters; newcomers catch up first. Only the leader can. What cannot be done now is to be tried again.
    pub async fn move_voters(&self, voters: &BTreeSet<NodeId>) -> Result<(), GroupError> {
        let wanted: BTreeSet<u64> = voters.iter().map(|node| node.0).collect();
        let members = self.group.status().borrow().members.clone();
        for node in wanted.iter().filter(|node| !members.contains_key(node)) {
            self.group.add_learner(*node, member()).await?;
        }
        if self.group.status().borrow().voters != wanted {
            // Those that leave hear of it before they are removed, next time.
            return self.group.change_voters(wanted).await;
        }
        let members = self.group.status().borrow().members.clone();
        for node in members.keys().filter(|node| !wanted.contains(node)) {
            self.group.remove_member(*node).await?;
        }
        Ok(())
    }

    /// Whether these and no others vote, as far as this node knows, and have elected somebody.
    pub fn is_led_by_all(&self, voters: &BTreeSet<NodeId>) -> bool {
        let status = self.group.status();
        let status = status.borrow();
        let current = status.voters.iter().map(|node| NodeId(*node));
        !status.joint && status.leader.is_some() && current.eq(voters.iter().copied())
    }

    /// Whether the members are those that are wanted.
    pub fn consists_of(&self, voters: &BTreeSet<NodeId>) -> bool {
        let status = self.group.status();
        let status = status.borrow();
        let is = |node: &u64| voters.contains(&NodeId(*node));
        status.voters.len() == voters.len()
            && status.voters.iter().all(is)
            && status.members.keys().all(is)
    }

    pub async fn propose(&self, entry: &Entry) -> Result<(), raft::ProposeError> {
        self.group
            .propose(Bytes::from(entry.encode()))
            .await
            .map(drop)
    }

    pub fn oldest_lease(&self) -> Option<Timestamp> {
        self.state.lock().oldest_lease()
    }

    /// The newest version of the catalog that a leader may have told replicas of.
    pub fn acted(&self) -> u64 {
        self.state.lock().acted
    }

    pub fn grants(&self) -> BTreeMap<GlobalId, Timestamp> {
        self.state.lock().grants.clone()
    }
}

/// Nodes are found by their ids: addresses are ENV's business.
fn member() -> Member {
    Member {
        addr: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incarnations_have_groups_and_directories_of_their_own() {
        let incarnation = |number| Incarnation {
            cluster: ClusterId(16384),
            number,
        };
        let first = incarnation(1);
        assert_eq!(first.group(), GroupId(16384));
        assert_eq!(first.dir(Path::new("s")), Path::new("s/cluster-16384"));
        for number in [1, 2, 77] {
            let group = incarnation(number);
            assert_eq!(Incarnation::of_group(group.group()), group);
            let dir = group.dir(Path::new(""));
            assert_eq!(Incarnation::of_dir(dir.to_str().unwrap()), Some(group));
        }
        assert_ne!(first.group(), incarnation(2).group());
        assert_eq!(Incarnation::of_dir("env"), None);
    }
}
