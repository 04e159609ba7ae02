//! float4 and float8. Results that leave the range of the type from finite arguments are errors, as in PostgreSQL.

use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use repr::Datum;

fn overflow() -> EvalError {
    EvalError::new("22003", "value out of range: overflow")
}

fn underflow() -> EvalError {
    EvalError::new("22003", "value out of range: underflow")
}

/// The table rows of the arithmetic of one width.
macro_rules! arithmetic {
    ($variant:ident, $unwrap:ident, $pl:literal, $mi:literal, $mul:literal, $div:literal, $um:literal, $abs:literal) => {
        [
            FuncDef::fallible($pl, |_, _, a, _| {
                let (x, y) = (a[0].$unwrap(), a[1].$unwrap());
                let sum = x + y;
                if sum.is_infinite() && x.is_finite() && y.is_finite() {
                    Err(overflow())
                } else {
                    Ok(Datum::$variant(sum))
                }
            })
            .commutes_to($pl),
            FuncDef::fallible($mi, |_, _, a, _| {
                let (x, y) = (a[0].$unwrap(), a[1].$unwrap());
                let difference = x - y;
                let overflown = difference.is_infinite() && x.is_finite() && y.is_finite();
                if overflown {
                    Err(overflow())
                } else {
                    Ok(Datum::$variant(difference))
                }
            }),
            FuncDef::fallible($mul, |_, _, a, _| {
                let (x, y) = (a[0].$unwrap(), a[1].$unwrap());
                let product = x * y;
                if product.is_infinite() && x.is_finite() && y.is_finite() {
                    Err(overflow())
                } else if product == 0.0 && x != 0.0 && y != 0.0 {
                    Err(underflow())
                } else {
                    Ok(Datum::$variant(product))
                }
            })
            .commutes_to($mul),
            FuncDef::fallible($div, |_, _, a, _| {
                let (x, y) = (a[0].$unwrap(), a[1].$unwrap());
                if y == 0.0 && !x.is_nan() {
                    return Err(EvalError::division_by_zero());
                }
                let quotient = x / y;
                if quotient.is_infinite() && x.is_finite() {
                    Err(overflow())
                } else if quotient == 0.0 && x != 0.0 && y.is_finite() {
                    Err(underflow())
                } else {
                    Ok(Datum::$variant(quotient))
                }
            }),
            FuncDef::strict($um, |_, _, a, _| Ok(Datum::$variant(-a[0].$unwrap()))),
            FuncDef::strict($abs, |_, _, a, _| Ok(Datum::$variant(a[0].$unwrap().abs()))),
        ]
    };
}

static FLOAT4: [FuncDef; 6] = arithmetic!(
    Float32,
    unwrap_float32,
    "float4pl",
    "float4mi",
    "float4mul",
    "float4div",
    "float4um",
    "float4abs"
);
static FLOAT8: [FuncDef; 6] = arithmetic!(
    Float64,
    unwrap_float64,
    "float8pl",
    "float8mi",
    "float8mul",
    "float8div",
    "float8um",
    "float8abs"
);

static MATH: &[FuncDef] = &[
    FuncDef::strict("dceil", |_, _, a, _| {
        Ok(Datum::Float64(a[0].unwrap_float64().ceil()))
    }),
    FuncDef::strict("dfloor", |_, _, a, _| {
        Ok(Datum::Float64(a[0].unwrap_float64().floor()))
    }),
    FuncDef::strict("dround", |_, _, a, _| {
        Ok(Datum::Float64(a[0].unwrap_float64().round_ties_even()))
    }),
    FuncDef::strict("dtrunc", |_, _, a, _| {
        Ok(Datum::Float64(a[0].unwrap_float64().trunc()))
    }),
    FuncDef::strict("dsign", |_, _, a, _| {
        Ok(Datum::Float64(sign(a[0].unwrap_float64())))
    }),
    FuncDef::fallible("dsqrt", |_, _, a, _| sqrt(a[0].unwrap_float64())),
    FuncDef::strict("dcbrt", |_, _, a, _| {
        Ok(Datum::Float64(a[0].unwrap_float64().cbrt()))
    }),
    FuncDef::fallible("dpow", |_, _, a, _| {
        pow(a[0].unwrap_float64(), a[1].unwrap_float64())
    }),
    FuncDef::fallible("dexp", |_, _, a, _| exp(a[0].unwrap_float64())),
    FuncDef::fallible("dlog1", |_, _, a, _| {
        Ok(Datum::Float64(log_argument(a[0].unwrap_float64())?.ln()))
    }),
    FuncDef::fallible("dlog10", |_, _, a, _| {
        Ok(Datum::Float64(log_argument(a[0].unwrap_float64())?.log10()))
    }),
    FuncDef::strict("dpi", |_, _, _, _| Ok(Datum::Float64(std::f64::consts::PI))),
    FuncDef::fallible("dsin", |_, _, a, _| {
        Ok(Datum::Float64(finite(a[0].unwrap_float64())?.sin()))
    }),
    FuncDef::fallible("dcos", |_, _, a, _| {
        Ok(Datum::Float64(finite(a[0].unwrap_float64())?.cos()))
    }),
    FuncDef::fallible("dtan", |_, _, a, _| {
        Ok(Datum::Float64(finite(a[0].unwrap_float64())?.tan()))
    }),
    FuncDef::fallible("dcot", |_, _, a, _| {
        Ok(Datum::Float64(1.0 / finite(a[0].unwrap_float64())?.tan()))
    }),
    FuncDef::fallible("dasin", |_, _, a, _| {
        Ok(Datum::Float64(unit(a[0].unwrap_float64())?.asin()))
    }),
    FuncDef::fallible("dacos", |_, _, a, _| {
        Ok(Datum::Float64(unit(a[0].unwrap_float64())?.acos()))
    }),
    FuncDef::strict("datan", |_, _, a, _| {
        Ok(Datum::Float64(a[0].unwrap_float64().atan()))
    }),
    FuncDef::strict("datan2", |_, _, a, _| {
        Ok(Datum::Float64(
            a[0].unwrap_float64().atan2(a[1].unwrap_float64()),
        ))
    }),
    FuncDef::strict("dsinh", |_, _, a, _| {
        Ok(Datum::Float64(a[0].unwrap_float64().sinh()))
    }),
    FuncDef::strict("dcosh", |_, _, a, _| {
        Ok(Datum::Float64(a[0].unwrap_float64().cosh()))
    }),
    FuncDef::strict("dtanh", |_, _, a, _| {
        Ok(Datum::Float64(a[0].unwrap_float64().tanh()))
    }),
    FuncDef::strict("degrees", |_, _, a, _| {
        Ok(Datum::Float64(
            a[0].unwrap_float64() / (std::f64::consts::PI / 180.0),
        ))
    }),
    FuncDef::strict("radians", |_, _, a, _| {
        Ok(Datum::Float64(
            a[0].unwrap_float64() * (std::f64::consts::PI / 180.0),
        ))
    }),
];

/// The tables of this family.
pub(super) static TABLES: [&[FuncDef]; 3] = [&FLOAT4, &FLOAT8, MATH];

fn sign(x: f64) -> f64 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        // NaN too: PostgreSQL's comparisons are all false for it.
        0.0
    }
}

fn sqrt<'a>(x: f64) -> EvalResult<'a> {
    if x < 0.0 {
        return Err(EvalError::new(
            "2201F",
            "cannot take square root of a negative number",
        ));
    }
    Ok(Datum::Float64(x.sqrt()))
}

fn exp<'a>(x: f64) -> EvalResult<'a> {
    let result = x.exp();
    if result.is_infinite() && x.is_finite() {
        return Err(overflow());
    }
    if result == 0.0 && x.is_finite() {
        return Err(underflow());
    }
    Ok(Datum::Float64(result))
}

fn pow<'a>(x: f64, y: f64) -> EvalResult<'a> {
    if x == 0.0 && y < 0.0 {
        return Err(EvalError::new(
            "2201F",
            "zero raised to a negative power is undefined",
        ));
    }
    if x < 0.0 && y.is_finite() && y.fract() != 0.0 {
        let message = "a negative number raised to a non-integer power yields a complex result";
        return Err(EvalError::new("2201F", message));
    }
    let result = x.powf(y);
    if result.is_infinite() && x.is_finite() && y.is_finite() {
        return Err(overflow());
    }
    if result == 0.0 && x != 0.0 && x.is_finite() && y.is_finite() {
        return Err(underflow());
    }
    Ok(Datum::Float64(result))
}

fn log_argument(x: f64) -> Result<f64, EvalError> {
    if x == 0.0 {
        return Err(EvalError::new("2201E", "cannot take logarithm of zero"));
    }
    if x < 0.0 {
        return Err(EvalError::new(
            "2201E",
            "cannot take logarithm of a negative number",
        ));
    }
    Ok(x)
}

/// The argument of a trigonometric function.
fn finite(x: f64) -> Result<f64, EvalError> {
    if x.is_infinite() {
        Err(EvalError::new("22003", "input is out of range"))
    } else {
        Ok(x)
    }
}

fn unit(x: f64) -> Result<f64, EvalError> {
    if x.abs() > 1.0 {
        Err(EvalError::new("22003", "input is out of range"))
    } else {
        Ok(x)
    }
}
