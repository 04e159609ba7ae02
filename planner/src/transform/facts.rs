//! What is known about a plan's result beside its types and keys.

use crate::transform::block::Block;
use crate::transform::expr;
use plan::mir::Id;
use plan::{Mir, ScalarExpr};
use repr::SqlType;
use std::collections::BTreeMap;

/// The columns that have the same literal value (or parameter) in every row.
pub fn constants(mir: &Mir) -> BTreeMap<usize, ScalarExpr> {
    match mir {
        Mir::Constant {
            rows: Ok(rows),
            types,
        } if rows.len() == 1 => {
            let datums = rows[0].0.iter().zip(types).enumerate();
            datums
                .map(|(c, (datum, ty))| (c, ScalarExpr::literal(datum, ty.ty.clone())))
                .collect()
        }
        Mir::Filter { input, predicates } => {
            let mut known = constants(input);
            for predicate in predicates {
                if let Some((a, b)) = expr::as_eq(predicate) {
                    match (a, b) {
                        (ScalarExpr::Column(c), v) | (v, ScalarExpr::Column(c)) if is_value(v) => {
                            known.entry(*c).or_insert_with(|| v.clone());
                        }
                        _ => {}
                    }
                }
            }
            known
        }
        Mir::Map { input, scalars } => {
            let mut known = constants(input);
            let arity = input.arity();
            for (i, scalar) in scalars.iter().enumerate() {
                match scalar {
                    ScalarExpr::Column(c) => {
                        if let Some(v) = known.get(c).cloned() {
                            known.insert(arity + i, v);
                        }
                    }
                    v if is_value(v) => {
                        known.insert(arity + i, v.clone());
                    }
                    _ => {}
                }
            }
            known
        }
        Mir::Project { input, outputs } => {
            let known = constants(input);
            outputs
                .iter()
                .enumerate()
                .filter_map(|(i, c)| known.get(c).map(|v| (i, v.clone())))
                .collect()
        }
        Mir::Let { body, .. } => constants(body),
        Mir::TopK { input, .. }
        | Mir::Threshold { input }
        | Mir::Negate { input }
        | Mir::ArrangeBy { input, .. } => constants(input),
        Mir::FlatMap { input, .. } => constants(input),
        Mir::Reduce {
            input, group_key, ..
        } => {
            let known = constants(input);
            let of = |k: &ScalarExpr| match k {
                ScalarExpr::Column(c) => known.get(c).cloned(),
                v if is_value(v) => Some(v.clone()),
                _ => None,
            };
            group_key
                .iter()
                .enumerate()
                .filter_map(|(i, k)| of(k).map(|v| (i, v)))
                .collect()
        }
        Mir::Join { inputs, .. } => {
            let mut known = BTreeMap::new();
            let mut offset = 0;
            for input in inputs {
                known.extend(constants(input).into_iter().map(|(c, v)| (c + offset, v)));
                offset += input.arity();
            }
            known
        }
        Mir::Constant { .. } | Mir::Get { .. } | Mir::Union { .. } => BTreeMap::new(),
    }
}

fn is_value(expr: &ScalarExpr) -> bool {
    matches!(expr, ScalarExpr::Literal(Ok(_), _) | ScalarExpr::Param(..))
}

/// Whether equal values of these types are identical.
pub fn equal_is_identical(ty: &SqlType) -> bool {
    !ty.needs_key_canonical()
}

/// The base relation that a chain of Maps, Filters and Projects reads, with the block over it.
pub fn base_relation(mir: &Mir) -> Option<(repr::GlobalId, Block)> {
    let mut inner = mir;
    loop {
        match inner {
            Mir::Map { input, .. } | Mir::Filter { input, .. } | Mir::Project { input, .. } => {
                inner = input
            }
            Mir::Get {
                id: Id::Global(id), ..
            } => return Some((*id, Block::extract(mir.clone()).0)),
            _ => return None,
        }
    }
}
