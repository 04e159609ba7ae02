//! Which numerics have one display scale in all rows, so that they can be summed as integers.

use crate::hir::HirScalar;
use repr::{Datum, SqlType};

/// The display scale of every value that the expression can have, if that can be told; `column` knows those of columns.
///
/// Rounding divisions and most functions choose scales by value: they have none.
pub fn fixed_scale(
    expr: &HirScalar,
    column: &dyn Fn(crate::hir::ColumnRef) -> Option<u16>,
) -> Option<u16> {
    match expr {
        HirScalar::Column(c) => column(*c),
        HirScalar::Literal(Ok(row), ty) => match row.iter().next() {
            Some(Datum::Numeric(n)) if n.is_finite() => Some(n.scale()),
            Some(Datum::Null) => of_type(&ty.ty),
            Some(_) | None => None,
        },
        HirScalar::Call { func, args, ty } => {
            let arg = |i: usize| fixed_scale(&args[i], column);
            match func.name() {
                "numeric_add" | "numeric_sub" => Some(arg(0)?.max(arg(1)?)),
                "numeric_mul" => arg(0)?.checked_add(arg(1)?).filter(|s| *s <= SCALE_MAX),
                "numeric_uminus" | "numeric_abs" => arg(0),
                "cast_int2_to_numeric" | "cast_int4_to_numeric" | "cast_int8_to_numeric" => Some(0),
                "apply_typmod" | "apply_typmod_assign" => of_type(ty),
                "coalesce" | "nullif" | "greatest" | "least" => {
                    let first = arg(0)?;
                    let same = (1..args.len()).all(|i| arg(i) == Some(first) || is_null(&args[i]));
                    same.then_some(first)
                }
                _ => None,
            }
        }
        HirScalar::If { then, els, .. } => match (is_null(then), is_null(els)) {
            (true, _) => fixed_scale(els, column),
            (_, true) => fixed_scale(then, column),
            (false, false) => {
                let scale = fixed_scale(then, column)?;
                (fixed_scale(els, column) == Some(scale)).then_some(scale)
            }
        },
        HirScalar::Literal(Err(_), _)
        | HirScalar::Param(..)
        | HirScalar::Unmaterializable(_)
        | HirScalar::Exists(_)
        | HirScalar::Subquery(..)
        | HirScalar::Aggregate(_)
        | HirScalar::TableFunc { .. } => None,
    }
}

/// Beyond this products are left to exact summation by value: the integers would not fit.
const SCALE_MAX: u16 = 18;

fn is_null(expr: &HirScalar) -> bool {
    matches!(expr.as_literal(), Some(Datum::Null))
}

/// The scale that a declared modifier gives every value of the column.
pub fn of_type(ty: &SqlType) -> Option<u16> {
    match ty {
        SqlType::Numeric(Some(typmod)) => Some(typmod.scale.max(0) as u16),
        _ => None,
    }
}
