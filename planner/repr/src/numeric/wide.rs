//! Integer helpers around and beyond 128 bits.

use std::cmp::Ordering;

use num_bigint::{BigInt, Sign};
use num_traits::ToPrimitive;

use super::NumericError;

/// 10^38, the least mantissa that is too large.
pub(super) const TEN_TO_38: i128 = 10i128.pow(38);

const POWERS: [i128; 39] = {
    let mut powers = [1i128; 39];
    let mut i = 1;
    while i < 39 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// 10^n if it fits (n <= 38).
#[inline]
pub(super) fn ten_to(n: u32) -> Option<i128> {
    POWERS.get(n as usize).copied()
}

/// The number of decimal digits; 0 for 0.
pub(super) fn digit_count(magnitude: u128) -> u32 {
    match magnitude {
        0 => 0,
        m => m.ilog10() + 1,
    }
}

/// `mantissa * 10^digits` if it is a valid mantissa.
#[inline]
pub(super) fn scale_up(mantissa: i128, digits: u32) -> Result<i128, NumericError> {
    if mantissa == 0 {
        return Ok(0);
    }
    ten_to(digits)
        .and_then(|power| mantissa.checked_mul(power))
        .filter(|product| product.unsigned_abs() < TEN_TO_38 as u128)
        .ok_or(NumericError::Overflow)
}

/// `mantissa / 10^digits`, rounded half away from zero.
#[inline]
pub(super) fn scale_down_round(mantissa: i128, digits: u32) -> i128 {
    // More than 38 digits leave less than a half.
    let Some(power) = ten_to(digits) else {
        return 0;
    };
    let (quotient, rest) = (mantissa / power, mantissa % power);
    // No overflow: |rest| < 10^38 and i128 holds 1.7 * 10^38.
    if rest.unsigned_abs() >= power as u128 - rest.unsigned_abs() {
        quotient + mantissa.signum()
    } else {
        quotient
    }
}

/// Compares `a / 10^a_scale` with `b / 10^b_scale`.
pub(super) fn cmp_scaled(a: i128, a_scale: u16, b: i128, b_scale: u16) -> Ordering {
    if a_scale > b_scale {
        return cmp_scaled(b, b_scale, a, a_scale).reverse();
    }
    // `a` has the smaller scale: bring it up. If that overflows, `a` is larger than any mantissa.
    let widened = ten_to(u32::from(b_scale - a_scale)).and_then(|power| a.checked_mul(power));
    match widened {
        Some(a) => a.cmp(&b),
        None if a == 0 => 0.cmp(&b),
        None => a.cmp(&0),
    }
}

/// A big integer as a mantissa.
pub(super) fn narrow(value: &BigInt) -> Result<i128, NumericError> {
    value
        .to_i128()
        .filter(|m| m.unsigned_abs() < TEN_TO_38 as u128)
        .ok_or(NumericError::Overflow)
}

/// 10^n.
pub(super) fn big_ten_to(n: u32) -> BigInt {
    BigInt::from(10).pow(n)
}

/// `a / b` rounded half away from zero.
pub(super) fn big_div_round(a: &BigInt, b: &BigInt) -> BigInt {
    let (quotient, rest) = (a / b, a % b);
    if rest.magnitude() * 2u8 < *b.magnitude() {
        return quotient;
    }
    match (a.sign() == Sign::Minus) == (b.sign() == Sign::Minus) {
        true => quotient + 1,
        false => quotient - 1,
    }
}

/// `a / b / 10^digits` rounded half away from zero.
pub(super) fn div_pow_round(a: i128, b: i128, digits: u32) -> Result<i128, NumericError> {
    narrow(&big_div_round(
        &BigInt::from(a),
        &(BigInt::from(b) * big_ten_to(digits)),
    ))
}

/// `a * 10^digits / b` rounded half away from zero (or cut off, without `round`).
pub(super) fn mul_pow_div(
    a: i128,
    digits: u32,
    b: i128,
    round: bool,
) -> Result<i128, NumericError> {
    let Some(power) = ten_to(digits) else {
        let numerator = BigInt::from(a) * big_ten_to(digits);
        let quotient = match round {
            true => big_div_round(&numerator, &BigInt::from(b)),
            false => numerator / b,
        };
        return narrow(&quotient);
    };
    let divisor = b.unsigned_abs();
    let (quotient, rest) = match a.unsigned_abs().checked_mul(power as u128) {
        Some(numerator) => (numerator / divisor, numerator % divisor),
        None => {
            let (high, low) = mul_wide(a.unsigned_abs(), power as u128);
            if high >= divisor {
                return Err(NumericError::Overflow);
            }
            div_wide(high, low, divisor)
        }
    };
    let quotient = if round && rest >= divisor - rest {
        quotient.checked_add(1).ok_or(NumericError::Overflow)?
    } else {
        quotient
    };
    if quotient >= TEN_TO_38 as u128 {
        return Err(NumericError::Overflow);
    }
    Ok(if (a < 0) == (b < 0) {
        quotient as i128
    } else {
        -(quotient as i128)
    })
}

const HALF_MASK: u128 = u64::MAX as u128;

/// The 256-bit product as (high, low).
fn mul_wide(a: u128, b: u128) -> (u128, u128) {
    let (a1, a0, b1, b0) = (a >> 64, a & HALF_MASK, b >> 64, b & HALF_MASK);
    let low = a0 * b0;
    let mid = a1 * b0 + (low >> 64);
    let mid2 = a0 * b1 + (mid & HALF_MASK);
    let high = a1 * b1 + (mid >> 64) + (mid2 >> 64);
    (high, (mid2 << 64) | (low & HALF_MASK))
}

/// Schoolbook division of a 256-bit number by a 128-bit one in base 2^64. The quotient must fit, i.e.
/// `high < divisor`.
fn div_wide(high: u128, low: u128, divisor: u128) -> (u128, u128) {
    assert!(high < divisor, "quotient of div_wide must fit");
    let shift = divisor.leading_zeros();
    let divisor = divisor << shift;
    let high = match shift {
        0 => high,
        shift => (high << shift) | (low >> (128 - shift)),
    };
    let low = low << shift;
    let (q1, rest) = div_step(high, low >> 64, divisor);
    let (q0, rest) = div_step(rest, low & HALF_MASK, divisor);
    ((q1 << 64) | q0, rest >> shift)
}

/// One digit: `(high * 2^64 + next) / divisor` for a normalized divisor and `high < divisor`.
fn div_step(high: u128, next: u128, divisor: u128) -> (u128, u128) {
    let (d1, d0) = (divisor >> 64, divisor & HALF_MASK);
    let (mut digit, mut rest) = (high / d1, high % d1);
    // The estimate is at most two too large.
    while digit > HALF_MASK || digit * d0 > ((rest << 64) | next) {
        digit -= 1;
        rest += d1;
        if rest > HALF_MASK {
            break;
        }
    }
    let rest = (high << 64)
        .wrapping_add(next)
        .wrapping_sub(digit.wrapping_mul(divisor));
    (digit, rest)
}

#[cfg(test)]
mod tests {
    use num_bigint::{BigInt, BigUint};
    use proptest::prelude::*;

    use super::*;

    fn mantissa() -> impl Strategy<Value = i128> {
        prop_oneof![
            -(TEN_TO_38 - 1)..TEN_TO_38,
            any::<i64>().prop_map(i128::from),
            (0u32..38, -9i128..10).prop_map(|(n, d)| d * 10i128.pow(n)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn wide_products_and_quotients_are_exact(a in any::<u128>(), b in any::<u128>(), d in 1u128..) {
            let (high, low) = mul_wide(a, b);
            let product = BigUint::from(a) * b;
            prop_assert_eq!((BigUint::from(high) << 128) + low, product.clone());
            if high < d {
                let (quotient, rest) = div_wide(high, low, d);
                prop_assert_eq!(BigUint::from(quotient), &product / d);
                prop_assert_eq!(BigUint::from(rest), &product % d);
            }
        }

        #[test]
        fn division_rounds_like_big_integers(a in mantissa(), digits in 0u32..60, b in mantissa(), round: bool) {
            prop_assume!(b != 0);
            let numerator = BigInt::from(a) * big_ten_to(digits);
            let exact = match round {
                true => big_div_round(&numerator, &BigInt::from(b)),
                false => numerator / b,
            };
            prop_assert_eq!(mul_pow_div(a, digits, b, round), narrow(&exact));
        }

        #[test]
        fn rescaling_is_like_big_integers(a in mantissa(), digits in 0u32..50) {
            let power = big_ten_to(digits);
            prop_assert_eq!(scale_up(a, digits), narrow(&(BigInt::from(a) * &power)));
            let rounded = big_div_round(&BigInt::from(a), &power);
            prop_assert_eq!(Ok(scale_down_round(a, digits)), narrow(&rounded));
        }

        #[test]
        fn comparison_is_like_big_integers(a in mantissa(), a_scale in 0u16..80, b in mantissa(), b_scale in 0u16..80) {
            let exact = (BigInt::from(a) * big_ten_to(b_scale.into()))
                .cmp(&(BigInt::from(b) * big_ten_to(a_scale.into())));
            prop_assert_eq!(cmp_scaled(a, a_scale, b, b_scale), exact);
        }
    }
}
