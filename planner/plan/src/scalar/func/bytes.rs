//! bytea: parts, and its encodings as text.

use super::text::{check_length, too_long};
use super::{EvalResult, FuncDef, hash};
use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use repr::{Datum, RowArena, SqlType};

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::fallible("byteacat", |_, _, a, arena| {
        let joined = [a[0].unwrap_bytes(), a[1].unwrap_bytes()].concat();
        check_length(joined.len())?;
        Ok(Datum::Bytes(arena.push_bytes(&joined)))
    }),
    FuncDef::strict("byteaoctetlen", |_, _, a, _| {
        Ok(Datum::Int32(a[0].unwrap_bytes().len() as i32))
    }),
    FuncDef::fallible("bytea_substr", |_, _, a, _| {
        substr(
            a[0].unwrap_bytes(),
            a[1].unwrap_int32(),
            Some(a[2].unwrap_int32()),
        )
    }),
    FuncDef::strict("bytea_substr_no_len", |_, _, a, _| {
        substr(a[0].unwrap_bytes(), a[1].unwrap_int32(), None)
    }),
    FuncDef::strict("byteapos", byteapos),
    FuncDef::strict("bytealike", |_, _, a, _| {
        // LIKE over bytes: Latin-1 maps each byte to one character.
        let latin = |d: Datum<'_>| {
            d.unwrap_bytes()
                .iter()
                .map(|b| char::from(*b))
                .collect::<String>()
        };
        Ok(Datum::Bool(super::pattern::like(
            &latin(a[0]),
            &latin(a[1]),
        )?))
    })
    .erring(),
    FuncDef::strict("byteatrim", |_, _, a, _| {
        let set = a[1].unwrap_bytes();
        let mut bytes = a[0].unwrap_bytes();
        while let [first, rest @ ..] = bytes
            && set.contains(first)
        {
            bytes = rest;
        }
        while let [rest @ .., last] = bytes
            && set.contains(last)
        {
            bytes = rest;
        }
        Ok(Datum::Bytes(bytes))
    }),
    FuncDef::fallible("byteaGetByte", |_, _, a, _| {
        let (bytes, at) = (a[0].unwrap_bytes(), a[1].unwrap_int32());
        let found = usize::try_from(at).ok().and_then(|i| bytes.get(i));
        match found {
            Some(byte) => Ok(Datum::Int32(i32::from(*byte))),
            None => Err(EvalError::new(
                "2202E",
                format!(
                    "index {at} out of valid range, 0..{}",
                    bytes.len() as i64 - 1
                ),
            )),
        }
    }),
    FuncDef::strict("md5_bytea", |_, _, a, arena| {
        Ok(Datum::String(
            arena.push_string(hash::md5_hex(a[0].unwrap_bytes())),
        ))
    }),
    FuncDef::fallible("binary_encode", binary_encode),
    FuncDef::fallible("binary_decode", binary_decode),
    FuncDef::fallible("pg_convert_from", pg_convert_from),
    FuncDef::fallible("pg_convert_to", |_, _, a, _| {
        check_encoding(a[1].unwrap_str())?;
        Ok(Datum::Bytes(a[0].unwrap_str().as_bytes()))
    }),
];

fn substr<'a>(bytes: &'a [u8], start: i32, length: Option<i32>) -> EvalResult<'a> {
    let start = i64::from(start);
    let end = match length {
        Some(n) if n < 0 => {
            return Err(EvalError::new(
                "22011",
                "negative substring length not allowed",
            ));
        }
        Some(n) => start + i64::from(n) - 1,
        None => bytes.len() as i64,
    };
    let from = (start.max(1) - 1).min(bytes.len() as i64) as usize;
    let to = end.clamp(from as i64, bytes.len() as i64) as usize;
    Ok(Datum::Bytes(&bytes[from..to]))
}

fn byteapos<'a>(_: &EvalCtx, _: &SqlType, a: &[Datum<'a>], _: &'a RowArena) -> EvalResult<'a> {
    let (bytes, part) = (a[0].unwrap_bytes(), a[1].unwrap_bytes());
    let found = if part.is_empty() {
        Some(0)
    } else {
        bytes.windows(part.len()).position(|w| w == part)
    };
    Ok(Datum::Int32(found.map_or(0, |at| at as i32 + 1)))
}

fn unrecognized(format: &str) -> EvalError {
    EvalError::new("22023", format!("unrecognized encoding: \"{format}\""))
}

fn binary_encode<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    let (bytes, format) = (a[0].unwrap_bytes(), a[1].unwrap_str());
    if bytes.len() > super::text::TEXT_BYTES_MAX / 4 {
        return Err(too_long());
    }
    let text = match format.to_ascii_lowercase().as_str() {
        "hex" => hash::hex(bytes),
        "base64" => base64(bytes),
        "escape" => escape(bytes),
        _ => return Err(unrecognized(format)),
    };
    Ok(Datum::String(arena.push_string(text)))
}

fn binary_decode<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    let (text, format) = (a[0].unwrap_str(), a[1].unwrap_str());
    let bytes = match format.to_ascii_lowercase().as_str() {
        "hex" => unhex(text)?,
        "base64" => unbase64(text)?,
        "escape" => unescape(text)?,
        _ => return Err(unrecognized(format)),
    };
    Ok(Datum::Bytes(arena.push_bytes(&bytes)))
}

fn unhex(text: &str) -> Result<Vec<u8>, EvalError> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut high = None;
    for c in text
        .chars()
        .filter(|c| !matches!(c, ' ' | '\n' | '\t' | '\r'))
    {
        let Some(digit) = c.to_digit(16) else {
            return Err(EvalError::new(
                "22023",
                format!("invalid hexadecimal digit: \"{c}\""),
            ));
        };
        match high.take() {
            None => high = Some(digit),
            Some(first) => bytes.push((first * 16 + digit) as u8),
        }
    }
    match high {
        None => Ok(bytes),
        Some(_) => Err(EvalError::new(
            "22023",
            "invalid hexadecimal data: odd number of digits",
        )),
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// With a line break after every 76 characters, as RFC 2045 asks.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (i, chunk) in bytes.chunks(3).enumerate() {
        if i > 0 && i % 19 == 0 {
            text.push('\n');
        }
        let word =
            chunk.iter().fold(0u32, |word, b| word << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let six = (word >> (18 - 6 * position)) & 63;
            text.push(if position <= chunk.len() {
                char::from(BASE64[six as usize])
            } else {
                '='
            });
        }
    }
    text
}

fn unbase64(text: &str) -> Result<Vec<u8>, EvalError> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut digits, mut padding) = (0u32, 0, 0);
    for c in text
        .chars()
        .filter(|c| !matches!(c, ' ' | '\n' | '\t' | '\r'))
    {
        let value = match BASE64.iter().position(|b| char::from(*b) == c) {
            Some(value) if padding == 0 => value as u32,
            None if c == '=' && digits >= 2 => {
                padding += 1;
                0
            }
            _ if c == '=' => {
                return Err(EvalError::new(
                    "22023",
                    "unexpected \"=\" while decoding base64 sequence",
                ));
            }
            _ => {
                return Err(EvalError::new(
                    "22023",
                    format!("invalid symbol \"{c}\" found while decoding base64 sequence"),
                ));
            }
        };
        word = word << 6 | value;
        digits += 1;
        if digits == 4 {
            bytes.extend_from_slice(&word.to_be_bytes()[1..4 - padding]);
            (word, digits, padding) = (0, 0, 0);
        }
    }
    if digits == 0 {
        return Ok(bytes);
    }
    let mut error = EvalError::new("22023", "invalid base64 end sequence");
    error.hint =
        Some("Input data is missing padding, is truncated, or is otherwise corrupted.".to_owned());
    Err(error)
}

/// Zero and bytes beyond ASCII as `\nnn`, the backslash doubled.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            0 | 0x80.. => text.push_str(&format!("\\{byte:03o}")),
            plain => text.push(char::from(*plain)),
        }
    }
    text
}

fn unescape(text: &str) -> Result<Vec<u8>, EvalError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                after
            }
            (
                b'\\',
                [
                    x @ b'0'..=b'3',
                    y @ b'0'..=b'7',
                    z @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => {
                bytes.push((x - b'0') << 6 | (y - b'0') << 3 | (z - b'0'));
                after
            }
            (b'\\', _) => {
                return Err(EvalError::new(
                    "22P02",
                    "invalid input syntax for type bytea",
                ));
            }
            (plain, after) => {
                bytes.push(*plain);
                after
            }
        };
    }
    Ok(bytes)
}

fn check_encoding(name: &str) -> Result<(), EvalError> {
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    match letters.to_ascii_lowercase().as_str() {
        "utf8" | "unicode" => Ok(()),
        _ => Err(EvalError::new(
            "22023",
            format!("encoding \"{name}\" is not supported"),
        )),
    }
}

fn pg_convert_from<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    _: &'a RowArena,
) -> EvalResult<'a> {
    check_encoding(a[1].unwrap_str())?;
    match std::str::from_utf8(a[0].unwrap_bytes()) {
        Ok(text) if !text.contains('\0') => Ok(Datum::String(text)),
        Ok(_) => Err(EvalError::new(
            "22021",
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        )),
        Err(e) => {
            let bad = a[0].unwrap_bytes()[e.valid_up_to()];
            Err(EvalError::new(
                "22021",
                format!("invalid byte sequence for encoding \"UTF8\": 0x{bad:02x}"),
            ))
        }
    }
}
