//! The driver of one controller for as long as this node leads: events in, actions out.

use super::Shared;
use super::group::ClusterGroup;
use super::link::{Link, Orders, Target};
use super::lookup::{Failures, Lead, Seen};
use super::member::Tap;
use super::miss::Miss;
use super::queue::SubscribeQueue;
use super::site::{Site, Wanted, cluster_dropped};
use controller::log::Entry;
use controller::{Action, Config, Controller, Desired, Event, ExportFrontier, Hold};
use host::TaskHandle;
use host::metrics::BusyMeter;
use parking_lot::Mutex;
use plan::Dataflow;
use protocol::{Epoch, PeekId, Response};
use raft::GroupStatus;
use repr::{GlobalId, ReplicaId, ShardId, Timestamp};
use state::State;
use state::command::Command;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use storage::Listener;
use tokio::sync::{mpsc, oneshot, watch};

/// How far grants stay behind the last timestamp. S keeps its tables readable for as long.
const READ_WINDOW_US: u64 = 5_000_000;
/// How often grants and holds are moved up.
const TICK: Duration = Duration::from_secs(1);
/// Events handled before the rest of the runtime gets a turn.
const EVENTS_PER_TURN: usize = 256;
/// A change of the group's members that takes longer is given up and tried again.
const MEMBERS_WITHIN: Duration = Duration::from_secs(30);

/// Who is told when a temporary dataflow fails or changes.
pub(crate) enum Owner {
    Query(oneshot::Sender<Miss>),
    Subscribe(SubscribeQueue),
}

pub(crate) enum LeadEvent {
    /// A connection to a replica stands; numbers tell connections apart.
    Connected {
        replica: ReplicaId,
        connection: u64,
        orders: Orders,
        target: Target,
    },
    Disconnected {
        replica: ReplicaId,
        connection: u64,
    },
    Response {
        replica: ReplicaId,
        connection: u64,
        response: Response,
    },
    /// A replica obeys a leader of a higher epoch: the group has elected it, although this node has not heard of that.
    Superseded {
        by: Epoch,
    },
    /// Committed, by the leader of `term`.
    Granted {
        term: u64,
        grants: BTreeMap<GlobalId, Timestamp>,
    },
    /// The group knows which catalog the replicas are to be told of; or that could not be committed.
    Intended {
        catalog_version: Option<u64>,
    },
    /// `done` is answered once the replicas have been told.
    Create {
        id: GlobalId,
        dataflow: Arc<Dataflow>,
        owner: Owner,
        done: oneshot::Sender<()>,
    },
    Drop {
        id: GlobalId,
    },
    /// Nobody waits for the peek any more. Its hold ends when the replicas have been told.
    CancelPeek {
        id: PeekId,
        hold: Hold,
    },
}

/// Tells a driver. One that has ended listens to nobody.
#[derive(Clone)]
pub(crate) struct LeadEvents(mpsc::UnboundedSender<LeadEvent>);

impl LeadEvents {
    /// False if the lead is over.
    pub fn send(&self, event: LeadEvent) -> bool {
        self.0.send(event).is_ok()
    }

    pub fn granted(&self, term: u64, grants: BTreeMap<GlobalId, Timestamp>) {
        self.send(LeadEvent::Granted { term, grants });
    }
}

/// Leads until the term is over, somebody else is seen to lead, or `stop`. The group knows that the catalog of `state` is acted on.
pub(super) async fn lead(
    site: &Arc<Site>,
    group: &ClusterGroup,
    term: u64,
    state: &Arc<State>,
    tap: &Tap,
    stop: &mut watch::Receiver<bool>,
) {
    let (events, receiver) = mpsc::unbounded_channel();
    let events = LeadEvents(events);
    *tap.lock() = Some(events.clone());
    let controller = Controller::new(Config {
        read_window_us: READ_WINDOW_US,
        ..Config::default()
    });
    let (seen, watched) = watch::channel(Seen::default());
    let epoch = Epoch {
        incarnation: group.incarnation().number,
        term,
    };
    let lead = Arc::new(Lead::new(site, epoch, &controller, events.clone(), watched));
    let driver = Driver {
        site: Arc::clone(site),
        shared: Arc::clone(&site.shared),
        epoch,
        controller,
        lead: Arc::clone(&lead),
        links: BTreeMap::new(),
        connected: BTreeMap::new(),
        events,
        group: group.clone(),
        frontiers: Arc::clone(&lead.frontiers),
        failures: Arc::clone(&lead.failures),
        seen,
        owners: BTreeMap::new(),
        desired: BTreeMap::new(),
        intended: None,
        holds: BTreeMap::new(),
        moving: None,
        granting: None,
        holding: None,
        created_before: 0,
        over: false,
        meter: BusyMeter::named("controller"),
    };
    site.shared.takeovers.inc();
    tracing::info!(cluster = %site.name, term, "this node leads a cluster");
    site.lead.send_replace(Some(lead));
    let driver = driver.run(state, receiver, stop).await;
    site.lead.send_replace(None);
    *tap.lock() = None;
    driver.end();
    tracing::info!(cluster = %site.name, term, "this node does not lead a cluster any more");
}

struct Driver {
    site: Arc<Site>,
    shared: Arc<Shared>,
    epoch: Epoch,
    controller: Controller,
    lead: Arc<Lead>,
    links: BTreeMap<ReplicaId, Link>,
    connected: BTreeMap<ReplicaId, (u64, Orders)>,
    events: LeadEvents,
    group: ClusterGroup,
    frontiers: Arc<Mutex<BTreeMap<GlobalId, ExportFrontier>>>,
    failures: Failures,
    seen: watch::Sender<Seen>,
    owners: BTreeMap<GlobalId, Owner>,
    desired: BTreeMap<GlobalId, Desired>,
    /// What replicas are told of next, once the group knows that.
    intended: Option<Intent>,
    holds: BTreeMap<ShardId, Timestamp>,
    /// Changes the members of the group.
    moving: Option<TaskHandle>,
    /// Proposes grants.
    granting: Option<TaskHandle>,
    /// Proposes input holds to ENV.
    holding: Option<TaskHandle>,
    created_before: u64,
    /// Another leader was heard of.
    over: bool,
    meter: BusyMeter,
}

fn is_busy(task: &Option<TaskHandle>) -> bool {
    task.as_ref().is_some_and(|task| !task.is_finished())
}

/// What the catalog wants in a newer version.
struct Intent {
    catalog_version: u64,
    desired: BTreeMap<GlobalId, Desired>,
    /// Proposed, and not yet known to be committed or refused.
    proposed: bool,
}

/// Whether the same dataflows run, by the same plans.
fn are_same(a: &BTreeMap<GlobalId, Desired>, b: &BTreeMap<GlobalId, Desired>) -> bool {
    let plans = |desired: &BTreeMap<GlobalId, Desired>| {
        let plans = desired.iter().map(|(id, desired)| (*id, desired.hash));
        plans.collect::<Vec<_>>()
    };
    plans(a) == plans(b)
}

/// What a lead follows is the catalog and the holds. Writes, which are frequent, move neither; they take a timestamp, and holds do not.
fn concerns_lead(changes: &state::Changes) -> bool {
    changes.catalog_changed || changes.ts.is_none()
}

impl Driver {
    async fn run(
        mut self,
        state: &Arc<State>,
        mut events: mpsc::UnboundedReceiver<LeadEvent>,
        stop: &mut watch::Receiver<bool>,
    ) -> Driver {
        let (_, mut listener) = self.shared.env.storage().listen_for(concerns_lead);
        let mut wanted = self.site.wanted();
        let mut status = self.group.status();
        self.follow_holds(state);
        let desired = self.desired_by(state);
        self.instruct(state.catalog().version, desired);
        self.step(Event::GrantCommitted {
            grants: self.group.grants(),
        });
        self.step(Event::BecameLeader { epoch: self.epoch });
        self.keep_links(&wanted.borrow_and_update().clone());
        self.follow_state();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut settled = false;
        let mut batch = Vec::with_capacity(EVENTS_PER_TURN);
        while !self.over {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return self,
                changed = status.changed() => {
                    let in_office = changed.is_ok() && self.is_in_office(&status.borrow_and_update());
                    if !in_office {
                        return self;
                    }
                }
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return self;
                    }
                    let wanted = wanted.borrow_and_update().clone();
                    self.keep_links(&wanted);
                    self.keep_members(&wanted);
                }
                () = listener.wait() => self.drain_state(&mut listener),
                _ = events.recv_many(&mut batch, EVENTS_PER_TURN) => {
                    for event in batch.drain(..) {
                        if !self.over {
                            self.handle(event);
                        }
                    }
                }
                _ = tick.tick() => {
                    let last_ts = self.shared.env.storage().view().last_ts();
                    let oldest_lease = self.oldest_lease();
                    self.step(Event::Tick { last_ts, oldest_lease });
                    if self.intended.as_ref().is_some_and(|intent| !intent.proposed) {
                        self.follow_state();
                    }
                    // Not at once: members that the leader before has made learners are to hear of that first.
                    if std::mem::replace(&mut settled, true) {
                        self.keep_members(&wanted.borrow().clone());
                    }
                }
            }
            self.publish();
        }
        self
    }

    fn is_in_office(&self, status: &GroupStatus) -> bool {
        status.is_leader && status.term == self.epoch.term
    }

    /// The oldest timestamp that any gateway may still read, by ENV's leases and this group's.
    fn oldest_lease(&self) -> Option<Timestamp> {
        let state = self.shared.env.storage().view();
        let env = state.leases().values().copied().min();
        env.into_iter().chain(self.group.oldest_lease()).min()
    }

    /// Keeps the way open to each replica where it is placed.
    fn keep_links(&mut self, wanted: &Wanted) {
        let stays =
            |replica: &ReplicaId, link: &Link| wanted.replicas.get(replica) == Some(&link.node);
        let gone: Vec<ReplicaId> = self
            .links
            .extract_if(.., |replica, link| !stays(replica, link))
            .map(|(replica, _)| replica)
            .collect();
        for replica in gone {
            self.disconnected(replica);
        }
        for (replica, node) in &wanted.replicas {
            if !self.links.contains_key(replica) {
                let link = Link::open(&self.site, *replica, *node, self.epoch, &self.events);
                self.links.insert(*replica, link);
            }
        }
        let nodes = wanted.replicas.clone();
        *self.lead.placed.lock() = nodes;
    }

    /// Has the group's members changed to those that are wanted, one change at a time.
    fn keep_members(&mut self, wanted: &Wanted) {
        let busy = is_busy(&self.moving);
        let Some(wanted) = wanted.group.as_ref().filter(|_| !busy) else {
            return;
        };
        let incarnation = self.group.incarnation();
        if wanted.incarnation != incarnation || self.group.consists_of(&wanted.voters) {
            return;
        }
        let (group, voters) = (self.group.clone(), wanted.voters.clone());
        let (site, clock) = (Arc::clone(&self.site), Arc::clone(&self.shared.host.clock));
        let change = async move {
            tokio::select! {
                biased;
                moved = group.move_voters(&voters) => if let Err(error) = moved {
                    tracing::warn!(cluster = %site.name, %error, "the members of a cluster's group were not changed");
                },
                () = clock.sleep(MEMBERS_WITHIN) => {
                    tracing::warn!(cluster = %site.name, "the members of a cluster's group were not changed in time");
                }
            }
        };
        let spawn = &self.shared.host.spawn;
        self.moving = Some(spawn.spawn("cluster-members", Box::pin(change)));
    }

    fn drain_state(&mut self, listener: &mut Listener) {
        let changed = listener.drain().iter().any(|event| match event {
            storage::Event::Changes(changes) => changes.catalog_changed,
            storage::Event::Jump(_) => true,
        });
        let state = self.shared.env.storage().view();
        let holds_moved = state
            .holds()
            .get(&self.site.cluster)
            .is_some_and(|hold| hold.frontiers != self.holds);
        if changed || holds_moved {
            self.follow_state();
        }
    }

    /// Takes over what ENV's state says now.
    fn follow_state(&mut self) {
        let state = self.shared.env.storage().view();
        self.follow_holds(&state);
        let version = state.catalog().version;
        if self.seen.borrow().catalog_version == version {
            return;
        }
        let desired = self.desired_by(&state);
        // Most changes of the catalog concern other CLUSTERs, or nothing that runs.
        if self.intended.is_none() && are_same(&desired, &self.desired) {
            self.instruct(version, desired);
            return;
        }
        // Not of what is proposed: while the catalog keeps changing the replicas would hear nothing.
        let waits = self.intended.as_ref().is_some_and(|intent| intent.proposed);
        if !waits {
            self.intend(Intent {
                catalog_version: version,
                desired,
                proposed: true,
            });
        }
    }

    fn follow_holds(&mut self, state: &State) {
        if let Some(hold) = state.holds().get(&self.site.cluster)
            && hold.frontiers != self.holds
        {
            self.holds.clone_from(&hold.frontiers);
            self.step(Event::HoldsApplied {
                holds: self.holds.clone(),
            });
        }
    }

    fn desired_by(&self, state: &State) -> BTreeMap<GlobalId, Desired> {
        let (desired, unreadable) =
            controller::desired::from_catalog(state.catalog(), self.site.cluster, &self.desired);
        for (id, error) in unreadable {
            tracing::error!(%id, %error, "a stored plan cannot be read by this binary");
        }
        desired
    }

    /// Has the group know what the replicas will be told of, before they are: a later leader that knows less of the catalog tells them nothing.
    fn intend(&mut self, intent: Intent) {
        let catalog_version = intent.catalog_version;
        self.intended = Some(intent);
        let (group, cluster) = (self.group.clone(), self.site.cluster);
        let events = self.events.clone();
        let propose = async move {
            let committed = group.propose(&Entry::Acts { catalog_version }).await;
            if let Err(error) = &committed {
                tracing::warn!(%cluster, %error, "what replicas are to be told of was not committed");
            }
            let catalog_version = committed.is_ok().then_some(catalog_version);
            events.send(LeadEvent::Intended { catalog_version });
        };
        let spawn = &self.shared.host.spawn;
        drop(spawn.spawn("cluster-intend", Box::pin(propose)));
    }

    fn intended(&mut self, committed: Option<u64>) {
        match self.intended.take() {
            Some(intent) if committed == Some(intent.catalog_version) => {
                self.instruct(intent.catalog_version, intent.desired);
                self.follow_state();
            }
            // The next tick tries again, if this is still the leader.
            Some(intent) => {
                self.intended = Some(Intent {
                    proposed: false,
                    ..intent
                })
            }
            None => {}
        }
    }

    /// Tells the replicas what the catalog wants in a version that the group knows of.
    fn instruct(&mut self, catalog_version: u64, desired: BTreeMap<GlobalId, Desired>) {
        self.desired.clone_from(&desired);
        self.step(Event::CatalogChanged { dataflows: desired });
        let known = |id: &GlobalId| self.desired.contains_key(id) || self.owners.contains_key(id);
        self.frontiers.lock().retain(|id, _| known(id));
        self.failures.lock().retain(|id, _| known(id));
        self.seen
            .send_modify(|seen| seen.catalog_version = catalog_version);
    }

    fn publish(&mut self) {
        let ready = !self.controller.routes().all().is_empty();
        self.seen
            .send_if_modified(|seen| std::mem::replace(&mut seen.ready, ready) != ready);
        let created = self.controller.dataflows_created();
        self.shared.created.inc_by(created - self.created_before);
        self.created_before = created;
    }

    fn handle(&mut self, event: LeadEvent) {
        match event {
            LeadEvent::Connected {
                replica,
                connection,
                orders,
                target,
            } => self.connected(replica, connection, orders, target),
            LeadEvent::Disconnected {
                replica,
                connection,
            } => {
                if self.is_current(replica, connection) {
                    self.disconnected(replica);
                }
            }
            LeadEvent::Response {
                replica,
                connection,
                response,
            } => {
                if self.is_current(replica, connection) {
                    self.step(Event::Response { replica, response });
                }
            }
            LeadEvent::Superseded { by } => {
                tracing::info!(cluster = %self.site.name, ?by, "a replica obeys a later leader");
                self.over = true;
            }
            LeadEvent::Granted { term, grants } => {
                // What a later leader granted was not granted for the replicas that this one waits for.
                self.over |= term > self.epoch.term;
                if !self.over {
                    self.step(Event::GrantCommitted { grants });
                }
            }
            LeadEvent::Intended { catalog_version } => self.intended(catalog_version),
            LeadEvent::Create {
                id,
                dataflow,
                owner,
                done,
            } => {
                self.owners.insert(id, owner);
                self.step(Event::CreateTransient {
                    id,
                    hash: id.0,
                    dataflow,
                });
                // A statement that was cancelled meanwhile drops the dataflow again.
                let _ = done.send(());
            }
            LeadEvent::Drop { id } => {
                self.owners.remove(&id);
                self.step(Event::DropTransient { id });
                self.frontiers.lock().remove(&id);
            }
            LeadEvent::CancelPeek { id, hold } => {
                self.step(Event::CancelPeek { id });
                drop(hold);
            }
        }
    }

    fn is_current(&self, replica: ReplicaId, connection: u64) -> bool {
        let current = self.connected.get(&replica);
        current.is_some_and(|(current, _)| *current == connection)
    }

    fn connected(&mut self, replica: ReplicaId, connection: u64, orders: Orders, target: Target) {
        // A link that was closed meanwhile may still have said this.
        if self
            .links
            .get(&replica)
            .is_none_or(|link| link.node != target.node(&self.shared))
        {
            return;
        }
        // Before the controller opens a route to it.
        self.lead.targets.write().insert(replica, target);
        self.connected.insert(replica, (connection, orders));
        self.step(Event::ReplicaConnected { replica });
    }

    fn disconnected(&mut self, replica: ReplicaId) {
        self.connected.remove(&replica);
        self.step(Event::ReplicaDisconnected { replica });
        self.lead.targets.write().remove(&replica);
    }

    fn step(&mut self, event: Event) {
        let mut actions = vec![];
        {
            let _busy = self.meter.start();
            self.controller.step(event, &mut actions);
        }
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send { replica, command } => {
                if let Some((_, orders)) = self.connected.get(&replica) {
                    orders.send(command);
                }
            }
            Action::ProposeGrants(grants) => {
                // The next tick asks for what this one would have: without a quorum they would pile up.
                if !is_busy(&self.granting) {
                    self.granting = Some(self.propose(Entry::Grants(grants)));
                }
            }
            Action::ForgetGrants(ids) => drop(self.propose(Entry::Forget(ids))),
            Action::ProposeHolds {
                incarnation,
                frontiers,
            } => {
                if !is_busy(&self.holding) {
                    self.holding = Some(self.propose_holds(incarnation, frontiers));
                }
            }
            Action::Frontiers(moved) => {
                self.failures.lock().retain(|id, _| !moved.contains_key(id));
                self.frontiers.lock().extend(moved);
            }
            Action::Subscribe { id, batch } => {
                if let Some(Owner::Subscribe(queue)) = self.owners.get(&id) {
                    queue.push(batch);
                }
            }
            Action::Failed {
                id,
                replica,
                error,
                last,
            } => self.failed(id, replica, error, last),
        }
    }

    fn propose(&self, entry: Entry) -> TaskHandle {
        let (group, cluster) = (self.group.clone(), self.site.cluster);
        let propose = async move {
            if let Err(error) = group.propose(&entry).await {
                tracing::warn!(%cluster, %error, "an entry of the cluster's group was not committed");
            }
        };
        let spawn = &self.shared.host.spawn;
        spawn.spawn("cluster-propose", Box::pin(propose))
    }

    fn propose_holds(
        &self,
        incarnation: u64,
        frontiers: BTreeMap<ShardId, Timestamp>,
    ) -> TaskHandle {
        let (env, cluster) = (Arc::clone(&self.shared.env), self.site.cluster);
        let propose = async move {
            if let Err(error) = env
                .propose(&Command::Holds {
                    cluster,
                    incarnation,
                    frontiers,
                })
                .await
            {
                tracing::warn!(%cluster, %error, "input holds were not raised");
            }
        };
        let spawn = &self.shared.host.spawn;
        spawn.spawn("hold-propose", Box::pin(propose))
    }

    /// Tells everybody who still waits: to ask the next leader, or that there will be none.
    fn end(mut self) {
        self.step(Event::LostLeadership);
        self.lead.end();
        let miss = || match self.site.is_dropped() {
            true => Miss::Sql(cluster_dropped(&self.site.name)),
            false => Miss::Moved(None),
        };
        for owner in std::mem::take(&mut self.owners).into_values() {
            match owner {
                // A statement that was cancelled meanwhile does not listen.
                Owner::Query(failed) => drop(failed.send(miss())),
                Owner::Subscribe(queue) => queue.fail(miss()),
            }
        }
        if let Some(moving) = &self.moving {
            moving.abort();
        }
    }

    fn failed(&mut self, id: GlobalId, replica: ReplicaId, error: plan::EvalError, last: bool) {
        tracing::warn!(%id, %replica, error = %error.message, "a dataflow failed on a replica");
        if !last {
            return;
        }
        if self.desired.contains_key(&id) {
            self.failures.lock().insert(id, error.clone());
        }
        let miss = Miss::Sql(error.into());
        match self.owners.remove(&id) {
            Some(Owner::Query(failed)) => drop(failed.send(miss)),
            Some(Owner::Subscribe(queue)) => queue.fail(miss),
            None => {}
        }
    }
}
