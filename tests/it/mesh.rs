//! Several processes, one database: whatever one node acknowledged is there for the next statement on any other.

use harness::Sql;
use harness::mesh::Mesh;
use tempfile::TempDir;

use crate::node::{binary, column, patient, run};

/// Ready nodes and their temporary directory.
pub async fn form(count: usize) -> (Mesh, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mesh = Mesh::form_with(&binary(), dir.path(), count, patient).await;
    (mesh.unwrap_or_else(|error| panic!("{error}")), dir)
}

/// A session at each node, by place.
pub async fn sessions(mesh: &Mesh) -> Vec<Sql> {
    let mut sessions = Vec::new();
    for place in 0..mesh.count() {
        sessions.push(mesh.sql(place).await.expect("a session"));
    }
    sessions
}

#[test]
fn what_one_node_acknowledged_is_there_on_the_others_at_once() {
    run(async {
        let (mesh, _dir) = form(3).await;
        let mut ids: Vec<u64> = (0..3).map(|place| mesh.id(place)).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3]);
        let sql = sessions(&mesh).await;
        for round in 0..9 {
            let at = |step: usize| &sql[(round + step) % 3];
            let table = format!("t{round}");
            let run = |step, text: String| async move {
                let done = at(step).run(&text).await;
                done.unwrap_or_else(|e| panic!("{text}: {}", harness::sql::error_text(&e)));
            };
            run(0, format!("create table {table} (k int primary key)")).await;
            run(1, format!("insert into {table} values (1), (2)")).await;
            let rows = format!("select count(*) from {table}");
            assert_eq!(column(at(2), &rows).await, "2");
            let view =
                format!("create materialized view v{round} as select sum(k) as s from {table}");
            run(2, view).await;
            let sum = format!("select s from v{round}");
            assert_eq!(column(at(0), &sum).await, "3");
            run(1, format!("insert into {table} values (3)")).await;
            assert_eq!(column(at(0), &sum).await, "6");
            let again = format!("insert into {table} values (3)");
            assert_eq!(at(2).state(&again).await, "23505");
            run(0, format!("drop table {table} cascade")).await;
            assert_eq!(at(1).state(&rows).await, "42P01");
            assert_eq!(at(2).state(&sum).await, "42P01");
        }
    });
}
