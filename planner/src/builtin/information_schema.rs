//! information_schema.

use super::BuiltinCtx;
use super::object::{IndexInfo, Object};
use super::sql_text::view_definition;
use super::table::{Table, yes_or_no};
use repr::{Datum, NumericTypmod, SqlType};
use state::catalog::{ItemKind, KeyConstraintKind};

/// Relations that are not listed here describe objects that do not exist in this system; they are empty.
pub(super) fn fill(name: &str, ctx: &BuiltinCtx<'_>, table: &mut Table) {
    match name {
        "tables" => tables(ctx, table),
        "columns" => columns(ctx, table),
        "schemata" => schemata(ctx, table),
        "views" => views(ctx, table),
        "table_constraints" => table_constraints(ctx, table),
        "key_column_usage" => key_columns(ctx, table, true),
        "constraint_column_usage" => key_columns(ctx, table, false),
        _ => {}
    }
}

/// Tables and views: the standard knows neither indexes nor materialized views.
fn standard_relations<'a>(ctx: &BuiltinCtx<'a>) -> impl Iterator<Item = Object<'a>> {
    ctx.objects()
        .into_iter()
        .filter(|o| matches!(o.relkind(), "r" | "v"))
}

/// Whether rows can be inserted.
fn is_writable(object: &Object<'_>) -> bool {
    match object.kind {
        super::object::Kind::Item(item) => matches!(item.kind, ItemKind::Table(_)),
        super::object::Kind::Builtin(_) | super::object::Kind::Key(..) => false,
    }
}

fn tables(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for object in standard_relations(ctx) {
        let kind = if object.relkind() == "v" {
            "VIEW"
        } else {
            "BASE TABLE"
        };
        table.add(&[
            ("table_catalog", Datum::String(ctx.database)),
            ("table_schema", Datum::String(object.schema_name)),
            ("table_name", Datum::String(object.name)),
            ("table_type", Datum::String(kind)),
            ("is_insertable_into", yes_or_no(is_writable(&object))),
            ("is_typed", yes_or_no(false)),
        ]);
    }
}

fn views(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for (object, item) in ctx.user_relations().filter(|(o, _)| o.relkind() == "v") {
        let definition = view_definition(item);
        table.add(&[
            ("table_catalog", Datum::String(ctx.database)),
            ("table_schema", Datum::String(object.schema_name)),
            ("table_name", Datum::String(object.name)),
            (
                "view_definition",
                definition.as_deref().map_or(Datum::Null, Datum::String),
            ),
            ("check_option", Datum::String("NONE")),
            ("is_updatable", yes_or_no(false)),
            ("is_insertable_into", yes_or_no(false)),
            ("is_trigger_updatable", yes_or_no(false)),
            ("is_trigger_deletable", yes_or_no(false)),
            ("is_trigger_insertable_into", yes_or_no(false)),
        ]);
    }
}

fn schemata(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for (_, name, owner) in ctx.namespaces() {
        table.add(&[
            ("catalog_name", Datum::String(ctx.database)),
            ("schema_name", Datum::String(name)),
            ("schema_owner", Datum::String(ctx.role_name(owner))),
        ]);
    }
}

fn columns(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for object in standard_relations(ctx) {
        for (column, number) in object.columns(ctx.catalog).iter().zip(1..) {
            let identifier = number.to_string();
            let (type_name, data_type) = (column.ty.typname(), data_type(&column.ty));
            let measures = Measures::of(&column.ty);
            let count = |n: Option<i32>| n.map_or(Datum::Null, Datum::Int32);
            table.add(&[
                ("table_catalog", Datum::String(ctx.database)),
                ("table_schema", Datum::String(object.schema_name)),
                ("table_name", Datum::String(object.name)),
                ("column_name", Datum::String(column.name)),
                ("ordinal_position", Datum::Int32(number)),
                (
                    "column_default",
                    column.default.map_or(Datum::Null, Datum::String),
                ),
                ("is_nullable", yes_or_no(column.nullable)),
                ("data_type", Datum::String(&data_type)),
                ("character_maximum_length", count(measures.characters)),
                ("character_octet_length", count(measures.bytes)),
                ("numeric_precision", count(measures.precision)),
                ("numeric_precision_radix", count(measures.radix)),
                ("numeric_scale", count(measures.scale)),
                ("datetime_precision", count(measures.subsecond)),
                ("udt_catalog", Datum::String(ctx.database)),
                ("udt_schema", Datum::String("pg_catalog")),
                ("udt_name", Datum::String(&type_name)),
                ("dtd_identifier", Datum::String(&identifier)),
                ("is_self_referencing", yes_or_no(false)),
                ("is_identity", yes_or_no(false)),
                ("identity_cycle", yes_or_no(false)),
                ("is_generated", Datum::String("NEVER")),
                ("is_updatable", yes_or_no(is_writable(&object))),
            ]);
        }
    }
}

fn data_type(ty: &SqlType) -> String {
    match ty {
        SqlType::Array(_) | SqlType::Int2Vector | SqlType::OidVector => "ARRAY".to_owned(),
        other => other.base_name(),
    }
}

/// The sizes of a type, as the standard measures them.
#[derive(Default)]
struct Measures {
    characters: Option<i32>,
    bytes: Option<i32>,
    precision: Option<i32>,
    radix: Option<i32>,
    scale: Option<i32>,
    subsecond: Option<i32>,
}

impl Measures {
    fn of(ty: &SqlType) -> Measures {
        let binary = |bits: i32, scale: Option<i32>| Measures {
            precision: Some(bits),
            radix: Some(2),
            scale,
            ..Measures::default()
        };
        let time = |digits: Option<u8>| Measures {
            subsecond: Some(digits.map_or(6, i32::from)),
            ..Measures::default()
        };
        match ty {
            SqlType::Int16 => binary(16, Some(0)),
            SqlType::Int32 => binary(32, Some(0)),
            SqlType::Int64 => binary(64, Some(0)),
            SqlType::Float32 => binary(24, None),
            SqlType::Float64 => binary(53, None),
            SqlType::Numeric(typmod) => Measures {
                precision: typmod.map(|NumericTypmod { precision, .. }| i32::from(precision)),
                radix: Some(10),
                scale: typmod.map(|NumericTypmod { scale, .. }| i32::from(scale)),
                ..Measures::default()
            },
            // A character has up to 4 bytes; without a limit of its own a string is limited by the size of a value.
            SqlType::Varchar(length) | SqlType::Char(length) => {
                let characters = length.and_then(|n| i32::try_from(n).ok());
                let bytes = characters.map_or(1 << 30, |n| n.saturating_mul(4));
                Measures {
                    characters,
                    bytes: Some(bytes),
                    ..Measures::default()
                }
            }
            SqlType::Text => Measures {
                bytes: Some(1 << 30),
                ..Measures::default()
            },
            SqlType::Date => Measures {
                subsecond: Some(0),
                ..Measures::default()
            },
            SqlType::Time | SqlType::Interval => time(None),
            SqlType::Timestamp(digits) | SqlType::TimestampTz(digits) => time(*digits),
            _ => Measures::default(),
        }
    }
}

fn table_constraints(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for IndexInfo {
        object,
        table: on,
        constraint,
        ..
    } in ctx.indexes()
    {
        let Some(constraint) = constraint else {
            continue;
        };
        let (kind, nulls) = match constraint.kind {
            KeyConstraintKind::Primary => ("PRIMARY KEY", Datum::Null),
            KeyConstraintKind::Unique => ("UNIQUE", yes_or_no(true)),
        };
        table.add(&[
            ("constraint_catalog", Datum::String(ctx.database)),
            ("constraint_schema", Datum::String(object.schema_name)),
            ("constraint_name", Datum::String(object.name)),
            ("table_catalog", Datum::String(ctx.database)),
            ("table_schema", Datum::String(object.schema_name)),
            ("table_name", Datum::String(&on.name)),
            ("constraint_type", Datum::String(kind)),
            ("is_deferrable", yes_or_no(false)),
            ("initially_deferred", yes_or_no(false)),
            ("enforced", yes_or_no(true)),
            ("nulls_distinct", nulls),
        ]);
    }
}

/// key_column_usage (with positions) and constraint_column_usage.
fn key_columns(ctx: &BuiltinCtx<'_>, table: &mut Table, positions: bool) {
    for IndexInfo {
        object,
        table: on,
        constraint,
        ..
    } in ctx.indexes()
    {
        let Some(constraint) = constraint else {
            continue;
        };
        let columns = on.columns().unwrap_or_default();
        for (column, position) in constraint.columns.iter().zip(1..) {
            let mut values = vec![
                ("constraint_catalog", Datum::String(ctx.database)),
                ("constraint_schema", Datum::String(object.schema_name)),
                ("constraint_name", Datum::String(object.name)),
                ("table_catalog", Datum::String(ctx.database)),
                ("table_schema", Datum::String(object.schema_name)),
                ("table_name", Datum::String(&on.name)),
                ("column_name", Datum::String(&columns[*column].name)),
            ];
            if positions {
                values.push(("ordinal_position", Datum::Int32(position)));
            }
            table.add(&values);
        }
    }
}
