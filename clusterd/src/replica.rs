//! The replicas placed on this node: their worker threads, what feeds them, and whom they obey ([`session`]).

pub mod feed;
pub mod session;

use anyhow::{Context, Result};
use compute::{Replica, ReplicaConfig, ReplicaHandle};
use feed::Batches;
use host::{Host, TaskHandle};
use parking_lot::Mutex;
use protocol::Epoch;
use repr::GlobalId;
use session::{NotAttached, Responses, Session, Sessions};
use state::catalog::Cluster;
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::{Listener, Storage};
use tokio::sync::oneshot;

/// A replica that runs here. It lives on when the CLUSTER's leader changes.
pub struct Hosted {
    pub handle: ReplicaHandle,
    sessions: Arc<Sessions>,
    /// The task that hands it every commit. It goes on until it is aborted.
    feed: TaskHandle,
    /// Changes of subscriptions by session, until the leader fetches them.
    unfetched: Mutex<BTreeMap<u64, Batches>>,
    size: Mutex<Size>,
}

/// How large a replica is. The number of workers cannot be changed while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    workers: u32,
    memory_bytes_max: Option<u64>,
}

impl Size {
    pub fn of(cluster: &Cluster) -> Size {
        Size {
            workers: cluster.workers.max(1),
            memory_bytes_max: cluster.memory_limit_bytes,
        }
    }
}

impl Hosted {
    /// Starts a replica and the task that hands it every commit.
    ///
    /// # Errors
    /// If the system refuses the threads.
    pub fn start(storage: &Storage, host: &Host, size: Size) -> Result<Hosted> {
        let config = ReplicaConfig {
            workers: size.workers as usize,
            memory_bytes_max: size.memory_bytes_max,
            ..ReplicaConfig::default()
        };
        let (state, listener) = storage.listen();
        let sessions = Sessions::new();
        let responses = Arc::clone(&sessions);
        let handle = Replica::spawn(
            config,
            Arc::new(storage.clone()),
            Arc::new(move |response| responses.respond(response)),
            Arc::clone(&host.clock),
            &*host.spawn,
        )
        .context("starting the threads of a replica")?;
        handle.tables_are_at(state.upper());
        let follow = follow(listener, handle.clone());
        let feed = host.spawn.spawn("replica-feed", Box::pin(follow));
        Ok(Hosted {
            handle,
            sessions,
            feed,
            unfetched: Mutex::default(),
            size: Mutex::new(size),
        })
    }

    /// Takes on another size, if that can be done without a new start.
    pub fn resize(&self, wanted: Size) -> bool {
        let mut size = self.size.lock();
        if size.workers != wanted.workers {
            return false;
        }
        if size.memory_bytes_max != wanted.memory_bytes_max {
            self.handle.set_memory_bytes_max(wanted.memory_bytes_max);
        }
        *size = wanted;
        true
    }

    /// See [`Sessions::attach`].
    pub fn attach(
        &self,
        epoch: Epoch,
        responses: Responses,
    ) -> Result<(Session, oneshot::Receiver<()>), NotAttached> {
        self.sessions.attach(&self.handle, epoch, responses)
    }

    /// Keeps what a session's leader has to fetch, for as long as the answer is held.
    pub fn keep_feed(&self, session: u64, batches: Batches) -> Kept<'_> {
        self.unfetched.lock().insert(session, batches);
        Kept(self, session)
    }

    /// What a session's leader fetches, once.
    pub fn take_feed(&self, session: u64) -> Option<Batches> {
        self.unfetched.lock().remove(&session)
    }

    /// See [`Sessions::route`].
    pub fn route(&self, dataflow: GlobalId, hash: u64) -> Option<(Epoch, u64)> {
        self.sessions.route(dataflow, hash)
    }

    /// Ends the workers, between two of their steps: not to be called on a thread of the runtime.
    pub fn stop(&self) {
        self.feed.abort();
        self.sessions.end();
        self.handle.shutdown();
    }
}

/// Changes of subscriptions are kept for their session's leader.
pub struct Kept<'a>(&'a Hosted, u64);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        drop(self.0.take_feed(self.1));
    }
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
