//! The relational language of the optimizer: a tree over multisets of rows.
//!
//! A [`Mir`] denotes a collection: a finite map from rows to multiplicities, at every time. Every rewrite keeps that meaning;
//! [`crate::eval`] is its definition.

mod keys;
mod typing;

use crate::agg::AggregateExpr;
use crate::error::EvalError;
use crate::scalar::ScalarExpr;
use crate::table_func::TableFunc;
use repr::{ColumnType, Diff, GlobalId, Row};
use serde::{Deserialize, Serialize};

/// Name of a relation inside a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Id {
    /// A catalog object: table, source, view, materialized view, system relation.
    Global(GlobalId),
    /// A binding of an enclosing [`Mir::Let`].
    Local(u64),
}

/// One term of an ORDER BY over columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ColumnOrder {
    pub column: usize,
    pub desc: bool,
    pub nulls_last: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mir {
    /// Literal rows, or an error in place of the collection.
    Constant {
        rows: Result<Vec<(Row, Diff)>, EvalError>,
        types: Vec<ColumnType>,
    },
    Get {
        id: Id,
        types: Vec<ColumnType>,
        keys: Vec<Vec<usize>>,
    },
    /// `value` is bound to local `id` in `body`.
    Let {
        id: u64,
        value: Box<Mir>,
        body: Box<Mir>,
    },
    Project {
        input: Box<Mir>,
        outputs: Vec<usize>,
    },
    /// Appends scalars; scalar `i` may read the columns of scalars before it.
    Map {
        input: Box<Mir>,
        scalars: Vec<ScalarExpr>,
    },
    /// Appends the columns of each row that the function returns.
    FlatMap {
        input: Box<Mir>,
        func: TableFunc,
        args: Vec<ScalarExpr>,
        types: Vec<ColumnType>,
    },
    /// Keeps the rows for which every predicate is true.
    Filter {
        input: Box<Mir>,
        predicates: Vec<ScalarExpr>,
    },
    /// The rows of the cross product for which all members of each equivalence class are equal and not NULL.
    Join {
        inputs: Vec<Mir>,
        equivalences: Vec<Vec<ScalarExpr>>,
        implementation: JoinImplementation,
    },
    /// Output: the group key, then one column per aggregate. Without group key: no row over an empty input (the planner adds the
    /// default row of SQL's global aggregates by a union).
    Reduce {
        input: Box<Mir>,
        group_key: Vec<ScalarExpr>,
        aggregates: Vec<AggregateExpr>,
    },
    /// Per group, the rows from `offset` on, at most `limit`, in `order_key` order (ties broken by the whole row).
    TopK {
        input: Box<Mir>,
        group_key: Vec<usize>,
        order_key: Vec<ColumnOrder>,
        limit: Option<ScalarExpr>,
        offset: u64,
    },
    /// Multiplies every multiplicity by -1.
    Negate { input: Box<Mir> },
    /// Drops rows with a multiplicity below one.
    Threshold { input: Box<Mir> },
    /// Sum of multiplicities; at least one input.
    Union { inputs: Vec<Mir> },
    /// The same collection, arranged by each of the keys.
    ArrangeBy {
        input: Box<Mir>,
        keys: Vec<Vec<ScalarExpr>>,
    },
}

/// How a join is to be computed; chosen by the `join_implementation` rewrite.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JoinImplementation {
    #[default]
    Unimplemented,
    /// Start from input `start`, then join the others one after another. The key is over the columns of the input joined.
    Linear {
        start: usize,
        order: Vec<(usize, Vec<ScalarExpr>)>,
    },
    /// One path per input: `paths[i]` says in which order a change of input `i` meets the others.
    Delta {
        paths: Vec<Vec<(usize, Vec<ScalarExpr>)>>,
    },
}

impl Mir {
    pub fn arity(&self) -> usize {
        match self {
            Mir::Constant { types, .. } | Mir::Get { types, .. } => types.len(),
            Mir::Let { body, .. } => body.arity(),
            Mir::Project { outputs, .. } => outputs.len(),
            Mir::Map { input, scalars } => input.arity() + scalars.len(),
            Mir::FlatMap { input, types, .. } => input.arity() + types.len(),
            Mir::Filter { input, .. }
            | Mir::TopK { input, .. }
            | Mir::Negate { input }
            | Mir::Threshold { input }
            | Mir::ArrangeBy { input, .. } => input.arity(),
            Mir::Join { inputs, .. } => inputs.iter().map(Mir::arity).sum(),
            Mir::Reduce {
                group_key,
                aggregates,
                ..
            } => group_key.len() + aggregates.len(),
            Mir::Union { inputs } => inputs[0].arity(),
        }
    }

    pub fn children(&self) -> Vec<&Mir> {
        match self {
            Mir::Constant { .. } | Mir::Get { .. } => vec![],
            Mir::Let { value, body, .. } => vec![value, body],
            Mir::Project { input, .. }
            | Mir::Map { input, .. }
            | Mir::FlatMap { input, .. }
            | Mir::Filter { input, .. }
            | Mir::Reduce { input, .. }
            | Mir::TopK { input, .. }
            | Mir::Negate { input }
            | Mir::Threshold { input }
            | Mir::ArrangeBy { input, .. } => vec![input],
            Mir::Join { inputs, .. } | Mir::Union { inputs } => inputs.iter().collect(),
        }
    }

    pub fn children_mut(&mut self) -> Vec<&mut Mir> {
        match self {
            Mir::Constant { .. } | Mir::Get { .. } => vec![],
            Mir::Let { value, body, .. } => vec![value, body],
            Mir::Project { input, .. }
            | Mir::Map { input, .. }
            | Mir::FlatMap { input, .. }
            | Mir::Filter { input, .. }
            | Mir::Reduce { input, .. }
            | Mir::TopK { input, .. }
            | Mir::Negate { input }
            | Mir::Threshold { input }
            | Mir::ArrangeBy { input, .. } => vec![input],
            Mir::Join { inputs, .. } | Mir::Union { inputs } => inputs.iter_mut().collect(),
        }
    }

    /// Visits every node, children first.
    pub fn visit_mut_post(&mut self, f: &mut dyn FnMut(&mut Mir)) {
        for child in self.children_mut() {
            child.visit_mut_post(f);
        }
        f(self);
    }

    pub fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Mir)) {
        f(self);
        for child in self.children() {
            child.visit(f);
        }
    }

    /// The catalog objects that this plan reads, in order, without duplicates.
    pub fn depends_on(&self) -> std::collections::BTreeSet<GlobalId> {
        let mut ids = std::collections::BTreeSet::new();
        self.visit(&mut |m| {
            if let Mir::Get {
                id: Id::Global(id), ..
            } = m
            {
                ids.insert(*id);
            }
        });
        ids
    }

    /// Takes the plan out, leaving an empty constant.
    pub fn take(&mut self) -> Mir {
        std::mem::replace(
            self,
            Mir::Constant {
                rows: Ok(vec![]),
                types: vec![],
            },
        )
    }
}
