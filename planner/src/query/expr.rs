//! Expressions.

use super::literal::{as_number, number};
use super::{Ctx, QueryPlanner};
use crate::ast::position;
use crate::ast::sql::{
    AccessExpr, Array, BinaryOperator, CaseWhen, CastKind, DataType, Expr, Ident, Spanned,
    Subscript, UnaryOperator,
};
use crate::error::PlanError;
use crate::func;
use crate::hir::{ColumnRef, HirScalar};
use crate::parse::fold;
use crate::scope::Resolved;
use crate::types::cast::{self, CastContext};
use crate::types::coerce::Typed;
use crate::types::resolve_type;
use repr::SqlType;

impl QueryPlanner<'_> {
    pub(super) fn expr(&self, ctx: &Ctx<'_>, expr: &Expr) -> Result<Typed, PlanError> {
        self.nested(|| self.expr_unguarded(ctx, expr))
    }

    fn expr_unguarded(&self, ctx: &Ctx<'_>, expr: &Expr) -> Result<Typed, PlanError> {
        match expr {
            Expr::Nested(inner) => self.expr(ctx, inner),
            Expr::Value(value) => self.value(value),
            Expr::Identifier(ident) => self.identifier(ctx, ident),
            Expr::CompoundIdentifier(parts) => self.compound(ctx, parts),
            Expr::BinaryOp { .. } => self.binary_chain(ctx, expr),
            Expr::UnaryOp { op, expr } => self.unary(ctx, *op, expr),
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                ..
            } => self.cast(ctx, expr, data_type),
            Expr::TypedString(typed) => self.typed_string(typed),
            Expr::Interval(interval) => self.interval(ctx, interval),
            Expr::Function(function) => self.function(ctx, function),
            Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => self.case(ctx, operand.as_deref(), conditions, else_result.as_deref()),
            Expr::Array(array) => self.array(ctx, array, None),
            Expr::Tuple(fields) => self.row(ctx, fields),
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.access(ctx, root, access_chain)
            }
            Expr::Subquery(query) => self.scalar_subquery(ctx, query),
            Expr::Exists { subquery, negated } => self.exists(ctx, subquery, *negated),
            Expr::Collate { expr, collation } => self.collate(ctx, expr, collation),
            other => self.special(ctx, other),
        }
    }

    /// Several expressions.
    pub(super) fn exprs(&self, ctx: &Ctx<'_>, exprs: &[Expr]) -> Result<Vec<Typed>, PlanError> {
        exprs.iter().map(|e| self.expr(ctx, e)).collect()
    }

    pub(super) fn boolean(
        &self,
        ctx: &Ctx<'_>,
        expr: &Expr,
        place: &str,
    ) -> Result<HirScalar, PlanError> {
        let typed = self.expr(ctx, expr)?;
        self.coercer()
            .boolean(typed, place)
            .map_err(|e| e.at(position(expr.span())))
    }

    fn identifier(&self, ctx: &Ctx<'_>, ident: &Ident) -> Result<Typed, PlanError> {
        let at = position(ident.span);
        let name = fold(ident);
        let mut level = 0;
        let mut scope_ctx = Some(ctx);
        while let Some(here) = scope_ctx {
            match here.scope.resolve(&name).map_err(|e| e.at(at))? {
                Resolved::Column(index) => return Ok(self.column(here, level, index, at)),
                Resolved::WholeRow(columns) => return self.whole_row(here, level, &columns, at),
                Resolved::None => {}
            }
            scope_ctx = here.env.outer;
            level += 1;
        }
        if ident.quote_style.is_none()
            && let Some(value) = self.bare_function(&name, at)?
        {
            return Ok(value);
        }
        let error = PlanError::new("42703", format!("column \"{name}\" does not exist")).at(at);
        Err(match ctx.scope.suggestion(&name) {
            Some(column) => error.with_hint(format!(
                "Perhaps you meant to reference the column \"{column}\"."
            )),
            None => error,
        })
    }

    fn column(&self, ctx: &Ctx<'_>, level: usize, index: usize, at: usize) -> Typed {
        ctx.seen.borrow_mut().entry(index).or_insert(at);
        let ty = ctx.scope.columns[index].ty.ty.clone();
        Typed::new(HirScalar::Column(ColumnRef { level, index }), ty).at(at)
    }

    fn whole_row(
        &self,
        ctx: &Ctx<'_>,
        level: usize,
        columns: &[usize],
        at: usize,
    ) -> Result<Typed, PlanError> {
        let fields: Vec<Typed> = columns
            .iter()
            .map(|c| self.column(ctx, level, *c, at))
            .collect();
        Ok(record(fields)?.at(at))
    }

    fn compound(&self, ctx: &Ctx<'_>, parts: &[Ident]) -> Result<Typed, PlanError> {
        let at = parts.first().map_or(0, |i| position(i.span));
        let names: Vec<String> = parts.iter().map(fold).collect();
        let (schema, relation, name) = match names.as_slice() {
            [relation, name] => (None, relation, name),
            [schema, relation, name] => (Some(schema.as_str()), relation, name),
            [database, schema, relation, name] if database == self.session.database => {
                (Some(schema.as_str()), relation, name)
            }
            _ => {
                let message = format!(
                    "improper qualified name (too many dotted names): {}",
                    names.join(".")
                );
                return Err(PlanError::new("42601", message).at(at));
            }
        };
        let mut level = 0;
        let mut scope_ctx = Some(ctx);
        while let Some(here) = scope_ctx {
            let found = here
                .scope
                .resolve_qualified(schema, relation, name)
                .map_err(|e| e.at(at))?;
            if let Some(index) = found {
                return Ok(self.column(here, level, index, at));
            }
            scope_ctx = here.env.outer;
            level += 1;
        }
        let message = format!("missing FROM-clause entry for table \"{relation}\"");
        Err(PlanError::new("42P01", message).at(at))
    }

    /// A left-deep chain of operators, without recursion into its left sides.
    fn binary_chain(&self, ctx: &Ctx<'_>, expr: &Expr) -> Result<Typed, PlanError> {
        let mut spine = vec![];
        let mut first = expr;
        while let Expr::BinaryOp { left, op, right } = first {
            spine.push((left.as_ref(), op, right.as_ref()));
            first = left;
        }
        let mut result: Option<Typed> = None;
        for (left, op, right) in spine.into_iter().rev() {
            let left_typed = match result.take() {
                Some(typed) => typed,
                None => match (op, left) {
                    // A row on the left of a comparison is compared field by field.
                    (op, Expr::Tuple(_)) if comparison_symbol(op).is_some() => {
                        result = Some(self.row_comparison(ctx, left, op, right)?);
                        continue;
                    }
                    _ => self.expr(ctx, left)?,
                },
            };
            result = Some(self.binary_step(ctx, left_typed, left, op, right)?);
        }
        result.ok_or_else(PlanError::too_complex)
    }

    fn binary_step(
        &self,
        ctx: &Ctx<'_>,
        left: Typed,
        left_syntax: &Expr,
        op: &BinaryOperator,
        right: &Expr,
    ) -> Result<Typed, PlanError> {
        match op {
            BinaryOperator::And => self.connective("and", left, right, ctx),
            BinaryOperator::Or => self.connective("or", left, right, ctx),
            BinaryOperator::Xor => Err(PlanError::unsupported("XOR")),
            _ => {
                let symbol = operator_symbol(op)?;
                let right_typed = self.expr(ctx, right)?;
                func::binary(&self.coercer(), &symbol, left, right_typed, 0)
                    .map_err(|e| e.at(operator_position(left_syntax, right, &symbol)))
            }
        }
    }

    fn connective(
        &self,
        name: &'static str,
        left: Typed,
        right: &Expr,
        ctx: &Ctx<'_>,
    ) -> Result<Typed, PlanError> {
        let place = if name == "and" { "AND" } else { "OR" };
        let at = left.position;
        let left = self.coercer().boolean(left, place)?;
        let right = self.boolean(ctx, right, place)?;
        let mut args = match left {
            HirScalar::Call { func, args, .. } if func.is(name) => args,
            other => vec![other],
        };
        args.push(right);
        Ok(Typed::bool(HirScalar::call(name, args, SqlType::Bool)).at(at))
    }

    fn unary(&self, ctx: &Ctx<'_>, op: UnaryOperator, expr: &Expr) -> Result<Typed, PlanError> {
        let symbol = match op {
            UnaryOperator::Not => {
                let inner = self.boolean(ctx, expr, "NOT")?;
                return Ok(Typed::bool(super::subquery::not_in(inner)));
            }
            UnaryOperator::Minus => {
                // The least integer has no positive counterpart.
                if let Some(digits) = as_number(expr) {
                    return Ok(number(digits, true)?.at(position(expr.span())));
                }
                "-"
            }
            UnaryOperator::Plus => "+",
            UnaryOperator::BitwiseNot => "~",
            UnaryOperator::PGSquareRoot => "|/",
            UnaryOperator::PGCubeRoot => "||/",
            UnaryOperator::PGAbs => "@",
            other => return Err(PlanError::unsupported(format!("the operator {other}"))),
        };
        let typed = self.expr(ctx, expr)?;
        let at = typed.position.saturating_sub(symbol.len());
        func::unary(&self.coercer(), symbol, typed, at)
    }

    fn cast(&self, ctx: &Ctx<'_>, expr: &Expr, data_type: &DataType) -> Result<Typed, PlanError> {
        let to = resolve_type(data_type)?;
        // An array constructor takes its element type from the cast.
        if let (Expr::Array(array), SqlType::Array(element)) = (expr, &to) {
            return self.array(ctx, array, Some(element));
        }
        let typed = self.expr(ctx, expr)?;
        let at = typed.position;
        let expr = self.coercer().coerce(typed, &to, CastContext::Explicit)?;
        Ok(Typed::new(expr, to).at(at))
    }

    fn case(
        &self,
        ctx: &Ctx<'_>,
        operand: Option<&Expr>,
        conditions: &[CaseWhen],
        else_result: Option<&Expr>,
    ) -> Result<Typed, PlanError> {
        let operand = operand.map(|o| self.expr(ctx, o)).transpose()?;
        // An operand without a type is text in every comparison.
        let operand = operand.map(|o| self.coercer().concrete(o)).transpose()?;
        let mut tests = vec![];
        let mut results = vec![];
        for CaseWhen { condition, result } in conditions {
            tests.push(match &operand {
                None => self.boolean(ctx, condition, "CASE/WHEN")?,
                Some(operand) => {
                    let value = self.expr(ctx, condition)?;
                    func::binary(&self.coercer(), "=", operand.clone(), value, 0)
                        .map_err(|e| e.at(position(condition.span())))?
                        .expr
                }
            });
            results.push(self.expr(ctx, result)?);
        }
        // PostgreSQL takes the ELSE branch first when it looks for the common type.
        let otherwise = match else_result {
            Some(expr) => self.expr(ctx, expr)?,
            None => super::literal::unknown_null(),
        };
        results.insert(0, otherwise);
        let (mut results, ty) = self.coercer().unify(results, "CASE")?;
        let mut value = results.remove(0);
        for (test, result) in tests.into_iter().zip(results).rev() {
            value = HirScalar::If {
                cond: Box::new(test),
                then: Box::new(result),
                els: Box::new(value),
            };
        }
        Ok(Typed::new(value, ty))
    }

    fn array(
        &self,
        ctx: &Ctx<'_>,
        array: &Array,
        element: Option<&SqlType>,
    ) -> Result<Typed, PlanError> {
        let elements = array
            .elem
            .iter()
            .map(|e| match e {
                // Nested brackets make another dimension.
                Expr::Array(inner) => self.array(ctx, inner, element),
                other => self.expr(ctx, other),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if elements.is_empty() && element.is_none() {
            return Err(
                PlanError::new("42P18", "cannot determine type of empty array").with_hint(
                    "Explicitly cast to the desired type, for example ARRAY[]::integer[].",
                ),
            );
        }
        let nested = elements
            .first()
            .is_some_and(|e| matches!(e.ty, SqlType::Array(_)));
        let (args, ty) = match element {
            Some(element) => {
                let target = match nested {
                    true => element.clone().array_of(),
                    false => element.clone(),
                };
                let mut args = vec![];
                for e in elements {
                    args.push(self.coercer().coerce(e, &target, CastContext::Explicit)?);
                }
                (args, element.clone())
            }
            None => {
                let (args, ty) = self.coercer().unify(elements, "ARRAY")?;
                let ty = match ty {
                    SqlType::Array(inner) => *inner,
                    other => other,
                };
                (args, ty)
            }
        };
        let array = cast::call("make_array", args, ty.clone().array_of())?;
        Ok(Typed::new(self.coercer().fold(array)?, ty.array_of()))
    }

    /// `ROW(...)` or `(a, b)`.
    pub(super) fn row(&self, ctx: &Ctx<'_>, fields: &[Expr]) -> Result<Typed, PlanError> {
        let mut typed = vec![];
        for field in self.exprs(ctx, fields)? {
            typed.push(self.coercer().concrete(field)?);
        }
        record(typed)
    }

    /// Subscripts and fields.
    fn access(&self, ctx: &Ctx<'_>, root: &Expr, chain: &[AccessExpr]) -> Result<Typed, PlanError> {
        // `a.b[1]` comes as a chain of `.b` and `[1]` on `a`.
        let mut idents = match root {
            Expr::Identifier(ident) => vec![ident.clone()],
            Expr::CompoundIdentifier(parts) => parts.clone(),
            _ => vec![],
        };
        let mut rest = chain;
        if !idents.is_empty() {
            while let Some((AccessExpr::Dot(Expr::Identifier(ident)), tail)) = rest.split_first() {
                idents.push(ident.clone());
                rest = tail;
            }
        }
        let mut value = match idents.as_slice() {
            [] => self.expr(ctx, root)?,
            [ident] => self.identifier(ctx, ident)?,
            parts => self.compound(ctx, parts)?,
        };
        let mut subscripts = vec![];
        for step in rest {
            match step {
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    let index = self.expr(ctx, index)?;
                    subscripts.push(self.coercer().coerce(
                        index,
                        &SqlType::Int32,
                        CastContext::Assignment,
                    )?);
                }
                AccessExpr::Subscript(Subscript::Slice {
                    lower_bound,
                    upper_bound,
                    stride: None,
                }) if subscripts.is_empty() => {
                    value = self.slice(ctx, value, lower_bound.as_ref(), upper_bound.as_ref())?;
                }
                AccessExpr::Subscript(_) => {
                    return Err(PlanError::unsupported(
                        "a mix of array subscripts and slices",
                    ));
                }
                AccessExpr::Dot(field) => {
                    let message = format!(
                        "column notation .{field} applied to type {}, which is not a composite type",
                        value.ty.base_name()
                    );
                    return Err(PlanError::new("42809", message).at(value.position));
                }
            }
        }
        if subscripts.is_empty() {
            return Ok(value);
        }
        let Some(element) = value.ty.element() else {
            let message = format!(
                "cannot subscript type {} because it does not support subscripting",
                value.ty.base_name()
            );
            return Err(PlanError::new("42804", message).at(value.position));
        };
        let mut args = vec![value.expr];
        args.extend(subscripts);
        Ok(Typed::new(cast::call("array_get", args, element.clone())?, element).at(value.position))
    }

    fn slice(
        &self,
        ctx: &Ctx<'_>,
        value: Typed,
        lower: Option<&Expr>,
        upper: Option<&Expr>,
    ) -> Result<Typed, PlanError> {
        let bound = |bound: Option<&Expr>, otherwise: i32| match bound {
            None => Ok(HirScalar::literal(
                repr::Datum::Int32(otherwise),
                SqlType::Int32,
            )),
            Some(expr) => {
                let typed = self.expr(ctx, expr)?;
                self.coercer()
                    .coerce(typed, &SqlType::Int32, CastContext::Assignment)
            }
        };
        if value.ty.element().is_none() {
            let message = format!(
                "cannot subscript type {} because it does not support subscripting",
                value.ty.base_name()
            );
            return Err(PlanError::new("42804", message).at(value.position));
        }
        let args = vec![value.expr, bound(lower, i32::MIN)?, bound(upper, i32::MAX)?];
        Ok(Typed::new(
            cast::call("array_slice", args, value.ty.clone())?,
            value.ty,
        ))
    }

    fn collate(
        &self,
        ctx: &Ctx<'_>,
        expr: &Expr,
        collation: &crate::ast::sql::ObjectName,
    ) -> Result<Typed, PlanError> {
        let (name, at) = super::function::function_name(collation)?;
        match name.as_str() {
            // All of them compare by bytes here.
            "default" | "c" | "posix" | "ucs_basic" | "C" | "POSIX" | "C.UTF-8" => {
                self.expr(ctx, expr)
            }
            _ => {
                let message = format!("collation \"{name}\" for encoding \"UTF8\" does not exist");
                Err(PlanError::new("42704", message).at(at))
            }
        }
    }
}

pub(super) fn not(expr: HirScalar) -> HirScalar {
    HirScalar::call("not", vec![expr], SqlType::Bool)
}

pub(super) fn record(fields: Vec<Typed>) -> Result<Typed, PlanError> {
    let types: Vec<SqlType> = fields.iter().map(|f| f.ty.clone()).collect();
    let args = fields.into_iter().map(|f| f.expr).collect();
    let ty = SqlType::Record(types);
    Ok(Typed::new(cast::call("make_record", args, ty.clone())?, ty))
}

/// The symbol of a comparison operator.
pub(super) fn comparison_symbol(op: &BinaryOperator) -> Option<&'static str> {
    match op {
        BinaryOperator::Eq => Some("="),
        BinaryOperator::NotEq => Some("<>"),
        BinaryOperator::Lt => Some("<"),
        BinaryOperator::LtEq => Some("<="),
        BinaryOperator::Gt => Some(">"),
        BinaryOperator::GtEq => Some(">="),
        _ => None,
    }
}

/// An operator's symbol. `OPERATOR(pg_catalog.~)` is the plain operator.
pub(super) fn operator_symbol(op: &BinaryOperator) -> Result<String, PlanError> {
    let symbol = match op {
        BinaryOperator::PGCustomBinaryOperator(parts) => match parts.as_slice() {
            [operator] => operator,
            [schema, operator] if schema == "pg_catalog" => operator,
            _ => return Err(PlanError::unsupported(format!("the operator {op}"))),
        },
        BinaryOperator::PGBitwiseXor => "#",
        BinaryOperator::PGExp | BinaryOperator::BitwiseXor => "^",
        other => return Ok(other.to_string()),
    };
    Ok(symbol.to_owned())
}

/// Where an operator stands between its operands: the syntax tree does not say, but most people write one space.
fn operator_position(left: &Expr, right: &Expr, symbol: &str) -> usize {
    let (left, right) = (left.span(), right.span());
    if left.end.line == 0 || right.start.line == 0 {
        return 0;
    }
    let (end, start) = (left.end.column as usize, right.start.column as usize);
    match start.saturating_sub(end) == symbol.len() {
        true => end,
        false => end + 1,
    }
}
