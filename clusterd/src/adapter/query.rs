//! One-shot queries: where the rows come from, and what is done to them before they are sent.

use crate::adapter::compile::{CompiledSelect, evaluate_constant, unreadable_yet};
use crate::adapter::error::{Result, SqlError};
use crate::adapter::execute::{Failure, Params};
use crate::adapter::introspection;
use crate::adapter::read_point::ReadPoint;
use crate::adapter::session::{Output, RowSet, Session};
use crate::adapter::transaction::Block;
use crate::lead::{PeekRequest, TransientQuery};
use plan::eval::{Collections, Limits};
use plan::mfp::{MfpPlan, MfpScratch};
use plan::{EvalError, Finishing, Mfp, ScalarExpr};
use planner::optimize::{BoundAccess, BoundPath, SelectExec};
use planner::statement::{AsOfPlan, Effect};
use repr::{Datum, Diff, GlobalId, Row, ShardId, Timestamp};
use state::catalog::ItemKind;
use state::{Catalog, State};
use std::sync::Arc;
use std::time::Duration;

/// Largest answer that is gathered before it is sent (53400 beyond).
pub const RESULT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Rows of constants that are evaluated without giving the runtime's thread away.
const SMALL_ROWS: usize = 100;
/// Rows that a scan reads on the session's own task before it is moved off the runtime's workers.
const INLINE_SCAN_ROWS: u64 = 10_000;

type Rows = Vec<(Row, Diff)>;

impl Session {
    pub(crate) async fn select(
        &mut self,
        select: &CompiledSelect,
        params: &Params,
        point: &ReadPoint,
    ) -> Result<Output, Failure> {
        let rows = self.select_rows(select, params, point).await?;
        Ok(Output::Rows(RowSet::new(
            Arc::clone(&select.desc),
            rows,
            "SELECT",
        )))
    }

    /// The finished rows of a query.
    pub(crate) async fn select_rows(
        &mut self,
        select: &CompiledSelect,
        params: &Params,
        point: &ReadPoint,
    ) -> Result<Vec<Row>, Failure> {
        // Not again when the statement is tried again: pg_sleep has slept.
        if !std::mem::replace(&mut self.txn.effects_done, true) {
            for effect in &select.effects {
                self.effect(effect, params).await?;
            }
        }
        let ts = match &select.as_of {
            Some(as_of) => Some(self.as_of(as_of, params, point).await?),
            None => None,
        };
        let rows = self.rows(&select.exec, params, point, ts).await?;
        let finishing = self.finishing(select, params)?;
        let finishing = finishing.as_ref().unwrap_or(&select.exec.finishing);
        Ok(finishing.finish(rows)?.collect())
    }

    /// The finishing with LIMIT and OFFSET given by parameters; `None` if they are not.
    fn finishing(&self, select: &CompiledSelect, params: &Params) -> Result<Option<Finishing>> {
        if select.limit.is_none() && select.offset.is_none() {
            return Ok(None);
        }
        let mut finishing = Finishing::clone(&select.exec.finishing);
        let number = |expr, what: &str, sqlstate: &str| {
            evaluate_constant(expr, params, &self.eval, |datum| match datum {
                Datum::Null => Ok(None),
                Datum::Int64(n) => u64::try_from(n)
                    .map(Some)
                    .map_err(|_| SqlError::new(sqlstate, format!("{what} must not be negative"))),
                other => Err(SqlError::internal(format!("{what} is {other:?}"))),
            })
        };
        if let Some(limit) = &select.limit {
            finishing.limit = number(limit, "LIMIT", "2201W")?;
        }
        if let Some(offset) = &select.offset {
            finishing.offset = number(offset, "OFFSET", "2201X")?.unwrap_or(0);
        }
        Ok(Some(finishing))
    }

    async fn effect(&mut self, effect: &Effect, params: &Params) -> Result<()> {
        match effect {
            Effect::Sleep(seconds) => {
                let seconds = evaluate_constant(seconds, params, &self.eval, |d| {
                    Ok(if d.is_null() { 0.0 } else { d.unwrap_float64() })
                })?;
                if seconds > 0.0 {
                    tokio::time::sleep(Duration::from_secs_f64(seconds.min(1e9))).await;
                }
                Ok(())
            }
            Effect::SetConfig { name, value, local } => self.set_and_report(name, value, *local),
            Effect::Cancel { pid, terminate } => {
                let pid = evaluate_constant(pid, params, &self.eval, |d| {
                    Ok((!d.is_null()).then(|| d.unwrap_int32()))
                })?;
                if *terminate {
                    return Err(SqlError::unsupported(
                        "pg_terminate_backend",
                        "pg_cancel_backend ends the running statement.",
                    ));
                }
                if let Some(pid) = pid {
                    self.adapter.sessions.cancel_by_pid(pid);
                }
                Ok(())
            }
        }
    }

    /// The time of an AS OF clause. A time in the future is waited for.
    pub(crate) async fn as_of(
        &self,
        as_of: &AsOfPlan,
        params: &Params,
        point: &ReadPoint,
    ) -> Result<Timestamp> {
        let asked = evaluate_constant(&as_of.time, params, &self.eval, |datum| match datum {
            Datum::Null => Err(SqlError::new(
                "22023",
                "AS OF requires a time that is not null",
            )),
            datum => Ok(datum.unwrap_mz_timestamp()),
        })?;
        let ts = if as_of.at_least {
            asked.max(point.ts)
        } else {
            asked
        };
        self.adapter.env.wait_for_time(ts).await?;
        Ok(ts)
    }

    /// The rows of a plan before finishing, at `as_of` or else at the transaction's own view. Remembers what was read.
    pub(crate) async fn rows(
        &mut self,
        exec: &SelectExec,
        params: &Params,
        point: &ReadPoint,
        as_of: Option<Timestamp>,
    ) -> Result<Rows, Failure> {
        let mut bound = exec.bind(params, &self.eval)?;
        bound.fix_time(as_of.unwrap_or(point.ts));
        self.check_readable(exec)?;
        self.remember_reads(exec, &bound.path);
        match bound.path {
            BoundPath::Constant { rows } => Ok(rows?),
            BoundPath::Table {
                shard, access, mfp, ..
            } => {
                let view = self.table_view(point, as_of).await?;
                let plan = self.prepared_block(&mfp);
                Ok(self.read_table(&view, shard, &access, &plan)?)
            }
            BoundPath::Interpret { mir } => {
                if exec
                    .depends_on
                    .iter()
                    .any(|id| introspection::asks_leaders(*id))
                {
                    self.adapter.clusters.ask_leaders().await;
                }
                let view = self.table_view(point, as_of).await?;
                Ok(self.interpret(&mir, view)?)
            }
            BoundPath::Peek {
                export,
                cluster,
                keys,
                mfp,
                ..
            } => {
                if keys.as_ref().is_some_and(Vec::is_empty) {
                    return Ok(vec![]);
                }
                let limit = bound
                    .finishing
                    .order_by
                    .is_empty()
                    .then_some(bound.finishing.limit)
                    .flatten();
                let plan = point.state.catalog().item(export);
                let request = PeekRequest {
                    export,
                    plan_hash: plan
                        .and_then(|item| item.plan())
                        .map_or(0, |plan| plan.hash),
                    keys,
                    ts: as_of.unwrap_or(point.ts),
                    mfp,
                    limit: limit.and_then(|l| l.checked_add(bound.finishing.offset)),
                    bytes_max: RESULT_BYTES_MAX,
                    catalog_version: point.state.catalog().version,
                    relaxed: self.settings.relaxed_reads(),
                };
                self.adapter
                    .clusters
                    .peek(cluster, request)
                    .await
                    .map_err(|error| self.snapshot_lost(error, as_of))
            }
            BoundPath::Dataflow {
                dataflow,
                arity,
                cluster,
                ..
            } => {
                let query = TransientQuery {
                    dataflow,
                    ts: as_of.unwrap_or(point.ts),
                    arity,
                    bytes_max: RESULT_BYTES_MAX,
                    catalog_version: point.state.catalog().version,
                    relaxed: self.settings.relaxed_reads(),
                };
                self.adapter
                    .clusters
                    .query(cluster, query)
                    .await
                    .map_err(|error| self.snapshot_lost(error, as_of))
            }
        }
    }

    /// History that the statement's own read point needs is gone: it took longer than the read window, or its transaction's lease was lost.
    fn snapshot_lost(&self, error: SqlError, as_of: Option<Timestamp>) -> Failure {
        if error.forgotten && as_of.is_none() {
            return Failure::SnapshotTooOld(
                SqlError::new("40001", "snapshot too old").detail(error.message),
            );
        }
        Failure::Sql(error)
    }

    /// Objects created in this transaction that only a dataflow could read do not exist yet.
    fn check_readable(&self, exec: &SelectExec) -> Result<()> {
        if exec
            .depends_on
            .iter()
            .any(|id| self.txn.unreadable.contains(id))
        {
            return Err(unreadable_yet());
        }
        Ok(())
    }

    /// Notes the reads of a transaction that may still write.
    fn remember_reads(&mut self, exec: &SelectExec, path: &BoundPath) {
        // A single SELECT commits nothing and needs no checks.
        if self.txn.read_only || self.txn.block == Block::Auto && !self.txn.writing {
            return;
        }
        self.txn.reads.catalog |= exec.depends_on.iter().any(|id| id.is_system());
        self.remember_definitions(exec);
        match path {
            BoundPath::Table {
                shard,
                access: BoundAccess::Lookup { space, keys },
                ..
            } => {
                self.txn
                    .reads
                    .keys
                    .extend(keys.iter().map(|key| (*shard, *space, key.clone())));
            }
            BoundPath::Constant { .. }
            | BoundPath::Table {
                access: BoundAccess::Scan,
                ..
            }
            | BoundPath::Interpret { .. }
            | BoundPath::Peek { .. }
            | BoundPath::Dataflow { .. } => {
                self.txn.reads.shards.extend(exec.shards.iter().copied());
            }
        }
    }

    /// What was read through a view counts only as long as the view means the same.
    fn remember_definitions(&mut self, exec: &SelectExec) {
        let Some(point) = &self.txn.read_point else {
            return;
        };
        let catalog = point.state.catalog();
        for id in &exec.depends_on {
            if let Some(item) = catalog.item(*id)
                && is_definition(&item.kind)
            {
                self.txn.schema.insert(*id, item.version);
            }
        }
    }

    /// The tables as this statement reads them.
    async fn table_view(&self, point: &ReadPoint, as_of: Option<Timestamp>) -> Result<TableView> {
        let Some(ts) = as_of else {
            let (state, ts) = self.txn.view(point);
            return Ok(TableView {
                state: Arc::clone(state),
                ts,
                check_since: false,
            });
        };
        Ok(TableView {
            state: self.adapter.env.storage().view(),
            ts,
            check_since: true,
        })
    }

    fn read_table(
        &self,
        view: &TableView,
        shard: ShardId,
        access: &BoundAccess,
        plan: &MfpPlan,
    ) -> Result<Rows> {
        match access {
            BoundAccess::Lookup { space, keys } => view.lookup(shard, *space, keys, plan),
            BoundAccess::Scan if view.row_count(shard) <= INLINE_SCAN_ROWS => {
                view.scan(shard, plan, &self.cancel)
            }
            BoundAccess::Scan => {
                tokio::task::block_in_place(|| view.scan(shard, plan, &self.cancel))
            }
        }
    }

    /// The block made ready to run. Executions of one plan share theirs if it has no parameters: the last one is kept.
    fn prepared_block(&mut self, mfp: &Arc<Mfp>) -> Arc<MfpPlan> {
        if let Some(last) = &self.last_block
            && last.derived_at == self.derived_at
            && Arc::ptr_eq(&last.mfp, mfp)
        {
            return Arc::clone(&last.plan);
        }
        let plan = Arc::new(MfpPlan::with_ctx(Mfp::clone(mfp), self.eval.clone()));
        self.last_block = Some(LastBlock {
            mfp: Arc::clone(mfp),
            derived_at: self.derived_at,
            plan: Arc::clone(&plan),
        });
        plan
    }

    pub(crate) fn interpret(&self, mir: &plan::Mir, view: TableView) -> Result<Rows> {
        let catalog = Arc::clone(view.state.catalog());
        let ctx = self.eval_context(&catalog);
        let collections = GatewayCollections {
            session: self,
            view: &view,
            catalog: &catalog,
        };
        let check = || {
            self.cancel
                .check()
                .map_err(|e| EvalError::new(&e.sqlstate, e.message))
        };
        let limits = Limits {
            rows_max: usize::MAX,
            bytes_max: RESULT_BYTES_MAX as usize,
            check: &check,
        };
        let env = plan::eval::Env {
            collections: &collections,
            ctx: &ctx,
            limits,
            time: Some(view.ts),
        };
        let evaluate = || plan::eval::eval_in_order(mir, &env);
        // Giving the runtime's thread away costs more than most INSERTs do.
        let rows = if is_small(mir) {
            evaluate()
        } else {
            tokio::task::block_in_place(evaluate)
        };
        Ok(rows?)
    }
}

/// Whether a plan reads nothing, has few rows and computes little, so that evaluating it holds up nobody.
fn is_small(mir: &plan::Mir) -> bool {
    let (mut rows, mut bounded) = (0, true);
    mir.visit(&mut |node| match node {
        plan::Mir::Constant {
            rows: Ok(constant), ..
        } => rows += constant.len(),
        plan::Mir::Map { scalars, .. } => bounded &= scalars.iter().all(is_cheap),
        plan::Mir::Filter { predicates, .. } => bounded &= predicates.iter().all(is_cheap),
        plan::Mir::Constant { rows: Err(_), .. }
        | plan::Mir::Project { .. }
        | plan::Mir::Union { .. }
        | plan::Mir::Negate { .. }
        | plan::Mir::ArrangeBy { .. } => {}
        // A binding that is used twice doubles its rows, and so may the next one.
        plan::Mir::Let { .. }
        | plan::Mir::Get { .. }
        | plan::Mir::FlatMap { .. }
        | plan::Mir::Join { .. }
        | plan::Mir::Reduce { .. }
        | plan::Mir::TopK { .. }
        | plan::Mir::Threshold { .. } => bounded = false,
    });
    bounded && rows <= SMALL_ROWS
}

/// Whether an expression takes no longer than its arguments are long: casts, logic and arithmetic of machine numbers.
fn is_cheap(expr: &ScalarExpr) -> bool {
    const FAMILIES: [&str; 8] = [
        "cast_",
        "apply_typmod",
        "is_",
        "int2",
        "int4",
        "int8",
        "float4",
        "float8",
    ];
    const OTHERS: [&str; 9] = [
        "relabel",
        "not",
        "and",
        "or",
        "coalesce",
        "numeric_add",
        "numeric_sub",
        "numeric_mul",
        "numeric_uminus",
    ];
    let mut cheap = true;
    expr.visit(&mut |e| {
        if let ScalarExpr::Call { func, .. } = e {
            let name = func.name();
            cheap &= OTHERS.contains(&name) || FAMILIES.iter().any(|f| name.starts_with(f));
        }
    });
    cheap
}

/// The block of the last table read, and what it was made from.
pub(crate) struct LastBlock {
    mfp: Arc<Mfp>,
    /// The settings that formats of text depend on.
    derived_at: Option<u64>,
    plan: Arc<MfpPlan>,
}

/// Whether an object decides what its readers see. An index does not: without it they see the same.
fn is_definition(kind: &ItemKind) -> bool {
    match kind {
        ItemKind::Table(_)
        | ItemKind::View(_)
        | ItemKind::MaterializedView(_)
        | ItemKind::Source(_) => true,
        ItemKind::Index(_) => false,
    }
}

/// All tables at one time, in one state.
pub(crate) struct TableView {
    pub state: Arc<State>,
    pub ts: Timestamp,
    /// The time is the user's choice: it may be too old.
    pub check_since: bool,
}

impl TableView {
    fn check(&self, shard: ShardId) -> Result<&Arc<state::shard::Shard>> {
        let found = self
            .state
            .shard(shard)
            .ok_or_else(|| SqlError::new("42P01", "the table was dropped"))?;
        let since = self.state.since(shard).unwrap_or(0);
        if self.check_since && self.ts < since {
            return Err(too_old(self.ts, since));
        }
        Ok(found)
    }

    fn row_count(&self, shard: ShardId) -> u64 {
        self.state.shard(shard).map_or(0, |s| s.rows())
    }

    fn lookup(&self, shard: ShardId, space: u32, keys: &[Row], plan: &MfpPlan) -> Result<Rows> {
        let shard = self.check(shard)?;
        let mut reader = RowReader::new(plan);
        for key in keys {
            shard.lookup(space as usize, key.as_ref(), self.ts, |row, diff| {
                reader.read(row, diff)
            });
        }
        reader.finish()
    }

    fn scan(
        &self,
        shard: ShardId,
        plan: &MfpPlan,
        cancel: &crate::adapter::registry::CancelHandle,
    ) -> Result<Rows> {
        let shard = self.check(shard)?;
        let mut reader = RowReader::new(plan);
        let mut cursor = shard.cursor(self.ts);
        let mut count = 0u32;
        while let Some((row, diff)) = cursor.next() {
            reader.read(row, diff);
            count = count.wrapping_add(1);
            if count.is_multiple_of(4096) {
                cancel.check()?;
                reader.check_size()?;
            }
        }
        reader.finish()
    }

    /// All rows of a shard.
    pub fn all(&self, shard: ShardId) -> Result<Rows> {
        let mut rows = vec![];
        self.check(shard)?
            .for_each(self.ts, |row, diff| rows.push((row.to_row(), diff)));
        Ok(rows)
    }
}

/// 22000-class refusal of a time that has been forgotten.
pub(crate) fn too_old(ts: Timestamp, since: Timestamp) -> SqlError {
    SqlError::forgotten(format!(
        "timestamp {ts} is not valid: history has been compacted up to {since}"
    ))
    .hint("Read AS OF a later time, or AS OF AT LEAST this one.")
}

/// Passes stored rows through a map-filter-project block. An error among them fails the read; the least one, to be deterministic.
struct RowReader<'a> {
    plan: &'a MfpPlan,
    scratch: MfpScratch,
    rows: Rows,
    bytes: u64,
    error: Option<EvalError>,
}

impl<'a> RowReader<'a> {
    fn new(plan: &'a MfpPlan) -> Self {
        RowReader {
            plan,
            scratch: MfpScratch::new(),
            rows: vec![],
            bytes: 0,
            error: None,
        }
    }

    fn read(&mut self, row: repr::RowRef<'_>, diff: Diff) {
        match self.plan.evaluate(row, &mut self.scratch) {
            Ok(Some(row)) => {
                self.bytes += row.byte_len() as u64 + 32;
                self.rows.push((row, diff));
            }
            Ok(None) => {}
            Err(error) => {
                if self.error.as_ref().is_none_or(|kept| error < *kept) {
                    self.error = Some(error);
                }
            }
        }
    }

    fn check_size(&self) -> Result<()> {
        if self.bytes > RESULT_BYTES_MAX {
            return Err(result_too_large());
        }
        Ok(())
    }

    fn finish(self) -> Result<Rows> {
        self.check_size()?;
        match self.error {
            Some(error) => Err(error.into()),
            None => Ok(self.rows),
        }
    }
}

pub(crate) fn result_too_large() -> SqlError {
    SqlError::new(
        "53400",
        format!("the answer is larger than {RESULT_BYTES_MAX} bytes"),
    )
    .hint("Use LIMIT, or a cursor over parts of it.")
}

/// What the interpreter reads: system relations from the catalog, tables from storage.
struct GatewayCollections<'a> {
    session: &'a Session,
    view: &'a TableView,
    catalog: &'a Arc<Catalog>,
}

impl Collections for GatewayCollections<'_> {
    fn rows(&self, id: GlobalId) -> Result<Arc<Rows>, EvalError> {
        let found = if id.is_system() {
            self.session.system_rows(id, self.catalog, self.view)
        } else {
            match self.catalog.item(id).and_then(|item| item.shard()) {
                Some(shard) => self.view.all(shard),
                None => Err(SqlError::internal(format!("{id} has no rows of its own"))),
            }
        };
        found.map(Arc::new).map_err(|e| EvalError {
            sqlstate: e.sqlstate,
            message: e.message,
            detail: e.detail,
            hint: e.hint,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plan::Mir;
    use plan::scalar::Func;
    use repr::SqlType;

    fn values(rows: usize, scalar: ScalarExpr) -> Mir {
        let constant = Mir::Constant {
            rows: Ok(vec![(Row::pack_slice(&[]), 1); rows]),
            types: vec![],
        };
        Mir::Map {
            input: Box::new(constant),
            scalars: vec![scalar],
        }
    }

    fn call(name: &str, arg: ScalarExpr) -> ScalarExpr {
        ScalarExpr::Call {
            func: Func::get(name),
            args: vec![arg.clone(), arg],
            ty: SqlType::Text,
        }
    }

    #[test]
    fn what_is_small_has_few_rows_and_nothing_costly() {
        let param = ScalarExpr::Param(0, SqlType::Int32);
        let plain = call("int4pl", call("cast_from_text", param.clone()));
        assert!(is_small(&values(SMALL_ROWS, plain.clone())));
        assert!(!is_small(&values(SMALL_ROWS + 1, plain.clone())));
        assert!(!is_small(&values(1, call("int4pl", call("repeat", param)))));
        let bound = Mir::Let {
            id: 0,
            value: Box::new(values(1, plain.clone())),
            body: Box::new(values(1, plain)),
        };
        assert!(!is_small(&bound));
    }
}
