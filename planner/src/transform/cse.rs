//! Computes a subplan that occurs more than once only once, and sorts out local bindings.

use crate::transform::boxed;
use plan::Mir;
use plan::mir::Id;
use std::collections::HashMap;

/// Plans with more nodes than this are not searched for repetition.
const NODES_MAX: usize = 500;
/// At most so many subplans are shared.
const SHARED_MAX: usize = 50;

/// Binds repeated expensive subplans. All bindings move to the top of the plan, in the order of use.
pub fn common_subplans(mir: Mir) -> Mir {
    let mut bindings = vec![];
    let body = hoist(mir, &mut bindings);
    let mut next = bindings.iter().map(|(id, _)| id + 1).max().unwrap_or(0);
    bindings.push((u64::MAX, body));
    if bindings
        .iter()
        .map(|(_, value)| node_count(value))
        .sum::<usize>()
        <= NODES_MAX
    {
        merge_equal_bindings(&mut bindings);
        for _ in 0..SHARED_MAX {
            let Some(repeated) = largest_repeated(&bindings) else {
                break;
            };
            bind(&mut bindings, &repeated, next);
            next += 1;
        }
    }
    rebuild(bindings)
}

/// Takes all bindings out of the plan; ids are unique and bindings read only earlier ones.
pub fn hoist(mir: Mir, bindings: &mut Vec<(u64, Mir)>) -> Mir {
    match mir {
        Mir::Let { id, value, body } => {
            let value = hoist(*value, bindings);
            bindings.push((id, value));
            hoist(*body, bindings)
        }
        mut other => {
            for child in other.children_mut() {
                *child = hoist(child.take(), bindings);
            }
            other
        }
    }
}

fn rebuild(mut bindings: Vec<(u64, Mir)>) -> Mir {
    let Some((_, mut mir)) = bindings.pop() else {
        return crate::transform::empty(vec![]);
    };
    while let Some((id, value)) = bindings.pop() {
        mir = Mir::Let {
            id,
            value: boxed(value),
            body: boxed(mir),
        };
    }
    mir
}

pub fn node_count(mir: &Mir) -> usize {
    let mut n = 0;
    mir.visit(&mut |_| n += 1);
    n
}

/// Two bindings of the same value become one.
fn merge_equal_bindings(bindings: &mut Vec<(u64, Mir)>) {
    let mut i = 0;
    while i + 1 < bindings.len() {
        let (id, value) = bindings[i].clone();
        let earlier = bindings[..i]
            .iter()
            .find(|(_, v)| *v == value)
            .map(|(id, _)| *id);
        match earlier {
            Some(earlier) => {
                bindings.remove(i);
                for (_, other) in bindings.iter_mut() {
                    rename(other, id, earlier);
                }
            }
            None => i += 1,
        }
    }
}

fn rename(mir: &mut Mir, from: u64, to: u64) {
    mir.visit_mut_post(&mut |node| {
        if let Mir::Get {
            id: Id::Local(id), ..
        } = node
            && *id == from
        {
            *id = to;
        }
    });
}

/// The largest subplan worth sharing that occurs twice; of equally large ones the first.
fn largest_repeated(bindings: &[(u64, Mir)]) -> Option<Mir> {
    let mut counts: HashMap<&Mir, usize> = HashMap::new();
    let mut order = vec![];
    for (_, value) in bindings {
        value.visit(&mut |node| {
            if is_expensive(node) {
                *counts.entry(node).or_default() += 1;
                order.push(node);
            }
        });
    }
    let mut best: Option<(usize, &Mir)> = None;
    for node in order {
        if counts[node] >= 2 {
            let size = node_count(node);
            if best.is_none_or(|(largest, _)| size > largest) {
                best = Some((size, node));
            }
        }
    }
    best.map(|(_, node)| node.clone())
}

/// Whether the operator keeps state, so that doing it once saves memory.
fn is_expensive(mir: &Mir) -> bool {
    match mir {
        Mir::Join { .. }
        | Mir::Reduce { .. }
        | Mir::TopK { .. }
        | Mir::Threshold { .. }
        | Mir::FlatMap { .. } => true,
        Mir::Map { input, .. }
        | Mir::Filter { input, .. }
        | Mir::Project { input, .. }
        | Mir::Negate { input } => is_expensive(input),
        Mir::Union { inputs } => inputs.iter().any(is_expensive),
        Mir::Constant { .. } | Mir::Get { .. } | Mir::Let { .. } | Mir::ArrangeBy { .. } => false,
    }
}

fn bind(bindings: &mut Vec<(u64, Mir)>, repeated: &Mir, id: u64) {
    let get = Mir::Get {
        id: Id::Local(id),
        types: repeated.types(),
        keys: repeated.keys(),
    };
    let mut first = None;
    for (i, (_, value)) in bindings.iter_mut().enumerate() {
        if replace(value, repeated, &get) && first.is_none() {
            first = Some(i);
        }
    }
    if let Some(first) = first {
        bindings.insert(first, (id, repeated.clone()));
    }
}

fn replace(mir: &mut Mir, what: &Mir, with: &Mir) -> bool {
    if mir == what {
        *mir = with.clone();
        return true;
    }
    let mut found = false;
    for child in mir.children_mut() {
        found |= replace(child, what, with);
    }
    found
}
