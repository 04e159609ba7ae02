//! Evaluates operators whose inputs are constants, and removes what an empty input makes empty.

use crate::transform::empty;
use plan::eval::{Collections, Env, Limits};
use plan::scalar::EvalCtx;
use plan::{EvalError, Mir, ScalarExpr};
use repr::{Diff, GlobalId, Row};
use std::sync::Arc;

/// A constant of more rows is left to execution: plans stay small.
const ROWS_MAX: usize = 1000;
const BYTES_MAX: usize = 256 * 1024;

pub fn fold_constants(mir: Mir) -> Mir {
    let mut mir = mir;
    for child in mir.children_mut() {
        *child = fold_constants(child.take());
    }
    if is_empty_result(&mir) {
        return empty(mir.types());
    }
    if let Some(only) = single_union(&mut mir) {
        return only;
    }
    if is_foldable(&mir)
        && let Some(rows) = evaluate(&mir)
    {
        return Mir::Constant {
            rows,
            types: mir.types(),
        };
    }
    mir
}

pub fn is_empty(mir: &Mir) -> bool {
    matches!(mir, Mir::Constant { rows: Ok(rows), .. } if rows.is_empty())
}

fn is_empty_result(mir: &Mir) -> bool {
    match mir {
        Mir::Constant { .. } | Mir::Get { .. } | Mir::Let { .. } => false,
        Mir::Filter { input, predicates } => {
            is_empty(input) || predicates.iter().any(crate::transform::expr::is_never_true)
        }
        Mir::Project { input, .. }
        | Mir::Map { input, .. }
        | Mir::FlatMap { input, .. }
        | Mir::Reduce { input, .. }
        | Mir::Negate { input }
        | Mir::Threshold { input }
        | Mir::ArrangeBy { input, .. } => is_empty(input),
        Mir::TopK { input, limit, .. } => {
            is_empty(input)
                || limit
                    .as_ref()
                    .is_some_and(|l| l.as_literal() == Some(repr::Datum::Int64(0)))
        }
        Mir::Join { inputs, .. } => inputs.iter().any(is_empty),
        Mir::Union { inputs } => inputs.iter().all(is_empty),
    }
}

/// Drops empty inputs of a union; a union of one is that one.
fn single_union(mir: &mut Mir) -> Option<Mir> {
    let Mir::Union { inputs } = mir else {
        return None;
    };
    inputs.retain(|input| !is_empty(input));
    if inputs.len() == 1 {
        inputs.pop()
    } else {
        None
    }
}

/// Whether the node's inputs are small constants and its expressions depend on nothing but rows.
fn is_foldable(mir: &Mir) -> bool {
    let constants = mir.children().iter().all(|c| matches!(c, Mir::Constant { rows, .. } if rows.as_ref().is_ok_and(|r| r.len() <= ROWS_MAX)));
    let operator = match mir {
        Mir::Constant { .. } | Mir::Get { .. } | Mir::Let { .. } | Mir::ArrangeBy { .. } => false,
        Mir::FlatMap { .. } => true,
        Mir::Project { .. }
        | Mir::Map { .. }
        | Mir::Filter { .. }
        | Mir::Join { .. }
        | Mir::Reduce { .. }
        | Mir::TopK { .. }
        | Mir::Negate { .. }
        | Mir::Threshold { .. }
        | Mir::Union { .. } => true,
    };
    constants && operator && !depends_on_execution(mir)
}

fn depends_on_execution(mir: &Mir) -> bool {
    let mut found = false;
    crate::transform::visit_scalars(mir, &mut |e| {
        e.visit(&mut |e| {
            found |= match e {
                ScalarExpr::Param(..) | ScalarExpr::Unmaterializable(_) => true,
                ScalarExpr::Call { func, .. } => func.def().session_dependent,
                ScalarExpr::Column(_) | ScalarExpr::Literal(..) | ScalarExpr::If { .. } => false,
            };
        });
    });
    found
}

type Rows = Result<Vec<(Row, Diff)>, EvalError>;

/// A constant plan reads no collection.
struct NoCollections;

impl Collections for NoCollections {
    fn rows(&self, id: GlobalId) -> Result<Arc<Vec<(Row, Diff)>>, EvalError> {
        Err(EvalError::new(
            "XX000",
            format!("a constant plan reads {id}"),
        ))
    }
}

/// The operator's rows, unless they are too many.
fn evaluate(mir: &Mir) -> Option<Rows> {
    let limits = Limits {
        rows_max: ROWS_MAX,
        bytes_max: BYTES_MAX,
        check: &|| Ok(()),
    };
    let env = Env {
        collections: &NoCollections,
        ctx: &EvalCtx::default(),
        limits,
        time: None,
    };
    let rows = plan::eval::eval_in_order(mir, &env);
    let over_limit = rows.as_ref().is_err_and(|error| error.sqlstate == "53200");
    (!over_limit).then_some(rows)
}
