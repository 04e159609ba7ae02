//! Starting: what is printed, what is refused.

use std::net::TcpListener;
use std::time::Duration;

use harness::{Launch, Server, StartError, files};

use crate::node::{Node, binary, column, run};

/// Longest wait for a line that is printed at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// The output of a start that must be refused.
fn refused(launch: &Launch) -> String {
    match launch.start() {
        Err(StartError::Exited { status, output }) => {
            assert!(
                !status.success(),
                "the refusal ended with success:\n{output}"
            );
            assert!(
                !Server::was_killed(status),
                "the server was killed instead of refusing"
            );
            assert!(
                !output.contains("panicked at"),
                "a refusal is a message, not a panic:\n{output}"
            );
            output
        }
        Err(other) => panic!("expected a refusal: {other}"),
        Ok(server) => panic!("the server started:\n{}", server.output()),
    }
}

#[test]
fn empty_directory_starts_and_says_where_everything_is() {
    let node = Node::start();
    let (sql, http) = (node.server.sql_addr(), node.server.http_addr());
    let directory = node.server.data_dir().display().to_string();
    for needle in [
        directory,
        format!("{sql}"),
        format!("http://{http}"),
        "psql ".to_owned(),
    ] {
        assert!(
            node.server.wait_output(&needle, PATIENCE),
            "the output lacks {needle:?}:\n{}",
            node.server.output()
        );
    }
}

#[test]
fn printed_sql_url_works_as_it_stands() {
    let node = Node::start();
    assert!(node.server.wait_output("psql ", PATIENCE));
    let output = node.server.output();
    let start = output.find("postgres").expect("a SQL URL");
    let url: String = output[start..]
        .chars()
        .take_while(|c| !c.is_whitespace() && !"'\"`".contains(*c))
        .collect();
    run(async move {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap_or_else(|e| panic!("{url}: {e}"));
        tokio::spawn(connection);
        assert_eq!(
            client
                .query_one("select 1", &[])
                .await
                .expect("a row")
                .get::<_, i32>(0),
            1
        );
    });
}

#[test]
fn http_port_answers_health_and_metrics() {
    let node = Node::start();
    for path in ["/livez", "/readyz"] {
        assert_eq!(node.server.http(path).expect("an answer").0, 200, "{path}");
    }
    let metrics = node.server.metrics().expect("metrics");
    assert!(metrics.len() > 10, "few metrics: {metrics:?}");
    assert_eq!(node.server.http("/no-such-page").expect("an answer").0, 404);
}

#[test]
fn post_sql_runs_a_statement() {
    let node = Node::start();
    let body = r#"{"query": "select 40 + 2 as answer"}"#;
    let (status, answer) =
        harness::server::http_post_json(node.server.http_addr(), "/sql", body).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    assert!(
        answer.contains("42") && answer.contains("answer"),
        "{answer}"
    );
    let bad = harness::server::http_post_json(node.server.http_addr(), "/sql", "{not json")
        .expect("an answer");
    assert_eq!(bad.0 / 100, 4, "{}", bad.1);
}

#[test]
fn second_process_on_the_same_directory_is_refused() {
    let node = Node::start();
    let output = refused(&Launch::new(binary(), node.server.data_dir()));
    assert!(
        output.contains(&node.server.data_dir().display().to_string()),
        "the refusal does not name the directory:\n{output}"
    );
    run(async { assert_eq!(column(&node.sql().await, "select 1").await, "1") });
}

#[test]
fn ports_in_use_are_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("an address");
    for launch in [
        Launch::new(binary(), dir.path().join("a")).sql_addr(addr),
        Launch::new(binary(), dir.path().join("b")).http_addr(addr),
    ] {
        let output = refused(&launch);
        assert!(
            output.contains(&addr.to_string()),
            "the refusal does not name {addr}:\n{output}"
        );
    }
}

#[test]
fn foreign_directory_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("PG_VERSION"), "15\n").expect("write");
    std::fs::create_dir(dir.path().join("base")).expect("mkdir");
    let output = refused(&Launch::new(binary(), dir.path()));
    assert!(
        output.contains(&dir.path().display().to_string()),
        "the refusal does not name the directory:\n{output}"
    );
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .expect("list")
        .map(|e| e.expect("entry").file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["PG_VERSION", "base"],
        "the foreign directory was changed"
    );
}

/// Acknowledged rows were in the log: a directory that has lost it must not become an empty environment of the same name.
#[test]
fn used_directory_without_its_log_is_refused_and_left_alone() {
    let mut node = Node::start();
    run(async {
        node.sql_after("create table t (k int); insert into t values (1)")
            .await;
    });
    node.server.kill9();
    for lost in [&["wal"][..], &["wal", "snapshots"], &["wal", "starts.toml"]] {
        let copy = node.beside(&lost.join("-"));
        files::copy_dir(node.server.data_dir(), &copy).expect("copy");
        for name in lost {
            let path = copy.join(name);
            match path.is_dir() {
                true => std::fs::remove_dir_all(&path).expect("remove"),
                false => std::fs::remove_file(&path).expect("remove"),
            }
        }
        let output = refused(&Launch::new(binary(), &copy));
        for needle in [&copy.display().to_string(), "--data-dir", "wal"] {
            assert!(output.contains(needle), "{lost:?}: no {needle}:\n{output}");
        }
        assert!(
            lost.iter().all(|name| !copy.join(name).exists()),
            "{lost:?}: the refusal made files"
        );
    }
}

/// A crash between making the identity and forming the environment has acknowledged nothing.
#[test]
fn directory_that_was_never_formed_starts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let text = "# crc32c 27117f08\nformat = 1\nenvironment = \"0123456789abcdef0123456789abcdef\"\nnode = 1\ngeneration = 1\n";
    std::fs::write(dir.path().join("identity.toml"), text).expect("write");
    let server = Launch::new(binary(), dir.path())
        .start()
        .unwrap_or_else(|error| panic!("{error}"));
    run(async {
        let sql = server.target().connect().await.expect("a session");
        assert_eq!(column(&sql, "select 1").await, "1");
    });
}

#[test]
fn data_directory_that_is_a_file_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("file");
    std::fs::write(&path, "no directory").expect("write");
    let output = refused(&Launch::new(binary(), &path));
    assert!(
        output.contains(&path.display().to_string()),
        "the refusal does not name the path:\n{output}"
    );
}

/// A flipped bit in the middle of each durable file: the start is refused with file and offset, or every row is still there. At least one
/// flip has to be refused, or the files hold nothing that matters.
#[test]
fn damaged_files_are_refused_with_file_and_offset() {
    let mut node = Node::start();
    run(async {
        let sql = node
            .sql_after("create table t (k int primary key, v text)")
            .await;
        for k in 0..50 {
            sql.run(&format!(
                "insert into t values ({k}, '{}')",
                "x".repeat(500)
            ))
            .await
            .expect("insert");
        }
    });
    node.server.kill9();
    let mut refusals = 0;
    for (n, file) in files::written_files(node.server.data_dir())
        .expect("files")
        .into_iter()
        .enumerate()
    {
        let copy = node.beside(&format!("copy-{n}"));
        files::copy_dir(node.server.data_dir(), &copy).expect("copy");
        files::flip(&copy.join(&file.path), file.bytes / 2, 3).expect("flip");
        match Launch::new(binary(), &copy).start() {
            Ok(server) => run(async {
                let sql = server.target().connect().await.expect("a session");
                assert_eq!(
                    column(&sql, "select count(*), count(v), sum(length(v)) from t").await,
                    "50|50|25000",
                    "{:?}",
                    file.path
                );
            }),
            Err(StartError::Exited { status, output }) => {
                refusals += 1;
                let name = file
                    .path
                    .file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned();
                assert!(
                    !status.success() && !output.contains("panicked at"),
                    "{name}: {output}"
                );
                assert!(
                    output.contains(&name),
                    "the refusal does not name {name}:\n{output}"
                );
                // Log and snapshots lie in directories of their own; the small text files beside them have lines.
                let has_offsets = file.path.components().count() > 1;
                assert!(
                    !has_offsets || output.contains("offset") || output.contains("at byte"),
                    "the refusal does not give an offset:\n{output}"
                );
            }
            Err(other) => panic!("{:?}: {other}", file.path),
        }
    }
    assert!(refusals > 0, "no flip was refused");
}

#[test]
fn sigterm_ends_in_success_and_keeps_the_rows() {
    let mut node = Node::start();
    run(async {
        node.sql_after("create table t (k int); insert into t values (1), (2)")
            .await;
    });
    let status = node.server.terminate().expect("an end within the deadline");
    assert!(status.success(), "{status}\n{}", node.server.output());
    node.server.restart().expect("a restart");
    run(async {
        assert_eq!(
            column(&node.sql().await, "select count(*) from t").await,
            "2"
        )
    });
}

/// A statement that computes, and does not wait for anything, ends like others when the server stops.
#[test]
fn sigterm_ends_a_computation() {
    let mut node = Node::start();
    run(async {
        let (sql, watcher) = (node.sql().await, node.sql().await);
        let heavy = tokio::spawn(async move {
            let all = "select count(*) from generate_series(1, 2000000000)";
            sql.state(all).await
        });
        let running = "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()";
        while column(&watcher, running).await != "1" {
            tokio::task::yield_now().await;
        }
        let status = tokio::task::block_in_place(|| node.server.terminate());
        let status = status.expect("an end within the deadline");
        assert!(status.success(), "{status}\n{}", node.server.output());
        assert_eq!(heavy.await.expect("no panic"), "57P01");
    });
}

#[test]
fn unknown_flag_is_refused_with_a_usage_line() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = refused(&Launch::new(binary(), dir.path().join("data")).arg("--no-such-flag"));
    assert!(output.contains("--no-such-flag"), "{output}");
}
