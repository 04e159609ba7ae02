//! The relational tree in which subqueries are still scalars.
//!
//! A [`Hir`] is read in the scope of zero or more enclosing rows: a column reference of level 0 is a column of the operator's own
//! input, one of level `n` a column of the row of the `n`-th enclosing query. [`crate::lower`] removes levels and subqueries.

use plan::mir::ColumnOrder;
use plan::scalar::Unmaterializable;
use plan::{AggregateFunc, EvalError, Func, TableFunc};
use repr::{ColumnType, Datum, GlobalId, Row, SqlType};
use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq)]
pub enum HirScalar {
    Column(ColumnRef),
    Literal(Result<Row, EvalError>, ColumnType),
    Param(usize, SqlType),
    Unmaterializable(Unmaterializable),
    Call {
        func: Func,
        args: Vec<HirScalar>,
        ty: SqlType,
    },
    If {
        cond: Box<HirScalar>,
        then: Box<HirScalar>,
        els: Box<HirScalar>,
    },
    /// Whether the relation has a row.
    Exists(Box<Hir>),
    /// The only column of the only row; NULL without a row, an error if there are several.
    Subquery(Box<Hir>, SqlType),
    /// An aggregate in a select list, HAVING or ORDER BY, until the query's Reduce is made.
    Aggregate(Box<HirAggregate>),
    /// A set-returning function in a select list, until the query's FlatMap is made.
    TableFunc {
        func: TableFunc,
        args: Vec<HirScalar>,
        ty: SqlType,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnRef {
    pub level: usize,
    pub index: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HirAggregate {
    pub func: AggregateFunc,
    pub expr: HirScalar,
    pub distinct: bool,
    /// The result's type.
    pub ty: ColumnType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Hir {
    Constant {
        rows: Vec<Row>,
        types: Vec<ColumnType>,
    },
    Get {
        id: GlobalId,
        types: Vec<ColumnType>,
        keys: Vec<Vec<usize>>,
    },
    /// A WITH query bound by an enclosing `Let`.
    LocalGet {
        id: u64,
        types: Vec<ColumnType>,
    },
    Let {
        id: u64,
        value: Box<Hir>,
        body: Box<Hir>,
    },
    Project {
        input: Box<Hir>,
        outputs: Vec<usize>,
    },
    /// Appends scalars over the input's columns (not over one another).
    Map {
        input: Box<Hir>,
        scalars: Vec<HirScalar>,
    },
    FlatMap {
        input: Box<Hir>,
        func: TableFunc,
        args: Vec<HirScalar>,
        types: Vec<ColumnType>,
    },
    Filter {
        input: Box<Hir>,
        predicates: Vec<HirScalar>,
    },
    Join {
        left: Box<Hir>,
        right: Box<Hir>,
        on: Vec<HirScalar>,
        kind: JoinKind,
        /// The right side is read in the scope of a row of the left side: its level 1 are the left side's columns.
        lateral: bool,
    },
    /// Output: the group key, then the aggregates. Without a key there is one row even over no input.
    Reduce {
        input: Box<Hir>,
        group_key: Vec<HirScalar>,
        aggregates: Vec<HirAggregate>,
        /// A group key of no columns that came from GROUP BY (): the default row is wanted as well.
        global: bool,
    },
    Distinct {
        input: Box<Hir>,
    },
    TopK {
        input: Box<Hir>,
        group_key: Vec<usize>,
        order_key: Vec<ColumnOrder>,
        limit: Option<HirScalar>,
        offset: u64,
    },
    Negate {
        input: Box<Hir>,
    },
    Threshold {
        input: Box<Hir>,
    },
    Union {
        inputs: Vec<Hir>,
    },
}

impl HirScalar {
    pub fn column(index: usize) -> HirScalar {
        HirScalar::Column(ColumnRef { level: 0, index })
    }

    pub fn literal(datum: Datum<'_>, ty: SqlType) -> HirScalar {
        let nullable = datum.is_null();
        HirScalar::Literal(Ok(Row::pack_slice(&[datum])), ColumnType { ty, nullable })
    }

    pub fn bool(value: bool) -> HirScalar {
        HirScalar::literal(Datum::Bool(value), SqlType::Bool)
    }

    pub fn null(ty: SqlType) -> HirScalar {
        HirScalar::literal(Datum::Null, ty)
    }

    /// A call of a function that exists by this name.
    pub fn call(func: &str, args: Vec<HirScalar>, ty: SqlType) -> HirScalar {
        HirScalar::Call {
            func: Func::get(func),
            args,
            ty,
        }
    }

    pub fn as_literal(&self) -> Option<Datum<'_>> {
        match self {
            HirScalar::Literal(Ok(row), _) => row.iter().next(),
            _ => None,
        }
    }

    /// Conjuncts of a predicate.
    pub fn into_conjuncts(self) -> Vec<HirScalar> {
        match self {
            HirScalar::Call { func, args, .. } if func.is("and") => args
                .into_iter()
                .flat_map(HirScalar::into_conjuncts)
                .collect(),
            other if other.as_literal() == Some(Datum::TRUE) => vec![],
            other => vec![other],
        }
    }

    /// Visits the direct parts: scalars at the same depth, relations one level deeper.
    pub fn visit_children<'a>(
        &'a self,
        scalar: &mut dyn FnMut(&'a HirScalar),
        relation: &mut dyn FnMut(&'a Hir),
    ) {
        match self {
            HirScalar::Column(_)
            | HirScalar::Literal(..)
            | HirScalar::Param(..)
            | HirScalar::Unmaterializable(_) => {}
            HirScalar::Call { args, .. } | HirScalar::TableFunc { args, .. } => {
                args.iter().for_each(scalar);
            }
            HirScalar::If { cond, then, els } => {
                scalar(cond);
                scalar(then);
                scalar(els);
            }
            HirScalar::Exists(rel) | HirScalar::Subquery(rel, _) => relation(rel),
            HirScalar::Aggregate(aggregate) => scalar(&aggregate.expr),
        }
    }

    pub fn children_mut(&mut self) -> Vec<&mut HirScalar> {
        match self {
            HirScalar::Column(_)
            | HirScalar::Literal(..)
            | HirScalar::Param(..)
            | HirScalar::Unmaterializable(_)
            | HirScalar::Exists(_)
            | HirScalar::Subquery(..) => vec![],
            HirScalar::Call { args, .. } | HirScalar::TableFunc { args, .. } => {
                args.iter_mut().collect()
            }
            HirScalar::If { cond, then, els } => vec![cond, then, els],
            HirScalar::Aggregate(aggregate) => vec![&mut aggregate.expr],
        }
    }

    /// Calls `f` on every column reference, with its level as seen from this scalar (levels inside subqueries are reduced by
    /// their depth; references to a subquery's own columns are left out).
    pub fn visit_columns(&self, f: &mut dyn FnMut(ColumnRef)) {
        visit_scalar(self, 0, f);
    }

    /// Rewrites every column reference that leaves `depth` levels; see [`HirScalar::visit_columns`].
    pub fn map_columns(&mut self, f: &mut dyn FnMut(ColumnRef) -> ColumnRef) {
        map_scalar(self, 0, f);
    }

    /// The same value, read `levels` queries further inside.
    pub fn shifted(mut self, levels: usize) -> HirScalar {
        self.map_columns(&mut |c| ColumnRef {
            level: c.level + levels,
            index: c.index,
        });
        self
    }

    pub fn has_subquery(&self) -> bool {
        let (mut found, mut deeper) = (false, false);
        self.visit_children(&mut |s| deeper |= s.has_subquery(), &mut |_| found = true);
        found || deeper
    }

    /// Whether a node for which `f` is true occurs, subqueries not searched.
    pub fn any(&self, f: &mut dyn FnMut(&HirScalar) -> bool) -> bool {
        if f(self) {
            return true;
        }
        let mut found = false;
        self.visit_children(&mut |s| found = found || s.any(f), &mut |_| {});
        found
    }

    pub fn has_aggregate(&self) -> bool {
        self.any(&mut |s| matches!(s, HirScalar::Aggregate(_)))
    }

    pub fn has_table_func(&self) -> bool {
        self.any(&mut |s| matches!(s, HirScalar::TableFunc { .. }))
    }

    /// Type and nullability over columns of these types, `scopes[level]`.
    pub fn typ(&self, scopes: &dyn Fn(ColumnRef) -> ColumnType) -> ColumnType {
        match self {
            HirScalar::Column(c) => scopes(*c),
            HirScalar::Literal(_, ty) => ty.clone(),
            HirScalar::Param(_, ty) => ty.clone().nullable(true),
            HirScalar::Unmaterializable(value) => value.typ(),
            HirScalar::Call { func, args, ty } => {
                let args: Vec<ColumnType> = args.iter().map(|a| a.typ(scopes)).collect();
                // The nullability rules are those of the lowered call over columns of the same types.
                let columns = (0..args.len()).map(plan::ScalarExpr::Column).collect();
                plan::ScalarExpr::call(*func, columns, ty.clone()).typ(&args)
            }
            HirScalar::If { then, els, .. } => {
                let (then, els) = (then.typ(scopes), els.typ(scopes));
                ColumnType {
                    nullable: then.nullable || els.nullable,
                    ty: then.ty,
                }
            }
            HirScalar::Exists(_) => SqlType::Bool.nullable(false),
            HirScalar::Subquery(_, ty) => ty.clone().nullable(true),
            HirScalar::Aggregate(aggregate) => aggregate.ty.clone(),
            HirScalar::TableFunc { ty, .. } => ty.clone().nullable(true),
        }
    }
}

impl Hir {
    /// One row without columns.
    pub fn unit() -> Hir {
        Hir::Constant {
            rows: vec![Row::empty()],
            types: vec![],
        }
    }

    pub fn is_unit(&self) -> bool {
        matches!(self, Hir::Constant { rows, types } if types.is_empty() && rows.len() == 1)
    }

    pub fn map(self, scalars: Vec<HirScalar>) -> Hir {
        if scalars.is_empty() {
            return self;
        }
        Hir::Map {
            input: Box::new(self),
            scalars,
        }
    }

    pub fn project(self, outputs: Vec<usize>) -> Hir {
        Hir::Project {
            input: Box::new(self),
            outputs,
        }
    }

    pub fn filter(self, predicates: Vec<HirScalar>) -> Hir {
        if predicates.is_empty() {
            return self;
        }
        Hir::Filter {
            input: Box::new(self),
            predicates,
        }
    }

    pub fn distinct(self) -> Hir {
        Hir::Distinct {
            input: Box::new(self),
        }
    }

    pub fn arity(&self) -> usize {
        match self {
            Hir::Constant { types, .. } | Hir::Get { types, .. } | Hir::LocalGet { types, .. } => {
                types.len()
            }
            Hir::Let { body, .. } => body.arity(),
            Hir::Project { outputs, .. } => outputs.len(),
            Hir::Map { input, scalars } => input.arity() + scalars.len(),
            Hir::FlatMap { input, types, .. } => input.arity() + types.len(),
            Hir::Join { left, right, .. } => left.arity() + right.arity(),
            Hir::Reduce {
                group_key,
                aggregates,
                ..
            } => group_key.len() + aggregates.len(),
            Hir::Filter { input, .. }
            | Hir::Distinct { input }
            | Hir::TopK { input, .. }
            | Hir::Negate { input }
            | Hir::Threshold { input } => input.arity(),
            Hir::Union { inputs } => inputs[0].arity(),
        }
    }

    /// The columns of enclosing rows that the relation reads; level 1 is the row it is evaluated for.
    pub fn outer_columns(&self) -> BTreeSet<ColumnRef> {
        let mut found = BTreeSet::new();
        visit_relation(self, 0, &mut |c| {
            if c.level > 0 {
                found.insert(c);
            }
        });
        found
    }

    pub fn is_correlated(&self) -> bool {
        !self.outer_columns().is_empty()
    }

    /// Whether there can be at most one row (per row of the enclosing queries).
    pub fn at_most_one_row(&self) -> bool {
        match self {
            Hir::Constant { rows, .. } => rows.len() <= 1,
            Hir::Get { keys, .. } => keys.iter().any(Vec::is_empty),
            Hir::Reduce { group_key, .. } => group_key.is_empty(),
            Hir::TopK {
                input,
                group_key,
                limit,
                ..
            } => {
                let one = limit.as_ref().and_then(HirScalar::as_literal);
                (group_key.is_empty() && matches!(one, Some(Datum::Int64(0 | 1))))
                    || input.at_most_one_row()
            }
            Hir::Project { input, .. }
            | Hir::Map { input, .. }
            | Hir::Filter { input, .. }
            | Hir::Distinct { input }
            | Hir::Threshold { input } => input.at_most_one_row(),
            Hir::Let { body, .. } => body.at_most_one_row(),
            Hir::Join {
                left, right, kind, ..
            } => *kind != JoinKind::Full && left.at_most_one_row() && right.at_most_one_row(),
            Hir::LocalGet { .. } | Hir::FlatMap { .. } | Hir::Negate { .. } | Hir::Union { .. } => {
                false
            }
        }
    }

    /// Children with the number of levels by which each is deeper than this relation.
    pub fn children(&self) -> Vec<(&Hir, usize)> {
        match self {
            Hir::Constant { .. } | Hir::Get { .. } | Hir::LocalGet { .. } => vec![],
            Hir::Let { value, body, .. } => vec![(value, 0), (body, 0)],
            Hir::Project { input, .. }
            | Hir::Map { input, .. }
            | Hir::FlatMap { input, .. }
            | Hir::Filter { input, .. }
            | Hir::Reduce { input, .. }
            | Hir::Distinct { input }
            | Hir::TopK { input, .. }
            | Hir::Negate { input }
            | Hir::Threshold { input } => vec![(input, 0)],
            Hir::Join {
                left,
                right,
                lateral,
                ..
            } => vec![(left, 0), (right, usize::from(*lateral))],
            Hir::Union { inputs } => inputs.iter().map(|i| (i, 0)).collect(),
        }
    }

    /// The scalars of this operator alone.
    pub fn scalars(&self) -> Vec<&HirScalar> {
        match self {
            Hir::Map { scalars, .. } => scalars.iter().collect(),
            Hir::FlatMap { args, .. } => args.iter().collect(),
            Hir::Filter { predicates, .. } => predicates.iter().collect(),
            Hir::Join { on, .. } => on.iter().collect(),
            Hir::Reduce {
                group_key,
                aggregates,
                ..
            } => group_key
                .iter()
                .chain(aggregates.iter().map(|a| &a.expr))
                .collect(),
            Hir::TopK { limit, .. } => limit.iter().collect(),
            Hir::Constant { .. }
            | Hir::Get { .. }
            | Hir::LocalGet { .. }
            | Hir::Let { .. }
            | Hir::Project { .. }
            | Hir::Distinct { .. }
            | Hir::Negate { .. }
            | Hir::Threshold { .. }
            | Hir::Union { .. } => vec![],
        }
    }

    fn parts_mut(&mut self) -> (Vec<(&mut Hir, usize)>, Vec<&mut HirScalar>) {
        match self {
            Hir::Constant { .. } | Hir::Get { .. } | Hir::LocalGet { .. } => (vec![], vec![]),
            Hir::Let { value, body, .. } => (vec![(value, 0), (body, 0)], vec![]),
            Hir::Project { input, .. }
            | Hir::Distinct { input }
            | Hir::Negate { input }
            | Hir::Threshold { input } => (vec![(input, 0)], vec![]),
            Hir::Map { input, scalars } => (vec![(input, 0)], scalars.iter_mut().collect()),
            Hir::FlatMap { input, args, .. } => (vec![(input, 0)], args.iter_mut().collect()),
            Hir::Filter { input, predicates } => {
                (vec![(input, 0)], predicates.iter_mut().collect())
            }
            Hir::Reduce {
                input,
                group_key,
                aggregates,
                ..
            } => (
                vec![(input, 0)],
                group_key
                    .iter_mut()
                    .chain(aggregates.iter_mut().map(|a| &mut a.expr))
                    .collect(),
            ),
            Hir::TopK { input, limit, .. } => (vec![(input, 0)], limit.iter_mut().collect()),
            Hir::Join {
                left,
                right,
                on,
                lateral,
                ..
            } => (
                vec![(left, 0), (right, usize::from(*lateral))],
                on.iter_mut().collect(),
            ),
            Hir::Union { inputs } => (inputs.iter_mut().map(|i| (i, 0)).collect(), vec![]),
        }
    }

    /// Rewrites every reference to columns of enclosing rows; the level seen by `f` is relative to this relation (1 is the
    /// innermost enclosing row).
    pub fn map_outer_columns(&mut self, f: &mut dyn FnMut(ColumnRef) -> ColumnRef) {
        map_relation(self, 0, &mut |c| if c.level > 0 { f(c) } else { c });
    }
}

fn visit_scalar(scalar: &HirScalar, depth: usize, f: &mut dyn FnMut(ColumnRef)) {
    if let HirScalar::Column(c) = scalar {
        if c.level >= depth {
            f(ColumnRef {
                level: c.level - depth,
                index: c.index,
            });
        }
        return;
    }
    let (mut scalars, mut relations) = (vec![], vec![]);
    scalar.visit_children(&mut |s| scalars.push(s), &mut |r| relations.push(r));
    for s in scalars {
        visit_scalar(s, depth, f);
    }
    for r in relations {
        visit_relation(r, depth + 1, f);
    }
}

/// The relation's own columns are level `depth` of `f`'s caller minus `depth`: references of level below `depth` stay inside.
fn visit_relation(relation: &Hir, depth: usize, f: &mut dyn FnMut(ColumnRef)) {
    for scalar in relation.scalars() {
        visit_scalar(scalar, depth, f);
    }
    for (child, deeper) in relation.children() {
        visit_relation(child, depth + deeper, f);
    }
}

fn map_scalar(scalar: &mut HirScalar, depth: usize, f: &mut dyn FnMut(ColumnRef) -> ColumnRef) {
    match scalar {
        HirScalar::Column(c) => {
            if c.level >= depth {
                let mapped = f(ColumnRef {
                    level: c.level - depth,
                    index: c.index,
                });
                *c = ColumnRef {
                    level: mapped.level + depth,
                    index: mapped.index,
                };
            }
        }
        HirScalar::Exists(rel) | HirScalar::Subquery(rel, _) => map_relation(rel, depth + 1, f),
        HirScalar::Literal(..)
        | HirScalar::Param(..)
        | HirScalar::Unmaterializable(_)
        | HirScalar::Call { .. }
        | HirScalar::If { .. }
        | HirScalar::Aggregate(_)
        | HirScalar::TableFunc { .. } => {
            for child in scalar.children_mut() {
                map_scalar(child, depth, f);
            }
        }
    }
}

fn map_relation(relation: &mut Hir, depth: usize, f: &mut dyn FnMut(ColumnRef) -> ColumnRef) {
    let (children, scalars) = relation.parts_mut();
    for scalar in scalars {
        map_scalar(scalar, depth, f);
    }
    for (child, deeper) in children {
        map_relation(child, depth + deeper, f);
    }
}
