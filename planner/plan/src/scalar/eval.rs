//! Evaluation of scalar expressions.
//!
//! Errors and NULL follow three rules that make the result independent of the order in which an optimizer arranges things:
//! a function evaluates all of its arguments, from left to right, before it looks for NULL; AND and OR are decided by a FALSE or
//! a TRUE argument whatever the other arguments are, errors included, and else raise the least error of their arguments; CASE and
//! COALESCE evaluate only what they need.

mod context;
mod fold;
mod typing;

pub use context::EvalCtx;

use super::func::{EvalFn, Kind, LazyKind};
use super::{ScalarExpr, Unmaterializable};
use crate::error::EvalError;
use repr::{Datum, RowArena, SqlType};
use smallvec::SmallVec;

/// Where column references find their values.
pub(crate) trait Columns<'a> {
    fn column(&self, index: usize) -> Result<Datum<'a>, EvalError>;
}

impl<'a> Columns<'a> for [Datum<'a>] {
    #[inline]
    fn column(&self, index: usize) -> Result<Datum<'a>, EvalError> {
        Ok(self[index])
    }
}

/// Columns that are themselves results of evaluation: an error is raised where the column is read.
impl<'a> Columns<'a> for [Result<Datum<'a>, EvalError>] {
    fn column(&self, index: usize) -> Result<Datum<'a>, EvalError> {
        self[index].clone()
    }
}

impl ScalarExpr {
    /// The value over a row of these columns.
    ///
    /// # Errors
    /// What the functions raise; parameters and statement values that were never replaced are internal errors.
    #[inline]
    pub fn eval<'a>(
        &'a self,
        ctx: &EvalCtx,
        columns: &[Datum<'a>],
        arena: &'a RowArena,
    ) -> Result<Datum<'a>, EvalError> {
        self.eval_in(ctx, columns, arena)
    }

    pub(crate) fn eval_in<'a, C: Columns<'a> + ?Sized>(
        &'a self,
        ctx: &EvalCtx,
        columns: &C,
        arena: &'a RowArena,
    ) -> Result<Datum<'a>, EvalError> {
        match self {
            ScalarExpr::Column(index) => columns.column(*index),
            ScalarExpr::Literal(Ok(row), _) => Ok(row.iter().next().unwrap_or(Datum::Null)),
            ScalarExpr::Literal(Err(error), _) => Err(error.clone()),
            ScalarExpr::Call { func, args, ty } => match func.def().kind {
                Kind::Strict(f) => call(f, true, args, ty, ctx, columns, arena),
                Kind::NullAware(f) => call(f, false, args, ty, ctx, columns, arena),
                Kind::Lazy(LazyKind::And) => connective(args, false, ctx, columns, arena),
                Kind::Lazy(LazyKind::Or) => connective(args, true, ctx, columns, arena),
                Kind::Lazy(LazyKind::Coalesce) => coalesce(args, ctx, columns, arena),
            },
            ScalarExpr::If { cond, then, els } => {
                let chosen = if cond.eval_in(ctx, columns, arena)?.is_true() {
                    then
                } else {
                    els
                };
                chosen.eval_in(ctx, columns, arena)
            }
            ScalarExpr::Param(..) | ScalarExpr::Unmaterializable(_) => Err(self.unbound()),
        }
    }

    /// The error of evaluating what should have been replaced before.
    #[cold]
    fn unbound(&self) -> EvalError {
        match self {
            ScalarExpr::Param(n, _) => {
                EvalError::new("08P01", format!("there is no parameter ${}", n + 1))
            }
            ScalarExpr::Unmaterializable(Unmaterializable::MzNow) => {
                EvalError::new("0A000", "mz_now() cannot be used in this position")
            }
            other => EvalError::new(
                "XX000",
                format!("{other:?} was not replaced before evaluation"),
            ),
        }
    }
}

#[inline]
fn call<'a, C: Columns<'a> + ?Sized>(
    f: EvalFn,
    strict: bool,
    args: &'a [ScalarExpr],
    ty: &SqlType,
    ctx: &EvalCtx,
    columns: &C,
    arena: &'a RowArena,
) -> Result<Datum<'a>, EvalError> {
    match args {
        [x] => {
            let x = argument(x, ctx, columns, arena)?;
            if strict && x.is_null() {
                return Ok(Datum::Null);
            }
            f(ctx, ty, &[x], arena)
        }
        [x, y] => {
            let values = [
                argument(x, ctx, columns, arena)?,
                argument(y, ctx, columns, arena)?,
            ];
            if strict && (values[0].is_null() || values[1].is_null()) {
                return Ok(Datum::Null);
            }
            f(ctx, ty, &values, arena)
        }
        _ => {
            let mut values: SmallVec<[Datum<'a>; 4]> = SmallVec::with_capacity(args.len());
            for arg in args {
                values.push(arg.eval_in(ctx, columns, arena)?);
            }
            if strict && values.iter().any(|v| v.is_null()) {
                return Ok(Datum::Null);
            }
            f(ctx, ty, &values, arena)
        }
    }
}

/// Most arguments are columns: those cost no call.
#[inline(always)]
fn argument<'a, C: Columns<'a> + ?Sized>(
    expr: &'a ScalarExpr,
    ctx: &EvalCtx,
    columns: &C,
    arena: &'a RowArena,
) -> Result<Datum<'a>, EvalError> {
    match expr {
        ScalarExpr::Column(index) => columns.column(*index),
        other => other.eval_in(ctx, columns, arena),
    }
}

/// AND (`decides` is FALSE) or OR (TRUE).
fn connective<'a, C: Columns<'a> + ?Sized>(
    args: &'a [ScalarExpr],
    decides: bool,
    ctx: &EvalCtx,
    columns: &C,
    arena: &'a RowArena,
) -> Result<Datum<'a>, EvalError> {
    let mut result = Datum::Bool(!decides);
    let mut least_error: Option<EvalError> = None;
    for arg in args {
        match arg.eval_in(ctx, columns, arena) {
            Ok(Datum::Bool(value)) if value == decides => return Ok(Datum::Bool(decides)),
            Ok(Datum::Null) => result = Datum::Null,
            Ok(_) => {}
            Err(error) => keep_least(&mut least_error, error),
        }
    }
    least_error.map_or(Ok(result), Err)
}

/// Of several errors the least one is raised, so that it does not matter which is met first.
pub(crate) fn keep_least(least: &mut Option<EvalError>, error: EvalError) {
    if least.as_ref().is_none_or(|kept| error < *kept) {
        *least = Some(error);
    }
}

fn coalesce<'a, C: Columns<'a> + ?Sized>(
    args: &'a [ScalarExpr],
    ctx: &EvalCtx,
    columns: &C,
    arena: &'a RowArena,
) -> Result<Datum<'a>, EvalError> {
    for arg in args {
        let value = arg.eval_in(ctx, columns, arena)?;
        if !value.is_null() {
            return Ok(value);
        }
    }
    Ok(Datum::Null)
}
