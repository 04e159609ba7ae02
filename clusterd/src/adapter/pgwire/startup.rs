//! The first packets of a connection: TLS refusal, protocol version, cancel requests, start-up parameters.

use bytes::{Buf, BytesMut};
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest start-up packet, as in PostgreSQL.
const STARTUP_BYTES_MAX: usize = 10_000;
const CANCEL_CODE: u32 = 80_877_102;
const SSL_CODE: u32 = 80_877_103;
const GSS_CODE: u32 = 80_877_104;
const PROTOCOL_MAJOR: u32 = 3;

/// What a client wants when it connects.
#[derive(Debug)]
pub enum Startup {
    Session(StartParameters),
    Cancel { pid: i32, secret: Vec<u8> },
}

/// The key-value pairs of the start packet.
#[derive(Debug, Default)]
pub struct StartParameters {
    pub values: BTreeMap<String, String>,
    /// Minor protocol version asked for; only 3.0 is spoken, a higher one is negotiated down.
    pub minor: u16,
    /// `_pq_.` options, none of which is known.
    pub unknown_options: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    #[error("connection closed during start-up")]
    Closed(#[source] Option<std::io::Error>),
    #[error("{message}")]
    Refused {
        sqlstate: &'static str,
        message: String,
    },
}

impl From<std::io::Error> for StartupError {
    fn from(error: std::io::Error) -> Self {
        StartupError::Closed(Some(error))
    }
}

fn refused(message: impl Into<String>) -> StartupError {
    StartupError::Refused {
        sqlstate: "08P01",
        message: message.into(),
    }
}

/// Reads packets until the client starts a session or asks to cancel one.
pub async fn read_startup(stream: &mut TcpStream) -> Result<Startup, StartupError> {
    // One TLS and one GSS request may precede the start packet, in either order.
    for _ in 0..3 {
        let mut packet = read_packet(stream).await?;
        let code = packet.get_u32();
        match code {
            SSL_CODE | GSS_CODE => stream.write_all(b"N").await?,
            CANCEL_CODE => return read_cancel(&packet),
            _ => return read_parameters(code, packet),
        }
    }
    Err(refused("too many negotiation requests"))
}

async fn read_packet(stream: &mut TcpStream) -> Result<BytesMut, StartupError> {
    let mut head = [0; 4];
    if stream.read(&mut head[..1]).await? == 0 {
        return Err(StartupError::Closed(None));
    }
    stream.read_exact(&mut head[1..]).await?;
    let length = u32::from_be_bytes(head) as usize;
    if !(8..=STARTUP_BYTES_MAX).contains(&length) {
        return Err(refused("invalid length of startup packet"));
    }
    let mut packet = BytesMut::zeroed(length - 4);
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}

fn read_cancel(packet: &[u8]) -> Result<Startup, StartupError> {
    if packet.len() < 8 || packet.len() > 4 + 256 {
        return Err(refused("invalid length of cancel request packet"));
    }
    let pid = i32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]);
    Ok(Startup::Cancel {
        pid,
        secret: packet[4..].to_vec(),
    })
}

fn read_parameters(code: u32, packet: BytesMut) -> Result<Startup, StartupError> {
    let (major, minor) = (code >> 16, (code & 0xffff) as u16);
    if major != PROTOCOL_MAJOR {
        return Err(StartupError::Refused {
            sqlstate: "0A000",
            message: format!(
                "unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0"
            ),
        });
    }
    let mut parameters = StartParameters {
        minor,
        ..Default::default()
    };
    let mut rest = &packet[..];
    loop {
        let key = take_string(&mut rest)?;
        if key.is_empty() {
            break;
        }
        let value = take_string(&mut rest)?;
        if key.starts_with("_pq_.") {
            parameters.unknown_options.push(key);
        } else {
            parameters.values.insert(key, value);
        }
    }
    if !rest.is_empty() {
        return Err(refused(
            "invalid startup packet layout: expected terminator as last byte",
        ));
    }
    Ok(Startup::Session(parameters))
}

fn take_string(rest: &mut &[u8]) -> Result<String, StartupError> {
    let end = rest
        .iter()
        .position(|b| *b == 0)
        .ok_or_else(|| refused("invalid startup packet layout"))?;
    let text = std::str::from_utf8(&rest[..end])
        .map_err(|_| refused("start-up parameters must be UTF-8"))?;
    let text = text.to_owned();
    *rest = &rest[end + 1..];
    Ok(text)
}

/// The settings inside the `options` parameter: `-c name=value` and `--name=value`, blanks escaped by a backslash.
pub fn parse_options(options: &str) -> Result<Vec<(String, String)>, StartupError> {
    let mut words = split_words(options).into_iter();
    let mut settings = vec![];
    while let Some(word) = words.next() {
        let pair = if word == "-c" {
            words
                .next()
                .ok_or_else(|| refused("option -c requires an argument"))?
        } else if let Some(rest) = word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            rest.to_owned()
        } else {
            return Err(refused(format!(
                "invalid command-line argument for server process: {word}"
            )));
        };
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| refused(format!("-c {pair} requires a value")))?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn split_words(text: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            c if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split_like_a_command_line() {
        let options = parse_options("-c datestyle=ISO,DMY --search-path=a\\ b -cgeqo=off").unwrap();
        let pairs: Vec<_> = options
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("datestyle", "ISO,DMY"),
                ("search_path", "a b"),
                ("geqo", "off")
            ]
        );
        assert!(parse_options("-x").is_err());
    }

    #[test]
    fn layout_of_the_start_packet_is_checked() {
        let good = BytesMut::from(&b"user\0me\0database\0db\0\0"[..]);
        let Ok(Startup::Session(p)) = read_parameters(3 << 16, good) else {
            panic!()
        };
        assert_eq!(p.values["user"], "me");
        for bad in [&b"user\0me\0"[..], b"user\0me\0\0x", b"user"] {
            assert!(read_parameters(3 << 16, BytesMut::from(bad)).is_err());
        }
        assert!(read_parameters(2 << 16, BytesMut::from(&b"\0"[..])).is_err());
    }
}
