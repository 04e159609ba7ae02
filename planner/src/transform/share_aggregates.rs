//! Computes equal aggregates once. Counting values that are never NULL is counting rows.

use crate::transform::{boxed, expr};
use plan::agg::AggregateFunc;
use plan::{AggregateExpr, Mir, ScalarExpr};

pub fn share_aggregates(mir: &mut Mir) {
    mir.visit_mut_post(&mut |node| {
        if let Mir::Reduce {
            input,
            group_key,
            aggregates,
        } = node
        {
            count_rows(input, aggregates);
            if let Some((unique, places)) = unique(aggregates) {
                let width = group_key.len();
                let outputs = (0..width)
                    .chain(places.into_iter().map(|p| width + p))
                    .collect();
                *aggregates = unique;
                *node = Mir::Project {
                    input: boxed(node.take()),
                    outputs,
                };
            }
        }
    });
}

fn count_rows(input: &Mir, aggregates: &mut [AggregateExpr]) {
    let counts = |a: &AggregateExpr| {
        a.func == AggregateFunc::Count && !a.distinct && !a.expr.is_literal_true()
    };
    if !aggregates.iter().any(counts) {
        return;
    }
    let types = input.types();
    for aggregate in aggregates.iter_mut().filter(|a| counts(a)) {
        if !aggregate.expr.nullable(&types) && !expr::can_error(&aggregate.expr) {
            aggregate.expr = ScalarExpr::bool(true);
        }
    }
}

/// The different aggregates, and where each of the old ones is among them; `None` if no two are equal.
fn unique(aggregates: &[AggregateExpr]) -> Option<(Vec<AggregateExpr>, Vec<usize>)> {
    let mut unique: Vec<AggregateExpr> = vec![];
    let mut places = vec![];
    for aggregate in aggregates {
        let place = unique
            .iter()
            .position(|u| u == aggregate)
            .unwrap_or(unique.len());
        if place == unique.len() {
            unique.push(aggregate.clone());
        }
        places.push(place);
    }
    (unique.len() < aggregates.len()).then_some((unique, places))
}
