//! What nodes ask of ENV's leader.

use repr::NodeId;
use serde::{Deserialize, Serialize};
use state::Outcome;

const VERSION: u8 = 1;
const CALL_BYTES_MAX: usize = 64;
/// Outcomes of a batch may each name a key.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Answer to [`Kind::PROPOSE`](crate::Kind::PROPOSE), whose body is an encoded [`state::Command`].
///
/// Whoever asks may ask again, the same leader or the next, only with the same bytes: S recognises what it has executed by the tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ProposeAnswer {
    /// In the log at `index`, and applied by the leader: one outcome per transaction.
    Applied { index: u64, outcomes: Vec<Outcome> },
    /// Not proposed: another node leads, as far as known this one.
    NotLeader { leader: Option<NodeId> },
    /// Not proposed: too long for an entry.
    TooLarge { bytes: u64, limit: u64 },
    /// Not proposed: the leader's disk is nearly full.
    DiskFull,
    /// Nobody knows.
    Unknown { reason: String },
    /// Not proposed: the leader is stopping.
    Stopping,
}

/// Body of [`Kind::READ_POINT`](crate::Kind::READ_POINT).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadPointCall {
    /// The highest term in which the sender has voted or followed a leader, looked up after the last reader of its batch arrived: the sender need not be asked to confirm the leader.
    pub voted_term: u64,
}

/// Answer to a [`ReadPointCall`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReadPointAnswer {
    /// Everything that was acknowledged before the request was sent is in the log up to here. The reader waits until its own state has applied it.
    At {
        index: u64,
    },
    NotLeader {
        leader: Option<NodeId>,
    },
    /// No quorum confirmed the leader.
    NoQuorum,
    Stopping,
}

crate::message!(VERSION, ProposeAnswer, ANSWER_BYTES_MAX);
crate::message!(VERSION, ReadPointCall, CALL_BYTES_MAX);
crate::message!(VERSION, ReadPointAnswer, ANSWER_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Nodes of different versions talk to each other by these.
    #[test]
    fn golden_bytes() {
        let proposed = [
            ProposeAnswer::Applied {
                index: 7,
                outcomes: vec![Outcome::Committed { ts: 9 }],
            },
            ProposeAnswer::NotLeader {
                leader: Some(NodeId(2)),
            },
            ProposeAnswer::TooLarge { bytes: 3, limit: 2 },
            ProposeAnswer::DiskFull,
            ProposeAnswer::Unknown {
                reason: "x".to_owned(),
            },
            ProposeAnswer::Stopping,
        ];
        let bytes = proposed.map(|answer| {
            let bytes = answer.encode();
            assert_eq!(ProposeAnswer::decode(&bytes).unwrap(), answer);
            hex(&bytes)
        });
        assert_eq!(
            bytes,
            [
                "010007010009",
                "01010102",
                "01020302",
                "0103",
                "01040178",
                "0105"
            ]
        );
        let read = [
            ReadPointAnswer::At { index: 1 },
            ReadPointAnswer::NotLeader { leader: None },
            ReadPointAnswer::NoQuorum,
            ReadPointAnswer::Stopping,
        ];
        let bytes = read.map(|answer| {
            let bytes = answer.encode();
            assert_eq!(ReadPointAnswer::decode(&bytes).unwrap(), answer);
            hex(&bytes)
        });
        assert_eq!(bytes, ["010001", "010100", "0102", "0103"]);
        let call = ReadPointCall { voted_term: 7 };
        let bytes = call.encode();
        assert_eq!(ReadPointCall::decode(&bytes).unwrap(), call);
        assert_eq!(hex(&bytes), "0107");
    }
}
