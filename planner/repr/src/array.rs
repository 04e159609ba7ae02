//! Arrays and records: datums made of datums, borrowed in packed form.

use std::cmp::Ordering;
use std::fmt;

use crate::datum::Datum;
use crate::row::DatumIter;

/// The greatest number of dimensions, as in Postgres.
pub const ARRAY_DIMS_MAX: usize = 6;

/// Bytes of one dimension in an array's header: lower bound and length, 4 bytes each.
const DIM_BYTES: usize = 8;

/// One dimension of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArrayDim {
    /// The subscript of the first element: 1 normally, 0 in int2vector and oidvector.
    pub lower_bound: i32,
    /// The number of elements.
    pub length: u32,
}

impl ArrayDim {
    /// A dimension whose first element has the subscript 1.
    pub fn new(length: usize) -> ArrayDim {
        ArrayDim {
            lower_bound: 1,
            length: u32::try_from(length).expect("arrays are limited to 2^32 elements"),
        }
    }
}

/// A borrowed array: dimensions, then the elements in row-major order.
#[derive(Clone, Copy)]
pub struct ArrayRef<'a> {
    // One byte: the number of dimensions. Then that many (lower bound, length), little-endian. Then
    // the packed elements. Invariant: checked when the bytes were made.
    bytes: &'a [u8],
}

impl<'a> ArrayRef<'a> {
    /// The array without elements (and without dimensions).
    pub const EMPTY: ArrayRef<'static> = ArrayRef { bytes: &[0] };

    /// # Safety
    /// The bytes must be the body of a packed array.
    pub(crate) unsafe fn from_bytes_unchecked(bytes: &'a [u8]) -> ArrayRef<'a> {
        ArrayRef { bytes }
    }

    pub(crate) fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The number of dimensions; zero for the empty array.
    pub fn ndims(self) -> usize {
        usize::from(self.bytes[0])
    }

    /// The dimensions, outermost first.
    pub fn dims(self) -> impl ExactSizeIterator<Item = ArrayDim> + 'a {
        let header = &self.bytes[1..1 + DIM_BYTES * self.ndims()];
        header.chunks_exact(DIM_BYTES).map(|chunk| {
            let word = |at: usize| [chunk[at], chunk[at + 1], chunk[at + 2], chunk[at + 3]];
            ArrayDim {
                lower_bound: i32::from_le_bytes(word(0)),
                length: u32::from_le_bytes(word(4)),
            }
        })
    }

    /// The total number of elements.
    pub fn len(self) -> usize {
        match self.ndims() {
            0 => 0,
            _ => self.dims().map(|dim| dim.length as usize).product(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(self) -> bool {
        self.ndims() == 0
    }

    /// The elements in row-major order.
    pub fn iter(self) -> DatumIter<'a> {
        // SAFETY: by the invariant of `bytes`.
        unsafe { DatumIter::from_bytes_unchecked(&self.bytes[1 + DIM_BYTES * self.ndims()..]) }
    }

    /// The element with this subscript in a one-dimensional array.
    pub fn get(self, subscript: i64) -> Option<Datum<'a>> {
        let dim = self.dims().next()?;
        if self.ndims() != 1 {
            return None;
        }
        let index = usize::try_from(subscript.checked_sub(i64::from(dim.lower_bound))?).ok()?;
        let mut elements = self.iter();
        if index >= dim.length as usize {
            return None;
        }
        elements.skip_n(index);
        elements.next()
    }
}

impl<'a> IntoIterator for ArrayRef<'a> {
    type Item = Datum<'a>;
    type IntoIter = DatumIter<'a>;
    fn into_iter(self) -> DatumIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for ArrayRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for ArrayRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ArrayRef<'_> {}

impl PartialOrd for ArrayRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ArrayRef<'_> {
    /// Postgres's order: element by element, then the number of elements, then of dimensions, then
    /// the dimensions.
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter()
            .cmp(other.iter())
            .then_with(|| self.ndims().cmp(&other.ndims()))
            .then_with(|| {
                let lengths = |array: ArrayRef<'_>| -> Vec<u32> {
                    array.dims().map(|dim| dim.length).collect()
                };
                lengths(*self).cmp(&lengths(*other))
            })
            .then_with(|| {
                let bounds = |array: ArrayRef<'_>| -> Vec<i32> {
                    array.dims().map(|dim| dim.lower_bound).collect()
                };
                bounds(*self).cmp(&bounds(*other))
            })
    }
}

/// A borrowed record: a row inside a row.
#[derive(Clone, Copy)]
pub struct RecordRef<'a> {
    // Packed datums, checked when the bytes were made.
    bytes: &'a [u8],
}

impl<'a> RecordRef<'a> {
    /// # Safety
    /// The bytes must be packed datums.
    pub(crate) unsafe fn from_bytes_unchecked(bytes: &'a [u8]) -> RecordRef<'a> {
        RecordRef { bytes }
    }

    pub(crate) fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The fields in order.
    pub fn iter(self) -> DatumIter<'a> {
        // SAFETY: by the invariant of `bytes`.
        unsafe { DatumIter::from_bytes_unchecked(self.bytes) }
    }
}

impl fmt::Debug for RecordRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("");
        self.iter().for_each(|field| {
            tuple.field(&field);
        });
        tuple.finish()
    }
}

impl PartialEq for RecordRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for RecordRef<'_> {}

impl PartialOrd for RecordRef<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RecordRef<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}
