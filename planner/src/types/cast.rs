//! The casts there are, and where they are applied.

use crate::error::PlanError;
use crate::hir::HirScalar;
use plan::Func;
use plan::scalar::catalog_fns::{self, RegKind};
use repr::{Datum, SqlType};

/// How freely a cast is applied, from the freest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CastContext {
    /// Anywhere an expression of the target type is wanted.
    Implicit,
    /// When a value is stored in a column.
    Assignment,
    /// Only where CAST or `::` is written.
    Explicit,
}

use CastContext::{Assignment, Explicit, Implicit};

/// Types held as OIDs.
pub fn is_oid_like(ty: &SqlType) -> bool {
    matches!(
        ty,
        SqlType::Oid
            | SqlType::RegClass
            | SqlType::RegType
            | SqlType::RegProc
            | SqlType::RegNamespace
            | SqlType::RegRole
            | SqlType::RegProcedure
            | SqlType::RegOper
            | SqlType::RegOperator
            | SqlType::RegCollation
    )
}

/// Types held as strings.
pub fn is_string(ty: &SqlType) -> bool {
    matches!(
        ty,
        SqlType::Text
            | SqlType::Varchar(_)
            | SqlType::Char(_)
            | SqlType::Name
            | SqlType::PgChar
            | SqlType::Unknown
    )
}

/// The freest context in which a value of type `from` becomes one of type `to`; modifiers do not matter.
pub fn cast_context(from: &SqlType, to: &SqlType) -> Option<CastContext> {
    use SqlType as T;
    if from.same_base(to) {
        return Some(Implicit);
    }
    let context = match (from, to) {
        (T::Unknown, _) => Implicit,
        (_, T::Any) => Implicit,
        (T::Int16, T::Int32 | T::Int64 | T::Float32 | T::Float64 | T::Numeric(_)) => Implicit,
        (T::Int32, T::Int64 | T::Float32 | T::Float64 | T::Numeric(_)) => Implicit,
        (T::Int64, T::Float32 | T::Float64 | T::Numeric(_)) => Implicit,
        (T::Numeric(_), T::Float32 | T::Float64) => Implicit,
        (T::Float32, T::Float64) => Implicit,
        (
            T::Int32 | T::Int64 | T::Numeric(_) | T::Float32 | T::Float64,
            T::Int16 | T::Int32 | T::Int64 | T::Numeric(_) | T::Float32,
        ) => Assignment,
        (T::Int32, T::Bool) | (T::Bool, T::Int32) => Explicit,
        (T::Int16 | T::Int32 | T::Int64, to) if is_oid_like(to) => Implicit,
        (from, T::Int32 | T::Int64) if is_oid_like(from) => Assignment,
        (T::Oid, to) if is_oid_like(to) => Implicit,
        (from, T::Oid) if is_oid_like(from) => Implicit,
        (T::Text | T::Varchar(_) | T::Name, T::RegClass) => Implicit,
        (T::Text | T::Varchar(_) | T::Char(_), T::Text | T::Varchar(_) | T::Char(_) | T::Name) => {
            Implicit
        }
        (T::Name | T::PgChar, T::Text) => Implicit,
        (T::Name | T::PgChar, T::Varchar(_) | T::Char(_)) => Assignment,
        (T::Text | T::Varchar(_) | T::Char(_), T::PgChar) => Assignment,
        (T::PgChar, T::Int32) | (T::Int32, T::PgChar) => Explicit,
        (T::Date, T::Timestamp(_) | T::TimestampTz(_)) => Implicit,
        (T::Timestamp(_), T::TimestampTz(_)) => Implicit,
        (T::Time, T::Interval) => Implicit,
        (T::Timestamp(_) | T::TimestampTz(_), T::Date | T::Time) => Assignment,
        (T::TimestampTz(_), T::Timestamp(_)) => Assignment,
        (T::Interval, T::Time) => Assignment,
        (
            T::Int32 | T::Int64 | T::Numeric(_) | T::Timestamp(_) | T::TimestampTz(_) | T::Date,
            T::MzTimestamp,
        ) => Implicit,
        (T::MzTimestamp, T::Int64 | T::Numeric(_) | T::Timestamp(_) | T::TimestampTz(_)) => {
            Explicit
        }
        (T::Int2Vector, T::Array(e)) if **e == T::Int16 => Implicit,
        (T::OidVector, T::Array(e)) if **e == T::Oid => Implicit,
        (T::Array(a), T::Array(b)) => return cast_context(a, b),
        // Every value has a text form, and every type can be read from one.
        (_, to) if is_string(to) => {
            if matches!(to, T::Text | T::Varchar(_) | T::Char(_)) {
                Assignment
            } else {
                Explicit
            }
        }
        (from, _) if is_string(from) => Explicit,
        _ => return None,
    };
    Some(context)
}

/// Casts between base types; the caller checks that the cast exists, and applies the target's modifier.
pub fn apply(expr: HirScalar, from: &SqlType, to: &SqlType) -> Result<HirScalar, PlanError> {
    use SqlType as T;
    let target = to.without_typmod();
    if from.same_base(to) {
        return Ok(expr);
    }
    let name = match (from, to) {
        (T::Char(_), T::Text | T::Varchar(_) | T::Name) => "cast_bpchar_to_text".to_owned(),
        (from, T::Name) if is_string(from) => "apply_typmod".to_owned(),
        (T::Name | T::Text | T::Varchar(_), T::PgChar) => "cast_text_to_pgchar".to_owned(),
        (from, to) if is_string(from) && is_string(to) => "relabel".to_owned(),
        (from, to) if is_oid_like(from) && is_oid_like(to) => "relabel".to_owned(),
        (T::Int2Vector | T::OidVector, T::Array(_)) => "relabel".to_owned(),
        (_, to) if is_string(to) => match RegKind::of(from) {
            Some(kind) => catalog_fns::to_text(kind).to_owned(),
            None => "cast_to_text".to_owned(),
        },
        (from, _) if is_string(from) => match RegKind::of(to) {
            Some(kind) => catalog_fns::from_text(kind).to_owned(),
            None => "cast_from_text".to_owned(),
        },
        (T::Array(a), T::Array(b)) if is_string(a) && is_string(b) => "relabel".to_owned(),
        (T::Array(a), T::Array(b)) if is_oid_like(a) && is_oid_like(b) => "relabel".to_owned(),
        (T::Array(_), T::Array(_)) => {
            // Element by element, through the text form.
            let text = call("cast_to_text", vec![expr], T::Text)?;
            return call("cast_from_text", vec![text], target);
        }
        (from, to) if is_oid_like(to) => {
            let oid = call(
                &format!("cast_{}_to_oid", from.typname()),
                vec![expr],
                T::Oid,
            )?;
            return match to {
                T::Oid => Ok(oid),
                _ => call("relabel", vec![oid], target),
            };
        }
        (from, to) if is_oid_like(from) => {
            return call(&format!("cast_oid_to_{}", to.typname()), vec![expr], target);
        }
        (from, to) => format!("cast_{}_to_{}", from.typname(), to.typname()),
    };
    if name == "relabel"
        && let HirScalar::Literal(Ok(row), ty) = expr
    {
        let nullable = ty.nullable;
        return Ok(HirScalar::Literal(Ok(row), target.nullable(nullable)));
    }
    call(&name, vec![expr], target)
}

/// Brings a value of the right base type to the target's modifier.
pub fn apply_typmod(
    expr: HirScalar,
    from: &SqlType,
    to: &SqlType,
    context: CastContext,
) -> Result<HirScalar, PlanError> {
    if to.typmod() < 0 || from == to {
        return Ok(expr);
    }
    let name = match context {
        Implicit | Explicit => "apply_typmod",
        Assignment => "apply_typmod_assign",
    };
    call(name, vec![expr], to.clone())
}

/// A call of a function that should exist; 0A000 otherwise.
pub fn call(name: &str, args: Vec<HirScalar>, ty: SqlType) -> Result<HirScalar, PlanError> {
    match Func::by_name(name) {
        Some(func) => Ok(HirScalar::Call { func, args, ty }),
        None => Err(PlanError::unsupported(format!("the function {name}"))),
    }
}

/// An integer literal as a literal of a narrower integer type, if the value fits.
pub fn narrow_integer(literal: &HirScalar, to: &SqlType) -> Option<HirScalar> {
    let value = match literal.as_literal()? {
        Datum::Int16(v) => i64::from(v),
        Datum::Int32(v) => i64::from(v),
        Datum::Int64(v) => v,
        _ => return None,
    };
    let datum = match to {
        SqlType::Int16 => Datum::Int16(i16::try_from(value).ok()?),
        SqlType::Int32 => Datum::Int32(i32::try_from(value).ok()?),
        SqlType::Int64 => Datum::Int64(value),
        _ => return None,
    };
    Some(HirScalar::literal(datum, to.clone()))
}
