//! Load generators: sources that make their own rows, written through ENV like any other write.

use crate::adapter::Adapter;
use crate::adapter::error::{Result, SqlError};
use repr::{Datum, Diff, GlobalId, Row, ShardId, Timestamp};
use state::catalog::{ItemKind, LoadGenerator, Source};
use state::command::{Check, Session, Token, Write};
use state::{Outcome, State, Txn};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The finest tick.
const STEP: Duration = Duration::from_millis(10);
/// How often a node that does not lead ENV looks whether it does.
const LEAD_AGAIN: Duration = Duration::from_millis(100);
/// The gateway's session number that generators write under; client sessions start at 1.
const SESSION: u64 = 0;

/// One source.
struct Counter {
    /// `None`: not known, the shard has to be read.
    count: Option<Count>,
    due_us: u64,
}

/// How far a source has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    next: i64,
    /// No commit after this has touched the shard, as far as this generator knows.
    since: Timestamp,
}

/// Runs all generators of the environment, one tick after another, while this node leads ENV: one node does it for all.
pub async fn run(adapter: Arc<Adapter>) {
    let mut counters: BTreeMap<GlobalId, Counter> = BTreeMap::new();
    let mut seq = 0;
    let mut stopping = adapter.stopping.clone();
    let (_, mut catalog) = adapter
        .env
        .storage()
        .listen_for(|changes| changes.catalog_changed);
    // Sources of before this start are there already.
    let mut idle = false;
    loop {
        let leads = adapter.env.group().is_leader();
        let pause = if leads { STEP } else { LEAD_AGAIN };
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => return,
            () = adapter.host.clock.sleep(pause), if !idle => {}
            // Without sources, nothing happens before the catalog changes.
            () = catalog.wait(), if idle => {}
        }
        drop(catalog.drain());
        let state = adapter.env.storage().view();
        let mut items = state.catalog().items.values();
        idle = !items.any(|item| matches!(item.kind, ItemKind::Source(_)));
        if !leads {
            // Whoever leads meanwhile goes on with them.
            counters.clear();
            continue;
        }
        counters.retain(|id, _| state.catalog().item(*id).is_some());
        let sources = state
            .catalog()
            .items
            .values()
            .filter_map(|item| match &item.kind {
                ItemKind::Source(source) => Some((item.id, item.version, source)),
                ItemKind::Table(_)
                | ItemKind::View(_)
                | ItemKind::MaterializedView(_)
                | ItemKind::Index(_) => None,
            });
        for (id, version, source) in sources {
            let now = adapter.host.clock.wall_us();
            let counter = counters.entry(id).or_insert(Counter {
                count: None,
                due_us: now,
            });
            if counter.due_us > now {
                continue;
            }
            seq += 1;
            let token = Token {
                session: Session {
                    gateway: adapter.gateway,
                    number: SESSION,
                },
                seq,
                base: state.applied(),
            };
            // A late tick does not make the next one come early.
            let LoadGenerator::Counter {
                tick_interval_us, ..
            } = &source.generator;
            counter.due_us = now + tick_interval_us;
            let count = counter
                .count
                .unwrap_or_else(|| Count::read(&state, source.shard));
            let txn = count.tick(token, (id, version), source);
            let outcome = adapter.committer.commit(txn).await;
            match &outcome {
                Ok(Outcome::Committed { .. }) => {}
                Ok(outcome) => tracing::debug!(%id, ?outcome, "a generator's tick was rejected"),
                Err(error) if error.sqlstate == SqlError::shutdown().sqlstate => return,
                Err(error) => tracing::warn!(%id, %error, "a generator's tick failed"),
            }
            counter.count = count.after(outcome);
        }
    }
}

impl Count {
    /// Goes on behind the largest value that is stored.
    fn read(state: &State, shard: ShardId) -> Self {
        let mut last = 0;
        if let Some(shard) = state.shard(shard) {
            shard.for_each(state.last_ts(), |row, _| {
                last = last.max(row.column(0).unwrap_int64())
            });
        }
        Count {
            next: last + 1,
            since: state.last_ts(),
        }
    }

    /// What is known after an attempt at the next tick. The shard is read again only if somebody else may have written to it, or this attempt may have.
    fn after(self, outcome: Result<Outcome>) -> Option<Self> {
        match outcome {
            Ok(Outcome::Committed { ts }) => Some(Count {
                next: self.next + 1,
                since: ts,
            }),
            Ok(
                Outcome::CatalogMoved
                | Outcome::TooLarge { .. }
                | Outcome::NoSpace
                | Outcome::NameTaken { .. }
                | Outcome::UniqueViolation { .. },
            ) => Some(self),
            Ok(Outcome::Conflict { .. } | Outcome::TokenExpired | Outcome::Invalid { .. }) => None,
            // Anything but an unknown outcome was never sent.
            Err(error) if error.sqlstate == SqlError::unknown_outcome().sqlstate => None,
            Err(_) => Some(self),
        }
    }

    fn tick(&self, token: Token, object: (GlobalId, u64), source: &Source) -> Txn {
        let LoadGenerator::Counter {
            max_cardinality, ..
        } = &source.generator;
        let row = |n: i64| Row::pack_slice(&[Datum::Int64(n)]);
        let mut updates: Vec<(Row, Diff)> = vec![(row(self.next), 1)];
        if let Some(max) = max_cardinality.and_then(|m| i64::try_from(m).ok())
            && self.next > max
        {
            updates.push((row(self.next - max), -1));
        }
        Txn {
            token,
            schema: vec![object],
            catalog_ops: vec![],
            checks: vec![Check::ShardUnchanged {
                shard: source.shard,
                since: self.since,
            }],
            writes: vec![Write {
                shard: source.shard,
                updates,
                truncate: false,
            }],
            staged: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_is_read_again_only_if_its_rows_may_be_others() {
        let count = Count { next: 7, since: 50 };
        let committed = count.after(Ok(Outcome::Committed { ts: 60 }));
        assert_eq!(committed, Some(Count { next: 8, since: 60 }));
        let nothing_was_written = [
            Ok(Outcome::CatalogMoved),
            Ok(Outcome::TooLarge { limit_bytes: 1 }),
            Err(SqlError::new("53100", "the disk is full")),
            Err(SqlError::new("57P03", "no leader")),
        ];
        for outcome in nothing_was_written {
            assert_eq!(count.after(outcome), Some(count));
        }
        let unclear = [
            Ok(Outcome::Conflict { shard: None }),
            Ok(Outcome::TokenExpired),
            Err(SqlError::unknown_outcome()),
        ];
        for outcome in unclear {
            assert_eq!(count.after(outcome), None);
        }
    }
}
