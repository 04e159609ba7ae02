//! Single values, blindly overwritten and read by single statements through changing nodes: every key must be linearizable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::Sql;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::client::{Hopper, Shared, think};
use super::history::{End, Recorder};

pub const SETUP: &str = "
    create table registers (k int primary key, v bigint not null);
    insert into registers select x, 0 from generate_series(0, 3999) x;
    create materialized view registers_view as select k, v from registers";

/// Keys that exist; as many as `SETUP` makes.
const KEYS: u64 = 4000;
/// Operations on a key before the next one is used.
const OPERATIONS_PER_KEY: u64 = 80;

#[derive(Default)]
pub struct Registers {
    pub history: Recorder,
    operations: AtomicU64,
    values: AtomicU64,
}

/// Runs statements until the run is stopped.
pub async fn run(shared: Arc<Shared>, registers: Arc<Registers>, number: usize, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut hopper = Hopper::new(&shared, number);
    let history = &registers.history;
    let mut process = history.process();
    while shared.is_running() {
        let Some(sql) = hopper.hop().await else {
            think().await;
            continue;
        };
        let operation = registers.operations.fetch_add(1, Ordering::Relaxed);
        let key = (operation / OPERATIONS_PER_KEY).min(KEYS - 1);
        process = match rng.random_bool(0.5) {
            true => {
                let value = registers.values.fetch_add(1, Ordering::Relaxed) + 1;
                write(&mut hopper, &sql, history, process, (key, value)).await
            }
            false => {
                let from = ["registers", "registers_view"][rng.random_range(0..2)];
                read(&mut hopper, &sql, history, process, (key, from)).await
            }
        };
        think().await;
    }
}

async fn write(
    hopper: &mut Hopper,
    sql: &Sql,
    history: &Recorder,
    process: u64,
    (key, value): (u64, u64),
) -> u64 {
    let operation = json!([["w", key, value]]);
    history.invoke(process, &operation);
    let text = format!("update registers set v = {value} where k = {key}");
    let end = match hopper.attempt("write", sql.run(&text)).await {
        Ok(()) => End::Ok,
        Err(failure) if failure.is_unknown() => End::Info,
        Err(_) => End::Fail,
    };
    history.complete(process, end, &operation)
}

async fn read(
    hopper: &mut Hopper,
    sql: &Sql,
    history: &Recorder,
    process: u64,
    (key, from): (u64, &str),
) -> u64 {
    history.invoke(process, &json!([["r", key, null]]));
    let query = format!("select v from {from} where k = {key}");
    let name = match from {
        "registers" => "read",
        _ => "read of a view",
    };
    match hopper.attempt(name, sql.one(&query)).await {
        Ok(text) => {
            let value = match text.parse() {
                Ok(0) => Value::Null,
                Ok(value) => json!(value),
                Err(_) => json!(u64::MAX),
            };
            history.complete(process, End::Ok, &json!([["r", key, value]]))
        }
        Err(_) => history.complete(process, End::Fail, &json!([["r", key, null]])),
    }
}
