//! Nodes that come, lead, die and are removed while the environment is in use.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::mesh::free_udp_addr;
use harness::mesh::roles::Roles;
use harness::{Launch, Server, Sql};

use crate::node::{binary, column, run};

/// Nothing takes so long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the command prints, which must succeed.
fn printed(args: &[&str]) -> String {
    let output = Command::new(binary())
        .args(args)
        .output()
        .expect("the binary runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// An environment that one node has made, and the others have joined: ids count from 1 in the order of the list.
fn grown(dir: &Path, count: usize) -> Vec<Server> {
    let place =
        |n: usize| -> (PathBuf, SocketAddr) { (dir.join(format!("n{n}")), free_udp_addr()) };
    let (path, first_at) = place(1);
    let first = Launch::new(binary(), path).mesh_addr(first_at);
    let mut nodes = vec![first.start().unwrap_or_else(|error| panic!("{error}"))];
    for n in 2..=count {
        let token = token_of(&nodes[0]);
        let (path, at) = place(n);
        let node = Launch::new(binary(), path).mesh_addr(at).args(&[
            "--join",
            &first_at.to_string(),
            "--join-token",
            &token,
        ]);
        nodes.push(node.start().unwrap_or_else(|error| panic!("{error}")));
    }
    nodes
}

fn token_of(node: &Server) -> String {
    printed(&["token", "new", "--sql-addr", &node.sql_addr().to_string()])
}

async fn session(node: &Server) -> Sql {
    node.target().connect().await.expect("a session")
}

/// Waits until a query, asked again and again, gives this; a statement may fail meanwhile.
async fn until(node: &Server, query: &str, expected: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut found = "no session".to_owned();
        if let Ok(sql) = node.target().connect().await {
            match sql.rows(query).await {
                Ok(answer) => {
                    let cells = answer.rows().iter().map(|row| row[0].clone());
                    let cells = cells.map(Option::unwrap_or_default);
                    found = cells.collect::<Vec<_>>().join(" ");
                }
                Err(error) => found = harness::sql::error_text(&error),
            }
        }
        if found == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{query}: {found}, not {expected}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const VOTERS: &str = "select voters from mz_internal.mz_groups where name = 'env'";

fn said(server: &Server, words: &str) {
    assert!(
        server.wait_output(words, PATIENCE),
        "no {words:?} in\n{}",
        server.output()
    );
}

/// Writes rows until it is dropped; every one that was acknowledged is counted.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Writer {
    fn start(node: &Server) -> Writer {
        let (stop, acknowledged) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, count, target) = (stop.clone(), acknowledged.clone(), node.target());
        let write = async move {
            let sql = target.connect().await.expect("a session");
            for row in 0_u64.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let written = sql.run(&format!("insert into t values ({row})")).await;
                if written.is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        Writer {
            stop,
            acknowledged,
            task: tokio::spawn(write),
        }
    }

    /// Waits until it has gone on by a few rows since now.
    async fn goes_on(&self) {
        let before = self.acknowledged.load(Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        while self.acknowledged.load(Ordering::Relaxed) < before + 10 {
            assert!(Instant::now() < deadline, "nothing is written any more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the writer ends");
        self.acknowledged.load(Ordering::Relaxed)
    }
}

#[test]
fn a_founder_comes_back_while_a_node_that_joined_later_leads() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let mut nodes = grown(dir.path(), 3);
        until(&nodes[0], VOTERS, "{1,2,3}").await;
        let sql = session(&nodes[0]).await;
        sql.run("create table t (a int)").await.expect("a table");
        sql.run("insert into t values (1)").await.expect("a row");
        drop(sql);
        for crash in [false, true] {
            match crash {
                true => nodes[0].kill9(),
                false => assert!(nodes[0].terminate().is_some_and(|status| status.success())),
            }
            until(&nodes[1], "insert into t values (2) returning a", "2").await;
            let roles = Roles::ask(&session(&nodes[1]).await, None).await;
            assert_ne!(roles.expect("roles").env_leader, 1);
            // What it knows of the others it has from its log: it was there before them.
            nodes[0].restart().unwrap_or_else(|error| panic!("{error}"));
            let sql = session(&nodes[0]).await;
            let there = column(&session(&nodes[2]).await, "select count(*) from t").await;
            assert_eq!(column(&sql, "select count(*) from t").await, there);
            sql.run("insert into t values (3)").await.expect("a write");
        }
    });
}

#[test]
fn a_voter_that_is_removed_without_being_drained_stops_and_stays_out() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let mut nodes = grown(dir.path(), 3);
        until(&nodes[0], VOTERS, "{1,2,3}").await;
        let sql = session(&nodes[0]).await;
        sql.run("create table t (a int)").await.expect("a table");
        let writer = Writer::start(&nodes[0]);
        writer.goes_on().await;
        let stale = session(&nodes[2]).await;
        stale
            .run("set default_transaction_isolation = 'serializable'")
            .await
            .expect("set");
        printed(&[
            "node",
            "remove",
            "3",
            "--sql-addr",
            &nodes[1].sql_addr().to_string(),
        ]);
        // It stops by itself, says why, and what to do; sessions end with it.
        let status = nodes[2].wait_exit(PATIENCE);
        let output = nodes[2].output();
        assert!(
            status.is_some_and(|status| status.code() == Some(1)),
            "{status:?}: {output}"
        );
        said(
            &nodes[2],
            "node n3 is no part of its environment any more, and serves nothing",
        );
        said(&nodes[2], "let it join as a new node with a new token");
        assert!(stale.rows("select count(*) from t").await.is_err());
        writer.goes_on().await;
        until(&nodes[0], VOTERS, "{1}").await;
        // Its directory is of no use, and both sides say so.
        let mut again = nodes[2].spawn_again().expect("a process");
        let status = again.wait_exit(PATIENCE);
        assert!(
            status.is_some_and(|status| !status.success()),
            "{}",
            again.output()
        );
        said(&again, "node n3 is no part of its environment");
        let told = |node: &Server| {
            let output = node.output();
            output.lines().any(|line| {
                line.contains("a mesh connection was refused")
                    && line.contains("node n3 was removed")
            })
        };
        let deadline = Instant::now() + PATIENCE;
        while !nodes[..2].iter().any(told) {
            assert!(Instant::now() < deadline, "nobody says that it was refused");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let written = writer.end().await;
        let count = column(&session(&nodes[1]).await, "select count(*) from t").await;
        assert_eq!(count, written.to_string());
    });
}

#[test]
fn a_dead_voter_gives_its_place_to_one_that_has_caught_up_while_writes_go_on() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let mut nodes = grown(dir.path(), 4);
        until(&nodes[0], VOTERS, "{1,2,3}").await;
        let sql = session(&nodes[0]).await;
        sql.run("create table t (a int)").await.expect("a table");
        let writer = Writer::start(&nodes[0]);
        writer.goes_on().await;
        nodes[1].kill9();
        writer.goes_on().await;
        printed(&[
            "node",
            "remove",
            "2",
            "--sql-addr",
            &nodes[0].sql_addr().to_string(),
        ]);
        until(&nodes[0], VOTERS, "{1,3,4}").await;
        writer.goes_on().await;
        // The new one's vote counts: without it there would be no majority now.
        nodes[2].kill9();
        writer.goes_on().await;
        let written = writer.end().await;
        let count = column(&session(&nodes[3]).await, "select count(*) from t").await;
        let count: u64 = count.parse().expect("a number");
        // What was not acknowledged may be there.
        assert!(
            count >= written,
            "{count} rows of {written} that were acknowledged"
        );
    });
}
