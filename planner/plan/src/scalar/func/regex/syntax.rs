//! PostgreSQL's regular expression syntax, written in that of crate `regex`.

use crate::error::EvalError;
use std::iter::Peekable;
use std::str::Chars;

/// SQLSTATE 2201B with PostgreSQL's reason.
pub(super) fn invalid(reason: &str) -> EvalError {
    EvalError::new("2201B", format!("invalid regular expression: {reason}"))
}

fn unsupported(what: &str) -> EvalError {
    EvalError::new(
        "0A000",
        format!("{what} in regular expressions are not supported"),
    )
}

/// PostgreSQL's word for an error of the engine.
pub(super) fn reason(engine_error: &str) -> &'static str {
    let has = |part: &str| engine_error.contains(part);
    if has("unclosed group") || has("unopened group") {
        "parentheses () not balanced"
    } else if has("unclosed character class") {
        "brackets [] not balanced"
    } else if has("invalid character class range") {
        "invalid character range"
    } else if has("repetition operator missing expression") {
        "quantifier operand invalid"
    } else if has("unclosed counted repetition") {
        "braces {} not balanced"
    } else if has("repetition") {
        "invalid repetition count(s)"
    } else if has("escape") {
        "invalid escape \\ sequence"
    } else if has("size limit") {
        "regular expression is too complex"
    } else {
        "invalid regexp (reg version 0.8)"
    }
}

/// The letters of options at the start of a pattern, as in `(?i)abc`, and what follows them.
pub(super) fn embedded_options(pattern: &str) -> Option<(&str, &str)> {
    let (letters, rest) = pattern.strip_prefix("(?")?.split_once(')')?;
    let only_letters = !letters.is_empty() && letters.chars().all(|c| c.is_ascii_lowercase());
    only_letters.then_some((letters, rest))
}

/// The same pattern for crate `regex`.
pub(super) fn translate(pattern: &str) -> Result<String, EvalError> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => escape(&mut chars, &mut out)?,
            '[' => bracket(&mut chars, &mut out)?,
            // A brace that starts no count is an ordinary character.
            '{' if !chars.peek().is_some_and(char::is_ascii_digit) => out.push_str("\\{"),
            '(' => {
                out.push('(');
                if chars.peek() == Some(&'?') {
                    group(chars.clone())?;
                }
            }
            other => out.push(other),
        }
    }
    Ok(out)
}

/// Refuses what follows `(?` unless it is a non-capturing group.
fn group(mut rest: Cursor<'_>) -> Result<(), EvalError> {
    rest.next();
    match rest.next() {
        Some(':') => Ok(()),
        Some('=' | '!' | '<') => Err(unsupported("lookahead and lookbehind constraints")),
        _ => Err(invalid("quantifier operand invalid")),
    }
}

type Cursor<'a> = Peekable<Chars<'a>>;

/// An escape outside of brackets; the backslash has been read.
fn escape(chars: &mut Cursor<'_>, out: &mut String) -> Result<(), EvalError> {
    let Some(c) = chars.next() else {
        return Err(invalid("invalid escape \\ sequence"));
    };
    match c {
        'A' => out.push_str("\\A"),
        'Z' => out.push_str("\\z"),
        'm' => out.push_str("\\b{start}"),
        'M' => out.push_str("\\b{end}"),
        'y' => out.push_str("\\b"),
        'Y' => out.push_str("\\B"),
        '1'..='9' => return Err(unsupported("back-references")),
        other => return class_escape(other, chars, out),
    }
    Ok(())
}

/// An escape that may also stand inside brackets.
fn class_escape(c: char, chars: &mut Cursor<'_>, out: &mut String) -> Result<(), EvalError> {
    match c {
        'd' | 'D' | 's' | 'S' | 'w' | 'W' | 'a' | 'f' | 'n' | 'r' | 't' | 'v' => {
            out.push('\\');
            out.push(c);
        }
        'b' => out.push_str("\\x08"),
        'B' => out.push_str("\\\\"),
        'e' => out.push_str("\\x1B"),
        '0' => out.push_str("\\x00"),
        'c' => match chars.next() {
            Some(control) => out.push_str(&format!("\\x{:02X}", control as u32 & 0x1f)),
            None => return Err(invalid("invalid escape \\ sequence")),
        },
        'x' => hex_escape(chars, out, 2)?,
        'u' => hex_escape(chars, out, 4)?,
        'U' => hex_escape(chars, out, 8)?,
        other if other.is_ascii_alphanumeric() => {
            return Err(invalid("invalid escape \\ sequence"));
        }
        other => push_literal(other, out),
    }
    Ok(())
}

fn hex_escape(chars: &mut Cursor<'_>, out: &mut String, digits: usize) -> Result<(), EvalError> {
    let mut code = String::new();
    while code.len() < digits {
        match chars.next_if(char::is_ascii_hexdigit) {
            Some(digit) => code.push(digit),
            None => break,
        }
    }
    if code.is_empty() {
        return Err(invalid("invalid escape \\ sequence"));
    }
    out.push_str(&format!("\\x{{{code}}}"));
    Ok(())
}

fn push_literal(c: char, out: &mut String) {
    // `\<` and `\>` would be word boundaries; letters outside ASCII need no escape.
    if c.is_ascii_punctuation() && c != '<' && c != '>' {
        out.push('\\');
    }
    out.push(c);
}

/// A bracket expression; its `[` has been read. Unlike in crate `regex`, `[`, `&&`, `--` and `~~` have no meaning inside.
fn bracket(chars: &mut Cursor<'_>, out: &mut String) -> Result<(), EvalError> {
    out.push('[');
    if chars.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    if chars.next_if_eq(&']').is_some() {
        out.push_str("\\]");
    }
    loop {
        match chars.next() {
            None => return Err(invalid("brackets [] not balanced")),
            Some(']') => break,
            Some('[') => match chars.peek() {
                Some(':') => named_class(chars, out)?,
                Some('.' | '=') => collating_element(chars, out)?,
                _ => out.push_str("\\["),
            },
            Some('\\') => match chars.next() {
                Some(c) => class_escape(c, chars, out)?,
                None => return Err(invalid("invalid escape \\ sequence")),
            },
            Some(c @ ('&' | '~' | '#' | ' ')) => {
                out.push('\\');
                out.push(c);
            }
            // Two in a row would be a set difference.
            Some('-') if out.ends_with('-') || chars.peek() == Some(&'-') => out.push_str("\\-"),
            Some(c) => out.push(c),
        }
    }
    out.push(']');
    Ok(())
}

/// `[:alpha:]`; the first bracket has been read.
fn named_class(chars: &mut Cursor<'_>, out: &mut String) -> Result<(), EvalError> {
    let name = until_closed(chars, ':')?;
    const NAMES: &[&str] = &[
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
        "space", "upper", "word", "xdigit",
    ];
    if !NAMES.contains(&name.as_str()) {
        return Err(invalid("invalid character class"));
    }
    out.push_str(&format!("[:{name}:]"));
    Ok(())
}

/// `[.a.]` and `[=a=]` stand for their one character.
fn collating_element(chars: &mut Cursor<'_>, out: &mut String) -> Result<(), EvalError> {
    let kind = *chars
        .peek()
        .ok_or_else(|| invalid("brackets [] not balanced"))?;
    let name = until_closed(chars, kind)?;
    let mut only = name.chars();
    match (only.next(), only.next()) {
        (Some(c), None) => push_literal(c, out),
        _ => return Err(invalid("invalid collating element")),
    }
    Ok(())
}

/// Reads `<kind>name<kind>]`.
fn until_closed(chars: &mut Cursor<'_>, kind: char) -> Result<String, EvalError> {
    chars.next();
    let mut name = String::new();
    while let Some(c) = chars.next() {
        if c == kind && chars.next_if_eq(&']').is_some() {
            return Ok(name);
        }
        name.push(c);
    }
    Err(invalid("brackets [] not balanced"))
}
