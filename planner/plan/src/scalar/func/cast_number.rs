//! Conversions between numbers, booleans, OIDs and `mz_timestamp`.

use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use repr::{Datum, Numeric};

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::strict("cast_int2_to_int4", |_, _, a, _| {
        Ok(Datum::Int32(i32::from(a[0].unwrap_int16())))
    }),
    FuncDef::strict("cast_int2_to_int8", |_, _, a, _| {
        Ok(Datum::Int64(i64::from(a[0].unwrap_int16())))
    }),
    FuncDef::strict("cast_int2_to_float4", |_, _, a, _| {
        Ok(Datum::Float32(f32::from(a[0].unwrap_int16())))
    }),
    FuncDef::strict("cast_int2_to_float8", |_, _, a, _| {
        Ok(Datum::Float64(f64::from(a[0].unwrap_int16())))
    }),
    FuncDef::strict("cast_int2_to_numeric", |_, _, a, _| {
        Ok(Datum::Numeric(Numeric::from(a[0].unwrap_int16())))
    }),
    FuncDef::strict("cast_int2_to_oid", |_, _, a, _| {
        Ok(Datum::Oid(i32::from(a[0].unwrap_int16()) as u32))
    }),
    FuncDef::fallible("cast_int4_to_int2", |_, _, a, _| {
        int2(i64::from(a[0].unwrap_int32()))
    }),
    FuncDef::strict("cast_int4_to_int8", |_, _, a, _| {
        Ok(Datum::Int64(i64::from(a[0].unwrap_int32())))
    }),
    FuncDef::strict("cast_int4_to_float4", |_, _, a, _| {
        Ok(Datum::Float32(a[0].unwrap_int32() as f32))
    }),
    FuncDef::strict("cast_int4_to_float8", |_, _, a, _| {
        Ok(Datum::Float64(f64::from(a[0].unwrap_int32())))
    }),
    FuncDef::strict("cast_int4_to_numeric", |_, _, a, _| {
        Ok(Datum::Numeric(Numeric::from(a[0].unwrap_int32())))
    }),
    FuncDef::strict("cast_int4_to_bool", |_, _, a, _| {
        Ok(Datum::Bool(a[0].unwrap_int32() != 0))
    }),
    FuncDef::strict("cast_int4_to_oid", |_, _, a, _| {
        Ok(Datum::Oid(a[0].unwrap_int32() as u32))
    }),
    FuncDef::fallible("cast_int8_to_int2", |_, _, a, _| int2(a[0].unwrap_int64())),
    FuncDef::fallible("cast_int8_to_int4", |_, _, a, _| int4(a[0].unwrap_int64())),
    FuncDef::strict("cast_int8_to_float4", |_, _, a, _| {
        Ok(Datum::Float32(a[0].unwrap_int64() as f32))
    }),
    FuncDef::strict("cast_int8_to_float8", |_, _, a, _| {
        Ok(Datum::Float64(a[0].unwrap_int64() as f64))
    }),
    FuncDef::strict("cast_int8_to_numeric", |_, _, a, _| {
        Ok(Datum::Numeric(Numeric::from(a[0].unwrap_int64())))
    }),
    FuncDef::fallible("cast_int8_to_oid", |_, _, a, _| {
        match u32::try_from(a[0].unwrap_int64()) {
            Ok(oid) => Ok(Datum::Oid(oid)),
            Err(_) => Err(EvalError::out_of_range("OID")),
        }
    }),
    FuncDef::fallible("cast_float4_to_int2", |_, _, a, _| {
        float_to_int2(f64::from(a[0].unwrap_float32()))
    }),
    FuncDef::fallible("cast_float4_to_int4", |_, _, a, _| {
        float_to_int4(f64::from(a[0].unwrap_float32()))
    }),
    FuncDef::fallible("cast_float4_to_int8", |_, _, a, _| {
        float_to_int8(f64::from(a[0].unwrap_float32()))
    }),
    FuncDef::strict("cast_float4_to_float8", |_, _, a, _| {
        Ok(Datum::Float64(f64::from(a[0].unwrap_float32())))
    }),
    FuncDef::fallible("cast_float4_to_numeric", |_, _, a, _| {
        Ok(Datum::Numeric(Numeric::from_f32(a[0].unwrap_float32())?))
    }),
    FuncDef::fallible("cast_float8_to_int2", |_, _, a, _| {
        float_to_int2(a[0].unwrap_float64())
    }),
    FuncDef::fallible("cast_float8_to_int4", |_, _, a, _| {
        float_to_int4(a[0].unwrap_float64())
    }),
    FuncDef::fallible("cast_float8_to_int8", |_, _, a, _| {
        float_to_int8(a[0].unwrap_float64())
    }),
    FuncDef::fallible("cast_float8_to_float4", |_, _, a, _| {
        float4(a[0].unwrap_float64())
    }),
    FuncDef::fallible("cast_float8_to_numeric", |_, _, a, _| {
        Ok(Datum::Numeric(Numeric::from_f64(a[0].unwrap_float64())?))
    }),
    FuncDef::fallible("cast_numeric_to_int2", |_, _, a, _| {
        Ok(Datum::Int16(a[0].unwrap_numeric().to_i16()?))
    }),
    FuncDef::fallible("cast_numeric_to_int4", |_, _, a, _| {
        Ok(Datum::Int32(a[0].unwrap_numeric().to_i32()?))
    }),
    FuncDef::fallible("cast_numeric_to_int8", |_, _, a, _| {
        Ok(Datum::Int64(a[0].unwrap_numeric().to_i64()?))
    }),
    FuncDef::fallible("cast_numeric_to_float4", |_, _, a, _| {
        Ok(Datum::Float32(a[0].unwrap_numeric().to_f32()?))
    }),
    FuncDef::strict("cast_numeric_to_float8", |_, _, a, _| {
        Ok(Datum::Float64(a[0].unwrap_numeric().to_f64()))
    }),
    FuncDef::fallible("cast_numeric_to_mz_timestamp", |_, _, a, _| {
        Ok(Datum::MzTimestamp(a[0].unwrap_numeric().to_u64()?))
    }),
    FuncDef::strict("cast_bool_to_int4", |_, _, a, _| {
        Ok(Datum::Int32(i32::from(a[0].unwrap_bool())))
    }),
    FuncDef::strict("cast_oid_to_int4", |_, _, a, _| {
        Ok(Datum::Int32(a[0].unwrap_oid() as i32))
    }),
    FuncDef::strict("cast_oid_to_int8", |_, _, a, _| {
        Ok(Datum::Int64(i64::from(a[0].unwrap_oid())))
    }),
    FuncDef::fallible("cast_int4_to_mz_timestamp", |_, _, a, _| {
        mz_timestamp(i64::from(a[0].unwrap_int32()))
    }),
    FuncDef::fallible("cast_int8_to_mz_timestamp", |_, _, a, _| {
        mz_timestamp(a[0].unwrap_int64())
    }),
    FuncDef::strict("cast_mz_timestamp_to_numeric", |_, _, a, _| {
        Ok(Datum::Numeric(Numeric::from(a[0].unwrap_mz_timestamp())))
    }),
    FuncDef::fallible(
        "cast_mz_timestamp_to_int8",
        |_, _, a, _| match i64::try_from(a[0].unwrap_mz_timestamp()) {
            Ok(v) => Ok(Datum::Int64(v)),
            Err(_) => Err(EvalError::out_of_range("bigint")),
        },
    ),
    // The next time; the last one stays.
    FuncDef::strict("mz_timestamp_step", |_, _, a, _| {
        Ok(Datum::MzTimestamp(
            a[0].unwrap_mz_timestamp().saturating_add(1),
        ))
    }),
    // Between types whose values are the same: text and varchar, oid and the reg* types.
    FuncDef::strict("relabel", |_, _, a, _| Ok(a[0])),
];

fn int2<'a>(v: i64) -> EvalResult<'a> {
    i16::try_from(v)
        .map(Datum::Int16)
        .map_err(|_| EvalError::out_of_range("smallint"))
}

fn int4<'a>(v: i64) -> EvalResult<'a> {
    i32::try_from(v)
        .map(Datum::Int32)
        .map_err(|_| EvalError::out_of_range("integer"))
}

/// The nearest integer, ties to even; `None` outside of the range `least..-least`, and for NaN.
fn rounded(v: f64, least: f64) -> Option<f64> {
    let v = v.round_ties_even();
    (v >= least && v < -least).then_some(v)
}

fn float_to_int2<'a>(v: f64) -> EvalResult<'a> {
    let rounded =
        rounded(v, f64::from(i16::MIN)).ok_or_else(|| EvalError::out_of_range("smallint"))?;
    Ok(Datum::Int16(rounded as i16))
}

fn float_to_int4<'a>(v: f64) -> EvalResult<'a> {
    let rounded =
        rounded(v, f64::from(i32::MIN)).ok_or_else(|| EvalError::out_of_range("integer"))?;
    Ok(Datum::Int32(rounded as i32))
}

fn float_to_int8<'a>(v: f64) -> EvalResult<'a> {
    let rounded = rounded(v, i64::MIN as f64).ok_or_else(|| EvalError::out_of_range("bigint"))?;
    Ok(Datum::Int64(rounded as i64))
}

fn float4<'a>(v: f64) -> EvalResult<'a> {
    let narrow = v as f32;
    if narrow.is_infinite() && v.is_finite() {
        return Err(EvalError::new("22003", "value out of range: overflow"));
    }
    if narrow == 0.0 && v != 0.0 {
        return Err(EvalError::new("22003", "value out of range: underflow"));
    }
    Ok(Datum::Float32(narrow))
}

fn mz_timestamp<'a>(v: i64) -> EvalResult<'a> {
    u64::try_from(v)
        .map(Datum::MzTimestamp)
        .map_err(|_| EvalError::out_of_range("mz_timestamp"))
}
