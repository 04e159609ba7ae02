//! timestamp and timestamptz: arithmetic, construction, tests.

use super::date::{make_date, time_of_day};
use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use repr::time::{TimeError, UNIX_TO_PG_EPOCH_USECS, USECS_PER_DAY, USECS_PER_SEC};
use repr::{Datum, PgTimestamp, RowArena, SqlType};

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::fallible("timestamp_pl_interval", |_, _, a, _| {
        Ok(Datum::Timestamp(
            a[0].unwrap_timestamp()
                .checked_add_interval(a[1].unwrap_interval())?,
        ))
    }),
    FuncDef::fallible("timestamp_mi_interval", |_, _, a, _| {
        Ok(Datum::Timestamp(
            a[0].unwrap_timestamp()
                .checked_add_interval(a[1].unwrap_interval().checked_neg()?)?,
        ))
    }),
    FuncDef::fallible("timestamp_mi", |_, _, a, _| {
        Ok(Datum::Interval(
            a[0].unwrap_timestamp()
                .checked_sub(a[1].unwrap_timestamp())?,
        ))
    }),
    FuncDef::fallible("timestamptz_pl_interval", |ctx, _, a, _| {
        let moved = a[0]
            .unwrap_timestamptz()
            .checked_add_interval_in(a[1].unwrap_interval(), ctx.zone())?;
        Ok(Datum::TimestampTz(moved))
    })
    .by_session(),
    FuncDef::fallible("timestamptz_mi_interval", |ctx, _, a, _| {
        let span = a[1].unwrap_interval().checked_neg()?;
        Ok(Datum::TimestampTz(
            a[0].unwrap_timestamptz()
                .checked_add_interval_in(span, ctx.zone())?,
        ))
    })
    .by_session(),
    FuncDef::fallible("timestamptz_mi", |_, _, a, _| {
        Ok(Datum::Interval(
            a[0].unwrap_timestamptz()
                .checked_sub(a[1].unwrap_timestamptz())?,
        ))
    }),
    FuncDef::fallible("timestamp_age", |_, _, a, _| {
        Ok(Datum::Interval(
            a[0].unwrap_timestamp().age(a[1].unwrap_timestamp())?,
        ))
    }),
    FuncDef::fallible("timestamptz_age", |ctx, _, a, _| {
        let local = |d: Datum<'_>| ctx.zone().to_local(d.unwrap_timestamptz());
        Ok(Datum::Interval(local(a[0]).age(local(a[1]))?))
    })
    .by_session(),
    FuncDef::strict("timestamp_finite", |_, _, a, _| {
        Ok(Datum::Bool(a[0].unwrap_timestamp().is_finite()))
    }),
    FuncDef::strict("timestamptz_finite", |_, _, a, _| {
        Ok(Datum::Bool(a[0].unwrap_timestamptz().is_finite()))
    }),
    FuncDef::fallible("make_timestamp", |_, _, a, _| {
        Ok(Datum::Timestamp(make_timestamp(a)?))
    }),
    // In the session's time zone, or in that of the seventh argument.
    FuncDef::fallible("make_timestamptz", |ctx, _, a, _| {
        Ok(Datum::TimestampTz(ctx.zone().to_utc(make_timestamp(a)?)?))
    })
    .by_session(),
    FuncDef::fallible("make_timestamptz_at_timezone", |_, _, a, _| {
        let zone = repr::time::TimeZone::parse(a[6].unwrap_str())?;
        Ok(Datum::TimestampTz(zone.to_utc(make_timestamp(a)?)?))
    }),
    FuncDef::fallible("float8_timestamptz", float8_timestamptz),
    FuncDef::fallible("timestamp_bin", |_, _, a, _| {
        Ok(Datum::Timestamp(bin(
            a,
            a[1].unwrap_timestamp(),
            a[2].unwrap_timestamp(),
        )?))
    }),
    FuncDef::fallible("timestamptz_bin", |_, _, a, _| {
        Ok(Datum::TimestampTz(bin(
            a,
            a[1].unwrap_timestamptz(),
            a[2].unwrap_timestamptz(),
        )?))
    }),
];

fn make_timestamp(a: &[Datum<'_>]) -> Result<PgTimestamp, EvalError> {
    let part = |i: usize| a[i].unwrap_int32();
    let date = make_date(part(0), part(1), part(2))?;
    let time = time_of_day(part(3), part(4), a[5].unwrap_float64())?;
    Ok(PgTimestamp::from_date_time(date, time)?)
}

/// `to_timestamp(seconds since 1970)`.
fn float8_timestamptz<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    _: &'a RowArena,
) -> EvalResult<'a> {
    let seconds = a[0].unwrap_float64();
    if seconds.is_nan() {
        return Err(EvalError::new("22008", "timestamp cannot be NaN"));
    }
    if seconds.is_infinite() {
        let infinity = if seconds > 0.0 {
            PgTimestamp::INFINITY
        } else {
            PgTimestamp::NEG_INFINITY
        };
        return Ok(Datum::TimestampTz(infinity));
    }
    let out_of_range = |_| {
        let mut text = String::new();
        repr::format::write_float64(seconds, 1, &mut text).expect("strings take all text");
        EvalError::new("22008", format!("timestamp out of range: \"{text}\""))
    };
    // The shift to the epoch first, then the rounding: as PostgreSQL does it.
    let shifted = seconds - (UNIX_TO_PG_EPOCH_USECS / USECS_PER_SEC) as f64;
    let micros = (shifted * USECS_PER_SEC as f64).round_ties_even();
    let clamped = micros as i64;
    PgTimestamp::from_micros(clamped)
        .map(Datum::TimestampTz)
        .map_err(out_of_range)
}

/// `date_bin(stride, source, origin)`.
fn bin(
    a: &[Datum<'_>],
    source: PgTimestamp,
    origin: PgTimestamp,
) -> Result<PgTimestamp, EvalError> {
    let stride = a[0].unwrap_interval();
    if !source.is_finite() {
        return Ok(source);
    }
    if !origin.is_finite() {
        return Err(EvalError::new("22008", "origin out of range"));
    }
    if stride.months != 0 {
        let message = "timestamps cannot be binned into intervals containing months or years";
        return Err(EvalError::new("0A000", message));
    }
    let stride = i128::from(stride.days) * i128::from(USECS_PER_DAY) + i128::from(stride.micros);
    if stride <= 0 {
        return Err(EvalError::new("22008", "stride must be greater than zero"));
    }
    let since = i128::from(source.0) - i128::from(origin.0);
    let start = i128::from(origin.0) + since.div_euclid(stride) * stride;
    let start = i64::try_from(start).map_err(|_| TimeError::TimestampOutOfRange)?;
    Ok(PgTimestamp::from_micros(start)?)
}
