//! Replaces a local binding by its value where it is used once or where sharing it would gain nothing.

use plan::Mir;
use plan::mir::Id;
use std::collections::BTreeMap;

pub fn inline_lets(mir: &mut Mir) {
    let mut values = BTreeMap::new();
    inline(mir, &mut values);
    refresh(mir, &mut BTreeMap::new());
}

/// `values` holds the bindings in scope that are to be inlined.
fn inline(mir: &mut Mir, values: &mut BTreeMap<u64, Mir>) {
    match mir {
        Mir::Let { id, value, body } => {
            inline(value, values);
            let uses = count_uses(body, *id);
            if uses == 0 || uses == 1 || is_cheap(value) {
                values.insert(*id, value.take());
                let mut body = body.take();
                inline(&mut body, values);
                *mir = body;
            } else {
                inline(body, values);
            }
        }
        Mir::Get {
            id: Id::Local(id), ..
        } => {
            if let Some(value) = values.get(id) {
                *mir = value.clone();
            }
        }
        other => other
            .children_mut()
            .into_iter()
            .for_each(|child| inline(child, values)),
    }
}

pub fn count_uses(mir: &Mir, id: u64) -> usize {
    let mut n = 0;
    mir.visit(&mut |m| {
        n += usize::from(matches!(m, Mir::Get { id: Id::Local(l), .. } if *l == id))
    });
    n
}

/// Reading it twice costs no more than sharing it: each use can then filter and project for itself.
fn is_cheap(mir: &Mir) -> bool {
    match mir {
        Mir::Get { .. } => true,
        Mir::Constant { rows, .. } => rows.as_ref().map_or(true, |rows| rows.len() <= 16),
        Mir::Map { input, .. } | Mir::Filter { input, .. } | Mir::Project { input, .. } => {
            is_cheap(input)
        }
        Mir::Let { .. }
        | Mir::FlatMap { .. }
        | Mir::Join { .. }
        | Mir::Reduce { .. }
        | Mir::TopK { .. }
        | Mir::Negate { .. }
        | Mir::Threshold { .. }
        | Mir::Union { .. }
        | Mir::ArrangeBy { .. } => false,
    }
}

type Facts = (Vec<repr::ColumnType>, Vec<Vec<usize>>);

/// Gives every use of a local binding the types and keys that its value has now.
pub fn refresh(mir: &mut Mir, known: &mut BTreeMap<u64, Facts>) {
    match mir {
        Mir::Let { id, value, body } => {
            refresh(value, known);
            known.insert(*id, (value.types(), value.keys()));
            refresh(body, known);
        }
        Mir::Get {
            id: Id::Local(id),
            types,
            keys,
        } => {
            if let Some((new_types, new_keys)) = known.get(id) {
                types.clone_from(new_types);
                keys.clone_from(new_keys);
            }
        }
        other => other
            .children_mut()
            .into_iter()
            .for_each(|child| refresh(child, known)),
    }
}

/// Renames local bindings, so that no two have the same id: rewrites rely on that.
pub fn unique_locals(mir: &mut Mir, next: &mut u64) {
    rename(mir, &mut BTreeMap::new(), next);
}

fn rename(mir: &mut Mir, names: &mut BTreeMap<u64, u64>, next: &mut u64) {
    match mir {
        Mir::Let { id, value, body } => {
            rename(value, names, next);
            let fresh = *next;
            *next += 1;
            let shadowed = names.insert(*id, fresh);
            rename(body, names, next);
            match shadowed {
                Some(outer) => names.insert(*id, outer),
                None => names.remove(id),
            };
            *id = fresh;
        }
        Mir::Get {
            id: Id::Local(id), ..
        } => {
            if let Some(fresh) = names.get(id) {
                *id = *fresh;
            }
        }
        other => other
            .children_mut()
            .into_iter()
            .for_each(|child| rename(child, names, next)),
    }
}
