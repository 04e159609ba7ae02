//! Evaluation errors as rows, so that errors flow through the same operators as data.

use plan::EvalError;
use repr::{Datum, Row, RowRef};

/// The error as a row of four text columns.
pub fn to_row(error: &EvalError) -> Row {
    Row::pack_slice(&[
        Datum::String(&error.sqlstate),
        Datum::String(&error.message),
        error.detail.as_deref().map_or(Datum::Null, Datum::String),
        error.hint.as_deref().map_or(Datum::Null, Datum::String),
    ])
}

/// The error that [`to_row`] packed.
pub fn from_row(row: RowRef<'_>) -> EvalError {
    let mut texts = row.iter().map(|d| match d {
        Datum::String(text) => Some(text.to_owned()),
        _ => None,
    });
    let mut next = || texts.next().flatten();
    EvalError {
        sqlstate: next().unwrap_or_else(|| "XX000".to_owned()),
        message: next().unwrap_or_default(),
        detail: next(),
        hint: next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_survive_the_round_trip() {
        for error in [
            EvalError::division_by_zero(),
            EvalError {
                detail: Some("d".into()),
                hint: None,
                ..EvalError::out_of_range("integer")
            },
            EvalError {
                detail: None,
                hint: Some(String::new()),
                ..EvalError::out_of_range("integer")
            },
        ] {
            assert_eq!(from_row(to_row(&error).as_ref()), error);
        }
    }
}
