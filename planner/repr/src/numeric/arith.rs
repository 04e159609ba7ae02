//! Addition, multiplication, division, with Postgres's result scales.

use super::{Kind, Numeric, NumericError, wide};

/// The least number of significant digits of a quotient, root or logarithm.
pub(super) const SIG_DIGITS_MIN: i32 = 16;
/// The greatest scale which division and the like choose by themselves.
pub(super) const RESULT_SCALE_MAX: i32 = 1000;
/// Decimal digits in one of Postgres's base-10000 digits, which its scale rules are built on.
pub(super) const GROUP_DIGITS: i32 = 4;

impl Numeric {
    fn signed_infinity(negative: bool) -> Numeric {
        if negative {
            Numeric::NEG_INFINITY
        } else {
            Numeric::INFINITY
        }
    }

    fn both_finite(&self, other: &Numeric) -> bool {
        self.kind == Kind::Finite && other.kind == Kind::Finite
    }

    /// The two mantissas at the larger of the two scales.
    #[inline]
    fn aligned(&self, other: &Numeric) -> Result<(i128, i128, u16), NumericError> {
        let (a, b) = (self.mantissa(), other.mantissa());
        if self.scale == other.scale {
            return Ok((a, b, self.scale));
        }
        if self.scale < other.scale {
            let a = wide::scale_up(a, u32::from(other.scale - self.scale))?;
            Ok((a, b, other.scale))
        } else {
            let b = wide::scale_up(b, u32::from(self.scale - other.scale))?;
            Ok((a, b, self.scale))
        }
    }

    /// The sum, at the larger scale.
    ///
    /// # Errors
    /// Overflow.
    #[inline]
    pub fn checked_add(self, other: Numeric) -> Result<Numeric, NumericError> {
        if !self.both_finite(&other) {
            return Ok(self.add_special(other));
        }
        let (a, b, scale) = self.aligned(&other)?;
        // Twice 10^38 does not fit an i128.
        Numeric::from_parts(a.checked_add(b).ok_or(NumericError::Overflow)?, scale)
    }

    fn add_special(self, other: Numeric) -> Numeric {
        match (self.kind, other.kind) {
            (Kind::NaN, _) | (_, Kind::NaN) => Numeric::NAN,
            (Kind::Infinity, Kind::NegInfinity) | (Kind::NegInfinity, Kind::Infinity) => {
                Numeric::NAN
            }
            (Kind::Finite, _) => other,
            (Kind::Infinity | Kind::NegInfinity, _) => self,
        }
    }

    /// The difference, at the larger scale.
    ///
    /// # Errors
    /// Overflow.
    #[inline]
    pub fn checked_sub(self, other: Numeric) -> Result<Numeric, NumericError> {
        self.checked_add(-other)
    }

    /// The product, exact, at the sum of the scales.
    ///
    /// # Errors
    /// Overflow.
    #[inline]
    pub fn checked_mul(self, other: Numeric) -> Result<Numeric, NumericError> {
        if !self.both_finite(&other) {
            return Ok(self.mul_special(other));
        }
        let product = self.mantissa().checked_mul(other.mantissa());
        Numeric::from_parts(
            product.ok_or(NumericError::Overflow)?,
            self.scale.saturating_add(other.scale),
        )
    }

    fn mul_special(self, other: Numeric) -> Numeric {
        if self.is_nan() || other.is_nan() || self.is_zero() || other.is_zero() {
            return Numeric::NAN;
        }
        Numeric::signed_infinity(self.is_negative() != other.is_negative())
    }

    /// The quotient, rounded half away from zero to at least 16 significant digits, and to no fewer
    /// digits after the point than either input has.
    ///
    /// # Errors
    /// Division by zero; overflow.
    #[inline]
    pub fn checked_div(self, other: Numeric) -> Result<Numeric, NumericError> {
        if !self.both_finite(&other) {
            return self.div_special(other);
        }
        if other.is_zero() {
            return Err(NumericError::DivisionByZero);
        }
        let scale = self.div_scale(&other);
        self.div_at_scale(other, scale)
    }

    fn div_special(self, other: Numeric) -> Result<Numeric, NumericError> {
        if self.is_nan() || other.is_nan() {
            return Ok(Numeric::NAN);
        }
        if other.is_zero() {
            return Err(NumericError::DivisionByZero);
        }
        Ok(match (self.kind, other.kind) {
            (Kind::Finite, _) => Numeric::ZERO,
            (_, Kind::Finite) => {
                Numeric::signed_infinity(self.is_negative() != other.is_negative())
            }
            (_, _) => Numeric::NAN,
        })
    }

    /// The quotient of finite numbers (the divisor not zero) at a given scale.
    pub(super) fn div_at_scale(self, other: Numeric, scale: u16) -> Result<Numeric, NumericError> {
        let (wanted, present) = (
            u32::from(scale) + u32::from(other.scale),
            u32::from(self.scale),
        );
        let quotient = match wanted.checked_sub(present) {
            Some(digits) => wide::mul_pow_div(self.mantissa(), digits, other.mantissa(), true)?,
            // The scale of results is limited: some digits of a very long fraction are cut off.
            None => wide::div_pow_round(self.mantissa(), other.mantissa(), present - wanted)?,
        };
        Numeric::from_parts(quotient, scale)
    }

    /// The scale of a quotient, which depends on the operands' leading base-10000 digits.
    fn div_scale(&self, other: &Numeric) -> u16 {
        let (a_weight, a_first) = self.leading_group();
        let (b_weight, b_first) = other.leading_group();
        let mut weight = a_weight - b_weight;
        if a_first <= b_first {
            weight -= 1;
        }
        let scale = (SIG_DIGITS_MIN - weight * GROUP_DIGITS)
            .max(i32::from(self.scale))
            .max(i32::from(other.scale));
        result_scale(scale)
    }

    /// The first non-zero base-10000 digit and its weight (0: the units); zeros for zero.
    pub(super) fn leading_group(&self) -> (i32, u32) {
        let magnitude = self.mantissa().unsigned_abs();
        if magnitude == 0 {
            return (0, 0);
        }
        let scale = i32::from(self.scale);
        let exponent = wide::digit_count(magnitude) as i32 - 1 - scale;
        let weight = exponent.div_euclid(GROUP_DIGITS);
        let drop = scale + weight * GROUP_DIGITS;
        let power = |n: i32| wide::ten_to(n as u32).unwrap_or(i128::MAX) as u128;
        let first = match drop {
            0.. => magnitude / power(drop),
            _ => magnitude * power(-drop),
        };
        (weight, first as u32)
    }

    /// The remainder with the sign of the dividend, at the larger scale.
    ///
    /// # Errors
    /// Division by zero; overflow.
    pub fn checked_rem(self, other: Numeric) -> Result<Numeric, NumericError> {
        if self.is_nan() || other.is_nan() {
            return Ok(Numeric::NAN);
        }
        if other.is_zero() {
            return Err(NumericError::DivisionByZero);
        }
        if self.is_infinite() {
            return Ok(Numeric::NAN);
        }
        if other.is_infinite() {
            return Ok(self);
        }
        match self.aligned(&other) {
            Ok((a, b, scale)) => Numeric::from_parts(a % b, scale),
            Err(_) => self.rem_wide(other),
        }
    }

    fn rem_wide(self, other: Numeric) -> Result<Numeric, NumericError> {
        let scale = self.scale.max(other.scale);
        let big = |n: Numeric| {
            num_bigint::BigInt::from(n.mantissa()) * wide::big_ten_to(u32::from(scale - n.scale))
        };
        Numeric::from_parts(wide::narrow(&(big(self) % big(other)))?, scale)
    }

    /// The quotient cut off to an integer: SQL's `div`.
    ///
    /// # Errors
    /// Division by zero; overflow.
    pub fn checked_div_trunc(self, other: Numeric) -> Result<Numeric, NumericError> {
        if !self.both_finite(&other) {
            return self.div_special(other);
        }
        if other.is_zero() {
            return Err(NumericError::DivisionByZero);
        }
        let (a, b) = (self.mantissa(), other.mantissa());
        let quotient = match other.scale.checked_sub(self.scale) {
            Some(digits) => wide::mul_pow_div(a, u32::from(digits), b, false)?,
            None => {
                // |a| < 10^38, so a divisor that overflows leaves nothing.
                let digits = u32::from(self.scale - other.scale);
                let divisor = wide::ten_to(digits).and_then(|power| b.checked_mul(power));
                divisor.map_or(0, |divisor| a / divisor)
            }
        };
        Numeric::from_parts(quotient, 0)
    }

    /// The absolute value.
    pub fn abs(self) -> Numeric {
        if self.is_negative() { -self } else { self }
    }

    /// -1, 0 or 1; NaN for NaN.
    pub fn signum(self) -> Numeric {
        if self.is_nan() {
            self
        } else if self.is_zero() {
            Numeric::ZERO
        } else if self.is_negative() {
            -Numeric::ONE
        } else {
            Numeric::ONE
        }
    }
}

/// Limits a scale to what operations choose by themselves.
pub(super) fn result_scale(scale: i32) -> u16 {
    scale.clamp(0, RESULT_SCALE_MAX) as u16
}

impl std::ops::Neg for Numeric {
    type Output = Numeric;

    #[inline]
    fn neg(self) -> Numeric {
        match self.kind {
            Kind::Finite => Numeric::finite_unchecked(-self.mantissa(), self.scale),
            Kind::Infinity => Numeric::NEG_INFINITY,
            Kind::NegInfinity => Numeric::INFINITY,
            Kind::NaN => Numeric::NAN,
        }
    }
}
