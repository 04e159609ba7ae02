//! Floats as text.

use std::fmt;

/// Writes a `double precision`: with `extra_float_digits` above zero as few digits as tell it apart,
/// else `15 + extra_float_digits` significant ones.
///
/// # Errors
/// Only those of `out`.
pub fn write_float64(value: f64, extra_float_digits: i32, out: &mut dyn fmt::Write) -> fmt::Result {
    if let Some(name) = special(value) {
        return out.write_str(name);
    }
    match extra_float_digits {
        1.. => {
            let text = shortest(value, Precision::Double);
            write_layout(&text, 15, out)
        }
        extra => write_digits(value, (15 + extra).max(1) as usize, out),
    }
}

/// Writes a `real`; see [`write_float64`], with 6 for 15.
///
/// # Errors
/// Only those of `out`.
pub fn write_float32(value: f32, extra_float_digits: i32, out: &mut dyn fmt::Write) -> fmt::Result {
    if let Some(name) = special(value.into()) {
        return out.write_str(name);
    }
    match extra_float_digits {
        1.. => {
            let text = shortest(value.into(), Precision::Single);
            write_layout(&text, 6, out)
        }
        extra => write_digits(value.into(), (6 + extra).max(1) as usize, out),
    }
}

fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value == f64::INFINITY {
        Some("Infinity")
    } else if value == f64::NEG_INFINITY {
        Some("-Infinity")
    } else {
        None
    }
}

#[derive(Clone, Copy)]
enum Precision {
    Single,
    Double,
}

/// The shortest decimal that reads back as the same float, in Rust's scientific form. Postgres differs
/// from Rust in two details: of two equally near decimals it takes the even one, and it never takes
/// one that lies exactly between two floats.
fn shortest(value: f64, precision: Precision) -> String {
    let (text, digits_max, ties_from, integer_bits) = match precision {
        Precision::Single => (format!("{:e}", value as f32), 9, 7, 24),
        Precision::Double => (format!("{value:e}"), 17, 16, 53),
    };
    let digits = text
        .bytes()
        .take_while(|b| *b != b'e')
        .filter(u8::is_ascii_digit)
        .count();
    let is_large = value.abs() >= 2f64.powi(integer_bits);
    if digits < ties_from && !is_large {
        return text;
    }
    for digits in digits..digits_max {
        let nearest = format!("{value:.*e}", digits - 1);
        let same = match precision {
            Precision::Single => nearest.parse() == Ok(value as f32),
            Precision::Double => nearest.parse() == Ok(value),
        };
        if same && !(is_large && is_between(&nearest, value, integer_bits)) {
            return nearest;
        }
    }
    format!("{value:.*e}", digits_max - 1)
}

/// Whether the decimal lies exactly in the middle between the float and one of its neighbours. Only
/// large integers have such neighbours within few digits.
fn is_between(text: &str, value: f64, bits: i32) -> bool {
    let Some(decimal) = scientific_to_u128(text) else {
        return false;
    };
    let exact = value.abs() as u128;
    let half_ulp = 1u128 << (exact.ilog2() as i32 + 1 - bits).max(1) >> 1;
    // Below a power of two the neighbour is nearer.
    let half_below = match exact.is_power_of_two() {
        true => half_ulp >> 1,
        false => half_ulp,
    };
    decimal == exact + half_ulp || decimal + half_below == exact
}

fn scientific_to_u128(text: &str) -> Option<u128> {
    let (mantissa, exponent) = text.trim_start_matches('-').split_once('e')?;
    let digits = mantissa.replace('.', "");
    let zeros = exponent
        .parse::<usize>()
        .ok()?
        .checked_sub(digits.len() - 1)?;
    let power = 10u128.checked_pow(zeros as u32)?;
    digits.parse::<u128>().ok()?.checked_mul(power)
}

/// As C's `%.*g`.
fn write_digits(value: f64, digits: usize, out: &mut dyn fmt::Write) -> fmt::Result {
    let text = format!("{value:.*e}", digits - 1);
    write_layout(&text, digits as i32, out)
}

/// Lays out Rust's scientific form as Postgres does: plain from 1e-4 to below 1e`plain_max`.
fn write_layout(scientific: &str, plain_max: i32, out: &mut dyn fmt::Write) -> fmt::Result {
    let (mantissa, exponent) = scientific.split_once('e').expect("scientific form");
    let exponent: i32 = exponent.parse().expect("decimal exponent");
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits = mantissa.replace('.', "");
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        trimmed => trimmed,
    };
    out.write_str(sign)?;
    if !(-4..plain_max).contains(&exponent) {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        let magnitude = exponent.unsigned_abs();
        return write!(out, "{first}{point}{rest}e{exponent_sign}{magnitude:02}");
    }
    if exponent < 0 {
        let zeros = exponent.unsigned_abs() as usize - 1;
        return write!(out, "0.{:0<zeros$}{digits}", "");
    }
    let whole = exponent as usize + 1;
    match digits.len() > whole {
        true => write!(out, "{}.{}", &digits[..whole], &digits[whole..]),
        false => write!(out, "{digits:0<whole$}"),
    }
}
