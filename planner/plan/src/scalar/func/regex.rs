//! POSIX regular expressions: `~`, `substring`, `regexp_replace` and friends.
//!
//! Patterns are PostgreSQL's advanced regular expressions; [`syntax::translate`] writes them for the linear-time engine of crate `regex`.
//! Not supported: back-references in patterns and look-around (0A000). Where alternatives match at the same place, the first one
//! is taken, where PostgreSQL takes the longest.

use super::text::check_length;
use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use ::regex::{Captures, Regex, RegexBuilder};
use repr::{Datum, RowArena, SqlType};
use std::cell::RefCell;

mod syntax;

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::fallible("textregexeq", |_, _, a, _| is_match(a, false)).negated_by("textregexne"),
    FuncDef::fallible("textregexne", |_, _, a, _| is_no_match(a, false)).negated_by("textregexeq"),
    FuncDef::fallible("texticregexeq", |_, _, a, _| is_match(a, true)).negated_by("texticregexne"),
    FuncDef::fallible("texticregexne", |_, _, a, _| is_no_match(a, true))
        .negated_by("texticregexeq"),
    // The last argument, the flags, is optional in all of these.
    FuncDef::fallible("regexp_like", |_, _, a, _| {
        with_regex(a, 2, |re, _| {
            Ok(Datum::Bool(re.is_match(a[0].unwrap_str())))
        })
    }),
    FuncDef::fallible("regexp_count", regexp_count),
    FuncDef::fallible("textregexsubstr", textregexsubstr).nullable(),
    FuncDef::fallible("textregexreplace", textregexreplace),
    FuncDef::fallible("regexp_match", regexp_match).nullable(),
    FuncDef::fallible("regexp_split_to_array", regexp_split_to_array),
];

/// Compiled patterns that a thread keeps: most queries use a few constant ones over many rows.
const CACHED_MAX: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Flags {
    case_insensitive: bool,
    /// `.` and brackets do not match a newline; `^` and `$` match at newlines.
    newline_sensitive: bool,
    expanded: bool,
    literal: bool,
    /// All matches, not the first (only `regexp_replace`).
    global: bool,
}

impl Flags {
    fn parse(text: &str) -> Result<Flags, EvalError> {
        let mut flags = Flags::default();
        for c in text.chars() {
            match c {
                'g' => flags.global = true,
                'i' => flags.case_insensitive = true,
                'c' => flags.case_insensitive = false,
                'm' | 'n' => flags.newline_sensitive = true,
                's' => flags.newline_sensitive = false,
                'x' => flags.expanded = true,
                't' => flags.expanded = false,
                'q' => flags.literal = true,
                other => {
                    let message = format!("invalid regular expression option: \"{other}\"");
                    return Err(EvalError::new("22023", message));
                }
            }
        }
        Ok(flags)
    }
}

struct Cached {
    pattern: String,
    flags: Flags,
    regex: Regex,
}

thread_local! {
    /// Most recently used first. A memo: it never changes a result.
    static CACHE: RefCell<Vec<Cached>> = const { RefCell::new(Vec::new()) };
}

/// The compiled pattern. Cloning is a reference count.
fn compiled(pattern: &str, flags: Flags) -> Result<Regex, EvalError> {
    CACHE.with_borrow_mut(|cache| {
        if let Some(at) = cache
            .iter()
            .position(|c| c.flags == flags && c.pattern == pattern)
        {
            cache[..=at].rotate_right(1);
        } else {
            let regex = compile(pattern, flags)?;
            cache.truncate(CACHED_MAX - 1);
            cache.insert(
                0,
                Cached {
                    pattern: pattern.to_owned(),
                    flags,
                    regex,
                },
            );
        }
        Ok(cache[0].regex.clone())
    })
}

fn compile(pattern: &str, mut flags: Flags) -> Result<Regex, EvalError> {
    let mut pattern = pattern;
    if let Some(rest) = pattern.strip_prefix("***=") {
        (pattern, flags.literal) = (rest, true);
    } else if let Some(rest) = pattern.strip_prefix("***:") {
        pattern = rest;
    }
    if let Some((letters, rest)) = syntax::embedded_options(pattern) {
        let embedded = Flags::parse(letters)?;
        flags.case_insensitive =
            embedded.case_insensitive || (flags.case_insensitive && !letters.contains('c'));
        flags.newline_sensitive |= embedded.newline_sensitive;
        flags.expanded |= embedded.expanded;
        flags.literal |= embedded.literal;
        pattern = rest;
    }
    let translated = if flags.literal {
        ::regex::escape(pattern)
    } else {
        syntax::translate(pattern)?
    };
    RegexBuilder::new(&translated)
        .case_insensitive(flags.case_insensitive)
        .dot_matches_new_line(!flags.newline_sensitive)
        .multi_line(flags.newline_sensitive)
        .ignore_whitespace(flags.expanded)
        .build()
        .map_err(|e| syntax::invalid(syntax::reason(&e.to_string())))
}

/// Calls `f` with the pattern `a[1]`, compiled with the flags in `a[at]` if there are that many arguments.
fn with_regex<'a>(
    a: &[Datum<'a>],
    at: usize,
    f: impl FnOnce(&Regex, Flags) -> EvalResult<'a>,
) -> EvalResult<'a> {
    let flags = match a.get(at) {
        Some(text) => Flags::parse(text.unwrap_str())?,
        None => Flags::default(),
    };
    f(
        &compiled(
            a[1].unwrap_str(),
            Flags {
                global: false,
                ..flags
            },
        )?,
        flags,
    )
}

fn matches(a: &[Datum<'_>], case_insensitive: bool) -> Result<bool, EvalError> {
    let flags = Flags {
        case_insensitive,
        ..Flags::default()
    };
    Ok(compiled(a[1].unwrap_str(), flags)?.is_match(a[0].unwrap_str()))
}

fn is_match<'a>(a: &[Datum<'a>], case_insensitive: bool) -> EvalResult<'a> {
    Ok(Datum::Bool(matches(a, case_insensitive)?))
}

fn is_no_match<'a>(a: &[Datum<'a>], case_insensitive: bool) -> EvalResult<'a> {
    Ok(Datum::Bool(!matches(a, case_insensitive)?))
}

fn regexp_count<'a>(_: &EvalCtx, _: &SqlType, a: &[Datum<'a>], _: &'a RowArena) -> EvalResult<'a> {
    with_regex(a, 2, |re, _| {
        Ok(Datum::Int32(re.find_iter(a[0].unwrap_str()).count() as i32))
    })
}

/// `substring(text from pattern)`: the first group if there is one, else the whole match.
fn textregexsubstr<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    _: &'a RowArena,
) -> EvalResult<'a> {
    with_regex(a, 2, |re, _| {
        let group = usize::from(re.captures_len() > 1);
        let found = re
            .captures(a[0].unwrap_str())
            .and_then(|captures| captures.get(group));
        Ok(found.map_or(Datum::Null, |m| Datum::String(m.as_str())))
    })
}

/// The groups of the first match, or the whole match if the pattern has no groups; NULL without a match.
fn regexp_match<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    with_regex(a, 2, |re, flags| {
        if flags.global {
            let mut error = EvalError::new(
                "22023",
                "regexp_match() does not support the \"global\" option",
            );
            error.hint = Some("Use the regexp_matches function instead.".to_owned());
            return Err(error);
        }
        let Some(captures) = re.captures(a[0].unwrap_str()) else {
            return Ok(Datum::Null);
        };
        let first = usize::from(captures.len() > 1);
        let groups: Vec<Datum<'_>> = (first..captures.len())
            .map(|i| captures.get(i).map(|m| m.as_str()).into())
            .collect();
        Ok(arena.make_datum(|packer| packer.push_list(groups.iter())))
    })
}

fn regexp_split_to_array<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    with_regex(a, 2, |re, _| {
        let text = a[0].unwrap_str();
        let mut parts = Vec::new();
        let mut from = 0;
        for found in re.find_iter(text) {
            // An empty match at the end, or right after the previous match, separates nothing.
            if found.is_empty() && (found.start() >= text.len() || found.start() == from) {
                continue;
            }
            parts.push(Datum::String(&text[from..found.start()]));
            from = found.end();
        }
        parts.push(Datum::String(&text[from..]));
        Ok(arena.make_datum(|packer| packer.push_list(parts.iter())))
    })
}

/// `regexp_replace(text, pattern, replacement [, flags])`.
fn textregexreplace<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    with_regex(a, 3, |re, flags| {
        let (text, replacement) = (a[0].unwrap_str(), a[2].unwrap_str());
        let mut replaced = String::new();
        let mut from = 0;
        let limit = if flags.global { usize::MAX } else { 1 };
        for captures in re.captures_iter(text).take(limit) {
            let whole = captures.get_match();
            replaced.push_str(&text[from..whole.start()]);
            push_replacement(&mut replaced, replacement, &captures);
            check_length(replaced.len())?;
            from = whole.end();
        }
        replaced.push_str(&text[from..]);
        Ok(Datum::String(arena.push_string(replaced)))
    })
}

/// Appends the replacement: `\1` to `\9` are groups, `\&` the whole match, `\\` a backslash.
fn push_replacement(out: &mut String, replacement: &str, captures: &Captures<'_>) {
    let mut chars = replacement.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('&') => out.push_str(captures.get_match().as_str()),
            Some('\\') => out.push('\\'),
            Some(digit @ '1'..='9') => {
                let group = captures.get(digit as usize - '0' as usize);
                out.push_str(group.map_or("", |m| m.as_str()));
            }
            // Any other escaped character stays as it is written.
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
}
