//! Rows: datums packed into bytes.
//!
//! Each datum is one tag byte and a body whose length follows from the tag (`row/tag.rs` holds the table).
//! Every value has exactly one encoding, so bytes are equal only if the datums are identical.

mod iter;
mod pack;
mod tag;
mod validate;

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use compact_bytes::CompactBytes;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

use crate::datum::Datum;
use crate::error::ReprError;

pub use iter::{DatumIter, DatumSink, decode_columns};
pub use pack::RowPacker;

/// An owned row: 24 bytes, of which 23 hold short rows inline.
///
/// `Eq` means identical datums. `Ord` is the order of the bytes, which is total, the same on every
/// node and not SQL's. `Hash` is stable across processes.
#[derive(Clone, Default)]
pub struct Row {
    // Invariant: valid packed datums.
    data: CompactBytes,
}

impl Row {
    /// The row without columns.
    pub fn empty() -> Row {
        Row::default()
    }

    /// Packs datums. Where many rows are made, a reused [`RowPacker`] is cheaper.
    pub fn pack<'a, D: Borrow<Datum<'a>>>(datums: impl IntoIterator<Item = D>) -> Row {
        let mut packer = RowPacker::new();
        packer.extend(datums);
        packer.finish_row()
    }

    /// Packs datums.
    pub fn pack_slice(datums: &[Datum<'_>]) -> Row {
        Row::pack(datums)
    }

    /// Takes bytes from disk or the mesh.
    ///
    /// # Errors
    /// If the bytes are anything but what a [`RowPacker`] would have made.
    pub fn from_bytes(bytes: &[u8]) -> Result<Row, ReprError> {
        validate::validate(bytes)?;
        Ok(Row {
            data: CompactBytes::new(bytes),
        })
    }

    /// Takes bytes that are known to be packed datums, without looking at them.
    ///
    /// # Safety
    /// The bytes must have come from [`Row::as_bytes`], [`RowRef::as_bytes`] or
    /// [`RowPacker::as_bytes`], whole datums at a time.
    pub unsafe fn from_bytes_unchecked(bytes: &[u8]) -> Row {
        debug_assert_eq!(validate::validate(bytes), Ok(()));
        Row {
            data: CompactBytes::new(bytes),
        }
    }

    /// A cheap borrowed view.
    #[inline]
    pub fn as_ref(&self) -> RowRef<'_> {
        RowRef {
            bytes: self.data.as_slice(),
        }
    }

    /// The datums in order.
    #[inline]
    pub fn iter(&self) -> DatumIter<'_> {
        self.as_ref().iter()
    }

    /// All datums.
    pub fn unpack(&self) -> Vec<Datum<'_>> {
        self.as_ref().unpack()
    }

    /// Appends all datums to a `Vec` or `SmallVec`.
    #[inline]
    pub fn unpack_into<'a>(&'a self, out: &mut impl DatumSink<'a>) {
        iter::unpack_into(self.iter(), out);
    }

    /// Decodes the columns in `demand` (ascending) into `out` (as long as `demand`).
    #[inline]
    pub fn decode_columns<'a>(&'a self, demand: &[usize], out: &mut [Datum<'a>]) {
        decode_columns(self.as_ref(), demand, out);
    }

    /// The datum in one column.
    ///
    /// # Panics
    /// If the row has no such column.
    pub fn column(&self, index: usize) -> Datum<'_> {
        self.as_ref().column(index)
    }

    /// The number of columns. Takes a pass over the row.
    pub fn arity(&self) -> usize {
        self.as_ref().arity()
    }

    /// The packed bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.data.as_slice()
    }

    /// The length of the packed bytes.
    #[inline]
    pub fn byte_len(&self) -> usize {
        self.data.len()
    }

    /// How many bytes this row occupies outside of its own 24.
    pub fn heap_bytes(&self) -> usize {
        if self.data.spilled() {
            self.data.capacity()
        } else {
            0
        }
    }

    /// A hash of the packed bytes, the same in every process.
    #[inline]
    pub fn hash64(&self) -> u64 {
        self.as_ref().hash64()
    }

    /// Whether the row has no columns.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

/// A borrowed row.
#[derive(Clone, Copy, Default)]
pub struct RowRef<'a> {
    // Invariant: valid packed datums.
    bytes: &'a [u8],
}

impl<'a> RowRef<'a> {
    /// Views bytes from disk or the mesh as a row.
    ///
    /// # Errors
    /// If the bytes are anything but what a [`RowPacker`] would have made.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<RowRef<'a>, ReprError> {
        validate::validate(bytes)?;
        Ok(RowRef { bytes })
    }

    /// Views bytes that are known to be packed datums as a row, without looking at them.
    ///
    /// # Safety
    /// The bytes must have come from [`Row::as_bytes`], [`RowRef::as_bytes`] or
    /// [`RowPacker::as_bytes`], whole datums at a time.
    #[inline]
    pub unsafe fn from_bytes_unchecked(bytes: &'a [u8]) -> RowRef<'a> {
        RowRef { bytes }
    }

    /// The datums in order.
    #[inline]
    pub fn iter(self) -> DatumIter<'a> {
        // SAFETY: by the invariant of `bytes`.
        unsafe { DatumIter::from_bytes_unchecked(self.bytes) }
    }

    /// All datums.
    pub fn unpack(self) -> Vec<Datum<'a>> {
        let mut out = Vec::with_capacity(8);
        self.unpack_into(&mut out);
        out
    }

    /// Appends all datums to a `Vec` or `SmallVec`.
    #[inline]
    pub fn unpack_into(self, out: &mut impl DatumSink<'a>) {
        iter::unpack_into(self.iter(), out);
    }

    /// Decodes the columns in `demand` (ascending) into `out` (as long as `demand`).
    #[inline]
    pub fn decode_columns(self, demand: &[usize], out: &mut [Datum<'a>]) {
        decode_columns(self, demand, out);
    }

    /// The datum in one column.
    ///
    /// # Panics
    /// If the row has no such column.
    pub fn column(self, index: usize) -> Datum<'a> {
        let mut datums = self.iter();
        datums.skip_n(index);
        match datums.next() {
            Some(datum) => datum,
            None => panic!("row has no column {index}: {self:?}"),
        }
    }

    /// The number of columns. Takes a pass over the row.
    pub fn arity(self) -> usize {
        self.iter().count()
    }

    /// The packed bytes.
    #[inline]
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The length of the packed bytes.
    #[inline]
    pub fn byte_len(self) -> usize {
        self.bytes.len()
    }

    /// Whether the row has no columns.
    pub fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// A hash of the packed bytes, the same in every process.
    #[inline]
    pub fn hash64(self) -> u64 {
        xxh3_64(self.bytes)
    }

    /// An owned copy.
    pub fn to_row(self) -> Row {
        Row {
            data: CompactBytes::new(self.bytes),
        }
    }
}

impl<'a> IntoIterator for &'a Row {
    type Item = Datum<'a>;
    type IntoIter = DatumIter<'a>;
    fn into_iter(self) -> DatumIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for RowRef<'a> {
    type Item = Datum<'a>;
    type IntoIter = DatumIter<'a>;
    fn into_iter(self) -> DatumIter<'a> {
        self.iter()
    }
}

impl<'a> From<&'a Row> for RowRef<'a> {
    fn from(row: &'a Row) -> RowRef<'a> {
        row.as_ref()
    }
}

impl PartialEq for Row {
    #[inline]
    fn eq(&self, other: &Row) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Row {}

impl PartialOrd for Row {
    #[inline]
    fn partial_cmp(&self, other: &Row) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Row {
    #[inline]
    fn cmp(&self, other: &Row) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Row {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash64());
    }
}

impl PartialEq for RowRef<'_> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for RowRef<'_> {}

impl PartialOrd for RowRef<'_> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RowRef<'_> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes.cmp(other.bytes)
    }
}

impl Hash for RowRef<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash64());
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

impl fmt::Debug for RowRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_bytes())
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Row, D::Error> {
        struct RowVisitor;

        impl Visitor<'_> for RowVisitor {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a row")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Row, E> {
                Row::from_bytes(bytes).map_err(E::custom)
            }
        }

        deserializer.deserialize_bytes(RowVisitor)
    }
}
