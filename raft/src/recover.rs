//! After the loss of a majority: one member that is left goes on alone.
//!
//! What the others acknowledged and this member never received is lost; what it received and nobody acknowledged becomes valid. Everything else is up to the caller: that the
//! other members never come back, and that nobody does this on two members.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::types::{Member, Membership, raft_entry};
use crate::wal::{EntryKind, LogEntry, LogPos, StoredVote, Wal};
use crate::{GroupId, codec};

/// What a member that does not run has of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// The highest term it has seen.
    pub term: u64,
    /// Its last entry. Of several members that are left, the one whose last entry has the highest term, then index, has most.
    pub last: Option<LogPos>,
    /// The last entry that it knew to be committed; later ones may or may not have been.
    pub committed: Option<LogPos>,
    /// The voters of the last membership in its log; empty if that is only in its snapshot.
    pub voters: BTreeSet<u64>,
}

/// Looks at a group that does not run.
///
/// # Errors
/// If the log cannot be read.
pub fn remains(wal: &Wal, group: GroupId) -> io::Result<Remains> {
    let state = wal.state(group);
    let first = state.purged.map_or(state.start, |purged| purged.index + 1);
    let end = state.last.map_or(first, |last| last.index + 1);
    let mut voters = BTreeSet::new();
    for entry in wal.read(group, first..end.max(first), u64::MAX)? {
        if entry.kind == EntryKind::Membership
            && let Some(membership) = codec::decode_membership(&entry.payload)
        {
            voters = membership.voter_ids().collect();
        }
    }
    Ok(Remains {
        term: state.vote.map_or(0, |vote| vote.term),
        last: state.last,
        committed: state.committed,
        voters,
    })
}

/// Makes `node` the only member of the group, by an entry behind its last. The group must not run; it elects itself at its next start. Returns where
/// that entry is.
///
/// # Errors
/// If this member has nothing of the group, or the log cannot be written.
pub async fn go_on_alone(
    wal: &Wal,
    group: GroupId,
    node: u64,
    member: Member,
) -> io::Result<LogPos> {
    let state = wal.state(group);
    let (Some(last), Some(vote)) = (state.last, state.vote) else {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "there is nothing of the group here",
        ));
    };
    let alone = Membership::new(
        vec![BTreeSet::from([node])],
        BTreeMap::from([(node, member)]),
    )
    .map_err(io::Error::other)?;
    let pos = LogPos {
        term: vote.term.max(last.term) + 1,
        index: last.index + 1,
    };
    let entry = LogEntry {
        pos,
        kind: EntryKind::Membership,
        payload: codec::encode_membership(&alone),
    };
    debug_assert!(raft_entry(entry.clone()).is_some());
    // The vote first: an entry of a term without a vote for it would look like damage.
    let vote = StoredVote {
        term: pos.term,
        node,
        committed: false,
    };
    durable(|done| wal.vote(group, vote, done)).await?;
    durable(|done| wal.append(group, vec![entry], done)).await?;
    Ok(pos)
}

type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

async fn durable(write: impl FnOnce(Done) -> io::Result<()>) -> io::Result<()> {
    let (done, durable) = tokio::sync::oneshot::channel();
    write(Box::new(move |result| drop(done.send(result))))?;
    durable
        .await
        .map_err(|_| io::Error::other("the log's writer is gone"))?
}
