//! Reading a shard in row order across its batches.

use std::sync::Arc;

use repr::{Diff, RowRef, Timestamp};

use super::batch::{Batch, prefix};

/// Walks the different rows of several batches in order. It owns what it reads: the shard may change meanwhile.
///
/// A shard has few batches, so the least head is found by a scan over their prefixes.
pub struct Cursor {
    heads: Vec<Head>,
    /// Heads that stand on the current row: (head, row number).
    current: Vec<(usize, usize)>,
}

struct Head {
    batch: Arc<Batch>,
    next: usize,
    prefix: u64,
}

impl Head {
    #[inline]
    fn settle(&mut self) {
        if self.next < self.batch.rows() {
            self.prefix = prefix(self.batch.row(self.next));
        }
    }

    #[inline]
    fn done(&self) -> bool {
        self.next == self.batch.rows()
    }
}

impl Cursor {
    pub(crate) fn new(batches: impl Iterator<Item = Arc<Batch>>) -> Cursor {
        let heads = batches.filter(|batch| batch.rows() > 0).map(|batch| {
            let mut head = Head {
                batch,
                next: 0,
                prefix: 0,
            };
            head.settle();
            head
        });
        Cursor {
            heads: heads.collect(),
            current: vec![],
        }
    }

    /// Moves to the next different row; false at the end.
    #[inline]
    fn advance(&mut self) -> bool {
        self.current.clear();
        let Some(least) = self.least() else {
            return false;
        };
        self.current.push((least, self.heads[least].next));
        if self.heads.len() > 1 {
            let (prefix, row) = (
                self.heads[least].prefix,
                self.heads[least].batch.row(self.heads[least].next),
            );
            for (i, head) in self.heads.iter().enumerate() {
                if i != least && head.prefix == prefix && head.batch.row(head.next) == row {
                    self.current.push((i, head.next));
                }
            }
        }
        for (i, _) in &self.current {
            self.heads[*i].next += 1;
            self.heads[*i].settle();
        }
        true
    }

    #[inline]
    fn least(&mut self) -> Option<usize> {
        // A finished head is dropped before the next search; its batch stays until the row after.
        self.heads.retain(|head| !head.done());
        let mut least = 0;
        for i in 1..self.heads.len() {
            let (a, b) = (&self.heads[least], &self.heads[i]);
            if b.prefix < a.prefix
                || (b.prefix == a.prefix && b.batch.row(b.next) < a.batch.row(a.next))
            {
                least = i;
            }
        }
        (!self.heads.is_empty()).then_some(least)
    }

    #[inline]
    fn row(&self) -> RowRef<'_> {
        let (head, row) = self.current[0];
        self.heads[head].batch.row(row)
    }

    /// The next row that occurs at `ts`, and how often.
    #[inline]
    pub(crate) fn next_at(&mut self, ts: Timestamp) -> Option<(RowRef<'_>, Diff)> {
        while self.advance() {
            let count = |(head, row): &(usize, usize)| self.heads[*head].batch.count_at(*row, ts);
            let diff = self.current.iter().map(count).fold(0, Diff::wrapping_add);
            if diff != 0 {
                return Some((self.row(), diff));
            }
        }
        None
    }

    /// The next row with any update, and its updates with times moved up to `since`, consolidated, by time.
    pub(crate) fn next_updates(
        &mut self,
        since: Timestamp,
        out: &mut Vec<(Timestamp, Diff)>,
    ) -> Option<RowRef<'_>> {
        loop {
            out.clear();
            if !self.advance() {
                return None;
            }
            for (head, row) in &self.current {
                out.extend(
                    self.heads[*head]
                        .batch
                        .updates_of(*row)
                        .map(|(time, diff)| (time.max(since), diff)),
                );
            }
            sum_by_time(out);
            if !out.is_empty() {
                return Some(self.row());
            }
        }
    }
}

/// Sorts by time and sums up equal times; what sums to zero goes.
fn sum_by_time(updates: &mut Vec<(Timestamp, Diff)>) {
    updates.sort_unstable_by_key(|(time, _)| *time);
    updates.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 = kept.1.wrapping_add(next.1);
        }
        same
    });
    updates.retain(|(_, diff)| *diff != 0);
}
