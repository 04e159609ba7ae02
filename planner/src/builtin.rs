//! Relations that are part of the program.

use repr::{GlobalId, RelationDesc};

/// A relation of `pg_catalog`, `information_schema` or this system's own schemas. Its rows are made from the catalog when it is read.
pub struct BuiltinRelation {
    /// Fixed; PostgreSQL's OID where PostgreSQL has the relation.
    pub id: GlobalId,
    pub schema: &'static str,
    pub name: &'static str,
    pub desc: RelationDesc,
}
