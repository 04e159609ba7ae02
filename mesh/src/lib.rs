//! The mesh: how the nodes of an environment reach each other.
//!
//! What this is: [`Transport`], the seam through which everything between nodes travels (calls with one answer, one-way messages, streams), and its
//! implementations: [`QuicTransport`] for real networks, [`SimTransport`] for simulations, [`FaultTransport`] around either to make a network misbehave;
//! the environment's certificate authority ([`ca`]); and the door for nodes that have no certificate of it yet ([`join`]). What this is not: it does not know what a message means (crate `protocol` has the types,
//! their senders the meaning), who leads what, or who is a member: it is told addresses and removals.
//!
//! The life of one call over QUIC: [`Transport::call`] looks up the link to the peer's lane, which makes a connection if there is none, and puts the
//! frame into the lane's queue; the link's task wakes and writes everything that has gathered; the peer's session cuts the bytes into
//! frames and gives each to the handler of its lane and kind; answers gather in the session's queue and travel back; the link finds the waiting
//! caller by the call's number. At the deadline the caller stops waiting by itself, and the peer drops the handler's future.
//!
//! Caveats: calls and messages have no order among each other; streams have. A call whose answer did not come may have been carried out:
//! [`CallError::delivery`] tells. There is no 0-RTT and no retry in here: what is sent twice was sent twice by its sender.

pub mod ca;
mod error;
mod fault;
mod identity;
pub mod join;
mod local;
pub mod metrics;
pub mod quic;
mod registry;
mod sim;
mod stats;
mod stream;
mod transport;

pub use error::{CallError, Delivery, Refusal, StreamError};
pub use fault::{Direction, Fault, FaultCommandError, FaultTransport, Faults, Scope};
pub use identity::{EnvironmentId, Generation, Identity, NodeName};
pub use quic::{Limits, QuicConfig, QuicTransport, StartError, Timing, TlsError};
pub use sim::{SimNet, SimTransport};
pub use stats::LinkStats;
pub use stream::{
    STREAM_FRAME_BYTES_MAX, STREAM_WINDOW_BYTES, Stream, StreamReceiver, StreamSender,
};
pub use transport::{CallHandler, Caller, Message, Request, StreamHandler, Transport, ping};

/// The version of the protocol between nodes that this program speaks. Nodes of different versions refuse each other.
pub const PROTOCOL_VERSION: u16 = 2;
