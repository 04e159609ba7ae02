//! ORDER BY, LIMIT, OFFSET.

use super::{Ctx, Env, QueryPlanner};
use crate::ast::position;
use crate::ast::sql::{
    Expr, LimitClause, OrderByExpr, OrderByKind, Query, Spanned, Value, ValueWithSpan,
};
use crate::error::PlanError;
use crate::hir::HirScalar;
use crate::scope::{Resolved, Scope};
use crate::types::cast::CastContext;
use plan::mir::ColumnOrder;
use repr::{Datum, SqlType};

/// The terms of a query's ORDER BY.
pub(super) fn order_exprs(query: &Query) -> Result<&[OrderByExpr], PlanError> {
    match &query.order_by {
        None => Ok(&[]),
        Some(order_by) => match &order_by.kind {
            OrderByKind::Expressions(exprs) if order_by.interpolate.is_none() => Ok(exprs),
            OrderByKind::Expressions(_) | OrderByKind::All(_) => {
                Err(PlanError::unsupported("this form of ORDER BY"))
            }
        },
    }
}

/// The direction of a term for a column.
pub(super) fn column_order(term: &OrderByExpr, column: usize) -> Result<ColumnOrder, PlanError> {
    use crate::ast::sql::OrderBySort;
    if term.with_fill.is_some() {
        return Err(PlanError::unsupported("WITH FILL"));
    }
    let desc = match &term.options.sort {
        None | Some(OrderBySort::Asc) => false,
        Some(OrderBySort::Desc) => true,
        Some(OrderBySort::Using(operator)) => {
            return Err(PlanError::unsupported(format!("ORDER BY USING {operator}")));
        }
    };
    let nulls_first = term.options.nulls_first.unwrap_or(desc);
    Ok(ColumnOrder {
        column,
        desc,
        nulls_last: !nulls_first,
    })
}

/// An ordinal: `ORDER BY 2`, `GROUP BY 1`.
pub(super) fn ordinal(expr: &Expr, arity: usize, clause: &str) -> Result<Option<usize>, PlanError> {
    let Expr::Value(ValueWithSpan { value, span }) = expr else {
        return Ok(None);
    };
    match value {
        Value::Number(digits, _) => match digits.parse::<usize>() {
            Ok(n) if n >= 1 && n <= arity => Ok(Some(n - 1)),
            Ok(n) => {
                let message = format!("{clause} position {n} is not in select list");
                Err(PlanError::new("42P10", message).at(position(*span)))
            }
            Err(_) => Err(non_integer(clause).at(position(*span))),
        },
        Value::Placeholder(_) | Value::Null | Value::Boolean(_) => Ok(None),
        _ => Err(non_integer(clause).at(position(*span))),
    }
}

fn non_integer(clause: &str) -> PlanError {
    PlanError::new("42601", format!("non-integer constant in {clause}"))
}

impl QueryPlanner<'_> {
    /// ORDER BY of a set operation or VALUES: only output columns can be named.
    pub(super) fn order_outputs(
        &self,
        terms: &[OrderByExpr],
        scope: &Scope,
    ) -> Result<Vec<ColumnOrder>, PlanError> {
        let mut order = vec![];
        for term in terms {
            let column = match ordinal(&term.expr, scope.columns.len(), "ORDER BY")? {
                Some(column) => column,
                None => self.output_column(&term.expr, scope)?,
            };
            order.push(column_order(term, column)?);
        }
        Ok(order)
    }

    fn output_column(&self, expr: &Expr, scope: &Scope) -> Result<usize, PlanError> {
        if let Expr::Identifier(ident) = expr {
            let at = position(ident.span);
            let name = crate::parse::fold(ident);
            return match scope.resolve(&name).map_err(|e| e.at(at))? {
                Resolved::Column(column) => Ok(column),
                Resolved::WholeRow(_) | Resolved::None => {
                    let message = format!("column \"{name}\" does not exist");
                    Err(PlanError::new("42703", message).at(at))
                }
            };
        }
        Err(PlanError::new("0A000", "invalid UNION/INTERSECT/EXCEPT ORDER BY clause")
            .at(position(expr.span()))
            .with_detail("Only result column names can be used, not expressions or functions.")
            .with_hint("Add the expression/function to every SELECT, or move the UNION into a FROM clause."))
    }

    /// LIMIT and OFFSET as int8 expressions without columns.
    pub(super) fn limit(
        &self,
        query: &Query,
        env: Env<'_>,
    ) -> Result<(Option<HirScalar>, Option<HirScalar>), PlanError> {
        let (mut limit, mut offset) = (None, None);
        match &query.limit_clause {
            None => {}
            Some(LimitClause::LimitOffset {
                limit: l,
                offset: o,
                limit_by,
            }) if limit_by.is_empty() => {
                limit = l.as_ref();
                offset = o.as_ref().map(|o| &o.value);
            }
            Some(LimitClause::LimitOffset { .. } | LimitClause::OffsetCommaLimit { .. }) => {
                return Err(PlanError::new("42601", "LIMIT #,# syntax is not supported")
                    .with_hint("Use separate LIMIT and OFFSET clauses."));
            }
        }
        let mut limit = limit
            .map(|e| self.count(e, env, "LIMIT", "2201W"))
            .transpose()?;
        let offset = offset
            .map(|e| self.count(e, env, "OFFSET", "2201X"))
            .transpose()?;
        if let Some(fetch) = &query.fetch {
            if fetch.with_ties || fetch.percent {
                return Err(PlanError::unsupported("FETCH WITH TIES or PERCENT"));
            }
            limit = Some(match &fetch.quantity {
                Some(quantity) => self.count(quantity, env, "FETCH FIRST", "2201W")?,
                None => HirScalar::literal(Datum::Int64(1), SqlType::Int64),
            });
        }
        // LIMIT NULL is no limit.
        let given = |e: &HirScalar| !matches!(e.as_literal(), Some(Datum::Null));
        Ok((limit.filter(given), offset.filter(given)))
    }

    fn count(
        &self,
        expr: &Expr,
        env: Env<'_>,
        clause: &'static str,
        sqlstate: &'static str,
    ) -> Result<HirScalar, PlanError> {
        let scope = Scope::default();
        let ctx = Ctx::new(&scope, env, clause);
        let typed = self.expr(&ctx, expr)?;
        let at = typed.position;
        let expr = self
            .coercer()
            .coerce(typed, &SqlType::Int64, CastContext::Assignment)?;
        let expr = self.coercer().fold(expr)?;
        match expr.as_literal() {
            Some(Datum::Int64(n)) if n < 0 => {
                let name = if clause == "OFFSET" {
                    "OFFSET"
                } else {
                    "LIMIT"
                };
                Err(PlanError::new(sqlstate, format!("{name} must not be negative")).at(at))
            }
            _ => Ok(expr),
        }
    }
}
