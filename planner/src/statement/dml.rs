//! INSERT, UPDATE, DELETE.

use super::stored::plan_default;
use super::{DeletePlan, InsertPlan, ParamTypes, Plan, Returning, StatementPlanner, UpdatePlan};
use crate::ast::position;
use crate::ast::sql::{
    AssignmentTarget, Delete, Expr, FromTable, Ident, Insert, ObjectName, OnInsert, Query,
    SelectItem, SetExpr, Spanned, TableFactor, TableObject, TableWithJoins, Update,
    UpdateTableFromKind,
};
use crate::error::PlanError;
use crate::hir::{Hir, HirScalar, JoinKind};
use crate::lower::{lower, lower_scalar};
use crate::names::{Name, Relation, item_desc};
use crate::parse::fold;
use crate::query::{QueryPlanner, desc_scope, relation_hir};
use crate::scope::{RelationName, Scope};
use crate::types::cast::CastContext;
use crate::types::coerce::{CoerceError, Typed};
use repr::{Datum, RelationDesc, SqlType};
use state::catalog::{Item, ItemKind, Table};
use std::rc::Rc;
use std::sync::Arc;

/// A table to be written.
pub(super) struct Target<'a> {
    pub item: &'a Arc<Item>,
    pub table: &'a Table,
    pub desc: RelationDesc,
}

impl Target<'_> {
    /// The position of a column.
    pub fn column(&self, ident: &Ident) -> Result<usize, PlanError> {
        let name = fold(ident);
        self.desc.position(&name).ok_or_else(|| {
            let message = format!(
                "column \"{name}\" of relation \"{}\" does not exist",
                self.item.name
            );
            PlanError::new("42703", message).at(position(ident.span))
        })
    }

    /// Positions of distinct columns; none named means all.
    pub fn columns(&self, idents: &[Ident]) -> Result<Vec<usize>, PlanError> {
        if idents.is_empty() {
            return Ok((0..self.desc.arity()).collect());
        }
        let mut columns = vec![];
        for ident in idents {
            let column = self.column(ident)?;
            if columns.contains(&column) {
                let message = format!("column \"{}\" specified more than once", fold(ident));
                return Err(PlanError::new("42701", message).at(position(ident.span)));
            }
            columns.push(column);
        }
        Ok(columns)
    }

    /// Columns that refuse NULL.
    pub fn not_null(&self) -> Vec<usize> {
        (0..self.desc.arity())
            .filter(|i| !self.desc.types[*i].nullable)
            .collect()
    }
}

impl<'a> StatementPlanner<'a> {
    /// The table that a name means, for writing.
    pub(super) fn target(&self, name: &ObjectName, verb: &str) -> Result<Target<'a>, PlanError> {
        let name = Name::new(name)?;
        match self.session.resolve(&name)? {
            Relation::Builtin(builtin) => {
                let message = format!("permission denied for table {}", builtin.name);
                Err(PlanError::new("42501", message).at(name.position))
            }
            Relation::Item(item) => match &item.kind {
                ItemKind::Table(table) => Ok(Target {
                    item,
                    table,
                    desc: item_desc(item).unwrap_or_default(),
                }),
                ItemKind::View(_)
                | ItemKind::MaterializedView(_)
                | ItemKind::Source(_)
                | ItemKind::Index(_) => {
                    let kind = super::other::item_kind(item).name();
                    let message = format!("cannot {verb} {kind} \"{}\"", item.name);
                    let sqlstate = if kind == "view" { "55000" } else { "42809" };
                    Err(PlanError::new(sqlstate, message).at(name.position))
                }
            },
        }
    }

    /// The value of a column that is not given.
    pub(super) fn default(
        &self,
        target: &Target<'_>,
        column: usize,
    ) -> Result<HirScalar, PlanError> {
        let ty = &target.desc.types[column].ty;
        match target.table.defaults.iter().find(|d| d.column == column) {
            Some(default) => plan_default(self.session, &default.sql, ty),
            None => Ok(HirScalar::null(ty.clone())),
        }
    }

    pub(super) fn insert(
        &self,
        insert: &Insert,
        params: &mut ParamTypes,
    ) -> Result<Plan, PlanError> {
        let TableObject::TableName(name) = &insert.table else {
            return Err(PlanError::unsupported("INSERT into this"));
        };
        match &insert.on {
            None => {}
            Some(OnInsert::OnConflict(_)) => return Err(PlanError::unsupported("ON CONFLICT")),
            Some(_) => return Err(PlanError::syntax(Some("ON"))),
        }
        if !insert.assignments.is_empty() || insert.partitioned.is_some() || insert.overwrite {
            return Err(PlanError::unsupported("this form of INSERT"));
        }
        let target = self.target(name, "insert into")?;
        let mut idents = vec![];
        for column in &insert.columns {
            match column.0.as_slice() {
                [crate::ast::sql::ObjectNamePart::Identifier(ident)] => idents.push(ident.clone()),
                _ => return Err(PlanError::unsupported("a qualified column name in INSERT")),
            }
        }
        let columns = target.columns(&idents)?;
        self.with_queries(params, |planner| {
            let rows = match &insert.source {
                None => {
                    let mut row = vec![];
                    for column in 0..target.desc.arity() {
                        row.push(self.default(&target, column)?);
                    }
                    Hir::unit().map(row)
                }
                Some(query) => {
                    self.source_rows(planner, &target, &columns, query, !idents.is_empty())?
                }
            };
            let alias = insert.table_alias.as_ref().map(|a| fold(&a.alias));
            let returning = self.returning(planner, &target, alias, insert.returning.as_deref())?;
            Ok(Plan::Insert(InsertPlan {
                table: target.item.id,
                rows: lower(rows)?,
                not_null: target.not_null(),
                returning,
            }))
        })
    }

    /// Rows of the whole table made from VALUES or a query for some of its columns.
    fn source_rows(
        &self,
        planner: &QueryPlanner<'_>,
        target: &Target<'_>,
        columns: &[usize],
        query: &Query,
        named: bool,
    ) -> Result<Hir, PlanError> {
        let plain = query.with.is_none()
            && query.order_by.is_none()
            && query.limit_clause.is_none()
            && query.fetch.is_none();
        if let (SetExpr::Values(values), true) = (query.body.as_ref(), plain) {
            let mut rows = vec![];
            for row in &values.rows {
                rows.push(row.content.as_slice());
            }
            return self.values_rows(planner, target, columns, &rows, named);
        }
        let (hir, scope) = planner.source_relation(query)?;
        let given = scope.columns.len();
        check_count(given, columns.len(), named, 0)?;
        let columns = &columns[..given.min(columns.len())];
        let mut hir = hir;
        let mut types: Vec<SqlType> = scope.columns.iter().map(|c| c.ty.ty.clone()).collect();
        for (i, column) in columns.iter().enumerate() {
            if types[i] == SqlType::Unknown {
                let ty = target.desc.types[*column].ty.clone();
                hir = planner.retype(hir, &[i], &ty)?;
                types[i] = ty;
            }
        }
        let mut scalars = vec![];
        for column in 0..target.desc.arity() {
            scalars.push(match columns.iter().position(|c| *c == column) {
                Some(i) => {
                    let typed = Typed::new(HirScalar::column(i), types[i].clone());
                    self.assign(planner, target, column, typed)?
                }
                None => self.default(target, column)?,
            });
        }
        let arity = scalars.len();
        Ok(hir.map(scalars).project((given..given + arity).collect()))
    }

    fn values_rows(
        &self,
        planner: &QueryPlanner<'_>,
        target: &Target<'_>,
        columns: &[usize],
        rows: &[&[Expr]],
        named: bool,
    ) -> Result<Hir, PlanError> {
        let arity = target.desc.arity();
        let mut by_column: Vec<Vec<HirScalar>> = vec![vec![]; arity];
        let width = rows.first().map_or(0, |r| r.len());
        for row in rows {
            if row.len() != width {
                return Err(PlanError::new(
                    "42601",
                    "VALUES lists must all be the same length",
                ));
            }
            let at = row.get(columns.len()).map_or(0, |e| position(e.span()));
            check_count(row.len(), columns.len(), named, at)?;
            let mut values: Vec<Option<HirScalar>> = vec![None; arity];
            for (column, expr) in columns.iter().zip(*row) {
                if is_default(expr) {
                    continue;
                }
                let typed = planner.scalar(expr, &Scope::default(), "VALUES")?;
                values[*column] = Some(self.assign(planner, target, *column, typed)?);
            }
            for (column, value) in values.into_iter().enumerate() {
                by_column[column].push(match value {
                    Some(value) => value,
                    None => self.default(target, column)?,
                });
            }
        }
        let types = target.desc.types.iter().map(|t| t.ty.clone()).collect();
        let (hir, _) = planner.rows_of(by_column, types, rows.len())?;
        Ok(hir)
    }

    /// A value for a column, cast as an assignment does.
    fn assign(
        &self,
        planner: &QueryPlanner<'_>,
        target: &Target<'_>,
        column: usize,
        typed: Typed,
    ) -> Result<HirScalar, PlanError> {
        let ty = &target.desc.types[column].ty;
        planner
            .coercer()
            .try_coerce(typed, ty, CastContext::Assignment)
            .map_err(|e| match e {
                CoerceError::NoCast { from, position } => {
                    let message = format!(
                        "column \"{}\" is of type {} but expression is of type {}",
                        target.desc.names[column],
                        ty.base_name(),
                        from.base_name()
                    );
                    PlanError::new("42804", message)
                        .at(position)
                        .with_hint("You will need to rewrite or cast the expression.")
                }
                CoerceError::Other(error) => error,
            })
    }

    fn returning(
        &self,
        planner: &QueryPlanner<'_>,
        target: &Target<'_>,
        alias: Option<String>,
        items: Option<&[SelectItem]>,
    ) -> Result<Option<Returning>, PlanError> {
        let Some(items) = items else { return Ok(None) };
        let scope = self.target_scope(target, alias);
        let list = planner.returning_list(&scope, items)?;
        let mut exprs = vec![];
        let mut desc = RelationDesc::empty();
        for (name, typed) in list {
            let expr = lower_scalar(typed.expr, &target.desc.types)?;
            let nullable = expr.typ(&target.desc.types).nullable;
            desc.push(name, typed.ty.nullable(nullable));
            exprs.push(expr);
        }
        Ok(Some(Returning { exprs, desc }))
    }

    /// The table's columns under its name or alias.
    fn target_scope(&self, target: &Target<'_>, alias: Option<String>) -> Scope {
        let (_, mut scope) =
            match relation_hir(&Relation::Item(target.item), &self.schema_name(target)) {
                Ok(found) => found,
                Err(_) => (
                    Hir::unit(),
                    desc_scope(&target.desc, None, &target.item.name),
                ),
            };
        if let Some(name) = alias {
            let relation = Rc::new(RelationName { schema: None, name });
            for column in &mut scope.columns {
                column.relation = Some(relation.clone());
            }
        }
        scope
    }

    fn schema_name(&self, target: &Target<'_>) -> String {
        let schema = self.session.catalog.schemas.get(&target.item.schema);
        schema.map_or_else(String::new, |s| s.name.clone())
    }

    pub(super) fn update(
        &self,
        update: &Update,
        params: &mut ParamTypes,
    ) -> Result<Plan, PlanError> {
        if !update.order_by.is_empty() || update.limit.is_some() || update.output.is_some() {
            return Err(PlanError::unsupported("this clause of UPDATE"));
        }
        let (target, alias) = self.dml_table(&update.table, "update")?;
        let scope = self.target_scope(&target, alias.clone());
        let arity = target.desc.arity();
        self.with_queries(params, |planner| {
            let mut hir = self.table_hir(&target)?;
            let mut all = scope.clone();
            let mut joined = false;
            if let Some(
                UpdateTableFromKind::AfterSet(from) | UpdateTableFromKind::BeforeSet(from),
            ) = &update.from
            {
                let (other, other_scope) = planner.from_clause(from)?;
                hir = Hir::Join {
                    left: Box::new(hir),
                    right: Box::new(other),
                    on: vec![],
                    kind: JoinKind::Inner,
                    lateral: false,
                };
                all = all.concat(other_scope);
                joined = true;
            }
            if let Some(selection) = &update.selection {
                let predicate = planner.condition(selection, &all, "WHERE")?;
                hir = hir.filter(predicate.into_conjuncts());
            }
            let mut values: Vec<Option<HirScalar>> = vec![None; arity];
            for assignment in &update.assignments {
                for (column, value) in self.assignment(planner, &target, &all, assignment)? {
                    if values[column].is_some() {
                        let message = format!(
                            "multiple assignments to same column \"{}\"",
                            target.desc.names[column]
                        );
                        return Err(PlanError::new("42601", message));
                    }
                    values[column] = Some(value);
                }
            }
            let assigned: Vec<usize> = (0..arity).filter(|c| values[*c].is_some()).collect();
            let width = all.columns.len();
            let new: Vec<HirScalar> = values
                .into_iter()
                .enumerate()
                .map(|(c, v)| v.unwrap_or_else(|| HirScalar::column(c)))
                .collect();
            let outputs = (0..arity).chain(width..width + arity).collect();
            let mut rows = hir.map(new).project(outputs);
            if joined {
                // A row that joins several times is updated once.
                rows = Hir::TopK {
                    input: Box::new(rows),
                    group_key: (0..arity).collect(),
                    order_key: vec![],
                    limit: Some(HirScalar::literal(Datum::Int64(1), SqlType::Int64)),
                    offset: 0,
                };
            }
            let not_null = target
                .not_null()
                .into_iter()
                .filter(|c| assigned.contains(c))
                .collect();
            let returning =
                self.returning(planner, &target, alias.clone(), update.returning.as_deref())?;
            Ok(Plan::Update(UpdatePlan {
                table: target.item.id,
                rows: lower(rows)?,
                not_null,
                assigned,
                returning,
            }))
        })
    }

    fn assignment(
        &self,
        planner: &QueryPlanner<'_>,
        target: &Target<'_>,
        scope: &Scope,
        assignment: &crate::ast::sql::Assignment,
    ) -> Result<Vec<(usize, HirScalar)>, PlanError> {
        let value_of = |column: usize, expr: &Expr| -> Result<(usize, HirScalar), PlanError> {
            if is_default(expr) {
                return Ok((column, self.default(target, column)?));
            }
            let typed = planner.scalar(expr, scope, "UPDATE")?;
            Ok((column, self.assign(planner, target, column, typed)?))
        };
        match &assignment.target {
            AssignmentTarget::ColumnName(name) => {
                let column = self.assigned_column(target, name)?;
                Ok(vec![value_of(column, &assignment.value)?])
            }
            AssignmentTarget::Tuple(names) => {
                let Expr::Tuple(values) = &assignment.value else {
                    return Err(PlanError::unsupported(
                        "assigning a subquery to several columns",
                    ));
                };
                if values.len() != names.len() {
                    return Err(PlanError::new(
                        "42601",
                        "number of columns does not match number of values",
                    ));
                }
                let mut assigned = vec![];
                for (name, value) in names.iter().zip(values) {
                    assigned.push(value_of(self.assigned_column(target, name)?, value)?);
                }
                Ok(assigned)
            }
        }
    }

    fn assigned_column(&self, target: &Target<'_>, name: &ObjectName) -> Result<usize, PlanError> {
        match name.0.as_slice() {
            [crate::ast::sql::ObjectNamePart::Identifier(ident)] => target.column(ident),
            _ => {
                let name = Name::new(name)?;
                let schema = name.schema.unwrap_or_default();
                let message = format!(
                    "column \"{schema}\" of relation \"{}\" does not exist",
                    target.item.name
                );
                Err(PlanError::new("42703", message)
                    .at(name.position)
                    .with_hint("SET target columns cannot be qualified with the relation name."))
            }
        }
    }

    pub(super) fn delete(
        &self,
        delete: &Delete,
        params: &mut ParamTypes,
    ) -> Result<Plan, PlanError> {
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
        let ([table], true) = (from.as_slice(), delete.tables.is_empty()) else {
            return Err(PlanError::unsupported("DELETE from several tables"));
        };
        if !delete.order_by.is_empty() || delete.limit.is_some() || delete.output.is_some() {
            return Err(PlanError::unsupported("this clause of DELETE"));
        }
        let (target, alias) = self.dml_table(table, "delete from")?;
        let scope = self.target_scope(&target, alias.clone());
        self.with_queries(params, |planner| {
            let mut hir = self.table_hir(&target)?;
            match (&delete.using, &delete.selection) {
                (None, None) => {}
                (None, Some(selection)) => {
                    let predicate = planner.condition(selection, &scope, "WHERE")?;
                    hir = hir.filter(predicate.into_conjuncts());
                }
                (Some(using), selection) => {
                    let exists = planner.exists_from(using, selection.as_ref(), &scope)?;
                    hir = hir.filter(vec![exists]);
                }
            }
            let returning =
                self.returning(planner, &target, alias.clone(), delete.returning.as_deref())?;
            Ok(Plan::Delete(DeletePlan {
                table: target.item.id,
                rows: lower(hir)?,
                returning,
            }))
        })
    }

    fn table_hir(&self, target: &Target<'_>) -> Result<Hir, PlanError> {
        Ok(relation_hir(&Relation::Item(target.item), "")?.0)
    }

    /// The table of UPDATE or DELETE, and its alias.
    fn dml_table(
        &self,
        table: &TableWithJoins,
        verb: &str,
    ) -> Result<(Target<'a>, Option<String>), PlanError> {
        match (&table.relation, table.joins.is_empty()) {
            (
                TableFactor::Table {
                    name,
                    alias,
                    args: None,
                    ..
                },
                true,
            ) => {
                let target = self.target(name, verb)?;
                Ok((target, alias.as_ref().map(|a| fold(&a.name))))
            }
            _ => Err(PlanError::unsupported("this target of UPDATE or DELETE")),
        }
    }
}

fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

/// The number of values must be that of the columns; without a list of columns it may be smaller.
fn check_count(given: usize, columns: usize, named: bool, at: usize) -> Result<(), PlanError> {
    if given > columns {
        return Err(
            PlanError::new("42601", "INSERT has more expressions than target columns").at(at),
        );
    }
    if given < columns && named {
        return Err(
            PlanError::new("42601", "INSERT has more target columns than expressions").at(at),
        );
    }
    Ok(())
}
