//! After the loss of a majority one node goes on, if somebody says so.

use std::process::{Command, Output};
use std::time::Duration;

use harness::mesh::Mesh;

use crate::node::{binary, column, patient, run};

/// Nothing takes so long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

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
        let mut mesh = Mesh::form_with(&binary(), dir.path(), 3, patient)
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

        // The lost turn up with their old directories, a majority of them: they must not acknowledge anything, and end.
        for lost in [0, 2] {
            mesh.spawn(lost).expect("the binary runs");
        }
        let words = "recovered without the one whose generation is lower";
        for place in 0..3 {
            let said = mesh.node(place).wait_output(words, PATIENCE);
            assert!(said, "{}", mesh.node(place).output());
        }
        for lost in [0, 2] {
            let status = mesh.node_mut(lost).wait_exit(PATIENCE);
            let status = status.expect("it ends by itself");
            assert_eq!(status.code(), Some(1), "{}", mesh.node(lost).output());
            let output = mesh.node(lost).output();
            assert!(output.contains("is no part of its environment"), "{output}");
        }
        assert_eq!(column(&sql, "select count(*) from t").await, "101");
    });
}

/// Lets the node at `place`, which has ended, go on alone; what was printed.
fn goes_on_alone(mesh: &Mesh, place: usize) -> String {
    let (_, plan) = recover(&["plan"], mesh, place);
    let environment = line(&plan, "environment").to_owned();
    let (output, text) = recover(&["apply", "--confirm", &environment], mesh, place);
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn two_nodes_that_both_went_on_never_mix() {
    run(async {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut mesh = Mesh::form_with(&binary(), dir.path(), 3, patient)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let sql = mesh.sql(0).await.expect("a session");
        sql.run("create table t (k int primary key); create materialized view v as select count(*) as n from t")
            .await
            .expect("a table");
        for place in 1..3 {
            let there = mesh.sql(place).await.expect("a session");
            assert_eq!(column(&there, "select n from v").await, "0");
        }
        (0..3).for_each(|place| mesh.node_mut(place).kill9());
        for place in 1..3 {
            let said = goes_on_alone(&mesh, place);
            assert!(said.contains("Do not apply this to another node"), "{said}");
        }
        for place in 1..3 {
            mesh.spawn(place).expect("the binary runs");
            mesh.node_mut(place)
                .wait_ready()
                .unwrap_or_else(|error| panic!("{error}"));
            let sql = mesh.sql(place).await.expect("a session");
            sql.run(&format!("insert into t values ({place})"))
                .await
                .expect("a write");
        }
        // Each hears of the other, and what to do.
        for place in 1..3 {
            let words = "recover apply was run on more than one node";
            let said = mesh.node(place).wait_output(words, PATIENCE);
            assert!(said, "{}", mesh.node(place).output());
        }
        // Neither sees anything of the other, in its tables or in its views.
        for place in 1..3 {
            let sql = mesh.sql(place).await.expect("a session");
            assert_eq!(column(&sql, "select k from t").await, place.to_string());
            assert_eq!(column(&sql, "select n from v").await, "1");
            let nodes = "select id from mz_nodes where status = 'active'";
            assert_eq!(column(&sql, nodes).await, mesh.id(place).to_string());
        }
    });
}
