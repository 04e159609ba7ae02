//! SELECT.

use super::group::Grouping;
use super::order::{column_order, ordinal};
use super::subquery::column_type;
use super::{Ctx, Env, PlannedQuery, QueryPlanner};
use crate::ast::position;
use crate::ast::sql::{
    Distinct, Expr, GroupByExpr, OrderByExpr, Select, SelectItem, SelectItemQualifiedWildcardKind,
    Spanned,
};
use crate::error::PlanError;
use crate::hir::{ColumnRef, Hir, HirScalar};
use crate::names::Name;
use crate::parse::fold;
use crate::scope::{Scope, ScopeColumn};
use crate::types::coerce::Typed;
use crate::types::scale::fixed_scale;
use plan::mir::ColumnOrder;
use repr::{ColumnType, Datum, SqlType};

/// A term of ORDER BY or DISTINCT ON: an output column or an expression over the query's rows.
enum Term {
    Output(usize),
    Expr(Typed),
}

impl QueryPlanner<'_> {
    pub(super) fn select(
        &self,
        select: &Select,
        order_by: &[OrderByExpr],
        env: Env<'_>,
        _root: bool,
    ) -> Result<PlannedQuery, PlanError> {
        refuse_extensions(select)?;
        let (mut hir, scope) = self.from(&select.from, env)?;
        if let Some(selection) = &select.selection {
            let ctx = Ctx::new(&scope, env, "WHERE");
            let predicate = self.boolean(&ctx, selection, "WHERE")?;
            hir = hir.filter(predicate.into_conjuncts());
        }
        let mut ctx = Ctx::new(&scope, env, "SELECT");
        ctx.aggregates = true;
        ctx.table_functions = true;
        let (items, mut typed) = self.select_list(&ctx, &select.projection)?;
        let seen = ctx.seen.take();
        let mut having = match &select.having {
            None => None,
            Some(having) => {
                let mut ctx = Ctx::new(&scope, env, "HAVING");
                ctx.aggregates = true;
                let having = self.boolean(&ctx, having, "HAVING")?;
                Some(having)
            }
        };
        let mut order_ctx = Ctx::new(&scope, env, "ORDER BY");
        order_ctx.aggregates = true;
        let mut order_terms = vec![];
        for term in order_by {
            order_terms.push(self.term(&order_ctx, &term.expr, &items, "ORDER BY")?);
        }
        let mut distinct_on = vec![];
        if let Some(Distinct::On(exprs)) = &select.distinct {
            for expr in exprs {
                distinct_on.push(self.term(&order_ctx, expr, &items, "SELECT DISTINCT ON")?);
            }
        }
        let mut columns: Vec<ColumnType> = scope.types();
        let mut scales: Vec<Option<u16>> = scope.columns.iter().map(|c| c.scale).collect();
        let grouped = is_grouped(select);
        let aggregated = typed.iter().any(|t| t.expr.has_aggregate())
            || order_terms
                .iter()
                .chain(&distinct_on)
                .any(|t| matches!(t, Term::Expr(t) if t.expr.has_aggregate()));
        if grouped || aggregated || having.is_some() {
            let group_ctx = Ctx::new(&scope, env, "GROUP BY");
            let keys = self.group_exprs(&group_ctx, &select.group_by, &items, &typed)?;
            let no_keys = keys.is_empty();
            let mut exprs: Vec<&HirScalar> = typed.iter().map(|t| &t.expr).collect();
            exprs.extend(having.iter());
            for term in order_terms.iter().chain(&distinct_on) {
                if let Term::Expr(t) = term {
                    exprs.push(&t.expr);
                }
            }
            let mut all_seen = seen;
            for (column, at) in order_ctx.seen.take() {
                all_seen.entry(column).or_insert(at);
            }
            let mut grouping = Grouping::new(&scope, keys, &exprs, all_seen);
            for t in &mut typed {
                rewrite(&mut grouping, &mut t.expr)?;
            }
            if let Some(having) = &mut having {
                rewrite(&mut grouping, having)?;
            }
            for term in order_terms.iter_mut().chain(&mut distinct_on) {
                if let Term::Expr(t) = term {
                    rewrite(&mut grouping, &mut t.expr)?;
                }
            }
            let mut new_columns: Vec<ColumnType> = {
                let types = self.type_resolver(&columns, env);
                grouping.keys.iter().map(|k| k.typ(&types)).collect()
            };
            let key_scales = grouping
                .keys
                .iter()
                .map(|k| fixed_scale(k, &|c| scale_of(&scales, c)));
            let mut new_scales: Vec<Option<u16>> = key_scales.collect();
            new_columns.extend(grouping.aggregates.iter().map(|a| a.ty.clone()));
            new_scales.resize(new_columns.len(), None);
            hir = Hir::Reduce {
                input: Box::new(hir),
                group_key: grouping.keys,
                aggregates: grouping.aggregates,
                global: no_keys,
            };
            columns = new_columns;
            scales = new_scales;
            if let Some(having) = having {
                hir = hir.filter(having.into_conjuncts());
            }
        }
        // Set-returning functions multiply the rows.
        if typed.iter().any(|t| t.expr.has_table_func()) {
            (hir, columns) = self.expand_table_functions(hir, columns, &mut typed)?;
            scales.resize(columns.len(), None);
        }
        self.finish_select(
            select,
            hir,
            columns,
            scales,
            items,
            typed,
            (order_by, order_terms, distinct_on),
            env,
        )
    }

    /// Maps the select list, sorts and removes duplicates.
    #[allow(clippy::too_many_arguments)]
    fn finish_select(
        &self,
        select: &Select,
        hir: Hir,
        columns: Vec<ColumnType>,
        scales: Vec<Option<u16>>,
        items: Vec<(Option<&Expr>, String)>,
        mut typed: Vec<Typed>,
        (order_by, order_terms, distinct_on): (&[OrderByExpr], Vec<Term>, Vec<Term>),
        env: Env<'_>,
    ) -> Result<PlannedQuery, PlanError> {
        if matches!(select.distinct, Some(Distinct::Distinct | Distinct::On(_)))
            || !order_by.is_empty()
        {
            // Sorted and distinct values need a type.
            for t in &mut typed {
                if t.is_unknown() {
                    *t = self.coercer().concrete(t.clone())?;
                }
            }
        }
        let arity = typed.len();
        let mut exprs: Vec<Typed> = typed;
        let mut place = |term: Term| -> Result<usize, PlanError> {
            match term {
                Term::Output(i) => Ok(i),
                Term::Expr(t) => {
                    let t = self.coercer().concrete(t)?;
                    match exprs.iter().position(|e| e.expr == t.expr) {
                        Some(i) => Ok(i),
                        None => {
                            exprs.push(t);
                            Ok(exprs.len() - 1)
                        }
                    }
                }
            }
        };
        let mut order: Vec<ColumnOrder> = vec![];
        for (term, syntax) in order_terms.into_iter().zip(order_by) {
            let column = place(term)?;
            if column >= arity && matches!(select.distinct, Some(Distinct::Distinct)) {
                let message =
                    "for SELECT DISTINCT, ORDER BY expressions must appear in select list";
                return Err(PlanError::new("42P10", message).at(position(syntax.expr.span())));
            }
            order.push(column_order(syntax, column)?);
        }
        let mut on = vec![];
        for term in distinct_on {
            on.push(place(term)?);
        }
        // Columns alone need no Map.
        let types = self.type_resolver(&columns, env);
        let input_arity = columns.len();
        let (mut scalars, mut outputs, mut out_scope) = (vec![], vec![], Scope::default());
        for (i, t) in exprs.into_iter().enumerate() {
            let name = items
                .get(i)
                .map_or_else(|| "?column?".to_owned(), |(_, n)| n.clone());
            let nullable = t.expr.typ(&types).nullable;
            let scale = fixed_scale(&t.expr, &|c| scale_of(&scales, c));
            out_scope.columns.push(ScopeColumn {
                relation: None,
                name,
                ty: t.ty.clone().nullable(nullable),
                scale,
                hidden: false,
                is_function_result: false,
            });
            match t.expr {
                HirScalar::Column(ColumnRef { level: 0, index }) => outputs.push(index),
                expr => {
                    outputs.push(input_arity + scalars.len());
                    scalars.push(expr);
                }
            }
        }
        let mut hir = hir.map(scalars).project(outputs);
        match &select.distinct {
            None | Some(Distinct::All) => {}
            Some(Distinct::Distinct) => hir = hir.distinct(),
            Some(Distinct::On(_)) => {
                check_distinct_on(&on, &order)?;
                hir = Hir::TopK {
                    input: Box::new(hir),
                    group_key: on,
                    order_key: order.clone(),
                    limit: Some(HirScalar::literal(Datum::Int64(1), SqlType::Int64)),
                    offset: 0,
                };
            }
        }
        Ok(PlannedQuery {
            hir,
            scope: out_scope,
            arity,
            order_by: order,
            limit: None,
            offset: None,
        })
    }

    /// Finds the types of columns: those of the current relation, or of enclosing queries.
    fn type_resolver<'t>(
        &self,
        columns: &'t [ColumnType],
        env: Env<'t>,
    ) -> impl Fn(ColumnRef) -> ColumnType + 't {
        move |c| match (c.level, env.outer) {
            (0, _) => columns[c.index].clone(),
            (level, Some(outer)) => column_type(outer, level - 1, c.index),
            (_, None) => SqlType::Unknown.nullable(true),
        }
    }

    /// The select list with `*` expanded: the syntax (of items that have one) and the output name of each, and the expressions.
    #[allow(clippy::type_complexity)]
    pub(super) fn select_list<'s>(
        &self,
        ctx: &Ctx<'_>,
        items: &'s [SelectItem],
    ) -> Result<(Vec<(Option<&'s Expr>, String)>, Vec<Typed>), PlanError> {
        let (mut names, mut typed) = (vec![], vec![]);
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    names.push((
                        Some(expr),
                        output_name(expr).unwrap_or_else(|| "?column?".to_owned()),
                    ));
                    typed.push(self.expr(ctx, expr)?);
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    names.push((Some(expr), fold(alias)));
                    typed.push(self.expr(ctx, expr)?);
                }
                SelectItem::Wildcard(_) => {
                    if ctx.scope.columns.is_empty() {
                        let message = "SELECT * with no tables specified is not valid";
                        return Err(PlanError::new("42601", message).at(position(item.span())));
                    }
                    let visible =
                        (0..ctx.scope.columns.len()).filter(|i| !ctx.scope.columns[*i].hidden);
                    add_columns(ctx, visible, position(item.span()), &mut names, &mut typed);
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => {
                    let name = Name::new(name)?;
                    let columns = ctx.scope.of_relation(name.schema.as_deref(), &name.name);
                    if columns.is_empty() {
                        let message =
                            format!("missing FROM-clause entry for table \"{}\"", name.name);
                        return Err(PlanError::new("42P01", message).at(name.position));
                    }
                    add_columns(
                        ctx,
                        columns.into_iter(),
                        name.position,
                        &mut names,
                        &mut typed,
                    );
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), _)
                | SelectItem::ExprWithAliases { .. } => {
                    return Err(PlanError::unsupported("this kind of select list item")
                        .at(position(item.span())));
                }
            }
        }
        Ok((names, typed))
    }

    fn term(
        &self,
        ctx: &Ctx<'_>,
        expr: &Expr,
        items: &[(Option<&Expr>, String)],
        clause: &str,
    ) -> Result<Term, PlanError> {
        if let Some(column) = ordinal(expr, items.len(), clause)? {
            return Ok(Term::Output(column));
        }
        // A bare name is first of all an output column's.
        if let Expr::Identifier(ident) = expr {
            let name = fold(ident);
            let mut found = (0..items.len()).filter(|i| items[*i].1 == name);
            if let Some(first) = found.next() {
                let same = |i: usize| items[i].0.is_some() && items[i].0 == items[first].0;
                if !found.all(same) {
                    let message = format!("{clause} \"{name}\" is ambiguous");
                    return Err(PlanError::new("42702", message).at(position(ident.span)));
                }
                return Ok(Term::Output(first));
            }
        }
        Ok(Term::Expr(self.expr(ctx, expr)?))
    }

    /// Applies the set-returning functions of a select list, one after another, and refers to their columns.
    fn expand_table_functions(
        &self,
        mut hir: Hir,
        mut columns: Vec<ColumnType>,
        typed: &mut [Typed],
    ) -> Result<(Hir, Vec<ColumnType>), PlanError> {
        let mut calls: Vec<HirScalar> = vec![];
        for t in typed.iter_mut() {
            replace_table_functions(&mut t.expr, columns.len(), &mut calls);
        }
        if calls.len() > 1 {
            return Err(PlanError::unsupported(
                "several set-returning functions in one select list",
            ));
        }
        for call in calls {
            if let HirScalar::TableFunc { func, args, ty } = call {
                let column = ty.nullable(true);
                columns.push(column.clone());
                hir = Hir::FlatMap {
                    input: Box::new(hir),
                    func,
                    args,
                    types: vec![column],
                };
            }
        }
        Ok((hir, columns))
    }
}

fn replace_table_functions(expr: &mut HirScalar, arity: usize, calls: &mut Vec<HirScalar>) {
    if matches!(expr, HirScalar::TableFunc { .. }) {
        let call = std::mem::replace(expr, HirScalar::bool(true));
        let index = calls.iter().position(|c| *c == call).unwrap_or_else(|| {
            calls.push(call);
            calls.len() - 1
        });
        *expr = HirScalar::column(arity + index);
        return;
    }
    for child in expr.children_mut() {
        replace_table_functions(child, arity, calls);
    }
}

fn rewrite(grouping: &mut Grouping<'_>, expr: &mut HirScalar) -> Result<(), PlanError> {
    let taken = std::mem::replace(expr, HirScalar::bool(true));
    *expr = grouping.rewrite(taken)?;
    Ok(())
}

fn scale_of(scales: &[Option<u16>], c: ColumnRef) -> Option<u16> {
    match c.level {
        0 => scales.get(c.index).copied().flatten(),
        _ => None,
    }
}

fn is_grouped(select: &Select) -> bool {
    match &select.group_by {
        GroupByExpr::Expressions(exprs, _) => !exprs.is_empty(),
        GroupByExpr::All(_) => true,
    }
}

fn add_columns(
    ctx: &Ctx<'_>,
    columns: impl Iterator<Item = usize>,
    at: usize,
    names: &mut Vec<(Option<&Expr>, String)>,
    typed: &mut Vec<Typed>,
) {
    for index in columns {
        let column = &ctx.scope.columns[index];
        ctx.seen.borrow_mut().entry(index).or_insert(at);
        names.push((None, column.name.clone()));
        typed.push(Typed::new(HirScalar::column(index), column.ty.ty.clone()).at(at));
    }
}

/// DISTINCT ON takes the first row of each group, so the order has to begin with the group's columns.
fn check_distinct_on(on: &[usize], order: &[ColumnOrder]) -> Result<(), PlanError> {
    let leading = &order[..order.len().min(on.len())];
    match leading.iter().all(|o| on.contains(&o.column)) {
        true => Ok(()),
        false => Err(PlanError::new(
            "42P10",
            "SELECT DISTINCT ON expressions must match initial ORDER BY expressions",
        )),
    }
}

/// The name that PostgreSQL gives an output column without an alias.
pub(super) fn output_name(expr: &Expr) -> Option<String> {
    use crate::ast::sql::AccessExpr;
    let fixed = |name: &str| Some(name.to_owned());
    match expr {
        Expr::Identifier(ident) => Some(fold(ident)),
        Expr::CompoundIdentifier(parts) => parts.last().map(fold),
        Expr::Function(function) => {
            let (name, _) = super::function::function_name(&function.name).ok()?;
            Some(name)
        }
        Expr::Nested(inner) => output_name(inner),
        Expr::Collate { expr, .. } => output_name(expr),
        Expr::Cast {
            expr, data_type, ..
        } => {
            let ty = || {
                crate::types::resolve_type(data_type)
                    .ok()
                    .map(|t| t.without_typmod())
            };
            let type_name = || {
                ty().map(|t| match &t {
                    SqlType::Array(e) => e.typname(),
                    t => t.typname(),
                })
            };
            output_name(expr).or_else(type_name)
        }
        Expr::TypedString(typed) => {
            let ty = crate::types::resolve_type(&typed.data_type).ok()?;
            Some(ty.without_typmod().typname())
        }
        Expr::Interval(_) => fixed("interval"),
        Expr::Case { else_result, .. } => else_result
            .as_deref()
            .and_then(output_name)
            .or_else(|| fixed("case")),
        Expr::Array(_) => fixed("array"),
        Expr::Exists { .. } => fixed("exists"),
        Expr::Tuple(_) => fixed("row"),
        Expr::Extract { .. } => fixed("extract"),
        Expr::Substring { .. } => fixed("substring"),
        Expr::Position { .. } => fixed("position"),
        Expr::Overlay { .. } => fixed("overlay"),
        Expr::Ceil { .. } => fixed("ceil"),
        Expr::Floor { .. } => fixed("floor"),
        Expr::AtTimeZone { .. } => fixed("timezone"),
        Expr::Value(value) if matches!(value.value, crate::ast::sql::Value::Boolean(_)) => {
            fixed("bool")
        }
        Expr::Trim { trim_where, .. } => {
            use crate::ast::sql::TrimWhereField;
            fixed(match trim_where {
                None | Some(TrimWhereField::Both) => "btrim",
                Some(TrimWhereField::Leading) => "ltrim",
                Some(TrimWhereField::Trailing) => "rtrim",
            })
        }
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|a| match a {
                AccessExpr::Dot(Expr::Identifier(ident)) => Some(fold(ident)),
                AccessExpr::Dot(_) | AccessExpr::Subscript(_) => None,
            });
            field.or_else(|| output_name(root))
        }
        Expr::Subquery(query) => match query.body.as_ref() {
            crate::ast::sql::SetExpr::Select(select) => match select.projection.first()? {
                SelectItem::UnnamedExpr(expr) => output_name(expr),
                SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn refuse_extensions(select: &Select) -> Result<(), PlanError> {
    if select.into.is_some() {
        return Err(PlanError::unsupported("SELECT INTO"));
    }
    if !select.named_window.is_empty() {
        return Err(PlanError::unsupported("WINDOW"));
    }
    let extended = select.top.is_some()
        || select.exclude.is_some()
        || !select.lateral_views.is_empty()
        || select.prewhere.is_some()
        || !select.connect_by.is_empty()
        || !select.cluster_by.is_empty()
        || !select.distribute_by.is_empty()
        || !select.sort_by.is_empty()
        || select.qualify.is_some()
        || select.value_table_mode.is_some();
    match extended {
        true => Err(PlanError::unsupported("this clause of SELECT")),
        false => Ok(()),
    }
}
