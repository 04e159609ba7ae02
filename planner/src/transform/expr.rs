//! Questions about scalar expressions, and small constructors.

use plan::ScalarExpr;
use plan::scalar::func::{Kind, LazyKind};
use plan::scalar::{Func, Unmaterializable};
use repr::{ColumnType, Datum, SqlType};
use std::collections::BTreeSet;

/// Expressions larger than this are not duplicated by a rewrite.
pub const INLINE_SIZE_MAX: usize = 200;

/// `a = b`, by the equality of the arguments' type.
pub fn eq(a: ScalarExpr, b: ScalarExpr, ty: &SqlType) -> ScalarExpr {
    ScalarExpr::call(Func::get(eq_name(ty)), vec![a, b], SqlType::Bool)
}

fn eq_name(ty: &SqlType) -> &'static str {
    match ty {
        SqlType::Char(_) => "bpchareq",
        _ => "eq",
    }
}

pub fn not(expr: ScalarExpr) -> ScalarExpr {
    ScalarExpr::call(Func::get("not"), vec![expr], SqlType::Bool)
}

pub fn is_not_null(expr: ScalarExpr) -> ScalarExpr {
    ScalarExpr::call(Func::get("is_not_null"), vec![expr], SqlType::Bool)
}

pub fn and(conjuncts: Vec<ScalarExpr>) -> ScalarExpr {
    junction("and", conjuncts, true)
}

pub fn or(disjuncts: Vec<ScalarExpr>) -> ScalarExpr {
    junction("or", disjuncts, false)
}

fn junction(name: &str, mut args: Vec<ScalarExpr>, neutral: bool) -> ScalarExpr {
    match args.len() {
        0 => ScalarExpr::bool(neutral),
        1 => args.remove(0),
        _ => ScalarExpr::call(Func::get(name), args, SqlType::Bool),
    }
}

/// The two sides, if this is an equality.
pub fn as_eq(expr: &ScalarExpr) -> Option<(&ScalarExpr, &ScalarExpr)> {
    match expr {
        ScalarExpr::Call { func, args, .. } if func.is("eq") || func.is("bpchareq") => {
            match args.as_slice() {
                [a, b] => Some((a, b)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The arguments of a call of the function with this name.
pub fn as_call<'a>(expr: &'a ScalarExpr, name: &str) -> Option<&'a [ScalarExpr]> {
    match expr {
        ScalarExpr::Call { func, args, .. } if func.is(name) => Some(args),
        _ => None,
    }
}

fn lazy_kind(func: Func) -> Option<LazyKind> {
    match func.def().kind {
        Kind::Lazy(kind) => Some(kind),
        Kind::Strict(_) | Kind::NullAware(_) => None,
    }
}

pub fn is_and(func: Func) -> bool {
    lazy_kind(func) == Some(LazyKind::And)
}

pub fn is_or(func: Func) -> bool {
    lazy_kind(func) == Some(LazyKind::Or)
}

pub fn is_coalesce(func: Func) -> bool {
    lazy_kind(func) == Some(LazyKind::Coalesce)
}

/// Splits nested ANDs.
pub fn conjuncts(expr: ScalarExpr, out: &mut Vec<ScalarExpr>) {
    match expr {
        ScalarExpr::Call { func, args, .. } if is_and(func) => {
            args.into_iter().for_each(|a| conjuncts(a, out))
        }
        other => out.push(other),
    }
}

/// The arms of nested ORs; the expression itself if it is none.
pub fn disjuncts(expr: ScalarExpr, out: &mut Vec<ScalarExpr>) {
    match expr {
        ScalarExpr::Call { func, args, .. } if is_or(func) => {
            args.into_iter().for_each(|a| disjuncts(a, out))
        }
        other => out.push(other),
    }
}

/// Whether evaluation can raise an error. Parameters and statement values are constants by then.
pub fn can_error(expr: &ScalarExpr) -> bool {
    let mut found = false;
    expr.visit(&mut |e| {
        found |= match e {
            ScalarExpr::Literal(value, _) => value.is_err(),
            ScalarExpr::Call { func, .. } => func.def().can_error,
            ScalarExpr::Column(_)
            | ScalarExpr::Param(..)
            | ScalarExpr::Unmaterializable(_)
            | ScalarExpr::If { .. } => false,
        }
    });
    found
}

/// Whether the value is the same for every row of one execution: no columns, no `mz_now()`.
pub fn is_row_independent(expr: &ScalarExpr) -> bool {
    expr.support().is_empty() && !expr.contains_mz_now()
}

/// The number of nodes.
pub fn size(expr: &ScalarExpr) -> usize {
    let mut n = 0;
    expr.visit(&mut |_| n += 1);
    n
}

/// Replaces each column by an expression.
pub fn substitute(expr: &mut ScalarExpr, replacement: &dyn Fn(usize) -> ScalarExpr) {
    match expr {
        ScalarExpr::Column(c) => *expr = replacement(*c),
        _ => expr
            .children_mut()
            .into_iter()
            .for_each(|child| substitute(child, replacement)),
    }
}

/// The type of an expression over columns of these types.
pub fn type_of(expr: &ScalarExpr, columns: &[ColumnType]) -> ColumnType {
    expr.typ(columns)
}

/// Columns that cannot be NULL where the predicate is true.
pub fn not_null_columns(predicate: &ScalarExpr, out: &mut BTreeSet<usize>) {
    match predicate {
        ScalarExpr::Call { func, args, .. } if is_and(*func) => {
            args.iter().for_each(|a| not_null_columns(a, out))
        }
        ScalarExpr::Call { func, args, .. } if func.is("is_not_null") => {
            strict_columns(&args[0], out)
        }
        other => strict_columns(other, out),
    }
}

/// Columns whose being NULL makes the expression NULL.
fn strict_columns(expr: &ScalarExpr, out: &mut BTreeSet<usize>) {
    match expr {
        ScalarExpr::Column(c) => {
            out.insert(*c);
        }
        ScalarExpr::Call { func, args, .. } if func.def().propagates_nulls() => {
            args.iter().for_each(|a| strict_columns(a, out))
        }
        ScalarExpr::Call { .. }
        | ScalarExpr::Literal(..)
        | ScalarExpr::Param(..)
        | ScalarExpr::Unmaterializable(_)
        | ScalarExpr::If { .. } => {}
    }
}

/// Whether the predicate's value depends on its columns only through SQL equality and order, so that one of two equal but
/// not identical values (numeric 1.0 and 1.00) can stand for the other.
pub fn respects_equality(predicate: &ScalarExpr) -> bool {
    const COMPARISONS: &[&str] = &[
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "bpchareq",
        "bpcharne",
        "bpcharlt",
        "bpcharle",
        "bpchargt",
        "bpcharge",
        "is_null",
        "is_not_null",
    ];
    match predicate {
        ScalarExpr::Call { func, args, .. } if is_and(*func) || is_or(*func) => {
            args.iter().all(respects_equality)
        }
        ScalarExpr::Call { func, args, .. } if COMPARISONS.contains(&func.name()) => args
            .iter()
            .all(|a| matches!(a, ScalarExpr::Column(_)) || is_row_independent(a)),
        _ => false,
    }
}

/// A reference to the read timestamp.
pub fn is_mz_now(expr: &ScalarExpr) -> bool {
    matches!(expr, ScalarExpr::Unmaterializable(Unmaterializable::MzNow))
}

/// Whether the expression is the constant FALSE or NULL: as a predicate, it keeps nothing.
pub fn is_never_true(expr: &ScalarExpr) -> bool {
    matches!(expr.as_literal(), Some(Datum::Bool(false) | Datum::Null))
}
