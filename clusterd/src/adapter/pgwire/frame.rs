//! Cutting client bytes into messages: lengths are checked before anything is allocated, and a body is read only as far as it has bytes.
//!
//! The formats are those of PostgreSQL 15, chapter 55.7. They are read here and not by crate pgwire, whose decoders trust their input (a short
//! body panics) and copy each string and value out of the buffer on its own.

use bytes::{Buf, Bytes, BytesMut};

/// Longest message of ordinary kinds: a statement, a bound value, a piece of COPY data.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest message of the kinds that only carry names.
const SMALL_MESSAGE_BYTES_MAX: usize = 10_000;

/// What a client says after start-up. An empty name is that of the unnamed statement or portal.
#[derive(Debug, PartialEq)]
pub enum Message {
    Query(String),
    Parse {
        name: String,
        query: String,
        type_oids: Vec<u32>,
    },
    Bind {
        portal: String,
        statement: String,
        param_formats: Vec<i16>,
        /// `None`: NULL.
        values: Vec<Option<Bytes>>,
        formats: Vec<i16>,
    },
    Describe(Target, String),
    Execute {
        portal: String,
        /// Not positive: all.
        rows_max: i32,
    },
    Close(Target, String),
    Sync,
    Flush,
    CopyData(Bytes),
    CopyDone,
    CopyFail(String),
    Password,
    Terminate,
}

/// What Describe and Close are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Statement,
    Portal,
}

/// A violation of the protocol; the connection cannot go on after it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ProtocolViolation {
    pub message: String,
    /// SQLSTATE: 08P01, or 54000 for a message that is too long.
    pub sqlstate: &'static str,
}

fn violation(message: impl Into<String>) -> ProtocolViolation {
    ProtocolViolation {
        message: message.into(),
        sqlstate: "08P01",
    }
}

/// Takes the next complete message out of `input`; `None` if more bytes are needed.
pub fn next_message(input: &mut BytesMut) -> Result<Option<Message>, ProtocolViolation> {
    if input.len() < 5 {
        return Ok(None);
    }
    let kind = input[0];
    let length = (&input[1..5]).get_i32();
    let max = length_max(kind)?;
    let length = usize::try_from(length).ok().filter(|l| *l >= 4);
    let Some(length) = length else {
        return Err(violation(format!(
            "invalid message length for message type \"{}\"",
            printable(kind)
        )));
    };
    if length > max {
        return Err(ProtocolViolation {
            message: format!(
                "message of type \"{}\" has {length} bytes, at most {max} are allowed",
                printable(kind)
            ),
            sqlstate: "54000",
        });
    }
    if input.len() < 1 + length {
        input.reserve(1 + length - input.len());
        return Ok(None);
    }
    if length == 4 {
        input.advance(5);
        return message(kind, Bytes::new()).map(Some);
    }
    let mut frame = input.split_to(1 + length);
    frame.advance(5);
    message(kind, frame.freeze()).map(Some)
}

fn printable(kind: u8) -> char {
    if kind.is_ascii_graphic() {
        char::from(kind)
    } else {
        '?'
    }
}

fn length_max(kind: u8) -> Result<usize, ProtocolViolation> {
    match kind {
        b'Q' | b'P' | b'B' | b'd' => Ok(MESSAGE_BYTES_MAX),
        b'C' | b'D' | b'E' | b'F' | b'H' | b'S' | b'X' | b'c' | b'f' | b'p' => {
            Ok(SMALL_MESSAGE_BYTES_MAX)
        }
        _ => Err(violation(format!("invalid frontend message type {kind}"))),
    }
}

/// Reads a body: every string ends, every count is backed by bytes, nothing is left over.
fn message(kind: u8, body: Bytes) -> Result<Message, ProtocolViolation> {
    let mut reader = Reader { body, at: 0 };
    let message = match kind {
        b'Q' => Message::Query(reader.string()?),
        b'P' => Message::Parse {
            name: reader.string()?,
            query: reader.string()?,
            type_oids: reader.list(u32::from_be_bytes)?,
        },
        b'B' => Message::Bind {
            portal: reader.string()?,
            statement: reader.string()?,
            param_formats: reader.list(i16::from_be_bytes)?,
            values: reader.values()?,
            formats: reader.list(i16::from_be_bytes)?,
        },
        b'C' => Message::Close(reader.target()?, reader.string()?),
        b'D' => Message::Describe(reader.target()?, reader.string()?),
        b'E' => Message::Execute {
            portal: reader.string()?,
            rows_max: i32::from_be_bytes(reader.array()?),
        },
        b'H' => Message::Flush,
        b'S' => Message::Sync,
        b'X' => Message::Terminate,
        b'c' => Message::CopyDone,
        b'd' => Message::CopyData(reader.rest()),
        b'f' => Message::CopyFail(reader.string()?),
        b'p' => {
            reader.rest();
            Message::Password
        }
        _ => return Err(violation(format!("invalid frontend message type {kind}"))),
    };
    if reader.left().is_empty() {
        Ok(message)
    } else {
        Err(violation("invalid message format: trailing bytes"))
    }
}

struct Reader {
    body: Bytes,
    at: usize,
}

impl Reader {
    fn left(&self) -> &[u8] {
        &self.body[self.at..]
    }

    fn rest(&mut self) -> Bytes {
        let rest = self.body.slice(self.at..);
        self.at = self.body.len();
        rest
    }

    fn take(&mut self, n: usize) -> Result<&[u8], ProtocolViolation> {
        let start = self.at;
        if self.left().len() < n {
            return Err(violation("insufficient data left in message"));
        }
        self.at += n;
        Ok(&self.body[start..self.at])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtocolViolation> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn target(&mut self) -> Result<Target, ProtocolViolation> {
        match self.left().first() {
            Some(b'S') => {
                self.at += 1;
                Ok(Target::Statement)
            }
            Some(b'P') => {
                self.at += 1;
                Ok(Target::Portal)
            }
            Some(_) | None => Err(violation("invalid DESCRIBE or CLOSE message subtype")),
        }
    }

    fn string(&mut self) -> Result<String, ProtocolViolation> {
        let Some(end) = self.left().iter().position(|b| *b == 0) else {
            return Err(violation("invalid string in message"));
        };
        let Ok(text) = std::str::from_utf8(&self.left()[..end]) else {
            return Err(ProtocolViolation {
                message: "invalid byte sequence for encoding \"UTF8\"".to_owned(),
                sqlstate: "22021",
            });
        };
        let text = text.to_owned();
        self.at += end + 1;
        Ok(text)
    }

    fn count(&mut self) -> Result<usize, ProtocolViolation> {
        Ok(usize::from(u16::from_be_bytes(self.array()?)))
    }

    /// A count, and as many items of `N` bytes.
    fn list<const N: usize, T>(
        &mut self,
        item: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, ProtocolViolation> {
        let count = self.count()?;
        let (items, _) = self.take(count * N)?.as_chunks::<N>();
        Ok(items.iter().map(|bytes| item(*bytes)).collect())
    }

    fn values(&mut self) -> Result<Vec<Option<Bytes>>, ProtocolViolation> {
        let count = self.count()?;
        // Each has a length of four bytes: a count without them allocates nothing.
        let mut values = Vec::with_capacity(count.min(self.left().len() / 4));
        for _ in 0..count {
            values.push(self.value()?);
        }
        Ok(values)
    }

    fn value(&mut self) -> Result<Option<Bytes>, ProtocolViolation> {
        let length = i32::from_be_bytes(self.array()?);
        match length {
            -1 => Ok(None),
            0.. => {
                let start = self.at;
                self.take(length.unsigned_abs() as usize)?;
                Ok(Some(self.body.slice(start..self.at)))
            }
            _ => Err(violation("invalid parameter length in message")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, body: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::from(&[kind][..]);
        bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn whole_message_is_decoded_and_half_of_one_waits() {
        let whole = frame(b'Q', b"select 1\0");
        let mut half = BytesMut::from(&whole[..7]);
        assert!(next_message(&mut half).unwrap().is_none());
        let mut input = whole;
        assert_eq!(
            next_message(&mut input).unwrap(),
            Some(Message::Query("select 1".into()))
        );
        assert!(input.is_empty());
    }

    #[test]
    fn every_kind_is_read_as_it_is_laid_out() {
        let mut input = BytesMut::new();
        for (kind, body) in [
            (b'P', &b"s\0select $1\0\x00\x01\x00\x00\x00\x17"[..]),
            (
                b'B',
                &b"p\0s\0\x00\x01\x00\x01\x00\x03\x00\x00\x00\x02ab\xff\xff\xff\xff\x00\x00\x00\x00\x00\x02\x00\x00\x00\x01"[..],
            ),
            (b'D', &b"Ss\0"[..]),
            (b'E', &b"p\0\x00\x00\x00\x07"[..]),
            (b'C', &b"P\0"[..]),
            (b'S', &b""[..]),
            (b'd', &b"1\t2\n"[..]),
            (b'f', &b"why\0"[..]),
            (b'X', &b""[..]),
        ] {
            input.extend_from_slice(&frame(kind, body));
        }
        let mut read = vec![];
        while let Some(message) = next_message(&mut input).unwrap() {
            read.push(message);
        }
        assert_eq!(
            read,
            [
                Message::Parse {
                    name: "s".into(),
                    query: "select $1".into(),
                    type_oids: vec![23],
                },
                Message::Bind {
                    portal: "p".into(),
                    statement: "s".into(),
                    param_formats: vec![1],
                    values: vec![Some("ab".into()), None, Some("".into())],
                    formats: vec![0, 1],
                },
                Message::Describe(Target::Statement, "s".into()),
                Message::Execute {
                    portal: "p".into(),
                    rows_max: 7,
                },
                Message::Close(Target::Portal, String::new()),
                Message::Sync,
                Message::CopyData("1\t2\n".into()),
                Message::CopyFail("why".into()),
                Message::Terminate,
            ]
        );
    }

    #[test]
    fn lying_counts_and_lengths_are_refused() {
        for (kind, body) in [
            (b'Q', &b"no end"[..]),
            (b'P', &b"\0select 1\0\x00\x09"[..]),
            (b'B', &b"\0\0\x00\x00\x00\x01\x7f\xff\xff\xff\x00\x00"[..]),
            (b'B', &b"\0\0\x00\x00\x00\x01\xff\xff\xff\x00\x00\x00"[..]),
            (b'E', &b"\0\x00"[..]),
            (b'D', &b"X\0"[..]),
            (b'S', &b"more"[..]),
            (b'Q', &b"\xff\xfe\0"[..]),
        ] {
            assert!(
                next_message(&mut frame(kind, body)).is_err(),
                "{} {body:?}",
                char::from(kind)
            );
        }
    }

    #[test]
    fn a_huge_length_is_refused_before_it_is_read() {
        let mut input = BytesMut::from(&b"Q\x7f\xff\xff\xff"[..]);
        assert_eq!(next_message(&mut input).unwrap_err().sqlstate, "54000");
        assert!(input.capacity() < 1024);
    }

    #[test]
    fn random_bytes_never_panic() {
        use rand::{Rng, RngExt, SeedableRng};
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        for _ in 0..20_000 {
            let mut body = vec![0; rng.random_range(0..40)];
            rng.fill_bytes(&mut body);
            let kind = b"QPBCDEFHSXcdfp"[rng.random_range(0..14)];
            let _ = next_message(&mut frame(kind, &body));
        }
    }
}
