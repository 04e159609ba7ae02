//! Exact decimal numbers.
//!
//! A finite [`Numeric`] is an integer of up to 38 digits and a display scale: `mantissa / 10^scale`.
//! The scale is part of the value (`1.0` and `1.00` print differently) but not of its SQL equality.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};
use thiserror::Error;

mod arith;
mod binary;
mod convert;
mod math;
mod round;
mod text;
mod wide;

pub use binary::NumericBinaryError;
pub use text::NumericParseError;

/// The greatest display scale, as in Postgres.
pub const SCALE_MAX: u16 = 16_383;

/// Why an operation on numerics has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NumericError {
    /// The result needs more than 38 digits.
    #[error("value overflows numeric format")]
    Overflow,
    /// Division by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// Logarithm of zero.
    #[error("cannot take logarithm of zero")]
    LogOfZero,
    /// Logarithm of a negative number.
    #[error("cannot take logarithm of a negative number")]
    LogOfNegative,
    /// Square root of a negative number.
    #[error("cannot take square root of a negative number")]
    SqrtOfNegative,
    /// A negative number raised to a fraction.
    #[error("a negative number raised to a non-integer power yields a complex result")]
    ComplexPower,
    /// Zero raised to a negative power.
    #[error("zero raised to a negative power is undefined")]
    ZeroToNegativePower,
    /// The value does not fit the target type; holds the type's SQL name.
    #[error("{0} out of range")]
    OutOfRange(&'static str),
    /// NaN or an infinity cannot be converted to the target type.
    #[error("cannot convert {value} to {target}")]
    NotFinite {
        /// "NaN" or "infinity".
        value: &'static str,
        /// The target type's SQL name.
        target: &'static str,
    },
    /// The value does not fit `numeric(precision, scale)`.
    #[error("numeric field overflow")]
    FieldOverflow {
        /// The declared precision.
        precision: u16,
        /// The declared scale.
        scale: i16,
        /// Whether the value was an infinity.
        infinite: bool,
    },
}

impl NumericError {
    /// The five-character SQLSTATE.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            NumericError::Overflow
            | NumericError::OutOfRange(_)
            | NumericError::FieldOverflow { .. } => "22003",
            NumericError::DivisionByZero => "22012",
            NumericError::LogOfZero | NumericError::LogOfNegative => "2201E",
            NumericError::SqrtOfNegative
            | NumericError::ComplexPower
            | NumericError::ZeroToNegativePower => "2201F",
            NumericError::NotFinite { .. } => "0A000",
        }
    }

    /// The DETAIL line, if any.
    pub fn detail(&self) -> Option<String> {
        let NumericError::FieldOverflow {
            precision,
            scale,
            infinite,
        } = *self
        else {
            return None;
        };
        let field = format!("A field with precision {precision}, scale {scale}");
        if infinite {
            return Some(format!("{field} cannot hold an infinite value."));
        }
        let power = i32::from(precision) - i32::from(scale);
        let (prefix, power) = match power {
            0 => ("1", String::new()),
            power => ("10^", power.to_string()),
        };
        Some(format!(
            "{field} must round to an absolute value less than {prefix}{power}."
        ))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
enum Kind {
    // In SQL order.
    NegInfinity,
    Finite,
    Infinity,
    NaN,
}

/// An exact decimal number, NaN or an infinity. `Eq`, `Ord` and `Hash` go by value: `1.0 = 1.00`,
/// NaN equals itself and is greatest.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "NumericParts")]
#[repr(C)]
pub struct Numeric {
    // The mantissa as two words, which keeps the alignment at 8 and a `Datum` at 24 bytes.
    // Invariant: |mantissa| < 10^38; zero, with scale zero, unless the kind is Finite.
    high: i64,
    low: u64,
    scale: u16,
    kind: Kind,
}

impl Numeric {
    /// Zero, with no digit after the point.
    pub const ZERO: Numeric = Numeric::finite_unchecked(0, 0);
    /// One.
    pub const ONE: Numeric = Numeric::finite_unchecked(1, 0);
    /// Not a number.
    pub const NAN: Numeric = Numeric::special(Kind::NaN);
    /// Greater than every number.
    pub const INFINITY: Numeric = Numeric::special(Kind::Infinity);
    /// Less than every number.
    pub const NEG_INFINITY: Numeric = Numeric::special(Kind::NegInfinity);
    /// The greatest absolute mantissa: 38 nines.
    pub const MANTISSA_MAX: i128 = wide::TEN_TO_38 - 1;

    const fn special(kind: Kind) -> Numeric {
        Numeric {
            high: 0,
            low: 0,
            scale: 0,
            kind,
        }
    }

    const fn finite_unchecked(mantissa: i128, scale: u16) -> Numeric {
        Numeric {
            high: (mantissa >> 64) as i64,
            low: mantissa as u64,
            scale,
            kind: Kind::Finite,
        }
    }

    /// `mantissa / 10^scale`.
    ///
    /// # Errors
    /// Overflow, if the mantissa has more than 38 digits or the scale is greater than [`SCALE_MAX`].
    pub fn from_parts(mantissa: i128, scale: u16) -> Result<Numeric, NumericError> {
        if mantissa.unsigned_abs() > Numeric::MANTISSA_MAX as u128 || scale > SCALE_MAX {
            return Err(NumericError::Overflow);
        }
        Ok(Numeric::finite_unchecked(mantissa, scale))
    }

    /// From the parts of a packed datum, which was checked when it was made.
    #[inline]
    pub(crate) fn from_packed(high: i64, low: u64, scale: u16) -> Numeric {
        Numeric {
            high,
            low,
            scale,
            kind: Kind::Finite,
        }
    }

    /// The digits as one integer. Zero for NaN and the infinities.
    #[inline]
    pub fn mantissa(&self) -> i128 {
        (i128::from(self.high) << 64) | i128::from(self.low)
    }

    /// How many digits follow the point. Zero for NaN and the infinities.
    pub fn scale(&self) -> u16 {
        self.scale
    }

    /// Whether this is NaN.
    pub fn is_nan(&self) -> bool {
        self.kind == Kind::NaN
    }

    /// Whether this is one of the infinities.
    pub fn is_infinite(&self) -> bool {
        matches!(self.kind, Kind::Infinity | Kind::NegInfinity)
    }

    /// Whether this is a number.
    pub fn is_finite(&self) -> bool {
        self.kind == Kind::Finite
    }

    /// Whether this is zero.
    pub fn is_zero(&self) -> bool {
        self.is_finite() && self.high == 0 && self.low == 0
    }

    /// Whether this is less than zero.
    pub fn is_negative(&self) -> bool {
        match self.kind {
            Kind::Finite => self.high < 0,
            Kind::NegInfinity => true,
            Kind::Infinity | Kind::NaN => false,
        }
    }

    /// The one representative of all numerics equal to this one: no trailing zeros after the point.
    pub fn key_canonical(self) -> Numeric {
        let (mut mantissa, mut scale) = (self.mantissa(), self.scale);
        if mantissa == 0 {
            scale = 0;
        }
        while scale > 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale -= 1;
        }
        Numeric {
            kind: self.kind,
            ..Numeric::finite_unchecked(mantissa, scale)
        }
    }
}

/// A numeric that comes from outside and was not checked yet.
#[derive(Deserialize)]
struct NumericParts {
    high: i64,
    low: u64,
    scale: u16,
    kind: Kind,
}

impl TryFrom<NumericParts> for Numeric {
    type Error = NumericError;

    fn try_from(parts: NumericParts) -> Result<Numeric, NumericError> {
        let NumericParts {
            high,
            low,
            scale,
            kind,
        } = parts;
        match kind {
            Kind::Finite => Numeric::from_parts((i128::from(high) << 64) | i128::from(low), scale),
            Kind::NegInfinity | Kind::Infinity | Kind::NaN => Ok(Numeric::special(kind)),
        }
    }
}

impl From<i16> for Numeric {
    fn from(v: i16) -> Numeric {
        Numeric::finite_unchecked(i128::from(v), 0)
    }
}

impl From<i32> for Numeric {
    fn from(v: i32) -> Numeric {
        Numeric::finite_unchecked(i128::from(v), 0)
    }
}

impl From<i64> for Numeric {
    fn from(v: i64) -> Numeric {
        Numeric::finite_unchecked(i128::from(v), 0)
    }
}

impl From<u64> for Numeric {
    fn from(v: u64) -> Numeric {
        Numeric::finite_unchecked(i128::from(v), 0)
    }
}

impl PartialEq for Numeric {
    fn eq(&self, other: &Numeric) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Numeric {}

impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Numeric) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Numeric {
    fn cmp(&self, other: &Numeric) -> Ordering {
        if self.kind != Kind::Finite || other.kind != Kind::Finite {
            return self.kind.cmp(&other.kind);
        }
        if self.scale == other.scale {
            return self.mantissa().cmp(&other.mantissa());
        }
        wide::cmp_scaled(self.mantissa(), self.scale, other.mantissa(), other.scale)
    }
}

impl Hash for Numeric {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let canonical = self.key_canonical();
        (canonical.kind, canonical.mantissa(), canonical.scale).hash(state);
    }
}
