//! Dataflows: what is exported, and the plan that computes it.

use plan::lir::Dataflow;
use plan::ScalarExpr;
use repr::{ClusterId, ColumnType, GlobalId, ShardId};
use std::collections::BTreeSet;

/// What a dataflow is built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportSpec {
    /// A materialized view: arranged by `preferred_key`, else by its shortest unique key, else by all columns.
    MaterializedView { id: GlobalId, types: Vec<ColumnType>, preferred_key: Option<Vec<usize>> },
    /// An index: the relation's rows arranged by `key`.
    Index { id: GlobalId, on: GlobalId, key: Vec<ScalarExpr>, types: Vec<ColumnType> },
    /// Changes sent to a client.
    Subscribe { id: GlobalId, types: Vec<ColumnType>, with_snapshot: bool },
    /// A one-shot query, arranged by all columns.
    Transient { id: GlobalId, types: Vec<ColumnType> },
}

/// A planned dataflow and what the catalog keeps about it.
#[derive(Clone, Debug, PartialEq)]
pub struct DataflowExec {
    pub dataflow: Dataflow,
    /// Columns that a materialized view is arranged by; all columns for other exports but an index.
    pub arranged_by: Vec<usize>,
    /// Column sets that are unique in the result.
    pub unique_keys: Vec<Vec<usize>>,
    /// Base shards, transitively: through imported indexes too.
    pub shards: BTreeSet<ShardId>,
    /// All objects that the plan reads or was made from: views, tables, imported indexes.
    pub depends_on: BTreeSet<GlobalId>,
    pub cluster: ClusterId,
}
