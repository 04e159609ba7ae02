//! Subqueries in expressions.

use super::expr::not;
use super::{Ctx, Env, QueryPlanner};
use crate::ast::position;
use crate::ast::sql::{Expr, Query, Spanned};
use crate::error::PlanError;
use crate::func;
use crate::hir::{ColumnRef, Hir, HirAggregate, HirScalar};
use crate::scope::Scope;
use crate::types::cast;
use crate::types::coerce::Typed;
use plan::AggregateFunc;
use repr::{Datum, SqlType};

impl QueryPlanner<'_> {
    /// Plans a subquery of an expression: the expression's row is its level 1.
    fn nested_query(&self, ctx: &Ctx<'_>, query: &Query) -> Result<(Hir, Scope), PlanError> {
        let env = Env {
            outer: Some(ctx),
            ctes: ctx.env.ctes,
        };
        let planned = self.query(query, env, false)?;
        let planned = self.concrete_outputs(planned)?;
        self.as_relation(planned)
    }

    pub(super) fn exists(
        &self,
        ctx: &Ctx<'_>,
        query: &Query,
        negated: bool,
    ) -> Result<Typed, PlanError> {
        let (hir, _) = self.nested_query(ctx, query)?;
        let exists = HirScalar::Exists(Box::new(hir));
        Ok(Typed::bool(if negated { not(exists) } else { exists }))
    }

    pub(super) fn scalar_subquery(&self, ctx: &Ctx<'_>, query: &Query) -> Result<Typed, PlanError> {
        let at = position(query.span());
        let (hir, scope) = self.nested_query(ctx, query)?;
        let [column] = scope.columns.as_slice() else {
            return Err(PlanError::new("42601", "subquery must return only one column").at(at));
        };
        let ty = column.ty.ty.clone();
        let value = match single_expression(hir) {
            Ok(expr) => expr,
            Err(hir) => HirScalar::Subquery(Box::new(hir), ty.clone()),
        };
        Ok(Typed::new(value, ty).at(at))
    }

    /// `ARRAY(SELECT ...)`: the values in the query's order.
    pub(super) fn array_subquery(&self, ctx: &Ctx<'_>, query: &Query) -> Result<Typed, PlanError> {
        let env = Env {
            outer: Some(ctx),
            ctes: ctx.env.ctes,
        };
        let planned = self.query(query, env, false)?;
        let mut planned = self.concrete_outputs(planned)?;
        if planned.arity != 1 {
            return Err(PlanError::new(
                "42601",
                "subquery must return only one column",
            ));
        }
        let element = planned.scope.columns[0].ty.ty.without_typmod();
        if matches!(element, SqlType::Array(_)) {
            return Err(PlanError::unsupported("ARRAY(SELECT ...) of arrays"));
        }
        let order_by = planned.order_by.clone();
        if planned.limit.is_none() && planned.offset.is_none() {
            planned.order_by.clear();
        }
        // The hidden sort columns are needed until the elements are collected.
        planned.arity = planned.scope.columns.len();
        let (hir, scope) = self.as_relation(planned)?;
        let keys: Vec<Typed> = order_by
            .iter()
            .map(|o| {
                Typed::new(
                    HirScalar::column(o.column),
                    scope.columns[o.column].ty.ty.clone(),
                )
            })
            .collect();
        let value = Typed::new(HirScalar::column(0), element.clone());
        let (collected, ty, finish) = super::function::ordered_array(value, keys, &order_by)?;
        let aggregate = HirAggregate {
            func: AggregateFunc::ArrayAgg {
                element: ty.clone(),
            },
            expr: collected,
            distinct: false,
            ty: ty.clone().array_of().nullable(true),
        };
        let reduced = Hir::Reduce {
            input: Box::new(hir),
            group_key: vec![],
            aggregates: vec![aggregate],
            global: true,
        };
        let array_ty = element.array_of();
        let subquery = HirScalar::Subquery(Box::new(reduced), ty.array_of());
        let value = finish(subquery)?;
        // Over no rows the aggregate is NULL, but the constructor is empty.
        let empty = cast::call("make_array", vec![], array_ty.clone())?;
        let empty = self.coercer().fold(empty)?;
        let array = HirScalar::call("coalesce", vec![value, empty], array_ty.clone());
        Ok(Typed::new(array, array_ty))
    }

    pub(super) fn in_subquery(
        &self,
        ctx: &Ctx<'_>,
        left: &Expr,
        query: &Query,
        negated: bool,
    ) -> Result<Typed, PlanError> {
        let is_in = self.quantified_subquery(ctx, left, "=", query, true)?;
        Ok(match negated {
            true => Typed::bool(not_in(is_in.expr)),
            false => is_in,
        })
    }

    /// `left op ANY (query)` or `left op ALL (query)`, by SQL's logic of three values.
    pub(super) fn quantified_subquery(
        &self,
        ctx: &Ctx<'_>,
        left: &Expr,
        symbol: &str,
        query: &Query,
        any: bool,
    ) -> Result<Typed, PlanError> {
        let at = position(left.span());
        let lefts = match left {
            Expr::Tuple(fields) => self.exprs(ctx, fields)?,
            Expr::Nested(inner) if matches!(inner.as_ref(), Expr::Tuple(_)) => {
                return self.quantified_subquery(ctx, inner, symbol, query, any);
            }
            other => vec![self.expr(ctx, other)?],
        };
        let (hir, scope) = self.nested_query(ctx, query)?;
        if scope.columns.len() != lefts.len() {
            let many = scope.columns.len() > lefts.len();
            let message = format!(
                "subquery has too {} columns",
                if many { "many" } else { "few" }
            );
            return Err(PlanError::new("42601", message).at(at));
        }
        // The left side, seen from inside the subquery.
        let inner_lefts: Vec<Typed> = lefts
            .iter()
            .map(|l| Typed::new(l.expr.clone().shifted(1), l.ty.clone()).at(l.position))
            .collect();
        let rights: Vec<Typed> = scope
            .columns
            .iter()
            .enumerate()
            .map(|(i, c)| Typed::new(HirScalar::column(i), c.ty.ty.clone()))
            .collect();
        let test = match (lefts.len(), symbol) {
            (1, _) => {
                let (l, r) = (inner_lefts[0].clone(), rights[0].clone());
                func::binary(&self.coercer(), symbol, l, r, at)?.expr
            }
            (_, "=" | "<>" | "<" | "<=" | ">" | ">=") => {
                self.compare_rows(inner_lefts.clone(), symbol, rights.clone())?
            }
            _ => return Err(PlanError::unsupported(format!("{symbol} with rows")).at(at)),
        };
        // Whether the test can be NULL for some row.
        let types = scope.types();
        let outer = |c: ColumnRef| match c.level {
            0 => types[c.index].clone(),
            level => column_type(ctx, level - 1, c.index),
        };
        let nullable = test.typ(&outer).nullable;
        let decisive = match any {
            true => test.clone(),
            false => HirScalar::call("is_false", vec![test.clone()], SqlType::Bool),
        };
        let exists = |predicate: HirScalar| {
            HirScalar::Exists(Box::new(hir.clone().filter(predicate.into_conjuncts())))
        };
        let found = exists(decisive);
        if !nullable {
            return Ok(Typed::bool(if any { found } else { not(found) }).at(at));
        }
        let unknown = self.unknown_test(&hir, &inner_lefts, &rights, test, &outer);
        let value = HirScalar::If {
            cond: Box::new(found),
            then: Box::new(HirScalar::bool(any)),
            els: Box::new(HirScalar::If {
                cond: Box::new(unknown),
                then: Box::new(HirScalar::null(SqlType::Bool)),
                els: Box::new(HirScalar::bool(!any)),
            }),
        };
        Ok(Typed::bool(value).at(at))
    }

    /// Whether some row makes the comparison NULL. For one pair of operands that is so if either is NULL: tests that do not pair
    /// every outer row with every inner one.
    fn unknown_test(
        &self,
        hir: &Hir,
        lefts: &[Typed],
        rights: &[Typed],
        test: HirScalar,
        outer: &dyn Fn(ColumnRef) -> repr::ColumnType,
    ) -> HirScalar {
        let exists = |predicates: Vec<HirScalar>| {
            HirScalar::Exists(Box::new(hir.clone().filter(predicates)))
        };
        let is_null = |e: HirScalar| HirScalar::call("is_null", vec![e], SqlType::Bool);
        let ([left], [right]) = (lefts, rights) else {
            return exists(vec![is_null(test)]);
        };
        let mut ways = vec![];
        if right.expr.typ(outer).nullable {
            ways.push(exists(vec![is_null(right.expr.clone())]));
        }
        if left.expr.typ(outer).nullable {
            let mut plain = left.expr.clone();
            plain.map_columns(&mut |c| ColumnRef {
                level: c.level.saturating_sub(1),
                index: c.index,
            });
            let both = vec![is_null(plain), exists(vec![])];
            ways.push(HirScalar::call("and", both, SqlType::Bool));
        }
        match ways.len() {
            0 => exists(vec![is_null(test)]),
            1 => ways.remove(0),
            _ => HirScalar::call("or", ways, SqlType::Bool),
        }
    }
}

/// `(SELECT expression)` is the expression itself, read in the enclosing query.
#[allow(clippy::result_large_err)]
fn single_expression(hir: Hir) -> Result<HirScalar, Hir> {
    let (map, column) = match &hir {
        Hir::Project { input, outputs } if outputs.len() == 1 => (input.as_ref(), outputs[0]),
        other => (other, 0),
    };
    let Hir::Map { input, scalars } = map else {
        return Err(hir);
    };
    if !input.is_unit() || scalars.len() != 1 || column != 0 {
        return Err(hir);
    }
    let mut expr = scalars[0].clone();
    expr.map_columns(&mut |c| ColumnRef {
        level: c.level.saturating_sub(1),
        index: c.index,
    });
    Ok(expr)
}

/// The type of a column of an enclosing scope; level 0 is the context's own.
pub(super) fn column_type(ctx: &Ctx<'_>, level: usize, index: usize) -> repr::ColumnType {
    let mut here = ctx;
    for _ in 0..level {
        match here.env.outer {
            Some(outer) => here = outer,
            None => return SqlType::Unknown.nullable(true),
        }
    }
    match here.scope.columns.get(index) {
        Some(column) => column.ty.clone(),
        None => SqlType::Unknown.nullable(true),
    }
}

/// NOT of `x IN (query)`, with the branches exchanged so that it stays easy to take apart.
pub(super) fn not_in(is_in: HirScalar) -> HirScalar {
    match is_in {
        HirScalar::If { cond, then, els } => HirScalar::If {
            cond,
            then: Box::new(not_in(*then)),
            els: Box::new(not_in(*els)),
        },
        other => match other.as_literal() {
            Some(Datum::Bool(b)) => HirScalar::bool(!b),
            Some(Datum::Null) => other,
            Some(_) | None => not(other),
        },
    }
}
