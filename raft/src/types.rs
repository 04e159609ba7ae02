//! What openraft is instantiated with, and the conversions to our own types.

use std::any::Any;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use openraft::impls::leader_id_std;
use openraft::type_config::alias;

use crate::runtime::MeteredRuntime;
use crate::wal::{EntryKind, LogEntry, LogPos, StoredVote};

openraft::declare_raft_types!(
    /// Types of all groups of the project. One instantiation serves all: the state machine is erased behind it.
    pub Types:
        D = Payload,
        R = Response,
        NodeId = u64,
        Node = Member,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = MeteredRuntime,
);

pub(crate) type LogId = alias::LogIdOf<Types>;
pub(crate) type Vote = alias::VoteOf<Types>;
pub(crate) type Entry = alias::EntryOf<Types>;
pub(crate) type EntryPayload = alias::PayloadOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<Types>;

/// What a group's membership says of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Where its peers reach it; what it means is up to [`crate::Peers`].
    pub addr: String,
}

/// A command's bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(pub Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the state machine answered to an entry, or nothing for an entry that is none of its own.
pub struct Response {
    /// The mutex is never contended: it makes any sendable value shareable, as openraft demands.
    value: Option<Mutex<Box<dyn Any + Send>>>,
}

impl Response {
    pub(crate) fn none() -> Response {
        Response { value: None }
    }

    pub(crate) fn new(value: Box<dyn Any + Send>) -> Response {
        Response {
            value: Some(Mutex::new(value)),
        }
    }

    /// The value, if it is a `T`.
    pub(crate) fn take<T: 'static>(self) -> Option<T> {
        let value = self
            .value?
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        value.downcast().ok().map(|value| *value)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Response")
    }
}

pub(crate) fn log_id(pos: LogPos) -> LogId {
    LogId::new_term_index(pos.term, pos.index)
}

pub(crate) fn log_pos(id: &LogId) -> LogPos {
    LogPos {
        term: id.committed_leader_id().term,
        index: id.index(),
    }
}

pub(crate) fn vote(stored: StoredVote) -> Vote {
    let StoredVote {
        term,
        node,
        committed,
    } = stored;
    if committed {
        Vote::new_committed(term, node)
    } else {
        Vote::new(term, node)
    }
}

pub(crate) fn stored_vote(vote: &Vote) -> StoredVote {
    let id = vote.leader_id();
    StoredVote {
        term: id.term,
        node: id.voted_for,
        committed: vote.is_committed(),
    }
}

/// openraft's entry as the log stores it. The payload is shared, not copied.
pub(crate) fn log_entry(entry: Entry) -> LogEntry {
    let pos = log_pos(&entry.log_id);
    let (kind, payload) = match entry.payload {
        EntryPayload::Blank => (EntryKind::Blank, Bytes::new()),
        EntryPayload::Normal(Payload(bytes)) => (EntryKind::Normal, bytes),
        EntryPayload::Membership(m) => (EntryKind::Membership, crate::codec::encode_membership(&m)),
    };
    LogEntry { pos, kind, payload }
}

/// The way back. `None`: a membership that cannot be read.
pub(crate) fn raft_entry(entry: LogEntry) -> Option<Entry> {
    let LogEntry { pos, kind, payload } = entry;
    let payload = match kind {
        EntryKind::Blank => EntryPayload::Blank,
        EntryKind::Normal => EntryPayload::Normal(Payload(payload)),
        EntryKind::Membership => {
            EntryPayload::Membership(crate::codec::decode_membership(&payload)?)
        }
    };
    Some(Entry {
        log_id: log_id(pos),
        payload,
    })
}
