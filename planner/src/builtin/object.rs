//! What `pg_class` lists: relations and indexes of one database, built-in ones included.

use super::{BuiltinCtx, BuiltinRelation, all, schema_oid};
use crate::session::{INFORMATION_SCHEMA, MZ_CATALOG, MZ_INTERNAL, PG_CATALOG};
use repr::{ColumnType, SqlType};
use state::Catalog;
use state::catalog::{Index, Item, ItemKind, KeyConstraint, Schema, Table};
use std::sync::Arc;

/// The owner of what belongs to nobody in particular: PostgreSQL's number for the first role.
pub(super) const SYSTEM_OWNER: u32 = 10;

/// A relation or an index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'a> {
    pub oid: u32,
    pub schema: u32,
    pub schema_name: &'a str,
    pub name: &'a str,
    pub owner: u32,
    pub kind: Kind<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'a> {
    Builtin(&'static BuiltinRelation),
    Item(&'a Item),
    /// The index that PostgreSQL has for a key constraint of a table.
    Key(&'a Item, &'a KeyConstraint),
}

/// A column of a relation or index.
#[derive(Clone, Debug)]
pub(super) struct ObjectColumn<'a> {
    pub name: &'a str,
    pub ty: SqlType,
    pub nullable: bool,
    /// SQL of the default.
    pub default: Option<&'a str>,
}

/// An index as `pg_index` has it.
#[derive(Clone, Debug)]
pub(super) struct IndexInfo<'a> {
    pub object: Object<'a>,
    pub table: &'a Item,
    pub constraint: Option<&'a KeyConstraint>,
    /// The plain column and the SQL of each key.
    pub keys: Vec<(Option<usize>, String)>,
}

/// An id as an OID; ids are given out below 2^32.
pub(super) fn oid(id: u64) -> u32 {
    u32::try_from(id).unwrap_or(0)
}

impl<'a> BuiltinCtx<'a> {
    /// The schemas of the database that users have made.
    pub(super) fn schemas(&self) -> impl Iterator<Item = &'a Arc<Schema>> + use<'a> {
        let database = self.catalog.database_by_name(self.database).map(|d| d.id);
        self.catalog
            .schemas
            .values()
            .filter(move |s| Some(s.database) == database)
    }

    /// (OID, name, owner) of all schemas.
    pub(super) fn namespaces(&self) -> Vec<(u32, &'a str, u32)> {
        let builtin = [PG_CATALOG, INFORMATION_SCHEMA, MZ_CATALOG, MZ_INTERNAL];
        let builtin = builtin
            .into_iter()
            .filter_map(|name| Some((schema_oid(name)?, name, SYSTEM_OWNER)));
        builtin
            .chain(
                self.schemas()
                    .map(|s| (oid(s.id.0), s.name.as_str(), oid(s.owner.0))),
            )
            .collect()
    }

    pub(super) fn role_name(&self, role: u32) -> &'a str {
        let role = self.catalog.roles.values().find(|r| oid(r.id.0) == role);
        role.map_or("", |r| r.name.as_str())
    }

    /// The items of the database, with the names of their schemas, by id.
    pub(super) fn items(&self) -> impl Iterator<Item = (&'a Schema, &'a Item)> + use<'a> {
        let catalog: &'a Catalog = self.catalog;
        let database = catalog.database_by_name(self.database).map(|d| d.id);
        catalog.items.values().filter_map(move |item| {
            let schema = catalog.schemas.get(&item.schema)?;
            (Some(schema.database) == database).then_some((&**schema, &**item))
        })
    }

    /// Everything that `pg_class` lists.
    pub(super) fn objects(&self) -> Vec<Object<'a>> {
        let mut objects: Vec<Object<'a>> = all().iter().map(Object::builtin).collect();
        objects.extend(self.user_objects());
        objects
    }

    pub(super) fn user_objects(&self) -> Vec<Object<'a>> {
        let mut objects = vec![];
        for (schema, item) in self.items() {
            objects.push(Object::new(
                schema,
                item,
                oid(item.id.0),
                &item.name,
                Kind::Item(item),
            ));
            for key in keys_of(item) {
                objects.push(Object::new(
                    schema,
                    item,
                    oid(key.id.0),
                    &key.name,
                    Kind::Key(item, key),
                ));
            }
        }
        objects
    }

    /// Tables, views, materialized views and sources of users.
    pub(super) fn user_relations(&self) -> impl Iterator<Item = (Object<'a>, &'a Item)> + use<'a> {
        self.user_objects()
            .into_iter()
            .filter_map(|object| match object.kind {
                Kind::Item(item) if !matches!(item.kind, ItemKind::Index(_)) => {
                    Some((object, item))
                }
                Kind::Item(_) | Kind::Builtin(_) | Kind::Key(..) => None,
            })
    }

    pub(super) fn indexes(&self) -> Vec<IndexInfo<'a>> {
        self.user_objects()
            .into_iter()
            .filter_map(|object| object.index(self.catalog))
            .collect()
    }
}

/// The key constraints of a table; none for anything else.
pub(super) fn keys_of(item: &Item) -> &[KeyConstraint] {
    match &item.kind {
        ItemKind::Table(Table { keys, .. }) => keys,
        ItemKind::View(_)
        | ItemKind::MaterializedView(_)
        | ItemKind::Index(_)
        | ItemKind::Source(_) => &[],
    }
}

impl<'a> Object<'a> {
    fn new(schema: &'a Schema, item: &Item, id: u32, name: &'a str, kind: Kind<'a>) -> Object<'a> {
        Object {
            oid: id,
            schema: oid(schema.id.0),
            schema_name: &schema.name,
            name,
            owner: oid(item.owner.0),
            kind,
        }
    }

    fn builtin(relation: &'static BuiltinRelation) -> Object<'a> {
        Object {
            oid: relation.id.oid(),
            schema: schema_oid(relation.schema).unwrap_or(0),
            schema_name: relation.schema,
            name: relation.name,
            owner: SYSTEM_OWNER,
            kind: Kind::Builtin(relation),
        }
    }

    /// `pg_class.relkind`.
    pub fn relkind(&self) -> &'static str {
        match self.kind {
            Kind::Builtin(relation) if relation.kind == 'v' => "v",
            Kind::Builtin(_) => "r",
            Kind::Key(..) => "i",
            Kind::Item(item) => match item.kind {
                ItemKind::Table(_) | ItemKind::Source(_) => "r",
                ItemKind::View(_) => "v",
                ItemKind::MaterializedView(_) => "m",
                ItemKind::Index(_) => "i",
            },
        }
    }

    pub fn is_user(&self) -> bool {
        !matches!(self.kind, Kind::Builtin(_))
    }

    pub fn index(self, catalog: &'a Catalog) -> Option<IndexInfo<'a>> {
        match self.kind {
            Kind::Builtin(_) => None,
            Kind::Key(table, constraint) => {
                let columns = table.columns().unwrap_or_default();
                let keys = constraint
                    .columns
                    .iter()
                    .map(|c| (Some(*c), crate::names::quote(&columns[*c].name)))
                    .collect();
                Some(IndexInfo {
                    object: self,
                    table,
                    constraint: Some(constraint),
                    keys,
                })
            }
            Kind::Item(item) => match &item.kind {
                ItemKind::Index(index) => {
                    let keys = index
                        .keys
                        .iter()
                        .map(|k| (k.column, k.sql.clone()))
                        .collect();
                    let table = catalog.item(index.on)?;
                    Some(IndexInfo {
                        object: self,
                        table,
                        constraint: None,
                        keys,
                    })
                }
                ItemKind::Table(_)
                | ItemKind::View(_)
                | ItemKind::MaterializedView(_)
                | ItemKind::Source(_) => None,
            },
        }
    }

    pub fn columns(&self, catalog: &'a Catalog) -> Vec<ObjectColumn<'a>> {
        match self.kind {
            Kind::Builtin(relation) => relation
                .desc
                .columns()
                .map(|(name, ty)| ObjectColumn {
                    name,
                    ty: ty.ty.clone(),
                    nullable: ty.nullable,
                    default: None,
                })
                .collect(),
            Kind::Key(table, key) => {
                let columns = relation_columns(table);
                key.columns
                    .iter()
                    .map(|c| ObjectColumn {
                        default: None,
                        ..columns[*c].clone()
                    })
                    .collect()
            }
            Kind::Item(item) => match &item.kind {
                ItemKind::Index(index) => index_columns(catalog, index),
                ItemKind::Table(_)
                | ItemKind::View(_)
                | ItemKind::MaterializedView(_)
                | ItemKind::Source(_) => relation_columns(item),
            },
        }
    }
}

/// The columns of a relation that a user has made; none for an index.
pub(super) fn relation_columns(item: &Item) -> Vec<ObjectColumn<'_>> {
    let default_of = |column: usize| match &item.kind {
        ItemKind::Table(table) => table
            .defaults
            .iter()
            .find(|d| d.column == column)
            .map(|d| d.sql.as_str()),
        ItemKind::View(_)
        | ItemKind::MaterializedView(_)
        | ItemKind::Index(_)
        | ItemKind::Source(_) => None,
    };
    // PostgreSQL keeps NOT NULL of tables only; a query's column is just a value.
    let constrained = matches!(item.kind, ItemKind::Table(_) | ItemKind::Source(_));
    let columns = item.columns().unwrap_or_default().iter().enumerate();
    columns
        .map(|(i, c)| ObjectColumn {
            name: &c.name,
            ty: c.ty.clone(),
            nullable: c.nullable || !constrained,
            default: default_of(i),
        })
        .collect()
}

fn index_columns<'a>(catalog: &'a Catalog, index: &'a Index) -> Vec<ObjectColumn<'a>> {
    let Some(on) = catalog.item(index.on) else {
        return vec![];
    };
    let columns = relation_columns(on);
    let types: Vec<ColumnType> = columns
        .iter()
        .map(|c| ColumnType::new(c.ty.clone(), true))
        .collect();
    let key = |key: &'a state::catalog::IndexKey| match key.column.and_then(|c| columns.get(c)) {
        Some(column) => ObjectColumn {
            default: None,
            ..column.clone()
        },
        None => {
            let planned = crate::statement::plan_stored_expr(catalog, index.on, &key.sql);
            let ty = planned.map_or(SqlType::Text, |e| e.typ(&types).ty);
            ObjectColumn {
                name: "expr",
                ty,
                nullable: true,
                default: None,
            }
        }
    };
    index.keys.iter().map(key).collect()
}
