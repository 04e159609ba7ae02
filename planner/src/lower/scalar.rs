//! Scalars: subqueries become columns joined to the input.

use super::{
    Lower, Lowered, Outer, bind, canonical, get_local, identity, join, negate, project, same_key,
    union,
};
use crate::error::PlanError;
use crate::hir::{ColumnRef, Hir, HirScalar};
use plan::{AggregateExpr, AggregateFunc, EvalError, Func, Mir, ScalarExpr};
use repr::{ColumnType, Datum, SqlType};
use std::collections::BTreeMap;

impl Lower {
    /// Lowers a scalar over `input`, whose first columns are the outer keys. Columns for subqueries are appended to `input`.
    pub(super) fn scalar(
        &mut self,
        scalar: HirScalar,
        input: &mut Lowered,
        outer: &Outer,
    ) -> Result<ScalarExpr, PlanError> {
        match scalar {
            HirScalar::Column(c) => Ok(value(c, outer)),
            HirScalar::Literal(value, ty) => Ok(ScalarExpr::Literal(value, ty)),
            HirScalar::Param(n, ty) => Ok(ScalarExpr::Param(n, ty)),
            HirScalar::Unmaterializable(value) => Ok(ScalarExpr::Unmaterializable(value)),
            HirScalar::Call { func, args, ty } => {
                let mut lowered = vec![];
                for arg in args {
                    lowered.push(self.scalar(arg, input, outer)?);
                }
                Ok(ScalarExpr::call(func, lowered, ty))
            }
            HirScalar::If { cond, then, els } => Ok(ScalarExpr::If {
                cond: Box::new(self.scalar(*cond, input, outer)?),
                then: Box::new(self.scalar(*then, input, outer)?),
                els: Box::new(self.scalar(*els, input, outer)?),
            }),
            HirScalar::Exists(relation) => self.exists(*relation, input, outer),
            HirScalar::Subquery(relation, ty) => self.subquery(*relation, ty, input, outer),
            HirScalar::Aggregate(_) => Err(PlanError::new(
                "42803",
                "aggregate functions are not allowed here",
            )),
            HirScalar::TableFunc { .. } => Err(PlanError::new(
                "0A000",
                "set-returning functions are not allowed here",
            )),
        }
    }

    /// Appends a boolean column: whether the relation has a row for the input's row.
    fn exists(
        &mut self,
        relation: Hir,
        input: &mut Lowered,
        outer: &Outer,
    ) -> Result<ScalarExpr, PlanError> {
        let correlation = self.correlate(&relation, input, outer);
        let sub = self.relation(relation, &correlation.outer)?;
        let n = correlation.columns.len();
        let present = sub.project((0..n).collect()).distinct();
        let id = self.fresh();
        let absent = union(vec![
            correlation.outer.keys.clone(),
            negate(get_local(id, &present.types)),
        ]);
        let flag = |mir: Mir, value: bool| Mir::Map {
            input: Box::new(mir),
            scalars: vec![ScalarExpr::bool(value)],
        };
        let both = union(vec![
            flag(get_local(id, &present.types), true),
            flag(absent, false),
        ]);
        let value = bind(id, present.mir, both);
        Ok(self.attach(input, correlation, value, SqlType::Bool.nullable(false)))
    }

    /// Appends the value of a scalar subquery.
    fn subquery(
        &mut self,
        relation: Hir,
        ty: SqlType,
        input: &mut Lowered,
        outer: &Outer,
    ) -> Result<ScalarExpr, PlanError> {
        let single = relation.at_most_one_row();
        let complete = matches!(&relation, Hir::Reduce { global: true, .. })
            || matches!(&relation, Hir::Project { input, .. } if always_one_row(input));
        let correlation = self.correlate(&relation, input, outer);
        let n = correlation.columns.len();
        let sub = self.relation(relation, &correlation.outer)?;
        if complete {
            return Ok(self.attach(input, correlation, sub.mir, ty.nullable(true)));
        }
        let id = self.fresh();
        let get = || get_local(id, &sub.types);
        let keys_of = |mir: Mir| project(mir, (0..n).collect());
        let key_exprs = || -> Vec<ScalarExpr> {
            (0..n)
                .map(|i| canonical(ScalarExpr::Column(i), &sub.types[i].ty))
                .collect()
        };
        let mut branches = vec![get()];
        let present = match single {
            true => keys_of(get()),
            false => {
                branches.push(too_many_rows(get(), key_exprs(), n, &ty));
                Mir::Reduce {
                    input: Box::new(keys_of(get())),
                    group_key: key_exprs(),
                    aggregates: vec![],
                }
            }
        };
        branches.push(Mir::Map {
            input: Box::new(union(vec![correlation.outer.keys.clone(), negate(present)])),
            scalars: vec![ScalarExpr::null(ty.clone())],
        });
        let value = bind(id, sub.mir, union(branches));
        Ok(self.attach(input, correlation, value, ty.nullable(true)))
    }

    /// Finds the columns of `input` that the relation reads, binds `input` if there are any, and makes the distinct keys.
    pub(super) fn correlate(
        &mut self,
        relation: &Hir,
        input: &mut Lowered,
        outer: &Outer,
    ) -> Correlation {
        let mut columns: Vec<usize> = vec![];
        let mut map = BTreeMap::new();
        for c in relation.outer_columns() {
            let here = column(
                ColumnRef {
                    level: c.level - 1,
                    index: c.index,
                },
                outer,
            );
            let position = columns.iter().position(|known| *known == here);
            let position = position.unwrap_or_else(|| {
                columns.push(here);
                columns.len() - 1
            });
            map.insert(c, position);
        }
        if columns.is_empty() {
            return Correlation {
                columns: vec![],
                outer: Outer::unit(),
                bindings: vec![],
            };
        }
        let input_id = self.fresh();
        let value = std::mem::replace(&mut input.mir, get_local(input_id, &input.types));
        // Of a key that came from further outside there is nothing but its identity already.
        let known = |c: usize| outer.values.get(c).cloned();
        let own = |c: usize| Some(input.types[c].ty.clone()).filter(SqlType::needs_key_canonical);
        let values: Vec<Option<SqlType>> = columns
            .iter()
            .map(|c| known(*c).unwrap_or_else(|| own(*c)))
            .collect();
        let keys = Lowered {
            mir: input.mir.clone(),
            types: input.types.clone(),
        };
        let (mut exprs, mut identities, mut outputs) = (vec![], vec![], vec![]);
        for c in columns {
            if known(c).is_none() && own(c).is_some() {
                outputs.push(keys.types.len() + identities.len());
                identities.push(identity(ScalarExpr::Column(c)));
                exprs.push(identity(ScalarExpr::Column(c)));
            } else {
                outputs.push(c);
                exprs.push(ScalarExpr::Column(c));
            }
        }
        let keys = keys.map(identities).project(outputs);
        let keys = keys.distinct();
        let keys_id = self.fresh();
        Correlation {
            columns: exprs,
            outer: Outer {
                keys: get_local(keys_id, &keys.types),
                types: keys.types,
                values,
                columns: map,
            },
            bindings: vec![(input_id, value), (keys_id, keys.mir)],
        }
    }

    /// Joins `value` (the keys' columns, then one column; exactly one row for each key) to the input and refers to the new column.
    fn attach(
        &mut self,
        input: &mut Lowered,
        correlation: Correlation,
        value: Mir,
        ty: ColumnType,
    ) -> ScalarExpr {
        let arity = input.types.len();
        let n = correlation.columns.len();
        let equivalences = correlation.equivalences(arity);
        let joined = join(vec![input.mir.take(), value], equivalences);
        let outputs = (0..arity).chain([arity + n]).collect();
        input.mir = correlation.close(project(joined, outputs));
        input.types.push(ty);
        ScalarExpr::Column(arity)
    }
}

/// What a subquery reads of the rows it is evaluated for.
pub(super) struct Correlation {
    /// Each key, over the input.
    pub(super) columns: Vec<ScalarExpr>,
    pub(super) outer: Outer,
    /// Bindings that must enclose whatever uses them: the input, then the keys.
    bindings: Vec<(u64, Mir)>,
}

impl Correlation {
    /// Makes the key columns of a second join input equal to the input's.
    pub(super) fn equivalences(&self, input_arity: usize) -> Vec<Vec<ScalarExpr>> {
        self.columns
            .iter()
            .zip(&self.outer.types)
            .enumerate()
            .map(|(i, (c, ty))| {
                let right = ScalarExpr::Column(input_arity + i);
                same_key(c.clone(), right, ty, ty)
            })
            .collect()
    }

    pub(super) fn close(self, body: Mir) -> Mir {
        self.bindings
            .into_iter()
            .rev()
            .fold(body, |body, (id, value)| bind(id, value, body))
    }
}

/// The position of a column in rows that begin with the outer keys.
pub(super) fn column(c: ColumnRef, outer: &Outer) -> usize {
    match c.level {
        0 => outer.arity() + c.index,
        _ => outer.columns[&c],
    }
}

/// What a column reads from such rows.
fn value(c: ColumnRef, outer: &Outer) -> ScalarExpr {
    let position = column(c, outer);
    let read = ScalarExpr::Column(position);
    match outer.values.get(position) {
        Some(Some(ty)) => ScalarExpr::call(Func::get("of_identity"), vec![read], ty.clone()),
        Some(None) | None => read,
    }
}

/// Whether the relation has exactly one row for every outer row.
fn always_one_row(hir: &Hir) -> bool {
    match hir {
        Hir::Reduce { global, .. } => *global,
        Hir::Project { input, .. } | Hir::Map { input, .. } => always_one_row(input),
        _ => hir.is_unit(),
    }
}

/// For each key with several rows, one row whose value raises an error.
fn too_many_rows(sub: Mir, keys: Vec<ScalarExpr>, n: usize, ty: &SqlType) -> Mir {
    let counted = Mir::Reduce {
        input: Box::new(sub),
        group_key: keys,
        aggregates: vec![AggregateExpr {
            func: AggregateFunc::Count,
            expr: ScalarExpr::bool(true),
            distinct: false,
        }],
    };
    let several = ScalarExpr::call(
        Func::get("gt"),
        vec![
            ScalarExpr::Column(n),
            ScalarExpr::literal(Datum::Int64(1), SqlType::Int64),
        ],
        SqlType::Bool,
    );
    let error = EvalError::new(
        "21000",
        "more than one row returned by a subquery used as an expression",
    );
    let raise = ScalarExpr::If {
        cond: Box::new(several.clone()),
        then: Box::new(ScalarExpr::Literal(Err(error), ty.clone().nullable(true))),
        els: Box::new(ScalarExpr::null(ty.clone())),
    };
    let failing = Mir::Map {
        input: Box::new(Mir::Filter {
            input: Box::new(counted),
            predicates: vec![several],
        }),
        scalars: vec![raise],
    };
    project(failing, (0..n).chain([n + 1]).collect())
}
