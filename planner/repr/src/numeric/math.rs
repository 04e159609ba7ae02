//! Roots, powers, exponentials and logarithms, to the scale that Postgres chooses and correctly
//! rounded at it.
//!
//! A fixed-point number here is a big integer in units of `10^-digits`. Where a power's result at
//! Postgres's scale would not fit in 38 digits, it is rounded at the largest scale that fits.

use std::f64::consts::LOG10_E;

use num_bigint::{BigInt, Sign};
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::arith::{GROUP_DIGITS, SIG_DIGITS_MIN, result_scale};
use super::{Kind, Numeric, NumericError, wide};

/// Working digits beyond the result's scale.
const GUARD_DIGITS: u32 = 12;
/// Exact powers with up to this many digits are computed by multiplication.
const EXACT_POWER_DIGITS_MAX: u64 = 4000;
/// e to this power has more than 38 digits.
const EXP_ARGUMENT_MAX: f64 = 88.0;

impl Numeric {
    /// The square root.
    ///
    /// # Errors
    /// Of a negative number; overflow.
    pub fn sqrt(self) -> Result<Numeric, NumericError> {
        if self.is_negative() {
            return Err(NumericError::SqrtOfNegative);
        }
        if !self.is_finite() {
            return Ok(self);
        }
        let (weight, _) = self.leading_group();
        let root_weight = weight * GROUP_DIGITS / 2 + 1;
        let scale = result_scale((SIG_DIGITS_MIN - root_weight).max(i32::from(self.scale)));
        // In units of 10^-(scale + 1): the last digit decides how to round; a root is never exactly
        // between two numbers of the scale unless that digit is exact.
        let shift = 2 * (u32::from(scale) + 1);
        let shifted = match shift.checked_sub(u32::from(self.scale)) {
            Some(up) => BigInt::from(self.mantissa()) * wide::big_ten_to(up),
            None => BigInt::from(self.mantissa()) / wide::big_ten_to(u32::from(self.scale) - shift),
        };
        let root = wide::big_div_round(&shifted.sqrt(), &BigInt::from(10));
        Numeric::from_parts(wide::narrow(&root)?, scale)
    }

    /// e to the power of this number.
    ///
    /// # Errors
    /// Overflow.
    pub fn exp(self) -> Result<Numeric, NumericError> {
        match self.kind {
            Kind::Finite => {}
            Kind::NegInfinity => return Ok(Numeric::ZERO),
            Kind::Infinity | Kind::NaN => return Ok(self),
        }
        let argument = self.to_f64();
        let weight = argument * LOG10_E;
        let scale = scale_for_weight(weight).max(i32::from(self.scale));
        let digits = u32::from(self.scale);
        let exact = BigInt::from(self.mantissa());
        exp_rounded(&exact, digits, argument, result_scale(scale))
    }

    /// The natural logarithm.
    ///
    /// # Errors
    /// Of zero or a negative number; overflow.
    pub fn ln(self) -> Result<Numeric, NumericError> {
        self.check_log_argument()?;
        if !self.is_finite() {
            return Ok(self);
        }
        let scale = SIG_DIGITS_MIN - self.ln_weight();
        let scale = result_scale(scale.max(i32::from(self.scale)));
        let digits = u32::from(scale) + GUARD_DIGITS;
        round_fixed(&ln_fixed(&self, digits), digits, scale)
    }

    /// The logarithm to a base.
    ///
    /// # Errors
    /// Of (or to the base of) zero or a negative number; to base one: division by zero; overflow.
    pub fn log(self, base: Numeric) -> Result<Numeric, NumericError> {
        if self.is_nan() || base.is_nan() {
            return Ok(Numeric::NAN);
        }
        base.check_log_argument()?;
        self.check_log_argument()?;
        match (base.is_infinite(), self.is_infinite()) {
            (true, true) => return Ok(Numeric::NAN),
            (true, false) => return Ok(Numeric::ZERO),
            (false, true) => return Ok(self),
            (false, false) => {}
        }
        let base_weight = base.ln_weight();
        let scale = SIG_DIGITS_MIN - (self.ln_weight() - base_weight);
        let scale = result_scale(scale.max(i32::from(self.scale)).max(i32::from(base.scale)));
        // A base close to one makes a small divisor, which magnifies errors twice.
        let magnified = base_weight.min(0).unsigned_abs() * 2 + 40;
        let digits = u32::from(scale) + GUARD_DIGITS + magnified;
        let divisor = ln_fixed(&base, digits);
        if divisor.is_zero() {
            return Err(NumericError::DivisionByZero);
        }
        let numerator = ln_fixed(&self, digits) * wide::big_ten_to(u32::from(scale));
        Numeric::from_parts(
            wide::narrow(&wide::big_div_round(&numerator, &divisor))?,
            scale,
        )
    }

    /// The logarithm to base ten.
    ///
    /// # Errors
    /// As [`Numeric::log`].
    pub fn log10(self) -> Result<Numeric, NumericError> {
        self.log(Numeric::from(10i32))
    }

    fn check_log_argument(&self) -> Result<(), NumericError> {
        if self.is_negative() {
            Err(NumericError::LogOfNegative)
        } else if self.is_zero() {
            Err(NumericError::LogOfZero)
        } else {
            Ok(())
        }
    }

    /// An estimate of the decimal weight of the natural logarithm, which its scale follows.
    fn ln_weight(&self) -> i32 {
        let near_one = |tenths: i128| Numeric::finite_unchecked(tenths, 1);
        if *self >= near_one(9) && *self <= near_one(11) {
            // ln(1 + x) is about x.
            let Ok(x) = self.checked_sub(Numeric::ONE) else {
                return 0;
            };
            let (weight, first) = x.leading_group();
            return match first {
                0 => 0,
                first => weight * GROUP_DIGITS + f64::from(first).log10() as i32,
            };
        }
        (self.ln_f64().abs().log10()) as i32
    }

    /// The natural logarithm of a positive number, roughly.
    fn ln_f64(&self) -> f64 {
        (self.mantissa() as f64).ln() - f64::from(self.scale) * std::f64::consts::LN_10
    }

    /// This number to a power.
    ///
    /// # Errors
    /// Zero to a negative power; a negative number to a fraction; overflow.
    pub fn power(self, exponent: Numeric) -> Result<Numeric, NumericError> {
        if !self.is_finite() || !exponent.is_finite() {
            return self.power_special(exponent);
        }
        if self.is_zero() && exponent.is_negative() {
            return Err(NumericError::ZeroToNegativePower);
        }
        if self.is_negative() && !exponent.is_integral() {
            return Err(NumericError::ComplexPower);
        }
        let least = SIG_DIGITS_MIN
            .max(i32::from(self.scale))
            .max(i32::from(exponent.scale));
        if self.is_zero() {
            let value = Numeric::from(i32::from(exponent.is_zero()));
            return value.round(least);
        }
        match exponent.to_i32() {
            Ok(n) if exponent.is_integral() => self.power_int(n, result_scale(least)),
            Ok(_) | Err(_) => self.power_any(exponent),
        }
    }

    fn power_special(self, exponent: Numeric) -> Result<Numeric, NumericError> {
        if self == Numeric::ONE || exponent.is_zero() {
            return Ok(Numeric::ONE);
        }
        if self.is_nan() || exponent.is_nan() {
            return Ok(Numeric::NAN);
        }
        if exponent.is_infinite() {
            if self.is_zero() && exponent.is_negative() {
                return Err(NumericError::ZeroToNegativePower);
            }
            let magnitude = self.abs();
            if magnitude == Numeric::ONE {
                return Ok(Numeric::ONE);
            }
            let grows = (magnitude > Numeric::ONE) != exponent.is_negative();
            return Ok(match grows {
                true => Numeric::INFINITY,
                false => Numeric::ZERO,
            });
        }
        if self.is_negative() && !exponent.is_integral() {
            return Err(NumericError::ComplexPower);
        }
        Ok(if exponent.is_negative() {
            Numeric::ZERO
        } else if self.is_negative() && exponent.is_odd() {
            Numeric::NEG_INFINITY
        } else {
            Numeric::INFINITY
        })
    }

    /// Whether this integer is odd.
    fn is_odd(&self) -> bool {
        let canonical = self.key_canonical();
        canonical.scale == 0 && canonical.mantissa() % 2 != 0
    }

    /// A non-zero number to an integer power.
    fn power_int(self, n: i32, scale: u16) -> Result<Numeric, NumericError> {
        let canonical = self.key_canonical();
        let digits = wide::digit_count(canonical.mantissa().unsigned_abs());
        if u64::from(digits) * u64::from(n.unsigned_abs()) > EXACT_POWER_DIGITS_MAX {
            return self.power_by_ln(Numeric::from(n), scale);
        }
        let power = BigInt::from(canonical.mantissa()).pow(n.unsigned_abs());
        let power_scale = u32::from(canonical.scale) * n.unsigned_abs();
        // power / 10^power_scale, or its inverse.
        let (numerator, divisor) = match n {
            0.. => (power, wide::big_ten_to(power_scale)),
            _ => (wide::big_ten_to(power_scale), power),
        };
        let whole_digits = decimal_digits(&(&numerator / &divisor));
        let scale = fitting_scale(scale, whole_digits)?;
        let scaled = numerator * wide::big_ten_to(u32::from(scale));
        Numeric::from_parts(
            wide::narrow(&wide::big_div_round(&scaled, &divisor))?,
            scale,
        )
    }

    /// A non-zero number to a power that is not a small integer.
    fn power_any(self, exponent: Numeric) -> Result<Numeric, NumericError> {
        let weight = self.abs().ln_f64() * exponent.to_f64() * LOG10_E;
        let scale = scale_for_weight(weight)
            .max(i32::from(self.scale))
            .max(i32::from(exponent.scale));
        self.power_by_ln(exponent, result_scale(scale))
    }

    fn power_by_ln(self, exponent: Numeric, scale: u16) -> Result<Numeric, NumericError> {
        let estimate = self.abs().ln_f64() * exponent.to_f64();
        if estimate > EXP_ARGUMENT_MAX {
            return Err(NumericError::Overflow);
        }
        let exponent_digits = wide::digit_count(exponent.mantissa().unsigned_abs());
        let digits = u32::from(scale) + GUARD_DIGITS + exponent_digits + 40;
        let ln = ln_fixed(&self.abs(), digits);
        let product = ln * BigInt::from(exponent.mantissa());
        let product = wide::big_div_round(&product, &wide::big_ten_to(exponent.scale.into()));
        let result = exp_rounded(&product, digits, estimate, scale)?;
        Ok(if self.is_negative() && exponent.is_odd() {
            -result
        } else {
            result
        })
    }
}

/// The scale at which a number of this decimal weight shows enough digits.
fn scale_for_weight(weight: f64) -> i32 {
    SIG_DIGITS_MIN - weight.clamp(-2000.0, 2000.0) as i32
}

/// The scale, or less where so many digits before the point leave no room for it.
fn fitting_scale(scale: u16, whole_digits: u32) -> Result<u16, NumericError> {
    let room = 38u32
        .checked_sub(whole_digits)
        .ok_or(NumericError::Overflow)?;
    // A power below one has no digits before the point, but its scale counts the zeros after it.
    Ok(match whole_digits {
        0 => scale,
        _ => scale.min(room as u16),
    })
}

fn decimal_digits(value: &BigInt) -> u32 {
    match value.sign() {
        Sign::NoSign => 0,
        Sign::Plus | Sign::Minus => {
            u32::try_from(value.magnitude().to_string().len()).unwrap_or(u32::MAX)
        }
    }
}

fn round_fixed(value: &BigInt, digits: u32, scale: u16) -> Result<Numeric, NumericError> {
    let unit = wide::big_ten_to(digits - u32::from(scale));
    let mantissa = wide::narrow(&wide::big_div_round(value, &unit))?;
    Numeric::from_parts(mantissa, scale)
}

/// `2 * atanh(numerator / denominator)`.
fn two_atanh(numerator: &BigInt, denominator: &BigInt, unit: &BigInt) -> BigInt {
    let x = numerator * unit / denominator;
    let square = &x * &x / unit;
    let mut term = x.clone();
    let mut sum = x;
    let mut n = 1u32;
    loop {
        term = &term * &square / unit;
        if term.is_zero() {
            return sum * 2;
        }
        n += 2;
        sum += &term / n;
    }
}

fn ln_2(unit: &BigInt) -> BigInt {
    two_atanh(&BigInt::one(), &BigInt::from(3), unit)
}

/// The natural logarithm of a positive number.
fn ln_fixed(value: &Numeric, digits: u32) -> BigInt {
    // Some digits more, since the parts are sums of many truncated terms.
    let extra = 10;
    let unit = wide::big_ten_to(digits + extra);
    let count = wide::digit_count(value.mantissa().unsigned_abs());
    // value = y * 10^exponent with y in [1, 10).
    let exponent = i64::from(count) - 1 - i64::from(value.scale);
    let y = BigInt::from(value.mantissa()) * &unit / wide::big_ten_to(count - 1);
    // y / 2^halvings is close to one.
    let leading = value.mantissa() as f64 / 10f64.powi(count as i32 - 1);
    let halvings = leading.log2().round() as u32;
    let reduced = y >> halvings;
    let ln_reduced = two_atanh(&(&reduced - &unit), &(&reduced + &unit), &unit);
    let ln_2 = ln_2(&unit);
    let ln_10 = &ln_2 * 3u8 + two_atanh(&BigInt::one(), &BigInt::from(9), &unit);
    let total = ln_reduced + ln_2 * halvings + ln_10 * exponent;
    wide::big_div_round(&total, &wide::big_ten_to(extra))
}

/// e to the power of `argument` (in units of `10^-argument_digits`, about `estimate`), rounded.
fn exp_rounded(
    argument: &BigInt,
    argument_digits: u32,
    estimate: f64,
    scale: u16,
) -> Result<Numeric, NumericError> {
    if estimate > EXP_ARGUMENT_MAX {
        return Err(NumericError::Overflow);
    }
    if estimate * LOG10_E < -f64::from(scale) - 2.0 {
        return Numeric::from_parts(0, scale);
    }
    let whole_digits = (estimate * LOG10_E).max(0.0) as u32;
    let digits = u32::from(scale) + GUARD_DIGITS + whole_digits;
    let unit = wide::big_ten_to(digits);
    let argument = argument * &unit / wide::big_ten_to(argument_digits);
    // argument = doublings * ln 2 + rest
    let ln_2 = ln_2(&unit);
    let doublings = wide::big_div_round(&argument, &ln_2);
    let rest = argument - &doublings * ln_2;
    let mut term = unit.clone();
    let mut sum = unit.clone();
    let mut n = 0u32;
    while !term.is_zero() {
        n += 1;
        term = term * &rest / &unit / n;
        sum += &term;
    }
    let doublings = doublings.to_i64().expect("bounded by the estimate");
    let result = match doublings {
        0.. => sum << doublings,
        _ => sum >> doublings.unsigned_abs(),
    };
    let whole_digits = decimal_digits(&(result.abs() / &unit));
    round_fixed(&result, digits, fitting_scale(scale, whole_digits)?)
}
