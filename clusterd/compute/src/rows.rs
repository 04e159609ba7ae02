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

/// Where each row ends: 32 bits as long as they suffice.
enum Ends {
    Narrow(Vec<u32>),
    Wide(Vec<u64>),
}

impl Default for Ends {
    fn default() -> Self {
        Ends::Narrow(vec![])
    }
}

impl Ends {
    fn with_capacity(rows: usize, bytes: usize) -> Self {
        if u32::try_from(bytes).is_ok() {
            Ends::Narrow(Vec::with_capacity(rows))
        } else {
            Ends::Wide(Vec::with_capacity(rows))
        }
    }

    #[inline]
    fn len(&self) -> usize {
        match self {
            Ends::Narrow(ends) => ends.len(),
            Ends::Wide(ends) => ends.len(),
        }
    }

    #[inline]
    fn push(&mut self, end: usize) {
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

    /// Start and end of the row at this position.
    #[inline]
    fn bounds(&self, index: usize) -> (usize, usize) {
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

    fn heap_bytes(&self) -> usize {
        match self {
            Ends::Narrow(ends) => ends.capacity() * 4,
            Ends::Wide(ends) => ends.capacity() * 8,
        }
    }
}

impl RowContainer {
    /// An empty container with room for this many rows of this many bytes together.
    pub fn with_bytes(rows: usize, bytes: usize) -> Self {
        RowContainer { bytes: Vec::with_capacity(bytes), ends: Ends::with_capacity(rows, bytes) }
    }

    /// Bytes that the container occupies outside of itself.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.heap_bytes()
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
        RowContainer { bytes: Vec::new(), ends: Ends::with_capacity(size, 0) }
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
        let rows: Vec<Row> =
            (0..1000).map(|i| Row::pack_slice(&[Datum::Int64(i * 7919), Datum::String("x")][..(i % 3) as usize])).collect();
        for row in &rows {
            container.push_own(row);
        }
        assert_eq!(container.len(), rows.len());
        for (i, row) in rows.iter().enumerate() {
            assert_eq!(container.index(i).to_row(), *row);
        }
    }
}
