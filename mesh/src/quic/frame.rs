//! Messages as bytes.
//!
//! A frame is a length (4 bytes, little-endian, of what follows), a tag, the tag's fixed fields, and the body. Small messages follow each other on
//! a lane's own QUIC stream. A large one is the only frame of a stream of its own, so that it holds up no small one. Streams of the transport are QUIC
//! streams too: an opening frame, then items until the end.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protocol::{Kind, Lane};

use crate::Refusal;

/// Bodies up to this size are copied once into the lane's buffer; larger ones get a QUIC stream and are not copied.
pub(super) const SMALL_BODY_BYTES_MAX: usize = 16 << 10;

/// Any frame's bytes besides its body.
const HEAD_BYTES_MAX: usize = 32;

/// What a lane's own stream may carry in one frame.
pub(super) const SMALL_FRAME_BYTES_MAX: usize = SMALL_BODY_BYTES_MAX + HEAD_BYTES_MAX;

/// Texts in refusals are cut to this.
const TEXT_BYTES_MAX: usize = 1024;

/// The frame limit of something whose body is limited to `body_bytes_max`.
pub(super) fn frame_limit(body_bytes_max: usize) -> usize {
    body_bytes_max.saturating_add(HEAD_BYTES_MAX)
}

/// Why bytes are no frame. The connection ends then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of {bytes} bytes is longer than the {limit} allowed")]
    TooLong { bytes: usize, limit: usize },
    #[error("a frame ends inside its fields")]
    Short,
    #[error("a frame has the unknown tag {0}")]
    Tag(u8),
    #[error("a frame has an unknown refusal {0}")]
    Refusal(u8),
    #[error("frame {0} has no place here")]
    Unexpected(&'static str),
    #[error("the stream ended inside a frame")]
    Truncated,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A request. `id` is never used twice by the same side.
    Call {
        id: u64,
        kind: Kind,
        /// How long the caller still waits.
        timeout_ms: u32,
        body: Bytes,
    },
    /// A message without an answer.
    OneWay {
        kind: Kind,
        body: Bytes,
    },
    /// The caller does not want the answer any more.
    Cancel {
        id: u64,
    },
    Answer {
        id: u64,
        body: Bytes,
    },
    Refused {
        id: u64,
        refusal: Refusal,
    },
    /// The first frame of a stream.
    Open {
        kind: Kind,
        body: Bytes,
    },
    /// A frame of a stream, as its users know it.
    Item {
        body: Bytes,
    },
    /// The sender finished its direction.
    End,
    /// The sender ended its direction with a reason.
    Failed {
        refusal: Refusal,
    },
}

impl Frame {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Frame::Call { .. } => "call",
            Frame::OneWay { .. } => "one-way",
            Frame::Cancel { .. } => "cancel",
            Frame::Answer { .. } => "answer",
            Frame::Refused { .. } => "refused",
            Frame::Open { .. } => "open",
            Frame::Item { .. } => "item",
            Frame::End => "end",
            Frame::Failed { .. } => "failed",
        }
    }

    /// Everything but the body is appended to `head`; the body, which follows it on the wire, is returned.
    pub(super) fn encode_head(self, head: &mut BytesMut) -> Bytes {
        let start = head.len();
        head.put_u32_le(0);
        let body = self.put_fields(head);
        let length = head.len() - start - 4 + body.len();
        // Lengths are checked against far smaller limits before a frame is made.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        head[start..start + 4].copy_from_slice(&length.to_le_bytes());
        body
    }

    #[cfg(test)]
    pub(super) fn encode(self, out: &mut BytesMut) {
        let body = self.encode_head(out);
        out.extend_from_slice(&body);
    }

    fn put_fields(self, head: &mut BytesMut) -> Bytes {
        match self {
            Frame::Call {
                id,
                kind,
                timeout_ms,
                body,
            } => {
                head.put_u8(1);
                head.put_u64_le(id);
                head.put_u16_le(kind.0);
                head.put_u32_le(timeout_ms);
                body
            }
            Frame::OneWay { kind, body } => {
                head.put_u8(2);
                head.put_u16_le(kind.0);
                body
            }
            Frame::Cancel { id } => {
                head.put_u8(3);
                head.put_u64_le(id);
                Bytes::new()
            }
            Frame::Answer { id, body } => {
                head.put_u8(4);
                head.put_u64_le(id);
                body
            }
            Frame::Refused { id, refusal } => {
                head.put_u8(5);
                head.put_u64_le(id);
                put_refusal(&refusal, head);
                Bytes::new()
            }
            Frame::Open { kind, body } => {
                head.put_u8(6);
                head.put_u16_le(kind.0);
                body
            }
            Frame::Item { body } => {
                head.put_u8(7);
                body
            }
            Frame::End => {
                head.put_u8(8);
                Bytes::new()
            }
            Frame::Failed { refusal } => {
                head.put_u8(9);
                put_refusal(&refusal, head);
                Bytes::new()
            }
        }
    }

    /// Reads what follows the length.
    fn decode(mut bytes: Bytes) -> Result<Frame, FrameError> {
        let b = &mut bytes;
        let frame = match get_u8(b)? {
            1 => Frame::Call {
                id: get_u64(b)?,
                kind: get_kind(b)?,
                timeout_ms: get_u32(b)?,
                body: std::mem::take(b),
            },
            2 => Frame::OneWay {
                kind: get_kind(b)?,
                body: std::mem::take(b),
            },
            3 => Frame::Cancel { id: get_u64(b)? },
            4 => Frame::Answer {
                id: get_u64(b)?,
                body: std::mem::take(b),
            },
            5 => Frame::Refused {
                id: get_u64(b)?,
                refusal: get_refusal(b)?,
            },
            6 => Frame::Open {
                kind: get_kind(b)?,
                body: std::mem::take(b),
            },
            7 => Frame::Item {
                body: std::mem::take(b),
            },
            8 => Frame::End,
            9 => Frame::Failed {
                refusal: get_refusal(b)?,
            },
            tag => return Err(FrameError::Tag(tag)),
        };
        Ok(frame)
    }
}

fn get_u8(b: &mut Bytes) -> Result<u8, FrameError> {
    b.try_get_u8().map_err(|_| FrameError::Short)
}

fn get_u32(b: &mut Bytes) -> Result<u32, FrameError> {
    b.try_get_u32_le().map_err(|_| FrameError::Short)
}

fn get_u64(b: &mut Bytes) -> Result<u64, FrameError> {
    b.try_get_u64_le().map_err(|_| FrameError::Short)
}

fn get_kind(b: &mut Bytes) -> Result<Kind, FrameError> {
    b.try_get_u16_le().map(Kind).map_err(|_| FrameError::Short)
}

fn put_refusal(refusal: &Refusal, out: &mut BytesMut) {
    match refusal {
        Refusal::NoHandler { lane, kind } => {
            out.put_u8(1);
            out.put_u8(lane.code());
            out.put_u16_le(kind.0);
        }
        Refusal::Busy => out.put_u8(2),
        Refusal::Stopping => out.put_u8(3),
        Refusal::Malformed(text) => {
            out.put_u8(4);
            out.put_slice(&text.as_bytes()[..text.floor_char_boundary(TEXT_BYTES_MAX)]);
        }
        Refusal::AnswerTooLong(bytes) => {
            out.put_u8(5);
            out.put_u64_le(*bytes as u64);
        }
        Refusal::Abandoned => out.put_u8(6),
    }
}

fn get_refusal(b: &mut Bytes) -> Result<Refusal, FrameError> {
    let refusal = match get_u8(b)? {
        1 => {
            let code = get_u8(b)?;
            Refusal::NoHandler {
                lane: Lane::from_code(code).ok_or(FrameError::Refusal(code))?,
                kind: get_kind(b)?,
            }
        }
        2 => Refusal::Busy,
        3 => Refusal::Stopping,
        4 => Refusal::Malformed(String::from_utf8_lossy(&std::mem::take(b)).into_owned()),
        5 => Refusal::AnswerTooLong(usize::try_from(get_u64(b)?).unwrap_or(usize::MAX)),
        6 => Refusal::Abandoned,
        code => return Err(FrameError::Refusal(code)),
    };
    Ok(refusal)
}

/// Cuts a stream of bytes, which comes in pieces, into frames. A frame that lies in one piece is not copied.
#[derive(Debug)]
pub(super) struct Decoder {
    limit: usize,
    piece: Bytes,
    /// The beginning of a frame whose end has not come yet.
    partial: BytesMut,
}

const LENGTH_BYTES: usize = 4;

impl Decoder {
    /// Accepts frames whose length is at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Decoder {
        Decoder {
            limit,
            piece: Bytes::new(),
            partial: BytesMut::new(),
        }
    }

    /// Gives it the next piece. All frames of the earlier ones have to be taken first.
    pub(super) fn feed(&mut self, piece: Bytes) {
        debug_assert!(self.piece.is_empty(), "frames are left");
        self.piece = piece;
    }

    /// The stream is over: it has to end with a frame's end.
    pub(super) fn check_end(&self) -> Result<(), FrameError> {
        match self.piece.is_empty() && self.partial.is_empty() {
            true => Ok(()),
            false => Err(FrameError::Truncated),
        }
    }

    /// The next frame, if all of it has come.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let frame = match self.partial.is_empty() {
            true => self.whole_frame()?,
            false => self.completed_frame()?,
        };
        frame.map(Frame::decode).transpose()
    }

    fn whole_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        if let Some(head) = self.piece.first_chunk() {
            let length = self.checked(*head)?;
            if self.piece.len() - LENGTH_BYTES >= length {
                self.piece.advance(LENGTH_BYTES);
                return Ok(Some(self.piece.split_to(length)));
            }
        }
        self.partial.extend_from_slice(&self.piece);
        self.piece.clear();
        Ok(None)
    }

    fn completed_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        if !self.gather(LENGTH_BYTES) {
            return Ok(None);
        }
        let head = self.partial.first_chunk().ok_or(FrameError::Short)?;
        let length = self.checked(*head)?;
        if !self.gather(LENGTH_BYTES + length) {
            return Ok(None);
        }
        self.partial.advance(LENGTH_BYTES);
        Ok(Some(self.partial.split().freeze()))
    }

    /// Moves bytes to `partial` until it has `wanted`; memory is taken for what has come, never for what is announced.
    fn gather(&mut self, wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.partial.len());
        let taken = self.piece.split_to(missing.min(self.piece.len()));
        self.partial.extend_from_slice(&taken);
        self.partial.len() >= wanted
    }

    fn checked(&self, head: [u8; LENGTH_BYTES]) -> Result<usize, FrameError> {
        let bytes = u32::from_le_bytes(head) as usize;
        match bytes > self.limit {
            true => Err(FrameError::TooLong {
                bytes,
                limit: self.limit,
            }),
            false => Ok(bytes),
        }
    }
}

#[cfg(test)]
mod tests;
