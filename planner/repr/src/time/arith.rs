//! Arithmetic on dates, times, timestamps and intervals.

use super::calendar::{civil_from_days, days_from_civil, days_in_month};
use super::error::TimeError;
use super::zone::TimeZone;
use super::{
    Date, Interval, PgTimestamp, Time, USECS_PER_DAY, USECS_PER_HOUR, USECS_PER_MINUTE,
    USECS_PER_SEC,
};

const MONTHS_PER_YEAR: i64 = 12;
const DAYS_PER_MONTH: i64 = 30;
const SECS_PER_DAY: f64 = 86_400.0;

impl Interval {
    fn from_wide(months: i64, days: i64, micros: i128) -> Result<Interval, TimeError> {
        let out_of_range = TimeError::IntervalOutOfRange;
        Ok(Interval {
            months: i32::try_from(months).map_err(|_| out_of_range.clone())?,
            days: i32::try_from(days).map_err(|_| out_of_range.clone())?,
            micros: i64::try_from(micros).map_err(|_| out_of_range)?,
        })
    }

    /// The sum, part by part.
    ///
    /// # Errors
    /// Out of range.
    pub fn checked_add(self, other: Interval) -> Result<Interval, TimeError> {
        Interval::from_wide(
            i64::from(self.months) + i64::from(other.months),
            i64::from(self.days) + i64::from(other.days),
            i128::from(self.micros) + i128::from(other.micros),
        )
    }

    /// The difference, part by part.
    ///
    /// # Errors
    /// Out of range.
    pub fn checked_sub(self, other: Interval) -> Result<Interval, TimeError> {
        Interval::from_wide(
            i64::from(self.months) - i64::from(other.months),
            i64::from(self.days) - i64::from(other.days),
            i128::from(self.micros) - i128::from(other.micros),
        )
    }

    /// The same span in the other direction.
    ///
    /// # Errors
    /// Out of range.
    pub fn checked_neg(self) -> Result<Interval, TimeError> {
        Interval::ZERO.checked_sub(self)
    }

    /// The span times a factor. What a part loses moves to the smaller ones: months have 30 days,
    /// days 24 hours.
    ///
    /// # Errors
    /// Out of range.
    pub fn checked_mul(self, factor: f64) -> Result<Interval, TimeError> {
        self.scale_by(|part| part * factor)
    }

    /// The span divided by a number; see [`Interval::checked_mul`].
    ///
    /// # Errors
    /// Division by zero; out of range.
    pub fn checked_div(self, divisor: f64) -> Result<Interval, TimeError> {
        if divisor == 0.0 {
            return Err(TimeError::DivisionByZero);
        }
        self.scale_by(|part| part / divisor)
    }

    fn scale_by(self, scale: impl Fn(f64) -> f64) -> Result<Interval, TimeError> {
        let exact_months = scale(f64::from(self.months));
        let exact_days = scale(f64::from(self.days));
        let months = float_to_i32(exact_months)?;
        let mut days = float_to_i32(exact_days)?;
        let month_days = round_usecs((exact_months - f64::from(months)) * DAYS_PER_MONTH as f64);
        let mut secs = round_usecs(
            (exact_days - f64::from(days) + month_days - month_days.trunc()) * SECS_PER_DAY,
        );
        if secs.abs() >= SECS_PER_DAY {
            let whole = (secs / SECS_PER_DAY).trunc();
            days = days
                .checked_add(whole as i32)
                .ok_or(TimeError::IntervalOutOfRange)?;
            secs -= whole * SECS_PER_DAY;
        }
        let days = days
            .checked_add(month_days as i32)
            .ok_or(TimeError::IntervalOutOfRange)?;
        let micros = (scale(self.micros as f64) + secs * USECS_PER_SEC as f64).round_ties_even();
        Ok(Interval::new(months, days, float_to_i64(micros)?))
    }

    /// Days of 30 become months.
    ///
    /// # Errors
    /// Out of range.
    pub fn justify_days(self) -> Result<Interval, TimeError> {
        let mut months = i64::from(self.months) + i64::from(self.days) / DAYS_PER_MONTH;
        let mut days = i64::from(self.days) % DAYS_PER_MONTH;
        (months, days) = same_sign(months, days, DAYS_PER_MONTH);
        Interval::from_wide(months, days, self.micros.into())
    }

    /// Times of 24 hours become days.
    ///
    /// # Errors
    /// Out of range.
    pub fn justify_hours(self) -> Result<Interval, TimeError> {
        let mut days = i64::from(self.days) + self.micros / USECS_PER_DAY;
        let mut micros = self.micros % USECS_PER_DAY;
        (days, micros) = same_sign(days, micros, USECS_PER_DAY);
        Interval::from_wide(self.months.into(), days, micros.into())
    }

    /// Both, with one sign for all parts.
    ///
    /// # Errors
    /// Out of range.
    pub fn justify(self) -> Result<Interval, TimeError> {
        let mut days = i64::from(self.days) + self.micros / USECS_PER_DAY;
        let mut micros = self.micros % USECS_PER_DAY;
        let mut months = i64::from(self.months) + days / DAYS_PER_MONTH;
        days %= DAYS_PER_MONTH;
        if months > 0 && (days < 0 || (days == 0 && micros < 0)) {
            days += DAYS_PER_MONTH;
            months -= 1;
        } else if months < 0 && (days > 0 || (days == 0 && micros > 0)) {
            days -= DAYS_PER_MONTH;
            months += 1;
        }
        (days, micros) = same_sign(days, micros, USECS_PER_DAY);
        Interval::from_wide(months, days, micros.into())
    }
}

/// Moves one unit between a part and the next smaller one, so that their signs agree.
fn same_sign(large: i64, small: i64, unit: i64) -> (i64, i64) {
    if large > 0 && small < 0 {
        (large - 1, small + unit)
    } else if large < 0 && small > 0 {
        (large + 1, small - unit)
    } else {
        (large, small)
    }
}

/// Rounds seconds (or days) to six decimal digits.
fn round_usecs(value: f64) -> f64 {
    (value * 1e6).round_ties_even() / 1e6
}

fn float_to_i32(value: f64) -> Result<i32, TimeError> {
    if value.is_nan() || value > f64::from(i32::MAX) || value < f64::from(i32::MIN) {
        return Err(TimeError::IntervalOutOfRange);
    }
    Ok(value as i32)
}

fn float_to_i64(value: f64) -> Result<i64, TimeError> {
    // 2^63 is exact in f64, i64::MAX is not.
    let end = 9_223_372_036_854_775_808.0;
    if value.is_nan() || value >= end || value < -end {
        return Err(TimeError::IntervalOutOfRange);
    }
    Ok(value as i64)
}

impl Date {
    /// The day this many days later.
    ///
    /// # Errors
    /// Out of range.
    pub fn checked_add_days(self, days: i32) -> Result<Date, TimeError> {
        if !self.is_finite() {
            return Ok(self);
        }
        Date::from_days(i64::from(self.0) + i64::from(days))
    }

    /// The number of days since another day.
    ///
    /// # Errors
    /// If one is infinite.
    pub fn checked_sub(self, other: Date) -> Result<i32, TimeError> {
        if !self.is_finite() || !other.is_finite() {
            return Err(TimeError::InfiniteDates);
        }
        self.0.checked_sub(other.0).ok_or(TimeError::DateOutOfRange)
    }

    /// The timestamp of midnight plus an interval.
    ///
    /// # Errors
    /// Out of range.
    pub fn checked_add_interval(self, interval: Interval) -> Result<PgTimestamp, TimeError> {
        self.to_timestamp()?.checked_add_interval(interval)
    }
}

impl Time {
    /// The time of day after an interval; only its microseconds count, and it wraps at midnight.
    pub fn wrapping_add_interval(self, interval: Interval) -> Time {
        let micros = i128::from(self.0) + i128::from(interval.micros);
        Time(micros.rem_euclid(USECS_PER_DAY.into()) as i64)
    }

    /// The span since another time of day.
    pub fn since(self, other: Time) -> Interval {
        Interval::new(0, 0, self.0 - other.0)
    }
}

impl PgTimestamp {
    /// A `timestamp` plus an interval: months, then days, then microseconds. A day that its new month
    /// does not have becomes the month's last.
    ///
    /// # Errors
    /// Out of range.
    pub fn checked_add_interval(self, interval: Interval) -> Result<PgTimestamp, TimeError> {
        if !self.is_finite() {
            return Ok(self);
        }
        let moved = self.add_months_days(interval)?;
        PgTimestamp::from_wide_micros(i128::from(moved.0) + i128::from(interval.micros))
    }

    /// A `timestamptz` plus an interval: months and days pass in local time.
    ///
    /// # Errors
    /// Out of range.
    pub fn checked_add_interval_in(
        self,
        interval: Interval,
        zone: &TimeZone,
    ) -> Result<PgTimestamp, TimeError> {
        if !self.is_finite() {
            return Ok(self);
        }
        let moved = match (interval.months, interval.days) {
            (0, 0) => self,
            _ => zone.to_utc(zone.to_local(self).add_months_days(interval)?)?,
        };
        PgTimestamp::from_wide_micros(i128::from(moved.0) + i128::from(interval.micros))
    }

    fn add_months_days(self, interval: Interval) -> Result<PgTimestamp, TimeError> {
        let (mut days, time) = (self.0.div_euclid(USECS_PER_DAY), self.time());
        if interval.months != 0 {
            let civil = civil_from_days(days);
            let months = i64::from(civil.year) * MONTHS_PER_YEAR + i64::from(civil.month) - 1
                + i64::from(interval.months);
            let year = months.div_euclid(MONTHS_PER_YEAR);
            let month = months.rem_euclid(MONTHS_PER_YEAR) + 1;
            let last = days_in_month(year as i32, month as u8);
            days = days_from_civil(year, month, civil.day.min(last).into());
        }
        days += i64::from(interval.days);
        PgTimestamp::from_wide_micros(
            i128::from(days) * i128::from(USECS_PER_DAY) + i128::from(time.0),
        )
    }

    /// The span since another timestamp, in days and microseconds.
    ///
    /// # Errors
    /// If one is infinite.
    pub fn checked_sub(self, other: PgTimestamp) -> Result<Interval, TimeError> {
        if !self.is_finite() || !other.is_finite() {
            return Err(TimeError::InfiniteTimestamps);
        }
        let micros = self
            .0
            .checked_sub(other.0)
            .ok_or(TimeError::IntervalOutOfRange)?;
        Interval::new(0, 0, micros).justify_hours()
    }

    /// The span since another timestamp in years, months, days and a time, as a person would count
    /// them. For `timestamptz`, both as local times.
    ///
    /// # Errors
    /// If one is infinite.
    pub fn age(self, other: PgTimestamp) -> Result<Interval, TimeError> {
        if !self.is_finite() || !other.is_finite() {
            return Err(TimeError::InfiniteTimestamps);
        }
        if self < other {
            return age_forward(other, self).checked_neg();
        }
        Ok(age_forward(self, other))
    }
}

/// The age from `early` to `late`. Days are borrowed from `early`'s month.
fn age_forward(late: PgTimestamp, early: PgTimestamp) -> Interval {
    let (late_date, early_date) = (late.civil().0, early.civil().0);
    let mut micros = late.time().0 - early.time().0;
    let mut days = i64::from(late_date.day) - i64::from(early_date.day);
    let mut months = (i64::from(late_date.year) - i64::from(early_date.year)) * MONTHS_PER_YEAR
        + i64::from(late_date.month)
        - i64::from(early_date.month);
    if micros < 0 {
        micros += USECS_PER_DAY;
        days -= 1;
    }
    while days < 0 {
        days += i64::from(days_in_month(early_date.year, early_date.month));
        months -= 1;
    }
    Interval::new(months as i32, days as i32, micros)
}

/// Hours, minutes and seconds (with fraction) of microseconds, all with the sign of the whole.
pub(crate) fn split_micros(micros: i64) -> (i64, i64, i64, i64) {
    (
        micros / USECS_PER_HOUR,
        micros / USECS_PER_MINUTE % 60,
        micros / USECS_PER_SEC % 60,
        micros % USECS_PER_SEC,
    )
}
