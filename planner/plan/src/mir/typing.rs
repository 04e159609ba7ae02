//! Types of the columns of a plan.

use super::Mir;
use crate::agg::{AggregateExpr, AggregateFunc};
use crate::scalar::ScalarExpr;
use repr::{ColumnType, SqlType};

impl Mir {
    /// The type of each output column. `nullable` is false only where NULL can never occur.
    pub fn types(&self) -> Vec<ColumnType> {
        match self {
            Mir::Constant { types, .. } | Mir::Get { types, .. } => types.clone(),
            Mir::Let { body, .. } => body.types(),
            Mir::Project { input, outputs } => {
                let types = input.types();
                outputs.iter().map(|c| types[*c].clone()).collect()
            }
            Mir::Map { input, scalars } => {
                let mut types = input.types();
                for scalar in scalars {
                    types.push(scalar.typ(&types));
                }
                types
            }
            Mir::FlatMap { input, types, .. } => {
                let mut all = input.types();
                all.extend(types.iter().cloned());
                all
            }
            Mir::Filter { input, predicates } => {
                let mut types = input.types();
                predicates
                    .iter()
                    .for_each(|p| forbid_null_if_true(p, &mut types));
                types
            }
            Mir::Join {
                inputs,
                equivalences,
                ..
            } => {
                let mut types: Vec<ColumnType> = inputs.iter().flat_map(Mir::types).collect();
                equivalences
                    .iter()
                    .flatten()
                    .for_each(|member| forbid_null(member, &mut types));
                types
            }
            Mir::Reduce {
                input,
                group_key,
                aggregates,
            } => {
                let input = input.types();
                let keys = group_key.iter().map(|e| e.typ(&input));
                keys.chain(aggregates.iter().map(|a| a.typ(&input)))
                    .collect()
            }
            Mir::TopK { input, .. }
            | Mir::Negate { input }
            | Mir::Threshold { input }
            | Mir::ArrangeBy { input, .. } => input.types(),
            Mir::Union { inputs } => {
                let mut types = inputs[0].types();
                for input in &inputs[1..] {
                    types
                        .iter_mut()
                        .zip(input.types())
                        .for_each(|(kept, other)| widen(kept, other));
                }
                types
            }
        }
    }
}

/// Makes `kept` describe values of both types, which differ at most in modifier and nullability.
fn widen(kept: &mut ColumnType, other: ColumnType) {
    kept.nullable |= other.nullable;
    if kept.ty != other.ty {
        kept.ty = kept.ty.without_typmod();
    }
}

/// The columns that cannot be NULL where the value of `e` is not.
fn forbid_null(e: &ScalarExpr, types: &mut [ColumnType]) {
    for column in e.support() {
        if e.propagates_null_of(column) {
            types[column].nullable = false;
        }
    }
}

/// As [`forbid_null`], where `e` is a condition that holds.
fn forbid_null_if_true(e: &ScalarExpr, types: &mut [ColumnType]) {
    match e {
        ScalarExpr::Call { func, args, .. } if func.is("and") => {
            args.iter().for_each(|arg| forbid_null_if_true(arg, types));
        }
        ScalarExpr::Call { func, args, .. } if func.is("is_not_null") => {
            forbid_null(&args[0], types)
        }
        other => forbid_null(other, types),
    }
}

impl AggregateExpr {
    /// The type of the result over groups of rows with these columns. A group has at least one row.
    pub fn typ(&self, input: &[ColumnType]) -> ColumnType {
        let nullable = match self.func {
            AggregateFunc::Count | AggregateFunc::ArrayAgg { .. } => false,
            // The pair is never NULL, its first field may be.
            AggregateFunc::StringAgg => true,
            AggregateFunc::SumInt
            | AggregateFunc::SumInt8
            | AggregateFunc::SumNumeric { .. }
            | AggregateFunc::SumFloat32
            | AggregateFunc::SumFloat64
            | AggregateFunc::SumInterval
            | AggregateFunc::Min(_)
            | AggregateFunc::Max(_)
            | AggregateFunc::BoolAnd
            | AggregateFunc::BoolOr => self.expr.nullable(input),
        };
        self.func.output_type().nullable(nullable)
    }
}

impl AggregateFunc {
    /// The type of the result.
    pub fn output_type(&self) -> SqlType {
        match self {
            AggregateFunc::Count | AggregateFunc::SumInt => SqlType::Int64,
            AggregateFunc::SumInt8 | AggregateFunc::SumNumeric { .. } => SqlType::Numeric(None),
            AggregateFunc::SumFloat32 => SqlType::Float32,
            AggregateFunc::SumFloat64 => SqlType::Float64,
            AggregateFunc::SumInterval => SqlType::Interval,
            AggregateFunc::Min(ty) | AggregateFunc::Max(ty) => ty.clone(),
            AggregateFunc::BoolAnd | AggregateFunc::BoolOr => SqlType::Bool,
            AggregateFunc::ArrayAgg { element } => element.clone().array_of(),
            AggregateFunc::StringAgg => SqlType::Text,
        }
    }
}
