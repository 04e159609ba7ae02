//! Conditions on `mz_now()`, which say when a row is present instead of whether.

use super::{Mfp, TemporalBound};
use crate::error::EvalError;
use crate::scalar::{Func, ScalarExpr, Unmaterializable};
use repr::{SqlType, Timestamp};

impl Mfp {
    /// Turns the predicates that compare `mz_now()` with an expression of the row into temporal bounds.
    ///
    /// # Errors
    /// 0A000 if `mz_now()` occurs anywhere else.
    pub fn extract_temporal(&mut self) -> Result<(), EvalError> {
        let predicates = std::mem::take(&mut self.predicates);
        for (known, predicate) in predicates {
            if predicate.contains_mz_now() {
                self.temporal.extend(bounds(predicate)?);
            } else {
                self.predicates.push((known, predicate));
            }
        }
        let mut leftover = false;
        self.visit_expressions(&mut |e| leftover |= e.contains_mz_now());
        if leftover { Err(unsupported()) } else { Ok(()) }
    }

    /// Replaces `mz_now()` by a time and applies temporal bounds as ordinary predicates: for reads at one time.
    pub fn fix_time(&mut self, time: Timestamp) {
        let now = || ScalarExpr::literal(repr::Datum::MzTimestamp(time), SqlType::MzTimestamp);
        self.visit_expressions_mut(&mut |root| {
            root.visit_mut_post(&mut |e| {
                if matches!(e, ScalarExpr::Unmaterializable(Unmaterializable::MzNow)) {
                    *e = now();
                }
            });
        });
        for bound in std::mem::take(&mut self.temporal) {
            let (func, e) = match bound {
                TemporalBound::From(e) => ("ge", e),
                TemporalBound::Until(e) => ("lt", e),
            };
            self.push_predicate(ScalarExpr::call(
                Func::get(func),
                vec![now(), e],
                SqlType::Bool,
            ));
        }
    }
}

fn unsupported() -> EvalError {
    let mut error = EvalError::new(
        "0A000",
        "mz_now() is only supported in comparisons with an expression of the row",
    );
    error.hint = Some(
        "Write conditions of the form mz_now() <operator> expression, connected by AND, where the operator is one of =, <, <=, >, >=."
            .to_owned(),
    );
    error
}

/// The bounds that one predicate sets.
fn bounds(predicate: ScalarExpr) -> Result<Vec<TemporalBound>, EvalError> {
    let ScalarExpr::Call { func, args, .. } = predicate else {
        return Err(unsupported());
    };
    let Ok([left, right]) = <[ScalarExpr; 2]>::try_from(args) else {
        return Err(unsupported());
    };
    let is_now =
        |e: &ScalarExpr| matches!(e, ScalarExpr::Unmaterializable(Unmaterializable::MzNow));
    let (func, other) = match (is_now(&left), is_now(&right)) {
        (true, false) => (func, right),
        (false, true) => (func.commuted().ok_or_else(unsupported)?, left),
        _ => return Err(unsupported()),
    };
    if other.contains_mz_now() {
        return Err(unsupported());
    }
    let after = |e: ScalarExpr| {
        ScalarExpr::call(
            Func::get("mz_timestamp_step"),
            vec![e],
            SqlType::MzTimestamp,
        )
    };
    Ok(match func.name() {
        "ge" => vec![TemporalBound::From(other)],
        "gt" => vec![TemporalBound::From(after(other))],
        "lt" => vec![TemporalBound::Until(other)],
        "le" => vec![TemporalBound::Until(after(other))],
        "eq" => vec![
            TemporalBound::From(other.clone()),
            TemporalBound::Until(after(other)),
        ],
        _ => return Err(unsupported()),
    })
}
