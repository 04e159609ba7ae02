//! Dataflows of single statements: subscriptions and one-shot queries.

use std::sync::Arc;

use plan::lir::{Dataflow, ExportKind};
use protocol::compute::{Command, SubscribeBatch};
use repr::{GlobalId, Timestamp};

use crate::Controller;
use crate::event::Action;

/// A dataflow that lives as long as its statement.
pub(crate) struct Transient {
    hash: u64,
    pub(crate) dataflow: Arc<Dataflow>,
    as_of: Timestamp,
    /// A subscription's changes before this time have been handed on; `None`: all there will ever be.
    delivered: Option<Timestamp>,
    is_subscribe: bool,
}

impl Transient {
    fn new(hash: u64, dataflow: Arc<Dataflow>) -> Transient {
        let as_of = dataflow.as_of.unwrap_or(0);
        let subscribes = |kind: &ExportKind| match kind {
            ExportKind::Subscribe { .. } => true,
            ExportKind::Index { .. } => false,
        };
        let is_subscribe = dataflow
            .exports
            .iter()
            .any(|export| subscribes(&export.kind));
        Transient {
            hash,
            dataflow,
            as_of,
            delivered: Some(0),
            is_subscribe,
        }
    }

    /// The oldest time at which a replica that begins anew would read the inputs.
    pub(crate) fn needed_from(&self) -> Timestamp {
        match self.delivered {
            Some(delivered) => self.as_of.max(delivered.saturating_sub(1)),
            None => Timestamp::MAX,
        }
    }

    /// The command that builds it: a subscription goes on where it was, without its snapshot.
    pub(crate) fn create(&self, id: GlobalId) -> Command {
        let from = self.needed_from();
        let mut dataflow = Dataflow::clone(&self.dataflow);
        dataflow.as_of = Some(from);
        for export in &mut dataflow.exports {
            if let ExportKind::Subscribe { with_snapshot, .. } = &mut export.kind {
                *with_snapshot = *with_snapshot
                    && self
                        .delivered
                        .is_some_and(|delivered| delivered <= self.as_of);
            }
        }
        Command::CreateDataflow {
            id,
            hash: self.hash,
            dataflow: Arc::new(dataflow),
        }
    }

    /// What of a batch is new. Replicas send the same changes; each is handed on once.
    fn accept(&mut self, mut batch: SubscribeBatch) -> Option<SubscribeBatch> {
        let delivered = self.delivered?;
        let beyond = batch.upper.is_none_or(|upper| upper > delivered);
        // A gap would lose changes: the batch belongs to a dataflow that began later than what was handed on.
        let joins = batch.lower <= delivered || delivered == 0;
        if !beyond || !joins {
            return None;
        }
        if let Ok(updates) = &mut batch.updates {
            updates.retain(|(time, _, _)| *time >= delivered);
        }
        batch.lower = batch.lower.max(delivered);
        self.delivered = batch.upper;
        Some(batch)
    }
}

impl Controller {
    pub(crate) fn create_transient(
        &mut self,
        id: GlobalId,
        hash: u64,
        dataflow: Arc<Dataflow>,
        actions: &mut Vec<Action>,
    ) {
        if self.leading.is_none() {
            return;
        }
        let transient = Transient::new(hash, dataflow);
        if !transient.is_subscribe {
            let exports = transient.dataflow.exports.iter();
            exports.for_each(|export| self.holds.open(export.id, transient.as_of));
        }
        self.broadcast(&transient.create(id), actions);
        self.transients.insert(id, transient);
    }

    pub(crate) fn drop_transient(&mut self, id: GlobalId, actions: &mut Vec<Action>) {
        let Some(transient) = self.transients.remove(&id) else {
            return;
        };
        transient
            .dataflow
            .exports
            .iter()
            .for_each(|export| self.holds.close(export.id));
        self.broadcast(&Command::AllowCompaction { id, frontier: None }, actions);
        self.forget_failures(&[id]);
    }

    pub(crate) fn subscribe_batch(
        &mut self,
        id: GlobalId,
        batch: SubscribeBatch,
        actions: &mut Vec<Action>,
    ) {
        let accepted = self
            .transients
            .get_mut(&id)
            .and_then(|transient| transient.accept(batch));
        actions.extend(accepted.map(|batch| Action::Subscribe { id, batch }));
    }
}
