//! Map, filter and project fused into one pass over a row.

use crate::scalar::ScalarExpr;
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
}
