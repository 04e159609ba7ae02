//! What one node shows of the environment: nodes, placements, groups, and the statements that change them.

use harness::Sql;
use harness::sql::error_text;

use crate::node::{Node, column, run};

/// The text of the error that a statement must end with, after its SQLSTATE.
async fn refusal(sql: &Sql, statement: &str) -> String {
    let error = sql.run(statement).await.expect_err(statement);
    format!("{} {}", harness::sql::sqlstate(&error), error_text(&error))
}

async fn must_fail(sql: &Sql, statement: &str, with: &str) {
    let found = refusal(sql, statement).await;
    assert!(found.contains(with), "{statement}: {found}");
}

/// Placements are decided right after what they follow from, by a task of their own.
async fn soon(sql: &Sql, query: &str, expected: &str) {
    let started = std::time::Instant::now();
    loop {
        let found = column(sql, query).await;
        if found == expected {
            return;
        }
        let waited = started.elapsed();
        assert!(waited.as_secs() < 30, "{query}: {found}, not {expected}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[test]
fn one_node_is_an_environment() {
    run(async {
        let mut node = Node::start();
        let sql = node.sql().await;
        let nodes = "select id, status, incarnation, version = '' from mz_nodes";
        assert_eq!(column(&sql, nodes).await, "1|active|1|f");
        let own = format!(
            "select count(*) from mz_nodes where sql_addr = '{}' and mesh_addr like '%:%'",
            node.server.sql_addr()
        );
        assert_eq!(column(&sql, &own).await, "1");
        let liveness =
            "select node_id, role, reachable, applied_index > 0 from mz_internal.mz_node_liveness";
        assert_eq!(column(&sql, liveness).await, "1|leader|t|t");
        let listed = sql.rows("show nodes").await.expect("show nodes");
        let row: Vec<Option<&str>> = listed.rows()[0].iter().map(|v| v.as_deref()).collect();
        assert_eq!(
            row[..4],
            [Some("1"), Some("active"), Some("leader"), Some("t")]
        );
        let count = async |sql: &Sql, query: &str| sql.rows(query).await.expect(query).len();
        assert_eq!(count(&sql, "show nodes where status = 'draining'").await, 0);
        assert_eq!(count(&sql, "show nodes like '127.0.0.1:%'").await, 1);

        soon(&sql, "show cluster replicas", "quickstart|r1|1 workers|1|t").await;
        let leaders = "select c.name, l.node_id, l.incarnation, l.term > 0 \
             from mz_internal.mz_cluster_leaders l join mz_clusters c on c.id = l.cluster_id";
        assert_eq!(column(&sql, leaders).await, "quickstart|1|1|t");
        let groups = "select name, leader, incarnation, members::text from mz_internal.mz_groups order by cluster_id";
        assert_eq!(
            column(&sql, groups).await,
            "quickstart|1|1|{1} env|1|NULL|{1}"
        );
        let voters = "select c.name, v.node_id from mz_internal.mz_cluster_voters v join mz_clusters c on c.id = v.cluster_id";
        assert_eq!(column(&sql, voters).await, "quickstart|1");
        let env = "select leader, voters::text, members::text, committed_index <= last_index, applied_index > 0, term > 0 \
                   from mz_internal.mz_groups where name = 'env'";
        assert_eq!(column(&sql, env).await, "1|{1}|{1}|t|t|t");
        assert_eq!(
            column(&sql, "select count(*) from mz_internal.mz_mesh_links").await,
            "0"
        );

        node.crash();
        let sql = node.sql().await;
        assert_eq!(column(&sql, nodes).await, "1|active|2|f");
    });
}

#[test]
fn more_replicas_than_nodes_wait_for_them() {
    run(async {
        let mut node = Node::start();
        let sql = node
            .sql_after("create table t (a int); insert into t values (1), (2)")
            .await;
        sql.run("create cluster wide (replication factor 3)")
            .await
            .expect("a cluster");
        let replicas = "select name, node_id from mz_cluster_replicas r \
             where cluster_id = (select id from mz_clusters where name = 'wide') order by name";
        soon(&sql, replicas, "r1|1 r2|NULL r3|NULL").await;
        sql.run("create materialized view m in cluster wide as select count(*) as n from t")
            .await
            .expect("a view");
        assert_eq!(column(&sql, "select n from m").await, "2");

        sql.run("alter cluster wide set (replication factor 2)")
            .await
            .expect("fewer");
        soon(&sql, replicas, "r1|1 r2|NULL").await;
        sql.run("alter cluster wide rename to narrow")
            .await
            .expect("another name");
        let created = column(&sql, "select create_sql from mz_materialized_views").await;
        assert!(created.contains("IN CLUSTER narrow"), "{created}");
        assert_eq!(column(&sql, "select n from m").await, "2");
        must_fail(&sql, "alter cluster narrow set (workers 7)", "0A000").await;
        must_fail(&sql, "alter cluster narrow rename to quickstart", "42710").await;
        must_fail(
            &sql,
            "alter cluster wide set (replication factor 1)",
            "42704",
        )
        .await;
        must_fail(&sql, "create cluster x (replication factor 65)", "22023").await;

        // In a block, with what was created in it.
        sql.run("begin").await.expect("begin");
        sql.run("create cluster other (replication factor 2)")
            .await
            .expect("another");
        sql.run("alter cluster other set (replication factor 4)")
            .await
            .expect("more");
        sql.run("alter cluster other rename to third")
            .await
            .expect("a name");
        sql.run("commit").await.expect("commit");
        let clusters = "select c.name, count(*) from mz_clusters c join mz_cluster_replicas r on c.id = r.cluster_id \
             group by 1 order by 1";
        let all = "narrow|2 quickstart|1 third|4";
        assert_eq!(column(&sql, clusters).await, all);

        node.crash();
        let sql = node.sql().await;
        assert_eq!(column(&sql, clusters).await, all);
        assert_eq!(column(&sql, "select n from m").await, "2");
    });
}

#[test]
fn nodes_are_administered_with_care() {
    run(async {
        let node = Node::start();
        let sql = node.sql().await;
        must_fail(&sql, "alter node 1 drain", "55000").await;
        must_fail(&sql, "drop node 1", "connected to").await;
        must_fail(&sql, "alter node 2 drain", "42704").await;
        must_fail(&sql, "drop node 2", "42704").await;
        sql.run("drop node if exists 2")
            .await
            .expect("nothing to do");
        sql.run("alter node 1 undrain")
            .await
            .expect("nothing to do");

        let first = sql.one("create join token").await.expect("a token");
        let second = sql
            .one("create join token valid for '1 hour'")
            .await
            .expect("a token");
        assert_ne!(first, second);
        let unused = "select count(*) from mz_internal.mz_join_tokens where used_by is null and expires_at > now()";
        assert_eq!(column(&sql, unused).await, "2");
        let short = "select count(*) from mz_internal.mz_join_tokens where expires_at < now() + interval '2 hours'";
        assert_eq!(column(&sql, short).await, "1");
        must_fail(&sql, "create join token valid for 'soon'", "22007").await;

        sql.run("begin").await.expect("begin");
        must_fail(&sql, "create join token", "25001").await;
        sql.run("rollback").await.expect("rollback");
        sql.run("begin read only").await.expect("begin");
        must_fail(&sql, "alter node 1 drain", "25006").await;
        sql.run("rollback").await.expect("rollback");

        // The secret in it is neither shown nor stored: only its hash is.
        let digits = first.strip_prefix("join_").expect("the token of a join");
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
        // Behind the authority's fingerprint, 32 bytes, and before the checksum.
        let secret: Vec<u8> = (64..96).step_by(2).map(byte).collect();
        let dir = node.server.data_dir();
        let files = harness::files::written_files(dir).expect("files");
        assert!(!files.is_empty());
        for file in files {
            let bytes = std::fs::read(dir.join(&file.path)).expect("a file");
            // Not the zeros behind what is written: log segments are preallocated.
            let written = &bytes[..bytes.len().min(file.bytes as usize)];
            let found = written.windows(secret.len()).any(|w| w == secret);
            assert!(!found, "{}", file.path.display());
        }
    });
}

/// The value behind a label of EXPLAIN TIMESTAMP.
fn value<'a>(lines: &'a [String], label: &str) -> &'a str {
    let line = lines.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == label).then_some(value.trim())
    });
    line.unwrap_or_else(|| panic!("no {label} in {lines:?}"))
}

#[test]
fn explain_timestamp_tells_who_would_answer_and_when() {
    run(async {
        let node = Node::start();
        let sql = node
            .sql_after(
                "create table t (a int); insert into t values (1); create materialized view m as select count(*) as n from t",
            )
            .await;
        assert_eq!(column(&sql, "select n from m").await, "1");
        let explain = async |query: &str| -> Vec<String> {
            let query = format!("explain timestamp for {query}");
            let answer = sql.rows(&query).await;
            let answer = answer.unwrap_or_else(|error| panic!("{query}: {}", error_text(&error)));
            let lines = answer.rows().iter();
            lines.map(|row| row[0].clone().expect("a line")).collect()
        };
        let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{text}"));

        // Frontiers are reported a little later than reads are answered.
        let reported = |lines: &[String]| {
            let mut uppers = lines.iter().filter_map(|line| line.split_once(", upper "));
            uppers.all(|(_, upper)| upper.parse::<u64>().is_ok_and(|upper| upper > 0))
        };
        let mut view = explain("select * from m").await;
        let started = std::time::Instant::now();
        while !reported(&view) && started.elapsed() < std::time::Duration::from_secs(30) {
            view = explain("select * from m").await;
        }
        assert_eq!(value(&view, "gateway"), "node 1, incarnation 1");
        // Which term a group begins to work in depends on who is faster.
        let leader = value(&view, "ENV leader");
        assert!(leader.starts_with("node 1, term ") && leader.contains(", applied index "));
        assert!(value(&view, "how it was determined").starts_with("read point: ReadIndex"));
        let served = value(&view, "served by");
        assert!(served.starts_with("peek of u"), "{served}");
        assert!(
            served.contains("leader node 1, incarnation 1, term "),
            "{served}"
        );
        assert!(
            served.ends_with(", replicas replica1 on node 1"),
            "{served}"
        );
        let ts = number(value(&view, "query timestamp"));
        let inputs: Vec<&String> = view.iter().filter(|line| line.contains("since ")).collect();
        assert_eq!(inputs.len(), 2, "{view:?}");
        for input in inputs {
            let (_, bounds) = input.split_once("since ").expect("a since");
            let (since, upper) = bounds.split_once(", upper ").expect("an upper");
            // The upper of a view may still be about to pass the time of the read.
            assert!(
                number(since) <= ts && number(since) < number(upper),
                "{input}"
            );
        }

        let table = explain("select * from t").await;
        assert_eq!(value(&table, "served by"), "scan of the gateway's storage");
        let past = explain(&format!("select * from t as of {ts}")).await;
        assert_eq!(value(&past, "how it was determined"), "AS OF");
        assert_eq!(number(value(&past, "query timestamp")), ts);

        sql.run("begin").await.expect("begin");
        let first = explain("select * from t").await;
        let other = node.sql_after("insert into t values (2)").await;
        let second = explain("select * from t").await;
        assert!(value(&first, "how it was determined").starts_with("the transaction's read point"));
        assert_eq!(
            value(&first, "query timestamp"),
            value(&second, "query timestamp")
        );
        sql.run("rollback").await.expect("rollback");
        drop(other);
        sql.run("set default_transaction_isolation = 'serializable'")
            .await
            .expect("set");
        let relaxed = explain("select * from t").await;
        let how = value(&relaxed, "how it was determined");
        assert_eq!(how, "newest local state, no read point");
    });
}
