//! Short-lived storage for the bytes that datums borrow while an expression is evaluated.

use std::cell::RefCell;

use crate::datum::Datum;
use crate::row::{Row, RowPacker};

/// How large the first chunk is. Enough for the temporaries of most expressions.
const CHUNK_BYTES_MIN: usize = 1024;
/// Chunks double up to this size.
const CHUNK_BYTES_MAX: usize = 1024 * 1024;

/// A bump allocator of bytes. What is pushed lives as long as the borrow of the arena; `clear` frees
/// it and keeps the memory for the next use.
#[derive(Default)]
pub struct RowArena {
    /// Invariant: a chunk's buffer never grows in place beyond its capacity, so addresses inside it
    /// stay valid until `clear` (which takes `&mut self`).
    chunks: RefCell<Vec<Vec<u8>>>,
}

impl RowArena {
    /// An empty arena. Allocates nothing until something is pushed.
    pub fn new() -> RowArena {
        RowArena::default()
    }

    /// Copies bytes into the arena.
    #[allow(clippy::mut_from_ref)]
    pub fn push_bytes(&self, bytes: &[u8]) -> &[u8] {
        let mut chunks = self.chunks.borrow_mut();
        let fits = chunks
            .last()
            .is_some_and(|chunk| chunk.capacity() - chunk.len() >= bytes.len());
        if !fits {
            let grown = chunks.last().map_or(CHUNK_BYTES_MIN, |c| c.capacity() * 2);
            let size = grown
                .clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX)
                .max(bytes.len());
            chunks.push(Vec::with_capacity(size));
        }
        let chunk = chunks.last_mut().expect("a chunk was just ensured");
        let start = chunk.len();
        chunk.extend_from_slice(bytes);
        let copied: *const [u8] = &chunk[start..];
        // SAFETY: the chunk had the capacity, so `extend_from_slice` did not move its buffer, and no
        // later push moves it either. Written bytes are never written again before `clear`, which
        // needs `&mut self` and hence the end of the returned borrow. Moving the `Vec` inside the
        // outer vector does not move its heap buffer.
        unsafe { &*copied }
    }

    /// Copies a string into the arena.
    pub fn push_str(&self, text: &str) -> &str {
        let bytes = self.push_bytes(text.as_bytes());
        // SAFETY: these are the bytes of a `str`.
        unsafe { std::str::from_utf8_unchecked(bytes) }
    }

    /// Copies a string into the arena.
    pub fn push_string(&self, text: String) -> &str {
        self.push_str(&text)
    }

    /// Copies a row into the arena and returns its datums' bytes.
    pub fn push_row(&self, row: &Row) -> crate::row::RowRef<'_> {
        let bytes = self.push_bytes(row.as_bytes());
        // SAFETY: these are the bytes of a `Row`.
        unsafe { crate::row::RowRef::from_bytes_unchecked(bytes) }
    }

    /// Builds one datum (an array, a record, a long string) with a packer and keeps its bytes here.
    ///
    /// # Panics
    /// If `build` does not push exactly one datum.
    pub fn make_datum(&self, build: impl FnOnce(&mut RowPacker)) -> Datum<'_> {
        let mut packer = RowPacker::new();
        build(&mut packer);
        let bytes = self.push_bytes(packer.as_bytes());
        // SAFETY: a packer only holds packed datums.
        let mut datums = unsafe { crate::row::RowRef::from_bytes_unchecked(bytes) }.iter();
        let datum = datums.next().expect("make_datum needs one datum");
        assert!(datums.next().is_none(), "make_datum needs one datum");
        datum
    }

    /// Copies a datum, with all that it borrows, into the arena.
    pub fn copy_datum(&self, datum: Datum<'_>) -> Datum<'_> {
        match datum {
            Datum::String(s) => Datum::String(self.push_str(s)),
            Datum::Bytes(b) => Datum::Bytes(self.push_bytes(b)),
            Datum::Array(_) | Datum::Record(_) => self.make_datum(|packer| packer.push(datum)),
            Datum::Null => Datum::Null,
            Datum::Bool(v) => Datum::Bool(v),
            Datum::Int16(v) => Datum::Int16(v),
            Datum::Int32(v) => Datum::Int32(v),
            Datum::Int64(v) => Datum::Int64(v),
            Datum::Float32(v) => Datum::Float32(v),
            Datum::Float64(v) => Datum::Float64(v),
            Datum::Numeric(v) => Datum::Numeric(v),
            Datum::Date(v) => Datum::Date(v),
            Datum::Time(v) => Datum::Time(v),
            Datum::Timestamp(v) => Datum::Timestamp(v),
            Datum::TimestampTz(v) => Datum::TimestampTz(v),
            Datum::Interval(v) => Datum::Interval(v),
            Datum::Uuid(v) => Datum::Uuid(v),
            Datum::Oid(v) => Datum::Oid(v),
            Datum::MzTimestamp(v) => Datum::MzTimestamp(v),
        }
    }

    /// Frees everything pushed so far and keeps the largest chunk for reuse.
    pub fn clear(&mut self) {
        let chunks = self.chunks.get_mut();
        if let Some(mut last) = chunks.pop() {
            last.clear();
            chunks.clear();
            chunks.push(last);
        }
    }
}
