//! Arrays: making, taking apart, measuring.

use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use repr::{ArrayDim, ArrayRef, Datum, RowArena, SqlType};

pub(super) static TABLE: &[FuncDef] = &[
    // ARRAY[...]: arrays as arguments make one more dimension.
    FuncDef::null_aware("make_array", make_array).erring(),
    // ROW(...)
    FuncDef::null_aware("make_record", |_, _, a, arena| {
        Ok(arena.make_datum(|packer| packer.push_record(a.iter())))
    }),
    // record_get(record, field number from 0 on)
    FuncDef::strict("record_get", |_, _, a, _| {
        let field = usize::try_from(a[1].unwrap_int32()).ok();
        Ok(field
            .and_then(|i| a[0].unwrap_record().iter().nth(i))
            .unwrap_or(Datum::Null))
    })
    .nullable(),
    // array_get(array, subscript, ...): NULL outside of the bounds.
    FuncDef::strict("array_get", array_get).nullable(),
    // array_slice(array, from, to) of a one-dimensional array; the result starts at 1.
    FuncDef::strict("array_slice", array_slice),
    FuncDef::strict("array_length", |_, _, a, _| {
        Ok(dim(a).map_or(Datum::Null, |d| Datum::Int32(d.length as i32)))
    })
    .nullable(),
    FuncDef::strict("array_lower", |_, _, a, _| {
        Ok(dim(a).map_or(Datum::Null, |d| Datum::Int32(d.lower_bound)))
    })
    .nullable(),
    FuncDef::strict("array_upper", |_, _, a, _| {
        Ok(dim(a).map_or(Datum::Null, |d| Datum::Int32(upper(d))))
    })
    .nullable(),
    FuncDef::strict("array_ndims", |_, _, a, _| {
        match a[0].unwrap_array().ndims() {
            0 => Ok(Datum::Null),
            n => Ok(Datum::Int32(n as i32)),
        }
    })
    .nullable(),
    FuncDef::strict("array_dims", |_, _, a, arena| {
        let text: String = a[0]
            .unwrap_array()
            .dims()
            .map(|d| format!("[{}:{}]", d.lower_bound, upper(d)))
            .collect();
        Ok(if text.is_empty() {
            Datum::Null
        } else {
            Datum::String(arena.push_string(text))
        })
    })
    .nullable(),
    FuncDef::strict("array_cardinality", |_, _, a, _| {
        Ok(Datum::Int32(a[0].unwrap_array().len() as i32))
    }),
    // NULL arrays count as empty here; elements may be NULL.
    FuncDef::null_aware("array_append", |_, _, a, arena| {
        extend(a[0], &a[1..2], End::Back, arena)
    })
    .erring(),
    FuncDef::null_aware("array_prepend", |_, _, a, arena| {
        extend(a[1], &a[..1], End::Front, arena)
    })
    .erring(),
    FuncDef::null_aware("array_cat", array_cat)
        .nullable()
        .erring(),
    FuncDef::fallible("trim_array", trim_array),
];

/// An array of these elements, one-dimensional, from 1 on.
pub(super) fn list<'a>(elements: &[Datum<'_>], arena: &'a RowArena) -> Datum<'a> {
    arena.make_datum(|packer| packer.push_list(elements.iter()))
}

fn upper(d: ArrayDim) -> i32 {
    d.lower_bound.wrapping_add(d.length as i32).wrapping_sub(1)
}

/// The dimension `a[1]` (from 1 on) of the array `a[0]`.
fn dim(a: &[Datum<'_>]) -> Option<ArrayDim> {
    let number = usize::try_from(a[1].unwrap_int32()).ok()?.checked_sub(1)?;
    a[0].unwrap_array().dims().nth(number)
}

fn make_array<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    if !a.iter().any(|d| matches!(d, Datum::Array(_))) {
        return Ok(list(a, arena));
    }
    let parts: Vec<ArrayRef<'a>> = a
        .iter()
        .map(|d| match d {
            Datum::Array(part) => *part,
            _ => ArrayRef::EMPTY,
        })
        .collect();
    let inner: Vec<ArrayDim> = parts[0].dims().collect();
    if parts
        .iter()
        .any(|part| part.dims().ne(inner.iter().copied()))
    {
        let message =
            "multidimensional arrays must have array expressions with matching dimensions";
        return Err(EvalError::new("2202E", message));
    }
    if inner.is_empty() {
        return Ok(list(&[], arena));
    }
    if inner.len() >= repr::array::ARRAY_DIMS_MAX {
        return Err(EvalError::new(
            "54000",
            "number of array dimensions exceeds the maximum allowed (6)",
        ));
    }
    let mut dims = vec![ArrayDim::new(parts.len())];
    dims.extend(inner);
    Ok(arena
        .make_datum(|packer| packer.push_array(&dims, parts.iter().flat_map(|part| part.iter()))))
}

fn array_get<'a>(_: &EvalCtx, _: &SqlType, a: &[Datum<'a>], _: &'a RowArena) -> EvalResult<'a> {
    let array = a[0].unwrap_array();
    let subscripts = &a[1..];
    if array.ndims() != subscripts.len() {
        return Ok(Datum::Null);
    }
    let mut index = 0usize;
    for (dim, subscript) in array.dims().zip(subscripts) {
        let at = i64::from(subscript.unwrap_int32()) - i64::from(dim.lower_bound);
        match usize::try_from(at) {
            Ok(at) if at < dim.length as usize => index = index * dim.length as usize + at,
            _ => return Ok(Datum::Null),
        }
    }
    let mut elements = array.iter();
    elements.skip_n(index);
    Ok(elements.next().unwrap_or(Datum::Null))
}

fn array_slice<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    let array = a[0].unwrap_array();
    let (from, to) = (
        i64::from(a[1].unwrap_int32()),
        i64::from(a[2].unwrap_int32()),
    );
    let Some(dim) = array.dims().next().filter(|_| array.ndims() == 1) else {
        return Ok(list(&[], arena));
    };
    let lower = i64::from(dim.lower_bound);
    let skip = (from - lower).max(0) as usize;
    let end = (to - lower + 1).clamp(0, i64::from(dim.length)) as usize;
    let elements: Vec<Datum<'_>> = array.iter().take(end).skip(skip).collect();
    Ok(list(&elements, arena))
}

#[derive(Clone, Copy)]
enum End {
    Front,
    Back,
}

/// Adds elements at one end of an array of one dimension, which may be NULL or empty.
fn extend<'a>(
    array: Datum<'a>,
    added: &[Datum<'a>],
    end: End,
    arena: &'a RowArena,
) -> EvalResult<'a> {
    let array = if array.is_null() {
        ArrayRef::EMPTY
    } else {
        array.unwrap_array()
    };
    if array.ndims() > 1 {
        return Err(EvalError::new(
            "22000",
            "argument must be empty or one-dimensional array",
        ));
    }
    let lower_bound = array.dims().next().map_or(1, |d| d.lower_bound);
    let elements: Vec<Datum<'_>> = match end {
        End::Front => added.iter().copied().chain(array.iter()).collect(),
        End::Back => array.iter().chain(added.iter().copied()).collect(),
    };
    let dims = [ArrayDim {
        lower_bound,
        ..ArrayDim::new(elements.len())
    }];
    Ok(arena.make_datum(|packer| packer.push_array(&dims, elements.iter())))
}

fn array_cat<'a>(_: &EvalCtx, _: &SqlType, a: &[Datum<'a>], arena: &'a RowArena) -> EvalResult<'a> {
    if a[0].is_null() || a[1].is_null() {
        return Ok(if a[0].is_null() { a[1] } else { a[0] });
    }
    let (x, y) = (a[0].unwrap_array(), a[1].unwrap_array());
    if x.is_empty() || y.is_empty() {
        return Ok(if x.is_empty() { a[1] } else { a[0] });
    }
    let (mut outer, inner) = cat_dims(x, y)?;
    outer.extend(inner);
    Ok(arena.make_datum(|packer| packer.push_array(&outer, x.iter().chain(y.iter()))))
}

fn incompatible(detail: String) -> EvalError {
    EvalError {
        detail: Some(detail),
        ..EvalError::new("2202E", "cannot concatenate incompatible arrays")
    }
}

/// The dimensions of `x || y`: of the same rank, or one is an element of the other.
fn cat_dims(x: ArrayRef<'_>, y: ArrayRef<'_>) -> Result<(Vec<ArrayDim>, Vec<ArrayDim>), EvalError> {
    let (xs, ys): (Vec<_>, Vec<_>) = (x.dims().collect(), y.dims().collect());
    let (first, x_inner, y_inner, length) = if xs.len() == ys.len() {
        (xs[0], &xs[1..], &ys[1..], xs[0].length + ys[0].length)
    } else if xs.len() == ys.len() + 1 {
        (xs[0], &xs[1..], &ys[..], xs[0].length + 1)
    } else if xs.len() + 1 == ys.len() {
        (ys[0], &xs[..], &ys[1..], ys[0].length + 1)
    } else {
        return Err(incompatible(format!(
            "Arrays of {} and {} dimensions are not compatible for concatenation.",
            xs.len(),
            ys.len()
        )));
    };
    if x_inner
        .iter()
        .map(|d| d.length)
        .ne(y_inner.iter().map(|d| d.length))
    {
        return Err(incompatible(
            "Arrays with differing dimensions are not compatible for concatenation.".to_owned(),
        ));
    }
    Ok((vec![ArrayDim { length, ..first }], x_inner.to_vec()))
}

fn trim_array<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    let (array, n) = (a[0].unwrap_array(), a[1].unwrap_int32());
    let length = array.dims().next().map_or(0, |d| d.length as usize);
    let keep = usize::try_from(n).ok().and_then(|n| length.checked_sub(n));
    let Some(keep) = keep.filter(|_| array.ndims() <= 1) else {
        return Err(EvalError::new(
            "2202E",
            format!("number of elements to trim must be between 0 and {length}"),
        ));
    };
    let elements: Vec<Datum<'_>> = array.iter().take(keep).collect();
    Ok(list(&elements, arena))
}
