//! Counters per peer and lane.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use protocol::Lane;
use repr::NodeId;

/// One peer's lane, both directions, since this process started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStats {
    pub peer: NodeId,
    pub lane: Lane,
    /// Whether requests to the peer have a connection now.
    pub connected: bool,
    /// Smoothed round trip of the connection; `None` without one.
    pub rtt: Option<Duration>,
    /// Payload and framing of the connections that this node made, without QUIC's own.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Calls, one-way messages and streams to the peer.
    pub requests_sent: u64,
    /// Of those, how many failed in the transport.
    pub requests_failed: u64,
    /// Calls, one-way messages and streams of the peer.
    pub requests_received: u64,
    /// Connections made to the peer: one more than the times it was lost.
    pub connects: u64,
    /// Calls that wait for their answer now.
    pub in_flight: u64,
    /// Bytes that wait to be sent now.
    pub queued_bytes: u64,
    /// Why the last connection ended or could not be made.
    pub last_error: Option<String>,
}

impl LinkStats {
    pub(crate) fn new(peer: NodeId, lane: Lane) -> LinkStats {
        LinkStats {
            peer,
            lane,
            connected: false,
            rtt: None,
            bytes_sent: 0,
            bytes_received: 0,
            requests_sent: 0,
            requests_failed: 0,
            requests_received: 0,
            connects: 0,
            in_flight: 0,
            queued_bytes: 0,
            last_error: None,
        }
    }
}

/// What is counted while messages pass.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub bytes_sent: AtomicU64,
    pub bytes_received: AtomicU64,
    pub requests_sent: AtomicU64,
    pub requests_failed: AtomicU64,
    pub requests_received: AtomicU64,
    pub connects: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Relaxed);
    }

    pub(crate) fn read_into(&self, stats: &mut LinkStats) {
        let Counters {
            bytes_sent,
            bytes_received,
            requests_sent,
            requests_failed,
            requests_received,
            connects,
        } = self;
        stats.bytes_sent = bytes_sent.load(Relaxed);
        stats.bytes_received = bytes_received.load(Relaxed);
        stats.requests_sent = requests_sent.load(Relaxed);
        stats.requests_failed = requests_failed.load(Relaxed);
        stats.requests_received = requests_received.load(Relaxed);
        stats.connects = connects.load(Relaxed);
    }
}
