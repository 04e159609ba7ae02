//! Dates, times and timestamps from text: ISO 8601 and the many older forms that Postgres reads.
//!
//! Text is cut into fields by [`lexer`], each field is understood in the light of those before it (in
//! `decode`), and the result is put together and checked here.

mod decode;
pub(super) mod lexer;

use super::{FormatCtx, invalid_syntax};
use crate::error::FormatError;
use crate::time::calendar::days_in_month;
use crate::time::{
    Date, PgTimestamp, Time, TimeError, TimeZone, USECS_PER_DAY, USECS_PER_HOUR, USECS_PER_MINUTE,
    USECS_PER_SEC,
};

use decode::{Decoder, Special, Zone};

pub(super) use decode::parse_clock;

impl From<TimeError> for FormatError {
    fn from(error: TimeError) -> FormatError {
        let converted = FormatError::new(error.sqlstate(), error.to_string());
        match &error {
            TimeError::UnsupportedUnit { unit, ty } if *ty == "interval" && unit == "week" => {
                converted.with_detail("Months usually have fractional weeks.")
            }
            _ => converted,
        }
    }
}

/// Why text is no date or time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// No such form.
    Syntax,
    /// A part is out of its range.
    FieldRange,
    /// A month or day is out of its range, perhaps because the order was misunderstood.
    DateOrder,
    /// An offset from UTC is too large.
    ZoneRange,
    /// A part of an interval is too large.
    IntervalRange,
    /// The parts of an interval are too large together.
    IntervalTotal,
    /// The name of a zone is unknown.
    UnknownZone(String),
}

impl Problem {
    pub(super) fn into_error(self, ty: &str, text: &str) -> FormatError {
        let field_range = || {
            FormatError::new(
                "22008",
                format!("date/time field value out of range: \"{text}\""),
            )
        };
        match self {
            Problem::Syntax => invalid_syntax("22007", ty, text),
            Problem::FieldRange => field_range(),
            Problem::DateOrder => {
                field_range().with_hint("Perhaps you need a different \"datestyle\" setting.")
            }
            Problem::ZoneRange => FormatError::new(
                "22009",
                format!("time zone displacement out of range: \"{text}\""),
            ),
            Problem::IntervalRange => FormatError::new(
                "22015",
                format!("interval field value out of range: \"{text}\""),
            ),
            Problem::IntervalTotal => FormatError::new("22008", "interval out of range"),
            Problem::UnknownZone(zone) => {
                FormatError::new("22023", format!("time zone \"{zone}\" not recognized"))
            }
        }
    }
}

/// What the text says, all fields taken together.
#[derive(Clone, Debug, Default)]
struct Parsed {
    year: Option<i32>,
    /// Whether the year was given with two digits or fewer.
    short_year: bool,
    before_christ: bool,
    month: Option<u8>,
    day: Option<u8>,
    day_of_year: Option<u16>,
    /// Set by `J2451187`; then year, month and day are none.
    julian: Option<i64>,
    /// Microseconds since midnight, at most 24:00:00.
    time: Option<ClockTime>,
    afternoon: Option<bool>,
    zone: Option<Zone>,
    special: Option<Special>,
}

/// A time as given, not yet checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClockTime {
    /// Beyond 24 only in intervals.
    pub(super) hour: i64,
    pub(super) minute: i32,
    pub(super) second: i32,
    pub(super) micros: i32,
}

impl ClockTime {
    fn to_micros(self, afternoon: Option<bool>) -> Result<i64, Problem> {
        let ClockTime {
            mut hour,
            minute,
            second,
            micros,
        } = self;
        if let Some(afternoon) = afternoon {
            match hour {
                13.. => return Err(Problem::FieldRange),
                12 if !afternoon => hour = 0,
                0..12 if afternoon => hour += 12,
                _ => {}
            }
        }
        let rest = i64::from(minute) * USECS_PER_MINUTE
            + i64::from(second) * USECS_PER_SEC
            + i64::from(micros);
        let past_end = hour > 24 || (hour == 24 && rest > 0) || (second == 60 && micros > 0);
        if hour < 0 || past_end {
            return Err(Problem::FieldRange);
        }
        Ok(hour * USECS_PER_HOUR + rest)
    }
}

impl Parsed {
    fn date(&self) -> Result<Date, Problem> {
        if let Some(julian) = self.julian {
            let days = julian - i64::from(crate::time::calendar::PG_EPOCH_JULIAN);
            return Date::from_days(days).map_err(|_| Problem::FieldRange);
        }
        let year = self.full_year()?;
        if let Some(day_of_year) = self.day_of_year {
            let first = Date::from_civil(year, 1, 1).map_err(|_| Problem::FieldRange)?;
            // Day 366 of a short year is the first of the next.
            if !(1..=366).contains(&day_of_year) {
                return Err(Problem::FieldRange);
            }
            return Date::from_days(i64::from(first.0) + i64::from(day_of_year) - 1)
                .map_err(|_| Problem::FieldRange);
        }
        let (Some(month), Some(day)) = (self.month, self.day) else {
            return Err(Problem::Syntax);
        };
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(Problem::DateOrder);
        }
        if day > days_in_month(year, month) {
            return Err(Problem::FieldRange);
        }
        let days = crate::time::calendar::days_from_civil(year.into(), month.into(), day.into());
        // Whether it is in range is the caller's question: dates reach further than timestamps.
        Ok(Date(i32::try_from(days).unwrap_or(if days < 0 {
            Date::NEG_INFINITY.0 + 1
        } else {
            Date::INFINITY.0 - 1
        })))
    }

    fn full_year(&self) -> Result<i32, Problem> {
        let year = self.year.ok_or(Problem::Syntax)?;
        match year {
            1.. if self.before_christ => Ok(1 - year),
            0..70 if self.short_year && !self.before_christ => Ok(year + 2000),
            70..100 if self.short_year => Ok(year + 1900),
            1.. => Ok(year),
            _ => Err(Problem::FieldRange),
        }
    }

    fn time_micros(&self) -> Result<i64, Problem> {
        match self.time {
            Some(time) => time.to_micros(self.afternoon),
            None => Ok(0),
        }
    }
}

/// The value of digits; `None` if there are others.
fn digits(text: &[u8]) -> Option<i32> {
    text.iter().try_fold(0, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit <= 9).then(|| value * 10 + i32::from(digit))
    })
}

/// `YYYY-MM-DD`, by far the most common form.
fn parse_iso_date(text: &[u8]) -> Option<Date> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text else {
        return None;
    };
    let year = digits(&[y1, y2, y3, y4]).filter(|year| *year > 0)?;
    Date::from_civil(year, digits(&[m1, m2])?, digits(&[d1, d2])?).ok()
}

/// `YYYY-MM-DD[ HH:MM:SS[.ffffff][+HH[:MM]]]`: the local time and the seconds east of UTC. What does not
/// look exactly like this, or is out of range, is left to the general way.
fn parse_iso_moment(text: &str) -> Option<(PgTimestamp, Option<i32>)> {
    let (date, rest) = text.as_bytes().split_at_checked(10)?;
    let midnight = parse_iso_date(date)?.to_timestamp().ok()?;
    let [
        b' ' | b'T',
        h1,
        h2,
        b':',
        m1,
        m2,
        b':',
        s1,
        s2,
        ref rest @ ..,
    ] = *rest
    else {
        return rest.is_empty().then_some((midnight, None));
    };
    let (hour, minute, second) = (digits(&[h1, h2])?, digits(&[m1, m2])?, digits(&[s1, s2])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction, zone) = match rest {
        [b'.', rest @ ..] => rest.split_at(rest.iter().take_while(|b| b.is_ascii_digit()).count()),
        zone => (&[][..], zone),
    };
    if fraction.len() > 6 {
        return None;
    }
    let micros = digits(fraction)? * 10i32.pow(6 - fraction.len() as u32);
    let offset = match *zone {
        [] => None,
        [b'Z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, ref rest @ ..] => {
            let minute = match *rest {
                [] => 0,
                [b':', m1, m2] => digits(&[m1, m2])?,
                _ => return None,
            };
            let hour = digits(&[h1, h2])?;
            if hour > 15 || minute > 59 {
                return None;
            }
            let secs = hour * 3600 + minute * 60;
            Some(if sign == b'-' { -secs } else { secs })
        }
        _ => return None,
    };
    let time = ClockTime {
        hour: hour.into(),
        minute,
        second,
        micros,
    };
    Some((PgTimestamp(midnight.0 + time.to_micros(None).ok()?), offset))
}

pub(super) fn parse_date(text: &str, ctx: &FormatCtx) -> Result<Date, FormatError> {
    if let Some(date) = parse_iso_date(text.as_bytes()) {
        return Ok(date);
    }
    let fail = |problem: Problem| problem.into_error("date", text);
    let parsed = Decoder::new(ctx).decode(text).map_err(fail)?;
    let date = match parsed.special {
        Some(Special::Infinity) => return Ok(Date::INFINITY),
        Some(Special::NegInfinity) => return Ok(Date::NEG_INFINITY),
        Some(special @ (Special::Epoch | Special::Now | Special::Day(_))) => {
            special.moment(ctx).map_err(fail)?.date()
        }
        None => {
            parsed.time_micros().map_err(fail)?;
            parsed.date().map_err(fail)?
        }
    };
    Date::from_days(date.0.into())
        .map_err(|_| FormatError::new("22008", format!("date out of range: \"{text}\"")))
}

pub(super) fn parse_time(text: &str, ctx: &FormatCtx) -> Result<Time, FormatError> {
    let fail = |problem: Problem| problem.into_error("time", text);
    let parsed = Decoder::new(ctx).decode_time_only(text).map_err(fail)?;
    match parsed.special {
        Some(special @ Special::Now) => {
            return Ok(special.moment(ctx).map_err(fail)?.time());
        }
        Some(_) => return Err(fail(Problem::Syntax)),
        None => {}
    }
    if parsed.time.is_none() {
        return Err(fail(Problem::Syntax));
    }
    parsed.time_micros().map(Time).map_err(fail)
}

pub(super) fn parse_timestamp(text: &str, ctx: &FormatCtx) -> Result<PgTimestamp, FormatError> {
    parse_moment(text, ctx, "timestamp", |local, _| Ok(local))
}

pub(super) fn parse_timestamptz(text: &str, ctx: &FormatCtx) -> Result<PgTimestamp, FormatError> {
    parse_moment(text, ctx, "timestamp with time zone", |local, zone| {
        zone.unwrap_or(ctx.timezone).to_utc(local)
    })
}

/// Reads a date and time; `place` turns it into the type's idea of a moment, given the zone in the text.
fn parse_moment(
    text: &str,
    ctx: &FormatCtx,
    ty: &str,
    place: impl Fn(PgTimestamp, Option<TimeZone>) -> Result<PgTimestamp, TimeError>,
) -> Result<PgTimestamp, FormatError> {
    let fail = |problem: Problem| problem.into_error(ty, text);
    let out_of_range = || FormatError::new("22008", format!("timestamp out of range: \"{text}\""));
    if let Some((local, offset)) = parse_iso_moment(text) {
        let placed = place(local, offset.map(TimeZone::Fixed)).map_err(|_| out_of_range())?;
        return PgTimestamp::from_micros(placed.0).map_err(|_| out_of_range());
    }
    let parsed = Decoder::new(ctx).decode(text).map_err(fail)?;
    let utc = TimeZone::UTC;
    let local = match parsed.special {
        Some(Special::Infinity) => return Ok(PgTimestamp::INFINITY),
        Some(Special::NegInfinity) => return Ok(PgTimestamp::NEG_INFINITY),
        Some(special @ Special::Epoch) => {
            let epoch = special.moment(ctx).map_err(fail)?;
            return place(epoch, Some(utc)).map_err(|_| out_of_range());
        }
        Some(special @ (Special::Now | Special::Day(_))) => {
            let moment = special.moment(ctx).map_err(fail)?;
            PgTimestamp(moment.0 + parsed.time_micros().map_err(fail)?)
        }
        None => {
            let micros = i128::from(parsed.date().map_err(fail)?.0) * i128::from(USECS_PER_DAY)
                + i128::from(parsed.time_micros().map_err(fail)?);
            let local = i64::try_from(micros).map_err(|_| out_of_range())?;
            PgTimestamp(local)
        }
    };
    let zone = match parsed.zone {
        Some(zone) => Some(zone.resolve().map_err(fail)?),
        None => None,
    };
    let placed = place(local, zone).map_err(|_| out_of_range())?;
    PgTimestamp::from_micros(placed.0).map_err(|_| out_of_range())
}
