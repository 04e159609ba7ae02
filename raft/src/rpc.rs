//! Raft's requests and answers as bytes.
//!
//! Every request is one [`RpcKind`] and a body; the answer's body belongs to the same kind. Whoever carries them sees
//! opaque bytes. A body that cannot be read is an error of the peer, never a panic.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::codec::{Reader, Writer};
use crate::snapshot::{decode_meta, encode_meta};
use crate::types::{SnapshotMeta, Types, Vote, log_entry, raft_entry};
use crate::wal::{EntryKind, LogEntry, LogPos};

/// Entries in one request.
const ENTRIES_MAX: usize = 65_536;
/// Any byte string in a request.
const BYTES_MAX: usize = 64 << 20;

/// Which request a body is. The numbers are part of the wire format and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RpcKind {
    /// Entries, or a heartbeat, from the leader.
    AppendEntries,
    /// A candidate asks for a vote.
    Vote,
    /// A candidate asks whether it would get a vote.
    PreVote,
    /// The leader asks the receiver to stand for election now.
    TransferLeader,
    /// A piece of a snapshot.
    Snapshot,
    /// The leader asks for the highest term in which the receiver has voted. The body is empty.
    VotedTerm,
}

impl RpcKind {
    /// Its number on the wire.
    pub fn to_u8(self) -> u8 {
        match self {
            RpcKind::AppendEntries => 1,
            RpcKind::Vote => 2,
            RpcKind::PreVote => 3,
            RpcKind::TransferLeader => 4,
            RpcKind::Snapshot => 5,
            RpcKind::VotedTerm => 6,
        }
    }

    /// The kind with that number.
    pub fn from_u8(number: u8) -> Option<RpcKind> {
        match number {
            1 => Some(RpcKind::AppendEntries),
            2 => Some(RpcKind::Vote),
            3 => Some(RpcKind::PreVote),
            4 => Some(RpcKind::TransferLeader),
            5 => Some(RpcKind::Snapshot),
            6 => Some(RpcKind::VotedTerm),
            _ => None,
        }
    }
}

pub(crate) fn encode_append(rpc: AppendEntriesRequest<Types>) -> Bytes {
    let AppendEntriesRequest {
        vote,
        prev_log_id,
        entries,
        leader_commit,
    } = rpc;
    let mut w = Writer::default();
    w.vote(&vote);
    w.opt(prev_log_id.as_ref(), Writer::log_id);
    w.opt(leader_commit.as_ref(), Writer::log_id);
    w.count(entries.len());
    for entry in entries {
        let LogEntry {
            pos: LogPos { term, index },
            kind,
            payload,
        } = log_entry(entry);
        w.u64(term);
        w.u64(index);
        w.u8(match kind {
            EntryKind::Blank => 0,
            EntryKind::Normal => 1,
            EntryKind::Membership => 2,
        });
        w.bytes(&payload);
    }
    w.out.into()
}

pub(crate) fn decode_append(bytes: &Bytes) -> Option<AppendEntriesRequest<Types>> {
    let mut r = Reader::new(bytes);
    let vote = r.vote()?;
    let prev_log_id = r.opt(Reader::log_id)?;
    let leader_commit = r.opt(Reader::log_id)?;
    let mut entries = Vec::new();
    for _ in 0..r.count(ENTRIES_MAX)? {
        let pos = LogPos {
            term: r.u64()?,
            index: r.u64()?,
        };
        let kind = match r.u8()? {
            0 => EntryKind::Blank,
            1 => EntryKind::Normal,
            2 => EntryKind::Membership,
            _ => return None,
        };
        entries.push(raft_entry(LogEntry {
            pos,
            kind,
            payload: r.bytes(BYTES_MAX)?,
        })?);
    }
    r.end(AppendEntriesRequest {
        vote,
        prev_log_id,
        entries,
        leader_commit,
    })
}

pub(crate) fn encode_appended(response: &AppendEntriesResponse<Types>) -> Bytes {
    let mut w = Writer::default();
    match response {
        AppendEntriesResponse::Success => w.u8(0),
        AppendEntriesResponse::PartialSuccess(matching) => {
            w.u8(1);
            w.opt(matching.as_ref(), Writer::log_id);
        }
        AppendEntriesResponse::Conflict => w.u8(2),
        AppendEntriesResponse::HigherVote(vote) => {
            w.u8(3);
            w.vote(vote);
        }
    }
    w.out.into()
}

pub(crate) fn decode_appended(bytes: &Bytes) -> Option<AppendEntriesResponse<Types>> {
    let mut r = Reader::new(bytes);
    let response = match r.u8()? {
        0 => AppendEntriesResponse::Success,
        1 => AppendEntriesResponse::PartialSuccess(r.opt(Reader::log_id)?),
        2 => AppendEntriesResponse::Conflict,
        3 => AppendEntriesResponse::HigherVote(r.vote()?),
        _ => return None,
    };
    r.end(response)
}

pub(crate) fn encode_vote(rpc: &VoteRequest<Types>) -> Bytes {
    let VoteRequest {
        vote,
        last_log_id,
        leadership_transfer,
    } = rpc;
    let mut w = Writer::default();
    w.vote(vote);
    w.opt(last_log_id.as_ref(), Writer::log_id);
    w.bool(*leadership_transfer);
    w.out.into()
}

pub(crate) fn decode_vote(bytes: &Bytes) -> Option<VoteRequest<Types>> {
    let mut r = Reader::new(bytes);
    let (vote, last_log_id, leadership_transfer) = (r.vote()?, r.opt(Reader::log_id)?, r.bool()?);
    r.end(VoteRequest {
        vote,
        last_log_id,
        leadership_transfer,
    })
}

pub(crate) fn encode_voted(response: &VoteResponse<Types>) -> Bytes {
    let VoteResponse {
        vote,
        vote_granted,
        last_log_id,
    } = response;
    let mut w = Writer::default();
    w.vote(vote);
    w.bool(*vote_granted);
    w.opt(last_log_id.as_ref(), Writer::log_id);
    w.out.into()
}

pub(crate) fn decode_voted(bytes: &Bytes) -> Option<VoteResponse<Types>> {
    let mut r = Reader::new(bytes);
    let (vote, vote_granted, last_log_id) = (r.vote()?, r.bool()?, r.opt(Reader::log_id)?);
    r.end(VoteResponse {
        vote,
        vote_granted,
        last_log_id,
    })
}

pub(crate) fn encode_transfer(rpc: &TransferLeaderRequest<Types>) -> Bytes {
    let mut w = Writer::default();
    w.vote(rpc.from_leader());
    w.u64(*rpc.to_node_id());
    w.opt(rpc.last_log_id(), Writer::log_id);
    w.out.into()
}

pub(crate) fn decode_transfer(bytes: &Bytes) -> Option<TransferLeaderRequest<Types>> {
    let mut r = Reader::new(bytes);
    let (from, to, last_log_id) = (r.vote()?, r.u64()?, r.opt(Reader::log_id)?);
    r.end(TransferLeaderRequest::new(from, to, last_log_id))
}

pub(crate) fn encode_transferred(response: &TransferLeaderResponse<Types>) -> Bytes {
    let mut w = Writer::default();
    match response {
        Ok(()) => w.u8(0),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            w.u8(1);
            w.vote(expected);
            w.vote(actual);
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            w.u8(2);
            w.opt(expected.as_ref(), Writer::log_id);
            w.opt(actual.as_ref(), Writer::log_id);
        }
    }
    w.out.into()
}

pub(crate) fn decode_transferred(bytes: &Bytes) -> Option<TransferLeaderResponse<Types>> {
    let mut r = Reader::new(bytes);
    let response = match r.u8()? {
        0 => Ok(()),
        1 => Err(TransferLeaderError::VoteChanged {
            expected: r.vote()?,
            actual: r.vote()?,
        }),
        2 => {
            let (expected, actual) = (r.opt(Reader::log_id)?, r.opt(Reader::log_id)?);
            Err(TransferLeaderError::LogNotFlushed { expected, actual })
        }
        _ => return None,
    };
    r.end(response)
}

/// A piece of a snapshot file. Pieces come in order; the first has offset 0, the last ends at `file_bytes`.
#[derive(Debug)]
pub(crate) struct SnapshotPiece {
    pub vote: Vote,
    /// Random: tells transfers apart.
    pub transfer: u64,
    pub meta: SnapshotMeta,
    pub file_bytes: u64,
    pub offset: u64,
    pub bytes: Bytes,
}

pub(crate) fn encode_piece(piece: &SnapshotPiece) -> Bytes {
    let SnapshotPiece {
        vote,
        transfer,
        meta,
        file_bytes,
        offset,
        bytes,
    } = piece;
    let mut w = Writer::default();
    w.vote(vote);
    w.u64(*transfer);
    w.bytes(&encode_meta(meta));
    w.u64(*file_bytes);
    w.u64(*offset);
    w.bytes(bytes);
    w.out.into()
}

pub(crate) fn decode_piece(bytes: &Bytes) -> Option<SnapshotPiece> {
    let mut r = Reader::new(bytes);
    let piece = SnapshotPiece {
        vote: r.vote()?,
        transfer: r.u64()?,
        meta: decode_meta(&r.bytes(BYTES_MAX)?)?,
        file_bytes: r.u64()?,
        offset: r.u64()?,
        bytes: r.bytes(BYTES_MAX)?,
    };
    r.end(piece)
}

/// The receiver's vote: higher than the sender's when that is no longer the leader.
pub(crate) fn encode_piece_taken(vote: &Vote) -> Bytes {
    let mut w = Writer::default();
    w.vote(vote);
    w.out.into()
}

pub(crate) fn decode_piece_taken(bytes: &Bytes) -> Option<Vote> {
    let mut r = Reader::new(bytes);
    let vote = r.vote()?;
    r.end(vote)
}

pub(crate) fn encode_term(term: u64) -> Bytes {
    let mut w = Writer::default();
    w.u64(term);
    w.out.into()
}

pub(crate) fn decode_term(bytes: &Bytes) -> Option<u64> {
    let mut r = Reader::new(bytes);
    let term = r.u64()?;
    r.end(term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{
        Entry, EntryPayload, Member, Membership, Payload, StoredMembership, log_id,
    };

    fn id(term: u64, index: u64) -> crate::types::LogId {
        log_id(LogPos { term, index })
    }

    /// Decoding gives the value back, and no prefix of it decodes.
    fn check<T: std::fmt::Debug>(value: &T, bytes: Bytes, decode: impl Fn(&Bytes) -> Option<T>) {
        let back = decode(&bytes).expect("decodes");
        assert_eq!(format!("{back:?}"), format!("{value:?}"));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes.slice(..cut)).is_none());
        }
    }

    #[test]
    fn requests_and_answers_round_trip() {
        let vote = Vote::new_committed(4, 2);
        let nodes = std::collections::BTreeMap::from([(
            1,
            Member {
                addr: "x".to_owned(),
            },
        )]);
        let membership = Membership::new(vec![[1].into()], nodes).unwrap();
        let entries = vec![
            Entry {
                log_id: id(3, 7),
                payload: EntryPayload::Blank,
            },
            Entry {
                log_id: id(4, 8),
                payload: EntryPayload::Normal(Payload(Bytes::from_static(b"abc"))),
            },
            Entry {
                log_id: id(4, 9),
                payload: EntryPayload::Membership(membership.clone()),
            },
        ];
        let append = AppendEntriesRequest {
            vote,
            prev_log_id: Some(id(3, 6)),
            entries,
            leader_commit: None,
        };
        check(&append, encode_append(append.clone()), decode_append);
        for response in [
            AppendEntriesResponse::Success,
            AppendEntriesResponse::PartialSuccess(Some(id(1, 2))),
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(vote),
        ] {
            check(&response, encode_appended(&response), decode_appended);
        }
        let mut request = VoteRequest::new(vote, Some(id(4, 9)));
        request.leadership_transfer = true;
        check(&request, encode_vote(&request), decode_vote);
        let voted = VoteResponse {
            vote,
            vote_granted: true,
            last_log_id: None,
        };
        check(&voted, encode_voted(&voted), decode_voted);
        let transfer = TransferLeaderRequest::new(vote, 3, Some(id(4, 9)));
        check(&transfer, encode_transfer(&transfer), decode_transfer);
        for response in [
            Ok(()),
            Err(TransferLeaderError::VoteChanged {
                expected: vote,
                actual: vote,
            }),
            Err(TransferLeaderError::LogNotFlushed {
                expected: Some(id(1, 1)),
                actual: None,
            }),
        ] {
            check(&response, encode_transferred(&response), decode_transferred);
        }
        let meta = SnapshotMeta {
            last_log_id: Some(id(4, 9)),
            last_membership: StoredMembership::new(Some(id(4, 9)), membership),
        };
        let bytes = Bytes::from_static(b"piece");
        let piece = SnapshotPiece {
            vote,
            transfer: 5,
            meta,
            file_bytes: 50,
            offset: 45,
            bytes,
        };
        check(&piece, encode_piece(&piece), decode_piece);
        check(&vote, encode_piece_taken(&vote), decode_piece_taken);
        check(&7, encode_term(7), decode_term);
    }

    #[test]
    fn kinds_keep_their_numbers() {
        for number in 0..=255 {
            assert_eq!(
                RpcKind::from_u8(number).map_or(0, RpcKind::to_u8),
                if number <= 6 { number } else { 0 }
            );
        }
    }
}
