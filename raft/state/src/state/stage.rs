//! Parts of transactions that are too large for one entry: invisible until the transaction links them.
//!
//! The work of a large transaction is done a chunk at a time: each is sorted, indexed and checked when it is staged, chunks are
//! merged outside of apply like the batches of a shard, and linking them hands the batches over.

mod shard;

use std::collections::BTreeMap;
use std::sync::Arc;

use repr::{Diff, ShardId};

use super::{STAGED_BYTES_MAX, STAGED_BYTES_TOTAL_MAX, State};
use crate::command::{Gateway, Outcome, Session, Token, Write};
use crate::shard::{Batch, MergeDone, MergeJob, Shard};

pub(super) use shard::StagedShard;

/// What a staged write counts for beyond its updates.
const WRITE_BYTES: u64 = 48;
/// What an update counts for beyond its row.
const UPDATE_BYTES: u64 = 16;

/// What all sessions have staged.
#[derive(Clone, Debug, Default)]
pub(super) struct Stages {
    pub(super) sessions: BTreeMap<Session, Arc<Staged>>,
    bytes: u64,
}

/// What one attempt has staged.
#[derive(Clone, Debug, Default)]
pub(super) struct Staged {
    pub(super) seq: u64,
    /// How many chunks have come.
    pub(super) chunks: u32,
    /// What they count for against the limits, as they came.
    pub(super) bytes: u64,
    pub(super) shards: BTreeMap<ShardId, StagedShard>,
}

/// What a chunk counts for.
fn chunk_bytes(writes: &[Write]) -> u64 {
    let update = |(row, _): &(repr::Row, Diff)| row.byte_len() as u64 + UPDATE_BYTES;
    let write = |write: &Write| write.updates.iter().map(update).sum::<u64>() + WRITE_BYTES;
    writes.iter().map(write).sum()
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

    /// Adds a chunk to what a session has staged; the first warning of it, with the shard.
    pub(super) fn add(
        &mut self,
        session: Session,
        seq: u64,
        writes: &[Write],
        shards: &BTreeMap<ShardId, Arc<Shard>>,
    ) -> Option<(ShardId, u32, repr::Row)> {
        let bytes = chunk_bytes(writes);
        self.bytes += bytes;
        let staged = Arc::make_mut(self.sessions.entry(session).or_default());
        staged.seq = seq;
        staged.bytes += bytes;
        staged.chunks += 1;
        let mut warning = None;
        for write in writes {
            let stored = shards.get(&write.shard).map(|shard| &**shard);
            let shard = staged
                .shards
                .entry(write.shard)
                .or_insert_with(|| StagedShard::new(write.shard, stored));
            if let Some(stored) = stored {
                shard.catch_up_some(stored);
            }
            let updates = write
                .updates
                .iter()
                .map(|(row, diff)| (row.as_ref(), *diff));
            let twice = shard.add(stored, write.truncate, updates);
            warning = warning.or(twice.map(|(space, key)| (write.shard, space, key)));
        }
        warning
    }

    /// Puts back what a snapshot says a session has staged.
    pub(super) fn put(&mut self, session: Session, staged: Staged) {
        self.bytes += staged.bytes;
        self.sessions.insert(session, Arc::new(staged));
    }

    /// Tells what is staged for a shard of a commit to it.
    pub(super) fn follow(this: &mut Arc<Stages>, stored: &Shard, batches: &[Arc<Batch>]) {
        let follows = |staged: &Arc<Staged>| {
            let shard = staged.shards.get(&stored.id);
            shard.is_some_and(StagedShard::follows)
        };
        if !this.sessions.values().any(follows) {
            return;
        }
        for staged in Arc::make_mut(this).sessions.values_mut() {
            if follows(staged)
                && let Some(shard) = Arc::make_mut(staged).shards.get_mut(&stored.id)
            {
                shard.follow(stored, batches);
            }
        }
    }

    pub(super) fn merge_jobs(&self) -> impl Iterator<Item = MergeJob> {
        self.sessions.iter().flat_map(|(session, staged)| {
            let jobs = staged.shards.values();
            jobs.filter_map(|shard| {
                let job = shard.updates.merge_job(0)?;
                Some(job.of_stage(*session))
            })
        })
    }

    pub(super) fn install_merge(&mut self, session: &Session, done: &MergeDone) -> bool {
        let staged = self.sessions.get_mut(session).map(Arc::make_mut);
        let shard = staged.and_then(|staged| staged.shards.get_mut(&done.shard));
        shard.is_some_and(|shard| shard.updates.install(done))
    }
}

impl State {
    /// Keeps a chunk. A repeated one is ignored; a gap, an old token or too many bytes are refused. A unique violation is a
    /// warning: the chunk is kept, for a later one may resolve it.
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
            .map(|s| (s.seq, s.chunks, s.bytes));
        let (next, bytes) = match found {
            Some((seq, _, _)) if seq > token.seq => return Some(Outcome::TokenExpired),
            Some((seq, next, bytes)) if seq == token.seq => (next, bytes),
            Some(_) | None => {
                stages.drop_session(&token.session);
                (0, 0)
            }
        };
        if number < next {
            return None;
        }
        if number > next {
            return Some(Outcome::Invalid {
                reason: format!("chunk {number} is staged after {next} chunks"),
            });
        }
        let more = chunk_bytes(writes);
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
        let warning = stages.add(token.session, token.seq, writes, &self.shards);
        warning.map(|(shard, space, key)| Outcome::UniqueViolation { shard, space, key })
    }

    /// What a transaction has staged, in as many chunks as it says.
    pub(super) fn staged(&self, token: &Token, count: u32) -> Result<Option<&Staged>, Outcome> {
        if count == 0 {
            return Ok(None);
        }
        let staged = self
            .stages
            .sessions
            .get(&token.session)
            .filter(|staged| staged.seq == token.seq && staged.chunks == count);
        staged
            .map(|staged| Some(&**staged))
            .ok_or_else(|| Outcome::Invalid {
                reason: format!("{count} staged chunks are needed and some are missing"),
            })
    }
}
