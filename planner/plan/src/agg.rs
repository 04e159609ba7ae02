//! Aggregate functions.

mod eval;

use crate::scalar::ScalarExpr;
use repr::SqlType;
use serde::{Deserialize, Serialize};

/// One aggregate of a [`crate::mir::Mir::Reduce`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AggregateExpr {
    pub func: AggregateFunc,
    /// The argument, evaluated per input row; `count(*)` counts the literal `true`.
    pub expr: ScalarExpr,
    pub distinct: bool,
}

/// The aggregates. SQL `avg` is planned as a division of `sum` by `count`.
///
/// Inputs that are NULL do not contribute, except to `ArrayAgg`. Over no contributing row `Count` is 0 and every other aggregate is NULL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AggregateFunc {
    /// `count(x)`: int8.
    Count,
    /// Sum of int2, int4: int8. Overflow is an error.
    SumInt,
    /// Sum of int8: numeric, scale 0.
    SumInt8,
    /// Sum of numeric. `scale` is the display scale of every input value when the planner can prove that it is the same for
    /// all of them; the sum is then accumulated as an integer. Without it the group's values are kept and summed in value order.
    SumNumeric {
        scale: Option<u16>,
    },
    SumFloat32,
    SumFloat64,
    SumInterval,
    /// The least value in SQL order of the type.
    Min(SqlType),
    Max(SqlType),
    BoolAnd,
    BoolOr,
    /// `array_agg`: NULLs are kept, elements are in value order, NULLs last.
    ArrayAgg {
        element: SqlType,
    },
    /// `string_agg(value, separator)`; the argument is a record of the two. Pairs are taken in value order.
    StringAgg,
}

/// How an aggregate can be maintained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ReductionKind {
    /// In the difference field of the update: counts and exact sums.
    Accumulable,
    /// By a tree of partial results: minimum and maximum.
    Hierarchical,
    /// From all values of the group each time the group changes.
    Basic,
}

impl AggregateFunc {
    pub fn kind(&self) -> ReductionKind {
        match self {
            AggregateFunc::Count
            | AggregateFunc::SumInt
            | AggregateFunc::SumInt8
            | AggregateFunc::SumNumeric { scale: Some(_) }
            | AggregateFunc::BoolAnd
            | AggregateFunc::BoolOr => ReductionKind::Accumulable,
            AggregateFunc::Min(_) | AggregateFunc::Max(_) => ReductionKind::Hierarchical,
            AggregateFunc::SumNumeric { scale: None }
            | AggregateFunc::SumFloat32
            | AggregateFunc::SumFloat64
            | AggregateFunc::SumInterval
            | AggregateFunc::ArrayAgg { .. }
            | AggregateFunc::StringAgg => ReductionKind::Basic,
        }
    }
}
