//! LIKE and ILIKE.

use super::text::lower;
use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use repr::{Datum, RowArena, SqlType};

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::fallible("textlike", |_, _, a, _| {
        Ok(Datum::Bool(like(a[0].unwrap_str(), a[1].unwrap_str())?))
    })
    .negated_by("textnlike"),
    FuncDef::fallible("textnlike", |_, _, a, _| {
        Ok(Datum::Bool(!like(a[0].unwrap_str(), a[1].unwrap_str())?))
    })
    .negated_by("textlike"),
    FuncDef::fallible("texticlike", |_, _, a, _| {
        Ok(Datum::Bool(ilike(a[0].unwrap_str(), a[1].unwrap_str())?))
    })
    .negated_by("texticnlike"),
    FuncDef::fallible("texticnlike", |_, _, a, _| {
        Ok(Datum::Bool(!ilike(a[0].unwrap_str(), a[1].unwrap_str())?))
    })
    .negated_by("texticlike"),
    // Rewrites a pattern with the given escape character to one with a backslash: `LIKE p ESCAPE e` is `LIKE like_escape(p, e)`.
    FuncDef::fallible("like_escape", like_escape),
];

/// Whether the whole of `text` matches the pattern: `%` any characters, `_` one, `\` takes the next character literally.
pub fn like(text: &str, pattern: &str) -> Result<bool, EvalError> {
    if pattern.bytes().any(|b| b == b'_' || b == b'\\') {
        return like_general(text.as_bytes(), pattern.as_bytes());
    }
    Ok(like_segments(text, pattern))
}

/// Patterns of `%` and literals: the first literal is a prefix, the last a suffix, the rest are searched from left to right.
fn like_segments(text: &str, pattern: &str) -> bool {
    let Some((prefix, rest)) = pattern.split_once('%') else {
        return text == pattern;
    };
    let Some(text) = text.strip_prefix(prefix) else {
        return false;
    };
    let (middle, suffix) = rest.rsplit_once('%').unwrap_or(("", rest));
    let Some(mut text) = text.strip_suffix(suffix) else {
        return false;
    };
    for segment in middle.split('%').filter(|s| !s.is_empty()) {
        match text.find(segment) {
            Some(at) => text = &text[at + segment.len()..],
            None => return false,
        }
    }
    true
}

/// Any pattern. After a mismatch only the last `%` needs to take more: what earlier ones took can stay.
fn like_general(text: &[u8], pattern: &[u8]) -> Result<bool, EvalError> {
    let (mut t, mut p) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let matched = match pattern.get(p) {
            Some(b'%') => {
                p += 1;
                retry = Some((t, p));
                continue;
            }
            None => t == text.len(),
            Some(_) if t == text.len() => false,
            Some(b'_') => {
                t += char_width(text[t]);
                p += 1;
                continue;
            }
            Some(b'\\') => match pattern.get(p + 1) {
                None => {
                    return Err(EvalError::new(
                        "22025",
                        "LIKE pattern must not end with escape character",
                    ));
                }
                Some(literal) if *literal == text[t] => {
                    t += 1;
                    p += 2;
                    continue;
                }
                Some(_) => false,
            },
            Some(literal) if *literal == text[t] => {
                t += 1;
                p += 1;
                continue;
            }
            Some(_) => false,
        };
        if matched {
            return Ok(true);
        }
        match retry {
            Some((start, after)) if start < text.len() => {
                t = start + char_width(text[start]);
                p = after;
                retry = Some((t, after));
            }
            _ => return Ok(false),
        }
    }
}

/// Bytes of the UTF-8 character that starts with this byte.
fn char_width(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

fn ilike(text: &str, pattern: &str) -> Result<bool, EvalError> {
    like(&lower(text), &lower(pattern))
}

fn like_escape<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    let (pattern, escape) = (a[0].unwrap_str(), a[1].unwrap_str());
    let mut escape_chars = escape.chars();
    let escape = escape_chars.next();
    if escape_chars.next().is_some() {
        let mut error = EvalError::new("22025", "invalid escape string");
        error.hint = Some("Escape string must be empty or one character.".to_owned());
        return Err(error);
    }
    let mut rewritten = String::with_capacity(pattern.len() + 8);
    let mut after_escape = false;
    for c in pattern.chars() {
        if Some(c) == escape && !after_escape {
            rewritten.push('\\');
            after_escape = true;
            continue;
        }
        // A backslash is an ordinary character unless it is the escape character.
        if c == '\\' && !after_escape {
            rewritten.push('\\');
        }
        rewritten.push(c);
        after_escape = false;
    }
    Ok(Datum::String(arena.push_string(rewritten)))
}
