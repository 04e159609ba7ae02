//! Typed expressions, and bringing them to a type.

use super::cast::{self, CastContext, cast_context};
use crate::error::PlanError;
use crate::hir::HirScalar;
use crate::statement::ParamTypes;
use plan::scalar::EvalCtx;
use repr::{Datum, Row, RowArena, SqlType};

/// An expression with its type and its place in the text (0: none).
///
/// Of type `unknown` are string literals and NULL that have not found their type, and parameters without one.
#[derive(Clone, Debug, PartialEq)]
pub struct Typed {
    pub expr: HirScalar,
    pub ty: SqlType,
    pub position: usize,
}

impl Typed {
    pub fn new(expr: HirScalar, ty: SqlType) -> Typed {
        Typed {
            expr,
            ty,
            position: 0,
        }
    }

    pub fn at(mut self, position: usize) -> Typed {
        if self.position == 0 {
            self.position = position;
        }
        self
    }

    pub fn bool(expr: HirScalar) -> Typed {
        Typed::new(expr, SqlType::Bool)
    }

    pub fn is_unknown(&self) -> bool {
        self.ty == SqlType::Unknown
    }

    fn is_param(&self) -> bool {
        matches!(self.expr, HirScalar::Param(..))
    }
}

/// What coercion needs: where parameters get their types, and how constants are evaluated.
pub struct Coercer<'a> {
    pub params: &'a std::cell::RefCell<ParamTypes>,
    pub eval: &'a EvalCtx,
}

impl Coercer<'_> {
    /// The expression as one of type `to`, cast if the context allows.
    pub fn coerce(
        &self,
        typed: Typed,
        to: &SqlType,
        context: CastContext,
    ) -> Result<HirScalar, PlanError> {
        self.try_coerce(typed, to, context).map_err(|e| match e {
            CoerceError::NoCast { from, position } => {
                let (from, to) = (from.base_name(), to.base_name());
                PlanError::new("42846", format!("cannot cast type {from} to {to}")).at(position)
            }
            CoerceError::Other(error) => error,
        })
    }

    pub fn try_coerce(
        &self,
        typed: Typed,
        to: &SqlType,
        context: CastContext,
    ) -> Result<HirScalar, CoerceError> {
        let Typed { expr, ty, position } = typed;
        if ty == SqlType::Unknown {
            return Ok(self
                .coerce_unknown(expr, to, context)
                .map_err(|e| e.at(position))?);
        }
        if matches!(to, SqlType::Any | SqlType::AnyElement | SqlType::AnyArray) {
            return Ok(expr);
        }
        match cast_context(&ty, to) {
            Some(needed) if needed <= context => {}
            Some(_) | None => return Err(CoerceError::NoCast { from: ty, position }),
        }
        let is_literal = matches!(expr, HirScalar::Literal(..));
        let base = cast::apply(expr, &ty, to)?;
        let from = match ty.same_base(to) {
            true => ty,
            false => to.without_typmod(),
        };
        let cast = cast::apply_typmod(base, &from, to, context)?;
        match is_literal {
            true => Ok(self.fold(cast).map_err(|e| e.at(position))?),
            false => Ok(cast),
        }
    }

    fn coerce_unknown(
        &self,
        expr: HirScalar,
        to: &SqlType,
        context: CastContext,
    ) -> Result<HirScalar, PlanError> {
        let concrete = match to {
            SqlType::Unknown | SqlType::Any | SqlType::AnyElement => SqlType::Text,
            other => other.clone(),
        };
        match expr {
            HirScalar::Param(n, _) => {
                // A parameter has no modifier: the cast applies it.
                let base = concrete.without_typmod();
                let mut params = self.params.borrow_mut();
                params.infer(n, base.clone());
                let known = params.get(n).cloned().unwrap_or(base);
                drop(params);
                let typed = Typed::new(HirScalar::Param(n, known.clone()), known);
                self.coerce(typed, &concrete, context)
            }
            HirScalar::Literal(Ok(row), _) => match row.iter().next() {
                Some(Datum::String(text)) => self.parse_literal(text, &concrete, context),
                Some(_) | None => Ok(HirScalar::null(concrete)),
            },
            // An unknown-typed column: a text in all but name.
            other => self.coerce(
                Typed::new(other, SqlType::Text),
                &concrete,
                CastContext::Explicit,
            ),
        }
    }

    /// The value that a quoted constant is in a type.
    fn parse_literal(
        &self,
        text: &str,
        to: &SqlType,
        context: CastContext,
    ) -> Result<HirScalar, PlanError> {
        let base = to.without_typmod();
        let literal = HirScalar::literal(Datum::String(text), SqlType::Text);
        let value = match &base {
            SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) => {
                HirScalar::literal(Datum::String(text), base.clone())
            }
            _ => cast::apply(literal, &SqlType::Text, &base)?,
        };
        // Text that is too long for a column is an error even in a literal.
        let value = cast::apply_typmod(value, &base, to, context)?;
        self.fold(value)
    }

    /// Evaluates an expression without columns, parameters and session values; an error is the statement's.
    pub fn fold(&self, expr: HirScalar) -> Result<HirScalar, PlanError> {
        // Without a catalog the call stays, and fails when it is evaluated.
        if !is_constant(&expr) || (reads_catalog(&expr) && self.eval.catalog.is_none()) {
            return Ok(expr);
        }
        let lowered = crate::lower::lower_scalar(expr.clone(), &[])?;
        let ty = lowered.typ(&[]);
        let arena = RowArena::new();
        let datum = lowered
            .eval(self.eval, &[], &arena)
            .map_err(PlanError::from_eval)?;
        let nullable = datum.is_null();
        Ok(HirScalar::Literal(
            Ok(Row::pack_slice(&[datum])),
            ty.ty.nullable(nullable),
        ))
    }

    /// An expression that still is of unknown type as text.
    pub fn concrete(&self, typed: Typed) -> Result<Typed, PlanError> {
        match typed.is_unknown() {
            false => Ok(typed),
            true => {
                let position = typed.position;
                let expr = self.coerce(typed, &SqlType::Text, CastContext::Implicit)?;
                Ok(Typed::new(expr, SqlType::Text).at(position))
            }
        }
    }

    /// A condition: `place` names the clause in the error.
    pub fn boolean(&self, typed: Typed, place: &str) -> Result<HirScalar, PlanError> {
        let (ty, position) = (typed.ty.clone(), typed.position);
        self.try_coerce(typed, &SqlType::Bool, CastContext::Implicit)
            .map_err(|e| match e {
                CoerceError::NoCast { .. } => {
                    PlanError::wrong_type(place, &SqlType::Bool, &ty).at(position)
                }
                CoerceError::Other(error) => error,
            })
    }

    /// All expressions as ones of their common type; `place` names the construct in the error: `CASE`, `UNION`.
    pub fn unify(
        &self,
        exprs: Vec<Typed>,
        place: &str,
    ) -> Result<(Vec<HirScalar>, SqlType), PlanError> {
        let types: Vec<SqlType> = exprs.iter().map(|e| e.ty.clone()).collect();
        let ty = common_type(&types).ok_or_else(|| {
            let first = types.iter().find(|t| **t != SqlType::Unknown);
            let first = first.cloned().unwrap_or(SqlType::Text);
            let other = exprs
                .iter()
                .find(|e| e.ty.category() != first.category() && !e.is_unknown())
                .or_else(|| exprs.iter().rev().find(|e| !e.ty.same_base(&first)));
            let (name, position) = match other {
                Some(e) => (e.ty.base_name(), e.position),
                None => (first.base_name(), 0),
            };
            let message = format!(
                "{place} types {} and {name} cannot be matched",
                first.base_name()
            );
            PlanError::new("42804", message).at(position)
        })?;
        let mut coerced = vec![];
        for expr in exprs {
            coerced.push(self.coerce(expr, &ty, CastContext::Implicit)?);
        }
        Ok((coerced, ty))
    }
}

/// Why an expression cannot be coerced.
#[derive(Debug)]
pub enum CoerceError {
    NoCast { from: SqlType, position: usize },
    Other(PlanError),
}

impl From<PlanError> for CoerceError {
    fn from(error: PlanError) -> Self {
        CoerceError::Other(error)
    }
}

impl From<CoerceError> for PlanError {
    fn from(error: CoerceError) -> Self {
        match error {
            CoerceError::NoCast { from, position } => {
                let message = format!("cannot cast type {}", from.base_name());
                PlanError::new("42846", message).at(position)
            }
            CoerceError::Other(error) => error,
        }
    }
}

/// Whether the expression has the same value in every row and every session that shares the evaluation settings.
fn is_constant(expr: &HirScalar) -> bool {
    !expr.any(&mut |e| {
        !matches!(
            e,
            HirScalar::Literal(..) | HirScalar::Call { .. } | HirScalar::If { .. }
        )
    })
}

/// Whether the expression looks something up in the catalog.
fn reads_catalog(expr: &HirScalar) -> bool {
    expr.any(&mut |e| matches!(e, HirScalar::Call { func, .. } if func.def().reads_catalog))
}

/// The type to which UNION, CASE, VALUES, ARRAY and the like bring all of their inputs; `None` if there is none.
///
/// All of one type: that type, modifier included. Otherwise PostgreSQL's rule: start from the first type that is not unknown, and
/// change to a later one of the same category if the former converts to it implicitly and not the other way round.
pub fn common_type(types: &[SqlType]) -> Option<SqlType> {
    let mut known = types.iter().filter(|t| **t != SqlType::Unknown);
    let Some(first) = known.next() else {
        return Some(SqlType::Text);
    };
    if types.iter().all(|t| t == first) {
        return Some(first.clone());
    }
    let mut chosen = first.without_typmod();
    for ty in known {
        let ty = ty.without_typmod();
        if ty.same_base(&chosen) {
            continue;
        }
        if ty.category() != chosen.category() {
            // Types that PostgreSQL does not have convert across categories.
            let here = cast_context(&ty, &chosen) == Some(CastContext::Implicit);
            let there = cast_context(&chosen, &ty) == Some(CastContext::Implicit);
            match (here, there) {
                (true, _) if chosen == SqlType::MzTimestamp => continue,
                (_, true) if ty == SqlType::MzTimestamp => chosen = ty,
                _ => return None,
            }
            continue;
        }
        let forth = cast_context(&chosen, &ty) == Some(CastContext::Implicit);
        let back = cast_context(&ty, &chosen) == Some(CastContext::Implicit);
        if !chosen.is_preferred() && forth && !back {
            chosen = ty;
        }
    }
    let convertible = |t: &SqlType| cast_context(t, &chosen) == Some(CastContext::Implicit);
    if !types.iter().all(convertible) {
        return None;
    }
    // Literals of unknown type do not take the modifier of the others away.
    let all_equal = types
        .iter()
        .filter(|t| **t != SqlType::Unknown)
        .all(|t| t == first);
    Some(if all_equal {
        first.without_typmod()
    } else {
        chosen
    })
}

impl Typed {
    /// The value of a constant string, for options and field names.
    pub fn constant_text(&self) -> Option<&str> {
        match self.expr.as_literal() {
            Some(Datum::String(s)) if !self.is_param() => Some(s),
            _ => None,
        }
    }
}
