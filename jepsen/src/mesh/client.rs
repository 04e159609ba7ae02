//! A client behind a round-robin balancer: the next operation goes to the next node.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::sql::error_text;
use harness::{Sql, Target, sqlstate};
use tokio_postgres::Error;

/// No statement may take longer, whatever is broken: the longest fault holds for half of it.
const HUNG_AFTER: Duration = Duration::from_secs(30);
/// A node that takes no session for so long is passed over, as a balancer would.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// A clean run keeps so many findings; what comes after them would say the same.
const FINDINGS_MAX: usize = 20;
/// What faults may do to a statement. Everything else is a finding.
const STATES_ALLOWED: [&str; 7] = [
    "connection",
    "40001",
    "40003",
    "08007",
    "57014",
    "57P01",
    "57P03",
];

/// What all clients of a run have in common.
pub struct Shared {
    pub targets: Vec<Target>,
    stopped: AtomicBool,
    findings: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Shared {
    pub fn new(targets: Vec<Target>) -> Arc<Shared> {
        Arc::new(Shared {
            targets,
            stopped: AtomicBool::new(false),
            findings: Mutex::default(),
            counts: Mutex::default(),
        })
    }

    /// Whether clients should go on.
    pub fn is_running(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed)
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Something that no correct server does. The run fails at its end.
    pub fn finding(&self, text: String) {
        let mut findings = self.findings.lock().expect("findings");
        if findings.len() < FINDINGS_MAX {
            println!("FINDING: {text}");
            findings.push(text);
        }
    }

    pub fn findings(&self) -> Vec<String> {
        self.findings.lock().expect("findings").clone()
    }

    /// Counts how operations ended, for the last lines.
    pub fn count(&self, what: &str, end: &str) {
        self.add(&format!("{what} {end}"), 1);
    }

    /// Adds to a counter for the last lines.
    pub fn add(&self, counter: &str, more: u64) {
        let mut counts = self.counts.lock().expect("counts");
        *counts.entry(counter.to_owned()).or_default() += more;
    }

    /// How often a counter of this kind of operation ended so.
    pub fn counted(&self, what: &str, end: &str) -> u64 {
        let counts = self.counts.lock().expect("counts");
        counts.get(&format!("{what} {end}")).copied().unwrap_or(0)
    }

    pub fn show_counts(&self) -> String {
        let counts = self.counts.lock().expect("counts");
        let shown = counts.iter().map(|(what, n)| format!("{what}: {n}"));
        shown.collect::<Vec<_>>().join(", ")
    }
}

/// Why a statement has no answer.
#[derive(Clone, Debug)]
pub struct Failure {
    /// SQLSTATE; `connection` when it broke, `hung` when nothing came.
    pub state: String,
    pub text: String,
}

impl Failure {
    /// Whether a commit that ended so may have happened.
    pub fn is_unknown(&self) -> bool {
        ["connection", "hung", "08007", "40003"].contains(&self.state.as_str())
    }

    fn ends_session(&self) -> bool {
        self.state == "connection" || self.state == "hung"
    }
}

/// Whether a fault explains this end of a statement.
pub fn is_fault(state: &str) -> bool {
    STATES_ALLOWED.contains(&state)
}

/// One client with at most one session per node.
pub struct Hopper {
    shared: Arc<Shared>,
    sessions: Vec<Option<Arc<Sql>>>,
    at: usize,
}

impl Hopper {
    /// A client whose first operation goes to the node at place `first`.
    pub fn new(shared: &Arc<Shared>, first: usize) -> Hopper {
        Hopper {
            shared: Arc::clone(shared),
            sessions: shared.targets.iter().map(|_| None).collect(),
            at: first,
        }
    }

    /// The session at the next node that takes one; `None` when no node does.
    pub async fn hop(&mut self) -> Option<Arc<Sql>> {
        for _ in 0..self.sessions.len() {
            self.at = (self.at + 1) % self.sessions.len();
            if let Some(session) = self.session().await {
                return Some(session);
            }
        }
        None
    }

    async fn session(&mut self) -> Option<Arc<Sql>> {
        let session = &mut self.sessions[self.at];
        if session.as_ref().is_none_or(|sql| sql.is_closed()) {
            let connecting = self.shared.targets[self.at].connect();
            let connected = tokio::time::timeout(CONNECT_WITHIN, connecting).await;
            *session = connected.ok()?.ok().map(Arc::new);
        }
        session.clone()
    }

    /// Waits for the answer to a statement of the session that [`Hopper::hop`] gave. What no fault explains is a finding.
    pub async fn attempt<T>(
        &mut self,
        what: &str,
        statement: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        let failure = match tokio::time::timeout(HUNG_AFTER, statement).await {
            Ok(Ok(answer)) => {
                self.shared.count(what, "ok");
                return Ok(answer);
            }
            Ok(Err(error)) => Failure {
                state: sqlstate(&error),
                text: error_text(&error),
            },
            Err(_) => Failure {
                state: "hung".to_owned(),
                text: format!("no answer within {HUNG_AFTER:?}"),
            },
        };
        self.shared.count(what, &failure.state);
        if !is_fault(&failure.state) {
            let node = self.at;
            self.shared
                .finding(format!("{what} at place {node}: {}", failure.text));
        }
        if failure.ends_session() {
            self.sessions[self.at] = None;
        }
        Err(failure)
    }

    /// Leaves the session of the last hop, whose state is not known, for good.
    pub fn leave(&mut self) {
        self.sessions[self.at] = None;
    }

    /// The place of the last hop.
    pub fn place(&self) -> usize {
        self.at
    }
}

/// A pause between two operations, so that a run on few cores is not one long queue.
pub async fn think() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}
