//! Postgres's binary forms. Lengths are compared with what is there before anything is allocated.

use bytes::{BufMut, BytesMut};

use super::{name_fit, string};
use crate::arena::RowArena;
use crate::array::{ARRAY_DIMS_MAX, ArrayDim, ArrayRef, RecordRef};
use crate::datum::{Datum, Uuid};
use crate::error::FormatError;
use crate::numeric::{Numeric, NumericBinaryError, NumericError};
use crate::time::{Date, Interval, PgTimestamp, Time};
use crate::types::SqlType;

fn insufficient() -> FormatError {
    FormatError::new("08P01", "insufficient data left in message")
}

fn malformed(message: impl Into<String>) -> FormatError {
    FormatError::new("22P03", message)
}

/// What is left of a binary value.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(insufficient)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(insufficient)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn i32(&mut self) -> Result<i32, FormatError> {
        self.array().map(i32::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, FormatError> {
        self.array().map(i64::from_be_bytes)
    }

    fn finish(&self) -> Result<(), FormatError> {
        match self.rest {
            [] => Ok(()),
            _ => Err(malformed("incorrect binary data format")),
        }
    }
}

/// Reads a value of type `ty`, its modifier included, from Postgres's binary form.
///
/// # Errors
/// In Postgres's words, with its SQLSTATEs.
pub fn parse_binary<'a>(
    ty: &SqlType,
    bytes: &'a [u8],
    arena: &'a RowArena,
) -> Result<Datum<'a>, FormatError> {
    let mut reader = Reader { rest: bytes };
    let datum = read(ty, &mut reader, arena)?;
    reader.finish()?;
    Ok(datum)
}

fn read<'a>(
    ty: &SqlType,
    reader: &mut Reader<'a>,
    arena: &'a RowArena,
) -> Result<Datum<'a>, FormatError> {
    Ok(match ty {
        SqlType::Bool => Datum::Bool(reader.array::<1>()? != [0]),
        SqlType::Int16 => Datum::Int16(i16::from_be_bytes(reader.array()?)),
        SqlType::Int32 => Datum::Int32(reader.i32()?),
        SqlType::Int64 => Datum::Int64(reader.i64()?),
        SqlType::Float32 => Datum::Float32(f32::from_be_bytes(reader.array()?)),
        SqlType::Float64 => Datum::Float64(f64::from_be_bytes(reader.array()?)),
        SqlType::Numeric(typmod) => {
            let number = read_numeric(reader)?;
            Datum::Numeric(match typmod {
                Some(typmod) => number.apply_typmod(*typmod)?,
                None => number,
            })
        }
        SqlType::Text | SqlType::Unknown => Datum::String(read_str(reader)?),
        SqlType::Varchar(length) => {
            Datum::String(super::varchar_fit(read_str(reader)?, *length, false)?)
        }
        SqlType::Char(length) => {
            Datum::String(super::char_fit(read_str(reader)?, *length, false, arena)?)
        }
        SqlType::Name => Datum::String(name_fit(read_str(reader)?)),
        SqlType::PgChar => Datum::String(string::first_char(read_str(reader)?)),
        SqlType::Bytea => Datum::Bytes(reader.take(reader.rest.len())?),
        SqlType::Date => Datum::Date(read_date(reader)?),
        SqlType::Time => Datum::Time(read_time(reader)?),
        SqlType::Timestamp(digits) => Datum::Timestamp(read_timestamp(reader, *digits)?),
        SqlType::TimestampTz(digits) => Datum::TimestampTz(read_timestamp(reader, *digits)?),
        SqlType::Interval => {
            let micros = reader.i64()?;
            let days = reader.i32()?;
            Datum::Interval(Interval::new(reader.i32()?, days, micros))
        }
        SqlType::Uuid => Datum::Uuid(Uuid(reader.array()?)),
        SqlType::Oid
        | SqlType::Xid
        | SqlType::Cid
        | SqlType::RegClass
        | SqlType::RegType
        | SqlType::RegProc
        | SqlType::RegNamespace
        | SqlType::RegRole
        | SqlType::RegProcedure
        | SqlType::RegOper
        | SqlType::RegOperator
        | SqlType::RegCollation => Datum::Oid(reader.u32()?),
        SqlType::MzTimestamp => Datum::MzTimestamp(u64::from_be_bytes(reader.array()?)),
        SqlType::Int2Vector => read_array(&SqlType::Int16, reader, arena)?,
        SqlType::OidVector => read_array(&SqlType::Oid, reader, arena)?,
        SqlType::Array(element) => read_array(element, reader, arena)?,
        SqlType::Void => Datum::String(""),
        SqlType::Record(_) => {
            return Err(FormatError::new(
                "0A000",
                "input of anonymous composite types is not implemented",
            ));
        }
        SqlType::AnyArray | SqlType::AnyElement | SqlType::Any => {
            return Err(FormatError::new(
                "0A000",
                format!("cannot accept a value of type {}", ty.base_name()),
            ));
        }
    })
}

fn read_str<'a>(reader: &mut Reader<'a>) -> Result<&'a str, FormatError> {
    let bytes = reader.take(reader.rest.len())?;
    match std::str::from_utf8(bytes) {
        Ok(text) => string::checked(text),
        Err(error) => {
            let at = error.valid_up_to();
            let length = error.error_len().unwrap_or(bytes.len() - at);
            let hex: Vec<String> = bytes[at..at + length]
                .iter()
                .map(|byte| format!("0x{byte:02x}"))
                .collect();
            Err(FormatError::new(
                "22021",
                format!(
                    "invalid byte sequence for encoding \"UTF8\": {}",
                    hex.join(" ")
                ),
            ))
        }
    }
}

fn read_numeric(reader: &mut Reader<'_>) -> Result<Numeric, FormatError> {
    Numeric::parse_binary(reader.take(reader.rest.len())?).map_err(|error| match error {
        NumericBinaryError::Length => malformed("invalid length in external \"numeric\" value"),
        NumericBinaryError::Sign => malformed("invalid sign in external \"numeric\" value"),
        NumericBinaryError::Scale => malformed("invalid scale in external \"numeric\" value"),
        NumericBinaryError::Digit => malformed("invalid digit in external \"numeric\" value"),
        NumericBinaryError::Overflow => NumericError::Overflow.into(),
    })
}

fn read_date(reader: &mut Reader<'_>) -> Result<Date, FormatError> {
    let date = Date(reader.i32()?);
    match date.is_finite() {
        false => Ok(date),
        true => Ok(Date::from_days(date.0.into())?),
    }
}

fn read_time(reader: &mut Reader<'_>) -> Result<Time, FormatError> {
    let time = Time(reader.i64()?);
    if !(Time(0)..=Time::MAX).contains(&time) {
        return Err(FormatError::new("22008", "time out of range"));
    }
    Ok(time)
}

fn read_timestamp(reader: &mut Reader<'_>, digits: Option<u8>) -> Result<PgTimestamp, FormatError> {
    let ts = PgTimestamp(reader.i64()?);
    if !ts.is_finite() {
        return Ok(ts);
    }
    let ts = PgTimestamp::from_micros(ts.0)?;
    Ok(digits.map_or(ts, |digits| ts.round_to_digits(digits)))
}

fn read_array<'a>(
    element: &SqlType,
    reader: &mut Reader<'a>,
    arena: &'a RowArena,
) -> Result<Datum<'a>, FormatError> {
    let ndims = reader.i32()?;
    let ndims = match usize::try_from(ndims) {
        Ok(n) if n <= ARRAY_DIMS_MAX => n,
        Ok(_) | Err(_) => return Err(malformed(format!("invalid number of dimensions: {ndims}"))),
    };
    let flags = reader.i32()?;
    if !matches!(flags, 0 | 1) {
        return Err(malformed("invalid array flags"));
    }
    let oid = reader.u32()?;
    if oid != element.oid() {
        return Err(FormatError::new(
            "42804",
            format!(
                "binary data has array element type {oid} instead of expected {} ({})",
                element.oid(),
                element.base_name()
            ),
        ));
    }
    let mut dims = Vec::with_capacity(ndims);
    let mut count = u64::from(ndims > 0);
    for _ in 0..ndims {
        let (length, lower_bound) = (reader.i32()?, reader.i32()?);
        let length = u32::try_from(length).map_err(|_| malformed("invalid array length"))?;
        count = count.saturating_mul(length.into());
        dims.push(ArrayDim {
            lower_bound,
            length,
        });
    }
    // Every element has a length of four bytes at least.
    if count > reader.rest.len() as u64 / 4 {
        return Err(insufficient());
    }
    if count == 0 {
        dims.clear();
    }
    let mut elements = Vec::with_capacity(count as usize);
    for _ in 0..count {
        elements.push(read_element(element, reader, arena)?);
    }
    Ok(arena.make_datum(|packer| packer.push_array(&dims, elements)))
}

fn read_element<'a>(
    ty: &SqlType,
    reader: &mut Reader<'a>,
    arena: &'a RowArena,
) -> Result<Datum<'a>, FormatError> {
    match reader.i32()? {
        -1 => Ok(Datum::Null),
        length => {
            let length = usize::try_from(length).map_err(|_| insufficient())?;
            parse_binary(ty, reader.take(length)?, arena)
        }
    }
}

/// Writes a value of type `ty` in Postgres's binary form, without its length. NULL writes nothing.
pub fn write_binary(ty: &SqlType, datum: Datum<'_>, out: &mut BytesMut) {
    match datum {
        Datum::Null => {}
        Datum::Bool(v) => out.put_u8(v.into()),
        Datum::Int16(v) => out.put_i16(v),
        Datum::Int32(v) => out.put_i32(v),
        Datum::Int64(v) => out.put_i64(v),
        Datum::Float32(v) => out.put_f32(v),
        Datum::Float64(v) => out.put_f64(v),
        Datum::Numeric(v) => v.write_binary(out),
        Datum::String(v) => out.put_slice(v.as_bytes()),
        Datum::Bytes(v) => out.put_slice(v),
        Datum::Date(v) => out.put_i32(v.0),
        Datum::Time(v) => out.put_i64(v.0),
        Datum::Timestamp(v) | Datum::TimestampTz(v) => out.put_i64(v.0),
        Datum::Interval(v) => {
            out.put_i64(v.micros);
            out.put_i32(v.days);
            out.put_i32(v.months);
        }
        Datum::Uuid(v) => out.put_slice(&v.0),
        Datum::Oid(v) => out.put_u32(v),
        Datum::MzTimestamp(v) => out.put_u64(v),
        Datum::Array(v) => write_array(ty, v, out),
        Datum::Record(v) => write_record(ty, v, out),
    }
}

fn write_array(ty: &SqlType, array: ArrayRef<'_>, out: &mut BytesMut) {
    let element = ty.element().unwrap_or(SqlType::Text);
    let has_null = array.iter().any(Datum::is_null);
    // Vectors always have their one dimension.
    let empty_vector = array.is_empty() && matches!(ty, SqlType::Int2Vector | SqlType::OidVector);
    out.put_i32(array.ndims() as i32 + i32::from(empty_vector));
    out.put_i32(has_null.into());
    out.put_u32(element.oid());
    if empty_vector {
        out.put_u64(0);
    }
    for dim in array.dims() {
        out.put_u32(dim.length);
        out.put_i32(dim.lower_bound);
    }
    for datum in array.iter() {
        write_sized(&element, datum, out);
    }
}

fn write_record(ty: &SqlType, record: RecordRef<'_>, out: &mut BytesMut) {
    let types = match ty {
        SqlType::Record(types) => types.as_slice(),
        _ => &[],
    };
    out.put_i32(record.iter().count() as i32);
    for (index, field) in record.iter().enumerate() {
        let ty = types.get(index).unwrap_or(&SqlType::Text);
        out.put_u32(ty.oid());
        write_sized(ty, field, out);
    }
}

/// A length (-1 for NULL) and the value.
fn write_sized(ty: &SqlType, datum: Datum<'_>, out: &mut BytesMut) {
    if datum.is_null() {
        out.put_i32(-1);
        return;
    }
    let start = out.len();
    out.put_i32(0);
    write_binary(ty, datum, out);
    let length = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
