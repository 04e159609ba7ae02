//! What clients do at a gateway: the steps of a session without its SQL.

use crate::history::Told;
use crate::nodes::{Life, Shared};
use clusterd::adapter::error::SqlError;
use repr::{Datum, GlobalId, Row, ShardId, SqlType, Timestamp};
use state::catalog::{Column, Item, ItemKind, Table};
use state::command::{Batch, CatalogOp, Check, Command, Session, Token, Write};
use state::state::{DEFAULT_ROLE, DEFAULT_SCHEMA};
use state::{Outcome, State, Txn};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The table that writes go to: rows (value).
pub const LOG: u64 = 16_384;
/// The table with one row, (counter).
pub const COUNTER: u64 = 16_400;
/// Attempts of an increment until its client gives up.
const BUMPS_MAX: usize = 20;

/// SQLSTATE of an outcome that nobody knows.
const UNKNOWN: &str = "08007";

fn row(value: i32) -> Row {
    Row::pack_slice(&[Datum::Int32(value)])
}

fn table(id: u64, name: &str) -> Arc<Item> {
    let column = Column {
        name: "value".to_owned(),
        ty: SqlType::Int32,
        nullable: false,
    };
    let table = Table {
        shard: ShardId(id),
        columns: vec![column],
        defaults: vec![],
        keys: vec![],
    };
    Arc::new(Item {
        id: GlobalId(id),
        schema: DEFAULT_SCHEMA,
        name: name.to_owned(),
        owner: DEFAULT_ROLE,
        create_sql: format!("CREATE TABLE {name} (value int4 NOT NULL)"),
        depends_on: BTreeSet::new(),
        version: 1,
        kind: ItemKind::Table(table),
    })
}

fn write(shard: u64, updates: Vec<(Row, i64)>) -> Write {
    Write {
        shard: ShardId(shard),
        updates,
        truncate: false,
    }
}

/// A transaction of a session of its own.
pub fn txn(life: &Life) -> Txn {
    let session = Session {
        gateway: life.gateway,
        number: life.session(),
    };
    let token = Token {
        session,
        seq: 1,
        base: life.env.storage().view().applied(),
    };
    Txn {
        token,
        schema: vec![],
        catalog_ops: vec![],
        checks: vec![],
        writes: vec![],
        staged: 0,
    }
}

pub fn insert(life: &Life, value: i32) -> Txn {
    Txn {
        schema: vec![(GlobalId(LOG), 1)],
        writes: vec![write(LOG, vec![(row(value), 1)])],
        ..txn(life)
    }
}

/// Creates the two tables.
pub fn create_tables(life: &Life) -> Txn {
    let ops = [(LOG, "log"), (COUNTER, "counter")].map(|(id, name)| table(id, name));
    let version = life.env.storage().view().catalog().version;
    Txn {
        catalog_ops: ops.into_iter().map(CatalogOp::CreateItem).collect(),
        checks: vec![Check::CatalogUnchanged { version }],
        writes: vec![],
        ..txn(life)
    }
}

/// The counter's first row.
pub fn create_counter(life: &Life) -> Txn {
    Txn {
        writes: vec![write(COUNTER, vec![(row(0), 1)])],
        ..txn(life)
    }
}

/// The rows of a table at a time, with how often each is there.
pub fn rows(state: &State, shard: u64, ts: Timestamp) -> Result<BTreeMap<i32, i64>, String> {
    let shard = state
        .readable(ShardId(shard), ts)
        .map_err(|error| error.to_string())?;
    let mut rows = BTreeMap::new();
    shard.for_each(ts, |row, diff| {
        *rows.entry(row.column(0).unwrap_int32()).or_insert(0) += diff;
    });
    Ok(rows)
}

fn failed(error: &SqlError) -> String {
    format!("error {}", error.sqlstate)
}

/// Runs an operation until it or its gateway ends.
async fn on<T>(life: &Life, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = life.ended() => None,
        done = work => Some(done),
    }
}

/// Commits one INSERT; answers as its client would tell it.
pub async fn commit(shared: Shared, life: Arc<Life>, value: i32, txn: Txn) -> String {
    let floor = {
        let mut history = shared.history();
        history.begin_write(value);
        history.floor()
    };
    let (told, text) = match on(&life, life.committer.commit(txn)).await {
        Some(Ok(Outcome::Committed { ts })) => (Told::Committed(ts), "committed".to_owned()),
        Some(Ok(other)) => (Told::Refused, outcome(&other)),
        Some(Err(error)) if error.sqlstate == UNKNOWN => (Told::Nothing, failed(&error)),
        Some(Err(error)) => (Told::Refused, failed(&error)),
        None => (Told::Nothing, "connection lost".to_owned()),
    };
    shared.trace.note(&format!("write {value}: {text}"));
    shared.history().end_write(value, floor, told);
    text
}

pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Committed { .. } => "committed",
        Outcome::Conflict { .. } => "conflict",
        Outcome::UniqueViolation { .. } => "duplicate",
        Outcome::CatalogMoved => "catalog moved",
        Outcome::NameTaken { .. } => "name taken",
        Outcome::TokenExpired => "token expired",
        Outcome::Invalid { reason } => reason,
        Outcome::TooLarge { .. } => "too large",
        Outcome::NoSpace => "no space",
    }
    .to_owned()
}

/// Proposes a transaction that was proposed before.
pub async fn repeat(life: Arc<Life>, txn: Txn) -> String {
    let batch = Command::Batch(Batch {
        wall_us: life.env.wall_us(),
        txns: vec![txn],
    });
    match life.env.propose(&batch).await {
        Ok(outcomes) => outcomes.iter().map(outcome).collect(),
        Err(error) => failed(&error),
    }
}

/// A strict SELECT of everything.
pub async fn read(shared: Shared, life: Arc<Life>) -> String {
    let floor = shared.history().floor();
    let text = match on(&life, life.read_points.join()).await {
        None => "connection lost".to_owned(),
        Some(Err(error)) => failed(&error),
        Some(Ok(point)) => seen(&shared, &point.state, point.ts, Some(floor)),
    };
    let end = text.rsplit(' ').next().unwrap_or_default();
    shared
        .trace
        .note(&format!("read of {} bytes: .. {end}", text.len()));
    text
}

/// A SELECT in serializable mode: what this node has.
pub fn read_local(shared: &Shared, life: &Life) -> String {
    let state = life.env.storage().view();
    seen(shared, &state, state.last_ts(), None)
}

fn seen(shared: &Shared, state: &State, ts: Timestamp, floor: Option<Timestamp>) -> String {
    match rows(state, LOG, ts) {
        Err(error) => error,
        Ok(rows) => {
            let text: Vec<String> = rows.keys().map(i32::to_string).collect();
            shared.history().end_read(ts, floor, rows);
            format!("[{}]", text.join(" "))
        }
    }
}

/// UPDATE counter SET value = value + 1, tried again when somebody was faster.
pub async fn bump(shared: Shared, life: Arc<Life>) -> String {
    for _ in 0..BUMPS_MAX {
        let point = match on(&life, life.read_points.join()).await {
            None => return "connection lost".to_owned(),
            Some(Err(error)) => return failed(&error),
            Some(Ok(point)) => point,
        };
        let value = match rows(&point.state, COUNTER, point.ts) {
            Ok(rows) if rows.len() == 1 => *rows.keys().next().expect("one"),
            Ok(rows) => return format!("the counter has the rows {rows:?}"),
            Err(error) => return error,
        };
        let shard = ShardId(COUNTER);
        let since = point.ts;
        let update = Txn {
            checks: vec![Check::ShardUnchanged { shard, since }],
            writes: vec![write(COUNTER, vec![(row(value), -1), (row(value + 1), 1)])],
            ..txn(&life)
        };
        let (known, text) = match on(&life, life.committer.commit(update)).await {
            Some(Ok(Outcome::Conflict { .. })) => continue,
            Some(Ok(Outcome::Committed { .. })) => (Some(true), "committed".to_owned()),
            Some(Ok(other)) => (None, outcome(&other)),
            Some(Err(error)) if error.sqlstate == UNKNOWN => (Some(false), failed(&error)),
            Some(Err(error)) => (None, failed(&error)),
            None => (Some(false), "connection lost".to_owned()),
        };
        if let Some(known) = known {
            shared.history().end_bump(known);
        }
        return text;
    }
    "conflict".to_owned()
}
