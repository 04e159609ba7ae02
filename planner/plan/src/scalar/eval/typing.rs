//! Types and properties of expressions.

use crate::scalar::func::{Kind, LazyKind};
use crate::scalar::{ScalarExpr, Unmaterializable};
use repr::{ColumnType, SqlType};

impl ScalarExpr {
    /// The type over input columns of these types. `nullable` is false only if the value can never be NULL.
    pub fn typ(&self, input: &[ColumnType]) -> ColumnType {
        match self {
            ScalarExpr::Column(index) => input[*index].clone(),
            ScalarExpr::Literal(_, ty) => ty.clone(),
            ScalarExpr::Param(_, ty) => ty.clone().nullable(true),
            ScalarExpr::Unmaterializable(value) => value.typ(),
            ScalarExpr::Call { ty, .. } => ty.clone().nullable(self.nullable(input)),
            ScalarExpr::If { then, els, .. } => {
                let (then, els) = (then.typ(input), els.typ(input));
                ColumnType {
                    nullable: then.nullable || els.nullable,
                    ty: then.ty,
                }
            }
        }
    }

    /// Whether the value can be NULL.
    pub fn nullable(&self, input: &[ColumnType]) -> bool {
        match self {
            ScalarExpr::Column(index) => input[*index].nullable,
            ScalarExpr::Literal(_, ty) => ty.nullable,
            ScalarExpr::Param(..) => true,
            ScalarExpr::Unmaterializable(value) => value.typ().nullable,
            ScalarExpr::Call { func, args, .. } => match func.def().kind {
                Kind::Strict(_) => {
                    func.def().introduces_nulls || args.iter().any(|a| a.nullable(input))
                }
                Kind::NullAware(_) => func.def().introduces_nulls,
                Kind::Lazy(LazyKind::And | LazyKind::Or) => args.iter().any(|a| a.nullable(input)),
                Kind::Lazy(LazyKind::Coalesce) => args.iter().all(|a| a.nullable(input)),
            },
            ScalarExpr::If { then, els, .. } => then.nullable(input) || els.nullable(input),
        }
    }

    /// Whether evaluation over some row could raise an error.
    pub fn contains_error_potential(&self) -> bool {
        self.may_fail(&|_| false)
    }

    /// As [`ScalarExpr::contains_error_potential`], where reading some columns raises an error.
    pub(crate) fn may_fail(&self, column_fails: &dyn Fn(usize) -> bool) -> bool {
        match self {
            ScalarExpr::Column(c) => column_fails(*c),
            ScalarExpr::Literal(Ok(_), _) => false,
            ScalarExpr::Literal(Err(_), _)
            | ScalarExpr::Param(..)
            | ScalarExpr::Unmaterializable(_) => true,
            ScalarExpr::Call { func, args, .. } => {
                func.def().can_error || args.iter().any(|a| a.may_fail(column_fails))
            }
            ScalarExpr::If { cond, then, els } => {
                [cond, then, els].iter().any(|e| e.may_fail(column_fails))
            }
        }
    }

    /// Whether the value depends on session settings such as the time zone.
    pub fn session_dependent(&self) -> bool {
        let mut found = false;
        self.visit(&mut |e| {
            found |= matches!(e, ScalarExpr::Call { func, .. } if func.def().session_dependent)
        });
        found
    }

    /// Whether a NULL in column `column` always makes the value NULL (an error counts as well).
    pub fn propagates_null_of(&self, column: usize) -> bool {
        match self {
            ScalarExpr::Column(index) => *index == column,
            ScalarExpr::Call { func, args, .. } => {
                func.def().propagates_nulls() && args.iter().any(|a| a.propagates_null_of(column))
            }
            ScalarExpr::Literal(..)
            | ScalarExpr::Param(..)
            | ScalarExpr::Unmaterializable(_)
            | ScalarExpr::If { .. } => false,
        }
    }
}

impl Unmaterializable {
    pub fn typ(&self) -> ColumnType {
        match self {
            Unmaterializable::MzNow => SqlType::MzTimestamp.nullable(false),
            Unmaterializable::Now => SqlType::TimestampTz(None).nullable(false),
            Unmaterializable::CurrentDatabase
            | Unmaterializable::CurrentUser
            | Unmaterializable::SessionUser => SqlType::Name.nullable(false),
            Unmaterializable::CurrentSchema => SqlType::Name.nullable(true),
            Unmaterializable::CurrentSchemas { .. } => SqlType::Name.array_of().nullable(false),
            Unmaterializable::Version => SqlType::Text.nullable(false),
            Unmaterializable::BackendPid => SqlType::Int32.nullable(false),
            Unmaterializable::Setting(_) => SqlType::Text.nullable(true),
        }
    }
}
