//! Arrays as text: `{1,2,NULL}`, `[0:1]={1,2}`, `{{1,2},{3,4}}`; vectors: `1 2 3`.

use std::fmt;

use super::{FormatCtx, parse_datum, to_text, trim};
use crate::arena::RowArena;
use crate::array::{ARRAY_DIMS_MAX, ArrayDim, ArrayRef};
use crate::datum::Datum;
use crate::error::FormatError;
use crate::types::SqlType;

fn malformed(text: &str, detail: &str) -> FormatError {
    let message = format!("malformed array literal: \"{text}\"");
    let error = FormatError::new("22P02", message);
    match detail {
        "" => error,
        detail => error.with_detail(detail),
    }
}

/// Reads `int2vector` and `oidvector`: elements separated by blanks, the first subscript being 0.
pub(super) fn parse_vector<'a>(
    element: &SqlType,
    text: &'a str,
    ctx: &FormatCtx,
    arena: &'a RowArena,
) -> Result<Datum<'a>, FormatError> {
    let elements = text
        .split_ascii_whitespace()
        .map(|word| parse_datum(element, word, ctx, arena))
        .collect::<Result<Vec<_>, _>>()?;
    let dims: &[ArrayDim] = &[ArrayDim {
        lower_bound: 0,
        length: elements.len() as u32,
    }];
    let dims = if elements.is_empty() { &[] } else { dims };
    Ok(arena.make_datum(|packer| packer.push_array(dims, elements)))
}

pub(super) fn parse<'a>(
    element: &SqlType,
    text: &'a str,
    ctx: &FormatCtx,
    arena: &'a RowArena,
) -> Result<Datum<'a>, FormatError> {
    let (declared, body) = split_dimensions(text)?;
    let mut parser = Parser {
        text,
        rest: body,
        lengths: Vec::new(),
        leaf_depth: None,
        elements: Vec::new(),
        element,
        ctx,
        arena,
    };
    parser.array(0)?;
    if !trim(parser.rest).is_empty() {
        return Err(malformed(text, "Junk after closing right brace."));
    }
    let Parser {
        lengths, elements, ..
    } = parser;
    let mut dims: Vec<ArrayDim> = match elements.is_empty() {
        true => Vec::new(),
        false => lengths.into_iter().map(ArrayDim::new).collect(),
    };
    if let Some(declared) = declared {
        let same = |(a, b): (&ArrayDim, &ArrayDim)| a.length == b.length;
        if declared.len() != dims.len() || !declared.iter().zip(&dims).all(same) {
            return Err(malformed(
                text,
                "Specified array dimensions do not match array contents.",
            ));
        }
        dims = declared;
    }
    Ok(arena.make_datum(|packer| packer.push_array(&dims, elements)))
}

/// Takes `[1:2][0:3]=` off the front.
fn split_dimensions(text: &str) -> Result<(Option<Vec<ArrayDim>>, &str), FormatError> {
    let mut rest = text.trim_start();
    let mut dims = Vec::new();
    while let Some(open) = rest.strip_prefix('[') {
        let (inside, after) = open
            .split_once(']')
            .ok_or_else(|| malformed(text, "Missing \"]\" after array dimensions."))?;
        let (lower, upper) = inside.split_once(':').unwrap_or(("1", inside));
        let bound = |bound: &str| {
            let value = bound.trim().parse::<i32>();
            value.map_err(|_| malformed(text, "Missing array dimension value."))
        };
        let (lower, upper) = (bound(lower)?, bound(upper)?);
        let length = i64::from(upper) - i64::from(lower) + 1;
        match u32::try_from(length) {
            Ok(length @ 1..) if dims.len() < ARRAY_DIMS_MAX => dims.push(ArrayDim {
                lower_bound: lower,
                length,
            }),
            Ok(_) | Err(_) => {
                return Err(FormatError::new(
                    "2202E",
                    "upper bound cannot be less than lower bound",
                ));
            }
        }
        rest = after.trim_start();
    }
    if dims.is_empty() {
        return match rest.starts_with('{') {
            true => Ok((None, rest)),
            false => Err(malformed(
                text,
                "Array value must start with \"{\" or dimension information.",
            )),
        };
    }
    match rest.strip_prefix('=').map(str::trim_start) {
        Some(body) if body.starts_with('{') => Ok((Some(dims), body)),
        Some(_) => Err(malformed(text, "Array contents must start with \"{\".")),
        None => Err(malformed(text, "Missing \"=\" after array dimensions.")),
    }
}

struct Parser<'a, 'c> {
    text: &'a str,
    rest: &'a str,
    /// The length of each dimension, once its first sub-array has ended.
    lengths: Vec<usize>,
    /// The depth at which elements stand, once there is one.
    leaf_depth: Option<usize>,
    elements: Vec<Datum<'a>>,
    element: &'c SqlType,
    ctx: &'c FormatCtx,
    arena: &'a RowArena,
}

impl<'a> Parser<'a, '_> {
    fn fail<T>(&self, detail: &str) -> Result<T, FormatError> {
        Err(malformed(self.text, detail))
    }

    fn peek(&mut self) -> Result<char, FormatError> {
        self.rest = self.rest.trim_start();
        match self.rest.chars().next() {
            Some(c) => Ok(c),
            None => self.fail("Unexpected end of input."),
        }
    }

    fn bump(&mut self, c: char) {
        self.rest = &self.rest[c.len_utf8()..];
    }

    /// Reads from an opening to its closing brace.
    fn array(&mut self, depth: usize) -> Result<(), FormatError> {
        if depth >= ARRAY_DIMS_MAX {
            return Err(FormatError::new(
                "54000",
                format!(
                    "number of array dimensions ({}) exceeds the maximum allowed \
                     ({ARRAY_DIMS_MAX})",
                    depth + 1
                ),
            ));
        }
        self.bump('{');
        let mut length = 0;
        if self.peek()? == '}' {
            self.bump('}');
            return match depth {
                0 => Ok(()),
                _ => self.fail("Unexpected \"}\" character."),
            };
        }
        if self.lengths.len() == depth {
            self.lengths.push(usize::MAX);
        }
        loop {
            match self.peek()? {
                '{' if self.leaf_depth != Some(depth) => self.array(depth + 1)?,
                _ if *self.leaf_depth.get_or_insert(depth) == depth => self.element()?,
                _ => {
                    return self.fail(
                        "Multidimensional arrays must have sub-arrays with matching dimensions.",
                    );
                }
            }
            length += 1;
            match self.peek()? {
                ',' => self.bump(','),
                '}' => break,
                _ => return self.fail("Unexpected array element."),
            }
        }
        self.bump('}');
        match self.lengths[depth] {
            usize::MAX => self.lengths[depth] = length,
            expected if expected == length => {}
            _ => {
                return self.fail(
                    "Multidimensional arrays must have sub-arrays with matching dimensions.",
                );
            }
        }
        Ok(())
    }

    fn element(&mut self) -> Result<(), FormatError> {
        let datum = match self.peek()? {
            '"' => {
                let text = self.quoted()?;
                parse_datum(self.element, text, self.ctx, self.arena)?
            }
            c @ (',' | '{' | '}') => return self.fail(&format!("Unexpected \"{c}\" character.")),
            _ => match self.unquoted()? {
                text if text.eq_ignore_ascii_case("null") => Datum::Null,
                text => {
                    // Escapes only matter after the test for NULL.
                    let text = unescape(text, self.arena);
                    parse_datum(self.element, text, self.ctx, self.arena)?
                }
            },
        };
        self.elements.push(datum);
        Ok(())
    }

    fn quoted(&mut self) -> Result<&'a str, FormatError> {
        self.bump('"');
        let mut escaped = false;
        for (at, c) in self.rest.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    let text = &self.rest[..at];
                    self.rest = &self.rest[at + 1..];
                    return Ok(unescape(text, self.arena));
                }
                _ => {}
            }
        }
        self.fail("Unexpected end of input.")
    }

    fn unquoted(&mut self) -> Result<&'a str, FormatError> {
        let mut escaped = false;
        // Blanks at the end do not count, unless escaped.
        let mut end = 0;
        for (at, c) in self.rest.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                ',' | '}' => {
                    let text = &self.rest[..end];
                    self.rest = &self.rest[at..];
                    return Ok(text);
                }
                '"' => return self.fail("Unexpected array element."),
                '{' => return self.fail("Unexpected \"{\" character."),
                c if c.is_ascii_whitespace() => continue,
                _ => {}
            }
            end = at + c.len_utf8();
        }
        self.fail("Unexpected end of input.")
    }
}

fn unescape<'a>(text: &'a str, arena: &'a RowArena) -> &'a str {
    if !text.contains('\\') {
        return text;
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    arena.push_string(plain)
}

pub(super) fn write(
    ty: &SqlType,
    array: ArrayRef<'_>,
    ctx: &FormatCtx,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let element = ty.element().unwrap_or(SqlType::Unknown);
    if let SqlType::Int2Vector | SqlType::OidVector = ty {
        return write_vector(&element, array, ctx, out);
    }
    let dims: Vec<ArrayDim> = array.dims().collect();
    if dims.iter().any(|dim| dim.lower_bound != 1) {
        for dim in &dims {
            let upper = i64::from(dim.lower_bound) + i64::from(dim.length) - 1;
            write!(out, "[{}:{upper}]", dim.lower_bound)?;
        }
        out.write_str("=")?;
    }
    if dims.is_empty() {
        return out.write_str("{}");
    }
    let mut elements = array.iter();
    write_level(&element, &dims, &mut elements, ctx, out)
}

fn write_vector(
    element: &SqlType,
    array: ArrayRef<'_>,
    ctx: &FormatCtx,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    for (index, datum) in array.iter().enumerate() {
        if index > 0 {
            out.write_str(" ")?;
        }
        super::write_text(element, datum, ctx, out)?;
    }
    Ok(())
}

fn write_level<'a>(
    element: &SqlType,
    dims: &[ArrayDim],
    elements: &mut impl Iterator<Item = Datum<'a>>,
    ctx: &FormatCtx,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let Some((outer, inner)) = dims.split_first() else {
        return match elements.next() {
            Some(Datum::Null) | None => out.write_str("NULL"),
            Some(datum) => write_element(&to_text(element, datum, ctx), out),
        };
    };
    out.write_str("{")?;
    for index in 0..outer.length {
        if index > 0 {
            out.write_str(",")?;
        }
        write_level(element, inner, elements, ctx, out)?;
    }
    out.write_str("}")
}

fn write_element(text: &str, out: &mut dyn fmt::Write) -> fmt::Result {
    let special = |c: char| {
        c.is_ascii_whitespace() || c == '\x0b' || matches!(c, '"' | '\\' | '{' | '}' | ',')
    };
    let quote = text.is_empty() || text.eq_ignore_ascii_case("null") || text.contains(special);
    if !quote {
        return out.write_str(text);
    }
    out.write_str("\"")?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.write_str("\\")?;
        }
        out.write_char(c)?;
    }
    out.write_str("\"")
}
