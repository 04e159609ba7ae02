//! The one way structured data becomes bytes, in the log, in snapshots, in plans and on the mesh:
//! a version byte, then the value in bincode's standard configuration.
//!
//! Only this module knows bincode, so that replacing it is a change to one file. Bytes from outside
//! are checked on three counts before they cost anything: the version, the length of the whole, and
//! (in `guard`) claimed lengths and nesting inside.

mod guard;

use std::ops::RangeInclusive;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

pub use guard::DEPTH_MAX;

/// Why bytes could not be decoded.
#[derive(Debug, Error)]
pub enum CodecError {
    /// There is not even a version byte.
    #[error("encoded value is empty")]
    Empty,
    /// The version is none that the reader knows.
    #[error("encoded value has version {found}, readable are {min} to {max}")]
    Version {
        /// The version byte.
        found: u8,
        /// The oldest readable version.
        min: u8,
        /// The newest readable version.
        max: u8,
    },
    /// The bytes are more than the caller allows.
    #[error("encoded value has {length} bytes, allowed are {limit}")]
    TooLong {
        /// The length found.
        length: usize,
        /// The greatest length allowed.
        limit: usize,
    },
    /// The bytes are not an encoding of the type.
    #[error("encoded value is malformed: {0}")]
    Malformed(String),
    /// The value ended before the bytes did.
    #[error("encoded value is followed by {0} stray bytes")]
    Trailing(usize),
}

impl CodecError {
    /// The five-character SQLSTATE: data corrupted.
    pub fn sqlstate(&self) -> &'static str {
        "XX001"
    }
}

/// Encodes a value behind a version byte.
///
/// A value that nests deeper than [`DEPTH_MAX`] encodes, but never decodes. Where users decide how deep
/// a value nests, bound that before encoding what is to be kept.
///
/// # Panics
/// If the type's `Serialize` fails or does not know the lengths of its sequences: a bug in the type.
pub fn encode<T: Serialize + ?Sized>(version: u8, value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(version, value, &mut bytes);
    bytes
}

/// Appends what [`encode`] would return.
///
/// # Panics
/// As [`encode`].
pub fn encode_into<T: Serialize + ?Sized>(version: u8, value: &T, out: &mut Vec<u8>) {
    out.push(version);
    bincode::serde::encode_into_std_write(value, out, bincode::config::standard())
        .expect("our types encode, and memory takes all bytes");
}

/// The version byte of an encoded value.
pub fn version(bytes: &[u8]) -> Result<u8, CodecError> {
    bytes.first().copied().ok_or(CodecError::Empty)
}

/// Decodes what [`encode`] made.
///
/// # Errors
/// If the version is outside of `versions`, there are more than `limit_bytes` bytes (version byte
/// included), or the rest is not exactly one value of the type, nested at most [`DEPTH_MAX`] deep.
pub fn decode<T: DeserializeOwned>(
    versions: RangeInclusive<u8>,
    limit_bytes: usize,
    bytes: &[u8],
) -> Result<T, CodecError> {
    if bytes.len() > limit_bytes {
        return Err(CodecError::TooLong {
            length: bytes.len(),
            limit: limit_bytes,
        });
    }
    let found = version(bytes)?;
    if !versions.contains(&found) {
        return Err(CodecError::Version {
            found,
            min: *versions.start(),
            max: *versions.end(),
        });
    }
    let body = &bytes[1..];
    let seed = guard::Seed::<T>::new();
    let (value, read) =
        bincode::serde::seed_decode_from_slice(seed, body, bincode::config::standard())
            .map_err(|error| CodecError::Malformed(error.to_string()))?;
    match body.len() - read {
        0 => Ok(value),
        stray => Err(CodecError::Trailing(stray)),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::{Datum, GlobalId, Numeric, Row, SqlType};

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    enum Tree {
        Leaf(String),
        Node(Box<Tree>, Option<u64>),
        Rows { rows: Vec<(Row, i64)>, raw: Vec<u8> },
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// These bytes are on disks: they must never change.
    #[test]
    fn golden_bytes() {
        let numeric = Numeric::from_parts(-12345, 2).unwrap();
        let row = Row::pack_slice(&[
            Datum::Null,
            Datum::Bool(true),
            Datum::Int32(-1),
            Datum::Int64(300),
            Datum::String("hé"),
            Datum::Numeric(numeric),
        ]);
        let tree = Tree::Rows {
            rows: vec![(row, -2)],
            raw: vec![1, 2],
        };
        assert_eq!(
            hex(&encode(7, &tree)),
            "0702010f000207ff0d2c018368c3a91802c7cf03020102"
        );
        let node = Tree::Node(Box::new(Tree::Leaf("x".into())), Some(70_000));
        assert_eq!(hex(&encode(1, &node)), "010100017801fc70110100");
        let ty = SqlType::Varchar(Some(10)).array_of();
        assert_eq!(hex(&encode(1, &(GlobalId(16384), ty))), "01fb00401b08010a");
        for value in [tree, node] {
            assert_eq!(
                decode::<Tree>(1..=7, 100, &encode(1, &value)).unwrap(),
                value
            );
        }
    }

    #[test]
    fn refuses_what_it_did_not_write() {
        let bytes = encode(3, &Tree::Leaf("abc".into()));
        let read = |bytes: &[u8]| decode::<Tree>(3..=4, 64, bytes);
        assert!(read(&bytes).is_ok());
        assert!(matches!(read(&[]), Err(CodecError::Empty)));
        assert!(matches!(
            decode::<Tree>(4..=5, 64, &bytes),
            Err(CodecError::Version { found: 3, .. })
        ));
        assert!(matches!(
            decode::<Tree>(3..=3, bytes.len() - 1, &bytes),
            Err(CodecError::TooLong { .. })
        ));
        for cut in 1..bytes.len() {
            assert!(matches!(read(&bytes[..cut]), Err(CodecError::Malformed(_))));
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(read(&longer), Err(CodecError::Trailing(1))));
    }

    #[test]
    fn claimed_lengths_cost_nothing() {
        // A string, a byte vector and a vector of rows that claim 2^62 elements.
        for prefix in [vec![1, 0], vec![1, 2, 0], vec![1, 2]] {
            let mut bytes = prefix;
            bytes.push(253);
            bytes.extend((1u64 << 62).to_le_bytes());
            let result = decode::<Tree>(1..=1, 1024, &bytes);
            assert!(matches!(result, Err(CodecError::Malformed(_))));
        }
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_stack_overflow() {
        let mut bytes = vec![1];
        bytes.resize(1_000_000, 1);
        let result = decode::<Tree>(1..=1, 2_000_000, &bytes);
        assert!(matches!(result, Err(CodecError::Malformed(_))));
    }

    #[test]
    fn invalid_rows_are_refused() {
        // Tag 0x7f is unknown.
        assert!(decode::<Row>(1..=1, 64, &[1, 1, 0x7f]).is_err());
        assert!(decode::<Row>(1..=1, 64, &[1, 1, 0x00]).is_ok());
    }
}
