//! Finds sums of numerics all of whose inputs have the same display scale: those can be kept as one integer per group.

use plan::agg::AggregateFunc;
use plan::mir::Id;
use plan::{AggregateExpr, Mir, ScalarExpr};
use repr::{ColumnType, Datum, SqlType};
use std::collections::BTreeMap;

/// A column's display scale, if all its values (but NULL) have the same.
type Scale = Option<u16>;

pub fn sum_scale(mir: &mut Mir) {
    scales(mir, &mut BTreeMap::new());
}

/// Annotates the sums of the plan and returns the scales of its columns.
fn scales(mir: &mut Mir, locals: &mut BTreeMap<u64, Vec<Scale>>) -> Vec<Scale> {
    match mir {
        Mir::Constant { types, .. }
        | Mir::Get {
            id: Id::Global(_),
            types,
            ..
        } => types.iter().map(declared).collect(),
        Mir::Get {
            id: Id::Local(id),
            types,
            ..
        } => match locals.get(id) {
            Some(known) if known.len() == types.len() => known.clone(),
            _ => types.iter().map(declared).collect(),
        },
        Mir::Let { id, value, body } => {
            let known = scales(value, locals);
            locals.insert(*id, known);
            scales(body, locals)
        }
        Mir::Project { input, outputs } => {
            let input = scales(input, locals);
            outputs.iter().map(|c| input[*c]).collect()
        }
        Mir::Map { input, scalars } => {
            let mut columns = scales(input, locals);
            for scalar in scalars {
                columns.push(scale(scalar, &columns));
            }
            columns
        }
        Mir::FlatMap { input, types, .. } => {
            let mut columns = scales(input, locals);
            columns.extend(types.iter().map(declared));
            columns
        }
        Mir::Filter { input, .. }
        | Mir::TopK { input, .. }
        | Mir::Negate { input }
        | Mir::Threshold { input }
        | Mir::ArrangeBy { input, .. } => scales(input, locals),
        Mir::Join { inputs, .. } => inputs
            .iter_mut()
            .flat_map(|input| scales(input, locals))
            .collect(),
        Mir::Union { inputs } => {
            let mut all = inputs
                .iter_mut()
                .map(|input| scales(input, locals))
                .collect::<Vec<_>>()
                .into_iter();
            let first = all.next().unwrap_or_default();
            all.fold(first, |a, b| {
                a.iter()
                    .zip(&b)
                    .map(|(a, b)| if a == b { *a } else { None })
                    .collect()
            })
        }
        Mir::Reduce {
            input,
            group_key,
            aggregates,
        } => {
            let types = input.types();
            let columns = scales(input, locals);
            // A group's key is the canonical one of equal values, whose scale is its own unless the type fixes it.
            let keys: Vec<Scale> = group_key.iter().map(|k| declared(&k.typ(&types))).collect();
            keys.into_iter()
                .chain(aggregates.iter_mut().map(|a| aggregate(a, &columns)))
                .collect()
        }
    }
}

fn declared(ty: &ColumnType) -> Scale {
    match &ty.ty {
        SqlType::Numeric(Some(typmod)) => u16::try_from(typmod.scale).ok(),
        _ => None,
    }
}

fn aggregate(aggregate: &mut AggregateExpr, columns: &[Scale]) -> Scale {
    let argument = scale(&aggregate.expr, columns);
    match &mut aggregate.func {
        AggregateFunc::SumNumeric { scale } => {
            *scale = scale.or(argument);
            *scale
        }
        AggregateFunc::SumInt8 => Some(0),
        AggregateFunc::Min(SqlType::Numeric(_)) | AggregateFunc::Max(SqlType::Numeric(_)) => {
            argument
        }
        AggregateFunc::Count
        | AggregateFunc::SumInt
        | AggregateFunc::SumFloat32
        | AggregateFunc::SumFloat64
        | AggregateFunc::SumInterval
        | AggregateFunc::Min(_)
        | AggregateFunc::Max(_)
        | AggregateFunc::BoolAnd
        | AggregateFunc::BoolOr
        | AggregateFunc::ArrayAgg { .. }
        | AggregateFunc::StringAgg => None,
    }
}

/// The scale of the values of a numeric expression.
fn scale(expr: &ScalarExpr, columns: &[Scale]) -> Scale {
    match expr {
        ScalarExpr::Column(c) => columns[*c],
        ScalarExpr::Literal(Ok(row), ty) => match row.iter().next() {
            Some(Datum::Numeric(n)) if !n.is_nan() => Some(n.scale()),
            _ => declared(ty),
        },
        ScalarExpr::If { then, els, .. } => {
            scale(then, columns).filter(|s| scale(els, columns) == Some(*s))
        }
        ScalarExpr::Call { func, args, ty } => match (func.name(), args.as_slice()) {
            ("numeric_add" | "numeric_sub", [a, b]) => {
                Some(scale(a, columns)?.max(scale(b, columns)?))
            }
            ("numeric_mul", [a, b]) => scale(a, columns)?.checked_add(scale(b, columns)?),
            ("numeric_uminus" | "numeric_abs" | "relabel", [a]) => scale(a, columns),
            ("cast_int2_to_numeric" | "cast_int4_to_numeric" | "cast_int8_to_numeric", _) => {
                Some(0)
            }
            ("apply_typmod" | "apply_typmod_assign", _) => {
                declared(&ColumnType::new(ty.clone(), true))
            }
            ("coalesce", [first, rest @ ..]) => {
                scale(first, columns).filter(|s| rest.iter().all(|e| scale(e, columns) == Some(*s)))
            }
            _ => None,
        },
        ScalarExpr::Literal(Err(_), _)
        | ScalarExpr::Param(..)
        | ScalarExpr::Unmaterializable(_) => None,
    }
}
