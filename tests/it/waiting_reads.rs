//! Reads that wait for a view: whoever gives up takes the read back, at the lead and at every replica.

use std::time::{Duration, Instant};

use harness::Sql;
use harness::wire::{Raw, cstr, frame};
use tokio_postgres::NoTls;

use crate::node::{Node, column, run};
use crate::wire::{bind_body, parse_body};

const PENDING: &str = "clusterd_pending_peeks{cluster=\"quickstart\"}";
const HOLDS: &str = "clusterd_read_holds{cluster=\"quickstart\"}";
/// Longest wait for a busy worker's next turn.
const PATIENCE: Duration = Duration::from_secs(60);

async fn wait_for(node: &Node, when: &str, metric: &str, wanted: f64) {
    let started = Instant::now();
    loop {
        let found = node.server.metrics().expect("metrics").get(metric).copied();
        if found == Some(wanted) {
            return;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{when}: {metric} is {found:?}, not {wanted}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// No statement waits any more.
async fn nothing_waits(node: &Node, when: &str) {
    wait_for(node, when, PENDING, 0.0).await;
    wait_for(node, when, HOLDS, 0.0).await;
}

/// Costs some 5 us per row. A worker takes orders between two pieces of the table that it reads.
const SLOWLY: &str = "length(repeat('x', 15000 + k % 2)) > 0";

/// A view that takes many times as long to build as its worker takes to come to its orders.
async fn node_with_slow_view() -> (Node, Sql) {
    let node = Node::start();
    let sql = node
        .sql_after(
            "create table t (k int);
             insert into t select x from generate_series(1, 400000) x",
        )
        .await;
    let view =
        format!("create materialized view slow as select count(*) as n from t where {SLOWLY}");
    sql.run(&view).await.expect("view");
    (node, sql)
}

/// Runs a read that waits, and ends it by a cancel.
async fn cancelled(node: &Node, read: &str) {
    let session = node.sql().await;
    let token = session.cancel_token();
    let cancel = async {
        wait_for(node, read, PENDING, 1.0).await;
        token.cancel_query(NoTls).await.expect("cancel");
    };
    let (state, ()) = tokio::join!(session.state(read), cancel);
    assert_eq!(state, "57014", "{read}");
    nothing_waits(node, read).await;
}

#[test]
fn reads_that_wait_are_taken_back_when_nobody_wants_them() {
    run(async {
        let (node, sql) = node_with_slow_view().await;
        let read = "select n from slow";
        cancelled(&node, read).await;

        let late = node.sql_after("set statement_timeout = '300ms'").await;
        assert_eq!(late.state(read).await, "57014");
        nothing_waits(&node, "out of time").await;

        let mut broken = Raw::session(node.server.sql_addr()).expect("a session");
        broken.send(b'Q', &cstr(read)).expect("send");
        wait_for(&node, "to be broken", PENDING, 1.0).await;
        drop(broken);
        nothing_waits(&node, "broken").await;

        // Drivers send the Sync along.
        let mut broken = Raw::session(node.server.sql_addr()).expect("a session");
        let messages = [
            frame(b'P', &parse_body("", read, &[])),
            frame(b'B', &bind_body("", "", &[])),
            frame(b'E', &[0; 5]),
            frame(b'S', &[]),
        ];
        broken.bytes(&messages.concat()).expect("send");
        wait_for(&node, "to be broken", PENDING, 1.0).await;
        drop(broken);
        nothing_waits(&node, "broken with a Sync").await;

        let late = node.sql_after("set statement_timeout = '100ms'").await;
        assert_eq!(late.state(read).await, "57014", "nothing was answered");
        wait_for(&node, "out of time again", PENDING, 0.0).await;
        // A read by a dataflow of its own, which is not ready either.
        cancelled(&node, &format!("select count(*) + 1 from t where {SLOWLY}")).await;
        assert_eq!(sql.state("drop materialized view slow").await, "00000");
        assert_eq!(column(&sql, "select k from t where k = 7").await, "7");
    });
}
