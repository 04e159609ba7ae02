//! The fields that were read, and the date and time that they make.

use crate::error::EvalError;
use repr::time::calendar::{PG_EPOCH_JULIAN, is_leap_year};
use repr::time::{CivilTime, TimeZone, USECS_PER_SEC};
use repr::{Date, Time};

fn out_of_range(text: &str) -> EvalError {
    EvalError::new(
        "22008",
        format!("date/time field value out of range: \"{text}\""),
    )
}

/// What was read.
#[derive(Default)]
pub(super) struct Fields {
    pub year: Option<i64>,
    /// How many digits of the year were asked for.
    pub year_digits: u8,
    pub century: Option<i64>,
    pub before_christ: bool,
    pub month: Option<i64>,
    pub day: Option<i64>,
    pub day_of_year: Option<i64>,
    pub week_of_year: Option<i64>,
    pub week_of_month: Option<i64>,
    pub iso_year: Option<i64>,
    pub iso_week: Option<i64>,
    pub iso_day: Option<i64>,
    pub julian: Option<i64>,
    pub hour: i64,
    pub clock_12: bool,
    pub afternoon: bool,
    pub minute: i64,
    pub second: i64,
    pub second_of_day: Option<i64>,
    pub micros: i64,
    pub zone_sign: i64,
    pub zone_hour: Option<i64>,
    pub zone_minute: i64,
}

impl Fields {
    /// The astronomical year.
    fn astronomical_year(&self) -> Option<i64> {
        let year = match (self.century, self.year) {
            (Some(century), Some(year)) if self.year_digits <= 2 => {
                Some((century - 1) * 100 + year % 100)
            }
            (Some(century), None) => Some((century - 1) * 100 + 1),
            (_, year) => year,
        }?;
        Some(if self.before_christ && year > 0 {
            1 - year
        } else if year < 0 {
            // A negative year is BC as well; there is no year 0.
            year + 1
        } else {
            year
        })
    }

    pub fn date(&self, text: &str) -> Result<Date, EvalError> {
        let invalid = |_| out_of_range(text);
        if let Some(julian) = self.julian {
            return Date::from_days(julian - i64::from(PG_EPOCH_JULIAN)).map_err(invalid);
        }
        if let Some(week) = self.iso_week {
            let year = self.iso_year.or(self.year).unwrap_or(1);
            return iso_date(year, week, self.iso_day.unwrap_or(1))
                .ok_or_else(|| out_of_range(text));
        }
        let year = self.astronomical_year();
        // Without a year it is 1 BC.
        let day_of_year = self
            .day_of_year
            .or(self.week_of_year.map(|week| (week - 1) * 7 + 1));
        if let Some(day) = day_of_year
            && self.month.is_none()
        {
            let Some(year) = year else {
                return Err(EvalError::new(
                    "22007",
                    "cannot calculate day of year without year information",
                ));
            };
            let year = i32::try_from(year).map_err(|_| out_of_range(text))?;
            let days = if is_leap_year(year) { 366 } else { 365 };
            if !(1..=days).contains(&day) {
                return Err(out_of_range(text));
            }
            let first = Date::from_civil(year, 1, 1).map_err(invalid)?;
            return Date::from_days(i64::from(first.0) + day - 1).map_err(invalid);
        }
        let day = self
            .day
            .or(self.week_of_month.map(|week| (week - 1) * 7 + 1))
            .unwrap_or(1);
        let parts = [year.unwrap_or(0), self.month.unwrap_or(1), day].map(i32::try_from);
        let [Ok(year), Ok(month), Ok(day)] = parts else {
            return Err(out_of_range(text));
        };
        Date::from_civil(year, month, day).map_err(invalid)
    }

    pub fn time(&self, text: &str) -> Result<Time, EvalError> {
        if let Some(seconds) = self.second_of_day {
            if !(0..86_400).contains(&seconds) {
                return Err(out_of_range(text));
            }
            return Ok(Time(seconds * USECS_PER_SEC + self.micros));
        }
        let mut hour = self.hour;
        if self.clock_12 {
            if !(1..=12).contains(&hour) {
                let mut error = EvalError::new(
                    "22007",
                    format!("hour \"{hour}\" is invalid for the 12-hour clock"),
                );
                error.hint =
                    Some("Use the 24-hour clock, or give an hour between 1 and 12.".to_owned());
                return Err(error);
            }
            hour = hour % 12 + if self.afternoon { 12 } else { 0 };
        }
        let in_range = (0..24).contains(&hour)
            && (0..60).contains(&self.minute)
            && (0..60).contains(&self.second);
        if !in_range {
            return Err(out_of_range(text));
        }
        let civil = CivilTime {
            hour: hour as u8,
            minute: self.minute as u8,
            second: self.second as u8,
            micros: 0,
        };
        Ok(Time(civil.to_micros() + self.micros))
    }

    pub fn zone_offset(&self) -> Result<Option<TimeZone>, EvalError> {
        let Some(hour) = self.zone_hour else {
            return Ok(None);
        };
        let seconds = self.zone_sign * (hour.abs() * 3600 + self.zone_minute.abs() * 60);
        let zone = i32::try_from(seconds)
            .ok()
            .and_then(TimeZone::from_offset_secs);
        zone.map(Some)
            .ok_or_else(|| EvalError::new("22009", "time zone displacement out of range"))
    }
}

/// The day of an ISO week; its first week has the year's first Thursday.
fn iso_date(year: i64, week: i64, day: i64) -> Option<Date> {
    if !(1..=53).contains(&week) || !(1..=7).contains(&day) {
        return None;
    }
    let fourth = Date::from_civil(i32::try_from(year).ok()?, 1, 4).ok()?;
    let monday = i64::from(fourth.0) - (i64::from(fourth.day_of_week()) + 6) % 7;
    Date::from_days(monday + (week - 1) * 7 + day - 1).ok()
}
