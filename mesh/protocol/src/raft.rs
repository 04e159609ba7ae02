//! Raft traffic: opaque to everybody but crate `raft`.

use serde::{Deserialize, Serialize};

/// One Raft RPC or its answer. `group` 0 is ENV; other groups are CLUSTER ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftFrame {
    pub group: u64,
    pub kind: u8,
    pub bytes: Vec<u8>,
}
