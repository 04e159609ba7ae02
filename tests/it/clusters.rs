//! CLUSTERs and databases end: what they run, hold and keep goes with them, and does not come back.

use std::time::{Duration, Instant};

use harness::sql::error_text;
use harness::wire::{Raw, cstr};
use harness::{Sql, Target};

use crate::node::{Node, column, run};

const PATIENCE: Duration = Duration::from_secs(60);

async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The text of the error that a statement must end with.
async fn refusal(sql: &Sql, statement: &str) -> String {
    let error = sql.run(statement).await.expect_err(statement);
    error_text(&error)
}

/// Threads of the server that do a replica's work.
fn workers(node: &Node) -> usize {
    let tasks = format!("/proc/{}/task", node.server.pid());
    let tasks = std::fs::read_dir(tasks).expect("threads");
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("compute-")).count()
}

fn group_directories(node: &Node) -> Vec<String> {
    let dir = std::fs::read_dir(node.server.data_dir().join("snapshots")).expect("snapshots");
    let names = dir.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("cluster-")).collect();
    names.sort();
    names
}

fn has_series(node: &Node, cluster: &str) -> bool {
    let label = format!("cluster=\"{cluster}\"");
    let metrics = node.server.metrics().expect("metrics");
    metrics.keys().any(|name| name.contains(&label))
}

#[test]
fn dropped_cluster_takes_everything_along_and_stays_away() {
    run(async {
        let mut node = Node::start();
        let sql = node
            .sql_after("create table t (k int); insert into t values (1), (2)")
            .await;
        wait_until("the first cluster runs", async || workers(&node) > 0).await;
        let (threads, groups) = (workers(&node), group_directories(&node));
        for statement in [
            "create cluster c (workers 2)",
            "create materialized view m in cluster c as select sum(k) as s from t",
            "create index i in cluster c on t (k)",
            "create view over_m as select s from m",
        ] {
            sql.run(statement).await.expect(statement);
        }
        assert_eq!(column(&sql, "select s from over_m").await, "3");
        assert_eq!(workers(&node), threads + 2);
        assert!(has_series(&node, "c"));

        let guest = node.sql_after("set cluster = c").await;
        let join = "select count(*) from t a join t b on a.k = b.k";
        assert_eq!(column(&guest, join).await, "2");
        let mut subscriber = Raw::session(node.server.sql_addr()).expect("a session");
        subscriber.query("set cluster = c").expect("set");
        subscriber
            .send(b'Q', &cstr("copy (subscribe t) to stdout"))
            .expect("send");
        subscriber.until(b'd').expect("a change");

        let refused = refusal(&sql, "drop cluster c").await;
        assert!(refused.starts_with("2BP01"), "{refused}");
        for part in [
            "materialized view m depends on cluster c",
            "index i",
            "CASCADE",
        ] {
            assert!(refused.contains(part), "{refused}");
        }
        assert_eq!(column(&sql, "select s from m").await, "3");
        // Naming it twice does no harm.
        sql.run("drop cluster c, c cascade").await.expect("drop");

        for (statement, state) in [
            ("select * from m", "42P01"),
            ("select * from over_m", "42P01"),
            ("select * from t", "00000"),
            ("drop cluster c", "42704"),
            ("drop cluster if exists c", "00000"),
            ("set cluster = c", "00000"),
        ] {
            assert_eq!(sql.state(statement).await, state, "{statement}");
        }
        let end = subscriber.until(b'Z').expect("the session goes on");
        let error = end.iter().find(|message| message.tag == b'E');
        let error = error.expect("the subscription is over");
        assert_eq!(error.field(b'C').as_deref(), Some("42704"));
        let refused = refusal(&guest, join).await;
        assert!(
            refused.starts_with("42704: cluster \"c\" does not exist; hint"),
            "{refused}"
        );
        let view = "create materialized view n as select k from t";
        assert_eq!(guest.state(view).await, "42704");
        assert_eq!(column(&guest, "select k from t where k = 1").await, "1");

        wait_until("its threads end", async || workers(&node) == threads).await;
        wait_until("its files go", async || group_directories(&node) == groups).await;
        wait_until("its series vanish", async || !has_series(&node, "c")).await;
        assert!(has_series(&node, "quickstart"));

        drop((sql, guest));
        node.crash();
        let sql = node.sql().await;
        assert_eq!(
            column(&sql, "select name from mz_clusters").await,
            "quickstart"
        );
        wait_until("the first cluster runs", async || workers(&node) > 0).await;
        assert_eq!(workers(&node), threads);
        assert_eq!(group_directories(&node), groups);
        for statement in [
            "create cluster c (workers 1)",
            "create materialized view m in cluster c as select count(*) as n from t",
        ] {
            sql.run(statement).await.expect(statement);
        }
        assert_eq!(column(&sql, "select n from m").await, "2");
    });
}

/// The process may die between the drop and the end of what it dropped.
#[test]
fn what_a_crash_left_of_a_dropped_cluster_goes_at_the_next_start() {
    run(async {
        let mut node = Node::start();
        let sql = node.sql().await;
        wait_until("the first cluster runs", async || workers(&node) > 0).await;
        let groups = group_directories(&node);
        for round in 0..5 {
            let cluster = format!("c{round}");
            sql.run(&format!("create cluster {cluster}"))
                .await
                .expect("create");
            sql.run(&format!("drop cluster {cluster}"))
                .await
                .expect("drop");
        }
        drop(sql);
        node.crash();
        wait_until("what is left is removed", async || {
            group_directories(&node) == groups
        })
        .await;
        let sql = node.sql().await;
        assert_eq!(
            column(&sql, "select name from mz_clusters").await,
            "quickstart"
        );
        assert_eq!(
            sql.state("create materialized view m as select 1 as a")
                .await,
            "00000"
        );
        assert_eq!(column(&sql, "select a from m").await, "1");
    });
}

#[test]
fn what_cannot_be_changed_about_a_cluster_is_said_with_a_way_out() {
    run(async {
        let node = Node::start();
        let sql = node.sql().await;
        let refused = refusal(&sql, "alter cluster quickstart set (workers 4)").await;
        assert!(refused.starts_with("0A000"), "{refused}");
        assert!(refused.contains("hint"), "{refused}");
        assert_eq!(
            sql.state("alter cluster nosuch set (workers 4)").await,
            "42704"
        );
        assert_eq!(
            sql.state("alter cluster nosuch rename to other").await,
            "42704"
        );
    });
}

/// Views go on as they are; the series have the name that the CLUSTER has now.
#[test]
fn memory_limit_and_name_change_in_place() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after(
                "create table t (k int, v text);
                 insert into t select x, repeat('x', 200) from generate_series(1, 20000) x;
                 create cluster c (memory limit '100MB');
                 create materialized view m in cluster c as select k, v from t",
            )
            .await;
        let (read, peek) = ("select count(*) from m", "select k from m where k < 9");
        assert_eq!(column(&sql, read).await, "20000");
        assert!(has_series(&node, "c"));
        sql.run("alter cluster c rename to d")
            .await
            .expect("renamed");
        wait_until("its series follow", async || {
            has_series(&node, "d") && !has_series(&node, "c")
        })
        .await;
        let created = || {
            let metrics = node.server.metrics().expect("metrics");
            metrics["clusterd_controller_dataflows_created_total"]
        };
        let before = created();
        sql.run("alter cluster d set (memory limit '200MB')")
            .await
            .expect("raised");
        assert_eq!(column(&sql, read).await, "20000");
        assert_eq!(created(), before, "nothing is built anew");
        sql.run("alter cluster d set (memory limit '1MB')")
            .await
            .expect("lowered");
        wait_until("it is stopped for its size", async || {
            let answer = sql.run(peek).await.map_err(|error| error_text(&error));
            answer.is_err_and(|reason| reason.contains("out of memory"))
        })
        .await;
        sql.run("alter cluster d set (memory limit '100MB')")
            .await
            .expect("raised");
        wait_until("it is back", async || sql.state(peek).await == "00000").await;
        assert_eq!(column(&sql, read).await, "20000");
    });
}

fn in_database(node: &Node, dbname: &str) -> Target {
    Target {
        dbname: dbname.to_owned(),
        ..node.server.target()
    }
}

#[test]
fn dropped_database_takes_its_objects_along_and_stays_away() {
    run(async {
        let mut node = Node::start();
        let sql = node.sql_after("create database d").await;
        let inside = in_database(&node, "d").connect().await.expect("a session");
        for statement in [
            "create schema s",
            "create table s.t (k int)",
            "insert into s.t values (1)",
            "create materialized view m as select k from s.t",
        ] {
            inside.run(statement).await.expect(statement);
        }
        assert_eq!(column(&inside, "select k from m").await, "1");
        assert_eq!(
            inside.state("drop database d").await,
            "55006",
            "it is open here"
        );
        let refused = refusal(&sql, "drop database d").await;
        assert!(refused.starts_with("55006"), "{refused}");
        assert!(refused.contains("1 other session"), "{refused}");
        drop(inside);
        wait_until("the session ends", async || {
            let used = "select count(*) from pg_stat_activity where datname = 'd'";
            column(&sql, used).await == "0"
        })
        .await;
        let refused = refusal(&sql, "drop database d restrict").await;
        assert!(refused.starts_with("2BP01"), "{refused}");
        assert!(refused.contains("materialized view m"), "{refused}");
        sql.run("begin").await.expect("begin");
        assert_eq!(sql.state("drop database d").await, "25001");
        sql.run("rollback").await.expect("rollback");
        for (statement, state) in [
            ("drop database d", "00000"),
            ("drop database d", "3D000"),
            ("drop database if exists d", "00000"),
        ] {
            assert_eq!(sql.state(statement).await, state, "{statement}");
        }
        let again = in_database(&node, "d").connect().await;
        assert_eq!(harness::sqlstate(&again.err().expect("a refusal")), "3D000");
        let objects = "select count(*) from mz_objects where name in ('t', 'm')";
        assert_eq!(column(&sql, objects).await, "0");
        drop(sql);
        node.crash();
        let sql = node.sql().await;
        assert_eq!(column(&sql, objects).await, "0");
        assert_eq!(sql.state("drop database d").await, "3D000");
        assert_eq!(sql.state("create database d").await, "00000");
    });
}

/// A view that its CLUSTER's memory does not hold is back when there is room again, without a restart.
#[test]
fn stopped_view_returns_when_there_is_room() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after(
                "create table t (k int, v text);
                 insert into t select x, repeat('x', 200) from generate_series(1, 20000) x;
                 create cluster small (memory limit '1MB');
                 create materialized view m in cluster small as select k, v from t",
            )
            .await;
        let read = "select k from m where k < 9";
        // A replica that has ended is noticed before its reason is known.
        wait_until("it is stopped for its size", async || {
            let answer = sql.run(read).await.map_err(|error| error_text(&error));
            answer.is_err_and(|reason| reason.contains("out of memory"))
        })
        .await;
        assert_eq!(sql.state(read).await, "53200");
        sql.run("delete from t where k > 10").await.expect("delete");
        // The rows are gone for good once history before the delete is forgotten; until then it may be stopped again. Memory is looked at every half second.
        let mut back = None;
        wait_until("it is back", async || {
            let is_back = sql.state(read).await == "00000";
            back = back.filter(|_| is_back).or(is_back.then(Instant::now));
            back.is_some_and(|since| since.elapsed() > Duration::from_secs(2))
        })
        .await;
        assert_eq!(
            column(&sql, &format!("{read} order by k")).await,
            "1 2 3 4 5 6 7 8"
        );
    });
}
