//! What clients did and were told, and whether one order of all of it explains that.
//!
//! Each write inserts a number that nobody else inserts, so a read shows exactly which writes it has seen. Whatever was acknowledged, or read, before an operation began must lie before
//! it: that is a least timestamp, which the operation takes along from its beginning.

use repr::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What became of a write, as its client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Nothing,
    Committed(Timestamp),
    /// It has not happened and never will.
    Refused,
}

#[derive(Default)]
pub struct History {
    writes: BTreeMap<i32, Told>,
    /// Everything at or before it was there for somebody already.
    floor: Timestamp,
    /// What was seen at a timestamp.
    seen: BTreeMap<Timestamp, BTreeMap<i32, i64>>,
    bumps: (u64, u64),
    violations: Vec<String>,
}

impl History {
    /// The least timestamp of an operation that begins now.
    pub fn floor(&self) -> Timestamp {
        self.floor
    }

    pub fn begin_write(&mut self, value: i32) {
        self.writes.insert(value, Told::Nothing);
    }

    pub fn end_write(&mut self, value: i32, floor: Timestamp, told: Told) {
        if let Told::Committed(ts) = told {
            if ts <= floor {
                self.violate(format!(
                    "{value} was written at {ts}, but {floor} had been seen before"
                ));
            }
            self.floor = self.floor.max(ts);
        }
        self.writes.insert(value, told);
    }

    /// `strict`: the read promises to see what was there before it.
    pub fn end_read(
        &mut self,
        ts: Timestamp,
        strict_from: Option<Timestamp>,
        rows: BTreeMap<i32, i64>,
    ) {
        if let Some(floor) = strict_from {
            if ts < floor {
                self.violate(format!(
                    "a read at {ts} is stale: {floor} had been seen before"
                ));
            }
            self.floor = self.floor.max(ts);
        }
        for (value, count) in &rows {
            let problem = match self.writes.get(value) {
                _ if *count != 1 => Some(format!("is there {count} times")),
                None => Some("was never written".to_owned()),
                Some(Told::Refused) => Some("was refused".to_owned()),
                Some(Told::Committed(at)) if *at > ts => Some(format!("was written at {at}")),
                Some(Told::Committed(_) | Told::Nothing) => None,
            };
            if let Some(problem) = problem {
                self.violate(format!("a read at {ts} shows {value}, which {problem}"));
            }
        }
        let missing = |(value, told): (&i32, &Told)| match told {
            Told::Committed(at) if *at <= ts && !rows.contains_key(value) => Some(*value),
            Told::Committed(_) | Told::Nothing | Told::Refused => None,
        };
        for value in self.writes.iter().filter_map(missing).collect::<Vec<_>>() {
            self.violate(format!("a read at {ts} misses {value}"));
        }
        match self.seen.get(&ts) {
            Some(before) if *before != rows => {
                self.violate(format!("two reads at {ts} differ: {before:?} and {rows:?}"));
            }
            Some(_) => {}
            None => drop(self.seen.insert(ts, rows)),
        }
    }

    /// An increment ended; `known`: its client was told of success.
    pub fn end_bump(&mut self, known: bool) {
        match known {
            true => self.bumps.0 += 1,
            false => self.bumps.1 += 1,
        }
    }

    /// The counter at the end: all that was acknowledged, and perhaps what is unknown.
    pub fn check_counter(&mut self, counter: u64) {
        let (known, unknown) = self.bumps;
        if counter < known || counter > known + unknown {
            self.violate(format!(
                "the counter is {counter} after {known} acknowledged and {unknown} unknown increments"
            ));
        }
    }

    pub fn violate(&mut self, what: String) {
        self.violations.push(what);
    }

    pub fn take_violations(&mut self) -> Vec<String> {
        std::mem::take(&mut self.violations)
    }

    /// Writes that were acknowledged, and all.
    pub fn counts(&self) -> (usize, usize) {
        let committed = |told: &&Told| matches!(told, Told::Committed(_));
        let acknowledged = self.writes.values().filter(committed).count();
        (acknowledged, self.writes.len())
    }

    /// Numbers that nobody has used.
    pub fn unused(&self) -> i32 {
        let last: BTreeSet<i32> = self.writes.keys().copied().collect();
        last.last().copied().unwrap_or(0).max(1_000) + 1
    }
}
