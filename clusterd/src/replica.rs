//! The replicas placed on this node: their worker threads, and what feeds them.

use anyhow::{Context, Result};
use compute::{Replica, ReplicaConfig, ReplicaHandle, ResponseSink};
use host::{Host, TaskHandle};
use state::catalog::Cluster;
use std::sync::Arc;
use storage::{Listener, Storage};

/// A replica that runs here.
pub struct Placed {
    pub handle: ReplicaHandle,
    /// The task that hands it every commit. It goes on until it is aborted.
    pub feed: TaskHandle,
}

/// Starts a replica of a CLUSTER and the task that hands it every commit.
pub fn start(
    storage: &Storage,
    host: &Host,
    cluster: &Cluster,
    responses: ResponseSink,
) -> Result<Placed> {
    let config = ReplicaConfig {
        workers: cluster.workers.max(1) as usize,
        memory_bytes_max: cluster.memory_limit_bytes,
        ..ReplicaConfig::default()
    };
    let (state, listener) = storage.listen();
    let handle = Replica::spawn(
        config,
        Arc::new(storage.clone()),
        responses,
        Arc::clone(&host.clock),
        &*host.spawn,
    )
    .context("starting the threads of a replica")?;
    handle.tables_are_at(state.upper());
    let follow = follow(listener, handle.clone());
    let feed = host.spawn.spawn("replica-feed", Box::pin(follow));
    Ok(Placed { handle, feed })
}

/// Hands on what is committed, in log order.
async fn follow(mut listener: Listener, replica: ReplicaHandle) {
    loop {
        listener.wait().await;
        for event in listener.drain() {
            replica.follow(&event);
        }
    }
}
