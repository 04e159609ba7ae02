//! Items: what a schema holds.

use repr::{ClusterId, GlobalId, RoleId, SchemaId, ShardId, SqlType, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A named object of a schema. Its id never changes and is never reused; its OID is the id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub id: GlobalId,
    pub schema: SchemaId,
    pub name: String,
    pub owner: RoleId,
    /// Canonical SQL that creates the object again, names fully qualified.
    pub create_sql: String,
    /// Items that this one reads or belongs to (an index: its relation); DROP of one of those needs CASCADE.
    pub depends_on: BTreeSet<GlobalId>,
    /// Raised by each change of the object's definition; writes name the version they were planned against.
    pub version: u64,
    pub kind: ItemKind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ItemKind {
    Table(Table),
    View(View),
    MaterializedView(MaterializedView),
    Index(Index),
    Source(Source),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub ty: SqlType,
    pub nullable: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnDefault {
    pub column: usize,
    /// Canonical SQL of the expression, as `pg_get_expr` shows it.
    pub sql: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyConstraint {
    /// Name of the constraint and of the index that PostgreSQL would show for it; it has an OID of its own.
    pub name: String,
    pub id: GlobalId,
    pub kind: KeyConstraintKind,
    pub columns: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyConstraintKind {
    Primary,
    Unique,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub shard: ShardId,
    pub columns: Vec<Column>,
    pub defaults: Vec<ColumnDefault>,
    /// Key space `i` of the shard is constraint `i`.
    pub keys: Vec<KeyConstraint>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    pub columns: Vec<Column>,
    /// The defining query as SQL, as `pg_get_viewdef` shows it.
    pub query_sql: String,
}

/// A maintained dataflow's durable definition: plan bytes are opaque here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub cluster: ClusterId,
    /// An encoded `plan::Dataflow`.
    pub bytes: Vec<u8>,
    /// Hash of `bytes`: two dataflows are the same exactly when their hashes are.
    pub hash: u64,
    /// Base shards that the dataflow reads, transitively.
    pub shards: BTreeSet<ShardId>,
    /// The timestamp of the entry that created it; 0 in a request, filled in by apply.
    pub as_of: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaterializedView {
    pub columns: Vec<Column>,
    pub query_sql: String,
    pub plan: Plan,
    /// Columns by which the result is arranged, all plain columns.
    pub arranged_by: Vec<usize>,
    /// Column sets that are unique in the result.
    pub unique_keys: Vec<Vec<usize>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    pub on: GlobalId,
    /// Canonical SQL of the key expressions, and the plain column for those that are one.
    pub keys: Vec<IndexKey>,
    pub plan: Plan,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexKey {
    pub sql: String,
    pub column: Option<usize>,
}

/// A source writes a shard of its own, at timestamps given by ENV like any other write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    pub shard: ShardId,
    pub columns: Vec<Column>,
    pub cluster: ClusterId,
    pub generator: LoadGenerator,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LoadGenerator {
    /// One row `counter int8` more per tick; with a maximum, only the last `max_cardinality` are kept.
    Counter {
        tick_interval_us: u64,
        max_cardinality: Option<u64>,
    },
}

impl Item {
    /// The columns of a relation; `None` for an index.
    pub fn columns(&self) -> Option<&[Column]> {
        match &self.kind {
            ItemKind::Table(t) => Some(&t.columns),
            ItemKind::View(v) => Some(&v.columns),
            ItemKind::MaterializedView(v) => Some(&v.columns),
            ItemKind::Source(s) => Some(&s.columns),
            ItemKind::Index(_) => None,
        }
    }

    /// The shard that stores the relation's rows, if it has one of its own.
    pub fn shard(&self) -> Option<ShardId> {
        match &self.kind {
            ItemKind::Table(t) => Some(t.shard),
            ItemKind::Source(s) => Some(s.shard),
            ItemKind::View(_) | ItemKind::MaterializedView(_) | ItemKind::Index(_) => None,
        }
    }

    /// The dataflow that maintains the object, if there is one.
    pub fn plan(&self) -> Option<&Plan> {
        match &self.kind {
            ItemKind::MaterializedView(v) => Some(&v.plan),
            ItemKind::Index(i) => Some(&i.plan),
            ItemKind::Table(_) | ItemKind::View(_) | ItemKind::Source(_) => None,
        }
    }
}
