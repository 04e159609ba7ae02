//! How messages between nodes are told apart: lanes and kinds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A class of traffic between two nodes. Lanes do not wait for each other: a full or slow lane delays only what is sent on it, and no order holds
/// between lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// Votes, entries and heartbeats of all Raft groups. Nothing else may travel here: elections hang on it.
    Raft,
    /// Small requests that somebody waits for: proposals, read points, cancels, orders to replicas.
    Control,
    /// Reads of one collection at one timestamp, and their rows.
    Peek,
    /// Whatever is large or long: snapshots, subscriptions.
    Bulk,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Lane; 4] = [Lane::Raft, Lane::Control, Lane::Peek, Lane::Bulk];

    /// Its number on the wire, which never changes. Also its place in [`Lane::ALL`].
    pub fn code(self) -> u8 {
        match self {
            Lane::Raft => 0,
            Lane::Control => 1,
            Lane::Peek => 2,
            Lane::Bulk => 3,
        }
    }

    /// The lane with that number.
    pub fn from_code(code: u8) -> Option<Lane> {
        Lane::ALL.get(usize::from(code)).copied()
    }

    /// Its name in metrics, relations and orders of the fault injector.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Raft => "raft",
            Lane::Control => "control",
            Lane::Peek => "peek",
            Lane::Bulk => "bulk",
        }
    }

    /// The lane of that name.
    pub fn from_name(name: &str) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| lane.name() == name)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a message is, which decides how its body is read and who handles it. Numbers never change and are never used again; a node refuses a kind
/// that it does not know, and the sender hears so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kind(pub u16);

impl Kind {
    /// Asks for the same bytes back. Every node answers it on every lane.
    pub const PING: Kind = Kind(0);
    /// A [`RaftFrame`](crate::raft::RaftFrame). Pieces of snapshots travel on [`Lane::Bulk`], everything else on [`Lane::Raft`]. The answer is the answer's frame.
    pub const RAFT: Kind = Kind(1);
    /// To ENV's leader: transactions with their tokens. An unknown outcome may be asked for again only with the same token.
    pub const PROPOSE: Kind = Kind(2);
    /// To ENV's leader, a [`ReadPointCall`](crate::ReadPointCall): one ReadIndex for a batch of readers. It must be *made* after the last reader of the batch arrived.
    pub const READ_POINT: Kind = Kind(3);
    /// To the node of a session: end what it runs now. Carries the session's secret; a wrong secret is ignored, as Postgres does.
    pub const CANCEL: Kind = Kind(4);
    /// What a node is and how it fares: addresses, version, groups, wall clock.
    pub const NODE_INFO: Kind = Kind(5);
    /// A stream, from a CLUSTER's leader to a replica, opened with a [`ComputeCall`](crate::cluster::ComputeCall): [`Numbered`](crate::Numbered) commands out,
    /// [`Response`](crate::Response)s back, both in order. A new session begins with Hello; one with a lower epoch than the replica has seen is refused.
    pub const COMPUTE: Kind = Kind(6);
    /// On [`Lane::Peek`] a call, to a CLUSTER's leader or to the node of a replica: a [`PeekCall`](crate::cluster::PeekCall). On [`Lane::Bulk`] a stream: the rows of an
    /// answer that was too large for a message.
    pub const PEEK: Kind = Kind(7);
    /// A stream, from a gateway to a CLUSTER's leader: batches of a subscription until either side ends it.
    pub const SUBSCRIBE: Kind = Kind(8);
    /// To a CLUSTER's leader: the oldest timestamp that a gateway may still read.
    pub const LEASE: Kind = Kind(9);
    /// Orders about nodes: drain, remove, join.
    pub const NODE_ADMIN: Kind = Kind(10);
    /// To a CLUSTER's leader: what it knows of replicas and frontiers.
    pub const CLUSTER_INFO: Kind = Kind(16);
    /// From ENV's leader to any node, on [`Lane::Control`]: which CLUSTERs it leads. The answer is a [`ClustersLed`](crate::cluster::ClustersLed).
    pub const CLUSTERS_LED: Kind = Kind(17);
    /// From a CLUSTER's leader that has lost sight of ENV to a node that could lead in its place, on [`Lane::Control`]: does it see ENV's leader? The answer is a `bool`.
    pub const SEES_ENV: Kind = Kind(18);
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kind {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes of different versions talk to each other by these.
    #[test]
    fn codes_and_names_stay() {
        let all: Vec<_> = Lane::ALL.iter().map(|l| (l.code(), l.name())).collect();
        assert_eq!(all, [(0, "raft"), (1, "control"), (2, "peek"), (3, "bulk")]);
        for lane in Lane::ALL {
            assert_eq!(Lane::from_code(lane.code()), Some(lane));
            assert_eq!(Lane::from_name(lane.name()), Some(lane));
        }
        assert_eq!((Lane::from_code(4), Lane::from_name("x")), (None, None));
    }
}
