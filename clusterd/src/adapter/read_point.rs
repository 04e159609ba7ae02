//! Read points: the one barrier that every strict statement passes (R0).
//!
//! A statement joins the *next* round. A round takes everybody who has arrived, then asks ENV's leader for a ReadIndex, waits until the local
//! state has applied it, and hands all members the same applied state. Nothing is cached: a round that is under way admits nobody.

use crate::adapter::error::{Result, SqlError};
use crate::env::Env;
use host::metrics::{BusyMeter, COUNT_BUCKETS, Histogram, SECONDS_BUCKETS, histogram};
use parking_lot::Mutex;
use repr::Timestamp;
use state::State;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};

/// Sessions that may wait for one round; more are refused (53300) rather than queued without bound.
const WAITING_MAX: usize = 100_000;

/// A point in ENV's history at which a statement reads: everything acknowledged before the statement began is in it.
#[derive(Clone)]
pub struct ReadPoint {
    pub ts: Timestamp,
    /// The applied state: catalog and tables.
    pub state: Arc<State>,
}

type Waiter = oneshot::Sender<Result<ReadPoint>>;

/// The batcher of one node.
pub struct ReadPoints {
    waiting: Mutex<Vec<Waiter>>,
    arrived: Notify,
    env: Arc<Env>,
    batch_size: Histogram,
    round_seconds: Histogram,
}

impl ReadPoints {
    pub fn new(env: Arc<Env>) -> Arc<Self> {
        Arc::new(ReadPoints {
            waiting: Mutex::new(Vec::new()),
            arrived: Notify::new(),
            env,
            batch_size: histogram(
                "clusterd_read_point_batch_size",
                "Statements that shared one read point round.",
                COUNT_BUCKETS,
            ),
            round_seconds: histogram(
                "clusterd_read_point_round_seconds",
                "Time of one read point round.",
                SECONDS_BUCKETS,
            ),
        })
    }

    /// Waits for a read point that was asked for after this call began.
    pub async fn join(&self) -> Result<ReadPoint> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            if waiting.len() >= WAITING_MAX {
                return Err(SqlError::new(
                    "53300",
                    "too many statements wait for a read point",
                ));
            }
            waiting.push(sender);
            if waiting.len() == 1 {
                self.arrived.notify_one();
            }
        }
        receiver.await.unwrap_or_else(|_| Err(SqlError::shutdown()))
    }

    /// Serves rounds for ever; one task per node.
    pub async fn run(self: Arc<Self>) {
        let meter = BusyMeter::named("read_points");
        meter.meter(self.serve()).await;
    }

    async fn serve(&self) {
        loop {
            self.arrived.notified().await;
            // The scheduler runs this task next, before sessions that are ready as well. Those go first: a round costs the same for one as for all.
            tokio::task::yield_now().await;
            let members = std::mem::take(&mut *self.waiting.lock());
            if members.is_empty() {
                continue;
            }
            self.batch_size.observe(members.len() as f64);
            let timer = self.round_seconds.start_timer();
            let answer = self.env.read_index().await.map(|()| {
                let state = self.env.storage().view();
                ReadPoint {
                    ts: state.last_ts(),
                    state,
                }
            });
            timer.observe_duration();
            let mut members = members;
            if planted::is("h2") {
                members.append(&mut *self.waiting.lock());
            }
            for member in members {
                // A member that has gone (cancelled, disconnected) needs no answer.
                let _ = member.send(answer.clone());
            }
        }
    }
}
