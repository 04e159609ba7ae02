//! Expressions with a syntax of their own.

use super::expr::{comparison_symbol, not, operator_symbol};
use super::literal::field_name;
use super::{Ctx, QueryPlanner};
use crate::ast::position;
use crate::ast::sql::{BinaryOperator, Expr, Spanned, TrimWhereField, Value, ValueWithSpan};
use crate::error::PlanError;
use crate::func;
use crate::hir::HirScalar;
use crate::types::cast::{self, CastContext};
use crate::types::coerce::Typed;
use repr::{Datum, SqlType};

/// Longer lists of constants are searched as an array.
const IN_LIST_MAX: usize = 64;

impl QueryPlanner<'_> {
    pub(super) fn special(&self, ctx: &Ctx<'_>, expr: &Expr) -> Result<Typed, PlanError> {
        match expr {
            Expr::IsNull(e) => self.null_test(ctx, e, "is_null"),
            Expr::IsNotNull(e) => self.null_test(ctx, e, "is_not_null"),
            Expr::IsTrue(e) => self.truth_test(ctx, e, "is_true", "IS TRUE"),
            Expr::IsNotTrue(e) => self.truth_test(ctx, e, "is_not_true", "IS NOT TRUE"),
            Expr::IsFalse(e) => self.truth_test(ctx, e, "is_false", "IS FALSE"),
            Expr::IsNotFalse(e) => self.truth_test(ctx, e, "is_not_false", "IS NOT FALSE"),
            Expr::IsUnknown(e) => self.truth_test(ctx, e, "is_null", "IS UNKNOWN"),
            Expr::IsNotUnknown(e) => self.truth_test(ctx, e, "is_not_null", "IS NOT UNKNOWN"),
            Expr::IsDistinctFrom(l, r) => self.distinct_test(ctx, l, r, "is_distinct_from"),
            Expr::IsNotDistinctFrom(l, r) => self.distinct_test(ctx, l, r, "is_not_distinct_from"),
            Expr::Between {
                expr,
                negated,
                low,
                high,
            } => self.between(ctx, expr, *negated, low, high),
            Expr::InList {
                expr,
                list,
                negated,
            } => self.in_list(ctx, expr, list, *negated),
            Expr::InSubquery {
                expr,
                subquery,
                negated,
            } => self.in_subquery(ctx, expr, subquery, *negated),
            Expr::Like {
                negated,
                any,
                expr,
                pattern,
                escape_char,
            } => self.like(
                ctx,
                (*negated, *any),
                expr,
                pattern,
                escape_char.as_deref(),
                ["~~", "!~~"],
            ),
            Expr::ILike {
                negated,
                any,
                expr,
                pattern,
                escape_char,
            } => self.like(
                ctx,
                (*negated, *any),
                expr,
                pattern,
                escape_char.as_deref(),
                ["~~*", "!~~*"],
            ),
            Expr::AnyOp {
                left,
                compare_op,
                right,
                ..
            } => self.quantified(ctx, left, compare_op, right, true),
            Expr::AllOp {
                left,
                compare_op,
                right,
            } => self.quantified(ctx, left, compare_op, right, false),
            Expr::Extract { field, expr, .. } => {
                let name = super::literal::unknown_text(&field_name(field));
                self.named_call(ctx, "extract", vec![name], &[expr], position(expr.span()))
            }
            Expr::Substring {
                expr,
                substring_from,
                substring_for,
                ..
            } => self.substring(
                ctx,
                expr,
                substring_from.as_deref(),
                substring_for.as_deref(),
            ),
            Expr::Trim {
                trim_where,
                trim_what,
                expr,
                trim_characters,
            } => {
                let name = match trim_where {
                    None | Some(TrimWhereField::Both) => "btrim",
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                };
                let mut args: Vec<&Expr> = vec![expr];
                args.extend(trim_what.as_deref());
                args.extend(trim_characters.iter().flatten());
                self.named_call(ctx, name, vec![], &args, position(expr.span()))
            }
            Expr::Position { expr, r#in } => self.named_call(
                ctx,
                "position",
                vec![],
                &[r#in, expr],
                position(expr.span()),
            ),
            Expr::Overlay {
                expr,
                overlay_what,
                overlay_from,
                overlay_for,
            } => {
                let mut args: Vec<&Expr> = vec![expr, overlay_what, overlay_from];
                args.extend(overlay_for.as_deref());
                self.named_call(ctx, "overlay", vec![], &args, position(expr.span()))
            }
            Expr::Ceil { expr, .. } => {
                self.named_call(ctx, "ceil", vec![], &[expr], position(expr.span()))
            }
            Expr::Floor { expr, .. } => {
                self.named_call(ctx, "floor", vec![], &[expr], position(expr.span()))
            }
            Expr::AtTimeZone {
                timestamp,
                time_zone,
            } => {
                let zone = self.expr(ctx, time_zone)?;
                self.named_call(
                    ctx,
                    "timezone",
                    vec![zone],
                    &[timestamp],
                    position(timestamp.span()),
                )
            }
            Expr::SimilarTo { .. } => {
                Err(PlanError::unsupported("SIMILAR TO").at(position(expr.span())))
            }
            Expr::JsonAccess { .. } => {
                Err(PlanError::unsupported("type json").at(position(expr.span())))
            }
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => {
                Err(PlanError::new("42601", "syntax error at or near \"*\"")
                    .at(position(expr.span())))
            }
            other => {
                Err(PlanError::unsupported("this kind of expression").at(position(other.span())))
            }
        }
    }

    /// Plans more arguments and calls a function.
    fn named_call(
        &self,
        ctx: &Ctx<'_>,
        name: &str,
        mut args: Vec<Typed>,
        more: &[&Expr],
        at: usize,
    ) -> Result<Typed, PlanError> {
        for expr in more {
            args.push(self.expr(ctx, expr)?);
        }
        func::call(&self.coercer(), name, args, at).map(|t| t.at(at))
    }

    fn substring(
        &self,
        ctx: &Ctx<'_>,
        expr: &Expr,
        from: Option<&Expr>,
        length: Option<&Expr>,
    ) -> Result<Typed, PlanError> {
        let mut args = vec![self.expr(ctx, expr)?];
        match (from, length) {
            (Some(from), _) => args.push(self.expr(ctx, from)?),
            (None, Some(_)) => {
                let one = HirScalar::literal(Datum::Int32(1), SqlType::Int32);
                args.push(Typed::new(one, SqlType::Int32));
            }
            (None, None) => {}
        }
        if let Some(length) = length {
            args.push(self.expr(ctx, length)?);
        }
        let at = position(expr.span());
        func::call(&self.coercer(), "substring", args, at).map(|t| t.at(at))
    }

    fn null_test(&self, ctx: &Ctx<'_>, expr: &Expr, test: &str) -> Result<Typed, PlanError> {
        let typed = self.expr(ctx, expr)?;
        let typed = self.coercer().concrete(typed)?;
        let at = typed.position;
        Ok(Typed::bool(HirScalar::call(test, vec![typed.expr], SqlType::Bool)).at(at))
    }

    fn truth_test(
        &self,
        ctx: &Ctx<'_>,
        expr: &Expr,
        test: &str,
        place: &str,
    ) -> Result<Typed, PlanError> {
        let inner = self.boolean(ctx, expr, place)?;
        Ok(Typed::bool(HirScalar::call(
            test,
            vec![inner],
            SqlType::Bool,
        )))
    }

    fn distinct_test(
        &self,
        ctx: &Ctx<'_>,
        left: &Expr,
        right: &Expr,
        name: &str,
    ) -> Result<Typed, PlanError> {
        let (left, right) = (self.expr(ctx, left)?, self.expr(ctx, right)?);
        // Typed as an equality is; character(n) is compared without its padding.
        let equal = func::binary(&self.coercer(), "=", left, right, 0)?;
        let HirScalar::Call { func, mut args, .. } = equal.expr else {
            return Err(PlanError::unsupported("IS DISTINCT FROM of these types"));
        };
        if func.is("bpchareq") {
            for arg in &mut args {
                let inner = std::mem::replace(arg, HirScalar::bool(true));
                *arg = cast::call("cast_bpchar_to_text", vec![inner], SqlType::Text)?;
            }
        }
        Ok(Typed::bool(cast::call(name, args, SqlType::Bool)?))
    }

    fn between(
        &self,
        ctx: &Ctx<'_>,
        expr: &Expr,
        negated: bool,
        low: &Expr,
        high: &Expr,
    ) -> Result<Typed, PlanError> {
        let value = self.expr(ctx, expr)?;
        let (low, high) = (self.expr(ctx, low)?, self.expr(ctx, high)?);
        let at = position(expr.span());
        let coercer = self.coercer();
        let from = func::binary(&coercer, ">=", value.clone(), low, at)?;
        let to = func::binary(&coercer, "<=", value, high, at)?;
        let both = HirScalar::call("and", vec![from.expr, to.expr], SqlType::Bool);
        Ok(Typed::bool(if negated { not(both) } else { both }).at(at))
    }

    fn in_list(
        &self,
        ctx: &Ctx<'_>,
        expr: &Expr,
        list: &[Expr],
        negated: bool,
    ) -> Result<Typed, PlanError> {
        let at = position(expr.span());
        let in_list = match expr {
            Expr::Tuple(_) => {
                let mut tests = vec![];
                for item in list {
                    tests.push(
                        self.row_comparison(ctx, expr, &BinaryOperator::Eq, item)?
                            .expr,
                    );
                }
                any_of(tests)
            }
            _ => self.in_values(ctx, expr, list)?,
        };
        Ok(Typed::bool(if negated { not(in_list) } else { in_list }).at(at))
    }

    fn in_values(&self, ctx: &Ctx<'_>, expr: &Expr, list: &[Expr]) -> Result<HirScalar, PlanError> {
        let value = self.expr(ctx, expr)?;
        let items = self.exprs(ctx, list)?;
        // All items are compared as one type, if there is one.
        let mut types: Vec<SqlType> = items.iter().map(|i| i.ty.clone()).collect();
        types.push(value.ty.clone());
        let common = crate::types::common_type(&types);
        let constants = items.iter().all(|i| {
            matches!(i.expr, HirScalar::Literal(Ok(_), _))
                && i.expr.as_literal() != Some(Datum::Null)
        });
        if let Some(ty) = common
            .filter(|t| constants && list.len() > IN_LIST_MAX && !matches!(t, SqlType::Char(_)))
        {
            let value = self.coercer().coerce(value, &ty, CastContext::Implicit)?;
            let mut elements = vec![];
            for item in items {
                elements.push(self.coercer().coerce(item, &ty, CastContext::Implicit)?);
            }
            let array = cast::call("make_array", elements, ty.array_of())?;
            let array = self.coercer().fold(array)?;
            return cast::call("any_eq", vec![value, array], SqlType::Bool);
        }
        let mut tests = vec![];
        for (item, syntax) in items.into_iter().zip(list) {
            let test = func::binary(&self.coercer(), "=", value.clone(), item, 0)
                .map_err(|e| e.at(position(syntax.span())))?;
            tests.push(test.expr);
        }
        Ok(any_of(tests))
    }

    fn like(
        &self,
        ctx: &Ctx<'_>,
        (negated, any): (bool, bool),
        expr: &Expr,
        pattern: &Expr,
        escape: Option<&Expr>,
        operators: [&str; 2],
    ) -> Result<Typed, PlanError> {
        let operator = operators[usize::from(negated)];
        if any {
            let op = match operator {
                "~~" => BinaryOperator::PGLikeMatch,
                "!~~" => BinaryOperator::PGNotLikeMatch,
                "~~*" => BinaryOperator::PGILikeMatch,
                _ => BinaryOperator::PGNotILikeMatch,
            };
            return self.quantified(ctx, expr, &op, pattern, true);
        }
        let value = self.expr(ctx, expr)?;
        let mut pattern = self.expr(ctx, pattern)?;
        if let Some(escape) = escape {
            let escape = match escape {
                Expr::Value(ValueWithSpan {
                    value: Value::Null, ..
                }) => super::literal::unknown_null(),
                other => self.expr(ctx, other)?,
            };
            let pattern_text =
                self.coercer()
                    .coerce(pattern, &SqlType::Text, CastContext::Implicit)?;
            let escape = self
                .coercer()
                .coerce(escape, &SqlType::Text, CastContext::Implicit)?;
            let escaped = cast::call("like_escape", vec![pattern_text, escape], SqlType::Text)?;
            pattern = Typed::new(self.coercer().fold(escaped)?, SqlType::Text);
        }
        let at = position(expr.span());
        func::binary(&self.coercer(), operator, value, pattern, at)
    }

    /// `left op ANY (right)` or `left op ALL (right)`; `right` is a subquery or an array.
    fn quantified(
        &self,
        ctx: &Ctx<'_>,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
        any: bool,
    ) -> Result<Typed, PlanError> {
        let mut inner = right;
        while let Expr::Nested(e) = inner {
            inner = e;
        }
        let symbol = operator_symbol(op)?;
        if let Expr::Subquery(query) = inner {
            return self.quantified_subquery(ctx, left, &symbol, query, any);
        }
        let value = self.expr(ctx, left)?;
        let array = self.expr(ctx, inner)?;
        self.quantified_array(value, &symbol, array, any, position(left.span()))
    }

    fn quantified_array(
        &self,
        value: Typed,
        symbol: &str,
        array: Typed,
        any: bool,
        at: usize,
    ) -> Result<Typed, PlanError> {
        let kind = if any { "any" } else { "all" };
        let name = match symbol {
            "=" => "eq",
            "<>" => "ne",
            "<" => "lt",
            "<=" => "le",
            ">" => "gt",
            ">=" => "ge",
            "~~" => "textlike",
            "!~~" => "textnlike",
            _ => {
                let place = kind.to_uppercase();
                return Err(PlanError::unsupported(format!("{symbol} {place} (array)")).at(at));
            }
        };
        // A constant of unknown type is an array of the left side's type.
        let element = match &array.ty {
            SqlType::Unknown => match &value.ty {
                SqlType::Unknown => SqlType::Text,
                ty => ty.without_typmod(),
            },
            ty => ty.element().ok_or_else(|| {
                PlanError::new("42809", "op ANY/ALL (array) requires array on right side").at(at)
            })?,
        };
        let ty = func::comparison_type(&value.ty, &element).ok_or_else(|| {
            let message = format!(
                "operator does not exist: {} {symbol} {}",
                value.ty.base_name(),
                element.base_name()
            );
            PlanError::new("42883", message)
                .at(at)
                .with_hint("No operator matches the given name and argument types. You might need to add explicit type casts.")
        })?;
        let ty = match (name, &ty) {
            ("textlike" | "textnlike", _) => SqlType::Text,
            (_, SqlType::Char(_)) => SqlType::Text,
            (_, ty) => ty.clone(),
        };
        let value = self.coercer().coerce(value, &ty, CastContext::Implicit)?;
        let array = self
            .coercer()
            .coerce(array, &ty.array_of(), CastContext::Implicit)?;
        let test = cast::call(&format!("{kind}_{name}"), vec![value, array], SqlType::Bool)?;
        Ok(Typed::bool(test).at(at))
    }

    /// A comparison whose left side is a row.
    pub(super) fn row_comparison(
        &self,
        ctx: &Ctx<'_>,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
    ) -> Result<Typed, PlanError> {
        let at = position(left.span());
        let mut right = right;
        while let Expr::Nested(inner) = right {
            right = inner;
        }
        let (Expr::Tuple(lefts), Expr::Tuple(rights)) = (left, right) else {
            return Err(
                PlanError::unsupported("a comparison of a row with this expression").at(at),
            );
        };
        if lefts.len() != rights.len() {
            return Err(
                PlanError::new("42601", "unequal number of entries in row expressions").at(at),
            );
        }
        let symbol = comparison_symbol(op).unwrap_or("=");
        let (lefts, rights) = (self.exprs(ctx, lefts)?, self.exprs(ctx, rights)?);
        Ok(Typed::bool(self.compare_rows(lefts, symbol, rights)?).at(at))
    }

    /// Rows are equal if all fields are; in order, the first fields that differ decide.
    pub(super) fn compare_rows(
        &self,
        lefts: Vec<Typed>,
        symbol: &str,
        rights: Vec<Typed>,
    ) -> Result<HirScalar, PlanError> {
        let coercer = self.coercer();
        let pair = |symbol: &str, l: &Typed, r: &Typed| {
            func::binary(&coercer, symbol, l.clone(), r.clone(), 0).map(|t| t.expr)
        };
        let pairs: Vec<(Typed, Typed)> = lefts.into_iter().zip(rights).collect();
        if symbol == "=" || symbol == "<>" {
            let mut tests = vec![];
            for (l, r) in &pairs {
                tests.push(pair(symbol, l, r)?);
            }
            let name = if symbol == "=" { "and" } else { "or" };
            return Ok(match tests.len() {
                1 => tests.remove(0),
                _ => HirScalar::call(name, tests, SqlType::Bool),
            });
        }
        let strict = symbol.trim_end_matches('=');
        let mut result: Option<HirScalar> = None;
        for (l, r) in pairs.iter().rev() {
            result = Some(match result {
                None => pair(symbol, l, r)?,
                Some(rest) => {
                    let tie = HirScalar::call("and", vec![pair("=", l, r)?, rest], SqlType::Bool);
                    HirScalar::call("or", vec![pair(strict, l, r)?, tie], SqlType::Bool)
                }
            });
        }
        Ok(result.unwrap_or_else(|| HirScalar::bool(true)))
    }
}

fn any_of(mut tests: Vec<HirScalar>) -> HirScalar {
    match tests.len() {
        0 => HirScalar::bool(false),
        1 => tests.remove(0),
        _ => HirScalar::call("or", tests, SqlType::Bool),
    }
}
