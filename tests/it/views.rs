//! Maintained views are right at once: after each write the next statement, on any session, sees it.

use crate::node::{Node, column, run};

#[test]
fn views_are_fresh_for_the_next_statement_of_another_session() {
    run(async {
        let node = Node::start();
        let writer = node.sql_after("create table t (k int, v int); create materialized view mv as select count(*) as n, sum(v) as s from t").await;
        let reader = node.sql().await;
        for i in 1..=50_i64 {
            writer
                .run(&format!("insert into t values ({i}, {i})"))
                .await
                .expect("insert");
            assert_eq!(
                column(&reader, "select n, s from mv").await,
                format!("{i}|{}", i * (i + 1) / 2)
            );
        }
        writer.run("delete from t").await.expect("delete");
        assert_eq!(column(&reader, "select n, s from mv").await, "0|NULL");
    });
}

#[test]
fn view_over_views_with_join_distinct_and_top_k_follows_every_change() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after(
                "create table item (id int primary key, kind text, price numeric(8,2));
                 create table sale (item int, day date, n int);
                 create materialized view revenue as select i.kind, s.day, sum(i.price * s.n) as r from item i join sale s on s.item = i.id group by i.kind, s.day;
                 create materialized view best as select kind, day, r from revenue order by r desc, kind, day limit 2;
                 create materialized view kinds as select distinct kind from item;
                 create materialized view unsold as select i.id from item i left join sale s on s.item = i.id where s.item is null;
                 create materialized view extremes as select min(price) as lo, max(price) as hi from item",
            )
            .await;
        sql.run("insert into item values (1, 'a', 2.50), (2, 'b', 10), (3, 'b', 0.99)")
            .await
            .expect("items");
        sql.run("insert into sale values (1, '2024-01-01', 4), (2, '2024-01-01', 1), (2, '2024-01-02', 3)").await.expect("sales");
        assert_eq!(
            column(&sql, "select kind, day, r from best order by r desc, kind").await,
            "b|2024-01-02|30.00 a|2024-01-01|10.00"
        );
        assert_eq!(column(&sql, "select id from unsold").await, "3");
        assert_eq!(
            column(&sql, "select kind from kinds order by 1").await,
            "a b"
        );
        assert_eq!(
            column(&sql, "select lo, hi from extremes").await,
            "0.99|10.00"
        );
        sql.run("update item set price = 100 where id = 1; delete from sale where day = '2024-01-02'; delete from item where id = 3").await.expect("changes");
        assert_eq!(
            column(&sql, "select kind, day, r from best order by r desc, kind").await,
            "a|2024-01-01|400.00 b|2024-01-01|10.00"
        );
        assert_eq!(column(&sql, "select count(*) from unsold").await, "0");
        assert_eq!(
            column(&sql, "select lo, hi from extremes").await,
            "10.00|100.00"
        );
    });
}

#[test]
fn materialized_view_and_table_are_read_in_one_snapshot() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("create table t (v int); insert into t values (1); create materialized view mv as select sum(v) as s from t").await;
        let other = node.sql().await;
        sql.run("begin").await.expect("begin");
        assert_eq!(column(&sql, "select sum(v) from t").await, "1");
        other
            .run("insert into t values (10)")
            .await
            .expect("insert");
        assert_eq!(column(&sql, "select s from mv").await, "1");
        assert_eq!(
            column(
                &sql,
                "select m.s, x.s from mv m, (select sum(v) as s from t) x"
            )
            .await,
            "1|1"
        );
        sql.run("commit").await.expect("commit");
        assert_eq!(column(&sql, "select s from mv").await, "11");
    });
}

#[test]
fn drop_respects_dependencies_and_frees_names() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("create table t (a int); create materialized view m as select a from t; create view w as select a from m; create index mi on m (a)").await;
        assert_eq!(sql.state("drop table t").await, "2BP01");
        assert_eq!(
            sql.state("drop materialized view m restrict").await,
            "2BP01"
        );
        assert_eq!(sql.state("drop index mi").await, "00000");
        assert_eq!(sql.state("drop table t cascade").await, "00000");
        for name in ["t", "m", "w"] {
            assert_eq!(
                sql.state(&format!("select * from {name}")).await,
                "42P01",
                "{name}"
            );
        }
        assert_eq!(sql.state("create table m (a int)").await, "00000");
    });
}

#[test]
fn one_shot_answers_do_not_depend_on_how_they_are_executed() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after(
                "create table t (k int, g int, v numeric); insert into t select x, x % 5, x * 1.5 from generate_series(1, 200) x;
                 create materialized view mv as select g, sum(v) as s, min(k) as lo, max(k) as hi, avg(v) as a from t group by g",
            )
            .await;
        let query =
            "select g, sum(v) as s, min(k) as lo, max(k) as hi, avg(v) as a from t group by g";
        let automatic = sql.rows(query).await.expect("rows");
        sql.run("set clusterd.execution = 'interpreter'")
            .await
            .expect("set");
        let interpreted = sql.rows(query).await.expect("rows");
        let maintained = sql.rows("select * from mv").await.expect("rows");
        assert_eq!(automatic.len(), 5);
        for other in [&interpreted, &maintained] {
            assert!(
                automatic.difference(other).is_none(),
                "{}",
                automatic.difference(other).expect("checked")
            );
        }
    });
}

#[test]
fn subscribe_reports_each_change_once() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after("create table t (a int); insert into t values (1)")
            .await;
        let mut raw = harness::wire::Raw::session(node.server.sql_addr()).expect("a session");
        raw.send(b'Q', &harness::wire::cstr("copy (subscribe t) to stdout"))
            .expect("send");
        let mut changes = Vec::new();
        let mut next = |raw: &mut harness::wire::Raw, wanted: usize| {
            while changes.len() < wanted {
                let message = raw.read().expect("a message");
                assert_ne!(message.tag, b'E', "{:?}", message.field(b'M'));
                if message.tag == b'd' {
                    let line = String::from_utf8(message.body).expect("text");
                    changes.push(
                        line.trim_end()
                            .split_once('\t')
                            .expect("a change")
                            .1
                            .to_owned(),
                    );
                }
            }
            changes.clone()
        };
        assert_eq!(next(&mut raw, 1), ["1\t1"]);
        sql.run("insert into t values (2)").await.expect("insert");
        assert_eq!(next(&mut raw, 2), ["1\t1", "1\t2"]);
        sql.run("delete from t where a = 1").await.expect("delete");
        assert_eq!(next(&mut raw, 3), ["1\t1", "1\t2", "-1\t1"]);
    });
}

/// A statement that takes longer than history is kept for starts again at a new read point, and does not tell the client.
#[test]
fn select_that_outlives_its_snapshot_is_tried_again() {
    run(async {
        let node = Node::start();
        let a = node
            .sql_after("create table t (k int, g int); insert into t select x, x % 3 from generate_series(1, 30) x; create materialized view mv as select g, count(*) as n from t group by g")
            .await;
        let b = node.sql().await;
        assert_eq!(column(&a, "select sum(n) from mv").await, "30");
        // History is kept for 5 s behind the last closed timestamp.
        let (peeked, computed) = tokio::join!(
            column(&a, "select n from (select pg_sleep(9)) s, mv where g = 0"),
            column(
                &b,
                "select count(*) from (select pg_sleep(9)) s, t x join t y on x.g = y.g"
            )
        );
        assert_eq!((peeked.as_str(), computed.as_str()), ("10", "300"));
        let metrics = node.server.metrics().expect("metrics");
        assert!(
            metrics["clusterd_statement_retries_total"] >= 2.0,
            "no read had to be tried again: the case tests nothing"
        );
    });
}

#[test]
fn cancelled_fetch_of_a_subscription_loses_no_row() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after("create table t (v int); insert into t values (1), (2), (3)")
            .await;
        sql.run("begin; declare c cursor with hold for subscribe (select v from t); commit")
            .await
            .expect("declare");
        sql.run("set statement_timeout = '500ms'")
            .await
            .expect("set");
        let rows = async |fetch: &str| {
            let answer = sql.rows(fetch).await.expect("rows");
            let mut values: Vec<_> = answer
                .rows()
                .iter()
                .map(|row| row.last().cloned().flatten().expect("a value"))
                .collect();
            values.sort();
            values.join(" ")
        };
        for _ in 0..2 {
            assert_eq!(
                sql.state("fetch 10 c with (timeout = '100s')").await,
                "57014"
            );
        }
        sql.run("reset statement_timeout").await.expect("reset");
        assert_eq!(rows("fetch 10 c").await, "1 2 3");
        sql.run("insert into t values (4)").await.expect("insert");
        assert_eq!(rows("fetch 10 c").await, "4");
    });
}
