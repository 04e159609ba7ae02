//! Rounding.

use super::{Numeric, NumericError, SCALE_MAX, wide};
use crate::types::NumericTypmod;

/// The greatest and (negated) least scale that `round` and `trunc` accept.
const ROUND_SCALE_MAX: i32 = 2000;

impl Numeric {
    /// Rounds half away from zero to `scale` digits after (if negative: before) the point; pads with
    /// zeros where there are fewer.
    ///
    /// # Errors
    /// Overflow.
    pub fn round(self, scale: i32) -> Result<Numeric, NumericError> {
        self.rescale_with(scale, wide::scale_down_round)
    }

    /// Cuts off after `scale` digits after (if negative: before) the point; pads with zeros where
    /// there are fewer.
    ///
    /// # Errors
    /// Overflow.
    pub fn trunc(self, scale: i32) -> Result<Numeric, NumericError> {
        self.rescale_with(scale, |mantissa, digits| {
            wide::ten_to(digits).map_or(0, |power| mantissa / power)
        })
    }

    fn rescale_with(
        self,
        scale: i32,
        scale_down: impl Fn(i128, u32) -> i128,
    ) -> Result<Numeric, NumericError> {
        if !self.is_finite() {
            return Ok(self);
        }
        let scale = scale.clamp(-ROUND_SCALE_MAX, ROUND_SCALE_MAX);
        let own = i32::from(self.scale);
        let mantissa = self.mantissa();
        if scale >= own {
            let mantissa = wide::scale_up(mantissa, (scale - own) as u32)?;
            return Numeric::from_parts(mantissa, scale as u16);
        }
        let kept = scale_down(mantissa, (own - scale) as u32);
        match u16::try_from(scale) {
            Ok(scale) => Numeric::from_parts(kept, scale),
            Err(_) => Numeric::from_parts(wide::scale_up(kept, scale.unsigned_abs())?, 0),
        }
    }

    /// The least integer that is not less.
    ///
    /// # Errors
    /// Overflow.
    pub fn ceil(self) -> Result<Numeric, NumericError> {
        let whole = self.trunc(0)?;
        if self > whole {
            whole.checked_add(Numeric::ONE)
        } else {
            Ok(whole)
        }
    }

    /// The greatest integer that is not greater.
    ///
    /// # Errors
    /// Overflow.
    pub fn floor(self) -> Result<Numeric, NumericError> {
        let whole = self.trunc(0)?;
        if self < whole {
            whole.checked_sub(Numeric::ONE)
        } else {
            Ok(whole)
        }
    }

    /// Rounds to the declared scale and checks the declared precision.
    ///
    /// # Errors
    /// Field overflow.
    pub fn apply_typmod(self, typmod: NumericTypmod) -> Result<Numeric, NumericError> {
        let NumericTypmod { precision, scale } = typmod;
        let overflow = |infinite| NumericError::FieldOverflow {
            precision,
            scale,
            infinite,
        };
        if self.is_nan() {
            return Ok(self);
        }
        if self.is_infinite() {
            return Err(overflow(true));
        }
        let rounded = self.round(i32::from(scale)).map_err(|_| overflow(false))?;
        let whole_digits = i32::from(precision) - i32::from(scale);
        let digits = wide::digit_count(rounded.mantissa().unsigned_abs()) as i32;
        // The position of the first digit that is not zero; fits where it is below the limit.
        if rounded.is_zero() || digits - i32::from(rounded.scale) <= whole_digits {
            Ok(rounded)
        } else {
            Err(overflow(false))
        }
    }

    /// The least scale that shows the value exactly.
    pub fn min_scale(self) -> u16 {
        self.key_canonical().scale
    }

    /// The same value without trailing zeros after the point.
    pub fn trim_scale(self) -> Numeric {
        self.key_canonical()
    }

    /// Whether nothing follows the point. False for NaN and the infinities.
    pub fn is_integral(self) -> bool {
        self.is_finite() && self.min_scale() == 0
    }
}

const _: () = assert!(ROUND_SCALE_MAX <= SCALE_MAX as i32);
