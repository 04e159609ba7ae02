//! The tag bytes. They are written to disk: never renumber, only append.
//!
//! Bodies are little-endian. Integers take as few bytes as their two's complement needs, the count
//! being part of the tag.

pub(super) const NULL: u8 = 0x00;
pub(super) const FALSE: u8 = 0x01;
pub(super) const TRUE: u8 = 0x02;
/// `INT16 + n`: n = 0..=2 bytes.
pub(super) const INT16: u8 = 0x03;
pub(super) const INT16_END: u8 = INT16 + 2;
/// `INT32 + n`: n = 0..=4 bytes.
pub(super) const INT32: u8 = 0x06;
pub(super) const INT32_END: u8 = INT32 + 4;
/// `INT64 + n`: n = 0..=8 bytes.
pub(super) const INT64: u8 = 0x0b;
pub(super) const INT64_END: u8 = INT64 + 8;
pub(super) const FLOAT32: u8 = 0x14;
pub(super) const FLOAT64: u8 = 0x15;
/// `NUMERIC + n`: the scale in one byte, then a mantissa of n = 0..=16 bytes.
pub(super) const NUMERIC: u8 = 0x16;
pub(super) const NUMERIC_END: u8 = NUMERIC + 16;
/// A scale above 255 in two bytes, the length of the mantissa in one, the mantissa.
pub(super) const NUMERIC_WIDE: u8 = 0x27;
pub(super) const NUMERIC_NAN: u8 = 0x28;
pub(super) const NUMERIC_INFINITY: u8 = 0x29;
pub(super) const NUMERIC_NEG_INFINITY: u8 = 0x2a;
pub(super) const DATE: u8 = 0x2b;
pub(super) const TIME: u8 = 0x2c;
pub(super) const TIMESTAMP: u8 = 0x2d;
pub(super) const TIMESTAMPTZ: u8 = 0x2e;
/// Months, days (4 bytes each), microseconds (8).
pub(super) const INTERVAL: u8 = 0x2f;
pub(super) const UUID: u8 = 0x30;
/// `OID + n`: n = 0..=4 bytes, unsigned.
pub(super) const OID: u8 = 0x31;
pub(super) const OID_END: u8 = OID + 4;
pub(super) const MZ_TIMESTAMP: u8 = 0x36;
/// 4 bytes of length, then dimensions and elements.
pub(super) const ARRAY: u8 = 0x37;
/// 4 bytes of length, then packed datums.
pub(super) const RECORD: u8 = 0x38;
/// 1 byte of length.
pub(super) const BYTES: u8 = 0x39;
/// 4 bytes of length, above 255.
pub(super) const BYTES_LONG: u8 = 0x3a;
/// 4 bytes of length, above 127.
pub(super) const STRING_LONG: u8 = 0x3b;
/// `STRING + n`: a string of n = 0..=127 bytes.
pub(super) const STRING: u8 = 0x80;
pub(super) const STRING_SHORT_MAX: usize = 127;

/// The whole length of a datum, tag included, for each tag; 0 where the body tells, and for unknown
/// tags.
pub(super) const WIDTH: [u8; 256] = {
    let mut width = [0u8; 256];
    width[NULL as usize] = 1;
    width[FALSE as usize] = 1;
    width[TRUE as usize] = 1;
    let mut n = 0;
    while n <= 16 {
        if n <= 2 {
            width[INT16 as usize + n] = 1 + n as u8;
        }
        if n <= 4 {
            width[INT32 as usize + n] = 1 + n as u8;
            width[OID as usize + n] = 1 + n as u8;
        }
        if n <= 8 {
            width[INT64 as usize + n] = 1 + n as u8;
        }
        width[NUMERIC as usize + n] = 2 + n as u8;
        n += 1;
    }
    width[FLOAT32 as usize] = 5;
    width[FLOAT64 as usize] = 9;
    width[NUMERIC_NAN as usize] = 1;
    width[NUMERIC_INFINITY as usize] = 1;
    width[NUMERIC_NEG_INFINITY as usize] = 1;
    width[DATE as usize] = 5;
    width[TIME as usize] = 9;
    width[TIMESTAMP as usize] = 9;
    width[TIMESTAMPTZ as usize] = 9;
    width[INTERVAL as usize] = 17;
    width[UUID as usize] = 17;
    width[MZ_TIMESTAMP as usize] = 9;
    let mut n = 0;
    while n <= STRING_SHORT_MAX {
        width[STRING as usize + n] = 1 + n as u8;
        n += 1;
    }
    width
};
