//! How a one-shot query is executed.

use crate::PlanError;
use crate::lower_lir::to_mfp;
use crate::optimize::catalog::{Arrangement, OptimizerCatalog, StoredRelation};
use crate::optimize::dataflow::{ExportSpec, build};
use crate::optimize::extract::{KeyForm, lookup_keys};
use crate::optimize::lookup::LookupKeys;
use crate::transform::block::Block;
use crate::transform::inline_views::{Keep, inline_views};
use crate::transform::pipeline::optimize;
use crate::transform::visit_scalars;
use plan::lir::Dataflow;
use plan::mir::Id;
use plan::{EvalError, Finishing, Mfp, Mir, ScalarExpr};
use repr::{ClusterId, ColumnType, Diff, GlobalId, Row, ShardId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What may be used to run a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectOptions {
    /// The session's CLUSTER: where a temporary dataflow would run, and whose indexes are preferred.
    pub cluster: ClusterId,
    pub execution: Execution,
    /// Reads materialized views through their definitions down to tables: for transactions that must see their own writes.
    pub inline_materialized: bool,
    /// The id a temporary dataflow is exported under.
    pub transient: GlobalId,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Execution {
    #[default]
    Auto,
    /// No CLUSTER: everything from tables, row by row. Materialized views and views are inlined.
    Interpreter,
}

/// An optimized query: where its rows come from and what remains to be done with them.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectExec {
    pub path: SelectPath,
    /// Applies to the rows that `path` gives.
    pub finishing: Arc<Finishing>,
    /// Base shards that the answer depends on, transitively, for conflict checks.
    pub shards: BTreeSet<ShardId>,
    /// All objects that the plan reads or was made from: views, tables, indexes.
    pub depends_on: BTreeSet<GlobalId>,
    /// How many parameters must be bound.
    pub param_count: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SelectPath {
    /// The answer is known.
    Constant {
        rows: Result<Vec<(Row, Diff)>, EvalError>,
    },
    /// Optimized plan over system relations and tables, or over nothing but parameters, for `plan::eval`.
    Interpret { mir: Arc<Mir> },
    /// One table, read from the gateway's own storage.
    Table {
        table: GlobalId,
        shard: ShardId,
        access: TableAccess,
        mfp: Arc<Mfp>,
    },
    /// One arrangement of a CLUSTER. `mfp` is over the columns of `on`.
    Peek {
        export: GlobalId,
        on: GlobalId,
        cluster: ClusterId,
        keys: Option<LookupKeys>,
        mfp: Arc<Mfp>,
    },
    /// A temporary dataflow with one export.
    Dataflow {
        dataflow: Arc<Dataflow>,
        /// Lookups in the dataflow whose keys depend on parameters.
        lookups: Arc<Vec<LookupKeys>>,
        export: GlobalId,
        arity: usize,
        cluster: ClusterId,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum TableAccess {
    /// Rows with these values in the columns of key space `space`. Such a read is checked per key in a transaction.
    Lookup {
        space: u32,
        keys: LookupKeys,
    },
    Scan,
}

/// Optimizes a query and chooses how it is executed.
///
/// # Errors
/// If a view's definition cannot be planned, or the query cannot be run at all.
pub fn optimize_select(
    mir: Mir,
    finishing: Finishing,
    catalog: &dyn OptimizerCatalog,
    options: &SelectOptions,
) -> Result<SelectExec, PlanError> {
    let inline_all = options.inline_materialized || options.execution == Execution::Interpreter;
    let first = if inline_all {
        Keep::Nothing
    } else {
        Keep::Everything {
            cluster: options.cluster,
        }
    };
    let param_count = param_count(&mir);
    let mut chooser = Chooser {
        catalog,
        options,
        finishing,
        inlined: BTreeSet::new(),
        param_count,
    };
    let logical = chooser.logical(mir.clone(), first)?;
    if let Some(exec) = chooser.without_dataflow(logical.clone())? {
        return Ok(exec);
    }
    let reads = logical.depends_on();
    if reads.iter().any(|id| catalog.is_builtin(*id))
        || options.execution == Execution::Interpreter
        || reads_catalog(&logical)
    {
        let mir = chooser.logical(mir, Keep::Nothing)?;
        return Ok(chooser.interpret(mir));
    }
    let elsewhere = reads.iter().any(|id| {
        catalog
            .maintained_by(*id)
            .is_some_and(|cluster| cluster != options.cluster)
    });
    let mir = if elsewhere {
        chooser.logical(
            mir,
            Keep::In {
                cluster: options.cluster,
            },
        )?
    } else {
        logical
    };
    chooser.dataflow(mir)
}

/// The number of parameters up to the last one that occurs.
fn param_count(mir: &Mir) -> usize {
    let mut count = 0;
    mir.visit(&mut |node| {
        visit_scalars(node, &mut |root| {
            root.visit(&mut |e| {
                if let ScalarExpr::Param(n, _) = e {
                    count = count.max(n + 1);
                }
            });
        });
    });
    count
}

/// Whether a function looks into the session's catalog, which only the interpreter has.
fn reads_catalog(mir: &Mir) -> bool {
    let mut found = false;
    mir.visit(&mut |node| {
        visit_scalars(node, &mut |root| found |= looks_into_catalog(root));
    });
    found
}

/// Whether evaluating the expression looks into the session's catalog.
pub fn looks_into_catalog(expr: &ScalarExpr) -> bool {
    let mut found = false;
    expr.visit(&mut |e| {
        found |= matches!(e, ScalarExpr::Call { func, .. } if func.def().reads_catalog);
    });
    found
}

impl SelectExec {
    /// Whether running the plan looks into the session's catalog by a function, rather than by reading a system relation.
    pub fn looks_into_catalog(&self) -> bool {
        match &self.path {
            SelectPath::Interpret { mir } => reads_catalog(mir),
            SelectPath::Constant { .. }
            | SelectPath::Table { .. }
            | SelectPath::Peek { .. }
            | SelectPath::Dataflow { .. } => false,
        }
    }
}

struct Chooser<'a> {
    catalog: &'a dyn OptimizerCatalog,
    options: &'a SelectOptions,
    finishing: Finishing,
    inlined: BTreeSet<GlobalId>,
    param_count: usize,
}

impl Chooser<'_> {
    fn logical(&mut self, mir: Mir, keep: Keep) -> Result<Mir, PlanError> {
        let (mir, inlined) = inline_views(mir, self.catalog, keep)?;
        self.inlined.extend(inlined);
        Ok(optimize(mir))
    }

    fn exec(&self, path: SelectPath, reads: BTreeSet<GlobalId>) -> SelectExec {
        let shards = reads
            .iter()
            .flat_map(|id| self.catalog.shards(*id))
            .collect();
        let mut depends_on = reads;
        depends_on.extend(&self.inlined);
        SelectExec {
            path,
            finishing: Arc::new(self.finishing.clone()),
            shards,
            depends_on,
            param_count: self.param_count,
        }
    }

    /// Everything that needs no operators.
    fn without_dataflow(&self, mir: Mir) -> Result<Option<SelectExec>, PlanError> {
        if let Mir::Constant { rows, .. } = mir {
            return Ok(Some(
                self.exec(SelectPath::Constant { rows }, BTreeSet::new()),
            ));
        }
        let reads = mir.depends_on();
        if reads.is_empty() {
            return Ok(Some(self.interpret(mir)));
        }
        if reads_catalog(&mir) {
            return Ok(None);
        }
        let (mut block, inner) = Block::extract(mir);
        let Mir::Get {
            id: Id::Global(id),
            types,
            ..
        } = inner
        else {
            return Ok(None);
        };
        block.normalize();
        if self.catalog.is_builtin(id) {
            return Ok(None);
        }
        let path = match self.catalog.stored(id) {
            Some(stored) => Some(self.read_table(id, stored, block, &types)),
            None => self.peek(id, block, &types),
        };
        Ok(path.map(|(path, export)| {
            let mut exec = self.exec(path, reads);
            exec.depends_on.extend(export);
            exec
        }))
    }

    fn read_table(
        &self,
        id: GlobalId,
        stored: StoredRelation,
        block: Block,
        types: &[ColumnType],
    ) -> (SelectPath, Option<GlobalId>) {
        for (space, columns) in stored.keys.iter().enumerate() {
            let key: Vec<ScalarExpr> = columns.iter().map(|c| ScalarExpr::Column(*c)).collect();
            if let Some((keys, rest)) = lookup_keys(&block, &key, types, KeyForm::Stored) {
                let access = TableAccess::Lookup {
                    space: space as u32,
                    keys,
                };
                return (
                    SelectPath::Table {
                        table: id,
                        shard: stored.shard,
                        access,
                        mfp: mfp(rest),
                    },
                    None,
                );
            }
        }
        if self.options.execution == Execution::Auto
            && !self.options.inline_materialized
            && let Some((path, export)) = self.peek_by_key(id, &block, types)
        {
            return (path, Some(export));
        }
        (
            SelectPath::Table {
                table: id,
                shard: stored.shard,
                access: TableAccess::Scan,
                mfp: mfp(block),
            },
            None,
        )
    }

    /// Arrangements that may be peeked: of the session's CLUSTER, and of the one that maintains the relation.
    fn arrangements(&self, id: GlobalId) -> Vec<Arrangement> {
        let home = self.catalog.maintained_by(id);
        let mut found = self.catalog.arrangements(id);
        found.retain(|a| a.cluster == self.options.cluster || Some(a.cluster) == home);
        found
    }

    fn peek_by_key(
        &self,
        id: GlobalId,
        block: &Block,
        types: &[ColumnType],
    ) -> Option<(SelectPath, GlobalId)> {
        let mut best: Option<(usize, Arrangement, LookupKeys, Block)> = None;
        for arrangement in self.arrangements(id) {
            if let Some((keys, rest)) =
                lookup_keys(block, &arrangement.key, types, KeyForm::Arranged)
                && best
                    .as_ref()
                    .is_none_or(|(longest, ..)| arrangement.key.len() > *longest)
            {
                best = Some((arrangement.key.len(), arrangement, keys, rest));
            }
        }
        let (
            _,
            Arrangement {
                export, cluster, ..
            },
            keys,
            rest,
        ) = best?;
        Some((
            SelectPath::Peek {
                export,
                on: id,
                cluster,
                keys: Some(keys),
                mfp: mfp(rest),
            },
            export,
        ))
    }

    fn peek(
        &self,
        id: GlobalId,
        block: Block,
        types: &[ColumnType],
    ) -> Option<(SelectPath, Option<GlobalId>)> {
        if let Some((path, export)) = self.peek_by_key(id, &block, types) {
            return Some((path, Some(export)));
        }
        let Arrangement {
            export, cluster, ..
        } = self.arrangements(id).into_iter().next()?;
        Some((
            SelectPath::Peek {
                export,
                on: id,
                cluster,
                keys: None,
                mfp: mfp(block),
            },
            Some(export),
        ))
    }

    fn interpret(&self, mir: Mir) -> SelectExec {
        let reads = mir.depends_on();
        self.exec(SelectPath::Interpret { mir: Arc::new(mir) }, reads)
    }

    fn dataflow(&self, mir: Mir) -> Result<SelectExec, PlanError> {
        let reads = mir.depends_on();
        let (export, cluster) = (self.options.transient, self.options.cluster);
        let spec = ExportSpec::Transient {
            id: export,
            types: mir.types(),
        };
        let arity = mir.arity();
        let built = build("query".to_owned(), mir, &spec, self.catalog, cluster)?;
        let mut exec = self.exec(
            SelectPath::Dataflow {
                dataflow: Arc::new(built.dataflow),
                lookups: Arc::new(built.late),
                export,
                arity,
                cluster,
            },
            reads,
        );
        exec.depends_on.extend(built.depends_on);
        Ok(exec)
    }
}

fn mfp(block: Block) -> Arc<Mfp> {
    let mut mfp = to_mfp(block);
    mfp.optimize();
    Arc::new(mfp)
}
