//! Errors as a SQL user sees them: SQLSTATE, primary message, detail, hint, position (PostgreSQL 15, section 55.8).

use plan::EvalError;
use planner::PlanError;

/// What is sent in an ErrorResponse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// 1-based, in characters of the statement's text.
    pub position: Option<usize>,
    /// CONTEXT, for example the line of a COPY.
    pub context: Option<String>,
    /// Schema, table, column and constraint, where the error names one.
    pub constraint: Option<ConstraintName>,
    /// Ends the connection.
    pub fatal: bool,
    /// The time to be read lies before what is kept.
    pub forgotten: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConstraintName {
    pub schema: String,
    pub table: String,
    pub constraint: String,
}

/// Shorthand of every fallible step of the adapter.
pub type Result<T, E = SqlError> = std::result::Result<T, E>;

impl SqlError {
    pub fn new(sqlstate: &str, message: impl Into<String>) -> Self {
        SqlError {
            sqlstate: sqlstate.to_owned(),
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            context: None,
            constraint: None,
            fatal: false,
            forgotten: false,
        }
    }

    pub fn fatal(sqlstate: &str, message: impl Into<String>) -> Self {
        SqlError {
            fatal: true,
            ..Self::new(sqlstate, message)
        }
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn unsupported(what: &str, hint: &str) -> Self {
        Self::new("0A000", format!("{what} is not supported")).hint(hint)
    }

    /// History was compacted past the time to be read.
    pub fn forgotten(message: impl Into<String>) -> Self {
        SqlError {
            forgotten: true,
            ..Self::new("22023", message)
        }
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new("XX000", message)
    }

    pub fn cancelled() -> Self {
        Self::new("57014", "canceling statement due to user request")
    }

    pub fn timeout() -> Self {
        Self::new("57014", "canceling statement due to statement timeout")
    }

    pub fn shutdown() -> Self {
        Self::fatal(
            "57P01",
            "terminating connection due to administrator command",
        )
    }

    /// A serialization failure: the transaction may be tried again as a whole.
    pub fn conflict() -> Self {
        Self::new(
            "40001",
            "could not serialize access due to concurrent update",
        )
        .hint("The transaction might succeed if retried.")
    }

    /// The process lost sight of a write: it may or may not have been done.
    pub fn unknown_outcome() -> Self {
        Self::new("08007", "the outcome of the transaction is unknown")
            .detail("The connection to the log was lost after the transaction was sent.")
            .hint("Check whether its effects are there before trying again.")
    }
}

impl From<EvalError> for SqlError {
    fn from(error: EvalError) -> Self {
        let EvalError {
            sqlstate,
            message,
            detail,
            hint,
        } = error;
        SqlError {
            detail,
            hint,
            ..match &*sqlstate {
                // What a replica says of a time before its inputs' history.
                "72000" => Self::forgotten(message),
                _ => Self::new(&sqlstate, message),
            }
        }
    }
}

impl From<PlanError> for SqlError {
    fn from(error: PlanError) -> Self {
        SqlError {
            detail: error.detail.clone(),
            hint: error.hint.clone(),
            position: error.position,
            ..Self::new(error.sqlstate, error.message.clone())
        }
    }
}

impl From<repr::FormatError> for SqlError {
    fn from(error: repr::FormatError) -> Self {
        SqlError {
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
            ..Self::new(error.sqlstate(), error.to_string())
        }
    }
}
