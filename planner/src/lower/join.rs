//! Joins of two relations, outer joins and lateral references included.

use super::scalar::column;
use super::{
    Lower, Lowered, Outer, bind, canonical, get_local, identity, join, negate, project, same_key,
    union,
};
use crate::error::PlanError;
use crate::hir::{ColumnRef, Hir, HirScalar, JoinKind};
use plan::{Mir, ScalarExpr};
use repr::ColumnType;

impl Lower {
    pub(super) fn join(
        &mut self,
        left: Hir,
        right: Hir,
        on: Vec<HirScalar>,
        kind: JoinKind,
        lateral: bool,
        outer: &Outer,
    ) -> Result<Lowered, PlanError> {
        if lateral {
            return self.lateral_join(left, right, on, kind, outer);
        }
        let left = self.relation(left, outer)?;
        self.join_right(left, right, on, kind, outer)
    }

    /// `left` is lowered already: the outer keys, then its own columns.
    fn join_right(
        &mut self,
        left: Lowered,
        right: Hir,
        on: Vec<HirScalar>,
        kind: JoinKind,
        outer: &Outer,
    ) -> Result<Lowered, PlanError> {
        let shared = match right.is_correlated() || matches!(kind, JoinKind::Right | JoinKind::Full)
        {
            // The right side is computed for each key too.
            true => outer.arity(),
            false => 0,
        };
        let unit = Outer::unit();
        let right = self.relation(right, if shared > 0 { outer } else { &unit })?;
        let on: Vec<HirScalar> = on.into_iter().flat_map(HirScalar::into_conjuncts).collect();
        match kind {
            JoinKind::Inner => self.inner(left, right, on, shared, outer),
            JoinKind::Left => {
                let left_own = left.types.len() - outer.arity();
                let (own, on) = split_one_sided(on, left_own, false);
                let right = filter_side(right, own, shared);
                self.outer_join(left, right, on, kind, shared, outer)
            }
            JoinKind::Right => {
                let left_own = left.types.len() - outer.arity();
                let (own, on) = split_one_sided(on, left_own, true);
                let left = filter_side(left, own, outer.arity());
                self.outer_join(left, right, on, kind, shared, outer)
            }
            JoinKind::Full => self.outer_join(left, right, on, kind, shared, outer),
        }
    }

    /// Columns: outer keys, left's own, right's own.
    fn inner(
        &mut self,
        left: Lowered,
        right: Lowered,
        on: Vec<HirScalar>,
        shared: usize,
        outer: &Outer,
    ) -> Result<Lowered, PlanError> {
        let crossed = cross(left, right, shared);
        self.filter(crossed, on, outer)
    }

    fn outer_join(
        &mut self,
        left: Lowered,
        right: Lowered,
        on: Vec<HirScalar>,
        kind: JoinKind,
        shared: usize,
        outer: &Outer,
    ) -> Result<Lowered, PlanError> {
        let arity = outer.arity();
        let (left_id, right_id) = (self.fresh(), self.fresh());
        let (left_types, right_types) = (left.types.clone(), right.types.clone());
        let get_left = || Lowered {
            mir: get_local(left_id, &left_types),
            types: left_types.clone(),
        };
        let get_right = || Lowered {
            mir: get_local(right_id, &right_types),
            types: right_types.clone(),
        };
        let matched = self.inner(get_left(), get_right(), on.clone(), shared, outer)?;
        let matched_id = self.fresh();
        let matched_types = matched.types.clone();
        let mut types = matched_types.clone();
        let (left_arity, right_own) = (left_types.len(), right_types.len() - shared);
        let mut branches = vec![get_local(matched_id, &matched_types)];
        if matches!(kind, JoinKind::Left | JoinKind::Full) {
            let keys = equated_columns(&on, left_arity - arity, false);
            let rest = match keys {
                Some(keys) => self.unmatched_by_key(get_left(), get_right(), keys, (arity, shared)),
                None => {
                    let columns: Vec<usize> = (0..left_arity).collect();
                    self.unmatched(get_left(), matched_id, &matched_types, &columns)
                }
            };
            let nulls: Vec<ScalarExpr> = right_types[shared..]
                .iter()
                .map(|t| ScalarExpr::null(t.ty.clone()))
                .collect();
            branches.push(rest.map(nulls).mir);
            types[left_arity..]
                .iter_mut()
                .for_each(|t| t.nullable = true);
        }
        if matches!(kind, JoinKind::Right | JoinKind::Full) {
            let keys = equated_columns(&on, left_arity - arity, true);
            let rest = match keys {
                Some(keys) => self.unmatched_by_key(get_right(), get_left(), keys, (shared, arity)),
                None => {
                    let columns: Vec<usize> = (0..shared)
                        .chain(left_arity..left_arity + right_own)
                        .collect();
                    self.unmatched(get_right(), matched_id, &matched_types, &columns)
                }
            };
            let own_left = left_arity - arity;
            let nulls: Vec<ScalarExpr> = left_types[arity..]
                .iter()
                .map(|t| ScalarExpr::null(t.ty.clone()))
                .collect();
            let n = shared + right_own;
            // outer keys, right's own, NULLs -> outer keys, NULLs, right's own
            let outputs = (0..shared)
                .chain(n..n + own_left)
                .chain(shared..n)
                .collect();
            branches.push(rest.map(nulls).project(outputs).mir);
            types[arity..left_arity]
                .iter_mut()
                .for_each(|t| t.nullable = true);
        }
        let body = bind(matched_id, matched.mir, union(branches));
        let mir = bind(left_id, left.mir, bind(right_id, right.mir, body));
        Ok(Lowered { mir, types })
    }

    /// The rows of `kept` whose key does not occur in `other`; `keys` are pairs of expressions over own columns of the two.
    fn unmatched_by_key(
        &mut self,
        kept: Lowered,
        other: Lowered,
        keys: Vec<(ScalarExpr, ScalarExpr)>,
        (kept_outer, other_outer): (usize, usize),
    ) -> Lowered {
        let shared = kept_outer.min(other_outer);
        let other_arity = other.types.len();
        let kept_arity = kept.types.len();
        let mut key_exprs = vec![];
        let mut kept_keys = vec![];
        for (mine, theirs) in keys {
            let (mut mine, mut theirs) = (mine, theirs);
            mine.permute(&|c| c + kept_outer);
            theirs.permute(&|c| c + other_outer);
            let (my_ty, their_ty) = (mine.typ(&kept.types).ty, theirs.typ(&other.types).ty);
            kept_keys.push(canonical(mine, &my_ty));
            key_exprs.push(canonical(theirs, &their_ty));
        }
        let n = key_exprs.len();
        let outer_types: Vec<ColumnType> = other.types[..shared].to_vec();
        let present = other
            .map(key_exprs)
            .project((0..shared).chain(other_arity..other_arity + n).collect())
            .distinct();
        let mut equivalences: Vec<Vec<ScalarExpr>> = outer_types
            .iter()
            .enumerate()
            .map(|(i, ty)| {
                let right = ScalarExpr::Column(kept_arity + i);
                same_key(ScalarExpr::Column(i), right, ty, ty)
            })
            .collect();
        for (i, key) in kept_keys.into_iter().enumerate() {
            equivalences.push(vec![key, ScalarExpr::Column(kept_arity + shared + i)]);
        }
        let columns: Vec<usize> = (0..kept_arity).collect();
        let matched = project(
            join(vec![kept.mir.clone(), present.mir], equivalences),
            columns,
        );
        Lowered {
            mir: union(vec![kept.mir, negate(matched)]),
            types: kept.types,
        }
    }

    /// The rows of `kept` that do not occur in `columns` of the join's result.
    fn unmatched(
        &mut self,
        kept: Lowered,
        matched_id: u64,
        matched_types: &[ColumnType],
        columns: &[usize],
    ) -> Lowered {
        let arity = kept.types.len();
        let matched = Lowered {
            mir: get_local(matched_id, matched_types),
            types: matched_types.to_vec(),
        };
        // Exact rows, not canonical ones: a row that was joined is found again as it is.
        let exact: Vec<ScalarExpr> = kept.types.iter().enumerate().map(exact).collect();
        let present = Mir::Reduce {
            input: Box::new(project(matched.mir, columns.to_vec())),
            group_key: exact.clone(),
            aggregates: vec![],
        };
        let equivalences = exact.into_iter().enumerate();
        let equivalences = equivalences
            .map(|(i, left)| {
                let ty = left.typ(&kept.types);
                same_key(left, ScalarExpr::Column(arity + i), &ty, &ty)
            })
            .collect();
        let matched = project(
            join(vec![kept.mir.clone(), present], equivalences),
            (0..arity).collect(),
        );
        Lowered {
            mir: union(vec![kept.mir, negate(matched)]),
            types: kept.types,
        }
    }

    /// The right side is computed for the distinct rows of the left side's columns that it reads.
    fn lateral_join(
        &mut self,
        left: Hir,
        right: Hir,
        on: Vec<HirScalar>,
        kind: JoinKind,
        outer: &Outer,
    ) -> Result<Lowered, PlanError> {
        let reads_left = right.outer_columns().iter().any(|c| c.level == 1);
        let mut left = self.relation(left, outer)?;
        if !reads_left {
            let mut right = right;
            right.map_outer_columns(&mut |c| ColumnRef {
                level: c.level - 1,
                index: c.index,
            });
            return self.join_right(left, right, on, kind, outer);
        }
        if matches!(kind, JoinKind::Right | JoinKind::Full) {
            return Err(PlanError::new(
                "42P10",
                "the combining JOIN type must be INNER or LEFT for a LATERAL reference",
            ));
        }
        // A table function over each row needs no join.
        if let (
            JoinKind::Inner,
            Hir::FlatMap {
                input,
                func,
                args,
                types,
            },
        ) = (kind, &right)
            && input.is_unit()
            && args.iter().all(|a| !a.has_subquery())
        {
            let mut exprs = vec![];
            for mut arg in args.clone() {
                arg.map_columns(&mut |c| ColumnRef {
                    level: c.level - 1,
                    index: c.index,
                });
                exprs.push(self.scalar(arg, &mut left, outer)?);
            }
            let mut all = left.types;
            all.extend(types.iter().cloned());
            let mir = Mir::FlatMap {
                input: Box::new(left.mir),
                func: func.clone(),
                args: exprs,
                types: types.clone(),
            };
            return self.filter(Lowered { mir, types: all }, on, outer);
        }
        let arity = left.types.len();
        let correlation = self.correlate(&right, &mut left, outer);
        let right = self.relation(right, &correlation.outer)?;
        let n = correlation.columns.len();
        let right_own = right.types.len() - n;
        let equivalences = correlation.equivalences(arity);
        let mut types = left.types.clone();
        types.extend(right.types[n..].iter().cloned());
        let outputs = (0..arity).chain(arity + n..arity + n + right_own).collect();
        let joined = Lowered {
            mir: project(
                join(vec![left.mir.clone(), right.mir], equivalences),
                outputs,
            ),
            types,
        };
        let joined = self.filter(joined, on, outer)?;
        let result = match kind {
            JoinKind::Inner => joined,
            JoinKind::Left | JoinKind::Right | JoinKind::Full => {
                let id = self.fresh();
                let columns: Vec<usize> = (0..arity).collect();
                let mut types = joined.types.clone();
                let nulls: Vec<ScalarExpr> = types[arity..]
                    .iter()
                    .map(|t| ScalarExpr::null(t.ty.clone()))
                    .collect();
                let rest = self.unmatched(left, id, &joined.types, &columns).map(nulls);
                types[arity..].iter_mut().for_each(|t| t.nullable = true);
                let both = union(vec![get_local(id, &joined.types), rest.mir]);
                Lowered {
                    mir: bind(id, joined.mir, both),
                    types,
                }
            }
        };
        Ok(Lowered {
            mir: correlation.close(result.mir),
            types: result.types,
        })
    }
}

/// A column such that equal values are identical.
fn exact((column, ty): (usize, &ColumnType)) -> ScalarExpr {
    match ty.ty.needs_key_canonical() {
        true => identity(ScalarExpr::Column(column)),
        false => ScalarExpr::Column(column),
    }
}

/// All pairs of rows, of equal outer keys where the right side has them (`shared` of them).
fn cross(left: Lowered, right: Lowered, shared: usize) -> Lowered {
    let left_arity = left.types.len();
    let right_arity = right.types.len();
    let equivalences = (0..shared)
        .map(|i| {
            let ty = &left.types[i];
            let right = ScalarExpr::Column(left_arity + i);
            same_key(ScalarExpr::Column(i), right, ty, ty)
        })
        .collect();
    let mut types = left.types;
    types.extend(right.types[shared..].iter().cloned());
    let mir = if super::is_unit(&left.mir) {
        right.mir
    } else if super::is_unit(&right.mir) {
        left.mir
    } else {
        let joined = join(vec![left.mir, right.mir], equivalences);
        let outputs = (0..left_arity)
            .chain(left_arity + shared..left_arity + right_arity)
            .collect();
        project(joined, outputs)
    };
    Lowered { mir, types }
}

/// Takes out the predicates over one side alone, as expressions over that side's own columns. Those of the side that is filled with
/// NULLs can be applied to it before the join.
fn split_one_sided(
    on: Vec<HirScalar>,
    left_own: usize,
    take_left: bool,
) -> (Vec<ScalarExpr>, Vec<HirScalar>) {
    let (mut own, mut rest) = (vec![], vec![]);
    for predicate in on {
        match side(&predicate, left_own) {
            Some((is_left, expr)) if is_left == take_left => own.push(expr),
            Some(_) | None => rest.push(predicate),
        }
    }
    (own, rest)
}

fn filter_side(side: Lowered, predicates: Vec<ScalarExpr>, outer_arity: usize) -> Lowered {
    let shifted = predicates
        .into_iter()
        .map(|mut p| {
            p.permute(&|c| c + outer_arity);
            p
        })
        .collect();
    side.filter(shifted)
}

/// If the condition consists only of equalities between the two sides: the pairs (kept side, other side), each over the own columns of
/// its side. `right_kept`: the kept side is the right one.
fn equated_columns(
    on: &[HirScalar],
    left_own: usize,
    right_kept: bool,
) -> Option<Vec<(ScalarExpr, ScalarExpr)>> {
    let mut pairs = vec![];
    for predicate in on {
        let HirScalar::Call { func, args, .. } = predicate else {
            return None;
        };
        if !func.is("eq") {
            return None;
        }
        let (a, b) = (side(&args[0], left_own)?, side(&args[1], left_own)?);
        let (left, right) = match (a, b) {
            ((true, a), (false, b)) => (a, b),
            ((false, a), (true, b)) => (b, a),
            _ => return None,
        };
        pairs.push(match right_kept {
            true => (right, left),
            false => (left, right),
        });
    }
    if pairs.is_empty() { None } else { Some(pairs) }
}

/// An expression over one side only, as (is left, expression over that side's own columns).
fn side(scalar: &HirScalar, left_own: usize) -> Option<(bool, ScalarExpr)> {
    if scalar.has_subquery() {
        return None;
    }
    let (mut left, mut right, mut outside) = (false, false, false);
    scalar.visit_columns(&mut |c| match c.level {
        0 if c.index < left_own => left = true,
        0 => right = true,
        _ => outside = true,
    });
    if outside || left == right {
        return None;
    }
    let mut scalar = scalar.clone();
    if right {
        scalar.map_columns(&mut |c| ColumnRef {
            level: c.level,
            index: c.index - left_own,
        });
    }
    Some((left, plain(&scalar)?))
}

/// A scalar without subqueries as an expression.
fn plain(scalar: &HirScalar) -> Option<ScalarExpr> {
    Some(match scalar {
        HirScalar::Column(c) => ScalarExpr::Column(column(*c, &Outer::unit())),
        HirScalar::Literal(value, ty) => ScalarExpr::Literal(value.clone(), ty.clone()),
        HirScalar::Param(n, ty) => ScalarExpr::Param(*n, ty.clone()),
        HirScalar::Unmaterializable(value) => ScalarExpr::Unmaterializable(value.clone()),
        HirScalar::Call { func, args, ty } => ScalarExpr::call(
            *func,
            args.iter().map(plain).collect::<Option<_>>()?,
            ty.clone(),
        ),
        HirScalar::If { cond, then, els } => ScalarExpr::If {
            cond: Box::new(plain(cond)?),
            then: Box::new(plain(then)?),
            els: Box::new(plain(els)?),
        },
        HirScalar::Exists(_)
        | HirScalar::Subquery(..)
        | HirScalar::Aggregate(_)
        | HirScalar::TableFunc { .. } => return None,
    })
}
