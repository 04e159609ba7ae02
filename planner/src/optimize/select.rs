//! How a one-shot query is executed.

use crate::optimize::lookup::LookupKeys;
use plan::lir::Dataflow;
use plan::{EvalError, Finishing, Mfp, Mir};
use repr::{ClusterId, Diff, GlobalId, Row, ShardId};
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
}

#[derive(Clone, Debug, PartialEq)]
pub enum SelectPath {
    /// The answer is known.
    Constant { rows: Result<Vec<(Row, Diff)>, EvalError> },
    /// Optimized plan over system relations and tables, or over nothing but parameters, for `plan::eval`.
    Interpret { mir: Arc<Mir> },
    /// One table, read from the gateway's own storage.
    Table { table: GlobalId, shard: ShardId, access: TableAccess, mfp: Arc<Mfp> },
    /// One arrangement of a CLUSTER. `mfp` is over the columns of `on`.
    Peek { export: GlobalId, on: GlobalId, cluster: ClusterId, keys: Option<LookupKeys>, mfp: Arc<Mfp> },
    /// A temporary dataflow, whose only export is arranged by all columns.
    Dataflow { dataflow: Arc<Dataflow>, export: GlobalId, arity: usize, cluster: ClusterId },
}

#[derive(Clone, Debug, PartialEq)]
pub enum TableAccess {
    /// Rows with these values in the columns of key space `space`. Such a read is checked per key in a transaction.
    Lookup { space: u32, keys: LookupKeys },
    Scan,
}
