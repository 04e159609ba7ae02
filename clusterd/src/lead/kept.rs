//! Answers that were too large for a message, until they are fetched by a stream.

use super::Rows;
use host::Instant;
use parking_lot::Mutex;
use protocol::PeekRows;
use protocol::cluster::{ANSWER_ROWS_BYTES_MAX, PeekAnswer, ROWS_KEPT_MS};
use std::collections::BTreeMap;
use std::time::Duration;

/// Bytes kept at a time; beyond, the oldest answer goes and its reader asks anew. A single one may be larger.
const KEPT_BYTES_MAX: u64 = 1 << 30;

#[derive(Default)]
pub(crate) struct KeptRows {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    next: u64,
    answers: BTreeMap<u64, Answer>,
    bytes: u64,
}

struct Answer {
    since: Instant,
    bytes: u64,
    rows: Rows,
}

impl KeptRows {
    /// The answer of a call with these rows: they themselves, or the ticket to fetch them with.
    pub fn answer(&self, rows: Rows, now: Instant) -> PeekAnswer {
        let bytes: u64 = rows.iter().map(|(row, _)| row.byte_len() as u64 + 16).sum();
        if bytes <= ANSWER_ROWS_BYTES_MAX {
            return PeekAnswer::Rows(PeekRows { rows });
        }
        let mut kept = self.kept.lock();
        kept.make_room(bytes, now);
        let ticket = kept.next;
        kept.next += 1;
        kept.bytes += bytes;
        let since = now;
        kept.answers.insert(ticket, Answer { since, bytes, rows });
        PeekAnswer::Kept { ticket }
    }

    /// What a ticket is for, once.
    pub fn take(&self, ticket: u64) -> Option<Rows> {
        let mut kept = self.kept.lock();
        let answer = kept.answers.remove(&ticket)?;
        kept.bytes -= answer.bytes;
        Some(answer.rows)
    }
}

impl Kept {
    fn make_room(&mut self, bytes: u64, now: Instant) {
        let longest = Duration::from_millis(ROWS_KEPT_MS);
        while let Some(oldest) = self.answers.first_entry()
            && (now.since(oldest.get().since) >= longest || self.bytes + bytes > KEPT_BYTES_MAX)
        {
            self.bytes -= oldest.remove().bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repr::{Datum, Row};

    #[test]
    fn large_answers_are_kept_once_and_for_a_while() {
        let now = Instant::default();
        let kept = KeptRows::default();
        let row = Row::pack_slice(&[Datum::String(&"x".repeat(3 << 20))]);
        let small = vec![(Row::pack_slice(&[Datum::Int32(1)]), 1)];
        let answer = kept.answer(small.clone(), now);
        assert_eq!(answer, PeekAnswer::Rows(PeekRows { rows: small }));
        let keep = |now| match kept.answer(vec![(row.clone(), 2)], now) {
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
        assert_eq!(kept.kept.lock().bytes, 0);
    }
}
