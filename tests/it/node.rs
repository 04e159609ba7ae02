//! A server of the binary under test with a data directory of its own.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use harness::{Launch, Server, Sql};
use tempfile::TempDir;

/// No case may take longer; a server that hangs fails its test instead of stopping the run.
const CASE_LIMIT: Duration = Duration::from_secs(240);

/// The binary that cargo built for this test run.
pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_clusterd"))
}

/// For nodes of a mesh whose elections are not what a test is about: machines that run tests stall for longer than a leader may be silent by default, and a change of leaders
/// may end any statement with 57P03 or 08007.
pub fn patient(launch: Launch) -> Launch {
    launch.args(&["--election", "dev"])
}

/// A running server and its temporary data directory; both go when this is dropped.
pub struct Node {
    pub server: Server,
    dir: TempDir,
}

impl Node {
    /// A server on an empty directory.
    pub fn start() -> Node {
        Node::start_with(|launch| launch)
    }

    /// A server on an empty directory whose recipe is changed first.
    pub fn start_with(change: impl FnOnce(Launch) -> Launch) -> Node {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let launch = change(Launch::new(binary(), dir.path().join("data")));
        let server = launch.start().unwrap_or_else(|error| panic!("{error}"));
        Node { server, dir }
    }

    /// A fresh session.
    pub async fn sql(&self) -> Sql {
        self.server.target().connect().await.expect("a session")
    }

    /// A session after these statements, each a transaction of its own. No literal in them holds a semicolon.
    pub async fn sql_after(&self, setup: &str) -> Sql {
        let sql = self.sql().await;
        for statement in setup.split(';') {
            let text = harness::sql::error_text;
            sql.run(statement)
                .await
                .unwrap_or_else(|error| panic!("{statement}: {}", text(&error)));
        }
        sql
    }

    /// A place for files beside the data directory.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// SIGKILL and start again over the same directory.
    pub fn crash(&mut self) {
        self.server
            .restart()
            .unwrap_or_else(|error| panic!("restart after SIGKILL: {error}"));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- the server printed (end):\n{}",
                self.server.output_end()
            );
        }
    }
}

/// Runs one asynchronous case with a deadline.
pub fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(CASE_LIMIT, case)
            .await
            .expect("the case took too long")
    });
}

/// The text of one cell for each row, NULL as `NULL`, rows joined by a space: short to compare.
pub async fn column(sql: &Sql, query: &str) -> String {
    let answer = sql
        .rows(query)
        .await
        .unwrap_or_else(|error| panic!("{query}: {}", harness::sql::error_text(&error)));
    let rows = answer.rows().iter().map(|row| {
        row.iter()
            .map(|v| v.as_deref().unwrap_or("NULL"))
            .collect::<Vec<_>>()
            .join("|")
    });
    rows.collect::<Vec<_>>().join(" ")
}
