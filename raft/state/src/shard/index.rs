//! A hash index from the keys of one batch to its rows.

use super::keys::KeyList;

/// Rows per bucket that the directory aims for.
const BUCKET_ROWS: usize = 8;

/// Finds the rows of a batch that may have a key: candidates by hash, to be compared by the caller.
///
/// Rows that are gone at the end of the batch are kept apart: a key that changes all the time leaves many of them, and a read of
/// the latest content must not look at each.
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    left: Table,
    gone: Option<Table>,
}

impl KeyIndex {
    /// An index of rows none of which is gone at the end.
    pub(crate) fn new(keys: &KeyList) -> KeyIndex {
        KeyIndex {
            left: Table::new(keys, |_| true),
            gone: None,
        }
    }

    /// An index of rows of which some are gone at the end.
    pub(crate) fn with_gone(keys: &KeyList, is_gone: impl Fn(usize) -> bool) -> KeyIndex {
        KeyIndex {
            left: Table::new(keys, |row| !is_gone(row)),
            gone: Some(Table::new(keys, is_gone)),
        }
    }

    /// Row numbers whose key has this hash in its upper half: all, or only those that are left at the end of the batch.
    #[inline]
    pub(crate) fn candidates(&self, hash: u64, all: bool) -> impl Iterator<Item = u32> + '_ {
        let gone = self.gone.iter().filter(move |_| all);
        let gone = gone.flat_map(move |table| table.candidates(hash));
        self.left.candidates(hash).chain(gone)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.left.heap_bytes() + self.gone.as_ref().map_or(0, Table::heap_bytes)
    }
}

/// Entries are (upper 32 bits of the hash, row number), grouped in buckets by the hash's first bits. 8.5 bytes per row.
#[derive(Debug, Default)]
struct Table {
    /// How far a 32-bit hash is shifted right to give its bucket.
    shift: u32,
    /// Bucket `b` holds the entries `starts[b]..starts[b + 1]`.
    starts: Box<[u32]>,
    entries: Box<[(u32, u32)]>,
}

impl Table {
    fn new(keys: &KeyList, wanted: impl Fn(usize) -> bool) -> Table {
        let hashed: Vec<(u32, u32)> = (0..keys.len())
            .filter(|row| wanted(*row))
            .filter_map(|row| Some((upper(keys.hash(row)?), row as u32)))
            .collect();
        let bits = (hashed.len() / BUCKET_ROWS).max(1).ilog2();
        let shift = 32 - bits;
        let mut starts = vec![0u32; (1 << bits) + 1];
        for (hash, _) in &hashed {
            starts[bucket(*hash, shift) + 1] += 1;
        }
        for b in 1..starts.len() {
            starts[b] += starts[b - 1];
        }
        let mut next = starts.clone();
        let mut entries = vec![(0, 0); hashed.len()];
        for (hash, row) in hashed {
            let at = &mut next[bucket(hash, shift)];
            entries[*at as usize] = (hash, row);
            *at += 1;
        }
        Table {
            shift,
            starts: starts.into(),
            entries: entries.into(),
        }
    }

    #[inline]
    fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let hash = upper(hash);
        let b = bucket(hash, self.shift);
        let range = self.starts[b] as usize..self.starts[b + 1] as usize;
        self.entries[range]
            .iter()
            .filter(move |(h, _)| *h == hash)
            .map(|(_, row)| *row)
    }

    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.starts) + size_of_val(&*self.entries)
    }
}

#[inline]
fn upper(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[inline]
fn bucket(hash: u32, shift: u32) -> usize {
    // A shift by 32 (one bucket) is out of range for u32.
    (u64::from(hash) >> shift) as usize
}
