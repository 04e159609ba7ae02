//! Statements that are too long, too deep or too wide end in an error of their own session, never in the end of the server.

use harness::wire::{Raw, cstr};

use crate::node::{Node, column, run};

/// What a bomb may come to: the answer, "too complex" / "too big", a syntax error, or out of memory for the statement.
const GRACEFUL: [&str; 6] = ["00000", "54000", "54001", "54011", "53200", "42601"];

#[test]
fn deep_statements_are_refused_and_the_server_lives() {
    run(async {
        let mut node = Node::start();
        let deep = 50_000;
        let bombs = [
            format!("select {}1{}", "(".repeat(deep), ")".repeat(deep)),
            format!("select {}", "(".repeat(deep)),
            format!("select {}1", "- ".repeat(deep)),
            format!("select {} true", "not ".repeat(deep)),
            format!("select 1{}", " + 1".repeat(deep)),
            format!("select true{}", " and true".repeat(deep)),
            format!("select 'a'{}", " || 'a'".repeat(deep)),
            format!(
                "select {}1{}",
                "case when true then ".repeat(deep),
                " end".repeat(deep)
            ),
            format!("select {}1{}", "abs(".repeat(deep), ")".repeat(deep)),
            format!("select 1{}", "::int".repeat(deep)),
            format!(
                "{}select 1{}",
                "select * from (".repeat(5_000),
                ") t".repeat(5_000)
            ),
            format!("select 1{}", " union all select 1".repeat(5_000)),
            format!(
                "select * from (select 1 as a) t0{}",
                (1..2_000)
                    .map(|i| format!(" cross join (select 1 as a{i}) t{i}"))
                    .collect::<String>()
            ),
            format!("select array{}1{}", "[".repeat(deep), "]".repeat(deep)),
            format!("create table {}", "(".repeat(deep)),
            format!("{} select 1", "explain ".repeat(deep)),
        ];
        for bomb in bombs {
            let sql = node.sql().await;
            let state = sql.state(&bomb).await;
            assert!(
                node.server.is_alive(),
                "the server died of: {:.60}\n{}",
                bomb,
                node.server.output()
            );
            assert!(
                GRACEFUL.contains(&state.as_str()),
                "{state} for: {bomb:.60}"
            );
            assert_eq!(column(&node.sql().await, "select 1").await, "1");
        }
    });
}

#[test]
fn deep_views_are_refused_or_work() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after("create table t (a int); create view v0 as select a from t")
            .await;
        for i in 1..200 {
            let state = sql
                .state(&format!(
                    "create view v{i} as select a + 1 as a from v{}",
                    i - 1
                ))
                .await;
            assert!(GRACEFUL.contains(&state.as_str()), "{state} at {i}");
        }
        let state = sql.state("select * from v199").await;
        assert!(
            GRACEFUL.contains(&state.as_str()) || state == "42P01",
            "{state}"
        );
    });
}

#[test]
fn statement_over_the_size_limit_is_refused_without_being_read_into_memory() {
    run(async {
        let node = Node::start();
        let before = node.server.resident_bytes().expect("resident memory");
        let mut raw = Raw::session(node.server.sql_addr()).expect("a session");
        raw.bytes(&harness::wire::framed_as(b'Q', 0x7FFF_FFFF, b"select 1"))
            .expect("send");
        let answer = raw.read();
        if let Ok(message) = answer {
            assert_eq!(message.tag, b'E');
            let state = message.field(b'C').expect("a SQLSTATE");
            assert!(state == "54000" || state == "08P01", "{state}");
        }
        let grown = node
            .server
            .resident_bytes()
            .expect("resident memory")
            .saturating_sub(before);
        assert!(
            grown < 256 << 20,
            "the claimed length alone cost {grown} bytes"
        );
        assert_eq!(column(&node.sql().await, "select 1").await, "1");
    });
}

#[test]
fn long_statements_below_the_limit_work() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("create table t (k int, v text)").await;
        let rows: Vec<String> = (0..5_000).map(|k| format!("({k}, 'value {k}')")).collect();
        assert_eq!(
            sql.count(&format!("insert into t values {}", rows.join(", ")))
                .await
                .expect("insert"),
            5_000
        );
        let long = "x".repeat(500_000);
        assert_eq!(
            column(&sql, &format!("select length('{long}')")).await,
            "500000"
        );
        let list: Vec<String> = (0..2_000).map(|k| k.to_string()).collect();
        assert_eq!(
            column(
                &sql,
                &format!("select count(*) from t where k in ({})", list.join(", "))
            )
            .await,
            "2000"
        );
    });
}

#[test]
fn too_many_columns_or_parameters_are_an_error() {
    run(async {
        let node = Node::start();
        let sql = node.sql().await;
        let columns: Vec<String> = (0..5_000).map(|i| format!("c{i} int")).collect();
        assert_eq!(
            sql.state(&format!("create table wide ({})", columns.join(", ")))
                .await,
            "54011"
        );
        let mut raw = Raw::session(node.server.sql_addr()).expect("a session");
        let mut parse = cstr("");
        parse.extend(cstr("select $70000::int"));
        parse.extend([0, 0]);
        raw.send(b'P', &parse).expect("parse");
        raw.send(b'S', &[]).expect("sync");
        let messages = raw.until(b'Z').expect("an answer");
        assert_eq!(messages[0].tag, b'E', "parameter 70000 was accepted");
    });
}
