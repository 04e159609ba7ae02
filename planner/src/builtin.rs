//! Relations that are part of the program.

use repr::{GlobalId, RelationDesc, SqlType};
use std::sync::OnceLock;

/// A relation of `pg_catalog`, `information_schema` or this system's own schemas. Its rows are made from the catalog when it is read.
#[derive(Debug)]
pub struct BuiltinRelation {
    /// Fixed; PostgreSQL's OID where PostgreSQL has the relation.
    pub id: GlobalId,
    pub schema: &'static str,
    pub name: &'static str,
    pub desc: RelationDesc,
}

/// The built-in relation of this schema and name.
pub fn lookup(schema: &str, name: &str) -> Option<&'static BuiltinRelation> {
    all().iter().find(|r| r.schema == schema && r.name == name)
}

/// The built-in relation of this id.
pub fn by_id(id: GlobalId) -> Option<&'static BuiltinRelation> {
    all().iter().find(|r| r.id == id)
}

/// All built-in relations.
pub fn all() -> &'static [BuiltinRelation] {
    static ALL: OnceLock<Vec<BuiltinRelation>> = OnceLock::new();
    ALL.get_or_init(|| {
        vec![
            relation(2615, "pg_namespace", &[("oid", SqlType::Oid), ("nspname", SqlType::Name), ("nspowner", SqlType::Oid)]),
            relation(
                1259,
                "pg_class",
                &[
                    ("oid", SqlType::Oid),
                    ("relname", SqlType::Name),
                    ("relnamespace", SqlType::Oid),
                    ("relowner", SqlType::Oid),
                    ("relam", SqlType::Oid),
                    ("relkind", SqlType::PgChar),
                ],
            ),
            relation(
                1247,
                "pg_type",
                &[("oid", SqlType::Oid), ("typname", SqlType::Name), ("typarray", SqlType::Oid), ("typdelim", SqlType::PgChar)],
            ),
        ]
    })
}

fn relation(oid: u64, name: &'static str, columns: &[(&str, SqlType)]) -> BuiltinRelation {
    let columns = columns.iter().map(|(name, ty)| (*name, ty.clone().nullable(false)));
    BuiltinRelation {
        id: GlobalId(oid),
        schema: "pg_catalog",
        name,
        desc: RelationDesc::from_columns(columns).with_key(vec![0]),
    }
}
