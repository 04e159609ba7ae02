//! pg_index, pg_constraint, pg_depend.

use super::class::defaults;
use super::object::{IndexInfo, oid};
use super::table::{Table, array, attribute_number, vector};
use super::type_info::{collation, operator_class};
use super::{BuiltinCtx, lookup};
use crate::session::PG_CATALOG;
use repr::{Datum, RowArena};
use state::catalog::{ItemKind, KeyConstraintKind};

pub(super) fn pg_index(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    let arena = RowArena::new();
    for index in ctx.indexes() {
        let columns = index.object.columns(ctx.catalog);
        let count = Datum::Int16(i16::try_from(columns.len()).unwrap_or(i16::MAX));
        let unique = index.constraint.is_some();
        let primary = index
            .constraint
            .is_some_and(|c| c.kind == KeyConstraintKind::Primary);
        // An expression has attribute number 0.
        let numbers = index
            .keys
            .iter()
            .map(|(column, _)| Datum::Int16(column.map_or(0, attribute_number)));
        let expressions: Vec<&str> = index
            .keys
            .iter()
            .filter(|(column, _)| column.is_none())
            .map(|(_, sql)| sql.as_str())
            .collect();
        let expressions = expressions.join(", ");
        table.add(&[
            ("indexrelid", Datum::Oid(index.object.oid)),
            ("indrelid", Datum::Oid(oid(index.table.id.0))),
            ("indnatts", count),
            ("indnkeyatts", count),
            ("indisunique", Datum::Bool(unique)),
            ("indisprimary", Datum::Bool(primary)),
            ("indimmediate", Datum::TRUE),
            ("indisvalid", Datum::TRUE),
            ("indisready", Datum::TRUE),
            ("indislive", Datum::TRUE),
            ("indkey", vector(numbers, &arena)),
            (
                "indcollation",
                vector(columns.iter().map(|c| Datum::Oid(collation(&c.ty))), &arena),
            ),
            (
                "indclass",
                vector(
                    columns.iter().map(|c| Datum::Oid(operator_class(&c.ty))),
                    &arena,
                ),
            ),
            (
                "indoption",
                vector(columns.iter().map(|_| Datum::Int16(0)), &arena),
            ),
            (
                "indexprs",
                if expressions.is_empty() {
                    Datum::Null
                } else {
                    Datum::String(&expressions)
                },
            ),
        ]);
    }
}

pub(super) fn pg_constraint(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    let (indexes, arena) = (ctx.indexes(), RowArena::new());
    for IndexInfo {
        object,
        table: on,
        constraint,
        ..
    } in &indexes
    {
        let Some(constraint) = constraint else {
            continue;
        };
        let kind = match constraint.kind {
            KeyConstraintKind::Primary => "p",
            KeyConstraintKind::Unique => "u",
        };
        table.add(&[
            ("oid", Datum::Oid(object.oid)),
            ("conname", Datum::String(object.name)),
            ("connamespace", Datum::Oid(object.schema)),
            ("contype", Datum::String(kind)),
            ("convalidated", Datum::TRUE),
            ("conrelid", Datum::Oid(oid(on.id.0))),
            ("conindid", Datum::Oid(object.oid)),
            ("confupdtype", Datum::String(" ")),
            ("confdeltype", Datum::String(" ")),
            ("confmatchtype", Datum::String(" ")),
            ("conislocal", Datum::TRUE),
            ("connoinherit", Datum::TRUE),
            (
                "conkey",
                array(
                    constraint
                        .columns
                        .iter()
                        .map(|c| Datum::Int16(attribute_number(*c))),
                    &arena,
                ),
            ),
        ]);
    }
}

/// A row of pg_depend: the dependent object and its catalog, what it refers to, and how.
type Dependency = ((&'static str, u32), (&'static str, u32, i16), &'static str);

fn dependencies(ctx: &BuiltinCtx<'_>) -> Vec<Dependency> {
    let mut found: Vec<Dependency> = vec![];
    for (object, item) in ctx.user_relations() {
        if matches!(item.kind, ItemKind::View(_) | ItemKind::MaterializedView(_)) {
            found.push((("pg_rewrite", object.oid), ("pg_class", object.oid, 0), "i"));
            let inputs = item.depends_on.iter();
            found.extend(
                inputs.map(|id| (("pg_rewrite", object.oid), ("pg_class", oid(id.0), 0), "n")),
            );
        }
    }
    for IndexInfo {
        object,
        table,
        constraint,
        keys,
    } in ctx.indexes()
    {
        let on = oid(table.id.0);
        let dependent = match constraint {
            Some(_) => {
                found.push((
                    ("pg_class", object.oid),
                    ("pg_constraint", object.oid, 0),
                    "i",
                ));
                ("pg_constraint", object.oid)
            }
            None => ("pg_class", object.oid),
        };
        let columns = keys
            .iter()
            .map(|(column, _)| column.map_or(0, attribute_number));
        found.extend(columns.map(|number| (dependent, ("pg_class", on, number), "a")));
    }
    for (id, relation, number, _) in defaults(ctx) {
        found.push((("pg_attrdef", id), ("pg_class", relation, number), "a"));
    }
    found
}

pub(super) fn pg_depend(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    let class = |name| Datum::Oid(lookup(PG_CATALOG, name).map_or(0, |r| r.id.oid()));
    for ((class_name, object), (on_class, on, number), kind) in dependencies(ctx) {
        table.add(&[
            ("classid", class(class_name)),
            ("objid", Datum::Oid(object)),
            ("refclassid", class(on_class)),
            ("refobjid", Datum::Oid(on)),
            ("refobjsubid", Datum::Int32(i32::from(number))),
            ("deptype", Datum::String(kind)),
        ]);
    }
}
