//! A full disk: growth is refused with 53100, everything that reads or frees still works.
//!
//! The disk is a small tmpfs in a mount namespace of the server alone, which needs root or unprivileged user namespaces. Where neither is
//! allowed the case cannot run: it says so on stderr, and fails if `CLUSTERD_CI` is set.

use std::process::Command;
use std::time::Duration;

use harness::Sql;

use crate::node::{Node, column, run};

/// The whole disk of the server.
const DISK_MB: usize = 384;

/// The `unshare` words that work here.
fn namespace() -> Option<Vec<&'static str>> {
    [vec!["unshare", "-m"], vec!["unshare", "-Urm"]]
        .into_iter()
        .find(|words| {
            let probe = Command::new(words[0])
                .args(&words[1..])
                .args(["sh", "-c", "mount -t tmpfs none /tmp"])
                .output();
            probe.is_ok_and(|output| output.status.success())
        })
}

fn node_on_small_disk() -> Option<Node> {
    let Some(mut words) = namespace() else {
        eprintln!(
            "NOT RUN: a full disk needs root or user namespaces, and this machine allows neither"
        );
        assert!(
            std::env::var_os("CLUSTERD_CI").is_none(),
            "the full-disk case has to run in CI"
        );
        return None;
    };
    let script = format!(
        "d=$3; mkdir -p \"$d\" && mount -t tmpfs -o size={DISK_MB}m none \"$d\" && exec \"$@\""
    );
    words.extend(["sh", "-c", &script, "sh"]);
    Some(Node::start_with(|launch| launch.wrapper(&words)))
}

/// Inserts until the server refuses; its SQLSTATE and the number of acknowledged rows.
async fn fill(sql: &Sql) -> (String, usize) {
    let value = "x".repeat(500_000);
    for n in 0..4 * DISK_MB {
        let state = sql
            .state(&format!("insert into big values ({n}, '{value}{n}')"))
            .await;
        if state != "00000" {
            return (state, n);
        }
    }
    panic!("{} MB went onto a disk of {DISK_MB} MB", 2 * DISK_MB);
}

#[test]
fn full_disk_refuses_growth_and_serves_everything_else() {
    let Some(node) = node_on_small_disk() else {
        return;
    };
    run(async {
        let setup = "create table small (k int primary key, v int); insert into small values (1, 1), (2, 2);
                     create materialized view mv as select sum(v) as s from small; create table big (k int primary key, v text); create table other (k int)";
        let sql = node.sql_after(setup).await;
        let (state, rows) = fill(&sql).await;
        assert_eq!(state, "53100", "after {rows} rows");
        assert!(rows > 0);
        assert_eq!(
            sql.state(&format!(
                "insert into big values (-1, '{}')",
                "y".repeat(500_000)
            ))
            .await,
            "53100"
        );
        assert_eq!(
            column(&sql, "select k, v from small order by k").await,
            "1|1 2|2"
        );
        assert_eq!(column(&sql, "select s from mv").await, "3");
        assert_eq!(
            column(&sql, "select count(*) from big").await,
            rows.to_string()
        );
        assert_eq!(node.server.http("/livez").expect("an answer").0, 200);
        assert_eq!(
            sql.state("drop table other").await,
            "00000",
            "DROP on a full disk"
        );
        assert_eq!(
            sql.state("truncate big").await,
            "00000",
            "TRUNCATE on a full disk"
        );
        assert_eq!(column(&sql, "select count(*) from big").await, "0");
        // The space comes back once a snapshot has let the old log go.
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while sql.state("insert into small values (3, 3)").await != "00000" {
            assert!(
                std::time::Instant::now() < deadline,
                "TRUNCATE never gave space back"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(column(&sql, "select s from mv").await, "6");
    });
}
