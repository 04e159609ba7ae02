//! What gateways, CLUSTER leaders and the nodes of replicas say to each other: reads, subscriptions, and how a leader comes to its replicas.
//!
//! Bodies of calls and messages on streams are encoded by [`encode`] and have [`CALL_BYTES_MAX`] or [`STREAM_MESSAGE_BYTES_MAX`] bytes at most.

use std::sync::Arc;

use plan::lir::Dataflow;
use repr::codec::{self, CodecError};
use repr::{ClusterId, GlobalId, NodeId, ReplicaId, Row, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::compute::{Epoch, PeekId, PeekRows, Refusal, Response, SubscribeBatch};

const VERSION: u8 = 1;
/// A call's body and its answer: what the mesh takes in one message.
pub const CALL_BYTES_MAX: usize = 16 << 20;
/// A message on a stream, all its pieces together: the changes of a subscription at one time, or the rows of one answer.
pub const STREAM_MESSAGE_BYTES_MAX: usize = 2 << 30;
/// Rows beyond this many bytes do not travel in the answer of a call, see [`PeekAnswer::Kept`].
pub const ANSWER_ROWS_BYTES_MAX: u64 = 2 << 20;
/// How long the rows of an answer are kept for whoever asked.
pub const ROWS_KEPT_MS: u64 = 10_000;

/// Encodes what this module defines.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    codec::encode(VERSION, message)
}

/// Decodes what [`encode`] made.
///
/// # Errors
/// If the bytes are not that, or more than `limit_bytes`.
pub fn decode<T: DeserializeOwned>(limit_bytes: usize, bytes: &[u8]) -> Result<T, CodecError> {
    codec::decode(1..=VERSION, limit_bytes, bytes)
}

/// Body of a call of [`Kind::PEEK`](crate::Kind::PEEK) on the peek lane. The answer is a [`PeekAnswer`].
///
/// Asking again is always safe: what is read at a timestamp is the same whenever and whoever answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeekCall {
    /// To the CLUSTER's leader: read what it maintains.
    Export {
        cluster: ClusterId,
        read: Read,
        /// The leader must have acted on this catalog version before.
        catalog_version: u64,
    },
    /// To the CLUSTER's leader: run a dataflow for one answer.
    Query {
        cluster: ClusterId,
        /// Its exports are renamed by the leader.
        dataflow: Arc<Dataflow>,
        ts: Timestamp,
        arity: u64,
        bytes_max: u64,
        catalog_version: u64,
    },
    /// From the leader to the node of a replica.
    Replica {
        cluster: ClusterId,
        replica: ReplicaId,
        id: PeekId,
        epoch: Epoch,
        after: u64,
        read: Read,
    },
    /// To a node that has a replica, past the leader. Answered only by an arrangement of the plan that the reader knows.
    Direct {
        cluster: ClusterId,
        /// Of the dataflow that exports what is read.
        plan_hash: u64,
        read: Read,
    },
}

/// One read of one arrangement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Read {
    pub export: GlobalId,
    /// Exactly these keys; `None`: all rows.
    pub keys: Option<Vec<Row>>,
    pub ts: Timestamp,
    /// An encoded `plan::Mfp`: receivers keep those they know ready to run, and recognise them by their bytes.
    pub mfp: Vec<u8>,
    pub limit: Option<u64>,
    pub bytes_max: u64,
}

/// Answer to a [`PeekCall`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeekAnswer {
    Rows(PeekRows),
    /// There are more rows than fit. They are kept for [`ROWS_KEPT_MS`], for the first who opens a stream of [`Kind::PEEK`](crate::Kind::PEEK) on the bulk lane with a
    /// [`RowsCall`]; it carries one [`PeekRows`].
    Kept {
        ticket: u64,
    },
    /// A definite answer of the statement.
    Failed(Failure),
    /// Not by this replica. From a leader: not by any of its replicas.
    Refused(Refusal),
    /// Ask elsewhere: the node does not lead the CLUSTER (any more). As far as known this one does.
    NotLeader {
        leader: Option<NodeId>,
    },
}

/// Opens the stream of rows that were kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsCall {
    pub ticket: u64,
}

/// An error as its user will see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// The time to be read lies before what is kept: another read point may do.
    pub forgotten: bool,
}

/// Opens a stream of [`Kind::SUBSCRIBE`](crate::Kind::SUBSCRIBE) from a gateway to a CLUSTER's leader. [`SubscribeMessage`]s come back until either side ends it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubscribeCall {
    pub cluster: ClusterId,
    /// With `as_of`; its exports are renamed by the leader.
    pub dataflow: Arc<Dataflow>,
    pub catalog_version: u64,
}

/// What a subscription's stream carries. First that it has begun, then batches; anything else ends it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SubscribeMessage {
    /// The node leads and has told the replicas.
    Begun,
    /// Follows the one before without gap or overlap.
    Batch(SubscribeBatch),
    Failed(Failure),
    /// Begin anew at the leader, from the last progress on.
    NotLeader {
        leader: Option<NodeId>,
    },
}

/// Opens a stream of [`Kind::COMPUTE`](crate::Kind::COMPUTE) from a leader to the node of a replica. The node first says whether it is the replica's, see
/// [`ReplicaMessage`]; then [`Numbered`](crate::Numbered) commands go there. The session ends when a leader of a higher epoch, or the same leader once more, opens one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeCall {
    pub cluster: ClusterId,
    pub replica: ReplicaId,
    pub epoch: Epoch,
}

/// From a replica to its leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReplicaMessage {
    /// First message of older versions.
    Attached,
    /// First and last message: it obeys another leader.
    Stale { epoch: Epoch },
    /// First and last message: no such replica runs here (yet).
    Unknown,
    /// What the replica says, or on the stream of a [`FeedCall`] the changes of a subscription.
    Response(Response),
    /// First message: commands are awaited, and the changes of subscriptions wait to be fetched by a [`FeedCall`].
    AttachedAs { session: u64 },
}

/// Opens a stream of [`Kind::COMPUTE`](crate::Kind::COMPUTE) on the bulk lane: from the leader to a replica with which it has a session. The changes of its subscriptions come on it,
/// as [`ReplicaMessage::Response`], so that they delay nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedCall {
    pub cluster: ClusterId,
    pub replica: ReplicaId,
    pub session: u64,
}

/// Body of a call of [`Kind::CLUSTER_INFO`](crate::Kind::CLUSTER_INFO) on the control lane: what does the leader know? The answer is an `Option` of a [`ClusterInfo`]: only
/// the leader has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInfoCall {
    pub cluster: ClusterId,
}

/// A CLUSTER as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInfo {
    pub leader: NodeId,
    pub epoch: Epoch,
    pub replicas: Vec<ReplicaInfo>,
    /// (export, since, upper); upper `None` = complete for ever.
    pub exports: Vec<(GlobalId, Timestamp, Option<Timestamp>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaInfo {
    pub replica: ReplicaId,
    pub node: NodeId,
    /// It knows all wishes of the leader and is asked.
    pub ready: bool,
}

/// The answer to a call of [`Kind::CLUSTERS_LED`](crate::Kind::CLUSTERS_LED), whose body is empty: the CLUSTERs whose leader the node is, each in the incarnation that it leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClustersLed {
    pub led: Vec<(ClusterId, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use repr::Datum;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
        message: &T,
        golden: &str,
    ) {
        let bytes = encode(message);
        assert_eq!(hex(&bytes), golden, "{message:?}");
        assert_eq!(&decode::<T>(CALL_BYTES_MAX, &bytes).unwrap(), message);
        for cut in 0..bytes.len() {
            assert!(decode::<T>(CALL_BYTES_MAX, &bytes[..cut]).is_err());
        }
    }

    /// Nodes of different versions talk to each other by these.
    #[test]
    fn golden_bytes() {
        let read = Read {
            export: GlobalId(3),
            keys: Some(vec![Row::pack_slice(&[Datum::Int32(1)])]),
            ts: 4,
            mfp: vec![9, 9],
            limit: Some(5),
            bytes_max: 6,
        };
        let epoch = Epoch {
            incarnation: 1,
            term: 2,
        };
        let cluster = ClusterId(7);
        let replica = ReplicaId(8);
        check(
            &PeekCall::Export {
                cluster,
                read: read.clone(),
                catalog_version: 2,
            },
            "0100070301010207010402090901050602",
        );
        check(
            &PeekCall::Replica {
                cluster,
                replica,
                id: PeekId(1),
                epoch,
                after: 3,
                read: read.clone(),
            },
            "010207080101020303010102070104020909010506",
        );
        check(
            &PeekCall::Direct {
                cluster,
                plan_hash: 5,
                read,
            },
            "0103070503010102070104020909010506",
        );
        check(&PeekAnswer::Kept { ticket: 300 }, "0101fb2c01");
        check(&PeekAnswer::Refused(Refusal::HoldLost), "010303");
        check(
            &PeekAnswer::NotLeader {
                leader: Some(NodeId(2)),
            },
            "01040102",
        );
        check(
            &SubscribeMessage::Batch(SubscribeBatch {
                lower: 1,
                upper: None,
                updates: Ok(vec![(1, Row::pack_slice(&[Datum::Int32(1)]), -1)]),
            }),
            "0101010000010102070101",
        );
        check(
            &ComputeCall {
                cluster,
                replica,
                epoch,
            },
            "0107080102",
        );
        check(&ReplicaMessage::Stale { epoch }, "01010102");
        check(&ReplicaMessage::AttachedAs { session: 5 }, "010405");
        check(
            &FeedCall {
                cluster,
                replica,
                session: 5,
            },
            "01070805",
        );
        check(
            &ReplicaMessage::Response(Response::Frontiers {
                epoch,
                frontiers: vec![(GlobalId(1), 2, None)],
                arrangement_bytes: 3,
            }),
            "01030101020101020003",
        );
        check(
            &ClusterInfo {
                leader: NodeId(1),
                epoch,
                replicas: vec![ReplicaInfo {
                    replica,
                    node: NodeId(1),
                    ready: true,
                }],
                exports: vec![(GlobalId(1), 2, Some(3))],
            },
            "01010102010801010101020103",
        );
        check(
            &ClustersLed {
                led: vec![(cluster, 3)],
            },
            "01010703",
        );
    }

    #[test]
    fn too_long_is_refused_before_it_is_read() {
        let bytes = encode(&RowsCall { ticket: 1 });
        assert!(decode::<RowsCall>(1, &bytes).is_err());
    }
}
