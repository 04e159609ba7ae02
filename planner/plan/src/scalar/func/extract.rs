//! Parts of dates, times and intervals: `extract`, `date_part`, `date_trunc`.

use super::{EvalResult, FuncDef};
use repr::time::{TimeError, TimeZone};
use repr::{Datum, Numeric};

pub(super) static TABLE: &[FuncDef] = &[
    // `extract(unit from value)`: numeric.
    FuncDef::fallible("extract_date", |_, _, a, _| {
        numeric(a[1].unwrap_date().extract(a[0].unwrap_str()))
    })
    .nullable(),
    FuncDef::fallible("extract_time", |_, _, a, _| {
        numeric(a[1].unwrap_time().extract(a[0].unwrap_str()).map(Some))
    }),
    FuncDef::fallible("extract_timestamp", |_, _, a, _| {
        numeric(a[1].unwrap_timestamp().extract(a[0].unwrap_str()))
    })
    .nullable(),
    FuncDef::fallible("extract_timestamptz", |ctx, _, a, _| {
        numeric(
            a[1].unwrap_timestamptz()
                .extract_in(a[0].unwrap_str(), ctx.zone()),
        )
    })
    .nullable()
    .by_session(),
    FuncDef::fallible("extract_interval", |_, _, a, _| {
        numeric(a[1].unwrap_interval().extract(a[0].unwrap_str()).map(Some))
    }),
    // `date_part(unit, value)`: float8. A date counts as a timestamp, so that it has an hour.
    FuncDef::fallible("date_part_date", |_, _, a, _| {
        float(
            a[1].unwrap_date()
                .to_timestamp()
                .and_then(|t| t.extract(a[0].unwrap_str())),
        )
    })
    .nullable(),
    FuncDef::fallible("time_part", |_, _, a, _| {
        float(a[1].unwrap_time().extract(a[0].unwrap_str()).map(Some))
    }),
    FuncDef::fallible("timestamp_part", |_, _, a, _| {
        float(a[1].unwrap_timestamp().extract(a[0].unwrap_str()))
    })
    .nullable(),
    FuncDef::fallible("timestamptz_part", |ctx, _, a, _| {
        float(
            a[1].unwrap_timestamptz()
                .extract_in(a[0].unwrap_str(), ctx.zone()),
        )
    })
    .nullable()
    .by_session(),
    FuncDef::fallible("interval_part", |_, _, a, _| {
        float(a[1].unwrap_interval().extract(a[0].unwrap_str()).map(Some))
    }),
    // `date_trunc(unit, value [, zone])`.
    FuncDef::fallible("timestamp_trunc", |_, _, a, _| {
        Ok(Datum::Timestamp(
            a[1].unwrap_timestamp().trunc(a[0].unwrap_str())?,
        ))
    }),
    FuncDef::fallible("timestamptz_trunc", |ctx, _, a, _| {
        Ok(Datum::TimestampTz(
            a[1].unwrap_timestamptz()
                .trunc_in(a[0].unwrap_str(), ctx.zone())?,
        ))
    })
    .by_session(),
    FuncDef::fallible("timestamptz_trunc_zone", |_, _, a, _| {
        let zone = TimeZone::parse(a[2].unwrap_str())?;
        Ok(Datum::TimestampTz(
            a[1].unwrap_timestamptz()
                .trunc_in(a[0].unwrap_str(), &zone)?,
        ))
    }),
    FuncDef::fallible("interval_trunc", |_, _, a, _| {
        Ok(Datum::Interval(
            a[1].unwrap_interval().trunc(a[0].unwrap_str())?,
        ))
    }),
];

fn numeric<'a>(part: Result<Option<Numeric>, TimeError>) -> EvalResult<'a> {
    Ok(part?.map_or(Datum::Null, Datum::Numeric))
}

fn float<'a>(part: Result<Option<Numeric>, TimeError>) -> EvalResult<'a> {
    Ok(part?.map_or(Datum::Null, |part| Datum::Float64(part.to_f64())))
}
