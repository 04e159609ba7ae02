//! Three-valued logic, NULL tests and choices between arguments.

use super::{EvalResult, FuncDef, LazyKind};
use crate::scalar::eval::EvalCtx;
use repr::{Datum, RowArena, SqlType};

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::lazy("and", LazyKind::And),
    FuncDef::lazy("or", LazyKind::Or),
    FuncDef::lazy("coalesce", LazyKind::Coalesce),
    FuncDef::strict("not", |_, _, a, _| Ok(Datum::Bool(!a[0].unwrap_bool()))),
    FuncDef::null_aware("is_null", |_, _, a, _| Ok(Datum::Bool(a[0].is_null())))
        .negated_by("is_not_null"),
    FuncDef::null_aware("is_not_null", |_, _, a, _| Ok(Datum::Bool(!a[0].is_null())))
        .negated_by("is_null"),
    FuncDef::null_aware("is_true", |_, _, a, _| Ok(Datum::Bool(a[0] == Datum::TRUE)))
        .negated_by("is_not_true"),
    FuncDef::null_aware("is_not_true", |_, _, a, _| {
        Ok(Datum::Bool(a[0] != Datum::TRUE))
    })
    .negated_by("is_true"),
    FuncDef::null_aware("is_false", |_, _, a, _| {
        Ok(Datum::Bool(a[0] == Datum::FALSE))
    })
    .negated_by("is_not_false"),
    FuncDef::null_aware("is_not_false", |_, _, a, _| {
        Ok(Datum::Bool(a[0] != Datum::FALSE))
    })
    .negated_by("is_false"),
    FuncDef::null_aware("nullif", nullif).nullable(),
    FuncDef::null_aware("greatest", greatest).nullable(),
    FuncDef::null_aware("least", least).nullable(),
    FuncDef::null_aware("num_nulls", |_, _, a, _| Ok(Datum::Int32(count(a, true)))),
    FuncDef::null_aware("num_nonnulls", |_, _, a, _| {
        Ok(Datum::Int32(count(a, false)))
    }),
];

/// `nullif(a, b)`: NULL if the two are equal, else `a`. Both have the same type.
fn nullif<'a>(_: &EvalCtx, ty: &SqlType, a: &[Datum<'a>], _: &'a RowArena) -> EvalResult<'a> {
    let trimmed = |d: Datum<'a>| match (ty, d) {
        (SqlType::Char(_), Datum::String(s)) => Datum::String(s.trim_end_matches(' ')),
        _ => d,
    };
    let equal = !a[0].is_null() && trimmed(a[0]) == trimmed(a[1]);
    Ok(if equal { Datum::Null } else { a[0] })
}

fn greatest<'a>(_: &EvalCtx, _: &SqlType, a: &[Datum<'a>], _: &'a RowArena) -> EvalResult<'a> {
    // The first of equal values wins, as in PostgreSQL: `max_by` would take the last.
    let best = a
        .iter()
        .filter(|d| !d.is_null())
        .copied()
        .reduce(|best, d| if d > best { d } else { best });
    Ok(best.unwrap_or(Datum::Null))
}

fn least<'a>(_: &EvalCtx, _: &SqlType, a: &[Datum<'a>], _: &'a RowArena) -> EvalResult<'a> {
    let best = a
        .iter()
        .filter(|d| !d.is_null())
        .copied()
        .reduce(|best, d| if d < best { d } else { best });
    Ok(best.unwrap_or(Datum::Null))
}

fn count(args: &[Datum<'_>], nulls: bool) -> i32 {
    args.iter().filter(|d| d.is_null() == nulls).count() as i32
}
