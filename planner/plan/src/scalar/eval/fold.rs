//! Constant folding and boolean simplification.
//!
//! Every step keeps the value for every row, NULLs and errors included.

use super::EvalCtx;
use crate::scalar::{Func, ScalarExpr};
use repr::{Datum, Row, RowArena, SqlType};

impl ScalarExpr {
    /// Evaluates the parts that do not depend on the row and simplifies logic around the rest.
    ///
    /// With `ctx` of a session the result is valid for that session only if the expression is [`ScalarExpr::session_dependent`].
    pub fn fold(&mut self, ctx: &EvalCtx) {
        self.fold_over(ctx, &|_| false);
    }

    /// As [`ScalarExpr::fold`], over columns of which some raise an error when they are read (see [`crate::mfp`]).
    pub(crate) fn fold_over(&mut self, ctx: &EvalCtx, column_fails: &dyn Fn(usize) -> bool) {
        self.visit_mut_post(&mut |e| fold_node(e, ctx, column_fails));
    }

    /// Whether this is a literal value or error.
    pub fn is_constant(&self) -> bool {
        matches!(self, ScalarExpr::Literal(..))
    }

    /// The logical negation, written with the opposite function where there is one.
    pub fn negate(self) -> ScalarExpr {
        match self {
            ScalarExpr::Call { func, mut args, .. } if func.is("not") => args.remove(0),
            ScalarExpr::Call { func, args, ty } => match func.negation() {
                Some(opposite) => ScalarExpr::Call {
                    func: opposite,
                    args,
                    ty,
                },
                None => not(ScalarExpr::Call { func, args, ty }),
            },
            other => not(other),
        }
    }

    /// The conjunction; TRUE for none.
    pub fn and(mut conjuncts: Vec<ScalarExpr>) -> ScalarExpr {
        match conjuncts.len() {
            0 => ScalarExpr::bool(true),
            1 => conjuncts.remove(0),
            _ => ScalarExpr::call(Func::get("and"), conjuncts, SqlType::Bool),
        }
    }

    /// Splits nested ANDs into their conjuncts.
    pub fn into_conjuncts(self) -> Vec<ScalarExpr> {
        match self {
            ScalarExpr::Call { func, args, .. } if func.is("and") => args
                .into_iter()
                .flat_map(ScalarExpr::into_conjuncts)
                .collect(),
            other => vec![other],
        }
    }
}

fn not(e: ScalarExpr) -> ScalarExpr {
    ScalarExpr::call(Func::get("not"), vec![e], SqlType::Bool)
}

fn fold_node(e: &mut ScalarExpr, ctx: &EvalCtx, column_fails: &dyn Fn(usize) -> bool) {
    match e {
        ScalarExpr::Column(_)
        | ScalarExpr::Literal(..)
        | ScalarExpr::Param(..)
        | ScalarExpr::Unmaterializable(_) => {}
        ScalarExpr::If { .. } => fold_if(e, column_fails),
        ScalarExpr::Call { func, args, .. } => {
            if args.iter().all(ScalarExpr::is_constant) {
                if func.def().reads_catalog && ctx.catalog.is_none() {
                    return;
                }
                return evaluate(e, ctx);
            }
            match func.name() {
                "and" => fold_connective(e, false),
                "or" => fold_connective(e, true),
                "coalesce" => fold_coalesce(e),
                "not" => fold_not(e),
                _ => fold_null_argument(e, column_fails),
            }
        }
    }
}

/// Replaces a call over literals by its result.
fn evaluate(e: &mut ScalarExpr, ctx: &EvalCtx) {
    let ty = e.typ(&[]).ty;
    let arena = RowArena::new();
    let result = e
        .eval(ctx, &[], &arena)
        .map(|datum| Row::pack_slice(&[datum]));
    let nullable = match &result {
        Ok(row) => row.iter().next().is_none_or(|d| d.is_null()),
        Err(_) => false,
    };
    *e = ScalarExpr::Literal(result, ty.nullable(nullable));
}

/// NULL makes a strict call NULL; that may be known only if the other arguments cannot fail.
fn fold_null_argument(e: &mut ScalarExpr, column_fails: &dyn Fn(usize) -> bool) {
    let ScalarExpr::Call { func, args, ty } = e else {
        return;
    };
    let null = args
        .iter()
        .any(|a| a.as_literal().is_some_and(|d| d.is_null()));
    if null && func.propagates_nulls() && !args.iter().any(|a| a.may_fail(column_fails)) {
        *e = ScalarExpr::null(ty.clone());
    }
}

fn fold_if(e: &mut ScalarExpr, column_fails: &dyn Fn(usize) -> bool) {
    let ScalarExpr::If { cond, then, els } = e else {
        return;
    };
    let chosen = match &**cond {
        ScalarExpr::Literal(Ok(row), _) if row.iter().next() == Some(Datum::TRUE) => then,
        ScalarExpr::Literal(Ok(_), _) => els,
        ScalarExpr::Literal(Err(error), _) => {
            // The type is that of the branches, which needs no input columns only if a branch is a literal.
            let error = error.clone();
            if let ScalarExpr::Literal(_, ty) = &**then {
                *e = ScalarExpr::Literal(Err(error), ty.clone());
            }
            return;
        }
        _ if then == els && !cond.may_fail(column_fails) => then,
        _ => return,
    };
    *e = std::mem::replace(chosen, ScalarExpr::bool(true));
}

fn fold_not(e: &mut ScalarExpr) {
    let ScalarExpr::Call { args, .. } = e else {
        return;
    };
    let ScalarExpr::Call { func, .. } = &args[0] else {
        return;
    };
    if func.is("not") || func.negation().is_some() {
        *e = args.remove(0).negate();
    }
}

/// AND (`decides` is FALSE) or OR (TRUE): flattens, drops neutral and repeated arguments, stops at a deciding one.
fn fold_connective(e: &mut ScalarExpr, decides: bool) {
    let ScalarExpr::Call { func, args, .. } = e else {
        return;
    };
    let mut kept: Vec<ScalarExpr> = Vec::with_capacity(args.len());
    for arg in std::mem::take(args) {
        match arg {
            ScalarExpr::Call {
                func: inner, args, ..
            } if inner == *func => kept.extend(args),
            other => kept.push(other),
        }
    }
    let is = |arg: &ScalarExpr, value: bool| arg.as_literal() == Some(Datum::Bool(value));
    if kept.iter().any(|arg| is(arg, decides)) {
        *e = ScalarExpr::bool(decides);
        return;
    }
    kept.retain(|arg| !is(arg, !decides));
    let mut distinct: Vec<ScalarExpr> = Vec::with_capacity(kept.len());
    for arg in kept {
        if !distinct.contains(&arg) {
            distinct.push(arg);
        }
    }
    match distinct.len() {
        0 => *e = ScalarExpr::bool(!decides),
        1 => *e = distinct.remove(0),
        _ => *args = distinct,
    }
}

/// Drops NULL literals and what follows a literal that is not NULL.
fn fold_coalesce(e: &mut ScalarExpr) {
    let ScalarExpr::Call { args, ty, .. } = e else {
        return;
    };
    args.retain(|arg| arg.as_literal().is_none_or(|d| !d.is_null()));
    if let Some(at) = args.iter().position(ScalarExpr::is_constant) {
        args.truncate(at + 1);
    }
    match args.len() {
        0 => *e = ScalarExpr::null(ty.clone()),
        1 => *e = args.remove(0),
        _ => {}
    }
}
