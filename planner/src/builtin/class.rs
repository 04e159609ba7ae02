//! pg_class, pg_attribute, pg_attrdef, pg_rewrite.

use super::BuiltinCtx;
use super::object::{Kind, Object, keys_of};
use super::sql_text::view_definition;
use super::table::{Table, attribute_number};
use super::type_info::{BTREE, HEAP, collation, storage};
use repr::Datum;
use state::catalog::ItemKind;

pub(super) fn pg_class(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for object in ctx.objects() {
        let kind = object.relkind();
        let columns = object.columns(ctx.catalog).len();
        let access = match kind {
            "r" | "m" => HEAP,
            "i" => BTREE,
            _ => 0,
        };
        table.add(&[
            ("oid", Datum::Oid(object.oid)),
            ("relname", Datum::String(object.name)),
            ("relnamespace", Datum::Oid(object.schema)),
            ("relowner", Datum::Oid(object.owner)),
            ("relam", Datum::Oid(access)),
            (
                "relfilenode",
                Datum::Oid(if kind == "v" { 0 } else { object.oid }),
            ),
            // Row counts are not kept: PostgreSQL's "never analyzed".
            ("reltuples", Datum::Float32(-1.0)),
            ("relhasindex", Datum::Bool(has_index(ctx, &object))),
            ("relpersistence", Datum::String("p")),
            ("relkind", Datum::String(kind)),
            (
                "relnatts",
                Datum::Int16(i16::try_from(columns).unwrap_or(i16::MAX)),
            ),
            ("relhasrules", Datum::Bool(matches!(kind, "v" | "m"))),
            ("relispopulated", Datum::TRUE),
            (
                "relreplident",
                Datum::String(if object.is_user() && matches!(kind, "r" | "m") {
                    "d"
                } else {
                    "n"
                }),
            ),
        ]);
    }
}

pub(super) fn has_index(ctx: &BuiltinCtx<'_>, object: &Object<'_>) -> bool {
    match object.kind {
        Kind::Item(item) => {
            !keys_of(item).is_empty() || ctx.catalog.indexes_on(item.id).next().is_some()
        }
        Kind::Builtin(_) | Kind::Key(..) => false,
    }
}

pub(super) fn pg_attribute(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for object in ctx.objects() {
        for (i, column) in object.columns(ctx.catalog).iter().enumerate() {
            let storage = storage(&column.ty);
            let dims = i32::from(column.ty.category() == 'A');
            table.add(&[
                ("attrelid", Datum::Oid(object.oid)),
                ("attname", Datum::String(column.name)),
                ("atttypid", Datum::Oid(column.ty.oid())),
                ("attstattarget", Datum::Int32(-1)),
                ("attlen", Datum::Int16(column.ty.typlen())),
                ("attnum", Datum::Int16(attribute_number(i))),
                ("attndims", Datum::Int32(dims)),
                ("attcacheoff", Datum::Int32(-1)),
                ("atttypmod", Datum::Int32(column.ty.typmod())),
                ("attbyval", Datum::Bool(storage.by_value)),
                ("attalign", Datum::String(storage.align)),
                ("attstorage", Datum::String(storage.storage)),
                ("attnotnull", Datum::Bool(!column.nullable)),
                ("atthasdef", Datum::Bool(column.default.is_some())),
                ("attislocal", Datum::TRUE),
                ("attcollation", Datum::Oid(collation(&column.ty))),
            ]);
        }
    }
}

/// OIDs of defaults: objects of their own in PostgreSQL, parts of a table here. Numbered above all other objects.
const FIRST_DEFAULT: u32 = 1 << 31;

/// (OID of the default, OID of the table, attribute number, SQL).
pub(super) fn defaults<'a>(ctx: &BuiltinCtx<'a>) -> Vec<(u32, u32, i16, &'a str)> {
    let mut found = vec![];
    for (object, item) in ctx.user_relations() {
        if let ItemKind::Table(table) = &item.kind {
            for default in &table.defaults {
                let id = FIRST_DEFAULT + found.len() as u32;
                found.push((
                    id,
                    object.oid,
                    attribute_number(default.column),
                    default.sql.as_str(),
                ));
            }
        }
    }
    found
}

pub(super) fn pg_attrdef(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for (id, relation, number, sql) in defaults(ctx) {
        table.add(&[
            ("oid", Datum::Oid(id)),
            ("adrelid", Datum::Oid(relation)),
            ("adnum", Datum::Int16(number)),
            ("adbin", Datum::String(sql)),
        ]);
    }
}

/// A view is a rule in PostgreSQL; here it has the OID of its view.
pub(super) fn pg_rewrite(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for (object, item) in ctx.user_relations() {
        let Some(query) = view_definition(item) else {
            continue;
        };
        table.add(&[
            ("oid", Datum::Oid(object.oid)),
            ("rulename", Datum::String("_RETURN")),
            ("ev_class", Datum::Oid(object.oid)),
            ("ev_type", Datum::String("1")),
            ("ev_enabled", Datum::String("O")),
            ("is_instead", Datum::TRUE),
            ("ev_action", Datum::String(&query)),
        ]);
    }
}
