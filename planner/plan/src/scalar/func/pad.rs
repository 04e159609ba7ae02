//! Trimming and padding.

use super::text::check_length;
use super::{EvalResult, FuncDef};
use crate::scalar::eval::EvalCtx;
use repr::{Datum, RowArena, SqlType};

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::strict("btrim", |_, _, a, _| {
        Ok(Datum::String(trim_end(
            trim_start(a[0].unwrap_str(), a[1]),
            a[1],
        )))
    }),
    FuncDef::strict("btrim1", |_, _, a, _| {
        Ok(Datum::String(a[0].unwrap_str().trim_matches(' ')))
    }),
    FuncDef::strict("ltrim", |_, _, a, _| {
        Ok(Datum::String(trim_start(a[0].unwrap_str(), a[1])))
    }),
    FuncDef::strict("ltrim1", |_, _, a, _| {
        Ok(Datum::String(a[0].unwrap_str().trim_start_matches(' ')))
    }),
    FuncDef::strict("rtrim", |_, _, a, _| {
        Ok(Datum::String(trim_end(a[0].unwrap_str(), a[1])))
    }),
    FuncDef::strict("rtrim1", |_, _, a, _| {
        Ok(Datum::String(a[0].unwrap_str().trim_end_matches(' ')))
    }),
    // Two or three arguments: the fill is a blank unless given.
    FuncDef::fallible("lpad", lpad),
    FuncDef::fallible("rpad", rpad),
];

fn trim_start<'a>(s: &'a str, set: Datum<'_>) -> &'a str {
    let set = set.unwrap_str();
    s.trim_start_matches(|c| set.contains(c))
}

fn trim_end<'a>(s: &'a str, set: Datum<'_>) -> &'a str {
    let set = set.unwrap_str();
    s.trim_end_matches(|c| set.contains(c))
}

/// What [`lpad`] and [`rpad`] share: the text cut to its length, and the fill that is missing.
fn pad<'a>(a: &[Datum<'a>]) -> Result<(&'a str, String), crate::EvalError> {
    let (s, length) = (
        a[0].unwrap_str(),
        usize::try_from(a[1].unwrap_int32()).unwrap_or(0),
    );
    let fill = a.get(2).map_or(" ", |d| d.unwrap_str());
    let present = s.chars().count();
    if length <= present {
        let cut = s.char_indices().nth(length).map_or(s.len(), |(at, _)| at);
        return Ok((&s[..cut], String::new()));
    }
    // PostgreSQL bounds the result by the longest character of the encoding, before it looks at the fill.
    check_length(length.saturating_mul(4))?;
    Ok((s, fill.chars().cycle().take(length - present).collect()))
}

fn lpad<'a>(_: &EvalCtx, _: &SqlType, a: &[Datum<'a>], arena: &'a RowArena) -> EvalResult<'a> {
    let (s, fill) = pad(a)?;
    Ok(Datum::String(arena.push_string(fill + s)))
}

fn rpad<'a>(_: &EvalCtx, _: &SqlType, a: &[Datum<'a>], arena: &'a RowArena) -> EvalResult<'a> {
    let (s, fill) = pad(a)?;
    Ok(Datum::String(arena.push_string(s.to_owned() + &fill)))
}
