//! Scalar expressions: a function of one input row.
//!
//! Expressions are fully typed when they are built: overloads are resolved, implicit casts are explicit calls, and a
//! [`ScalarExpr::Call`] carries its result type. Evaluation is in [`crate::scalar::eval`]; the functions are rows of the tables in
//! [`crate::scalar::func`].

pub mod catalog_fns;
pub mod eval;
pub mod func;

use crate::error::EvalError;
use repr::{ColumnType, Datum, Row, SqlType};
use serde::{Deserialize, Serialize};

pub use eval::EvalCtx;
pub use func::Func;

/// A typed scalar expression over the columns of one row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ScalarExpr {
    /// The column at this position of the input row.
    Column(usize),
    /// A constant, or an error raised whenever it is evaluated.
    Literal(Result<Row, EvalError>, ColumnType),
    /// The `$n` parameter (0-based) of a prepared statement, replaced by a literal before execution ([`ScalarExpr::bind`]).
    Param(usize, SqlType),
    /// A value fixed once per statement (for example `now()`), or bounded by the dataflow's time (`mz_now()`).
    Unmaterializable(Unmaterializable),
    /// A call of a function on evaluated arguments; lazy functions (`and`, `or`, `coalesce`) evaluate their own arguments.
    Call {
        func: Func,
        args: Vec<ScalarExpr>,
        ty: SqlType,
    },
    /// `CASE WHEN cond THEN then ELSE els END`; only the chosen branch is evaluated.
    If {
        cond: Box<ScalarExpr>,
        then: Box<ScalarExpr>,
        els: Box<ScalarExpr>,
    },
}

/// Values that depend on the statement, the session or the time, not on the row.
///
/// The planner replaces all but [`Unmaterializable::MzNow`] by literals before execution; in a view or an index definition only
/// `MzNow` is allowed, and only where it becomes a temporal bound of an [`crate::Mfp`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Unmaterializable {
    /// `mz_now()`: the logical timestamp at which the row is read.
    MzNow,
    /// `now()`, `current_timestamp`, `transaction_timestamp()`.
    Now,
    CurrentDatabase,
    CurrentUser,
    SessionUser,
    CurrentSchema,
    /// `current_schemas(include_implicit)`.
    CurrentSchemas {
        include_implicit: bool,
    },
    Version,
    BackendPid,
    /// `current_setting(name)`-like calls are evaluated by the session before planning of the rest.
    Setting(String),
}

impl ScalarExpr {
    /// A literal of a non-null value.
    pub fn literal(datum: Datum<'_>, ty: SqlType) -> Self {
        let nullable = datum.is_null();
        ScalarExpr::Literal(Ok(Row::pack_slice(&[datum])), ColumnType { ty, nullable })
    }

    pub fn null(ty: SqlType) -> Self {
        Self::literal(Datum::Null, ty)
    }

    pub fn bool(value: bool) -> Self {
        Self::literal(Datum::Bool(value), SqlType::Bool)
    }

    pub fn call(func: Func, args: Vec<ScalarExpr>, ty: SqlType) -> Self {
        ScalarExpr::Call { func, args, ty }
    }

    /// The constant this expression is, if it is a successful literal.
    pub fn as_literal(&self) -> Option<Datum<'_>> {
        match self {
            ScalarExpr::Literal(Ok(row), _) => row.iter().next(),
            ScalarExpr::Literal(Err(_), _)
            | ScalarExpr::Column(_)
            | ScalarExpr::Param(..)
            | ScalarExpr::Unmaterializable(_)
            | ScalarExpr::Call { .. }
            | ScalarExpr::If { .. } => None,
        }
    }

    pub fn is_literal_true(&self) -> bool {
        self.as_literal() == Some(Datum::Bool(true))
    }

    /// Direct subexpressions, in evaluation order.
    pub fn children(&self) -> Vec<&ScalarExpr> {
        match self {
            ScalarExpr::Column(_)
            | ScalarExpr::Literal(..)
            | ScalarExpr::Param(..)
            | ScalarExpr::Unmaterializable(_) => vec![],
            ScalarExpr::Call { args, .. } => args.iter().collect(),
            ScalarExpr::If { cond, then, els } => vec![cond, then, els],
        }
    }

    pub fn children_mut(&mut self) -> Vec<&mut ScalarExpr> {
        match self {
            ScalarExpr::Column(_)
            | ScalarExpr::Literal(..)
            | ScalarExpr::Param(..)
            | ScalarExpr::Unmaterializable(_) => vec![],
            ScalarExpr::Call { args, .. } => args.iter_mut().collect(),
            ScalarExpr::If { cond, then, els } => vec![cond, then, els],
        }
    }

    /// Visits every node, parents first.
    pub fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a ScalarExpr)) {
        f(self);
        for child in self.children() {
            child.visit(f);
        }
    }

    /// Rewrites every node, children first.
    pub fn visit_mut_post(&mut self, f: &mut dyn FnMut(&mut ScalarExpr)) {
        for child in self.children_mut() {
            child.visit_mut_post(f);
        }
        f(self);
    }

    /// Adds the input columns that this expression reads to `columns`.
    pub fn support_into(&self, columns: &mut std::collections::BTreeSet<usize>) {
        self.visit(&mut |e| {
            if let ScalarExpr::Column(c) = e {
                columns.insert(*c);
            }
        });
    }

    pub fn support(&self) -> std::collections::BTreeSet<usize> {
        let mut columns = Default::default();
        self.support_into(&mut columns);
        columns
    }

    /// Renumbers column references: column `c` becomes `map(c)`.
    pub fn permute(&mut self, map: &dyn Fn(usize) -> usize) {
        self.visit_mut_post(&mut |e| {
            if let ScalarExpr::Column(c) = e {
                *c = map(*c);
            }
        });
    }

    /// Replaces parameters by literals. `params[n]` must have the type the parameter was planned with.
    pub fn bind(&mut self, params: &[(Row, SqlType)]) {
        self.visit_mut_post(&mut |e| {
            if let ScalarExpr::Param(n, ty) = e {
                let (row, _) = &params[*n];
                let nullable = row.iter().next().is_none_or(|d| d.is_null());
                *e = ScalarExpr::Literal(
                    Ok(row.clone()),
                    ColumnType {
                        ty: ty.clone(),
                        nullable,
                    },
                );
            }
        });
    }

    pub fn contains_mz_now(&self) -> bool {
        let mut found = false;
        self.visit(&mut |e| {
            found |= matches!(e, ScalarExpr::Unmaterializable(Unmaterializable::MzNow))
        });
        found
    }

    pub fn contains_param(&self) -> bool {
        let mut found = false;
        self.visit(&mut |e| found |= matches!(e, ScalarExpr::Param(..)));
        found
    }
}
