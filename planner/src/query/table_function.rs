//! Set-returning functions.

use super::QueryPlanner;
use crate::error::PlanError;
use crate::func;
use crate::hir::{Hir, HirScalar};
use crate::types::cast::CastContext;
use crate::types::coerce::Typed;
use plan::TableFunc;
use repr::{Datum, SqlType};

/// A set-returning function with its arguments, and the type of its only column.
pub(super) struct TableCall {
    pub func: TableFunc,
    pub args: Vec<HirScalar>,
    pub ty: SqlType,
}

pub(super) fn is_table_function(name: &str) -> bool {
    matches!(
        name,
        "generate_series"
            | "unnest"
            | "generate_subscripts"
            | "regexp_split_to_table"
            | "string_to_table"
    )
}

impl QueryPlanner<'_> {
    /// A function in FROM, as a relation: its columns' own names (`None`: that of the item) and types.
    #[allow(clippy::type_complexity)]
    pub(super) fn function_relation(
        &self,
        name: &str,
        args: Vec<Typed>,
        at: usize,
    ) -> Result<(Hir, Vec<(Option<&'static str>, SqlType)>), PlanError> {
        if is_table_function(name) {
            let call = self.table_call(name, args, at)?;
            let hir = Hir::FlatMap {
                input: Box::new(Hir::unit()),
                func: call.func,
                args: call.args,
                types: vec![call.ty.clone().nullable(true)],
            };
            return Ok((hir, vec![(None, call.ty)]));
        }
        // Any other function is a relation of one row.
        let scope = crate::scope::Scope::default();
        let env = super::Env {
            outer: None,
            ctes: None,
        };
        let ctx = super::Ctx::new(&scope, env, "FROM");
        let value = self.call_function(&ctx, name, args, at)?;
        let value = self.coercer().concrete(value)?;
        Ok((Hir::unit().map(vec![value.expr]), vec![(None, value.ty)]))
    }

    pub(super) fn table_call(
        &self,
        name: &str,
        mut args: Vec<Typed>,
        at: usize,
    ) -> Result<TableCall, PlanError> {
        let types: Vec<SqlType> = args.iter().map(|a| a.ty.clone()).collect();
        let missing = || func::no_function(name, &types, at);
        match (name, args.len()) {
            ("generate_series", 2 | 3) => self.generate_series(args, missing),
            ("unnest", 1) => {
                let arg = args.remove(0);
                let element = match &arg.ty {
                    SqlType::Unknown => {
                        return Err(PlanError::new(
                            "42725",
                            "function unnest(unknown) is not unique",
                        )
                        .at(at));
                    }
                    ty => ty.element().ok_or_else(missing)?,
                };
                Ok(TableCall {
                    func: TableFunc::Unnest {
                        element: element.clone(),
                    },
                    args: vec![arg.expr],
                    ty: element,
                })
            }
            ("generate_subscripts", 2) => {
                let dim = args.remove(1);
                let array = args.remove(0);
                array.ty.element().ok_or_else(missing)?;
                let dim = self
                    .coercer()
                    .coerce(dim, &SqlType::Int32, CastContext::Implicit)?;
                Ok(TableCall {
                    func: TableFunc::GenerateSubscripts,
                    args: vec![array.expr, dim],
                    ty: SqlType::Int32,
                })
            }
            ("regexp_split_to_table" | "string_to_table", _) => {
                let inner = match name {
                    "string_to_table" => "string_to_array",
                    _ => "regexp_split_to_array",
                };
                let array = func::call(&self.coercer(), inner, args, at)?;
                self.table_call("unnest", vec![array], at)
            }
            _ => Err(missing()),
        }
    }

    fn generate_series(
        &self,
        args: Vec<Typed>,
        missing: impl Fn() -> PlanError,
    ) -> Result<TableCall, PlanError> {
        let coercer = self.coercer();
        let known = |f: fn(&SqlType) -> bool| args.iter().any(|a| f(&a.ty));
        let stepped = args.len() == 3;
        let (func, ty, step) = if known(|t| matches!(t, SqlType::TimestampTz(_))) {
            let ty = SqlType::TimestampTz(None);
            (TableFunc::GenerateSeriesTimestampTz, ty, SqlType::Interval)
        } else if known(|t| matches!(t, SqlType::Timestamp(_))) {
            let ty = SqlType::Timestamp(None);
            (TableFunc::GenerateSeriesTimestamp, ty, SqlType::Interval)
        } else if known(|t| matches!(t, SqlType::Date)) {
            let ty = SqlType::TimestampTz(None);
            (TableFunc::GenerateSeriesTimestampTz, ty, SqlType::Interval)
        } else if known(|t| matches!(t, SqlType::Numeric(_) | SqlType::Float64 | SqlType::Float32))
        {
            return Err(PlanError::unsupported("generate_series of numeric"));
        } else if known(|t| matches!(t, SqlType::Int64)) {
            (
                TableFunc::GenerateSeriesInt64,
                SqlType::Int64,
                SqlType::Int64,
            )
        } else if args
            .iter()
            .all(|a| matches!(a.ty, SqlType::Int16 | SqlType::Int32 | SqlType::Unknown))
        {
            (
                TableFunc::GenerateSeriesInt32,
                SqlType::Int32,
                SqlType::Int32,
            )
        } else {
            return Err(missing());
        };
        if step == SqlType::Interval && !stepped {
            return Err(missing());
        }
        let mut coerced = vec![];
        for (i, arg) in args.into_iter().enumerate() {
            let target = if i == 2 { &step } else { &ty };
            coerced.push(coercer.coerce(arg, target, CastContext::Implicit)?);
        }
        if !stepped {
            coerced.push(match ty {
                SqlType::Int32 => HirScalar::literal(Datum::Int32(1), SqlType::Int32),
                _ => HirScalar::literal(Datum::Int64(1), SqlType::Int64),
            });
        }
        Ok(TableCall {
            func,
            args: coerced,
            ty,
        })
    }
}
