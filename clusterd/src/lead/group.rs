//! The CLUSTER's own Raft group: soft control state (grants and leases), in the node's one log.

use bytes::Bytes;
use controller::log::{Entry, LogState};
use host::Host;
use parking_lot::Mutex;
use raft::{
    Committed, Election, GroupClass, GroupConfig, GroupError, GroupId, NoPeers, RaftGroup,
    SnapshotWriter, StateMachine, Wal,
};
use repr::{ClusterId, GlobalId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

type GrantSink = Box<dyn Fn(BTreeMap<GlobalId, Timestamp>) + Send>;

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
                Ok(entry) => {
                    let grants = self.state.lock().apply(&entry);
                    if !grants.is_empty() {
                        (self.granted)(grants);
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
        (self.granted)(grants);
        Ok(())
    }
}

struct Snapshot(Vec<u8>);

impl SnapshotWriter for Snapshot {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.0)
    }
}

fn snapshot_dir(snapshots: &Path, cluster: ClusterId) -> PathBuf {
    snapshots.join(format!("cluster-{}", cluster.0))
}

/// CLUSTERs of which something is stored here. A group makes its directory before it writes to the log.
pub(crate) fn stored(host: &Host, wal: &Wal, snapshots: &Path) -> BTreeSet<ClusterId> {
    let names = host.disk.list_dirs(snapshots).unwrap_or_else(|error| {
        tracing::warn!(dir = %snapshots.display(), %error, "cannot list the groups' snapshots");
        vec![]
    });
    let in_snapshots = names
        .iter()
        .filter_map(|name| name.strip_prefix("cluster-")?.parse().ok());
    let in_log = wal.groups().into_iter().map(|group| group.0);
    in_snapshots.chain(in_log).map(ClusterId).collect()
}

/// Removes what is stored of the group of a CLUSTER that was dropped.
pub(crate) fn remove(
    cluster: ClusterId,
    host: &Host,
    wal: &Wal,
    snapshots: &Path,
) -> Result<(), GroupError> {
    let dir = snapshot_dir(snapshots, cluster);
    raft::remove_group(host, wal, GroupId(cluster.0), &dir)
}

/// This node's membership in the group.
#[derive(Clone)]
pub(crate) struct ClusterGroup {
    group: RaftGroup<Machine>,
    state: Arc<Mutex<LogState>>,
}

impl ClusterGroup {
    /// Starts the group with this node as its only voter. `granted` hears of every committed grant.
    pub async fn start(
        cluster: ClusterId,
        node: repr::NodeId,
        host: &Host,
        wal: &Arc<Wal>,
        snapshots: &Path,
        election: Election,
        granted: GrantSink,
    ) -> Result<ClusterGroup, GroupError> {
        let state = Arc::new(Mutex::new(LogState::default()));
        let machine = Machine {
            state: Arc::clone(&state),
            granted,
        };
        let dir = snapshot_dir(snapshots, cluster);
        let mut config = GroupConfig::new(GroupId(cluster.0), node.0, GroupClass::Cluster, dir);
        config.election = election;
        config.snapshot_log_bytes = SNAPSHOT_LOG_BYTES;
        config.log_keep_bytes = SNAPSHOT_LOG_BYTES;
        let group = RaftGroup::start(
            config,
            host,
            Arc::clone(wal),
            machine,
            Arc::new(NoPeers),
            crate::server::fatal_hook(),
        )
        .await?;
        group.found_alone("").await?;
        Ok(ClusterGroup { group, state })
    }

    /// Ends this node's membership.
    pub async fn shutdown(&self) {
        self.group.shutdown().await;
    }

    /// Waits until this node leads and everything committed before is applied; the term.
    pub async fn lead(&self) -> Result<u64, raft::ReadError> {
        self.group.read_index().await?;
        Ok(self.group.term())
    }

    pub fn leader(&self) -> (u64, u64) {
        (self.group.leader().unwrap_or(0), self.group.term())
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

    pub fn grants(&self) -> BTreeMap<GlobalId, Timestamp> {
        self.state.lock().grants.clone()
    }
}
