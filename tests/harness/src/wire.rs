//! Hand-made messages of the Postgres protocol, for what no driver would send.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest a read may block: a server that neither answers nor hangs up fails the test.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// One raw connection.
pub struct Raw {
    stream: TcpStream,
}

/// One message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub tag: u8,
    pub body: Vec<u8>,
}

impl Message {
    /// The field of an ErrorResponse or NoticeResponse with this one-letter code (`C` SQLSTATE, `M` text, `P` position).
    pub fn field(&self, code: u8) -> Option<String> {
        let fields = self.body.split(|b| *b == 0);
        fields
            .filter(|f| !f.is_empty())
            .find(|f| f[0] == code)
            .map(|f| String::from_utf8_lossy(&f[1..]).into_owned())
    }
}

impl Raw {
    /// Opens the TCP connection and sends nothing.
    pub fn open(addr: SocketAddr) -> io::Result<Raw> {
        let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        stream.set_write_timeout(Some(READ_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Raw { stream })
    }

    /// Opens a connection and goes through start-up to the first ReadyForQuery.
    pub fn session(addr: SocketAddr) -> io::Result<Raw> {
        let mut raw = Raw::open(addr)?;
        raw.bytes(&startup(&[("user", "clusterd"), ("database", "clusterd")]))?;
        raw.until(b'Z')?;
        Ok(raw)
    }

    /// Sends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends one well-framed message.
    pub fn send(&mut self, tag: u8, body: &[u8]) -> io::Result<()> {
        self.bytes(&frame(tag, body))
    }

    /// Sends a simple query and reads to its ReadyForQuery.
    pub fn query(&mut self, sql: &str) -> io::Result<Vec<Message>> {
        self.send(b'Q', &cstr(sql))?;
        self.until(b'Z')
    }

    /// Reads one message.
    pub fn read(&mut self) -> io::Result<Message> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let length = length
            .checked_sub(4)
            .ok_or_else(|| io::Error::other("the server sent a length below 4"))?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Message { tag: head[0], body })
    }

    /// Reads up to and with the first message of this tag.
    pub fn until(&mut self, tag: u8) -> io::Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            let message = self.read()?;
            let last = message.tag == tag;
            messages.push(message);
            if last {
                return Ok(messages);
            }
        }
    }

    /// Says that nothing more will be sent.
    pub fn half_close(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Whether the server says nothing for this long.
    pub fn is_quiet(&mut self, time: Duration) -> io::Result<bool> {
        self.stream.set_read_timeout(Some(time))?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(READ_TIMEOUT))?;
        match peeked {
            Ok(_) => Ok(false),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads until the server hangs up or goes silent for `quiet`; the bytes it sent.
    pub fn drain(&mut self, quiet: Duration) -> Vec<u8> {
        let _ = self.stream.set_read_timeout(Some(quiet));
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = self.stream.read(&mut chunk) {
            bytes.extend_from_slice(&chunk[..n]);
        }
        bytes
    }
}

/// A start-up packet of protocol 3.0.
pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(cstr(name));
        body.extend(cstr(value));
    }
    body.push(0);
    let mut packet = (body.len() as u32 + 4).to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

/// A tagged message with a true length.
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    framed_as(tag, body.len() as u32 + 4, body)
}

/// A tagged message that claims this length, whatever its body holds.
pub fn framed_as(tag: u8, length: u32, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    message.extend(length.to_be_bytes());
    message.extend(body);
    message
}

/// A string with its terminator.
pub fn cstr(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}
