//! Dataflows that a replica could not build, or had to stop, and when it shall try again.
//!
//! Only what the catalog wants is tried again; a statement hears of the failure instead. The first attempt comes soon, because the reason may have been
//! another dataflow that was not there yet. Then the pauses double: what needs more memory than there is would fail each time, and building it is work. Whenever
//! something is dropped all are tried at once. A dataflow that fails again after it has run for longer than the longest pause starts with the shortest.

use std::collections::BTreeSet;

use repr::{GlobalId, ReplicaId};

use crate::Controller;
use crate::controller::{Config, create};
use crate::event::Action;
use crate::order::creation_order;

/// One dataflow on one replica.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// Ticks between the failure and the next attempt.
    pause: u64,
    /// Tick of the failure, or of the attempt that followed it.
    at: u64,
    /// It was told to try again, and has not failed since.
    retried: bool,
}

/// Which failures are to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    AsScheduled,
    /// All: the reason may be gone.
    Now,
}

impl Failure {
    /// A failure at a tick, after what is known of earlier ones.
    pub(crate) fn after(before: Option<&Failure>, tick: u64, config: &Config) -> Failure {
        let in_a_row = |before: &&Failure| tick - before.at <= config.retry_ticks_max;
        let pause = before
            .filter(in_a_row)
            .map_or(config.retry_ticks_min, |before| {
                before.pause.saturating_mul(2).min(config.retry_ticks_max)
            });
        Failure {
            pause,
            at: tick,
            retried: false,
        }
    }

    /// The replica does not run it and has not been told to.
    pub(crate) fn is_over(&self) -> bool {
        !self.retried
    }

    fn is_due(&self, due: Due, tick: u64) -> bool {
        match due {
            Due::AsScheduled => tick >= self.at + self.pause,
            Due::Now => true,
        }
    }
}

impl Controller {
    /// Has replicas build again what they could not run, and what they could not run for the lack of that.
    pub(crate) fn retry_failed(&mut self, due: Due, actions: &mut Vec<Action>) {
        let Some(leading) = &self.leading else {
            return;
        };
        let failing = leading.replicas.iter();
        let failing: Vec<ReplicaId> = failing
            .filter(|(_, state)| state.ready && state.failed.values().any(Failure::is_over))
            .map(|(replica, _)| *replica)
            .collect();
        for replica in failing {
            self.retry_on(replica, due, actions);
        }
    }

    fn retry_on(&mut self, replica: ReplicaId, due: Due, actions: &mut Vec<Action>) {
        let mut rebuilt: BTreeSet<GlobalId> = BTreeSet::new();
        for id in creation_order(self.desired.iter().map(|(id, d)| (*id, &d.dataflow))) {
            let desired = self.desired[&id].clone();
            let mut imports = desired.dataflow.indexes.keys();
            let is_input_back = imports.any(|import| rebuilt.contains(import));
            if self.begin_retry(replica, id, due, is_input_back) {
                rebuilt.extend(desired.exports());
                let frontier = self.readable_from(id, &desired);
                self.send(
                    replica,
                    create(id, desired.hash, &desired.dataflow, frontier),
                    actions,
                );
                self.count_created();
                self.await_start(replica, id, frontier);
            }
        }
    }

    fn begin_retry(
        &mut self,
        replica: ReplicaId,
        id: GlobalId,
        due: Due,
        is_input_back: bool,
    ) -> bool {
        let Some(leading) = &mut self.leading else {
            return false;
        };
        let tick = leading.ticks;
        let failures = leading.replicas.get_mut(&replica);
        let failure = failures.and_then(|state| state.failed.get_mut(&id));
        let Some(failure) = failure
            .filter(|failure| failure.is_over() && (is_input_back || failure.is_due(due, tick)))
        else {
            return false;
        };
        failure.retried = true;
        failure.at = tick;
        true
    }

    /// They are gone, or were made anew.
    pub(crate) fn forget_failures(&mut self, ids: &[GlobalId]) {
        let replicas = self.leading.iter_mut();
        for state in replicas.flat_map(|leading| leading.replicas.values_mut()) {
            state.failed.retain(|id, _| !ids.contains(id));
        }
    }
}
