//! Why a message was not answered, and what its sender may conclude from that.

use protocol::{Kind, Lane};
use repr::NodeId;

/// Whether a message that failed may have had an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The receiver's handler never saw it, or refused it: sending it again, to anybody, is safe.
    Never,
    /// The handler may have run. Only what is safe to do twice may be sent again.
    Unknown,
}

/// Why a call, a message or the opening of a stream failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection, and the last try to make one failed. A try goes on in the background.
    #[error("node {to} cannot be reached: {reason}")]
    Unreachable { to: NodeId, reason: String },
    /// One side refused the other when they met: another environment, version, generation, or a removed node. Trying again soon is of no use.
    #[error("node {to} and this node refuse each other: {reason}")]
    Rejected { to: NodeId, reason: String },
    /// This side's queue for the lane is full.
    #[error("too much is waiting to be sent to node {to} on lane {lane}")]
    Full { to: NodeId, lane: Lane },
    #[error("a message of {bytes} bytes is longer than the {limit} allowed on lane {lane}")]
    TooLong {
        lane: Lane,
        bytes: usize,
        limit: usize,
    },
    /// No answer in time.
    #[error("node {to} did not answer in time")]
    Deadline { to: NodeId },
    /// The connection ended while the answer was awaited.
    #[error("the connection to node {to} was lost: {reason}")]
    Lost { to: NodeId, reason: String },
    /// The receiver did not carry it out.
    #[error("node {to} refused: {refusal}")]
    Refused { to: NodeId, refusal: Refusal },
    /// This transport was closed.
    #[error("this node is stopping")]
    Closed,
}

impl CallError {
    /// Whether the receiver may have acted on the message.
    pub fn delivery(&self) -> Delivery {
        match self {
            CallError::Unreachable { .. }
            | CallError::Rejected { .. }
            | CallError::Full { .. }
            | CallError::TooLong { .. }
            | CallError::Closed => Delivery::Never,
            CallError::Refused { refusal, .. } => refusal.delivery(),
            CallError::Deadline { .. } | CallError::Lost { .. } => Delivery::Unknown,
        }
    }
}

/// Why the receiver did not answer a message. What a message means is not the transport's business: a handler that understood its request
/// answers with bytes, even when the answer is "not the leader".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody handles this kind on this lane there: another version, or not started yet.
    #[error("nothing handles {kind} on lane {lane}")]
    NoHandler { lane: Lane, kind: Kind },
    /// Too many requests are being handled there.
    #[error("too busy")]
    Busy,
    /// The receiver is stopping.
    #[error("stopping")]
    Stopping,
    /// The body could not be read.
    #[error("malformed: {0}")]
    Malformed(String),
    /// The answer would be longer than the lane allows.
    #[error("the answer of {0} bytes is too long")]
    AnswerTooLong(usize),
    /// The handler ended without an answer: it panicked, or was given up at the deadline.
    #[error("the request was given up")]
    Abandoned,
}

impl Refusal {
    fn delivery(&self) -> Delivery {
        match self {
            Refusal::NoHandler { .. }
            | Refusal::Busy
            | Refusal::Stopping
            | Refusal::Malformed(_) => Delivery::Never,
            Refusal::AnswerTooLong(_) | Refusal::Abandoned => Delivery::Unknown,
        }
    }
}

/// Why a stream ended before its end, or does not take a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The other side has stopped reading, or is gone.
    #[error("the other side of the stream is gone")]
    Gone,
    /// The connection ended, or the sender went away without finishing.
    #[error("the stream was lost: {0}")]
    Lost(String),
    /// The other side ended it with a reason.
    #[error("the stream was refused: {0}")]
    Refused(Refusal),
    /// Only from `try_send`: the receiver has not taken enough of what was sent.
    #[error("the receiver of the stream is slow")]
    Full,
    #[error("a frame of {bytes} bytes is longer than the {limit} allowed")]
    TooLong { bytes: usize, limit: usize },
}
