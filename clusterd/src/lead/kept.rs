//! Answers that were too large for a message, until they are fetched by a stream.

use super::Rows;
use host::Instant;
use parking_lot::Mutex;
use protocol::PeekRows;
use protocol::cluster::{ANSWER_ROWS_BYTES_MAX, PeekAnswer, ROWS_KEPT_MS};
use repr::ClusterId;
use std::collections::BTreeMap;
use std::time::Duration;

/// Bytes kept at a time of one CLUSTER's answers; beyond, its oldest goes and its reader asks anew. A single one may be larger. What another CLUSTER answers changes nothing.
const KEPT_BYTES_MAX: u64 = 512 << 20;

#[derive(Default)]
pub(crate) struct KeptRows {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    next: u64,
    /// By ticket: the oldest first.
    answers: BTreeMap<u64, Answer>,
}

struct Answer {
    cluster: ClusterId,
    since: Instant,
    bytes: u64,
    rows: Rows,
}

impl KeptRows {
    /// The answer of a call with these rows: they themselves, or the ticket to fetch them with.
    pub fn answer(&self, cluster: ClusterId, rows: Rows, now: Instant) -> PeekAnswer {
        let bytes: u64 = rows.iter().map(|(row, _)| row.byte_len() as u64 + 16).sum();
        if bytes <= ANSWER_ROWS_BYTES_MAX {
            return PeekAnswer::Rows(PeekRows { rows });
        }
        let mut kept = self.kept.lock();
        kept.make_room(cluster, bytes, now);
        let ticket = kept.next;
        kept.next += 1;
        let answer = Answer {
            cluster,
            since: now,
            bytes,
            rows,
        };
        kept.answers.insert(ticket, answer);
        PeekAnswer::Kept { ticket }
    }

    /// What a ticket is for, once.
    pub fn take(&self, ticket: u64) -> Option<Rows> {
        let mut kept = self.kept.lock();
        let answer = kept.answers.remove(&ticket)?;
        Some(answer.rows)
    }
}

impl Kept {
    fn make_room(&mut self, cluster: ClusterId, bytes: u64, now: Instant) {
        let longest = Duration::from_millis(ROWS_KEPT_MS);
        self.answers
            .retain(|_, answer| now.since(answer.since) < longest);
        let of_cluster = |answer: &&Answer| answer.cluster == cluster;
        let kept = self.answers.values().filter(of_cluster);
        let mut beyond =
            (kept.map(|answer| answer.bytes).sum::<u64>() + bytes).saturating_sub(KEPT_BYTES_MAX);
        self.answers.retain(|_, answer| {
            let goes = beyond > 0 && answer.cluster == cluster;
            if goes {
                beyond = beyond.saturating_sub(answer.bytes);
            }
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repr::{Datum, Row};

    const OWN: ClusterId = ClusterId(1);
    const OTHER: ClusterId = ClusterId(2);

    #[test]
    fn large_answers_are_kept_once_and_for_a_while() {
        let now = Instant::default();
        let kept = KeptRows::default();
        let row = Row::pack_slice(&[Datum::String(&"x".repeat(3 << 20))]);
        let small = vec![(Row::pack_slice(&[Datum::Int32(1)]), 1)];
        let answer = kept.answer(OWN, small.clone(), now);
        assert_eq!(answer, PeekAnswer::Rows(PeekRows { rows: small }));
        let keep = |now| match kept.answer(OWN, vec![(row.clone(), 2)], now) {
            PeekAnswer::Kept { ticket } => ticket,
            other => panic!("{other:?} is too large for a message"),
        };
        let ticket = keep(now);
        assert_eq!(kept.take(ticket), Some(vec![(row.clone(), 2)]));
        assert_eq!(kept.take(ticket), None);
        let old = keep(now);
        let later = now + Duration::from_millis(ROWS_KEPT_MS);
        let young = keep(later);
        assert_eq!((kept.take(old), kept.take(young).is_some()), (None, true));
        assert!(kept.kept.lock().answers.is_empty());
    }

    #[test]
    fn one_cluster_does_not_push_out_what_another_answered() {
        let now = Instant::default();
        let kept = KeptRows::default();
        // Rows share their bytes: only the count is large.
        let row = Row::pack_slice(&[Datum::String(&"x".repeat(16 << 20))]);
        let keep = |cluster, rows| match kept.answer(cluster, vec![(row.clone(), 1); rows], now) {
            PeekAnswer::Kept { ticket } => ticket,
            other => panic!("{other:?} is too large for a message"),
        };
        let quiet = keep(OWN, 1);
        let flood: Vec<u64> = (0..3).map(|_| keep(OTHER, 20)).collect();
        assert!(kept.take(quiet).is_some());
        let there: Vec<bool> = flood.iter().map(|t| kept.take(*t).is_some()).collect();
        assert_eq!(there, [false, false, true]);
    }
}
