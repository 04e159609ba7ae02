//! `to_char` of numbers and `to_number`: templates such as `FM999,990.00`.

use super::to_char::ordinal_ending;
use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use repr::{Datum, Numeric, RowArena, SqlType};

mod layout;

use layout::{Item, Layout, Sign};

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::fallible("int4_to_char", |_, _, a, arena| {
        write(Numeric::from(a[0].unwrap_int32()), a[1].unwrap_str(), arena)
    }),
    FuncDef::fallible("int8_to_char", |_, _, a, arena| {
        write(Numeric::from(a[0].unwrap_int64()), a[1].unwrap_str(), arena)
    }),
    FuncDef::fallible("float4_to_char", |_, _, a, arena| {
        write(
            Numeric::from_f32(a[0].unwrap_float32())?,
            a[1].unwrap_str(),
            arena,
        )
    }),
    FuncDef::fallible("float8_to_char", |_, _, a, arena| {
        write(
            Numeric::from_f64(a[0].unwrap_float64())?,
            a[1].unwrap_str(),
            arena,
        )
    }),
    FuncDef::fallible("numeric_to_char", |_, _, a, arena| {
        write(a[0].unwrap_numeric(), a[1].unwrap_str(), arena)
    }),
    FuncDef::fallible("numeric_to_number", numeric_to_number).nullable(),
];

fn write<'a>(value: Numeric, template: &str, arena: &'a RowArena) -> EvalResult<'a> {
    let layout = Layout::parse(template)?;
    let text = if value.is_nan() && !layout.roman && !layout.exponent && layout.pre >= "NaN".len() {
        " NaN".to_owned()
    } else if layout.roman {
        roman(value, layout.compact)
    } else if layout.exponent {
        exponential(value, &layout)?
    } else {
        Writer::new(value, &layout)?.write()
    };
    super::text::check_length(text.len())?;
    Ok(Datum::String(arena.push_string(text)))
}

/// The digits before and after the point of the absolute value.
fn digits(value: Numeric) -> (String, String) {
    let text = value.abs().to_string();
    match text.split_once('.') {
        Some((whole, fraction)) => (whole.to_owned(), fraction.to_owned()),
        None => (text, String::new()),
    }
}

/// The width of the longest Roman number, MMMDCCCLXXXVIII.
const ROMAN_WIDTH: usize = 15;

fn roman(value: Numeric, compact: bool) -> String {
    const PARTS: &[(i64, &str)] = &[
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let Some(mut rest) = value
        .round(0)
        .ok()
        .and_then(|v| v.to_i64().ok())
        .filter(|n| (1..4000).contains(n))
    else {
        return "#".repeat(ROMAN_WIDTH);
    };
    let mut text = String::new();
    for (part, letters) in PARTS {
        while rest >= *part {
            text.push_str(letters);
            rest -= part;
        }
    }
    if compact {
        text
    } else {
        format!("{text:>ROMAN_WIDTH$}")
    }
}

/// `9.99EEEE`: one digit, the point, and a power of ten.
fn exponential(value: Numeric, layout: &Layout) -> Result<String, EvalError> {
    let sign = if value.is_negative() {
        "-"
    } else if layout.compact {
        ""
    } else {
        " "
    };
    if !value.is_finite() {
        return Ok(format!("{sign}#.{}####", "#".repeat(layout.post)));
    }
    let (whole, fraction) = digits(value);
    // The power of the first digit that is not zero.
    let power = match whole.trim_start_matches('0').len() {
        0 => match fraction.find(|c| c != '0') {
            Some(at) => -(at as i32) - 1,
            None => 0,
        },
        length => length as i32 - 1,
    };
    let all = value.abs().mantissa();
    let scaled = |power: i32| -> Result<Numeric, EvalError> {
        // all / 10^scale / 10^power, rounded to `post` digits.
        let scale = i32::from(value.scale()) + power;
        let exact = match u16::try_from(scale) {
            Ok(scale) => Numeric::from_parts(all, scale)?,
            Err(_) => Numeric::from_i128(all)?
                .checked_mul(Numeric::from_parts(10i128.pow(scale.unsigned_abs()), 0)?)?,
        };
        Ok(exact.round(layout.post as i32)?)
    };
    let mut mantissa = scaled(power)?;
    let mut power = power;
    if mantissa >= Numeric::from(10) {
        power += 1;
        mantissa = scaled(power)?;
    }
    let exponent_sign = if power < 0 { '-' } else { '+' };
    Ok(format!(
        "{sign}{mantissa}e{exponent_sign}{:02}",
        power.abs()
    ))
}

/// Writes a number into a layout. Positions are those of the digits, from the left.
struct Writer<'l> {
    layout: &'l Layout,
    negative: bool,
    /// One per position before the point; shorter numbers are aligned to the right.
    whole: Vec<char>,
    /// How many positions before the point have no digit of the number.
    missing: usize,
    fraction: Vec<char>,
    /// How many digits after the point are written: all, or with `FM` those that matter.
    fraction_shown: usize,
    /// The number is below one and no `0` asks for its zero before the point.
    hides_zero: bool,
    /// The number has more digits than the layout has positions; hash signs are written.
    overflows: bool,
    sign_written: bool,
    digit_written: bool,
    out: String,
}

impl<'l> Writer<'l> {
    fn new(value: Numeric, layout: &'l Layout) -> Result<Writer<'l>, EvalError> {
        let shifted = match layout.shift {
            0 => value,
            shift if value.is_finite() => {
                value.checked_mul(Numeric::from_i128(10i128.pow(shift.min(38)))?)?
            }
            _ => value,
        };
        let positions = layout.pre + layout.shift as usize;
        let (whole, fraction) = match shifted.is_finite() {
            true => digits(shifted.round(layout.post as i32)?),
            // Neither NaN nor an infinity has digits.
            false => ("#".repeat(positions + 1), "#".repeat(layout.post)),
        };
        let overflows = whole.len() > positions;
        let (whole, fraction) = match overflows {
            true => ("#".repeat(positions), "#".repeat(layout.post)),
            false => (whole, fraction),
        };
        let hides_zero = whole == "0" && layout.post > 0 && layout.first_zero.is_none();
        let relevant = fraction
            .trim_end_matches('0')
            .len()
            .max(layout.fraction_kept);
        Ok(Writer {
            layout,
            negative: shifted.is_negative()
                && !(shifted.is_finite() && shifted.round(layout.post as i32)?.is_zero()),
            missing: positions - whole.len(),
            whole: whole.chars().collect(),
            fraction_shown: if layout.compact {
                relevant.min(fraction.len())
            } else {
                fraction.len()
            },
            fraction: fraction.chars().collect(),
            hides_zero,
            overflows,
            sign_written: layout.sign == Sign::Apart
                || (layout.compact && !value.is_negative() && layout.sign == Sign::Floating),
            digit_written: false,
            out: String::new(),
        })
    }

    fn write(mut self) -> String {
        let (mut position, mut after_point) = (0, 0);
        let mut in_fraction = false;
        for item in &self.layout.items {
            match item {
                Item::Char(c) => self.out.push(*c),
                Item::Digit | Item::Zero if in_fraction => {
                    if after_point < self.fraction_shown {
                        let digit = self.fraction[after_point];
                        self.digit(digit);
                    }
                    after_point += 1;
                }
                Item::Digit | Item::Zero => {
                    self.whole_digit(position);
                    position += 1;
                }
                Item::Point => {
                    in_fraction = true;
                    // A point with nothing after it is only written behind hash signs.
                    if self.layout.post > 0 || self.overflows {
                        self.leading_sign();
                        self.out.push('.');
                    }
                }
                Item::Group if self.digit_written => self.out.push(','),
                Item::Group | Item::Currency => self.blank(),
                Item::Minus if self.negative => self.out.push('-'),
                Item::Plus if !self.negative => self.out.push('+'),
                Item::Minus | Item::Plus => self.blank(),
                Item::Sign => self.out.push(if self.negative { '-' } else { '+' }),
                Item::Ordinal(case) => {
                    if !self.negative && !in_fraction && !self.overflows {
                        let ending = ordinal_ending(&self.out, *case);
                        self.out.push_str(ending);
                    }
                }
            }
            let ended =
                position == self.missing + self.whole.len() && after_point == self.layout.post;
            if ended && matches!(item, Item::Digit | Item::Zero | Item::Point) {
                self.trailing_sign();
            }
        }
        self.out
    }

    fn whole_digit(&mut self, position: usize) {
        if position >= self.missing {
            if !self.hides_zero {
                let digit = self.whole[position - self.missing];
                self.digit(digit);
            } else if self.layout.compact && self.fraction_shown == 0 {
                // A zero without anything after the point needs a digit.
                self.digit('0');
            } else {
                self.blank();
            }
        } else if self
            .layout
            .first_zero
            .is_some_and(|first| first <= position)
        {
            self.digit('0');
        } else {
            self.blank();
        }
    }

    fn digit(&mut self, digit: char) {
        self.leading_sign();
        self.out.push(digit);
        self.digit_written = true;
    }

    fn blank(&mut self) {
        if !self.layout.compact {
            self.out.push(' ');
        }
    }

    /// The sign in front of the first digit.
    fn leading_sign(&mut self) {
        if std::mem::replace(&mut self.sign_written, true) {
            return;
        }
        match (self.layout.sign, self.negative) {
            (Sign::Floating, true) | (Sign::Leading, true) => self.out.push('-'),
            (Sign::Floating, false) => self.blank(),
            (Sign::Leading, false) => self.out.push('+'),
            (Sign::Angled, true) => self.out.push('<'),
            (Sign::Angled, false) => self.blank(),
            (Sign::Trailing, _) | (Sign::Apart, _) => {}
        }
    }

    /// The sign behind the last digit.
    fn trailing_sign(&mut self) {
        match (self.layout.sign, self.negative) {
            (Sign::Trailing, true) => self.out.push('-'),
            (Sign::Trailing, false) => self.out.push('+'),
            (Sign::Angled, true) => self.out.push('>'),
            (Sign::Angled, false) => self.blank(),
            (Sign::Floating | Sign::Leading | Sign::Apart, _) => {}
        }
    }
}

/// Reads a number that is written as the template says; separators and other characters are skipped.
fn numeric_to_number<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    _: &'a RowArena,
) -> EvalResult<'a> {
    let template = a[1].unwrap_str();
    if template.is_empty() {
        return Ok(Datum::Null);
    }
    let layout = Layout::parse(template)?;
    if layout.roman || layout.exponent {
        let name = if layout.roman { "RN" } else { "EEEE" };
        return Err(EvalError::new(
            "0A000",
            format!("\"{name}\" not supported for input"),
        ));
    }
    let mut text = a[0].unwrap_str().trim_start();
    let mut number = String::new();
    let mut negative = false;
    for item in &layout.items {
        // A sign is taken wherever it stands.
        if let Some(rest) = text.strip_prefix(['-', '<']) {
            (negative, text) = (true, rest);
        } else if let Some(rest) = text.strip_prefix('+') {
            text = rest;
        }
        match item {
            Item::Digit | Item::Zero => {
                if let Some(digit) = text.chars().next().filter(char::is_ascii_digit) {
                    number.push(digit);
                    text = &text[1..];
                } else if let Some(rest) = text.strip_prefix(' ') {
                    // A blank takes the position of a digit.
                    text = rest;
                }
            }
            Item::Point => {
                if let Some(rest) = text.strip_prefix('.') {
                    number.push('.');
                    text = rest;
                }
            }
            Item::Group => text = text.strip_prefix(',').unwrap_or(text),
            Item::Currency => text = text.strip_prefix('$').unwrap_or(text),
            Item::Char(c) => text = text.strip_prefix(*c).unwrap_or(text),
            Item::Minus | Item::Plus | Item::Sign | Item::Ordinal(_) => {}
        }
    }
    negative |= text.trim_start().starts_with('-');
    if number.is_empty() || number == "." {
        return Err(EvalError::new(
            "22P02",
            format!(
                "invalid input syntax for type numeric: \"{}\"",
                a[0].unwrap_str()
            ),
        ));
    }
    let parsed = Numeric::parse(&number).map_err(|_| {
        EvalError::new(
            "22P02",
            format!(
                "invalid input syntax for type numeric: \"{}\"",
                a[0].unwrap_str()
            ),
        )
    })?;
    Ok(Datum::Numeric(if negative { -parsed } else { parsed }))
}
