//! Several nodes: where CLUSTERs run, and what becomes of it when nodes are drained, removed and join.

use std::path::Path;
use std::time::{Duration, Instant};

use harness::mesh::Mesh;
use harness::sql::error_text;
use harness::{Launch, Server, Sql};

use crate::node::{binary, column, patient, run};

/// Replicas are built anew where they move to.
const PATIENCE: Duration = Duration::from_secs(45);

async fn must(sql: &Sql, statement: &str) {
    let done = sql.run(statement).await;
    done.unwrap_or_else(|error| panic!("{statement}: {}", error_text(&error)));
}

/// What follows from a change comes by itself; until then, reads may fail.
async fn soon(sql: &Sql, query: &str, expected: &str) {
    let started = Instant::now();
    loop {
        let found = match sql.rows(query).await {
            Ok(_) => column(sql, query).await,
            Err(error) => error_text(&error),
        };
        if found == expected {
            return;
        }
        let waited = started.elapsed();
        assert!(waited < PATIENCE, "{query}: {found}, not {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Nodes with a replica of the CLUSTER that is ready, and how many it wants.
fn hosts(cluster: &str) -> String {
    format!(
        "select array_agg(r.node_id order by r.node_id)::text, count(*) from mz_cluster_replicas r \
         join mz_clusters c on r.cluster_id = c.id left join mz_internal.mz_replica_statuses s on s.replica_id = r.id \
         where c.name = '{cluster}' and coalesce(s.ready, r.node_id is null)"
    )
}

fn voters(cluster: &str) -> String {
    format!(
        "select array_agg(node_id order by node_id)::text from mz_internal.mz_cluster_voters \
         where cluster_id = (select id from mz_clusters where name = '{cluster}')"
    )
}

/// A node that is let in by a token.
fn join(dir: &Path, addresses: &str, token: &str) -> Server {
    let launch = Launch::new(binary(), dir)
        .arg("--join")
        .arg(addresses)
        .arg("--join-token")
        .arg(token);
    launch.start().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn clusters_follow_the_nodes() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let mesh = Mesh::form_with(&binary(), dir.path(), 3, patient)
            .await
            .expect("a mesh");
        let sql = mesh.sql(1).await.expect("a session");
        soon(&sql, &hosts("quickstart"), "{1,2,3}|3").await;
        soon(&sql, &voters("quickstart"), "{1,2,3}").await;
        must(&sql, "create table t (a int)").await;
        must(&sql, "insert into t values (1), (2)").await;
        must(&sql, "create cluster two (replication factor 2)").await;
        must(&sql, "create cluster five (replication factor 5)").await;
        must(
            &sql,
            "create materialized view q as select count(*) as n from t",
        )
        .await;
        must(
            &sql,
            "create materialized view m in cluster two as select sum(a) as s from t",
        )
        .await;
        soon(&sql, &hosts("five"), "{1,2,3,NULL,NULL}|5").await;
        assert_eq!(column(&sql, "select n from q").await, "2");
        assert_eq!(column(&sql, "select s from m").await, "3");

        // Every node tells the same of what S holds, and each what it is itself.
        let nodes =
            "select array_agg(id order by id)::text, bool_and(status = 'active') from mz_nodes";
        let leaders =
            "select count(*) from mz_internal.mz_node_liveness where role = 'leader' and reachable";
        for place in 0..3 {
            let here = mesh.sql(place).await.expect("a session");
            assert_eq!(column(&here, nodes).await, "{1,2,3}|t");
            soon(&here, leaders, "1").await;
            let links = "select count(distinct node_id) from mz_internal.mz_mesh_links where connected and lane = 'raft'";
            soon(&here, links, "2").await;
        }

        // A fourth node takes what waits, then what a drained one has.
        let token = sql.one("create join token valid for '10 minutes'").await;
        let token = token.expect("a token");
        let addresses = sql
            .one("select string_agg(mesh_addr, ',') from mz_nodes")
            .await;
        let addresses = addresses.expect("addresses");
        let fourth = join(&dir.path().join("fourth"), &addresses, &token);
        let on_fourth = fourth.target().connect().await.expect("a session");
        soon(&sql, &hosts("five"), "{1,2,3,4,NULL}|5").await;
        assert_eq!(column(&on_fourth, "select s from m").await, "3");
        let used = "select used_by from mz_internal.mz_join_tokens where expires_at < now() + interval '20 minutes'";
        assert_eq!(column(&sql, used).await, "4");

        // The session is at a node that stays.
        let leaving = if mesh.id(1) == 3 { 2 } else { 3 };
        let staying: Vec<String> = (1..5)
            .filter(|n| *n != leaving)
            .map(|n| n.to_string())
            .collect();
        let staying = staying.join(",");
        must(&sql, &format!("alter node {leaving} drain")).await;
        soon(&sql, &hosts("quickstart"), &format!("{{{staying}}}|3")).await;
        soon(&sql, &voters("quickstart"), &format!("{{{staying}}}")).await;
        soon(
            &sql,
            &format!(
                "select count(*) from mz_internal.mz_cluster_voters where node_id = {leaving}"
            ),
            "0",
        )
        .await;
        assert_eq!(column(&sql, "select n from q").await, "2");
        // A balancer is told to send nobody there.
        let place = mesh.place(leaving).expect("one of the three");
        assert_eq!(mesh.node(place).http("/readyz").expect("readyz").0, 503);
        must(&sql, &format!("drop node {leaving}")).await;
        soon(&sql, &hosts("five"), &format!("{{{staying},NULL,NULL}}|5")).await;
        let status = format!("select status from mz_nodes where id = {leaving}");
        assert_eq!(column(&on_fourth, &status).await, "removed");
        let back = sql.state(&format!("alter node {leaving} undrain")).await;
        assert_eq!(back, "42704");
        must(&sql, "insert into t values (4)").await;
        assert_eq!(column(&on_fourth, "select s from m").await, "7");
        assert_eq!(column(&sql, "select n from q").await, "3");
    });
}
