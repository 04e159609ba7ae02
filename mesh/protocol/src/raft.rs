//! Raft traffic: opaque to everybody but crate `raft`.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Version of the frame.
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 1 + 8;

/// One Raft RPC or its answer. Its payload is large and frequent: it is laid out by hand, so that a received one is not copied.
///
/// Version (1 byte), kind (1 byte), group (8 bytes, little-endian), then the payload up to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftFrame {
    /// 0 is ENV; see [`crate::raft`]'s users for the others.
    pub group: u64,
    /// `raft::RpcKind` as a number.
    pub kind: u8,
    pub payload: Bytes,
}

impl RaftFrame {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_BYTES + self.payload.len());
        out.put_u8(VERSION);
        out.put_u8(self.kind);
        out.put_u64_le(self.group);
        out.put_slice(&self.payload);
        out.freeze()
    }

    /// The frame in `bytes`, sharing them; `None` if there is none of a known version.
    pub fn decode(mut bytes: Bytes) -> Option<RaftFrame> {
        if bytes.len() < HEADER_BYTES || bytes.get_u8() != VERSION {
            return None;
        }
        let kind = bytes.get_u8();
        let group = bytes.get_u64_le();
        Some(RaftFrame {
            group,
            kind,
            payload: bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes of different versions talk to each other by these.
    #[test]
    fn golden_bytes() {
        let frame = RaftFrame {
            group: 258,
            kind: 3,
            payload: Bytes::from_static(b"abc"),
        };
        let bytes = frame.encode();
        assert_eq!(&bytes[..], b"\x01\x03\x02\x01\0\0\0\0\0\0abc");
        assert_eq!(RaftFrame::decode(bytes.clone()), Some(frame));
        assert_eq!(RaftFrame::decode(bytes.slice(..9)), None);
        assert_eq!(RaftFrame::decode(Bytes::from_static(&[2; 20])), None);
    }
}
