//! Moves filters towards the inputs, and equalities between inputs into the join.

use crate::transform::equivalences::{offsets, single_input};
use crate::transform::join_fusion::filtered;
use crate::transform::{boxed, expr, facts};
use plan::mir::{Id, JoinImplementation};
use plan::{Mir, ScalarExpr};
use std::collections::{BTreeMap, BTreeSet};

/// Pushes every filter as far down as it can go.
pub fn predicate_pushdown(mir: Mir) -> Mir {
    push(mir, vec![], &mut BTreeMap::new())
}

/// What all uses of a local binding, seen so far, filter by.
type Uses = BTreeMap<u64, Option<BTreeSet<ScalarExpr>>>;

/// The plan `Filter(mir, predicates)` with filters pushed down.
fn push(mir: Mir, predicates: Vec<ScalarExpr>, uses: &mut Uses) -> Mir {
    match mir {
        Mir::Filter {
            input,
            predicates: own,
        } => {
            let mut all = vec![];
            // The inner filter comes first: it may guard the outer one against errors.
            own.into_iter()
                .chain(predicates)
                .for_each(|p| expr::conjuncts(p, &mut all));
            push(*input, all, uses)
        }
        Mir::Map { input, scalars } => push_map(*input, scalars, predicates, uses),
        Mir::Project { input, outputs } => {
            let moved = predicates.into_iter().map(|mut p| {
                p.permute(&|c| outputs[c]);
                p
            });
            Mir::Project {
                input: boxed(push(*input, moved.collect(), uses)),
                outputs,
            }
        }
        Mir::FlatMap {
            input,
            func,
            args,
            types,
        } => {
            let arity = input.arity();
            let (down, up) = split(predicates, |p| p.support().iter().all(|c| *c < arity));
            let input = boxed(push(*input, down, uses));
            filtered(
                Mir::FlatMap {
                    input,
                    func,
                    args,
                    types,
                },
                up,
            )
        }
        Mir::Join {
            inputs,
            equivalences,
            ..
        } => push_join(inputs, equivalences, predicates, uses),
        Mir::Reduce {
            input,
            group_key,
            aggregates,
        } => {
            let types = input.types();
            let (down, up) = split(predicates, |p| {
                let support = p.support();
                let identical = |c: &usize| {
                    facts::equal_is_identical(&expr::type_of(&group_key[*c], &types).ty)
                };
                !support.is_empty()
                    && support.iter().all(|c| *c < group_key.len())
                    && (expr::respects_equality(p) || support.iter().all(identical))
            });
            let down = down.into_iter().map(|mut p| {
                expr::substitute(&mut p, &|c| group_key[c].clone());
                p
            });
            let input = boxed(push(*input, down.collect(), uses));
            filtered(
                Mir::Reduce {
                    input,
                    group_key,
                    aggregates,
                },
                up,
            )
        }
        Mir::TopK {
            input,
            group_key,
            order_key,
            limit,
            offset,
        } => {
            let (down, up) = split(predicates, |p| {
                let support = p.support();
                !support.is_empty() && support.iter().all(|c| group_key.contains(c))
            });
            let input = boxed(push(*input, down, uses));
            filtered(
                Mir::TopK {
                    input,
                    group_key,
                    order_key,
                    limit,
                    offset,
                },
                up,
            )
        }
        Mir::Negate { input } => Mir::Negate {
            input: boxed(push(*input, predicates, uses)),
        },
        Mir::Threshold { input } => Mir::Threshold {
            input: boxed(push(*input, predicates, uses)),
        },
        Mir::Union { inputs } => Mir::Union {
            inputs: inputs
                .into_iter()
                .map(|input| push(input, predicates.clone(), uses))
                .collect(),
        },
        Mir::Let { id, value, body } => push_let(id, *value, *body, predicates, uses),
        Mir::Get {
            id: Id::Local(id),
            types,
            keys,
        } => {
            let own: BTreeSet<ScalarExpr> = predicates.iter().cloned().collect();
            let common = match uses.remove(&id).flatten() {
                Some(before) => before.intersection(&own).cloned().collect(),
                None => own,
            };
            uses.insert(id, Some(common));
            filtered(
                Mir::Get {
                    id: Id::Local(id),
                    types,
                    keys,
                },
                predicates,
            )
        }
        Mir::ArrangeBy { input, keys } => filtered(
            Mir::ArrangeBy {
                input: boxed(push(*input, vec![], uses)),
                keys,
            },
            predicates,
        ),
        leaf @ (Mir::Constant { .. }
        | Mir::Get {
            id: Id::Global(_), ..
        }) => filtered(leaf, predicates),
    }
}

fn split(
    predicates: Vec<ScalarExpr>,
    down: impl Fn(&ScalarExpr) -> bool,
) -> (Vec<ScalarExpr>, Vec<ScalarExpr>) {
    predicates.into_iter().partition(|p| down(p))
}

fn push_map(
    input: Mir,
    scalars: Vec<ScalarExpr>,
    predicates: Vec<ScalarExpr>,
    uses: &mut Uses,
) -> Mir {
    let arity = input.arity();
    let mut block = crate::transform::block::Block::identity(arity);
    block.map(scalars.clone());
    let (mut down, mut up) = (vec![], vec![]);
    for predicate in predicates {
        match block.inlined(&predicate) {
            Some(inlined) => down.push(inlined),
            None => up.push(predicate),
        }
    }
    let input = boxed(push(input, down, uses));
    filtered(Mir::Map { input, scalars }, up)
}

/// What all uses of the binding filter by is filtered once, in its value.
fn push_let(id: u64, value: Mir, body: Mir, predicates: Vec<ScalarExpr>, uses: &mut Uses) -> Mir {
    let mut body = push(body, predicates, uses);
    let common: Vec<ScalarExpr> = uses.remove(&id).flatten().into_iter().flatten().collect();
    if !common.is_empty() {
        body.visit_mut_post(&mut |node| {
            if let Mir::Filter { input, predicates } = node
                && matches!(**input, Mir::Get { id: Id::Local(local), .. } if local == id)
            {
                predicates.retain(|p| !common.contains(p));
                if predicates.is_empty() {
                    *node = input.take();
                }
            }
        });
    }
    let value = push(value, common, uses);
    Mir::Let {
        id,
        value: boxed(value),
        body: boxed(body),
    }
}

fn push_join(
    inputs: Vec<Mir>,
    equivalences: Vec<Vec<ScalarExpr>>,
    predicates: Vec<ScalarExpr>,
    uses: &mut Uses,
) -> Mir {
    if inputs.is_empty() {
        let unit = Mir::Join {
            inputs,
            equivalences,
            implementation: JoinImplementation::Unimplemented,
        };
        return filtered(unit, predicates);
    }
    let offsets = offsets(&inputs);
    let types: Vec<_> = inputs.iter().flat_map(Mir::types).collect();
    let mut classes = equivalences;
    let mut down = vec![vec![]; inputs.len()];
    let mut up = vec![];
    for predicate in predicates {
        if predicate.support().is_empty() {
            // The same for every row: one input decides for all.
            down[0].push(predicate);
        } else if let Some(input) = single_input(&offsets, &predicate) {
            copy_to_equals(&predicate, &classes, &offsets, &mut down);
            down[input].push(localized(predicate, offsets[input]));
        } else if let Some((a, b)) = expr::as_eq(&predicate)
            && expr::type_of(a, &types)
                .ty
                .same_base(&expr::type_of(b, &types).ty)
            && !predicate.contains_mz_now()
        {
            classes.push(vec![a.clone(), b.clone()]);
        } else {
            weaken(&predicate, &inputs, &offsets, &mut down);
            up.push(predicate);
        }
    }
    let inputs = inputs
        .into_iter()
        .zip(down)
        .map(|(input, own)| push(input, dedup(own), uses))
        .collect();
    let equivalences = crate::transform::equivalences::merge(classes);
    filtered(
        Mir::Join {
            inputs,
            equivalences,
            implementation: JoinImplementation::Unimplemented,
        },
        up,
    )
}

fn dedup(predicates: Vec<ScalarExpr>) -> Vec<ScalarExpr> {
    let mut seen = BTreeSet::new();
    predicates
        .into_iter()
        .filter(|p| seen.insert(p.clone()))
        .collect()
}

fn localized(mut predicate: ScalarExpr, offset: usize) -> ScalarExpr {
    predicate.permute(&|c| c - offset);
    predicate
}

/// A comparison of one column with a constant holds for every column that the join makes equal to it.
fn copy_to_equals(
    predicate: &ScalarExpr,
    classes: &[Vec<ScalarExpr>],
    offsets: &[usize],
    down: &mut [Vec<ScalarExpr>],
) {
    let support = predicate.support();
    let mut columns = support.iter();
    let (Some(column), None) = (columns.next(), columns.next()) else {
        return;
    };
    if !expr::respects_equality(predicate) || expr::can_error(predicate) {
        return;
    }
    for class in classes
        .iter()
        .filter(|class| class.contains(&ScalarExpr::Column(*column)))
    {
        for other in class {
            let ScalarExpr::Column(c) = other else {
                continue;
            };
            if let Some(input) = single_input(offsets, other)
                && c != column
            {
                let mut copy = predicate.clone();
                copy.permute(&|_| *c);
                down[input].push(localized(copy, offsets[input]));
            }
        }
    }
}

/// From `(a.x = 1 AND b.y = 2) OR (a.x = 3 AND b.y = 4)` follow `a.x = 1 OR a.x = 3` and the same for `b`: weaker filters that
/// the inputs can apply by themselves.
fn weaken(predicate: &ScalarExpr, inputs: &[Mir], offsets: &[usize], down: &mut [Vec<ScalarExpr>]) {
    let mut arms = vec![];
    expr::disjuncts(predicate.clone(), &mut arms);
    if arms.len() < 2 || expr::can_error(predicate) {
        return;
    }
    for input in 0..inputs.len() {
        let implied: Option<Vec<ScalarExpr>> = arms
            .iter()
            .map(|arm| {
                let mut parts = vec![];
                expr::conjuncts(arm.clone(), &mut parts);
                parts.retain(|p| single_input(offsets, p) == Some(input));
                (!parts.is_empty()).then(|| localized(expr::and(parts), offsets[input]))
            })
            .collect();
        if let Some(implied) = implied {
            let mut unique = implied;
            unique.sort();
            unique.dedup();
            down[input].push(expr::or(unique));
        }
    }
}
