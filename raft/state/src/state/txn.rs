//! One transaction of a batch: all of it or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use repr::{Diff, RowRef, ShardId, Timestamp};

use super::apply::Effects;
use super::sessions::Admission;
use super::stage::{StagedShard, Stages};
use super::{ROW_OVERHEAD_BYTES, STORED_BYTES_MAX, State};
use crate::command::{Check, Outcome, Txn};
use crate::shard::{BATCH_BYTES_MAX, Batch, Entry, KeyList, Shard, consolidate, row_hash};

/// What a transaction does to one shard, checked and ready.
struct Prepared {
    shard: ShardId,
    batches: Vec<Arc<Batch>>,
    sums: Sums,
}

/// What updates add to a shard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    rows: i128,
    bytes: i128,
    content: u64,
}

impl Sums {
    pub(super) fn add(&mut self, shard: ShardId, entries: &[Entry<'_>]) {
        for entry in entries {
            self.rows += i128::from(entry.diff);
            self.bytes += i128::from(entry.diff) * entry.row.byte_len() as i128;
            let content = row_hash(shard, entry.row).wrapping_mul(entry.diff as u64);
            self.content = self.content.wrapping_add(content);
        }
    }
}

/// A transaction's writes to one shard, in order.
#[derive(Default)]
struct Writes<'a> {
    truncate: bool,
    updates: Vec<(RowRef<'a>, Diff)>,
}

impl<'a> Writes<'a> {
    fn add(&mut self, truncate: bool, updates: impl Iterator<Item = (RowRef<'a>, Diff)>) {
        if truncate {
            self.truncate = true;
            self.updates.clear();
        }
        self.updates.extend(updates);
    }

    /// These writes, and those staged before them.
    fn after(self, staged: &'a StagedShard) -> Writes<'a> {
        if self.truncate {
            return self;
        }
        Writes {
            truncate: staged.truncate,
            updates: staged.iter().chain(self.updates).collect(),
        }
    }
}

impl State {
    pub(super) fn txn(&mut self, txn: &Txn, ts: Timestamp, effects: &mut Effects) -> Outcome {
        match self.sessions.admit(&txn.token) {
            Admission::New => {}
            Admission::Known(outcome) => return outcome,
            Admission::Expired => return Outcome::TokenExpired,
        }
        let outcome = match self.execute(txn, ts, effects) {
            Ok(()) => Outcome::Committed { ts },
            Err(outcome) => outcome,
        };
        self.drop_staged(txn);
        self.sessions
            .record(txn.token.session, txn.token.seq, outcome.clone());
        outcome
    }

    fn execute(&mut self, txn: &Txn, ts: Timestamp, effects: &mut Effects) -> Result<(), Outcome> {
        self.check_schema(txn)?;
        if !planted::is("h22") {
            txn.checks.iter().try_for_each(|check| self.check(check))?;
        }
        if txn.catalog_ops.is_empty() {
            let prepared = self.prepare(txn, ts)?;
            self.commit(txn, prepared, ts, effects);
            return Ok(());
        }
        let before = (
            self.catalog.clone(),
            self.shards.clone(),
            self.holds.clone(),
            self.members.clone(),
            self.stored_bytes,
        );
        let prepared = self
            .catalog_ops(&txn.catalog_ops, ts)
            .and_then(|()| self.prepare(txn, ts));
        match prepared {
            Ok(prepared) => {
                effects.catalog_changed = true;
                self.commit(txn, prepared, ts, effects);
                Ok(())
            }
            Err(outcome) => {
                (
                    self.catalog,
                    self.shards,
                    self.holds,
                    self.members,
                    self.stored_bytes,
                ) = before;
                Err(outcome)
            }
        }
    }

    fn check_schema(&self, txn: &Txn) -> Result<(), Outcome> {
        let same = |(id, version): &(_, u64)| {
            self.catalog
                .item(*id)
                .is_some_and(|item| item.version == *version)
        };
        if txn.schema.iter().all(same) || planted::is("h12") {
            Ok(())
        } else {
            Err(Outcome::CatalogMoved)
        }
    }

    fn check(&self, check: &Check) -> Result<(), Outcome> {
        match check {
            Check::CatalogUnchanged { version } if self.catalog.version == *version => Ok(()),
            Check::CatalogUnchanged { .. } => Err(Outcome::CatalogMoved),
            Check::ShardUnchanged { shard, since } => {
                let unchanged = self
                    .shards
                    .get(shard)
                    .ok_or(Outcome::CatalogMoved)?
                    .last_write
                    <= *since;
                unchanged.then_some(()).ok_or(Outcome::Conflict {
                    shard: Some(*shard),
                })
            }
            Check::KeyUnchanged {
                shard: id,
                space,
                key,
                since,
            } => {
                let shard = self.shards.get(id).ok_or(Outcome::CatalogMoved)?;
                let unchanged = shard.last_write <= *since
                    || (self.since(*id).is_some_and(|readable| readable <= *since)
                        && !shard.key_changed(*space as usize, key.as_ref(), *since));
                unchanged
                    .then_some(())
                    .ok_or(Outcome::Conflict { shard: Some(*id) })
            }
        }
    }

    /// Checks all writes against the state as it is and builds their batches.
    fn prepare(&self, txn: &Txn, ts: Timestamp) -> Result<Vec<Prepared>, Outcome> {
        let staged = self.staged(&txn.token, txn.staged)?;
        let mut by_shard: BTreeMap<ShardId, Writes<'_>> = BTreeMap::new();
        for id in staged.iter().flat_map(|staged| staged.shards.keys()) {
            by_shard.insert(*id, Writes::default());
        }
        for write in &txn.writes {
            let updates = write
                .updates
                .iter()
                .map(|(row, diff)| (row.as_ref(), *diff));
            by_shard
                .entry(write.shard)
                .or_default()
                .add(write.truncate, updates);
        }
        let prepared = by_shard.into_iter().map(|(id, writes)| {
            let shard = self.shards.get(&id).ok_or(Outcome::CatalogMoved)?;
            match staged.and_then(|staged| staged.shards.get(&id)) {
                None => prepare_shard(shard, writes, ts),
                Some(staged) => match link(shard, staged, &writes, ts) {
                    Some(prepared) => Ok(prepared),
                    None => prepare_shard(shard, writes.after(staged), ts),
                },
            }
        });
        let prepared = prepared.collect::<Result<Vec<_>, _>>()?;
        self.check_size(&prepared)?;
        Ok(prepared)
    }

    fn check_size(&self, prepared: &[Prepared]) -> Result<(), Outcome> {
        let grows = |p: &Prepared| p.sums.bytes + p.sums.rows * i128::from(ROW_OVERHEAD_BYTES);
        let growth: i128 = prepared.iter().map(grows).sum();
        if growth > 0 && i128::from(self.stored_bytes) + growth > i128::from(STORED_BYTES_MAX) {
            return Err(Outcome::TooLarge {
                limit_bytes: STORED_BYTES_MAX,
            });
        }
        Ok(())
    }

    fn commit(&mut self, txn: &Txn, prepared: Vec<Prepared>, ts: Timestamp, effects: &mut Effects) {
        // Others that stage for these shards hear of this commit; its own chunks have become the commit.
        self.drop_staged(txn);
        for part in prepared {
            let Prepared {
                shard: id,
                batches,
                sums,
            } = part;
            let since = self.since(id).expect("the shard was found");
            let shard = Arc::make_mut(self.shards.get_mut(&id).expect("the shard was found"));
            let before = shard.bytes + shard.rows * ROW_OVERHEAD_BYTES;
            shard.rows = add(shard.rows, sums.rows);
            shard.bytes = add(shard.bytes, sums.bytes);
            shard.content = shard.content.wrapping_add(sums.content);
            shard.last_write = ts;
            for batch in &batches {
                shard.push(batch.clone(), since);
            }
            self.stored_bytes =
                self.stored_bytes - before + shard.bytes + shard.rows * ROW_OVERHEAD_BYTES;
            Stages::follow(&mut self.stages, shard, &batches);
            effects.touched.insert(id);
            let written = batches.into_iter().filter(|batch| batch.updates() > 0);
            effects.writes.extend(written.map(|batch| (id, batch)));
        }
    }

    fn drop_staged(&mut self, txn: &Txn) {
        if self.stages.sessions.contains_key(&txn.token.session) {
            Arc::make_mut(&mut self.stages).drop_session(&txn.token.session);
        }
    }
}

/// The staged batches and what the transaction writes besides, without another look at what is staged; `None`: it has to
/// be checked.
fn link(
    shard: &Shard,
    staged: &StagedShard,
    writes: &Writes<'_>,
    ts: Timestamp,
) -> Option<Prepared> {
    if writes.truncate || !staged.follows() {
        return None;
    }
    let mut staged = staged.clone();
    if !writes.updates.is_empty() {
        staged.add(Some(shard), false, writes.updates.iter().copied());
    }
    let (batches, sums) = staged.linked(shard, ts)?;
    Some(Prepared {
        shard: shard.id,
        batches,
        sums,
    })
}

/// Adds what was checked to stay within the limits.
fn add(total: u64, more: i128) -> u64 {
    u64::try_from(i128::from(total) + more).expect("rows are counted exactly")
}

fn invalid(reason: impl Into<String>) -> Outcome {
    Outcome::Invalid {
        reason: reason.into(),
    }
}

fn prepare_shard(shard: &Shard, writes: Writes<'_>, ts: Timestamp) -> Result<Prepared, Outcome> {
    if writes
        .updates
        .iter()
        .any(|(row, _)| row.arity() != shard.arity)
    {
        return Err(invalid(format!(
            "a row of {} has not {} columns",
            shard.id, shard.arity
        )));
    }
    let mut entries: Vec<Entry<'_>> = writes
        .updates
        .iter()
        .map(|(row, diff)| Entry::new(*row, ts, *diff))
        .collect();
    consolidate(&mut entries);
    if writes.truncate {
        if entries.iter().any(|entry| entry.diff < 0) {
            return Err(invalid(format!(
                "a row that is not in {} is deleted",
                shard.id
            )));
        }
        delete_all(shard, ts, &mut entries);
    } else {
        check_deletes(shard, &entries)?;
    }
    if entries
        .iter()
        .map(|entry| entry.row.byte_len())
        .sum::<usize>()
        > BATCH_BYTES_MAX
    {
        return Err(Outcome::TooLarge {
            limit_bytes: BATCH_BYTES_MAX as u64,
        });
    }
    let keys: Vec<KeyList> = shard
        .spaces
        .iter()
        .map(|space| KeyList::of(space, entries.iter().map(|entry| entry.row)))
        .collect();
    for (space, keys) in keys.iter().enumerate() {
        if let Some(key) = first_duplicate(shard, space, keys, &entries, |_, _| 0) {
            return Err(Outcome::UniqueViolation {
                shard: shard.id,
                space: space as u32,
                key: key.to_row(),
            });
        }
    }
    let mut sums = Sums::default();
    sums.add(shard.id, &entries);
    Ok(Prepared {
        shard: shard.id,
        batches: vec![Arc::new(Batch::from_entries(&entries, &keys))],
        sums,
    })
}

/// Adds a deletion of every row there is.
fn delete_all<'a>(shard: &'a Shard, ts: Timestamp, entries: &mut Vec<Entry<'a>>) {
    for batch in &shard.batches {
        for row in 0..batch.rows() {
            let count = batch.count_at(row, Timestamp::MAX);
            entries.push(Entry::new(batch.row(row), ts, count.wrapping_neg()));
        }
    }
    consolidate(entries);
}

fn check_deletes(shard: &Shard, entries: &[Entry<'_>]) -> Result<(), Outcome> {
    let there = |entry: &Entry<'_>| {
        entry.diff >= 0 || shard.count_row(entry.row) >= entry.diff.saturating_neg()
    };
    if entries.iter().all(there) {
        return Ok(());
    }
    Err(invalid(format!(
        "a row that is not in {} is deleted",
        shard.id
    )))
}

/// After the transaction no key may occur twice: the first of these that would, in the order of the entries. `staged` says
/// how often the transaction has added a key before.
pub(super) fn first_duplicate<'k>(
    shard: &Shard,
    space: usize,
    keys: &'k KeyList,
    entries: &[Entry<'_>],
    staged: impl Fn(RowRef<'_>, u64) -> Diff,
) -> Option<RowRef<'k>> {
    let mut order: Vec<(u64, usize)> = (0..keys.len())
        .filter_map(|i| Some((keys.hash(i)?, i)))
        .collect();
    order.sort_unstable_by(|a, b| {
        a.0.cmp(&b.0)
            .then_with(|| keys.bytes(a.1).cmp(&keys.bytes(b.1)))
            .then(a.1.cmp(&b.1))
    });
    let mut first: Option<usize> = None;
    for group in order.chunk_by(|a, b| a.0 == b.0 && keys.bytes(a.1) == keys.bytes(b.1)) {
        let (hash, index) = group[0];
        let Some(key) = keys.row(index) else { continue };
        let more: i128 = group
            .iter()
            .map(|(_, i)| i128::from(entries[*i].diff))
            .sum();
        if more <= 0 {
            continue;
        }
        let added = more + i128::from(staged(key, hash));
        if added > 0 && added + stored(shard, space, key, hash) > 1 {
            first = Some(first.map_or(index, |first| first.min(index)));
        }
    }
    first.and_then(|index| keys.row(index))
}

fn stored(shard: &Shard, space: usize, key: RowRef<'_>, hash: u64) -> i128 {
    match shard.rows {
        0 => 0,
        _ => i128::from(shard.count_key(space, key, hash)),
    }
}
