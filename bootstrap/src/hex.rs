//! Bytes as hexadecimal digits, for files and tokens.

use std::fmt::Write;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these are not hexadecimal digits, two for each byte")]
pub struct NotHex;

pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

pub fn decode(text: &str) -> Result<Vec<u8>, NotHex> {
    let digit = |d: u8| {
        char::from(d)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let bytes = text.as_bytes().chunks(2).map(byte);
    bytes.collect::<Option<_>>().ok_or(NotHex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_nothing_else_is_read() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&bytes)), Ok(bytes));
        assert_eq!(decode(""), Ok(Vec::new()));
        for wrong in ["0", "0g", "+1", "012", "ää"] {
            assert_eq!(decode(wrong), Err(NotHex), "{wrong}");
        }
    }
}
