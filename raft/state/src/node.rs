//! Nodes: who belongs to the environment, what lets one in, and which work is placed where.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use repr::{NodeId, ReplicaId};
use serde::{Deserialize, Serialize};

/// One process of the environment. Its id is never reused; a removed one stays, so that it can be told so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeId,
    /// `host:port` where other nodes reach it.
    pub mesh_addr: String,
    /// `host:port` where clients reach it; empty until it has started for the first time.
    pub sql_addr: String,
    pub http_addr: String,
    /// What its certificate certifies, as SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    pub status: NodeStatus,
    /// Counts its starts; 0 until the first one.
    pub incarnation: u64,
    /// Of the binary that it runs.
    pub version: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeStatus {
    Active,
    /// It serves, but replicas and votes are moved elsewhere and none are given to it.
    Draining,
    /// For ever: it gets no connection, and whatever it was doing is over.
    Removed,
}

impl NodeStatus {
    pub fn name(self) -> &'static str {
        match self {
            NodeStatus::Active => "active",
            NodeStatus::Draining => "draining",
            NodeStatus::Removed => "removed",
        }
    }
}

/// Where a CLUSTER's replicas run and who votes in its Raft group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Of the group; bumped when the group is created anew because its majority was lost.
    pub incarnation: u64,
    /// Replicas that are not here wait for a node.
    pub replicas: BTreeMap<ReplicaId, NodeId>,
    pub voters: BTreeSet<NodeId>,
}

/// The environment's certificate authority. ENV holds it, so that whichever node leads can certify a joiner.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// DER.
    pub certificate: Vec<u8>,
    pub key_pem: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Authority {
            certificate,
            key_pem: _,
        } = self;
        let certificate = certificate.len();
        write!(
            f,
            "Authority {{ certificate: {certificate} bytes, key_pem: secret }}"
        )
    }
}

/// SHA-256 of a join token's secret.
pub type TokenHash = [u8; 32];

/// Lets one node in, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Microseconds since the Unix epoch.
    pub expires_us: u64,
    /// The node that came in with it.
    pub used_by: Option<NodeId>,
}
