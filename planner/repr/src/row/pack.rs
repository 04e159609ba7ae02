//! Packing datums into bytes.

use std::borrow::Borrow;

use compact_bytes::CompactBytes;

use super::{Row, RowRef, tag};
use crate::array::{ARRAY_DIMS_MAX, ArrayDim};
use crate::datum::Datum;
use crate::numeric::Numeric;

/// A reusable buffer in which rows are built.
#[derive(Clone, Default, Debug)]
pub struct RowPacker {
    // Invariant: valid packed datums (outside of a call).
    buffer: Vec<u8>,
}

impl RowPacker {
    /// An empty packer.
    pub fn new() -> RowPacker {
        RowPacker::default()
    }

    /// An empty packer with room for this many bytes.
    pub fn with_capacity(bytes: usize) -> RowPacker {
        RowPacker {
            buffer: Vec::with_capacity(bytes),
        }
    }

    /// Appends a datum.
    #[inline]
    pub fn push(&mut self, datum: Datum<'_>) {
        match datum {
            Datum::Null => self.buffer.push(tag::NULL),
            Datum::Bool(false) => self.buffer.push(tag::FALSE),
            Datum::Bool(true) => self.buffer.push(tag::TRUE),
            Datum::Int16(v) => self.push_int(tag::INT16, i64::from(v)),
            Datum::Int32(v) => self.push_int(tag::INT32, i64::from(v)),
            Datum::Int64(v) => self.push_int(tag::INT64, v),
            Datum::Float32(v) => self.push_fixed(tag::FLOAT32, v.to_bits().to_le_bytes()),
            Datum::Float64(v) => self.push_fixed(tag::FLOAT64, v.to_bits().to_le_bytes()),
            Datum::Numeric(v) => self.push_numeric(v),
            Datum::String(v) => self.push_str(v),
            Datum::Bytes(v) => self.push_bytes(v),
            Datum::Date(v) => self.push_fixed(tag::DATE, v.0.to_le_bytes()),
            Datum::Time(v) => self.push_fixed(tag::TIME, v.0.to_le_bytes()),
            Datum::Timestamp(v) => self.push_fixed(tag::TIMESTAMP, v.0.to_le_bytes()),
            Datum::TimestampTz(v) => self.push_fixed(tag::TIMESTAMPTZ, v.0.to_le_bytes()),
            Datum::Interval(v) => {
                self.push_fixed(tag::INTERVAL, v.months.to_le_bytes());
                self.buffer.extend_from_slice(&v.days.to_le_bytes());
                self.buffer.extend_from_slice(&v.micros.to_le_bytes());
            }
            Datum::Uuid(v) => self.push_fixed(tag::UUID, v.0),
            Datum::Oid(v) => self.push_oid(v),
            Datum::MzTimestamp(v) => self.push_fixed(tag::MZ_TIMESTAMP, v.to_le_bytes()),
            Datum::Array(v) => self.push_sized(tag::ARRAY, v.as_bytes()),
            Datum::Record(v) => self.push_sized(tag::RECORD, v.as_bytes()),
        }
    }

    /// Appends datums.
    #[inline]
    pub fn extend<'a, D: Borrow<Datum<'a>>>(&mut self, datums: impl IntoIterator<Item = D>) {
        datums
            .into_iter()
            .for_each(|datum| self.push(*datum.borrow()));
    }

    /// Appends the datums of a row without decoding them.
    #[inline]
    pub fn extend_row(&mut self, row: RowRef<'_>) {
        self.buffer.extend_from_slice(row.as_bytes());
    }

    /// Appends already packed datums without decoding them.
    ///
    /// # Safety
    /// As for [`RowRef::from_bytes_unchecked`]. The safe forms are [`RowPacker::extend_row`] and
    /// [`super::DatumIter::take_packed`].
    #[inline]
    pub unsafe fn push_packed_unchecked(&mut self, packed: &[u8]) {
        self.buffer.extend_from_slice(packed);
    }

    /// Appends already packed datums, as [`super::DatumIter::take_packed`] hands them out, without
    /// decoding them.
    #[inline]
    pub fn push_packed(&mut self, packed: RowRef<'_>) {
        self.extend_row(packed);
    }

    /// Appends an array with these dimensions and, in row-major order, elements. An array without
    /// elements has no dimensions.
    ///
    /// # Panics
    /// If the number of elements is not the product of the dimensions, a dimension is empty, or
    /// there are more than six.
    pub fn push_array<'a, D: Borrow<Datum<'a>>>(
        &mut self,
        dims: &[ArrayDim],
        elements: impl IntoIterator<Item = D>,
    ) {
        assert!(dims.len() <= ARRAY_DIMS_MAX, "too many array dimensions");
        let start = self.begin_sized(tag::ARRAY);
        self.buffer.push(dims.len() as u8);
        for dim in dims {
            assert!(dim.length > 0, "an empty array has no dimensions");
            self.buffer
                .extend_from_slice(&dim.lower_bound.to_le_bytes());
            self.buffer.extend_from_slice(&dim.length.to_le_bytes());
        }
        let mut count = 0u64;
        for element in elements {
            self.push(*element.borrow());
            count += 1;
        }
        let expected = match dims {
            [] => 0,
            dims => dims.iter().map(|dim| u64::from(dim.length)).product(),
        };
        assert_eq!(count, expected, "array dimensions and elements disagree");
        self.end_sized(start);
    }

    /// Appends a one-dimensional array whose first subscript is 1.
    pub fn push_list<'a, D: Borrow<Datum<'a>>>(
        &mut self,
        elements: impl IntoIterator<Item = D, IntoIter: ExactSizeIterator>,
    ) {
        let elements = elements.into_iter();
        match elements.len() {
            0 => self.push_array(&[], elements),
            length => self.push_array(&[ArrayDim::new(length)], elements),
        }
    }

    /// Appends a record of these fields.
    pub fn push_record<'a, D: Borrow<Datum<'a>>>(&mut self, fields: impl IntoIterator<Item = D>) {
        let start = self.begin_sized(tag::RECORD);
        self.extend(fields);
        self.end_sized(start);
    }

    /// Turns what was pushed into a row; the buffer is empty afterwards and keeps its capacity.
    #[inline]
    pub fn finish_row(&mut self) -> Row {
        let row = Row {
            data: CompactBytes::new(&self.buffer),
        };
        self.buffer.clear();
        row
    }

    /// A view of what was pushed.
    #[inline]
    pub fn as_row_ref(&self) -> RowRef<'_> {
        RowRef {
            bytes: &self.buffer,
        }
    }

    /// The bytes of what was pushed.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// The number of bytes pushed.
    #[inline]
    pub fn byte_len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Forgets what was pushed and keeps the capacity.
    #[inline]
    pub fn clear(&mut self) {
        self.buffer.clear();
    }

    #[inline]
    fn push_fixed<const N: usize>(&mut self, tag: u8, body: [u8; N]) {
        self.buffer.reserve(1 + N);
        self.buffer.push(tag);
        self.buffer.extend_from_slice(&body);
    }

    /// Pushes the tag and the `length` low bytes of `body`. Writing all and cutting back is faster
    /// than a copy of variable length.
    #[inline]
    fn push_cut<const N: usize>(&mut self, tag: u8, body: [u8; N], length: usize) {
        self.push_fixed(tag, body);
        self.buffer.truncate(self.buffer.len() - (N - length));
    }

    #[inline]
    fn push_int(&mut self, tag: u8, v: i64) {
        let length = int_bytes(v);
        self.push_cut(tag + length as u8, v.to_le_bytes(), length);
    }

    #[inline]
    fn push_oid(&mut self, v: u32) {
        let length = (32 - v.leading_zeros()).div_ceil(8) as usize;
        self.push_cut(tag::OID + length as u8, v.to_le_bytes(), length);
    }

    #[inline]
    fn push_numeric(&mut self, v: Numeric) {
        if !v.is_finite() {
            self.buffer.push(if v.is_nan() {
                tag::NUMERIC_NAN
            } else if v.is_negative() {
                tag::NUMERIC_NEG_INFINITY
            } else {
                tag::NUMERIC_INFINITY
            });
            return;
        }
        let mantissa = v.mantissa();
        let length = wide_int_bytes(mantissa);
        match u8::try_from(v.scale()) {
            Ok(scale) => {
                self.buffer.reserve(18);
                self.buffer.push(tag::NUMERIC + length as u8);
                self.push_cut(scale, mantissa.to_le_bytes(), length);
            }
            Err(_) => {
                self.push_fixed(tag::NUMERIC_WIDE, v.scale().to_le_bytes());
                self.push_cut(length as u8, mantissa.to_le_bytes(), length);
            }
        }
    }

    #[inline]
    fn push_str(&mut self, v: &str) {
        if v.len() <= tag::STRING_SHORT_MAX {
            self.buffer.reserve(1 + v.len());
            self.buffer.push(tag::STRING + v.len() as u8);
            self.buffer.extend_from_slice(v.as_bytes());
        } else {
            self.push_sized(tag::STRING_LONG, v.as_bytes());
        }
    }

    #[inline]
    fn push_bytes(&mut self, v: &[u8]) {
        match u8::try_from(v.len()) {
            Ok(length) => {
                self.push_fixed(tag::BYTES, [length]);
                self.buffer.extend_from_slice(v);
            }
            Err(_) => self.push_sized(tag::BYTES_LONG, v),
        }
    }

    fn push_sized(&mut self, tag: u8, body: &[u8]) {
        self.push_fixed(tag, body_length(body.len()).to_le_bytes());
        self.buffer.extend_from_slice(body);
    }

    /// Starts a datum whose length is filled in by `end_sized`.
    fn begin_sized(&mut self, tag: u8) -> usize {
        self.push_fixed(tag, [0; 4]);
        self.buffer.len()
    }

    fn end_sized(&mut self, start: usize) {
        let length = body_length(self.buffer.len() - start);
        self.buffer[start - 4..start].copy_from_slice(&length.to_le_bytes());
    }
}

/// Values are limited far below 4 GiB where they enter (messages, statements, memory).
fn body_length(length: usize) -> u32 {
    u32::try_from(length).expect("a datum is smaller than 4 GiB")
}

/// How many low bytes of the two's complement tell the value.
#[inline]
pub(super) fn int_bytes(v: i64) -> usize {
    if v == 0 {
        return 0;
    }
    let magnitude = v ^ (v >> 63);
    (72 - magnitude.leading_zeros() as usize) / 8
}

/// How many low bytes of the two's complement tell the value.
#[inline]
pub(super) fn wide_int_bytes(v: i128) -> usize {
    if v == 0 {
        return 0;
    }
    let magnitude = v ^ (v >> 127);
    (136 - magnitude.leading_zeros() as usize) / 8
}
