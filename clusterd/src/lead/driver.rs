//! The driver of one controller: events in, actions out.

use super::gauges::Gauges;
use super::group::ClusterGroup;
use super::queue::SubscribeQueue;
use super::{Failures, Lead, Seen, Shared, Tasks};
use crate::adapter::error::SqlError;
use crate::replica;
use anyhow::Result;
use controller::log::Entry;
use controller::{Action, Config, Controller, Desired, Event, ExportFrontier, Hold};
use host::metrics::{BusyMeter, IntCounter, counter};
use parking_lot::Mutex;
use plan::Dataflow;
use protocol::{Epoch, PeekId, Response};
use repr::{ClusterId, GlobalId, ReplicaId, ShardId, Timestamp};
use state::catalog::Cluster;
use state::command::Command;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use storage::Listener;
use tokio::sync::{mpsc, oneshot, watch};

/// How far grants stay behind the last timestamp. S keeps its tables readable for as long.
const READ_WINDOW_US: u64 = 5_000_000;
/// How often grants and holds are moved up.
const TICK: Duration = Duration::from_secs(1);
/// Events handled before the rest of the runtime gets a turn.
const EVENTS_PER_TURN: usize = 256;

/// Who is told when a temporary dataflow fails or changes.
pub(crate) enum Owner {
    Query(oneshot::Sender<SqlError>),
    Subscribe(SubscribeQueue),
}

pub(crate) enum LeadEvent {
    Response(ReplicaId, Response),
    Granted(BTreeMap<GlobalId, Timestamp>),
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
    /// The CLUSTER was dropped: the last event that is handled.
    End,
}

/// All replicas, or none.
fn start_replicas(
    shared: &Shared,
    cluster: &Cluster,
    events: &mpsc::UnboundedSender<LeadEvent>,
) -> Result<(BTreeMap<ReplicaId, compute::ReplicaHandle>, Tasks)> {
    let mut replicas = BTreeMap::new();
    let mut tasks = Tasks::default();
    for id in &cluster.replicas {
        let sink = events.clone();
        let id = *id;
        // The driver may have ended already when the process stops.
        let responses =
            Arc::new(move |response| drop(sink.send(LeadEvent::Response(id, response))));
        match replica::start(shared.env.storage(), &shared.host, cluster, responses) {
            Ok(placed) => {
                replicas.insert(id, placed.handle);
                tasks.feeds.push(placed.feed);
            }
            Err(error) => {
                // The workers of the others stop with the last handle.
                tasks.feeds.iter().for_each(|feed| feed.abort());
                return Err(error);
            }
        }
    }
    Ok((replicas, tasks))
}

/// Starts replicas, group and driver of a CLUSTER.
pub(super) async fn start(shared: &Shared, cluster: &Cluster) -> Result<Lead> {
    let (events, receiver) = mpsc::unbounded_channel();
    let granted = events.clone();
    // First what can fail for reasons of the disk: a replica that runs is not left behind then.
    let group = ClusterGroup::start(
        cluster.id,
        shared.node,
        &shared.host,
        &shared.wal,
        &shared.snapshots,
        shared.election,
        Box::new(move |grants| drop(granted.send(LeadEvent::Granted(grants)))),
    )
    .await?;
    let (replicas, mut tasks) = match start_replicas(shared, cluster, &events) {
        Ok(started) => started,
        Err(error) => {
            group.shutdown().await;
            return Err(error);
        }
    };
    let controller = Controller::new(Config {
        read_window_us: READ_WINDOW_US,
        ..Config::default()
    });
    let (seen_sender, seen) = watch::channel(Seen::default());
    let frontiers = Arc::new(Mutex::new(BTreeMap::new()));
    let failures = Failures::default();
    let lead = Lead {
        cluster: cluster.id,
        name: cluster.name.clone(),
        dropped: AtomicBool::new(false),
        holds: controller.holds(),
        routes: controller.routes(),
        replicas: replicas.clone(),
        tasks: Mutex::default(),
        events,
        seen,
        frontiers: Arc::clone(&frontiers),
        failures: Failures::clone(&failures),
        group: group.clone(),
        gauges: Gauges::new(&cluster.name),
    };
    let driver = Driver {
        cluster: cluster.id,
        name: cluster.name.clone(),
        incarnation: cluster.incarnation,
        shared: shared.clone(),
        controller,
        replicas,
        group,
        frontiers,
        failures,
        seen: seen_sender,
        owners: BTreeMap::new(),
        desired: BTreeMap::new(),
        holds: BTreeMap::new(),
        created: counter(
            "clusterd_controller_dataflows_created_total",
            "Dataflows that replicas were told to build because they did not have them.",
        ),
        created_before: 0,
        meter: BusyMeter::named("controller"),
    };
    let driver = Box::pin(driver.run(receiver));
    tasks.driver = Some(shared.host.spawn.spawn("controller", driver));
    *lead.tasks.lock() = tasks;
    Ok(lead)
}

struct Driver {
    cluster: ClusterId,
    name: String,
    incarnation: u64,
    shared: Shared,
    controller: Controller,
    replicas: BTreeMap<ReplicaId, compute::ReplicaHandle>,
    group: ClusterGroup,
    frontiers: Arc<Mutex<BTreeMap<GlobalId, ExportFrontier>>>,
    failures: Failures,
    seen: watch::Sender<Seen>,
    owners: BTreeMap<GlobalId, Owner>,
    desired: BTreeMap<GlobalId, Desired>,
    holds: BTreeMap<ShardId, Timestamp>,
    created: IntCounter,
    created_before: u64,
    meter: BusyMeter,
}

/// What a lead follows is the catalog and the holds. Writes, which are frequent, move neither; they take a timestamp, and holds do not.
fn concerns_lead(changes: &state::Changes) -> bool {
    changes.catalog_changed || changes.ts.is_none()
}

impl Driver {
    async fn run(mut self, mut events: mpsc::UnboundedReceiver<LeadEvent>) {
        let term = match self.group.lead().await {
            Ok(term) => term,
            Err(error) => {
                tracing::error!(cluster = %self.cluster, %error, "the cluster's group has no leader");
                return;
            }
        };
        let (_, mut listener) = self.shared.env.storage().listen_for(concerns_lead);
        self.follow_state();
        self.step(Event::GrantCommitted {
            grants: self.group.grants(),
        });
        self.step(Event::BecameLeader {
            epoch: Epoch {
                incarnation: self.incarnation,
                term,
            },
        });
        let replicas: Vec<_> = self.replicas.keys().copied().collect();
        for replica in replicas {
            self.step(Event::ReplicaConnected { replica });
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(EVENTS_PER_TURN);
        loop {
            tokio::select! {
                biased;
                () = listener.wait() => self.drain_state(&mut listener),
                count = events.recv_many(&mut batch, EVENTS_PER_TURN) => {
                    if count == 0 {
                        return;
                    }
                    for event in batch.drain(..) {
                        if matches!(event, LeadEvent::End) {
                            return self.end();
                        }
                        self.handle(event);
                    }
                }
                _ = tick.tick() => {
                    let last_ts = self.shared.env.storage().view().last_ts();
                    let oldest_lease = self.oldest_lease();
                    self.step(Event::Tick { last_ts, oldest_lease });
                }
            }
            self.publish();
        }
    }

    /// The oldest timestamp that any gateway may still read, by ENV's leases and this group's.
    fn oldest_lease(&self) -> Option<Timestamp> {
        let state = self.shared.env.storage().view();
        let env = state.leases().values().copied().min();
        env.into_iter().chain(self.group.oldest_lease()).min()
    }

    fn drain_state(&mut self, listener: &mut Listener) {
        let changed = listener.drain().iter().any(|event| match event {
            storage::Event::Changes(changes) => changes.catalog_changed,
            storage::Event::Jump(_) => true,
        });
        let state = self.shared.env.storage().view();
        let holds_moved = state
            .holds()
            .get(&self.cluster)
            .is_some_and(|hold| hold.frontiers != self.holds);
        if changed || holds_moved {
            self.follow_state();
        }
    }

    /// Takes over what ENV's state says now.
    fn follow_state(&mut self) {
        let state = self.shared.env.storage().view();
        if let Some(hold) = state.holds().get(&self.cluster)
            && hold.frontiers != self.holds
        {
            self.holds.clone_from(&hold.frontiers);
            self.step(Event::HoldsApplied {
                holds: self.holds.clone(),
            });
        }
        let catalog = state.catalog();
        if self.seen.borrow().catalog_version == catalog.version {
            return;
        }
        let (desired, unreadable) =
            controller::desired::from_catalog(catalog, self.cluster, &self.desired);
        for (id, error) in unreadable {
            tracing::error!(%id, %error, "a stored plan cannot be read by this binary");
        }
        self.desired.clone_from(&desired);
        self.step(Event::CatalogChanged { dataflows: desired });
        let known = |id: &GlobalId| self.desired.contains_key(id) || self.owners.contains_key(id);
        self.frontiers.lock().retain(|id, _| known(id));
        self.failures.lock().retain(|id, _| known(id));
        self.seen
            .send_modify(|seen| seen.catalog_version = catalog.version);
    }

    fn publish(&mut self) {
        let ready = !self.controller.routes().all().is_empty();
        self.seen
            .send_if_modified(|seen| std::mem::replace(&mut seen.ready, ready) != ready);
        let created = self.controller.dataflows_created();
        self.created.inc_by(created - self.created_before);
        self.created_before = created;
    }

    fn handle(&mut self, event: LeadEvent) {
        match event {
            LeadEvent::Response(replica, response) => {
                self.step(Event::Response { replica, response })
            }
            LeadEvent::Granted(grants) => self.step(Event::GrantCommitted { grants }),
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
            LeadEvent::End => self.end(),
        }
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
                if let Some(handle) = self.replicas.get(&replica) {
                    handle.send(command);
                }
            }
            Action::ProposeGrants(grants) => self.propose(Entry::Grants(grants)),
            Action::ForgetGrants(ids) => self.propose(Entry::Forget(ids)),
            Action::ProposeHolds {
                incarnation,
                frontiers,
            } => self.propose_holds(incarnation, frontiers),
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

    fn propose(&self, entry: Entry) {
        let (group, cluster) = (self.group.clone(), self.cluster);
        let propose = async move {
            if let Err(error) = group.propose(&entry).await {
                tracing::warn!(%cluster, %error, "an entry of the cluster's group was not committed");
            }
        };
        drop(
            self.shared
                .host
                .spawn
                .spawn("cluster-propose", Box::pin(propose)),
        );
    }

    fn propose_holds(&self, incarnation: u64, frontiers: BTreeMap<ShardId, Timestamp>) {
        let (env, cluster) = (Arc::clone(&self.shared.env), self.cluster);
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
        drop(
            self.shared
                .host
                .spawn
                .spawn("hold-propose", Box::pin(propose)),
        );
    }

    /// Tells everybody who still waits.
    fn end(&mut self) {
        self.step(Event::LostLeadership);
        for owner in std::mem::take(&mut self.owners).into_values() {
            let error = super::ended::cluster_dropped(&self.name);
            match owner {
                // A statement that was cancelled meanwhile does not listen.
                Owner::Query(failed) => drop(failed.send(error)),
                Owner::Subscribe(queue) => queue.fail(error),
            }
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
        match self.owners.remove(&id) {
            Some(Owner::Query(failed)) => drop(failed.send(error.into())),
            Some(Owner::Subscribe(queue)) => queue.fail(error.into()),
            None => {}
        }
    }
}
