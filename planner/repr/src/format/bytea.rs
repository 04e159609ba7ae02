//! `bytea`.

use std::fmt;

use super::ByteaOutput;
use crate::arena::RowArena;
use crate::error::FormatError;

/// Reads the hex form, or the escape form where there is no `\x`.
pub(super) fn parse<'a>(text: &str, arena: &'a RowArena) -> Result<&'a [u8], FormatError> {
    let bytes = match text.strip_prefix("\\x") {
        Some(hex) => parse_hex(hex)?,
        None => parse_escape(text)?,
    };
    Ok(arena.push_bytes(&bytes))
}

fn parse_hex(hex: &str) -> Result<Vec<u8>, FormatError> {
    let mut bytes = Vec::with_capacity(hex.len() / 2);
    let mut high = None;
    for c in hex.chars() {
        if high.is_none() && matches!(c, ' ' | '\n' | '\t' | '\r') {
            continue;
        }
        let Some(digit) = c.to_digit(16) else {
            return Err(FormatError::new(
                "22023",
                format!("invalid hexadecimal digit: \"{c}\""),
            ));
        };
        match high.take() {
            None => high = Some(digit),
            Some(high) => bytes.push((high << 4 | digit) as u8),
        }
    }
    match high {
        None => Ok(bytes),
        Some(_) => Err(FormatError::new(
            "22023",
            "invalid hexadecimal data: odd number of digits",
        )),
    }
}

fn parse_escape(text: &str) -> Result<Vec<u8>, FormatError> {
    let invalid = || FormatError::new("22P02", "invalid input syntax for type bytea");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [] => return Ok(bytes),
            [b'\\', b'\\', tail @ ..] => {
                bytes.push(b'\\');
                rest = tail;
            }
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                tail @ ..,
            ] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            [b'\\', ..] => return Err(invalid()),
            [byte, tail @ ..] => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
}

pub(super) fn write(bytes: &[u8], output: ByteaOutput, out: &mut dyn fmt::Write) -> fmt::Result {
    match output {
        ByteaOutput::Hex => write_hex(bytes, out),
        ByteaOutput::Escape => write_escape(bytes, out),
    }
}

fn write_hex(bytes: &[u8], out: &mut dyn fmt::Write) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.write_str("\\x")?;
    let mut buffer = [0; 128];
    for chunk in bytes.chunks(buffer.len() / 2) {
        for (pair, byte) in buffer.chunks_exact_mut(2).zip(chunk) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        let text = std::str::from_utf8(&buffer[..chunk.len() * 2]).expect("ASCII digits");
        out.write_str(text)?;
    }
    Ok(())
}

fn write_escape(bytes: &[u8], out: &mut dyn fmt::Write) -> fmt::Result {
    for &byte in bytes {
        match byte {
            b'\\' => out.write_str("\\\\")?,
            b' '..=b'~' => out.write_char(char::from(byte))?,
            byte => write!(out, "\\{byte:03o}")?,
        }
    }
    Ok(())
}
