//! Batches: immutable sets of updates, sorted by row and time.

use std::cmp::Ordering;
use std::sync::Arc;

use repr::{Diff, Row, RowRef, Timestamp};

use super::index::KeyIndex;
use super::keys::{KeyList, KeySpace, hash_key};

/// Updates (row, time, diff) sorted by row and then time, consolidated: a (row, time) occurs once, no diff is zero.
///
/// All rows lie in one allocation. Rows of a batch are numbered from 0; the updates of a row are adjacent.
#[derive(Debug, Default)]
pub struct Batch {
    contents: Arc<Contents>,
    times: Values<Timestamp>,
    time_min: Timestamp,
    time_max: Timestamp,
    /// Updates that vanish once every time in here is in the past.
    removable: usize,
}

/// All of a batch but its times: what was staged is shared, not copied, by the batch that links it.
#[derive(Debug, Default)]
struct Contents {
    bytes: Box<[u8]>,
    /// Where each row ends in `bytes`.
    row_ends: Box<[u32]>,
    /// Where each row's updates end; `None`: one update per row.
    update_ends: Option<Box<[u32]>>,
    diffs: Values<Diff>,
    /// One per key space of the shard.
    indexes: Vec<KeyIndex>,
}

/// One value per update, or one for all.
#[derive(Debug)]
enum Values<T> {
    Same(T, usize),
    Each(Box<[T]>),
}

impl<T: Default> Default for Values<T> {
    fn default() -> Self {
        Values::Same(T::default(), 0)
    }
}

impl<T: Copy + PartialEq> Values<T> {
    fn from_vec(values: Vec<T>) -> Values<T> {
        match values.first() {
            Some(first) if values.iter().all(|v| v == first) => Values::Same(*first, values.len()),
            _ => Values::Each(values.into()),
        }
    }

    #[inline]
    fn get(&self, index: usize) -> T {
        match self {
            Values::Same(value, _) => *value,
            Values::Each(values) => values[index],
        }
    }

    fn len(&self) -> usize {
        match self {
            Values::Same(_, len) => *len,
            Values::Each(values) => values.len(),
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Values::Same(..) => 0,
            Values::Each(values) => size_of_val(&**values),
        }
    }
}

impl Batch {
    /// How many different rows there are.
    pub fn rows(&self) -> usize {
        self.contents.row_ends.len()
    }

    /// How many updates there are.
    pub fn updates(&self) -> usize {
        self.times.len()
    }

    /// Memory of the whole batch.
    pub fn heap_bytes(&self) -> usize {
        self.contents.bytes.len()
            + size_of_val(&*self.contents.row_ends)
            + self
                .contents
                .update_ends
                .as_ref()
                .map_or(0, |ends| size_of_val(&**ends))
            + self.times.heap_bytes()
            + self.contents.diffs.heap_bytes()
            + self
                .contents
                .indexes
                .iter()
                .map(KeyIndex::heap_bytes)
                .sum::<usize>()
    }

    /// Packed bytes of the rows.
    pub fn row_bytes(&self) -> usize {
        self.contents.bytes.len()
    }

    pub(crate) fn time_min(&self) -> Timestamp {
        self.time_min
    }

    /// The latest time of an update; 0 without updates.
    pub fn time_max(&self) -> Timestamp {
        self.time_max
    }

    pub(crate) fn removable(&self) -> usize {
        self.removable
    }

    /// Row `index`.
    ///
    /// # Panics
    /// If there are not that many.
    #[inline]
    pub fn row(&self, index: usize) -> RowRef<'_> {
        let start = if index == 0 {
            0
        } else {
            self.contents.row_ends[index - 1] as usize
        };
        // SAFETY: `bytes[start..end]` was copied from one row by the builder.
        unsafe {
            RowRef::from_bytes_unchecked(
                &self.contents.bytes[start..self.contents.row_ends[index] as usize],
            )
        }
    }

    #[inline]
    fn update_range(&self, row: usize) -> std::ops::Range<usize> {
        match &self.contents.update_ends {
            None => row..row + 1,
            Some(ends) => (if row == 0 { 0 } else { ends[row - 1] as usize })..ends[row] as usize,
        }
    }

    /// The updates of row `index`, by time.
    #[inline]
    pub fn updates_of(&self, index: usize) -> impl Iterator<Item = (Timestamp, Diff)> + '_ {
        self.update_range(index)
            .map(|u| (self.times.get(u), self.contents.diffs.get(u)))
    }

    /// How often row `index` occurs at `ts`, as far as this batch tells.
    #[inline]
    pub(crate) fn count_at(&self, index: usize, ts: Timestamp) -> Diff {
        let diffs = self.updates_of(index).take_while(|(time, _)| *time <= ts);
        diffs.fold(0, |sum, (_, diff)| sum.wrapping_add(diff))
    }

    /// All updates, sorted by row and time.
    pub fn iter(&self) -> impl Iterator<Item = (RowRef<'_>, Timestamp, Diff)> + '_ {
        (0..self.rows()).flat_map(move |r| {
            self.updates_of(r)
                .map(move |(time, diff)| (self.row(r), time, diff))
        })
    }

    /// The number of a row.
    pub(crate) fn find_row(&self, row: RowRef<'_>) -> Option<usize> {
        let (mut low, mut high) = (0, self.rows());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.row(middle).cmp(&row) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Some(middle),
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The numbers of the rows with this key, whose hash is `hash`: of those that occur or change at a time from `from` on.
    pub(crate) fn find_key<'a>(
        &'a self,
        space: usize,
        keys: &'a KeySpace,
        key: RowRef<'a>,
        hash: u64,
        from: Timestamp,
    ) -> impl Iterator<Item = usize> + 'a {
        let mut packer = repr::RowPacker::new();
        self.contents.indexes[space]
            .candidates(hash, from < self.time_max)
            .map(|row| row as usize)
            .filter(move |row| {
                packer.clear();
                keys.pack_key(self.row(*row), &mut packer) && packer.as_bytes() == key.as_bytes()
            })
    }
}

/// One update on its way into a batch. Entries compare by row and then time.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// The row's first bytes, most significant first: most comparisons need no look at the row.
    prefix: u64,
    pub(crate) row: RowRef<'a>,
    pub(crate) time: Timestamp,
    pub(crate) diff: Diff,
}

impl<'a> Entry<'a> {
    #[inline]
    pub(crate) fn new(row: RowRef<'a>, time: Timestamp, diff: Diff) -> Entry<'a> {
        Entry {
            prefix: prefix(row),
            row,
            time,
            diff,
        }
    }

    #[inline]
    fn same_row(&self, other: &Entry<'_>) -> bool {
        self.prefix == other.prefix && self.row == other.row
    }

    #[inline]
    fn order(&self, other: &Entry<'_>) -> Ordering {
        self.prefix
            .cmp(&other.prefix)
            .then_with(|| self.row.cmp(&other.row))
            .then_with(|| self.time.cmp(&other.time))
    }
}

/// Orders like the row's bytes as far as eight bytes tell.
#[inline]
pub(crate) fn prefix(row: RowRef<'_>) -> u64 {
    let bytes = row.as_bytes();
    match bytes.first_chunk::<8>() {
        Some(eight) => u64::from_be_bytes(*eight),
        None => {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(eight)
        }
    }
}

/// Sorts updates and sums up those with equal row and time; what sums to zero goes.
///
/// The sort is stable and adaptive: a concatenation of sorted runs costs about as much as merging them.
pub(crate) fn consolidate(entries: &mut Vec<Entry<'_>>) {
    entries.sort_by(Entry::order);
    let mut kept = 0;
    for at in 0..entries.len() {
        let entry = entries[at];
        if kept > 0 && entries[kept - 1].time == entry.time && entries[kept - 1].same_row(&entry) {
            entries[kept - 1].diff = entries[kept - 1].diff.wrapping_add(entry.diff);
        } else {
            if kept > 0 && entries[kept - 1].diff == 0 {
                kept -= 1;
            }
            entries[kept] = entry;
            kept += 1;
        }
    }
    if kept > 0 && entries[kept - 1].diff == 0 {
        kept -= 1;
    }
    entries.truncate(kept);
}

/// Puts consolidated updates, in order, into a batch.
#[derive(Default)]
pub(crate) struct BatchBuilder {
    bytes: Vec<u8>,
    row_ends: Vec<u32>,
    update_ends: Vec<u32>,
    times: Vec<Timestamp>,
    diffs: Vec<Diff>,
}

impl BatchBuilder {
    pub(crate) fn with_capacity(updates: usize, bytes: usize) -> BatchBuilder {
        BatchBuilder {
            bytes: Vec::with_capacity(bytes),
            row_ends: Vec::with_capacity(updates),
            update_ends: Vec::with_capacity(updates),
            times: Vec::with_capacity(updates),
            diffs: Vec::with_capacity(updates),
        }
    }

    pub(crate) fn row_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The row pushed last.
    pub(crate) fn last_row(&self) -> Option<&[u8]> {
        let end = *self.row_ends.last()? as usize;
        let start = self
            .row_ends
            .len()
            .checked_sub(2)
            .map_or(0, |r| self.row_ends[r] as usize);
        Some(&self.bytes[start..end])
    }

    /// Must be called in the order of a batch.
    pub(crate) fn push(&mut self, row: RowRef<'_>, time: Timestamp, diff: Diff) {
        if self.last_row() == Some(row.as_bytes()) {
            *self.update_ends.last_mut().expect("a row has an end") += 1;
        } else {
            self.bytes.extend_from_slice(row.as_bytes());
            let end = u32::try_from(self.bytes.len()).expect("batches are kept below 4 GiB");
            self.row_ends.push(end);
            self.update_ends.push(self.times.len() as u32 + 1);
        }
        self.times.push(time);
        self.diffs.push(diff);
    }

    pub(crate) fn finish(self, spaces: &[KeySpace]) -> Batch {
        let batch = self.finish_plain();
        let indexes = spaces.iter().map(|space| batch.index(space)).collect();
        batch.with_indexes(indexes)
    }

    fn finish_plain(self) -> Batch {
        let many = self.update_ends.len() != self.times.len();
        let contents = Contents {
            bytes: self.bytes.into(),
            row_ends: self.row_ends.into(),
            update_ends: many.then(|| self.update_ends.into()),
            diffs: Values::from_vec(self.diffs),
            indexes: vec![],
        };
        let mut batch = Batch {
            contents: Arc::new(contents),
            time_min: self.times.iter().copied().min().unwrap_or(0),
            time_max: self.times.iter().copied().max().unwrap_or(0),
            times: Values::from_vec(self.times),
            removable: 0,
        };
        batch.removable = batch.count_removable();
        batch
    }

    fn of_entries(entries: &[Entry<'_>]) -> BatchBuilder {
        let bytes = entries.iter().map(|entry| entry.row.byte_len()).sum();
        let mut builder = BatchBuilder::with_capacity(entries.len(), bytes);
        for entry in entries {
            builder.push(entry.row, entry.time, entry.diff);
        }
        builder
    }
}

impl Batch {
    /// A batch of consolidated entries of one time, and their keys in each key space.
    pub(crate) fn from_entries(entries: &[Entry<'_>], keys: &[KeyList]) -> Batch {
        let batch = BatchBuilder::of_entries(entries).finish_plain();
        batch.with_indexes(keys.iter().map(KeyIndex::new).collect())
    }

    fn with_indexes(mut self, indexes: Vec<KeyIndex>) -> Batch {
        let contents = Arc::get_mut(&mut self.contents).expect("the batch was just made");
        contents.indexes = indexes;
        self
    }

    /// The same updates at `time`, sharing everything else; all of them must have one time.
    pub(crate) fn at_time(&self, time: Timestamp) -> Batch {
        assert!(
            self.time_min == self.time_max,
            "staged updates have no times of their own"
        );
        Batch {
            contents: self.contents.clone(),
            times: Values::Same(time, self.updates()),
            time_min: time,
            time_max: time,
            removable: self.removable,
        }
    }

    /// The updates of several batches, with times up to `since` moved to `since`.
    pub(crate) fn merge<'a>(
        batches: impl Iterator<Item = &'a Batch> + Clone,
        since: Timestamp,
        spaces: &[KeySpace],
    ) -> Batch {
        let mut entries = Vec::with_capacity(batches.clone().map(Batch::updates).sum());
        for batch in batches {
            entries.extend(
                batch
                    .iter()
                    .map(|(row, time, diff)| Entry::new(row, time.max(since), diff)),
            );
        }
        consolidate(&mut entries);
        BatchBuilder::of_entries(&entries).finish(spaces)
    }

    fn index(&self, space: &KeySpace) -> KeyIndex {
        let keys = KeyList::of(space, (0..self.rows()).map(|r| self.row(r)));
        if self.removable == 0 {
            return KeyIndex::new(&keys);
        }
        KeyIndex::with_gone(&keys, |row| self.count_at(row, Timestamp::MAX) == 0)
    }

    fn count_removable(&self) -> usize {
        if self.contents.update_ends.is_none() {
            return 0;
        }
        let left = (0..self.rows())
            .filter(|row| self.count_at(*row, Timestamp::MAX) != 0)
            .count();
        self.updates() - left
    }

    /// How often a row with this key occurs at the latest time, as far as this batch tells.
    pub(crate) fn count_key(
        &self,
        space: usize,
        keys: &KeySpace,
        key: RowRef<'_>,
        hash: u64,
    ) -> Diff {
        self.find_key(space, keys, key, hash, Timestamp::MAX)
            .fold(0, |sum, row| {
                sum.wrapping_add(self.count_at(row, Timestamp::MAX))
            })
    }

    /// Copies of the rows, with their counts, at `ts`.
    pub fn rows_at(&self, ts: Timestamp) -> impl Iterator<Item = (Row, Diff)> + '_ {
        (0..self.rows())
            .map(move |r| (self.row(r).to_row(), self.count_at(r, ts)))
            .filter(|(_, diff)| *diff != 0)
    }
}

/// The hash of a key given as a row.
pub(crate) fn hash_row_key(key: RowRef<'_>) -> u64 {
    hash_key(key.as_bytes())
}
