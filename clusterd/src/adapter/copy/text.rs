//! One line of the text format.

use crate::adapter::error::{Result, SqlError};

/// Cuts a line (without its end) into fields; `None` is NULL. Escapes are resolved.
pub fn split<'a>(
    line: &'a str,
    delimiter: u8,
    null: &str,
    fields: &mut Vec<Option<std::borrow::Cow<'a, str>>>,
) -> Result<()> {
    fields.clear();
    let bytes = line.as_bytes();
    let mut start = 0;
    let mut at = 0;
    let mut escaped = false;
    loop {
        match bytes.get(at) {
            Some(b'\\') => {
                escaped = true;
                at += 2;
            }
            Some(b) if *b != delimiter => at += 1,
            end => {
                let raw = line
                    .get(start..at.min(line.len()))
                    .ok_or_else(|| SqlError::new("22021", "a multi-byte character is escaped"))?;
                fields.push(if raw == null {
                    None
                } else if escaped {
                    Some(std::borrow::Cow::Owned(unescape(raw)?))
                } else {
                    Some(std::borrow::Cow::Borrowed(raw))
                });
                if end.is_none() {
                    return Ok(());
                }
                at += 1;
                start = at;
                escaped = false;
            }
        }
    }
}

fn unescape(raw: &str) -> Result<String> {
    let bytes = raw.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' || at + 1 == bytes.len() {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        at += 1;
        match bytes[at] {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'x' if bytes.get(at + 1).is_some_and(u8::is_ascii_hexdigit) => {
                at = number(bytes, at + 1, 16, 2, &mut out);
                continue;
            }
            b'0'..=b'7' => {
                at = number(bytes, at, 8, 3, &mut out);
                continue;
            }
            other => out.push(other),
        }
        at += 1;
    }
    String::from_utf8(out)
        .map_err(|_| SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\""))
}

/// Reads up to `digits` digits as one byte; the position behind them.
fn number(bytes: &[u8], mut at: usize, base: u32, digits: usize, out: &mut Vec<u8>) -> usize {
    let mut value = 0;
    let end = at + digits;
    while at < end.min(bytes.len()) {
        let Some(digit) = char::from(bytes[at]).to_digit(base) else {
            break;
        };
        value = value * base + digit;
        at += 1;
    }
    out.push((value & 0xff) as u8);
    at
}

/// Writes a value with its escapes.
pub fn escape(value: &str, delimiter: u8, out: &mut Vec<u8>) {
    for b in value.bytes() {
        let letter = match b {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            b if b == delimiter => b,
            b => {
                out.push(b);
                continue;
            }
        };
        out.extend([b'\\', letter]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(line: &str) -> Vec<Option<String>> {
        let mut fields = vec![];
        split(line, b'\t', "\\N", &mut fields).unwrap();
        fields
            .into_iter()
            .map(|f| f.map(|f| f.into_owned()))
            .collect()
    }

    #[test]
    fn fields_nulls_and_escapes() {
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(cut("a\t\\N\t"), [some("a"), None, some("")]);
        assert_eq!(
            cut("x\\ty\\\\\t\\x41\\101\\q\\\t"),
            [some("x\ty\\"), some("AAq\t")]
        );
        assert_eq!(cut(""), [some("")]);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for value in [
            "plain",
            "tab\tnewline\nback\\slash\r\u{8}\u{b}\u{c}",
            "ž",
            "\\N",
            "",
        ] {
            let mut out = vec![];
            escape(value, b'\t', &mut out);
            assert_eq!(
                cut(std::str::from_utf8(&out).unwrap()),
                [Some(value.to_owned())]
            );
        }
    }
}
