//! Dataflows of single statements: subscriptions and one-shot queries.

use std::sync::Arc;

use plan::lir::{Dataflow, ExportKind};
use protocol::compute::{Command, SubscribeBatch};
use repr::{GlobalId, Timestamp};

use crate::Controller;
use crate::event::Action;
use crate::resume::Resume;

/// A dataflow that lives as long as its statement.
pub(crate) struct Transient {
    hash: u64,
    pub(crate) dataflow: Arc<Dataflow>,
    as_of: Timestamp,
    /// What of a subscription's changes has been handed on. Replicas send the same ones.
    seen: Resume,
    pub(crate) is_subscribe: bool,
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
            seen: Resume::new(as_of),
            is_subscribe,
        }
    }

    /// The oldest time at which a replica that begins anew would read the inputs.
    pub(crate) fn needed_from(&self) -> Timestamp {
        self.seen.needed_from()
    }

    /// The command that builds it: a subscription goes on where it was, without its snapshot.
    pub(crate) fn create(&self, id: GlobalId) -> Command {
        let from = self.needed_from();
        let mut dataflow = Dataflow::clone(&self.dataflow);
        dataflow.as_of = Some(from);
        for export in &mut dataflow.exports {
            if let ExportKind::Subscribe { with_snapshot, .. } = &mut export.kind {
                *with_snapshot &= self.seen.wants_snapshot();
            }
        }
        Command::CreateDataflow {
            id,
            hash: self.hash,
            dataflow: Arc::new(dataflow),
        }
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
            .and_then(|transient| transient.seen.accept(batch));
        actions.extend(accepted.map(|batch| Action::Subscribe { id, batch }));
    }
}
