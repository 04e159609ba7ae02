//! The proleptic Gregorian calendar. Years are astronomical: 0 is 1 BC, -1 is 2 BC.

use super::error::TimeError;
use super::{
    Date, PgTimestamp, Time, USECS_PER_DAY, USECS_PER_HOUR, USECS_PER_MINUTE, USECS_PER_SEC,
};

/// The Julian day of 2000-01-01.
pub const PG_EPOCH_JULIAN: i32 = 2_451_545;
/// The first date: 4714-11-24 BC, Julian day 0.
pub const DATE_MIN: Date = Date(-PG_EPOCH_JULIAN);
/// The last date: 5874897-12-31.
pub const DATE_MAX: Date = Date(2_147_483_493 - PG_EPOCH_JULIAN);
/// The first timestamp: 4714-11-24 00:00:00 BC.
pub const TIMESTAMP_MIN: PgTimestamp = PgTimestamp(-211_813_488_000_000_000);
/// The last timestamp: 294276-12-31 23:59:59.999999.
pub const TIMESTAMP_MAX: PgTimestamp = PgTimestamp(9_223_371_331_200_000_000 - 1);

/// A date in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CivilDate {
    /// Astronomical year.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

/// A time of day in parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CivilTime {
    /// 0 to 23 (24 only in 24:00:00).
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 to 999,999.
    pub micros: u32,
}

/// Whether February has 29 days.
pub fn is_leap_year(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// The number of days in a month (1 to 12).
pub fn days_in_month(year: i32, month: u8) -> u8 {
    match month {
        2 => 28 + u8::from(is_leap_year(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 2000-01-01 of a date; months and days may lie outside of their usual range and then
/// count on.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = (
        year + (month - 1).div_euclid(12),
        (month - 1).rem_euclid(12) + 1,
    );
    // Years that begin in March put the leap day last, in eras of 400 years.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    // 730,425 days lie between 0000-03-01 and 2000-01-01.
    era * 146_097 + day_of_era - 730_425
}

/// The parts of a day.
pub(crate) fn civil_from_days(days: i64) -> CivilDate {
    let shifted = days + 730_425;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    CivilDate {
        year: year as i32,
        month: month as u8,
        day: day as u8,
    }
}

impl Date {
    /// A date within Postgres's range.
    ///
    /// # Errors
    /// Out of range.
    pub fn from_days(days: i64) -> Result<Date, TimeError> {
        if (i64::from(DATE_MIN.0)..=i64::from(DATE_MAX.0)).contains(&days) {
            Ok(Date(days as i32))
        } else {
            Err(TimeError::DateOutOfRange)
        }
    }

    /// A valid day of the calendar.
    ///
    /// # Errors
    /// No such day; out of range.
    pub fn from_civil(year: i32, month: i32, day: i32) -> Result<Date, TimeError> {
        let invalid = TimeError::InvalidDate { year, month, day };
        let in_month = match u8::try_from(month) {
            Ok(month @ 1..=12) => i32::from(days_in_month(year, month)),
            Ok(_) | Err(_) => return Err(invalid),
        };
        if !(1..=in_month).contains(&day) {
            return Err(invalid);
        }
        Date::from_days(days_from_civil(year.into(), month.into(), day.into()))
    }

    /// The parts. An infinity has meaningless ones.
    pub fn civil(self) -> CivilDate {
        civil_from_days(self.0.into())
    }

    /// The Julian day number.
    pub fn julian(self) -> i64 {
        i64::from(self.0) + i64::from(PG_EPOCH_JULIAN)
    }

    /// 0 (Sunday) to 6 (Saturday).
    pub fn day_of_week(self) -> u8 {
        // 2000-01-01 was a Saturday.
        (i64::from(self.0) + 6).rem_euclid(7) as u8
    }

    /// 1 to 366.
    pub fn day_of_year(self) -> u16 {
        let first = days_from_civil(self.civil().year.into(), 1, 1);
        (i64::from(self.0) - first + 1) as u16
    }

    /// The ISO 8601 year and week (1 to 53): a week belongs to the year of its Thursday.
    pub fn iso_week(self) -> (i32, u8) {
        let days = i64::from(self.0);
        let thursday = days - i64::from((self.day_of_week() + 6) % 7) + 3;
        let year = civil_from_days(thursday).year;
        let first = days_from_civil(year.into(), 1, 1);
        (year, ((thursday - first) / 7 + 1) as u8)
    }

    /// Midnight of this day.
    ///
    /// # Errors
    /// Out of range for a timestamp.
    pub fn to_timestamp(self) -> Result<PgTimestamp, TimeError> {
        match self {
            Date::INFINITY => Ok(PgTimestamp::INFINITY),
            Date::NEG_INFINITY => Ok(PgTimestamp::NEG_INFINITY),
            Date(days) => i64::from(days)
                .checked_mul(USECS_PER_DAY)
                .map(PgTimestamp)
                .filter(|ts| ts.is_in_range())
                .ok_or(TimeError::DateOutOfRangeForTimestamp),
        }
    }
}

impl CivilTime {
    /// Microseconds since midnight.
    pub fn to_micros(self) -> i64 {
        i64::from(self.hour) * USECS_PER_HOUR
            + i64::from(self.minute) * USECS_PER_MINUTE
            + i64::from(self.second) * USECS_PER_SEC
            + i64::from(self.micros)
    }
}

impl Time {
    /// The last time of day: 24:00:00.
    pub const MAX: Time = Time(USECS_PER_DAY);

    /// The parts.
    pub fn civil(self) -> CivilTime {
        CivilTime {
            hour: (self.0 / USECS_PER_HOUR) as u8,
            minute: (self.0 / USECS_PER_MINUTE % 60) as u8,
            second: (self.0 / USECS_PER_SEC % 60) as u8,
            micros: (self.0 % USECS_PER_SEC) as u32,
        }
    }
}

impl PgTimestamp {
    /// Whether this is a real point in time within Postgres's range.
    pub fn is_in_range(self) -> bool {
        (TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&self)
    }

    /// A timestamp within Postgres's range.
    ///
    /// # Errors
    /// Out of range.
    pub fn from_micros(micros: i64) -> Result<PgTimestamp, TimeError> {
        let ts = PgTimestamp(micros);
        if ts.is_in_range() {
            Ok(ts)
        } else {
            Err(TimeError::TimestampOutOfRange)
        }
    }

    pub(crate) fn from_wide_micros(micros: i128) -> Result<PgTimestamp, TimeError> {
        i64::try_from(micros)
            .map_err(|_| TimeError::TimestampOutOfRange)
            .and_then(PgTimestamp::from_micros)
    }

    /// A day and a time of day.
    ///
    /// # Errors
    /// Out of range.
    pub fn from_date_time(date: Date, time: Time) -> Result<PgTimestamp, TimeError> {
        let midnight = date.to_timestamp()?;
        if !midnight.is_finite() {
            return Ok(midnight);
        }
        PgTimestamp::from_wide_micros(i128::from(midnight.0) + i128::from(time.0))
    }

    /// The day, keeping infinities.
    pub fn date(self) -> Date {
        match self {
            PgTimestamp::INFINITY => Date::INFINITY,
            PgTimestamp::NEG_INFINITY => Date::NEG_INFINITY,
            PgTimestamp(micros) => Date(micros.div_euclid(USECS_PER_DAY) as i32),
        }
    }

    /// The time of day. Meaningless for an infinity.
    pub fn time(self) -> Time {
        Time(self.0.rem_euclid(USECS_PER_DAY))
    }

    /// The parts. Meaningless for an infinity.
    pub fn civil(self) -> (CivilDate, CivilTime) {
        let days = self.0.div_euclid(USECS_PER_DAY);
        (civil_from_days(days), self.time().civil())
    }

    /// From microseconds since the Unix epoch.
    ///
    /// # Errors
    /// Out of range.
    pub fn from_unix_micros(micros: i64) -> Result<PgTimestamp, TimeError> {
        PgTimestamp::from_wide_micros(
            i128::from(micros) - i128::from(super::UNIX_TO_PG_EPOCH_USECS),
        )
    }

    /// Microseconds since the Unix epoch. `None` for an infinity.
    pub fn to_unix_micros(self) -> Option<i64> {
        if !self.is_finite() {
            return None;
        }
        self.0.checked_add(super::UNIX_TO_PG_EPOCH_USECS)
    }

    /// Rounded to this many digits after the second, half away from zero.
    pub fn round_to_digits(self, digits: u8) -> PgTimestamp {
        if !self.is_finite() {
            return self;
        }
        PgTimestamp(round_micros(self.0, digits))
    }
}

/// Rounds microseconds to `digits` (0 to 6) decimal digits of a second, half away from zero.
pub(crate) fn round_micros(micros: i64, digits: u8) -> i64 {
    let Some(cut) = 6u32.checked_sub(u32::from(digits)) else {
        return micros;
    };
    let unit = 10i64.pow(cut);
    let rest = micros % unit;
    let floor = micros - rest;
    if rest.abs() * 2 >= unit {
        floor.saturating_add(unit * rest.signum())
    } else {
        floor
    }
}
