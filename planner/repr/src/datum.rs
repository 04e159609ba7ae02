//! One SQL value.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::arena::RowArena;
use crate::array::{ArrayRef, RecordRef};
use crate::numeric::Numeric;
use crate::time::{Date, Interval, PgTimestamp, Time};
use crate::types::SqlType;

/// A UUID's 16 bytes, in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uuid(pub [u8; 16]);

/// One SQL value, borrowing its variable-length part.
///
/// Text-like types (`text`, `varchar`, `bpchar`, `name`, `"char"`, `unknown`) are `String`; `oid` and
/// its aliases (`regclass`, ...) are `Oid`.
///
/// `Eq`, `Ord` and `Hash` follow SQL within one type: numerics by value, NaN greatest and equal to
/// itself, intervals by their justified length. NULL equals NULL here and comes after everything
/// else. Datums of different types compare by type, so that the order is total.
#[derive(Clone, Copy, Debug)]
pub enum Datum<'a> {
    /// SQL NULL, of any type.
    Null,
    /// `bool`
    Bool(bool),
    /// `int2`
    Int16(i16),
    /// `int4`
    Int32(i32),
    /// `int8`
    Int64(i64),
    /// `float4`
    Float32(f32),
    /// `float8`
    Float64(f64),
    /// `numeric`
    Numeric(Numeric),
    /// All text-like types.
    String(&'a str),
    /// `bytea`
    Bytes(&'a [u8]),
    /// `date`
    Date(Date),
    /// `time`
    Time(Time),
    /// `timestamp`
    Timestamp(PgTimestamp),
    /// `timestamptz`
    TimestampTz(PgTimestamp),
    /// `interval`
    Interval(Interval),
    /// `uuid`
    Uuid(Uuid),
    /// `oid` and the reg* types.
    Oid(u32),
    /// `mz_timestamp`: microseconds since the Unix epoch.
    MzTimestamp(u64),
    /// An array of any element type, `int2vector` and `oidvector`.
    Array(ArrayRef<'a>),
    /// A record.
    Record(RecordRef<'a>),
}

const _: () = assert!(size_of::<Datum<'static>>() <= 24);

macro_rules! unwrap {
    ($(#[$doc:meta])* $name:ident, $variant:ident, $ty:ty) => {
        $(#[$doc])*
        ///
        /// # Panics
        /// If the datum has another type: the planner's type checks make that impossible.
        #[inline]
        #[track_caller]
        pub fn $name(self) -> $ty {
            match self {
                Datum::$variant(v) => v,
                other => panic!(concat!("expected ", stringify!($variant), ", got {:?}"), other),
            }
        }
    };
}

impl<'a> Datum<'a> {
    /// SQL TRUE.
    pub const TRUE: Datum<'static> = Datum::Bool(true);
    /// SQL FALSE.
    pub const FALSE: Datum<'static> = Datum::Bool(false);

    /// Whether this is NULL.
    #[inline]
    pub fn is_null(self) -> bool {
        matches!(self, Datum::Null)
    }

    /// Whether this is TRUE (neither FALSE nor NULL).
    #[inline]
    pub fn is_true(self) -> bool {
        matches!(self, Datum::Bool(true))
    }

    unwrap!(/** The boolean. */ unwrap_bool, Bool, bool);
    unwrap!(/** The int2. */ unwrap_int16, Int16, i16);
    unwrap!(/** The int4. */ unwrap_int32, Int32, i32);
    unwrap!(/** The int8. */ unwrap_int64, Int64, i64);
    unwrap!(/** The float4. */ unwrap_float32, Float32, f32);
    unwrap!(/** The float8. */ unwrap_float64, Float64, f64);
    unwrap!(/** The numeric. */ unwrap_numeric, Numeric, Numeric);
    unwrap!(/** The text. */ unwrap_str, String, &'a str);
    unwrap!(/** The bytea. */ unwrap_bytes, Bytes, &'a [u8]);
    unwrap!(/** The date. */ unwrap_date, Date, Date);
    unwrap!(/** The time of day. */ unwrap_time, Time, Time);
    unwrap!(/** The timestamp. */ unwrap_timestamp, Timestamp, PgTimestamp);
    unwrap!(/** The timestamptz. */ unwrap_timestamptz, TimestampTz, PgTimestamp);
    unwrap!(/** The interval. */ unwrap_interval, Interval, Interval);
    unwrap!(/** The uuid. */ unwrap_uuid, Uuid, Uuid);
    unwrap!(/** The OID. */ unwrap_oid, Oid, u32);
    unwrap!(/** The mz_timestamp. */ unwrap_mz_timestamp, MzTimestamp, u64);
    unwrap!(/** The array. */ unwrap_array, Array, ArrayRef<'a>);
    unwrap!(/** The record. */ unwrap_record, Record, RecordRef<'a>);

    /// The representative of all datums that are SQL-equal to this one under type `ty`: after it,
    /// equal packed bytes mean SQL-equal values. Values of types that differ in their modifier
    /// compare only after both were made canonical without one. Costs nothing where [`SqlType::needs_key_canonical`]
    /// is false. A trimmed string borrows from `self`; only arrays and records use the arena.
    pub fn key_canonical(self, ty: &SqlType, arena: &'a RowArena) -> Datum<'a> {
        match (self, ty) {
            (Datum::Numeric(_), SqlType::Numeric(Some(_)))
            | (Datum::String(_), SqlType::Char(Some(_))) => self,
            (Datum::Numeric(n), _) => Datum::Numeric(n.key_canonical()),
            (Datum::Float32(f), _) => Datum::Float32(canonical_f32(f)),
            (Datum::Float64(f), _) => Datum::Float64(canonical_f64(f)),
            (Datum::Interval(i), _) => Datum::Interval(i.key_canonical()),
            (Datum::String(s), SqlType::Char(None)) => Datum::String(s.trim_end_matches(' ')),
            (Datum::Array(array), SqlType::Array(element)) if element.needs_key_canonical() => {
                arena.make_datum(|packer| {
                    let dims: Vec<_> = array.dims().collect();
                    let elements = array.iter().map(|e| e.key_canonical(element, arena));
                    packer.push_array(&dims, elements);
                })
            }
            (Datum::Record(record), SqlType::Record(types)) if ty.needs_key_canonical() => arena
                .make_datum(|packer| {
                    let field_type = |index| types.get(index).unwrap_or(&SqlType::Unknown);
                    let fields = record.iter().enumerate();
                    packer.push_record(
                        fields.map(|(index, field)| field.key_canonical(field_type(index), arena)),
                    );
                }),
            (other, _) => other,
        }
    }

    /// A number per variant: the major sort key between types.
    fn rank(self) -> u8 {
        match self {
            Datum::Bool(_) => 0,
            Datum::Int16(_) => 1,
            Datum::Int32(_) => 2,
            Datum::Int64(_) => 3,
            Datum::Float32(_) => 4,
            Datum::Float64(_) => 5,
            Datum::Numeric(_) => 6,
            Datum::String(_) => 7,
            Datum::Bytes(_) => 8,
            Datum::Date(_) => 9,
            Datum::Time(_) => 10,
            Datum::Timestamp(_) => 11,
            Datum::TimestampTz(_) => 12,
            Datum::Interval(_) => 13,
            Datum::Uuid(_) => 14,
            Datum::Oid(_) => 15,
            Datum::MzTimestamp(_) => 16,
            Datum::Array(_) => 17,
            Datum::Record(_) => 18,
            Datum::Null => u8::MAX,
        }
    }
}

fn canonical_f32(f: f32) -> f32 {
    if f.is_nan() {
        f32::NAN
    } else if f == 0.0 {
        0.0
    } else {
        f
    }
}

fn canonical_f64(f: f64) -> f64 {
    if f.is_nan() {
        f64::NAN
    } else if f == 0.0 {
        0.0
    } else {
        f
    }
}

/// Postgres's order of floats: `-0 = 0`, NaN equal to itself and greatest.
pub fn cmp_float64(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Postgres's order of floats: `-0 = 0`, NaN equal to itself and greatest.
pub fn cmp_float32(a: f32, b: f32) -> Ordering {
    a.partial_cmp(&b)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

impl PartialEq for Datum<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Datum<'_> {}

impl PartialOrd for Datum<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Datum<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (*self, *other) {
            (Datum::Bool(a), Datum::Bool(b)) => a.cmp(&b),
            (Datum::Int16(a), Datum::Int16(b)) => a.cmp(&b),
            (Datum::Int32(a), Datum::Int32(b)) => a.cmp(&b),
            (Datum::Int64(a), Datum::Int64(b)) => a.cmp(&b),
            (Datum::Float32(a), Datum::Float32(b)) => cmp_float32(a, b),
            (Datum::Float64(a), Datum::Float64(b)) => cmp_float64(a, b),
            (Datum::Numeric(a), Datum::Numeric(b)) => a.cmp(&b),
            (Datum::String(a), Datum::String(b)) => a.cmp(b),
            (Datum::Bytes(a), Datum::Bytes(b)) => a.cmp(b),
            (Datum::Date(a), Datum::Date(b)) => a.cmp(&b),
            (Datum::Time(a), Datum::Time(b)) => a.cmp(&b),
            (Datum::Timestamp(a), Datum::Timestamp(b))
            | (Datum::TimestampTz(a), Datum::TimestampTz(b)) => a.cmp(&b),
            (Datum::Interval(a), Datum::Interval(b)) => a.cmp(&b),
            (Datum::Uuid(a), Datum::Uuid(b)) => a.cmp(&b),
            (Datum::Oid(a), Datum::Oid(b)) => a.cmp(&b),
            (Datum::MzTimestamp(a), Datum::MzTimestamp(b)) => a.cmp(&b),
            (Datum::Array(a), Datum::Array(b)) => a.cmp(&b),
            (Datum::Record(a), Datum::Record(b)) => a.cmp(&b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl Hash for Datum<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        match *self {
            Datum::Null => {}
            Datum::Bool(v) => v.hash(state),
            Datum::Int16(v) => v.hash(state),
            Datum::Int32(v) => v.hash(state),
            Datum::Int64(v) => v.hash(state),
            Datum::Float32(v) => canonical_f32(v).to_bits().hash(state),
            Datum::Float64(v) => canonical_f64(v).to_bits().hash(state),
            Datum::Numeric(v) => v.hash(state),
            Datum::String(v) => v.hash(state),
            Datum::Bytes(v) => v.hash(state),
            Datum::Date(v) => v.hash(state),
            Datum::Time(v) => v.hash(state),
            Datum::Timestamp(v) | Datum::TimestampTz(v) => v.hash(state),
            Datum::Interval(v) => v.hash(state),
            Datum::Uuid(v) => v.hash(state),
            Datum::Oid(v) => v.hash(state),
            Datum::MzTimestamp(v) => v.hash(state),
            Datum::Array(v) => v.iter().for_each(|element| element.hash(state)),
            Datum::Record(v) => v.iter().for_each(|field| field.hash(state)),
        }
    }
}

macro_rules! from {
    ($($ty:ty => $variant:ident),* $(,)?) => {$(
        impl<'a> From<$ty> for Datum<'a> {
            fn from(v: $ty) -> Datum<'a> {
                Datum::$variant(v)
            }
        }
    )*};
}

from!(
    bool => Bool, i16 => Int16, i32 => Int32, i64 => Int64, f32 => Float32, f64 => Float64,
    Numeric => Numeric, &'a str => String, &'a [u8] => Bytes, Date => Date, Time => Time,
    Interval => Interval, Uuid => Uuid, ArrayRef<'a> => Array, RecordRef<'a> => Record,
);

impl<'a, T: Into<Datum<'a>>> From<Option<T>> for Datum<'a> {
    fn from(v: Option<T>) -> Datum<'a> {
        v.map_or(Datum::Null, Into::into)
    }
}
