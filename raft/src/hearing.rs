//! Whether this node's peers answer it while it leads a group.
//!
//! A leader whose appends arrive while no answer comes back (a one-way partition, a full receive queue) would keep its followers from electing another for ever: each append renews
//! their patience. Raft's remedy is CheckQuorum (Ongaro, Consensus: Bridging Theory and Practice, section 6.2): a leader that has not heard from a quorum for an election time-out
//! steps down. openraft's does not; here it falls silent for as long as an election takes, then tries again, by turns. Nobody is held up by silence who is well: a leader that is cut off in
//! both directions is not heard anyway, and one whose peers answer never falls silent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use host::Instant;

/// What the peers have answered.
#[derive(Debug, Default)]
pub(crate) struct Hearing {
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// The nodes whose votes count.
    voters: BTreeSet<u64>,
    /// The term this node leads, and when it sent its first append in it.
    begun: Option<(u64, Instant)>,
    /// When each peer's last answer in this term came.
    answers: BTreeMap<u64, Instant>,
}

impl Hearing {
    /// The nodes whose votes count from now on.
    pub fn set_voters(&self, voters: &BTreeSet<u64>) {
        let mut heard = self.lock();
        if heard.voters != *voters {
            heard.voters.clone_from(voters);
        }
    }

    /// An answer of `peer` to an append of `term` has come.
    pub fn answered(&self, peer: u64, term: u64, now: Instant) {
        let mut heard = self.lock();
        if heard.begun.is_some_and(|(begun, _)| begun == term) {
            heard.answers.insert(peer, now);
        }
    }

    /// Whether an append of `term` may be sent now. `patience`: how long a quorum may be silent, and how long this node then is.
    pub fn may_send(&self, own: u64, term: u64, now: Instant, patience: Duration) -> bool {
        let mut heard = self.lock();
        let begun = match heard.begun {
            Some((begun, at)) if begun == term => at,
            _ => {
                heard.answers.clear();
                heard.begun = Some((term, now));
                now
            }
        };
        let silent = now.since(heard.quorum_answered(own).map_or(begun, |at| at.max(begun)));
        let turn = silent.as_nanos() / patience.as_nanos().max(1);
        turn.is_multiple_of(2)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        // Whatever a panicking holder left is only a hint.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    /// The last time by which a quorum, this node included, had answered; `None` before that.
    fn quorum_answered(&self, own: u64) -> Option<Instant> {
        let others = self.voters.iter().filter(|voter| **voter != own);
        let mut answers: Vec<Instant> = others
            .filter_map(|voter| self.answers.get(voter).copied())
            .collect();
        answers.sort_unstable_by(|a, b| b.cmp(a));
        let others_needed = self.voters.len() / 2 + 1 - usize::from(self.voters.contains(&own));
        match others_needed {
            0 => None,
            needed => answers.get(needed - 1).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(600);

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn three() -> Hearing {
        let hearing = Hearing::default();
        hearing.set_voters(&[1, 2, 3].into());
        hearing
    }

    #[test]
    fn silence_comes_and_goes_by_turns_while_no_quorum_answers() {
        let hearing = three();
        let sends = |millis| hearing.may_send(1, 7, at(millis), PATIENCE);
        assert!(sends(1000), "the first append of a term");
        assert!(sends(1599));
        assert!(!sends(1600));
        assert!(!sends(2199));
        assert!(sends(2200), "another try");
        hearing.answered(2, 7, at(2250));
        assert!(sends(2849), "one of two peers is a quorum with this node");
        assert!(!sends(2850));
        hearing.answered(3, 6, at(2850));
        assert!(!sends(2851), "an answer to an older term says nothing");
    }

    #[test]
    fn a_dead_minority_silences_nobody() {
        let hearing = three();
        for millis in (0..60_000).step_by(50) {
            assert!(hearing.may_send(1, 7, at(millis), PATIENCE));
            hearing.answered(3, 7, at(millis));
        }
    }

    #[test]
    fn each_term_has_its_own_patience() {
        let hearing = three();
        assert!(hearing.may_send(1, 7, at(0), PATIENCE));
        assert!(!hearing.may_send(1, 7, at(900), PATIENCE));
        assert!(hearing.may_send(1, 8, at(900), PATIENCE));
    }
}
