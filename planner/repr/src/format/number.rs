//! Numbers, booleans and UUIDs.

use std::fmt;

use super::{invalid_syntax, trim};
use crate::datum::Uuid;
use crate::error::FormatError;
use crate::numeric::{Numeric, NumericError, NumericParseError};
use crate::types::NumericTypmod;

impl From<NumericError> for FormatError {
    fn from(error: NumericError) -> FormatError {
        let converted = FormatError::new(error.sqlstate(), error.to_string());
        match error.detail() {
            Some(detail) => converted.with_detail(detail),
            None => converted,
        }
    }
}

fn out_of_range(text: &str, ty: &str) -> FormatError {
    FormatError::new(
        "22003",
        format!("value \"{text}\" is out of range for type {ty}"),
    )
}

/// Reads any unique prefix of true, false, yes, no, on, off, and 1 and 0.
pub(super) fn parse_bool(text: &str) -> Result<bool, FormatError> {
    let word = trim(text).to_ascii_lowercase();
    let is_prefix_of = |full: &str| !word.is_empty() && full.starts_with(&word);
    if is_prefix_of("true") || is_prefix_of("yes") || word == "on" || word == "1" {
        Ok(true)
    } else if is_prefix_of("false")
        || is_prefix_of("no")
        || word == "of"
        || word == "off"
        || word == "0"
    {
        Ok(false)
    } else {
        Err(invalid_syntax("22P02", "boolean", text))
    }
}

/// The value of `[+-]digits`, saturated; `None` if it is anything else.
fn parse_digits(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value: i64 = 0;
    let mut wide: Option<i128> = None;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        match value
            .checked_mul(10)
            .and_then(|v| v.checked_add(digit.into()))
        {
            Some(next) if wide.is_none() => value = next,
            _ => {
                let so_far = wide.unwrap_or(value.into());
                wide = Some(so_far.saturating_mul(10).saturating_add(digit.into()));
            }
        }
    }
    let magnitude = wide.unwrap_or(value.into());
    Some(if negative { -magnitude } else { magnitude })
}

/// Reads an integer of a Rust type, which is called `ty` in SQL.
pub(super) fn parse_int<T: TryFrom<i128>>(text: &str, ty: &str) -> Result<T, FormatError> {
    let value = parse_digits(trim(text)).ok_or_else(|| invalid_syntax("22P02", ty, text))?;
    T::try_from(value).map_err(|_| out_of_range(text, ty))
}

/// Reads an unsigned 32-bit number; negative ones wrap, as in C.
pub(super) fn parse_oid(text: &str, ty: &str) -> Result<u32, FormatError> {
    let value = parse_digits(trim(text)).ok_or_else(|| invalid_syntax("22P02", ty, text))?;
    u32::try_from(value)
        .or_else(|_| i32::try_from(value).map(|negative| negative as u32))
        .map_err(|_| out_of_range(text, ty))
}

pub(super) fn parse_mz_timestamp(text: &str) -> Result<u64, FormatError> {
    parse_int(text, "mz_timestamp")
}

fn is_zero_text(text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    !mantissa.bytes().any(|b| (b'1'..=b'9').contains(&b))
}

macro_rules! parse_float {
    ($name:ident, $ty:ty, $sql:literal) => {
        pub(super) fn $name(text: &str) -> Result<$ty, FormatError> {
            let trimmed = trim(text);
            let value = trimmed
                .parse::<$ty>()
                .map_err(|_| invalid_syntax("22P02", $sql, text))?;
            let has_digits = trimmed.bytes().any(|b| b.is_ascii_digit());
            let overflow = value.is_infinite() && has_digits;
            if overflow || (value == 0.0 && !is_zero_text(trimmed)) {
                return Err(FormatError::new(
                    "22003",
                    format!("\"{trimmed}\" is out of range for type {}", $sql),
                ));
            }
            Ok(value)
        }
    };
}

parse_float!(parse_float32, f32, "real");
parse_float!(parse_float64, f64, "double precision");

pub(super) fn parse_numeric(
    text: &str,
    typmod: Option<NumericTypmod>,
) -> Result<Numeric, FormatError> {
    let number = Numeric::parse(text).map_err(|error| match error {
        NumericParseError::Syntax => invalid_syntax("22P02", "numeric", text),
        NumericParseError::Overflow => NumericError::Overflow.into(),
    })?;
    match typmod {
        Some(typmod) => Ok(number.apply_typmod(typmod)?),
        None => Ok(number),
    }
}

/// Reads 32 hex digits, with hyphens after every fourth where wanted, in braces or not.
pub(super) fn parse_uuid(text: &str) -> Result<Uuid, FormatError> {
    parse_uuid_bytes(text)
        .map(Uuid)
        .ok_or_else(|| invalid_syntax("22P02", "uuid", text))
}

fn parse_uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let body = match text.strip_prefix('{') {
        Some(open) => open.strip_suffix('}')?,
        None => text,
    };
    let mut rest = body.bytes();
    let hex = |byte: u8| char::from(byte).to_digit(16);
    let mut uuid = [0; 16];
    let mut next = rest.next();
    for (index, byte) in uuid.iter_mut().enumerate() {
        if index > 0 && index % 2 == 0 && next == Some(b'-') {
            next = rest.next();
        }
        let high = hex(next?)?;
        let low = hex(rest.next()?)?;
        *byte = (high << 4 | low) as u8;
        next = rest.next();
    }
    next.is_none().then_some(uuid)
}

pub(super) fn write_uuid(uuid: Uuid, out: &mut dyn fmt::Write) -> fmt::Result {
    write!(out, "{}", uuid::Uuid::from_bytes(uuid.0).as_hyphenated())
}

pub(super) fn write_int(value: i64, out: &mut dyn fmt::Write) -> fmt::Result {
    let mut buffer = [0u8; 20];
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    out.write_str(std::str::from_utf8(&buffer[at..]).expect("ASCII digits"))
}
