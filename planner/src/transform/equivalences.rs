//! Equivalence classes of joins: classes that share a member are one class; a constant that one member is known to have is
//! pushed to the inputs of the others; constants themselves become filters.

use crate::transform::join_fusion::filtered;
use crate::transform::{expr, facts};
use plan::{Mir, ScalarExpr};
use std::collections::{BTreeMap, BTreeSet};

pub fn equivalences(mir: &mut Mir) {
    mir.visit_mut_post(&mut |node| {
        if let Mir::Join {
            inputs,
            equivalences,
            ..
        } = node
        {
            let offsets = offsets(inputs);
            *equivalences = merge(std::mem::take(equivalences));
            let mut new = vec![vec![]; inputs.len()];
            let constants = constants(inputs, &offsets);
            for class in equivalences.iter_mut() {
                spread_constant(class, &constants, inputs, &offsets, &mut new);
            }
            equivalences.retain(|class| !class.is_empty());
            for (input, predicates) in inputs.iter_mut().zip(new) {
                *input = filtered(input.take(), predicates);
            }
        }
    });
}

/// First column of each input.
pub fn offsets(inputs: &[Mir]) -> Vec<usize> {
    let mut next = 0;
    inputs
        .iter()
        .map(|input| {
            let offset = next;
            next += input.arity();
            offset
        })
        .collect()
}

/// The input that a column of the join comes from.
pub fn input_of(offsets: &[usize], column: usize) -> usize {
    offsets.partition_point(|o| *o <= column) - 1
}

/// The only input that the expression reads.
pub fn single_input(offsets: &[usize], e: &ScalarExpr) -> Option<usize> {
    let inputs: BTreeSet<usize> = e
        .support()
        .into_iter()
        .map(|c| input_of(offsets, c))
        .collect();
    if inputs.len() == 1 {
        inputs.into_iter().next()
    } else {
        None
    }
}

/// Joins classes with common members; members are sorted, each once.
pub fn merge(classes: Vec<Vec<ScalarExpr>>) -> Vec<Vec<ScalarExpr>> {
    let mut merged: Vec<BTreeSet<ScalarExpr>> = vec![];
    for class in classes {
        let mut class: BTreeSet<ScalarExpr> = class.into_iter().collect();
        merged.retain_mut(|other| {
            let shared = other.iter().any(|e| class.contains(e));
            if shared {
                class.append(other);
            }
            !shared
        });
        merged.push(class);
    }
    merged.retain(|class| !class.is_empty());
    let mut classes: Vec<Vec<ScalarExpr>> = merged
        .into_iter()
        .map(|class| class.into_iter().collect())
        .collect();
    classes.sort();
    classes
}

fn constants(inputs: &[Mir], offsets: &[usize]) -> BTreeMap<usize, ScalarExpr> {
    let mut known = BTreeMap::new();
    for (input, offset) in inputs.iter().zip(offsets) {
        known.extend(
            facts::constants(input)
                .into_iter()
                .map(|(c, v)| (c + offset, v)),
        );
    }
    known
}

/// If the class has a constant member, or a member with a known constant value, gives that value to all inputs.
fn spread_constant(
    class: &mut Vec<ScalarExpr>,
    known: &BTreeMap<usize, ScalarExpr>,
    inputs: &[Mir],
    offsets: &[usize],
    new: &mut [Vec<ScalarExpr>],
) {
    let is_constant =
        |e: &ScalarExpr| matches!(e, ScalarExpr::Literal(Ok(_), _) | ScalarExpr::Param(..));
    let of = |e: &ScalarExpr| match e {
        ScalarExpr::Column(c) => known.get(c).cloned(),
        _ => None,
    };
    let mut values: Vec<ScalarExpr> = class.iter().filter(|e| is_constant(e)).cloned().collect();
    if values.len() == class.len() {
        return;
    }
    if values.is_empty() {
        values.extend(class.iter().find_map(of));
    }
    let types: Vec<_> = inputs.iter().flat_map(Mir::types).collect();
    for value in &values {
        let ty = expr::type_of(value, &types).ty;
        for member in class.iter().filter(|e| of(e).as_ref() != Some(value)) {
            if let Some(input) = single_input(offsets, member) {
                let mut local = member.clone();
                local.permute(&|c| c - offsets[input]);
                let predicate = expr::eq(local, value.clone(), &ty);
                if !new[input].contains(&predicate) {
                    new[input].push(predicate);
                }
            }
        }
    }
    // The filters above compare every member of a single input with the constant; then the constant itself is no longer needed.
    let all_compared = class
        .iter()
        .all(|e| is_constant(e) || single_input(offsets, e).is_some());
    if all_compared && class.iter().any(is_constant) {
        class.retain(|e| !is_constant(e));
        if class.len() == 1 {
            class.clear();
        }
    }
}
