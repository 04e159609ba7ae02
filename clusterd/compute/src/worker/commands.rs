//! Orders of the CLUSTER's leader.

use super::tables::{Share, Source};
use super::{ComputeWorker, Running};
use crate::mailbox::{RoutedCommand, Snapshots};
use crate::render::{self, BuiltExport, RenderError};
use plan::{Dataflow, EvalError};
use protocol::compute::{Command, InventoryEntry, Response};
use repr::GlobalId;
use std::rc::Rc;
use std::sync::Arc;

impl ComputeWorker {
    pub(super) fn command(&mut self, routed: &RoutedCommand) {
        let numbered = &routed.numbered;
        if numbered.epoch < self.epoch && !planted::is("h9") {
            tracing::debug!(epoch = ?numbered.epoch, current = ?self.epoch, "command of an older epoch refused");
            return;
        }
        if numbered.epoch > self.epoch {
            // Whoever gives orders in a new epoch starts with Hello; without it the inventory would never be compared.
            if numbered.command != Command::Hello {
                tracing::warn!(epoch = ?numbered.epoch, "command before the epoch's first Hello ignored");
                return;
            }
            self.epoch = numbered.epoch;
            self.processed = 0;
            self.peeks.refuse_older(self.epoch);
        }
        match &numbered.command {
            Command::Hello => self.hello(numbered.seq),
            Command::CreateDataflow { id, hash, dataflow } => {
                self.create(*id, *hash, dataflow, &routed.snapshots)
            }
            Command::AllowCompaction {
                id,
                frontier: Some(frontier),
            } => {
                for export in self.dataflows.get(id).map_or(vec![], |r| r.exports.clone()) {
                    self.traces.grant(export, *frontier);
                }
            }
            Command::AllowCompaction { id, frontier: None } => self.drop_dataflow(*id),
            Command::CancelPeek { id } => self.peeks.cancel(*id, &self.mailbox),
            Command::InitializationComplete => self.drop_unnamed(),
        }
        self.processed = self.processed.max(numbered.seq);
    }

    fn hello(&mut self, seq: u64) {
        self.peeks.refuse_unfollowed(seq);
        self.named.clear();
        self.report.forget();
        if self.index != 0 {
            return;
        }
        let mut dataflows = vec![];
        for running in self.dataflows.values() {
            let mut since = running.as_of;
            let mut upper = None;
            for export in &running.exports {
                if let Some(managed) = self.traces.get_mut(*export) {
                    since = since.max(managed.granted);
                    upper = [upper, managed.trace.upper()].into_iter().flatten().min();
                }
            }
            dataflows.push(InventoryEntry {
                id: running.id,
                hash: running.hash,
                since,
                upper,
            });
        }
        self.respond(Response::Inventory {
            epoch: self.epoch,
            dataflows,
        });
    }

    fn create(
        &mut self,
        id: GlobalId,
        hash: u64,
        dataflow: &Arc<Dataflow>,
        snapshots: &Result<Snapshots, EvalError>,
    ) {
        self.named.insert(id);
        if self
            .dataflows
            .get(&id)
            .is_some_and(|running| running.hash == hash)
        {
            return;
        }
        self.drop_dataflow(id);
        if let Err(error) = self.build(id, hash, dataflow, snapshots) {
            self.named.remove(&id);
            if self.index == 0 {
                tracing::warn!(%id, %error, "dataflow could not be built");
                self.respond(Response::DataflowFailed {
                    epoch: self.epoch,
                    id,
                    error,
                });
            }
        }
    }

    fn build(
        &mut self,
        id: GlobalId,
        hash: u64,
        dataflow: &Arc<Dataflow>,
        snapshots: &Result<Snapshots, EvalError>,
    ) -> Result<(), EvalError> {
        let snapshots = snapshots.as_ref().map_err(Clone::clone)?;
        let as_of = dataflow.as_of.unwrap_or_default();
        let built = render::build(&mut self.timely, &mut self.traces, dataflow, as_of).map_err(
            |error| {
                EvalError::new(
                    // As `replica::not_readable`.
                    match error {
                        RenderError::IndexNotReadable { .. } => "72000",
                        RenderError::MissingArrangement
                        | RenderError::Unbound(_)
                        | RenderError::UnknownIndex(_) => "55000",
                    },
                    format!("dataflow {} cannot be built: {error}", dataflow.name),
                )
            },
        )?;
        let share = Share {
            index: self.index,
            peers: self.timely.peers(),
        };
        let mut sources = vec![];
        for port in built.sources {
            let snapshot = snapshots
                .get(&port.shard)
                .expect("a snapshot was taken of each source");
            sources.push(Source::new(port, as_of, Arc::clone(snapshot), share));
        }
        let (mut exports, mut subscribes) = (vec![], vec![]);
        for (export, built_export) in built.exports {
            match built_export {
                BuiltExport::Index(entry) => {
                    self.traces
                        .insert(export, *entry, Rc::clone(&built.token), as_of);
                    exports.push(export);
                }
                BuiltExport::Subscribe(sink) => subscribes.push(sink),
            }
        }
        self.created += 1;
        let running = Running {
            id,
            hash,
            number: self.created,
            as_of,
            plan: Arc::clone(dataflow),
            sources,
            exports,
            subscribes,
            token: built.token,
            footprint: built.footprint,
        };
        self.dataflows.insert(id, running);
        Ok(())
    }

    /// Ends a dataflow, if it runs. If others read its arrangements it goes on unseen until they end.
    pub(super) fn drop_dataflow(&mut self, id: GlobalId) {
        let Some(mut running) = self.dataflows.remove(&id) else {
            return;
        };
        for export in std::mem::take(&mut running.exports) {
            self.traces.remove(export);
            self.peeks.forget(export);
            self.report.dropped(export);
        }
        running.subscribes.clear();
        if Rc::strong_count(&running.token) > 1 {
            self.retired.push(running);
        }
    }

    fn drop_unnamed(&mut self) {
        let unnamed: Vec<GlobalId> = self
            .dataflows
            .keys()
            .filter(|id| !self.named.contains(id))
            .copied()
            .collect();
        for id in unnamed {
            self.drop_dataflow(id);
        }
    }

    /// Ends a dataflow that cannot go on, and says so.
    pub(super) fn fail(&mut self, id: GlobalId, error: EvalError) {
        if self.dataflows.contains_key(&id) {
            self.drop_dataflow(id);
            self.named.remove(&id);
            if self.index == 0 {
                self.respond(Response::DataflowFailed {
                    epoch: self.epoch,
                    id,
                    error,
                });
            }
        }
    }
}
