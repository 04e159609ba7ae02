//! Removes a Reduce whose groups have one row each, and a DISTINCT below another one.

use crate::transform::block::Block;
use crate::transform::{boxed, expr, facts};
use plan::agg::AggregateFunc;
use plan::{AggregateExpr, Mir, ScalarExpr};
use repr::{ColumnType, Datum, SqlType};

pub fn reduce_elision(mir: &mut Mir) {
    mir.visit_mut_post(&mut |node| {
        if let Some(simple) = elide(node) {
            *node = simple;
        }
    });
}

fn elide(node: &Mir) -> Option<Mir> {
    let Mir::Reduce {
        input,
        group_key,
        aggregates,
    } = node
    else {
        return None;
    };
    let columns: Vec<usize> = group_key
        .iter()
        .filter_map(|k| {
            if let ScalarExpr::Column(c) = k {
                Some(*c)
            } else {
                None
            }
        })
        .collect();
    let keys = input.keys();
    let one_row_each = !group_key.is_empty()
        && keys
            .iter()
            .any(|key| key.iter().all(|c| columns.contains(c)));
    let types = input.types();
    // A group's key is the canonical one of equal values; a row's own may be another.
    let identical = group_key
        .iter()
        .all(|k| facts::equal_is_identical(&expr::type_of(k, &types).ty));
    if !one_row_each || !identical {
        return None;
    }
    let values: Option<Vec<ScalarExpr>> =
        aggregates.iter().map(|a| of_one_row(a, &types)).collect();
    let arity = types.len();
    let mut block = Block::identity(arity);
    block.map([group_key.clone(), values?].concat());
    block.project(&(arity..arity + group_key.len() + aggregates.len()).collect::<Vec<_>>());
    block.normalize();
    Some(block.into_mir(*boxed((**input).clone())))
}

/// The aggregate's value over a group of one row, where that is easily said.
fn of_one_row(aggregate: &AggregateExpr, types: &[ColumnType]) -> Option<ScalarExpr> {
    match &aggregate.func {
        AggregateFunc::Count => {
            let one = ScalarExpr::literal(Datum::Int64(1), SqlType::Int64);
            if !expr::type_of(&aggregate.expr, types).nullable && !expr::can_error(&aggregate.expr)
            {
                return Some(one);
            }
            let zero = ScalarExpr::literal(Datum::Int64(0), SqlType::Int64);
            let cond = expr::is_not_null(aggregate.expr.clone());
            Some(ScalarExpr::If {
                cond: Box::new(cond),
                then: Box::new(one),
                els: Box::new(zero),
            })
        }
        AggregateFunc::Min(_)
        | AggregateFunc::Max(_)
        | AggregateFunc::BoolAnd
        | AggregateFunc::BoolOr => Some(aggregate.expr.clone()),
        AggregateFunc::SumInt
        | AggregateFunc::SumInt8
        | AggregateFunc::SumNumeric { .. }
        | AggregateFunc::SumFloat32
        | AggregateFunc::SumFloat64
        | AggregateFunc::SumInterval
        | AggregateFunc::ArrayAgg { .. }
        | AggregateFunc::StringAgg => None,
    }
}
