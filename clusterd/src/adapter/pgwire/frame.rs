//! Cutting client bytes into messages: lengths are checked before anything is allocated, bodies before they are decoded.
//!
//! pgwire's decoders trust their input (a short body panics), so every body is walked once here, by the message formats of PostgreSQL 15,
//! chapter 55.7, and only a well-formed one is handed on.

use bytes::{Buf, BytesMut};
use pgwire::messages::{DecodeContext, PgWireFrontendMessage, ProtocolVersion};

/// Longest message of ordinary kinds: a statement, a bound value, a piece of COPY data.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest message of the kinds that only carry names.
const SMALL_MESSAGE_BYTES_MAX: usize = 10_000;

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

/// The context in which pgwire decodes messages after start-up.
pub fn ready_context() -> DecodeContext {
    let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    context.awaiting_frontend_ssl = false;
    context.awaiting_frontend_startup = false;
    context
}

/// Takes the next complete message out of `input`; `None` if more bytes are needed.
pub fn next_message(
    input: &mut BytesMut,
    context: &DecodeContext,
) -> Result<Option<PgWireFrontendMessage>, ProtocolViolation> {
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
    let mut frame = input.split_to(1 + length);
    check_body(kind, &frame[5..])?;
    match PgWireFrontendMessage::decode(&mut frame, context) {
        Ok(Some(message)) => Ok(Some(message)),
        Ok(None) => Err(violation("invalid message format")),
        Err(error) => Err(violation(error.to_string())),
    }
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

/// Walks a body: every string ends, every count is backed by bytes, nothing is left over.
fn check_body(kind: u8, body: &[u8]) -> Result<(), ProtocolViolation> {
    let mut walk = Walk { rest: body };
    match kind {
        b'Q' | b'f' => walk.string()?,
        b'P' => {
            walk.string()?;
            walk.string()?;
            let count = walk.count()?;
            walk.skip(count * 4)?;
        }
        b'B' => {
            walk.string()?;
            walk.string()?;
            let formats = walk.count()?;
            walk.skip(formats * 2)?;
            for _ in 0..walk.count()? {
                walk.value()?;
            }
            let formats = walk.count()?;
            walk.skip(formats * 2)?;
        }
        b'C' | b'D' => {
            let target = walk.rest.first().copied();
            if !matches!(target, Some(b'S' | b'P')) {
                return Err(violation("invalid DESCRIBE or CLOSE message subtype"));
            }
            walk.skip(1)?;
            walk.string()?;
        }
        b'E' => {
            walk.string()?;
            walk.skip(4)?;
        }
        b'H' | b'S' | b'X' | b'c' => {}
        b'd' | b'p' => walk.rest = &[],
        _ => return Err(violation(format!("invalid frontend message type {kind}"))),
    }
    if walk.rest.is_empty() {
        Ok(())
    } else {
        Err(violation("invalid message format: trailing bytes"))
    }
}

struct Walk<'a> {
    rest: &'a [u8],
}

impl Walk<'_> {
    fn skip(&mut self, n: usize) -> Result<(), ProtocolViolation> {
        if self.rest.len() < n {
            return Err(violation("insufficient data left in message"));
        }
        self.rest = &self.rest[n..];
        Ok(())
    }

    fn string(&mut self) -> Result<(), ProtocolViolation> {
        let Some(end) = self.rest.iter().position(|b| *b == 0) else {
            return Err(violation("invalid string in message"));
        };
        if std::str::from_utf8(&self.rest[..end]).is_err() {
            return Err(ProtocolViolation {
                message: "invalid byte sequence for encoding \"UTF8\"".to_owned(),
                sqlstate: "22021",
            });
        }
        self.skip(end + 1)
    }

    fn count(&mut self) -> Result<usize, ProtocolViolation> {
        let bytes = self.rest;
        self.skip(2)?;
        Ok(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    }

    fn value(&mut self) -> Result<(), ProtocolViolation> {
        let bytes = self.rest;
        self.skip(4)?;
        let length = i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        match length {
            -1 => Ok(()),
            0.. => self.skip(length.unsigned_abs() as usize),
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
        assert!(next_message(&mut half, &ready_context()).unwrap().is_none());
        let mut input = whole;
        assert!(matches!(
            next_message(&mut input, &ready_context()),
            Ok(Some(PgWireFrontendMessage::Query(_)))
        ));
        assert!(input.is_empty());
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
                next_message(&mut frame(kind, body), &ready_context()).is_err(),
                "{} {body:?}",
                char::from(kind)
            );
        }
    }

    #[test]
    fn a_huge_length_is_refused_before_it_is_read() {
        let mut input = BytesMut::from(&b"Q\x7f\xff\xff\xff"[..]);
        assert_eq!(
            next_message(&mut input, &ready_context())
                .unwrap_err()
                .sqlstate,
            "54000"
        );
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
            let _ = next_message(&mut frame(kind, &body), &ready_context());
        }
    }
}
