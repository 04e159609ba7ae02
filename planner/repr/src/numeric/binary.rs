//! Postgres's binary numeric: base-10000 digits.

use bytes::{BufMut, BytesMut};

use super::arith::GROUP_DIGITS;
use super::{Numeric, NumericError, SCALE_MAX, wide};

const SIGN_POSITIVE: u16 = 0x0000;
const SIGN_NEGATIVE: u16 = 0x4000;
const SIGN_NAN: u16 = 0xc000;
const SIGN_INFINITY: u16 = 0xd000;
const SIGN_NEG_INFINITY: u16 = 0xf000;

/// What Postgres writes as the scale of an infinity.
const INFINITY_SCALE: u16 = 0x20;

/// Why bytes are not a binary numeric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumericBinaryError {
    /// The bytes end early or do not end.
    Length,
    /// No such sign.
    Sign,
    /// The scale is out of range.
    Scale,
    /// A digit is not below 10000.
    Digit,
    /// The number is too large.
    Overflow,
}

impl From<NumericError> for NumericBinaryError {
    fn from(_: NumericError) -> NumericBinaryError {
        NumericBinaryError::Overflow
    }
}

impl Numeric {
    /// Appends Postgres's binary form.
    pub fn write_binary(&self, out: &mut BytesMut) {
        let mut put = |word: u16| out.put_u16(word);
        if !self.is_finite() {
            let (sign, scale) = if self.is_nan() {
                (SIGN_NAN, 0)
            } else if self.is_negative() {
                (SIGN_NEG_INFINITY, INFINITY_SCALE)
            } else {
                (SIGN_INFINITY, INFINITY_SCALE)
            };
            [0, 0, sign, scale].into_iter().for_each(put);
            return;
        }
        let (groups, weight) = self.groups();
        let sign = match self.is_negative() {
            true => SIGN_NEGATIVE,
            false => SIGN_POSITIVE,
        };
        put(groups.len() as u16);
        put(weight as u16);
        put(sign);
        put(self.scale);
        groups.into_iter().for_each(put);
    }

    /// The base-10000 digits without leading and trailing zeros, and the weight of the first.
    fn groups(&self) -> (Vec<u16>, i16) {
        let mut rest = self.mantissa().unsigned_abs();
        if rest == 0 {
            return (Vec::new(), 0);
        }
        let mut groups = Vec::with_capacity(12);
        let group = GROUP_DIGITS as u32;
        // The last group holds what is left of the scale; its weight is that of its last digit.
        let partial = u32::from(self.scale) % group;
        let mut weight = -(i32::from(self.scale) / GROUP_DIGITS);
        if partial > 0 {
            weight -= 1;
            let base = 10u128.pow(partial);
            groups.push((rest % base) as u16 * 10u16.pow(group - partial));
            rest /= base;
        }
        while rest > 0 {
            groups.push((rest % 10_000) as u16);
            rest /= 10_000;
        }
        let first_weight = weight + groups.len() as i32 - 1;
        let zeros = groups.iter().take_while(|g| **g == 0).count();
        groups.drain(..zeros);
        groups.reverse();
        (groups, first_weight as i16)
    }

    /// Reads Postgres's binary form.
    ///
    /// # Errors
    /// If the bytes are no numeric, or one with more than 38 digits.
    pub fn parse_binary(bytes: &[u8]) -> Result<Numeric, NumericBinaryError> {
        let mut words = bytes
            .chunks(2)
            .map(|pair| <[u8; 2]>::try_from(pair).map(u16::from_be_bytes));
        let mut next = || match words.next() {
            Some(Ok(word)) => Ok(word),
            Some(Err(_)) | None => Err(NumericBinaryError::Length),
        };
        let (count, weight, sign, scale) = (next()?, next()? as i16, next()?, next()?);
        if bytes.len() != 8 + 2 * usize::from(count) {
            return Err(NumericBinaryError::Length);
        }
        let negative = match sign {
            SIGN_POSITIVE => false,
            SIGN_NEGATIVE => true,
            SIGN_NAN => return Ok(Numeric::NAN),
            SIGN_INFINITY => return Ok(Numeric::INFINITY),
            SIGN_NEG_INFINITY => return Ok(Numeric::NEG_INFINITY),
            _ => return Err(NumericBinaryError::Sign),
        };
        if scale > SCALE_MAX {
            return Err(NumericBinaryError::Scale);
        }
        let mut mantissa = 0;
        let mut exponent = (i32::from(weight) + 1) * GROUP_DIGITS;
        for _ in 0..count {
            let digit = next()?;
            if digit >= 10_000 {
                return Err(NumericBinaryError::Digit);
            }
            // Digits beyond the declared scale are dropped below; those that start beyond it must not
            // overflow.
            if exponent > -i32::from(scale) {
                mantissa = append_group(mantissa, digit)?;
                exponent -= GROUP_DIGITS;
            }
        }
        let number = with_exponent(mantissa, exponent, scale)?;
        Ok(if negative { -number } else { number })
    }
}

fn append_group(mantissa: i128, digit: u16) -> Result<i128, NumericBinaryError> {
    // Below 1.7 * 10^38: the last digits may still be cut off by the scale.
    let shifted = mantissa.checked_mul(10_000);
    shifted
        .and_then(|m| m.checked_add(i128::from(digit)))
        .ok_or(NumericBinaryError::Overflow)
}

/// `mantissa * 10^exponent` at a scale, cutting off what the scale does not show.
fn with_exponent(mantissa: i128, exponent: i32, scale: u16) -> Result<Numeric, NumericBinaryError> {
    let up = exponent + i32::from(scale);
    let mantissa = match up {
        0.. => wide::scale_up(mantissa, up.unsigned_abs())?,
        _ => wide::ten_to(up.unsigned_abs()).map_or(0, |power| mantissa / power),
    };
    Ok(Numeric::from_parts(mantissa, scale)?)
}
