//! Settings of a QUIC transport.

use std::net::SocketAddr;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};

use crate::Identity;
use crate::ca::Credentials;

/// How soon a silent peer is given up, and how often it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A connection on which nothing happens is kept alive this often, by the side that made it.
    pub keep_alive: Duration,
    /// A connection is given up after this much silence; everything that waits on it fails.
    pub silence_max: Duration,
    /// A try to connect is given up after this.
    pub connect_timeout: Duration,
    /// Pauses between tries double from the first to the second of these.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
}

impl Timing {
    /// For nodes in one place: elections take 150-300 ms there, and a dead connection should not outlast them by much.
    pub fn lan() -> Timing {
        Timing {
            keep_alive: Duration::from_millis(150),
            silence_max: Duration::from_millis(750),
            connect_timeout: Duration::from_millis(750),
            backoff_min: Duration::from_millis(25),
            backoff_max: Duration::from_millis(500),
        }
    }

    /// For a laptop, which may sleep or compile meanwhile.
    pub fn dev() -> Timing {
        Timing {
            keep_alive: Duration::from_millis(500),
            silence_max: Duration::from_secs(3),
            ..Timing::lan()
        }
    }

    /// For nodes far apart.
    pub fn wan() -> Timing {
        Timing {
            keep_alive: Duration::from_secs(1),
            silence_max: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(3),
        }
    }
}

/// Bounds on what waits and on what is accepted, each per peer and lane if not said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Body of one message or answer. What is larger belongs in a stream.
    pub message_bytes_max: usize,
    /// Bytes waiting to be sent; beyond, sending fails.
    pub queue_bytes_max: usize,
    /// Calls that wait for their answers; beyond, calling fails.
    pub calls_max: usize,
    /// Requests of a peer that are handled at a time; beyond, calls are refused as busy and one-way messages are lost.
    pub handlers_max: usize,
    /// Streams of a peer that are open at a time; beyond, opening waits.
    pub streams_max: u32,
    /// Connections to this node whose other side has not said who it is yet, of all peers together. Above half of it newcomers must first show that
    /// they receive at their address; beyond, they get no answer and try again.
    pub strangers_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message_bytes_max: 16 << 20,
            queue_bytes_max: 64 << 20,
            calls_max: 65_536,
            handlers_max: 16_384,
            streams_max: 4_096,
            strangers_max: 1_024,
        }
    }
}

/// What a transport needs to start.
#[derive(Clone)]
pub struct QuicConfig {
    /// UDP address to listen on and to connect from.
    pub bind: SocketAddr,
    pub identity: Identity,
    pub credentials: Credentials,
    pub timing: Timing,
    pub limits: Limits,
    /// Version of the protocol that this node speaks: [`crate::PROTOCOL_VERSION`], except in tests.
    pub version: u16,
}

impl QuicConfig {
    /// The defaults of a node.
    pub fn new(bind: SocketAddr, identity: Identity, credentials: Credentials) -> QuicConfig {
        QuicConfig {
            bind,
            identity,
            credentials,
            timing: Timing::lan(),
            limits: Limits::default(),
            version: crate::PROTOCOL_VERSION,
        }
    }

    /// `dialing`: for connections that this node makes.
    pub(super) fn quic(&self, dialing: bool) -> TransportConfig {
        /// Large messages of one connection at a time.
        const LARGE_AT_A_TIME: u32 = 16;
        /// Received and not yet read, per stream and per connection.
        const STREAM_WINDOW_BYTES: u32 = 2 << 20;
        const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
        /// Sent and not yet acknowledged, per connection.
        const SEND_WINDOW_BYTES: u64 = 16 << 20;
        let mut config = TransportConfig::default();
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(self.limits.streams_max))
            .max_concurrent_uni_streams(VarInt::from_u32(LARGE_AT_A_TIME))
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
            .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
            .send_window(SEND_WINDOW_BYTES)
            // A silence beyond what QUIC can say means no limit, which is what was asked for.
            .max_idle_timeout(IdleTimeout::try_from(self.timing.silence_max).ok())
            .initial_rtt(Duration::from_millis(50))
            .datagram_receive_buffer_size(None);
        if dialing {
            config.keep_alive_interval(Some(self.timing.keep_alive));
        }
        config
    }
}
