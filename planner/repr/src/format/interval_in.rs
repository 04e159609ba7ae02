//! Intervals from text: Postgres's verbose form, the SQL standard's and ISO 8601's.

use super::datetime_in::lexer::{self, Field};
use super::datetime_in::{ClockTime, Problem, parse_clock};
use super::{FormatCtx, IntervalStyle};
use crate::error::FormatError;
use crate::time::{Interval, USECS_PER_DAY, USECS_PER_HOUR, USECS_PER_MINUTE, USECS_PER_SEC};

const DAYS_PER_MONTH: f64 = 30.0;
const MONTHS_PER_YEAR: i64 = 12;

pub(super) fn parse(text: &str, ctx: &FormatCtx) -> Result<Interval, FormatError> {
    let parsed = match text.trim_start().strip_prefix('P') {
        Some(rest) => parse_iso(rest.trim_end()),
        None => parse_words(text, ctx.interval_style),
    };
    parsed
        .and_then(Sum::finish)
        .map_err(|problem| problem.into_error("interval", text))
}

/// A unit of an interval, from small to large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
    Decade,
    Century,
    Millennium,
}

fn unit(word: &str) -> Option<Unit> {
    Some(match word {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds"
        | "microsecon" => Unit::Microsecond,
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds"
        | "millisecon" => Unit::Millisecond,
        "s" | "sec" | "secs" | "second" | "seconds" => Unit::Second,
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Minute,
        "h" | "hr" | "hrs" | "hour" | "hours" => Unit::Hour,
        "d" | "day" | "days" => Unit::Day,
        "w" | "week" | "weeks" => Unit::Week,
        "mon" | "mons" | "month" | "months" => Unit::Month,
        "y" | "yr" | "yrs" | "year" | "years" => Unit::Year,
        "dec" | "decs" | "decade" | "decades" => Unit::Decade,
        "c" | "cent" | "century" | "centuries" => Unit::Century,
        "mil" | "mils" | "millennium" | "millennia" => Unit::Millennium,
        _ => return None,
    })
}

/// The parts so far.
#[derive(Default)]
struct Sum {
    months: i64,
    days: i64,
    micros: i128,
}

/// A number: what is before and what is after the point, both with its sign.
#[derive(Clone, Copy)]
struct Amount {
    whole: i64,
    fraction: f64,
}

impl Sum {
    fn finish(self) -> Result<Interval, Problem> {
        let months = i32::try_from(self.months).map_err(|_| {
            // Years alone may be too many, or only all months together.
            match i32::try_from(self.months / MONTHS_PER_YEAR) {
                Ok(_) => Problem::IntervalTotal,
                Err(_) => Problem::IntervalRange,
            }
        })?;
        Ok(Interval {
            months,
            days: i32::try_from(self.days).map_err(|_| Problem::IntervalRange)?,
            micros: i64::try_from(self.micros).map_err(|_| Problem::IntervalRange)?,
        })
    }

    fn add_months(&mut self, amount: Amount, months: i64) -> Result<(), Problem> {
        let whole = amount.whole.checked_mul(months);
        let total = whole.and_then(|whole| self.months.checked_add(whole));
        self.months = total.ok_or(Problem::IntervalRange)?;
        Ok(())
    }

    fn add_days(&mut self, days: i64) -> Result<(), Problem> {
        let total = self.days.checked_add(days);
        self.days = total.ok_or(Problem::IntervalRange)?;
        Ok(())
    }

    fn add_micros(&mut self, amount: Amount, unit: i64) {
        self.micros += i128::from(amount.whole) * i128::from(unit);
        self.add_fraction_micros(amount.fraction, unit as f64);
    }

    fn add_fraction_micros(&mut self, fraction: f64, unit: f64) {
        self.micros += (fraction * unit).round_ties_even() as i128;
    }

    fn add_fraction_days(&mut self, fraction: f64, unit: f64) -> Result<(), Problem> {
        let days = fraction * unit;
        self.add_days(days.trunc() as i64)?;
        self.add_fraction_micros(days.fract(), USECS_PER_DAY as f64);
        Ok(())
    }

    fn add_years(&mut self, amount: Amount, years: i64) -> Result<(), Problem> {
        let months = years * MONTHS_PER_YEAR;
        self.add_months(amount, months)?;
        // A part of a year is whole months.
        self.months += (amount.fraction * months as f64).round_ties_even() as i64;
        Ok(())
    }

    fn add(&mut self, amount: Amount, unit: Unit) -> Result<(), Problem> {
        match unit {
            Unit::Microsecond => self.add_micros(amount, 1),
            Unit::Millisecond => self.add_micros(amount, 1000),
            Unit::Second => self.add_micros(amount, USECS_PER_SEC),
            Unit::Minute => self.add_micros(amount, USECS_PER_MINUTE),
            Unit::Hour => self.add_micros(amount, USECS_PER_HOUR),
            Unit::Day => {
                self.add_days(amount.whole)?;
                self.add_fraction_micros(amount.fraction, USECS_PER_DAY as f64);
            }
            Unit::Week => {
                let days = amount.whole.checked_mul(7).ok_or(Problem::IntervalRange)?;
                self.add_days(days)?;
                self.add_fraction_days(amount.fraction, 7.0)?;
            }
            Unit::Month => {
                self.add_months(amount, 1)?;
                self.add_fraction_days(amount.fraction, DAYS_PER_MONTH)?;
            }
            Unit::Year => self.add_years(amount, 1)?,
            Unit::Decade => self.add_years(amount, 10)?,
            Unit::Century => self.add_years(amount, 100)?,
            Unit::Millennium => self.add_years(amount, 1000)?,
        }
        Ok(())
    }

    fn add_clock(&mut self, clock: ClockTime, negative: bool) {
        let micros = i128::from(clock.hour) * i128::from(USECS_PER_HOUR)
            + i128::from(clock.minute) * i128::from(USECS_PER_MINUTE)
            + i128::from(clock.second) * i128::from(USECS_PER_SEC)
            + i128::from(clock.micros);
        self.micros += if negative { -micros } else { micros };
    }

    fn negate(&mut self) {
        self.months = -self.months;
        self.days = -self.days;
        self.micros = -self.micros;
    }
}

/// Reads `[+-]digits[.digits]`.
fn parse_amount(text: &str) -> Result<Amount, Problem> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err(Problem::Syntax);
    }
    let whole: i64 = match whole {
        "" => 0,
        whole => whole.parse().map_err(|_| Problem::IntervalRange)?,
    };
    let fraction: f64 = match fraction {
        "" => 0.0,
        fraction => format!("0.{fraction}")
            .parse()
            .map_err(|_| Problem::Syntax)?,
    };
    Ok(match negative {
        true => Amount {
            whole: -whole,
            fraction: -fraction,
        },
        false => Amount { whole, fraction },
    })
}

/// Reads fields from the last to the first, since a unit follows its number.
fn parse_words(text: &str, style: IntervalStyle) -> Result<Sum, Problem> {
    let is_word = |word: &str| unit(word).is_some() || word == "ago";
    let mut fields = lexer::fields(text, is_word).ok_or(Problem::Syntax)?;
    let mut reader = Reader::default();
    if style == IntervalStyle::SqlStandard
        && let [Field::Signed(first), rest @ ..] = fields.as_mut_slice()
        && let Some(unsigned) = first.strip_prefix('-')
        && !rest.iter().any(|field| matches!(field, Field::Signed(_)))
    {
        // The standard's leading sign is that of all parts.
        reader.all_negative = true;
        *first = format!("+{unsigned}");
    }
    for field in fields.iter().rev() {
        reader.field(field)?;
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    sum: Sum,
    /// The unit of the next number to the left.
    unit: Option<Unit>,
    /// A unit was read that has no number yet.
    open: bool,
    after_ago: bool,
    ago: bool,
    all_negative: bool,
    any: bool,
    seen: Vec<Unit>,
    seen_clock: bool,
}

impl Reader {
    fn finish(mut self) -> Result<Sum, Problem> {
        if !self.any || self.open {
            return Err(Problem::Syntax);
        }
        if self.ago != self.all_negative {
            self.sum.negate();
        }
        Ok(self.sum)
    }

    fn field(&mut self, field: &Field) -> Result<(), Problem> {
        match field {
            Field::Word(word) => self.word(word),
            Field::Time(text) => self.clock(text, false),
            Field::Signed(text) if text.contains(':') => {
                self.clock(&text[1..], text.starts_with('-'))
            }
            Field::Signed(text) | Field::Date(text) | Field::Number(text) => self.number(text),
            Field::SignedWord(_) => Err(Problem::Syntax),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Problem> {
        if self.open {
            return Err(Problem::Syntax);
        }
        if word == "ago" {
            // No number may stand right before it.
            (self.ago, self.unit, self.after_ago) = (true, None, true);
            return Ok(());
        }
        self.after_ago = false;
        self.unit = Some(unit(word).ok_or(Problem::Syntax)?);
        self.open = true;
        Ok(())
    }

    fn clock(&mut self, text: &str, negative: bool) -> Result<(), Problem> {
        let uses_clock = |unit: &Unit| matches!(unit, Unit::Second | Unit::Minute | Unit::Hour);
        self.after_ago = false;
        if self.open || self.seen_clock || self.seen.iter().any(uses_clock) {
            return Err(Problem::Syntax);
        }
        self.seen_clock = true;
        let clock = parse_clock(text).map_err(|problem| match problem {
            Problem::FieldRange => Problem::IntervalRange,
            other => other,
        })?;
        self.sum.add_clock(clock, negative);
        // A bare number before a time counts days.
        self.unit = Some(Unit::Day);
        self.any = true;
        Ok(())
    }

    fn number(&mut self, text: &str) -> Result<(), Problem> {
        if self.after_ago {
            return Err(Problem::Syntax);
        }
        self.any = true;
        self.open = false;
        // `1-2`: years and months.
        if let Some((years, months)) = text[1..].split_once('-') {
            let years = parse_amount(&format!("{}{years}", &text[..1]))?;
            let months_part = parse_amount(months)?;
            if !(0..12).contains(&months_part.whole) || years.fraction != 0.0 {
                return Err(Problem::IntervalRange);
            }
            self.once(Unit::Year)?;
            self.once(Unit::Month)?;
            self.unit = Some(Unit::Month);
            let negative = text.starts_with('-');
            let months = if negative {
                -months_part.whole
            } else {
                months_part.whole
            };
            self.sum.add(years, Unit::Year)?;
            return self.sum.add(
                Amount {
                    whole: months,
                    fraction: 0.0,
                },
                Unit::Month,
            );
        }
        let unit = *self.unit.get_or_insert(Unit::Second);
        self.once(unit)?;
        self.sum.add(parse_amount(text)?, unit)
    }

    fn once(&mut self, unit: Unit) -> Result<(), Problem> {
        let of_clock = matches!(unit, Unit::Second | Unit::Minute | Unit::Hour);
        if self.seen.contains(&unit) || (of_clock && self.seen_clock) {
            return Err(Problem::Syntax);
        }
        self.seen.push(unit);
        Ok(())
    }
}

/// Reads ISO 8601 after its `P`: `1Y2M3DT4H5M6S`, or `0001-02-03T04:05:06`.
fn parse_iso(text: &str) -> Result<Sum, Problem> {
    if text.is_empty() {
        return Err(Problem::Syntax);
    }
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut sum = Sum::default();
    if !date.is_empty() && !date.bytes().any(|b| b.is_ascii_alphabetic()) {
        let units = [Unit::Year, Unit::Month, Unit::Day];
        for (part, unit) in date.splitn(3, '-').zip(units) {
            sum.add(parse_amount(part)?, unit)?;
        }
    } else {
        designated(&mut sum, date, |designator| match designator {
            'Y' => Some(Unit::Year),
            'M' => Some(Unit::Month),
            'W' => Some(Unit::Week),
            'D' => Some(Unit::Day),
            _ => None,
        })?;
    }
    match time {
        None | Some("") => {}
        Some(time) if time.contains(':') => {
            let (negative, clock) = match time.strip_prefix('-') {
                Some(rest) => (true, rest),
                None => (false, time),
            };
            sum.add_clock(parse_clock(clock)?, negative);
        }
        Some(time) => designated(&mut sum, time, |designator| match designator {
            'H' => Some(Unit::Hour),
            'M' => Some(Unit::Minute),
            'S' => Some(Unit::Second),
            _ => None,
        })?,
    }
    Ok(sum)
}

fn designated(
    sum: &mut Sum,
    text: &str,
    unit: impl Fn(char) -> Option<Unit>,
) -> Result<(), Problem> {
    let mut rest = text;
    while !rest.is_empty() {
        let at = rest
            .find(|c: char| c.is_ascii_alphabetic())
            .ok_or(Problem::Syntax)?;
        let designator = rest[at..].chars().next().ok_or(Problem::Syntax)?;
        let unit = unit(designator).ok_or(Problem::Syntax)?;
        sum.add(parse_amount(&rest[..at])?, unit)?;
        rest = &rest[at + 1..];
    }
    Ok(())
}
