//! What can go wrong while values are converted.

use thiserror::Error;

/// A value could not be converted from or to text or binary, in Postgres's words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct FormatError {
    sqlstate: &'static str,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl FormatError {
    /// An error with its five-character SQLSTATE and primary message.
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> FormatError {
        FormatError {
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// The same error with a DETAIL line.
    pub fn with_detail(mut self, detail: impl Into<String>) -> FormatError {
        self.detail = Some(detail.into());
        self
    }

    /// The same error with a HINT line.
    pub fn with_hint(mut self, hint: impl Into<String>) -> FormatError {
        self.hint = Some(hint.into());
        self
    }

    /// The five-character SQLSTATE.
    pub fn sqlstate(&self) -> &'static str {
        self.sqlstate
    }

    /// The primary message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The DETAIL line, if any.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The HINT line, if any.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// Bytes that should hold packed datums do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReprError {
    /// The bytes end inside a datum.
    #[error("row bytes end inside the datum at offset {offset}")]
    Truncated {
        /// Where the datum starts.
        offset: usize,
    },
    /// No datum has this tag.
    #[error("row bytes have the unknown tag {tag:#04x} at offset {offset}")]
    UnknownTag {
        /// The tag byte.
        tag: u8,
        /// Where it is.
        offset: usize,
    },
    /// The datum is not in its one canonical form, or its content is invalid.
    #[error("row bytes hold a malformed datum at offset {offset}: {reason}")]
    Malformed {
        /// Where the datum starts.
        offset: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl ReprError {
    /// The five-character SQLSTATE: data corrupted.
    pub fn sqlstate(&self) -> &'static str {
        "XX001"
    }
}
