//! One worker thread: orders and table changes in, a step of timely, answers out.

mod commands;
mod peeks;
mod report;
mod tables;

use crate::feed::TableChanges;
use crate::footprint::Footprint;
use crate::mailbox::{Mailbox, Order};
use crate::render::DataflowToken;
use crate::render::subscribe::SubscribeSink;
use crate::replica::{ReplicaConfig, ResponseSink};
use crate::traces::TraceManager;
use crate::types::T;
use host::{Clock, Instant};
use plan::Dataflow;
use protocol::compute::{Epoch, Response};
use repr::GlobalId;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use timely::worker::Worker;

/// What a worker shares with the handle and the other workers.
pub struct WorkerShared {
    pub config: ReplicaConfig,
    pub mailboxes: Arc<[Arc<Mailbox>]>,
    pub responses: ResponseSink,
    pub clock: Arc<dyn Clock>,
    /// Bytes of arrangements, per worker.
    pub bytes: Arc<[AtomicU64]>,
    /// What they may have together.
    pub bytes_max: Arc<AtomicU64>,
}

/// Orders taken per round, so that steps and peeks get their turn.
const ORDERS_PER_ROUND: usize = 4096;
/// Table updates taken per round; a larger commit is taken whole.
const UPDATES_PER_ROUND: usize = 1 << 16;
/// Rows of a snapshot fed per round.
const SNAPSHOT_ROWS_PER_ROUND: usize = 1 << 15;
/// Longest sleep; bounds how late upkeep is.
const PARK_MAX: Duration = Duration::from_millis(100);

pub struct ComputeWorker {
    timely: Worker,
    index: usize,
    shared: WorkerShared,
    mailbox: Arc<Mailbox>,
    traces: TraceManager,
    dataflows: BTreeMap<GlobalId, Running>,
    /// Dropped dataflows whose arrangements others still read.
    retired: Vec<Running>,
    /// Dataflows named since the last Hello.
    named: BTreeSet<GlobalId>,
    created: u64,
    epoch: Epoch,
    /// Number of the last command processed in this epoch.
    processed: u64,
    /// Tables are complete before this time.
    upper: T,
    peeks: peeks::Peeks,
    report: report::Report,
    stopping: bool,
}

/// A dataflow on this worker.
struct Running {
    id: GlobalId,
    hash: u64,
    /// Order of creation.
    number: u64,
    as_of: T,
    plan: Arc<Dataflow>,
    sources: Vec<tables::Source>,
    exports: Vec<GlobalId>,
    subscribes: Vec<SubscribeSink>,
    token: Rc<DataflowToken>,
    footprint: Footprint,
}

impl ComputeWorker {
    pub fn new(timely: Worker, index: usize, shared: WorkerShared) -> Self {
        let mailbox = Arc::clone(&shared.mailboxes[index]);
        mailbox.attach(std::thread::current());
        ComputeWorker {
            timely,
            index,
            peeks: peeks::Peeks::new(shared.config.peeks_max),
            mailbox,
            shared,
            traces: TraceManager::default(),
            dataflows: BTreeMap::new(),
            retired: vec![],
            named: BTreeSet::new(),
            created: 0,
            epoch: Epoch::default(),
            processed: 0,
            upper: 0,
            report: report::Report::default(),
            stopping: false,
        }
    }

    pub fn run(mut self) {
        while !self.stopping {
            self.round();
        }
        self.stop();
    }

    /// One turn: take what came, let timely work, answer.
    fn round(&mut self) {
        let fed = self.take_orders();
        let hydrating = self.feed_snapshots();
        self.peeks.collect(&self.mailbox);
        self.timely.step();
        self.upkeep(fed);
        self.answer_peeks();
        self.send_subscribed();
        if self.stopping {
            // The order to stop was taken in this round: nobody would wake it again.
            return;
        }
        if !hydrating && self.peeks.nothing_new() && self.mailbox.prepare_to_park() {
            self.report_frontiers(true);
            // Returns at once if operators have work; then it does that work.
            self.timely.step_or_park(self.park_max());
            self.mailbox.unparked();
        } else {
            self.report_frontiers(false);
        }
    }

    /// Without dataflows there is no upkeep: only an order, a peek or a commit wakes the worker.
    fn park_max(&self) -> Option<Duration> {
        let idle = self.dataflows.is_empty() && self.retired.is_empty();
        (!idle).then_some(PARK_MAX)
    }

    /// Takes waiting orders, and advances the inputs once to what the last of them says. Whether tables changed.
    fn take_orders(&mut self) -> bool {
        let (mut orders, mut updates) = (0, 0);
        let before = self.upper;
        while orders < ORDERS_PER_ROUND && updates < UPDATES_PER_ROUND {
            match self.mailbox.next_order() {
                None => break,
                Some(Order::Command(command)) => self.command(&command),
                Some(Order::Tables(changes)) => updates += self.take_changes(&changes),
                Some(Order::OutOfMemory { id, error }) => self.fail(id, error),
                Some(Order::Forget(id)) => self.peeks.cancel(id, &self.mailbox),
                Some(Order::Shutdown) => self.stopping = true,
            }
            orders += 1;
        }
        if orders > 0 {
            self.advance_inputs();
        }
        self.upper != before
    }

    fn take_changes(&mut self, changes: &TableChanges) -> usize {
        let updates = self.feed_writes(changes);
        self.upper = self.upper.max(changes.upper);
        updates
    }

    /// Merging, forgetting and accounting.
    fn upkeep(&mut self, fed: bool) {
        let now = self.now();
        if fed || self.report.upkeep_due(now) {
            let peeks = &self.peeks;
            self.traces.maintain(|id| peeks.owed(id));
            self.retired
                .retain(|running| Rc::strong_count(&running.token) > 1);
        }
        if self.report.accounting_due(now) {
            self.account_memory();
        }
    }

    fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    fn respond(&self, response: Response) {
        (self.shared.responses)(response);
    }

    /// Ends all dataflows and lets timely see them out.
    fn stop(mut self) {
        self.mailbox.close();
        self.peeks.refuse_all(protocol::compute::Refusal::Stopping);
        let ids: Vec<GlobalId> = self.dataflows.keys().copied().collect();
        for id in ids {
            self.drop_dataflow(id);
        }
        self.retired.clear();
        while self.timely.has_dataflows() {
            self.timely.step_or_park(Some(PARK_MAX));
        }
    }
}
