//! What nodes tell each other about themselves and their sessions.

use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;
const BYTES_MAX: usize = 64 << 10;

/// What a node says of itself when asked with [`Kind::NODE_INFO`](crate::Kind::NODE_INFO), whose body is the asker's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Microseconds since the epoch, by its clock, when this was written.
    pub wall_us: u64,
    /// Index that it has applied of ENV's log.
    pub applied: u64,
    /// It ends its sessions and will stop.
    pub draining: bool,
    /// Hash of ENV's state at an index: equal on all nodes.
    pub hash: Option<(u64, u64)>,
}

/// A cancel request of the Postgres protocol that reached another node than its session's ([`Kind::CANCEL`](crate::Kind::CANCEL)). Nobody hears what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    pub pid: i32,
    pub secret: Vec<u8>,
}

crate::message!(VERSION, NodeInfo, BYTES_MAX);
crate::message!(VERSION, Cancel, BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Nodes of different versions talk to each other by these.
    #[test]
    fn golden_bytes() {
        let info = NodeInfo {
            wall_us: 1,
            applied: 2,
            draining: true,
            hash: Some((3, 4)),
        };
        assert_eq!(hex(&info.encode()), "01010201010304");
        assert_eq!(NodeInfo::decode(&info.encode()).unwrap(), info);
        let cancel = Cancel {
            pid: 3,
            secret: vec![4],
        };
        assert_eq!(hex(&cancel.encode()), "01060104");
        assert_eq!(Cancel::decode(&cancel.encode()).unwrap(), cancel);
    }
}
