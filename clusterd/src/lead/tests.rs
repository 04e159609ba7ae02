//! Three nodes in one process, over a network in memory: SQL at each of them, and what happens when one is not heard of any more.

use super::{Clusters, Foundation, Shared, group};
use crate::adapter::commit::Committer;
use crate::adapter::read_point::ReadPoints;
use crate::adapter::session::{Output, Session};
use crate::adapter::{Adapter, SessionStart};
use crate::config::StartArgs;
use crate::env::{Env, Machine};
use crate::node::{Groups, MeshPeers, Neighbours, placement};
use crate::server::fatal_hook;
use host::{BoxFuture, Clock, Host};
use mesh::{Fault, FaultTransport, Faults, Scope, SimNet, Transport};
use protocol::Lane;
use raft::{ENV_GROUP, Election, GroupClass, GroupConfig, Member, RaftGroup, Wal, WalConfig};
use repr::{ClusterId, Datum, NodeId, Row};
use state::command::{Command, Gateway};
use state::state::DEFAULT_CLUSTER;
use state::{NodeOp, Outcome, Placement};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard, watch};

const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    id: NodeId,
    clusters: Arc<Clusters>,
    adapter: Arc<Adapter>,
    faults: Arc<Faults>,
    _stop: watch::Sender<bool>,
}

/// One test at a time: they count what is built in the whole process.
static ALONE: Mutex<()> = Mutex::const_new(());

struct Nodes {
    _alone: MutexGuard<'static, ()>,
    net: SimNet,
    nodes: Vec<Node>,
    _dir: tempfile::TempDir,
}

fn start() -> SessionStart {
    SessionStart {
        user: "clusterd".to_owned(),
        ..SessionStart::default()
    }
}

/// A clock that makes what waits for minutes wait for seconds.
struct Hurried {
    clock: Arc<dyn Clock>,
    times: u64,
}

impl Clock for Hurried {
    fn wall_us(&self) -> u64 {
        self.clock.wall_us()
    }

    fn now(&self) -> host::Instant {
        host::Instant::from_nanos(self.clock.now().as_nanos() * self.times)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep(duration)
    }
}

async fn open_env(
    host: &Host,
    dir: &Path,
    transport: &Arc<dyn Transport>,
    groups: &Groups,
) -> (Arc<Wal>, Arc<Env>) {
    let wal = Wal::open(host, WalConfig::new(dir.join("wal")), fatal_hook()).expect("a log");
    let node = transport.node();
    let mut config = GroupConfig::new(
        ENV_GROUP,
        node.0,
        GroupClass::Env,
        dir.join("snapshots/env"),
    );
    config.election = Election::Dev;
    let (machine, _, storage) = Machine::new();
    let marks = machine.marks();
    let peers = MeshPeers::new(Arc::clone(transport));
    let group = RaftGroup::start(config, host, Arc::clone(&wal), machine, peers, fatal_hook());
    let group = group.await.expect("a group");
    groups.join(ENV_GROUP, group.responder());
    let env = Env::new(
        group,
        storage,
        marks,
        host.clone(),
        Arc::clone(transport),
        Election::Dev,
    );
    (wal, env)
}

/// The parts of a node, as in `server`, without ports. Whoever judges how long others have been silent does so by the clock of `judge`.
#[allow(clippy::too_many_arguments, reason = "the parts of a node")]
fn put_together(
    host: &Host,
    judge: &Host,
    dir: &Path,
    transport: Arc<dyn Transport>,
    faults: Arc<Faults>,
    groups: Arc<Groups>,
    wal: Arc<Wal>,
    env: Arc<Env>,
) -> Node {
    let id = transport.node();
    let (stop, stopping) = watch::channel(false);
    let clusters = Clusters::start(Foundation {
        env: Arc::clone(&env),
        host: host.clone(),
        wal,
        snapshots: dir.join("snapshots"),
        election: Election::Dev,
        transport: Arc::clone(&transport),
        groups,
    });
    let neighbours = Neighbours::new(
        Arc::clone(&env),
        judge.clone(),
        transport,
        stopping.clone(),
        fatal_hook(),
    );
    let read_points = ReadPoints::new(Arc::clone(&env));
    let (committer, commit_task) = Committer::new(Arc::clone(&env));
    let gateway = Gateway {
        node: id,
        incarnation: 1,
    };
    let args = StartArgs {
        data_dir: Some(dir.to_owned()),
        ..StartArgs::default()
    };
    let (adapter, forget) = Adapter::new(
        args.resolve().expect("a configuration"),
        host.clone(),
        Arc::clone(&env),
        Arc::clone(&read_points),
        committer,
        Arc::clone(&clusters),
        Arc::clone(&neighbours),
        gateway,
        stopping,
    );
    let spawn = |name, future| drop(host.spawn.spawn(name, future));
    spawn("read-points", Box::pin(read_points.run()));
    spawn("group-commit", Box::pin(commit_task));
    spawn("forget-sessions", Box::pin(forget));
    spawn("close", Box::pin(Arc::clone(&env).close_when_idle()));
    spawn("neighbours", Box::pin(Arc::clone(&neighbours).run()));
    let place = placement::run(
        Arc::clone(&env),
        judge.clone(),
        neighbours,
        Arc::clone(&clusters),
    );
    spawn("placement", Box::pin(place));
    Node {
        id,
        clusters,
        adapter,
        faults,
        _stop: stop,
    }
}

impl Nodes {
    /// Makes different nodes lead ENV and the default CLUSTER: the CLUSTER's leader, ENV's, and the third node.
    async fn led_apart(&self) -> (&Node, &Node, &Node) {
        let first = &self.nodes[0];
        let env_leader = || first.adapter.env.leader().expect("ENV has a leader");
        let elsewhere = async || {
            let (leader, _) = self.leader(DEFAULT_CLUSTER, first).await;
            if leader.id == env_leader() {
                leader.clusters.hand_over().await;
            }
            leader.id != env_leader()
        };
        until("different nodes lead", elsewhere).await;
        let (leader, others) = self.leader(DEFAULT_CLUSTER, first).await;
        let (env, third): (Vec<&Node>, Vec<&Node>) =
            others.into_iter().partition(|node| node.id == env_leader());
        (leader, env[0], third[0])
    }

    /// Three nodes, all voters of ENV, and a replica of the first CLUSTER on each.
    async fn form() -> Nodes {
        Nodes::form_hurried(1).await
    }

    /// As `form`; who is silent is given up so many times sooner.
    async fn form_hurried(times: u64) -> Nodes {
        let _alone = ALONE.lock().await;
        let host = Host::real();
        let mut judge = host.clone();
        judge.clock = Arc::new(Hurried {
            clock: Arc::clone(&host.clock),
            times,
        });
        let net = SimNet::new(host.clone());
        let dir = tempfile::tempdir().expect("a directory");
        let ids = [1, 2, 3].map(NodeId);
        let mut opened = vec![];
        for id in ids {
            let faults = Arc::new(Faults::new());
            let transport = Arc::new(net.start(id, 1));
            let transport = FaultTransport::new(transport, Arc::clone(&faults), host.clone());
            let transport: Arc<dyn Transport> = Arc::new(transport);
            let groups = Arc::new(Groups::default());
            let own = dir.path().join(id.0.to_string());
            let (wal, env) = open_env(&host, &own, &transport, &groups).await;
            groups.serve(&*transport);
            env.serve();
            opened.push((own, transport, faults, groups, wal, env));
        }
        let voters: BTreeMap<u64, Member> = ids
            .iter()
            .map(|id| {
                (
                    id.0,
                    Member {
                        addr: String::new(),
                    },
                )
            })
            .collect();
        for (.., env) in &opened {
            env.group().found(voters.clone()).await.expect("founded");
        }
        let first = &opened[0].5;
        until("ENV has a leader", async || {
            first.read_index().await.is_ok()
        })
        .await;
        let propose = async |command| {
            let outcomes = first.propose(&command).await.expect("committed");
            let refused = |outcome: &Outcome| matches!(outcome, Outcome::Invalid { .. });
            assert!(!outcomes.iter().any(refused), "{command:?}: {outcomes:?}");
        };
        propose(Command::Init {
            environment: 7,
            generation: mesh::Generation::FIRST.number,
            wall_us: first.wall_us(),
            superusers: vec!["clusterd".to_owned()],
        })
        .await;
        for node in ids {
            let mesh_addr = format!("n{node}");
            let admit = NodeOp::Admit {
                node,
                public_key: vec![node.0 as u8],
                mesh_addr,
                token_hash: None,
                wall_us: first.wall_us(),
            };
            propose(Command::Node(admit)).await;
        }
        for node in ids {
            let mesh_addr = format!("n{node}");

            propose(Command::GatewayStarted {
                gateway: Gateway {
                    node,
                    incarnation: 1,
                },
            })
            .await;
            let started = NodeOp::Started {
                node,
                incarnation: 1,
                mesh_addr,
                sql_addr: String::new(),
                http_addr: String::new(),
                version: String::new(),
            };
            propose(Command::Node(started)).await;
        }
        let nodes = opened
            .into_iter()
            .map(|(own, transport, faults, groups, wal, env)| {
                put_together(&host, &judge, &own, transport, faults, groups, wal, env)
            });
        let nodes = Nodes {
            _alone,
            net,
            nodes: nodes.collect(),
            _dir: dir,
        };
        until("each node has a replica", async || {
            nodes.replicas_ready(3).await
        })
        .await;
        until("each node votes", async || {
            nodes.nodes.iter().all(|node| node.clusters.are_formed())
        })
        .await;
        nodes
    }

    async fn replicas_ready(&self, count: usize) -> bool {
        let info = self.nodes[0].clusters.info(DEFAULT_CLUSTER).await;
        info.is_some_and(|info| info.replicas.iter().filter(|r| r.ready).count() == count)
    }

    /// The node that leads a CLUSTER, as `asked` sees it, and the others.
    async fn leader(&self, cluster: ClusterId, asked: &Node) -> (&Node, Vec<&Node>) {
        let mut leader = None;
        until("the cluster has a leader", async || {
            leader = asked.clusters.info(cluster).await;
            leader.is_some()
        })
        .await;
        let id = leader.expect("just found").leader;
        let (leads, others): (Vec<_>, Vec<_>) = self.nodes.iter().partition(|node| node.id == id);
        (leads[0], others)
    }
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn rows(outputs: Vec<Output>) -> Vec<Row> {
    outputs
        .into_iter()
        .flat_map(|output| match output {
            Output::Rows(rows) => rows.remaining().to_vec(),
            Output::Complete(_) | Output::Empty => vec![],
            Output::CopyIn(_) | Output::CopyOut(_) | Output::Subscribe(_) => {
                panic!("rows are expected")
            }
        })
        .collect()
}

async fn sql(node: &Node, text: &str) -> Vec<Row> {
    match node.adapter.sql(start(), text).await {
        Ok(outputs) => rows(outputs),
        Err(error) => panic!("node {}: {text}: {error:?}", node.id),
    }
}

async fn number(node: &Node, text: &str) -> i64 {
    match sql(node, text).await[0].iter().next() {
        Some(Datum::Int64(n)) => n,
        other => panic!("{text} answered {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_is_read_through_every_node_and_survives_its_leader() {
    let nodes = Nodes::form().await;
    let [first, second, third] = &nodes.nodes[..] else {
        panic!("three")
    };
    sql(first, "create table t (k int primary key, v int)").await;
    sql(
        second,
        "create materialized view m as select count(*) as n, sum(v) as s from t",
    )
    .await;
    sql(third, "create default index on m").await;
    for (k, node) in nodes.nodes.iter().enumerate() {
        sql(node, &format!("insert into t values ({k}, 1)")).await;
        for reader in &nodes.nodes {
            assert_eq!(number(reader, "select n from m").await, k as i64 + 1);
            // A dataflow of its own, wherever the leader is.
            assert_eq!(
                number(reader, "select count(*) from t a join m on a.v < m.n + 1").await,
                k as i64 + 1
            );
        }
    }
    let created = first.clusters.shared.created.get();
    let (leader, others) = nodes.leader(DEFAULT_CLUSTER, first).await;
    let mut subscriber = Session::start(Arc::clone(&others[0].adapter), start())
        .await
        .expect("a session");
    let declared = subscriber
        .run_script("begin; declare c cursor for subscribe (select n from m)")
        .await;
    drop(declared.expect("declared"));
    let snapshot = rows(subscriber.run_script("fetch 1 c").await.expect("fetched"));
    assert_eq!(snapshot.len(), 1);
    nodes.net.crash(leader.id);
    // No error, whoever is asked: only time passes.
    assert_eq!(number(others[0], "select n from m").await, 3);
    sql(others[1], "insert into t values (3, 1)").await;
    for reader in &others {
        assert_eq!(number(reader, "select n from m").await, 4);
        assert_eq!(
            number(reader, "select count(*) from t a join m on a.v < m.n + 1").await,
            4
        );
    }
    let changes = rows(
        subscriber
            .run_script("fetch 2 c with (timeout = '20s')")
            .await
            .expect("fetched"),
    );
    let changes: Vec<(i64, i64)> = changes
        .iter()
        .map(|row| {
            let datums: Vec<Datum<'_>> = row.iter().collect();
            match datums[..] {
                [Datum::MzTimestamp(_), Datum::Int64(diff), Datum::Int64(n)] => (n, diff),
                ref other => panic!("{other:?}"),
            }
        })
        .collect();
    let mut sorted = changes.clone();
    sorted.sort();
    assert_eq!(sorted, [(3, -1), (4, 1)], "no gap, nothing twice");
    assert_ne!(
        nodes.leader(DEFAULT_CLUSTER, others[0]).await.0.id,
        leader.id
    );
    assert_eq!(
        first.clusters.shared.created.get(),
        created,
        "nobody builds a dataflow anew"
    );
}

/// What a CLUSTER has on the disk of a node.
fn files(node: &Node, cluster: ClusterId) -> usize {
    let Shared {
        host,
        wal,
        snapshots,
        ..
    } = &*node.clusters.shared;
    let stored = group::stored(host, wal, snapshots);
    stored
        .iter()
        .filter(|group| group.cluster == cluster)
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_one_replica_is_read_from_everywhere_and_handed_over() {
    let nodes = Nodes::form().await;
    let first = &nodes.nodes[0];
    sql(first, "create cluster c (replication factor 1)").await;
    sql(first, "create table t (k int, v text)").await;
    let large = "insert into t select n, repeat('x', 1000) from generate_series(1, 4000) as n";
    sql(first, large).await;
    sql(
        first,
        "create materialized view m in cluster c as select k, v from t",
    )
    .await;
    let cluster = nodes.nodes[0].adapter.env.storage().view();
    let cluster = cluster.catalog().cluster_by_name("c").expect("created").id;
    for reader in &nodes.nodes {
        // More than one message holds, and from replica to leader to gateway.
        assert_eq!(sql(reader, "select * from m").await.len(), 4000);
        let own = "set cluster = c; select count(*) from m a join m b on a.k = b.k";
        assert_eq!(number(reader, own).await, 4000);
    }
    let created = first.clusters.shared.created.get();
    let (leader, others) = nodes.leader(cluster, first).await;
    let mut subscriber = Session::start(Arc::clone(&others[0].adapter), start())
        .await
        .expect("a session");
    let declared =
        "set cluster = c; begin; declare c cursor for subscribe (select count(*) from m)";
    drop(subscriber.run_script(declared).await.expect("declared"));
    let snapshot = subscriber.run_script("fetch 1 c").await;
    assert_eq!(rows(snapshot.expect("fetched")).len(), 1);
    leader.clusters.hand_over().await;
    let (heir, _) = nodes.leader(cluster, others[0]).await;
    assert_ne!(heir.id, leader.id);
    sql(leader, "delete from t where k > 3000").await;
    for reader in &nodes.nodes {
        let count = "select count(*) from m";
        assert_eq!(number(reader, count).await, 3000);
    }
    let changes = subscriber
        .run_script("fetch 2 c with (timeout = '20s')")
        .await;
    assert_eq!(rows(changes.expect("fetched")).len(), 2);
    assert_eq!(first.clusters.shared.created.get(), created);
    drop(subscriber.run_script("commit").await.expect("committed"));

    until("nobody holds anything", async || {
        let held = |node: &Node| {
            let sites = node.clusters.all_sites();
            let leads = sites.iter().filter_map(|site| site.leading());
            leads.map(|lead| lead.holds.outstanding()).sum::<usize>()
        };
        nodes.nodes.iter().map(held).sum::<usize>() == 0
    })
    .await;
    assert!(nodes.nodes.iter().any(|node| files(node, cluster) > 0));
    sql(first, "drop cluster c cascade").await;
    until("nothing of it stays", async || {
        nodes.nodes.iter().all(|node| files(node, cluster) == 0)
    })
    .await;
}

/// The cut-off node is elected with a catalog that lacks what replicas have been told to run since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_elected_out_of_sight_of_the_environment_rebuilds_nothing_and_gives_way() {
    let nodes = Nodes::form().await;
    let first = &nodes.nodes[0];
    sql(first, "create table t (k int)").await;
    sql(first, "insert into t values (1)").await;
    let (leader, env, blind) = nodes.led_apart().await;
    blind.faults.cut(env.id, None);
    env.faults.cut(blind.id, None);
    let view = "create materialized view m as select count(*) as n from t";
    sql(leader, view).await;
    for reader in [leader, env] {
        assert_eq!(number(reader, "select n from m").await, 1);
    }
    let created = first.clusters.shared.created.get();
    let site = leader.clusters.known_site(DEFAULT_CLUSTER).expect("a site");
    site.hand_over_to(blind.id).await;
    let elected = site.group().expect("a member").leader();
    assert_eq!(elected, Some(blind.id));
    until("it gives way", async || {
        // On a busy machine ENV may get another leader, which it sees.
        let sees = leader.adapter.env.leader() == Some(leader.id);
        let info = leader.clusters.info(DEFAULT_CLUSTER).await;
        info.is_some_and(|info| info.leader != blind.id || sees)
    })
    .await;
    sql(env, "insert into t values (2)").await;
    for reader in [leader, env] {
        assert_eq!(number(reader, "select n from m").await, 2);
    }
    // The replica of the node that was cut off could not begin before, and may be told again.
    let again = first.clusters.shared.created.get() - created;
    assert!(again <= 1, "{again} dataflows were built anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_from_the_environment_alone_gives_way() {
    let nodes = Nodes::form().await;
    let first = &nodes.nodes[0];
    sql(first, "create table t (k int)").await;
    let (leader, env, bridge) = nodes.led_apart().await;
    leader.faults.cut(env.id, None);
    env.faults.cut(leader.id, None);
    let began = Instant::now();
    sql(bridge, "insert into t values (1)").await;
    sql(
        bridge,
        "create materialized view m as select count(*) as n from t",
    )
    .await;
    for reader in [bridge, env] {
        assert_eq!(number(reader, "select n from m").await, 1);
        // Needs a leader that sees what was just written.
        let own = "select count(*) from t a join t b on a.k = b.k";
        assert_eq!(number(reader, own).await, 1);
    }
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    assert_ne!(nodes.leader(DEFAULT_CLUSTER, bridge).await.0.id, leader.id);
}

/// The group's only member is lost before the others have become members: by what S wishes they are most of it, by its log they are nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_elects_nobody_is_made_anew_and_keeps_the_dataflows() {
    let nodes = Nodes::form_hurried(30).await;
    let first = &nodes.nodes[0];
    sql(first, "create table t (k int)").await;
    let view = "create materialized view m as select count(*) as n from t";
    sql(first, view).await;
    for node in &nodes.nodes {
        assert_eq!(number(node, "select n from m").await, 0);
    }
    let env_leader = first.adapter.env.leader().expect("ENV has a leader");
    let (mut others, lost): (Vec<&Node>, Vec<&Node>) = nodes
        .nodes
        .iter()
        .partition(|node| node.id == env_leader || node.id.0 % 3 + 1 == env_leader.0);
    others.sort_by_key(|node| node.id != env_leader);
    let ([env, other], [lost]) = (&others[..], &lost[..]) else {
        panic!("three nodes");
    };
    let created = first.clusters.shared.created.get();
    let before = env.adapter.env.storage().view().placements()[&DEFAULT_CLUSTER].incarnation;
    nodes.net.crash(lost.id);
    let placement = Placement {
        incarnation: before + 1,
        voters: [lost.id].into(),
        ..Placement::clone(&env.adapter.env.storage().view().placements()[&DEFAULT_CLUSTER])
    };
    let cluster = DEFAULT_CLUSTER;
    let place = Command::Place { cluster, placement };
    drop(env.adapter.env.propose(&place).await.expect("committed"));
    until("another group leads", async || {
        let info = other.clusters.info(cluster).await;
        info.is_some_and(|info| info.epoch.incarnation > before + 1)
    })
    .await;
    sql(other, "insert into t values (1)").await;
    for reader in [env, other] {
        assert_eq!(number(reader, "select n from m").await, 1);
    }
    assert_eq!(first.clusters.shared.created.get(), created);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relaxed_read_needs_neither_the_environment_nor_a_leader() {
    let nodes = Nodes::form().await;
    let first = &nodes.nodes[0];
    sql(first, "create cluster c (replication factor 1)").await;
    sql(first, "create table t (k int)").await;
    sql(first, "insert into t values (1), (2)").await;
    sql(
        first,
        "create materialized view m in cluster c as select k from t",
    )
    .await;
    for reader in &nodes.nodes {
        assert_eq!(number(reader, "select count(*) from m").await, 2);
    }
    let cluster = first.adapter.env.storage().view();
    let cluster = cluster.catalog().cluster_by_name("c").expect("created").id;
    let mut info = None;
    until("it is led", async || {
        info = first.clusters.info(cluster).await;
        info.is_some()
    })
    .await;
    let info = info.expect("just seen");
    let elsewhere = |node: &&Node| node.id != info.leader && node.id != info.replicas[0].node;
    let gateway = nodes.nodes.iter().find(elsewhere).expect("three nodes");
    let mut session = Session::start(Arc::clone(&gateway.adapter), start())
        .await
        .expect("a session");
    let relaxed = "set default_transaction_isolation = 'serializable'";
    drop(session.run_script(relaxed).await.expect("set"));
    for lane in [Lane::Raft, Lane::Control, Lane::Bulk] {
        let scope = Scope {
            lane: Some(lane),
            ..Scope::default()
        };
        gateway.faults.set(scope, Fault::cut());
    }
    let read = session.run_script("select k from m").await;
    assert_eq!(rows(read.expect("read")).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_leaves_the_groups_and_stays_out() {
    let nodes = Nodes::form().await;
    let [first, _, third] = &nodes.nodes[..] else {
        panic!("three")
    };
    sql(first, "alter node 3 drain").await;
    let site = third.clusters.known_site(DEFAULT_CLUSTER).expect("a site");
    until("it leaves", async || site.group().is_none()).await;
    for _ in 0..50 {
        assert!(site.group().is_none(), "it comes back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(number(third, "select count(*) from mz_nodes").await, 3);
    sql(first, "alter node 3 undrain").await;
    until("it votes again", async || site.group().is_some()).await;
}
