//! CREATE TABLE.

use super::{CreateItemPlan, ParamTypes, Plan, StatementPlanner};
use crate::ast::position;
use crate::ast::sql::{
    ColumnOption, CreateTable, CreateTableOptions, Expr, Ident, IndexColumn, Spanned,
    TableConstraint,
};
use crate::error::{Notice, PlanError};
use crate::names::{Name, quote};
use crate::parse::fold;
use crate::query::QueryPlanner;
use crate::scope::Scope;
use crate::types::cast::CastContext;
use crate::types::coerce::CoerceError;
use crate::types::resolve_type;
use repr::{GlobalId, SchemaId, ShardId, SqlType};
use state::catalog::{
    Column, ColumnDefault, Item, ItemKind, KeyConstraint, KeyConstraintKind, Table,
};
use std::collections::BTreeSet;

/// A PRIMARY KEY or UNIQUE constraint as written.
struct KeyDraft {
    name: Option<String>,
    kind: KeyConstraintKind,
    columns: Vec<usize>,
}

/// Columns of one table, as in PostgreSQL.
const COLUMNS_MAX: usize = 1600;

impl StatementPlanner<'_> {
    pub(super) fn create_table(&self, create: &CreateTable) -> Result<Plan, PlanError> {
        refuse_extensions(create)?;
        let name = Name::new(&create.name)?;
        let schema = self.session.schema_for(&name)?;
        if let Some(plan) =
            self.check_free(schema.id, &name, create.if_not_exists, "CREATE TABLE")?
        {
            return Ok(plan);
        }
        if create.columns.len() > COLUMNS_MAX {
            return Err(PlanError::new(
                "54011",
                format!("tables can have at most {COLUMNS_MAX} columns"),
            ));
        }
        let mut columns: Vec<Column> = vec![];
        let mut defaults = vec![];
        let mut drafts = vec![];
        for def in &create.columns {
            let column_name = fold(&def.name);
            if columns.iter().any(|c| c.name == column_name) {
                let message = format!("column \"{column_name}\" specified more than once");
                return Err(PlanError::new("42701", message).at(position(def.name.span)));
            }
            if is_serial(&def.data_type) {
                return Err(PlanError::unsupported(format!(
                    "type {}",
                    def.data_type.to_string().to_lowercase()
                ))
                .at(position(def.name.span)));
            }
            let ty = resolve_type(&def.data_type).map_err(|e| e.at(position(def.name.span)))?;
            let index = columns.len();
            columns.push(Column {
                name: column_name,
                ty,
                nullable: true,
            });
            for option in &def.options {
                let constraint = option.name.as_ref().map(fold);
                self.column_option(
                    &option.option,
                    constraint,
                    index,
                    &mut columns,
                    &mut defaults,
                    &mut drafts,
                )?;
            }
        }
        for constraint in &create.constraints {
            drafts.push(table_constraint(constraint, &columns)?);
        }
        if drafts
            .iter()
            .filter(|d| d.kind == KeyConstraintKind::Primary)
            .count()
            > 1
        {
            let message = format!(
                "multiple primary keys for table \"{}\" are not allowed",
                name.name
            );
            return Err(PlanError::new("42P16", message));
        }
        for draft in drafts
            .iter()
            .filter(|d| d.kind == KeyConstraintKind::Primary)
        {
            for column in &draft.columns {
                columns[*column].nullable = false;
            }
        }
        let id = self.session.catalog.next_id;
        let keys = self.name_keys(drafts, schema.id, &name.name, &columns, id + 1);
        let table = Table {
            shard: ShardId(id),
            columns,
            defaults,
            keys,
        };
        let mut item = Item {
            id: GlobalId(id),
            schema: schema.id,
            name: name.name,
            owner: self.session.role()?.id,
            create_sql: String::new(),
            depends_on: BTreeSet::new(),
            version: 1,
            kind: ItemKind::Table(table),
        };
        item.create_sql = super::create_sql(self.session.catalog, &item);
        Ok(Plan::CreateTable(CreateItemPlan {
            item,
            replaces: None,
            notices: vec![],
        }))
    }

    /// An error if the name is taken, or the plan to do nothing if that is wanted.
    pub(super) fn check_free(
        &self,
        schema: SchemaId,
        name: &Name,
        if_not_exists: bool,
        tag: &str,
    ) -> Result<Option<Plan>, PlanError> {
        if self
            .session
            .catalog
            .item_by_name(schema, &name.name)
            .is_none()
        {
            return Ok(None);
        }
        let message = format!("relation \"{}\" already exists", name.name);
        match if_not_exists {
            true => Ok(Some(Plan::NoOp {
                tag: tag.to_owned(),
                notices: vec![Notice::info("42P07", format!("{message}, skipping"))],
            })),
            false => Err(PlanError::new("42P07", message)),
        }
    }

    fn column_option(
        &self,
        option: &ColumnOption,
        constraint: Option<String>,
        index: usize,
        columns: &mut [Column],
        defaults: &mut Vec<ColumnDefault>,
        drafts: &mut Vec<KeyDraft>,
    ) -> Result<(), PlanError> {
        match option {
            ColumnOption::Null | ColumnOption::Collation(_) => {}
            ColumnOption::NotNull => columns[index].nullable = false,
            ColumnOption::Default(expr) => {
                if defaults.iter().any(|d| d.column == index) {
                    let message = format!(
                        "multiple default values specified for column \"{}\"",
                        columns[index].name
                    );
                    return Err(PlanError::new("42601", message));
                }
                if let Some(sql) = self.check_default(expr, &columns[index])? {
                    defaults.push(ColumnDefault { column: index, sql });
                }
            }
            ColumnOption::PrimaryKey(_) => drafts.push(KeyDraft {
                name: constraint,
                kind: KeyConstraintKind::Primary,
                columns: vec![index],
            }),
            ColumnOption::Unique(_) => drafts.push(KeyDraft {
                name: constraint,
                kind: KeyConstraintKind::Unique,
                columns: vec![index],
            }),
            ColumnOption::ForeignKey(_) => {
                return Err(PlanError::unsupported("a FOREIGN KEY constraint"));
            }
            ColumnOption::Check(_) => return Err(PlanError::unsupported("a CHECK constraint")),
            ColumnOption::Generated { .. } => {
                return Err(PlanError::unsupported("a generated column"));
            }
            _ => return Err(PlanError::unsupported("this column option")),
        }
        Ok(())
    }

    /// Checks that the default gives a value of the column's type; `None` for NULL, which is no default.
    fn check_default(&self, expr: &Expr, column: &Column) -> Result<Option<String>, PlanError> {
        let planner = QueryPlanner::new(self.session, ParamTypes::forbidden());
        let typed = planner
            .scalar(expr, &Scope::default(), "DEFAULT expressions")
            .map_err(|e| match (e.sqlstate, expr) {
                ("42703" | "42P01", _) => {
                    PlanError::new("0A000", "cannot use column reference in DEFAULT expression")
                        .at(e.position.unwrap_or(0))
                }
                _ => e,
            })?;
        if typed.expr.has_subquery() {
            return Err(PlanError::new(
                "0A000",
                "cannot use subquery in DEFAULT expression",
            ));
        }
        let found = typed.ty.clone();
        let at = position(expr.span());
        let value = planner
            .coercer()
            .try_coerce(typed, &column.ty, CastContext::Assignment)
            .map_err(|e| match e {
                CoerceError::NoCast { .. } => {
                    let message = format!(
                        "column \"{}\" is of type {} but default expression is of type {}",
                        column.name,
                        column.ty.base_name(),
                        found.base_name()
                    );
                    PlanError::new("42804", message)
                        .at(at)
                        .with_hint("You will need to rewrite or cast the expression.")
                }
                CoerceError::Other(error) => error,
            })?;
        let is_null = matches!(value.as_literal(), Some(repr::Datum::Null));
        Ok((!is_null).then(|| expr.to_string()))
    }

    /// Gives constraints names that nothing else in the schema has, and ids from `next_id` on.
    fn name_keys(
        &self,
        drafts: Vec<KeyDraft>,
        schema: SchemaId,
        table: &str,
        columns: &[Column],
        next_id: u64,
    ) -> Vec<KeyConstraint> {
        let mut taken: BTreeSet<String> = self.taken_names(schema);
        taken.insert(table.to_owned());
        let mut keys = vec![];
        for (i, draft) in drafts.into_iter().enumerate() {
            let wanted = draft.name.unwrap_or_else(|| match draft.kind {
                KeyConstraintKind::Primary => format!("{table}_pkey"),
                KeyConstraintKind::Unique => {
                    let names: Vec<&str> = draft
                        .columns
                        .iter()
                        .map(|c| columns[*c].name.as_str())
                        .collect();
                    format!("{table}_{}_key", names.join("_"))
                }
            });
            let name = unique_name(&wanted, &taken);
            taken.insert(name.clone());
            keys.push(KeyConstraint {
                name,
                id: GlobalId(next_id + i as u64),
                kind: draft.kind,
                columns: draft.columns,
            });
        }
        keys
    }

    /// Names of relations and of key constraints in a schema: they share one name space.
    pub(super) fn taken_names(&self, schema: SchemaId) -> BTreeSet<String> {
        let items = self
            .session
            .catalog
            .items
            .values()
            .filter(|i| i.schema == schema);
        let mut taken = BTreeSet::new();
        for item in items {
            taken.insert(item.name.clone());
            if let ItemKind::Table(table) = &item.kind {
                taken.extend(table.keys.iter().map(|k| k.name.clone()));
            }
        }
        taken
    }
}

/// The name, with a number if it is taken.
pub(super) fn unique_name(wanted: &str, taken: &BTreeSet<String>) -> String {
    let mut name = wanted.to_owned();
    let mut n = 0;
    while taken.contains(&name) {
        n += 1;
        name = format!("{wanted}{n}");
    }
    name
}

fn is_serial(data_type: &crate::ast::sql::DataType) -> bool {
    matches!(
        data_type.to_string().to_lowercase().as_str(),
        "serial" | "bigserial" | "smallserial" | "serial4" | "serial8"
    )
}

fn table_constraint(
    constraint: &TableConstraint,
    columns: &[Column],
) -> Result<KeyDraft, PlanError> {
    let (name, kind, keys) = match constraint {
        TableConstraint::PrimaryKey(key) => (&key.name, KeyConstraintKind::Primary, &key.columns),
        TableConstraint::Unique(key) => (&key.name, KeyConstraintKind::Unique, &key.columns),
        TableConstraint::ForeignKey(_) => {
            return Err(PlanError::unsupported("a FOREIGN KEY constraint"));
        }
        TableConstraint::Check(_) => return Err(PlanError::unsupported("a CHECK constraint")),
        _ => return Err(PlanError::unsupported("this table constraint")),
    };
    let mut positions = vec![];
    for key in keys {
        let ident = index_column(key)?;
        let column = fold(ident);
        let Some(i) = columns.iter().position(|c| c.name == column) else {
            let message = format!("column \"{column}\" named in key does not exist");
            return Err(PlanError::new("42703", message).at(position(ident.span)));
        };
        if positions.contains(&i) {
            let what = match kind {
                KeyConstraintKind::Primary => "primary key",
                KeyConstraintKind::Unique => "unique",
            };
            let message = format!("column \"{column}\" appears twice in {what} constraint");
            return Err(PlanError::new("42701", message).at(position(ident.span)));
        }
        positions.push(i);
    }
    Ok(KeyDraft {
        name: name.as_ref().map(fold),
        kind,
        columns: positions,
    })
}

fn index_column(column: &IndexColumn) -> Result<&Ident, PlanError> {
    match &column.column.expr {
        Expr::Identifier(ident) => Ok(ident),
        other => Err(PlanError::syntax(Some(&other.to_string()))),
    }
}

fn refuse_extensions(create: &CreateTable) -> Result<(), PlanError> {
    let refused: [(bool, &str); 9] = [
        (create.temporary, "a temporary table"),
        (create.query.is_some(), "CREATE TABLE AS"),
        (create.like.is_some(), "CREATE TABLE LIKE"),
        (create.inherits.is_some(), "INHERITS"),
        (
            create.partition_by.is_some() || create.partition_of.is_some(),
            "a partitioned table",
        ),
        (create.or_replace, "CREATE OR REPLACE TABLE"),
        (
            create.external || create.dynamic || create.transient,
            "this kind of table",
        ),
        (
            create.clone.is_some() || create.on_cluster.is_some(),
            "this clause of CREATE TABLE",
        ),
        (
            create.order_by.is_some() || create.primary_key.is_some(),
            "this clause of CREATE TABLE",
        ),
    ];
    if let Some((_, what)) = refused.into_iter().find(|(refused, _)| *refused) {
        return Err(PlanError::unsupported(what));
    }
    match &create.table_options {
        // Storage parameters of PostgreSQL mean nothing here: `WITH (fillfactor = 100)`.
        CreateTableOptions::None | CreateTableOptions::With(_) => Ok(()),
        CreateTableOptions::Options(_)
        | CreateTableOptions::Plain(_)
        | CreateTableOptions::TableProperties(_) => {
            Err(PlanError::unsupported("these options of CREATE TABLE"))
        }
    }
}

/// The columns and constraints of a table as SQL.
pub(super) fn definition(table: &Table) -> String {
    let mut parts = vec![];
    for (i, column) in table.columns.iter().enumerate() {
        let mut part = format!("{} {}", quote(&column.name), type_sql(&column.ty));
        if let Some(default) = table.defaults.iter().find(|d| d.column == i) {
            part.push_str(&format!(" DEFAULT {}", default.sql));
        }
        if !column.nullable {
            part.push_str(" NOT NULL");
        }
        parts.push(part);
    }
    for key in &table.keys {
        let names: Vec<String> = key
            .columns
            .iter()
            .map(|c| quote(&table.columns[*c].name))
            .collect();
        let kind = match key.kind {
            KeyConstraintKind::Primary => "PRIMARY KEY",
            KeyConstraintKind::Unique => "UNIQUE",
        };
        parts.push(format!(
            "CONSTRAINT {} {kind} ({})",
            quote(&key.name),
            names.join(", ")
        ));
    }
    format!("({})", parts.join(", "))
}

fn type_sql(ty: &SqlType) -> String {
    ty.pg_name()
}
