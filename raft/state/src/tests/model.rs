//! Random logs against a model that keeps every version of every table.
//!
//! Three machines apply the same log: one that also merges elsewhere, one that does not, and one that is restored from a snapshot
//! now and then. All must agree with the model and with each other's hash.

use std::collections::BTreeMap;

use proptest::prelude::*;
use repr::{Diff, Row, ShardId, Timestamp};

use super::build::{batch, gateway, key, row, token, txn, with_tables, write};
use crate::command::{Check, Command, Outcome, Txn, Write};
use crate::state::{READ_WINDOW_US, State};

const KEYED: ShardId = ShardId(16384);
const BAG: ShardId = ShardId(16400);

type Content = BTreeMap<Row, Diff>;

/// What happens; applied to whatever is there.
#[derive(Clone, Debug)]
enum Step {
    /// Transactions of one entry, and how far the clock moves.
    Batch(u64, Vec<TxnStep>),
    Close(u64),
    Lease(Option<u64>),
    /// Merge elsewhere.
    Merge,
    /// Restore from a snapshot.
    Restore,
}

#[derive(Clone, Debug)]
struct TxnStep {
    writes: Vec<WriteStep>,
    /// How many entries ago the check's read was, and what it checks.
    check: Option<(usize, CheckStep)>,
    staged: bool,
}

#[derive(Clone, Debug)]
enum CheckStep {
    Shard(bool),
    Key(u32, i32),
}

#[derive(Clone, Debug)]
enum WriteStep {
    Insert(bool, i32, Option<i32>),
    /// A row that is there, by position.
    Delete(bool, usize),
    /// Replaces the second column of a row that is there.
    Update(bool, usize, Option<i32>),
    DeleteMissing(bool),
    Truncate(bool),
}

fn write_step() -> impl Strategy<Value = WriteStep> {
    let b = prop_oneof![Just(None), (0..60i32).prop_map(Some)];
    prop_oneof![
        8 => (any::<bool>(), 0..60i32, b.clone()).prop_map(|(t, a, b)| WriteStep::Insert(t, a, b)),
        4 => (any::<bool>(), 0..1000usize).prop_map(|(t, at)| WriteStep::Delete(t, at)),
        4 => (any::<bool>(), 0..1000usize, b).prop_map(|(t, at, b)| WriteStep::Update(t, at, b)),
        1 => any::<bool>().prop_map(WriteStep::DeleteMissing),
        1 => any::<bool>().prop_map(WriteStep::Truncate),
    ]
}

fn txn_step() -> impl Strategy<Value = TxnStep> {
    let check = prop_oneof![
        any::<bool>().prop_map(CheckStep::Shard),
        (0..2u32, 0..60i32).prop_map(|(s, k)| CheckStep::Key(s, k))
    ];
    let check = prop::option::weighted(0.5, (0..8usize, check));
    (
        prop::collection::vec(write_step(), 0..6),
        check,
        any::<bool>(),
    )
        .prop_map(|(writes, check, staged)| TxnStep {
            writes,
            check,
            staged,
        })
}

fn step() -> impl Strategy<Value = Step> {
    let clock = prop_oneof![3 => 0..1000u64, 1 => 0..3 * READ_WINDOW_US];
    prop_oneof![
        16 => (clock.clone(), prop::collection::vec(txn_step(), 1..5)).prop_map(|(clock, txns)| Step::Batch(clock, txns)),
        2 => clock.clone().prop_map(Step::Close),
        1 => prop::option::of(clock).prop_map(Step::Lease),
        4 => Just(Step::Merge),
        1 => Just(Step::Restore),
    ]
}

/// Every version of one table.
#[derive(Default)]
struct Table {
    versions: BTreeMap<Timestamp, Content>,
}

impl Table {
    fn at(&self, ts: Timestamp) -> Content {
        self.versions
            .range(..=ts)
            .next_back()
            .map(|(_, content)| content.clone())
            .unwrap_or_default()
    }
}

struct Model {
    tables: BTreeMap<ShardId, Table>,
    last_write: BTreeMap<ShardId, Timestamp>,
    read_points: Vec<Timestamp>,
}

fn of_key(content: &Content, space: u32, key: &Row) -> Content {
    let column = |row: &Row| Row::pack_slice(&[row.column(space as usize)]);
    content
        .iter()
        .filter(|(row, _)| column(row) == *key)
        .map(|(row, diff)| (row.clone(), *diff))
        .collect()
}

impl Model {
    fn new() -> Model {
        Model {
            tables: BTreeMap::from([(KEYED, Table::default()), (BAG, Table::default())]),
            last_write: BTreeMap::from([(KEYED, 2000), (BAG, 2000)]),
            read_points: vec![2000],
        }
    }

    fn read_point(&self, ago: usize) -> Timestamp {
        self.read_points[self.read_points.len().saturating_sub(1 + ago)]
    }

    /// What a transaction must answer; `since` is the shards' since before the entry.
    fn expect(
        &self,
        txn: &Txn,
        writes: &[Write],
        ts: Timestamp,
        since: Timestamp,
    ) -> (Outcome, BTreeMap<ShardId, Content>) {
        for check in &txn.checks {
            if let Some(conflict) = self.conflict(check, since) {
                return (conflict, BTreeMap::new());
            }
        }
        let mut after: BTreeMap<ShardId, Content> = BTreeMap::new();
        for write in writes {
            let content = after
                .entry(write.shard)
                .or_insert_with(|| self.tables[&write.shard].at(ts));
            if write.truncate {
                content.clear();
            }
            write
                .updates
                .iter()
                .for_each(|(row, diff)| *content.entry(row.clone()).or_default() += diff);
        }
        for content in after.values_mut() {
            content.retain(|_, count| *count != 0);
        }
        for (shard, content) in &after {
            if content.values().any(|count| *count < 0) {
                return (
                    Outcome::Invalid {
                        reason: String::new(),
                    },
                    BTreeMap::new(),
                );
            }
            if *shard == KEYED && (0..2).any(|space| has_duplicate(content, space)) {
                return (
                    Outcome::UniqueViolation {
                        shard: KEYED,
                        space: 0,
                        key: Row::empty(),
                    },
                    BTreeMap::new(),
                );
            }
        }
        (Outcome::Committed { ts }, after)
    }

    fn conflict(&self, check: &Check, readable: Timestamp) -> Option<Outcome> {
        let (shard, since) = match check {
            Check::ShardUnchanged { shard, since } | Check::KeyUnchanged { shard, since, .. } => {
                (*shard, *since)
            }
            Check::CatalogUnchanged { .. } => return None,
        };
        if self.last_write[&shard] <= since {
            return None;
        }
        if let Check::KeyUnchanged { space, key, .. } = check {
            let mut before = of_key(&self.tables[&shard].at(since), *space, key);
            let changed = self.tables[&shard]
                .versions
                .range(since + 1..)
                .any(|(_, content)| {
                    let now = of_key(content, *space, key);
                    std::mem::replace(&mut before, now.clone()) != now
                });
            if readable <= since && !changed {
                return None;
            }
        }
        Some(Outcome::Conflict { shard: Some(shard) })
    }
}

fn has_duplicate(content: &Content, space: usize) -> bool {
    let mut counts: BTreeMap<Row, Diff> = BTreeMap::new();
    for (row, count) in content
        .iter()
        .filter(|(row, _)| !row.column(space).is_null())
    {
        *counts
            .entry(Row::pack_slice(&[row.column(space)]))
            .or_default() += count;
    }
    counts.values().any(|count| *count > 1)
}

fn same_kind(a: &Outcome, b: &Outcome) -> bool {
    match (a, b) {
        (Outcome::Invalid { .. }, Outcome::Invalid { .. })
        | (Outcome::UniqueViolation { .. }, Outcome::UniqueViolation { .. }) => true,
        (a, b) => a == b,
    }
}

struct Run {
    merging: State,
    plain: State,
    restored: State,
    model: Model,
    seq: u64,
    clock: u64,
}

impl Run {
    fn apply(&mut self, command: &Command) -> Vec<Outcome> {
        let index = self.plain.applied() + 1;
        // The bytes of the log decode to the same command.
        let command = &Command::decode(&command.encode()).unwrap();
        let outcomes = self.plain.apply(index, command).outcomes;
        assert_eq!(self.merging.apply(index, command).outcomes, outcomes);
        assert_eq!(self.restored.apply(index, command).outcomes, outcomes);
        assert_eq!(self.merging.hash(), self.plain.hash());
        assert_eq!(self.restored.hash(), self.plain.hash());
        outcomes
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Batch(clock, txns) => self.batch(clock, txns),
            Step::Close(clock) => {
                self.clock += clock;
                self.apply(&Command::Close {
                    wall_us: self.clock,
                });
                self.model.read_points.push(self.plain.last_ts());
            }
            Step::Lease(back) => {
                let oldest = back.map(|back| self.plain.last_ts().saturating_sub(back));
                self.apply(&Command::Lease {
                    gateway: gateway(1, 1),
                    oldest,
                });
            }
            Step::Merge => {
                for job in self.merging.merge_jobs() {
                    let done = job.run();
                    assert!(self.merging.install_merge(&done));
                    assert!(!self.merging.install_merge(&done), "its inputs are gone");
                }
            }
            Step::Restore => {
                let mut bytes = vec![];
                self.merging.write_snapshot(&mut bytes).unwrap();
                self.restored = State::read_snapshot(&mut &bytes[..]).unwrap();
            }
        }
        self.compare();
    }

    fn batch(&mut self, clock: u64, steps: Vec<TxnStep>) {
        self.clock += clock;
        let mut txns = vec![];
        for step in steps {
            self.seq += 1;
            txns.push(self.make(step));
        }
        let ts = self.clock.max(self.plain.last_ts() + 1);
        let since = self.plain.since(KEYED).unwrap();
        let entry: Vec<Txn> = txns.iter().map(|(txn, _)| txn.clone()).collect();
        let outcomes = self.apply(&batch(self.clock, entry));
        for ((txn, writes), outcome) in txns.iter().zip(&outcomes) {
            let (expected, after) = self.model.expect(txn, writes, ts, since);
            assert!(
                same_kind(outcome, &expected),
                "{outcome:?} instead of {expected:?}"
            );
            for (shard, content) in after {
                self.model
                    .tables
                    .get_mut(&shard)
                    .unwrap()
                    .versions
                    .insert(ts, content);
                self.model.last_write.insert(shard, ts);
            }
        }
        self.model.read_points.push(ts);
    }

    /// A transaction planned against what is there, and all its writes; staged ones are sent ahead.
    fn make(&mut self, step: TxnStep) -> (Txn, Vec<Write>) {
        let mut txn = txn(token(7, self.seq, self.plain.applied()));
        let writes: Vec<Write> = step.writes.iter().map(|write| self.write(write)).collect();
        if let Some((ago, check)) = &step.check {
            let since = self.model.read_point(*ago);
            txn.checks.push(match check {
                CheckStep::Shard(keyed) => Check::ShardUnchanged {
                    shard: if *keyed { KEYED } else { BAG },
                    since,
                },
                CheckStep::Key(space, k) => Check::KeyUnchanged {
                    shard: KEYED,
                    space: *space,
                    key: key(*k),
                    since,
                },
            });
        }
        let staged = if step.staged { writes.len() / 2 } else { 0 };
        txn.writes = writes[staged..].to_vec();
        if staged > 0 {
            // Each transaction that stages has a session of its own: the next one must not drop its chunks.
            txn.token = token(1000 + self.seq, 1, self.plain.applied());
            for (number, write) in writes[..staged].iter().enumerate() {
                let stage = Command::Stage {
                    token: txn.token,
                    number: number as u32,
                    writes: vec![write.clone()],
                };
                let warned = self.apply(&stage);
                let harmless = matches!(warned[..], [] | [Outcome::UniqueViolation { .. }]);
                assert!(harmless, "{warned:?}");
                assert_eq!(self.apply(&stage), [], "a repeated chunk is ignored");
            }
            txn.staged = staged as u32;
        }
        (txn, writes)
    }

    fn write(&self, step: &WriteStep) -> Write {
        let shard = |keyed: bool| if keyed { KEYED } else { BAG };
        let pick = |keyed: bool, at: usize| {
            let content = self.model.tables[&shard(keyed)].at(Timestamp::MAX);
            content.keys().nth(at % content.len().max(1)).cloned()
        };
        match step {
            WriteStep::Insert(keyed, a, b) => write(shard(*keyed), vec![(row(*a, *b), 1)]),
            WriteStep::Delete(keyed, at) => write(
                shard(*keyed),
                pick(*keyed, *at).map(|row| (row, -1)).into_iter().collect(),
            ),
            WriteStep::Update(keyed, at, b) => {
                let old = pick(*keyed, *at);
                let new = old
                    .as_ref()
                    .map(|old| row(old.column(0).unwrap_int32(), *b));
                let updates = old
                    .map(|row| (row, -1))
                    .into_iter()
                    .chain(new.map(|row| (row, 1)));
                write(shard(*keyed), updates.collect())
            }
            WriteStep::DeleteMissing(keyed) => write(shard(*keyed), vec![(row(-5, None), -1)]),
            WriteStep::Truncate(keyed) => Write {
                truncate: true,
                ..write(shard(*keyed), vec![])
            },
        }
    }

    /// Every readable version reads as in the model, by scan and by key, on all machines.
    fn compare(&self) {
        for state in [&self.merging, &self.plain, &self.restored] {
            for (id, table) in &self.model.tables {
                let since = state.since(*id).unwrap();
                assert!(state.readable(*id, since.wrapping_sub(1)).is_err());
                assert!(state.readable(*id, state.upper()).is_err());
                let late = self
                    .model
                    .read_points
                    .iter()
                    .rev()
                    .take(6)
                    .filter(|ts| **ts >= since);
                for ts in late.copied().chain([since, state.last_ts()]) {
                    let expected = table.at(ts);
                    let shard = state.readable(*id, ts).unwrap();
                    let mut found = Content::new();
                    shard.for_each(ts, |row, diff| {
                        assert!(found.insert(row.to_row(), diff).is_none(), "rows come once")
                    });
                    assert_eq!(found, expected, "{id} at {ts}");
                    if *id == KEYED {
                        compare_keys(shard, ts, &expected);
                    }
                }
                assert_eq!(
                    state.shard(*id).unwrap().rows() as i64,
                    table.at(Timestamp::MAX).values().sum::<i64>()
                );
            }
        }
    }
}

fn compare_keys(shard: &crate::Shard, ts: Timestamp, expected: &Content) {
    for space in 0..2u32 {
        for k in (0..60).step_by(7) {
            let mut found = Content::new();
            shard.lookup(space as usize, key(k).as_ref(), ts, |row, diff| {
                assert!(found.insert(row.to_row(), diff).is_none(), "rows come once")
            });
            assert_eq!(found, of_key(expected, space, &key(k)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_logs_agree_with_a_naive_model(steps in prop::collection::vec(step(), 1..120)) {
        let state = with_tables();
        let mut run = Run {
            merging: state.clone(),
            plain: state.clone(),
            restored: state,
            model: Model::new(),
            seq: 0,
            clock: 3000,
        };
        steps.into_iter().for_each(|step| run.step(step));
    }
}
