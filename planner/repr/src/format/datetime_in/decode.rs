//! What each field means.

use super::lexer::{self, Field};
use super::{ClockTime, Parsed, Problem};
use crate::format::{DateOrder, FormatCtx};
use crate::time::zone::abbreviation_offset_secs;
use crate::time::{PgTimestamp, TimeZone, UNIX_TO_PG_EPOCH_USECS, USECS_PER_DAY};

/// A date that is not given by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    Epoch,
    Infinity,
    NegInfinity,
    Now,
    /// Midnight this many days from now.
    Day(i32),
}

impl Special {
    /// The local time that is meant (UTC for the epoch).
    pub(super) fn moment(self, ctx: &FormatCtx) -> Result<PgTimestamp, Problem> {
        let now = || Ok(ctx.timezone.to_local(ctx.now.ok_or(Problem::Syntax)?));
        match self {
            Special::Epoch => Ok(PgTimestamp(-UNIX_TO_PG_EPOCH_USECS)),
            Special::Infinity => Ok(PgTimestamp::INFINITY),
            Special::NegInfinity => Ok(PgTimestamp::NEG_INFINITY),
            Special::Now => now(),
            Special::Day(days) => {
                let today = now()?.0.div_euclid(USECS_PER_DAY) * USECS_PER_DAY;
                Ok(PgTimestamp(today + i64::from(days) * USECS_PER_DAY))
            }
        }
    }
}

/// The zone in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Zone {
    /// Seconds east of UTC.
    Offset(i32),
    Name(String),
}

impl Zone {
    pub(super) fn resolve(self) -> Result<TimeZone, Problem> {
        match self {
            Zone::Offset(east) => TimeZone::from_offset_secs(east).ok_or(Problem::ZoneRange),
            Zone::Name(name) => TimeZone::parse(&name).map_err(|_| Problem::UnknownZone(name)),
        }
    }
}

/// What a word can mean.
enum Word {
    Month(u8),
    Weekday,
    Afternoon(bool),
    Era {
        before_christ: bool,
    },
    Special(Special),
    Midnight,
    Offset(i32),
    /// `t` before a time, `at`, `on`
    Noise,
    Julian,
    DaylightSaving,
}

fn word(text: &str) -> Option<Word> {
    Some(match text {
        "jan" | "january" => Word::Month(1),
        "feb" | "february" => Word::Month(2),
        "mar" | "march" => Word::Month(3),
        "apr" | "april" => Word::Month(4),
        "may" => Word::Month(5),
        "jun" | "june" => Word::Month(6),
        "jul" | "july" => Word::Month(7),
        "aug" | "august" => Word::Month(8),
        "sep" | "sept" | "september" => Word::Month(9),
        "oct" | "october" => Word::Month(10),
        "nov" | "november" => Word::Month(11),
        "dec" | "december" => Word::Month(12),
        "sun" | "sunday" | "mon" | "monday" | "tue" | "tues" | "tuesday" | "wed" | "weds"
        | "wednesday" | "thu" | "thur" | "thurs" | "thursday" | "fri" | "friday" | "sat"
        | "saturday" => Word::Weekday,
        "am" => Word::Afternoon(false),
        "pm" => Word::Afternoon(true),
        "ad" => Word::Era {
            before_christ: false,
        },
        "bc" => Word::Era {
            before_christ: true,
        },
        "epoch" => Word::Special(Special::Epoch),
        "infinity" => Word::Special(Special::Infinity),
        "now" => Word::Special(Special::Now),
        "today" => Word::Special(Special::Day(0)),
        "tomorrow" => Word::Special(Special::Day(1)),
        "yesterday" => Word::Special(Special::Day(-1)),
        "allballs" => Word::Midnight,
        "at" | "on" | "t" => Word::Noise,
        "j" | "jd" | "julian" => Word::Julian,
        "dst" => Word::DaylightSaving,
        other => Word::Offset(abbreviation_offset_secs(other)?),
    })
}

/// Whether digits may follow the word directly.
fn is_core_word(text: &str) -> bool {
    match word(text) {
        Some(Word::Offset(_)) => text == "z",
        Some(_) => true,
        None => false,
    }
}

pub(super) struct Decoder<'c> {
    ctx: &'c FormatCtx,
    parsed: Parsed,
    text_month: bool,
    julian_next: bool,
    /// A time without a date: runs of digits are times at once.
    time_only: bool,
}

impl<'c> Decoder<'c> {
    pub(super) fn new(ctx: &'c FormatCtx) -> Decoder<'c> {
        Decoder {
            ctx,
            parsed: Parsed::default(),
            text_month: false,
            julian_next: false,
            time_only: false,
        }
    }

    /// Understands a text that must hold a date.
    pub(super) fn decode(mut self, text: &str) -> Result<Parsed, Problem> {
        self.fields(text)?;
        if self.parsed.special.is_none() && !self.date_complete() {
            return Err(Problem::Syntax);
        }
        Ok(self.parsed)
    }

    /// Understands a text that must hold a time.
    pub(super) fn decode_time_only(mut self, text: &str) -> Result<Parsed, Problem> {
        self.time_only = true;
        self.fields(text)?;
        if self.parsed.time.is_none() && self.parsed.special.is_none() {
            return Err(Problem::Syntax);
        }
        if self.date_complete() {
            self.parsed.date()?;
        } else if let Some(Zone::Name(_)) = self.parsed.zone {
            // Without a date nobody knows the offset.
            return Err(Problem::Syntax);
        }
        Ok(self.parsed)
    }

    fn fields(&mut self, text: &str) -> Result<(), Problem> {
        let fields = lexer::fields(text, is_core_word).ok_or(Problem::Syntax)?;
        if fields.is_empty() {
            return Err(Problem::Syntax);
        }
        for field in fields {
            if self.julian_next {
                self.julian_next = false;
                self.julian(&field)?;
                continue;
            }
            match field {
                Field::Number(text) => self.number_field(&text)?,
                Field::Date(text) => self.date_field(&text)?,
                Field::Time(text) => self.time_field(&text)?,
                Field::Word(text) => self.word_field(&text)?,
                Field::Signed(text) => self.zone(Zone::Offset(parse_offset(&text)?))?,
                Field::SignedWord(text) if text == "-infinity" => {
                    self.special(Special::NegInfinity)?;
                }
                Field::SignedWord(text) if text == "+infinity" => {
                    self.special(Special::Infinity)?;
                }
                Field::SignedWord(_) => return Err(Problem::Syntax),
            }
        }
        match self.julian_next {
            true => Err(Problem::Syntax),
            false => Ok(()),
        }
    }

    fn date_complete(&self) -> bool {
        let parsed = &self.parsed;
        let civil = parsed.month.is_some() && parsed.day.is_some() || parsed.day_of_year.is_some();
        parsed.julian.is_some() || (parsed.year.is_some() && civil)
    }

    fn nothing_of_date(&self) -> bool {
        let parsed = &self.parsed;
        parsed.year.is_none() && parsed.month.is_none() && parsed.day.is_none()
    }

    fn special(&mut self, special: Special) -> Result<(), Problem> {
        if self.parsed.special.is_some() || !self.nothing_of_date() {
            return Err(Problem::Syntax);
        }
        self.parsed.special = Some(special);
        Ok(())
    }

    fn zone(&mut self, zone: Zone) -> Result<(), Problem> {
        if self.parsed.zone.replace(zone).is_some() {
            return Err(Problem::Syntax);
        }
        Ok(())
    }

    fn time(&mut self, time: ClockTime) -> Result<(), Problem> {
        if self.parsed.time.replace(time).is_some() {
            return Err(Problem::Syntax);
        }
        Ok(())
    }

    fn julian(&mut self, field: &Field) -> Result<(), Problem> {
        let Field::Number(text) = field else {
            return Err(Problem::Syntax);
        };
        if !self.nothing_of_date() {
            return Err(Problem::Syntax);
        }
        let (days, fraction) = text.split_once('.').unwrap_or((text, ""));
        self.parsed.julian = Some(parse_i32(days)?.into());
        if !fraction.is_empty() {
            let part: f64 = format!("0.{fraction}")
                .parse()
                .map_err(|_| Problem::Syntax)?;
            let micros = (part * USECS_PER_DAY as f64) as i64;
            self.time(ClockTime {
                hour: micros / 3_600_000_000,
                minute: (micros / 60_000_000 % 60) as i32,
                second: (micros / 1_000_000 % 60) as i32,
                micros: (micros % 1_000_000) as i32,
            })?;
        }
        Ok(())
    }

    fn word_field(&mut self, text: &str) -> Result<(), Problem> {
        match word(text) {
            Some(Word::Month(month)) => self.text_month(month),
            Some(Word::Weekday | Word::Noise) => Ok(()),
            Some(Word::Afternoon(afternoon)) => {
                self.parsed.afternoon = Some(afternoon);
                Ok(())
            }
            Some(Word::Era { before_christ }) => {
                self.parsed.before_christ = before_christ;
                Ok(())
            }
            Some(Word::Special(special)) => self.special(special),
            Some(Word::Midnight) => {
                self.zone(Zone::Offset(0))?;
                self.time(ClockTime::default())
            }
            Some(Word::Offset(east)) => self.zone(Zone::Offset(east)),
            Some(Word::DaylightSaving) => match &mut self.parsed.zone {
                Some(Zone::Offset(east)) => {
                    *east += 3600;
                    Ok(())
                }
                Some(Zone::Name(_)) | None => Err(Problem::Syntax),
            },
            Some(Word::Julian) => {
                self.julian_next = true;
                Ok(())
            }
            // A region whose name is one word, such as `japan`.
            None => match TimeZone::parse(text) {
                Ok(TimeZone::Region(_)) => self.zone(Zone::Name(text.to_owned())),
                Ok(TimeZone::Fixed(_)) | Err(_) => Err(Problem::Syntax),
            },
        }
    }

    fn text_month(&mut self, month: u8) -> Result<(), Problem> {
        // A number taken for the month before was the day.
        if let Some(number) = self.parsed.month.take()
            && (self.text_month || self.parsed.day.replace(number).is_some())
        {
            return Err(Problem::Syntax);
        }
        self.text_month = true;
        self.parsed.month = Some(month);
        Ok(())
    }

    fn time_field(&mut self, text: &str) -> Result<(), Problem> {
        self.time(parse_clock(text)?)
    }

    /// A field with separators: a date, or else a zone's name or an ISO time with an offset.
    fn date_field(&mut self, text: &str) -> Result<(), Problem> {
        let starts_with_digit = text.starts_with(|c: char| c.is_ascii_digit());
        if self.date_complete() || (self.time_only && !starts_with_digit) {
            return match text.split_once('-') {
                Some((time, offset)) if starts_with_digit => {
                    self.zone(Zone::Offset(parse_offset(&format!("-{offset}"))?))?;
                    self.concatenated(time)
                }
                _ if starts_with_digit => Err(Problem::Syntax),
                _ => self.zone(Zone::Name(text.to_owned())),
            };
        }
        if !starts_with_digit && !text.bytes().any(|b| b.is_ascii_digit()) {
            // `america/new_york` before the date.
            return self.zone(Zone::Name(text.to_owned()));
        }
        self.separated_date(text)
    }

    fn separated_date(&mut self, text: &str) -> Result<(), Problem> {
        let parts: Vec<&str> = text
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|part| !part.is_empty())
            .collect();
        // Names first: they tell what the numbers are.
        let mut numbers = Vec::new();
        for part in parts {
            if part.starts_with(|c: char| c.is_ascii_digit()) {
                numbers.push(part);
                continue;
            }
            match word(part) {
                Some(Word::Month(month)) => self.text_month(month)?,
                Some(Word::Weekday | Word::Noise) => {}
                _ => return Err(Problem::Syntax),
            }
        }
        for number in numbers {
            if self.date_complete() {
                return Err(Problem::Syntax);
            }
            self.number(number)?;
        }
        match self.date_complete() {
            true => Ok(()),
            false => Err(Problem::Syntax),
        }
    }

    fn number_field(&mut self, text: &str) -> Result<(), Problem> {
        let whole = text.split('.').next().unwrap_or(text);
        let has_point = whole.len() < text.len();
        if has_point && self.nothing_of_date() && !self.time_only && whole.len() <= 4 {
            // `1999.008`: a year and a day in it.
            let (year, day) = text.split_once('.').ok_or(Problem::Syntax)?;
            if day.len() != 3 {
                return Err(Problem::Syntax);
            }
            self.set_year(year)?;
            self.parsed.day_of_year =
                Some(u16::try_from(parse_i32(day)?).map_err(|_| Problem::FieldRange)?);
            return Ok(());
        }
        let run = whole.len() >= 6 && (!self.date_complete() || self.parsed.time.is_none());
        if run || (has_point && whole.len() > 2) || self.time_only {
            return self.concatenated(text);
        }
        if has_point {
            return Err(Problem::Syntax);
        }
        self.number(text)
    }

    /// A run of digits: `YYYYMMDD`, `YYMMDD`, `HHMMSS[.fraction]`, `HHMM`.
    fn concatenated(&mut self, text: &str) -> Result<(), Problem> {
        let (digits, fraction) = match text.split_once('.') {
            Some((digits, fraction)) => (digits, Some(fraction)),
            None => (text, None),
        };
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Problem::Syntax);
        }
        let wants_date = !self.time_only && !self.date_complete();
        if wants_date && fraction.is_none() && digits.len() >= 6 {
            let (rest, day) = digits.split_at(digits.len() - 2);
            let (year, month) = rest.split_at(rest.len() - 2);
            if !self.nothing_of_date() {
                return Err(Problem::Syntax);
            }
            self.set_year(year)?;
            self.parsed.month = Some(parse_u8(month)?);
            self.parsed.day = Some(parse_u8(day)?);
            return Ok(());
        }
        let (hour, minute, second) = match digits.len() {
            6 => (&digits[..2], &digits[2..4], &digits[4..]),
            4 if fraction.is_none() => (&digits[..2], &digits[2..], "0"),
            _ => return Err(Problem::Syntax),
        };
        let time = ClockTime {
            hour: parse_i32(hour)?.into(),
            minute: parse_i32(minute)?,
            second: parse_i32(second)?,
            micros: 0,
        };
        let time = with_fraction(time, fraction.unwrap_or(""))?;
        check_clock(time)?;
        self.time(time)
    }

    fn set_year(&mut self, text: &str) -> Result<(), Problem> {
        self.parsed.short_year = text.len() <= 2;
        self.parsed.year = Some(parse_i32(text)?);
        Ok(())
    }

    /// A number that is the year, the month or the day, by what is known already and the order.
    fn number(&mut self, text: &str) -> Result<(), Problem> {
        let long = text.len() >= 3;
        let order = self.ctx.date_order;
        let parsed = &self.parsed;
        let known = (
            parsed.year.is_some(),
            parsed.month.is_some(),
            parsed.day.is_some(),
        );
        if text.len() == 3 && known == (true, false, false) {
            let day = parse_i32(text)?;
            self.parsed.day_of_year = Some(day as u16);
            return Ok(());
        }
        match known {
            (false, false, false) if long || order == DateOrder::Ymd => self.set_year(text),
            (false, false, false) if order == DateOrder::Dmy => self.set_day(text),
            (false, false, false) => self.set_month(text),
            (true, false, false) | (false, false, true) => self.set_month(text),
            (false, true, false) if self.text_month && (long || order == DateOrder::Ymd) => {
                self.set_year(text)
            }
            (false, true, false) => self.set_day(text),
            (true, true, false) if self.text_month && long && self.parsed.short_year => {
                // The first number, taken for a short year, was the day.
                let day = self.parsed.year.unwrap_or(0);
                self.parsed.day = Some(u8::try_from(day).map_err(|_| Problem::DateOrder)?);
                self.set_year(text)
            }
            (true, true, false) => self.set_day(text),
            (false, true, true) => self.set_year(text),
            (true, false, true) => self.set_month(text),
            (true, true, true) => self.concatenated(text),
        }
    }

    fn set_month(&mut self, text: &str) -> Result<(), Problem> {
        self.parsed.month = Some(parse_u8(text)?);
        Ok(())
    }

    fn set_day(&mut self, text: &str) -> Result<(), Problem> {
        self.parsed.day = Some(parse_u8(text)?);
        Ok(())
    }
}

fn parse_i32(text: &str) -> Result<i32, Problem> {
    i32::try_from(parse_i64(text)?).map_err(|_| Problem::FieldRange)
}

fn parse_i64(text: &str) -> Result<i64, Problem> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Problem::Syntax);
    }
    text.parse().map_err(|_| Problem::FieldRange)
}

/// A month or a day; what is too large for a byte is too large for both.
fn parse_u8(text: &str) -> Result<u8, Problem> {
    u8::try_from(parse_i32(text)?).map_err(|_| Problem::DateOrder)
}

/// Adds the digits after a second's point, rounded to microseconds.
pub(in crate::format) fn with_fraction(
    time: ClockTime,
    digits: &str,
) -> Result<ClockTime, Problem> {
    if digits.is_empty() {
        return Ok(time);
    }
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Problem::Syntax);
    }
    let fraction: f64 = format!("0.{digits}").parse().map_err(|_| Problem::Syntax)?;
    // May be a whole second, which then carries over.
    Ok(ClockTime {
        micros: (fraction * 1e6).round_ties_even() as i32,
        ..time
    })
}

fn check_clock(time: ClockTime) -> Result<(), Problem> {
    let valid = (0..60).contains(&time.minute) && (0..=60).contains(&time.second);
    match valid {
        true => Ok(()),
        false => Err(Problem::FieldRange),
    }
}

/// `hh:mm[:ss[.fraction]]`, or `mm:ss.fraction`.
pub(in crate::format) fn parse_clock(text: &str) -> Result<ClockTime, Problem> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    let mut parts = clock.split(':');
    let hour = parse_i64(parts.next().unwrap_or(""))?;
    let mut next = || parts.next().map(parse_i32).transpose();
    let (second, third) = (next()?, next()?);
    if parts.next().is_some() {
        return Err(Problem::Syntax);
    }
    let clock = |hour, minute, second| ClockTime {
        hour,
        minute,
        second,
        micros: 0,
    };
    let time = match (second, third) {
        (Some(second), None) if fraction.is_some() => {
            let minute = i32::try_from(hour).map_err(|_| Problem::FieldRange)?;
            clock(0, minute, second)
        }
        (Some(minute), second) => clock(hour, minute, second.unwrap_or(0)),
        _ => return Err(Problem::Syntax),
    };
    let time = with_fraction(time, fraction.unwrap_or(""))?;
    check_clock(time)?;
    Ok(time)
}

/// Seconds east of UTC of `+hh[:mm[:ss]]` or `+hhmm`.
fn parse_offset(text: &str) -> Result<i32, Problem> {
    let (sign, digits) = text.split_at(1);
    let parts: Vec<&str> = digits.split(':').collect();
    let (hour, minute, second) = match parts.as_slice() {
        [one] if one.len() > 2 => {
            let value = parse_i32(one)?;
            (value / 100, value % 100, 0)
        }
        [hour] => (parse_i32(hour)?, 0, 0),
        [hour, minute] => (parse_i32(hour)?, parse_i32(minute)?, 0),
        [hour, minute, second] => (parse_i32(hour)?, parse_i32(minute)?, parse_i32(second)?),
        _ => return Err(Problem::Syntax),
    };
    if hour > 15 || minute > 59 || second > 59 {
        return Err(Problem::ZoneRange);
    }
    let east = hour * 3600 + minute * 60 + second;
    Ok(if sign == "-" { -east } else { east })
}
