//! INSERT, UPDATE, DELETE and the commit.

use crate::adapter::commit::txn_bytes;
use crate::adapter::compile::{CompiledDml, DmlKind};
use crate::adapter::error::{ConstraintName, Result, SqlError};
use crate::adapter::execute::{Failure, Params};
use crate::adapter::read_point::ReadPoint;
use crate::adapter::session::{Output, RowSet, Session};
use crate::adapter::transaction::{
    Block, TRANSACTION_BYTES_MAX, Transaction, transaction_too_large,
};
use planner::optimize::looks_into_catalog;
use planner::statement::{Returning, not_null_violation};
use repr::{Diff, Row, RowArena, ShardId};
use state::catalog::{Item, ItemKind, Table};
use state::command::{Command, Token, Write};
use state::{Batch, Catalog, Outcome, Txn};
use std::sync::Arc;

/// Tokens of steps on a transaction's own copy of the state, which never reach the log, count from here.
const SCRATCH_SEQ: u64 = 1 << 62;
/// A transaction above this is staged in chunks of about this size: applying one takes about a millisecond, and nothing else
/// can be applied meanwhile.
const CHUNK_BYTES: usize = 256 * 1024;

impl Session {
    pub(crate) async fn dml(
        &mut self,
        dml: &CompiledDml,
        params: &Params,
        point: &ReadPoint,
    ) -> Result<Output, Failure> {
        let name = match dml.kind {
            DmlKind::Insert => "INSERT",
            DmlKind::Update => "UPDATE",
            DmlKind::Delete => "DELETE",
        };
        self.check_writable(name)?;
        self.txn.writing = true;
        let rows = self.rows(&dml.exec, params, point, None).await?;
        let catalog = Arc::clone(self.txn.view(point).0.catalog());
        let item = catalog.item(dml.table).ok_or(Failure::CatalogMoved)?;
        let ItemKind::Table(table) = &item.kind else {
            return Err(SqlError::new("42809", format!("\"{}\" is not a table", item.name)).into());
        };
        let arity = table.columns.len();
        let mut changed = Changed {
            updates: Vec::with_capacity(rows.len()),
            count: 0,
            returned: vec![],
        };
        for (row, diff) in rows {
            changed.add(dml, row, diff, arity);
        }
        if dml.kind != DmlKind::Delete {
            let new = changed.updates.iter().filter(|(_, diff)| *diff > 0);
            for (row, _) in new {
                self.check_not_null(row, item, table, &dml.not_null)?;
            }
        }
        let count = changed.count;
        let returned = match &dml.returning {
            Some(returning) => {
                Some(self.returning(returning, &changed.returned, params, &catalog)?)
            }
            None => None,
        };
        self.write(point, item, table.shard, changed.updates, false)?;
        Ok(match (returned, dml.kind) {
            (Some(rows), DmlKind::Insert) => Output::Rows(rows.with_tag("INSERT 0")),
            (Some(rows), _) => Output::Rows(rows.with_tag(name)),
            (None, DmlKind::Insert) => Output::Complete(format!("INSERT 0 {count}")),
            (None, DmlKind::Update | DmlKind::Delete) => {
                Output::Complete(format!("{name} {count}"))
            }
        })
    }

    pub(crate) fn check_writable(&self, statement: &str) -> Result<()> {
        if self.txn.read_only {
            return Err(SqlError::new(
                "25006",
                format!("cannot execute {statement} in a read-only transaction"),
            ));
        }
        Ok(())
    }

    pub(crate) fn check_not_null(
        &self,
        row: &Row,
        item: &Item,
        table: &Table,
        columns: &[usize],
    ) -> Result<()> {
        for column in columns {
            if row.column(*column).is_null() {
                let values: Vec<_> = row
                    .iter()
                    .zip(&table.columns)
                    .map(|(datum, column)| {
                        (!datum.is_null()).then(|| self.text_of(&column.ty, datum))
                    })
                    .collect();
                return Err(
                    not_null_violation(&item.name, &table.columns[*column].name, &values).into(),
                );
            }
        }
        Ok(())
    }

    fn text_of(&self, ty: &repr::SqlType, datum: repr::Datum<'_>) -> String {
        repr::format::to_text(ty, datum, &self.eval.format)
    }

    fn returning(
        &self,
        returning: &Returning,
        rows: &[(Row, Diff)],
        params: &Params,
        catalog: &Arc<Catalog>,
    ) -> Result<RowSet> {
        let ctx = if returning.exprs.iter().any(looks_into_catalog) {
            self.eval_context(catalog)
        } else {
            self.eval.clone()
        };
        let exprs: Vec<_> = returning
            .exprs
            .iter()
            .map(|e| {
                let mut e = e.clone();
                e.bind(params);
                e
            })
            .collect();
        let mut out = vec![];
        for (row, count) in rows {
            let arena = RowArena::new();
            let columns = row.unpack();
            let values = exprs
                .iter()
                .map(|e| e.eval(&ctx, &columns, &arena))
                .collect::<Result<Vec<_>, _>>()?;
            let row = Row::pack_slice(&values);
            out.extend((0..*count).map(|_| row.clone()));
        }
        Ok(RowSet::new(
            Arc::new(returning.desc.clone()),
            out,
            "INSERT 0",
        ))
    }

    /// Adds changes to the transaction. In a block they are applied to its scratch state too, so that later statements see them and a violated key is
    /// reported by the statement that violates it.
    pub(crate) fn write(
        &mut self,
        point: &ReadPoint,
        item: &Item,
        shard: ShardId,
        updates: Vec<(Row, Diff)>,
        truncate: bool,
    ) -> Result<()> {
        if updates.is_empty() && !truncate {
            return Ok(());
        }
        let bytes: usize = updates.iter().map(|(row, _)| row.byte_len() + 16).sum();
        if self.txn.write_bytes + bytes > TRANSACTION_BYTES_MAX {
            return Err(transaction_too_large());
        }
        if self.txn.block != Block::Auto {
            let write = Write {
                shard,
                updates: crate::adapter::transaction::consolidate(updates.clone()),
                truncate,
            };
            self.apply_to_scratch(
                point,
                Txn {
                    writes: vec![write],
                    ..self.empty_txn()
                },
            )?;
        }
        self.txn.write_bytes += bytes;
        // S checks versions before it applies this transaction's own DDL: what counts is the table as the transaction found it.
        if let Some(found) = point.state.catalog().item(item.id) {
            self.txn.schema.insert(found.id, found.version);
        }
        let pending = self.txn.writes.entry(shard).or_default();
        if truncate {
            pending.truncate = true;
            pending.updates.clear();
        }
        pending.updates.extend(updates);
        Ok(())
    }

    /// Applies a step of this transaction to its own copy of the state.
    pub(crate) fn apply_to_scratch(&mut self, point: &ReadPoint, step: Txn) -> Result<()> {
        // Each step has a token of its own, else S would take it for a repetition.
        let step = Txn {
            token: Token {
                seq: SCRATCH_SEQ + self.txn.steps,
                ..step.token
            },
            ..step
        };
        self.txn.steps += 1;
        let base = self
            .txn
            .scratch
            .get_or_insert_with(|| Arc::clone(&point.state));
        let scratch = Arc::make_mut(base);
        let index = scratch.applied() + 1;
        let applied = scratch.apply(
            index,
            &Command::Batch(Batch {
                wall_us: 0,
                txns: vec![step],
            }),
        );
        let catalog = Arc::clone(scratch.catalog());
        match applied.outcomes.into_iter().next() {
            Some(Outcome::Committed { .. }) => Ok(()),
            Some(outcome) => Err(self.rejection(outcome, &catalog)),
            None => Err(SqlError::internal("a step without an outcome")),
        }
    }

    pub(crate) fn empty_txn(&self) -> Txn {
        let session = state::command::Session {
            gateway: self.adapter.gateway,
            number: self.key.number,
        };
        let token = Token {
            session,
            seq: SCRATCH_SEQ,
            base: u64::MAX,
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

    /// The error for a rejected step.
    fn rejection(&self, outcome: Outcome, catalog: &Catalog) -> SqlError {
        match outcome {
            Outcome::Committed { .. } => SqlError::internal("a commit was taken for a rejection"),
            Outcome::Conflict { .. } | Outcome::CatalogMoved => SqlError::conflict(),
            Outcome::UniqueViolation { shard, space, key } => {
                self.unique_violation(catalog, shard, space, &key)
            }
            Outcome::NameTaken { name } => {
                SqlError::new("42P07", format!("relation \"{name}\" already exists"))
            }
            Outcome::TokenExpired => SqlError::unknown_outcome(),
            Outcome::Invalid { reason } => SqlError::internal(reason),
            Outcome::TooLarge { limit_bytes } if limit_bytes != state::state::STORED_BYTES_MAX => {
                SqlError::new("53400", "the transaction is too large").hint(format!(
                    "One transaction may write {limit_bytes} bytes; split it."
                ))
            }
            Outcome::NoSpace => crate::env::disk_full(),
            Outcome::TooLarge { limit_bytes } => SqlError::new("53100", "the environment is full")
                .detail(format!("Tables may hold {limit_bytes} bytes."))
                .hint("DELETE, TRUNCATE or DROP TABLE makes room."),
        }
    }

    /// 23505 as PostgreSQL words it.
    fn unique_violation(
        &self,
        catalog: &Catalog,
        shard: ShardId,
        space: u32,
        key: &Row,
    ) -> SqlError {
        let found = catalog.items.values().find_map(|item| match &item.kind {
            ItemKind::Table(table) if table.shard == shard => Some((item, table)),
            _ => None,
        });
        let Some((item, table)) = found else {
            return SqlError::new("23505", "duplicate key value violates unique constraint");
        };
        let Some(constraint) = table.keys.get(space as usize) else {
            return SqlError::internal("a violated constraint is not in the catalog");
        };
        let columns = || constraint.columns.iter().map(|c| &table.columns[*c]);
        let names: Vec<_> = columns().map(|c| c.name.as_str()).collect();
        let values: Vec<_> = columns()
            .zip(key.iter())
            .map(|(c, datum)| self.text_of(&c.ty, datum))
            .collect();
        let mut error = SqlError::new(
            "23505",
            format!(
                "duplicate key value violates unique constraint \"{}\"",
                constraint.name
            ),
        )
        .detail(format!(
            "Key ({})=({}) already exists.",
            names.join(", "),
            values.join(", ")
        ));
        error.constraint = Some(ConstraintName {
            schema: catalog
                .schemas
                .get(&item.schema)
                .map_or_else(String::new, |s| s.name.clone()),
            table: item.name.clone(),
            constraint: constraint.name.clone(),
        });
        error
    }

    // The commit.

    /// Sends the transaction's effects to the log; without effects there is nothing to commit.
    pub(crate) async fn commit(&mut self) -> Result<(), Failure> {
        if !self.txn.has_effects() {
            if self.txn.block == Block::Auto {
                self.reset_transaction(Block::Auto);
            }
            return Ok(());
        }
        let checks = self.txn.checks();
        self.token_seq += 1;
        let token = Token {
            session: state::command::Session {
                gateway: self.adapter.gateway,
                number: self.key.number,
            },
            seq: self.token_seq,
            base: self.adapter.env.storage().view().applied(),
        };
        // Sorting a million rows would keep other sessions from this thread.
        let writes = match self.txn.write_bytes > CHUNK_BYTES {
            true => tokio::task::block_in_place(|| self.txn.take_writes()),
            false => self.txn.take_writes(),
        };
        let mut txn = Txn {
            token,
            schema: std::mem::take(&mut self.txn.schema).into_iter().collect(),
            catalog_ops: std::mem::take(&mut self.txn.catalog_ops),
            checks,
            writes,
            staged: 0,
        };
        // From here on a cancel comes too late: the outcome belongs to the log.
        let committing = self.cancel.commit();
        if txn_bytes(&txn) > CHUNK_BYTES
            && let Err(error) = self.stage(&mut txn).await
        {
            self.unstage().await;
            return Err(error.into());
        }
        let sent = self.adapter.committer.commit(txn).await;
        let outcome = sent.map_err(Failure::Final)?;
        drop(committing);
        let failed = match outcome {
            Outcome::Committed { ts } => {
                self.last_commit = ts;
                None
            }
            Outcome::Conflict { shard } => Some(Failure::Conflict(shard)),
            Outcome::CatalogMoved => Some(Failure::CatalogMoved),
            other => {
                let state = self.adapter.env.storage().view();
                Some(Failure::Final(self.rejection(other, state.catalog())))
            }
        };
        if self.txn.block == Block::Auto {
            self.reset_transaction(Block::Auto);
        } else {
            // Its effects are in the log (or rejected): nothing is left to be committed by the end of the block.
            self.txn = Transaction {
                failed: failed.is_some(),
                ..Transaction::new(self.txn.block, self.txn.read_only)
            };
        }
        failed.map_or(Ok(()), Err)
    }

    /// Moves a large transaction's writes, but for the last of them, into chunks of the log that nobody sees until the
    /// transaction names them.
    async fn stage(&mut self, txn: &mut Txn) -> Result<()> {
        let writes = std::mem::take(&mut txn.writes);
        let mut chunk: Vec<Write> = vec![];
        let mut bytes = 0;
        for write in writes {
            let mut truncate = write.truncate;
            let mut updates = vec![];
            // Deletions first: then a key that occurs twice among the chunks sent so far is not a matter of their order.
            let (gone, new): (Vec<_>, Vec<_>) =
                write.updates.into_iter().partition(|(_, diff)| *diff < 0);
            for (row, diff) in gone.into_iter().chain(new) {
                if bytes >= CHUNK_BYTES {
                    chunk.push(Write {
                        shard: write.shard,
                        updates: std::mem::take(&mut updates),
                        truncate,
                    });
                    truncate = false;
                    self.send_chunk(txn, std::mem::take(&mut chunk)).await?;
                    bytes = 0;
                }
                bytes += row.byte_len() + 16;
                updates.push((row, diff));
            }
            if truncate || !updates.is_empty() {
                chunk.push(Write {
                    shard: write.shard,
                    updates,
                    truncate,
                });
            }
        }
        txn.writes = chunk;
        Ok(())
    }

    /// Lets S drop the chunks of an attempt that was given up: any decided transaction of the session does.
    async fn unstage(&mut self) {
        self.token_seq += 1;
        let mut empty = self.empty_txn();
        empty.token.seq = self.token_seq;
        empty.token.base = self.adapter.env.storage().view().applied();
        // If this fails too, they go with the session's next transaction or its end.
        let _ = self.adapter.committer.commit(empty).await;
    }

    async fn send_chunk(&self, txn: &mut Txn, writes: Vec<Write>) -> Result<()> {
        let command = Command::Stage {
            token: txn.token,
            number: txn.staged,
            writes,
        };
        txn.staged += 1;
        match self.adapter.env.propose(&command).await?.into_iter().next() {
            None | Some(Outcome::Committed { .. }) => Ok(()),
            // Whoever has read anything may turn out to be in conflict with the commit that brought the other one.
            Some(Outcome::UniqueViolation { .. }) if !txn.checks.is_empty() => Ok(()),
            Some(Outcome::TooLarge { limit_bytes }) => {
                Err(
                    SqlError::new("53400", "the transaction is too large").hint(format!(
                        "Staged transactions may hold at most {limit_bytes} bytes; split it."
                    )),
                )
            }
            Some(outcome) => {
                let state = self.adapter.env.storage().view();
                Err(self.rejection(outcome, state.catalog()))
            }
        }
    }
}

/// The effect of a DML statement on its table.
struct Changed {
    updates: Vec<(Row, Diff)>,
    count: Diff,
    /// Rows that RETURNING sees.
    returned: Vec<(Row, Diff)>,
}

impl Changed {
    fn add(&mut self, dml: &CompiledDml, row: Row, diff: Diff, arity: usize) {
        self.count += diff;
        let returned = match dml.kind {
            DmlKind::Insert => {
                self.updates.push((row.clone(), diff));
                row
            }
            DmlKind::Delete => {
                self.updates.push((row.clone(), -diff));
                row
            }
            DmlKind::Update => {
                let mut columns = row.iter();
                let old = columns.take_packed(arity).to_row();
                let new = columns.remainder().to_row();
                self.updates.push((old, -diff));
                self.updates.push((new.clone(), diff));
                new
            }
        };
        if dml.returning.is_some() {
            self.returned.push((returned, diff));
        }
    }
}
