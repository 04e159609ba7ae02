//! Read positions: how a leader makes sure that it still leads, for those who want to read.
//!
//! A reader may be told a position p when everything that anybody could have seen before it asked is at or below p. Two things have to be known for that, both *after* it asked (H1, H2):
//! - **No later term had a leader by then.** A node that has voted in a later term says so. If a quorum of voters, this node among them, has not, then no later leader can have been elected
//!   before the first of them was asked. Whatever a later one does comes after the reader's question.
//! - **What this leader has let others see.** It commits an entry first in its own term, which commits all that came before; from then on nobody learns that an entry is
//!   committed unless this node tells it ([`Readers::tells`]) or applies it, and both are noted before they happen.
//!
//! This is ReadIndex (Ongaro, Consensus: Bridging Theory and Practice, section 6.4) with a message that asks only for the term. openraft does the same with heartbeats, which at each node
//! pass through the one task that also drives the log; it remains the way to the answer when the quick one has none: no entry of this term yet, no quorum, another leader.
//!
//! A voter that asks for its own readers says in its request in which term it has voted: that is its answer, given after they asked. In a group of three, it and the leader are a quorum.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::Either;
use futures::stream::FuturesUnordered;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Raft, ServerState};

use crate::machine::{Machine, Shared};
use crate::peers::{Peers, RpcKind};
use crate::rpc;
use crate::types::{Member, StoredMembership, Types, log_pos};
use crate::wal::LogPos;

/// How long those asked first may take until all others are asked, too.
const HEDGE: Duration = Duration::from_millis(2);
/// In one of so many rounds all are asked, to see who is quickest.
const ALL_EVERY: u64 = 64;

/// What this node has to know of itself to answer, noted as it happens.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    /// The highest term in which it has voted or followed, or is about to.
    term: AtomicU64,
    /// The last entry that it has shown, or is about to show, to be committed.
    committed: Mutex<Option<LogPos>>,
    /// Index of the last membership in its log, 0 if not known.
    membership: AtomicU64,
    /// The peer that answered first, last time.
    quickest: AtomicU64,
    rounds: AtomicU64,
}

impl Readers {
    /// To be called before anybody can learn of the vote.
    pub fn votes(&self, term: u64) {
        self.term.fetch_max(term, Ordering::SeqCst);
    }

    /// The highest term in which this node has voted or followed.
    pub fn term(&self) -> u64 {
        self.term.load(Ordering::SeqCst)
    }

    /// To be called before anybody can learn that the entry is committed, be it from this node's state.
    pub fn tells(&self, pos: LogPos) {
        let mut committed = self.lock();
        if committed.is_none_or(|known| known.index < pos.index) {
            *committed = Some(pos);
        }
    }

    /// To be called before a membership leaves this node.
    pub fn membership(&self, index: u64) {
        self.membership.fetch_max(index, Ordering::SeqCst);
    }

    /// The log ends at `last` now.
    pub fn truncated(&self, last: u64) {
        if self.membership.load(Ordering::SeqCst) > last {
            self.membership.store(0, Ordering::SeqCst);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<LogPos>> {
        self.committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a voter says of itself as it asks for its readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    pub node: u64,
    /// The term in which it had voted after all of its readers had arrived, see [`crate::RaftGroup::voted_term`].
    pub term: u64,
}

/// A leadership, as of after the reader asked.
struct Lead {
    term: u64,
    /// Everything that was shown to be committed is at or below this.
    pos: LogPos,
    membership: Arc<StoredMembership>,
}

impl Lead {
    /// Whether these are a quorum of the voters: while the voters are changed, of the old and of the new ones.
    fn is_quorum(&self, agreed: &BTreeSet<u64>) -> bool {
        let configs = self.membership.membership().get_joint_config();
        configs.iter().all(|voters| is_majority(voters, agreed))
    }
}

fn is_majority(voters: &BTreeSet<u64>, agreed: &BTreeSet<u64>) -> bool {
    voters.intersection(agreed).count() > voters.len() / 2
}

/// Confirms leaderships.
pub(crate) struct Confirmer {
    pub shared: Arc<Shared>,
    pub raft: Raft<Types, Machine>,
    pub peers: Arc<dyn Peers>,
}

impl Confirmer {
    /// A position to read at, if this node leads and a quorum says at once that it still does. `None` says nothing: ask openraft.
    pub async fn confirm(&self, witness: Option<Witness>) -> Option<LogPos> {
        let lead = self.lead()?;
        let mut agreed = BTreeSet::from([self.shared.config.node]);
        if let Some(Witness { node, term }) = witness
            && (term == lead.term || planted::is("h1w"))
        {
            agreed.insert(node);
        }
        let confirmed = lead.is_quorum(&agreed) || self.round(&lead, agreed).await;
        confirmed.then_some(lead.pos)
    }

    /// The leadership of this node, if it has one that readers can rely on.
    fn lead(&self) -> Option<Lead> {
        let readers = &self.shared.readers;
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let (own, vote) = (self.shared.config.node, metrics.vote.leader_id());
        // What openraft publishes may be a step behind. Its term is not, compared with the votes that are noted as they are given; nor are its members, with those in the log.
        let leads = metrics.state == ServerState::Leader
            && vote.voted_for == own
            && vote.term == readers.term();
        let membership = Arc::clone(&metrics.membership_config);
        let known = membership.log_id().as_ref().map_or(0, |id| id.index());
        if !leads || known < readers.membership.load(Ordering::SeqCst) {
            return None;
        }
        // One of an earlier term does not say how far that term had come.
        let pos = (*readers.lock()).filter(|pos| pos.term == vote.term)?;
        Some(Lead {
            term: vote.term,
            pos,
            membership,
        })
    }

    /// Asks voters for the term they have voted in, until they and `agreed` are a quorum for this leadership.
    async fn round(&self, lead: &Lead, mut agreed: BTreeSet<u64>) -> bool {
        let mut others = self.others(lead, &agreed);
        let mut ask_now = self.enough(lead, &agreed, others.len());
        let mut asked = FuturesUnordered::new();
        let mut hedge = pin!(self.shared.host.clock.sleep(HEDGE));
        loop {
            let chosen = others.drain(..std::mem::take(&mut ask_now));
            asked.extend(chosen.map(|(node, member)| self.ask(node, member)));
            let answer = match others.is_empty() {
                true => asked.next().await,
                false => match futures::future::select(asked.next(), hedge.as_mut()).await {
                    Either::Left((answer, _)) => answer,
                    Either::Right(((), _)) => {
                        ask_now = others.len();
                        continue;
                    }
                },
            };
            match answer {
                Some((node, Some(term))) if term == lead.term => {
                    let quickest = &self.shared.readers.quickest;
                    quickest.store(node, Ordering::Relaxed);
                    agreed.insert(node);
                    if lead.is_quorum(&agreed) {
                        return true;
                    }
                }
                // It is behind, or ahead; or it cannot be reached.
                Some((_, Some(_) | None)) => ask_now = others.len(),
                None => return false,
            }
        }
    }

    /// Voters that have not agreed, the quickest first.
    fn others(&self, lead: &Lead, agreed: &BTreeSet<u64>) -> Vec<(u64, Member)> {
        let membership = lead.membership.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let quickest = self.shared.readers.quickest.load(Ordering::Relaxed);
        let member = |node: &u64| Some((*node, membership.get_node(node)?.clone()));
        let mut others: Vec<_> = voters.difference(agreed).filter_map(member).collect();
        others.sort_by_key(|(node, _)| *node != quickest);
        others
    }

    /// How many of the others to ask first: as many as are needed, now and then all.
    fn enough(&self, lead: &Lead, agreed: &BTreeSet<u64>, others: usize) -> usize {
        let round = self.shared.readers.rounds.fetch_add(1, Ordering::Relaxed);
        match &lead.membership.membership().get_joint_config()[..] {
            [voters] if !round.is_multiple_of(ALL_EVERY) => {
                let have = voters.intersection(agreed).count();
                (voters.len() / 2 + 1).saturating_sub(have).min(others)
            }
            _ => others,
        }
    }

    /// The term in which a voter has voted, if it says so soon.
    async fn ask(&self, node: u64, member: Member) -> (u64, Option<u64>) {
        let (heartbeat, _, _) = self.shared.config.election.millis();
        let timeout = Duration::from_millis(heartbeat);
        let group = self.shared.config.group;
        let kind = RpcKind::VotedTerm;
        let call = self
            .peers
            .call(node, &member, group, kind, Bytes::new(), timeout);
        let answer = call.await.ok();
        (node, answer.and_then(|body| rpc::decode_term(&body)))
    }
}

/// Notes what is about to be told to a follower.
pub(crate) fn telling(shared: &Shared, committed: Option<&crate::types::LogId>) {
    if let Some(id) = committed {
        shared.readers.tells(log_pos(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nodes: &[u64]) -> BTreeSet<u64> {
        nodes.iter().copied().collect()
    }

    #[test]
    fn only_voters_count_for_a_majority() {
        assert!(is_majority(&set(&[1]), &set(&[1])));
        assert!(!is_majority(&set(&[1, 2]), &set(&[1])));
        assert!(is_majority(&set(&[1, 2, 3]), &set(&[1, 3])));
        assert!(!is_majority(&set(&[1, 2, 3]), &set(&[1, 4, 5])));
        assert!(!is_majority(&set(&[1, 2, 3, 4]), &set(&[1, 2])));
    }

    #[test]
    fn what_was_told_stays_told() {
        let readers = Readers::default();
        let pos = |term, index| LogPos { term, index };
        readers.tells(pos(1, 5));
        readers.tells(pos(1, 4));
        assert_eq!(*readers.lock(), Some(pos(1, 5)));
        readers.votes(7);
        readers.votes(6);
        assert_eq!(readers.term(), 7);
    }

    #[test]
    fn a_membership_that_was_cut_off_holds_nobody_up() {
        let readers = Readers::default();
        readers.membership(9);
        readers.truncated(9);
        assert_eq!(readers.membership.load(Ordering::SeqCst), 9);
        readers.truncated(8);
        assert_eq!(readers.membership.load(Ordering::SeqCst), 0);
    }
}
