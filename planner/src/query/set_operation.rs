//! UNION, INTERSECT, EXCEPT.

use super::{Env, QueryPlanner};
use crate::ast::sql::{SetExpr, SetOperator, SetQuantifier};
use crate::error::PlanError;
use crate::hir::{Hir, HirAggregate, HirScalar};
use crate::scope::Scope;
use crate::types::cast::CastContext;
use crate::types::coerce::Typed;
use crate::types::common_type;
use plan::AggregateFunc;
use repr::{Datum, SqlType};

/// One input of a set operation.
type Side = (Hir, Scope);

impl QueryPlanner<'_> {
    /// A chain of set operations: left-deep in the syntax, walked without recursion.
    pub(super) fn set_operations(
        &self,
        body: &SetExpr,
        env: Env<'_>,
    ) -> Result<(Hir, Scope), PlanError> {
        let mut spine = vec![];
        let mut first = body;
        while let SetExpr::SetOperation {
            left,
            op,
            set_quantifier,
            right,
        } = first
        {
            let all = match set_quantifier {
                SetQuantifier::All => true,
                SetQuantifier::None | SetQuantifier::Distinct => false,
                SetQuantifier::ByName
                | SetQuantifier::AllByName
                | SetQuantifier::DistinctByName => {
                    return Err(PlanError::unsupported("set operations BY NAME"));
                }
            };
            spine.push((*op, all, right));
            first = left;
        }
        let mut result = self.set_expr(first, env)?;
        for (op, all, right) in spine.into_iter().rev() {
            let right = self.set_expr(right, env)?;
            let ((left_hir, mut scope), (right_hir, right_scope)) =
                self.align(result, right, name_of(op))?;
            for (column, other) in scope.columns.iter_mut().zip(&right_scope.columns) {
                column.ty.nullable |= other.ty.nullable;
                if column.scale != other.scale {
                    column.scale = None;
                }
            }
            scope.determined.clear();
            let hir = combine(op, all, left_hir, right_hir);
            result = (hir, scope);
        }
        Ok(result)
    }

    /// Brings both sides to common types.
    fn align(&self, left: Side, right: Side, name: &str) -> Result<(Side, Side), PlanError> {
        if left.1.columns.len() != right.1.columns.len() {
            let message = format!("each {name} query must have the same number of columns");
            return Err(PlanError::new("42601", message));
        }
        let mut targets = vec![];
        for (l, r) in left.1.columns.iter().zip(&right.1.columns) {
            let ty = common_type(&[l.ty.ty.clone(), r.ty.ty.clone()]).ok_or_else(|| {
                let message = format!(
                    "{name} types {} and {} cannot be matched",
                    l.ty.ty.base_name(),
                    r.ty.ty.base_name()
                );
                PlanError::new("42804", message)
            })?;
            targets.push(ty);
        }
        Ok((
            self.cast_columns(left, &targets)?,
            self.cast_columns(right, &targets)?,
        ))
    }

    /// Casts a relation's columns implicitly.
    pub(super) fn cast_columns(
        &self,
        (mut hir, mut scope): (Hir, Scope),
        targets: &[SqlType],
    ) -> Result<(Hir, Scope), PlanError> {
        for (i, target) in targets.iter().enumerate() {
            if scope.columns[i].ty.ty == SqlType::Unknown {
                hir = self.retype(hir, &[i], target)?;
                scope.columns[i].ty.ty = target.clone();
            }
        }
        let arity = scope.columns.len();
        let mut scalars = vec![];
        let mut outputs: Vec<usize> = (0..arity).collect();
        for (i, target) in targets.iter().enumerate() {
            let column = &mut scope.columns[i];
            if column.ty.ty == *target {
                continue;
            }
            if !column.ty.ty.same_base(target) {
                let typed = Typed::new(HirScalar::column(i), column.ty.ty.clone());
                let cast = self
                    .coercer()
                    .coerce(typed, target, CastContext::Implicit)?;
                let scale = crate::types::scale::fixed_scale(&cast, &|_| column.scale);
                column.scale = scale;
                outputs[i] = arity + scalars.len();
                scalars.push(cast);
            }
            column.ty.ty = target.clone();
        }
        if !scalars.is_empty() {
            hir = hir.map(scalars).project(outputs);
        }
        Ok((hir, scope))
    }
}

fn name_of(op: SetOperator) -> &'static str {
    match op {
        SetOperator::Union => "UNION",
        SetOperator::Except | SetOperator::Minus => "EXCEPT",
        SetOperator::Intersect => "INTERSECT",
    }
}

/// The rows of `left` that occur in `right` as well, counted on both sides per row.
fn intersect(left: Hir, right: Hir, all: bool) -> Hir {
    let arity = left.arity();
    let tagged = |hir: Hir, l: i64, r: i64| {
        let tag = |n| HirScalar::literal(Datum::Int32(n as i32), SqlType::Int32);
        hir.map(vec![tag(l), tag(r)])
    };
    let sum = |column: usize| HirAggregate {
        func: AggregateFunc::SumInt,
        expr: HirScalar::column(column),
        distinct: false,
        ty: SqlType::Int64.nullable(true),
    };
    let counted = Hir::Reduce {
        input: Box::new(Hir::Union {
            inputs: vec![tagged(left, 1, 0), tagged(right, 0, 1)],
        }),
        group_key: (0..arity).map(HirScalar::column).collect(),
        aggregates: vec![sum(arity), sum(arity + 1)],
        global: false,
    };
    let positive = |column: usize| {
        HirScalar::call(
            "gt",
            vec![
                HirScalar::column(column),
                HirScalar::literal(Datum::Int64(0), SqlType::Int64),
            ],
            SqlType::Bool,
        )
    };
    let both = counted.filter(vec![positive(arity), positive(arity + 1)]);
    let outputs: Vec<usize> = (0..arity).collect();
    if !all {
        return both.project(outputs);
    }
    let least = HirScalar::call(
        "least",
        vec![HirScalar::column(arity), HirScalar::column(arity + 1)],
        SqlType::Int64,
    );
    let repeated = Hir::FlatMap {
        input: Box::new(both),
        func: plan::TableFunc::Repeat,
        args: vec![least],
        types: vec![],
    };
    repeated.project(outputs)
}

/// One set operation over aligned sides. A run of UNION ALL stays one union.
fn combine(op: SetOperator, all: bool, left: Hir, right: Hir) -> Hir {
    let negated = |hir: Hir| Hir::Negate {
        input: Box::new(hir),
    };
    let threshold = |hir: Hir| Hir::Threshold {
        input: Box::new(hir),
    };
    match (op, all) {
        (SetOperator::Union, all) => {
            let mut inputs = match left {
                Hir::Union { inputs } if all => inputs,
                other => vec![other],
            };
            inputs.push(right);
            let union = Hir::Union { inputs };
            match all {
                true => union,
                false => union.distinct(),
            }
        }
        (SetOperator::Except | SetOperator::Minus, true) => threshold(Hir::Union {
            inputs: vec![left, negated(right)],
        }),
        (SetOperator::Except | SetOperator::Minus, false) => threshold(Hir::Union {
            inputs: vec![left.distinct(), negated(right.distinct())],
        }),
        // A row of both sides: least of the two counts.
        (SetOperator::Intersect, all) => {
            let (left, right) = match all {
                true => (left, right),
                false => (left.distinct(), right.distinct()),
            };
            intersect(left, right, all)
        }
    }
}
