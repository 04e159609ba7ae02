//! The records inside a batch body: what a group asks the log to remember.
//!
//! ```text
//! record  bytes 4 | crc 4 | kind 1 | group 8 | fields of the kind
//! ```
//! `bytes` counts from `kind` on, and the CRC covers the same, so that one record can be read back on its own.

use bytes::Bytes;

use crate::GroupId;

/// Place of an entry in a group's log: the term of the leader that proposed it, and its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPos {
    /// Term of the leader that wrote it.
    pub term: u64,
    /// Counts from zero.
    pub index: u64,
}

/// A group's vote: for whom, in which term, and whether that node became the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredVote {
    /// The term.
    pub term: u64,
    /// The node voted for.
    pub node: u64,
    /// True once a quorum has granted it.
    pub committed: bool,
}

/// What an entry's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// No payload: a new leader's first entry.
    Blank,
    /// A command for the state machine.
    Normal,
    /// A membership, see `codec`.
    Membership,
}

/// One entry of a group's log. The payload is shared, never copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place.
    pub pos: LogPos,
    /// What the payload is.
    pub kind: EntryKind,
    /// The payload.
    pub payload: Bytes,
}

/// The small state of a group: all of it is written again at the start of each segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// The last vote.
    pub vote: Option<StoredVote>,
    /// The last entry known to be committed; may lag.
    pub committed: Option<LogPos>,
    /// Entries up to this one are gone, being part of a snapshot.
    pub purged: Option<LogPos>,
    /// The last entry, or `purged` when there is none after it.
    pub last: Option<LogPos>,
    /// Index of the first entry the group ever had; zero for every group that was founded as usual.
    pub start: u64,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// A new entry; its index is one above the last.
    Entry(LogEntry),
    /// An entry written before, repeated so that its old segment can go.
    Copy(LogEntry),
    /// A new vote.
    Vote(StoredVote),
    /// Entries after this index are gone; `None`: all.
    TruncateAfter(Option<u64>),
    /// Entries up to this one are gone.
    Purge(LogPos),
    /// Entries up to this one are committed.
    Committed(LogPos),
    /// The whole small state.
    State(GroupState),
    /// The group is gone.
    Forget,
}

impl Record {
    /// The record without what it holds on to of the body of `body_bytes` that it was read from, unless its payload is a
    /// good part of it: a small entry must not keep a large batch in memory.
    pub fn detached(self, body_bytes: usize) -> Record {
        let detach = |entry: LogEntry| match entry.payload.len() * 4 < body_bytes {
            true => LogEntry {
                payload: Bytes::copy_from_slice(&entry.payload),
                ..entry
            },
            false => entry,
        };
        match self {
            Record::Entry(entry) => Record::Entry(detach(entry)),
            Record::Copy(entry) => Record::Copy(detach(entry)),
            Record::Vote(_)
            | Record::TruncateAfter(_)
            | Record::Purge(_)
            | Record::Committed(_)
            | Record::State(_)
            | Record::Forget => self,
        }
    }
}

/// Bytes before `kind`.
pub(super) const RECORD_PREFIX_BYTES: usize = 8;
/// Bytes of an entry's record besides its payload.
pub(super) const ENTRY_RECORD_OVERHEAD: usize = RECORD_PREFIX_BYTES + 1 + 8 + 8 + 8 + 1;

const ENTRY: u8 = 1;
const COPY: u8 = 2;
const VOTE: u8 = 3;
const TRUNCATE_AFTER: u8 = 4;
const PURGE: u8 = 5;
const COMMITTED: u8 = 6;
const STATE: u8 = 7;
const FORGET: u8 = 8;

/// Appends the record to `out`; returns its bytes.
pub(super) fn encode(group: GroupId, record: &Record, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_PREFIX_BYTES]);
    out.push(kind(record));
    put_u64(out, group.0);
    match record {
        Record::Entry(entry) | Record::Copy(entry) => put_entry(out, entry),
        Record::Vote(vote) => put_vote(out, vote),
        Record::TruncateAfter(after) => {
            put_opt(out, after.as_ref(), |out, index| put_u64(out, *index))
        }
        Record::Purge(pos) | Record::Committed(pos) => put_pos(out, pos),
        Record::State(state) => {
            let GroupState {
                vote,
                committed,
                purged,
                last,
                start,
            } = state;
            put_opt(out, vote.as_ref(), put_vote);
            put_opt(out, committed.as_ref(), put_pos);
            put_opt(out, purged.as_ref(), put_pos);
            put_opt(out, last.as_ref(), put_pos);
            put_u64(out, *start);
        }
        Record::Forget => {}
    }
    let bytes = out.len() - start;
    let counted =
        u32::try_from(bytes - RECORD_PREFIX_BYTES).expect("entries are bounded far below 4 GiB");
    let crc = crc32c::crc32c(&out[start + RECORD_PREFIX_BYTES..]);
    out[start..start + 4].copy_from_slice(&counted.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn kind(record: &Record) -> u8 {
    match record {
        Record::Entry(_) => ENTRY,
        Record::Copy(_) => COPY,
        Record::Vote(_) => VOTE,
        Record::TruncateAfter(_) => TRUNCATE_AFTER,
        Record::Purge(_) => PURGE,
        Record::Committed(_) => COMMITTED,
        Record::State(_) => STATE,
        Record::Forget => FORGET,
    }
}

/// Reads the record at the start of `bytes`: its group, itself, and its length. `None`: not a sound record.
pub(super) fn decode(bytes: &Bytes) -> Option<(GroupId, Record, usize)> {
    let mut prefix = Reader {
        bytes: bytes.clone(),
    };
    let counted = prefix.u32()? as usize;
    let crc = prefix.u32()?;
    if prefix.bytes.len() < counted {
        return None;
    }
    let mut r = Reader {
        bytes: prefix.bytes.slice(..counted),
    };
    if crc32c::crc32c(&r.bytes) != crc {
        return None;
    }
    let kind = r.u8()?;
    let group = GroupId(r.u64()?);
    let record = match kind {
        ENTRY => Record::Entry(r.entry()?),
        COPY => Record::Copy(r.entry()?),
        VOTE => Record::Vote(r.vote()?),
        TRUNCATE_AFTER => Record::TruncateAfter(r.opt(Reader::u64)?),
        PURGE => Record::Purge(r.pos()?),
        COMMITTED => Record::Committed(r.pos()?),
        STATE => Record::State(GroupState {
            vote: r.opt(Reader::vote)?,
            committed: r.opt(Reader::pos)?,
            purged: r.opt(Reader::pos)?,
            last: r.opt(Reader::pos)?,
            start: r.u64()?,
        }),
        FORGET => Record::Forget,
        _ => return None,
    };
    r.bytes
        .is_empty()
        .then_some((group, record, RECORD_PREFIX_BYTES + counted))
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_pos(out: &mut Vec<u8>, pos: &LogPos) {
    put_u64(out, pos.term);
    put_u64(out, pos.index);
}

fn put_vote(out: &mut Vec<u8>, vote: &StoredVote) {
    put_u64(out, vote.term);
    put_u64(out, vote.node);
    out.push(u8::from(vote.committed));
}

fn put_entry(out: &mut Vec<u8>, entry: &LogEntry) {
    put_pos(out, &entry.pos);
    out.push(match entry.kind {
        EntryKind::Blank => 0,
        EntryKind::Normal => 1,
        EntryKind::Membership => 2,
    });
    out.extend_from_slice(&entry.payload);
}

fn put_opt<T>(out: &mut Vec<u8>, value: Option<&T>, put: impl Fn(&mut Vec<u8>, &T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

struct Reader {
    bytes: Bytes,
}

impl Reader {
    fn take(&mut self, n: usize) -> Option<Bytes> {
        (self.bytes.len() >= n).then(|| self.bytes.split_to(n))
    }

    fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?[..].try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?[..].try_into().ok()?))
    }

    fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn pos(&mut self) -> Option<LogPos> {
        Some(LogPos {
            term: self.u64()?,
            index: self.u64()?,
        })
    }

    fn vote(&mut self) -> Option<StoredVote> {
        Some(StoredVote {
            term: self.u64()?,
            node: self.u64()?,
            committed: self.bool()?,
        })
    }

    fn entry(&mut self) -> Option<LogEntry> {
        let pos = self.pos()?;
        let kind = match self.u8()? {
            0 => EntryKind::Blank,
            1 => EntryKind::Normal,
            2 => EntryKind::Membership,
            _ => return None,
        };
        let rest = self.bytes.len();
        Some(LogEntry {
            pos,
            kind,
            payload: self.take(rest)?,
        })
    }

    fn opt<T>(&mut self, read: impl Fn(&mut Reader) -> Option<T>) -> Option<Option<T>> {
        if self.bool()? {
            Some(Some(read(self)?))
        } else {
            Some(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_and_any_flip_is_noticed() {
        let pos = LogPos { term: 3, index: 9 };
        let vote = StoredVote {
            term: 4,
            node: 2,
            committed: true,
        };
        let entry = LogEntry {
            pos,
            kind: EntryKind::Normal,
            payload: Bytes::from_static(b"payload"),
        };
        let records = [
            Record::Entry(entry.clone()),
            Record::Copy(LogEntry {
                kind: EntryKind::Blank,
                payload: Bytes::new(),
                ..entry
            }),
            Record::Vote(vote),
            Record::TruncateAfter(None),
            Record::TruncateAfter(Some(8)),
            Record::Purge(pos),
            Record::Committed(pos),
            Record::State(GroupState {
                vote: Some(vote),
                committed: None,
                purged: Some(pos),
                last: Some(pos),
                start: 0,
            }),
            Record::Forget,
        ];
        for record in records {
            let mut bytes = Vec::new();
            let n = encode(GroupId(5), &record, &mut bytes);
            assert_eq!(decode(&bytes.clone().into()), Some((GroupId(5), record, n)));
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 0x10;
                assert_eq!(decode(&flipped.into()), None);
            }
        }
    }
}
