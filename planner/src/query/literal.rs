//! Constants.

use super::{Ctx, QueryPlanner};
use crate::ast::position;
use crate::ast::sql::{DateTimeField, Expr, Interval, TypedString, Value, ValueWithSpan};
use crate::error::PlanError;
use crate::hir::HirScalar;
use crate::types::cast::CastContext;
use crate::types::coerce::Typed;
use crate::types::resolve_type;
use repr::{Datum, Numeric, SqlType};

impl QueryPlanner<'_> {
    pub(super) fn value(&self, value: &ValueWithSpan) -> Result<Typed, PlanError> {
        let at = position(value.span);
        let typed = match &value.value {
            Value::Number(digits, _) => number(digits, false)?,
            Value::Boolean(b) => Typed::bool(HirScalar::bool(*b)),
            Value::Null => unknown_null(),
            Value::SingleQuotedString(s)
            | Value::EscapedStringLiteral(s)
            | Value::UnicodeStringLiteral(s)
            | Value::NationalStringLiteral(s) => unknown_text(s),
            Value::DollarQuotedString(s) => unknown_text(&s.value),
            Value::Placeholder(name) => self.parameter(name).map_err(|e| e.at(at))?,
            Value::HexStringLiteral(_) | Value::SingleQuotedByteStringLiteral(_) => {
                return Err(PlanError::unsupported("type bit").at(at));
            }
            _ => return Err(PlanError::unsupported("this kind of constant").at(at)),
        };
        Ok(typed.at(at))
    }

    fn parameter(&self, name: &str) -> Result<Typed, PlanError> {
        let number: Option<usize> = name.strip_prefix('$').and_then(|n| n.parse().ok());
        let Some(index) = number.and_then(|n| n.checked_sub(1)) else {
            return Err(PlanError::new(
                "42P02",
                format!("there is no parameter {name}"),
            ));
        };
        let mut params = self.params.borrow_mut();
        params.mention(index)?;
        let ty = params.get(index).cloned().unwrap_or(SqlType::Unknown);
        Ok(Typed::new(HirScalar::Param(index, ty.clone()), ty))
    }

    /// `date '1998-12-01'`.
    pub(super) fn typed_string(&self, typed: &TypedString) -> Result<Typed, PlanError> {
        let ty = resolve_type(&typed.data_type)?;
        let literal = self.value(&typed.value)?;
        let at = literal.position;
        let expr = self.coercer().coerce(literal, &ty, CastContext::Explicit)?;
        Ok(Typed::new(expr, ty).at(at))
    }

    /// `interval '1' day`: a number alone takes the field as its unit.
    pub(super) fn interval(&self, ctx: &Ctx<'_>, interval: &Interval) -> Result<Typed, PlanError> {
        let value = self.expr(ctx, &interval.value)?;
        let at = value.position;
        let Some(text) = value.constant_text() else {
            return Err(PlanError::new("42601", "an interval constant must be a string").at(at));
        };
        let bare = text.trim().parse::<f64>().is_ok();
        let text = match (&interval.leading_field, &interval.last_field) {
            (Some(field), None) if bare => format!("{text} {}", unit(field)),
            (_, Some(field)) if bare => format!("{text} {}", unit(field)),
            _ => text.to_owned(),
        };
        let expr = self.coercer().coerce(
            unknown_text(&text).at(at),
            &SqlType::Interval,
            CastContext::Explicit,
        )?;
        Ok(Typed::new(expr, SqlType::Interval).at(at))
    }
}

fn unit(field: &DateTimeField) -> String {
    field.to_string().to_lowercase()
}

/// The lower-case name of a field of EXTRACT or an interval.
pub(super) fn field_name(field: &DateTimeField) -> String {
    match field {
        DateTimeField::Custom(ident) => ident.value.to_lowercase(),
        other => other.to_string().to_lowercase(),
    }
}

pub(super) fn unknown_text(text: &str) -> Typed {
    let literal = HirScalar::literal(Datum::String(text), SqlType::Unknown);
    Typed::new(literal, SqlType::Unknown)
}

pub(super) fn unknown_null() -> Typed {
    Typed::new(HirScalar::null(SqlType::Unknown), SqlType::Unknown)
}

/// int4 if it fits, else int8, else numeric.
pub(super) fn number(digits: &str, negative: bool) -> Result<Typed, PlanError> {
    let text = match negative {
        true => format!("-{digits}"),
        false => digits.to_owned(),
    };
    if let Ok(n) = text.parse::<i32>() {
        return Ok(Typed::new(
            HirScalar::literal(Datum::Int32(n), SqlType::Int32),
            SqlType::Int32,
        ));
    }
    if let Ok(n) = text.parse::<i64>() {
        return Ok(Typed::new(
            HirScalar::literal(Datum::Int64(n), SqlType::Int64),
            SqlType::Int64,
        ));
    }
    let numeric = Numeric::parse(&text)
        .map_err(|_| PlanError::new("22003", "numeric constant is out of range"))?;
    Ok(Typed::new(
        HirScalar::literal(Datum::Numeric(numeric), SqlType::Numeric(None)),
        SqlType::Numeric(None),
    ))
}

/// The number that an expression writes, if it is one.
pub(super) fn as_number(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(ValueWithSpan {
            value: Value::Number(digits, _),
            ..
        }) => Some(digits),
        _ => None,
    }
}
