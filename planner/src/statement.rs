//! Statements as planned: names resolved, types checked, ready for the session to carry out.
//!
//! [`plan_statement`] is the only entry. A plan holds everything that the catalog decides; what depends on stored rows, on the
//! transaction or on the connection is left to the caller.

mod cluster;
mod copy;
mod create;
mod dml;
mod drop;
mod index;
mod node;
mod other;
mod show;
mod stored;
mod table;
mod view;

pub use show::create_sql;
pub use stored::{plan_stored_expr, plan_stored_query};

use crate::ast::{
    ChangeNode, Discard, ExplainFormat, ExplainStage, FetchDirection, ObjectKind, SetValue,
    Statement, TransactionMode, TransactionScope,
};
use crate::error::{Notice, PlanError};
use crate::parse::fold;
use crate::query::QueryPlanner;
use crate::session::SessionView;
use plan::{Finishing, Mir, ScalarExpr};
use repr::{ClusterId, DatabaseId, GlobalId, RelationDesc, SchemaId, SqlType};
use state::catalog::Item;

/// What is known about the types of `$1`, `$2`, ...
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParamTypes {
    types: Vec<Option<SqlType>>,
    /// Parameters are not allowed here: in view definitions and the like.
    forbidden: bool,
}

impl ParamTypes {
    /// The types that the client declared; `None` leaves one to be inferred.
    pub fn new(declared: Vec<Option<SqlType>>) -> ParamTypes {
        ParamTypes {
            types: declared,
            forbidden: false,
        }
    }

    /// For text that may not contain parameters.
    pub fn forbidden() -> ParamTypes {
        ParamTypes {
            types: vec![],
            forbidden: true,
        }
    }

    /// The type of a parameter (0-based), if it is known by now.
    pub fn get(&self, index: usize) -> Option<&SqlType> {
        self.types.get(index).and_then(Option::as_ref)
    }

    pub fn len(&self) -> usize {
        self.types.len()
    }

    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// Notes that the statement uses the parameter.
    pub(crate) fn mention(&mut self, index: usize) -> Result<(), PlanError> {
        const PARAMS_MAX: usize = 65_535;
        if self.forbidden || index >= PARAMS_MAX {
            let n = index + 1;
            return Err(PlanError::new(
                "42P02",
                format!("there is no parameter ${n}"),
            ));
        }
        if self.types.len() <= index {
            self.types.resize(index + 1, None);
        }
        Ok(())
    }

    pub(crate) fn infer(&mut self, index: usize, ty: SqlType) {
        self.types[index].get_or_insert(ty);
    }

    /// All types, once planning has ended: a parameter that nothing constrains is an error (42P18).
    pub fn finish(&self) -> Result<Vec<SqlType>, PlanError> {
        let undetermined = |n: usize| {
            PlanError::new(
                "42P18",
                format!("could not determine data type of parameter ${n}"),
            )
        };
        self.types
            .iter()
            .enumerate()
            .map(|(i, ty)| ty.clone().ok_or_else(|| undetermined(i + 1)))
            .collect()
    }
}

/// A planned statement.
// Shared behind an `Arc` once it is compiled: the size of the largest does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    Select(SelectPlan),
    Insert(InsertPlan),
    Update(UpdatePlan),
    Delete(DeletePlan),
    CreateTable(CreateItemPlan),
    CreateView(CreateItemPlan),
    CreateMaterializedView(CreateDataflowPlan),
    CreateIndex(CreateIndexPlan),
    CreateSource(CreateItemPlan),
    CreateSchema {
        name: String,
        notices: Vec<Notice>,
    },
    CreateDatabase {
        name: String,
    },
    CreateCluster(CreateClusterPlan),
    AlterCluster(AlterClusterPlan),
    /// `updates` are the items on the CLUSTER with their new texts.
    RenameCluster {
        id: ClusterId,
        name: String,
        updates: Vec<Item>,
    },
    /// DRAIN, UNDRAIN or DROP of a node.
    ChangeNode(ChangeNode),
    /// The answer is one row: the token.
    CreateJoinToken {
        valid_for_us: u64,
    },
    Drop(DropPlan),
    /// `updates` are the renamed item and its indexes with their new texts.
    Rename {
        id: GlobalId,
        kind: ObjectKind,
        name: String,
        updates: Vec<Item>,
    },
    Truncate {
        tables: Vec<GlobalId>,
    },
    CopyFrom(CopyFromPlan),
    CopyTo(CopyToPlan),
    Subscribe(SubscribePlan),
    Explain(ExplainPlan),
    /// SHOW of one setting; the session knows the value.
    ShowVariable {
        name: String,
    },
    /// SHOW ALL.
    ShowAll,
    SetVariable {
        name: String,
        value: SetValue,
        local: bool,
    },
    /// `None` resets all.
    ResetVariable {
        name: Option<String>,
    },
    SetTransaction {
        modes: Vec<TransactionMode>,
        scope: TransactionScope,
    },
    Begin {
        modes: Vec<TransactionMode>,
    },
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Prepare(PreparePlan),
    Execute {
        name: String,
        args: Vec<ScalarExpr>,
    },
    Deallocate {
        name: Option<String>,
    },
    Declare(DeclarePlan),
    Fetch(FetchPlan),
    /// `None` closes all cursors.
    Close {
        name: Option<String>,
    },
    Discard(Discard),
    /// Nothing to do but to answer with the tag and the notices.
    NoOp {
        tag: String,
        notices: Vec<Notice>,
    },
}

/// A query whose answer is sent to the client or copied out.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectPlan {
    pub mir: Mir,
    /// Over the columns of `mir`.
    pub finishing: Finishing,
    /// `LIMIT` and `OFFSET` that are not constants at planning time (they hold parameters); int8. Once evaluated they replace
    /// those of `finishing`.
    pub limit: Option<ScalarExpr>,
    pub offset: Option<ScalarExpr>,
    /// The columns of the answer.
    pub desc: RelationDesc,
    pub as_of: Option<AsOfPlan>,
    /// What the statement asks of the session beside its rows, in order.
    pub effects: Vec<Effect>,
}

/// A side effect requested by calling a function in the select list of a query without FROM.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// `pg_sleep(seconds)`; float8.
    Sleep(ScalarExpr),
    /// `set_config(name, value, is_local)`.
    SetConfig {
        name: String,
        value: String,
        local: bool,
    },
    /// `pg_cancel_backend(pid)` or `pg_terminate_backend(pid)`; int4.
    Cancel { pid: ScalarExpr, terminate: bool },
}

/// When to read. The expression has no columns and is of type mz_timestamp.
#[derive(Clone, Debug, PartialEq)]
pub struct AsOfPlan {
    pub at_least: bool,
    pub time: ScalarExpr,
}

/// Rows of RETURNING: expressions over one row of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Returning {
    pub exprs: Vec<ScalarExpr>,
    pub desc: RelationDesc,
}

#[derive(Clone, Debug, PartialEq)]
pub struct InsertPlan {
    pub table: GlobalId,
    /// The rows to insert: all columns of the table, cast, defaults filled in.
    pub rows: Mir,
    /// Columns that must not be NULL; see [`not_null_violation`].
    pub not_null: Vec<usize>,
    pub returning: Option<Returning>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct UpdatePlan {
    pub table: GlobalId,
    /// Each row is the old row followed by the new one.
    pub rows: Mir,
    /// Columns (of the table) that are assigned and must not be NULL.
    pub not_null: Vec<usize>,
    /// Columns (of the table) that are assigned.
    pub assigned: Vec<usize>,
    /// Over the new row.
    pub returning: Option<Returning>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DeletePlan {
    pub table: GlobalId,
    /// The rows to delete.
    pub rows: Mir,
    /// Over the old row.
    pub returning: Option<Returning>,
}

/// The item's ids start at the catalog's `next_id`: it is valid only at the catalog version it was planned at.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateItemPlan {
    pub item: Item,
    /// `OR REPLACE`: the item of this id is replaced.
    pub replaces: Option<GlobalId>,
    pub notices: Vec<Notice>,
}

/// A materialized view. `plan.bytes`, `plan.hash`, `plan.shards`, `arranged_by` and `unique_keys` of the item are still empty: they
/// come from optimizing `mir`.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateDataflowPlan {
    pub item: Item,
    pub mir: Mir,
    pub desc: RelationDesc,
}

/// An index; the item's `plan` is still empty but for the CLUSTER.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateIndexPlan {
    pub item: Item,
    pub on: GlobalId,
    /// Over the columns of `on`.
    pub keys: Vec<ScalarExpr>,
    pub notices: Vec<Notice>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreateClusterPlan {
    pub name: String,
    pub workers: Option<u32>,
    pub memory_limit_bytes: Option<u64>,
    pub replication_factor: Option<u32>,
}

/// What is `Some` is to be changed.
#[derive(Clone, Debug, PartialEq)]
pub struct AlterClusterPlan {
    pub id: ClusterId,
    pub memory_limit_bytes: Option<u64>,
    pub replication_factor: Option<u32>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DropPlan {
    pub kind: ObjectKind,
    /// Closed under dependents, dependents first.
    pub ids: Vec<GlobalId>,
    pub schemas: Vec<SchemaId>,
    /// Their schemas are among `schemas`.
    pub databases: Vec<DatabaseId>,
    /// What runs on them is among `ids`.
    pub clusters: Vec<ClusterId>,
    pub notices: Vec<Notice>,
}

/// The format of COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub header: CopyHeader,
    pub delimiter: u8,
    pub null: String,
    pub quote: u8,
    pub escape: u8,
    /// Column positions (of the copied columns) by FORCE_QUOTE, FORCE_NOT_NULL, FORCE_NULL.
    pub force_quote: Vec<usize>,
    pub force_not_null: Vec<usize>,
    pub force_null: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyHeader {
    Absent,
    Present,
    /// The names in the header must be those of the columns.
    Match,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CopyFromPlan {
    pub table: GlobalId,
    /// Names and types of the columns that the data has, in its order.
    pub desc: RelationDesc,
    /// For each column of the table, an expression over the columns of the data: the column itself or its default.
    pub row: Vec<ScalarExpr>,
    /// Columns (of the table) that must not be NULL.
    pub not_null: Vec<usize>,
    /// `WHERE`, over the table's row.
    pub selection: Option<ScalarExpr>,
    pub options: CopyOptions,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CopyToPlan {
    pub source: CopyToSource,
    pub options: CopyOptions,
}

#[derive(Clone, Debug, PartialEq)]
pub enum CopyToSource {
    Select(Box<SelectPlan>),
    Subscribe(Box<SubscribePlan>),
    /// A DML statement with RETURNING.
    Statement(Box<Plan>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct SubscribePlan {
    /// What is subscribed to; a plain `Get` if a relation was named.
    pub mir: Mir,
    /// The columns of the relation. Those of the answer come from [`SubscribePlan::output_desc`].
    pub desc: RelationDesc,
    pub snapshot: bool,
    pub progress: bool,
    pub as_of: Option<AsOfPlan>,
    /// Of type mz_timestamp, without columns.
    pub up_to: Option<ScalarExpr>,
}

impl SubscribePlan {
    /// `mz_timestamp`, `mz_progressed` (with PROGRESS), `mz_diff`, then the relation's columns, nullable in progress rows.
    pub fn output_desc(&self) -> RelationDesc {
        let mut desc = RelationDesc::empty();
        desc.push("mz_timestamp", SqlType::MzTimestamp.nullable(false));
        if self.progress {
            desc.push("mz_progressed", SqlType::Bool.nullable(false));
        }
        desc.push("mz_diff", SqlType::Int64.nullable(self.progress));
        for (name, ty) in self.desc.columns() {
            desc.push(name, ty.ty.clone().nullable(ty.nullable || self.progress));
        }
        desc
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct ExplainPlan {
    pub stage: ExplainStage,
    pub format: ExplainFormat,
    pub target: Box<Plan>,
    /// The text for [`ExplainStage::Raw`], which only the planner can print.
    pub raw: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PreparePlan {
    pub name: String,
    pub statement: Statement,
    /// The SQL text of the statement.
    pub text: String,
    pub declared: Vec<Option<SqlType>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DeclarePlan {
    pub name: String,
    pub hold: bool,
    /// Values are sent in binary format.
    pub binary: bool,
    pub source: DeclareSource,
}

#[derive(Clone, Debug, PartialEq)]
pub enum DeclareSource {
    Select(Box<SelectPlan>),
    Subscribe(Box<SubscribePlan>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct FetchPlan {
    pub name: String,
    pub direction: FetchDirection,
    pub is_move: bool,
    /// Microseconds to wait for rows of a SUBSCRIBE; `None`: as many as are there.
    pub timeout_us: Option<u64>,
}

impl Plan {
    /// The columns of the answer, if the statement returns rows. Rows of FETCH and EXECUTE are known to the session only.
    pub fn desc(&self) -> Option<RelationDesc> {
        let text = |name: &str| {
            RelationDesc::from_columns([(name.to_owned(), SqlType::Text.nullable(false))])
        };
        match self {
            Plan::Select(select) => Some(select.desc.clone()),
            Plan::Insert(InsertPlan { returning, .. })
            | Plan::Update(UpdatePlan { returning, .. })
            | Plan::Delete(DeletePlan { returning, .. }) => {
                returning.as_ref().map(|r| r.desc.clone())
            }
            Plan::Subscribe(subscribe) => Some(subscribe.output_desc()),
            Plan::Explain(_) => Some(text("QUERY PLAN")),
            Plan::CreateJoinToken { .. } => Some(text("join_token")),
            Plan::ShowVariable { name } => Some(text(name)),
            Plan::ShowAll => Some(RelationDesc::from_columns(
                ["name", "setting", "description"].map(|n| (n, SqlType::Text.nullable(true))),
            )),
            Plan::CreateTable(_)
            | Plan::CreateView(_)
            | Plan::CreateMaterializedView(_)
            | Plan::CreateIndex(_)
            | Plan::CreateSource(_)
            | Plan::CreateSchema { .. }
            | Plan::CreateDatabase { .. }
            | Plan::CreateCluster(_)
            | Plan::AlterCluster(_)
            | Plan::RenameCluster { .. }
            | Plan::ChangeNode(_)
            | Plan::Drop(_)
            | Plan::Rename { .. }
            | Plan::Truncate { .. }
            | Plan::CopyFrom(_)
            | Plan::CopyTo(_)
            | Plan::SetVariable { .. }
            | Plan::ResetVariable { .. }
            | Plan::SetTransaction { .. }
            | Plan::Begin { .. }
            | Plan::Commit { .. }
            | Plan::Rollback { .. }
            | Plan::Prepare(_)
            | Plan::Execute { .. }
            | Plan::Deallocate { .. }
            | Plan::Declare(_)
            | Plan::Fetch(_)
            | Plan::Close { .. }
            | Plan::Discard(_)
            | Plan::NoOp { .. } => None,
        }
    }
}

/// 23502 for a row of a table that has NULL in this column. `row` is the failing row's values as text, NULL as `None`.
pub fn not_null_violation(table: &str, column: &str, row: &[Option<String>]) -> PlanError {
    let values: Vec<&str> = row.iter().map(|v| v.as_deref().unwrap_or("null")).collect();
    PlanError::new(
        "23502",
        format!(
            "null value in column \"{column}\" of relation \"{table}\" violates not-null constraint"
        ),
    )
    .with_detail(format!("Failing row contains ({}).", values.join(", ")))
}

/// Plans a statement against the session's catalog, and finds the types of its parameters.
pub fn plan_statement(
    session: &SessionView<'_>,
    statement: &Statement,
    params: &mut ParamTypes,
) -> Result<Plan, PlanError> {
    let planner = StatementPlanner { session };
    planner.plan(statement, params)
}

/// Plans statements of one session.
#[derive(Clone, Copy)]
struct StatementPlanner<'a> {
    session: &'a SessionView<'a>,
}

impl<'a> StatementPlanner<'a> {
    fn plan(&self, statement: &Statement, params: &mut ParamTypes) -> Result<Plan, PlanError> {
        match statement {
            Statement::Query(query) => Ok(Plan::Select(self.select(query, params)?)),
            Statement::Insert(insert) => self.insert(insert, params),
            Statement::Update(update) => self.update(update, params),
            Statement::Delete(delete) => self.delete(delete, params),
            Statement::CreateTable(create) => self.create_table(create),
            Statement::CreateView(create) => self.create_view(create),
            Statement::CreateIndex(create) => self.create_index(create),
            Statement::CreateCluster(create) => self.create_cluster(create),
            Statement::AlterCluster { name, options } => self.alter_cluster(name, options),
            Statement::ChangeNode(change) => self.change_node(change),
            Statement::CreateJoinToken(create) => self.create_join_token(create),
            Statement::CreateSource(create) => self.create_source(create),
            Statement::CreateSchema(create) => self.create_schema(create),
            Statement::CreateDatabase {
                name,
                if_not_exists,
            } => self.create_database(name, *if_not_exists),
            Statement::Drop(drop) => self.drop(drop),
            Statement::Rename(rename) => self.rename(rename),
            Statement::Truncate(truncate) => self.truncate(truncate),
            Statement::Copy(copy) => self.copy(copy, params),
            Statement::Subscribe(subscribe) => {
                Ok(Plan::Subscribe(self.subscribe(subscribe, params)?))
            }
            Statement::Explain(explain) => self.explain(explain, params),
            Statement::Show(show) => self.show(show, params),
            Statement::Declare(declare) => self.declare(declare, params),
            Statement::Fetch(fetch) => self.fetch(fetch),
            Statement::Close { name } => Ok(Plan::Close {
                name: name.as_ref().map(fold),
            }),
            Statement::Prepare(prepare) => self.prepare(prepare),
            Statement::Execute { name, args } => self.execute(name, args, params),
            Statement::Deallocate { name } => Ok(Plan::Deallocate {
                name: name.as_ref().map(fold),
            }),
            Statement::Discard(what) => Ok(Plan::Discard(*what)),
            Statement::Set(set) => Ok(Plan::SetVariable {
                name: set.name.clone(),
                value: set.value.clone(),
                local: set.local,
            }),
            Statement::Reset { name } => Ok(Plan::ResetVariable { name: name.clone() }),
            Statement::SetTransaction { modes, scope } => Ok(Plan::SetTransaction {
                modes: modes.clone(),
                scope: *scope,
            }),
            Statement::Begin { modes } => Ok(Plan::Begin {
                modes: modes.clone(),
            }),
            Statement::Commit { chain } => Ok(Plan::Commit { chain: *chain }),
            Statement::Rollback { chain } => Ok(Plan::Rollback { chain: *chain }),
            Statement::Savepoint { .. }
            | Statement::ReleaseSavepoint { .. }
            | Statement::RollbackTo { .. } => Err(PlanError::unsupported("SAVEPOINT")
                .with_hint("Roll back the whole transaction and run it again instead.")),
            Statement::NoOp(noop) => Ok(Plan::NoOp {
                tag: noop.tag.to_owned(),
                notices: noop
                    .warning
                    .iter()
                    .map(|w| Notice::info("00000", w.clone()))
                    .collect(),
            }),
            Statement::Unsupported { what, hint } => {
                let error = PlanError::unsupported(what);
                Err(match hint {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                })
            }
        }
    }

    /// Runs a piece of query planning that may find out parameter types.
    fn with_queries<T>(
        &self,
        params: &mut ParamTypes,
        f: impl FnOnce(&QueryPlanner<'a>) -> Result<T, PlanError>,
    ) -> Result<T, PlanError> {
        let planner = QueryPlanner::new(self.session, std::mem::take(params));
        let result = f(&planner);
        *params = planner.into_params();
        result
    }
}
