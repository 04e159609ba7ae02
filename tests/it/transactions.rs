//! Interactive transactions: own writes, one snapshot, conflicts, uniqueness, DDL with DML, and no lost update.

use crate::node::{Node, column, run};

#[test]
fn own_writes_are_visible_inside_and_only_inside_until_commit() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after("create table t (k int primary key, v int); insert into t values (1, 10)")
            .await;
        let other = node.sql().await;
        sql.run("begin; insert into t values (2, 20); update t set v = v + 1 where k = 1; insert into t values (3, 30); delete from t where k = 3").await.expect("writes");
        assert_eq!(
            column(&sql, "select k, v from t order by k").await,
            "1|11 2|20"
        );
        assert_eq!(column(&sql, "select v from t where k = 2").await, "20");
        assert_eq!(
            column(&other, "select k, v from t order by k").await,
            "1|10"
        );
        sql.run("commit").await.expect("commit");
        assert_eq!(
            column(&other, "select k, v from t order by k").await,
            "1|11 2|20"
        );
    });
}

#[test]
fn own_writes_are_visible_through_views_in_the_transaction() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("create table t (v int); insert into t values (1); create materialized view mv as select sum(v) as s from t").await;
        sql.run("begin; insert into t values (5)")
            .await
            .expect("write");
        assert_eq!(column(&sql, "select s from mv").await, "6");
        sql.run("rollback").await.expect("rollback");
        assert_eq!(column(&sql, "select s from mv").await, "1");
    });
}

#[test]
fn second_of_two_conflicting_transactions_gets_40001() {
    run(async {
        let node = Node::start();
        let a = node
            .sql_after("create table t (k int primary key, v int); insert into t values (1, 0)")
            .await;
        let b = node.sql().await;
        for session in [&a, &b] {
            session.run("begin").await.expect("begin");
            assert_eq!(column(session, "select v from t where k = 1").await, "0");
            session
                .run("update t set v = v + 1 where k = 1")
                .await
                .expect("update");
        }
        assert_eq!(a.state("commit").await, "00000");
        assert_eq!(b.state("commit").await, "40001");
        assert_eq!(b.state("rollback").await, "00000");
        assert_eq!(column(&b, "select v from t").await, "1");
    });
}

/// Each reads what the other writes; serial execution allows only one of them to commit.
#[test]
fn write_skew_is_refused() {
    run(async {
        let node = Node::start();
        let a = node.sql_after("create table duty (who text primary key, active bool); insert into duty values ('a', true), ('b', true)").await;
        let b = node.sql().await;
        for (session, who) in [(&a, "a"), (&b, "b")] {
            session.run("begin").await.expect("begin");
            assert_eq!(
                column(session, "select count(*) from duty where active").await,
                "2"
            );
            session
                .run(&format!(
                    "update duty set active = false where who = '{who}'"
                ))
                .await
                .expect("update");
        }
        let ends = [a.state("commit").await, b.state("commit").await];
        assert_eq!(ends, ["00000", "40001"]);
        assert_eq!(
            column(&a, "select count(*) from duty where active").await,
            "1"
        );
    });
}

/// The same through a materialized view: its base tables are what was read.
#[test]
fn write_skew_through_a_materialized_view_is_refused() {
    run(async {
        let node = Node::start();
        let a = node
            .sql_after(
                "create table duty (who text primary key, active bool); insert into duty values ('a', true), ('b', true);
                 create materialized view on_duty as select count(*) as n from duty where active",
            )
            .await;
        let b = node.sql().await;
        for (session, who) in [(&a, "a"), (&b, "b")] {
            session.run("begin").await.expect("begin");
            assert_eq!(column(session, "select n from on_duty").await, "2");
            session
                .run(&format!(
                    "update duty set active = false where who = '{who}'"
                ))
                .await
                .expect("update");
        }
        assert_eq!(
            [a.state("commit").await, b.state("commit").await],
            ["00000", "40001"]
        );
        assert_eq!(column(&a, "select n from on_duty").await, "1");
    });
}

#[test]
fn transactions_on_different_keys_do_not_conflict() {
    run(async {
        let node = Node::start();
        let a = node
            .sql_after(
                "create table t (k int primary key, v int); insert into t values (1, 0), (2, 0)",
            )
            .await;
        let b = node.sql().await;
        for (session, k) in [(&a, 1), (&b, 2)] {
            session.run("begin").await.expect("begin");
            assert_eq!(
                column(session, &format!("select v from t where k = {k}")).await,
                "0"
            );
            session
                .run(&format!("update t set v = 1 where k = {k}"))
                .await
                .expect("update");
        }
        assert_eq!(
            [a.state("commit").await, b.state("commit").await],
            ["00000", "00000"]
        );
        assert_eq!(column(&a, "select sum(v) from t").await, "2");
    });
}

#[test]
fn concurrent_increments_are_all_counted() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after("create table t (k int primary key, v int); insert into t values (1, 0)")
            .await;
        let workers = (0..4).map(|_| {
            let target = node.server.target();
            tokio::spawn(async move {
                let session = target.connect().await.expect("a session");
                let mut done = 0;
                while done < 25 {
                    match session
                        .state("update t set v = v + 1 where k = 1")
                        .await
                        .as_str()
                    {
                        "00000" => done += 1,
                        "40001" => {}
                        other => panic!("{other}"),
                    }
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await.expect("a worker");
        }
        assert_eq!(column(&sql, "select v from t").await, "100");
    });
}

#[test]
fn primary_key_and_unique_are_enforced() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("create table t (k int primary key, u text unique, v int); insert into t values (1, 'a', 0), (2, null, 0), (3, null, 0)").await;
        for (statement, wanted) in [
            ("insert into t values (1, 'z', 0)", "23505"),
            ("insert into t values (4, 'a', 0)", "23505"),
            ("insert into t values (4, 'd', 0), (4, 'e', 0)", "23505"),
            ("insert into t values (null, 'd', 0)", "23502"),
            ("update t set k = 2 where k = 1", "23505"),
            ("update t set u = 'a' where k = 2", "23505"),
            ("update t set k = k + 10", "00000"),
            ("insert into t values (1, 'b', 0)", "00000"),
            (
                "begin; delete from t where k = 1; insert into t values (1, 'c', 0); commit",
                "00000",
            ),
            (
                "begin; insert into t values (50, 'p', 0); insert into t values (50, 'q', 0)",
                "23505",
            ),
            ("rollback", "00000"),
        ] {
            assert_eq!(sql.state(statement).await, wanted, "{statement}");
        }
        assert_eq!(
            column(&sql, "select k, u from t order by k").await,
            "1|c 11|a 12|NULL 13|NULL"
        );
    });
}

#[test]
fn two_sessions_inserting_the_same_key_cannot_both_win() {
    run(async {
        let node = Node::start();
        let a = node
            .sql_after("create table t (k int primary key, who text)")
            .await;
        let b = node.sql().await;
        a.run("begin; insert into t values (1, 'a')")
            .await
            .expect("a");
        b.run("begin; insert into t values (1, 'b')")
            .await
            .expect("b");
        assert_eq!(a.state("commit").await, "00000");
        let second = b.state("commit").await;
        assert!(second == "23505" || second == "40001", "{second}");
        let _ = b.state("rollback").await;
        assert_eq!(column(&b, "select who from t").await, "a");
    });
}

#[test]
fn failed_transaction_answers_25p02_until_rollback_and_leaves_nothing() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("create table t (v int)").await;
        sql.run("begin; insert into t values (1)")
            .await
            .expect("write");
        for (statement, wanted) in [
            ("select 1/0", "22012"),
            ("select 1", "25P02"),
            ("insert into t values (2)", "25P02"),
            ("commit", "00000"),
        ] {
            assert_eq!(sql.state(statement).await, wanted, "{statement}");
        }
        assert_eq!(column(&sql, "select count(*) from t").await, "0");
    });
}

#[test]
fn ddl_and_dml_of_one_transaction_come_and_go_together() {
    run(async {
        let node = Node::start();
        let sql = node.sql().await;
        let other = node.sql().await;
        sql.run("begin; create table t (v int); insert into t values (1), (2); create materialized view mv as select sum(v) as s from t").await.expect("work");
        assert_eq!(column(&sql, "select sum(v) from t").await, "3");
        assert_eq!(
            sql.state("select * from mv").await,
            "0A000",
            "a view is not readable in the transaction that makes it"
        );
        assert_eq!(other.state("select * from t").await, "42P01");
        sql.run("rollback").await.expect("rollback");
        assert_eq!(sql.state("select * from t").await, "42P01");
        sql.run("begin; create table t (v int); insert into t values (1), (2); create materialized view mv as select sum(v) as s from t; commit").await.expect("work");
        assert_eq!(column(&other, "select s from mv").await, "3");
    });
}

#[test]
fn several_statements_in_one_message_are_one_transaction() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("create table t (v int)").await;
        assert_eq!(
            sql.state("insert into t values (1); insert into t values (2); select 1/0")
                .await,
            "22012"
        );
        assert_eq!(column(&sql, "select count(*) from t").await, "0");
        assert_eq!(
            sql.state("insert into t values (1); insert into t values (2)")
                .await,
            "00000"
        );
        assert_eq!(column(&sql, "select count(*) from t").await, "2");
    });
}

#[test]
fn acknowledged_ddl_is_there_for_the_next_statement_of_every_session() {
    run(async {
        let node = Node::start();
        let (a, b) = (node.sql().await, node.sql().await);
        for i in 0..20 {
            a.run(&format!("create table d{i} (v int)"))
                .await
                .expect("create");
            assert_eq!(
                b.state(&format!("insert into d{i} values ({i})")).await,
                "00000"
            );
            a.run(&format!("drop table d{i}")).await.expect("drop");
            assert_eq!(b.state(&format!("select * from d{i}")).await, "42P01");
        }
    });
}

#[test]
fn every_step_of_a_transaction_counts_for_the_next_one() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after(
                "create table a (k int primary key); create table b (k int primary key); create table c (k int primary key)",
            )
            .await;
        sql.run(
            "begin; insert into a values (1); insert into a values (2); insert into a values (3)",
        )
        .await
        .expect("writes");
        assert_eq!(column(&sql, "select k from a order by k").await, "1 2 3");
        assert_eq!(sql.state("insert into a values (2)").await, "23505");
        sql.run("rollback").await.expect("rollback");
        assert_eq!(column(&sql, "select count(*) from a").await, "0");
    });
}

#[test]
fn same_text_over_other_types_is_planned_again() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after("create table t (a int, k int); insert into t values (1, 1)")
            .await;
        assert_eq!(column(&sql, "select a from t where k = 1").await, "1");
        sql.run("drop table t; create table t (a text, k text); insert into t values ('x', '1')")
            .await
            .expect("other types");
        assert_eq!(column(&sql, "select a from t").await, "x");
        assert_eq!(column(&sql, "select a from t where k = '1'").await, "x");
    });
}

/// Outside of a block the statement is the transaction, and its modes end with it.
#[test]
fn modes_of_a_transaction_end_with_it() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("create table t (k int)").await;
        let shown = async |sql: &harness::Sql| column(sql, "show transaction_isolation").await;
        for set in [
            "set transaction_isolation = 'serializable'",
            "set transaction isolation level serializable",
            "select set_config('transaction_isolation', 'serializable', false)",
            "set transaction_read_only = on",
            "set transaction read only",
        ] {
            assert_eq!(sql.state(set).await, "00000", "{set}");
            assert_eq!(shown(&sql).await, "strict serializable", "after {set}");
            assert_eq!(column(&sql, "show transaction_read_only").await, "off");
            assert_eq!(sql.state("insert into t values (1)").await, "00000");
        }
        assert_eq!(
            sql.state("set transaction_isolation = 'chaos'").await,
            "22023"
        );
        sql.run("begin; set transaction_isolation = 'serializable'")
            .await
            .expect("begin");
        assert_eq!(shown(&sql).await, "serializable");
        sql.run("reset all; set default_transaction_read_only = on")
            .await
            .expect("set");
        assert_eq!(shown(&sql).await, "serializable");
        assert_eq!(column(&sql, "show transaction_read_only").await, "off");
        sql.run("insert into t values (1); commit")
            .await
            .expect("the block began as one that may write");
        assert_eq!(shown(&sql).await, "strict serializable");
        assert_eq!(sql.state("insert into t values (1)").await, "25006");
        sql.run("reset default_transaction_read_only; set default_transaction_isolation = 'serializable'")
            .await
            .expect("set");
        assert_eq!(shown(&sql).await, "serializable");
        sql.run("begin").await.expect("begin");
        column(&sql, "select count(*) from t").await;
        assert_eq!(
            sql.state("set transaction_isolation = 'strict serializable'")
                .await,
            "25001"
        );
        sql.run("rollback").await.expect("rollback");
    });
}

/// What a name means is read from the catalog: such a transaction is serialized with DDL, whether the name is folded, looked up for each row, or a parameter.
#[test]
fn names_looked_up_in_a_transaction_are_checked_when_it_commits() {
    run(async {
        let node = Node::start();
        let a = node
            .sql_after("create table t (o oid); create table named (v int)")
            .await;
        let b = node.sql().await;
        a.run("prepare p (regclass) as insert into t values ($1::oid)")
            .await
            .expect("prepare");
        for (n, write) in [
            "insert into t values ('named'::regclass)",
            "insert into t select to_regclass(x) from (values ('named'), ('t')) as v (x)",
            "insert into t values (1) returning 'named'::regclass",
            "execute p ('named')",
            "execute p ('named'::regclass)",
            "execute p (to_regclass('named'))",
            "insert into t values (length(current_schema()::text))",
            "insert into t values (1) returning o::regclass",
            "declare c cursor for select to_regclass('named'); insert into t values (1)",
            "declare c cursor for select 1 where current_schema() = 'public'; insert into t values (1)",
        ]
        .iter()
        .enumerate()
        {
            a.run("begin").await.expect("begin");
            a.run(write)
                .await
                .unwrap_or_else(|e| panic!("{write}: {}", harness::sql::error_text(&e)));
            b.run(&format!("create table other{n} (v int)"))
                .await
                .expect("create");
            assert_eq!(a.state("commit").await, "40001", "{write}");
            a.run("rollback").await.expect("rollback");
            assert_eq!(a.state(write).await, "00000", "{write} alone");
        }
        // Without a name there is nothing to be checked.
        a.run("begin; insert into t values (5)")
            .await
            .expect("insert");
        b.run("create table unrelated (v int)")
            .await
            .expect("create");
        assert_eq!(a.state("commit").await, "00000");
    });
}

#[test]
fn an_insert_that_was_refused_for_good_is_not_run_again() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("create table t (k int primary key)").await;
        let insert = "insert into t values (1)";
        assert_eq!(sql.state(insert).await, "00000");
        let retries = || {
            let metrics = node.server.metrics().expect("metrics");
            metrics.get("clusterd_statement_retries_total").copied()
        };
        let before = retries();
        assert!(before.is_some());
        assert_eq!(sql.state(insert).await, "23505");
        assert_eq!(retries(), before);
    });
}

#[test]
fn modes_are_not_reset_after_the_first_query() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("create table t (v int)").await;
        for (begin, reset) in [
            (
                "begin isolation level serializable",
                "reset transaction_isolation",
            ),
            ("begin read only", "reset transaction_read_only"),
            ("begin read only", "set transaction_read_only to default"),
        ] {
            sql.run(begin).await.expect("begin");
            assert_eq!(sql.state(reset).await, "00000", "{reset} first");
            assert_eq!(sql.state("rollback").await, "00000");
            sql.run(begin).await.expect("begin");
            assert_eq!(column(&sql, "select count(*) from t").await, "0");
            assert_eq!(sql.state(reset).await, "25001", "{reset} later");
            assert_eq!(sql.state("rollback").await, "00000");
        }
    });
}
