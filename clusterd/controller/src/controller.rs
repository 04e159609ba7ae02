//! The controller's state, and its one entry point.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plan::lir::Dataflow;
use protocol::compute::{Command, Epoch};
use repr::{GlobalId, ReplicaId, ShardId, Timestamp};

use crate::desired::{Desired, shards};
use crate::event::{Action, Event, ExportFrontier};
use crate::holds::HoldTable;
use crate::replica::Replica;
use crate::retry::Due;
use crate::routes::Routes;
use crate::transient::Transient;

#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How far grants stay behind the last timestamp, in microseconds: longer than a failover and a retry, so that one statement needs no
    /// lease.
    pub read_window_us: u64,
    /// Ticks until a dataflow that failed is built again for the first time; each further failure doubles them.
    pub retry_ticks_min: u64,
    /// Most ticks between two attempts.
    pub retry_ticks_max: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            read_window_us: state::state::READ_WINDOW_US,
            retry_ticks_min: 5,
            retry_ticks_max: 300,
        }
    }
}

/// Decides for one CLUSTER; see the crate.
pub struct Controller {
    pub(crate) config: Config,
    pub(crate) holds: Arc<HoldTable>,
    pub(crate) routes: Arc<Routes>,
    /// What the catalog wants.
    pub(crate) desired: BTreeMap<GlobalId, Desired>,
    /// What statements want; only while leading.
    pub(crate) transients: BTreeMap<GlobalId, Transient>,
    /// Committed in the group's log.
    pub(crate) granted: BTreeMap<GlobalId, Timestamp>,
    /// Applied in ENV.
    pub(crate) inputs: BTreeMap<ShardId, Timestamp>,
    pub(crate) connected: BTreeSet<ReplicaId>,
    pub(crate) leading: Option<Leading>,
    created: u64,
}

/// What is known while this node leads.
pub(crate) struct Leading {
    pub(crate) epoch: Epoch,
    /// Ticks so far.
    pub(crate) ticks: u64,
    pub(crate) replicas: BTreeMap<ReplicaId, Replica>,
    /// Number of the last command sent to each replica, connected or not.
    pub(crate) sent: BTreeMap<ReplicaId, u64>,
    /// What was published last.
    pub(crate) published: BTreeMap<GlobalId, ExportFrontier>,
}

impl Controller {
    pub fn new(config: Config) -> Controller {
        Controller {
            config,
            holds: HoldTable::new(),
            routes: Routes::new(),
            desired: BTreeMap::new(),
            transients: BTreeMap::new(),
            granted: BTreeMap::new(),
            inputs: BTreeMap::new(),
            connected: BTreeSet::new(),
            leading: None,
            created: 0,
        }
    }

    /// For the peek path.
    pub fn holds(&self) -> Arc<HoldTable> {
        self.holds.clone()
    }

    /// For the peek path.
    pub fn routes(&self) -> Arc<Routes> {
        self.routes.clone()
    }

    pub fn epoch(&self) -> Option<Epoch> {
        self.leading.as_ref().map(|leading| leading.epoch)
    }

    /// Dataflows that replicas were told to build because they did not have them. Does not move in a failover.
    pub fn dataflows_created(&self) -> u64 {
        self.created
    }

    /// Takes in what happened and appends what is to be done, in order.
    pub fn step(&mut self, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::BecameLeader { epoch } => self.lead(epoch, actions),
            Event::LostLeadership => self.step_down(),
            Event::CatalogChanged { dataflows } => self.catalog_changed(dataflows, actions),
            Event::ReplicaConnected { replica } => {
                self.connected.insert(replica);
                self.greet(replica, actions);
            }
            Event::ReplicaDisconnected { replica } => self.disconnected(replica),
            Event::Response { replica, response } => self.response(replica, response, actions),
            Event::GrantCommitted { grants } => self.grant_committed(grants, actions),
            Event::HoldsApplied { holds } => self.inputs = holds,
            Event::Tick {
                last_ts,
                oldest_lease,
            } => self.tick(last_ts, oldest_lease, actions),
            Event::CreateTransient { id, hash, dataflow } => {
                self.create_transient(id, hash, dataflow, actions)
            }
            Event::DropTransient { id } => self.drop_transient(id, actions),
            Event::CancelPeek { .. } if planted::is("h28") => {}
            Event::CancelPeek { id } => {
                self.broadcast(&Command::CancelPeek { id }, actions);
            }
        }
    }

    fn lead(&mut self, epoch: Epoch, actions: &mut Vec<Action>) {
        self.step_down();
        self.leading = Some(Leading {
            epoch,
            ticks: 0,
            replicas: BTreeMap::new(),
            sent: BTreeMap::new(),
            published: BTreeMap::new(),
        });
        for (id, desired) in &self.desired {
            let frontier = self.readable_from(*id, desired);
            desired
                .exports()
                .for_each(|export| self.holds.open(export, frontier));
        }
        let connected: Vec<ReplicaId> = self.connected.iter().copied().collect();
        connected
            .into_iter()
            .for_each(|replica| self.greet(replica, actions));
    }

    fn step_down(&mut self) {
        self.leading = None;
        self.transients.clear();
        self.holds.close_all();
        self.routes.clear();
    }

    /// Where a dataflow's outputs may be read from: its grant. Without one (it is new, or the group's log was lost) its creation, but not
    /// before its inputs can be read.
    pub(crate) fn readable_from(&self, id: GlobalId, desired: &Desired) -> Timestamp {
        let held = || {
            shards(&desired.dataflow)
                .filter_map(|shard| self.inputs.get(&shard).copied())
                .max()
        };
        let granted = self.granted.get(&id).copied().or_else(held).unwrap_or(0);
        granted.max(desired.as_of)
    }

    fn catalog_changed(
        &mut self,
        dataflows: BTreeMap<GlobalId, Desired>,
        actions: &mut Vec<Action>,
    ) {
        let before = std::mem::replace(&mut self.desired, dataflows);
        let gone: Vec<GlobalId> = before
            .keys()
            .filter(|id| !self.desired.contains_key(id))
            .copied()
            .collect();
        if self.leading.is_some() {
            for id in
                crate::order::creation_order(self.desired.iter().map(|(id, d)| (*id, &d.dataflow)))
            {
                let old = before.get(&id);
                if old.map(|old| old.hash) != Some(self.desired[&id].hash) {
                    self.start(id, old, actions);
                }
            }
            for id in &gone {
                self.close_exports(&before[id]);
                self.broadcast(
                    &Command::AllowCompaction {
                        id: *id,
                        frontier: None,
                    },
                    actions,
                );
            }
            let granted: Vec<GlobalId> = gone
                .iter()
                .filter(|id| self.granted.contains_key(id))
                .copied()
                .collect();
            actions.extend((!granted.is_empty()).then_some(Action::ForgetGrants(granted)));
            if !gone.is_empty() {
                // What was lacking may be free now.
                self.forget_failures(&gone);
                self.retry_failed(Due::Now, actions);
            }
        }
        for id in gone {
            self.granted.remove(&id);
        }
    }

    /// Has every ready replica build a dataflow, in place of an older one of the same id.
    fn start(&mut self, id: GlobalId, old: Option<&Desired>, actions: &mut Vec<Action>) {
        let desired = self.desired[&id].clone();
        self.forget_failures(&[id]);
        if let Some(old) = old {
            self.close_exports(old);
            self.broadcast(&Command::AllowCompaction { id, frontier: None }, actions);
        }
        let frontier = self.readable_from(id, &desired);
        desired
            .exports()
            .for_each(|export| self.holds.open(export, frontier));
        let created = self.broadcast(
            &create(id, desired.hash, &desired.dataflow, frontier),
            actions,
        );
        self.created += created.len() as u64;
        created
            .into_iter()
            .for_each(|replica| self.await_start(replica, id, frontier));
    }

    fn close_exports(&mut self, desired: &Desired) {
        for export in desired.exports() {
            self.holds.close(export);
            self.leading
                .as_mut()
                .map(|leading| leading.published.remove(&export));
        }
    }

    pub(crate) fn count_created(&mut self) {
        self.created += 1;
    }
}

/// The command that builds a dataflow which is valid from `as_of` on.
pub(crate) fn create(
    id: GlobalId,
    hash: u64,
    dataflow: &Arc<Dataflow>,
    as_of: Timestamp,
) -> Command {
    let mut dataflow = Dataflow::clone(dataflow);
    dataflow.as_of = Some(as_of);
    Command::CreateDataflow {
        id,
        hash,
        dataflow: Arc::new(dataflow),
    }
}
