//! `to_char` of timestamps and intervals.

use super::datetime_format::{Case, DAYS, Field, Item, MONTHS, ROMAN_MONTHS, Template, parse};
use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use repr::time::{USECS_PER_HOUR, USECS_PER_MINUTE, USECS_PER_SEC};
use repr::{Datum, Interval, PgTimestamp, RowArena, SqlType};
use std::fmt::Write;

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::fallible("timestamp_to_char", |_, _, a, arena| {
        let t = a[0].unwrap_timestamp();
        if !t.is_finite() {
            return Ok(Datum::Null);
        }
        format(Parts::of_timestamp(t), a[1].unwrap_str(), arena)
    })
    .nullable(),
    FuncDef::fallible("timestamptz_to_char", timestamptz_to_char)
        .nullable()
        .by_session(),
    FuncDef::fallible("interval_to_char", |_, _, a, arena| {
        format(
            Parts::of_interval(a[0].unwrap_interval()),
            a[1].unwrap_str(),
            arena,
        )
    })
    .nullable(),
];

fn timestamptz_to_char<'a>(
    ctx: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    let t = a[0].unwrap_timestamptz();
    if !t.is_finite() {
        return Ok(Datum::Null);
    }
    let mut parts = Parts::of_timestamp(ctx.zone().to_local(t));
    let offset_secs = ctx.zone().offset_at_utc(t);
    let abbreviation = ctx
        .zone()
        .abbreviation_at_utc(t)
        .unwrap_or_else(|| offset_text(offset_secs));
    parts.zone = Some((offset_secs, abbreviation));
    format(parts, a[1].unwrap_str(), arena)
}

fn format<'a>(parts: Parts, template: &str, arena: &'a RowArena) -> EvalResult<'a> {
    if template.is_empty() {
        return Ok(Datum::Null);
    }
    let text = parts.write(&parse(template)?)?;
    super::text::check_length(text.len())?;
    Ok(Datum::String(arena.push_string(text)))
}

/// `+05:30`, without minutes if there are none.
fn offset_text(seconds: i32) -> String {
    let (sign, seconds) = if seconds < 0 {
        ('-', -seconds)
    } else {
        ('+', seconds)
    };
    match seconds / 60 % 60 {
        0 => format!("{sign}{:02}", seconds / 3600),
        minutes => format!("{sign}{:02}:{minutes:02}", seconds / 3600),
    }
}

/// What templates can ask for.
struct Parts {
    /// Astronomical; of an interval: the whole years.
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
    day_of_year: i64,
    /// What only a date has.
    date: Option<repr::Date>,
    /// Offset in seconds and abbreviation.
    zone: Option<(i32, String)>,
}

impl Parts {
    fn of_timestamp(t: PgTimestamp) -> Parts {
        let (date, time) = t.civil();
        Parts {
            year: date.year.into(),
            month: date.month.into(),
            day: date.day.into(),
            hour: time.hour.into(),
            minute: time.minute.into(),
            second: time.second.into(),
            micros: time.micros.into(),
            day_of_year: t.date().day_of_year().into(),
            date: Some(t.date()),
            zone: None,
        }
    }

    fn of_interval(i: Interval) -> Parts {
        Parts {
            year: i64::from(i.months / 12),
            month: i64::from(i.months % 12),
            day: i.days.into(),
            hour: i.micros / USECS_PER_HOUR,
            minute: i.micros / USECS_PER_MINUTE % 60,
            second: i.micros / USECS_PER_SEC % 60,
            micros: i.micros % USECS_PER_SEC,
            day_of_year: i64::from(i.months) * 30 + i64::from(i.days),
            date: None,
            zone: None,
        }
    }

    fn write(&self, template: &Template) -> Result<String, EvalError> {
        let mut out = String::new();
        for item in &template.items {
            match item {
                Item::Char { c, .. } => out.push(*c),
                Item::Field {
                    field,
                    compact,
                    ordinal,
                } => {
                    let start = out.len();
                    self.field(*field, *compact, &mut out)?;
                    if let Some(case) = ordinal {
                        let ending = ordinal_ending(&out[start..], *case);
                        out.push_str(ending);
                    }
                }
            }
        }
        Ok(out)
    }

    fn field(&self, field: Field, compact: bool, out: &mut String) -> Result<(), EvalError> {
        let date = || self.date.ok_or_else(no_calendar);
        let number = |value: i64, width: usize, out: &mut String| {
            // The width is that of the digits; a sign comes before them.
            let width = if compact {
                0
            } else {
                width + usize::from(value < 0)
            };
            write!(out, "{value:0width$}").expect("strings take all text");
        };
        match field {
            Field::Meridiem(case, dots) => {
                let pm = self.hour % 24 >= 12;
                let text = match (pm, dots) {
                    (false, false) => "AM",
                    (false, true) => "A.M.",
                    (true, false) => "PM",
                    (true, true) => "P.M.",
                };
                out.push_str(&cased(text, case));
            }
            Field::Era(case, dots) => {
                date()?;
                let text = match (self.year <= 0, dots) {
                    (false, false) => "AD",
                    (false, true) => "A.D.",
                    (true, false) => "BC",
                    (true, true) => "B.C.",
                };
                out.push_str(&cased(text, case));
            }
            Field::Century => {
                let century = match self.date {
                    None => self.year / 100,
                    Some(_) if self.year > 0 => (self.year - 1) / 100 + 1,
                    // The century of -99 to 0 (100 BC to 1 BC) is the first before Christ.
                    Some(_) => -((-self.year) / 100 + 1),
                };
                number(
                    century,
                    if (-99..=99).contains(&century) { 2 } else { 0 },
                    out,
                );
            }
            Field::DayName(case) => name(
                DAYS[usize::from(date()?.day_of_week())],
                9,
                case,
                compact,
                out,
            ),
            Field::DayAbbreviation(case) => {
                out.push_str(&cased(&DAYS[usize::from(date()?.day_of_week())][..3], case))
            }
            Field::DayOfYear => number(self.day_of_year, 3, out),
            // The sign counts towards the width of the day, unlike elsewhere.
            Field::Day => number(self.day, if self.day < 0 { 1 } else { 2 }, out),
            Field::DayOfWeek => number(i64::from(date()?.day_of_week()) + 1, 0, out),
            Field::Fraction(digits) => {
                let width = usize::from(digits) + usize::from(self.micros < 0);
                let value = self.micros / 10i64.pow(6 - u32::from(digits));
                write!(out, "{value:0width$}").expect("strings take all text");
            }
            Field::Hour24 => number(self.hour, 2, out),
            Field::Hour12 => number(
                if self.hour % 12 == 0 {
                    12
                } else {
                    self.hour % 12
                },
                2,
                out,
            ),
            Field::IsoDayOfYear => {
                let date = date()?;
                let (_, week) = date.iso_week();
                number((i64::from(week) - 1) * 7 + iso_day(date), 3, out);
            }
            Field::IsoDayOfWeek => number(iso_day(date()?), 0, out),
            Field::IsoWeek => number(date()?.iso_week().1.into(), 2, out),
            Field::IsoYear(digits) => {
                self.year_digits(date()?.iso_week().0.into(), digits, compact, out)
            }
            Field::Julian => number(date()?.julian(), 0, out),
            Field::Minute => number(self.minute, 2, out),
            Field::Month => number(self.month, 2, out),
            Field::MonthName(case) => {
                if let Some(month) = self.month_index()? {
                    name(MONTHS[month], 9, case, compact, out);
                }
            }
            Field::MonthAbbreviation(case) => {
                if let Some(month) = self.month_index()? {
                    out.push_str(&cased(&MONTHS[month][..3], case));
                }
            }
            Field::Millisecond => self.field(Field::Fraction(3), compact, out)?,
            Field::Offset => out.push_str(&offset_text(self.zone_offset()?)),
            Field::Quarter => {
                if self.month != 0 {
                    number((self.month - 1) / 3 + 1, 0, out);
                }
            }
            Field::RomanMonth(case) => {
                if let Some(month) = self.roman_index() {
                    name(ROMAN_MONTHS[month], 4, case, compact, out);
                }
            }
            Field::SecondOfDay => number(self.hour * 3600 + self.minute * 60 + self.second, 0, out),
            Field::Second => number(self.second, 2, out),
            Field::ZoneHour => {
                let offset = self.zone_offset()?;
                let sign = if offset < 0 { '-' } else { '+' };
                write!(out, "{sign}{:02}", offset.abs() / 3600).expect("strings take all text");
            }
            Field::ZoneMinute => {
                write!(out, "{:02}", self.zone_offset()?.abs() / 60 % 60)
                    .expect("strings take all text");
            }
            Field::Zone(case) => {
                if self.date.is_none() {
                    return Err(no_calendar());
                }
                if let Some((_, abbreviation)) = &self.zone {
                    out.push_str(&if case == Case::Lower {
                        abbreviation.to_lowercase()
                    } else {
                        abbreviation.clone()
                    });
                }
            }
            Field::Microsecond => self.field(Field::Fraction(6), compact, out)?,
            Field::WeekOfYear => number((self.day_of_year - 1) / 7 + 1, 2, out),
            Field::WeekOfMonth => number((self.day - 1) / 7 + 1, 0, out),
            Field::Year(digits) => self.year_digits(self.year, digits, compact, out),
            Field::YearWithComma => {
                let year = self.shown_year(self.year);
                write!(out, "{},{:03}", year / 1000, year % 1000).expect("strings take all text");
            }
        }
        Ok(())
    }

    /// The year as people count: 1 BC is 1.
    fn shown_year(&self, year: i64) -> i64 {
        if self.date.is_some() && year <= 0 {
            1 - year
        } else {
            year
        }
    }

    fn year_digits(&self, year: i64, digits: u8, compact: bool, out: &mut String) {
        let year = self.shown_year(year);
        let (value, width) = match digits {
            4 => (year, 4 + usize::from(year < 0)),
            digits => {
                let value = year % 10i64.pow(digits.into());
                (value, usize::from(digits) + usize::from(value < 0))
            }
        };
        let width = if compact { 0 } else { width };
        write!(out, "{value:0width$}").expect("strings take all text");
    }

    /// Nothing for an interval of whole years.
    fn month_index(&self) -> Result<Option<usize>, EvalError> {
        if self.date.is_none() {
            return Err(no_calendar());
        }
        Ok(usize::try_from(self.month - 1).ok())
    }

    fn roman_index(&self) -> Option<usize> {
        // Of an interval: whole years show as the last month, negative ones as the first; negative months count from the end.
        match (self.month, self.year) {
            (0, 0) => None,
            (0, 1..) => Some(11),
            (0, _) => Some(0),
            (1.., _) => usize::try_from(self.month - 1).ok(),
            (negative, _) => usize::try_from(negative.rem_euclid(12)).ok(),
        }
    }

    fn zone_offset(&self) -> Result<i32, EvalError> {
        if self.date.is_none() {
            return Err(no_calendar());
        }
        Ok(self.zone.as_ref().map_or(0, |(offset, _)| *offset))
    }
}

fn no_calendar() -> EvalError {
    let mut error = EvalError::new(
        "22007",
        "invalid format specification for an interval value",
    );
    error.hint = Some("Intervals are not tied to specific calendar dates.".to_owned());
    error
}

/// Monday is 1, Sunday 7.
fn iso_day(date: repr::Date) -> i64 {
    (i64::from(date.day_of_week()) + 6) % 7 + 1
}

pub(super) fn cased(text: &str, case: Case) -> String {
    match case {
        Case::Upper => text.to_ascii_uppercase(),
        Case::Capital => text.to_owned(),
        Case::Lower => text.to_ascii_lowercase(),
    }
}

fn name(text: &str, width: usize, case: Case, compact: bool, out: &mut String) {
    let width = if compact { 0 } else { width };
    write!(out, "{:width$}", cased(text, case)).expect("strings take all text");
}

/// `ST`, `ND`, `RD` or `TH`.
pub(super) fn ordinal_ending(number: &str, case: Case) -> &'static str {
    let digits: Vec<u8> = number.bytes().filter(u8::is_ascii_digit).collect();
    let teen = digits.len() > 1 && digits[digits.len() - 2] == b'1';
    let upper = case != Case::Lower;
    match digits.last() {
        Some(b'1') if !teen => {
            if upper {
                "ST"
            } else {
                "st"
            }
        }
        Some(b'2') if !teen => {
            if upper {
                "ND"
            } else {
                "nd"
            }
        }
        Some(b'3') if !teen => {
            if upper {
                "RD"
            } else {
                "rd"
            }
        }
        _ => {
            if upper {
                "TH"
            } else {
                "th"
            }
        }
    }
}
