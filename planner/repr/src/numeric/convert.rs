//! Conversions between numerics and machine numbers.

use super::{Kind, Numeric, NumericError, wide};

impl Numeric {
    fn to_integer(self, target: &'static str) -> Result<i128, NumericError> {
        match self.kind {
            Kind::Finite => Ok(wide::scale_down_round(
                self.mantissa(),
                u32::from(self.scale),
            )),
            Kind::NaN => Err(NumericError::NotFinite {
                value: "NaN",
                target,
            }),
            Kind::Infinity | Kind::NegInfinity => Err(NumericError::NotFinite {
                value: "infinity",
                target,
            }),
        }
    }

    /// Rounded half away from zero to a `smallint`.
    ///
    /// # Errors
    /// Out of range; not finite.
    pub fn to_i16(self) -> Result<i16, NumericError> {
        let integer = self.to_integer("smallint")?;
        i16::try_from(integer).map_err(|_| NumericError::OutOfRange("smallint"))
    }

    /// Rounded half away from zero to an `integer`.
    ///
    /// # Errors
    /// Out of range; not finite.
    pub fn to_i32(self) -> Result<i32, NumericError> {
        let integer = self.to_integer("integer")?;
        i32::try_from(integer).map_err(|_| NumericError::OutOfRange("integer"))
    }

    /// Rounded half away from zero to a `bigint`.
    ///
    /// # Errors
    /// Out of range; not finite.
    pub fn to_i64(self) -> Result<i64, NumericError> {
        let integer = self.to_integer("bigint")?;
        i64::try_from(integer).map_err(|_| NumericError::OutOfRange("bigint"))
    }

    /// Rounded half away from zero to microseconds and the like.
    ///
    /// # Errors
    /// Out of range; not finite.
    pub fn to_u64(self) -> Result<u64, NumericError> {
        let integer = self.to_integer("mz_timestamp")?;
        u64::try_from(integer).map_err(|_| NumericError::OutOfRange("mz_timestamp"))
    }

    /// The nearest `double precision`.
    pub fn to_f64(self) -> f64 {
        match self.kind {
            Kind::NaN => f64::NAN,
            Kind::Infinity => f64::INFINITY,
            Kind::NegInfinity => f64::NEG_INFINITY,
            Kind::Finite => {
                let mantissa = self.mantissa();
                // Both exact, so one division rounds once.
                if mantissa.unsigned_abs() <= 1 << 53 && self.scale <= 22 {
                    return mantissa as f64 / 10f64.powi(i32::from(self.scale));
                }
                parse_float(&self.to_string())
            }
        }
    }

    /// The nearest `real`.
    ///
    /// # Errors
    /// Out of range.
    pub fn to_f32(self) -> Result<f32, NumericError> {
        if !self.is_finite() {
            return Ok(self.to_f64() as f32);
        }
        let value: f32 = parse_float(&self.to_string());
        if value.is_infinite() || (value == 0.0 && !self.is_zero()) {
            return Err(NumericError::OutOfRange("real"));
        }
        Ok(value)
    }

    /// A `double precision` to 15 significant digits.
    ///
    /// # Errors
    /// Overflow.
    pub fn from_f64(value: f64) -> Result<Numeric, NumericError> {
        match special(value) {
            Some(special) => Ok(special),
            None => from_scientific(&format!("{value:.14e}")),
        }
    }

    /// A `real` to 6 significant digits.
    ///
    /// # Errors
    /// Overflow.
    pub fn from_f32(value: f32) -> Result<Numeric, NumericError> {
        match special(f64::from(value)) {
            Some(special) => Ok(special),
            None => from_scientific(&format!("{value:.5e}")),
        }
    }

    /// An `i128`, with no digit after the point.
    ///
    /// # Errors
    /// Overflow.
    pub fn from_i128(value: i128) -> Result<Numeric, NumericError> {
        Numeric::from_parts(value, 0)
    }
}

fn parse_float<F: std::str::FromStr>(text: &str) -> F {
    text.parse()
        .unwrap_or_else(|_| panic!("a numeric's text {text:?} is a float's"))
}

fn special(value: f64) -> Option<Numeric> {
    if value.is_nan() {
        Some(Numeric::NAN)
    } else if value == f64::INFINITY {
        Some(Numeric::INFINITY)
    } else if value == f64::NEG_INFINITY {
        Some(Numeric::NEG_INFINITY)
    } else {
        None
    }
}

/// Reads Rust's `-d.ddddde-xx`, dropping trailing zeros first.
fn from_scientific(text: &str) -> Result<Numeric, NumericError> {
    let (digits, exponent) = text.split_once('e').expect("scientific format");
    let digits = match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => digits,
    };
    let fraction = digits.split_once('.').map_or(0, |(_, f)| f.len() as i32);
    let mantissa: i128 = parse_float(&digits.replace('.', ""));
    let exponent: i32 = parse_float(exponent);
    let scale = fraction - exponent;
    match u16::try_from(scale) {
        Ok(scale) => Numeric::from_parts(mantissa, scale),
        Err(_) => Numeric::from_parts(wide::scale_up(mantissa, scale.unsigned_abs())?, 0),
    }
}
