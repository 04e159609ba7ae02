//! Numerics as decimal text.

use std::fmt;

use super::{Numeric, NumericError, SCALE_MAX, wide};

/// Why text is not a numeric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumericParseError {
    /// The text is no number.
    Syntax,
    /// The number is too large.
    Overflow,
}

impl From<NumericError> for NumericParseError {
    fn from(_: NumericError) -> NumericParseError {
        NumericParseError::Overflow
    }
}

impl Numeric {
    /// Reads `[+-]digits[.digits][e[+-]digits]`, `NaN`, `[+-]Infinity` or `[+-]inf`, with blanks
    /// around. The scale is the number of digits given after the point (once the exponent has moved
    /// it).
    ///
    /// # Errors
    /// Syntax; overflow.
    pub fn parse(text: &str) -> Result<Numeric, NumericParseError> {
        let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
        let (negative, body) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if let Some(special) = parse_special(text, body, negative) {
            return Ok(special);
        }
        let number = parse_finite(body)?;
        Ok(if negative { -number } else { number })
    }
}

fn parse_special(text: &str, body: &str, negative: bool) -> Option<Numeric> {
    if text.eq_ignore_ascii_case("nan") {
        return Some(Numeric::NAN);
    }
    if body.eq_ignore_ascii_case("infinity") || body.eq_ignore_ascii_case("inf") {
        return Some(if negative {
            Numeric::NEG_INFINITY
        } else {
            Numeric::INFINITY
        });
    }
    None
}

fn parse_finite(body: &str) -> Result<Numeric, NumericParseError> {
    let (digits, exponent) = match body.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, parse_exponent(exponent)?),
        None => (body, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(NumericParseError::Syntax);
    }
    let mut mantissa: i128 = 0;
    let mut overflow = false;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return Err(NumericParseError::Syntax);
        }
        mantissa = match mantissa.checked_mul(10) {
            Some(m) if m < wide::TEN_TO_38 => m + i128::from(digit - b'0'),
            _ => {
                overflow = true;
                mantissa
            }
        };
    }
    let given = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    let scale = given.saturating_sub(i64::from(exponent));
    if overflow || scale > i64::from(SCALE_MAX) {
        return Err(NumericParseError::Overflow);
    }
    match u16::try_from(scale) {
        Ok(scale) => Ok(Numeric::from_parts(mantissa, scale)?),
        Err(_) => {
            let digits = u32::try_from(-scale).map_err(|_| NumericParseError::Overflow)?;
            Ok(Numeric::from_parts(wide::scale_up(mantissa, digits)?, 0)?)
        }
    }
}

fn parse_exponent(text: &str) -> Result<i32, NumericParseError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NumericParseError::Syntax);
    }
    // Only the range can be wrong now.
    match text.parse::<i32>() {
        Ok(exponent) if exponent.unsigned_abs() < i32::MAX as u32 / 2 => Ok(exponent),
        _ => Err(NumericParseError::Overflow),
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_finite() {
            return f.write_str(if self.is_nan() {
                "NaN"
            } else if self.is_negative() {
                "-Infinity"
            } else {
                "Infinity"
            });
        }
        // Digits are made from the right; 39 of them at most.
        let mut buffer = [b'0'; 40];
        let mut at = buffer.len();
        let mut rest = self.mantissa().unsigned_abs();
        while rest > 0 {
            // Long divisions by 10 are slow: take eighteen digits at a time.
            let mut low = (rest % 10u128.pow(18)) as u64;
            rest /= 10u128.pow(18);
            for _ in 0..18 {
                if low == 0 && rest == 0 {
                    break;
                }
                at -= 1;
                buffer[at] = b'0' + (low % 10) as u8;
                low /= 10;
            }
        }
        let digits = std::str::from_utf8(&buffer[at..]).expect("ASCII digits");
        if self.is_negative() {
            f.write_str("-")?;
        }
        let scale = usize::from(self.scale());
        match digits.len().checked_sub(scale).filter(|whole| *whole > 0) {
            Some(whole) if scale == 0 => f.write_str(&digits[..whole]),
            Some(whole) => {
                f.write_str(&digits[..whole])?;
                f.write_str(".")?;
                f.write_str(&digits[whole..])
            }
            None if scale == 0 => f.write_str("0"),
            None => write!(f, "0.{digits:0>scale$}"),
        }
    }
}

impl fmt::Debug for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
