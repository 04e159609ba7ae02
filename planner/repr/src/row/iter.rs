//! Reading packed datums. This is the hot path of the engine.

use super::{RowRef, tag};
use crate::array::{ArrayRef, RecordRef};
use crate::datum::{Datum, Uuid};
use crate::numeric::Numeric;
use crate::time::{Date, Interval, PgTimestamp, Time};

/// Decodes packed datums one by one.
#[derive(Clone, Copy, Debug)]
pub struct DatumIter<'a> {
    // Invariant: valid packed datums.
    rest: &'a [u8],
}

impl<'a> DatumIter<'a> {
    /// # Safety
    /// The bytes must be valid packed datums.
    #[inline]
    pub(crate) unsafe fn from_bytes_unchecked(bytes: &'a [u8]) -> DatumIter<'a> {
        DatumIter { rest: bytes }
    }

    /// Steps over `n` datums, or to the end if there are fewer, without decoding.
    #[inline]
    pub fn skip_n(&mut self, n: usize) {
        let bytes = self.rest;
        let mut at = 0;
        for _ in 0..n {
            let Some(&tag) = bytes.get(at) else { break };
            at += match tag::WIDTH[usize::from(tag)] {
                0 => variable_width(&bytes[at..]),
                width => usize::from(width),
            };
        }
        self.rest = &bytes[at..];
    }

    /// Steps over `n` datums and returns them still packed, for [`super::RowPacker::push_packed`].
    #[inline]
    pub fn take_packed(&mut self, n: usize) -> RowRef<'a> {
        let before = self.rest;
        self.skip_n(n);
        RowRef {
            bytes: &before[..before.len() - self.rest.len()],
        }
    }

    /// What is left, still packed.
    #[inline]
    pub fn remainder(&self) -> RowRef<'a> {
        RowRef { bytes: self.rest }
    }

    /// Whether all datums have been read.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    fn split(&mut self, at: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(at);
        self.rest = rest;
        taken
    }

    /// Takes the tag and `N` bytes.
    #[inline]
    fn fixed<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.split(1 + N);
        let mut body = [0; N];
        body.copy_from_slice(&taken[1..]);
        body
    }

    /// Takes the tag and a sign-extended integer of `length` bytes (0 to 8).
    #[inline]
    fn int(&mut self, length: u8) -> i64 {
        let length = usize::from(length);
        let value = load(&self.rest[1..], length);
        self.rest = &self.rest[1 + length..];
        value
    }

    #[inline]
    fn numeric(&mut self, length: u8) -> Datum<'a> {
        let length = usize::from(length);
        let scale = u16::from(self.rest[1]);
        let body = &self.rest[2..];
        let (high, low) = match length {
            0..=8 => {
                let low = load(body, length);
                (low >> 63, low as u64)
            }
            _ => (load(&body[8..], length - 8), load(body, 8) as u64),
        };
        self.rest = &body[length..];
        Datum::Numeric(Numeric::from_packed(high, low, scale))
    }

    #[cold]
    fn numeric_wide(&mut self) -> Datum<'a> {
        let scale = u16::from_le_bytes([self.rest[1], self.rest[2]]);
        let length = usize::from(self.rest[3]);
        let mantissa = sign_extended(&self.split(4 + length)[4..]);
        let (high, low) = ((mantissa >> 64) as i64, mantissa as u64);
        Datum::Numeric(Numeric::from_packed(high, low, scale))
    }

    #[inline]
    fn interval(&mut self) -> Datum<'a> {
        let [m0, m1, m2, m3, d0, d1, d2, d3, micros @ ..] = self.fixed::<16>();
        Datum::Interval(Interval {
            months: i32::from_le_bytes([m0, m1, m2, m3]),
            days: i32::from_le_bytes([d0, d1, d2, d3]),
            micros: i64::from_le_bytes(micros),
        })
    }

    #[inline]
    fn oid(&mut self, length: u8) -> Datum<'a> {
        let length = usize::from(length);
        let taken = self.split(1 + length);
        let mut body = [0; 4];
        body[..length].copy_from_slice(&taken[1..]);
        Datum::Oid(u32::from_le_bytes(body))
    }

    #[inline]
    fn str(&mut self, header: usize, length: usize) -> Datum<'a> {
        let taken = self.split(header + length);
        // SAFETY: the invariant of `rest` includes that strings are UTF-8.
        Datum::String(unsafe { std::str::from_utf8_unchecked(&taken[header..]) })
    }

    /// Takes a tag, four bytes of length and that many bytes.
    #[inline]
    fn sized(&mut self) -> &'a [u8] {
        let length = sized_length(self.rest);
        &self.split(5 + length)[5..]
    }
}

impl<'a> DatumIter<'a> {
    /// Decodes the next datum into `slot` and tells whether there was one.
    ///
    /// Faster than `next` where the datum is to stay in memory: its parts are written straight to their
    /// place, instead of together and then moved, for which the processor would have to wait.
    #[inline]
    pub fn next_into(&mut self, slot: &mut Datum<'a>) -> bool {
        let Some(&tag) = self.rest.first() else {
            return false;
        };
        match tag {
            tag::STRING.. => *slot = self.str(1, usize::from(tag - tag::STRING)),
            tag::INT16..=tag::INT16_END => *slot = Datum::Int16(self.int(tag - tag::INT16) as i16),
            tag::INT32..=tag::INT32_END => *slot = Datum::Int32(self.int(tag - tag::INT32) as i32),
            tag::INT64..=tag::INT64_END => *slot = Datum::Int64(self.int(tag - tag::INT64)),
            tag::NUMERIC..=tag::NUMERIC_END => *slot = self.numeric(tag - tag::NUMERIC),
            tag::OID..=tag::OID_END => *slot = self.oid(tag - tag::OID),
            tag::FLOAT32 => *slot = Datum::Float32(f32::from_le_bytes(self.fixed())),
            tag::FLOAT64 => *slot = Datum::Float64(f64::from_le_bytes(self.fixed())),
            tag::DATE => *slot = Datum::Date(Date(i32::from_le_bytes(self.fixed()))),
            tag::TIME => *slot = Datum::Time(Time(i64::from_le_bytes(self.fixed()))),
            tag::TIMESTAMP => {
                *slot = Datum::Timestamp(PgTimestamp(i64::from_le_bytes(self.fixed())))
            }
            tag::TIMESTAMPTZ => {
                *slot = Datum::TimestampTz(PgTimestamp(i64::from_le_bytes(self.fixed())))
            }
            tag::INTERVAL => *slot = self.interval(),
            tag::UUID => *slot = Datum::Uuid(Uuid(self.fixed())),
            tag::MZ_TIMESTAMP => *slot = Datum::MzTimestamp(u64::from_le_bytes(self.fixed())),
            tag::BYTES => {
                let length = usize::from(self.rest[1]);
                *slot = Datum::Bytes(&self.split(2 + length)[2..]);
            }
            tag::BYTES_LONG => *slot = Datum::Bytes(self.sized()),
            tag::STRING_LONG => *slot = self.str(5, sized_length(self.rest)),
            // SAFETY: the invariant of `rest` covers the inside of arrays and records.
            tag::ARRAY => {
                *slot = Datum::Array(unsafe { ArrayRef::from_bytes_unchecked(self.sized()) })
            }
            // SAFETY: as above.
            tag::RECORD => {
                *slot = Datum::Record(unsafe { RecordRef::from_bytes_unchecked(self.sized()) })
            }
            tag::NUMERIC_WIDE => *slot = self.numeric_wide(),
            _ => *slot = self.bare(tag),
        }
        true
    }
}

impl<'a> Iterator for DatumIter<'a> {
    type Item = Datum<'a>;

    #[inline]
    fn next(&mut self) -> Option<Datum<'a>> {
        let mut datum = Datum::Null;
        self.next_into(&mut datum).then_some(datum)
    }
}

impl<'a> DatumIter<'a> {
    /// Datums that are a tag and nothing else.
    #[inline]
    fn bare(&mut self, tag: u8) -> Datum<'a> {
        self.rest = &self.rest[1..];
        match tag {
            tag::NULL => Datum::Null,
            tag::FALSE => Datum::Bool(false),
            tag::TRUE => Datum::Bool(true),
            tag::NUMERIC_NAN => Datum::Numeric(Numeric::NAN),
            tag::NUMERIC_INFINITY => Datum::Numeric(Numeric::INFINITY),
            tag::NUMERIC_NEG_INFINITY => Datum::Numeric(Numeric::NEG_INFINITY),
            unknown => panic!("packed row has the unknown tag {unknown:#04x}"),
        }
    }
}

impl std::iter::FusedIterator for DatumIter<'_> {}

/// The four bytes of length after a tag.
#[inline]
fn sized_length(bytes: &[u8]) -> usize {
    u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize
}

/// The width of a datum whose tag does not tell it.
fn variable_width(bytes: &[u8]) -> usize {
    match bytes[0] {
        tag::BYTES => 2 + usize::from(bytes[1]),
        tag::BYTES_LONG | tag::STRING_LONG | tag::ARRAY | tag::RECORD => 5 + sized_length(bytes),
        tag::NUMERIC_WIDE => 4 + usize::from(bytes[3]),
        unknown => panic!("packed row has the unknown tag {unknown:#04x}"),
    }
}

/// The value of a little-endian two's complement of 0 to 16 bytes.
#[inline]
pub(super) fn sign_extended(body: &[u8]) -> i128 {
    let Some(&last) = body.last() else { return 0 };
    let fill = if last >= 0x80 { 0xff } else { 0 };
    let mut word = [fill; 16];
    word[..body.len()].copy_from_slice(body);
    i128::from_le_bytes(word)
}

/// The sign-extended integer in the first `length` (0 to 8) bytes.
#[inline]
fn load(bytes: &[u8], length: usize) -> i64 {
    // Usually eight bytes can be read although fewer belong to this datum: one load and two shifts.
    let word = match bytes.first_chunk::<8>() {
        Some(eight) => i64::from_le_bytes(*eight),
        None => load_tail(bytes),
    };
    let unused = 64 - 8 * length as u32;
    // Shifting by all 64 bits in two steps gives 0 for no bytes.
    (word << (unused / 2) << (unused - unused / 2)) >> (unused / 2) >> (unused - unused / 2)
}

/// Fewer than eight bytes, padded with zeros.
#[inline(never)]
fn load_tail(bytes: &[u8]) -> i64 {
    let mut word = 0;
    for (index, byte) in bytes.iter().enumerate() {
        word |= i64::from(*byte) << (8 * index);
    }
    word
}

/// Decodes only the columns in `demand`, in one pass.
///
/// # Panics
/// If `demand` is not strictly ascending, names a column beyond the row's, or differs from `out` in
/// length.
#[inline]
pub fn decode_columns<'a>(row: RowRef<'a>, demand: &[usize], out: &mut [Datum<'a>]) {
    assert_eq!(demand.len(), out.len(), "one slot per demanded column");
    let mut datums = row.iter();
    let mut at = 0;
    for (slot, &column) in out.iter_mut().zip(demand) {
        assert!(column >= at, "demanded columns must ascend");
        datums.skip_n(column - at);
        assert!(datums.next_into(slot), "demanded column exists");
        at = column + 1;
    }
}

/// Where datums are collected: `Vec` and `SmallVec`.
pub trait DatumSink<'a> {
    /// Appends a NULL and lends it out to be overwritten.
    fn push_slot(&mut self) -> &mut Datum<'a>;
}

impl<'a> DatumSink<'a> for Vec<Datum<'a>> {
    #[inline]
    fn push_slot(&mut self) -> &mut Datum<'a> {
        self.push(Datum::Null);
        self.last_mut().expect("a datum was just pushed")
    }
}

impl<'a, A: smallvec::Array<Item = Datum<'a>>> DatumSink<'a> for smallvec::SmallVec<A> {
    #[inline]
    fn push_slot(&mut self) -> &mut Datum<'a> {
        self.push(Datum::Null);
        self.last_mut().expect("a datum was just pushed")
    }
}

/// Decodes all datums to the end of `out`.
#[inline]
pub(super) fn unpack_into<'a>(mut datums: DatumIter<'a>, out: &mut impl DatumSink<'a>) {
    while !datums.is_done() {
        datums.next_into(out.push_slot());
    }
}
