//! Aggregate functions.

use crate::error::PlanError;
use crate::hir::{HirAggregate, HirScalar};
use crate::types::cast::{self, CastContext};
use crate::types::coerce::{Coercer, Typed};
use plan::AggregateFunc;
use repr::SqlType;

/// A call of an aggregate with its arguments typed.
pub struct AggregateCall {
    pub name: String,
    /// Empty for `count(*)`.
    pub args: Vec<Typed>,
    pub distinct: bool,
    /// `FILTER (WHERE condition)`.
    pub filter: Option<HirScalar>,
    pub position: usize,
}

pub fn is_aggregate(name: &str) -> bool {
    matches!(
        name,
        "count"
            | "sum"
            | "min"
            | "max"
            | "avg"
            | "bool_and"
            | "bool_or"
            | "every"
            | "array_agg"
            | "string_agg"
    )
}

/// The value of the call: an aggregate, or for `avg` a quotient of two. `scale` finds the fixed display scale of a numeric argument.
pub fn plan_aggregate(
    coercer: &Coercer<'_>,
    call: AggregateCall,
    scale: &dyn Fn(&HirScalar) -> Option<u16>,
) -> Result<Typed, PlanError> {
    let AggregateCall {
        name,
        mut args,
        distinct,
        filter,
        position,
    } = call;
    let types: Vec<SqlType> = args.iter().map(|a| a.ty.clone()).collect();
    let missing = || super::no_function(&name, &types, position);
    let expected = match name.as_str() {
        "count" => args.len() <= 1,
        "string_agg" => args.len() == 2,
        _ => args.len() == 1,
    };
    if !expected {
        return Err(missing());
    }
    let aggregate = |func: AggregateFunc, expr: HirScalar, ty: SqlType| {
        let nullable = func != AggregateFunc::Count;
        let expr = match &filter {
            None => expr,
            Some(condition) => {
                let null = HirScalar::null(argument_type(&func, &expr));
                HirScalar::If {
                    cond: Box::new(condition.clone()),
                    then: Box::new(expr),
                    els: Box::new(null),
                }
            }
        };
        let aggregate = HirAggregate {
            func,
            expr,
            distinct,
            ty: ty.clone().nullable(nullable),
        };
        Typed::new(HirScalar::Aggregate(Box::new(aggregate)), ty)
    };
    if name == "count" {
        let expr = match args.pop() {
            None => HirScalar::bool(true),
            Some(arg) => coercer.concrete(arg)?.expr,
        };
        return Ok(aggregate(AggregateFunc::Count, expr, SqlType::Int64));
    }
    if name == "string_agg" {
        return string_agg(coercer, args, filter, distinct, position);
    }
    let arg = args.pop().ok_or_else(missing)?;
    match name.as_str() {
        "min" | "max" => {
            let arg = coercer.concrete(arg)?;
            let ty = match &arg.ty {
                // PostgreSQL has these for text only.
                SqlType::Varchar(_) | SqlType::Name => SqlType::Text,
                SqlType::Bool | SqlType::Uuid | SqlType::Record(_) | SqlType::Bytea => {
                    return Err(missing());
                }
                other => other.clone(),
            };
            let func = match name.as_str() {
                "min" => AggregateFunc::Min(ty.clone()),
                _ => AggregateFunc::Max(ty.clone()),
            };
            let expr = coercer.coerce(arg, &ty, CastContext::Implicit)?;
            Ok(aggregate(func, expr, ty))
        }
        "bool_and" | "every" | "bool_or" => {
            let expr = coercer
                .try_coerce(arg, &SqlType::Bool, CastContext::Implicit)
                .map_err(|_| missing())?;
            let func = match name.as_str() {
                "bool_or" => AggregateFunc::BoolOr,
                _ => AggregateFunc::BoolAnd,
            };
            Ok(aggregate(func, expr, SqlType::Bool))
        }
        "array_agg" => {
            if filter.is_some() {
                return Err(PlanError::unsupported("FILTER on array_agg").at(position));
            }
            let arg = coercer.concrete(arg)?;
            if matches!(arg.ty, SqlType::Array(_)) {
                return Err(PlanError::unsupported("array_agg of arrays").at(position));
            }
            let element = arg.ty.without_typmod();
            let func = AggregateFunc::ArrayAgg {
                element: element.clone(),
            };
            Ok(aggregate(func, arg.expr, element.array_of()))
        }
        _ => {
            let arg = match arg.is_unknown() {
                true => return Err(missing()),
                false => arg,
            };
            let (func, expr, ty) = sum(arg, scale).ok_or_else(missing)?;
            if name == "sum" {
                return Ok(aggregate(func, expr, ty));
            }
            average(coercer, &aggregate, func, expr, ty)
        }
    }
}

/// The sum of an argument: function, argument, result type; `None` if there is none for the type.
fn sum(
    arg: Typed,
    scale: &dyn Fn(&HirScalar) -> Option<u16>,
) -> Option<(AggregateFunc, HirScalar, SqlType)> {
    Some(match &arg.ty {
        SqlType::Int16 | SqlType::Int32 => (AggregateFunc::SumInt, arg.expr, SqlType::Int64),
        SqlType::Int64 => (AggregateFunc::SumInt8, arg.expr, SqlType::Numeric(None)),
        SqlType::Numeric(_) => {
            let scale = scale(&arg.expr);
            (
                AggregateFunc::SumNumeric { scale },
                arg.expr,
                SqlType::Numeric(None),
            )
        }
        SqlType::Float32 => (AggregateFunc::SumFloat32, arg.expr, SqlType::Float32),
        SqlType::Float64 => (AggregateFunc::SumFloat64, arg.expr, SqlType::Float64),
        SqlType::Interval => (AggregateFunc::SumInterval, arg.expr, SqlType::Interval),
        _ => return None,
    })
}

/// `sum / count`, in the type that PostgreSQL averages in.
fn average(
    coercer: &Coercer<'_>,
    aggregate: &dyn Fn(AggregateFunc, HirScalar, SqlType) -> Typed,
    func: AggregateFunc,
    expr: HirScalar,
    ty: SqlType,
) -> Result<Typed, PlanError> {
    let count = aggregate(AggregateFunc::Count, expr.clone(), SqlType::Int64);
    let (func, expr, ty) = match func {
        AggregateFunc::SumFloat32 => {
            let wide = cast::apply(expr, &SqlType::Float32, &SqlType::Float64)?;
            (AggregateFunc::SumFloat64, wide, SqlType::Float64)
        }
        func => (func, expr, ty),
    };
    let sum = aggregate(func, expr, ty.clone());
    let (ty, divide, divisor) = match ty {
        SqlType::Float64 => (SqlType::Float64, "float8div", SqlType::Float64),
        SqlType::Interval => (SqlType::Interval, "interval_div", SqlType::Float64),
        _ => (
            SqlType::Numeric(None),
            "numeric_div",
            SqlType::Numeric(None),
        ),
    };
    let sum = coercer.coerce(sum, &ty, CastContext::Implicit)?;
    let count = coercer.coerce(count, &divisor, CastContext::Implicit)?;
    // Without rows the count is 0 and the sum NULL, so the division gives NULL.
    super::exact(divide, vec![sum, count], ty)
}

fn string_agg(
    coercer: &Coercer<'_>,
    mut args: Vec<Typed>,
    filter: Option<HirScalar>,
    distinct: bool,
    position: usize,
) -> Result<Typed, PlanError> {
    let (Some(separator), Some(value)) = (args.pop(), args.pop()) else {
        return Err(super::no_function("string_agg", &[], position));
    };
    let types = [value.ty.clone(), separator.ty.clone()];
    let missing = |_| super::no_function("string_agg", &types, position);
    let value = coercer
        .try_coerce(value, &SqlType::Text, CastContext::Implicit)
        .map_err(missing)?;
    let separator = coercer
        .try_coerce(separator, &SqlType::Text, CastContext::Implicit)
        .map_err(missing)?;
    let pair_type = SqlType::Record(vec![SqlType::Text, SqlType::Text]);
    let pair = cast::call(
        "make_record",
        vec![value.clone(), separator],
        pair_type.clone(),
    )?;
    // NULL values do not take part.
    let wanted = HirScalar::call("is_not_null", vec![value], SqlType::Bool);
    let condition = match filter {
        Some(filter) => HirScalar::call("and", vec![wanted, filter], SqlType::Bool),
        None => wanted,
    };
    let aggregate = HirAggregate {
        func: AggregateFunc::StringAgg,
        expr: HirScalar::If {
            cond: Box::new(condition),
            then: Box::new(pair),
            els: Box::new(HirScalar::null(pair_type)),
        },
        distinct,
        ty: SqlType::Text.nullable(true),
    };
    Ok(Typed::new(
        HirScalar::Aggregate(Box::new(aggregate)),
        SqlType::Text,
    ))
}

/// The type of the NULL that a filtered-out row contributes.
fn argument_type(func: &AggregateFunc, expr: &HirScalar) -> SqlType {
    if let HirScalar::Literal(_, ty) = expr {
        return ty.ty.clone();
    }
    match func {
        AggregateFunc::Count => match expr {
            HirScalar::Call { ty, .. } | HirScalar::Param(_, ty) => ty.clone(),
            _ => SqlType::Text,
        },
        AggregateFunc::SumInt => SqlType::Int32,
        AggregateFunc::SumInt8 => SqlType::Int64,
        AggregateFunc::SumNumeric { .. } => SqlType::Numeric(None),
        AggregateFunc::SumFloat32 => SqlType::Float32,
        AggregateFunc::SumFloat64 => SqlType::Float64,
        AggregateFunc::SumInterval => SqlType::Interval,
        AggregateFunc::Min(ty) | AggregateFunc::Max(ty) => ty.clone(),
        AggregateFunc::BoolAnd | AggregateFunc::BoolOr => SqlType::Bool,
        AggregateFunc::ArrayAgg { element } => element.clone(),
        AggregateFunc::StringAgg => SqlType::Record(vec![SqlType::Text, SqlType::Text]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repr::Datum;

    #[test]
    fn count_star_counts_true() {
        let params = std::cell::RefCell::new(crate::ParamTypes::default());
        let eval = plan::scalar::EvalCtx::default();
        let coercer = Coercer {
            params: &params,
            eval: &eval,
        };
        let call = AggregateCall {
            name: "count".to_owned(),
            args: vec![],
            distinct: false,
            filter: None,
            position: 0,
        };
        let typed = plan_aggregate(&coercer, call, &|_| None).unwrap();
        let HirScalar::Aggregate(aggregate) = typed.expr else {
            panic!("not an aggregate")
        };
        assert_eq!(aggregate.expr.as_literal(), Some(Datum::Bool(true)));
        assert!(!aggregate.ty.nullable);
    }
}
