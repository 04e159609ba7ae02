//! One question, or one answer, on a stream: magic, version, status, length, body.

use quinn::{ReadExactError, RecvStream, SendStream};

use super::JOIN_BYTES_MAX;

const MAGIC: [u8; 8] = *b"CLUSTERJ";
const PREFIX_BYTES: usize = 10;
const HEAD_BYTES: usize = 5;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Question = 0,
    Answer = 1,
    /// The body says why not.
    Refusal = 2,
}

impl Status {
    fn from_code(code: u8) -> Option<Status> {
        [Status::Question, Status::Answer, Status::Refusal]
            .into_iter()
            .find(|status| *status as u8 == code)
    }
}

/// Why a frame could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("this is no clusterd node")]
    Magic,
    #[error(
        "a node of another version: it speaks version {theirs} of the mesh protocol, this one version {ours}. Use the same program on every node"
    )]
    Version { ours: u16, theirs: u16 },
    #[error("an unknown kind of message")]
    Status,
    #[error("a message of {0} bytes is longer than {JOIN_BYTES_MAX}")]
    TooLong(usize),
    #[error("a message ends before it should")]
    Truncated,
    #[error("the connection was lost")]
    Lost,
}

pub(super) fn encode(version: u16, status: Status, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + HEAD_BYTES + body.len());
    bytes.extend(MAGIC);
    bytes.extend(version.to_le_bytes());
    bytes.push(status as u8);
    let length = u32::try_from(body.len()).expect("checked by whoever made the body");
    bytes.extend(length.to_le_bytes());
    bytes.extend(body);
    bytes
}

/// Writes the only frame of this direction.
pub(super) async fn write(
    send: &mut SendStream,
    version: u16,
    status: Status,
    body: &[u8],
) -> Result<(), FrameError> {
    if body.len() > JOIN_BYTES_MAX {
        return Err(FrameError::TooLong(body.len()));
    }
    let frame = encode(version, status, body);
    let written = send.write_all(&frame).await;
    written.map_err(|_| FrameError::Lost)?;
    // A stream that was stopped meanwhile is the reader's decision.
    let _ = send.finish();
    Ok(())
}

/// Reads the only frame of this direction.
pub(super) async fn read(
    recv: &mut RecvStream,
    version: u16,
) -> Result<(Status, Vec<u8>), FrameError> {
    let mut prefix = [0; PREFIX_BYTES];
    exactly(recv, &mut prefix).await?;
    if !prefix.starts_with(&MAGIC) {
        return Err(FrameError::Magic);
    }
    let theirs = u16::from_le_bytes([prefix[8], prefix[9]]);
    if theirs != version {
        let ours = version;
        return Err(FrameError::Version { ours, theirs });
    }
    let mut head = [0; HEAD_BYTES];
    exactly(recv, &mut head).await?;
    let [code, length @ ..] = head;
    let status = Status::from_code(code).ok_or(FrameError::Status)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > JOIN_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    let mut body = vec![0; length];
    exactly(recv, &mut body).await?;
    Ok((status, body))
}

async fn exactly(recv: &mut RecvStream, bytes: &mut [u8]) -> Result<(), FrameError> {
    recv.read_exact(bytes).await.map_err(|error| match error {
        ReadExactError::FinishedEarly(_) => FrameError::Truncated,
        ReadExactError::ReadError(_) => FrameError::Lost,
    })
}
