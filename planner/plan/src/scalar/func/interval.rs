//! interval: arithmetic and normal forms.

use super::{EvalResult, FuncDef};
use crate::scalar::eval::EvalCtx;
use repr::time::{TimeError, USECS_PER_HOUR, USECS_PER_MINUTE, USECS_PER_SEC};
use repr::{Datum, Interval, RowArena, SqlType};

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::fallible("interval_pl", |_, _, a, _| {
        Ok(Datum::Interval(
            a[0].unwrap_interval().checked_add(a[1].unwrap_interval())?,
        ))
    })
    .commutes_to("interval_pl"),
    FuncDef::fallible("interval_mi", |_, _, a, _| {
        Ok(Datum::Interval(
            a[0].unwrap_interval().checked_sub(a[1].unwrap_interval())?,
        ))
    }),
    FuncDef::fallible("interval_um", |_, _, a, _| {
        Ok(Datum::Interval(a[0].unwrap_interval().checked_neg()?))
    }),
    FuncDef::fallible("interval_mul", |_, _, a, _| {
        Ok(Datum::Interval(
            a[0].unwrap_interval().checked_mul(a[1].unwrap_float64())?,
        ))
    })
    .commutes_to("mul_d_interval"),
    FuncDef::fallible("mul_d_interval", |_, _, a, _| {
        Ok(Datum::Interval(
            a[1].unwrap_interval().checked_mul(a[0].unwrap_float64())?,
        ))
    })
    .commutes_to("interval_mul"),
    FuncDef::fallible("interval_div", |_, _, a, _| {
        Ok(Datum::Interval(
            a[0].unwrap_interval().checked_div(a[1].unwrap_float64())?,
        ))
    }),
    FuncDef::fallible("interval_justify_days", |_, _, a, _| {
        Ok(Datum::Interval(a[0].unwrap_interval().justify_days()?))
    }),
    FuncDef::fallible("interval_justify_hours", |_, _, a, _| {
        Ok(Datum::Interval(a[0].unwrap_interval().justify_hours()?))
    }),
    FuncDef::fallible("interval_justify_interval", |_, _, a, _| {
        Ok(Datum::Interval(a[0].unwrap_interval().justify()?))
    }),
    FuncDef::strict("interval_finite", |_, _, _, _| Ok(Datum::TRUE)),
    FuncDef::fallible("make_interval", make_interval),
];

/// `make_interval(years, months, weeks, days, hours, minutes, seconds)`.
fn make_interval<'a>(_: &EvalCtx, _: &SqlType, a: &[Datum<'a>], _: &'a RowArena) -> EvalResult<'a> {
    let part = |i: usize| i64::from(a[i].unwrap_int32());
    let seconds = a[6].unwrap_float64();
    let micros = (seconds * USECS_PER_SEC as f64).round_ties_even();
    if !micros.is_finite() || micros.abs() >= i64::MAX as f64 {
        return Err(TimeError::IntervalOutOfRange.into());
    }
    let micros = i128::from(part(4) * USECS_PER_HOUR)
        + i128::from(part(5) * USECS_PER_MINUTE)
        + micros as i128;
    let out_of_range = |_| TimeError::IntervalOutOfRange;
    Ok(Datum::Interval(Interval {
        months: i32::try_from(part(0) * 12 + part(1)).map_err(out_of_range)?,
        days: i32::try_from(part(2) * 7 + part(3)).map_err(out_of_range)?,
        micros: i64::try_from(micros).map_err(out_of_range)?,
    }))
}
