//! A replica with tables in memory, driven step by step.
#![allow(dead_code)]

use compute::*;
use plan::{Dataflow, Mfp};
use protocol::compute::*;
use repr::{Diff, GlobalId, Row, RowRef, ShardId, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, mpsc};

type TableUpdate = (Row, Timestamp, Diff);

/// Tables as lists of updates.
#[derive(Default)]
pub struct MemTables {
    shards: Mutex<HashMap<ShardId, Vec<TableUpdate>>>,
    upper: Mutex<Timestamp>,
}

struct MemSnapshot {
    updates: Vec<TableUpdate>,
    upper: Timestamp,
}

struct MemScan {
    snapshot: Arc<MemSnapshot>,
    at: usize,
}

impl TableFeed for MemTables {
    fn snapshot(
        &self,
        shard: ShardId,
        _as_of: Timestamp,
    ) -> Result<Arc<dyn TableSnapshot>, FeedError> {
        let shards = self.shards.lock().unwrap();
        let updates = shards
            .get(&shard)
            .ok_or(FeedError::UnknownShard(shard))?
            .clone();
        Ok(Arc::new(MemSnapshot {
            updates,
            upper: *self.upper.lock().unwrap(),
        }))
    }
}

impl TableSnapshot for MemSnapshot {
    fn upper(&self) -> Timestamp {
        self.upper
    }

    fn scan(self: Arc<Self>) -> Box<dyn TableScan> {
        Box::new(MemScan {
            snapshot: self,
            at: 0,
        })
    }
}

impl TableScan for MemScan {
    fn next_chunk(
        &mut self,
        rows_max: usize,
        visit: &mut dyn FnMut(RowRef<'_>, Timestamp, Diff),
    ) -> bool {
        let end = (self.at + rows_max).min(self.snapshot.updates.len());
        for (row, ts, diff) in &self.snapshot.updates[self.at..end] {
            visit(row.as_ref(), *ts, *diff);
        }
        self.at = end;
        end < self.snapshot.updates.len()
    }
}

/// A commit's rows in one allocation, as the log holds them.
#[derive(Default)]
pub struct Packed {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    diffs: Vec<Diff>,
    ts: Timestamp,
}

impl Packed {
    pub fn push(&mut self, row: &Row, diff: Diff) {
        self.bytes.extend_from_slice(row.as_bytes());
        self.ends.push(self.bytes.len());
        self.diffs.push(diff);
    }
}

impl TableUpdates for Packed {
    fn for_each(&self, visit: &mut dyn FnMut(RowRef<'_>, Timestamp, Diff)) {
        let mut start = 0;
        for (end, diff) in self.ends.iter().zip(&self.diffs) {
            // SAFETY: these bytes were copied from a row.
            visit(
                unsafe { RowRef::from_bytes_unchecked(&self.bytes[start..*end]) },
                self.ts,
                *diff,
            );
            start = *end;
        }
    }

    fn len(&self) -> usize {
        self.ends.len()
    }
}

/// What the replica has said.
#[derive(Default)]
pub struct Heard {
    pub uppers: BTreeMap<GlobalId, Option<Timestamp>>,
    pub sinces: BTreeMap<GlobalId, Timestamp>,
    pub failed: Vec<(GlobalId, plan::EvalError)>,
    pub inventories: Vec<Vec<InventoryEntry>>,
    pub subscribed: Vec<(GlobalId, SubscribeBatch)>,
    pub bytes: u64,
}

pub struct Engine {
    pub replica: ReplicaHandle,
    pub tables: Arc<MemTables>,
    pub heard: Arc<(Mutex<Heard>, Condvar)>,
    pub epoch: Epoch,
    pub seq: u64,
    pub keep_history: bool,
    peeks: u128,
    _runtime: tokio::runtime::Runtime,
}

impl Engine {
    pub fn new(config: ReplicaConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let tables = Arc::new(MemTables {
            shards: Default::default(),
            upper: Mutex::new(1),
        });
        let heard: Arc<(Mutex<Heard>, Condvar)> = Arc::default();
        let sink_heard = Arc::clone(&heard);
        let sink: ResponseSink = Arc::new(move |response| {
            let (heard, news) = &*sink_heard;
            let mut heard = heard.lock().unwrap();
            match response {
                Response::Inventory { dataflows, .. } => heard.inventories.push(dataflows),
                Response::Frontiers {
                    frontiers,
                    arrangement_bytes,
                    ..
                } => {
                    heard.bytes = arrangement_bytes;
                    for (id, since, upper) in frontiers {
                        heard.uppers.insert(id, upper);
                        heard.sinces.insert(id, since);
                    }
                }
                Response::DataflowFailed { id, error, .. } => heard.failed.push((id, error)),
                Response::Subscribe { id, batch, .. } => heard.subscribed.push((id, batch)),
            }
            news.notify_all();
        });
        let spawner = host::TokioSpawn::on(runtime.handle().clone());
        let clock = Arc::new(host::RealClock::new());
        let replica =
            Replica::spawn(config, Arc::clone(&tables) as _, sink, clock, &spawner).unwrap();
        let epoch = Epoch {
            incarnation: 1,
            term: 1,
        };
        let mut engine = Engine {
            replica,
            tables,
            heard,
            epoch,
            seq: 0,
            keep_history: true,
            peeks: 0,
            _runtime: runtime,
        };
        engine.command(Command::Hello);
        engine
    }

    pub fn command(&mut self, command: Command) -> u64 {
        self.seq += 1;
        self.replica.send(Numbered {
            epoch: self.epoch,
            seq: self.seq,
            command,
        });
        self.seq
    }

    pub fn create_table(&self, shard: u64, rows: Vec<Row>) {
        let updates = rows.into_iter().map(|row| (row, 0, 1)).collect();
        self.tables
            .shards
            .lock()
            .unwrap()
            .insert(ShardId(shard), updates);
    }

    pub fn upper(&self) -> Timestamp {
        *self.tables.upper.lock().unwrap()
    }

    /// Creates the dataflow at `as_of`.
    pub fn create(&mut self, mut dataflow: Dataflow, as_of: Timestamp) {
        dataflow.as_of = Some(as_of);
        let id = dataflow.exports[0].id;
        self.command(Command::CreateDataflow {
            id,
            hash: id.0,
            dataflow: Arc::new(dataflow),
        });
    }

    /// Commits at the current upper and moves it on.
    pub fn commit(&self, writes: Vec<(u64, Vec<(Row, Diff)>)>) -> Timestamp {
        let ts = self.upper();
        let writes = writes
            .into_iter()
            .map(|(shard, updates)| {
                let updates: Vec<(Row, Timestamp, Diff)> = updates
                    .into_iter()
                    .map(|(row, diff)| (row, ts, diff))
                    .collect();
                if self.keep_history {
                    self.tables
                        .shards
                        .lock()
                        .unwrap()
                        .entry(ShardId(shard))
                        .or_default()
                        .extend(updates.iter().cloned());
                }
                TableWrite {
                    shard: ShardId(shard),
                    lost_before: None,
                    updates: Arc::new(updates),
                }
            })
            .collect();
        *self.tables.upper.lock().unwrap() = ts + 1;
        self.replica.commit(TableChanges {
            upper: ts + 1,
            writes,
        });
        ts
    }

    /// Commits packed rows to one table.
    pub fn commit_packed(&self, shard: u64, mut updates: Packed) -> Timestamp {
        let ts = self.upper();
        updates.ts = ts;
        *self.tables.upper.lock().unwrap() = ts + 1;
        let write = TableWrite {
            shard: ShardId(shard),
            lost_before: None,
            updates: Arc::new(updates),
        };
        self.replica.commit(TableChanges {
            upper: ts + 1,
            writes: vec![write],
        });
        ts
    }

    /// Moves time to `upper` without a write.
    pub fn close(&self, upper: Timestamp) {
        *self.tables.upper.lock().unwrap() = upper;
        self.replica.commit(TableChanges {
            upper,
            writes: vec![],
        });
    }

    pub fn wait(&self, condition: impl Fn(&Heard) -> bool) {
        let (heard, news) = &*self.heard;
        let mut heard = heard.lock().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(300);
        while !condition(&heard) {
            let left = deadline
                .checked_duration_since(std::time::Instant::now())
                .expect("the replica answers in time");
            heard = news.wait_timeout(heard, left).unwrap().0;
        }
    }

    /// Waits until the export is complete at `ts`.
    pub fn wait_for(&self, id: u64, ts: Timestamp) {
        self.wait(|heard| {
            heard
                .uppers
                .get(&GlobalId(id))
                .is_some_and(|upper| upper.is_none_or(|upper| upper > ts))
        });
    }

    pub fn peek_with(
        &mut self,
        change: impl FnOnce(&mut Peek),
        id: u64,
        arity: usize,
        ts: Timestamp,
    ) -> mpsc::Receiver<PeekResponse> {
        self.peeks += 1;
        let mut peek = Peek {
            id: PeekId(self.peeks),
            epoch: self.epoch,
            after: self.seq,
            target: PeekTarget {
                id: GlobalId(id),
                keys: None,
            },
            ts,
            mfp: Arc::new(Mfp::identity(arity)),
            limit: None,
            bytes_max: u64::MAX,
        };
        change(&mut peek);
        let (send, receive) = mpsc::channel();
        self.replica
            .peek(peek, Box::new(move |response| drop(send.send(response))));
        receive
    }

    pub fn peek(&mut self, id: u64, arity: usize, ts: Timestamp) -> PeekResponse {
        self.peek_with(|_| {}, id, arity, ts)
            .recv()
            .expect("answered")
    }

    /// The rows at `ts`, in order of their bytes.
    pub fn rows(&mut self, id: u64, arity: usize, ts: Timestamp) -> Vec<(Row, Diff)> {
        match self.peek(id, arity, ts) {
            PeekResponse::Rows(rows) => {
                let mut rows = rows.rows;
                rows.sort();
                rows
            }
            other => panic!("expected rows, got {other:?}"),
        }
    }
}
