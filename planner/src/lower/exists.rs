//! EXISTS as a condition: a semijoin, or its complement.

use super::{Lower, Lowered, Outer, bind, canonical, get_local, join, negate, project, union};
use crate::error::PlanError;
use crate::hir::{ColumnRef, Hir, HirScalar};
use plan::{Mir, ScalarExpr};
use repr::{ColumnType, Datum, SqlType};

/// The relation whose rows the predicate asks for, and whether it is negated.
#[allow(clippy::result_large_err)]
pub(super) fn as_exists(predicate: HirScalar) -> Result<(Hir, bool), HirScalar> {
    match predicate {
        HirScalar::Exists(relation) => Ok((*relation, false)),
        HirScalar::Call { func, mut args, ty } if func.is("not") => match as_exists(args.remove(0))
        {
            Ok((relation, negated)) => Ok((relation, !negated)),
            Err(inner) => Err(HirScalar::Call {
                func,
                args: vec![inner],
                ty,
            }),
        },
        other => Err(other),
    }
}

/// Conjuncts that are true exactly for the rows for which the predicate is. Whether a predicate is FALSE or NULL does not matter in a
/// filter, which takes `IN` and `NOT IN` apart into existence tests.
pub(super) fn conditions(predicate: HirScalar) -> Vec<HirScalar> {
    match predicate {
        HirScalar::If { cond, then, els } => match (is_true(&then), is_true(&els)) {
            (Some(true), Some(false)) => conditions(*cond),
            (Some(false), Some(false)) => vec![HirScalar::bool(false)],
            (Some(false), _) if two_valued(&cond) => {
                let mut all = conditions(negation(*cond));
                all.extend(conditions(*els));
                all
            }
            _ => vec![HirScalar::If { cond, then, els }],
        },
        HirScalar::Call { func, args, .. } if func.is("and") => {
            args.into_iter().flat_map(conditions).collect()
        }
        other if other.as_literal() == Some(Datum::TRUE) => vec![],
        other => vec![other],
    }
}

/// Whether a branch of an IN is TRUE (for some rows: `None`).
fn is_true(branch: &HirScalar) -> Option<bool> {
    match branch {
        HirScalar::If { then, els, .. } => match (is_true(then), is_true(els)) {
            (Some(a), Some(b)) if a == b => Some(a),
            _ => None,
        },
        other => other.as_literal().map(|d| d.is_true()),
    }
}

/// Whether the value is never NULL.
fn two_valued(scalar: &HirScalar) -> bool {
    match scalar {
        HirScalar::Exists(_) => true,
        HirScalar::Call { func, args, .. } => match func.name() {
            "is_null" | "is_not_null" => true,
            "and" | "or" | "not" => args.iter().all(two_valued),
            _ => false,
        },
        _ => false,
    }
}

fn negation(scalar: HirScalar) -> HirScalar {
    match scalar {
        HirScalar::Call { func, args, ty } if func.is("or") => {
            let args = args.into_iter().map(negation).collect();
            HirScalar::call("and", args, ty)
        }
        HirScalar::Call { func, mut args, .. } if func.is("not") => args.remove(0),
        other => HirScalar::call("not", vec![other], SqlType::Bool),
    }
}

/// A relation whose only correlation is that some of its expressions equal expressions of the outer row.
struct Equated {
    /// Reads no enclosing row.
    base: Hir,
    /// (expression over enclosing rows, of level 0 for the row tested; expression over the base).
    pairs: Vec<(HirScalar, HirScalar)>,
}

impl Lower {
    /// Keeps the rows of the input for which the relation has a row (or, negated, has none).
    pub(super) fn semijoin(
        &mut self,
        input: Lowered,
        relation: Hir,
        negated: bool,
        outer: &Outer,
    ) -> Result<Lowered, PlanError> {
        match equated(relation) {
            Ok(equated) => self.semijoin_equated(input, equated, negated, outer),
            Err(relation) => self.semijoin_general(input, relation, negated, outer),
        }
    }

    fn semijoin_equated(
        &mut self,
        mut input: Lowered,
        equated: Equated,
        negated: bool,
        outer: &Outer,
    ) -> Result<Lowered, PlanError> {
        let arity = input.types.len();
        let mut base = self.relation(equated.base, &Outer::unit())?;
        let (mut tested, mut keys) = (vec![], vec![]);
        for (left, right) in equated.pairs {
            tested.push(self.scalar(left, &mut input, outer)?);
            keys.push(self.scalar(right, &mut base, &Outer::unit())?);
        }
        let base_arity = base.types.len();
        let n = keys.len();
        let present = base
            .map(keys)
            .project((base_arity..base_arity + n).collect())
            .distinct();
        let types: &[ColumnType] = &input.types;
        let equivalences = tested
            .into_iter()
            .zip(&present.types)
            .enumerate()
            .map(|(i, (expr, present))| {
                let ty = expr.typ(types).ty;
                let right = ScalarExpr::Column(types.len() + i);
                vec![canonical(expr, &ty), canonical(right, &present.ty)]
            })
            .collect();
        Ok(self.keep(input, arity, present.mir, equivalences, negated))
    }

    fn semijoin_general(
        &mut self,
        mut input: Lowered,
        relation: Hir,
        negated: bool,
        outer: &Outer,
    ) -> Result<Lowered, PlanError> {
        let arity = input.types.len();
        let correlation = self.correlate(&relation, &mut input, outer);
        let n = correlation.columns.len();
        let sub = self.relation(relation, &correlation.outer)?;
        let present = sub.project((0..n).collect()).distinct();
        let equivalences = correlation.equivalences(arity);
        let kept = self.keep(input, arity, present.mir, equivalences, negated);
        Ok(Lowered {
            mir: correlation.close(kept.mir),
            types: kept.types,
        })
    }

    /// The first `arity` columns of the rows of `input` that join (negated: do not join) with `present`, whose rows are distinct.
    fn keep(
        &mut self,
        input: Lowered,
        arity: usize,
        present: Mir,
        equivalences: Vec<Vec<ScalarExpr>>,
        negated: bool,
    ) -> Lowered {
        let types = input.types[..arity].to_vec();
        let outputs: Vec<usize> = (0..arity).collect();
        if !negated {
            let joined = join(vec![input.mir, present], equivalences);
            return Lowered {
                mir: project(joined, outputs),
                types,
            };
        }
        let id = self.fresh();
        let get = get_local(id, &input.types);
        let matched = project(
            join(vec![get.clone(), present], equivalences),
            outputs.clone(),
        );
        let rest = union(vec![project(get, outputs), negate(matched)]);
        Lowered {
            mir: bind(id, input.mir, rest),
            types,
        }
    }
}

/// Takes the relation apart, or gives it back.
#[allow(clippy::result_large_err)]
fn equated(relation: Hir) -> Result<Equated, Hir> {
    let mut base = &relation;
    // What is selected, and how often, does not matter for existence.
    loop {
        base = match base {
            Hir::Project { input, .. } | Hir::Distinct { input } => input,
            Hir::Map { input, scalars } if scalars.iter().all(is_harmless) => input,
            _ => break,
        };
    }
    let mut predicates = vec![];
    while let Hir::Filter {
        input,
        predicates: more,
    } = base
    {
        predicates.extend(more.iter().cloned().flat_map(HirScalar::into_conjuncts));
        base = input;
    }
    if base.is_correlated() {
        return Err(relation);
    }
    let (mut local, mut pairs) = (vec![], vec![]);
    for predicate in predicates {
        match classify(predicate) {
            Some(Class::Local(predicate)) => local.push(predicate),
            Some(Class::Pair(outer, inner)) => pairs.push((outer, inner)),
            None => return Err(relation),
        }
    }
    Ok(Equated {
        base: base.clone().filter(local),
        pairs,
    })
}

/// Whether leaving the expression out can make no difference.
fn is_harmless(scalar: &HirScalar) -> bool {
    matches!(scalar, HirScalar::Column(_) | HirScalar::Literal(Ok(_), _))
}

enum Class {
    Local(HirScalar),
    Pair(HirScalar, HirScalar),
}

fn classify(predicate: HirScalar) -> Option<Class> {
    if !levels(&predicate).1 {
        return Some(Class::Local(predicate));
    }
    let HirScalar::Call { func, mut args, .. } = predicate else {
        return None;
    };
    if !func.is("eq") {
        return None;
    }
    let (right, left) = (args.pop()?, args.pop()?);
    let (left_own, left_outer) = levels(&left);
    let (right_own, right_outer) = levels(&right);
    if left.has_subquery() || right.has_subquery() {
        return None;
    }
    match (left_own, left_outer, right_own, right_outer) {
        (false, true, true, false) => Some(Class::Pair(raised(left), right)),
        (true, false, false, true) => Some(Class::Pair(raised(right), left)),
        _ => None,
    }
}

/// Whether the scalar reads its own relation's columns, and whether it reads enclosing rows.
fn levels(scalar: &HirScalar) -> (bool, bool) {
    let (mut own, mut outer) = (false, false);
    scalar.visit_columns(&mut |c| match c.level {
        0 => own = true,
        _ => outer = true,
    });
    (own, outer)
}

/// The same value, read one query further outside.
fn raised(mut scalar: HirScalar) -> HirScalar {
    scalar.map_columns(&mut |c| ColumnRef {
        level: c.level - 1,
        index: c.index,
    });
    scalar
}
