//! From the HIR to [`Mir`]: subqueries and lateral references become joins.
//!
//! The general method: a relation that reads columns of enclosing rows is computed for *all* of those rows at once. Its lowering takes
//! the collection of distinct outer keys (`Outer`) and returns, for each key, the key's columns followed by the relation's own. The
//! enclosing operator then joins that back by key. NULL is a key like any other, so nullable keys are joined as records. Where equal values can differ, the key is the
//! value's identity: what a subquery says of 1.0 need not be what it says of 1.00.
//!
//! Two short cuts keep common plans small: a relation that reads no enclosing row is computed once, and `EXISTS`/`IN` whose only
//! correlation is a list of equalities becomes a plain semijoin.

mod exists;
mod join;
mod scalar;

use crate::error::PlanError;
use crate::hir::{ColumnRef, Hir, HirScalar};
use plan::mir::{Id, JoinImplementation};
use plan::{AggregateExpr, AggregateFunc, Func, Mir, ScalarExpr};
use repr::{ColumnType, Row, SqlType};
use std::collections::BTreeMap;

/// Lowers a query that reads no enclosing row.
pub fn lower(hir: Hir) -> Result<Mir, PlanError> {
    let mut lower = Lower::default();
    Ok(lower.relation(hir, &Outer::unit())?.mir)
}

/// Lowers scalars over the columns of one row; they must not contain subqueries.
pub fn lower_scalar(scalar: HirScalar, types: &[ColumnType]) -> Result<ScalarExpr, PlanError> {
    let mut lower = Lower::default();
    let input = Mir::Constant {
        rows: Ok(vec![]),
        types: types.to_vec(),
    };
    let mut input = Lowered {
        mir: input,
        types: types.to_vec(),
    };
    let lowered = lower.scalar(scalar, &mut input, &Outer::unit())?;
    if input.types.len() != types.len() {
        return Err(PlanError::new("0A000", "cannot use subquery in this place"));
    }
    Ok(lowered)
}

/// The distinct rows of enclosing queries for which a relation is computed.
struct Outer {
    /// A `Get` of a local binding, or the constant of one row without columns: cheap to repeat.
    keys: Mir,
    types: Vec<ColumnType>,
    /// Where a key is the identity of a value, the value's type.
    values: Vec<Option<SqlType>>,
    /// Where a column of an enclosing row is found among the keys' columns.
    columns: BTreeMap<ColumnRef, usize>,
}

impl Outer {
    fn unit() -> Outer {
        Outer {
            keys: unit(),
            types: vec![],
            values: vec![],
            columns: BTreeMap::new(),
        }
    }

    fn arity(&self) -> usize {
        self.types.len()
    }
}

/// A plan and its column types: the outer keys, then the relation's own columns.
struct Lowered {
    mir: Mir,
    types: Vec<ColumnType>,
}

#[derive(Default)]
struct Lower {
    next_id: u64,
    /// WITH queries in scope: the binding of the HIR to the binding of the plan.
    ctes: BTreeMap<u64, (u64, Vec<ColumnType>)>,
}

fn unit() -> Mir {
    Mir::Constant {
        rows: Ok(vec![(Row::empty(), 1)]),
        types: vec![],
    }
}

fn is_unit(mir: &Mir) -> bool {
    matches!(mir, Mir::Constant { rows: Ok(rows), types } if types.is_empty() && rows.len() == 1 && rows[0].1 == 1)
}

impl Lower {
    fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn relation(&mut self, hir: Hir, outer: &Outer) -> Result<Lowered, PlanError> {
        let arity = outer.arity();
        match hir {
            Hir::Constant { rows, types } => {
                let rows = rows.into_iter().map(|row| (row, 1)).collect();
                let mir = Mir::Constant {
                    rows: Ok(rows),
                    types: types.clone(),
                };
                Ok(for_each_key(outer, mir, types))
            }
            Hir::Get { id, types, keys } => {
                let mir = Mir::Get {
                    id: Id::Global(id),
                    types: types.clone(),
                    keys,
                };
                Ok(for_each_key(outer, mir, types))
            }
            Hir::LocalGet { id, types: _ } => {
                let (local, types) = self.ctes[&id].clone();
                let mir = get_local(local, &types);
                Ok(for_each_key(outer, mir, types))
            }
            Hir::Let { id, value, body } => {
                let value = self.relation(*value, &Outer::unit())?;
                let local = self.fresh();
                self.ctes.insert(id, (local, value.types));
                let body = self.relation(*body, outer)?;
                Ok(Lowered {
                    mir: bind(local, value.mir, body.mir),
                    types: body.types,
                })
            }
            Hir::Project { input, outputs } => {
                let input = self.relation(*input, outer)?;
                let outputs = (0..arity)
                    .chain(outputs.into_iter().map(|c| c + arity))
                    .collect();
                Ok(input.project(outputs))
            }
            Hir::Map { input, scalars } => {
                let mut input = self.relation(*input, outer)?;
                let before = input.types.len();
                let mut exprs = vec![];
                for scalar in scalars {
                    exprs.push(self.scalar(scalar, &mut input, outer)?);
                }
                let helpers = input.types.len();
                let n = exprs.len();
                let mapped = input.map(exprs);
                Ok(match helpers == before {
                    true => mapped,
                    false => mapped.project((0..before).chain(helpers..helpers + n).collect()),
                })
            }
            Hir::FlatMap {
                input,
                func,
                args,
                types,
            } => {
                let mut input = self.relation(*input, outer)?;
                let before = input.types.len();
                let mut exprs = vec![];
                for arg in args {
                    exprs.push(self.scalar(arg, &mut input, outer)?);
                }
                let helpers = input.types.len();
                let n = types.len();
                let mut all = input.types;
                all.extend(types.iter().cloned());
                let flat = Lowered {
                    mir: Mir::FlatMap {
                        input: Box::new(input.mir),
                        func,
                        args: exprs,
                        types,
                    },
                    types: all,
                };
                Ok(match helpers == before {
                    true => flat,
                    false => flat.project((0..before).chain(helpers..helpers + n).collect()),
                })
            }
            Hir::Filter { input, predicates } => {
                let input = self.relation(*input, outer)?;
                self.filter(input, predicates, outer)
            }
            Hir::Join {
                left,
                right,
                on,
                kind,
                lateral,
            } => self.join(*left, *right, on, kind, lateral, outer),
            Hir::Reduce {
                input,
                group_key,
                aggregates,
                global,
            } => {
                let input = self.relation(*input, outer)?;
                self.reduce(input, group_key, aggregates, global, outer)
            }
            Hir::Distinct { input } => Ok(self.relation(*input, outer)?.distinct()),
            Hir::TopK {
                input,
                group_key,
                order_key,
                limit,
                offset,
            } => {
                let input = self.relation(*input, outer)?;
                let limit = limit
                    .map(|l| lower_scalar(l, &[]))
                    .transpose()
                    .map_err(|_| {
                        PlanError::unsupported("LIMIT of a subquery that is not a constant")
                    })?;
                let shift = |c: usize| c + arity;
                let order_key = order_key
                    .into_iter()
                    .map(|mut o| {
                        o.column += arity;
                        o
                    })
                    .collect();
                Ok(Lowered {
                    mir: Mir::TopK {
                        input: Box::new(input.mir),
                        group_key: (0..arity).chain(group_key.into_iter().map(shift)).collect(),
                        order_key,
                        limit,
                        offset,
                    },
                    types: input.types,
                })
            }
            Hir::Negate { input } => {
                let input = self.relation(*input, outer)?;
                Ok(Lowered {
                    mir: negate(input.mir),
                    types: input.types,
                })
            }
            Hir::Threshold { input } => {
                let input = self.relation(*input, outer)?;
                Ok(Lowered {
                    mir: Mir::Threshold {
                        input: Box::new(input.mir),
                    },
                    types: input.types,
                })
            }
            Hir::Union { inputs } => {
                let mut mirs = vec![];
                let mut types: Vec<ColumnType> = vec![];
                for input in inputs {
                    let lowered = self.relation(input, outer)?;
                    merge_nullability(&mut types, &lowered.types);
                    mirs.push(lowered.mir);
                }
                Ok(Lowered {
                    mir: Mir::Union { inputs: mirs },
                    types,
                })
            }
        }
    }

    fn filter(
        &mut self,
        mut input: Lowered,
        predicates: Vec<HirScalar>,
        outer: &Outer,
    ) -> Result<Lowered, PlanError> {
        let before = input.types.len();
        let (mut plain, mut exists) = (vec![], vec![]);
        for predicate in predicates.into_iter().flat_map(exists::conditions) {
            match exists::as_exists(predicate) {
                Ok(test) => exists.push(test),
                Err(predicate) => plain.push(predicate),
            }
        }
        let (plain, nested): (Vec<_>, Vec<_>) = plain.into_iter().partition(|p| !p.has_subquery());
        for predicates in [plain, nested] {
            let mut exprs = vec![];
            for predicate in predicates {
                exprs.push(self.scalar(predicate, &mut input, outer)?);
            }
            input = input.filter(exprs);
        }
        if input.types.len() > before {
            input = input.project((0..before).collect());
        }
        for (relation, negated) in exists {
            input = self.semijoin(input, relation, negated, outer)?;
        }
        Ok(input)
    }

    fn reduce(
        &mut self,
        mut input: Lowered,
        group_key: Vec<HirScalar>,
        aggregates: Vec<crate::hir::HirAggregate>,
        global: bool,
        outer: &Outer,
    ) -> Result<Lowered, PlanError> {
        let arity = outer.arity();
        let mut keys: Vec<ScalarExpr> = (0..arity).map(ScalarExpr::Column).collect();
        let mut types: Vec<ColumnType> = outer.types.clone();
        for key in group_key {
            let expr = self.scalar(key, &mut input, outer)?;
            let ty = expr.typ(&input.types);
            keys.push(canonical(expr, &ty.ty));
            types.push(ty);
        }
        let mut exprs = vec![];
        let mut defaults = vec![];
        for aggregate in aggregates {
            let expr = self.scalar(aggregate.expr, &mut input, outer)?;
            let expr = match aggregate.distinct {
                true => {
                    let ty = expr.typ(&input.types).ty;
                    canonical(expr, &ty)
                }
                false => expr,
            };
            defaults.push(match aggregate.func {
                AggregateFunc::Count => ScalarExpr::literal(repr::Datum::Int64(0), SqlType::Int64),
                _ => ScalarExpr::null(aggregate.ty.ty.clone()),
            });
            types.push(aggregate.ty);
            exprs.push(AggregateExpr {
                func: aggregate.func,
                expr,
                distinct: aggregate.distinct,
            });
        }
        let reduced = Mir::Reduce {
            input: Box::new(input.mir),
            group_key: keys,
            aggregates: exprs,
        };
        if !global {
            return Ok(Lowered {
                mir: reduced,
                types,
            });
        }
        // A key without input rows still has its row of defaults.
        let id = self.fresh();
        let present = project(get_local(id, &types), (0..arity).collect());
        let missing = union(vec![outer.keys.clone(), negate(present)]);
        let defaulted = match defaults.is_empty() {
            true => missing,
            false => Mir::Map {
                input: Box::new(missing),
                scalars: defaults,
            },
        };
        let body = union(vec![get_local(id, &types), defaulted]);
        Ok(Lowered {
            mir: bind(id, reduced, body),
            types,
        })
    }
}

impl Lowered {
    fn project(self, outputs: Vec<usize>) -> Lowered {
        let types = outputs.iter().map(|c| self.types[*c].clone()).collect();
        Lowered {
            mir: project(self.mir, outputs),
            types,
        }
    }

    fn map(self, scalars: Vec<ScalarExpr>) -> Lowered {
        if scalars.is_empty() {
            return self;
        }
        let mut types = self.types;
        for scalar in &scalars {
            let ty = scalar.typ(&types);
            types.push(ty);
        }
        Lowered {
            mir: Mir::Map {
                input: Box::new(self.mir),
                scalars,
            },
            types,
        }
    }

    fn filter(self, predicates: Vec<ScalarExpr>) -> Lowered {
        if predicates.is_empty() {
            return self;
        }
        Lowered {
            mir: Mir::Filter {
                input: Box::new(self.mir),
                predicates,
            },
            types: self.types,
        }
    }

    fn distinct(self) -> Lowered {
        let group_key = self
            .types
            .iter()
            .enumerate()
            .map(|(i, ty)| canonical(ScalarExpr::Column(i), &ty.ty))
            .collect();
        Lowered {
            mir: Mir::Reduce {
                input: Box::new(self.mir),
                group_key,
                aggregates: vec![],
            },
            types: self.types,
        }
    }
}

/// The relation once for every key.
fn for_each_key(outer: &Outer, mir: Mir, types: Vec<ColumnType>) -> Lowered {
    if is_unit(&outer.keys) {
        return Lowered { mir, types };
    }
    let mut all = outer.types.clone();
    all.extend(types);
    Lowered {
        mir: join(vec![outer.keys.clone(), mir], vec![]),
        types: all,
    }
}

fn get_local(id: u64, types: &[ColumnType]) -> Mir {
    Mir::Get {
        id: Id::Local(id),
        types: types.to_vec(),
        keys: vec![],
    }
}

fn bind(id: u64, value: Mir, body: Mir) -> Mir {
    Mir::Let {
        id,
        value: Box::new(value),
        body: Box::new(body),
    }
}

fn project(mir: Mir, outputs: Vec<usize>) -> Mir {
    if outputs.len() == mir.arity() && outputs.iter().enumerate().all(|(i, c)| i == *c) {
        return mir;
    }
    Mir::Project {
        input: Box::new(mir),
        outputs,
    }
}

fn negate(mir: Mir) -> Mir {
    Mir::Negate {
        input: Box::new(mir),
    }
}

fn union(inputs: Vec<Mir>) -> Mir {
    Mir::Union { inputs }
}

fn join(inputs: Vec<Mir>, equivalences: Vec<Vec<ScalarExpr>>) -> Mir {
    Mir::Join {
        inputs,
        equivalences,
        implementation: JoinImplementation::Unimplemented,
    }
}

/// The expression in the form whose bytes are equal exactly if the values are.
fn canonical(expr: ScalarExpr, ty: &SqlType) -> ScalarExpr {
    match ty.needs_key_canonical() {
        true => ScalarExpr::call(Func::get("key_canonical"), vec![expr], ty.clone()),
        false => expr,
    }
}

/// A value's bytes, which tell apart what is equal and not the same (1.0 and 1.00, '1 mon' and '30 days'), NULL included.
fn identity(expr: ScalarExpr) -> ScalarExpr {
    ScalarExpr::call(Func::get("identity"), vec![expr], SqlType::Bytea)
}

/// An equivalence class that makes two columns equal, NULL being equal to NULL.
fn same_key(
    left: ScalarExpr,
    right: ScalarExpr,
    left_ty: &ColumnType,
    right_ty: &ColumnType,
) -> Vec<ScalarExpr> {
    let wrap = left_ty.nullable || right_ty.nullable;
    [(left, left_ty), (right, right_ty)]
        .into_iter()
        .map(|(expr, ty)| {
            let expr = canonical(expr, &ty.ty);
            match wrap {
                true => ScalarExpr::call(
                    Func::get("make_record"),
                    vec![expr],
                    SqlType::Record(vec![ty.ty.clone()]),
                ),
                false => expr,
            }
        })
        .collect()
}

/// Nullable wherever one of the two is.
fn merge_nullability(types: &mut Vec<ColumnType>, more: &[ColumnType]) {
    if types.is_empty() {
        *types = more.to_vec();
        return;
    }
    for (ty, other) in types.iter_mut().zip(more) {
        ty.nullable |= other.nullable;
    }
}
