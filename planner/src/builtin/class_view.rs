//! PostgreSQL's readable views of pg_class: pg_tables, pg_views, pg_matviews, pg_indexes, pg_stat_user_indexes.

use super::BuiltinCtx;
use super::class::has_index;
use super::object::{Kind, oid};
use super::sql_text::{index_definition, view_definition};
use super::table::Table;
use repr::Datum;
use state::catalog::ItemKind;

pub(super) fn pg_tables(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for object in ctx.objects().iter().filter(|o| o.relkind() == "r") {
        table.add(&[
            ("schemaname", Datum::String(object.schema_name)),
            ("tablename", Datum::String(object.name)),
            ("tableowner", Datum::String(ctx.role_name(object.owner))),
            ("hasindexes", Datum::Bool(has_index(ctx, object))),
            ("hasrules", Datum::FALSE),
            ("hastriggers", Datum::FALSE),
            ("rowsecurity", Datum::FALSE),
        ]);
    }
}

/// The definition of a built-in view is code, which is not shown.
pub(super) fn pg_views(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for object in ctx.objects().iter().filter(|o| o.relkind() == "v") {
        let definition = match object.kind {
            Kind::Item(item) => view_definition(item),
            Kind::Builtin(_) | Kind::Key(..) => None,
        };
        table.add(&[
            ("schemaname", Datum::String(object.schema_name)),
            ("viewname", Datum::String(object.name)),
            ("viewowner", Datum::String(ctx.role_name(object.owner))),
            (
                "definition",
                definition.as_deref().map_or(Datum::Null, Datum::String),
            ),
        ]);
    }
}

pub(super) fn pg_matviews(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for (object, item) in ctx.user_relations() {
        if !matches!(item.kind, ItemKind::MaterializedView(_)) {
            continue;
        }
        let definition = view_definition(item).unwrap_or_default();
        table.add(&[
            ("schemaname", Datum::String(object.schema_name)),
            ("matviewname", Datum::String(object.name)),
            ("matviewowner", Datum::String(ctx.role_name(object.owner))),
            ("hasindexes", Datum::Bool(has_index(ctx, &object))),
            ("ispopulated", Datum::TRUE),
            ("definition", Datum::String(&definition)),
        ]);
    }
}

pub(super) fn pg_indexes(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for index in ctx.indexes() {
        let definition = index_definition(&index);
        table.add(&[
            ("schemaname", Datum::String(index.object.schema_name)),
            ("tablename", Datum::String(&index.table.name)),
            ("indexname", Datum::String(index.object.name)),
            ("indexdef", Datum::String(&definition)),
        ]);
    }
}

/// How often an index is used is not counted.
pub(super) fn pg_stat_user_indexes(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for index in ctx.indexes() {
        table.add(&[
            ("relid", Datum::Oid(oid(index.table.id.0))),
            ("indexrelid", Datum::Oid(index.object.oid)),
            ("schemaname", Datum::String(index.object.schema_name)),
            ("relname", Datum::String(&index.table.name)),
            ("indexrelname", Datum::String(index.object.name)),
        ]);
    }
}
