//! Rows of an arrangement's batch, packed one after another.

use differential_dataflow::trace::implementations::BatchContainer;
use repr::{Row, RowRef};
use timely::container::PushInto;

/// A list of rows in one allocation of bytes.
#[derive(Default)]
pub struct RowContainer {
    bytes: Vec<u8>,
    ends: Ends,
}

/// Where each of a list of stretches ends: 32 bits as long as they suffice.
pub enum Ends {
    Narrow(Vec<u32>),
    Wide(Vec<u64>),
}

impl Default for Ends {
    fn default() -> Self {
        Ends::Narrow(vec![])
    }
}

impl Ends {
    /// Room for so many stretches, the last of which ends there.
    pub fn with_capacity(count: usize, end_max: usize) -> Self {
        if u32::try_from(end_max).is_ok() {
            Ends::Narrow(Vec::with_capacity(count))
        } else {
            Ends::Wide(Vec::with_capacity(count))
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Ends::Narrow(ends) => ends.len(),
            Ends::Wide(ends) => ends.len(),
        }
    }

    #[inline]
    pub fn push(&mut self, end: usize) {
        match self {
            Ends::Narrow(ends) => match u32::try_from(end) {
                Ok(end) => ends.push(end),
                Err(_) => {
                    let mut wide: Vec<u64> = ends.iter().map(|e| u64::from(*e)).collect();
                    wide.push(end as u64);
                    *self = Ends::Wide(wide);
                }
            },
            Ends::Wide(ends) => ends.push(end as u64),
        }
    }

    /// Where the stretch at this position starts; at the end, where the next one would.
    #[inline]
    pub fn start(&self, index: usize) -> usize {
        match (self, index) {
            (_, 0) => 0,
            (Ends::Narrow(ends), index) => ends[index - 1] as usize,
            (Ends::Wide(ends), index) => ends[index - 1] as usize,
        }
    }

    /// Start and end of the stretch at this position.
    #[inline]
    pub fn bounds(&self, index: usize) -> (usize, usize) {
        match self {
            Ends::Narrow(ends) => {
                let start = if index == 0 { 0 } else { ends[index - 1] };
                (start as usize, ends[index] as usize)
            }
            Ends::Wide(ends) => {
                let start = if index == 0 { 0 } else { ends[index - 1] };
                (start as usize, ends[index] as usize)
            }
        }
    }

    /// Appends a range of another list's stretches; the first of them starts at `at` here.
    pub fn extend_from(&mut self, other: &Ends, range: std::ops::Range<usize>, at: usize) {
        let start = other.start(range.start);
        let last = at + (other.start(range.end) - start);
        match (&mut *self, other) {
            (Ends::Narrow(ends), Ends::Narrow(others)) if u32::try_from(last).is_ok() => {
                let shift = (at as u32).wrapping_sub(start as u32);
                ends.extend(others[range].iter().map(|end| end.wrapping_add(shift)));
            }
            (Ends::Narrow(_) | Ends::Wide(_), _) => {
                for index in range {
                    self.push(at + (other.start(index + 1) - start));
                }
            }
        }
    }

    pub fn heap_bytes(&self) -> usize {
        match self {
            Ends::Narrow(ends) => ends.capacity() * 4,
            Ends::Wide(ends) => ends.capacity() * 8,
        }
    }
}

impl RowContainer {
    /// An empty container with room for this many rows of this many bytes together.
    pub fn with_bytes(rows: usize, bytes: usize) -> Self {
        RowContainer {
            bytes: Vec::with_capacity(bytes),
            ends: Ends::with_capacity(rows, bytes),
        }
    }

    /// Bytes that the container occupies outside of itself.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.heap_bytes()
    }

    /// Appends a range of another list.
    pub fn extend_from(&mut self, other: &RowContainer, range: std::ops::Range<usize>) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(
            &other.bytes[other.ends.start(range.start)..other.ends.start(range.end)],
        );
        self.ends.extend_from(&other.ends, range, at);
    }

    #[inline]
    fn push_bytes(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
    }
}

impl BatchContainer for RowContainer {
    type Owned = Row;
    type ReadItem<'a> = RowRef<'a>;

    #[inline]
    fn into_owned(item: RowRef<'_>) -> Row {
        item.to_row()
    }

    #[inline]
    fn push_ref(&mut self, item: RowRef<'_>) {
        self.push_bytes(item.as_bytes());
    }

    #[inline]
    fn push_own(&mut self, item: &Row) {
        self.push_bytes(item.as_bytes());
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends = Ends::default();
    }

    fn with_capacity(size: usize) -> Self {
        RowContainer {
            bytes: Vec::new(),
            ends: Ends::with_capacity(size, 0),
        }
    }

    fn merge_capacity(a: &Self, b: &Self) -> Self {
        RowContainer::with_bytes(a.len() + b.len(), a.bytes.len() + b.bytes.len())
    }

    #[inline]
    fn reborrow<'b, 'a: 'b>(item: RowRef<'a>) -> RowRef<'b> {
        item
    }

    #[inline]
    fn index(&self, index: usize) -> RowRef<'_> {
        let (start, end) = self.ends.bounds(index);
        // SAFETY: every stretch between two ends was copied from a row.
        unsafe { RowRef::from_bytes_unchecked(&self.bytes[start..end]) }
    }

    #[inline]
    fn len(&self) -> usize {
        self.ends.len()
    }
}

impl PushInto<Row> for RowContainer {
    #[inline]
    fn push_into(&mut self, item: Row) {
        self.push_bytes(item.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repr::Datum;

    #[test]
    fn rows_come_back_as_pushed() {
        let mut container = RowContainer::default();
        let rows: Vec<Row> = (0..1000)
            .map(|i| {
                Row::pack_slice(&[Datum::Int64(i * 7919), Datum::String("x")][..(i % 3) as usize])
            })
            .collect();
        for row in &rows {
            container.push_own(row);
        }
        assert_eq!(container.len(), rows.len());
        for (i, row) in rows.iter().enumerate() {
            assert_eq!(container.index(i).to_row(), *row);
        }
    }
}
