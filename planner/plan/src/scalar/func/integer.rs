//! Arithmetic and bit operations of int2, int4 and int8.

use super::FuncDef;
use crate::error::EvalError;
use repr::Datum;

/// The table rows of one width. `$shift` is the type that shifts are computed in: PostgreSQL promotes int2 to int4 there.
macro_rules! family {
    ($variant:ident, $unwrap:ident, $int:ty, $shift:ty, $type_name:literal,
     $pl:literal, $mi:literal, $mul:literal, $div:literal, $modulo:literal, $um:literal, $abs:literal, $gcd:literal, $lcm:literal,
     $and:literal, $or:literal, $xor:literal, $not:literal, $shl:literal, $shr:literal) => {
        [
            FuncDef::fallible($pl, |_, _, a, _| {
                match a[0].$unwrap().checked_add(a[1].$unwrap()) {
                    Some(v) => Ok(Datum::$variant(v)),
                    None => Err(EvalError::out_of_range($type_name)),
                }
            })
            .commutes_to($pl),
            FuncDef::fallible($mi, |_, _, a, _| {
                match a[0].$unwrap().checked_sub(a[1].$unwrap()) {
                    Some(v) => Ok(Datum::$variant(v)),
                    None => Err(EvalError::out_of_range($type_name)),
                }
            }),
            FuncDef::fallible($mul, |_, _, a, _| {
                match a[0].$unwrap().checked_mul(a[1].$unwrap()) {
                    Some(v) => Ok(Datum::$variant(v)),
                    None => Err(EvalError::out_of_range($type_name)),
                }
            })
            .commutes_to($mul),
            FuncDef::fallible($div, |_, _, a, _| {
                let (x, y) = (a[0].$unwrap(), a[1].$unwrap());
                if y == 0 {
                    return Err(EvalError::division_by_zero());
                }
                x.checked_div(y)
                    .map(Datum::$variant)
                    .ok_or_else(|| EvalError::out_of_range($type_name))
            }),
            FuncDef::fallible($modulo, |_, _, a, _| {
                let (x, y) = (a[0].$unwrap(), a[1].$unwrap());
                if y == 0 {
                    return Err(EvalError::division_by_zero());
                }
                Ok(Datum::$variant(x.wrapping_rem(y)))
            }),
            FuncDef::fallible($um, |_, _, a, _| match a[0].$unwrap().checked_neg() {
                Some(v) => Ok(Datum::$variant(v)),
                None => Err(EvalError::out_of_range($type_name)),
            }),
            FuncDef::fallible($abs, |_, _, a, _| match a[0].$unwrap().checked_abs() {
                Some(v) => Ok(Datum::$variant(v)),
                None => Err(EvalError::out_of_range($type_name)),
            }),
            FuncDef::fallible($gcd, |_, _, a, _| {
                let divisor = gcd(i128::from(a[0].$unwrap()), i128::from(a[1].$unwrap()));
                <$int>::try_from(divisor)
                    .map(Datum::$variant)
                    .map_err(|_| EvalError::out_of_range($type_name))
            }),
            FuncDef::fallible($lcm, |_, _, a, _| {
                let (x, y) = (i128::from(a[0].$unwrap()), i128::from(a[1].$unwrap()));
                let multiple = if x == 0 || y == 0 {
                    0
                } else {
                    (x / gcd(x, y) * y).abs()
                };
                <$int>::try_from(multiple)
                    .map(Datum::$variant)
                    .map_err(|_| EvalError::out_of_range($type_name))
            }),
            FuncDef::strict($and, |_, _, a, _| {
                Ok(Datum::$variant(a[0].$unwrap() & a[1].$unwrap()))
            }),
            FuncDef::strict($or, |_, _, a, _| {
                Ok(Datum::$variant(a[0].$unwrap() | a[1].$unwrap()))
            }),
            FuncDef::strict($xor, |_, _, a, _| {
                Ok(Datum::$variant(a[0].$unwrap() ^ a[1].$unwrap()))
            }),
            FuncDef::strict($not, |_, _, a, _| Ok(Datum::$variant(!a[0].$unwrap()))),
            // The distance is an int4 and wraps at the width of the machine's register.
            FuncDef::strict($shl, |_, _, a, _| {
                let distance = a[1].unwrap_int32() as u32;
                Ok(Datum::$variant(
                    (a[0].$unwrap() as $shift).wrapping_shl(distance) as $int,
                ))
            }),
            FuncDef::strict($shr, |_, _, a, _| {
                let distance = a[1].unwrap_int32() as u32;
                Ok(Datum::$variant(
                    (a[0].$unwrap() as $shift).wrapping_shr(distance) as $int,
                ))
            }),
        ]
    };
}

static INT2: [FuncDef; 15] = family!(
    Int16,
    unwrap_int16,
    i16,
    i32,
    "smallint",
    "int2pl",
    "int2mi",
    "int2mul",
    "int2div",
    "int2mod",
    "int2um",
    "int2abs",
    "int2gcd",
    "int2lcm",
    "int2and",
    "int2or",
    "int2xor",
    "int2not",
    "int2shl",
    "int2shr"
);
static INT4: [FuncDef; 15] = family!(
    Int32,
    unwrap_int32,
    i32,
    i32,
    "integer",
    "int4pl",
    "int4mi",
    "int4mul",
    "int4div",
    "int4mod",
    "int4um",
    "int4abs",
    "int4gcd",
    "int4lcm",
    "int4and",
    "int4or",
    "int4xor",
    "int4not",
    "int4shl",
    "int4shr"
);
static INT8: [FuncDef; 15] = family!(
    Int64,
    unwrap_int64,
    i64,
    i64,
    "bigint",
    "int8pl",
    "int8mi",
    "int8mul",
    "int8div",
    "int8mod",
    "int8um",
    "int8abs",
    "int8gcd",
    "int8lcm",
    "int8and",
    "int8or",
    "int8xor",
    "int8not",
    "int8shl",
    "int8shr"
);

/// The tables of the three widths.
pub(super) static TABLES: [&[FuncDef]; 3] = [&INT2, &INT4, &INT8];

fn gcd(mut x: i128, mut y: i128) -> i128 {
    while y != 0 {
        (x, y) = (y, x % y);
    }
    x.abs()
}
