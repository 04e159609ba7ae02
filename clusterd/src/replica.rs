//! The replicas placed on this node: their worker threads, and what feeds them.

use anyhow::{Context, Result};
use compute::{
    FeedError, Replica, ReplicaConfig, ReplicaHandle, ResponseSink, TableChanges, TableFeed, TableScan, TableSnapshot, TableUpdates,
    TableWrite,
};
use host::Host;
use repr::{Diff, RowRef, ShardId, Timestamp};
use state::catalog::Cluster;
use state::shard::Batch;
use state::{Changes, ReadError};
use std::sync::Arc;
use storage::{Event, History, HistoryScan, Listener, ShardJump, Storage};

/// Starts a replica of a CLUSTER and the task that hands it every commit.
pub fn start(storage: &Storage, host: &Host, cluster: &Cluster, responses: ResponseSink) -> Result<ReplicaHandle> {
    let config = ReplicaConfig {
        workers: cluster.workers.max(1) as usize,
        memory_bytes_max: cluster.memory_limit_bytes,
        ..ReplicaConfig::default()
    };
    let (state, listener) = storage.listen();
    let feed = Arc::new(Feed { storage: storage.clone() });
    let handle = Replica::spawn(config, feed, responses, Arc::clone(&host.clock), &*host.spawn)
        .context("starting the threads of a replica")?;
    handle.commit(TableChanges { upper: state.upper(), writes: vec![] });
    drop(host.spawn.spawn("replica-feed", Box::pin(follow(listener, handle.clone()))));
    Ok(handle)
}

/// Hands on what is committed, in log order.
async fn follow(mut listener: Listener, replica: ReplicaHandle) {
    loop {
        listener.wait().await;
        for event in listener.drain() {
            match event {
                Event::Changes(changes) => replica.commit(commit(&changes)),
                Event::Jump(jump) => {
                    let shards = jump.to.shards().map(|shard| shard.id());
                    let writes = shards.filter_map(|id| Some(jumped(id, jump.shard(id)?))).collect();
                    replica.commit(TableChanges { upper: jump.to.upper(), writes });
                }
            }
        }
    }
}

fn commit(changes: &Changes) -> TableChanges {
    let writes = changes.writes.iter().map(|(shard, batch)| TableWrite {
        shard: *shard,
        lost_before: None,
        updates: Arc::new(Updates(Arc::clone(batch))),
    });
    TableChanges { upper: changes.upper, writes: writes.collect() }
}

fn jumped(shard: ShardId, jump: ShardJump) -> TableWrite {
    TableWrite { shard, lost_before: jump.lost_before, updates: Arc::new(jump.updates) }
}

struct Updates(Arc<Batch>);

impl TableUpdates for Updates {
    fn for_each(&self, visit: &mut dyn FnMut(RowRef<'_>, Timestamp, Diff)) {
        self.0.iter().for_each(|(row, time, diff)| visit(row, time, diff));
    }

    fn len(&self) -> usize {
        self.0.updates()
    }
}

/// This node's tables.
struct Feed {
    storage: Storage,
}

impl TableFeed for Feed {
    fn snapshot(&self, shard: ShardId, as_of: Timestamp) -> Result<Arc<dyn TableSnapshot>, FeedError> {
        let history = self.storage.history(shard, as_of).map_err(|error| match error {
            ReadError::UnknownShard { .. } => FeedError::UnknownShard(shard),
            ReadError::SinceBeyondTs { since, .. } => FeedError::NotReadable { shard, since, as_of },
            ReadError::NotYet { upper, .. } => FeedError::NotReadable { shard, since: upper, as_of },
        })?;
        Ok(Arc::new(Pinned(history)))
    }
}

struct Pinned(History);

impl TableSnapshot for Pinned {
    fn upper(&self) -> Timestamp {
        self.0.upper()
    }

    fn scan(self: Arc<Self>) -> Box<dyn TableScan> {
        Box::new(Scan(self.0.scan()))
    }
}

struct Scan(HistoryScan);

impl TableScan for Scan {
    fn next_chunk(&mut self, rows_max: usize, visit: &mut dyn FnMut(RowRef<'_>, Timestamp, Diff)) -> bool {
        self.0.next_chunk(rows_max, visit)
    }
}
