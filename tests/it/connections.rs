//! Many sessions, cancel, timeouts, and who may come in.

use std::time::{Duration, Instant};

use harness::{Sql, Target, sqlstate};
use tokio_postgres::NoTls;

use crate::node::{Node, column, run};

/// Lets this process hold `wanted` sockets; the server raises its own limit.
fn allow_files(wanted: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls only read or write the one struct they are given.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max.min(limit.rlim_cur.max(wanted));
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
    assert!(
        limit.rlim_cur >= wanted,
        "this machine allows {} open files, the test needs {wanted}",
        limit.rlim_cur
    );
}

#[test]
fn thousand_connections_work_at_once() {
    allow_files(1500);
    run(async {
        let node = Node::start();
        let setup = node.sql_after("create table t (k int primary key, v int); insert into t select x, x from generate_series(0, 999) x").await;
        let mut sessions: Vec<Sql> = Vec::new();
        while sessions.len() < 1000 {
            let batch = (0..50)
                .map(|_| node.server.target())
                .map(|target| async move { target.connect().await });
            sessions.extend(
                futures::future::try_join_all(batch)
                    .await
                    .expect("sessions"),
            );
        }
        let reads = sessions
            .iter()
            .enumerate()
            .map(|(k, s)| async move { s.one(&format!("select v from t where k = {k}")).await });
        let values = futures::future::try_join_all(reads).await.expect("reads");
        assert_eq!(values, (0..1000).map(|k| k.to_string()).collect::<Vec<_>>());
        drop(sessions);
        assert_eq!(column(&setup, "select count(*) from t").await, "1000");
    });
}

#[test]
fn cancel_stops_a_running_statement_and_leaves_the_session_usable() {
    run(async {
        let node = Node::start();
        let sql = node.sql().await;
        let token = sql.cancel_token();
        // The statement has to be running first: cancels are repeated until one has hit it.
        let cancels = async {
            loop {
                token.cancel_query(NoTls).await.expect("cancel");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let outcome = tokio::select! {
            outcome = sql.run("select pg_sleep(100)") => outcome,
            () = cancels => unreachable!("cancels never end by themselves"),
        };
        assert_eq!(sqlstate(&outcome.expect_err("cancelled")), "57014");
        assert_eq!(column(&sql, "select 1").await, "1");
    });
}

#[test]
fn cancel_with_a_wrong_secret_does_nothing() {
    run(async {
        let node = Node::start();
        let mut raw = harness::wire::Raw::open(node.server.sql_addr()).expect("a connection");
        let mut packet = 16_u32.to_be_bytes().to_vec();
        packet.extend(80_877_102_u32.to_be_bytes());
        packet.extend(1_u32.to_be_bytes());
        packet.extend(0xDEAD_BEEF_u32.to_be_bytes());
        raw.bytes(&packet).expect("send");
        assert!(
            raw.drain(Duration::from_secs(5)).is_empty(),
            "a cancel request is never answered"
        );
        assert_eq!(column(&node.sql().await, "select 1").await, "1");
    });
}

#[test]
fn statement_timeout_ends_what_takes_too_long() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("set statement_timeout = '200ms'").await;
        let started = Instant::now();
        assert_eq!(sql.state("select pg_sleep(100)").await, "57014");
        assert!(started.elapsed() < Duration::from_secs(20));
        assert_eq!(sql.state("select 1").await, "00000");
        let heavy =
            "select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b";
        // Out of memory for one statement may come before the end of its time.
        let heavy = sql.state(heavy).await;
        assert!(["57014", "53200"].contains(&heavy.as_str()), "{heavy}");
        sql.run("reset statement_timeout").await.expect("reset");
        assert_eq!(column(&sql, "show statement_timeout").await, "0");
    });
}

#[test]
fn unknown_database_and_role_are_refused_with_their_codes() {
    run(async {
        let node = Node::start();
        let good = node.server.target();
        for (target, wanted) in [
            (
                Target {
                    dbname: "nosuch".to_owned(),
                    ..good.clone()
                },
                "3D000",
            ),
            (
                Target {
                    user: "nosuch".to_owned(),
                    ..good.clone()
                },
                "28000",
            ),
        ] {
            let error = target.connect().await.err().expect("a refusal");
            assert_eq!(
                sqlstate(&error),
                wanted,
                "{}",
                harness::sql::error_text(&error)
            );
            assert!(
                error.as_db_error().is_some_and(|e| e.hint().is_some()),
                "no hint: {}",
                harness::sql::error_text(&error)
            );
        }
    });
}

#[test]
fn sessions_keep_their_own_settings_and_prepared_statements() {
    run(async {
        let node = Node::start();
        let (a, b) = (node.sql().await, node.sql().await);
        a.run("set datestyle = 'ISO, DMY'; prepare p(int) as select $1 + 1; set application_name = 'a'").await.expect("set");
        assert_eq!(column(&a, "execute p(41)").await, "42");
        assert_eq!(b.state("execute p(41)").await, "26000");
        assert_eq!(column(&b, "show datestyle").await, "ISO, MDY");
        assert_eq!(a.state("execute p(1, 2)").await, "42601");
        a.run("discard all").await.expect("discard");
        assert_eq!(a.state("execute p(41)").await, "26000");
    });
}

/// A session that dies in the middle of a transaction leaves nothing that blocks others.
#[test]
fn broken_sessions_leave_nothing_behind() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("create table t (k int primary key)").await;
        for _ in 0..20 {
            let session = node.sql().await;
            session
                .run("begin; insert into t values (1)")
                .await
                .expect("write");
        }
        assert_eq!(column(&sql, "select count(*) from t").await, "0");
        assert_eq!(sql.state("insert into t values (1)").await, "00000");
    });
}

#[test]
fn prepared_statement_whose_columns_change_is_refused() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after("create table t (k int, v int); insert into t values (1, 2); create table u (k int)")
            .await;
        sql.run("prepare star as select * from t; prepare named as select k from t")
            .await
            .expect("prepare");
        let extended = sql
            .client()
            .prepare("select * from t")
            .await
            .expect("prepare");
        // A change elsewhere makes the plan anew, and nobody notices.
        sql.run("drop table u").await.expect("drop");
        assert_eq!(column(&sql, "execute star").await, "1|2");
        for (columns, values) in [
            ("k int, v text", "1, 'x'"),
            ("k int, w int", "1, 2"),
            ("k int", "1"),
        ] {
            sql.run("drop table t").await.expect("drop");
            sql.run(&format!("create table t ({columns})"))
                .await
                .expect("create");
            sql.run(&format!("insert into t values ({values})"))
                .await
                .expect("insert");
            for _ in 0..2 {
                assert_eq!(sql.state("execute star").await, "0A000", "{columns}");
            }
            assert_eq!(column(&sql, "execute named").await, "1", "{columns}");
            let error = sql
                .client()
                .query(&extended, &[])
                .await
                .expect_err("refused");
            assert_eq!(sqlstate(&error), "0A000", "{columns}");
        }
        sql.run("drop table t").await.expect("drop");
        sql.run("create table t (k int, v int)")
            .await
            .expect("create");
        assert_eq!(column(&sql, "execute star").await, "");
    });
}
