//! Load generators: sources that make their own rows, written through ENV like any other write.

use crate::adapter::Adapter;
use repr::{Datum, Diff, GlobalId, Row, ShardId, Timestamp};
use state::catalog::{ItemKind, LoadGenerator, Source};
use state::command::{Check, Session, Token, Write};
use state::{Outcome, State, Txn};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The finest tick.
const STEP: Duration = Duration::from_millis(10);
/// The gateway's session number that generators write under; client sessions start at 1.
const SESSION: u64 = 0;

/// Where a counter stands.
struct Counter {
    next: i64,
    /// No commit after this has touched the shard, as far as this generator knows.
    since: Timestamp,
    due_us: u64,
}

/// Runs all generators of the environment, one tick after another.
pub async fn run(adapter: Arc<Adapter>) {
    let mut counters: BTreeMap<GlobalId, Counter> = BTreeMap::new();
    let mut seq = 0;
    let mut stopping = adapter.stopping.clone();
    let (_, mut catalog) = adapter
        .env
        .storage()
        .listen_for(|changes| changes.catalog_changed);
    loop {
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => return,
            () = adapter.host.clock.sleep(STEP), if !counters.is_empty() => {}
            // Without sources, nothing happens before the catalog changes.
            () = catalog.wait(), if counters.is_empty() => {}
        }
        drop(catalog.drain());
        let state = adapter.env.storage().view();
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
            let counter = counters
                .entry(id)
                .or_insert_with(|| Counter::read(&state, source.shard, now));
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
            let txn = counter.tick(token, (id, version), source, now);
            match adapter.committer.commit(txn).await {
                Ok(Outcome::Committed { ts }) => {
                    counter.next += 1;
                    counter.since = ts;
                }
                Ok(outcome) => {
                    tracing::debug!(%id, ?outcome, "a generator's tick was rejected");
                    counters.remove(&id);
                }
                Err(error) => {
                    tracing::warn!(%id, %error, "a generator's tick has no outcome");
                    counters.remove(&id);
                }
            }
        }
    }
}

impl Counter {
    /// Goes on behind the largest value that is stored.
    fn read(state: &State, shard: ShardId, now_us: u64) -> Self {
        let mut last = 0;
        if let Some(shard) = state.shard(shard) {
            shard.for_each(state.last_ts(), |row, _| {
                last = last.max(row.column(0).unwrap_int64())
            });
        }
        Counter {
            next: last + 1,
            since: state.last_ts(),
            due_us: now_us,
        }
    }

    fn tick(&mut self, token: Token, object: (GlobalId, u64), source: &Source, now_us: u64) -> Txn {
        let LoadGenerator::Counter {
            tick_interval_us,
            max_cardinality,
        } = &source.generator;
        // A late tick does not make the next one come early.
        self.due_us = now_us + tick_interval_us;
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
