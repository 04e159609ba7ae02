//! Bugs on purpose, one per hazard of docs/consistency.md: they show that its test would notice.
//!
//! What this is: one switch for the whole process. Code asks [`is`] where a mechanism could be left out, a test chooses the bug (`choose`), runs the script of its row, and demands
//! that it fails. What this is not: a part of any product. Without the feature `on`, which the feature `planted` of each crate turns on, [`is`] is always false.
//!
//! Caveat: a bug is chosen for all threads; tests that choose one run alone.

/// All bugs, and what each of them leaves out.
pub const BUGS: &[(&str, &str)] = &[
    (
        "h1",
        "a leader answers readers without asking a quorum whether it still leads",
    ),
    (
        "h1w",
        "a voter that asks for its readers confirms the leader whatever term it has voted in",
    ),
    (
        "h2",
        "whoever arrives during a round of read points gets its answer, too",
    ),
    ("h5", "a transaction is acknowledged before it is applied"),
    (
        "h6",
        "a replica answers from what it has, complete at the time or not",
    ),
    ("h7", "grants do not trail behind the last timestamp"),
    ("h8", "a new dataflow does not hold its inputs"),
    ("h9", "a replica obeys an older leader"),
    (
        "h12",
        "a write is not checked against the definitions that it was planned with",
    ),
    ("h13", "a token that comes again is executed again"),
    ("h16", "compaction is allowed when its grant is proposed"),
    ("h17", "a snapshot leaves out what sessions have done"),
    ("h21", "a clock that is far ahead of the others is believed"),
    ("h22", "what a transaction read is not checked"),
    (
        "h25",
        "each worker has an order of its own for rows that are equal in a plan's order",
    ),
    ("h28", "replicas do not hear that a peek is given up"),
    (
        "h32",
        "the first outcome of an entry is that of all its transactions",
    ),
    (
        "h34",
        "a peek is not parked until the order that it follows has been processed",
    ),
    (
        "h35",
        "the first answer of any replica counts, a refusal too",
    ),
    ("h36", "history that a jump has skipped counts as known"),
    ("h37", "a dataflow is kept whatever its plan"),
    ("h38", "a session that ended is forgotten at once"),
];

#[cfg(feature = "on")]
static CHOSEN: std::sync::Mutex<Option<&str>> = std::sync::Mutex::new(None);

/// Wakes one of the bugs, or none.
///
/// # Panics
/// If there is no such bug.
#[cfg(feature = "on")]
pub fn choose(bug: Option<&'static str>) {
    let known = |bug| BUGS.iter().any(|(name, _)| *name == bug);
    assert!(bug.is_none_or(known), "no bug is called {bug:?}");
    *CHOSEN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = bug;
}

/// Whether this bug is awake.
#[cfg(feature = "on")]
pub fn is(bug: &str) -> bool {
    *CHOSEN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        == Some(bug)
}

/// Whether this bug is awake: none ever is in this build.
#[cfg(not(feature = "on"))]
#[inline(always)]
pub fn is(_: &str) -> bool {
    false
}
