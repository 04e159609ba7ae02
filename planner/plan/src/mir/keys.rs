//! Unique keys of a plan's output.

use super::Mir;
use crate::scalar::ScalarExpr;
use repr::{Datum, Diff, Row};
use std::collections::{BTreeSet, HashSet};

/// More keys than this are not kept: joins multiply them.
const KEYS_MAX: usize = 16;

/// Larger constants are not searched for keys.
const CONSTANT_ROWS_MAX: usize = 1000;

impl Mir {
    /// Sets of columns, ascending, whose values (NULL being equal to NULL) no two rows share; every row then occurs once. The empty
    /// set: there is at most one row. The list is not complete and has no set that includes another.
    pub fn keys(&self) -> Vec<Vec<usize>> {
        let keys = match self {
            Mir::Constant {
                rows: Ok(rows),
                types,
            } => constant_keys(rows, types.len()),
            Mir::Constant { rows: Err(_), .. } => vec![vec![]],
            Mir::Get { keys, .. } => keys.clone(),
            Mir::Let { body, .. } => body.keys(),
            Mir::Project { input, outputs } => projected(input.keys(), outputs),
            Mir::Map { input, .. } | Mir::Threshold { input } | Mir::ArrangeBy { input, .. } => {
                input.keys()
            }
            Mir::FlatMap { .. } | Mir::Negate { .. } | Mir::Union { .. } => vec![],
            Mir::Filter { input, predicates } => filtered(input.keys(), predicates),
            Mir::Join {
                inputs,
                equivalences,
                ..
            } => joined(inputs, equivalences),
            Mir::Reduce {
                input, group_key, ..
            } => {
                let mut keys = grouped(&input.keys(), group_key);
                keys.push((0..group_key.len()).collect());
                keys
            }
            Mir::TopK {
                input,
                group_key,
                limit,
                ..
            } => {
                let mut keys = input.keys();
                if limit.as_ref().and_then(ScalarExpr::as_literal) == Some(Datum::Int64(1)) {
                    keys.push(group_key.clone());
                }
                keys
            }
        };
        minimal(keys)
    }
}

/// Sorted, without duplicates and supersets, shortest first.
fn minimal(mut keys: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    for key in &mut keys {
        key.sort_unstable();
        key.dedup();
    }
    keys.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    let mut kept: Vec<Vec<usize>> = vec![];
    for key in keys {
        let implied = kept.iter().any(|k| k.iter().all(|c| key.contains(c)));
        if !implied && kept.len() < KEYS_MAX {
            kept.push(key);
        }
    }
    kept
}

fn constant_keys(rows: &[(Row, Diff)], arity: usize) -> Vec<Vec<usize>> {
    let total: Diff = rows.iter().fold(0, |sum, (_, diff)| {
        sum.saturating_add(diff.saturating_abs())
    });
    if total <= 1 {
        return vec![vec![]];
    }
    if rows.iter().any(|(_, diff)| *diff != 1) || rows.len() > CONSTANT_ROWS_MAX {
        return vec![];
    }
    let unpacked: Vec<Vec<Datum<'_>>> = rows.iter().map(|(row, _)| row.unpack()).collect();
    let unique = |columns: &[usize]| {
        let mut seen = HashSet::new();
        unpacked
            .iter()
            .all(|row| seen.insert(columns.iter().map(|c| row[*c]).collect::<Vec<_>>()))
    };
    let mut keys: Vec<Vec<usize>> = (0..arity)
        .map(|c| vec![c])
        .filter(|key| unique(key))
        .collect();
    let all: Vec<usize> = (0..arity).collect();
    if keys.is_empty() && unique(&all) {
        keys.push(all);
    }
    keys
}

/// The keys that a projection keeps whole.
fn projected(keys: Vec<Vec<usize>>, outputs: &[usize]) -> Vec<Vec<usize>> {
    let position = |column: &usize| outputs.iter().position(|c| c == column);
    keys.into_iter()
        .filter_map(|key| key.iter().map(position).collect())
        .collect()
}

/// The keys in terms of the group key's columns.
fn grouped(keys: &[Vec<usize>], group_key: &[ScalarExpr]) -> Vec<Vec<usize>> {
    let position = |column: &usize| {
        group_key
            .iter()
            .position(|e| *e == ScalarExpr::Column(*column))
    };
    keys.iter()
        .filter_map(|key| key.iter().map(position).collect())
        .collect()
}

/// A column that must equal a literal distinguishes no rows.
fn filtered(mut keys: Vec<Vec<usize>>, predicates: &[ScalarExpr]) -> Vec<Vec<usize>> {
    let mut fixed = BTreeSet::new();
    predicates.iter().for_each(|p| fixed_columns(p, &mut fixed));
    keys.iter_mut()
        .for_each(|key| key.retain(|c| !fixed.contains(c)));
    keys
}

fn fixed_columns(predicate: &ScalarExpr, fixed: &mut BTreeSet<usize>) {
    let ScalarExpr::Call { func, args, .. } = predicate else {
        return;
    };
    match (func.name(), args.as_slice()) {
        ("and", conjuncts) => conjuncts.iter().for_each(|p| fixed_columns(p, fixed)),
        (
            "eq",
            [ScalarExpr::Column(c), ScalarExpr::Literal(Ok(_), _)]
            | [ScalarExpr::Literal(Ok(_), _), ScalarExpr::Column(c)],
        )
        | ("is_null", [ScalarExpr::Column(c)]) => {
            fixed.insert(*c);
        }
        _ => {}
    }
}

/// Adds one input after the other. Where the columns that an input is joined by contain a key of it, each row of the other side
/// meets at most one of its rows, and the other side's keys stay keys.
fn joined(inputs: &[Mir], equivalences: &[Vec<ScalarExpr>]) -> Vec<Vec<usize>> {
    let mut keys: Vec<Vec<usize>> = vec![vec![]];
    let mut start = 0;
    for input in inputs {
        let end = start + input.arity();
        let right: Vec<Vec<usize>> = input
            .keys()
            .into_iter()
            .map(|key| key.into_iter().map(|c| c + start).collect())
            .collect();
        let left_determined = determined(equivalences, 0..start, start..end);
        let right_determined = determined(equivalences, start..end, 0..start);
        let left_unique = keys
            .iter()
            .any(|key| key.iter().all(|c| left_determined.contains(c)));
        let right_unique = right
            .iter()
            .any(|key| key.iter().all(|c| right_determined.contains(c)));
        let mut next: Vec<Vec<usize>> = vec![];
        if right_unique {
            next.extend(keys.iter().cloned());
        }
        if left_unique {
            next.extend(right.iter().cloned());
        }
        for l in &keys {
            next.extend(right.iter().map(|r| l.iter().chain(r).copied().collect()));
        }
        keys = minimal(next);
        start = end;
    }
    keys
}

/// The columns in `of` that must equal an expression over columns in `by`, or over none (a constant).
fn determined(
    equivalences: &[Vec<ScalarExpr>],
    of: std::ops::Range<usize>,
    by: std::ops::Range<usize>,
) -> BTreeSet<usize> {
    let mut columns = BTreeSet::new();
    for class in equivalences {
        let bound = class
            .iter()
            .any(|e| e.support().iter().all(|c| by.contains(c)));
        if !bound {
            continue;
        }
        for member in class {
            if let ScalarExpr::Column(c) = member
                && of.contains(c)
            {
                columns.insert(*c);
            }
        }
    }
    columns
}
