//! One record of the csv format.

use crate::adapter::error::{Result, SqlError};
use planner::statement::CopyOptions;

/// A field of a csv record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub value: String,
    pub quoted: bool,
}

/// How far the search for a record's end has come: data that arrives in pieces is looked at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordScan {
    /// Everything before is searched.
    at: usize,
    quoted: bool,
}

impl RecordScan {
    /// Where the record that begins at `bytes[0]` ends, line end excluded, and how long the line end is; `None` if it is not complete: then the next call
    /// must come with the same bytes and more behind them. After an end the scan stands at the start of a record again.
    pub fn end(
        &mut self,
        bytes: &[u8],
        quote: u8,
        escape: u8,
        complete: bool,
    ) -> Option<(usize, usize)> {
        while let Some(&b) = bytes.get(self.at) {
            let next = bytes.get(self.at + 1);
            if self.quoted {
                if b == escape && escape != quote {
                    // What is escaped may not be there yet.
                    if next.is_none() && !complete {
                        return None;
                    }
                    self.at += 1;
                } else if b == quote {
                    self.quoted = false;
                }
            } else if b == quote {
                self.quoted = true;
            } else if b == b'\n' {
                return Some((std::mem::take(self).at, 1));
            } else if b == b'\r' {
                let length = match next {
                    Some(b'\n') => 2,
                    Some(_) => 1,
                    None if complete => 1,
                    None => return None,
                };
                return Some((std::mem::take(self).at, length));
            }
            self.at += 1;
        }
        if !complete || bytes.is_empty() {
            return None;
        }
        *self = RecordScan::default();
        Some((bytes.len(), 0))
    }
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
        let end = |data: &[u8], complete| RecordScan::default().end(data, b'"', b'"', complete);
        assert_eq!(end(data, false), Some((7, 2)));
        assert_eq!(end(b"a,\"x\n", false), None);
        assert_eq!(end(b"last", true), Some((4, 0)));
    }

    /// However the data is cut into pieces, the records are the same.
    #[test]
    fn a_search_that_goes_on_finds_what_one_search_finds() {
        let data: &[u8] = b"a,\"x\ny\"\r\nb,\"\\\"q\n\\\\\"\n\rlast,\"\"";
        for (escape, count) in [(b'"', 3), (b'\\', 4)] {
            let whole = records(data, &[data.len()], escape);
            assert_eq!(whole.len(), count, "{whole:?}");
            for cut in 0..data.len() {
                assert_eq!(records(data, &[cut, data.len()], escape), whole, "{cut}");
            }
            let bytewise: Vec<_> = (1..=data.len()).collect();
            assert_eq!(records(data, &bytewise, escape), whole);
        }
    }

    /// The records of data that has arrived up to each of `arrived` in turn.
    fn records(data: &[u8], arrived: &[usize], escape: u8) -> Vec<Vec<u8>> {
        let (mut found, mut start) = (vec![], 0);
        let mut scan = RecordScan::default();
        for (i, end) in arrived.iter().enumerate() {
            let complete = i + 1 == arrived.len();
            while let Some((length, line_end)) =
                scan.end(&data[start..*end], b'"', escape, complete)
            {
                found.push(data[start..start + length].to_vec());
                start += length + line_end;
            }
        }
        found
    }

    #[test]
    fn a_huge_record_is_searched_once() {
        let mut scan = RecordScan::default();
        let mut data = vec![b'"'];
        for piece in 1..=64 {
            data.resize(piece * 1024, b'x');
            assert_eq!(scan.end(&data, b'"', b'"', false), None);
            assert_eq!(scan.at, data.len());
        }
        data.extend(b"\"\n");
        assert_eq!(scan.end(&data, b'"', b'"', false), Some((64 * 1024 + 1, 1)));
    }
}
