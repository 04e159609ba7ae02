//! Commands as bytes of the log.

use repr::codec::{self, CodecError};

use super::Command;

/// Version of the encoding. Enums are append-only: a reader of a version reads everything that was ever written with it.
pub const COMMAND_VERSION: u8 = 1;

/// Most bytes of one encoded command. Proposers aim at 1 MiB; the rest is room for plans and for one row that is larger.
pub const COMMAND_BYTES_MAX: usize = 4 << 20;

impl Command {
    /// The bytes that go into the log.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(COMMAND_VERSION, self)
    }

    /// # Errors
    /// If the bytes are not a command of a known version, or are more than [`COMMAND_BYTES_MAX`].
    pub fn decode(bytes: &[u8]) -> Result<Command, CodecError> {
        codec::decode(1..=COMMAND_VERSION, COMMAND_BYTES_MAX, bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use repr::{ClusterId, Datum, NodeId, Row, ShardId};

    use super::*;
    use crate::command::{Batch, Check, Gateway, Session, Token, Txn, Write};

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
        let session = Session { gateway, number: 3 };
        let key = Row::pack_slice(&[Datum::Int32(7)]);
        let txn = Txn {
            token: Token {
                session,
                seq: 4,
                base: 5,
            },
            schema: vec![(repr::GlobalId(16384), 1)],
            catalog_ops: vec![],
            checks: vec![Check::KeyUnchanged {
                shard: ShardId(9),
                space: 0,
                key: key.clone(),
                since: 300,
            }],
            writes: vec![Write {
                shard: ShardId(9),
                updates: vec![(key, -1)],
                truncate: false,
            }],
            staged: 0,
        };
        let commands = [
            (
                Command::Init {
                    environment: 1,
                    generation: 0,
                    wall_us: 2,
                    superusers: vec!["u".into()],
                },
                "01000100020101 75",
            ),
            (
                Command::Batch(Batch {
                    wall_us: 70_000,
                    txns: vec![txn],
                }),
                "0101fc701101000101020304050 1fb004001000101090002 0707fb2c01010901020707010000",
            ),
            (Command::Close { wall_us: 1 }, "010201"),
            (
                Command::Holds {
                    cluster: ClusterId(1),
                    incarnation: 2,
                    frontiers: BTreeMap::from([(ShardId(3), 4)]),
                },
                "01030102010304",
            ),
            (
                Command::Lease {
                    gateway,
                    oldest: Some(9),
                },
                "010401020109",
            ),
            (Command::ExpireLease { gateway }, "01050102"),
            (Command::EndSession { session }, "0107010203"),
            (Command::GatewayStarted { gateway }, "01080102"),
            (
                Command::EndSessions {
                    sessions: vec![session],
                },
                "010c01010203",
            ),
        ];
        for (command, golden) in commands {
            let bytes = command.encode();
            assert_eq!(hex(&bytes), golden.replace(' ', ""), "{command:?}");
            assert_eq!(Command::decode(&bytes).unwrap(), command);
        }
    }
}
