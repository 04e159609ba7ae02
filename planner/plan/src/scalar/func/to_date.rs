//! `to_date(text, template)` and `to_timestamp(text, template)`.

use super::datetime_format::{DAYS, Field, Item, MONTHS, ROMAN_MONTHS, Template, parse};
mod fields;

use super::to_char::cased;
use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use fields::Fields;
use repr::{Datum, PgTimestamp, RowArena, SqlType};

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::fallible("to_date", to_date),
    FuncDef::fallible("to_timestamp", to_timestamp).by_session(),
];

fn to_date<'a>(_: &EvalCtx, _: &SqlType, a: &[Datum<'a>], _: &'a RowArena) -> EvalResult<'a> {
    let text = a[0].unwrap_str();
    Ok(Datum::Date(read(text, a[1].unwrap_str())?.date(text)?))
}

fn to_timestamp<'a>(
    ctx: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    _: &'a RowArena,
) -> EvalResult<'a> {
    let text = a[0].unwrap_str();
    let fields = read(text, a[1].unwrap_str())?;
    let local = PgTimestamp::from_date_time(fields.date(text)?, fields.time(text)?)?;
    let zone = match fields.zone_offset()? {
        Some(zone) => zone,
        None => *ctx.zone(),
    };
    Ok(Datum::TimestampTz(zone.to_utc(local)?))
}

fn invalid(message: String, detail: &str) -> EvalError {
    EvalError {
        detail: Some(detail.to_owned()),
        ..EvalError::new("22007", message)
    }
}

/// The input, and where in it reading has come to.
struct Reader<'t> {
    rest: &'t str,
    exact: bool,
}

fn is_separator(c: char) -> bool {
    c.is_ascii_punctuation()
}

fn read(text: &str, template: &str) -> Result<Fields, EvalError> {
    let template = parse(template)?;
    let mut fields = Fields {
        zone_sign: 1,
        ..Fields::default()
    };
    let mut reader = Reader {
        rest: text,
        exact: template.exact,
    };
    // Spaces that were skipped may stand for characters of the template.
    let mut skipped = 0i64;
    for (i, item) in template.items.iter().enumerate() {
        if !reader.exact && (i == 0 || matches!(item, Item::Field { .. })) {
            skipped += reader.skip_spaces();
        }
        let Some(next) = reader.rest.chars().next() else {
            break;
        };
        match item {
            Item::Char { c, quoted }
                if !quoted && (c.is_whitespace() || is_separator(*c)) && !reader.exact =>
            {
                skipped -= 1;
                if next.is_whitespace() || is_separator(next) {
                    reader.rest = &reader.rest[next.len_utf8()..];
                    skipped += 1;
                }
            }
            Item::Char { .. } if skipped > 0 && !reader.exact => skipped -= 1,
            Item::Char { .. } => reader.rest = &reader.rest[next.len_utf8()..],
            Item::Field {
                field,
                compact,
                ordinal,
            } => {
                let free = *compact || ordinal.is_some() || ends_number(&template, i);
                reader.field(*field, free, &mut fields)?;
                if ordinal.is_some() {
                    let ending = reader
                        .rest
                        .char_indices()
                        .nth(2)
                        .map_or(reader.rest.len(), |(at, _)| at);
                    reader.rest = &reader.rest[ending..];
                }
                skipped = 0;
            }
        }
    }
    Ok(fields)
}

/// Whether what follows item `i` cannot begin with a digit, so that its number may have any length.
fn ends_number(template: &Template, i: usize) -> bool {
    match template.items.get(i + 1) {
        None => true,
        Some(Item::Char { c, .. }) => !c.is_ascii_digit(),
        Some(Item::Field { field, .. }) => matches!(
            field,
            Field::Meridiem(..)
                | Field::Era(..)
                | Field::DayName(_)
                | Field::DayAbbreviation(_)
                | Field::MonthName(_)
                | Field::MonthAbbreviation(_)
                | Field::RomanMonth(_)
                | Field::Offset
                | Field::Zone(_)
                | Field::ZoneHour
        ),
    }
}

impl Reader<'_> {
    fn skip_spaces(&mut self) -> i64 {
        let trimmed = self
            .rest
            .trim_start_matches(|c: char| c.is_ascii_whitespace());
        let skipped = self.rest.len() - trimmed.len();
        self.rest = trimmed;
        skipped as i64
    }

    /// A number of at most `width` characters, or of any length if it is `free`. Returns it and its length.
    fn number(&mut self, name: &str, width: usize, free: bool) -> Result<(i64, usize), EvalError> {
        self.skip_spaces();
        let sign = usize::from(self.rest.starts_with(['-', '+']));
        let digits = self.rest[sign..]
            .bytes()
            .take_while(u8::is_ascii_digit)
            .count();
        let available = if digits == 0 { 0 } else { sign + digits };
        let taken = if free {
            available
        } else {
            available.min(width)
        };
        let shown: String = self.rest.chars().take(width).collect();
        let value = || format!("invalid value \"{shown}\" for \"{name}\"");
        if !free && shown.chars().count() < width {
            let detail = format!(
                "Field requires {width} characters, but only {} remain.",
                shown.chars().count()
            );
            let message = format!("source string too short for \"{name}\" formatting field");
            return Err(hinted(invalid(message, &detail)));
        }
        if taken == 0 {
            return Err(invalid(value(), "Value must be an integer."));
        }
        if !free && taken < width {
            let detail =
                format!("Field requires {width} characters, but only {taken} could be parsed.");
            return Err(hinted(invalid(value(), &detail)));
        }
        let Ok(number) = self.rest[..taken].parse::<i32>() else {
            let message = format!("value for \"{name}\" in source string is out of range");
            let detail = "Value must be in the range -2147483648 to 2147483647.";
            return Err(EvalError {
                sqlstate: "22008".to_owned(),
                ..invalid(message, detail)
            });
        };
        self.rest = &self.rest[taken..];
        Ok((number.into(), taken))
    }

    /// One of some words, by its first `letters` letters (all if `None`), in any case. Returns its index.
    fn word(
        &mut self,
        name: &str,
        words: &[&str],
        letters: Option<usize>,
    ) -> Result<usize, EvalError> {
        for (i, word) in words.iter().enumerate() {
            let word = letters.map_or(*word, |n| &word[..n]);
            if self
                .rest
                .get(..word.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(word))
            {
                self.rest = &self.rest[word.len()..];
                return Ok(i);
            }
        }
        let shown: String = self
            .rest
            .chars()
            .take_while(|c| !c.is_whitespace())
            .collect();
        let detail = "The given value did not match any of the allowed values for this field.";
        Err(invalid(
            format!("invalid value \"{shown}\" for \"{name}\""),
            detail,
        ))
    }

    fn field(&mut self, field: Field, free: bool, fields: &mut Fields) -> Result<(), EvalError> {
        match field {
            Field::Meridiem(_, dots) => {
                let words = if dots { ["a.m.", "p.m."] } else { ["am", "pm"] };
                fields.afternoon = self.word(if dots { "A.M." } else { "AM" }, &words, None)? == 1;
                fields.clock_12 = true;
            }
            Field::Era(_, dots) => {
                let words = if dots { ["a.d.", "b.c."] } else { ["ad", "bc"] };
                fields.before_christ =
                    self.word(if dots { "A.D." } else { "AD" }, &words, None)? == 1;
            }
            Field::Century => fields.century = Some(self.number("CC", 2, free)?.0),
            // The name of the day is read and means nothing.
            Field::DayName(case) => _ = self.word(&cased("Day", case), &DAYS, None)?,
            Field::DayAbbreviation(case) => _ = self.word(&cased("Dy", case), &DAYS, Some(3))?,
            Field::DayOfYear => fields.day_of_year = Some(self.number("DDD", 3, free)?.0),
            Field::IsoDayOfYear => {
                let day = self.number("IDDD", 3, free)?.0;
                fields.iso_week = Some((day - 1).div_euclid(7) + 1);
                fields.iso_day = Some((day - 1).rem_euclid(7) + 1);
            }
            Field::Day => fields.day = Some(self.number("DD", 2, free)?.0),
            Field::DayOfWeek => _ = self.number("D", 1, free)?,
            Field::IsoDayOfWeek => fields.iso_day = Some(self.number("ID", 1, free)?.0),
            Field::Fraction(digits) => {
                fields.micros += self.fraction("FF", digits.into(), 6, free)?
            }
            Field::Millisecond => fields.micros += self.fraction("MS", 3, 3, free)? * 1000,
            Field::Microsecond => fields.micros += self.fraction("US", 6, 6, free)?,
            Field::Hour24 => fields.hour = self.number("HH24", 2, free)?.0,
            Field::Hour12 => {
                fields.hour = self.number("HH12", 2, free)?.0;
                fields.clock_12 = true;
            }
            Field::IsoWeek => fields.iso_week = Some(self.number("IW", 2, free)?.0),
            Field::IsoYear(digits) => {
                let (year, length) = self.number("IYYY", digits.into(), free)?;
                fields.iso_year = Some(if digits < 4 && length < 4 {
                    full_year(year)
                } else {
                    year
                });
            }
            Field::Julian => fields.julian = Some(self.number("J", 7, true)?.0),
            Field::Minute => fields.minute = self.number("MI", 2, free)?.0,
            Field::Month => fields.month = Some(self.number("MM", 2, free)?.0),
            Field::MonthName(case) => {
                fields.month = Some(self.word(&cased("Month", case), &MONTHS, None)? as i64 + 1);
            }
            Field::MonthAbbreviation(case) => {
                fields.month = Some(self.word(&cased("Mon", case), &MONTHS, Some(3))? as i64 + 1);
            }
            Field::RomanMonth(_) => fields.month = Some(self.roman()?),
            Field::Quarter => _ = self.number("Q", 1, free)?,
            Field::SecondOfDay => fields.second_of_day = Some(self.number("SSSS", 5, free)?.0),
            Field::Second => fields.second = self.number("SS", 2, free)?.0,
            Field::ZoneHour => {
                // A minus sign that was taken for a separator still counts.
                if let Some(rest) = self.rest.strip_prefix(['+', '-', ' ']) {
                    fields.zone_sign = if self.rest.starts_with('-') { -1 } else { 1 };
                    self.rest = rest;
                }
                fields.zone_hour = Some(self.number("TZH", 2, free)?.0);
            }
            Field::ZoneMinute => fields.zone_minute = self.number("TZM", 2, free)?.0,
            Field::Offset | Field::Zone(_) => {
                let name = if field == Field::Offset { "OF" } else { "TZ" };
                let message = format!("formatting field \"{name}\" is only supported in to_char");
                return Err(EvalError::new("0A000", message));
            }
            Field::WeekOfYear => fields.week_of_year = Some(self.number("WW", 2, free)?.0),
            Field::WeekOfMonth => fields.week_of_month = Some(self.number("W", 1, free)?.0),
            Field::Year(digits) => {
                let name = &"YYYY"[..usize::from(digits)];
                let (year, length) = self.number(name, digits.into(), free)?;
                fields.year = Some(if digits < 4 && length < 4 {
                    full_year(year)
                } else {
                    year
                });
                fields.year_digits = digits;
            }
            Field::YearWithComma => {
                let (thousands, _) = self.number("Y,YYY", 1, true)?;
                let Some(rest) = self.rest.strip_prefix(',') else {
                    return Err(EvalError::new(
                        "22007",
                        "invalid input string for \"Y,YYY\"",
                    ));
                };
                self.rest = rest;
                fields.year = Some(thousands * 1000 + self.number("Y,YYY", 3, false)?.0);
                fields.year_digits = 4;
            }
        }
        Ok(())
    }

    /// Digits after a point: `5` of milliseconds is 500.
    fn fraction(
        &mut self,
        name: &str,
        width: usize,
        digits: usize,
        free: bool,
    ) -> Result<i64, EvalError> {
        let (value, length) = self.number(name, width, free)?;
        Ok(value * 10i64.pow(digits.saturating_sub(length) as u32))
    }

    fn roman(&mut self) -> Result<i64, EvalError> {
        // The longest first: XII begins with XI and X.
        let mut order: Vec<usize> = (0..ROMAN_MONTHS.len()).collect();
        order.sort_by_key(|i| std::cmp::Reverse(ROMAN_MONTHS[*i].len()));
        let words: Vec<&str> = order.iter().map(|i| ROMAN_MONTHS[*i]).collect();
        Ok(order[self.word("RM", &words, None)?] as i64 + 1)
    }
}

fn hinted(mut error: EvalError) -> EvalError {
    error.hint =
        Some("If your source string is not fixed-width, try using the \"FM\" modifier.".to_owned());
    error
}

/// A year of fewer than four digits: the one nearest to 2020.
fn full_year(year: i64) -> i64 {
    match year {
        0..70 => year + 2000,
        70..100 => year + 1900,
        100..520 => year + 2000,
        520..1000 => year + 1000,
        _ => year,
    }
}
