//! What an acknowledgement promises: it survives SIGKILL, once, with everything that was acknowledged together.

use crate::node::{Node, column, run};

const SETUP: &str = "create table t (k int primary key, g int, v int);
    create view grouped as select g, count(*) as n, sum(v) as s from t group by g;
    create materialized view mv as select g, count(*) as n, sum(v) as s from t group by g";

#[test]
fn acknowledged_rows_and_views_survive_sigkill() {
    let mut node = Node::start();
    run(async {
        let sql = node.sql_after(SETUP).await;
        for k in 0..100 {
            sql.run(&format!("insert into t values ({k}, {}, {k})", k % 7))
                .await
                .expect("insert");
        }
        sql.run("update t set v = v + 1000 where g = 3")
            .await
            .expect("update");
        sql.run("delete from t where g = 5").await.expect("delete");
    });
    for round in 0..3 {
        node.crash();
        run(async {
            let sql = node.sql().await;
            assert_eq!(
                column(&sql, "select count(*), sum(v) from t").await,
                "86|18243",
                "round {round}"
            );
            let direct = sql
                .rows("select g, count(*), sum(v) from t group by g")
                .await
                .expect("rows");
            for view in ["mv", "grouped"] {
                let maintained = sql
                    .rows(&format!("select * from {view}"))
                    .await
                    .expect("rows");
                assert!(
                    direct.difference(&maintained).is_none(),
                    "round {round}, {view}: {}",
                    direct.difference(&maintained).expect("checked")
                );
            }
            assert_eq!(
                sql.state("insert into t values (1, 1, 1)").await,
                "23505",
                "the primary key forgot its rows"
            );
        });
    }
}

#[test]
fn a_load_generator_goes_on_after_sigkill() {
    let mut node = Node::start();
    let count = async |sql: &harness::Sql| -> i64 {
        column(sql, "select count(*) from c")
            .await
            .parse()
            .expect("a number")
    };
    let more_than = async |sql: &harness::Sql, least: i64| {
        let started = std::time::Instant::now();
        while count(sql).await <= least {
            assert!(started.elapsed().as_secs() < 60, "the source stands still");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    run(async {
        let source = "create source c from load generator counter (tick interval '10ms')";
        more_than(&node.sql_after(source).await, 3).await;
    });
    node.crash();
    run(async {
        let sql = node.sql().await;
        let before = count(&sql).await;
        more_than(&sql, before + 3).await;
        assert_eq!(
            column(&sql, "select count(*) = count(distinct counter) from c").await,
            "t"
        );
    });
}

#[test]
fn uncommitted_transaction_is_gone_after_sigkill() {
    let mut node = Node::start();
    run(async {
        let committed = node.sql_after(SETUP).await;
        committed
            .run("begin; insert into t values (1, 1, 1), (2, 1, 2); commit")
            .await
            .expect("commit");
        let open = node.sql().await;
        open.run("begin; insert into t values (3, 1, 3); delete from t where k = 1")
            .await
            .expect("open transaction");
        node.server.signal(libc::SIGKILL);
    });
    node.crash();
    run(async {
        let sql = node.sql().await;
        assert_eq!(column(&sql, "select k from t order by k").await, "1 2");
        assert_eq!(column(&sql, "select n, s from mv").await, "2|3");
    });
}

#[test]
fn catalog_survives_sigkill() {
    let mut node = Node::start();
    run(async {
        let sql = node.sql_after(SETUP).await;
        sql.run("create schema s; create table s.u (a int not null default 7, b numeric(10,2), unique (a))").await.expect("ddl");
        sql.run("create index mv_g on mv (g); create table gone (a int); drop table gone")
            .await
            .expect("ddl");
    });
    node.crash();
    run(async {
        let sql = node.sql().await;
        sql.run("insert into s.u (b) values (1.255)")
            .await
            .expect("insert");
        assert_eq!(column(&sql, "select a, b from s.u").await, "7|1.26");
        assert_eq!(sql.state("insert into s.u (b) values (2)").await, "23505");
        assert_eq!(sql.state("select * from gone").await, "42P01");
        assert_eq!(sql.state("create index mv_g on mv (g)").await, "42P07");
    });
}

#[test]
fn time_never_goes_back_over_a_restart() {
    let mut node = Node::start();
    let mut last = 0_u64;
    for _ in 0..3 {
        run(async {
            let sql = node.sql().await;
            let now: u64 = column(&sql, "select mz_now()")
                .await
                .parse()
                .expect("a timestamp in microseconds");
            assert!(now >= last && now > 0, "{now} after {last}");
            last = now;
        });
        node.crash();
    }
}
