//! Transactions that read and append to lists. Every read shows the order of all appends before it, so the whole order can be inferred.
//! Reads go to the table or to a materialized view of it, on whatever node is next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::Sql;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio_postgres::Error;

use super::client::{Failure, Hopper, Shared, think};
use super::history::{End, Recorder};

pub const SETUP: &str = "
    create table lists (k int primary key, v text not null);
    insert into lists select x, '' from generate_series(0, 11999) x;
    create materialized view lists_view as select k, v from lists";

/// Keys that exist; as many as `SETUP` makes.
const KEYS: u64 = 12_000;
/// Keys in use at a time.
const KEYS_HOT: u64 = 6;
/// After so many transactions other keys are used, so that lists stay short.
const TRANSACTIONS_PER_KEYS: u64 = 150;
const OPERATIONS_MAX: usize = 4;

/// What the clients share.
#[derive(Default)]
pub struct Lists {
    pub history: Recorder,
    transactions: AtomicU64,
    values: AtomicU64,
}

#[derive(Clone, Debug)]
enum Step {
    Append { key: u64, value: u64 },
    Read { key: u64, from: &'static str },
}

/// Runs transactions until the run is stopped.
pub async fn run(shared: Arc<Shared>, lists: Arc<Lists>, number: usize, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut hopper = Hopper::new(&shared, number);
    let mut process = lists.history.process();
    while shared.is_running() {
        let Some(sql) = hopper.hop().await else {
            think().await;
            continue;
        };
        let steps = lists.transaction(&mut rng);
        lists.history.invoke(process, &asked(&steps));
        let (end, value) = match transaction(&mut hopper, &sql, &steps).await {
            Ok(read) => (End::Ok, answered(&steps, read)),
            Err(end) => (end, asked(&steps)),
        };
        process = lists.history.complete(process, end, &value);
        think().await;
    }
}

impl Lists {
    fn transaction(&self, rng: &mut StdRng) -> Vec<Step> {
        let number = self.transactions.fetch_add(1, Ordering::Relaxed);
        let first = (number / TRANSACTIONS_PER_KEYS * KEYS_HOT).min(KEYS - KEYS_HOT);
        let writes = rng.random_bool(0.6);
        let steps = match rng.random_bool(0.4) {
            true => 1,
            false => rng.random_range(2..=OPERATIONS_MAX),
        };
        let mut step = |_| {
            let key = first + rng.random_range(0..KEYS_HOT);
            if writes && rng.random_bool(0.6) {
                let value = self.values.fetch_add(1, Ordering::Relaxed) + 1;
                return Step::Append { key, value };
            }
            // A read of a view conflicts with every write of its table: rare where something is written.
            let from = match rng.random_bool(if writes { 0.05 } else { 0.5 }) {
                true => "lists_view",
                false => "lists",
            };
            Step::Read { key, from }
        };
        (0..steps).map(&mut step).collect()
    }

    /// Reads every key that was used, at the node of this session, as the last operations of the history.
    ///
    /// # Errors
    /// If a read fails: nothing is broken any more.
    pub async fn read_all(&self, sql: &Sql) -> Result<(), Error> {
        let number = self.transactions.load(Ordering::Relaxed);
        let last = ((number / TRANSACTIONS_PER_KEYS + 1) * KEYS_HOT).min(KEYS);
        let process = self.history.process();
        for first in (0..last).step_by(KEYS_HOT as usize) {
            let steps: Vec<Step> = (first..first + KEYS_HOT)
                .map(|key| Step::Read { key, from: "lists" })
                .collect();
            self.history.invoke(process, &asked(&steps));
            let query = format!(
                "select v from lists where k >= {first} and k < {} order by k",
                first + KEYS_HOT
            );
            let rows = sql.rows(&query).await?;
            let read = rows.rows().iter().map(|row| row[0].clone()).collect();
            self.history
                .complete(process, End::Ok, &answered(&steps, read));
        }
        Ok(())
    }
}

/// What every step read; `None` for an append.
type Read = Vec<Option<String>>;

async fn transaction(hopper: &mut Hopper, sql: &Sql, steps: &[Step]) -> Result<Read, End> {
    if let [step] = steps {
        let done = hopper.attempt(step.name(), step.run(sql)).await;
        return done.map(|read| vec![read]).map_err(|failure| match step {
            Step::Append { .. } => ended(&failure),
            Step::Read { .. } => End::Fail,
        });
    }
    let mut read = Vec::new();
    let begun = hopper.attempt("begin", sql.run("begin")).await;
    begun.map_err(|_| End::Fail)?;
    for step in steps {
        match hopper.attempt(step.name(), step.run(sql)).await {
            Ok(value) => read.push(value),
            Err(_) => {
                // Nothing commits without COMMIT.
                if hopper
                    .attempt("rollback", sql.run("rollback"))
                    .await
                    .is_err()
                {
                    hopper.leave();
                }
                return Err(End::Fail);
            }
        }
    }
    match hopper.attempt("commit", sql.run("commit")).await {
        Ok(()) => Ok(read),
        Err(failure) if steps.iter().all(|step| matches!(step, Step::Read { .. })) => {
            let _ = failure;
            Err(End::Fail)
        }
        Err(failure) => Err(ended(&failure)),
    }
}

fn ended(failure: &Failure) -> End {
    match failure.is_unknown() {
        true => End::Info,
        false => End::Fail,
    }
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Step::Append { .. } => "append",
            Step::Read { from, .. } if *from == "lists" => "read",
            Step::Read { .. } => "read of a view",
        }
    }

    async fn run(&self, sql: &Sql) -> Result<Option<String>, Error> {
        match self {
            Step::Append { key, value } => {
                sql.run(&format!(
                    "update lists set v = v || ',{value}' where k = {key}"
                ))
                .await?;
                Ok(None)
            }
            Step::Read { key, from } => {
                let query = format!("select v from {from} where k = {key}");
                Ok(Some(sql.one(&query).await?))
            }
        }
    }
}

fn asked(steps: &[Step]) -> Value {
    let steps = steps.iter().map(|step| match step {
        Step::Append { key, value } => json!(["append", key, value]),
        Step::Read { key, .. } => json!(["r", key, null]),
    });
    steps.collect()
}

fn answered(steps: &[Step], read: Read) -> Value {
    let steps = steps.iter().zip(read).map(|(step, read)| match step {
        Step::Append { key, value } => json!(["append", key, value]),
        Step::Read { key, .. } => {
            let text = read.unwrap_or_default();
            let values = text.split(',').filter(|value| !value.is_empty());
            let values: Vec<u64> = values.map(|v| v.parse().unwrap_or(u64::MAX)).collect();
            json!(["r", key, values])
        }
    });
    steps.collect()
}
