//! The rewrites of relational plans: a fixed list, one file each.
//!
//! Each rewrite keeps the meaning of the plan as `plan::eval` defines it, except that it may evaluate an expression for rows where the
//! original plan would not have, or not evaluate it where the original would have: SQL leaves open which errors surface. The order in which they
//! run, and how often, is in [`pipeline`].

pub mod block;
pub mod column_demand;
pub mod cse;
pub mod equivalences;
pub mod expr;
pub mod facts;
pub mod fold_constants;
pub mod fuse;
pub mod inline_lets;
pub mod inline_views;
pub mod join_fusion;
pub mod join_implementation;
pub mod join_order;
pub mod pipeline;
pub mod predicate_pushdown;
pub mod reduce_elision;
pub mod share_aggregates;
pub mod simplify;
pub mod sum_scale;
pub mod topk_elision;
pub mod union_cancel;

use plan::mir::JoinImplementation;
use plan::{Mir, ScalarExpr};

/// Visits the scalar expressions of one node.
pub fn visit_scalars_mut(node: &mut Mir, f: &mut dyn FnMut(&mut ScalarExpr)) {
    match node {
        Mir::Constant { .. }
        | Mir::Get { .. }
        | Mir::Let { .. }
        | Mir::Project { .. }
        | Mir::Negate { .. }
        | Mir::Threshold { .. }
        | Mir::Union { .. } => {}
        Mir::Map { scalars, .. } => scalars.iter_mut().for_each(f),
        Mir::FlatMap { args, .. } => args.iter_mut().for_each(f),
        Mir::Filter { predicates, .. } => predicates.iter_mut().for_each(f),
        Mir::Join {
            equivalences,
            implementation,
            ..
        } => {
            equivalences.iter_mut().flatten().for_each(&mut *f);
            match implementation {
                JoinImplementation::Unimplemented => {}
                JoinImplementation::Linear { order, .. } => {
                    order.iter_mut().flat_map(|(_, key)| key).for_each(f)
                }
                JoinImplementation::Delta { paths } => paths
                    .iter_mut()
                    .flatten()
                    .flat_map(|(_, key)| key)
                    .for_each(f),
            }
        }
        Mir::Reduce {
            group_key,
            aggregates,
            ..
        } => {
            group_key.iter_mut().for_each(&mut *f);
            aggregates.iter_mut().for_each(|a| f(&mut a.expr));
        }
        Mir::TopK { limit, .. } => limit.iter_mut().for_each(f),
        Mir::ArrangeBy { keys, .. } => keys.iter_mut().flatten().for_each(f),
    }
}

/// Boxes, for building plans.
pub(crate) fn boxed(mir: Mir) -> Box<Mir> {
    Box::new(mir)
}

/// A collection without rows.
pub(crate) fn empty(types: Vec<repr::ColumnType>) -> Mir {
    Mir::Constant {
        rows: Ok(vec![]),
        types,
    }
}

/// Visits the scalar expressions of one node.
pub fn visit_scalars<'a>(node: &'a Mir, f: &mut dyn FnMut(&'a ScalarExpr)) {
    match node {
        Mir::Constant { .. }
        | Mir::Get { .. }
        | Mir::Let { .. }
        | Mir::Project { .. }
        | Mir::Negate { .. }
        | Mir::Threshold { .. }
        | Mir::Union { .. } => {}
        Mir::Map { scalars, .. } => scalars.iter().for_each(f),
        Mir::FlatMap { args, .. } => args.iter().for_each(f),
        Mir::Filter { predicates, .. } => predicates.iter().for_each(f),
        Mir::Join { equivalences, .. } => equivalences.iter().flatten().for_each(f),
        Mir::Reduce {
            group_key,
            aggregates,
            ..
        } => {
            group_key.iter().for_each(&mut *f);
            aggregates.iter().for_each(|a| f(&a.expr));
        }
        Mir::TopK { limit, .. } => limit.iter().for_each(f),
        Mir::ArrangeBy { keys, .. } => keys.iter().flatten().for_each(f),
    }
}

#[cfg(test)]
pub(crate) mod random;
#[cfg(test)]
pub(crate) mod tests;
