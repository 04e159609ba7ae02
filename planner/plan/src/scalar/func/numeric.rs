//! Arithmetic of numeric. Scales of results follow PostgreSQL; a result of more than 38 digits is an error.

use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use repr::{Datum, Numeric, NumericError};

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::fallible("numeric_add", |_, _, a, _| {
        done(a[0].unwrap_numeric().checked_add(a[1].unwrap_numeric()))
    })
    .commutes_to("numeric_add"),
    FuncDef::fallible("numeric_sub", |_, _, a, _| {
        done(a[0].unwrap_numeric().checked_sub(a[1].unwrap_numeric()))
    }),
    FuncDef::fallible("numeric_mul", |_, _, a, _| {
        done(a[0].unwrap_numeric().checked_mul(a[1].unwrap_numeric()))
    })
    .commutes_to("numeric_mul"),
    FuncDef::fallible("numeric_div", |_, _, a, _| {
        done(a[0].unwrap_numeric().checked_div(a[1].unwrap_numeric()))
    }),
    FuncDef::fallible("numeric_div_trunc", |_, _, a, _| {
        done(
            a[0].unwrap_numeric()
                .checked_div_trunc(a[1].unwrap_numeric()),
        )
    }),
    FuncDef::fallible("numeric_mod", |_, _, a, _| {
        done(a[0].unwrap_numeric().checked_rem(a[1].unwrap_numeric()))
    }),
    FuncDef::strict("numeric_uminus", |_, _, a, _| {
        Ok(Datum::Numeric(-a[0].unwrap_numeric()))
    }),
    FuncDef::strict("numeric_abs", |_, _, a, _| {
        Ok(Datum::Numeric(a[0].unwrap_numeric().abs()))
    }),
    FuncDef::strict("numeric_sign", |_, _, a, _| {
        Ok(Datum::Numeric(a[0].unwrap_numeric().signum()))
    }),
    FuncDef::fallible("numeric_ceil", |_, _, a, _| {
        done(a[0].unwrap_numeric().ceil())
    }),
    FuncDef::fallible("numeric_floor", |_, _, a, _| {
        done(a[0].unwrap_numeric().floor())
    }),
    // round(x), round(x, digits)
    FuncDef::fallible("numeric_round", |_, _, a, _| {
        done(a[0].unwrap_numeric().round(digits(a)))
    }),
    FuncDef::fallible("numeric_trunc", |_, _, a, _| {
        done(a[0].unwrap_numeric().trunc(digits(a)))
    }),
    FuncDef::strict("numeric_scale", |_, _, a, _| {
        let x = a[0].unwrap_numeric();
        Ok(if x.is_finite() {
            Datum::Int32(i32::from(x.scale()))
        } else {
            Datum::Null
        })
    })
    .nullable(),
    FuncDef::strict("numeric_min_scale", |_, _, a, _| {
        let x = a[0].unwrap_numeric();
        Ok(if x.is_finite() {
            Datum::Int32(i32::from(x.min_scale()))
        } else {
            Datum::Null
        })
    })
    .nullable(),
    FuncDef::strict("numeric_trim_scale", |_, _, a, _| {
        Ok(Datum::Numeric(a[0].unwrap_numeric().trim_scale()))
    }),
    FuncDef::fallible("numeric_sqrt", |_, _, a, _| {
        done(a[0].unwrap_numeric().sqrt())
    }),
    FuncDef::fallible("numeric_exp", |_, _, a, _| {
        done(a[0].unwrap_numeric().exp())
    }),
    FuncDef::fallible("numeric_ln", |_, _, a, _| done(a[0].unwrap_numeric().ln())),
    // log(base, x)
    FuncDef::fallible("numeric_log", |_, _, a, _| {
        done(a[1].unwrap_numeric().log(a[0].unwrap_numeric()))
    }),
    FuncDef::fallible("numeric_log10", |_, _, a, _| {
        done(a[0].unwrap_numeric().log10())
    }),
    FuncDef::fallible("numeric_power", |_, _, a, _| {
        done(a[0].unwrap_numeric().power(a[1].unwrap_numeric()))
    }),
    FuncDef::fallible("numeric_fac", |_, _, a, _| factorial(a[0].unwrap_int64())),
    FuncDef::fallible("numeric_gcd", |_, _, a, _| {
        done(gcd(a[0].unwrap_numeric(), a[1].unwrap_numeric()))
    }),
    FuncDef::fallible("numeric_lcm", |_, _, a, _| {
        done(lcm(a[0].unwrap_numeric(), a[1].unwrap_numeric()))
    }),
];

impl From<NumericError> for EvalError {
    fn from(error: NumericError) -> EvalError {
        EvalError {
            detail: error.detail(),
            ..EvalError::new(error.sqlstate(), error.to_string())
        }
    }
}

fn done<'a>(result: Result<Numeric, NumericError>) -> EvalResult<'a> {
    match result {
        Ok(value) => Ok(Datum::Numeric(value)),
        Err(error) => Err(error.into()),
    }
}

fn digits(a: &[Datum<'_>]) -> i32 {
    a.get(1).map_or(0, |d| d.unwrap_int32())
}

fn gcd(x: Numeric, y: Numeric) -> Result<Numeric, NumericError> {
    if !x.is_finite() || !y.is_finite() {
        return Ok(Numeric::NAN);
    }
    // By addition of zero at the larger scale, so that the result has it even if one argument is zero.
    let scale = i32::from(x.scale().max(y.scale()));
    let (mut x, mut y) = (x.abs(), y.abs());
    while !y.is_zero() {
        (x, y) = (y, x.checked_rem(y)?);
    }
    x.round(scale)
}

fn lcm(x: Numeric, y: Numeric) -> Result<Numeric, NumericError> {
    if !x.is_finite() || !y.is_finite() {
        return Ok(Numeric::NAN);
    }
    let scale = i32::from(x.scale().max(y.scale()));
    if x.is_zero() || y.is_zero() {
        return Numeric::ZERO.round(scale);
    }
    let multiple = x.checked_div_trunc(gcd(x, y)?)?.checked_mul(y)?;
    multiple.abs().round(scale)
}

fn factorial<'a>(n: i64) -> EvalResult<'a> {
    if n < 0 {
        return Err(EvalError::new(
            "22003",
            "factorial of a negative number is undefined",
        ));
    }
    // 34! is the first with more than 38 digits.
    let product = (1..=n.min(34)).try_fold(1i128, |product, factor| {
        product.checked_mul(i128::from(factor))
    });
    done(
        product
            .ok_or(NumericError::Overflow)
            .and_then(Numeric::from_i128),
    )
}
