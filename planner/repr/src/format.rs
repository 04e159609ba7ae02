//! Postgres's text and binary forms of every type.
//!
//! Values come in by [`parse_datum`] and [`parse_binary`] and go out by [`write_text`] and
//! [`write_binary`]. NULL has no form of its own: the protocol marks it outside of the value.
//!
//! Names of objects (`'orders'::regclass`) need a catalog and are resolved elsewhere; here the reg*
//! types read and write numbers.

mod array;
mod binary;
mod bytea;
mod datetime_in;
mod datetime_out;
mod float_out;
mod interval_in;
mod interval_out;
mod number;
mod record;
mod string;

use std::fmt;

use crate::arena::RowArena;
use crate::datum::Datum;
use crate::error::FormatError;
use crate::time::{PgTimestamp, TimeZone};
use crate::types::SqlType;

pub use binary::{parse_binary, write_binary};
pub use float_out::{write_float32, write_float64};
pub use string::{char_fit, name_fit, varchar_fit};

/// How dates are written, and read where the order is ambiguous: the `DateStyle` setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DateStyle {
    /// `1997-12-17 07:37:16-08`
    #[default]
    Iso,
    /// `12/17/1997 07:37:16 PST`
    Sql,
    /// `Wed Dec 17 07:37:16 1997 PST`
    Postgres,
    /// `17.12.1997 07:37:16 PST`
    German,
}

/// The order of day, month and year: the second part of `DateStyle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DateOrder {
    /// Month, day, year
    #[default]
    Mdy,
    /// Day, month, year
    Dmy,
    /// Year, month, day
    Ymd,
}

/// How intervals are written: the `IntervalStyle` setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IntervalStyle {
    /// `1 year 2 mons 3 days 04:05:06`
    #[default]
    Postgres,
    /// `@ 1 year 2 mons 3 days 4 hours 5 mins 6 secs`
    PostgresVerbose,
    /// `+1-2 +3 +4:05:06`
    SqlStandard,
    /// `P1Y2M3DT4H5M6S`
    Iso8601,
}

/// How `bytea` is written: the `bytea_output` setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ByteaOutput {
    /// `\x0102`
    #[default]
    Hex,
    /// `\001\002`
    Escape,
}

/// The session settings that text forms depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatCtx {
    /// `TimeZone`
    pub timezone: TimeZone,
    /// First part of `DateStyle`
    pub date_style: DateStyle,
    /// Second part of `DateStyle`
    pub date_order: DateOrder,
    /// `IntervalStyle`
    pub interval_style: IntervalStyle,
    /// `extra_float_digits`, -15 to 3; above zero: as many as a float needs
    pub extra_float_digits: i32,
    /// `bytea_output`
    pub bytea_output: ByteaOutput,
    /// What `'now'`, `'today'` and their like mean; without it they are refused.
    pub now: Option<PgTimestamp>,
}

impl Default for FormatCtx {
    fn default() -> FormatCtx {
        FormatCtx {
            timezone: TimeZone::UTC,
            date_style: DateStyle::default(),
            date_order: DateOrder::default(),
            interval_style: IntervalStyle::default(),
            extra_float_digits: 1,
            bytea_output: ByteaOutput::default(),
            now: None,
        }
    }
}

/// Reads a value of type `ty`, its modifier included, from text.
///
/// # Errors
/// In Postgres's words, with its SQLSTATEs. A string that is too long for its modifier is refused
/// (22001), as in assignments; see [`varchar_fit`] and [`char_fit`] for casts, which cut.
pub fn parse_datum<'a>(
    ty: &SqlType,
    text: &'a str,
    ctx: &FormatCtx,
    arena: &'a RowArena,
) -> Result<Datum<'a>, FormatError> {
    match ty {
        SqlType::Bool => number::parse_bool(text).map(Datum::Bool),
        SqlType::Int16 => number::parse_int(text, "smallint").map(Datum::Int16),
        SqlType::Int32 => number::parse_int(text, "integer").map(Datum::Int32),
        SqlType::Int64 => number::parse_int(text, "bigint").map(Datum::Int64),
        SqlType::Float32 => number::parse_float32(text).map(Datum::Float32),
        SqlType::Float64 => number::parse_float64(text).map(Datum::Float64),
        SqlType::Numeric(typmod) => number::parse_numeric(text, *typmod).map(Datum::Numeric),
        SqlType::Text | SqlType::Unknown => string::checked(text).map(Datum::String),
        SqlType::Varchar(length) => {
            varchar_fit(string::checked(text)?, *length, false).map(Datum::String)
        }
        SqlType::Char(length) => {
            char_fit(string::checked(text)?, *length, false, arena).map(Datum::String)
        }
        SqlType::Name => Ok(Datum::String(name_fit(string::checked(text)?))),
        SqlType::PgChar => Ok(Datum::String(string::first_char(string::checked(text)?))),
        SqlType::Bytea => bytea::parse(text, arena).map(Datum::Bytes),
        SqlType::Date => datetime_in::parse_date(text, ctx).map(Datum::Date),
        SqlType::Time => datetime_in::parse_time(text, ctx).map(Datum::Time),
        SqlType::Timestamp(digits) => {
            let ts = datetime_in::parse_timestamp(text, ctx)?;
            Ok(Datum::Timestamp(round_to(ts, *digits)))
        }
        SqlType::TimestampTz(digits) => {
            let ts = datetime_in::parse_timestamptz(text, ctx)?;
            Ok(Datum::TimestampTz(round_to(ts, *digits)))
        }
        SqlType::Interval => interval_in::parse(text, ctx).map(Datum::Interval),
        SqlType::Uuid => number::parse_uuid(text).map(Datum::Uuid),
        SqlType::Oid => number::parse_oid(text, "oid").map(Datum::Oid),
        SqlType::Xid => number::parse_oid(text, "xid").map(Datum::Oid),
        SqlType::Cid => number::parse_oid(text, "cid").map(Datum::Oid),
        SqlType::RegClass
        | SqlType::RegType
        | SqlType::RegProc
        | SqlType::RegNamespace
        | SqlType::RegRole
        | SqlType::RegProcedure
        | SqlType::RegOper
        | SqlType::RegOperator
        | SqlType::RegCollation => parse_reg(text, ty).map(Datum::Oid),
        SqlType::MzTimestamp => number::parse_mz_timestamp(text).map(Datum::MzTimestamp),
        SqlType::Int2Vector => array::parse_vector(&SqlType::Int16, text, ctx, arena),
        SqlType::OidVector => array::parse_vector(&SqlType::Oid, text, ctx, arena),
        SqlType::Array(element) => array::parse(element, text, ctx, arena),
        SqlType::Void => Ok(Datum::String("")),
        SqlType::Record(_) => Err(FormatError::new(
            "0A000",
            "input of anonymous composite types is not implemented",
        )),
        SqlType::AnyArray | SqlType::AnyElement | SqlType::Any => Err(FormatError::new(
            "0A000",
            format!("cannot accept a value of type {}", ty.base_name()),
        )),
    }
}

fn round_to(ts: PgTimestamp, digits: Option<u8>) -> PgTimestamp {
    digits.map_or(ts, |digits| ts.round_to_digits(digits))
}

fn parse_reg(text: &str, ty: &SqlType) -> Result<u32, FormatError> {
    match text {
        "-" => Ok(0),
        text => number::parse_oid(text, &ty.base_name()),
    }
}

/// Writes a value of type `ty` as text. NULL writes nothing.
///
/// # Errors
/// Only those of `out`.
pub fn write_text(
    ty: &SqlType,
    datum: Datum<'_>,
    ctx: &FormatCtx,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    match datum {
        Datum::Null => Ok(()),
        Datum::Bool(v) => out.write_str(if v { "t" } else { "f" }),
        Datum::Int16(v) => number::write_int(v.into(), out),
        Datum::Int32(v) => number::write_int(v.into(), out),
        Datum::Int64(v) => number::write_int(v, out),
        Datum::Float32(v) => write_float32(v, ctx.extra_float_digits, out),
        Datum::Float64(v) => write_float64(v, ctx.extra_float_digits, out),
        Datum::Numeric(v) => write!(out, "{v}"),
        Datum::String(v) => out.write_str(v),
        Datum::Bytes(v) => bytea::write(v, ctx.bytea_output, out),
        Datum::Date(v) => datetime_out::write_date(v, ctx, out),
        Datum::Time(v) => datetime_out::write_time(v, out),
        Datum::Timestamp(v) => datetime_out::write_timestamp(v, ctx, out),
        Datum::TimestampTz(v) => datetime_out::write_timestamptz(v, ctx, out),
        Datum::Interval(v) => interval_out::write(v, ctx.interval_style, out),
        Datum::Uuid(v) => number::write_uuid(v, out),
        Datum::Oid(0) if writes_dash(ty) => out.write_str("-"),
        Datum::Oid(v) => number::write_int(v.into(), out),
        Datum::MzTimestamp(v) => write!(out, "{v}"),
        Datum::Array(v) => array::write(ty, v, ctx, out),
        Datum::Record(v) => record::write(ty, v, ctx, out),
    }
}

/// Whether an OID of zero means "none" in this type.
fn writes_dash(ty: &SqlType) -> bool {
    matches!(
        ty,
        SqlType::RegClass
            | SqlType::RegType
            | SqlType::RegProc
            | SqlType::RegNamespace
            | SqlType::RegRole
            | SqlType::RegProcedure
            | SqlType::RegCollation
    )
}

/// The text of a value: [`write_text`] into a new string.
pub fn to_text(ty: &SqlType, datum: Datum<'_>, ctx: &FormatCtx) -> String {
    let mut text = String::new();
    write_text(ty, datum, ctx, &mut text).expect("strings take all text");
    text
}

/// `invalid input syntax for type ...`, for values that no parser understands.
pub(crate) fn invalid_syntax(sqlstate: &'static str, ty: &str, text: &str) -> FormatError {
    FormatError::new(
        sqlstate,
        format!("invalid input syntax for type {ty}: \"{text}\""),
    )
}

/// C's idea of white space.
fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b')
}
