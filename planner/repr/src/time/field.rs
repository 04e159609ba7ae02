//! The units of `date_trunc` and `extract`.

use super::calendar::{CivilDate, CivilTime, days_from_civil};
use super::error::TimeError;
use super::zone::TimeZone;
use super::{
    Date, Interval, PgTimestamp, Time, USECS_PER_DAY, USECS_PER_HOUR, USECS_PER_MINUTE,
    USECS_PER_SEC,
};
use crate::numeric::Numeric;

const TIMESTAMP: &str = "timestamp without time zone";
const TIMESTAMPTZ: &str = "timestamp with time zone";
const DATE: &str = "date";
const TIME: &str = "time without time zone";
const INTERVAL: &str = "interval";

/// A unit of time, as named in `date_trunc('week', ...)` and `extract(week from ...)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DateField {
    /// Microseconds, of the whole second
    Microseconds,
    /// Milliseconds, of the whole second
    Milliseconds,
    /// Second
    Second,
    /// Minute
    Minute,
    /// Hour
    Hour,
    /// Day of the month
    Day,
    /// ISO week
    Week,
    /// Month
    Month,
    /// Quarter
    Quarter,
    /// Year, negative BC
    Year,
    /// Year divided by ten
    Decade,
    /// Century; the 21st began in 2001
    Century,
    /// Millennium; the third began in 2001
    Millennium,
    /// The year of the ISO week
    IsoYear,
    /// Day of the week, Sunday = 0
    Dow,
    /// Day of the week, Sunday = 7
    IsoDow,
    /// Day of the year
    Doy,
    /// Seconds since 1970-01-01 00:00 UTC
    Epoch,
    /// Julian day
    Julian,
    /// Offset from UTC in seconds
    Timezone,
    /// Hours of the offset
    TimezoneHour,
    /// Minutes of the offset
    TimezoneMinute,
}

impl DateField {
    /// Reads a unit's name, in any case, with Postgres's aliases.
    pub fn parse(name: &str) -> Option<DateField> {
        let lower = name.to_ascii_lowercase();
        Some(match lower.as_str() {
            "microseconds" | "microsecond" | "usec" | "usecs" | "us" | "usecond" | "useconds"
            | "microsecon" => DateField::Microseconds,
            "milliseconds" | "millisecond" | "msec" | "msecs" | "ms" | "msecond" | "mseconds"
            | "millisecon" => DateField::Milliseconds,
            "second" | "seconds" | "sec" | "secs" | "s" => DateField::Second,
            "minute" | "minutes" | "min" | "mins" | "m" => DateField::Minute,
            "hour" | "hours" | "hr" | "hrs" | "h" => DateField::Hour,
            "day" | "days" | "d" => DateField::Day,
            "week" | "weeks" | "w" => DateField::Week,
            "month" | "months" | "mon" | "mons" => DateField::Month,
            "quarter" | "qtr" => DateField::Quarter,
            "year" | "years" | "yr" | "yrs" | "y" => DateField::Year,
            "decade" | "decades" | "dec" | "decs" => DateField::Decade,
            "century" | "centuries" | "cent" | "c" => DateField::Century,
            "millennium" | "millennia" | "mil" | "mils" => DateField::Millennium,
            "isoyear" => DateField::IsoYear,
            "dow" => DateField::Dow,
            "isodow" => DateField::IsoDow,
            "doy" => DateField::Doy,
            "epoch" => DateField::Epoch,
            "julian" | "jd" | "j" => DateField::Julian,
            "timezone" => DateField::Timezone,
            "timezone_hour" | "timezone_h" => DateField::TimezoneHour,
            "timezone_minute" | "timezone_m" => DateField::TimezoneMinute,
            _ => return None,
        })
    }

    /// Whether it grows without end with time, so that an infinite timestamp has an infinite value.
    fn is_monotonic(self) -> bool {
        matches!(
            self,
            DateField::Year
                | DateField::Decade
                | DateField::Century
                | DateField::Millennium
                | DateField::IsoYear
                | DateField::Epoch
                | DateField::Julian
        )
    }
}

fn field_for(name: &str, ty: &'static str) -> Result<DateField, TimeError> {
    DateField::parse(name).ok_or_else(|| TimeError::UnknownUnit {
        unit: name.to_ascii_lowercase(),
        ty,
    })
}

fn unsupported(name: &str, ty: &'static str) -> TimeError {
    TimeError::UnsupportedUnit {
        unit: name.to_ascii_lowercase(),
        ty,
    }
}

fn decimal(value: i64, scale: u16) -> Numeric {
    Numeric::from_parts(value.into(), scale).expect("64 bits fit a numeric")
}

/// Postgres's year: there is no year 0.
fn shown_year(year: i32) -> i64 {
    i64::from(if year > 0 { year } else { year - 1 })
}

/// Years counted in spans whose first starts with the year 1.
fn span_number(year: i32, span: i64) -> i64 {
    let year = i64::from(year);
    if year > 0 {
        (year + span - 1) / span
    } else {
        -((span - 1 - (year - 1)) / span)
    }
}

fn extract_date_part(field: DateField, date: Date) -> Option<i64> {
    let civil = date.civil();
    Some(match field {
        DateField::Day => civil.day.into(),
        DateField::Month => civil.month.into(),
        DateField::Quarter => i64::from(civil.month - 1) / 3 + 1,
        DateField::Week => date.iso_week().1.into(),
        DateField::Year => shown_year(civil.year),
        DateField::Decade => i64::from(civil.year).div_euclid(10),
        DateField::Century => span_number(civil.year, 100),
        DateField::Millennium => span_number(civil.year, 1000),
        DateField::IsoYear => shown_year(date.iso_week().0),
        DateField::Dow => date.day_of_week().into(),
        DateField::IsoDow => match date.day_of_week() {
            0 => 7,
            day => day.into(),
        },
        DateField::Doy => date.day_of_year().into(),
        DateField::Microseconds
        | DateField::Milliseconds
        | DateField::Second
        | DateField::Minute
        | DateField::Hour
        | DateField::Epoch
        | DateField::Julian
        | DateField::Timezone
        | DateField::TimezoneHour
        | DateField::TimezoneMinute => return None,
    })
}

fn extract_time_part(field: DateField, micros: i64) -> Option<Numeric> {
    Some(match field {
        DateField::Microseconds => decimal(micros % USECS_PER_MINUTE, 0),
        DateField::Milliseconds => decimal(micros % USECS_PER_MINUTE, 3),
        DateField::Second => decimal(micros % USECS_PER_MINUTE, 6),
        DateField::Minute => decimal(micros / USECS_PER_MINUTE % 60, 0),
        DateField::Hour => decimal(micros / USECS_PER_HOUR, 0),
        _ => return None,
    })
}

fn infinite_part(field: DateField, positive: bool) -> Option<Numeric> {
    field.is_monotonic().then_some(match positive {
        true => Numeric::INFINITY,
        false => Numeric::NEG_INFINITY,
    })
}

/// A timestamp's Julian day with the time as its fraction.
fn julian(ts: PgTimestamp) -> Numeric {
    let fraction = Numeric::from(ts.time().0)
        .checked_div(Numeric::from(USECS_PER_DAY))
        .expect("a day is not zero");
    Numeric::from(ts.date().julian())
        .checked_add(fraction)
        .expect("both are small")
}

fn extract_from_local(field: DateField, local: PgTimestamp) -> Option<Numeric> {
    extract_time_part(field, local.time().0)
        .or_else(|| extract_date_part(field, local.date()).map(Numeric::from))
        .or_else(|| (field == DateField::Julian).then(|| julian(local)))
}

fn epoch(ts: PgTimestamp) -> Numeric {
    let micros = i128::from(ts.0) + i128::from(super::UNIX_TO_PG_EPOCH_USECS);
    Numeric::from_parts(micros, 6).expect("65 bits fit a numeric")
}

impl PgTimestamp {
    /// `extract(unit from timestamp)`; `None` (NULL) where an infinity has no such part.
    ///
    /// # Errors
    /// Unknown unit; one that `timestamp` does not have.
    pub fn extract(self, unit: &str) -> Result<Option<Numeric>, TimeError> {
        let field = field_for(unit, TIMESTAMP)?;
        if !self.is_finite() {
            return Ok(infinite_part(field, self == PgTimestamp::INFINITY));
        }
        if let DateField::Timezone | DateField::TimezoneHour | DateField::TimezoneMinute = field {
            return Err(unsupported(unit, TIMESTAMP));
        }
        Ok(match field {
            DateField::Epoch => Some(epoch(self)),
            field => extract_from_local(field, self),
        })
    }

    /// `extract(unit from timestamptz)` in a zone; `None` (NULL) where an infinity has no such part.
    ///
    /// # Errors
    /// Unknown unit.
    pub fn extract_in(self, unit: &str, zone: &TimeZone) -> Result<Option<Numeric>, TimeError> {
        let field = field_for(unit, TIMESTAMPTZ)?;
        if !self.is_finite() {
            return Ok(infinite_part(field, self == PgTimestamp::INFINITY));
        }
        let offset = || i64::from(zone.offset_at_utc(self));
        Ok(match field {
            DateField::Epoch => Some(epoch(self)),
            DateField::Timezone => Some(offset().into()),
            DateField::TimezoneHour => Some((offset() / 3600).into()),
            DateField::TimezoneMinute => Some((offset() / 60 % 60).into()),
            field => extract_from_local(field, zone.to_local(self)),
        })
    }

    /// `date_trunc(unit, timestamp)`.
    ///
    /// # Errors
    /// Unknown unit; one that cannot be cut at; out of range.
    pub fn trunc(self, unit: &str) -> Result<PgTimestamp, TimeError> {
        self.trunc_named(unit, TIMESTAMP)
    }

    fn trunc_named(self, unit: &str, ty: &'static str) -> Result<PgTimestamp, TimeError> {
        if !self.is_finite() {
            return Ok(self);
        }
        let field = field_for(unit, ty)?;
        let cut = |micros: i64| self.0 - self.0.rem_euclid(micros);
        let micros = match field {
            DateField::Microseconds => self.0,
            DateField::Milliseconds => cut(1000),
            DateField::Second => cut(USECS_PER_SEC),
            DateField::Minute => cut(USECS_PER_MINUTE),
            DateField::Hour => cut(USECS_PER_HOUR),
            DateField::Day => cut(USECS_PER_DAY),
            DateField::Week
            | DateField::Month
            | DateField::Quarter
            | DateField::Year
            | DateField::Decade
            | DateField::Century
            | DateField::Millennium => return trunc_date(field, self.date()),
            DateField::IsoYear
            | DateField::Dow
            | DateField::IsoDow
            | DateField::Doy
            | DateField::Epoch
            | DateField::Julian
            | DateField::Timezone
            | DateField::TimezoneHour
            | DateField::TimezoneMinute => return Err(unsupported(unit, ty)),
        };
        Ok(PgTimestamp(micros))
    }

    /// `date_trunc(unit, timestamptz)` in a zone.
    ///
    /// # Errors
    /// Unknown unit; one that cannot be cut at; out of range.
    pub fn trunc_in(self, unit: &str, zone: &TimeZone) -> Result<PgTimestamp, TimeError> {
        let local = zone.to_local(self).trunc_named(unit, TIMESTAMPTZ)?;
        if !self.is_finite() {
            return Ok(self);
        }
        match DateField::parse(unit) {
            // Cutting inside an hour must not move the moment across a change of the offset.
            Some(
                DateField::Microseconds
                | DateField::Milliseconds
                | DateField::Second
                | DateField::Minute
                | DateField::Hour,
            ) => {
                let offset = i64::from(zone.offset_at_utc(self)) * USECS_PER_SEC;
                PgTimestamp::from_wide_micros(i128::from(local.0) - i128::from(offset))
            }
            _ => zone.to_utc(local),
        }
    }
}

/// The first day of the span of a date.
fn trunc_date(field: DateField, date: Date) -> Result<PgTimestamp, TimeError> {
    let CivilDate { year, month, .. } = date.civil();
    let (year, month) = (i64::from(year), i64::from(month));
    // Spans of years that start with a year 1, also before our era.
    let span_start = |span: i64| (year - 1).div_euclid(span) * span + 1;
    let days = match field {
        DateField::Week => i64::from(date.0) - i64::from((date.day_of_week() + 6) % 7),
        DateField::Month => days_from_civil(year, month, 1),
        DateField::Quarter => days_from_civil(year, (month - 1) / 3 * 3 + 1, 1),
        DateField::Decade => days_from_civil(year.div_euclid(10) * 10, 1, 1),
        DateField::Century => days_from_civil(span_start(100), 1, 1),
        DateField::Millennium => days_from_civil(span_start(1000), 1, 1),
        _ => days_from_civil(year, 1, 1),
    };
    PgTimestamp::from_wide_micros(i128::from(days) * i128::from(USECS_PER_DAY))
}

impl Date {
    /// `extract(unit from date)`; `None` (NULL) where an infinity has no such part.
    ///
    /// # Errors
    /// Unknown unit; one that `date` does not have.
    pub fn extract(self, unit: &str) -> Result<Option<Numeric>, TimeError> {
        let field = field_for(unit, DATE)?;
        let is_date_field = match field {
            DateField::Epoch | DateField::Julian => true,
            field => extract_date_part(field, Date(0)).is_some(),
        };
        if !is_date_field {
            return Err(unsupported(unit, DATE));
        }
        if !self.is_finite() {
            return Ok(infinite_part(field, self == Date::INFINITY));
        }
        Ok(match field {
            DateField::Epoch => {
                let days = i64::from(self.0) + i64::from(super::UNIX_TO_PG_EPOCH_DAYS);
                Some(Numeric::from(days * 86_400))
            }
            DateField::Julian => Some(self.julian().into()),
            field => extract_date_part(field, self).map(Numeric::from),
        })
    }
}

impl Time {
    /// `extract(unit from time)`.
    ///
    /// # Errors
    /// Unknown unit; one that `time` does not have.
    pub fn extract(self, unit: &str) -> Result<Numeric, TimeError> {
        match field_for(unit, TIME)? {
            DateField::Epoch => Ok(decimal(self.0, 6)),
            field => extract_time_part(field, self.0).ok_or_else(|| unsupported(unit, TIME)),
        }
    }

    /// Rounded to this many digits after the second, half away from zero.
    pub fn round_to_digits(self, digits: u8) -> Time {
        Time(super::calendar::round_micros(self.0, digits))
    }
}

impl From<CivilTime> for Time {
    fn from(civil: CivilTime) -> Time {
        Time(civil.to_micros())
    }
}

impl Interval {
    /// `extract(unit from interval)`.
    ///
    /// # Errors
    /// Unknown unit; one that `interval` does not have.
    pub fn extract(self, unit: &str) -> Result<Numeric, TimeError> {
        let field = field_for(unit, INTERVAL)?;
        if let Some(part) = extract_time_part(field, self.micros) {
            return Ok(part);
        }
        let (years, months) = (i64::from(self.months / 12), i64::from(self.months % 12));
        let part = match field {
            DateField::Day => self.days.into(),
            DateField::Month => months,
            DateField::Quarter => months / 3 + 1,
            DateField::Year => years,
            DateField::Decade => years / 10,
            DateField::Century => years / 100,
            DateField::Millennium => years / 1000,
            DateField::Epoch => return Ok(self.epoch()),
            _ => return Err(unsupported(unit, INTERVAL)),
        };
        Ok(part.into())
    }

    /// Seconds, with years of 365.25 days and months of 30.
    fn epoch(self) -> Numeric {
        let (years, months) = (i128::from(self.months / 12), i128::from(self.months % 12));
        // In quarters of days, which keeps this exact.
        let quarters = 1461 * years + 120 * months + 4 * i128::from(self.days);
        let micros = quarters * i128::from(USECS_PER_DAY / 4) + i128::from(self.micros);
        Numeric::from_parts(micros, 6).expect("spans fit a numeric")
    }

    /// `date_trunc(unit, interval)`.
    ///
    /// # Errors
    /// Unknown unit; one that cannot be cut at.
    pub fn trunc(self, unit: &str) -> Result<Interval, TimeError> {
        let Interval {
            months,
            days,
            micros,
        } = self;
        let to_months = |span: i32| Interval::new(months - months % span, 0, 0);
        let to_micros = |span: i64| Interval::new(months, days, micros - micros % span);
        Ok(match field_for(unit, INTERVAL)? {
            DateField::Microseconds => self,
            DateField::Milliseconds => to_micros(1000),
            DateField::Second => to_micros(USECS_PER_SEC),
            DateField::Minute => to_micros(USECS_PER_MINUTE),
            DateField::Hour => to_micros(USECS_PER_HOUR),
            DateField::Day => Interval::new(months, days, 0),
            DateField::Month => to_months(1),
            DateField::Quarter => to_months(3),
            DateField::Year => to_months(12),
            DateField::Decade => to_months(120),
            DateField::Century => to_months(1_200),
            DateField::Millennium => to_months(12_000),
            DateField::Week
            | DateField::IsoYear
            | DateField::Dow
            | DateField::IsoDow
            | DateField::Doy
            | DateField::Epoch
            | DateField::Julian
            | DateField::Timezone
            | DateField::TimezoneHour
            | DateField::TimezoneMinute => return Err(unsupported(unit, INTERVAL)),
        })
    }
}
