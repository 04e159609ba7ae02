//! Dataflows: what is exported, and the plan that computes it.

use crate::PlanError;
use crate::lower_lir::{Imports, Time, canonical_as, canonical_key, lower};
use crate::optimize::catalog::{CreatedBefore, OptimizerCatalog};
use crate::optimize::lookup::LookupKeys;
use crate::transform::inline_views::{Keep, inline_views};
use crate::transform::join_implementation::join_implementation;
use crate::transform::pipeline::optimize;
use plan::lir::{Dataflow, Export, ExportKind, Node};
use plan::mir::Id;
use plan::{Mir, ScalarExpr};
use repr::{ClusterId, ColumnType, GlobalId, ShardId};
use std::collections::BTreeSet;

/// What a dataflow is built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportSpec {
    /// A materialized view: arranged by `preferred_key`, else by its shortest unique key, else by all columns that are cheap to
    /// compare.
    MaterializedView {
        id: GlobalId,
        types: Vec<ColumnType>,
        preferred_key: Option<Vec<usize>>,
    },
    /// An index: the relation's rows arranged by `key`.
    Index {
        id: GlobalId,
        on: GlobalId,
        key: Vec<ScalarExpr>,
        types: Vec<ColumnType>,
    },
    /// Changes sent to a client.
    Subscribe {
        id: GlobalId,
        types: Vec<ColumnType>,
        with_snapshot: bool,
    },
    /// A one-shot query; read as a whole.
    Transient {
        id: GlobalId,
        types: Vec<ColumnType>,
    },
}

/// A planned dataflow and what the catalog keeps about it.
#[derive(Clone, Debug, PartialEq)]
pub struct DataflowExec {
    pub dataflow: Dataflow,
    /// Columns that the result is arranged by; of no meaning for an index.
    pub arranged_by: Vec<usize>,
    /// Column sets that are unique in the result.
    pub unique_keys: Vec<Vec<usize>>,
    /// Base shards, transitively: through imported indexes too.
    pub shards: BTreeSet<ShardId>,
    /// All objects that the plan reads or was made from: views, tables, imported indexes.
    pub depends_on: BTreeSet<GlobalId>,
    pub cluster: ClusterId,
    /// Lookups that wait for parameters, in one-shot queries.
    pub(crate) late: Vec<LookupKeys>,
}

/// Plans a maintained dataflow.
///
/// # Errors
/// If a view's definition cannot be planned, or the query cannot be maintained (system relations, `mz_now()` outside of comparisons).
pub fn optimize_dataflow(
    name: &str,
    mir: Mir,
    export: &ExportSpec,
    catalog: &dyn OptimizerCatalog,
    cluster: ClusterId,
) -> Result<DataflowExec, PlanError> {
    let before = CreatedBefore {
        catalog,
        id: export.id(),
    };
    let catalog: &dyn OptimizerCatalog = match export {
        ExportSpec::MaterializedView { .. } | ExportSpec::Index { .. } => &before,
        ExportSpec::Subscribe { .. } | ExportSpec::Transient { .. } => catalog,
    };
    let (mir, inlined) = inline_views(mir, catalog, Keep::In { cluster })?;
    let mir = optimize(mir);
    if let Some(id) = mir
        .depends_on()
        .into_iter()
        .find(|id| catalog.is_builtin(*id))
    {
        let message = format!(
            "cannot maintain a query over the system relation \"{}\"",
            catalog.name(id)
        );
        return Err(PlanError::new("0A000", message));
    }
    let mut exec = build(name.to_owned(), mir, export, catalog, cluster)?;
    exec.depends_on.extend(inlined);
    Ok(exec)
}

/// What can be imported in one CLUSTER.
struct ClusterImports<'a> {
    catalog: &'a dyn OptimizerCatalog,
    cluster: ClusterId,
}

impl Imports for ClusterImports<'_> {
    fn arrangements(&self, id: GlobalId) -> Vec<(GlobalId, Vec<ScalarExpr>)> {
        let mut found = self.catalog.arrangements(id);
        found.retain(|a| a.cluster == self.cluster);
        found.into_iter().map(|a| (a.export, a.key)).collect()
    }

    fn source(&self, id: GlobalId) -> Option<(ShardId, Vec<ColumnType>)> {
        self.catalog
            .stored(id)
            .map(|stored| (stored.shard, stored.types))
    }
}

/// Chooses join implementations and lowers an optimized plan.
pub(crate) fn build(
    name: String,
    mir: Mir,
    export: &ExportSpec,
    catalog: &dyn OptimizerCatalog,
    cluster: ClusterId,
) -> Result<DataflowExec, PlanError> {
    let imports = ClusterImports { catalog, cluster };
    let unique_keys = mir.keys();
    let types = mir.types();
    let reads = mir.depends_on();
    let mir = implement_joins(mir, &imports);
    let lowered = lower(mir, &imports, export.time())?;
    let arranged_by = export.arranged_by(&types, &unique_keys);
    let (node, kind) = export.exported(lowered.node, &arranged_by, &types);
    let id = Id::Global(export.id());
    let mut depends_on = reads.clone();
    depends_on.extend(lowered.indexes.keys());
    let dataflow = Dataflow {
        name,
        sources: lowered.sources,
        indexes: lowered.indexes,
        objects: vec![(id, node)],
        exports: vec![Export {
            id: export.id(),
            from: id,
            kind,
        }],
        as_of: None,
        until: None,
    };
    let shards = reads.iter().flat_map(|id| catalog.shards(*id)).collect();
    Ok(DataflowExec {
        dataflow,
        arranged_by,
        unique_keys,
        shards,
        depends_on,
        cluster,
        late: lowered.late,
    })
}

fn implement_joins(mir: Mir, imports: &ClusterImports<'_>) -> Mir {
    let keys = |id| {
        imports
            .arrangements(id)
            .into_iter()
            .map(|(_, key)| key)
            .collect()
    };
    join_implementation(mir, &keys)
}

/// The plan with its joins implemented as they would be in this CLUSTER.
pub(crate) fn implemented(mir: Mir, catalog: &dyn OptimizerCatalog, cluster: ClusterId) -> Mir {
    implement_joins(mir, &ClusterImports { catalog, cluster })
}

impl ExportSpec {
    pub fn id(&self) -> GlobalId {
        match self {
            ExportSpec::MaterializedView { id, .. }
            | ExportSpec::Index { id, .. }
            | ExportSpec::Subscribe { id, .. }
            | ExportSpec::Transient { id, .. } => *id,
        }
    }

    fn time(&self) -> Time {
        match self {
            ExportSpec::Transient { .. } => Time::Fixed,
            ExportSpec::MaterializedView { .. }
            | ExportSpec::Index { .. }
            | ExportSpec::Subscribe { .. } => Time::Moving,
        }
    }

    /// The columns of a materialized view's own arrangement.
    fn arranged_by(&self, types: &[ColumnType], unique_keys: &[Vec<usize>]) -> Vec<usize> {
        let all = || (0..types.len()).collect();
        match self {
            ExportSpec::MaterializedView {
                preferred_key: Some(key),
                ..
            } => key.clone(),
            ExportSpec::MaterializedView {
                preferred_key: None,
                ..
            } => unique_keys
                .first()
                .cloned()
                .unwrap_or_else(|| compact_key(types)),
            ExportSpec::Index { .. } | ExportSpec::Subscribe { .. } => all(),
            ExportSpec::Transient { .. } => compact_key(types),
        }
    }

    /// The object as it is exported.
    fn exported(
        &self,
        node: Node,
        arranged_by: &[usize],
        types: &[ColumnType],
    ) -> (Node, ExportKind) {
        let columns = || {
            arranged_by
                .iter()
                .map(|c| ScalarExpr::Column(*c))
                .collect::<Vec<_>>()
        };
        match self {
            ExportSpec::MaterializedView {
                types: declared, ..
            } => arranged(node, &columns(), types, declared),
            ExportSpec::Index {
                key,
                types: declared,
                ..
            } => arranged(node, key, types, declared),
            ExportSpec::Transient {
                types: declared, ..
            } => arranged(node, &columns(), types, declared),
            ExportSpec::Subscribe {
                types,
                with_snapshot,
                ..
            } => (
                node,
                ExportKind::Subscribe {
                    types: types.clone(),
                    with_snapshot: *with_snapshot,
                },
            ),
        }
    }
}

/// All columns but those that an arrangement would have to keep twice: as canonical key and as they are.
fn compact_key(types: &[ColumnType]) -> Vec<usize> {
    let plain: Vec<usize> = (0..types.len())
        .filter(|c| canonical_as(&types[*c].ty).is_none())
        .collect();
    if plain.is_empty() {
        (0..types.len()).collect()
    } else {
        plain
    }
}

fn arranged(
    node: Node,
    key: &[ScalarExpr],
    types: &[ColumnType],
    declared: &[ColumnType],
) -> (Node, ExportKind) {
    let key = canonical_key(key, declared);
    let node = Node::ArrangeBy {
        input: Box::new(node),
        keys: vec![key.clone()],
        arity: types.len(),
    };
    (
        node,
        ExportKind::Index {
            key,
            types: declared.to_vec(),
        },
    )
}
