//! The physical plan of a dataflow: what `compute` renders, operator by operator.
//!
//! A plan is a tree of [`Node`]s over collections of rows. Where an operator needs its input arranged, the plan says so: nothing is
//! arranged implicitly. [`Dataflow`] is the unit that travels in the catalog, encoded with [`FORMAT_VERSION`].

use crate::agg::AggregateExpr;
use crate::error::EvalError;
use crate::mfp::Mfp;
use crate::mir::{ColumnOrder, Id};
use crate::scalar::ScalarExpr;
use crate::table_func::TableFunc;
use repr::{ColumnType, Diff, GlobalId, Row, ShardId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the encoding of [`Dataflow`]. A binary that cannot read a version replans by a logged catalog operation.
pub const FORMAT_VERSION: u8 = 1;

/// Everything needed to build, name and export one dataflow.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Dataflow {
    /// Name for logs and introspection.
    pub name: String,
    /// Durable inputs: the shard behind each table that is read, with the columns of the table.
    pub sources: BTreeMap<GlobalId, SourceImport>,
    /// Arrangements of other dataflows of the same replica that this one reads.
    pub indexes: BTreeMap<GlobalId, IndexImport>,
    /// Evaluated in order; later objects and the exports may read earlier ones by `Id::Global`/`Id::Local`.
    pub objects: Vec<(Id, Node)>,
    pub exports: Vec<Export>,
    /// Rows valid only from this time on are needed; set by the controller at creation, not part of the plan's identity.
    pub as_of: Option<Timestamp>,
    /// The dataflow may stop once its output passes this time (one-shot queries, `UP TO`).
    pub until: Option<Timestamp>,
}

/// The most bytes of an encoded dataflow.
pub const PLAN_BYTES_MAX: usize = 4 << 20;

impl Dataflow {
    /// The bytes that are stored and hashed.
    ///
    /// # Errors
    /// 54001 if the plan nests so deeply, or is so large, that it could not be read again.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EvalError> {
        let bytes = repr::codec::encode(FORMAT_VERSION, self);
        match Dataflow::from_bytes(&bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => {
                let mut refused =
                    EvalError::new("54001", "the plan of the statement is too complex");
                refused.detail = Some(error.to_string());
                Err(refused)
            }
        }
    }

    /// The dataflow of stored bytes.
    ///
    /// # Errors
    /// If they are damaged, or a newer binary's.
    pub fn from_bytes(bytes: &[u8]) -> Result<Dataflow, repr::codec::CodecError> {
        repr::codec::decode(1..=FORMAT_VERSION, PLAN_BYTES_MAX, bytes)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceImport {
    pub shard: ShardId,
    pub types: Vec<ColumnType>,
    /// Applied to each row as it enters the dataflow, so that unneeded columns and rows are never kept.
    pub mfp: Mfp,
}

/// The arrangement exported under `index_id`: collection `on`, arranged by `key`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IndexImport {
    pub on: GlobalId,
    pub key: Vec<ScalarExpr>,
    pub types: Vec<ColumnType>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Export {
    /// The object the export implements: the index, the materialized view, or a transient id.
    pub id: GlobalId,
    /// What is exported: an id bound in `objects` (or imported).
    pub from: Id,
    pub kind: ExportKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExportKind {
    /// An arrangement by `key`, served to peeks and to other dataflows. A materialized view is arranged by its unique key if it has one,
    /// else by all its columns; the value holds the columns that are not plain key columns ([`KeyValPermutation`]).
    Index {
        key: Vec<ScalarExpr>,
        types: Vec<ColumnType>,
    },
    /// Changes from `as_of` on, sent to the subscriber.
    Subscribe {
        types: Vec<ColumnType>,
        with_snapshot: bool,
    },
}

/// How a row is split into an arrangement's key and value, and put together again.
///
/// `key[i]` is expression `i` of the key. The value is the row's columns that are not themselves key expressions, in order.
/// Column `c` of the row is column `permutation[c]` of key ++ value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyValPermutation {
    pub key: Vec<ScalarExpr>,
    pub value: Vec<usize>,
    pub permutation: Vec<usize>,
}

impl KeyValPermutation {
    /// The split of rows with `arity` columns by these key expressions.
    pub fn new(key: &[ScalarExpr], arity: usize) -> Self {
        let mut permutation = vec![usize::MAX; arity];
        for (i, expr) in key.iter().enumerate() {
            if let ScalarExpr::Column(c) = expr
                && permutation[*c] == usize::MAX
            {
                permutation[*c] = i;
            }
        }
        let mut value = vec![];
        for (c, slot) in permutation.iter_mut().enumerate() {
            if *slot == usize::MAX {
                *slot = key.len() + value.len();
                value.push(c);
            }
        }
        KeyValPermutation {
            key: key.to_vec(),
            value,
            permutation,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Node {
    Constant {
        rows: Result<Vec<(Row, Diff)>, EvalError>,
    },
    /// The collection bound to `id`, or the import of a source (after its mfp).
    Get {
        id: Id,
    },
    /// The arrangement of `id` by `key` (imported, or made by an `ArrangeBy` bound to `id`), read as a collection through `mfp`;
    /// with `lookup`, only the rows whose key equals one of the literal rows.
    GetArrangement {
        id: Id,
        key: Vec<ScalarExpr>,
        lookup: Option<Vec<Row>>,
        mfp: Mfp,
    },
    Let {
        id: u64,
        value: Box<Node>,
        body: Box<Node>,
    },
    Mfp {
        input: Box<Node>,
        mfp: Mfp,
    },
    FlatMap {
        input: Box<Node>,
        func: TableFunc,
        args: Vec<ScalarExpr>,
        mfp: Mfp,
    },
    Join {
        inputs: Vec<Node>,
        plan: JoinPlan,
    },
    Reduce {
        input: Box<Node>,
        plan: ReducePlan,
    },
    TopK {
        input: Box<Node>,
        plan: TopKPlan,
    },
    Negate {
        input: Box<Node>,
    },
    Threshold {
        input: Box<Node>,
        arity: usize,
    },
    Union {
        inputs: Vec<Node>,
    },
    /// The input, arranged by each key; consumers find the arrangement by the same key expressions.
    ArrangeBy {
        input: Box<Node>,
        keys: Vec<Vec<ScalarExpr>>,
        arity: usize,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JoinPlan {
    /// `start` streams through the stages; each stage looks the stream's key up in one input's arrangement.
    Linear {
        start: usize,
        initial: Mfp,
        stages: Vec<JoinStage>,
    },
    /// One path per input; all inputs are arranged by every key that a stage names.
    Delta { paths: Vec<DeltaPath> },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeltaPath {
    pub source: usize,
    /// Arrangement of the source whose changes drive the path.
    pub source_key: Vec<ScalarExpr>,
    pub initial: Mfp,
    pub stages: Vec<JoinStage>,
}

/// Joins the stream with the arrangement of input `lookup` by `lookup_key`.
///
/// The stage's rows are: the stream's row, then the looked-up row's columns in their original order; `closure` reads those and gives the
/// next stream row. After the last stage the stream is the join's output.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JoinStage {
    pub lookup: usize,
    pub lookup_arity: usize,
    pub lookup_key: Vec<ScalarExpr>,
    /// Over the stream's row. Rows with a NULL in the key do not join.
    pub stream_key: Vec<ScalarExpr>,
    /// Columns of the stream's row, before this stage.
    pub stream_arity: usize,
    pub closure: Mfp,
}

/// Output rows: group key, then aggregates in the order of `aggregates`, through `mfp`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReducePlan {
    pub input_arity: usize,
    pub group_key: Vec<ScalarExpr>,
    /// Empty: distinct group keys.
    pub aggregates: Vec<AggregateExpr>,
    pub mfp: Mfp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TopKPlan {
    pub arity: usize,
    pub group_key: Vec<usize>,
    pub order_key: Vec<ColumnOrder>,
    /// Over the group key's columns (a literal in SQL as supported today). `None`: no limit.
    pub limit: Option<ScalarExpr>,
    pub offset: u64,
}
