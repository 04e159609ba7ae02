//! What the CLUSTER's Raft group replicates: soft control state. A lost group is rebuilt from ENV and the replicas.

use std::collections::BTreeMap;

use repr::codec::{self, CodecError};
use repr::{GlobalId, Timestamp};
use serde::{Deserialize, Serialize};
use state::command::Gateway;

/// Version of the encoding of entries and snapshots; enums are append-only.
pub const LOG_VERSION: u8 = 2;
/// Snapshots of this version and older do not say which catalog was acted on.
const WITHOUT_CATALOG: u8 = 1;
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
    /// From here on replicas are told of what the catalog has in this version. A leader whose catalog is older must tell them nothing: it would have them drop what was
    /// created since.
    Acts { catalog_version: u64 },
}

/// The state after some entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogState {
    pub grants: BTreeMap<GlobalId, Timestamp>,
    pub leases: BTreeMap<Gateway, Timestamp>,
    /// The newest version of the catalog that replicas may have been told of.
    pub acted: u64,
}

/// The state as [`WITHOUT_CATALOG`] had it.
#[derive(Deserialize)]
struct OldLogState {
    grants: BTreeMap<GlobalId, Timestamp>,
    leases: BTreeMap<Gateway, Timestamp>,
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
        if bytes
            .first()
            .is_some_and(|version| *version <= WITHOUT_CATALOG)
        {
            let old = codec::decode(1..=WITHOUT_CATALOG, STATE_BYTES_MAX, bytes)?;
            let OldLogState { grants, leases } = old;
            return Ok(LogState {
                grants,
                leases,
                acted: 0,
            });
        }
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
            Entry::Acts { catalog_version } => self.acted = self.acted.max(*catalog_version),
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
                "0200010304",
            ),
            (Entry::Forget(vec![GlobalId(3)]), "02010103"),
            (
                Entry::Lease {
                    gateway,
                    oldest: Some(9),
                },
                "020201020109",
            ),
            (Entry::ExpireLease { gateway }, "02030102"),
            (Entry::Acts { catalog_version: 7 }, "020407"),
        ];
        let mut state = LogState::default();
        for (entry, golden) in entries {
            assert_eq!(hex(&entry.encode()), golden);
            assert_eq!(Entry::decode(&entry.encode()).unwrap(), entry);
            state.apply(&entry);
        }
        state.apply(&Entry::Grants(BTreeMap::from([(GlobalId(3), 5)])));
        assert_eq!(hex(&state.encode()), "020103050007");
        assert_eq!(LogState::decode(&state.encode()).unwrap(), state);
        let old = LogState::decode(&[1, 1, 3, 5, 0]).unwrap();
        assert_eq!(old, LogState { acted: 0, ..state });
        assert_eq!(
            Entry::decode(&[1, 1, 1, 3]).unwrap(),
            Entry::Forget(vec![GlobalId(3)])
        );
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
