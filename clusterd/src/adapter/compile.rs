//! From a parsed statement to something that can be run again and again: planned, optimized, parameters still open.

use crate::adapter::error::{Result, SqlError};
use crate::adapter::introspection::Watched;
use plan::scalar::Unmaterializable;
use plan::{Finishing, Mir, ScalarExpr};
use planner::optimize::{
    CatalogOracle, Definitions, Execution, SelectExec, SelectOptions, SelectPath, TableAccess,
    looks_into_catalog, optimize_select,
};
use planner::statement::{AsOfPlan, Effect, Returning};
use planner::{Plan, PlanError, SessionView};
use repr::{Datum, GlobalId, RelationDesc, ShardId, SqlType, Timestamp};
use state::Catalog;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A statement ready to run. Anything but queries and DML stays a plan.
#[derive(Clone, Debug)]
pub enum Compiled {
    Select(Arc<CompiledSelect>),
    Dml(Arc<CompiledDml>),
    Plan(Arc<Plan>),
}

#[derive(Debug)]
pub struct CompiledSelect {
    pub exec: SelectExec,
    pub limit: Option<ScalarExpr>,
    pub offset: Option<ScalarExpr>,
    pub as_of: Option<AsOfPlan>,
    pub effects: Vec<Effect>,
    pub desc: Arc<RelationDesc>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmlKind {
    Insert,
    Update,
    Delete,
}

#[derive(Debug)]
pub struct CompiledDml {
    pub kind: DmlKind,
    pub table: GlobalId,
    /// Gives the new rows (INSERT), old and new rows side by side (UPDATE), or the old rows (DELETE).
    pub exec: SelectExec,
    pub not_null: Vec<usize>,
    pub returning: Option<Returning>,
}

impl Compiled {
    fn exec(&self) -> Option<&SelectExec> {
        match self {
            Compiled::Select(s) => Some(&s.exec),
            Compiled::Dml(d) => Some(&d.exec),
            Compiled::Plan(_) => None,
        }
    }

    /// Whether running the statement looks into the session's catalog by a function.
    pub fn looks_into_catalog(&self) -> bool {
        let values = match self {
            Compiled::Dml(dml) => dml.returning.as_ref().map_or(&[][..], |r| &r.exprs),
            Compiled::Plan(plan) => match &**plan {
                Plan::Execute { args, .. } => args.as_slice(),
                _ => &[],
            },
            Compiled::Select(_) => &[],
        };
        self.exec().is_some_and(SelectExec::looks_into_catalog)
            || values.iter().any(looks_into_catalog)
    }

    /// Base shards that the statement reads.
    pub fn shards(&self) -> Option<&BTreeSet<ShardId>> {
        self.exec().map(|e| &e.shards)
    }

    /// Whether the plan can add a transaction's own writes to what it reads: reads of one table and constants can.
    pub fn overlays_writes(&self) -> bool {
        match self.exec().map(|e| &e.path) {
            Some(
                SelectPath::Constant { .. }
                | SelectPath::Table { .. }
                | SelectPath::Interpret { .. },
            )
            | None => true,
            Some(SelectPath::Peek { .. } | SelectPath::Dataflow { .. }) => false,
        }
    }

    /// An INSERT that reads no rows: it needs no read point, its commit checks all that it relies on. See [`Prepared::is_blind_insert`] for the catalog.
    ///
    /// [`Prepared::is_blind_insert`]: crate::adapter::portal::Prepared::is_blind_insert
    pub fn is_blind_insert(&self) -> bool {
        match self {
            Compiled::Dml(d) => {
                d.kind == DmlKind::Insert
                    && d.exec.shards.is_empty()
                    && matches!(
                        d.exec.path,
                        SelectPath::Constant { .. } | SelectPath::Interpret { .. }
                    )
                    && d.exec.depends_on.is_empty()
            }
            Compiled::Select(_) | Compiled::Plan(_) => false,
        }
    }
}

/// What the values that depend on the statement rather than on rows are replaced by.
pub struct StatementValues<'a> {
    pub view: &'a SessionView<'a>,
    /// Arrangements that the transaction has created: no replica has them before it commits.
    pub hidden: &'a BTreeSet<GlobalId>,
    /// The read timestamp, for `mz_now()`.
    pub ts: Timestamp,
    /// Microseconds since 2000-01-01, for `now()`.
    pub now: repr::PgTimestamp,
    /// Learns which values came from the catalog.
    pub(crate) watched: &'a Watched,
}

/// How compiling differs between a plan to be shared and one for a transaction that must see its own writes.
#[derive(Clone, Copy, Debug)]
pub struct CompileOptions {
    pub execution: Execution,
    pub inline_materialized: bool,
    pub transient: GlobalId,
}

/// Views and index keys of the catalog, planned again from their SQL.
pub struct ViewDefinitions;

impl Definitions for ViewDefinitions {
    fn query(&self, catalog: &Catalog, id: GlobalId, sql: &str) -> Result<Arc<Mir>, PlanError> {
        planner::statement::plan_stored_query(catalog, id, sql).map(Arc::new)
    }

    fn index_key(
        &self,
        catalog: &Catalog,
        on: GlobalId,
        sql: &str,
    ) -> Result<ScalarExpr, PlanError> {
        planner::statement::plan_stored_expr(catalog, on, sql)
    }
}

/// Compiles a plan. The flag tells whether values of this statement were baked in, so that the result must not be kept.
pub fn compile(
    plan: Plan,
    values: &StatementValues<'_>,
    options: CompileOptions,
) -> Result<(Compiled, bool)> {
    let mut compiler = Compiler {
        values,
        options,
        volatile: false,
    };
    let compiled = compiler.compile(plan)?;
    Ok((compiled, compiler.volatile))
}

struct Compiler<'a> {
    values: &'a StatementValues<'a>,
    options: CompileOptions,
    volatile: bool,
}

impl Compiler<'_> {
    fn compile(&mut self, plan: Plan) -> Result<Compiled> {
        Ok(match plan {
            Plan::Select(mut select) => {
                self.resolve_exprs(select.limit.iter_mut().chain(select.offset.iter_mut()));
                self.resolve_exprs(select.as_of.iter_mut().map(|a| &mut a.time));
                for effect in &mut select.effects {
                    match effect {
                        Effect::Sleep(e) | Effect::Cancel { pid: e, .. } => self.resolve(e),
                        Effect::SetConfig { .. } => {}
                    }
                }
                Compiled::Select(Arc::new(CompiledSelect {
                    exec: self.select(select.mir, select.finishing)?,
                    limit: select.limit,
                    offset: select.offset,
                    as_of: select.as_of,
                    effects: select.effects,
                    desc: Arc::new(select.desc),
                }))
            }
            Plan::Insert(p) => {
                self.dml(DmlKind::Insert, p.table, p.rows, p.not_null, p.returning)?
            }
            Plan::Update(p) => {
                self.dml(DmlKind::Update, p.table, p.rows, p.not_null, p.returning)?
            }
            Plan::Delete(p) => self.dml(DmlKind::Delete, p.table, p.rows, vec![], p.returning)?,
            other => Compiled::Plan(Arc::new(other)),
        })
    }

    fn dml(
        &mut self,
        kind: DmlKind,
        table: GlobalId,
        rows: Mir,
        not_null: Vec<usize>,
        mut returning: Option<Returning>,
    ) -> Result<Compiled> {
        self.resolve_exprs(returning.iter_mut().flat_map(|r| r.exprs.iter_mut()));
        let finishing = Finishing::trivial(rows.arity());
        let exec = self.select(rows, finishing)?;
        Ok(Compiled::Dml(Arc::new(CompiledDml {
            kind,
            table,
            exec,
            not_null,
            returning,
        })))
    }

    fn select(&mut self, mut mir: Mir, finishing: Finishing) -> Result<SelectExec> {
        self.resolve_mir(&mut mir);
        // Views that are only now being made have no dataflow yet. Reads through other views are refused when they run.
        if mir
            .depends_on()
            .iter()
            .any(|id| self.values.hidden.contains(id))
        {
            return Err(unreadable_yet());
        }
        let view = self.values.view;
        let cluster = view.cluster(None).map(|c| c.id);
        let mut oracle = CatalogOracle::new(view.catalog, &ViewDefinitions);
        oracle.hidden.clone_from(self.values.hidden);
        let options = SelectOptions {
            // A session may name a CLUSTER that is gone: only a statement that needs one fails.
            cluster: cluster.as_ref().copied().unwrap_or(repr::ClusterId(0)),
            execution: self.options.execution,
            inline_materialized: self.options.inline_materialized,
            transient: self.options.transient,
        };
        let exec = optimize_select(mir, finishing, &oracle, &options)?;
        match (&exec.path, cluster) {
            (SelectPath::Dataflow { .. }, Err(error)) => Err(error.into()),
            _ => Ok(exec),
        }
    }

    fn resolve_mir(&mut self, mir: &mut Mir) {
        mir.visit_mut_post(&mut |node| {
            planner::transform::visit_scalars_mut(node, &mut |e| self.resolve(e))
        });
    }

    fn resolve_exprs<'e>(&mut self, exprs: impl Iterator<Item = &'e mut ScalarExpr>) {
        exprs.for_each(|e| self.resolve(e));
    }

    fn resolve(&mut self, expr: &mut ScalarExpr) {
        expr.visit_mut_post(&mut |e| {
            if let ScalarExpr::Unmaterializable(value) = e {
                self.volatile |= matches!(
                    value,
                    Unmaterializable::MzNow | Unmaterializable::Now | Unmaterializable::BackendPid
                );
                *e = self.values.literal(value);
            }
        });
    }
}

impl StatementValues<'_> {
    fn literal(&self, value: &Unmaterializable) -> ScalarExpr {
        let name = |text: &str| ScalarExpr::literal(Datum::String(text), SqlType::Name);
        match value {
            Unmaterializable::MzNow => {
                ScalarExpr::literal(Datum::MzTimestamp(self.ts), SqlType::MzTimestamp)
            }
            Unmaterializable::Now => {
                ScalarExpr::literal(Datum::TimestampTz(self.now), SqlType::TimestampTz(None))
            }
            Unmaterializable::CurrentDatabase => name(self.view.database),
            Unmaterializable::CurrentUser => name(self.view.current_user),
            Unmaterializable::SessionUser => name(self.view.session_user),
            Unmaterializable::CurrentSchema => {
                self.watched.note();
                match self.view.creation_schema() {
                    Ok(schema) => name(&schema.name),
                    Err(_) => ScalarExpr::null(SqlType::Name),
                }
            }
            Unmaterializable::CurrentSchemas { include_implicit } => {
                self.watched.note();
                let names = self.view.current_schemas(*include_implicit);
                let mut packer = repr::RowPacker::new();
                let datums: Vec<Datum<'_>> = names.iter().map(|n| Datum::String(n)).collect();
                packer.push_list(&datums);
                let ty = SqlType::Array(Box::new(SqlType::Name));
                ScalarExpr::Literal(Ok(packer.finish_row()), repr::ColumnType::new(ty, false))
            }
            Unmaterializable::Version => {
                ScalarExpr::literal(Datum::String(self.view.version), SqlType::Text)
            }
            Unmaterializable::BackendPid => {
                ScalarExpr::literal(Datum::Int32(self.view.backend_pid), SqlType::Int32)
            }
            Unmaterializable::Setting(name) => match self.view.settings.get(name) {
                Some(value) => ScalarExpr::literal(Datum::String(&value), SqlType::Text),
                None => ScalarExpr::null(SqlType::Text),
            },
        }
    }
}

/// 0A000 for a view that this transaction makes.
pub(crate) fn unreadable_yet() -> SqlError {
    SqlError::unsupported(
        "reading a view in the transaction that creates it",
        "COMMIT first; the view's dataflow is started by the commit.",
    )
}

/// Evaluates an expression without columns.
pub fn evaluate_constant<T>(
    expr: &ScalarExpr,
    params: &[(repr::Row, SqlType)],
    ctx: &plan::scalar::EvalCtx,
    read: impl FnOnce(Datum<'_>) -> Result<T>,
) -> Result<T> {
    let mut bound = expr.clone();
    bound.bind(params);
    let arena = repr::RowArena::new();
    let datum = bound.eval(ctx, &[], &arena).map_err(SqlError::from)?;
    read(datum)
}

/// The key reads of a plan, for conflict checks: `Some` only if it is an equality lookup on a whole key of a table.
pub fn is_key_lookup(exec: &SelectExec) -> bool {
    matches!(
        &exec.path,
        SelectPath::Table {
            access: TableAccess::Lookup { .. },
            ..
        }
    )
}
