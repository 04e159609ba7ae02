//! `format(text, ...)`.

use super::quote::{quote_ident, quote_literal};
use super::text::check_length;
use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use repr::{Datum, RowArena, SqlType};
use std::iter::Peekable;
use std::str::Chars;

pub(super) static TABLE: &[FuncDef] = &[
    // The arguments after the first are text or int4 (for `*` widths); anything else is cast to text by the planner.
    FuncDef::null_aware("text_format", text_format)
        .nullable()
        .erring(),
];

fn text_format<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    if a[0].is_null() {
        return Ok(Datum::Null);
    }
    let mut formatter = Formatter {
        args: &a[1..],
        next: 0,
        out: String::new(),
    };
    let mut chars = a[0].unwrap_str().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '%' if chars.next_if_eq(&'%').is_some() => formatter.out.push('%'),
            '%' => formatter.specifier(&mut chars)?,
            other => formatter.out.push(other),
        }
        check_length(formatter.out.len())?;
    }
    Ok(Datum::String(arena.push_string(formatter.out)))
}

struct Formatter<'s, 'a> {
    args: &'s [Datum<'a>],
    /// The argument that the next specifier without a position takes.
    next: usize,
    out: String,
}

fn unterminated() -> EvalError {
    let mut error = EvalError::new("22023", "unterminated format() type specifier");
    error.hint = Some("For a single \"%\" use \"%%\".".to_owned());
    error
}

impl Formatter<'_, '_> {
    /// `%[position$][-][width]type`; the percent sign has been read.
    fn specifier(&mut self, chars: &mut Peekable<Chars<'_>>) -> Result<(), EvalError> {
        let mut width = number(chars)?;
        let position = match width {
            Some(n) if chars.next_if_eq(&'$').is_some() => {
                width = None;
                Some(n)
            }
            _ => None,
        };
        let mut left_aligned = false;
        if width.is_none() {
            while chars.next_if_eq(&'-').is_some() {
                left_aligned = true;
            }
            width = if chars.next_if_eq(&'*').is_some() {
                let wanted = self.width_argument(chars)?;
                left_aligned |= wanted < 0;
                Some(wanted.unsigned_abs() as usize)
            } else {
                number(chars)?
            };
        }
        let kind = chars.next().ok_or_else(unterminated)?;
        if !matches!(kind, 's' | 'I' | 'L') {
            let mut error = EvalError::new(
                "22023",
                format!("unrecognized format() type specifier \"{kind}\""),
            );
            error.hint = Some("For a single \"%\" use \"%%\".".to_owned());
            return Err(error);
        }
        let value = self.argument(position)?;
        let text = converted(kind, value)?;
        self.pad(&text, width.unwrap_or(0), left_aligned);
        Ok(())
    }

    fn argument(&mut self, position: Option<usize>) -> Result<Datum<'_>, EvalError> {
        let index = match position {
            Some(0) => {
                return Err(EvalError::new(
                    "22023",
                    "format specifies argument 0, but arguments are numbered from 1",
                ));
            }
            Some(n) => n - 1,
            None => self.next,
        };
        self.next = index + 1;
        self.args
            .get(index)
            .copied()
            .ok_or_else(|| EvalError::new("22023", "too few arguments for format()"))
    }

    /// The width that `*` or `*n$` takes from an argument.
    fn width_argument(&mut self, chars: &mut Peekable<Chars<'_>>) -> Result<i32, EvalError> {
        let position = number(chars)?;
        if position.is_some() && chars.next_if_eq(&'$').is_none() {
            return Err(EvalError::new(
                "22023",
                "width argument position must be ended by \"$\"",
            ));
        }
        match self.argument(position)? {
            Datum::Null => Ok(0),
            Datum::Int32(n) => Ok(n),
            Datum::String(s) => s.trim().parse().map_err(|_| {
                EvalError::new(
                    "22P02",
                    format!("invalid input syntax for type integer: \"{s}\""),
                )
            }),
            _ => Err(EvalError::new("22023", "width argument must be an integer")),
        }
    }

    fn pad(&mut self, text: &str, width: usize, left_aligned: bool) {
        let missing = width.saturating_sub(text.chars().count());
        if left_aligned {
            self.out.push_str(text);
        }
        self.out.extend(std::iter::repeat_n(' ', missing));
        if !left_aligned {
            self.out.push_str(text);
        }
    }
}

fn converted(kind: char, value: Datum<'_>) -> Result<String, EvalError> {
    let text = match value {
        Datum::Null => {
            return match kind {
                'L' => Ok("NULL".to_owned()),
                'I' => Err(EvalError::new(
                    "22004",
                    "null values cannot be formatted as an SQL identifier",
                )),
                _ => Ok(String::new()),
            };
        }
        Datum::Int32(n) => n.to_string(),
        other => other.unwrap_str().to_owned(),
    };
    Ok(match kind {
        'L' => quote_literal(&text),
        'I' => quote_ident(&text),
        _ => text,
    })
}

/// The most that a width or position can be: more could not be held in memory.
const NUMBER_MAX: usize = super::text::TEXT_BYTES_MAX;

fn number(chars: &mut Peekable<Chars<'_>>) -> Result<Option<usize>, EvalError> {
    let mut value = None;
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        let next = value.unwrap_or(0) * 10 + (digit as usize - '0' as usize);
        if next > NUMBER_MAX {
            return Err(EvalError::new("22003", "number is out of range"));
        }
        value = Some(next);
    }
    Ok(value)
}
