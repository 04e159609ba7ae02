//! After the loss of a majority one node goes on, if somebody says so.

use std::process::{Command, Output};

use harness::mesh::Mesh;

use crate::node::{binary, column, run};

fn recover(words: &[&str], mesh: &Mesh, place: usize) -> (Output, String) {
    let output = Command::new(binary())
        .arg("recover")
        .args(words)
        .arg("--data-dir")
        .arg(mesh.node(place).data_dir())
        .output()
        .expect("the binary runs");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output, text)
}

/// What a line of `recover plan` says behind `label`.
fn line<'a>(text: &'a str, label: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(label));
    found
        .unwrap_or_else(|| panic!("no {label} in {text}"))
        .trim()
}

#[test]
fn one_node_goes_on_after_the_majority_is_lost() {
    run(async {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut mesh = Mesh::form(&binary(), dir.path(), 3)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let sql = mesh.sql(0).await.expect("a session");
        for statement in [
            "create table t (k int primary key)",
            "insert into t select g from generate_series(1, 100) g",
        ] {
            sql.run(statement).await.expect(statement);
        }
        let left = 1;
        // So that the node that is left has all of it.
        let there = mesh.sql(left).await.expect("a session");
        assert_eq!(column(&there, "select count(*) from t").await, "100");
        // A node that runs is left alone.
        let (output, text) = recover(&["plan"], &mesh, left);
        assert!(!output.status.success(), "{text}");
        (0..3).for_each(|place| mesh.node_mut(place).kill9());

        let (output, plan) = recover(&["plan"], &mesh, left);
        assert!(output.status.success(), "{plan}");
        assert_eq!(line(&plan, "generation"), "1");
        assert_eq!(line(&plan, "voters"), "1, 2, 3");
        // It cannot be taken back: a slip of the finger must not do it.
        let (output, text) = recover(&["apply"], &mesh, left);
        assert!(
            !output.status.success() && text.contains("--confirm"),
            "{text}"
        );
        let environment = line(&plan, "environment").to_owned();
        let (output, text) = recover(&["apply", "--confirm", &environment], &mesh, left);
        assert!(output.status.success(), "{text}");

        mesh.spawn(left).expect("the binary runs");
        mesh.node_mut(left)
            .wait_ready()
            .unwrap_or_else(|error| panic!("{error}"));
        let sql = mesh.sql(left).await.expect("a session");
        assert_eq!(column(&sql, "select count(*) from t").await, "100");
        sql.run("insert into t values (101)")
            .await
            .expect("a write");

        // One of the lost turns up with its old directory: neither has it a say, nor does it serve.
        let lost = 0;
        mesh.spawn(lost).expect("the binary runs");
        assert!(
            mesh.node(lost)
                .wait_output("waiting for a majority", std::time::Duration::from_secs(30)),
            "{}",
            mesh.node(lost).output()
        );
        assert_eq!(column(&sql, "select count(*) from t").await, "101");
        let probes = [("/livez", 200), ("/readyz", 503)];
        for (path, status) in probes {
            assert_eq!(mesh.node(lost).http(path).expect(path).0, status);
        }
        let refused = mesh.sql(lost).await.err().expect("no session").to_string();
        assert!(refused.contains("starting up"), "{refused}");
    });
}
