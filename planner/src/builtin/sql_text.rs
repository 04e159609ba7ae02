//! SQL that creates an object again, as PostgreSQL prints it.

use super::object::{IndexInfo, Object};
use crate::names::quote;
use state::catalog::{Item, ItemKind, KeyConstraintKind};

/// `CREATE INDEX`. Indexes here are arrangements; to clients they are what orders and finds by equality: btrees.
pub(super) fn index_definition(index: &IndexInfo<'_>) -> String {
    let unique = if index.constraint.is_some() {
        "UNIQUE "
    } else {
        ""
    };
    let keys: Vec<&str> = index.keys.iter().map(|(_, sql)| sql.as_str()).collect();
    format!(
        "CREATE {unique}INDEX {} ON {}.{} USING btree ({})",
        quote(index.object.name),
        quote(index.object.schema_name),
        quote(&index.table.name),
        keys.join(", ")
    )
}

/// `PRIMARY KEY (a, b)`.
pub(super) fn constraint_definition(index: &IndexInfo<'_>) -> Option<String> {
    let kind = match index.constraint?.kind {
        KeyConstraintKind::Primary => "PRIMARY KEY",
        KeyConstraintKind::Unique => "UNIQUE",
    };
    let keys: Vec<&str> = index.keys.iter().map(|(_, sql)| sql.as_str()).collect();
    Some(format!("{kind} ({})", keys.join(", ")))
}

/// The query of a view or materialized view.
pub(super) fn view_definition(item: &Item) -> Option<String> {
    match &item.kind {
        ItemKind::View(view) => Some(format!("{};", view.query_sql)),
        ItemKind::MaterializedView(view) => Some(format!("{};", view.query_sql)),
        ItemKind::Table(_) | ItemKind::Index(_) | ItemKind::Source(_) => None,
    }
}

/// The rule that PostgreSQL says a view is.
pub(super) fn rule_definition(object: &Object<'_>, item: &Item) -> Option<String> {
    let (schema, name) = (quote(object.schema_name), quote(object.name));
    Some(format!(
        "CREATE RULE \"_RETURN\" AS\n    ON SELECT TO {schema}.{name} DO INSTEAD {}",
        view_definition(item)?
    ))
}
