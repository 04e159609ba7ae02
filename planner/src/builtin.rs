//! Relations that are part of the program, and the functions that look into the catalog.
//!
//! A built-in relation is a definition in `definitions` and, if it has rows, a function that makes them from the catalog when it is
//! read: [`rows`]. Those that only a session or a node can fill (`pg_settings`, `mz_frontiers`, most of `mz_internal`) are filled by
//! their reader, with [`Table`].

mod class;
mod class_view;
mod constraint;
mod definitions;
mod environment;
mod functions;
mod information_schema;
mod mz_catalog;
mod mz_internal;
mod object;
mod proc;
mod sql_text;
mod table;
mod type_info;

pub use functions::CatalogFunctions;
pub use table::Table;

use crate::session::{INFORMATION_SCHEMA, MZ_CATALOG, MZ_INTERNAL, PG_CATALOG};
use repr::{GlobalId, RelationDesc, Row, SqlType};
use state::{Catalog, State};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A relation of `pg_catalog`, `information_schema` or this system's own schemas. Its rows are made from the catalog when it is read.
#[derive(Debug)]
pub struct BuiltinRelation {
    /// Fixed; PostgreSQL's OID where PostgreSQL has the relation and fixes it.
    pub id: GlobalId,
    pub schema: &'static str,
    pub name: &'static str,
    /// `r` for a table, `v` for a view, as PostgreSQL has it.
    pub kind: char,
    pub desc: RelationDesc,
}

/// What the rows of built-in relations are made from: one catalog, seen from one database.
#[derive(Clone, Copy, Debug)]
pub struct BuiltinCtx<'a> {
    pub catalog: &'a Catalog,
    pub database: &'a str,
    /// What is not of the catalog: nodes, placements, holds. Without it, relations about these are empty.
    pub state: Option<&'a State>,
}

/// The OID of a built-in schema.
pub fn schema_oid(schema: &str) -> Option<u32> {
    Some(match schema {
        PG_CATALOG => 11,
        INFORMATION_SCHEMA => 12990,
        MZ_CATALOG => 12991,
        MZ_INTERNAL => 12992,
        _ => return None,
    })
}

/// The built-in relation of this schema and name.
pub fn lookup(schema: &str, name: &str) -> Option<&'static BuiltinRelation> {
    let position = registry()
        .by_name
        .get(name)?
        .iter()
        .find(|i| all()[**i].schema == schema)?;
    Some(&all()[*position])
}

/// The built-in relation of this id.
pub fn by_id(id: GlobalId) -> Option<&'static BuiltinRelation> {
    registry().by_id.get(&id).map(|i| &all()[*i])
}

/// All built-in relations.
pub fn all() -> &'static [BuiltinRelation] {
    &registry().relations
}

struct Registry {
    relations: Vec<BuiltinRelation>,
    by_id: BTreeMap<GlobalId, usize>,
    by_name: BTreeMap<&'static str, Vec<usize>>,
}

fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let schemas = [
            (PG_CATALOG, definitions::PG_CATALOG),
            (INFORMATION_SCHEMA, definitions::INFORMATION_SCHEMA),
            (MZ_CATALOG, definitions::MZ_CATALOG),
            (MZ_INTERNAL, definitions::MZ_INTERNAL),
        ];
        let relations: Vec<BuiltinRelation> = schemas
            .into_iter()
            .flat_map(|(schema, text)| parse(schema, text))
            .collect();
        let mut by_name = BTreeMap::<_, Vec<usize>>::new();
        for (i, relation) in relations.iter().enumerate() {
            by_name.entry(relation.name).or_default().push(i);
        }
        let by_id = relations
            .iter()
            .enumerate()
            .map(|(i, r)| (r.id, i))
            .collect();
        Registry {
            relations,
            by_id,
            by_name,
        }
    })
}

fn parse(schema: &'static str, text: &'static str) -> Vec<BuiltinRelation> {
    let mut relations: Vec<BuiltinRelation> = vec![];
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let fail = || -> ! { panic!("bad line in a definition: {line}") };
        if line.starts_with(' ') {
            let Some(relation) = relations.last_mut() else {
                fail()
            };
            for column in line.split(',').map(str::trim).filter(|c| !c.is_empty()) {
                let Some((name, ty)) = column.split_once(' ') else {
                    fail()
                };
                let nullable = ty.ends_with('?');
                let Some(ty) = SqlType::from_typname(ty.trim_end_matches('?')) else {
                    fail()
                };
                relation.desc.push(name, ty.nullable(nullable));
            }
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(Ok(oid)), Some(kind), Some(name)) =
            (words.next().map(str::parse), words.next(), words.next())
        else {
            fail()
        };
        let kind = if kind == "v" { 'v' } else { 'r' };
        relations.push(BuiltinRelation {
            id: GlobalId(oid),
            schema,
            name,
            kind,
            desc: RelationDesc::empty(),
        });
    }
    for relation in &mut relations {
        // A first column of this name numbers the relation's objects.
        if relation.desc.names.first().is_some_and(|n| n == "oid") {
            relation.desc.keys.push(vec![0]);
        }
    }
    relations
}

/// The rows of a built-in relation. `None` if there is no such relation, or only a session can know its rows.
pub fn rows(id: GlobalId, ctx: &BuiltinCtx<'_>) -> Option<Vec<Row>> {
    let relation = by_id(id)?;
    let mut table = Table::new(relation);
    match (relation.schema, relation.name) {
        (PG_CATALOG, "pg_settings" | "pg_stat_activity") | (MZ_CATALOG, "mz_frontiers") => {
            return None;
        }
        (MZ_INTERNAL, name) if !mz_internal::fill(name, ctx, &mut table) => return None,
        (MZ_INTERNAL, _) => {}
        (PG_CATALOG, name) => pg_catalog(name, ctx, &mut table),
        (INFORMATION_SCHEMA, name) => information_schema::fill(name, ctx, &mut table),
        (_, name) => mz_catalog::fill(name, ctx, &mut table),
    }
    Some(table.into_rows())
}

/// Relations that are not listed here describe objects that do not exist in this system; they are empty.
fn pg_catalog(name: &str, ctx: &BuiltinCtx<'_>, table: &mut Table) {
    match name {
        "pg_class" => class::pg_class(ctx, table),
        "pg_attribute" => class::pg_attribute(ctx, table),
        "pg_attrdef" => class::pg_attrdef(ctx, table),
        "pg_rewrite" => class::pg_rewrite(ctx, table),
        "pg_index" => constraint::pg_index(ctx, table),
        "pg_constraint" => constraint::pg_constraint(ctx, table),
        "pg_depend" => constraint::pg_depend(ctx, table),
        "pg_tables" => class_view::pg_tables(ctx, table),
        "pg_views" => class_view::pg_views(ctx, table),
        "pg_matviews" => class_view::pg_matviews(ctx, table),
        "pg_indexes" => class_view::pg_indexes(ctx, table),
        "pg_stat_user_indexes" => class_view::pg_stat_user_indexes(ctx, table),
        "pg_type" => type_info::pg_type(table),
        "pg_opclass" => type_info::pg_opclass(table),
        "pg_opfamily" => type_info::pg_opfamily(table),
        "pg_collation" => type_info::pg_collation(table),
        "pg_am" => type_info::pg_am(table),
        "pg_language" => type_info::pg_language(table),
        "pg_proc" => proc::pg_proc(table),
        "pg_namespace" => environment::pg_namespace(ctx, table),
        "pg_database" => environment::pg_database(ctx, table),
        "pg_roles" => environment::pg_roles(ctx, table),
        "pg_user" => environment::pg_user(ctx, table),
        "pg_tablespace" => environment::pg_tablespace(table),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two relations of one OID would make joins over pg_class wrong.
    #[test]
    fn ids_are_distinct_and_below_those_of_users() {
        assert_eq!(registry().by_id.len(), all().len());
        assert!(all().iter().all(|r| r.id.is_system() && r.desc.arity() > 0));
    }

    /// Whatever a row does not say has a value in every relation.
    #[test]
    fn every_relation_can_have_a_row() {
        for relation in all() {
            let mut table = Table::new(relation);
            table.add(&[]);
            assert_eq!(table.into_rows().len(), 1, "{}", relation.name);
        }
    }
}
