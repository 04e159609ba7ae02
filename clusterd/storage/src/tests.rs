//! Readers and listeners beside a writer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use repr::{Datum, Diff, GlobalId, NodeId, Row, ShardId, SqlType, Timestamp};
use state::catalog::{Column, Item, ItemKind, KeyConstraint, KeyConstraintKind, Table};
use state::command::{Batch, CatalogOp, Gateway, Session, Token, Txn, Write};
use state::state::{DEFAULT_ROLE, DEFAULT_SCHEMA, READ_WINDOW_US};
use state::{Command, Outcome, ReadError, State};

use crate::{Event, LISTENER_EVENTS_MAX, Listener, Storage, merge_once};

const SHARD: ShardId = ShardId(16384);
/// Longer than anything here takes; a test that waits so long has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// The one who applies and publishes.
struct Driver {
    state: State,
    storage: Storage,
    seq: u64,
    /// Every version of the table.
    versions: BTreeMap<Timestamp, BTreeMap<Row, Diff>>,
}

fn row(a: i32, b: i32) -> Row {
    Row::pack_slice(&[Datum::Int32(a), Datum::Int32(b)])
}

fn table() -> Item {
    let column = |name: &str| Column {
        name: name.into(),
        ty: SqlType::Int32,
        nullable: false,
    };
    let key = KeyConstraint {
        name: "k".into(),
        id: GlobalId(16385),
        kind: KeyConstraintKind::Primary,
        columns: vec![0],
    };
    let table = Table {
        shard: SHARD,
        columns: vec![column("a"), column("b")],
        defaults: vec![],
        keys: vec![key],
    };
    Item {
        id: GlobalId(16384),
        schema: DEFAULT_SCHEMA,
        name: "t".into(),
        owner: DEFAULT_ROLE,
        create_sql: String::new(),
        depends_on: Default::default(),
        version: 1,
        kind: ItemKind::Table(table),
    }
}

impl Driver {
    fn new() -> Driver {
        let mut state = State::new();
        state.apply(
            1,
            &Command::Init {
                environment: 1,
                generation: 0,
                wall_us: 1,
                superusers: vec!["u".into()],
            },
        );
        let storage = Storage::new(Arc::new(state.clone()));
        let mut driver = Driver {
            state,
            storage,
            seq: 0,
            versions: BTreeMap::new(),
        };
        driver.commit(2, vec![], vec![CatalogOp::CreateItem(Arc::new(table()))]);
        driver
            .versions
            .insert(driver.state.last_ts(), BTreeMap::new());
        driver
    }

    fn commit(&mut self, wall_us: u64, updates: Vec<(Row, Diff)>, catalog_ops: Vec<CatalogOp>) {
        self.seq += 1;
        let session = Session {
            gateway: Gateway {
                node: NodeId(1),
                incarnation: 1,
            },
            number: 1,
        };
        let token = Token {
            session,
            seq: self.seq,
            base: 0,
        };
        let writes = if updates.is_empty() {
            vec![]
        } else {
            vec![Write {
                shard: SHARD,
                updates,
                truncate: false,
            }]
        };
        let txn = Txn {
            token,
            schema: vec![],
            catalog_ops,
            checks: vec![],
            writes,
            staged: 0,
        };
        let command = Command::Batch(Batch {
            wall_us,
            txns: vec![txn],
        });
        let applied = self.state.apply(self.state.applied() + 1, &command);
        assert!(
            matches!(applied.outcomes[..], [Outcome::Committed { .. }]),
            "{:?}",
            applied.outcomes
        );
        self.storage
            .publish(Arc::new(self.state.clone()), vec![applied.changes]);
    }

    fn content(&self) -> BTreeMap<Row, Diff> {
        self.versions
            .values()
            .next_back()
            .cloned()
            .unwrap_or_default()
    }

    /// Sets `a` to `b`, whatever it was.
    fn set(&mut self, wall_us: u64, a: i32, b: i32) {
        let mut content = self.content();
        let mut updates = vec![];
        if let Some(old) = content
            .keys()
            .find(|row| row.column(0) == Datum::Int32(a))
            .cloned()
        {
            content.remove(&old);
            updates.push((old, -1));
        }
        content.insert(row(a, b), 1);
        updates.push((row(a, b), 1));
        self.commit(wall_us, updates, vec![]);
        self.versions.insert(self.state.last_ts(), content);
    }

    fn merge(&mut self) {
        for done in merge_once(&self.storage.view(), usize::MAX).done {
            self.state.install_merge(&done);
        }
        self.storage.publish(Arc::new(self.state.clone()), vec![]);
    }
}

/// Adds up what a listener is told, and forgets what it must.
#[derive(Default)]
struct Follower {
    updates: BTreeMap<Row, BTreeMap<Timestamp, Diff>>,
    since: Timestamp,
    upper: Timestamp,
    jumps: usize,
}

impl Follower {
    fn of(view: &State) -> Follower {
        let mut follower = Follower {
            since: view.since(SHARD).unwrap(),
            upper: view.upper(),
            ..Follower::default()
        };
        let mut scan = crate::history(view, SHARD, view.last_ts()).unwrap().scan();
        while scan.next_chunk(7, |row, time, diff| follower.add(row.to_row(), time, diff)) {}
        follower
    }

    fn add(&mut self, row: Row, time: Timestamp, diff: Diff) {
        *self
            .updates
            .entry(row)
            .or_default()
            .entry(time)
            .or_default() += diff;
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Changes(changes) => {
                for (shard, batch) in &changes.writes {
                    assert_eq!(*shard, SHARD);
                    batch.iter().for_each(|(row, time, diff)| {
                        assert!(time >= self.upper, "what was complete does not change");
                        self.add(row.to_row(), time, diff);
                    });
                }
                self.upper = changes.upper;
            }
            Event::Jump(jump) => {
                self.jumps += 1;
                assert_eq!(
                    jump.from.upper(),
                    self.upper,
                    "a jump starts where the listener stood"
                );
                let shard = jump.shard(SHARD).unwrap();
                self.since = self.since.max(shard.lost_before.unwrap_or(0));
                for (row, time, diff) in shard.updates {
                    assert!(time >= self.upper);
                    self.add(row, time, diff);
                }
                self.upper = jump.to.upper();
            }
        }
    }

    fn at(&self, ts: Timestamp) -> BTreeMap<Row, Diff> {
        assert!(ts >= self.since && ts < self.upper);
        let sum = |times: &BTreeMap<Timestamp, Diff>| {
            times.range(..=ts).map(|(_, diff)| diff).sum::<Diff>()
        };
        self.updates
            .iter()
            .map(|(row, times)| (row.clone(), sum(times)))
            .filter(|(_, diff)| *diff != 0)
            .collect()
    }

    /// Every version that the follower may still be asked for is right.
    fn compare(&self, driver: &Driver) {
        let readable = driver.versions.range(self.since..self.upper);
        let first = driver
            .versions
            .range(..=self.since)
            .next_back()
            .map(|(_, content)| (self.since, content));
        for (ts, content) in readable.map(|(ts, content)| (*ts, content)).chain(first) {
            assert_eq!(&self.at(ts), content, "at {ts}");
        }
        assert_eq!(self.upper, driver.state.upper());
    }
}

fn drain(listener: &mut Listener, follower: &mut Follower) {
    listener
        .drain()
        .into_iter()
        .for_each(|event| follower.take(event));
}

#[test]
fn listeners_miss_nothing_whenever_they_begin() {
    let mut driver = Driver::new();
    let mut all = vec![];
    for i in 0..300 {
        if i % 30 == 0 {
            let (view, listener) = driver.storage.listen();
            all.push((listener, Follower::of(&view)));
        }
        driver.set(10 + i * 100, (i * 7 % 50) as i32, i as i32);
        if i % 17 == 0 {
            driver.merge();
        }
        if i % 5 == 0 {
            all.iter_mut()
                .step_by(2)
                .for_each(|(listener, follower)| drain(listener, follower));
        }
    }
    for (listener, follower) in &mut all {
        drain(listener, follower);
        follower.compare(&driver);
        assert_eq!(follower.jumps, 0);
        assert!(listener.drain().is_empty());
    }
}

#[test]
fn a_slow_listener_gets_one_jump() {
    let mut driver = Driver::new();
    let (view, mut slow) = driver.storage.listen();
    let mut follower = Follower::of(&view);
    driver.set(100, 1, 1);
    for i in 0..LISTENER_EVENTS_MAX as u64 + 10 {
        let applied = driver.state.apply(
            driver.state.applied() + 1,
            &Command::Close { wall_us: 200 + i },
        );
        driver
            .storage
            .publish(Arc::new(driver.state.clone()), vec![applied.changes]);
    }
    driver.set(100_000, 1, 2);
    let events = slow.drain();
    assert!(events.len() < 20, "{} events wait", events.len());
    events.into_iter().for_each(|event| follower.take(event));
    assert_eq!(follower.jumps, 1);
    follower.compare(&driver);
}

#[test]
fn an_installed_snapshot_is_a_jump_that_may_lose_history() {
    for gap in [1, 3 * READ_WINDOW_US] {
        let mut driver = Driver::new();
        let (view, mut listener) = driver.storage.listen();
        let mut follower = Follower::of(&view);
        (0..20).for_each(|i| driver.set(100 + i, i as i32 % 7, i as i32));
        drain(&mut listener, &mut follower);
        // Another node's storage hears nothing of this; then it is sent a snapshot.
        let behind = std::mem::replace(
            &mut driver.storage,
            Storage::new(Arc::new(driver.state.clone())),
        );
        (0..20).for_each(|i| driver.set(200 + i * gap, i as i32 % 5, 100 + i as i32));
        driver.merge();
        let mut bytes = vec![];
        driver.state.write_snapshot(&mut bytes).unwrap();
        let restored = State::read_snapshot(&mut &bytes[..]).unwrap();
        behind.install(Arc::new(restored));
        drain(&mut listener, &mut follower);
        assert_eq!(follower.jumps, 1);
        assert_eq!(
            follower.since > 1000,
            gap > 1,
            "history is lost only if it had to be"
        );
        follower.compare(&driver);
    }
}

#[test]
fn reads_answer_or_say_why_not() {
    let mut driver = Driver::new();
    driver.set(100, 1, 10);
    driver.set(200, 2, 20);
    driver.set(300, 1, 11);
    let storage = &driver.storage;
    assert_eq!(
        storage.snapshot(SHARD, 250).unwrap().collect::<Vec<_>>(),
        [(row(1, 10), 1), (row(2, 20), 1)]
    );
    let key = Row::pack_slice(&[Datum::Int32(1)]);
    assert_eq!(
        storage.lookup(SHARD, 0, &key, 299),
        Ok(vec![(row(1, 10), 1)])
    );
    assert_eq!(
        storage.lookup(SHARD, 0, &key, 300),
        Ok(vec![(row(1, 11), 1)])
    );
    assert_eq!(storage.lookup(SHARD, 0, &key, 50), Ok(vec![]));
    assert_eq!(
        storage.lookup(SHARD, 0, &key, 301),
        Err(ReadError::NotYet {
            upper: 301,
            ts: 301
        })
    );
    assert_eq!(
        storage.lookup(SHARD, 0, &key, 1),
        Err(ReadError::SinceBeyondTs {
            shard: SHARD,
            since: 2,
            ts: 1
        })
    );
    assert_eq!(
        storage.lookup(ShardId(1), 0, &key, 300),
        Err(ReadError::UnknownShard { shard: ShardId(1) })
    );
    let mut sum = 0;
    storage
        .scan_with(SHARD, 300, |row, diff| {
            sum += i64::from(row.column(1).unwrap_int32()) * diff
        })
        .unwrap();
    assert_eq!(sum, 31);
}

/// Readers on other threads see whole commits only, while batches are merged under them.
#[test]
fn readers_see_consistent_states_beside_a_writer() {
    let mut driver = Driver::new();
    let storage = driver.storage.clone();
    let reads = Arc::new(AtomicUsize::new(0));
    let count = reads.clone();
    let read = move || {
        loop {
            let view = storage.view();
            let mut total = 0;
            let shard = view.shard(SHARD).unwrap();
            shard.for_each(view.last_ts(), |row, diff| {
                assert_eq!(diff, 1);
                total += i64::from(row.column(1).unwrap_int32());
            });
            assert_eq!(total, 0, "each commit keeps the sum");
            count.fetch_add(1, Ordering::Relaxed);
            if view.last_ts() >= 1_000_000 {
                return;
            }
        }
    };
    let pair = |i: i32| vec![(row(2 * i, i), 1), (row(2 * i + 1, -i), 1)];
    std::thread::scope(|scope| {
        scope.spawn(read);
        for i in 0..2000 {
            driver.commit(100 + i as u64, pair(i), vec![]);
            if i % 100 == 0 {
                driver.merge();
            }
        }
        driver.commit(1_000_000, pair(2000), vec![]);
    });
    assert!(reads.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn waiters_wake() {
    let mut driver = Driver::new();
    let storage = driver.storage.clone();
    let (_, mut listener) = storage.listen();
    let woken = Arc::new(AtomicUsize::new(0));
    let count = woken.clone();
    listener.set_waker(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let waiter = async { storage.wait_applied(4).await.applied() };
    let follower = async {
        let mut seen = 0;
        while seen < 2 {
            listener.wait().await;
            seen += listener.drain().len();
        }
        seen
    };
    let writer = async {
        driver.set(100, 1, 1);
        tokio::task::yield_now().await;
        driver.set(200, 2, 2);
    };
    let all = async { tokio::join!(waiter, follower, writer) };
    assert_eq!(
        tokio::time::timeout(DEADLINE, all).await.unwrap(),
        (4, 2, ())
    );
    assert_eq!(woken.load(Ordering::Relaxed), 2);
}
