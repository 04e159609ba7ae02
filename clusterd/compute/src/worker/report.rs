//! What the worker tells without being asked.

use super::ComputeWorker;
use crate::mailbox::Order;
use crate::types::T;
use host::Instant;
use plan::EvalError;
use protocol::compute::Response;
use repr::GlobalId;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Between two reports of frontiers while there is work.
const FRONTIERS_EVERY: Duration = Duration::from_millis(5);
const UPKEEP_EVERY: Duration = Duration::from_millis(20);
const ACCOUNTING_EVERY: Duration = Duration::from_millis(500);

#[derive(Default)]
pub struct Report {
    /// What was last said of each export: since and upper.
    frontiers: BTreeMap<GlobalId, (T, Option<T>)>,
    bytes: u64,
    last_frontiers: Instant,
    last_upkeep: Instant,
    last_accounting: Instant,
}

fn due(last: &mut Instant, now: Instant, every: Duration) -> bool {
    let due = now.since(*last) >= every;
    if due {
        *last = now;
    }
    due
}

impl Report {
    pub fn upkeep_due(&mut self, now: Instant) -> bool {
        due(&mut self.last_upkeep, now, UPKEEP_EVERY)
    }

    pub fn accounting_due(&mut self, now: Instant) -> bool {
        due(&mut self.last_accounting, now, ACCOUNTING_EVERY)
    }

    /// A new leader knows nothing.
    pub fn forget(&mut self) {
        self.frontiers.clear();
        self.bytes = 0;
    }

    pub fn dropped(&mut self, id: GlobalId) {
        self.frontiers.remove(&id);
    }
}

impl ComputeWorker {
    /// Says how far the exports are, if that changed: at once before sleeping, else now and then.
    pub(super) fn report_frontiers(&mut self, idle: bool) {
        if self.index != 0 {
            return;
        }
        let now = self.now();
        if !idle && now.since(self.report.last_frontiers) < FRONTIERS_EVERY {
            return;
        }
        self.report.last_frontiers = now;
        let mut frontiers = vec![];
        for (id, managed) in self.traces.iter_mut() {
            let current = (managed.since, managed.trace.upper());
            if self.report.frontiers.insert(id, current) != Some(current) {
                frontiers.push((id, current.0, current.1));
            }
        }
        let bytes = self
            .shared
            .bytes
            .iter()
            .map(|b| b.load(Ordering::Relaxed))
            .sum();
        if !frontiers.is_empty() || bytes != self.report.bytes {
            self.report.bytes = bytes;
            self.respond(Response::Frontiers {
                epoch: self.epoch,
                frontiers,
                arrangement_bytes: bytes,
            });
        }
    }

    pub(super) fn account_memory(&mut self) {
        let here: u64 = self
            .dataflows
            .values()
            .chain(&self.retired)
            .map(|running| running.footprint.bytes())
            .sum();
        self.shared.bytes[self.index].store(here, Ordering::Relaxed);
        if self.index != 0 {
            return;
        }
        let limit = self.shared.bytes_max.load(Ordering::Relaxed);
        let bytes: u64 = self
            .shared
            .bytes
            .iter()
            .map(|b| b.load(Ordering::Relaxed))
            .sum();
        let youngest = self.dataflows.values().max_by_key(|running| running.number);
        if let Some(running) = youngest.filter(|_| bytes > limit) {
            let error = EvalError {
                detail: Some(format!(
                    "Arrangements occupy {bytes} bytes, the limit is {limit}."
                )),
                hint: Some(
                    "Raise the cluster's memory limit, or drop views and indexes.".to_owned(),
                ),
                ..EvalError::new(
                    "53200",
                    format!("out of memory: dataflow {} was stopped", running.plan.name),
                )
            };
            for mailbox in self.shared.mailboxes.iter() {
                mailbox.push_order(Order::OutOfMemory {
                    id: running.id,
                    error: error.clone(),
                });
            }
        }
    }

    pub(super) fn send_subscribed(&mut self) {
        for running in self.dataflows.values() {
            for sink in &running.subscribes {
                while let Some(batch) = sink.take() {
                    self.respond(Response::Subscribe {
                        epoch: self.epoch,
                        id: sink.id,
                        batch,
                    });
                }
            }
        }
    }
}
