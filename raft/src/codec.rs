//! Our own bytes for what openraft keeps and sends, so that a new version of it changes no format. Little-endian
//! numbers, lengths before contents, one byte for an option or a kind.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, Bytes};

use crate::types::{
    LogId, Member, Membership, StoredMembership, Vote, log_id, log_pos, stored_vote,
};
use crate::wal::{LogPos, StoredVote};

/// Nodes, and sets of voters, in a membership: far more than anybody runs, far less than memory.
const COUNT_MAX: usize = 10_000;
/// Bytes of a member's address.
const ADDR_BYTES_MAX: usize = 1_024;

/// Appends values to a buffer.
#[derive(Default)]
pub(crate) struct Writer {
    pub out: Vec<u8>,
}

impl Writer {
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    pub fn bool(&mut self, value: bool) {
        self.out.push(u8::from(value));
    }

    pub fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("counts are bounded"));
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.out.extend_from_slice(bytes);
    }

    pub fn opt<T>(&mut self, value: Option<&T>, put: impl Fn(&mut Writer, &T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            put(self, value);
        }
    }

    pub fn log_id(&mut self, id: &LogId) {
        let LogPos { term, index } = log_pos(id);
        self.u64(term);
        self.u64(index);
    }

    pub fn vote(&mut self, vote: &Vote) {
        let StoredVote {
            term,
            node,
            committed,
        } = stored_vote(vote);
        self.u64(term);
        self.u64(node);
        self.bool(committed);
    }

    pub fn membership(&mut self, membership: &Membership) {
        let configs = membership.get_joint_config();
        self.count(configs.len());
        for config in configs {
            self.count(config.len());
            config.iter().for_each(|node| self.u64(*node));
        }
        let nodes: Vec<_> = membership.nodes().collect();
        self.count(nodes.len());
        for (node, Member { addr }) in nodes {
            self.u64(*node);
            self.bytes(addr.as_bytes());
        }
    }

    pub fn stored_membership(&mut self, stored: &StoredMembership) {
        self.opt(stored.log_id().as_ref(), Writer::log_id);
        self.membership(stored.membership());
    }
}

/// Takes values off a buffer; `None`: it does not hold what is asked for.
pub(crate) struct Reader {
    pub bytes: Bytes,
}

impl Reader {
    pub fn new(bytes: &Bytes) -> Reader {
        Reader {
            bytes: bytes.clone(),
        }
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.bytes.try_get_u8().ok()
    }

    pub fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.bytes.try_get_u32_le().ok()
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.bytes.try_get_u64_le().ok()
    }

    pub fn count(&mut self, max: usize) -> Option<usize> {
        let count = self.u32()? as usize;
        (count <= max).then_some(count)
    }

    pub fn bytes(&mut self, max: usize) -> Option<Bytes> {
        let len = self.count(max)?;
        (len <= self.bytes.len()).then(|| self.bytes.split_to(len))
    }

    pub fn opt<T>(&mut self, take: impl Fn(&mut Reader) -> Option<T>) -> Option<Option<T>> {
        if self.bool()? {
            Some(Some(take(self)?))
        } else {
            Some(None)
        }
    }

    pub fn log_id(&mut self) -> Option<LogId> {
        Some(log_id(LogPos {
            term: self.u64()?,
            index: self.u64()?,
        }))
    }

    pub fn vote(&mut self) -> Option<Vote> {
        let (term, node, committed) = (self.u64()?, self.u64()?, self.bool()?);
        Some(crate::types::vote(StoredVote {
            term,
            node,
            committed,
        }))
    }

    pub fn membership(&mut self) -> Option<Membership> {
        let mut configs = Vec::new();
        for _ in 0..self.count(COUNT_MAX)? {
            let mut config = BTreeSet::new();
            for _ in 0..self.count(COUNT_MAX)? {
                config.insert(self.u64()?);
            }
            configs.push(config);
        }
        let mut nodes = BTreeMap::new();
        for _ in 0..self.count(COUNT_MAX)? {
            let node = self.u64()?;
            let addr = String::from_utf8(self.bytes(ADDR_BYTES_MAX)?.into()).ok()?;
            nodes.insert(node, Member { addr });
        }
        if configs.is_empty() {
            return Some(Membership::default());
        }
        Membership::new(configs, nodes).ok()
    }

    pub fn stored_membership(&mut self) -> Option<StoredMembership> {
        let log_id = self.opt(Reader::log_id)?;
        Some(StoredMembership::new(log_id, self.membership()?))
    }

    /// The value, if nothing is left over.
    pub fn end<T>(self, value: T) -> Option<T> {
        self.bytes.is_empty().then_some(value)
    }
}

pub(crate) fn encode_membership(membership: &Membership) -> Bytes {
    let mut w = Writer::default();
    w.membership(membership);
    w.out.into()
}

pub(crate) fn decode_membership(bytes: &Bytes) -> Option<Membership> {
    let mut r = Reader::new(bytes);
    let membership = r.membership()?;
    r.end(membership)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memberships_keep_their_bytes() {
        let members = [(1, "a:1"), (2, "b:2"), (3, "c:3")];
        let nodes: BTreeMap<u64, Member> = members
            .map(|(id, addr)| {
                (
                    id,
                    Member {
                        addr: addr.to_owned(),
                    },
                )
            })
            .into();
        let joint =
            Membership::new(vec![BTreeSet::from([1]), BTreeSet::from([1, 2])], nodes).unwrap();
        let bytes = encode_membership(&joint);
        let golden = "02000000010000000100000000000000020000000100000000000000020000000000000003000000\
             010000000000000003000000613a31020000000000000003000000623a32030000000000000003000000633a33";
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden);
        assert_eq!(decode_membership(&bytes), Some(joint));
        for cut in 0..bytes.len() {
            assert_eq!(decode_membership(&bytes.slice(..cut)), None);
        }
        let empty = Membership::default();
        assert_eq!(decode_membership(&encode_membership(&empty)), Some(empty));
    }
}
