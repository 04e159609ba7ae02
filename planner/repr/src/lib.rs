//! Data representation: what a value, a row, a type and a relation are, in memory, on disk, on the
//! mesh and on the Postgres wire.
//!
//! What this is: pure data types and conversions. What this is not: no I/O, no clock, no randomness,
//! and no SQL functions beyond the arithmetic and calendar primitives which those are made of.
//!
//! # The life of a row
//!
//! A client sends text or binary values; [`mod@format`] parses each, by its [`SqlType`], into a
//! [`Datum`]. A [`RowPacker`] packs datums into a [`Row`]: one tag byte per datum, then its bytes in a
//! canonical form, so that equal bytes mean an identical datum and rows compare with `memcmp`. The
//! same bytes travel in the log, over the mesh and through every dataflow operator without being
//! re-encoded. Operators read them with a [`DatumIter`] or, when they need few columns, with
//! [`decode_columns`]. At the end, [`mod@format`] writes text or binary again.
//!
//! Two SQL values may be equal without being identical (numeric `1.0` and `1.00`). Whoever uses packed
//! bytes as a key (joins, grouping, uniqueness) first calls [`Datum::key_canonical`].
//!
//! # Caveats
//!
//! * A numeric holds at most 38 digits, where Postgres has no practical limit. Beyond that:
//!   SQLSTATE 22003, never a rounded result.
//! * Text compares by bytes (collation "C").
//! * The byte order of [`Row`] is total, stable and fast, but it is not SQL order: compare datums for
//!   that.

pub mod arena;
pub mod array;
pub mod codec;
pub mod datum;
pub mod error;
pub mod format;
pub mod ids;
pub mod numeric;
pub mod relation;
pub mod row;
pub mod time;
pub mod types;

pub use arena::RowArena;
pub use array::{ArrayDim, ArrayRef, RecordRef};
pub use datum::{Datum, Uuid};
pub use error::{FormatError, ReprError};
pub use format::FormatCtx;
pub use ids::{ClusterId, DatabaseId, GlobalId, NodeId, ReplicaId, RoleId, SchemaId, ShardId};
pub use numeric::{Numeric, NumericError};
pub use relation::{ColumnType, RelationDesc};
pub use row::{DatumIter, DatumSink, Row, RowPacker, RowRef, decode_columns};
pub use time::{Date, DateField, Interval, PgTimestamp, Time, TimeError, TimeZone};
pub use types::{NumericTypmod, SqlType};

/// A point in time: microseconds since the Unix epoch.
pub type Timestamp = u64;

/// How many times a row occurs (or is added or removed).
pub type Diff = i64;
