//! Functions that return a set of rows.

use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use repr::{Datum, Diff, Interval, PgTimestamp, Row, SqlType, TimeError};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// A set-returning function applied to each input row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TableFunc {
    /// `generate_series(start, stop, step)` over int4 (as int8 arguments and results cast by the planner), int8, or timestamps.
    GenerateSeriesInt32,
    GenerateSeriesInt64,
    GenerateSeriesTimestamp,
    GenerateSeriesTimestampTz,
    /// `unnest(array)`.
    Unnest {
        element: SqlType,
    },
    /// `generate_subscripts(array, dim)`: int4.
    GenerateSubscripts,
    /// `regexp_split_to_table`-free way to repeat a row: emits the row as many times as its int8 argument says.
    Repeat,
}

/// The rows of one call: the columns that the function adds, and how often each row occurs.
pub type TableRows<'a> = Box<dyn Iterator<Item = (Row, Diff)> + 'a>;

impl TableFunc {
    /// The rows for these arguments; none if an argument is NULL. Rows are made as the iterator is read: series can be endless
    /// for all practical purposes, so whoever reads them counts.
    ///
    /// # Errors
    /// A step of zero, or a timestamp beyond the range of the type.
    pub fn eval<'a>(&self, ctx: &EvalCtx, args: &[Datum<'a>]) -> Result<TableRows<'a>, EvalError> {
        if args.iter().any(|d| d.is_null()) {
            return Ok(Box::new(std::iter::empty()));
        }
        let one = |datum: Datum<'_>| (Row::pack_slice(&[datum]), 1);
        Ok(match self {
            TableFunc::GenerateSeriesInt32 | TableFunc::GenerateSeriesInt64 => {
                let narrow = matches!(args[0], Datum::Int32(_));
                let series = integers(args)?;
                Box::new(series.map(move |n| {
                    one(if narrow {
                        Datum::Int32(n as i32)
                    } else {
                        Datum::Int64(n)
                    })
                }))
            }
            TableFunc::GenerateSeriesTimestamp => {
                let (start, stop) = (args[0].unwrap_timestamp(), args[1].unwrap_timestamp());
                let step = args[2].unwrap_interval();
                let series = moments(start, stop, step, move |t| t.checked_add_interval(step))?;
                Box::new(series.map(move |t| one(Datum::Timestamp(t))))
            }
            TableFunc::GenerateSeriesTimestampTz => {
                let (start, stop) = (args[0].unwrap_timestamptz(), args[1].unwrap_timestamptz());
                let (step, zone) = (args[2].unwrap_interval(), *ctx.zone());
                let series = moments(start, stop, step, move |t| {
                    t.checked_add_interval_in(step, &zone)
                })?;
                Box::new(series.map(move |t| one(Datum::TimestampTz(t))))
            }
            TableFunc::Unnest { .. } => Box::new(args[0].unwrap_array().iter().map(one)),
            TableFunc::GenerateSubscripts => {
                let number = usize::try_from(args[1].unwrap_int32())
                    .ok()
                    .and_then(|n| n.checked_sub(1));
                let dim = number.and_then(|n| args[0].unwrap_array().dims().nth(n));
                let subscripts = dim.map_or(0..0, |d| {
                    d.lower_bound..d.lower_bound.saturating_add_unsigned(d.length)
                });
                Box::new(subscripts.map(move |n| one(Datum::Int32(n))))
            }
            TableFunc::Repeat => {
                let times = args[0].unwrap_int64();
                Box::new((times > 0).then(|| (Row::empty(), times)).into_iter())
            }
        })
    }
}

fn zero_step() -> EvalError {
    EvalError::new("22023", "step size cannot equal zero")
}

/// From `args[0]` to `args[1]` by `args[2]` (1 if left out).
fn integers(args: &[Datum<'_>]) -> Result<impl Iterator<Item = i64> + use<>, EvalError> {
    let int = |d: Datum<'_>| match d {
        Datum::Int32(n) => i64::from(n),
        other => other.unwrap_int64(),
    };
    let (start, stop) = (int(args[0]), int(args[1]));
    let step = args.get(2).map_or(1, |d| int(*d));
    if step == 0 {
        return Err(zero_step());
    }
    let in_range = move |n: &i64| if step > 0 { *n <= stop } else { *n >= stop };
    Ok(std::iter::successors(Some(start), move |n| n.checked_add(step)).take_while(in_range))
}

/// From `start` to `stop`. PostgreSQL fails where a step leaves the range of the type; the series just ends here.
fn moments(
    start: PgTimestamp,
    stop: PgTimestamp,
    step: Interval,
    next: impl Fn(PgTimestamp) -> Result<PgTimestamp, TimeError>,
) -> Result<impl Iterator<Item = PgTimestamp>, EvalError> {
    let forward = match step.cmp(&Interval::ZERO) {
        Ordering::Equal => return Err(zero_step()),
        Ordering::Greater => true,
        Ordering::Less => false,
    };
    let in_range = move |t: &PgTimestamp| if forward { *t <= stop } else { *t >= stop };
    // An infinite start never moves.
    let step = move |t: &PgTimestamp| if t.is_finite() { next(*t).ok() } else { None };
    Ok(std::iter::successors(Some(start), step).take_while(in_range))
}
