//! Rows that are written once. Acknowledged: there, once. Refused: never there. Unknown: there once, or not at all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::{Result, bail, ensure};
use harness::Sql;
use harness::sql::error_text;

use super::client::{Hopper, Shared, think};

pub const SETUP: &str = "
    create table entry (client int, seq bigint);
    create materialized view entry_view as select client, count(*) as n, max(seq) as last from entry group by client";

/// What a client was told of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Acknowledged,
    Refused,
    Unknown,
}

/// What all clients were told, by client and number.
#[derive(Default)]
pub struct Entries(Mutex<BTreeMap<(u64, u64), Told>>);

/// Inserts until the run is stopped.
pub async fn run(shared: Arc<Shared>, entries: Arc<Entries>, number: usize) {
    let mut hopper = Hopper::new(&shared, number);
    let client = number as u64;
    for seq in 0.. {
        if !shared.is_running() {
            return;
        }
        if let Some(sql) = hopper.hop().await {
            let text = format!("insert into entry values ({client}, {seq})");
            let told = match hopper.attempt("insert", sql.run(&text)).await {
                Ok(()) => Told::Acknowledged,
                Err(failure) if failure.is_unknown() => Told::Unknown,
                Err(_) => Told::Refused,
            };
            entries.tell(client, seq, told);
        }
        think().await;
    }
}

impl Entries {
    pub fn tell(&self, client: u64, seq: u64, told: Told) {
        let mut known = self.0.lock().expect("entries");
        known.insert((client, seq), told);
    }

    /// Compares what the node of this session holds with what was told; in words how much that was.
    ///
    /// # Errors
    /// At the first row that is missing, doubled, or there although refused.
    pub async fn check(&self, sql: &Sql) -> Result<String> {
        let query = "select client, seq, count(*) from entry group by client, seq";
        let answer = sql.rows(query).await;
        let answer = answer.map_err(|error| anyhow::anyhow!("{query}: {}", error_text(&error)))?;
        let mut there = BTreeMap::new();
        for row in answer.rows() {
            let cell = |n: usize| row[n].as_deref().unwrap_or_default().parse::<u64>();
            there.insert((cell(0)?, cell(1)?), cell(2)?);
        }
        let known = self.0.lock().expect("entries");
        let (mut acknowledged, mut unknown, mut applied) = (0, 0, 0);
        for (row, told) in known.iter() {
            match (told, there.remove(row).unwrap_or(0)) {
                (Told::Acknowledged, 1) => acknowledged += 1,
                (Told::Refused, 0) => {}
                (Told::Unknown, 0) => unknown += 1,
                (Told::Unknown, 1) => (unknown, applied) = (unknown + 1, applied + 1),
                (told, n) => {
                    bail!("LOST, doubled or a phantom: {row:?} was {told:?} and is there {n} times")
                }
            }
        }
        ensure!(there.is_empty(), "rows that nobody wrote: {there:?}");
        Ok(format!(
            "{acknowledged} acknowledged, {unknown} unknown of which {applied} are there"
        ))
    }
}
