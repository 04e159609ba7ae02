//! COPY: all or nothing, and a bad line is named.

use futures::SinkExt;
use harness::Sql;
use tokio_postgres::Error;

use crate::node::{Node, column, run};

/// Sends one COPY FROM STDIN with this data; the row count.
async fn copy_in(sql: &Sql, statement: &str, data: &str) -> Result<u64, Error> {
    let sink = sql.client().copy_in(statement).await?;
    futures::pin_mut!(sink);
    for chunk in data.as_bytes().chunks(7) {
        sink.send(bytes::Bytes::copy_from_slice(chunk)).await?;
    }
    sink.finish().await
}

#[test]
fn text_and_csv_load_what_postgres_would_load() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after("create table t (k int, v text, n numeric(6,2))")
            .await;
        let text = "1\ta\\tb\t1.5\n2\t\\N\t\\N\n3\tback\\\\slash\\n\t-0.005\n";
        assert_eq!(
            copy_in(&sql, "copy t from stdin", text)
                .await
                .expect("text"),
            3
        );
        let csv = "k,v,n\n4,\"quote \"\"q\"\", comma\",10\n5,,\n6,\"\",7\n";
        assert_eq!(
            copy_in(
                &sql,
                "copy t (k, v, n) from stdin with (format csv, header)",
                csv
            )
            .await
            .expect("csv"),
            3
        );
        let rows = column(&sql, "select k, v, n from t order by k").await;
        assert_eq!(
            rows,
            "1|a\tb|1.50 2|NULL|NULL 3|back\\slash\n|-0.01 4|quote \"q\", comma|10.00 5|NULL|NULL 6||7.00"
        );
    });
}

#[test]
fn bad_line_is_named_and_nothing_is_loaded() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after("create table t (k int primary key, v int); insert into t values (1000, 0)")
            .await;
        let cases = [
            ("1\t1\n2\tx\n3\t3\n", "22P02", "line 2"),
            ("1\t1\n2\n", "22P04", "line 2"),
            ("1\t1\n2\t2\t2\n", "22P04", "line 2"),
            ("1\t1\n2\t99999999999\n", "22003", "line 2"),
            ("1\t1\n\\N\t2\n", "23502", "line 2"),
        ];
        for (data, state, line) in cases {
            let error = copy_in(&sql, "copy t from stdin", data)
                .await
                .expect_err(data);
            let text = harness::sql::error_text(&error);
            assert_eq!(harness::sqlstate(&error), state, "{data:?}: {text}");
            assert!(text.contains(line), "{data:?}: no {line} in: {text}");
            assert_eq!(
                column(&sql, "select count(*) from t").await,
                "1",
                "{data:?} left rows behind"
            );
        }
        let duplicate = copy_in(&sql, "copy t from stdin", "1\t1\n1000\t2\n")
            .await
            .expect_err("duplicate key");
        assert_eq!(harness::sqlstate(&duplicate), "23505");
        assert_eq!(column(&sql, "select count(*) from t").await, "1");
    });
}

#[test]
fn bad_line_far_down_a_large_load_undoes_all_of_it() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("create table t (k int, v text)").await;
        let mut data = String::new();
        for k in 0..60_000 {
            data.push_str(&format!("{k}\t{:050}\n", k));
        }
        data.push_str("not a number\tx\n");
        let sink = sql
            .client()
            .copy_in("copy t from stdin")
            .await
            .expect("copy");
        futures::pin_mut!(sink);
        let mut sent = Ok(());
        for chunk in data.as_bytes().chunks(1 << 16) {
            sent = sink.send(bytes::Bytes::copy_from_slice(chunk)).await;
            if sent.is_err() {
                break;
            }
        }
        let error = match sent {
            Ok(()) => sink.finish().await.expect_err("the last line is bad"),
            Err(error) => error,
        };
        assert!(
            harness::sql::error_text(&error).contains("60001"),
            "{}",
            harness::sql::error_text(&error)
        );
        assert_eq!(column(&sql, "select count(*) from t").await, "0");
    });
}

#[test]
fn large_load_is_complete_and_survives_sigkill() {
    let mut node = Node::start();
    run(async {
        let sql = node.sql_after("create table t (k int primary key, v text); create materialized view mv as select count(*) as n, sum(k) as s from t").await;
        let data: String = (0..100_000).map(|k| format!("{k}\t{k:040}\n")).collect();
        let sink = sql
            .client()
            .copy_in("copy t from stdin")
            .await
            .expect("copy");
        futures::pin_mut!(sink);
        for chunk in data.as_bytes().chunks(1 << 16) {
            sink.send(bytes::Bytes::copy_from_slice(chunk))
                .await
                .expect("send");
        }
        assert_eq!(sink.finish().await.expect("finish"), 100_000);
        assert_eq!(
            column(&sql, "select n, s from mv").await,
            "100000|4999950000"
        );
    });
    node.crash();
    run(async {
        let sql = node.sql().await;
        assert_eq!(
            column(&sql, "select count(*), sum(k) from t").await,
            "100000|4999950000"
        );
        assert_eq!(
            column(&sql, "select n, s from mv").await,
            "100000|4999950000"
        );
    });
}

#[test]
fn client_that_gives_up_leaves_nothing() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("create table t (k int, v int)").await;
        let mut raw = harness::wire::Raw::session(node.server.sql_addr()).expect("a session");
        raw.send(b'Q', &harness::wire::cstr("copy t from stdin"))
            .expect("send");
        raw.until(b'G').expect("CopyInResponse");
        raw.send(b'd', b"1\t1\n").expect("send");
        raw.send(b'f', &harness::wire::cstr("changed my mind"))
            .expect("CopyFail");
        let answer = raw.until(b'Z').expect("an answer");
        assert_eq!(answer[0].field(b'C').as_deref(), Some("57014"));
        assert_eq!(column(&sql, "select count(*) from t").await, "0");
    });
}

#[test]
fn copy_out_writes_what_copy_in_reads() {
    run(async {
        let node = Node::start();
        let sql = node.sql_after("create table t (k int, v text); insert into t values (1, E'tab\\there'), (2, null), (3, ''), (4, E'back\\\\slash'), (5, 'comma, \"quote\"'); create table u (k int, v text)").await;
        for options in ["", " with (format csv)", " with (format csv, header)"] {
            let stream = sql
                .client()
                .copy_out(&format!("copy t to stdout{options}"))
                .await
                .expect("copy out");
            let chunks: Vec<bytes::Bytes> = futures::TryStreamExt::try_collect(stream)
                .await
                .expect("chunks");
            let text = String::from_utf8(chunks.concat()).expect("text");
            sql.run("delete from u").await.expect("delete");
            assert_eq!(
                copy_in(&sql, &format!("copy u from stdin{options}"), &text)
                    .await
                    .expect("copy in"),
                5
            );
            let (original, copied) = (
                sql.rows("select * from t").await.expect("rows"),
                sql.rows("select * from u").await.expect("rows"),
            );
            assert!(
                original.difference(&copied).is_none(),
                "{options}: {text}\n{}",
                original.difference(&copied).expect("checked")
            );
        }
    });
}

/// Values of `regclass` and its family are names wherever they are text, and names are read back.
#[test]
fn object_identifiers_are_written_and_read_by_name() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after("create table \"Some Table\" (v int); create table t (c regclass, y regtype, p regproc, n regnamespace); insert into t values ('\"Some Table\"', 'integer', 'lower', 'public'), ('t', 'text[]', 'upper', 'pg_catalog'), (null, 0, null, null)")
            .await;
        let wanted =
            "\"Some Table\"|integer|lower|public t|text[]|upper|pg_catalog NULL|-|NULL|NULL";
        assert_eq!(column(&sql, "select * from t order by p").await, wanted);
        let text = copy_out(&sql, "copy (select * from t order by p) to stdout").await;
        assert_eq!(
            text,
            "\"Some Table\"\tinteger\tlower\tpublic\nt\ttext[]\tupper\tpg_catalog\n\\N\t-\t\\N\t\\N\n"
        );
        sql.run("delete from t").await.expect("delete");
        assert_eq!(
            copy_in(&sql, "copy t from stdin", &text)
                .await
                .expect("copy"),
            3
        );
        assert_eq!(column(&sql, "select * from t order by p").await, wanted);
        assert_eq!(
            copy_in(&sql, "copy t (c) from stdin", "nosuch\n")
                .await
                .map_err(|e| harness::sqlstate(&e)),
            Err("42P01".to_owned())
        );
        for (statement, tag, end) in [
            (
                "copy (subscribe (select c from t where n = 'public'::regnamespace)) to stdout",
                b'd',
                "\t\"Some Table\"\n",
            ),
            (
                "subscribe (select c from t where n = 'public'::regnamespace)",
                b'D',
                "\"Some Table\"",
            ),
        ] {
            let mut raw = harness::wire::Raw::session(node.server.sql_addr()).expect("a session");
            raw.send(b'Q', &harness::wire::cstr(statement))
                .expect("send");
            let answer = raw.until(tag).expect("a row");
            let row = String::from_utf8_lossy(&answer.last().expect("a row").body).into_owned();
            assert!(row.ends_with(end), "{statement}: {row:?}");
        }
        sql.run("begin; declare c cursor for subscribe (select c, y from t where c is not null)")
            .await
            .expect("declare");
        let fetched = sql.rows("fetch 2 c").await.expect("fetch");
        let mut fetched: Vec<_> = fetched
            .rows()
            .iter()
            .map(|row| format!("{:?}", &row[2..]))
            .collect();
        fetched.sort();
        assert_eq!(
            fetched,
            [
                "[Some(\"\\\"Some Table\\\"\"), Some(\"integer\")]",
                "[Some(\"t\"), Some(\"text[]\")]"
            ]
        );
        sql.run("rollback").await.expect("rollback");
        // What a block has made has its name there already.
        sql.run("begin; create table fresh (v int)")
            .await
            .expect("create");
        assert_eq!(column(&sql, "select 'fresh'::regclass").await, "fresh");
        sql.run("rollback").await.expect("rollback");
        let body = r#"{"query": "select c, y from t where y = 'integer'::regtype"}"#;
        let (status, answer) =
            harness::server::http_post_json(node.server.http_addr(), "/sql", body)
                .expect("an answer");
        assert_eq!(status, 200, "{answer}");
        assert!(
            answer.contains(r#"["\"Some Table\"","integer"]"#),
            "{answer}"
        );
    });
}

/// The text of one COPY TO STDOUT.
async fn copy_out(sql: &Sql, statement: &str) -> String {
    let stream = sql.client().copy_out(statement).await.expect("copy out");
    let chunks: Vec<bytes::Bytes> = futures::TryStreamExt::try_collect(stream)
        .await
        .expect("chunks");
    String::from_utf8(chunks.concat()).expect("text")
}
