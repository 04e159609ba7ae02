//! Errors as data: a view serves the error of a bad row until the row is gone; statements fail with Postgres's codes.

use harness::Sql;

use crate::node::{Node, column, run};

/// Each statement and the SQLSTATE it must end with.
async fn states(sql: &Sql, cases: &[(&str, &str)]) {
    for (statement, wanted) in cases {
        assert_eq!(sql.state(statement).await, *wanted, "{statement}");
    }
}

#[test]
fn division_by_zero_in_a_maintained_view_is_served_until_the_row_is_gone() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after("create table t (k int, d int); insert into t values (10, 2), (9, 3)")
            .await;
        sql.run("create materialized view mv as select k, k / d as q from t")
            .await
            .expect("view");
        sql.run("create materialized view total as select sum(q) as s from mv")
            .await
            .expect("view over the view");
        assert_eq!(column(&sql, "select q from mv order by q").await, "3 5");
        sql.run("insert into t values (1, 0)")
            .await
            .expect("the write itself is fine");
        states(
            &sql,
            &[
                ("select * from mv", "22012"),
                ("select * from total", "22012"),
                ("select count(*) from t", "00000"),
            ],
        )
        .await;
        sql.run("update t set d = 1 where d = 0")
            .await
            .expect("update");
        assert_eq!(column(&sql, "select s from total").await, "9");
        sql.run("insert into t values (1, 0), (2, 0)")
            .await
            .expect("insert");
        states(&sql, &[("select * from mv", "22012")]).await;
        sql.run("delete from t where k = 1 and d = 0")
            .await
            .expect("delete one of two bad rows");
        states(&sql, &[("select * from mv", "22012")]).await;
        sql.run("delete from t where d = 0")
            .await
            .expect("delete the other");
        assert_eq!(column(&sql, "select q from mv order by q").await, "1 3 5");
    });
}

#[test]
fn bad_row_that_is_there_before_the_view_is_served_too() {
    run(async {
        let node = Node::start();
        let mut node = node;
        let sql = node
            .sql_after("create table t (a text); insert into t values ('1'), ('x')")
            .await;
        sql.run("create materialized view mv as select a::int as n from t")
            .await
            .expect("view");
        states(&sql, &[("select * from mv", "22P02")]).await;
        drop(sql);
        node.crash();
        let sql = node.sql().await;
        states(
            &sql,
            &[
                ("select * from mv", "22P02"),
                ("delete from t where a = 'x'", "00000"),
            ],
        )
        .await;
        assert_eq!(column(&sql, "select n from mv").await, "1");
    });
}

#[test]
fn overflow_is_an_error_and_never_wraps() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after("create table t (a int, b bigint, s smallint)")
            .await;
        states(
            &sql,
            &[
                ("select 2147483647 + 1", "22003"),
                ("select 9223372036854775807 + 1", "22003"),
                ("select 32767::smallint + 1::smallint", "22003"),
                ("select -(-2147483648)::int", "22003"),
                ("select 99999::smallint", "22003"),
                ("select 3000000000::int", "22003"),
                ("select (-9223372036854775807 - 1) / -1", "22003"),
                ("select 1e400::float8", "22003"),
                ("select 1e300::float8 * 1e300::float8", "22003"),
                ("select 123456::numeric(4,1)", "22003"),
                ("insert into t values (3000000000, 1, 1)", "22003"),
                (
                    "insert into t values (2147483647, 9223372036854775807, 1)",
                    "00000",
                ),
                ("update t set a = a + 1", "22003"),
                (
                    "select sum(b) from (select b from t union all select b from t) u",
                    "00000",
                ),
            ],
        )
        .await;
        sql.run("create materialized view mv as select a + 1 as n from t")
            .await
            .expect("view");
        states(
            &sql,
            &[
                ("select * from mv", "22003"),
                ("update t set a = 1", "00000"),
            ],
        )
        .await;
        assert_eq!(column(&sql, "select n from mv").await, "2");
        assert_eq!(
            column(
                &sql,
                "select sum(b) from (select b from t union all select b from t) u"
            )
            .await,
            "18446744073709551614"
        );
    });
}

#[test]
fn statements_fail_with_the_codes_of_postgres() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("create table t (k int primary key, v text not null, n numeric(5,2)); create view v as select k from t").await;
        states(
            &sql,
            &[
                ("selec 1", "42601"),
                ("select 1 +", "42601"),
                ("select nosuch from t", "42703"),
                ("select * from nosuch", "42P01"),
                ("select nosuch(1)", "42883"),
                ("select 'a' + 1", "22P02"),
                ("select 'x'::int", "22P02"),
                ("select '2024-02-30'::date", "22008"),
                ("select 1 / 0", "22012"),
                ("select 1.0 / 0", "22012"),
                ("select k from t group by v", "42803"),
                ("select count(*) from t where count(*) > 1", "42803"),
                ("select a.k from t a, t b where k = 1", "42702"),
                ("select 1 union select 'x'::text", "42804"),
                ("select 1, 2 union select 1", "42601"),
                ("create table t (a int)", "42P07"),
                ("create table u (a int, a int)", "42701"),
                ("create table u (a nosuchtype)", "42704"),
                ("insert into t values (1)", "23502"),
                ("insert into t values (1, null)", "23502"),
                ("insert into t values (1, 'a', 1, 1)", "42601"),
                ("insert into t (k, nosuch) values (1, 'a')", "42703"),
                ("drop table nosuch", "42P01"),
                ("drop view t", "42809"),
                ("drop table t", "2BP01"),
                ("drop schema nosuch", "3F000"),
                ("create table nosuch.t (a int)", "3F000"),
                ("select (select k from t)", "00000"),
                ("select (select 1 union all select 2)", "21000"),
                ("set nosuch_setting = 1", "42704"),
                ("execute nosuch", "26000"),
                ("fetch 1 from nosuch", "34000"),
                ("drop table t cascade", "00000"),
                ("select * from v", "42P01"),
            ],
        )
        .await;
    });
}

#[test]
fn only_tables_can_be_written() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("create table t (k int); create view v as select count(*) as n from t; create materialized view mv as select k from t").await;
        for statement in [
            "insert into v values (1)",
            "update v set n = 1",
            "delete from v",
            "insert into mv values (1)",
            "update mv set k = 1",
            "delete from mv",
        ] {
            let state = sql.state(statement).await;
            assert!(
                ["55000", "42809", "0A000"].contains(&state.as_str()),
                "{state}: {statement}"
            );
        }
    });
}

#[test]
fn error_of_a_query_points_at_its_place() {
    run(async {
        let node = Node::start();
        let sql = node.sql().await;
        for (statement, position) in [
            ("select nosuch from (select 1 as a) t", 8),
            ("select 1 from nosuch", 15),
            ("select 1 + from t", 12),
        ] {
            let error = sql.run(statement).await.expect_err(statement);
            let found = error
                .as_db_error()
                .expect("a server error")
                .position()
                .cloned();
            assert_eq!(
                found,
                Some(tokio_postgres::error::ErrorPosition::Original(position)),
                "{statement}"
            );
        }
    });
}
