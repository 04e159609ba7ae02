//! The leader of a CLUSTER dies by kill -9 while clients of the other nodes read what it maintains: they see no error, and nothing is built anew.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::mesh::Mesh;
use harness::sql::error_text;
use harness::wire::{Raw, cstr};
use harness::{Sql, Target};

use crate::node::{binary, column, patient, run};

/// Rows written before the leader dies, and in all.
const BEFORE: i64 = 20;
const ALL: i64 = 60;
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads on one node until told to stop: how often, and the longest that one took.
async fn read_on(target: Target, query: &str, stop: &AtomicBool) -> (u64, Duration) {
    let sql = target.connect().await.expect("a session");
    let (mut reads, mut longest, mut last) = (0, Duration::ZERO, 0);
    while !stop.load(Ordering::Acquire) {
        let began = Instant::now();
        let count = sql.one(query).await;
        let count = count.unwrap_or_else(|error| panic!("{query}: {}", error_text(&error)));
        longest = longest.max(began.elapsed());
        let count: i64 = count.parse().expect("a number");
        assert!(
            count >= last,
            "{count} after {last}: an older state was read"
        );
        last = count;
        reads += 1;
    }
    (reads, longest)
}

/// Takes the changes of the view until all rows have come; how often each was there.
fn subscribe(addr: SocketAddr) -> BTreeMap<i64, i64> {
    let mut session = Raw::session(addr).expect("a session");
    let subscribe = cstr("copy (subscribe (select k from m)) to stdout");
    session.send(b'Q', &subscribe).expect("sent");
    let (mut rows, mut newest) = (BTreeMap::new(), 0);
    while rows.len() < ALL as usize {
        let message = session.read().expect("a message");
        assert_ne!(message.tag, b'E', "{:?}", message.field(b'M'));
        if message.tag != b'd' {
            continue;
        }
        let text = String::from_utf8(message.body).expect("text");
        let fields: Vec<i64> = text
            .trim_end()
            .split('\t')
            .map(|field| field.parse().expect("a number"))
            .collect();
        let [time, diff, k] = fields[..] else {
            panic!("{text}");
        };
        assert!(time >= newest, "time goes back from {newest} to {time}");
        newest = time;
        *rows.entry(k).or_insert(0) += diff;
    }
    rows
}

/// Writes a row however long that takes: an unknown outcome is cleared up by the key.
async fn write(sql: &Sql, k: i64) {
    let insert = format!("insert into t values ({k})");
    let began = Instant::now();
    loop {
        match sql.run(&insert).await {
            Ok(()) => return,
            Err(error) => {
                let text = error_text(&error);
                assert!(began.elapsed() < PATIENCE, "{insert}: {text}");
                if text.starts_with("23505") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

#[test]
fn readers_and_subscribers_of_other_nodes_do_not_notice_that_a_leader_dies() {
    run(async {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut mesh = Mesh::form_with(&binary(), dir.path(), 3, patient)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let sql = mesh.sql(0).await.expect("a session");
        sql.run("create table t (k int primary key)")
            .await
            .expect("t");
        let view = "create materialized view m as select k from t";
        sql.run(view).await.expect("m");
        let ready = "select count(*) from mz_internal.mz_replica_statuses where ready";
        let began = Instant::now();
        while column(&sql, ready).await != "3" {
            assert!(began.elapsed() < PATIENCE, "a replica on each node");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for place in 0..3 {
            let there = mesh.sql(place).await.expect("a session");
            assert_eq!(column(&there, "select count(*) from m").await, "0");
        }
        let roles = mesh.roles(0, Some("m")).await.expect("roles");
        let leader = roles.cluster_leader.and_then(|id| mesh.place(id));
        let leader = leader.expect("a leader of the cluster");
        let others: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
        let created = |mesh: &Mesh, place| {
            let metric = "clusterd_controller_dataflows_created_total";
            mesh.metric(place, metric).expect("a metric")
        };
        let created_before: Vec<f64> = others.iter().map(|p| created(&mesh, *p)).collect();

        let stop = Arc::new(AtomicBool::new(false));
        let queries = [
            "select count(*) from m",
            "select count(*) from m a join t b on a.k = b.k",
        ];
        let mut readers = vec![];
        for place in &others {
            for query in queries {
                let (target, stop) = (mesh.node(*place).target(), Arc::clone(&stop));
                readers.push(tokio::spawn(
                    async move { read_on(target, query, &stop).await },
                ));
            }
        }
        let addr = mesh.node(others[0]).sql_addr();
        let subscriber = std::thread::spawn(move || subscribe(addr));
        let writer = mesh.sql(others[1]).await.expect("a session");
        for k in 0..ALL {
            if k == BEFORE {
                mesh.node_mut(leader).kill9();
            }
            write(&writer, k).await;
        }
        let finish = tokio::task::spawn_blocking(move || subscriber.join());
        let rows = finish.await.expect("joined").expect("subscribed");
        stop.store(true, Ordering::Release);
        for reader in readers {
            let (reads, longest) = reader.await.expect("no error");
            assert!(reads > 0);
            assert!(longest < Duration::from_secs(20), "{longest:?}");
        }
        assert_eq!(
            rows,
            (0..ALL).map(|k| (k, 1)).collect(),
            "no gap, nothing twice"
        );
        let created_after: Vec<f64> = others.iter().map(|p| created(&mesh, *p)).collect();
        assert_eq!(
            created_after, created_before,
            "survivors keep what they have"
        );
        let heir = mesh.roles(others[0], Some("m")).await.expect("roles");
        assert_ne!(heir.cluster_leader, roles.cluster_leader);
    });
}
