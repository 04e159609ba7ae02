//! Errors of parsing and planning, as a SQL client sees them.

use plan::EvalError;
use repr::SqlType;

/// Why a statement cannot be parsed or planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    /// Five-character SQLSTATE (PostgreSQL 15, Appendix A).
    pub sqlstate: &'static str,
    /// Primary message in PostgreSQL's words.
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Where in the SQL text, in characters, the first being 1.
    pub position: Option<usize>,
}

/// A message that accompanies success: `relation "t" already exists, skipping`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// `NOTICE` or `WARNING`.
    pub severity: &'static str,
    pub sqlstate: &'static str,
    pub message: String,
    pub detail: Option<String>,
}

impl Notice {
    pub fn info(sqlstate: &'static str, message: impl Into<String>) -> Notice {
        Notice {
            severity: "NOTICE",
            sqlstate,
            message: message.into(),
            detail: None,
        }
    }

    pub fn warning(sqlstate: &'static str, message: impl Into<String>) -> Notice {
        Notice {
            severity: "WARNING",
            ..Notice::info(sqlstate, message)
        }
    }
}

impl PlanError {
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        PlanError {
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
        }
    }

    /// Adds the position; 0 means unknown. The first position given stays.
    pub fn at(mut self, position: usize) -> Self {
        if self.position.is_none() && position > 0 {
            self.position = Some(position);
        }
        self
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// 0A000: the feature exists in PostgreSQL but not here.
    pub fn unsupported(feature: impl std::fmt::Display) -> Self {
        Self::new("0A000", format!("{feature} is not supported"))
    }

    /// 42601 with PostgreSQL's words; `None` is the end of the input.
    pub fn syntax(near: Option<&str>) -> Self {
        match near {
            Some(token) => Self::new("42601", format!("syntax error at or near \"{token}\"")),
            None => Self::new("42601", "syntax error at end of input"),
        }
    }

    /// 54001: nesting or chains too deep to process within a bounded stack.
    pub fn too_complex() -> Self {
        Self::new("54001", "statement is too complex").with_hint(
            "Split the statement, or replace long chains of operators by IN lists or arrays.",
        )
    }

    pub fn relation_not_found(name: &str) -> Self {
        Self::new("42P01", format!("relation \"{name}\" does not exist"))
    }

    pub fn type_not_found(name: &str) -> Self {
        Self::new("42704", format!("type \"{name}\" does not exist"))
    }

    pub fn schema_not_found(name: &str) -> Self {
        Self::new("3F000", format!("schema \"{name}\" does not exist"))
    }

    pub fn cluster_not_found(name: &str) -> Self {
        Self::new("42704", format!("cluster \"{name}\" does not exist"))
    }

    /// 42804: an expression has another type than its place demands.
    pub fn wrong_type(place: &str, expected: &SqlType, found: &SqlType) -> Self {
        let (expected, found) = (expected.base_name(), found.base_name());
        Self::new(
            "42804",
            format!("argument of {place} must be type {expected}, not type {found}"),
        )
    }

    /// A constant that cannot be evaluated, for example `'x'::int4`.
    pub fn from_eval(error: EvalError) -> Self {
        PlanError {
            sqlstate: intern_sqlstate(&error.sqlstate),
            message: error.message,
            detail: error.detail,
            hint: error.hint,
            position: None,
        }
    }
}

/// The static form of an SQLSTATE that evaluation can raise; unknown ones become `XX000`.
fn intern_sqlstate(code: &str) -> &'static str {
    const CODES: &[&str] = &[
        "0A000", "08P01", "21000", "22000", "22001", "22003", "22004", "22005", "22007", "22008",
        "22009", "2200B", "2200F", "22011", "22012", "22013", "22014", "22015", "22016", "22018",
        "22019", "2201B", "2201E", "2201F", "2201G", "2201W", "2201X", "22021", "22022", "22023",
        "22025", "22026", "2202E", "2202H", "22032", "22P01", "22P02", "22P03", "22P04", "22P05",
        "2BP01", "3D000", "3F000", "42501", "42601", "42602", "42622", "42703", "42704", "42725",
        "42804", "42809", "42846", "42883", "42939", "42P01", "42P02", "42P16", "42P18", "42P21",
        "42P22", "53000", "53200", "53400", "54000", "54001", "54023", "55000", "57014",
    ];
    CODES
        .iter()
        .copied()
        .find(|known| *known == code)
        .unwrap_or("XX000")
}
