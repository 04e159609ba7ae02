//! Running a prepared statement: cancellation, transactions, retries, and the way to each kind of statement.

use crate::adapter::compile::Compiled;
use crate::adapter::error::{Result, SqlError};
use crate::adapter::portal::Prepared;
use crate::adapter::read_point::ReadPoint;
use crate::adapter::registry::CancelHandle;
use crate::adapter::session::{Output, Session, ends_transaction, failed_transaction};
use crate::adapter::transaction::{Block, Transaction};
use plan::scalar::catalog_fns::{self, RegKind};
use planner::Plan;
use planner::ast::Statement;
use planner::optimize::Execution;
use repr::{Datum, Row, ShardId};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// How often a definitely rejected statement is tried again at a new read point before the client hears of it.
const RETRIES_MAX: u32 = 10;

pub(crate) use crate::adapter::portal::Params;

/// Why one attempt at a statement ended.
#[derive(Debug)]
pub(crate) enum Failure {
    Sql(SqlError),
    /// The commit was sent, and this is its answer (or the lack of one): running the statement again might do it twice.
    Final(SqlError),
    /// A check failed: S has rejected the transaction, nothing was changed.
    Conflict(Option<ShardId>),
    /// An object has moved since planning: S has rejected the transaction.
    CatalogMoved,
    /// What the read point needs has been compacted away meanwhile.
    SnapshotTooOld(SqlError),
}

impl<E: Into<SqlError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Sql(error.into())
    }
}

impl Failure {
    fn into_error(self) -> SqlError {
        match self {
            Failure::Sql(error) | Failure::Final(error) | Failure::SnapshotTooOld(error) => error,
            Failure::Conflict(_) => SqlError::conflict(),
            Failure::CatalogMoved => SqlError::conflict()
                .detail("An object was changed or dropped by another transaction."),
        }
    }
}

/// Lets a statement be ended from outside: by cancel, by its time limit, by shutdown.
pub(crate) struct Guard {
    cancel: Arc<CancelHandle>,
    timeout: Option<Duration>,
}

impl Guard {
    /// Runs the statement; ends it early unless it is past the point of no return (its commit has been sent).
    pub async fn run<T>(self, statement: impl Future<Output = Result<T>>) -> Result<T> {
        let _running = self.cancel.running(self.timeout);
        let limit = async {
            match self.timeout {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(statement, limit);
        let reason = tokio::select! {
            biased;
            done = &mut statement => return done,
            interrupt = self.cancel.interrupted() => interrupt.into(),
            () = &mut limit => SqlError::timeout(),
        };
        if self.cancel.is_committing() {
            statement.await
        } else {
            Err(reason)
        }
    }
}

impl Session {
    pub(crate) fn guard(&self) -> Guard {
        Guard {
            cancel: Arc::clone(&self.cancel),
            timeout: self.settings.statement_timeout(),
        }
    }

    /// Runs one statement and, if it stands alone, commits it.
    pub(crate) async fn run(&mut self, prepared: Arc<Prepared>, params: &Params) -> Result<Output> {
        if self.txn.failed && !ends_transaction(&prepared.statement) {
            return Err(failed_transaction());
        }
        self.adapter.metrics.statements.inc();
        let guard = self.guard();
        let result = guard.run(self.run_inner(prepared, params)).await;
        if result.is_err() {
            self.fail_transaction();
        }
        result
    }

    pub(crate) async fn run_inner(
        &mut self,
        prepared: Arc<Prepared>,
        params: &Params,
    ) -> Result<Output> {
        let mut fair = None;
        // A blind insert is planned at the local catalog first; whatever goes wrong then is tried again behind the barrier.
        let mut blind =
            self.txn.block == Block::Auto && prepared.is_blind_insert() && params.names.is_empty();
        let notices = self.notice_count();
        self.txn.effects_done = false;
        for attempt in 0.. {
            let failure = match self.attempt(&prepared, params, blind).await {
                Ok(output) => return Ok(output),
                Err(failure) => failure,
            };
            // Only a statement that is its own transaction can be run again: nothing of it was shown.
            let again = self.txn.block == Block::Auto && attempt < RETRIES_MAX;
            match failure {
                Failure::Final(error) => return Err(error),
                Failure::Sql(error) if !blind => return Err(error),
                failure if !again => return Err(failure.into_error()),
                Failure::Conflict(Some(shard)) if attempt > 0 && fair.is_none() => {
                    fair = Some(self.adapter.fair.wait(shard).await);
                }
                Failure::Sql(_)
                | Failure::Conflict(_)
                | Failure::CatalogMoved
                | Failure::SnapshotTooOld(_) => {}
            }
            blind = false;
            self.cancel.check()?;
            self.forget_notices(notices);
            self.adapter.metrics.retries.inc();
            let effects_done = self.txn.effects_done;
            self.reset_transaction(Block::Auto);
            self.txn.effects_done = effects_done;
        }
        Err(SqlError::conflict())
    }

    pub(crate) async fn attempt(
        &mut self,
        prepared: &Arc<Prepared>,
        params: &Params,
        blind: bool,
    ) -> Result<Output, Failure> {
        self.txn.statements += 1;
        if self.txn.block == Block::Auto {
            // The default may have been set since the last statement.
            self.txn.read_only = self.settings.read_only_by_default();
        }
        if !needs_read_point(&prepared.statement) {
            return self.attempt_control(prepared, params).await;
        }
        let point = if blind {
            self.local_read_point()
        } else {
            self.statement_read_point().await?
        };
        let current = self.current_plan(prepared, &point)?;
        self.txn.reads.catalog |= current.reads_catalog;
        let params = &*self.named_params(params, &point)?;
        let mut output = match &current.compiled {
            Compiled::Select(select) => self.select(select, params, &point).await?,
            Compiled::Dml(dml) => self.dml(dml, params, &point).await?,
            Compiled::Plan(plan) => self.run_plan(plan, &current, params, &point).await?,
        };
        if let Output::Rows(rows) = &mut output {
            let catalog = Arc::clone(self.txn.view(&point).0.catalog());
            rows.names = self.names_for(&rows.desc, &catalog);
            self.txn.reads.catalog |= rows.names.is_some();
        }
        // COPY FROM and SUBSCRIBE go on after this; they end their transaction themselves.
        if self.txn.block == Block::Auto
            && !matches!(output, Output::CopyIn(_) | Output::Subscribe(_))
        {
            self.commit().await?;
        }
        Ok(output)
    }

    async fn attempt_control(
        &mut self,
        prepared: &Arc<Prepared>,
        params: &Params,
    ) -> Result<Output, Failure> {
        if params.names.is_empty() && !prepared.reads_catalog {
            return self.run_control(prepared, params).await;
        }
        let point = self.statement_read_point().await?;
        let current = self.current_plan(prepared, &point)?;
        self.txn.reads.catalog |= current.reads_catalog;
        let params = self.named_params(params, &point)?;
        let output = self.run_control(&current, &params).await?;
        // The read point was this statement's, not the next one's.
        if self.txn.block == Block::Auto
            && !matches!(output, Output::CopyIn(_) | Output::Subscribe(_))
        {
            self.reset_transaction(Block::Auto);
        }
        Ok(output)
    }

    /// The parameters with what their names mean at the read point.
    fn named_params<'p>(
        &mut self,
        params: &'p Params,
        point: &ReadPoint,
    ) -> Result<Cow<'p, Params>> {
        if params.names.is_empty() {
            return Ok(Cow::Borrowed(params));
        }
        self.txn.reads.catalog = true;
        let functions = self.catalog_functions(self.txn.view(point).0.catalog());
        let mut values = params.values.clone();
        for (n, name) in &params.names {
            let (value, ty) = &mut values[*n];
            let kind = RegKind::of(ty)
                .ok_or_else(|| SqlError::internal("a parameter is not given by name"))?;
            let oid = catalog_fns::parse(&*functions, kind, name)?;
            *value = Row::pack_slice(&[Datum::Oid(oid)]);
        }
        Ok(Cow::Owned(Params::from(values)))
    }

    /// The plan as it must be for this read point and this transaction's own writes.
    fn current_plan(
        &mut self,
        prepared: &Arc<Prepared>,
        point: &ReadPoint,
    ) -> Result<Arc<Prepared>> {
        let current = if self.is_current(prepared, point) {
            Arc::clone(prepared)
        } else {
            let text = Arc::clone(&prepared.text);
            let statement = Arc::clone(&prepared.statement);
            let (mut again, _) = self.plan_with(
                point,
                statement,
                text,
                prepared.declared.clone(),
                self.execution(),
                false,
            )?;
            again.desc = self.session_desc(&again)?.or(again.desc);
            prepared.check_promise(&again)?;
            again.promised = prepared.promised;
            let again = Arc::new(again);
            self.renew_statement(prepared, &again);
            again
        };
        let own = current
            .compiled
            .shards()
            .is_some_and(|shards| self.txn.has_own(shards, point));
        if !own || current.compiled.overlays_writes() {
            return Ok(current);
        }
        // Own writes are not in any dataflow: compute the answer from tables, with the writes laid over them.
        let (inlined, _) = self.plan_with(
            point,
            Arc::clone(&current.statement),
            Arc::clone(&current.text),
            current.declared.clone(),
            Execution::Interpreter,
            true,
        )?;
        Ok(Arc::new(inlined))
    }

    // Read points.

    /// The transaction's read point; the first statement fixes it.
    pub(crate) async fn statement_read_point(&mut self) -> Result<ReadPoint> {
        if let Some(point) = &self.txn.read_point {
            return Ok(point.clone());
        }
        let point = if self.settings.relaxed_reads() {
            // A session sees its own writes, even if this node hears of them last.
            self.adapter.env.wait_for_time(self.last_commit).await?;
            self.local_read_point()
        } else {
            self.adapter.read_points.join().await?
        };
        self.fix_read_point(point.clone());
        Ok(point)
    }

    /// Where a statement is planned.
    pub(crate) async fn planning_point(&mut self, statement: &Statement) -> Result<ReadPoint> {
        match &self.txn.read_point {
            Some(point) => Ok(point.clone()),
            None if !needs_read_point(statement) => Ok(self.latest_state()),
            None => self.barrier_point().await,
        }
    }

    /// A point behind the barrier to plan at: a block's own read point, else a new one that is not kept.
    pub(crate) async fn barrier_point(&mut self) -> Result<ReadPoint> {
        match &self.txn.read_point {
            Some(point) => Ok(point.clone()),
            None if self.txn.block == Block::Explicit => self.statement_read_point().await,
            None if self.settings.relaxed_reads() => Ok(self.latest_state()),
            None => self.adapter.read_points.join().await,
        }
    }

    pub(crate) fn latest_state(&self) -> ReadPoint {
        let state = self.adapter.env.storage().view();
        ReadPoint {
            ts: state.last_ts(),
            state,
        }
    }

    fn local_read_point(&mut self) -> ReadPoint {
        let point = self.latest_state();
        self.fix_read_point(point.clone());
        point
    }

    fn fix_read_point(&mut self, point: ReadPoint) {
        if self.txn.block != Block::Auto {
            self.adapter.leases.open(self.key.number, point.ts);
        }
        self.txn.read_point = Some(point);
    }

    // Transactions.

    pub(crate) fn reset_transaction(&mut self, block: Block) {
        if self.txn.block != Block::Auto {
            self.adapter.leases.close(self.key.number);
        }
        self.txn = Transaction::new(block, self.settings.read_only_by_default());
        self.txn.started = (block != Block::Auto).then(|| self.adapter.now());
    }

    pub fn in_pipeline(&self) -> bool {
        self.txn.block == Block::Implicit
    }

    /// From here on statements share one transaction until [`Session::finish_pipeline`].
    pub fn begin_pipeline(&mut self) {
        if self.txn.block == Block::Auto {
            self.reset_transaction(Block::Implicit);
            self.settings.begin_transaction();
        }
    }

    /// Commits the implicit transaction, if there is one.
    pub async fn finish_pipeline(&mut self) -> Result<()> {
        if self.txn.block != Block::Implicit {
            return Ok(());
        }
        let failed = self.txn.failed;
        let done = if failed {
            Ok(())
        } else {
            self.commit_or_error().await
        };
        self.end_block(!failed && done.is_ok());
        done
    }

    pub fn abandon_pipeline(&mut self) {
        if self.txn.block == Block::Implicit {
            self.end_block(false);
        }
    }

    /// An error was reported: an explicit block stays, failed, until ROLLBACK.
    pub fn fail_transaction(&mut self) {
        match self.txn.block {
            Block::Auto => self.reset_transaction(Block::Auto),
            Block::Implicit | Block::Explicit => self.txn.failed = true,
        }
    }

    /// Back to autocommit.
    pub(crate) fn end_block(&mut self, committed: bool) {
        let before = self.settings.reported();
        self.settings.end_transaction(committed);
        self.report_changes(&before);
        self.reset_transaction(Block::Auto);
        self.close_portals();
        self.cursors.retain(|_, cursor| {
            cursor.kept |= cursor.hold && committed;
            cursor.kept
        });
    }

    pub(crate) async fn commit_or_error(&mut self) -> Result<()> {
        self.commit().await.map_err(Failure::into_error)
    }

    /// Statements about the catalog or its objects.
    async fn run_plan(
        &mut self,
        plan: &Arc<Plan>,
        prepared: &Arc<Prepared>,
        params: &Params,
        point: &ReadPoint,
    ) -> Result<Output, Failure> {
        match &**plan {
            Plan::Subscribe(subscribe) => Ok(Output::Subscribe(Box::new(
                self.subscribe(subscribe, params, point, None).await?,
            ))),
            Plan::CopyFrom(copy) => Ok(Output::CopyIn(Box::new(self.copy_from(copy, point)?))),
            Plan::CopyTo(copy) => Ok(self.copy_to(copy, prepared, params, point).await?),
            Plan::Explain(explain) => Ok(self.explain(explain, params, point).await?),
            Plan::Declare(declare) => Ok(self.declare(declare, prepared, params, point).await?),
            Plan::ChangeNode(change) => Ok(self.change_node(change, point).await?),
            Plan::CreateJoinToken { valid_for_us } => {
                Ok(self.create_join_token(*valid_for_us, plan, point).await?)
            }
            Plan::Select(_) | Plan::Insert(_) | Plan::Update(_) | Plan::Delete(_) => {
                Err(SqlError::internal("a query was not compiled").into())
            }
            _ => Ok(self.ddl(plan, point).await?),
        }
    }
}

/// Statements whose answer depends on the catalog or on data: nothing of them is shown before the barrier.
pub(crate) fn needs_read_point(statement: &Statement) -> bool {
    match statement {
        Statement::Query(_)
        | Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::CreateTable(_)
        | Statement::CreateView(_)
        | Statement::CreateIndex(_)
        | Statement::CreateCluster(_)
        | Statement::AlterCluster { .. }
        | Statement::ChangeNode(_)
        | Statement::CreateJoinToken(_)
        | Statement::CreateSource(_)
        | Statement::CreateSchema(_)
        | Statement::CreateDatabase { .. }
        | Statement::Drop(_)
        | Statement::Rename(_)
        | Statement::Truncate(_)
        | Statement::Copy(_)
        | Statement::Subscribe(_)
        | Statement::Explain(_)
        | Statement::Declare(_) => true,
        Statement::Show(show) => !matches!(
            show,
            planner::ast::Show::Variable(_) | planner::ast::Show::All
        ),
        Statement::Fetch(_)
        | Statement::Close { .. }
        | Statement::Prepare(_)
        | Statement::Execute { .. }
        | Statement::Deallocate { .. }
        | Statement::Discard(_)
        | Statement::Set(_)
        | Statement::Reset { .. }
        | Statement::SetTransaction { .. }
        | Statement::Begin { .. }
        | Statement::Commit { .. }
        | Statement::Rollback { .. }
        | Statement::Savepoint { .. }
        | Statement::ReleaseSavepoint { .. }
        | Statement::RollbackTo { .. }
        | Statement::NoOp(_)
        | Statement::Unsupported { .. } => false,
    }
}
