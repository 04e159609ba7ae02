//! Checking bytes that came from outside before they are trusted as a row.

use super::iter::sign_extended;
use super::pack::{int_bytes, wide_int_bytes};
use super::tag;
use crate::array::ARRAY_DIMS_MAX;
use crate::error::ReprError;
use crate::numeric::{Numeric, SCALE_MAX};
use crate::time::Time;

/// Records may nest; deeper than this is not a row of ours.
const DEPTH_MAX: usize = 32;

/// Checks that the bytes are exactly what a packer would write for some datums.
pub(super) fn validate(bytes: &[u8]) -> Result<(), ReprError> {
    Validator { bytes, at: 0 }
        .datums(bytes.len(), 0)
        .map(|_| ())
}

struct Validator<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Validator<'a> {
    /// Checks datums up to the offset `end` and returns how many there are.
    fn datums(&mut self, end: usize, depth: usize) -> Result<u64, ReprError> {
        let mut count = 0;
        while self.at < end {
            self.datum(end, depth)?;
            count += 1;
        }
        Ok(count)
    }

    fn datum(&mut self, end: usize, depth: usize) -> Result<(), ReprError> {
        let offset = self.at;
        let bytes = &self.bytes[offset..end];
        let tag = bytes[0];
        let width = match tag::WIDTH[usize::from(tag)] {
            0 => variable_width(bytes, offset)?,
            width => usize::from(width),
        };
        let Some(datum) = bytes.get(..width) else {
            return Err(ReprError::Truncated { offset });
        };
        let malformed = |reason| ReprError::Malformed { offset, reason };
        match tag {
            tag::STRING.. => check_utf8(&datum[1..]).map_err(malformed)?,
            tag::STRING_LONG => {
                check_long(&datum[5..], tag::STRING_SHORT_MAX).map_err(malformed)?;
                check_utf8(&datum[5..]).map_err(malformed)?;
            }
            tag::BYTES_LONG => {
                check_long(&datum[5..], usize::from(u8::MAX)).map_err(malformed)?;
            }
            tag::INT16..=tag::INT64_END => check_minimal(&datum[1..]).map_err(malformed)?,
            tag::OID..=tag::OID_END if width > 1 && datum[width - 1] == 0 => {
                return Err(malformed("oid has leading zeros"));
            }
            tag::NUMERIC..=tag::NUMERIC_END => check_mantissa(&datum[2..]).map_err(malformed)?,
            tag::NUMERIC_WIDE => check_numeric_wide(datum).map_err(malformed)?,
            tag::ARRAY => {
                self.at += 5;
                self.array(offset + width, depth)?;
            }
            tag::RECORD => {
                self.at += 5;
                self.nested(offset + width, depth)?;
            }
            tag::TIME => check_time(datum).map_err(malformed)?,
            // Any bits are a value.
            _ => {}
        }
        self.at = offset + width;
        Ok(())
    }

    fn nested(&mut self, end: usize, depth: usize) -> Result<u64, ReprError> {
        if depth == DEPTH_MAX {
            return Err(ReprError::Malformed {
                offset: self.at,
                reason: "datums nest too deeply",
            });
        }
        self.datums(end, depth + 1)
    }

    fn array(&mut self, end: usize, depth: usize) -> Result<(), ReprError> {
        let offset = self.at;
        let malformed = |reason| ReprError::Malformed { offset, reason };
        let body = &self.bytes[offset..end];
        let ndims = usize::from(*body.first().ok_or(malformed("array has no header"))?);
        if ndims > ARRAY_DIMS_MAX {
            return Err(malformed("array has too many dimensions"));
        }
        let header = body
            .get(1..1 + 8 * ndims)
            .ok_or(malformed("array header is cut short"))?;
        let mut expected = u64::from(ndims > 0);
        for dim in header.chunks_exact(8) {
            let length = u32::from_le_bytes([dim[4], dim[5], dim[6], dim[7]]);
            // Lengths up to the body's keep the product from overflowing before it is compared.
            expected = expected
                .checked_mul(u64::from(length))
                .ok_or(malformed("array is too large"))?;
        }
        if ndims > 0 && expected == 0 {
            return Err(malformed("array has an empty dimension"));
        }
        self.at += 1 + header.len();
        if self.nested(end, depth)? != expected {
            return Err(malformed("array dimensions and elements disagree"));
        }
        Ok(())
    }
}

fn variable_width(bytes: &[u8], offset: usize) -> Result<usize, ReprError> {
    let byte = |at: usize| {
        let byte = bytes.get(at).copied();
        byte.map(usize::from).ok_or(ReprError::Truncated { offset })
    };
    match bytes[0] {
        tag::BYTES => Ok(2 + byte(1)?),
        tag::NUMERIC_WIDE => Ok(4 + byte(3)?),
        tag::BYTES_LONG | tag::STRING_LONG | tag::ARRAY | tag::RECORD => {
            Ok(5 + (byte(1)? | byte(2)? << 8 | byte(3)? << 16 | byte(4)? << 24))
        }
        tag => Err(ReprError::UnknownTag { tag, offset }),
    }
}

fn check_utf8(body: &[u8]) -> Result<(), &'static str> {
    match std::str::from_utf8(body) {
        Ok(_) => Ok(()),
        Err(_) => Err("string is not UTF-8"),
    }
}

fn check_time(datum: &[u8]) -> Result<(), &'static str> {
    let micros = sign_extended(&datum[1..]);
    if (0..=i128::from(Time::MAX.0)).contains(&micros) {
        Ok(())
    } else {
        Err("time of day is out of range")
    }
}

fn check_long(body: &[u8], short_max: usize) -> Result<(), &'static str> {
    if body.len() > short_max {
        Ok(())
    } else {
        Err("short value in the long form")
    }
}

fn check_minimal(body: &[u8]) -> Result<(), &'static str> {
    if int_bytes(sign_extended(body) as i64) == body.len() {
        Ok(())
    } else {
        Err("integer is not in its shortest form")
    }
}

fn check_mantissa(body: &[u8]) -> Result<(), &'static str> {
    let mantissa = sign_extended(body);
    if wide_int_bytes(mantissa) != body.len() {
        return Err("mantissa is not in its shortest form");
    }
    if mantissa.unsigned_abs() > Numeric::MANTISSA_MAX as u128 {
        return Err("mantissa is too large");
    }
    Ok(())
}

fn check_numeric_wide(datum: &[u8]) -> Result<(), &'static str> {
    let scale = u16::from_le_bytes([datum[1], datum[2]]);
    if scale <= u16::from(u8::MAX) {
        return Err("small scale in the wide form");
    }
    if scale > SCALE_MAX {
        return Err("scale is too large");
    }
    if datum.len() > 4 + 16 {
        return Err("mantissa is too long");
    }
    check_mantissa(&datum[4..])
}
