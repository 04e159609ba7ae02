//! What PostgreSQL's system information functions say without looking into a catalog.

use super::{EvalResult, FuncDef};
use crate::scalar::eval::EvalCtx;
use repr::{Datum, RowArena, SqlType};

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::null_aware("format_type", format_type).nullable(),
    FuncDef::strict("PG_encoding_to_char", |_, _, a, _| {
        Ok(Datum::String(if a[0].unwrap_int32() == UTF8 {
            "UTF8"
        } else {
            ""
        }))
    }),
    FuncDef::strict("PG_char_to_encoding", |_, _, a, _| {
        let letters: String = a[0]
            .unwrap_str()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        let known = letters.eq_ignore_ascii_case("utf8") || letters.eq_ignore_ascii_case("unicode");
        Ok(Datum::Int32(if known { UTF8 } else { -1 }))
    }),
    FuncDef::strict("pg_size_pretty", |_, _, a, arena| {
        Ok(Datum::String(
            arena.push_string(size_pretty(a[0].unwrap_int64())),
        ))
    }),
];

/// PostgreSQL's number of the encoding UTF8.
const UTF8: i32 = 6;

/// `format_type(oid, typmod)` for built-in types; a NULL modifier leaves even the default one out.
fn format_type<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    let Datum::Oid(oid) = a[0] else {
        return Ok(Datum::Null);
    };
    if oid == 0 {
        return Ok(Datum::String("-"));
    }
    let typmod = match a[1] {
        Datum::Null => None,
        typmod => Some(typmod.unwrap_int32()),
    };
    let Some(ty) = SqlType::from_oid(oid, typmod.unwrap_or(-1)) else {
        return Ok(Datum::String("???"));
    };
    let name = if typmod.is_some() {
        ty.pg_name()
    } else {
        ty.base_name()
    };
    Ok(Datum::String(arena.push_string(name)))
}

fn size_pretty(bytes: i64) -> String {
    const UNITS: &[&str] = &["kB", "MB", "GB", "TB", "PB"];
    // Each unit is used below 10 * 1024 of it (twice that, as one bit more is kept for rounding).
    if bytes.unsigned_abs() < 10 * 1024 {
        return format!("{bytes} bytes");
    }
    let mut halves = bytes >> 9;
    for (i, unit) in UNITS.iter().enumerate() {
        if halves.unsigned_abs() < 20 * 1024 - 1 || i == UNITS.len() - 1 {
            return format!("{} {unit}", half_rounded(halves));
        }
        halves >>= 10;
    }
    unreachable!("the last unit takes any size")
}

fn half_rounded(x: i64) -> i64 {
    (x + if x < 0 { -1 } else { 1 }) / 2
}
