//! Conversions between dates, times, timestamps, intervals and `mz_timestamp`.

use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use repr::time::USECS_PER_DAY;
use repr::{Datum, Interval, PgTimestamp, Time, Timestamp};

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::fallible("cast_date_to_timestamp", |_, _, a, _| {
        Ok(Datum::Timestamp(a[0].unwrap_date().to_timestamp()?))
    }),
    FuncDef::fallible("cast_date_to_timestamptz", |ctx, _, a, _| {
        Ok(Datum::TimestampTz(
            ctx.zone().to_utc(a[0].unwrap_date().to_timestamp()?)?,
        ))
    })
    .by_session(),
    FuncDef::strict("cast_timestamp_to_date", |_, _, a, _| {
        Ok(Datum::Date(a[0].unwrap_timestamp().date()))
    }),
    FuncDef::strict("cast_timestamp_to_time", |_, _, a, _| {
        Ok(time(a[0].unwrap_timestamp()))
    })
    .nullable(),
    FuncDef::fallible("cast_timestamp_to_timestamptz", |ctx, _, a, _| {
        Ok(Datum::TimestampTz(
            ctx.zone().to_utc(a[0].unwrap_timestamp())?,
        ))
    })
    .by_session(),
    FuncDef::strict("cast_timestamptz_to_date", |ctx, _, a, _| {
        Ok(Datum::Date(
            ctx.zone().to_local(a[0].unwrap_timestamptz()).date(),
        ))
    })
    .by_session(),
    FuncDef::strict("cast_timestamptz_to_time", |ctx, _, a, _| {
        Ok(time(ctx.zone().to_local(a[0].unwrap_timestamptz())))
    })
    .nullable()
    .by_session(),
    FuncDef::strict("cast_timestamptz_to_timestamp", |ctx, _, a, _| {
        Ok(Datum::Timestamp(
            ctx.zone().to_local(a[0].unwrap_timestamptz()),
        ))
    })
    .by_session(),
    FuncDef::strict("cast_time_to_interval", |_, _, a, _| {
        Ok(Datum::Interval(Interval {
            micros: a[0].unwrap_time().0,
            ..Interval::ZERO
        }))
    }),
    FuncDef::strict("cast_interval_to_time", |_, _, a, _| {
        Ok(Datum::Time(Time(
            a[0].unwrap_interval().micros.rem_euclid(USECS_PER_DAY),
        )))
    }),
    // mz_timestamp counts microseconds since 1970 in UTC; its last value stands for infinity.
    FuncDef::fallible("cast_date_to_mz_timestamp", |_, _, a, _| {
        mz_timestamp(a[0].unwrap_date().to_timestamp()?)
    }),
    FuncDef::fallible("cast_timestamp_to_mz_timestamp", |_, _, a, _| {
        mz_timestamp(a[0].unwrap_timestamp())
    }),
    FuncDef::fallible("cast_timestamptz_to_mz_timestamp", |_, _, a, _| {
        mz_timestamp(a[0].unwrap_timestamptz())
    }),
    FuncDef::fallible("cast_mz_timestamp_to_timestamp", |_, _, a, _| {
        Ok(Datum::Timestamp(from_mz_timestamp(
            a[0].unwrap_mz_timestamp(),
        )?))
    }),
    FuncDef::fallible("cast_mz_timestamp_to_timestamptz", |_, _, a, _| {
        Ok(Datum::TimestampTz(from_mz_timestamp(
            a[0].unwrap_mz_timestamp(),
        )?))
    }),
];

fn time<'a>(t: PgTimestamp) -> Datum<'a> {
    if t.is_finite() {
        Datum::Time(t.time())
    } else {
        Datum::Null
    }
}

fn mz_timestamp<'a>(t: PgTimestamp) -> EvalResult<'a> {
    if t == PgTimestamp::INFINITY {
        return Ok(Datum::MzTimestamp(Timestamp::MAX));
    }
    let micros = t
        .to_unix_micros()
        .and_then(|micros| Timestamp::try_from(micros).ok());
    micros
        .map(Datum::MzTimestamp)
        .ok_or_else(|| EvalError::out_of_range("mz_timestamp"))
}

fn from_mz_timestamp(time: Timestamp) -> Result<PgTimestamp, EvalError> {
    if time == Timestamp::MAX {
        return Ok(PgTimestamp::INFINITY);
    }
    let micros = i64::try_from(time).map_err(|_| EvalError::out_of_range("timestamp"))?;
    Ok(PgTimestamp::from_unix_micros(micros)?)
}
