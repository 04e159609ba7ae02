//! Integer helpers beyond 128 bits. Everything tries `i128` first.

use std::cmp::Ordering;

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
pub(super) fn ten_to(n: u32) -> Option<i128> {
    POWERS.get(n as usize).copied()
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
