//! Arrays from and to delimited text.

use super::array::list;
use super::{EvalResult, FuncDef};
use crate::scalar::eval::EvalCtx;
use repr::{Datum, RowArena, SqlType};

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::fallible("array_to_text", array_to_text),
    FuncDef::null_aware("array_to_text_null", array_to_text)
        .nullable()
        .erring(),
    FuncDef::null_aware("text_to_array", text_to_array).nullable(),
    FuncDef::null_aware("text_to_array_null", text_to_array).nullable(),
];

/// `array_to_string(array, delimiter [, text for NULL])`.
fn array_to_text<'a>(
    ctx: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    if a[0].is_null() || a[1].is_null() {
        return Ok(Datum::Null);
    }
    let delimiter = a[1].unwrap_str();
    let for_null = a.get(2).filter(|d| !d.is_null()).map(|d| d.unwrap_str());
    let mut text = String::new();
    let mut first = true;
    for element in a[0].unwrap_array().iter() {
        if element.is_null() && for_null.is_none() {
            continue;
        }
        if !std::mem::take(&mut first) {
            text.push_str(delimiter);
        }
        match for_null.filter(|_| element.is_null()) {
            Some(replacement) => text.push_str(replacement),
            None => ctx.write_text(element, &mut text),
        }
        super::text::check_length(text.len())?;
    }
    Ok(Datum::String(arena.push_string(text)))
}

/// `string_to_array(text, delimiter [, text that means NULL])`; without delimiter every character is an element.
fn text_to_array<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    if a[0].is_null() {
        return Ok(Datum::Null);
    }
    let text = a[0].unwrap_str();
    let null = a.get(2).filter(|d| !d.is_null()).map(|d| d.unwrap_str());
    let element = |part: &'a str| {
        if Some(part) == null {
            Datum::Null
        } else {
            Datum::String(part)
        }
    };
    let elements: Vec<Datum<'_>> = match a[1] {
        _ if text.is_empty() => vec![],
        Datum::Null => text
            .split("")
            .filter(|part| !part.is_empty())
            .map(element)
            .collect(),
        delimiter if delimiter.unwrap_str().is_empty() => vec![element(text)],
        delimiter => text.split(delimiter.unwrap_str()).map(element).collect(),
    };
    Ok(list(&elements, arena))
}
