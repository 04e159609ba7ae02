//! Groups of one and of three members with a toy state machine: a list of commands and their running hash.

mod readers;

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use host::Disk;
use host::sim::{CrashStyle, SimDisk};

use super::*;
use crate::peers::{LocalPeers, NoPeers};
use crate::wal::WalConfig;
use crate::{Committed, ENV_GROUP, GroupClass, SnapshotWriter};

/// What a toy has applied; shared with the test that looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Applied {
    commands: Vec<Bytes>,
    hash: u64,
    runs: usize,
}

impl Applied {
    fn push(&mut self, command: &Bytes) {
        for byte in command {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.commands.push(command.clone());
    }
}

#[derive(Clone, Default)]
struct Toy {
    applied: Arc<Mutex<Applied>>,
}

impl Toy {
    fn lock(&self) -> MutexGuard<'_, Applied> {
        self.applied.lock().unwrap()
    }

    fn hash(&self) -> u64 {
        self.lock().hash
    }

    fn len(&self) -> usize {
        self.lock().commands.len()
    }
}

impl SnapshotWriter for Vec<Bytes> {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for command in self {
            out.write_all(&(command.len() as u64).to_le_bytes())?;
            out.write_all(command)?;
        }
        Ok(())
    }
}

impl StateMachine for Toy {
    type Response = u64;

    fn apply(&mut self, run: &[Committed]) -> Vec<u64> {
        let mut applied = self.lock();
        applied.runs += 1;
        run.iter()
            .map(|command| {
                assert_ne!(&command.payload[..], b"panic");
                applied.push(&command.payload);
                applied.hash
            })
            .collect()
    }

    fn snapshot(&self) -> Box<dyn SnapshotWriter> {
        Box::new(self.lock().commands.clone())
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        snapshot.read_to_end(&mut bytes)?;
        let mut rest = &bytes[..];
        let mut applied = Applied::default();
        while let Some((len, after)) = rest.split_first_chunk::<8>() {
            let (command, after) = after.split_at(u64::from_le_bytes(*len) as usize);
            applied.push(&Bytes::copy_from_slice(command));
            rest = after;
        }
        *self.lock() = applied;
        Ok(())
    }
}

/// Counts what was reported as fatal.
#[derive(Clone, Default)]
struct Fatals {
    texts: Arc<Mutex<Vec<String>>>,
}

impl Fatals {
    fn hook(&self) -> FatalHook {
        let texts = self.texts.clone();
        Arc::new(move |error| texts.lock().unwrap().push(error.to_string()))
    }

    fn texts(&self) -> Vec<String> {
        self.texts.lock().unwrap().clone()
    }
}

struct Node {
    group: RaftGroup<Toy>,
    toy: Toy,
    wal: Arc<Wal>,
}

fn host_on(disk: &SimDisk) -> Host {
    Host {
        disk: Arc::new(disk.clone()),
        ..Host::real()
    }
}

fn small_wal() -> WalConfig {
    WalConfig {
        segment_bytes: 256 << 10,
        free_bytes_min: 0,
        ..WalConfig::new("/data/wal")
    }
}

fn config(node: u64) -> GroupConfig {
    let dir = PathBuf::from("/data/snapshots/env");
    GroupConfig {
        log_keep_bytes: 0,
        ..GroupConfig::new(ENV_GROUP, node, GroupClass::Env, dir)
    }
}

async fn start(
    disk: &SimDisk,
    config: GroupConfig,
    peers: Arc<dyn Peers>,
    fatals: &Fatals,
) -> Result<Node, GroupError> {
    let host = host_on(disk);
    let wal = Wal::open(&host, small_wal(), fatals.hook()).unwrap();
    let toy = Toy::default();
    let group = RaftGroup::start(
        config,
        &host,
        wal.clone(),
        toy.clone(),
        peers,
        fatals.hook(),
    )
    .await?;
    Ok(Node { group, toy, wal })
}

async fn alone(disk: &SimDisk, config: GroupConfig) -> Node {
    let node = start(disk, config, Arc::new(NoPeers), &Fatals::default())
        .await
        .unwrap();
    node.group.found_alone("here").await.unwrap();
    node
}

impl Node {
    async fn stop(self) {
        self.group.shutdown().await;
        self.wal.close();
    }
}

fn command(i: u64) -> Bytes {
    Bytes::from(format!("command {i}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_voter_keeps_what_it_acknowledged() {
    let disk = SimDisk::new(1);
    let mut terms = Vec::new();
    for life in 0..4u64 {
        let node = alone(&disk, config(1)).await;
        node.group.read_index().await.unwrap();
        assert_eq!(node.toy.len() as u64, life * 10, "life {life}");
        for i in 0..10 {
            let done = node.group.propose(command(life * 10 + i)).await.unwrap();
            assert_eq!(done.response, node.toy.hash());
        }
        assert!(node.group.is_leader() && node.group.leader() == Some(1));
        terms.push(node.group.term());
        node.stop().await;
        disk.crash(CrashStyle::PowerInOrder);
    }
    assert!(
        terms.is_sorted_by(|a, b| a < b),
        "a restarted leader is elected again: {terms:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_answered_in_order_and_applied_in_runs() {
    let disk = SimDisk::new(1);
    let node = alone(&disk, config(1)).await;
    let results = node
        .group
        .propose_all((0..500).map(command).collect())
        .await
        .unwrap();
    let mut expected = Applied::default();
    let mut last = None;
    for (i, result) in results.into_iter().enumerate() {
        let done = result.unwrap();
        expected.push(&command(i as u64));
        assert_eq!(done.response, expected.hash);
        assert!(last < Some(done.pos));
        last = Some(done.pos);
    }
    assert!(node.toy.lock().runs < 100, "{} runs", node.toy.lock().runs);
    let too_large = Bytes::from(vec![0; node.group.payload_bytes_max() + 1]);
    assert!(matches!(
        node.group.propose(too_large).await,
        Err(ProposeError::TooLarge { .. })
    ));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_and_the_rest_of_the_log_give_the_same_state() {
    let disk = SimDisk::new(1);
    let config = GroupConfig {
        snapshot_log_bytes: 20_000,
        ..config(1)
    };
    let node = alone(&disk, config.clone()).await;
    let body = vec![7; 500];
    let mut expected = Applied::default();
    for i in 0..400u64 {
        let command = Bytes::from([&i.to_le_bytes()[..], &body].concat());
        expected.push(&command);
        node.group.propose(command).await.unwrap();
    }
    // By bytes: 400 commands of 508 bytes make about ten snapshots, the log below them goes.
    wait(|| {
        node.wal
            .state(ENV_GROUP)
            .purged
            .is_some_and(|p| p.index > 300)
    })
    .await;
    let snapshot = node.group.snapshot_last().unwrap();
    assert!(
        snapshot.index > 300 && snapshot.index <= 401,
        "{snapshot:?}"
    );
    wait(|| node.wal.segments() <= 2).await;
    node.stop().await;
    disk.crash(CrashStyle::Kill);
    let node = alone(&disk, config).await;
    node.group.read_index().await.unwrap();
    assert_eq!(node.toy.hash(), expected.hash);
    assert_eq!(node.toy.len(), 400);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_relieved_by_snapshots() {
    let disk = SimDisk::new(1);
    let config = GroupConfig {
        relieve_interval: Duration::from_millis(10),
        ..config(1)
    };
    let node = alone(&disk, config).await;
    wait(|| disk.used_bytes() >= 3 * (256 << 10)).await;
    disk.set_capacity(Some(disk.used_bytes() + (200 << 10)));
    // No snapshot is due by log bytes; the log alone fills the disk.
    let mut low = 0;
    for _ in 0..20 {
        while !node.group.disk_low() {
            node.toy.lock().commands.clear();
            node.group
                .propose(Bytes::from(vec![1; 20_000]))
                .await
                .unwrap();
        }
        low += 1;
        node.toy.lock().commands.clear();
        // Small commands go on meanwhile, and the state's next snapshot is small.
        node.group.propose(command(low)).await.unwrap();
        wait(|| !node.group.disk_low()).await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_log_or_snapshot_is_refused() {
    let disk = SimDisk::new(1);
    let node = alone(&disk, config(1)).await;
    node.group.propose(command(1)).await.unwrap();
    node.group.trigger_snapshot().await.unwrap();
    wait(|| node.wal.state(ENV_GROUP).purged.is_some()).await;
    node.stop().await;

    let no_log = disk.fork(1);
    for name in no_log.list(&PathBuf::from("/data/wal")).unwrap() {
        no_log
            .remove(&PathBuf::from("/data/wal").join(name))
            .unwrap();
    }
    let error = start(&no_log, config(1), Arc::new(NoPeers), &Fatals::default())
        .await
        .err()
        .unwrap();
    assert!(
        matches!(error, GroupError::LogMissing { group: 0, .. }),
        "{error}"
    );

    let no_snapshot = disk.fork(1);
    let dir = config(1).snapshot_dir;
    for name in no_snapshot.list(&dir).unwrap() {
        no_snapshot.remove(&dir.join(name)).unwrap();
    }
    let error = start(
        &no_snapshot,
        config(1),
        Arc::new(NoPeers),
        &Fatals::default(),
    )
    .await
    .err()
    .unwrap();
    assert!(
        matches!(error, GroupError::SnapshotMissing { group: 0, .. }),
        "{error}"
    );

    let name = disk.list(&dir).unwrap().pop().unwrap();
    disk.flip(&dir.join(name), 60, 1).unwrap();
    let error = start(&disk, config(1), Arc::new(NoPeers), &Fatals::default())
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().contains(".snap is damaged at byte"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_or_apply_is_fatal_and_acknowledges_nothing() {
    let disk = SimDisk::new(1);
    let fatals = Fatals::default();
    let node = start(&disk, config(1), Arc::new(NoPeers), &fatals)
        .await
        .unwrap();
    node.group.found_alone("here").await.unwrap();
    node.group.propose(command(1)).await.unwrap();
    disk.set_faults(host::sim::Faults {
        syncs_until_error: Some(0),
        ..Default::default()
    });
    let error = node.group.propose(command(2)).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unknown { .. }), "{error}");
    wait(|| {
        fatals
            .texts()
            .iter()
            .any(|t| t.contains("cannot sync log file"))
    })
    .await;
    node.stop().await;

    disk.crash(CrashStyle::PowerInOrder);
    let fatals = Fatals::default();
    let node = start(&disk, config(1), Arc::new(NoPeers), &fatals)
        .await
        .unwrap();
    node.group.read_index().await.unwrap();
    assert_eq!(node.toy.len(), 1);
    let error = node
        .group
        .propose(Bytes::from_static(b"panic"))
        .await
        .unwrap_err();
    assert!(matches!(error, ProposeError::Unknown { .. }), "{error}");
    wait(|| {
        fatals
            .texts()
            .iter()
            .any(|t| t.contains("the state machine failed at entry"))
    })
    .await;
    node.stop().await;
}

/// Three members in one process.
struct Three {
    peers: LocalPeers,
    disks: Vec<SimDisk>,
    nodes: BTreeMap<u64, Node>,
}

impl Three {
    async fn new(config: impl Fn(u64) -> GroupConfig) -> Three {
        let disks = (0..3).map(SimDisk::new).collect();
        let mut three = Three {
            peers: LocalPeers::new(),
            disks,
            nodes: BTreeMap::new(),
        };
        for id in 1..=3 {
            three.start(config(id)).await;
        }
        let members = (1..=3)
            .map(|id| {
                (
                    id,
                    Member {
                        addr: format!("node {id}"),
                    },
                )
            })
            .collect();
        three.nodes[&1].group.found(members).await.unwrap();
        three
    }

    async fn start(&mut self, config: GroupConfig) {
        let id = config.node;
        let disk = &self.disks[id as usize - 1];
        let node = start(disk, config, self.peers.of(id), &Fatals::default())
            .await
            .unwrap();
        self.peers.join(id, ENV_GROUP, node.group.responder());
        self.nodes.insert(id, node);
    }

    async fn kill(&mut self, id: u64) {
        self.peers.leave(id, ENV_GROUP);
        self.nodes.remove(&id).unwrap().stop().await;
        self.disks[id as usize - 1].crash(CrashStyle::PowerInOrder);
    }

    fn isolate(&self, id: u64, cut: bool) {
        for other in 1..=3 {
            self.peers.cut(id, other, cut);
            self.peers.cut(other, id, cut);
        }
    }

    /// A leader that can prove it.
    async fn leader(&self) -> u64 {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            for (id, node) in &self.nodes {
                if node.group.is_leader() && node.group.read_index().await.is_ok() {
                    return *id;
                }
            }
            assert!(std::time::Instant::now() < deadline, "no leader");
            tokio::task::yield_now().await;
        }
    }

    async fn propose(&self, payload: Bytes) -> u64 {
        loop {
            let leader = self.leader().await;
            if self.nodes[&leader]
                .group
                .propose(payload.clone())
                .await
                .is_ok()
            {
                return leader;
            }
        }
    }

    /// Waits until all members have applied the same.
    async fn converged(&self) {
        let same = || {
            let hashes: BTreeSet<u64> = self.nodes.values().map(|n| n.toy.hash()).collect();
            hashes.len() == 1
        };
        wait(same).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_survive_their_leader_and_catch_up_by_log_and_by_snapshot() {
    let config = |id| GroupConfig {
        snapshot_log_bytes: 10_000,
        ..config(id)
    };
    let mut three = Three::new(config).await;
    let first = three.propose(command(0)).await;
    three.converged().await;
    three.kill(first).await;
    let second = three.propose(command(1)).await;
    assert_ne!(first, second);
    // Enough for several snapshots, so that the log the dead member needs is purged.
    let body = vec![1; 1_000];
    for _ in 0..100 {
        three.propose(Bytes::from(body.clone())).await;
    }
    let wal = three.nodes[&second].wal.clone();
    wait(|| wal.state(ENV_GROUP).purged.is_some_and(|p| p.index > 50)).await;
    three.start(config(first)).await;
    three.converged().await;
    // Its log was too old: it came by snapshot.
    wait(|| three.nodes[&first].group.snapshot_last().is_some()).await;
    three.propose(command(2)).await;
    three.converged().await;
    assert_eq!(three.nodes[&first].toy.len(), 103);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_cut_off_serves_no_read_and_acknowledges_no_write() {
    let three = Three::new(config).await;
    let old = three.propose(command(0)).await;
    three.isolate(old, true);
    let group = three.nodes[&old].group.clone();
    let read = tokio::time::timeout(Duration::from_secs(2), group.read_index()).await;
    assert!(!matches!(read, Ok(Ok(_))), "{read:?}");
    let lost = tokio::spawn(async move { group.propose(Bytes::from_static(b"lost")).await });
    let rest: Vec<u64> = three
        .nodes
        .keys()
        .copied()
        .filter(|id| *id != old)
        .collect();
    wait(|| rest.iter().any(|id| three.nodes[id].group.is_leader())).await;
    let new = three.propose(command(1)).await;
    assert!(rest.contains(&new));
    three.isolate(old, false);
    three.converged().await;
    assert!(matches!(
        lost.await.unwrap(),
        Err(ProposeError::Unknown { .. } | ProposeError::NotLeader { .. })
    ));
    assert_eq!(three.nodes[&old].toy.len(), 2);
    assert!(
        three.nodes[&old]
            .toy
            .lock()
            .commands
            .iter()
            .all(|c| &c[..] != b"lost")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_and_membership_move_on_request() {
    let three = Three::new(config).await;
    let old = three.propose(command(0)).await;
    let next = if old == 3 { 1 } else { old + 1 };
    three.nodes[&old].group.transfer_leader(next).await.unwrap();
    wait(|| three.nodes[&next].group.is_leader()).await;
    three.nodes[&next].group.read_index().await.unwrap();
    let two: BTreeSet<u64> = [next, old].into();
    three.nodes[&next]
        .group
        .change_voters(two.clone())
        .await
        .unwrap();
    wait(|| three.nodes[&old].group.status().borrow().voters == two).await;
    assert_eq!(three.nodes[&next].group.status().borrow().members.len(), 3);
    three.propose(command(1)).await;
    three.converged().await;
}

/// Waits for a condition, with a deadline.
async fn wait(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(
            std::time::Instant::now() < deadline,
            "the condition does not come true"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_goes_on_alone_after_the_majority_is_lost() {
    let mut three = Three::new(config).await;
    for i in 0..20 {
        three.propose(command(i)).await;
    }
    three.converged().await;
    for id in 1..=3 {
        three.kill(id).await;
    }
    let disk = three.disks[1].clone();
    let hook = Fatals::default().hook();
    let wal = Wal::open(&host_on(&disk), small_wal(), hook).unwrap();
    let remains = crate::remains(&wal, ENV_GROUP).unwrap();
    assert_eq!(remains.voters, BTreeSet::from([1, 2, 3]));
    let addr = "alone".to_owned();
    let pos = crate::go_on_alone(&wal, ENV_GROUP, 2, Member { addr })
        .await
        .unwrap();
    assert!(pos.term > remains.term && Some(pos.index - 1) == remains.last.map(|p| p.index));
    wal.close();
    let node = start(&disk, config(2), Arc::new(NoPeers), &Fatals::default())
        .await
        .unwrap();
    node.group.read_index().await.unwrap();
    assert_eq!(node.toy.len(), 20);
    assert_eq!(node.group.status().borrow().voters, BTreeSet::from([2]));
    node.group.propose(command(20)).await.unwrap();
    node.stop().await;
    // There is nothing to go on with on an empty disk.
    let empty = Wal::open(
        &host_on(&SimDisk::new(9)),
        small_wal(),
        Fatals::default().hook(),
    );
    let addr = String::new();
    let refused = crate::go_on_alone(&empty.unwrap(), ENV_GROUP, 2, Member { addr }).await;
    assert!(refused.is_err());
}
