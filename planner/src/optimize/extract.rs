//! Finds the predicates that fix all columns of a key to constants or parameters.

use crate::optimize::lookup::{KEYS_MAX, KeyColumn, KeyExpr, LookupKeys};
use crate::transform::block::Block;
use crate::transform::expr;
use plan::scalar::EvalCtx;
use plan::{Func, ScalarExpr};
use repr::{ColumnType, Datum, SqlType};
use std::collections::BTreeSet;

/// What the keys are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// Columns of a table as they are stored.
    Stored,
    /// Keys of an arrangement.
    Arranged,
}

/// The keys that the block's predicates select, and the block without those predicates. `key` is over the block's input columns.
pub fn lookup_keys(
    block: &Block,
    key: &[ScalarExpr],
    types: &[ColumnType],
    form: KeyForm,
) -> Option<(LookupKeys, Block)> {
    if key.is_empty() {
        return None;
    }
    let predicates: Vec<Option<ScalarExpr>> =
        block.predicates.iter().map(|p| block.inlined(p)).collect();
    let key_types: Vec<SqlType> = key
        .iter()
        .map(|e| match form {
            KeyForm::Stored => e.typ(types).ty,
            KeyForm::Arranged => e.typ(types).ty.without_typmod(),
        })
        .collect();
    let (keys, used) =
        product(&predicates, key, &key_types).or_else(|| tuples(&predicates, key, &key_types))?;
    if keys.count().is_some_and(|n| n > KEYS_MAX) {
        return None;
    }
    let mut rest = block.clone();
    let mut i = 0;
    rest.predicates.retain(|_| {
        i += 1;
        !used.contains(&(i - 1))
    });
    rest.normalize();
    Some((keys, rest))
}

type Found = (LookupKeys, BTreeSet<usize>);

/// Each key column by a predicate of its own.
fn product(
    predicates: &[Option<ScalarExpr>],
    key: &[ScalarExpr],
    types: &[SqlType],
) -> Option<Found> {
    let mut columns = vec![];
    let mut used = BTreeSet::new();
    for part in key {
        let candidates = predicates
            .iter()
            .enumerate()
            .filter_map(|(i, p)| Some((i, values(p.as_ref()?, part)?)));
        let (i, column) = candidates.min_by_key(|(i, column)| (count(column), *i))?;
        used.insert(i);
        columns.push(column);
    }
    Some((
        LookupKeys::Product {
            columns,
            types: types.to_vec(),
        },
        used,
    ))
}

fn count(column: &KeyColumn) -> usize {
    match column {
        KeyColumn::OneOf(values) => values.len(),
        KeyColumn::AnyElement(_) => 100,
    }
}

/// One predicate that lists whole keys: `(a = 1 AND b = 2) OR (a = 3 AND b = 4)`.
fn tuples(
    predicates: &[Option<ScalarExpr>],
    key: &[ScalarExpr],
    types: &[SqlType],
) -> Option<Found> {
    for (i, predicate) in predicates.iter().enumerate() {
        let mut arms = vec![];
        expr::disjuncts(predicate.clone()?, &mut arms);
        if arms.len() < 2 {
            continue;
        }
        let listed: Option<Vec<Vec<KeyExpr>>> = arms.iter().map(|arm| tuple(arm, key)).collect();
        if let Some((tuples, exact)) =
            listed.map(|tuples| (tuples, arms.iter().all(|arm| is_exact(arm, key))))
        {
            let used = if exact {
                BTreeSet::from([i])
            } else {
                BTreeSet::new()
            };
            return Some((
                LookupKeys::Tuples {
                    tuples,
                    types: types.to_vec(),
                },
                used,
            ));
        }
    }
    None
}

fn tuple(arm: &ScalarExpr, key: &[ScalarExpr]) -> Option<Vec<KeyExpr>> {
    let mut parts = vec![];
    expr::conjuncts(arm.clone(), &mut parts);
    key.iter()
        .map(|part| parts.iter().find_map(|p| equal_value(p, part)))
        .collect()
}

/// Whether the arm says nothing but the key's values.
fn is_exact(arm: &ScalarExpr, key: &[ScalarExpr]) -> bool {
    let mut parts = vec![];
    expr::conjuncts(arm.clone(), &mut parts);
    parts.len() == key.len()
        && key.iter().all(|part| {
            parts
                .iter()
                .filter(|p| equal_value(p, part).is_some())
                .count()
                == 1
        })
}

/// The values that a predicate, which says nothing else, gives to the key expression.
fn values(predicate: &ScalarExpr, part: &ScalarExpr) -> Option<KeyColumn> {
    if let Some(value) = equal_value(predicate, part) {
        return Some(KeyColumn::OneOf(vec![value]));
    }
    if let Some(truth) = boolean_value(predicate, part) {
        return Some(KeyColumn::OneOf(vec![truth]));
    }
    let ScalarExpr::Call { func, args, .. } = predicate else {
        return None;
    };
    if expr::is_or(*func) {
        let all: Option<Vec<Vec<KeyExpr>>> = args
            .iter()
            .map(|arm| match values(arm, part)? {
                KeyColumn::OneOf(values) => Some(values),
                KeyColumn::AnyElement(_) => None,
            })
            .collect();
        return Some(KeyColumn::OneOf(all?.concat()));
    }
    if func.is("any_eq") || func.is("any_bpchareq") {
        let [value, array] = args.as_slice() else {
            return None;
        };
        let plain = peeled(value) == peeled(part);
        return (plain && expr::is_row_independent(array)).then(|| elements(array));
    }
    None
}

/// A literal array's elements are known; others come when the statement runs.
fn elements(array: &ScalarExpr) -> KeyColumn {
    match (array.as_literal(), array) {
        (Some(Datum::Array(elements)), ScalarExpr::Literal(_, ty)) if ty.ty.element().is_some() => {
            let element = ty.ty.element().unwrap_or(SqlType::Unknown);
            let value = |d| KeyExpr {
                expr: ScalarExpr::literal(d, element.clone()),
                narrowed: false,
            };
            KeyColumn::OneOf(
                elements
                    .iter()
                    .filter(|d| !d.is_null())
                    .map(value)
                    .collect(),
            )
        }
        _ => KeyColumn::AnyElement(array.clone()),
    }
}

/// `part = value` (or `value = part`), where the value does not depend on the row.
fn equal_value(predicate: &ScalarExpr, part: &ScalarExpr) -> Option<KeyExpr> {
    let (a, b) = expr::as_eq(predicate)?;
    let (side, value) = if expr::is_row_independent(b) {
        (a, b)
    } else if expr::is_row_independent(a) {
        (b, a)
    } else {
        return None;
    };
    if peeled(side) == peeled(part) {
        return Some(KeyExpr {
            expr: value.clone(),
            narrowed: false,
        });
    }
    narrowed(side, part, value)
}

/// A boolean key column as a predicate of its own.
fn boolean_value(predicate: &ScalarExpr, part: &ScalarExpr) -> Option<KeyExpr> {
    let value = |b| {
        Some(KeyExpr {
            expr: ScalarExpr::bool(b),
            narrowed: false,
        })
    };
    if predicate == part {
        return value(true);
    }
    match expr::as_call(predicate, "not") {
        Some([arg]) if arg == part => value(false),
        _ => None,
    }
}

/// Without changes of type that keep the value as it is.
fn peeled(e: &ScalarExpr) -> &ScalarExpr {
    match expr::as_call(e, "relabel") {
        Some([arg]) => peeled(arg),
        _ => e,
    }
}

/// `widen(part) = value` is `part = narrow(value)`, or nothing if the value does not fit.
fn narrowed(side: &ScalarExpr, part: &ScalarExpr, value: &ScalarExpr) -> Option<KeyExpr> {
    let ScalarExpr::Call { func, args, .. } = side else {
        return None;
    };
    let [inner] = args.as_slice() else {
        return None;
    };
    let (narrow, ty) = match func.name() {
        "cast_int2_to_int4" => ("cast_int4_to_int2", SqlType::Int16),
        "cast_int2_to_int8" => ("cast_int8_to_int2", SqlType::Int16),
        "cast_int4_to_int8" => ("cast_int8_to_int4", SqlType::Int32),
        _ => return None,
    };
    let narrowed = ScalarExpr::call(Func::get(narrow), vec![value.clone()], ty);
    (peeled(inner) == peeled(part)).then(|| KeyExpr {
        expr: folded(narrowed),
        narrowed: true,
    })
}

/// A literal where there is no parameter. An error stays an expression: it means that nothing matches.
fn folded(e: ScalarExpr) -> ScalarExpr {
    let mut simple = e.clone();
    simple.fold(&EvalCtx::default());
    if matches!(simple, ScalarExpr::Literal(Ok(_), _)) {
        simple
    } else {
        e
    }
}
