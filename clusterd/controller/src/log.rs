//! What the CLUSTER's Raft group replicates: soft control state. A lost group is rebuilt from ENV and the replicas.

use std::collections::BTreeMap;

use repr::codec::{self, CodecError};
use repr::{GlobalId, Timestamp};
use serde::{Deserialize, Serialize};
use state::command::Gateway;

/// Version of the encoding of entries and snapshots; enums are append-only.
pub const LOG_VERSION: u8 = 1;
/// Most bytes of an encoded entry.
pub const ENTRY_BYTES_MAX: usize = 4 << 20;
/// Most bytes of an encoded state.
pub const STATE_BYTES_MAX: usize = 64 << 20;

/// One entry of the group's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// History of these dataflows may be forgotten before the frontiers. Only up.
    Grants(BTreeMap<GlobalId, Timestamp>),
    /// These dataflows are gone.
    Forget(Vec<GlobalId>),
    /// The oldest timestamp that the gateway's transactions may still read here; only up; `None` ends the lease.
    Lease {
        gateway: Gateway,
        oldest: Option<Timestamp>,
    },
    /// The gateway was silent for too long.
    ExpireLease { gateway: Gateway },
}

/// The state after some entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogState {
    pub grants: BTreeMap<GlobalId, Timestamp>,
    pub leases: BTreeMap<Gateway, Timestamp>,
}

impl Entry {
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(LOG_VERSION, self)
    }

    /// # Errors
    /// If the bytes are not an entry.
    pub fn decode(bytes: &[u8]) -> Result<Entry, CodecError> {
        codec::decode(1..=LOG_VERSION, ENTRY_BYTES_MAX, bytes)
    }
}

impl LogState {
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(LOG_VERSION, self)
    }

    /// # Errors
    /// If the bytes are not a state.
    pub fn decode(bytes: &[u8]) -> Result<LogState, CodecError> {
        codec::decode(1..=LOG_VERSION, STATE_BYTES_MAX, bytes)
    }

    /// Applies an entry. The answer is the grants that rose, for [`crate::Event::GrantCommitted`].
    pub fn apply(&mut self, entry: &Entry) -> BTreeMap<GlobalId, Timestamp> {
        match entry {
            Entry::Grants(grants) => {
                return grants
                    .iter()
                    .filter(|(id, ts)| self.raise(**id, **ts))
                    .map(|(id, ts)| (*id, *ts))
                    .collect();
            }
            Entry::Forget(ids) => self.grants.retain(|id, _| !ids.contains(id)),
            Entry::Lease {
                gateway,
                oldest: Some(oldest),
            } => {
                let held = self.leases.entry(*gateway).or_insert(*oldest);
                *held = (*held).max(*oldest);
            }
            Entry::Lease {
                gateway,
                oldest: None,
            }
            | Entry::ExpireLease { gateway } => {
                self.leases.remove(gateway);
            }
        }
        BTreeMap::new()
    }

    fn raise(&mut self, id: GlobalId, ts: Timestamp) -> bool {
        let granted = self.grants.entry(id).or_insert(0);
        let rises = ts > *granted;
        *granted = (*granted).max(ts);
        rises
    }

    /// What [`crate::Event::Tick`] wants to know.
    pub fn oldest_lease(&self) -> Option<Timestamp> {
        self.leases.values().copied().min()
    }
}

#[cfg(test)]
mod tests {
    use repr::NodeId;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// These bytes are in logs: they must decode for ever.
    #[test]
    fn golden_bytes() {
        let gateway = Gateway {
            node: NodeId(1),
            incarnation: 2,
        };
        let entries = [
            (
                Entry::Grants(BTreeMap::from([(GlobalId(3), 4)])),
                "0100010304",
            ),
            (Entry::Forget(vec![GlobalId(3)]), "01010103"),
            (
                Entry::Lease {
                    gateway,
                    oldest: Some(9),
                },
                "010201020109",
            ),
            (Entry::ExpireLease { gateway }, "01030102"),
        ];
        let mut state = LogState::default();
        for (entry, golden) in entries {
            assert_eq!(hex(&entry.encode()), golden);
            assert_eq!(Entry::decode(&entry.encode()).unwrap(), entry);
            state.apply(&entry);
        }
        state.apply(&Entry::Grants(BTreeMap::from([(GlobalId(3), 5)])));
        assert_eq!(hex(&state.encode()), "0101030500");
        assert_eq!(LogState::decode(&state.encode()).unwrap(), state);
    }

    #[test]
    fn grants_and_leases_only_rise() {
        let mut state = LogState::default();
        let grant = |ts| Entry::Grants(BTreeMap::from([(GlobalId(1), ts)]));
        assert_eq!(state.apply(&grant(5)), BTreeMap::from([(GlobalId(1), 5)]));
        assert_eq!(state.apply(&grant(4)), BTreeMap::new());
        assert_eq!(state.grants[&GlobalId(1)], 5);
        let gateway = Gateway {
            node: NodeId(1),
            incarnation: 1,
        };
        let lease = |oldest| Entry::Lease { gateway, oldest };
        state.apply(&lease(Some(7)));
        state.apply(&lease(Some(6)));
        assert_eq!(state.oldest_lease(), Some(7));
        state.apply(&lease(None));
        assert_eq!(state.oldest_lease(), None);
    }
}
