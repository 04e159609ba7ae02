//! Numerics as decimal text.

use std::fmt;

use super::Numeric;

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
        let scale = usize::from(self.scale());
        let digits = self.mantissa().unsigned_abs().to_string();
        if self.is_negative() {
            f.write_str("-")?;
        }
        if scale == 0 {
            return f.write_str(&digits);
        }
        match digits.len().checked_sub(scale).filter(|whole| *whole > 0) {
            Some(whole) => write!(f, "{}.{}", &digits[..whole], &digits[whole..]),
            None => write!(f, "0.{digits:0>scale$}"),
        }
    }
}

impl fmt::Debug for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
