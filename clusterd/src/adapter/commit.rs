//! Group commit: the writes of all sessions, many transactions in one log entry.
//!
//! Transactions queue while the previous entry is in flight; then all that wait become one [`state::Command::Batch`]. One quorum round and one fsync pay for
//! timestamp, transactions and data. Each transaction gets its own outcome back.
//!
//! Clients that are answered together do not come back together: the first of them would start an entry of its own, and all others wait for a round until the next. So a second
//! entry may go out before the first is back, once half of those who write lately wait for it.
//!
//! Who comes while no entry is in flight and nobody waits carries its own entry into the log, on its own task: a lone writer shares nothing with others, and each task on
//! its way costs it time.

use crate::adapter::error::{Result, SqlError};
use crate::env::{Applied, Env, disk_full};
use futures::stream::{FuturesUnordered, StreamExt};
use host::metrics::{
    BYTES_BUCKETS, BusyMeter, COUNT_BUCKETS, Histogram, IntGauge, SECONDS_BUCKETS, gauge, histogram,
};
use state::{Batch, Command, Outcome, Txn};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, mpsc, oneshot};

/// Largest entry, unless one transaction alone is larger.
const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Transactions of one entry.
const BATCH_TXNS_MAX: usize = 4096;
/// A second entry in flight has at least so many.
const SECOND_TXNS_MIN: usize = 4;
/// Transactions that may wait; senders then wait for room.
const QUEUE_MAX: usize = 16 * 1024;

/// Transactions that go into one entry, with what is to be told of them.
struct Pending {
    work: Work,
    bytes: usize,
}

enum Work {
    /// Of a session here.
    One(Txn, oneshot::Sender<Result<Outcome>>),
    /// Of another gateway, whose leader this node is.
    Many(Vec<Txn>, oneshot::Sender<Result<Applied>>),
}

/// Who waits for how many of an entry's outcomes, in order.
enum Reply {
    /// A session goes on with what it has changed of the catalog: it is told once this node has applied it.
    Catalog(oneshot::Sender<Result<Outcome>>),
    /// What it has written it will see at its next read point.
    One(oneshot::Sender<Result<Outcome>>),
    /// Which of the gateway's transactions are in the entry; the others are refused.
    Many(Vec<bool>, oneshot::Sender<Result<Applied>>),
}

impl Work {
    fn len(&self) -> usize {
        match self {
            Work::One(..) => 1,
            Work::Many(txns, _) => txns.len(),
        }
    }

    fn fail(self, error: SqlError) {
        // A session or gateway that has gone does not need its outcome.
        match self {
            Work::One(_, reply) => drop(reply.send(Err(error))),
            Work::Many(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

impl Reply {
    /// Takes its share of the outcomes; true if that was there.
    fn send(self, index: u64, outcomes: &mut impl Iterator<Item = Outcome>) -> bool {
        match self {
            Reply::One(reply) | Reply::Catalog(reply) => match outcomes.next() {
                Some(outcome) => {
                    let _ = reply.send(Ok(outcome));
                    true
                }
                None => {
                    let _ = reply.send(Err(SqlError::unknown_outcome()));
                    false
                }
            },
            Reply::Many(admitted, reply) => {
                let count = admitted.len();
                let outcome = |admitted| match admitted {
                    true => outcomes.next(),
                    false => Some(Outcome::NoSpace),
                };
                let outcomes: Vec<Outcome> = admitted.into_iter().map_while(outcome).collect();
                let complete = outcomes.len() == count;
                let answer = match complete {
                    true => Ok(Applied { index, outcomes }),
                    false => Err(SqlError::unknown_outcome()),
                };
                let _ = reply.send(answer);
                complete
            }
        }
    }

    fn fail(self, error: SqlError) {
        match self {
            Reply::One(reply) | Reply::Catalog(reply) => drop(reply.send(Err(error))),
            Reply::Many(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

/// The sending side; cheap to clone.
#[derive(Clone)]
pub struct Committer {
    env: Arc<Env>,
    queue: mpsc::Sender<Pending>,
    traffic: Arc<Traffic>,
    metrics: Metrics,
}

/// What is on its way into the log, and who waits for it.
struct Traffic {
    /// Entries in flight.
    entries: AtomicUsize,
    /// Who is in the queue, or gathered by its server.
    waiting: AtomicUsize,
    /// Transactions of the last entry that went alone.
    alone_txns: AtomicUsize,
    /// Signalled when a lone entry is back and somebody waits.
    back: Notify,
    length: IntGauge,
}

impl Traffic {
    fn new() -> Traffic {
        Traffic {
            entries: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            alone_txns: AtomicUsize::new(0),
            back: Notify::new(),
            length: gauge(
                "clusterd_commit_queue_length",
                "Transactions that wait for the next log entry.",
            ),
        }
    }

    /// Lets one entry go out by itself if nothing is in flight and nobody waits: nobody is overtaken.
    fn go_alone(&self, txns: usize) -> Option<Alone<'_>> {
        // The planted bug is one of the queue.
        if self.waiting.load(Ordering::SeqCst) > 0 || planted::is("h5") {
            return None;
        }
        let free = self
            .entries
            .compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
        free.ok()?;
        self.alone_txns.store(txns, Ordering::Relaxed);
        Some(Alone(self))
    }

    fn wait(&self) {
        // Before the queue is entered: a lone entry that comes back either sees this, or is seen to be back.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.length.inc();
    }

    fn go(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::SeqCst);
        self.length.sub(count as i64);
    }
}

/// An entry in flight without the queue's server.
struct Alone<'a>(&'a Traffic);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.entries.fetch_sub(1, Ordering::SeqCst);
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            self.0.back.notify_one();
        }
    }
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
        let (traffic, metrics) = (Arc::new(Traffic::new()), Metrics::new());
        let committer = Committer {
            env: Arc::clone(&env),
            queue,
            traffic: Arc::clone(&traffic),
            metrics: metrics.clone(),
        };
        (
            committer,
            Server::new(env, receiver, traffic, metrics).run(),
        )
    }

    /// Commits one transaction. An error means that the outcome is unknown or that nothing was sent; its SQLSTATE tells which.
    pub async fn commit(&self, txn: Txn) -> Result<Outcome> {
        let bytes = txn_bytes(&txn);
        let (reply, answer) = oneshot::channel();
        self.send(Work::One(txn, reply), bytes).await?;
        answer
            .await
            .unwrap_or_else(|_| Err(SqlError::unknown_outcome()))
    }

    /// Commits another gateway's transactions, together and in this order, which take `bytes` in an entry.
    pub async fn commit_many(&self, txns: Vec<Txn>, bytes: usize) -> Result<Applied> {
        let (reply, answer) = oneshot::channel();
        self.send(Work::Many(txns, reply), bytes).await?;
        answer
            .await
            .unwrap_or_else(|_| Err(SqlError::unknown_outcome()))
    }

    /// Carries the work into the log, or hands it to the queue's server.
    async fn send(&self, work: Work, bytes: usize) -> Result<()> {
        if self.queue.is_closed() {
            return Err(SqlError::shutdown());
        }
        if let Some(_alone) = self.traffic.go_alone(work.len()) {
            self.metrics.observe(work.len(), bytes);
            let mut entry = Entry::with_capacity(work.len(), 1);
            entry.add(|txn| self.env.admits(txn), work);
            if !entry.txns.is_empty() {
                commit(Arc::clone(&self.env), self.metrics.clone(), entry).await;
            }
            return Ok(());
        }
        self.traffic.wait();
        let sent = self.queue.send(Pending { work, bytes }).await;
        sent.map_err(|_| {
            self.traffic.go(1);
            SqlError::shutdown()
        })
    }
}

struct Server {
    env: Arc<Env>,
    queue: mpsc::Receiver<Pending>,
    /// Taken from the queue, in no entry yet.
    gathered: VecDeque<Pending>,
    /// Transactions of its entries in flight.
    in_flight: usize,
    /// How many transactions were on their way or waiting when an entry came back last: about as many clients write.
    writers: usize,
    traffic: Arc<Traffic>,
    metrics: Metrics,
}

#[derive(Clone)]
struct Metrics {
    batch_txns: Histogram,
    batch_bytes: Histogram,
    seconds: Histogram,
}

impl Metrics {
    fn new() -> Metrics {
        Metrics {
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
}

impl Metrics {
    fn observe(&self, txns: usize, bytes: usize) {
        self.batch_txns.observe(txns as f64);
        self.batch_bytes.observe(bytes as f64);
    }
}

impl Server {
    fn new(
        env: Arc<Env>,
        queue: mpsc::Receiver<Pending>,
        traffic: Arc<Traffic>,
        metrics: Metrics,
    ) -> Self {
        Server {
            env,
            queue,
            gathered: VecDeque::new(),
            in_flight: 0,
            writers: 0,
            traffic,
            metrics,
        }
    }

    async fn run(self) {
        let meter = BusyMeter::named("group_commit");
        meter.meter(self.serve()).await;
    }

    async fn serve(mut self) {
        let mut entries = FuturesUnordered::new();
        let mut arrived = Vec::new();
        let mut open = true;
        while open || !entries.is_empty() || !self.gathered.is_empty() {
            while self.may_send(self.traffic.entries.load(Ordering::SeqCst)) {
                let entry = self.next_batch();
                if !entry.txns.is_empty() {
                    self.in_flight += entry.txns.len();
                    self.traffic.entries.fetch_add(1, Ordering::SeqCst);
                    let (env, metrics) = (Arc::clone(&self.env), self.metrics.clone());
                    entries.push(commit(env, metrics, entry));
                }
            }
            let room = BATCH_TXNS_MAX.saturating_sub(self.gathered.len());
            tokio::select! {
                biased;
                Some(txns) = entries.next(), if !entries.is_empty() => {
                    self.traffic.entries.fetch_sub(1, Ordering::SeqCst);
                    self.writers = self.in_flight + self.waiting_txns();
                    self.in_flight -= txns;
                }
                () = self.traffic.back.notified(), if !self.gathered.is_empty() => {
                    let alone = self.traffic.alone_txns.load(Ordering::Relaxed);
                    self.writers = self.in_flight + self.waiting_txns() + alone;
                }
                count = self.queue.recv_many(&mut arrived, room), if open && room > 0 => {
                    open = count > 0;
                    self.gathered.extend(arrived.drain(..));
                }
            }
        }
    }

    /// Whether an entry may go out while so many are in flight.
    fn may_send(&self, entries: usize) -> bool {
        match entries {
            0 => !self.gathered.is_empty(),
            1 => self.waiting_txns() >= SECOND_TXNS_MIN.max(self.writers / 2),
            _ => false,
        }
    }

    fn waiting_txns(&self) -> usize {
        self.gathered.iter().map(|pending| pending.work.len()).sum()
    }

    /// Everybody who waits now, as far as one entry holds and the disk has room.
    fn next_batch(&mut self) -> Entry {
        let (mut count, mut txns, mut bytes) = (0, 0, 0);
        for pending in self.gathered.iter().take(BATCH_TXNS_MAX) {
            if count > 0 && bytes + pending.bytes > ENTRY_BYTES_MAX {
                break;
            }
            count += 1;
            txns += pending.work.len();
            bytes += pending.bytes;
        }
        self.traffic.go(count);
        self.metrics.observe(txns, bytes);
        let mut entry = Entry::with_capacity(txns, count);
        for pending in self.gathered.drain(..count) {
            entry.add(|txn| self.env.admits(txn), pending.work);
        }
        entry
    }
}

/// What becomes one entry of the log.
struct Entry {
    txns: Vec<Txn>,
    replies: Vec<Reply>,
}

impl Entry {
    fn with_capacity(txns: usize, replies: usize) -> Entry {
        Entry {
            txns: Vec::with_capacity(txns),
            replies: Vec::with_capacity(replies),
        }
    }

    /// On a disk that is nearly full those that would grow the data are refused one by one: a DELETE must not fail for the INSERT beside it.
    fn add(&mut self, admits: impl Fn(&Txn) -> Result<()>, work: Work) {
        match work {
            Work::One(txn, reply) => {
                if let Err(error) = admits(&txn) {
                    return Work::One(txn, reply).fail(error);
                }
                self.replies.push(match txn.catalog_ops.is_empty() {
                    true => Reply::One(reply),
                    false => Reply::Catalog(reply),
                });
                self.txns.push(txn);
            }
            Work::Many(txns, reply) => {
                let admitted: Vec<bool> = txns.iter().map(|txn| admits(txn).is_ok()).collect();
                if !admitted.contains(&true) {
                    return Work::Many(txns, reply).fail(disk_full());
                }
                let admitted_txns = txns.into_iter().zip(&admitted).filter(|(_, is)| **is);
                self.txns.extend(admitted_txns.map(|(txn, _)| txn));
                self.replies.push(Reply::Many(admitted, reply));
            }
        }
    }
}

/// The planted bug `h5`: sessions hear of success before anything was sent.
fn early(replies: Vec<Reply>, ts: repr::Timestamp) -> Vec<Reply> {
    let acknowledge = |reply| match reply {
        Reply::One(reply) => {
            let _ = reply.send(Ok(Outcome::Committed { ts }));
            Reply::One(oneshot::channel().0)
        }
        Reply::Catalog(_) | Reply::Many(..) => reply,
    };
    replies.into_iter().map(acknowledge).collect()
}

/// Carries an entry into the log; says how many transactions were in it.
async fn commit(env: Arc<Env>, metrics: Metrics, entry: Entry) -> usize {
    let Entry { txns, replies } = entry;
    let replies = match planted::is("h5") {
        true => early(replies, env.storage().view().last_ts() + 1),
        false => replies,
    };
    let count = txns.len();
    let timer = metrics.seconds.start_timer();
    let command = Command::Batch(Batch {
        wall_us: env.wall_us(),
        txns,
    });
    match env.propose_at(&command).await {
        Ok(Applied { index, outcomes }) => {
            let of_catalog = |reply: &Reply| matches!(reply, Reply::Catalog(_));
            if replies.iter().any(of_catalog) && env.applied_in_time(index).await.is_none() {
                tracing::warn!(index, "this node has not applied what it has committed");
            }
            let got = outcomes.len();
            let mut outcomes = outcomes.into_iter();
            let mut complete = got == count;
            for reply in replies {
                complete &= reply.send(index, &mut outcomes);
            }
            if !complete {
                tracing::error!(got, sent = count, "the log did not answer each transaction");
            }
        }
        Err(error) => replies
            .into_iter()
            .for_each(|reply| reply.fail(error.clone())),
    }
    timer.observe_duration();
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use repr::NodeId;
    use state::command::{Gateway, Session, Token};

    fn txn(number: u64) -> Txn {
        let gateway = Gateway {
            node: NodeId(2),
            incarnation: 1,
        };
        let token = Token {
            session: Session { gateway, number },
            seq: 1,
            base: 0,
        };
        Txn {
            token,
            schema: vec![],
            catalog_ops: vec![],
            checks: vec![],
            writes: vec![],
            staged: 0,
        }
    }

    /// Even numbers grow the data.
    fn admits(txn: &Txn) -> Result<()> {
        match txn.token.session.number % 2 {
            0 => Err(disk_full()),
            _ => Ok(()),
        }
    }

    #[test]
    fn on_a_full_disk_only_growth_is_refused_among_another_gateways_transactions() {
        let mut entry = Entry {
            txns: Vec::new(),
            replies: Vec::new(),
        };
        let (mixed, mut of_mixed) = oneshot::channel();
        let (growing, mut of_growing) = oneshot::channel();
        let (own, mut of_own) = oneshot::channel();
        entry.add(admits, Work::Many((1..=4).map(txn).collect(), mixed));
        entry.add(admits, Work::Many(vec![txn(6), txn(8)], growing));
        entry.add(admits, Work::One(txn(9), own));
        let sent = entry.txns.iter().map(|txn| txn.token.session.number);
        assert_eq!(sent.collect::<Vec<_>>(), [1, 3, 9]);
        let committed = |ts| Outcome::Committed { ts };
        let mut outcomes = [committed(5), Outcome::CatalogMoved, committed(6)].into_iter();
        for reply in entry.replies {
            assert!(reply.send(7, &mut outcomes));
        }
        let Applied { index, outcomes } = of_mixed.try_recv().unwrap().unwrap();
        assert_eq!(index, 7);
        let no = Outcome::NoSpace;
        assert_eq!(
            outcomes,
            [committed(5), no.clone(), Outcome::CatalogMoved, no]
        );
        let refused = of_growing.try_recv().unwrap().unwrap_err();
        assert_eq!(refused.sqlstate, "53100");
        assert_eq!(of_own.try_recv().unwrap().unwrap(), committed(6));
    }

    #[test]
    fn outcomes_that_are_missing_are_unknown() {
        let (reply, mut answer) = oneshot::channel();
        let reply = Reply::Many(vec![true, false, true], reply);
        assert!(!reply.send(1, &mut [Outcome::CatalogMoved].into_iter()));
        let unknown = SqlError::unknown_outcome().sqlstate;
        assert_eq!(answer.try_recv().unwrap().unwrap_err().sqlstate, unknown);
    }

    #[test]
    fn one_entry_goes_alone_unless_somebody_waits() {
        let traffic = Traffic::new();
        let alone = traffic.go_alone(1).expect("nobody is there");
        assert!(traffic.go_alone(1).is_none(), "one is in flight");
        drop(alone);
        assert!(traffic.back.notified().now_or_never().is_none());
        traffic.wait();
        assert!(traffic.go_alone(1).is_none(), "that would overtake");
        traffic.go(1);
        assert!(traffic.go_alone(1).is_some());
    }

    #[test]
    fn who_waits_hears_of_a_lone_entry_that_is_back() {
        let traffic = Traffic::new();
        let alone = traffic.go_alone(3).expect("nobody is there");
        traffic.wait();
        drop(alone);
        assert!(traffic.back.notified().now_or_never().is_some());
        assert_eq!(traffic.alone_txns.load(Ordering::Relaxed), 3);
        assert_eq!(traffic.entries.load(Ordering::SeqCst), 0);
    }
}
