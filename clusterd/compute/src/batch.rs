//! Batches of an arrangement: sorted by key, value and time, packed tightly, merged in long runs.
//!
//! Where a run of keys of one batch lies between two keys of the other, its bytes are copied at once; only times and differences are looked at
//! one by one.

use crate::rows::{Ends, RowContainer};
use crate::types::{KeyedUpdate, T};
use differential_dataflow::consolidation::consolidate;
use differential_dataflow::trace::implementations::BatchContainer;
use differential_dataflow::trace::{
    Batch, BatchReader, Builder, Cursor, Description, Merger, Navigable,
};
use repr::{Diff, Row, RowRef};
use std::rc::Rc;
use timely::progress::Timestamp;
use timely::progress::frontier::{Antichain, AntichainRef};

/// An immutable, sorted list of updates.
pub struct SortedBatch {
    pub keys: RowContainer,
    /// Where each key's values end.
    val_ends: Ends,
    pub vals: RowContainer,
    updates: Updates,
    description: Description<T>,
}

/// Times and differences, a run per value.
#[derive(Default)]
struct Updates {
    /// Where each value's run ends. An empty run means: one update, the same as the last one before.
    ends: Ends,
    times: Vec<T>,
    diffs: Vec<Diff>,
    /// Updates, those that are not repeated included.
    count: usize,
}

impl Updates {
    fn with_capacity(vals: usize, updates: usize) -> Self {
        Updates {
            ends: Ends::with_capacity(vals, updates),
            times: Vec::with_capacity(updates),
            diffs: Vec::with_capacity(updates),
            count: 0,
        }
    }

    #[inline]
    fn bounds(&self, val: usize) -> (usize, usize) {
        let (start, end) = self.ends.bounds(val);
        if start == end {
            (start - 1, end)
        } else {
            (start, end)
        }
    }

    /// A value with one update.
    #[inline]
    fn push_single(&mut self, time: T, diff: Diff) {
        self.count += 1;
        if self.times.last() != Some(&time) || self.diffs.last() != Some(&diff) {
            self.times.push(time);
            self.diffs.push(diff);
        }
        self.ends.push(self.times.len());
    }

    /// A value with these updates; false if they cancel.
    fn push(&mut self, stash: &mut Vec<(T, Diff)>) -> bool {
        if stash.len() > 1 {
            consolidate(stash);
        }
        match stash.as_slice() {
            [] => return false,
            [(time, diff)] => self.push_single(*time, *diff),
            several => {
                self.count += several.len();
                self.times.extend(several.iter().map(|(t, _)| *t));
                self.diffs.extend(several.iter().map(|(_, d)| *d));
                self.ends.push(self.times.len());
            }
        }
        stash.clear();
        true
    }
}

impl SortedBatch {
    /// Bytes that the batch occupies.
    pub fn heap_bytes(&self) -> usize {
        let updates = self.updates.ends.heap_bytes() + 16 * self.updates.times.capacity();
        self.keys.heap_bytes() + self.vals.heap_bytes() + self.val_ends.heap_bytes() + updates
    }

    fn new(
        keys: RowContainer,
        val_ends: Ends,
        vals: RowContainer,
        updates: Updates,
        description: Description<T>,
    ) -> Self {
        assert_eq!(keys.len(), val_ends.len(), "every key has values");
        assert_eq!(vals.len(), updates.ends.len(), "every value has updates");
        SortedBatch {
            keys,
            val_ends,
            vals,
            updates,
            description,
        }
    }
}

impl BatchReader for SortedBatch {
    type Time = T;

    fn len(&self) -> usize {
        self.updates.count
    }

    fn description(&self) -> &Description<T> {
        &self.description
    }
}

impl Navigable for SortedBatch {
    type Cursor = SortedCursor;

    fn cursor(&self) -> SortedCursor {
        SortedCursor { key: 0, val: 0 }
    }
}

impl Batch for SortedBatch {
    type Merger = SortedMerger;

    fn empty(lower: Antichain<T>, upper: Antichain<T>) -> Self {
        let description = Description::new(lower, upper, Antichain::from_elem(T::minimum()));
        SortedBatch::new(
            Default::default(),
            Default::default(),
            Default::default(),
            Default::default(),
            description,
        )
    }
}

/// A position in a batch.
pub struct SortedCursor {
    key: usize,
    val: usize,
}

impl Cursor for SortedCursor {
    type Storage = SortedBatch;
    type Key<'a> = RowRef<'a>;
    type ValOwn = Row;
    type Val<'a> = RowRef<'a>;
    type Time = T;
    type TimeGat<'a> = &'a T;
    type Diff = Diff;
    type DiffGat<'a> = &'a Diff;
    type KeyContainer = RowContainer;
    type ValContainer = RowContainer;
    type TimeContainer = Vec<T>;
    type DiffContainer = Vec<Diff>;

    #[inline]
    fn key_valid(&self, batch: &SortedBatch) -> bool {
        self.key < batch.keys.len()
    }

    #[inline]
    fn val_valid(&self, batch: &SortedBatch) -> bool {
        self.key_valid(batch) && self.val < batch.val_ends.start(self.key + 1)
    }

    #[inline]
    fn key<'a>(&self, batch: &'a SortedBatch) -> RowRef<'a> {
        batch.keys.index(self.key)
    }

    #[inline]
    fn val<'a>(&self, batch: &'a SortedBatch) -> RowRef<'a> {
        batch.vals.index(self.val)
    }

    #[inline]
    fn get_key<'a>(&self, batch: &'a SortedBatch) -> Option<RowRef<'a>> {
        self.key_valid(batch).then(|| self.key(batch))
    }

    #[inline]
    fn get_val<'a>(&self, batch: &'a SortedBatch) -> Option<RowRef<'a>> {
        self.val_valid(batch).then(|| self.val(batch))
    }

    #[inline]
    fn map_times<L: FnMut(&T, &Diff)>(&mut self, batch: &SortedBatch, mut logic: L) {
        let (start, end) = batch.updates.bounds(self.val);
        for i in start..end {
            logic(&batch.updates.times[i], &batch.updates.diffs[i]);
        }
    }

    #[inline]
    fn step_key(&mut self, batch: &SortedBatch) {
        self.key = (self.key + 1).min(batch.keys.len());
        self.rewind_vals(batch);
    }

    #[inline]
    fn seek_key(&mut self, batch: &SortedBatch, key: RowRef<'_>) {
        self.key += batch.keys.advance(self.key, batch.keys.len(), |k| k < key);
        self.rewind_vals(batch);
    }

    #[inline]
    fn step_val(&mut self, batch: &SortedBatch) {
        self.val = (self.val + 1).min(batch.val_ends.start(self.key + 1));
    }

    #[inline]
    fn seek_val(&mut self, batch: &SortedBatch, val: RowRef<'_>) {
        self.val += batch
            .vals
            .advance(self.val, batch.val_ends.start(self.key + 1), |v| v < val);
    }

    fn rewind_keys(&mut self, batch: &SortedBatch) {
        self.key = 0;
        self.rewind_vals(batch);
    }

    #[inline]
    fn rewind_vals(&mut self, batch: &SortedBatch) {
        if self.key_valid(batch) {
            self.val = batch.val_ends.start(self.key);
        }
    }
}

/// A merge of two batches under way.
pub struct SortedMerger {
    /// Keys already merged, of each batch.
    at: [usize; 2],
    keys: RowContainer,
    val_ends: Ends,
    vals: RowContainer,
    updates: Updates,
    description: Description<T>,
    /// Earlier times become this one.
    since: T,
    stash: Vec<(T, Diff)>,
}

impl Merger<SortedBatch> for SortedMerger {
    fn new(
        first: &SortedBatch,
        second: &SortedBatch,
        compaction_frontier: AntichainRef<'_, T>,
    ) -> Self {
        use differential_dataflow::lattice::Lattice;
        assert!(
            first.upper() == second.lower(),
            "batches to merge are adjacent"
        );
        let since = first
            .description
            .since()
            .join(second.description.since())
            .join(&compaction_frontier.to_owned());
        // An empty frontier: nobody will tell times apart any more.
        let since_time = since.first().copied().unwrap_or(T::MAX);
        let updates = first.updates.times.len() + second.updates.times.len();
        let keys = first.keys.len() + second.keys.len();
        let vals = first.vals.len() + second.vals.len();
        SortedMerger {
            at: [0, 0],
            keys: RowContainer::merge_capacity(&first.keys, &second.keys),
            val_ends: Ends::with_capacity(keys, vals),
            vals: RowContainer::merge_capacity(&first.vals, &second.vals),
            updates: Updates::with_capacity(vals, updates),
            description: Description::new(first.lower().clone(), second.upper().clone(), since),
            since: since_time,
            stash: vec![],
        }
    }

    fn work(&mut self, first: &SortedBatch, second: &SortedBatch, fuel: &mut isize) {
        let mut left = *fuel;
        while left > 0 && (self.at[0] < first.keys.len() || self.at[1] < second.keys.len()) {
            left -= self.merge_some(first, second, left);
        }
        *fuel = left;
    }

    fn done(self) -> SortedBatch {
        SortedBatch::new(
            self.keys,
            self.val_ends,
            self.vals,
            self.updates,
            self.description,
        )
    }
}

impl SortedMerger {
    /// Merges a run of keys of one batch, or a key of both; about how many updates that was.
    fn merge_some(&mut self, first: &SortedBatch, second: &SortedBatch, fuel: isize) -> isize {
        let (Some(a), Some(b)) = (first.keys.get(self.at[0]), second.keys.get(self.at[1])) else {
            let side = if self.at[0] < first.keys.len() { 0 } else { 1 };
            let source = if side == 0 { first } else { second };
            return self.copy_run(source, side, source.keys.len(), fuel);
        };
        match a.cmp(&b) {
            std::cmp::Ordering::Less => {
                let run = first.keys.advance(self.at[0], first.keys.len(), |k| k < b);
                self.copy_run(first, 0, self.at[0] + run, fuel)
            }
            std::cmp::Ordering::Greater => {
                let run = second
                    .keys
                    .advance(self.at[1], second.keys.len(), |k| k < a);
                self.copy_run(second, 1, self.at[1] + run, fuel)
            }
            std::cmp::Ordering::Equal => self.merge_key(first, second),
        }
    }

    /// Copies keys of one batch up to `end`, or as far as the fuel goes.
    fn copy_run(&mut self, source: &SortedBatch, side: usize, end: usize, fuel: isize) -> isize {
        let start = self.at[side];
        // A key has at least one update; one more than the fuel allows does no harm.
        let end = end.min(start.saturating_add(fuel.max(1) as usize));
        self.at[side] = end;
        let before = self.updates.count;
        let mut copied = start;
        for key in start..end {
            let (val_start, val_end) = source.val_ends.bounds(key);
            if self.has_only_singles(source, val_start, val_end) {
                for val in val_start..val_end {
                    let (update, _) = source.updates.bounds(val);
                    self.updates.push_single(
                        source.updates.times[update].max(self.since),
                        source.updates.diffs[update],
                    );
                }
            } else {
                // Some values may go: up to here the run is copied as it is.
                self.copy_rows(source, copied, key);
                copied = key + 1;
                self.copy_key(source, key);
            }
        }
        self.copy_rows(source, copied, end);
        1 + (self.updates.count - before) as isize
    }

    #[inline]
    fn has_only_singles(&self, source: &SortedBatch, val_start: usize, val_end: usize) -> bool {
        (val_start..val_end).all(|val| {
            let (start, end) = source.updates.bounds(val);
            end - start == 1
        })
    }

    /// Copies the bytes of keys and their values; their updates are there already.
    fn copy_rows(&mut self, source: &SortedBatch, start: usize, end: usize) {
        if start < end {
            let at = self.vals.len();
            self.keys.extend_from(&source.keys, start..end);
            self.vals.extend_from(
                &source.vals,
                source.val_ends.start(start)..source.val_ends.start(end),
            );
            self.val_ends.extend_from(&source.val_ends, start..end, at);
        }
    }

    fn stash(&mut self, source: &SortedBatch, val: usize) {
        let (start, end) = source.updates.bounds(val);
        for i in start..end {
            self.stash.push((
                source.updates.times[i].max(self.since),
                source.updates.diffs[i],
            ));
        }
    }

    fn push_stashed(&mut self, val: RowRef<'_>) {
        if self.updates.push(&mut self.stash) {
            self.vals.push_ref(val);
        }
    }

    fn end_key(&mut self, key: RowRef<'_>, vals_before: usize) {
        if self.vals.len() > vals_before {
            self.keys.push_ref(key);
            self.val_ends.push(self.vals.len());
        }
    }

    /// Copies one key whose updates may cancel.
    fn copy_key(&mut self, source: &SortedBatch, key: usize) {
        let before = self.vals.len();
        let (start, end) = source.val_ends.bounds(key);
        for val in start..end {
            self.stash(source, val);
            self.push_stashed(source.vals.index(val));
        }
        self.end_key(source.keys.index(key), before);
    }

    /// Merges a key that both batches have.
    fn merge_key(&mut self, first: &SortedBatch, second: &SortedBatch) -> isize {
        let before = self.vals.len();
        let (mut a, a_end) = first.val_ends.bounds(self.at[0]);
        let (mut b, b_end) = second.val_ends.bounds(self.at[1]);
        let effort = (a_end - a + b_end - b) as isize;
        while a < a_end || b < b_end {
            let order = match (a < a_end, b < b_end) {
                (true, true) => first.vals.index(a).cmp(&second.vals.index(b)),
                (true, false) => std::cmp::Ordering::Less,
                (false, _) => std::cmp::Ordering::Greater,
            };
            let val = if order.is_le() {
                first.vals.index(a)
            } else {
                second.vals.index(b)
            };
            if order.is_le() {
                self.stash(first, a);
                a += 1;
            }
            if order.is_ge() {
                self.stash(second, b);
                b += 1;
            }
            self.push_stashed(val);
        }
        self.end_key(first.keys.index(self.at[0]), before);
        self.at = [self.at[0] + 1, self.at[1] + 1];
        effort
    }
}

/// Builds a batch from sorted updates, sized exactly.
pub struct SortedBuilder {
    keys: RowContainer,
    val_ends: Ends,
    vals: RowContainer,
    updates: Updates,
    stash: Vec<(T, Diff)>,
}

impl SortedBuilder {
    fn push_update(&mut self, (key, val): &(Row, Row), time: T, diff: Diff) {
        let same_key = self.keys.last().is_some_and(|k| k == key.as_ref());
        let same_val = same_key && self.vals.last().is_some_and(|v| v == val.as_ref());
        if !same_val {
            self.end_val();
            if !same_key {
                if !self.keys.is_empty() {
                    self.val_ends.push(self.vals.len());
                }
                self.keys.push_own(key);
            }
            self.vals.push_own(val);
        }
        self.stash.push((time, diff));
    }

    fn end_val(&mut self) {
        if !self.stash.is_empty() {
            let kept = self.updates.push(&mut self.stash);
            assert!(kept, "updates to build from are consolidated");
        }
    }
}

impl Builder for SortedBuilder {
    type Input = Vec<KeyedUpdate>;
    type Time = T;
    type Output = Rc<SortedBatch>;

    fn with_capacity(keys: usize, vals: usize, updates: usize) -> Self {
        SortedBuilder {
            keys: RowContainer::with_capacity(keys),
            val_ends: Ends::with_capacity(keys, vals),
            vals: RowContainer::with_capacity(vals),
            updates: Updates::with_capacity(vals, updates),
            stash: vec![],
        }
    }

    fn push(&mut self, chunk: &mut Vec<KeyedUpdate>) {
        for (row, time, diff) in chunk.drain(..) {
            self.push_update(&row, time, diff);
        }
    }

    fn done(mut self, description: Description<T>) -> Rc<SortedBatch> {
        self.end_val();
        if !self.keys.is_empty() {
            self.val_ends.push(self.vals.len());
        }
        Rc::new(SortedBatch::new(
            self.keys,
            self.val_ends,
            self.vals,
            self.updates,
            description,
        ))
    }

    fn seal(chain: &mut Vec<Vec<KeyedUpdate>>, description: Description<T>) -> Rc<SortedBatch> {
        let (mut keys, mut vals, mut times) = (0, 0, 0);
        let (mut key_bytes, mut val_bytes) = (0, 0);
        let mut last: Option<&KeyedUpdate> = None;
        for update in chain.iter().flatten() {
            let same_key = last.is_some_and(|l| l.0.0 == update.0.0);
            let same_val = same_key && last.is_some_and(|l| l.0.1 == update.0.1);
            if !same_key {
                keys += 1;
                key_bytes += update.0.0.byte_len();
            }
            if !same_val {
                vals += 1;
                val_bytes += update.0.1.byte_len();
            }
            // Runs of equal time and difference share one entry.
            if same_val || last.is_none_or(|l| (l.1, l.2) != (update.1, update.2)) {
                times += 1;
            }
            last = Some(update);
        }
        let mut builder = SortedBuilder::with_capacity(keys, vals, times);
        builder.keys = RowContainer::with_bytes(keys, key_bytes);
        builder.vals = RowContainer::with_bytes(vals, val_bytes);
        for chunk in chain.drain(..) {
            for (row, time, diff) in &chunk {
                builder.push_update(row, *time, *diff);
            }
        }
        builder.done(description)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use differential_dataflow::consolidation::consolidate_updates;
    use repr::Datum;

    fn built(mut updates: Vec<KeyedUpdate>, lower: T, upper: T) -> Rc<SortedBatch> {
        consolidate_updates(&mut updates);
        let bounds = [lower, upper, 0].map(Antichain::from_elem);
        let [lower, upper, since] = bounds;
        SortedBuilder::seal(&mut vec![updates], Description::new(lower, upper, since))
    }

    fn contents(batch: &SortedBatch) -> Vec<KeyedUpdate> {
        let mut cursor = batch.cursor();
        let mut out = vec![];
        while let Some(key) = cursor.get_key(batch) {
            while let Some(val) = cursor.get_val(batch) {
                cursor.map_times(batch, |t, d| {
                    out.push(((key.to_row(), val.to_row()), *t, *d))
                });
                cursor.step_val(batch);
            }
            cursor.step_key(batch);
        }
        out
    }

    #[test]
    fn a_merge_is_the_consolidated_sum_at_the_frontier() {
        let mut seed = 11u64;
        let mut next = |n: u64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for round in 0..200 {
            let (keys, vals) = (1 + next(40), 1 + next(3));
            let mut random = |lower: T| -> Vec<KeyedUpdate> {
                let count = next(120);
                let one = |n: u64| Row::pack_slice(&[Datum::Int64(n as i64 * 37)]);
                (0..count)
                    .map(|_| {
                        (
                            (one(next(keys)), one(next(vals))),
                            lower + next(4),
                            next(3) as i64 - 1,
                        )
                    })
                    .collect()
            };
            let (first, second) = (random(0), random(4));
            let since = 3 * (round % 3);
            let (a, b) = (built(first.clone(), 0, 4), built(second.clone(), 4, 8));
            let frontier = Antichain::from_elem(since);
            let mut merger = SortedMerger::new(&a, &b, frontier.borrow());
            let mut fuel = 0;
            while fuel <= 0 {
                fuel = 7;
                merger.work(&a, &b, &mut fuel);
            }
            let mut expected: Vec<KeyedUpdate> = first
                .into_iter()
                .chain(second)
                .map(|(row, t, d)| (row, t.max(since), d))
                .collect();
            consolidate_updates(&mut expected);
            let merged = merger.done();
            assert_eq!(merged.len(), expected.len());
            assert_eq!(contents(&merged), expected, "round {round}");
        }
    }
}
