//! Arrays: search, containment, and comparison with each element.

use super::array::list;
use super::pattern::like;
use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use repr::{ArrayDim, ArrayRef, Datum, RowArena, SqlType};

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::null_aware("array_position", array_position)
        .nullable()
        .erring(),
    FuncDef::null_aware("array_positions", array_positions)
        .nullable()
        .erring(),
    FuncDef::null_aware("array_remove", array_remove)
        .nullable()
        .erring(),
    FuncDef::null_aware("array_replace", array_replace).nullable(),
    FuncDef::strict("arraycontains", |_, _, a, _| {
        Ok(Datum::Bool(contains(a[0], a[1])))
    })
    .commutes_to("arraycontained"),
    FuncDef::strict("arraycontained", |_, _, a, _| {
        Ok(Datum::Bool(contains(a[1], a[0])))
    })
    .commutes_to("arraycontains"),
    FuncDef::strict("arrayoverlap", |_, _, a, _| {
        Ok(Datum::Bool(overlap(a[0], a[1])))
    })
    .commutes_to("arrayoverlap"),
    // `scalar <op> ANY (array)` and `scalar <op> ALL (array)`.
    FuncDef::null_aware("any_eq", |_, _, a, _| any(a, |x, y| Ok(x == y)))
        .nullable()
        .negated_by("all_ne"),
    FuncDef::null_aware("any_ne", |_, _, a, _| any(a, |x, y| Ok(x != y)))
        .nullable()
        .negated_by("all_eq"),
    FuncDef::null_aware("any_lt", |_, _, a, _| any(a, |x, y| Ok(x < y)))
        .nullable()
        .negated_by("all_ge"),
    FuncDef::null_aware("any_le", |_, _, a, _| any(a, |x, y| Ok(x <= y)))
        .nullable()
        .negated_by("all_gt"),
    FuncDef::null_aware("any_gt", |_, _, a, _| any(a, |x, y| Ok(x > y)))
        .nullable()
        .negated_by("all_le"),
    FuncDef::null_aware("any_ge", |_, _, a, _| any(a, |x, y| Ok(x >= y)))
        .nullable()
        .negated_by("all_lt"),
    FuncDef::null_aware("all_eq", |_, _, a, _| all(a, |x, y| Ok(x == y)))
        .nullable()
        .negated_by("any_ne"),
    FuncDef::null_aware("all_ne", |_, _, a, _| all(a, |x, y| Ok(x != y)))
        .nullable()
        .negated_by("any_eq"),
    FuncDef::null_aware("all_lt", |_, _, a, _| all(a, |x, y| Ok(x < y)))
        .nullable()
        .negated_by("any_ge"),
    FuncDef::null_aware("all_le", |_, _, a, _| all(a, |x, y| Ok(x <= y)))
        .nullable()
        .negated_by("any_gt"),
    FuncDef::null_aware("all_gt", |_, _, a, _| all(a, |x, y| Ok(x > y)))
        .nullable()
        .negated_by("any_le"),
    FuncDef::null_aware("all_ge", |_, _, a, _| all(a, |x, y| Ok(x >= y)))
        .nullable()
        .negated_by("any_lt"),
    FuncDef::null_aware("any_bpchareq", |_, _, a, _| {
        any(a, |x, y| Ok(unpadded(x) == unpadded(y)))
    })
    .nullable()
    .negated_by("all_bpcharne"),
    FuncDef::null_aware("all_bpcharne", |_, _, a, _| {
        all(a, |x, y| Ok(unpadded(x) != unpadded(y)))
    })
    .nullable()
    .negated_by("any_bpchareq"),
    FuncDef::null_aware("any_textlike", |_, _, a, _| {
        any(a, |x, y| like(x.unwrap_str(), y.unwrap_str()))
    })
    .nullable()
    .erring(),
    FuncDef::null_aware("all_textlike", |_, _, a, _| {
        all(a, |x, y| like(x.unwrap_str(), y.unwrap_str()))
    })
    .nullable()
    .erring(),
    FuncDef::null_aware("any_textnlike", |_, _, a, _| {
        any(a, |x, y| Ok(!like(x.unwrap_str(), y.unwrap_str())?))
    })
    .nullable()
    .erring(),
    FuncDef::null_aware("all_textnlike", |_, _, a, _| {
        all(a, |x, y| Ok(!like(x.unwrap_str(), y.unwrap_str())?))
    })
    .nullable()
    .erring(),
];

fn unpadded(d: Datum<'_>) -> &str {
    d.unwrap_str().trim_end_matches(' ')
}

type Test<'a> = fn(Datum<'a>, Datum<'a>) -> Result<bool, EvalError>;

/// TRUE if the test holds for an element; else NULL if a NULL took part; else FALSE.
fn any<'a>(a: &[Datum<'a>], test: Test<'a>) -> EvalResult<'a> {
    let (scalar, Datum::Array(array)) = (a[0], a[1]) else {
        return Ok(Datum::Null);
    };
    if scalar.is_null() && !array.is_empty() {
        return Ok(Datum::Null);
    }
    let mut result = Datum::FALSE;
    for element in array.iter() {
        if element.is_null() {
            result = Datum::Null;
        } else if test(scalar, element)? {
            return Ok(Datum::TRUE);
        }
    }
    Ok(result)
}

/// FALSE if the test fails for an element; else NULL if a NULL took part; else TRUE.
fn all<'a>(a: &[Datum<'a>], test: Test<'a>) -> EvalResult<'a> {
    let (scalar, Datum::Array(array)) = (a[0], a[1]) else {
        return Ok(Datum::Null);
    };
    if scalar.is_null() && !array.is_empty() {
        return Ok(Datum::Null);
    }
    let mut result = Datum::TRUE;
    for element in array.iter() {
        if element.is_null() {
            result = Datum::Null;
        } else if !test(scalar, element)? {
            return Ok(Datum::FALSE);
        }
    }
    Ok(result)
}

/// The first subscript, from `a[2]` on if given, whose element is `a[1]` (NULL finds NULL).
fn array_position<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    _: &'a RowArena,
) -> EvalResult<'a> {
    let Datum::Array(array) = a[0] else {
        return Ok(Datum::Null);
    };
    if array.ndims() > 1 {
        return Err(EvalError::new(
            "0A000",
            "searching for elements in multidimensional arrays is not supported",
        ));
    }
    let from = match a.get(2) {
        Some(Datum::Null) => {
            return Err(EvalError::new("22004", "initial position must not be null"));
        }
        Some(from) => i64::from(from.unwrap_int32()),
        None => i64::MIN,
    };
    let found = numbered(array).find(|(subscript, element)| *subscript >= from && *element == a[1]);
    Ok(found.map_or(Datum::Null, |(subscript, _)| Datum::Int32(subscript as i32)))
}

fn array_positions<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    let Datum::Array(array) = a[0] else {
        return Ok(Datum::Null);
    };
    if array.ndims() > 1 {
        return Err(EvalError::new(
            "0A000",
            "searching for elements in multidimensional arrays is not supported",
        ));
    }
    let found: Vec<Datum<'_>> = numbered(array)
        .filter(|(_, element)| *element == a[1])
        .map(|(subscript, _)| Datum::Int32(subscript as i32))
        .collect();
    Ok(list(&found, arena))
}

/// The elements with their subscripts, which are int4 but may count past the end of it.
fn numbered<'a>(array: ArrayRef<'a>) -> impl Iterator<Item = (i64, Datum<'a>)> {
    let lower = array.dims().next().map_or(1, |d| d.lower_bound);
    (i64::from(lower)..).zip(array.iter())
}

fn array_remove<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    let Datum::Array(array) = a[0] else {
        return Ok(Datum::Null);
    };
    if array.ndims() > 1 {
        return Err(EvalError::new(
            "0A000",
            "removing elements from multidimensional arrays is not supported",
        ));
    }
    let kept: Vec<Datum<'_>> = array.iter().filter(|element| *element != a[1]).collect();
    if kept.is_empty() {
        return Ok(list(&[], arena));
    }
    let lower_bound = array.dims().next().map_or(1, |d| d.lower_bound);
    let dims = [ArrayDim {
        lower_bound,
        ..ArrayDim::new(kept.len())
    }];
    Ok(arena.make_datum(|packer| packer.push_array(&dims, kept.iter())))
}

fn array_replace<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    let Datum::Array(array) = a[0] else {
        return Ok(Datum::Null);
    };
    let dims: Vec<ArrayDim> = array.dims().collect();
    let replaced: Vec<Datum<'_>> = array
        .iter()
        .map(|e| if e == a[1] { a[2] } else { e })
        .collect();
    Ok(arena.make_datum(|packer| packer.push_array(&dims, replaced.iter())))
}

/// Whether every element of `inner` occurs in `outer`. A NULL element occurs nowhere.
fn contains(outer: Datum<'_>, inner: Datum<'_>) -> bool {
    let outer = outer.unwrap_array();
    inner
        .unwrap_array()
        .iter()
        .all(|wanted| !wanted.is_null() && outer.iter().any(|e| e == wanted))
}

fn overlap(x: Datum<'_>, y: Datum<'_>) -> bool {
    let y = y.unwrap_array();
    x.unwrap_array()
        .iter()
        .any(|wanted| !wanted.is_null() && y.iter().any(|e| e == wanted))
}
