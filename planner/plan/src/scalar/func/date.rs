//! date and time: arithmetic, construction, tests.

use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use repr::time::{TimeError, USECS_PER_DAY, USECS_PER_HOUR, USECS_PER_MINUTE, USECS_PER_SEC};
use repr::{Date, Datum, PgTimestamp, RowArena, SqlType, Time};

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::fallible("date_pli", |_, _, a, _| {
        Ok(Datum::Date(
            a[0].unwrap_date().checked_add_days(a[1].unwrap_int32())?,
        ))
    }),
    FuncDef::fallible("date_mii", |_, _, a, _| {
        let days = a[1]
            .unwrap_int32()
            .checked_neg()
            .ok_or(TimeError::DateOutOfRange)?;
        Ok(Datum::Date(a[0].unwrap_date().checked_add_days(days)?))
    }),
    FuncDef::fallible("date_mi", |_, _, a, _| {
        Ok(Datum::Int32(
            a[0].unwrap_date().checked_sub(a[1].unwrap_date())?,
        ))
    }),
    FuncDef::fallible("date_pl_interval", |_, _, a, _| {
        Ok(Datum::Timestamp(
            a[0].unwrap_date()
                .checked_add_interval(a[1].unwrap_interval())?,
        ))
    }),
    FuncDef::fallible("date_mi_interval", |_, _, a, _| {
        Ok(Datum::Timestamp(a[0].unwrap_date().checked_add_interval(
            a[1].unwrap_interval().checked_neg()?,
        )?))
    }),
    FuncDef::fallible("datetime_timestamp", |_, _, a, _| {
        Ok(Datum::Timestamp(PgTimestamp::from_date_time(
            a[0].unwrap_date(),
            a[1].unwrap_time(),
        )?))
    }),
    FuncDef::strict("date_finite", |_, _, a, _| {
        Ok(Datum::Bool(a[0].unwrap_date().is_finite()))
    }),
    FuncDef::fallible("make_date", |_, _, a, _| {
        Ok(Datum::Date(make_date(
            a[0].unwrap_int32(),
            a[1].unwrap_int32(),
            a[2].unwrap_int32(),
        )?))
    }),
    FuncDef::fallible("make_time", make_time),
    FuncDef::strict("time_pl_interval", |_, _, a, _| {
        Ok(Datum::Time(
            a[0].unwrap_time()
                .wrapping_add_interval(a[1].unwrap_interval()),
        ))
    }),
    FuncDef::fallible("time_mi_interval", |_, _, a, _| {
        Ok(Datum::Time(a[0].unwrap_time().wrapping_add_interval(
            a[1].unwrap_interval().checked_neg()?,
        )))
    }),
    FuncDef::strict("time_mi_time", |_, _, a, _| {
        Ok(Datum::Interval(
            a[0].unwrap_time().since(a[1].unwrap_time()),
        ))
    }),
];

impl From<TimeError> for EvalError {
    fn from(error: TimeError) -> EvalError {
        EvalError::new(error.sqlstate(), error.to_string())
    }
}

/// The day of these parts; a negative year is BC, and there is no year 0.
pub(super) fn make_date(year: i32, month: i32, day: i32) -> Result<Date, EvalError> {
    let invalid = || {
        EvalError::new(
            "22008",
            format!("date field value out of range: {year}-{month:02}-{day:02}"),
        )
    };
    let astronomical = match year {
        0 => return Err(invalid()),
        1.. => year,
        _ => year.checked_add(1).ok_or_else(invalid)?,
    };
    Date::from_civil(astronomical, month, day).map_err(|error| match error {
        TimeError::InvalidDate { .. } => invalid(),
        _ => EvalError::new(
            "22008",
            format!("date out of range: {year}-{month:02}-{day:02}"),
        ),
    })
}

/// Microseconds since midnight; 24:00:00 is allowed.
pub(super) fn time_of_day(hour: i32, minute: i32, second: f64) -> Result<Time, EvalError> {
    let invalid = || {
        EvalError::new(
            "22008",
            format!("time field value out of range: {hour}:{minute:02}:{second:02}"),
        )
    };
    let in_range =
        (0..=24).contains(&hour) && (0..=59).contains(&minute) && (0.0..=60.0).contains(&second);
    if !in_range {
        return Err(invalid());
    }
    let micros = (second * USECS_PER_SEC as f64).round_ties_even() as i64;
    let total = i64::from(hour) * USECS_PER_HOUR + i64::from(minute) * USECS_PER_MINUTE + micros;
    if total > USECS_PER_DAY {
        Err(invalid())
    } else {
        Ok(Time(total))
    }
}

fn make_time<'a>(_: &EvalCtx, _: &SqlType, a: &[Datum<'a>], _: &'a RowArena) -> EvalResult<'a> {
    Ok(Datum::Time(time_of_day(
        a[0].unwrap_int32(),
        a[1].unwrap_int32(),
        a[2].unwrap_float64(),
    )?))
}
