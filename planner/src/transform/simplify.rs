//! Simplifies scalar expressions: constants are evaluated, logic is reduced to a canonical form.

use crate::transform::expr;
use plan::ScalarExpr;
use plan::scalar::{EvalCtx, Func};
use repr::{ColumnType, Datum, Row, RowArena, SqlType};
use std::collections::BTreeSet;

/// Simplifies an expression over columns of these types. The value stays the same for every row, errors included where the
/// expression is evaluated at all.
pub fn simplify(expr: &mut ScalarExpr, columns: &[ColumnType]) {
    for child in expr.children_mut() {
        simplify(child, columns);
    }
    step(expr, columns);
}

/// Simplifies a predicate, for which NULL is as good as FALSE, into conjuncts. A conjunct that can never be true leaves only itself.
pub fn simplify_predicates(predicates: Vec<ScalarExpr>, columns: &[ColumnType]) -> Vec<ScalarExpr> {
    let mut flat = vec![];
    for mut predicate in predicates {
        simplify(&mut predicate, columns);
        expr::conjuncts(predicate, &mut flat);
    }
    let mut seen = BTreeSet::new();
    let mut kept = vec![];
    for mut predicate in flat {
        if let Some((a, b)) = expr::as_eq(&predicate)
            && a == b
            && !expr::can_error(a)
        {
            predicate = expr::is_not_null(a.clone());
            step(&mut predicate, columns);
        }
        if expr::is_never_true(&predicate) {
            return vec![ScalarExpr::bool(false)];
        }
        if !predicate.is_literal_true() && seen.insert(predicate.clone()) {
            kept.push(predicate);
        }
    }
    kept
}

/// Simplifies the root, its children being simple already.
fn step(expr: &mut ScalarExpr, columns: &[ColumnType]) {
    match expr {
        ScalarExpr::Column(_)
        | ScalarExpr::Literal(..)
        | ScalarExpr::Param(..)
        | ScalarExpr::Unmaterializable(_) => {}
        ScalarExpr::If { cond, then, els } => {
            let chosen = match cond.as_literal() {
                Some(Datum::Bool(true)) => Some((**then).clone()),
                Some(Datum::Bool(false) | Datum::Null) => Some((**els).clone()),
                _ if then == els && !expr::can_error(cond) => Some((**then).clone()),
                _ => None,
            };
            if let Some(chosen) = chosen {
                *expr = chosen;
            }
        }
        ScalarExpr::Call { func, args, ty } => {
            let func = *func;
            let simple = if expr::is_and(func) {
                junction(std::mem::take(args), false)
            } else if expr::is_or(func) {
                factor(junction(std::mem::take(args), true))
            } else if expr::is_coalesce(func) {
                coalesce(func, std::mem::take(args), ty.clone(), columns)
            } else if args.iter().all(|a| matches!(a, ScalarExpr::Literal(..)))
                && !func.def().session_dependent
            {
                evaluate(expr, columns)
            } else if func.def().propagates_nulls()
                && args
                    .iter()
                    .any(|a| a.as_literal().is_some_and(Datum::is_null))
                && !args.iter().any(expr::can_error)
            {
                ScalarExpr::null(ty.clone())
            } else if func.is("not") {
                negate(std::mem::replace(&mut args[0], ScalarExpr::bool(true)))
            } else if func.is("is_null") || func.is("is_not_null") {
                null_test(
                    func,
                    std::mem::replace(&mut args[0], ScalarExpr::bool(true)),
                    columns,
                )
            } else if let Some(commuted) = literal_first(func, args) {
                args.reverse();
                ScalarExpr::call(commuted, std::mem::take(args), ty.clone())
            } else if let Some(narrow) = without_widening(func, args) {
                narrow
            } else {
                return;
            };
            *expr = simple;
        }
    }
}

/// Constants go to the right of a comparison.
fn literal_first(func: Func, args: &[ScalarExpr]) -> Option<Func> {
    let [a, b] = args else { return None };
    (expr::is_row_independent(a) && !expr::is_row_independent(b))
        .then(|| func.commuted())
        .flatten()
}

/// Conversions that keep order and equality, with the way back.
const WIDENINGS: &[(&str, &str, SqlType)] = &[
    ("cast_int2_to_int4", "cast_int4_to_int2", SqlType::Int16),
    ("cast_int2_to_int8", "cast_int8_to_int2", SqlType::Int16),
    ("cast_int4_to_int8", "cast_int8_to_int4", SqlType::Int32),
    (
        "cast_int2_to_numeric",
        "cast_numeric_to_int2",
        SqlType::Int16,
    ),
    (
        "cast_int4_to_numeric",
        "cast_numeric_to_int4",
        SqlType::Int32,
    ),
    (
        "cast_int8_to_numeric",
        "cast_numeric_to_int8",
        SqlType::Int64,
    ),
    (
        "cast_date_to_timestamp",
        "cast_timestamp_to_date",
        SqlType::Date,
    ),
];

/// `widen(x) < constant` becomes `x < narrow(constant)` where the constant survives the way there and back: the row's value then
/// need not be converted.
fn without_widening(func: Func, args: &[ScalarExpr]) -> Option<ScalarExpr> {
    let comparison = ["eq", "ne", "lt", "le", "gt", "ge"].contains(&func.name());
    let [
        ScalarExpr::Call {
            func: widen,
            args: inner,
            ty: wide,
        },
        constant @ ScalarExpr::Literal(Ok(_), _),
    ] = args
    else {
        return None;
    };
    let (_, narrow, ty) = WIDENINGS
        .iter()
        .find(|(name, _, _)| comparison && widen.is(name))?;
    let folded = |name: &str, arg: ScalarExpr, ty: SqlType| {
        let mut e = ScalarExpr::call(Func::get(name), vec![arg], ty);
        e.fold(&EvalCtx::default());
        e.as_literal().is_some_and(|d| !d.is_null()).then_some(e)
    };
    let narrowed = folded(narrow, constant.clone(), ty.clone())?;
    let back = folded(widen.name(), narrowed.clone(), wide.clone())?;
    (back.as_literal() == constant.as_literal())
        .then(|| ScalarExpr::call(func, vec![inner[0].clone(), narrowed], SqlType::Bool))
}

fn evaluate(expr: &ScalarExpr, columns: &[ColumnType]) -> ScalarExpr {
    let arena = RowArena::new();
    let ty = expr::type_of(expr, columns).ty;
    match expr.eval(&EvalCtx::default(), &[], &arena) {
        Ok(datum) => ScalarExpr::literal(datum, ty),
        Err(error) => ScalarExpr::Literal(Err(error), ColumnType::new(ty, true)),
    }
}

/// AND (`absorbing` is false) or OR (`absorbing` is true) of these arguments.
fn junction(args: Vec<ScalarExpr>, absorbing: bool) -> ScalarExpr {
    let mut flat = vec![];
    for arg in args {
        if absorbing {
            expr::disjuncts(arg, &mut flat)
        } else {
            expr::conjuncts(arg, &mut flat)
        }
    }
    if flat
        .iter()
        .any(|a| a.as_literal() == Some(Datum::Bool(absorbing)))
    {
        return ScalarExpr::bool(absorbing);
    }
    let mut seen = BTreeSet::new();
    flat.retain(|a| a.as_literal() != Some(Datum::Bool(!absorbing)) && seen.insert(a.clone()));
    if absorbing {
        expr::or(flat)
    } else {
        expr::and(flat)
    }
}

/// `(a AND b) OR (a AND c)` becomes `a AND (b OR c)`: `a` can then move on its own.
fn factor(expr: ScalarExpr) -> ScalarExpr {
    let mut arms = vec![];
    expr::disjuncts(expr, &mut arms);
    if arms.len() < 2 {
        return expr::or(arms);
    }
    let mut split: Vec<Vec<ScalarExpr>> = vec![];
    for arm in &arms {
        let mut parts = vec![];
        expr::conjuncts(arm.clone(), &mut parts);
        split.push(parts);
    }
    let common: Vec<ScalarExpr> = split[0]
        .iter()
        .filter(|part| split[1..].iter().all(|parts| parts.contains(part)))
        .cloned()
        .collect();
    if common.is_empty() {
        return expr::or(arms);
    }
    let rest = split
        .into_iter()
        .map(|parts| expr::and(parts.into_iter().filter(|p| !common.contains(p)).collect()))
        .collect();
    let rest = junction(rest, true);
    junction([common, vec![rest]].concat(), false)
}

fn coalesce(func: Func, args: Vec<ScalarExpr>, ty: SqlType, columns: &[ColumnType]) -> ScalarExpr {
    let mut kept = vec![];
    for arg in args {
        if arg.as_literal().is_some_and(Datum::is_null) {
            continue;
        }
        let last = !expr::type_of(&arg, columns).nullable;
        kept.push(arg);
        if last {
            break;
        }
    }
    match kept.len() {
        0 => ScalarExpr::null(ty),
        1 => kept.remove(0),
        _ => ScalarExpr::call(func, kept, ty),
    }
}

fn negate(arg: ScalarExpr) -> ScalarExpr {
    match arg {
        ScalarExpr::Call { func, mut args, .. } if func.is("not") => args.remove(0),
        ScalarExpr::Call { func, args, .. } if expr::is_and(func) => {
            expr::or(args.into_iter().map(negate).collect())
        }
        ScalarExpr::Call { func, args, .. } if expr::is_or(func) => {
            expr::and(args.into_iter().map(negate).collect())
        }
        ScalarExpr::Call { func, args, ty } => match func.negation() {
            Some(negation) => ScalarExpr::call(negation, args, ty),
            None => expr::not(ScalarExpr::call(func, args, ty)),
        },
        ScalarExpr::Literal(Ok(row), ty) => match row.iter().next() {
            Some(Datum::Bool(value)) => ScalarExpr::bool(!value),
            _ => ScalarExpr::Literal(Ok(Row::pack_slice(&[Datum::Null])), ty),
        },
        other => expr::not(other),
    }
}

fn null_test(func: Func, arg: ScalarExpr, columns: &[ColumnType]) -> ScalarExpr {
    if !expr::type_of(&arg, columns).nullable && !expr::can_error(&arg) {
        ScalarExpr::bool(func.is("is_not_null"))
    } else {
        ScalarExpr::call(func, vec![arg], SqlType::Bool)
    }
}
