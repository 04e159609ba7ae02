//! `AT TIME ZONE`.

use super::FuncDef;
use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use repr::time::{TimeZone, USECS_PER_SEC};
use repr::{Datum, Interval};

pub(super) static TABLE: &[FuncDef] = &[
    // timezone(zone, timestamp): that local time as a moment.
    FuncDef::fallible("timestamp_zone", |_, _, a, _| {
        Ok(Datum::TimestampTz(
            TimeZone::parse(a[0].unwrap_str())?.to_utc(a[1].unwrap_timestamp())?,
        ))
    }),
    // timezone(zone, timestamptz): the moment in local time.
    FuncDef::fallible("timestamptz_zone", |_, _, a, _| {
        Ok(Datum::Timestamp(
            TimeZone::parse(a[0].unwrap_str())?.to_local(a[1].unwrap_timestamptz()),
        ))
    }),
    FuncDef::fallible("timestamp_izone", |_, _, a, _| {
        Ok(Datum::TimestampTz(
            offset_zone(a[0].unwrap_interval())?.to_utc(a[1].unwrap_timestamp())?,
        ))
    }),
    FuncDef::fallible("timestamptz_izone", |_, _, a, _| {
        Ok(Datum::Timestamp(
            offset_zone(a[0].unwrap_interval())?.to_local(a[1].unwrap_timestamptz()),
        ))
    }),
];

/// The zone with this offset from UTC, positive to the east.
fn offset_zone(offset: Interval) -> Result<TimeZone, EvalError> {
    let invalid = || {
        let mut text = String::new();
        EvalCtx::default().write_text(Datum::Interval(offset), &mut text);
        EvalError::new(
            "22023",
            format!("interval time zone \"{text}\" must not include months or days"),
        )
    };
    if offset.months != 0 || offset.days != 0 {
        return Err(invalid());
    }
    let seconds = i32::try_from(offset.micros / USECS_PER_SEC).map_err(|_| invalid())?;
    TimeZone::from_offset_secs(seconds).ok_or_else(invalid)
}
