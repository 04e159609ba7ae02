//! Errors that evaluation raises; they are data: a dataflow carries them beside its rows and a read that meets one fails.

use serde::{Deserialize, Serialize};

/// An error of evaluating an expression over one row. Equal errors of different rows are one entry with a multiplicity.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error,
)]
#[error("{message}")]
pub struct EvalError {
    /// Five-character SQLSTATE (PostgreSQL 15, Appendix A).
    pub sqlstate: String,
    /// Primary message in PostgreSQL's words.
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl EvalError {
    pub fn new(sqlstate: &str, message: impl Into<String>) -> Self {
        EvalError {
            sqlstate: sqlstate.to_owned(),
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    pub fn division_by_zero() -> Self {
        Self::new("22012", "division by zero")
    }

    /// A value does not fit its type, for example `integer out of range`.
    pub fn out_of_range(what: &str) -> Self {
        Self::new("22003", format!("{what} out of range"))
    }
}
