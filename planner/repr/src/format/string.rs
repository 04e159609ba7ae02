//! Strings and their length limits.

use crate::arena::RowArena;
use crate::error::FormatError;

/// The most bytes of a `name`.
const NAME_BYTES_MAX: usize = 63;

/// Text from a client, which may hold anything but the zero byte.
pub(super) fn checked(text: &str) -> Result<&str, FormatError> {
    if text.as_bytes().contains(&0) {
        return Err(FormatError::new(
            "22021",
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        ));
    }
    Ok(text)
}

/// The byte offset after `length` characters, if there are more.
fn cut_at(text: &str, length: u32) -> Option<usize> {
    let length = length as usize;
    if text.len() <= length {
        return None;
    }
    text.char_indices().nth(length).map(|(at, _)| at)
}

fn cut(text: &str, at: usize, explicit: bool, ty: &str, n: u32) -> Result<usize, FormatError> {
    // SQL lets blanks be cut off silently.
    if explicit || text[at..].bytes().all(|b| b == b' ') {
        return Ok(at);
    }
    Err(FormatError::new(
        "22001",
        format!("value too long for type {ty}({n})"),
    ))
}

/// Fits a string to `varchar(length)`. An explicit cast cuts; an assignment refuses to cut anything
/// but blanks.
///
/// # Errors
/// Too long (22001).
pub fn varchar_fit(text: &str, length: Option<u32>, explicit: bool) -> Result<&str, FormatError> {
    let Some((n, at)) = length.and_then(|n| Some((n, cut_at(text, n)?))) else {
        return Ok(text);
    };
    Ok(&text[..cut(text, at, explicit, "character varying", n)?])
}

/// Fits a string to `character(length)`: cut as by [`varchar_fit`], or padded with blanks.
///
/// # Errors
/// Too long (22001).
pub fn char_fit<'a>(
    text: &'a str,
    length: Option<u32>,
    explicit: bool,
    arena: &'a RowArena,
) -> Result<&'a str, FormatError> {
    let Some(n) = length else { return Ok(text) };
    if let Some(at) = cut_at(text, n) {
        return Ok(&text[..cut(text, at, explicit, "character", n)?]);
    }
    match (n as usize).saturating_sub(text.chars().count()) {
        0 => Ok(text),
        missing => Ok(arena.push_string(text.to_owned() + &" ".repeat(missing))),
    }
}

/// Cuts a string to what fits a `name`.
pub fn name_fit(text: &str) -> &str {
    let mut end = text.len().min(NAME_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What fits a `"char"`.
pub(super) fn first_char(text: &str) -> &str {
    match text.chars().next() {
        Some(first) => &text[..first.len_utf8()],
        None => text,
    }
}
