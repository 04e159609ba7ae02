//! Group commit: the writes of all sessions, many transactions in one log entry.
//!
//! Transactions queue while the previous entry is in flight; then all that wait become one [`state::Command::Batch`]. One quorum round and one fsync pay for
//! timestamp, transactions and data. Each transaction gets its own outcome back.

use crate::adapter::error::{Result, SqlError};
use crate::env::Env;
use host::metrics::{
    BYTES_BUCKETS, BusyMeter, COUNT_BUCKETS, Histogram, IntGauge, SECONDS_BUCKETS, gauge, histogram,
};
use state::{Batch, Command, Outcome, Txn};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Largest entry, unless one transaction alone is larger.
const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Transactions of one entry.
const BATCH_TXNS_MAX: usize = 4096;
/// Transactions that may wait; senders then wait for room.
const QUEUE_MAX: usize = 16 * 1024;

struct Pending {
    txn: Txn,
    bytes: usize,
    reply: oneshot::Sender<Result<Outcome>>,
}

/// The sending side; cheap to clone.
#[derive(Clone)]
pub struct Committer {
    queue: mpsc::Sender<Pending>,
    waiting: IntGauge,
}

/// Bytes that a transaction takes in an entry, roughly.
pub fn txn_bytes(txn: &Txn) -> usize {
    let writes: usize = txn
        .writes
        .iter()
        .flat_map(|w| &w.updates)
        .map(|(row, _)| row.byte_len() + 10)
        .sum();
    let catalog = txn.catalog_ops.iter().map(catalog_bytes).sum::<usize>();
    256 + writes + catalog + txn.checks.len() * 48
}

fn catalog_bytes(op: &state::command::CatalogOp) -> usize {
    match op {
        state::command::CatalogOp::CreateItem(item)
        | state::command::CatalogOp::UpdateItem(item) => {
            item.create_sql.len() + item.plan().map_or(0, |p| p.bytes.len()) + 1024
        }
        _ => 1024,
    }
}

impl Committer {
    /// The committer and the task that serves it.
    pub fn new(env: Arc<Env>) -> (Committer, impl Future<Output = ()> + Send + 'static) {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        let waiting = gauge(
            "clusterd_commit_queue_length",
            "Transactions that wait for the next log entry.",
        );
        let committer = Committer {
            queue,
            waiting: waiting.clone(),
        };
        (committer, Server::new(env, receiver, waiting).run())
    }

    /// Commits one transaction. An error means that the outcome is unknown or that nothing was sent; its SQLSTATE tells which.
    pub async fn commit(&self, txn: Txn) -> Result<Outcome> {
        let bytes = txn_bytes(&txn);
        let (reply, answer) = oneshot::channel();
        self.waiting.inc();
        if self
            .queue
            .send(Pending { txn, bytes, reply })
            .await
            .is_err()
        {
            self.waiting.dec();
            return Err(SqlError::shutdown());
        }
        answer
            .await
            .unwrap_or_else(|_| Err(SqlError::unknown_outcome()))
    }
}

struct Server {
    env: Arc<Env>,
    queue: mpsc::Receiver<Pending>,
    /// Taken from the queue, but too large for the entry before.
    held_back: Option<Pending>,
    waiting: IntGauge,
    batch_txns: Histogram,
    batch_bytes: Histogram,
    seconds: Histogram,
}

impl Server {
    fn new(env: Arc<Env>, queue: mpsc::Receiver<Pending>, waiting: IntGauge) -> Self {
        Server {
            env,
            queue,
            held_back: None,
            waiting,
            batch_txns: histogram(
                "clusterd_commit_batch_txns",
                "Transactions per log entry.",
                COUNT_BUCKETS,
            ),
            batch_bytes: histogram(
                "clusterd_commit_batch_bytes",
                "Estimated bytes per log entry.",
                BYTES_BUCKETS,
            ),
            seconds: histogram(
                "clusterd_commit_seconds",
                "Time from proposing an entry to its being applied.",
                SECONDS_BUCKETS,
            ),
        }
    }

    async fn run(mut self) {
        let meter = BusyMeter::named("group_commit");
        meter
            .meter(async move {
                while let Some(first) = self.next().await {
                    let batch = self.gather(first);
                    let batch = self.admit(batch);
                    if !batch.is_empty() {
                        self.commit(batch).await;
                    }
                }
            })
            .await;
    }

    async fn next(&mut self) -> Option<Pending> {
        match self.held_back.take() {
            Some(pending) => Some(pending),
            None => self.queue.recv().await,
        }
    }

    /// Everybody who waits now, as far as one entry holds.
    fn gather(&mut self, first: Pending) -> Vec<Pending> {
        let mut bytes = first.bytes;
        let mut batch = vec![first];
        while batch.len() < BATCH_TXNS_MAX
            && let Ok(pending) = self.queue.try_recv()
        {
            if bytes + pending.bytes > ENTRY_BYTES_MAX {
                self.held_back = Some(pending);
                break;
            }
            bytes += pending.bytes;
            batch.push(pending);
        }
        self.waiting.sub(batch.len() as i64);
        self.batch_txns.observe(batch.len() as f64);
        self.batch_bytes.observe(bytes as f64);
        batch
    }

    /// On a disk that is nearly full those that would grow the data are refused one by one: a DELETE must not fail for the INSERT beside it.
    fn admit(&self, batch: Vec<Pending>) -> Vec<Pending> {
        let mut admitted = Vec::with_capacity(batch.len());
        for pending in batch {
            match self.env.admits(&pending.txn) {
                Ok(()) => admitted.push(pending),
                Err(error) => drop(pending.reply.send(Err(error))),
            }
        }
        admitted
    }

    async fn commit(&mut self, batch: Vec<Pending>) {
        let timer = self.seconds.start_timer();
        let (txns, replies): (Vec<_>, Vec<_>) = batch.into_iter().map(|p| (p.txn, p.reply)).unzip();
        let command = Command::Batch(Batch {
            wall_us: self.env.wall_us(),
            txns,
        });
        match self.env.propose(&command).await {
            // Nobody can tell whose outcome is missing.
            Ok(outcomes) if outcomes.len() != replies.len() => {
                let (got, sent) = (outcomes.len(), replies.len());
                tracing::error!(got, sent, "the log did not answer each transaction");
                for reply in replies {
                    let _ = reply.send(Err(SqlError::unknown_outcome()));
                }
            }
            Ok(outcomes) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    // A session that has gone does not need its outcome.
                    let _ = reply.send(Ok(outcome));
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
        timer.observe_duration();
    }
}
