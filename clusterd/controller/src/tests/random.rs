//! Random runs: leadership moves without the old leader knowing, lanes are slow, proposals to ENV arrive late, replicas restart.
//!
//! Checked at every step: a hold in ENV never passes what any wanted dataflow may have to be re-created at; a replica forgets nothing that
//! is not granted in the log, and nothing that the leader in office holds for a peek; what the leader in office orders built can be built.
//! At the end everything heals: the replicas run what is wanted, nothing else, and history is let go of.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use plan::lir::{Dataflow, Export, ExportKind, SourceImport};
use plan::mir::Id;
use plan::{EvalError, Mfp};
use proptest::prelude::*;
use protocol::compute::{Command, Epoch, InventoryEntry, Numbered, Response};
use repr::{GlobalId, ReplicaId, ShardId, Timestamp};

use crate::log::{Entry, LogState};
use crate::{Action, Config, Controller, Desired, Event, Hold};

const READ_WINDOW_US: u64 = 10;
const NODES: usize = 2;
const REPLICAS: usize = 2;
const SHARDS: u64 = 3;

#[derive(Clone, Debug)]
enum Step {
    Time(u64),
    /// (Re)plans a dataflow over some of the shards, or drops it.
    Want(u64, u8),
    Unwant(u64),
    /// A node sees ENV as it is now.
    Sync(usize),
    /// A node sees some more of the group's log.
    Log(usize),
    Elect(usize),
    Depose(usize),
    Tick(usize),
    Deliver(usize, usize),
    Respond(usize, usize),
    /// A proposal of holds arrives at ENV.
    Holds(usize),
    Reconnect(usize, usize),
    Restart(usize),
    /// A replica gives up a dataflow.
    Fail(usize, u64),
    Acquire(usize, u64, u64),
    Release(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (node, replica) = (0..NODES, 0..REPLICAS);
    prop_oneof![
        6 => (1..30u64).prop_map(Step::Time),
        2 => (1..5u64, 1..8u8).prop_map(|(id, shards)| Step::Want(id, shards)),
        1 => (1..5u64).prop_map(Step::Unwant),
        6 => node.clone().prop_map(Step::Sync),
        6 => node.clone().prop_map(Step::Log),
        2 => node.clone().prop_map(Step::Elect),
        2 => node.clone().prop_map(Step::Depose),
        8 => node.clone().prop_map(Step::Tick),
        16 => (node.clone(), replica.clone()).prop_map(|(n, r)| Step::Deliver(n, r)),
        16 => (node.clone(), replica.clone()).prop_map(|(n, r)| Step::Respond(n, r)),
        6 => (0..4usize).prop_map(Step::Holds),
        1 => (node.clone(), replica.clone()).prop_map(|(n, r)| Step::Reconnect(n, r)),
        1 => replica.clone().prop_map(Step::Restart),
        2 => (replica, 1..5u64).prop_map(|(r, id)| Step::Fail(r, id)),
        4 => (node, 1..5u64, 0..15u64).prop_map(|(n, id, back)| Step::Acquire(n, id, back)),
        3 => (0..8usize).prop_map(Step::Release),
    ]
}

struct Node {
    controller: Controller,
    log_applied: usize,
    last_ts: Timestamp,
}

#[derive(Default)]
struct Replica {
    epoch: Epoch,
    /// Hash and since of what runs.
    flows: BTreeMap<GlobalId, (u64, Timestamp)>,
    named: BTreeSet<GlobalId>,
    /// What it said that it runs and gave up since.
    given_up: BTreeSet<GlobalId>,
}

#[derive(Default)]
struct Lane {
    commands: VecDeque<Numbered>,
    responses: VecDeque<Response>,
    seq: u64,
}

/// A peek under way: the term of the leader that holds for it, and what it reads.
struct HeldPeek {
    term: u64,
    id: GlobalId,
    /// Of the plan that the leader knew. A plan of the same id that replaces it is another collection, which begins later.
    hash: u64,
    hold: Hold,
}

struct World {
    last_ts: Timestamp,
    wanted: BTreeMap<GlobalId, Desired>,
    /// How often each slot was emptied.
    dropped: BTreeMap<u64, u64>,
    holds: BTreeMap<ShardId, Timestamp>,
    proposals: Vec<BTreeMap<ShardId, Timestamp>>,
    /// Each with the term of the leader that appended it.
    log: Vec<(u64, Entry)>,
    committed: LogState,
    /// The leader in office: node and term.
    office: Option<(usize, u64)>,
    term: u64,
    nodes: Vec<Node>,
    replicas: Vec<Replica>,
    lanes: BTreeMap<(usize, usize), Lane>,
    /// The last number that each leader gave to each replica.
    numbers: BTreeMap<(Epoch, ReplicaId), u64>,
    peeks: Vec<HeldPeek>,
}

fn dataflow(id: GlobalId, shards: &BTreeSet<ShardId>) -> Arc<Dataflow> {
    let source = |shard: &ShardId| {
        (
            GlobalId(shard.0),
            SourceImport {
                shard: *shard,
                types: vec![],
                mfp: Mfp::identity(0),
            },
        )
    };
    Arc::new(Dataflow {
        name: String::new(),
        sources: shards.iter().map(source).collect(),
        indexes: BTreeMap::new(),
        objects: vec![],
        exports: vec![Export {
            id,
            from: Id::Local(0),
            kind: ExportKind::Index {
                key: vec![],
                types: vec![],
            },
        }],
        as_of: None,
        until: None,
    })
}

fn replica_id(replica: usize) -> ReplicaId {
    ReplicaId(replica as u64)
}

impl World {
    fn new() -> World {
        let node = || Node {
            controller: Controller::new(Config {
                read_window_us: READ_WINDOW_US,
                retry_ticks_min: 1,
                retry_ticks_max: 4,
            }),
            log_applied: 0,
            last_ts: 0,
        };
        let mut world = World {
            last_ts: 100,
            wanted: BTreeMap::new(),
            dropped: BTreeMap::new(),
            holds: BTreeMap::new(),
            proposals: vec![],
            log: vec![],
            committed: LogState::default(),
            office: None,
            term: 0,
            nodes: (0..NODES).map(|_| node()).collect(),
            replicas: (0..REPLICAS).map(|_| Replica::default()).collect(),
            lanes: BTreeMap::new(),
            numbers: BTreeMap::new(),
            peeks: vec![],
        };
        for node in 0..NODES {
            (0..REPLICAS).for_each(|replica| world.reconnect(node, replica));
        }
        world
    }

    fn since(&self, shard: ShardId) -> Timestamp {
        let floor = self.last_ts.saturating_sub(READ_WINDOW_US);
        self.holds
            .get(&shard)
            .map_or(floor, |hold| floor.min(*hold))
    }

    fn event(&mut self, node: usize, event: Event) {
        let mut actions = vec![];
        self.nodes[node].controller.step(event, &mut actions);
        let in_office = self.office
            == self.nodes[node]
                .controller
                .epoch()
                .map(|epoch| (node, epoch.term));
        for action in actions {
            match action {
                Action::Send { replica, command } => {
                    let lane = self.lanes.entry((node, replica.0 as usize)).or_default();
                    if command.command != Command::Hello {
                        assert_eq!(command.seq, lane.seq + 1, "no gaps in a connection");
                    }
                    let numbers = self.numbers.entry((command.epoch, replica));
                    let last = numbers.or_insert(0);
                    assert!(command.seq > *last, "numbers go on over connections");
                    *last = command.seq;
                    lane.seq = command.seq;
                    lane.commands.push_back(command);
                }
                // Proposals of a leader that was deposed, and does not know it, are never committed.
                Action::ProposeGrants(grants) if in_office => self.commit(Entry::Grants(grants)),
                Action::ForgetGrants(ids) if in_office => self.commit(Entry::Forget(ids)),
                Action::ProposeGrants(_) | Action::ForgetGrants(_) => {}
                Action::ProposeHolds { frontiers, .. } => self.proposals.push(frontiers),
                Action::Frontiers(_) | Action::Subscribe { .. } | Action::Failed { .. } => {}
            }
        }
    }

    fn commit(&mut self, entry: Entry) {
        self.committed.apply(&entry);
        self.log.push((self.term, entry));
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Time(us) => self.last_ts += us,
            Step::Want(slot, shards) => self.want(self.id(slot), shards),
            Step::Unwant(slot) => self.unwant(slot),
            Step::Sync(node) => self.sync(node),
            Step::Log(node) => self.apply_log(node, 1),
            Step::Elect(node) => self.elect(node),
            Step::Depose(node) => {
                if self.office.is_none_or(|(leader, _)| leader != node) {
                    self.event(node, Event::LostLeadership);
                }
            }
            Step::Tick(node) => {
                let last_ts = self.nodes[node].last_ts;
                self.event(
                    node,
                    Event::Tick {
                        last_ts,
                        oldest_lease: None,
                    },
                );
            }
            Step::Deliver(node, replica) => self.deliver(node, replica),
            Step::Respond(node, replica) => {
                if let Some(response) = self
                    .lanes
                    .get_mut(&(node, replica))
                    .and_then(|lane| lane.responses.pop_front())
                {
                    self.event(
                        node,
                        Event::Response {
                            replica: replica_id(replica),
                            response,
                        },
                    );
                }
            }
            Step::Holds(at) => {
                if at < self.proposals.len() {
                    let proposal = self.proposals.remove(at);
                    self.raise_holds(&proposal);
                }
            }
            Step::Reconnect(node, replica) => self.reconnect(node, replica),
            Step::Restart(replica) => {
                self.replicas[replica] = Replica::default();
                (0..NODES).for_each(|node| self.reconnect(node, replica));
            }
            Step::Fail(replica, slot) => self.fail(replica, self.id(slot)),
            Step::Acquire(node, slot, back) => {
                let id = self.id(slot);
                let ts = self.nodes[node].last_ts.saturating_sub(back);
                let controller = &self.nodes[node].controller;
                if let (Some(epoch), Ok(hold)) =
                    (controller.epoch(), controller.holds().acquire(id, ts))
                {
                    self.peeks.push(HeldPeek {
                        term: epoch.term,
                        id,
                        hash: controller.desired[&id].hash,
                        hold,
                    });
                }
            }
            Step::Release(at) => {
                if at < self.peeks.len() {
                    self.peeks.remove(at);
                }
            }
        }
        self.check();
    }

    /// Ids are never used again: each time a slot is emptied it gets another one.
    fn id(&self, slot: u64) -> GlobalId {
        GlobalId(slot + 10 * self.dropped.get(&slot).copied().unwrap_or(0))
    }

    fn want(&mut self, id: GlobalId, shards: u8) {
        self.last_ts += 1;
        let shards: BTreeSet<ShardId> = (0..SHARDS)
            .filter(|shard| shards & (1 << shard) != 0)
            .map(ShardId)
            .collect();
        shards.iter().for_each(|shard| {
            self.holds.entry(*shard).or_insert(self.last_ts);
        });
        self.wanted.insert(
            id,
            Desired {
                hash: self.last_ts,
                dataflow: dataflow(id, &shards),
                as_of: self.last_ts,
            },
        );
        self.release_holds();
        self.peeks.retain(|peek| peek.id != id);
    }

    fn unwant(&mut self, slot: u64) {
        let id = self.id(slot);
        *self.dropped.entry(slot).or_insert(0) += 1;
        self.last_ts += 1;
        self.wanted.remove(&id);
        self.release_holds();
        self.peeks.retain(|peek| peek.id != id);
    }

    fn release_holds(&mut self) {
        let needed: BTreeSet<ShardId> = self
            .wanted
            .values()
            .flat_map(|d| crate::desired::shards(&d.dataflow))
            .collect();
        self.holds.retain(|shard, _| needed.contains(shard));
    }

    fn raise_holds(&mut self, frontiers: &BTreeMap<ShardId, Timestamp>) {
        for (shard, frontier) in frontiers {
            if let Some(held) = self.holds.get_mut(shard) {
                *held = (*held).max(*frontier);
            }
        }
    }

    fn sync(&mut self, node: usize) {
        self.nodes[node].last_ts = self.last_ts;
        let (holds, dataflows) = (self.holds.clone(), self.wanted.clone());
        self.event(node, Event::HoldsApplied { holds });
        self.event(node, Event::CatalogChanged { dataflows });
    }

    fn apply_log(&mut self, node: usize, most: usize) {
        for _ in 0..most {
            let Some((term, entry)) = self.log.get(self.nodes[node].log_applied).cloned() else {
                return;
            };
            self.nodes[node].log_applied += 1;
            // Whoever hears of a later leader's entry hears of the later term first.
            if self.nodes[node]
                .controller
                .epoch()
                .is_some_and(|epoch| epoch.term < term)
            {
                self.event(node, Event::LostLeadership);
            }
            if let Entry::Grants(grants) = entry {
                self.event(node, Event::GrantCommitted { grants });
            }
        }
    }

    fn elect(&mut self, node: usize) {
        self.term += 1;
        self.office = Some((node, self.term));
        self.apply_log(node, usize::MAX);
        self.event(
            node,
            Event::BecameLeader {
                epoch: Epoch {
                    incarnation: 1,
                    term: self.term,
                },
            },
        );
    }

    fn reconnect(&mut self, node: usize, replica: usize) {
        self.lanes.insert((node, replica), Lane::default());
        self.event(
            node,
            Event::ReplicaDisconnected {
                replica: replica_id(replica),
            },
        );
        self.event(
            node,
            Event::ReplicaConnected {
                replica: replica_id(replica),
            },
        );
    }

    fn deliver(&mut self, node: usize, replica: usize) {
        let Some(numbered) = self
            .lanes
            .get_mut(&(node, replica))
            .and_then(|lane| lane.commands.pop_front())
        else {
            return;
        };
        if numbered.epoch < self.replicas[replica].epoch {
            return;
        }
        self.replicas[replica].epoch = numbered.epoch;
        let epoch = numbered.epoch;
        let response = match numbered.command {
            Command::Hello => {
                let state = &mut self.replicas[replica];
                state.named.clear();
                state.given_up.clear();
                let flows = state.flows.iter();
                let dataflows = flows.map(|(id, (hash, since))| InventoryEntry {
                    id: *id,
                    hash: *hash,
                    since: *since,
                    upper: None,
                });
                Some(Response::Inventory {
                    epoch,
                    dataflows: dataflows.collect(),
                })
            }
            Command::CreateDataflow { id, hash, dataflow } => {
                Some(self.create(replica, epoch, id, hash, &dataflow))
            }
            Command::AllowCompaction { id, frontier } => {
                self.compact(replica, epoch, id, frontier);
                None
            }
            Command::InitializationComplete => {
                let Replica { flows, named, .. } = &mut self.replicas[replica];
                flows.retain(|id, _| named.contains(id));
                None
            }
            Command::CancelPeek { .. } => None,
        };
        if let Some(lane) = self.lanes.get_mut(&(node, replica)) {
            lane.responses.extend(response);
        }
    }

    /// The leader that the replica follows hears of it, if it is still there.
    fn fail(&mut self, replica: usize, id: GlobalId) {
        let Replica {
            epoch,
            flows,
            given_up,
            ..
        } = &mut self.replicas[replica];
        let epoch = *epoch;
        let failed = flows.remove(&id).is_some();
        if failed {
            given_up.insert(id);
        }
        if let Some((leader, term)) = self.office
            && failed
            && term == epoch.term
            && let Some(lane) = self.lanes.get_mut(&(leader, replica))
        {
            lane.responses.push_back(Response::DataflowFailed {
                epoch,
                id,
                error: EvalError::division_by_zero(),
            });
        }
    }

    fn in_office(&self, epoch: Epoch) -> bool {
        self.office.is_some_and(|(_, term)| term == epoch.term)
    }

    fn create(
        &mut self,
        replica: usize,
        epoch: Epoch,
        id: GlobalId,
        hash: u64,
        dataflow: &Dataflow,
    ) -> Response {
        let as_of = dataflow.as_of.expect("the controller says from when");
        self.replicas[replica].named.insert(id);
        let running = self.replicas[replica].flows.get(&id).map(|(hash, _)| *hash);
        assert!(
            running.is_none_or(|running| running == hash),
            "another plan of the same id is dropped first"
        );
        if running.is_none() {
            let readable = crate::desired::shards(dataflow).all(|shard| self.since(shard) <= as_of);
            let wanted = self
                .wanted
                .get(&id)
                .is_some_and(|desired| desired.hash == hash);
            // The order may be one that keeps what the inventory named: nothing is held for it. Its failure is on its way, and it is built at the grant then.
            let given_up = self.replicas[replica].given_up.contains(&id);
            assert!(
                readable || !wanted || !self.in_office(epoch) || given_up,
                "{id} cannot be built at {as_of}"
            );
            if !readable {
                return Response::DataflowFailed {
                    epoch,
                    id,
                    error: EvalError::division_by_zero(),
                };
            }
            self.replicas[replica].flows.insert(id, (hash, as_of));
            self.replicas[replica].given_up.remove(&id);
        }
        let since = self.replicas[replica].flows[&id].1;
        Response::Frontiers {
            epoch,
            frontiers: vec![(id, since, Some(since + 1))],
            arrangement_bytes: 0,
        }
    }

    fn compact(&mut self, replica: usize, epoch: Epoch, id: GlobalId, frontier: Option<Timestamp>) {
        let Some(frontier) = frontier else {
            self.replicas[replica].flows.remove(&id);
            return;
        };
        let wanted = self.wanted.contains_key(&id);
        let granted = self.committed.grants.get(&id).copied().unwrap_or(0);
        assert!(
            frontier <= granted || !wanted,
            "{id} forgets up to {frontier}, granted is {granted}"
        );
        if self.in_office(epoch) {
            let running = self.replicas[replica].flows.get(&id).map(|(hash, _)| *hash);
            let held = self.peeks.iter().any(|peek| {
                let reads = peek.id == id && Some(peek.hash) == running;
                peek.term == epoch.term && reads && peek.hold.ts() < frontier
            });
            assert!(!held, "{id} forgets what a peek holds");
        }
        if let Some((_, since)) = self.replicas[replica].flows.get_mut(&id) {
            *since = (*since).max(frontier);
        }
    }

    fn check(&self) {
        for (id, desired) in &self.wanted {
            let from = self
                .committed
                .grants
                .get(id)
                .copied()
                .unwrap_or(0)
                .max(desired.as_of);
            for shard in crate::desired::shards(&desired.dataflow) {
                assert!(
                    self.holds[&shard] <= from,
                    "{shard} is held at {}, {id} would begin at {from}",
                    self.holds[&shard]
                );
            }
        }
    }

    /// Everything arrives, one leader stays.
    fn heal(&mut self) {
        self.peeks.clear();
        self.step(Step::Elect(0));
        self.step(Step::Depose(1));
        for _ in 0..6 {
            self.step(Step::Time(20));
            (0..NODES).for_each(|node| self.step(Step::Sync(node)));
            self.step(Step::Tick(0));
            self.apply_log(0, usize::MAX);
            while !self.proposals.is_empty() {
                self.step(Step::Holds(0));
            }
            for replica in 0..REPLICAS {
                while !self.lanes[&(0, replica)].commands.is_empty()
                    || !self.lanes[&(0, replica)].responses.is_empty()
                {
                    self.step(Step::Deliver(0, replica));
                    self.step(Step::Respond(0, replica));
                }
            }
        }
        for replica in &self.replicas {
            let hashes = |(id, (hash, _)): (&GlobalId, &(u64, Timestamp))| (*id, *hash);
            let wanted: Vec<_> = self
                .wanted
                .iter()
                .map(|(id, desired)| (*id, desired.hash))
                .collect();
            assert_eq!(replica.flows.iter().map(hashes).collect::<Vec<_>>(), wanted);
        }
        for hold in self.holds.values() {
            assert!(
                *hold + 3 * 20 + READ_WINDOW_US >= self.last_ts,
                "a hold stays at {hold}, it is {}",
                self.last_ts
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_runs_keep_the_invariants(steps in prop::collection::vec(step(), 1..400)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        world.heal();
    }
}

/// The inputs of a dataflow that a replica kept have moved on when the order to keep it arrives, and the replica has just given it up.
#[test]
fn a_dataflow_is_given_up_between_the_inventory_and_the_order_to_keep_it() {
    let (node, replica) = (0, 0);
    let converse = |world: &mut World, times| {
        for _ in 0..times {
            world.step(Step::Deliver(node, replica));
            world.step(Step::Respond(node, replica));
        }
    };
    let mut world = World::new();
    world.step(Step::Want(1, 1));
    world.step(Step::Elect(node));
    world.step(Step::Sync(node));
    // Hello, the dataflow, the end of the wishes; then the next term's Hello, and its wishes are on their way.
    converse(&mut world, 3);
    world.step(Step::Elect(node));
    converse(&mut world, 1);
    assert_eq!(world.replicas[replica].flows.len(), 1);
    let begun = world.last_ts;
    world.step(Step::Time(3 * READ_WINDOW_US));
    world.step(Step::Sync(node));
    world.step(Step::Tick(node));
    world.step(Step::Log(node));
    world.step(Step::Tick(node));
    world.step(Step::Holds(0));
    assert!(world.since(ShardId(0)) > begun, "the inputs have moved on");
    world.step(Step::Fail(replica, 1));
    converse(&mut world, 1);
    assert_eq!(world.replicas[replica].flows.len(), 0, "it cannot be built");
    world.heal();
}
