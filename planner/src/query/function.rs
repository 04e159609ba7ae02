//! Function calls.

use super::{Ctx, QueryPlanner};
use crate::ast::position;
use crate::ast::sql::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, ObjectName, ObjectNamePart, OrderByExpr, Spanned,
};
use crate::error::PlanError;
use crate::func::{self, AggregateCall};
use crate::hir::{HirAggregate, HirScalar};
use crate::names::is_system_schema;
use crate::parse::fold;
use crate::types::cast;
use crate::types::coerce::Typed;
use crate::types::scale::fixed_scale;
use plan::AggregateFunc;
use plan::mir::ColumnOrder;
use repr::{Datum, SqlType};

/// The name of a function of the system's schemas, and its place.
pub(super) fn function_name(name: &ObjectName) -> Result<(String, usize), PlanError> {
    let mut parts = vec![];
    for part in &name.0 {
        match part {
            ObjectNamePart::Identifier(ident) => parts.push(ident),
            ObjectNamePart::Function(_) => {
                return Err(PlanError::unsupported("this form of a function's name"));
            }
        }
    }
    let at = parts.first().map_or(0, |i| position(i.span));
    match parts.as_slice() {
        [name] => Ok((fold(name), at)),
        [schema, name] if is_system_schema(&fold(schema)) => Ok((fold(name), at)),
        [.., schema, name] => {
            let message = format!("function {}.{}() does not exist", fold(schema), fold(name));
            Err(PlanError::new("42883", message).at(at))
        }
        [] => Err(PlanError::unsupported("a function without a name")),
    }
}

impl QueryPlanner<'_> {
    pub(super) fn function(&self, ctx: &Ctx<'_>, function: &Function) -> Result<Typed, PlanError> {
        let (name, at) = function_name(&function.name)?;
        if function.over.is_some() {
            return Err(PlanError::unsupported("a window function").at(at));
        }
        if !function.within_group.is_empty() || function.null_treatment.is_some() {
            return Err(PlanError::unsupported("WITHIN GROUP or NULLS treatment").at(at));
        }
        let list = match &function.args {
            FunctionArguments::None => None,
            FunctionArguments::Subquery(query) if name == "array" => {
                return self.array_subquery(ctx, query);
            }
            FunctionArguments::Subquery(query) => {
                // `f((SELECT ...))` with one pair of parentheses lost.
                let arg = self.scalar_subquery(ctx, query)?;
                return self.call_function(ctx, &name, vec![arg], at);
            }
            FunctionArguments::List(list) => Some(list),
        };
        let args: &[FunctionArg] = list.map_or(&[], |l| &l.args);
        let distinct =
            list.is_some_and(|l| l.duplicate_treatment == Some(DuplicateTreatment::Distinct));
        if func::is_aggregate(&name) {
            let mut order_by: &[OrderByExpr] = &[];
            for clause in list.iter().flat_map(|l| &l.clauses) {
                match clause {
                    FunctionArgumentClause::OrderBy(terms) => order_by = terms,
                    _ => return Err(PlanError::unsupported("this clause of an aggregate").at(at)),
                }
            }
            let filter = function.filter.as_deref();
            return self.aggregate(ctx, name, args, distinct, order_by, filter, at);
        }
        if distinct || function.filter.is_some() || list.is_some_and(|l| !l.clauses.is_empty()) {
            let what = if distinct { "DISTINCT" } else { "FILTER" };
            let message = format!("{what} specified, but {name} is not an aggregate function");
            return Err(PlanError::new("42809", message).at(at));
        }
        if super::table_function::is_table_function(&name) {
            if !ctx.table_functions {
                let message = format!("set-returning functions are not allowed in {}", ctx.clause);
                return Err(PlanError::new("0A000", message).at(at));
            }
            let args = self.function_args(ctx, args)?;
            let call = self.table_call(&name, args, at)?;
            let ty = call.ty.clone();
            let expr = HirScalar::TableFunc {
                func: call.func,
                args: call.args,
                ty: call.ty,
            };
            return Ok(Typed::new(expr, ty).at(at));
        }
        if list.is_none()
            && let Some(value) = self.bare_function(&name, at)?
        {
            return Ok(value);
        }
        let args = self.function_args(ctx, args)?;
        self.call_function(ctx, &name, args, at).map(|t| t.at(at))
    }

    pub(super) fn function_args(
        &self,
        ctx: &Ctx<'_>,
        args: &[FunctionArg],
    ) -> Result<Vec<Typed>, PlanError> {
        let mut typed = vec![];
        for arg in args {
            typed.push(self.expr(ctx, plain_arg(arg)?)?);
        }
        Ok(typed)
    }

    #[allow(clippy::too_many_arguments)]
    fn aggregate(
        &self,
        ctx: &Ctx<'_>,
        name: String,
        args: &[FunctionArg],
        distinct: bool,
        order_by: &[OrderByExpr],
        filter: Option<&Expr>,
        at: usize,
    ) -> Result<Typed, PlanError> {
        if !ctx.aggregates {
            let message = format!("aggregate functions are not allowed in {}", ctx.clause);
            return Err(PlanError::new("42803", message).at(at));
        }
        let inner = Ctx {
            aggregates: false,
            table_functions: false,
            clause: "an aggregate's argument",
            seen: Default::default(),
            ..*ctx
        };
        let nested = |e: PlanError| match e.sqlstate {
            "42803" => PlanError::new("42803", "aggregate function calls cannot be nested")
                .at(e.position.unwrap_or(at)),
            _ => e,
        };
        let star = matches!(args, [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]);
        if star && name != "count" {
            return Err(func::no_function(&name, &[], at));
        }
        if args.is_empty() {
            return Err(match name.as_str() {
                "count" => PlanError::new(
                    "42809",
                    "count(*) must be used to call a parameterless aggregate function",
                )
                .at(at),
                _ => func::no_function(&name, &[], at),
            });
        }
        let args = match star {
            true => vec![],
            false => self.function_args(&inner, args).map_err(nested)?,
        };
        let filter = filter
            .map(|f| self.boolean(&inner, f, "FILTER"))
            .transpose()?;
        refuse_outer_aggregate(&args, filter.as_ref(), at)?;
        let keyed = matches!(name.as_str(), "array_agg" | "string_agg")
            && (!order_by.is_empty() || filter.is_some());
        if keyed {
            return self.ordered_aggregate(&inner, &name, args, distinct, order_by, filter, at);
        }
        let scale = |expr: &HirScalar| {
            fixed_scale(expr, &|c| match c.level {
                0 => ctx.scope.columns[c.index].scale,
                _ => None,
            })
        };
        let call = AggregateCall {
            name,
            args,
            distinct,
            filter,
            position: at,
        };
        func::plan_aggregate(&self.coercer(), call, &scale).map(|t| t.at(at))
    }

    /// `array_agg` and `string_agg` with ORDER BY or FILTER: records of sort keys and value are collected, then put in order.
    #[allow(clippy::too_many_arguments)]
    fn ordered_aggregate(
        &self,
        ctx: &Ctx<'_>,
        name: &str,
        args: Vec<Typed>,
        distinct: bool,
        order_by: &[OrderByExpr],
        filter: Option<HirScalar>,
        at: usize,
    ) -> Result<Typed, PlanError> {
        let is_string = name == "string_agg";
        if args.len() != if is_string { 2 } else { 1 } {
            let types: Vec<SqlType> = args.iter().map(|a| a.ty.clone()).collect();
            return Err(func::no_function(name, &types, at));
        }
        let mut fields = vec![];
        let mut spec = String::new();
        for term in order_by {
            let key = self.expr(ctx, &term.expr)?;
            fields.push(self.coercer().concrete(key)?);
            spec.push_str(order_code(&super::order::column_order(term, 0)?));
        }
        let mut values = vec![];
        for arg in args {
            let value = match is_string {
                true => {
                    let expr = self.coercer().coerce(
                        arg,
                        &SqlType::Text,
                        crate::types::CastContext::Implicit,
                    )?;
                    Typed::new(expr, SqlType::Text)
                }
                false => self.coercer().concrete(arg)?,
            };
            values.push(value);
        }
        let element = values[0].ty.without_typmod();
        fields.extend(values);
        let record = super::expr::record(fields)?;
        let expr = match filter {
            None => record.expr,
            Some(filter) => HirScalar::If {
                cond: Box::new(filter),
                then: Box::new(record.expr),
                els: Box::new(HirScalar::null(record.ty.clone())),
            },
        };
        let aggregate = HirAggregate {
            func: AggregateFunc::ArrayAgg {
                element: record.ty.clone(),
            },
            expr,
            distinct,
            ty: record.ty.clone().array_of().nullable(true),
        };
        let collected = HirScalar::Aggregate(Box::new(aggregate));
        let spec = HirScalar::literal(Datum::String(&spec), SqlType::Text);
        let (func, ty) = match is_string {
            true => ("string_ordered", SqlType::Text),
            false => ("array_ordered", element.array_of()),
        };
        func::exact(func, vec![collected, spec], ty).map(|t| t.at(at))
    }
}

/// `a` or `d` for the direction, `l` or `f` for where NULLs go.
fn order_code(order: &ColumnOrder) -> &'static str {
    match (order.desc, order.nulls_last) {
        (false, true) => "al",
        (false, false) => "af",
        (true, true) => "dl",
        (true, false) => "df",
    }
}

type Finish = Box<dyn FnOnce(HirScalar) -> Result<HirScalar, PlanError>>;

/// What to collect so that an array of values can be put in order afterwards: the expression, its type, and the last step.
pub(super) fn ordered_array(
    value: Typed,
    keys: Vec<Typed>,
    order_by: &[ColumnOrder],
) -> Result<(HirScalar, SqlType, Finish), PlanError> {
    // Values alone are collected in their own order.
    let natural = match (keys.as_slice(), order_by) {
        ([], _) => true,
        ([key], [order]) => key.expr == value.expr && !order.desc && order.nulls_last,
        _ => false,
    };
    if natural {
        return Ok((value.expr, value.ty, Box::new(Ok)));
    }
    let array_ty = value.ty.clone().array_of();
    let spec: String = order_by.iter().map(order_code).collect();
    let mut fields = keys;
    fields.push(value);
    let record = super::expr::record(fields)?;
    let finish = move |collected| {
        let spec = HirScalar::literal(Datum::String(&spec), SqlType::Text);
        cast::call("array_ordered", vec![collected, spec], array_ty)
    };
    Ok((record.expr, record.ty, Box::new(finish)))
}

/// An argument without a name.
fn plain_arg(arg: &FunctionArg) -> Result<&Expr, PlanError> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
        FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => {
            Err(PlanError::new("42601", "syntax error at or near \"*\""))
        }
        FunctionArg::Unnamed(
            FunctionArgExpr::QualifiedWildcard(_) | FunctionArgExpr::WildcardWithOptions(_),
        ) => Err(PlanError::unsupported("a row as an argument of a function")),
        FunctionArg::Named { .. } | FunctionArg::ExprNamed { .. } => {
            Err(PlanError::unsupported("named arguments of functions").at(position(arg.span())))
        }
    }
}

/// An aggregate that reads columns of an enclosing query and none of its own belongs to that query (SQL:2016, 6.9; PostgreSQL 4.2.7), which is not supported.
fn refuse_outer_aggregate(
    args: &[Typed],
    filter: Option<&HirScalar>,
    at: usize,
) -> Result<(), PlanError> {
    let (mut own, mut outer) = (false, false);
    for scalar in args.iter().map(|a| &a.expr).chain(filter) {
        scalar.visit_columns(&mut |c| match c.level {
            0 => own = true,
            _ => outer = true,
        });
    }
    if own || !outer {
        return Ok(());
    }
    let error =
        PlanError::unsupported("an aggregate function over columns of an outer query alone");
    Err(error
        .with_hint("It belongs to that outer query: compute it there, in a subquery in FROM.")
        .at(at))
}
