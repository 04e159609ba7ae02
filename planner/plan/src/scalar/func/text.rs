//! Text: parts, search, case, concatenation. Positions and lengths count characters.

use super::{EvalResult, FuncDef, hash};
use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use repr::{Datum, RowArena, SqlType};

/// The longest text that a function makes, in bytes: one row has to fit into a message and into memory.
pub(super) const TEXT_BYTES_MAX: usize = 256 * 1024 * 1024;

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::fallible("textcat", textcat),
    FuncDef::null_aware("text_concat", text_concat).erring(),
    FuncDef::null_aware("text_concat_ws", text_concat_ws)
        .nullable()
        .erring(),
    FuncDef::strict("lower", |_, _, a, arena| {
        Ok(Datum::String(arena.push_string(lower(a[0].unwrap_str()))))
    }),
    FuncDef::strict("upper", |_, _, a, arena| {
        Ok(Datum::String(arena.push_string(upper(a[0].unwrap_str()))))
    }),
    FuncDef::strict("initcap", |_, _, a, arena| {
        Ok(Datum::String(arena.push_string(initcap(a[0].unwrap_str()))))
    }),
    FuncDef::strict("textlen", |_, _, a, _| {
        Ok(Datum::Int32(chars(a[0].unwrap_str())))
    }),
    // The blanks that pad a character(n) do not count.
    FuncDef::strict("bpcharlen", |_, _, a, _| {
        Ok(Datum::Int32(chars(a[0].unwrap_str().trim_end_matches(' '))))
    }),
    FuncDef::strict("textoctetlen", |_, _, a, _| {
        Ok(Datum::Int32(a[0].unwrap_str().len() as i32))
    }),
    FuncDef::strict("bit_length", |_, _, a, _| {
        Ok(Datum::Int32(a[0].unwrap_str().len() as i32 * 8))
    }),
    FuncDef::fallible("text_substr", |_, _, a, _| {
        substr(
            a[0].unwrap_str(),
            a[1].unwrap_int32(),
            Some(a[2].unwrap_int32()),
        )
    }),
    FuncDef::strict("text_substr_no_len", |_, _, a, _| {
        substr(a[0].unwrap_str(), a[1].unwrap_int32(), None)
    }),
    FuncDef::fallible("textoverlay", textoverlay),
    // position(b in a) and strpos(a, b)
    FuncDef::strict("textpos", |_, _, a, _| {
        Ok(Datum::Int32(position(a[0].unwrap_str(), a[1].unwrap_str())))
    }),
    FuncDef::fallible("replace_text", replace_text),
    FuncDef::strict("text_left", |_, _, a, _| {
        Ok(Datum::String(left(a[0].unwrap_str(), a[1].unwrap_int32())))
    }),
    FuncDef::strict("text_right", |_, _, a, _| {
        Ok(Datum::String(right(a[0].unwrap_str(), a[1].unwrap_int32())))
    }),
    FuncDef::fallible("repeat", repeat),
    FuncDef::strict("text_reverse", |_, _, a, arena| {
        Ok(Datum::String(
            arena.push_string(a[0].unwrap_str().chars().rev().collect()),
        ))
    }),
    FuncDef::fallible("split_part", split_part),
    FuncDef::strict("text_starts_with", |_, _, a, _| {
        Ok(Datum::Bool(
            a[0].unwrap_str().starts_with(a[1].unwrap_str()),
        ))
    }),
    FuncDef::strict("ascii", |_, _, a, _| {
        Ok(Datum::Int32(
            a[0].unwrap_str().chars().next().map_or(0, |c| c as i32),
        ))
    }),
    FuncDef::fallible("chr", chr),
    FuncDef::strict("translate", translate),
    FuncDef::strict("md5_text", |_, _, a, arena| {
        Ok(Datum::String(
            arena.push_string(hash::md5_hex(a[0].unwrap_str().as_bytes())),
        ))
    }),
    FuncDef::strict("to_hex32", |_, _, a, arena| {
        Ok(Datum::String(
            arena.push_string(format!("{:x}", a[0].unwrap_int32())),
        ))
    }),
    FuncDef::strict("to_hex64", |_, _, a, arena| {
        Ok(Datum::String(
            arena.push_string(format!("{:x}", a[0].unwrap_int64())),
        ))
    }),
];

fn chars(s: &str) -> i32 {
    if s.is_ascii() {
        s.len() as i32
    } else {
        s.chars().count() as i32
    }
}

pub(super) fn too_long() -> EvalError {
    EvalError::new("54000", "requested length too large")
}

/// Fails if a text of so many bytes must not be made.
pub(super) fn check_length(bytes: usize) -> Result<(), EvalError> {
    if bytes > TEXT_BYTES_MAX {
        Err(too_long())
    } else {
        Ok(())
    }
}

fn textcat<'a>(_: &EvalCtx, _: &SqlType, a: &[Datum<'a>], arena: &'a RowArena) -> EvalResult<'a> {
    let (x, y) = (a[0].unwrap_str(), a[1].unwrap_str());
    check_length(x.len() + y.len())?;
    let mut text = String::with_capacity(x.len() + y.len());
    text.push_str(x);
    text.push_str(y);
    Ok(Datum::String(arena.push_string(text)))
}

/// `concat(...)`: NULL arguments are left out.
fn text_concat<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    join(a, "", arena)
}

/// `concat_ws(separator, ...)`: NULL without a separator; NULL arguments are left out.
fn text_concat_ws<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    if a[0].is_null() {
        return Ok(Datum::Null);
    }
    join(&a[1..], a[0].unwrap_str(), arena)
}

fn join<'a>(parts: &[Datum<'a>], separator: &str, arena: &'a RowArena) -> EvalResult<'a> {
    let mut text = String::new();
    let mut first = true;
    for part in parts.iter().filter(|d| !d.is_null()) {
        if !std::mem::take(&mut first) {
            text.push_str(separator);
        }
        text.push_str(part.unwrap_str());
        check_length(text.len())?;
    }
    Ok(Datum::String(arena.push_string(text)))
}

/// The lower case of one character, unless that would be several.
pub(super) fn lower_char(c: char) -> char {
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(l), None) => l,
        _ => c,
    }
}

fn upper_char(c: char) -> char {
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(u), None) => u,
        _ => c,
    }
}

pub(super) fn lower(s: &str) -> String {
    if s.is_ascii() {
        s.to_ascii_lowercase()
    } else {
        s.chars().map(lower_char).collect()
    }
}

pub(super) fn upper(s: &str) -> String {
    if s.is_ascii() {
        s.to_ascii_uppercase()
    } else {
        s.chars().map(upper_char).collect()
    }
}

pub(super) fn initcap(s: &str) -> String {
    let mut inside_word = false;
    s.chars()
        .map(|c| {
            let cased = if inside_word {
                lower_char(c)
            } else {
                upper_char(c)
            };
            inside_word = c.is_alphanumeric();
            cased
        })
        .collect()
}

/// The byte offset of the character at this index, or the end.
fn offset(s: &str, index: usize) -> usize {
    if s.is_ascii() {
        return index.min(s.len());
    }
    s.char_indices().nth(index).map_or(s.len(), |(at, _)| at)
}

/// The characters from position `start` (1-based, may lie before the text) on.
fn substr<'a>(s: &'a str, start: i32, length: Option<i32>) -> EvalResult<'a> {
    let start = i64::from(start);
    let end = match length {
        Some(n) if n < 0 => {
            return Err(EvalError::new(
                "22011",
                "negative substring length not allowed",
            ));
        }
        Some(n) => Some(start + i64::from(n)),
        None => None,
    };
    let from = usize::try_from(start.max(1) - 1).unwrap_or(usize::MAX);
    let s = &s[offset(s, from)..];
    let taken = match end {
        Some(end) => usize::try_from(end - start.max(1)).unwrap_or(0),
        None => return Ok(Datum::String(s)),
    };
    Ok(Datum::String(&s[..offset(s, taken)]))
}

/// `overlay(a placing b from start for count)`; three arguments count the characters of `b`.
fn textoverlay<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    let (s, new, start) = (a[0].unwrap_str(), a[1].unwrap_str(), a[2].unwrap_int32());
    let count = a.get(3).map_or_else(|| chars(new), |d| d.unwrap_int32());
    if start <= 0 {
        return Err(EvalError::new(
            "22011",
            "negative substring length not allowed",
        ));
    }
    let tail_start = i64::from(start) + i64::from(count);
    let head = &s[..offset(s, start as usize - 1)];
    let tail = &s[offset(s, usize::try_from(tail_start - 1).unwrap_or(0))..];
    check_length(head.len() + new.len() + tail.len())?;
    Ok(Datum::String(arena.push_string([head, new, tail].concat())))
}

pub(super) fn position(s: &str, part: &str) -> i32 {
    s.find(part).map_or(0, |at| chars(&s[..at]) + 1)
}

fn replace_text<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    let (s, from, to) = (a[0].unwrap_str(), a[1].unwrap_str(), a[2].unwrap_str());
    if from.is_empty() || !s.contains(from) {
        return Ok(a[0]);
    }
    let added = s.matches(from).count().saturating_mul(to.len());
    check_length(s.len().saturating_add(added))?;
    Ok(Datum::String(arena.push_string(s.replace(from, to))))
}

/// The first `n` characters; with a negative `n`, all but the last `-n`.
fn left(s: &str, n: i32) -> &str {
    let take = if n >= 0 {
        i64::from(n)
    } else {
        i64::from(chars(s)) + i64::from(n)
    };
    &s[..offset(s, usize::try_from(take).unwrap_or(0))]
}

/// The last `n` characters; with a negative `n`, all but the first `-n`.
fn right(s: &str, n: i32) -> &str {
    let skip = if n < 0 {
        -i64::from(n)
    } else {
        i64::from(chars(s)) - i64::from(n)
    };
    &s[offset(s, usize::try_from(skip).unwrap_or(0))..]
}

fn repeat<'a>(_: &EvalCtx, _: &SqlType, a: &[Datum<'a>], arena: &'a RowArena) -> EvalResult<'a> {
    let (s, times) = (
        a[0].unwrap_str(),
        usize::try_from(a[1].unwrap_int32()).unwrap_or(0),
    );
    check_length(s.len().saturating_mul(times))?;
    Ok(Datum::String(arena.push_string(s.repeat(times))))
}

/// `split_part(text, delimiter, n)`: field `n`, from the end if negative; empty if there is none.
fn split_part<'a>(_: &EvalCtx, _: &SqlType, a: &[Datum<'a>], _: &'a RowArena) -> EvalResult<'a> {
    let (s, delimiter, n) = (a[0].unwrap_str(), a[1].unwrap_str(), a[2].unwrap_int32());
    if n == 0 {
        return Err(EvalError::new("22023", "field position must not be zero"));
    }
    if delimiter.is_empty() || s.is_empty() {
        let whole = n == 1 || n == -1;
        return Ok(Datum::String(if whole { s } else { "" }));
    }
    let index = n.unsigned_abs() as usize - 1;
    let field = if n > 0 {
        s.split(delimiter).nth(index)
    } else {
        s.rsplit(delimiter).nth(index)
    };
    Ok(Datum::String(field.unwrap_or("")))
}

fn chr<'a>(_: &EvalCtx, _: &SqlType, a: &[Datum<'a>], arena: &'a RowArena) -> EvalResult<'a> {
    let code = a[0].unwrap_int32();
    if code == 0 {
        return Err(EvalError::new("54000", "null character not permitted"));
    }
    if code < 0 {
        return Err(EvalError::new("22023", "character number must be positive"));
    }
    match char::from_u32(code as u32) {
        Some(c) => Ok(Datum::String(arena.push_str(c.encode_utf8(&mut [0; 4])))),
        None if code > 0x10_ffff => Err(EvalError::new(
            "54000",
            format!("requested character too large for encoding: {code}"),
        )),
        None => Err(EvalError::new(
            "54000",
            format!("requested character not valid for encoding: {code}"),
        )),
    }
}

/// `translate(text, from, to)`: character by character; those of `from` without partner in `to` are removed.
fn translate<'a>(_: &EvalCtx, _: &SqlType, a: &[Datum<'a>], arena: &'a RowArena) -> EvalResult<'a> {
    let to: Vec<char> = a[2].unwrap_str().chars().collect();
    let from: Vec<char> = a[1].unwrap_str().chars().collect();
    let translated = a[0]
        .unwrap_str()
        .chars()
        .filter_map(|c| match from.iter().position(|f| *f == c) {
            Some(at) => to.get(at).copied(),
            None => Some(c),
        })
        .collect();
    Ok(Datum::String(arena.push_string(translated)))
}
