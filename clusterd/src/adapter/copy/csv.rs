//! One record of the csv format.

use crate::adapter::error::{Result, SqlError};
use planner::statement::CopyOptions;

/// A field of a csv record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub value: String,
    pub quoted: bool,
}

/// Where the record that begins at `bytes[0]` ends, line end excluded, and how long the line end is; `None` if it is not complete.
pub fn record_end(bytes: &[u8], quote: u8, escape: u8, complete: bool) -> Option<(usize, usize)> {
    let mut quoted = false;
    let mut at = 0;
    while at < bytes.len() {
        let b = bytes[at];
        if quoted {
            if b == escape && escape != quote && at + 1 < bytes.len() {
                at += 1;
            } else if b == quote {
                quoted = false;
            }
        } else if b == quote {
            quoted = true;
        } else if b == b'\n' {
            return Some((at, 1));
        } else if b == b'\r' {
            return match bytes.get(at + 1) {
                Some(b'\n') => Some((at, 2)),
                Some(_) => Some((at, 1)),
                None if complete => Some((at, 1)),
                None => None,
            };
        }
        at += 1;
    }
    (complete && !bytes.is_empty()).then_some((bytes.len(), 0))
}

/// Cuts a record into fields.
pub fn split(record: &str, delimiter: u8, quote: u8, escape: u8) -> Result<Vec<Field>> {
    let bytes = record.as_bytes();
    let mut fields = vec![];
    let mut value = vec![];
    let mut was_quoted = false;
    let mut quoted = false;
    let mut at = 0;
    loop {
        match bytes.get(at).copied() {
            None if quoted => return Err(SqlError::new("22P04", "unterminated CSV quoted field")),
            Some(b) if quoted => {
                let next = bytes.get(at + 1).copied();
                if b == escape && matches!(next, Some(n) if n == quote || n == escape) {
                    value.extend(next);
                    at += 1;
                } else if b == quote {
                    quoted = false;
                } else {
                    value.push(b);
                }
            }
            Some(b) if b == quote => {
                quoted = true;
                was_quoted = true;
            }
            Some(b) if b != delimiter => value.push(b),
            end => {
                let text = String::from_utf8(std::mem::take(&mut value)).map_err(|_| {
                    SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\"")
                })?;
                fields.push(Field {
                    value: text,
                    quoted: std::mem::take(&mut was_quoted),
                });
                if end.is_none() {
                    return Ok(fields);
                }
            }
        }
        at += 1;
    }
}

/// Writes a value, quoted where it must be or `force` asks for it. `only`: it is alone on its line.
pub fn write(value: &str, options: &CopyOptions, force: bool, only: bool, out: &mut Vec<u8>) {
    let CopyOptions {
        delimiter,
        quote,
        escape,
        ..
    } = *options;
    let special = |b: u8| b == delimiter || b == quote || b == b'\n' || b == b'\r';
    let needs =
        force || value == options.null || value.bytes().any(special) || only && value == "\\.";
    if !needs {
        out.extend_from_slice(value.as_bytes());
        return;
    }
    out.push(quote);
    for b in value.bytes() {
        if b == quote || b == escape {
            out.push(escape);
        }
        out.push(b);
    }
    out.push(quote);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(record: &str) -> Vec<(String, bool)> {
        split(record, b',', b'"', b'"')
            .unwrap()
            .into_iter()
            .map(|f| (f.value, f.quoted))
            .collect()
    }

    #[test]
    fn quotes_delimiters_and_empty_fields() {
        let f = |v: &str, q| (v.to_owned(), q);
        assert_eq!(
            cut(r#"a,"b,""c""",,"""#.trim_end_matches('"')),
            [
                f("a", false),
                f("b,\"c\"", true),
                f("", false),
                f("", false)
            ]
        );
        assert_eq!(cut("\"\""), [f("", true)]);
        assert!(split("\"open", b',', b'"', b'"').is_err());
    }

    #[test]
    fn a_record_may_span_lines() {
        let data = b"a,\"x\ny\"\r\nb,2\n";
        assert_eq!(record_end(data, b'"', b'"', false), Some((7, 2)));
        assert_eq!(record_end(b"a,\"x\n", b'"', b'"', false), None);
        assert_eq!(record_end(b"last", b'"', b'"', true), Some((4, 0)));
    }
}
