//! Conversions from and to text, by the text forms of each type.

use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use repr::{Datum, FormatError, RowArena, SqlType};

pub(super) static TABLE: &[FuncDef] = &[
    // Any type to text; the text of a boolean is "true", not "t" as in its text format.
    FuncDef::strict("cast_to_text", cast_to_text).by_session(),
    // Text to the call's type, modifier included; too long strings are refused.
    FuncDef::fallible("cast_from_text", cast_from_text).by_session(),
    // The blanks that pad a character(n) are not part of it as text.
    FuncDef::strict("cast_bpchar_to_text", |_, _, a, _| {
        Ok(Datum::String(a[0].unwrap_str().trim_end_matches(' ')))
    }),
    // text to "char": its first byte.
    FuncDef::strict("cast_text_to_pgchar", |_, _, a, _| {
        let text = a[0].unwrap_str();
        Ok(Datum::String(
            &text[..text.chars().next().map_or(0, char::len_utf8)],
        ))
    }),
    FuncDef::strict("cast_uuid_to_bytea", |_, _, a, arena| {
        Ok(Datum::Bytes(arena.push_bytes(&a[0].unwrap_uuid().0)))
    }),
];

impl From<FormatError> for EvalError {
    fn from(error: FormatError) -> EvalError {
        EvalError {
            sqlstate: error.sqlstate().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
        }
    }
}

fn cast_to_text<'a>(
    ctx: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    Ok(match a[0] {
        Datum::String(_) => a[0],
        Datum::Bool(v) => Datum::String(if v { "true" } else { "false" }),
        other => {
            let mut text = String::new();
            ctx.write_text(other, &mut text);
            Datum::String(arena.push_string(text))
        }
    })
}

fn cast_from_text<'a>(
    ctx: &EvalCtx,
    ty: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    Ok(repr::format::parse_datum(
        ty,
        a[0].unwrap_str(),
        &ctx.format,
        arena,
    )?)
}
