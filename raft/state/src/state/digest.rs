//! The hash of a state: equal on all nodes at equal index, whatever their batches look like.
//!
//! It is a chain over what each entry did: its index, its time, its outcomes, the contents of the shards it touched (a sum of row
//! hashes, so it does not depend on order or layout) and, where an entry changes other things, the entry itself.

use std::collections::BTreeSet;

use repr::ShardId;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::State;
use crate::command::{Command, Outcome};

const DIGEST_VERSION: u8 = 1;

impl State {
    /// The hash of everything applied so far.
    pub fn hash(&self) -> u64 {
        self.chain
    }

    pub(super) fn chain(
        &mut self,
        command: &Command,
        outcomes: &[Outcome],
        touched: &BTreeSet<ShardId>,
    ) {
        let mut hasher = Xxh3::new();
        for number in [
            self.chain,
            self.applied,
            self.last_ts,
            self.read_floor,
            self.stored_bytes,
        ] {
            hasher.update(&number.to_le_bytes());
        }
        match (command, outcomes) {
            // A warning to the proposer, which changes nothing.
            (Command::Stage { .. }, [Outcome::UniqueViolation { .. }]) => {
                digest::<[Outcome]>(&mut hasher, &[])
            }
            _ => digest(&mut hasher, outcomes),
        }
        match command {
            Command::Batch(batch) => batch
                .txns
                .iter()
                .for_each(|txn| digest(&mut hasher, &txn.catalog_ops)),
            Command::Stage { token, number, .. } => digest(&mut hasher, &(token, number)),
            Command::Init { .. }
            | Command::Close { .. }
            | Command::Holds { .. }
            | Command::Lease { .. }
            | Command::ExpireLease { .. }
            | Command::EndSession { .. }
            | Command::EndSessions { .. }
            | Command::GatewayStarted { .. }
            | Command::Authority(_)
            | Command::Node(_)
            | Command::Place { .. } => digest(&mut hasher, command),
        }
        for id in touched {
            let content = self.shards.get(id).map_or([0; 3], |shard| {
                [shard.content, shard.rows, shard.last_write]
            });
            content
                .iter()
                .for_each(|number| hasher.update(&number.to_le_bytes()));
        }
        self.chain = hasher.digest();
    }
}

fn digest<T: Serialize + ?Sized>(hasher: &mut Xxh3, value: &T) {
    hasher.update(&repr::codec::encode(DIGEST_VERSION, value));
}
