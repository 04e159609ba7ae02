//! Map, filter and project fused into one pass over a row.
//!
//! What a block means is defined by [`Mfp::eval`]: a row is dropped if a predicate is not true, even where another predicate or a
//! mapped expression fails; an error is raised only where it decides something. [`MfpPlan`] computes the same, fast.

mod build;
mod optimize;
mod run;
mod temporal;

pub use run::{MfpPlan, MfpScratch};

use crate::error::EvalError;
use crate::scalar::ScalarExpr;
use crate::scalar::eval::{EvalCtx, keep_least};
use repr::{Datum, Row, RowArena, Timestamp};
use serde::{Deserialize, Serialize};

/// Appends `expressions` to the input columns, drops rows for which a predicate is not true, keeps the `projection` columns.
///
/// Expression `i` may read the input columns and expressions before it (column `input_arity + j`, `j < i`). A predicate
/// `(n, p)` is evaluated as soon as the first `n` columns (input and mapped) are known; predicates are sorted by `n`.
/// An expression whose column is neither projected nor read is not evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mfp {
    pub input_arity: usize,
    pub expressions: Vec<ScalarExpr>,
    pub predicates: Vec<(usize, ScalarExpr)>,
    pub projection: Vec<usize>,
    /// Temporal filters: the row is present at time `t` only if every bound holds. Expressions evaluate to `mz_timestamp` over
    /// the mapped row; NULL means that the bound never holds.
    pub temporal: Vec<TemporalBound>,
}

/// One conjunct of the form `mz_now() <op> expression`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TemporalBound {
    /// Present at times `t >= expression`.
    From(ScalarExpr),
    /// Present at times `t < expression`.
    Until(ScalarExpr),
}

impl Mfp {
    /// The block that passes rows of this arity through unchanged.
    pub fn identity(input_arity: usize) -> Self {
        Mfp {
            input_arity,
            expressions: vec![],
            predicates: vec![],
            projection: (0..input_arity).collect(),
            temporal: vec![],
        }
    }

    pub fn is_identity(&self) -> bool {
        self.expressions.is_empty()
            && self.predicates.is_empty()
            && self.temporal.is_empty()
            && self.projection.len() == self.input_arity
            && self.projection.iter().enumerate().all(|(i, c)| i == *c)
    }

    pub fn output_arity(&self) -> usize {
        self.projection.len()
    }

    /// The reference semantics: the output row, or nothing if the row is dropped. Temporal bounds are ignored.
    ///
    /// # Errors
    /// If no predicate drops the row: the least error of the predicates, else the least of the projected columns.
    pub fn eval(&self, ctx: &EvalCtx, input: &[Datum<'_>]) -> Result<Option<Row>, EvalError> {
        let plain = Mfp {
            temporal: vec![],
            ..self.clone()
        };
        Ok(plain.eval_temporal(ctx, input)?.map(|(row, _)| row))
    }

    /// As [`Mfp::eval`], with the times at which the row is present; a row that is never present is dropped.
    pub fn eval_temporal(
        &self,
        ctx: &EvalCtx,
        input: &[Datum<'_>],
    ) -> Result<Option<(Row, Interval)>, EvalError> {
        assert_eq!(
            input.len(),
            self.input_arity,
            "input row has the arity of the block"
        );
        let arena = RowArena::new();
        let mut columns: Vec<Result<Datum<'_>, EvalError>> = input.iter().map(|d| Ok(*d)).collect();
        for expression in &self.expressions {
            let value = expression.eval_in(ctx, columns.as_slice(), &arena);
            columns.push(value);
        }
        let mut least_error = None;
        for (_, predicate) in &self.predicates {
            match predicate.eval_in(ctx, columns.as_slice(), &arena) {
                Ok(value) if value.is_true() => {}
                Ok(_) => return Ok(None),
                Err(error) => keep_least(&mut least_error, error),
            }
        }
        let mut interval = Interval::ALWAYS;
        for bound in &self.temporal {
            match bound.expression().eval_in(ctx, columns.as_slice(), &arena) {
                Ok(Datum::MzTimestamp(time)) => interval.restrict(bound, time),
                Ok(_) => return Ok(None),
                Err(error) => keep_least(&mut least_error, error),
            }
        }
        if interval.is_empty() {
            return Ok(None);
        }
        if let Some(error) = least_error {
            return Err(error);
        }
        let mut output = Vec::with_capacity(self.projection.len());
        for column in &self.projection {
            match &columns[*column] {
                Ok(value) => output.push(*value),
                Err(error) => keep_least(&mut least_error, error.clone()),
            }
        }
        least_error.map_or_else(|| Ok(Some((Row::pack_slice(&output), interval))), Err)
    }
}

/// The times at which a row is present: from `lower` on, before `upper`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub lower: Timestamp,
    /// `None`: for ever.
    pub upper: Option<Timestamp>,
}

impl Interval {
    pub const ALWAYS: Interval = Interval {
        lower: 0,
        upper: None,
    };

    /// Whether there is no such time.
    pub fn is_empty(&self) -> bool {
        self.upper.is_some_and(|upper| upper <= self.lower)
    }

    pub fn contains(&self, time: Timestamp) -> bool {
        self.lower <= time && self.upper.is_none_or(|upper| time < upper)
    }

    /// Keeps the times that satisfy the bound, whose expression has this value. The greatest timestamp stands for "never reached".
    fn restrict(&mut self, bound: &TemporalBound, time: Timestamp) {
        match bound {
            TemporalBound::From(_) => self.lower = self.lower.max(time),
            TemporalBound::Until(_) if time == Timestamp::MAX => {}
            TemporalBound::Until(_) => {
                self.upper = Some(self.upper.map_or(time, |upper| upper.min(time)))
            }
        }
    }
}

impl TemporalBound {
    pub fn expression(&self) -> &ScalarExpr {
        match self {
            TemporalBound::From(e) | TemporalBound::Until(e) => e,
        }
    }

    pub fn expression_mut(&mut self) -> &mut ScalarExpr {
        match self {
            TemporalBound::From(e) | TemporalBound::Until(e) => e,
        }
    }
}
