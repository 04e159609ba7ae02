//! Normal form: every chain of Map, Filter and Project becomes Filter, Map, Filter, Project with simplified expressions.

use crate::transform::block::Block;
use crate::transform::simplify::{simplify, simplify_predicates};
use crate::transform::{boxed, expr};
use plan::Mir;

/// Fuses chains and simplifies all scalar expressions of the plan.
pub fn fuse(mir: Mir) -> Mir {
    match mir {
        Mir::Map { .. } | Mir::Filter { .. } | Mir::Project { .. } => {
            let (block, inner) = Block::extract(mir);
            let inner = fuse(inner);
            fuse_block(block, inner)
        }
        mut other => {
            for child in other.children_mut() {
                *child = fuse(child.take());
            }
            simplify_node(other)
        }
    }
}

fn fuse_block(mut block: Block, inner: Mir) -> Mir {
    block.normalize();
    let mut columns = inner.types();
    for scalar in &mut block.scalars {
        simplify(scalar, &columns);
        let ty = expr::type_of(scalar, &columns);
        columns.push(ty);
    }
    block.predicates = simplify_predicates(std::mem::take(&mut block.predicates), &columns);
    block.normalize();
    block.into_mir(inner)
}

/// Simplifies the expressions of a node that is no Map, Filter or Project.
fn simplify_node(mir: Mir) -> Mir {
    match mir {
        Mir::FlatMap {
            input,
            func,
            mut args,
            types,
        } => {
            let columns = input.types();
            args.iter_mut().for_each(|a| simplify(a, &columns));
            Mir::FlatMap {
                input,
                func,
                args,
                types,
            }
        }
        Mir::Reduce {
            input,
            mut group_key,
            mut aggregates,
        } => {
            let columns = input.types();
            group_key.iter_mut().for_each(|k| simplify(k, &columns));
            aggregates
                .iter_mut()
                .for_each(|a| simplify(&mut a.expr, &columns));
            absorb_into_reduce(Mir::Reduce {
                input,
                group_key,
                aggregates,
            })
        }
        Mir::Join {
            inputs,
            mut equivalences,
            implementation,
        } => {
            let columns: Vec<_> = inputs.iter().flat_map(Mir::types).collect();
            equivalences
                .iter_mut()
                .flatten()
                .for_each(|e| simplify(e, &columns));
            Mir::Join {
                inputs,
                equivalences,
                implementation,
            }
        }
        Mir::Negate { input } => match *input {
            Mir::Negate { input } => *input,
            other => Mir::Negate {
                input: boxed(other),
            },
        },
        Mir::Threshold { input } => match *input {
            Mir::Threshold { input } => Mir::Threshold { input },
            other => Mir::Threshold {
                input: boxed(other),
            },
        },
        other => other,
    }
}

/// A Reduce reads the columns below a Map and a Project directly.
fn absorb_into_reduce(mir: Mir) -> Mir {
    let Mir::Reduce {
        input,
        mut group_key,
        mut aggregates,
    } = mir
    else {
        return mir;
    };
    let (mut block, inner) = Block::extract(*input);
    let predicates = std::mem::take(&mut block.predicates);
    let all = group_key.iter().chain(aggregates.iter().map(|a| &a.expr));
    let inlined: Option<Vec<_>> = all
        .map(|e| {
            let mut e = e.clone();
            e.permute(&|c| block.projection[c]);
            block.inlined(&e)
        })
        .collect();
    let predicates_inlined: Option<Vec<_>> = predicates.iter().map(|p| block.inlined(p)).collect();
    match (inlined, predicates_inlined) {
        (Some(mut exprs), Some(predicates)) => {
            let arguments = exprs.split_off(group_key.len());
            aggregates
                .iter_mut()
                .zip(arguments)
                .for_each(|(a, e)| a.expr = e);
            let mut filter = Block::identity(block.input_arity);
            filter.predicates = predicates;
            Mir::Reduce {
                input: boxed(filter.into_mir(inner)),
                group_key: exprs,
                aggregates,
            }
        }
        _ => {
            block.predicates = predicates;
            group_key.iter_mut().for_each(|_| {});
            Mir::Reduce {
                input: boxed(block.into_mir(inner)),
                group_key,
                aggregates,
            }
        }
    }
}
