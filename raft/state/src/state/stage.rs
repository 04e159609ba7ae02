//! Parts of transactions that are too large for one entry: invisible until the transaction links them.

use std::collections::BTreeMap;
use std::sync::Arc;

use repr::{Diff, RowRef, ShardId};

use super::{STAGED_BYTES_MAX, STAGED_BYTES_TOTAL_MAX, State};
use crate::command::{Gateway, Outcome, Session, Token, Write};

/// The staged chunks of all sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct Stages {
    pub(super) sessions: BTreeMap<Session, Arc<Staged>>,
    bytes: u64,
}

/// The chunks of one attempt.
#[derive(Clone, Debug, Default)]
pub(super) struct Staged {
    pub(super) seq: u64,
    pub(super) chunks: Vec<Arc<Chunk>>,
    bytes: u64,
}

/// The writes of one chunk, rows packed together.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) writes: Vec<StagedWrite>,
}

#[derive(Debug)]
pub(super) struct StagedWrite {
    pub(super) shard: ShardId,
    pub(super) truncate: bool,
    bytes: Box<[u8]>,
    /// Per update: where its row ends, and its diff.
    updates: Box<[(u32, Diff)]>,
}

impl StagedWrite {
    pub(super) fn new(write: &Write) -> StagedWrite {
        let mut bytes =
            Vec::with_capacity(write.updates.iter().map(|(row, _)| row.byte_len()).sum());
        let updates = write.updates.iter().map(|(row, diff)| {
            bytes.extend_from_slice(row.as_bytes());
            (
                u32::try_from(bytes.len()).expect("a command is far below 4 GiB"),
                *diff,
            )
        });
        let updates = updates.collect();
        StagedWrite {
            shard: write.shard,
            truncate: write.truncate,
            bytes: bytes.into(),
            updates,
        }
    }

    pub(super) fn updates(&self) -> impl Iterator<Item = (RowRef<'_>, Diff)> {
        let mut start = 0;
        self.updates.iter().map(move |(end, diff)| {
            // SAFETY: `new` copied one row to this range.
            let row = unsafe { RowRef::from_bytes_unchecked(&self.bytes[start..*end as usize]) };
            start = *end as usize;
            (row, *diff)
        })
    }

    fn memory(&self) -> u64 {
        (self.bytes.len() + size_of_val(&*self.updates) + size_of::<StagedWrite>()) as u64
    }
}

impl Chunk {
    pub(super) fn new(writes: &[Write]) -> Chunk {
        Chunk {
            writes: writes.iter().map(StagedWrite::new).collect(),
        }
    }

    fn memory(&self) -> u64 {
        self.writes.iter().map(StagedWrite::memory).sum()
    }
}

impl Stages {
    /// Drops what a session has staged.
    pub(super) fn drop_session(&mut self, session: &Session) {
        if let Some(staged) = self.sessions.remove(session) {
            self.bytes -= staged.bytes;
        }
    }

    /// Drops what older incarnations of a gateway have staged.
    pub(super) fn drop_older(&mut self, started: Gateway) {
        let over = |s: &Session| {
            s.gateway.node == started.node && s.gateway.incarnation < started.incarnation
        };
        let sessions: Vec<Session> = self.sessions.keys().filter(|s| over(s)).copied().collect();
        sessions
            .iter()
            .for_each(|session| self.drop_session(session));
    }

    pub(super) fn add(&mut self, session: Session, seq: u64, chunk: Chunk) {
        let bytes = chunk.memory();
        let staged = Arc::make_mut(self.sessions.entry(session).or_default());
        staged.seq = seq;
        staged.bytes += bytes;
        staged.chunks.push(Arc::new(chunk));
        self.bytes += bytes;
    }
}

impl State {
    /// Keeps a chunk. A repeated one is ignored; a gap, an old token or too many bytes are refused.
    pub(super) fn stage(
        &mut self,
        token: &Token,
        number: u32,
        writes: &[Write],
    ) -> Option<Outcome> {
        match self.sessions.admit(token) {
            super::sessions::Admission::New => {}
            super::sessions::Admission::Known(_) => return None,
            super::sessions::Admission::Expired => return Some(Outcome::TokenExpired),
        }
        let stages = Arc::make_mut(&mut self.stages);
        let found = stages
            .sessions
            .get(&token.session)
            .map(|s| (s.seq, s.chunks.len(), s.bytes));
        let (next, bytes) = match found {
            Some((seq, _, _)) if seq > token.seq => return Some(Outcome::TokenExpired),
            Some((seq, next, bytes)) if seq == token.seq => (next, bytes),
            Some(_) | None => {
                stages.drop_session(&token.session);
                (0, 0)
            }
        };
        if (number as usize) < next {
            return None;
        }
        if number as usize > next {
            return Some(Outcome::Invalid {
                reason: format!("chunk {number} is staged after {next} chunks"),
            });
        }
        let chunk = Chunk::new(writes);
        let more = chunk.memory();
        if bytes + more > STAGED_BYTES_MAX {
            return Some(Outcome::TooLarge {
                limit_bytes: STAGED_BYTES_MAX,
            });
        }
        if stages.bytes + more > STAGED_BYTES_TOTAL_MAX {
            return Some(Outcome::TooLarge {
                limit_bytes: STAGED_BYTES_TOTAL_MAX,
            });
        }
        stages.add(token.session, token.seq, chunk);
        None
    }

    /// The chunks that a transaction names.
    pub(super) fn staged(&self, token: &Token, count: u32) -> Result<&[Arc<Chunk>], Outcome> {
        if count == 0 {
            return Ok(&[]);
        }
        let staged = self
            .stages
            .sessions
            .get(&token.session)
            .filter(|staged| staged.seq == token.seq);
        staged
            .and_then(|staged| staged.chunks.get(..count as usize))
            .ok_or_else(|| Outcome::Invalid {
                reason: format!("{count} staged chunks are needed and some are missing"),
            })
    }
}
