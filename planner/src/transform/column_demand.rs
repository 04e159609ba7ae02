//! Drops columns that nobody reads, as close to the inputs as possible.

use crate::transform::boxed;
use crate::transform::equivalences::offsets;
use plan::mir::{Id, JoinImplementation};
use plan::{AggregateExpr, Mir, ScalarExpr};
use repr::Row;
use std::collections::{BTreeMap, BTreeSet};

/// Drops unread columns; the plan's own columns stay.
pub fn column_demand(mir: Mir) -> Mir {
    let all = (0..mir.arity()).collect();
    narrow(mir, &all, &mut BTreeMap::new())
}

type Demand = BTreeSet<usize>;

/// The columns that uses of a local binding read.
type Uses = BTreeMap<u64, Demand>;

/// The plan with only the demanded columns, in ascending order.
fn narrow(mir: Mir, demand: &Demand, uses: &mut Uses) -> Mir {
    match mir {
        Mir::Constant { rows, types } => {
            let keep: Vec<usize> = demand.iter().copied().collect();
            let rows = rows.map(|rows| {
                rows.into_iter()
                    .map(|(row, diff)| (project_row(&row, &keep), diff))
                    .collect()
            });
            Mir::Constant {
                rows,
                types: keep.iter().map(|c| types[*c].clone()).collect(),
            }
        }
        Mir::Get {
            id: Id::Global(_), ..
        } => project(mir, demand),
        Mir::Get {
            id: Id::Local(id),
            ref types,
            ..
        } => {
            uses.entry(id).or_default().extend(demand);
            // Always a projection, also of all columns: its numbers change when the binding is narrowed.
            let outputs = demand
                .iter()
                .copied()
                .filter(|c| *c < types.len())
                .collect();
            Mir::Project {
                input: boxed(mir),
                outputs,
            }
        }
        Mir::Let { id, value, body } => {
            let body = narrow(*body, demand, uses);
            let Some(used) = uses.remove(&id) else {
                return body;
            };
            let value = narrow(*value, &used, uses);
            let body = renumber_uses(body, id, &used, &value);
            Mir::Let {
                id,
                value: boxed(value),
                body: boxed(body),
            }
        }
        Mir::Project { input, outputs } => {
            let outputs: Vec<usize> = demand.iter().map(|c| outputs[*c]).collect();
            let below: Demand = outputs.iter().copied().collect();
            let place = places(&below);
            let outputs = outputs.iter().map(|c| place[c]).collect();
            Mir::Project {
                input: boxed(narrow(*input, &below, uses)),
                outputs,
            }
        }
        Mir::Map { input, scalars } => narrow_map(*input, scalars, demand, uses),
        Mir::Filter {
            input,
            mut predicates,
        } => {
            let mut below = demand.clone();
            predicates.iter().for_each(|p| p.support_into(&mut below));
            let place = places(&below);
            predicates
                .iter_mut()
                .for_each(|p| p.permute(&|c| place[&c]));
            let input = boxed(narrow(*input, &below, uses));
            project_from(Mir::Filter { input, predicates }, &below, demand)
        }
        Mir::FlatMap {
            input,
            func,
            mut args,
            types,
        } => {
            let arity = input.arity();
            let mut below: Demand = demand.iter().copied().filter(|c| *c < arity).collect();
            args.iter().for_each(|a| a.support_into(&mut below));
            let place = places(&below);
            args.iter_mut().for_each(|a| a.permute(&|c| place[&c]));
            let kept: Demand = below
                .iter()
                .copied()
                .chain(arity..arity + types.len())
                .collect();
            let input = boxed(narrow(*input, &below, uses));
            project_from(
                Mir::FlatMap {
                    input,
                    func,
                    args,
                    types,
                },
                &kept,
                demand,
            )
        }
        Mir::Join {
            inputs,
            equivalences,
            ..
        } => narrow_join(inputs, equivalences, demand, uses),
        Mir::Reduce {
            input,
            group_key,
            aggregates,
        } => narrow_reduce(*input, group_key, aggregates, demand, uses),
        Mir::TopK {
            input,
            group_key,
            order_key,
            limit,
            offset,
        } => {
            // Ties are broken by the whole row: without a total order of its own, every column decides.
            let order: Demand = group_key
                .iter()
                .copied()
                .chain(order_key.iter().map(|o| o.column))
                .collect();
            let total = input
                .keys()
                .iter()
                .any(|key| key.iter().all(|c| order.contains(c)));
            let below: Demand = if total {
                order.union(demand).copied().collect()
            } else {
                (0..input.arity()).collect()
            };
            let place = places(&below);
            let mut order_key = order_key;
            order_key
                .iter_mut()
                .for_each(|o| o.column = place[&o.column]);
            let group_key = group_key.iter().map(|c| place[c]).collect();
            let input = boxed(narrow(*input, &below, uses));
            project_from(
                Mir::TopK {
                    input,
                    group_key,
                    order_key,
                    limit,
                    offset,
                },
                &below,
                demand,
            )
        }
        Mir::Negate { input } => Mir::Negate {
            input: boxed(narrow(*input, demand, uses)),
        },
        Mir::Threshold { input } => {
            let all: Demand = (0..input.arity()).collect();
            let input = boxed(narrow(*input, &all, uses));
            project(Mir::Threshold { input }, demand)
        }
        Mir::Union { inputs } => Mir::Union {
            inputs: inputs
                .into_iter()
                .map(|input| narrow(input, demand, uses))
                .collect(),
        },
        Mir::ArrangeBy { input, keys } => {
            let all: Demand = (0..input.arity()).collect();
            let input = boxed(narrow(*input, &all, uses));
            project(Mir::ArrangeBy { input, keys }, demand)
        }
    }
}

fn project_row(row: &Row, keep: &[usize]) -> Row {
    let datums = row.unpack();
    Row::pack(keep.iter().map(|c| datums[*c]))
}

/// Where each demanded column is after narrowing.
fn places(demand: &Demand) -> BTreeMap<usize, usize> {
    demand.iter().enumerate().map(|(i, c)| (*c, i)).collect()
}

/// Projects a plan with all its columns.
fn project(mir: Mir, demand: &Demand) -> Mir {
    let all = (0..mir.arity()).collect();
    project_from(mir, &all, demand)
}

/// Projects a plan which has the columns `have` to `demand`.
fn project_from(mir: Mir, have: &Demand, demand: &Demand) -> Mir {
    if have == demand {
        return mir;
    }
    let place = places(have);
    Mir::Project {
        input: boxed(mir),
        outputs: demand.iter().map(|c| place[c]).collect(),
    }
}

/// The binding now has only the columns `used`.
fn renumber_uses(mut body: Mir, id: u64, used: &Demand, value: &Mir) -> Mir {
    let place = places(used);
    let (new_types, new_keys) = (value.types(), value.keys());
    body.visit_mut_post(&mut |node| {
        if let Mir::Project { input, outputs } = node
            && let Mir::Get {
                id: Id::Local(local),
                types,
                keys,
            } = &mut **input
            && *local == id
        {
            outputs.iter_mut().for_each(|c| *c = place[c]);
            types.clone_from(&new_types);
            keys.clone_from(&new_keys);
        }
    });
    body
}

fn narrow_map(input: Mir, scalars: Vec<ScalarExpr>, demand: &Demand, uses: &mut Uses) -> Mir {
    let arity = input.arity();
    let mut needed = demand.clone();
    for (i, scalar) in scalars.iter().enumerate().rev() {
        if needed.contains(&(arity + i)) {
            scalar.support_into(&mut needed);
        }
    }
    let place = places(&needed);
    let below: Demand = needed.iter().copied().filter(|c| *c < arity).collect();
    let scalars: Vec<ScalarExpr> = scalars
        .into_iter()
        .enumerate()
        .filter(|(i, _)| needed.contains(&(arity + i)))
        .map(|(_, mut scalar)| {
            scalar.permute(&|c| place[&c]);
            scalar
        })
        .collect();
    let input = narrow(input, &below, uses);
    let mapped = if scalars.is_empty() {
        input
    } else {
        Mir::Map {
            input: boxed(input),
            scalars,
        }
    };
    project_from(mapped, &needed, demand)
}

fn narrow_join(
    inputs: Vec<Mir>,
    mut equivalences: Vec<Vec<ScalarExpr>>,
    demand: &Demand,
    uses: &mut Uses,
) -> Mir {
    let mut needed = demand.clone();
    equivalences
        .iter()
        .flatten()
        .for_each(|e| e.support_into(&mut needed));
    let place = places(&needed);
    equivalences
        .iter_mut()
        .flatten()
        .for_each(|e| e.permute(&|c| place[&c]));
    let starts = offsets(&inputs);
    let narrowed = inputs
        .into_iter()
        .zip(starts)
        .map(|(input, start)| {
            let end = start + input.arity();
            let own = needed.range(start..end).map(|c| c - start).collect();
            narrow(input, &own, uses)
        })
        .collect();
    let join = Mir::Join {
        inputs: narrowed,
        equivalences,
        implementation: JoinImplementation::Unimplemented,
    };
    project_from(join, &needed, demand)
}

fn narrow_reduce(
    input: Mir,
    mut group_key: Vec<ScalarExpr>,
    aggregates: Vec<AggregateExpr>,
    demand: &Demand,
    uses: &mut Uses,
) -> Mir {
    let width = group_key.len();
    let kept: Demand = (0..width)
        .chain(demand.iter().copied().filter(|c| *c >= width))
        .collect();
    let mut aggregates: Vec<AggregateExpr> = aggregates
        .into_iter()
        .enumerate()
        .filter(|(i, _)| kept.contains(&(width + i)))
        .map(|(_, a)| a)
        .collect();
    let mut below = Demand::new();
    group_key
        .iter()
        .chain(aggregates.iter().map(|a| &a.expr))
        .for_each(|e| e.support_into(&mut below));
    let place = places(&below);
    group_key
        .iter_mut()
        .chain(aggregates.iter_mut().map(|a| &mut a.expr))
        .for_each(|e| e.permute(&|c| place[&c]));
    let input = boxed(narrow(input, &below, uses));
    project_from(
        Mir::Reduce {
            input,
            group_key,
            aggregates,
        },
        &kept,
        demand,
    )
}
