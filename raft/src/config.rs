//! Settings of a group.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::GroupId;

/// Whose group it is: decides under which task names its busy time is metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupClass {
    /// The environment's.
    Env,
    /// A CLUSTER's.
    Cluster,
}

impl GroupClass {
    pub(crate) fn core_task(self) -> &'static str {
        match self {
            GroupClass::Env => "env-core",
            GroupClass::Cluster => "cluster-core",
        }
    }

    pub(crate) fn apply_task(self) -> &'static str {
        match self {
            GroupClass::Env => "env-apply",
            GroupClass::Cluster => "cluster-apply",
        }
    }
}

/// How patient followers are before they elect another leader. Clocks decide nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// One data centre: elections after 150 to 300 ms of silence.
    Lan,
    /// A laptop where processes stall: 500 to 1,000 ms.
    Dev,
    /// Several regions: 1.5 to 3 s.
    Wan,
}

impl Election {
    /// Milliseconds: heartbeat interval, least and most election time-out.
    pub fn millis(self) -> (u64, u64, u64) {
        match self {
            Election::Lan => (50, 150, 300),
            Election::Dev => (150, 500, 1_000),
            Election::Wan => (300, 1_500, 3_000),
        }
    }

    /// How long a leader goes on without a word from a quorum: longer than an election takes, so that followers who are slow for once do not count.
    pub fn quorum_patience(self) -> Duration {
        let (_, _, most) = self.millis();
        Duration::from_millis(2 * most)
    }

    /// How long a request waits for a leader to appear before it gives up: two rounds of election.
    pub fn leader_wait(self) -> Duration {
        let (_, _, most) = self.millis();
        Duration::from_millis(4 * most)
    }
}

/// Settings of this node's membership in one group.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The group.
    pub group: GroupId,
    /// This node's id in it. Never reused: a node whose disk was lost gets another.
    pub node: u64,
    /// Whose group it is.
    pub class: GroupClass,
    /// Election time-outs.
    pub election: Election,
    /// Directory of this group's snapshots alone; created when missing.
    pub snapshot_dir: PathBuf,
    /// A snapshot is cut when the log applied since the last costs as much to replay as half of that snapshot, but not
    /// below this many bytes: so a restart takes at most about twice as long as reading the snapshot, and what is
    /// written for snapshots stays in proportion to the log.
    pub snapshot_log_bytes: u64,
    /// And always when it costs this much, however large the last snapshot was.
    pub snapshot_log_bytes_max: u64,
    /// How much log below a snapshot is kept for followers that lag a little.
    pub log_keep_bytes: u64,
    /// While the disk is low, a snapshot is cut this often, so that what was dropped gives its space back.
    pub relieve_interval: Duration,
    /// Bytes of proposals in flight; more wait their turn.
    pub inflight_bytes_max: u32,
}

/// What reading and applying an entry costs beyond its bytes, as bytes: many small entries take longer than one large.
const ENTRY_COST_BYTES: u64 = 1024;

/// What replaying an entry with a payload of this size costs, in bytes of a large one.
pub(crate) fn replay_cost(payload_bytes: usize) -> u64 {
    payload_bytes as u64 + ENTRY_COST_BYTES
}

impl GroupConfig {
    /// The defaults for `group` on node `node`.
    pub fn new(
        group: GroupId,
        node: u64,
        class: GroupClass,
        snapshot_dir: impl Into<PathBuf>,
    ) -> GroupConfig {
        GroupConfig {
            group,
            node,
            class,
            election: Election::Lan,
            snapshot_dir: snapshot_dir.into(),
            snapshot_log_bytes: 32 << 20,
            snapshot_log_bytes_max: 128 << 20,
            log_keep_bytes: 16 << 20,
            relieve_interval: Duration::from_secs(5),
            inflight_bytes_max: 64 << 20,
        }
    }

    /// How much log, as [`replay_cost`] counts it, may follow a snapshot of `snapshot_bytes` before the next is cut.
    pub(crate) fn snapshot_due_at(&self, snapshot_bytes: u64) -> u64 {
        let most = self.snapshot_log_bytes_max.max(self.snapshot_log_bytes);
        (snapshot_bytes / 2).clamp(self.snapshot_log_bytes, most)
    }

    pub(crate) fn openraft(&self) -> Result<Arc<openraft::Config>, openraft::ConfigError> {
        let (heartbeat_interval, election_timeout_min, election_timeout_max) =
            self.election.millis();
        let config = openraft::Config {
            cluster_name: format!("group-{}", self.group.0),
            heartbeat_interval,
            election_timeout_min,
            election_timeout_max,
            // Snapshots are cut and logs purged by bytes, see `group`.
            snapshot_policy: openraft::SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            // Whoever lags behind what is kept gets a snapshot; whoever does not, gets entries, however many.
            replication_lag_threshold: u64::MAX,
            max_payload_entries: 1_024,
            install_snapshot_timeout: 60_000,
            enable_pre_vote: Some(true),
            // Only what was applied by an elected leader's own no-op is known to be current.
            enable_leader_restore: Some(false),
            ..openraft::Config::default()
        };
        Ok(Arc::new(config.validate()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_in_proportion_to_the_last_one() {
        let config = GroupConfig {
            snapshot_log_bytes: 100,
            snapshot_log_bytes_max: 1000,
            ..GroupConfig::new(crate::ENV_GROUP, 1, GroupClass::Env, "/s")
        };
        let due = |snapshot_bytes| config.snapshot_due_at(snapshot_bytes);
        assert_eq!(
            [due(0), due(150), due(600), due(9000)],
            [100, 100, 300, 1000]
        );
        let least_above_most = GroupConfig {
            snapshot_log_bytes_max: 10,
            ..config
        };
        assert_eq!(least_above_most.snapshot_due_at(9000), 100);
    }
}
