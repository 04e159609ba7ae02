//! Functions that the planner itself knows: of the session, the catalog, and with rules of their own for their arguments.

use super::{Ctx, QueryPlanner};
use crate::error::PlanError;
use crate::func;
use crate::hir::HirScalar;
use crate::statement::Effect;
use crate::types::cast::CastContext;
use crate::types::coerce::Typed;
use plan::scalar::Unmaterializable;
use repr::{Datum, SqlType};

impl QueryPlanner<'_> {
    /// Functions that are called without parentheses: `current_date`.
    pub(super) fn bare_function(&self, name: &str, at: usize) -> Result<Option<Typed>, PlanError> {
        let session = |value: Unmaterializable| {
            let ty = value.typ().ty;
            Typed::new(HirScalar::Unmaterializable(value), ty).at(at)
        };
        Ok(Some(match name {
            "current_timestamp" => session(Unmaterializable::Now),
            "current_date" => self.now_as(&SqlType::Date)?.at(at),
            "localtimestamp" => self.now_as(&SqlType::Timestamp(None))?.at(at),
            "localtime" => self.now_as(&SqlType::Time)?.at(at),
            "current_time" => return Err(PlanError::unsupported("type time with time zone").at(at)),
            "current_user" | "current_role" | "user" => session(Unmaterializable::CurrentUser),
            "session_user" => session(Unmaterializable::SessionUser),
            "current_catalog" => session(Unmaterializable::CurrentDatabase),
            "current_schema" => session(Unmaterializable::CurrentSchema),
            _ => return Ok(None),
        }))
    }

    fn now_as(&self, ty: &SqlType) -> Result<Typed, PlanError> {
        let now = HirScalar::Unmaterializable(Unmaterializable::Now);
        let now = Typed::new(now, SqlType::TimestampTz(None));
        let expr = self.coercer().coerce(now, ty, CastContext::Explicit)?;
        Ok(Typed::new(expr, ty.clone()))
    }

    /// Plans a call with its arguments typed.
    pub(super) fn call_function(
        &self,
        ctx: &Ctx<'_>,
        name: &str,
        mut args: Vec<Typed>,
        at: usize,
    ) -> Result<Typed, PlanError> {
        if let Some(value) = self.session_function(ctx, name, &args, at)? {
            return Ok(value);
        }
        match name {
            "coalesce" => self.unified("coalesce", "COALESCE", args),
            "greatest" => self.unified("greatest", "GREATEST", args),
            "least" => self.unified("least", "LEAST", args),
            "nullif" if args.len() == 2 => self.nullif(args, at),
            "row" => {
                let mut fields = vec![];
                for arg in args {
                    fields.push(self.coercer().concrete(arg)?);
                }
                super::expr::record(fields)
            }
            // Truncation of the second of two timestamps to midnight of today is `age` of one.
            "age" if args.len() == 1 => {
                let today = self.now_as(&SqlType::Date)?;
                let midnight = self.coercer().coerce(
                    today,
                    &SqlType::TimestampTz(None),
                    CastContext::Implicit,
                )?;
                let midnight = Typed::new(midnight, SqlType::TimestampTz(None));
                func::call(&self.coercer(), "age", vec![midnight, args.remove(0)], at)
            }
            // Arguments of any type in their text form.
            "concat" | "concat_ws" => {
                let mut texts = vec![];
                for arg in args {
                    let text = self
                        .coercer()
                        .coerce(arg, &SqlType::Text, CastContext::Explicit)?;
                    texts.push(Typed::new(text, SqlType::Text));
                }
                func::call(&self.coercer(), name, texts, at)
            }
            // A type's name as a function is a cast, if no function has the name.
            _ if func::overloads(name).is_empty() && args.len() == 1 => {
                self.cast_function(name, args.remove(0), at)
            }
            _ => func::call(&self.coercer(), name, args, at),
        }
    }

    fn cast_function(&self, name: &str, arg: Typed, at: usize) -> Result<Typed, PlanError> {
        let missing = || func::no_function(name, std::slice::from_ref(&arg.ty), at);
        let ty = SqlType::from_typname(name).ok_or_else(missing)?;
        let expr = self
            .coercer()
            .try_coerce(arg.clone(), &ty, CastContext::Explicit)
            .map_err(|e| match e {
                crate::types::coerce::CoerceError::NoCast { .. } => missing(),
                crate::types::coerce::CoerceError::Other(error) => error,
            })?;
        Ok(Typed::new(expr, ty))
    }

    fn unified(
        &self,
        func: &'static str,
        place: &str,
        args: Vec<Typed>,
    ) -> Result<Typed, PlanError> {
        let (args, ty) = self.coercer().unify(args, place)?;
        func::exact(func, args, ty)
    }

    /// `nullif(a, b)` compares as `=` does and has the type of `a`.
    fn nullif(&self, args: Vec<Typed>, at: usize) -> Result<Typed, PlanError> {
        let [left, right]: [Typed; 2] = args.try_into().expect("the caller counted");
        let left = self.coercer().concrete(left)?;
        let ty = left.ty.clone();
        let equal = func::binary(&self.coercer(), "=", left.clone(), right, at)?;
        let value = HirScalar::If {
            cond: Box::new(equal.expr),
            then: Box::new(HirScalar::null(ty.clone())),
            els: Box::new(left.expr),
        };
        Ok(Typed::new(value, ty))
    }

    fn session_function(
        &self,
        ctx: &Ctx<'_>,
        name: &str,
        args: &[Typed],
        at: usize,
    ) -> Result<Option<Typed>, PlanError> {
        let session = |value: Unmaterializable| {
            let ty = value.typ().ty;
            Ok(Some(Typed::new(HirScalar::Unmaterializable(value), ty)))
        };
        match (name, args.len()) {
            // All of them are the time at which the transaction began: a statement never sees time pass.
            ("now" | "transaction_timestamp" | "statement_timestamp" | "clock_timestamp", 0) => {
                session(Unmaterializable::Now)
            }
            ("mz_now", 0) => session(Unmaterializable::MzNow),
            ("current_database", 0) => session(Unmaterializable::CurrentDatabase),
            ("current_schema", 0) => session(Unmaterializable::CurrentSchema),
            ("current_user" | "user", 0) => session(Unmaterializable::CurrentUser),
            ("session_user", 0) => session(Unmaterializable::SessionUser),
            ("version", 0) => session(Unmaterializable::Version),
            ("pg_backend_pid", 0) => session(Unmaterializable::BackendPid),
            ("current_schemas", 1) => {
                let implicit = self.coercer().coerce(
                    args[0].clone(),
                    &SqlType::Bool,
                    CastContext::Implicit,
                )?;
                match implicit.as_literal() {
                    Some(Datum::Bool(include_implicit)) => {
                        session(Unmaterializable::CurrentSchemas { include_implicit })
                    }
                    _ => Err(PlanError::unsupported(
                        "current_schemas of a value that is not constant",
                    )
                    .at(at)),
                }
            }
            ("pg_typeof", 1) => {
                let oid = args[0].ty.oid();
                let literal = HirScalar::literal(Datum::Oid(oid), SqlType::RegType);
                Ok(Some(Typed::new(literal, SqlType::RegType)))
            }
            ("current_setting", 1 | 2) => self.current_setting(args, at),
            ("set_config", 3) => self.set_config(ctx, args, at).map(Some),
            ("pg_sleep", 1) => self.pg_sleep(ctx, args, at).map(Some),
            ("pg_cancel_backend" | "pg_terminate_backend", 1) => {
                self.check_effect(ctx, name, at)?;
                let pid = self.coercer().coerce(
                    args[0].clone(),
                    &SqlType::Int32,
                    CastContext::Implicit,
                )?;
                self.effects.borrow_mut().push(Effect::Cancel {
                    pid: crate::lower::lower_scalar(pid, &[])?,
                    terminate: name == "pg_terminate_backend",
                });
                Ok(Some(Typed::bool(HirScalar::bool(true))))
            }
            _ => Ok(None),
        }
    }

    /// The value of a setting; a name that is not a constant is looked up when the call is evaluated.
    fn current_setting(&self, args: &[Typed], at: usize) -> Result<Option<Typed>, PlanError> {
        let Some(name) = args[0].constant_text() else {
            return Ok(None);
        };
        let missing_ok = match args.get(1) {
            None => false,
            Some(flag) => {
                let flag =
                    self.coercer()
                        .coerce(flag.clone(), &SqlType::Bool, CastContext::Implicit)?;
                flag.as_literal() == Some(Datum::TRUE)
            }
        };
        let value = self.session.settings.get(&name.to_lowercase());
        match (value, missing_ok) {
            (Some(value), _) => {
                let literal = HirScalar::literal(Datum::String(&value), SqlType::Text);
                Ok(Some(Typed::new(literal, SqlType::Text)))
            }
            (None, true) => Ok(Some(Typed::new(
                HirScalar::null(SqlType::Text),
                SqlType::Text,
            ))),
            (None, false) => {
                let message = format!("unrecognized configuration parameter \"{name}\"");
                Err(PlanError::new("42704", message).at(at))
            }
        }
    }

    /// A function that acts may only be called once per statement, not once per row.
    fn check_effect(&self, ctx: &Ctx<'_>, name: &str, at: usize) -> Result<(), PlanError> {
        let once = ctx.scope.columns.is_empty()
            && ctx.env.outer.is_none()
            && matches!(ctx.clause, "SELECT" | "FROM");
        match once {
            true => Ok(()),
            false => Err(PlanError::unsupported(format!("{name} in a query over rows")).at(at)),
        }
    }

    fn set_config(&self, ctx: &Ctx<'_>, args: &[Typed], at: usize) -> Result<Typed, PlanError> {
        self.check_effect(ctx, "set_config", at)?;
        let local =
            self.coercer()
                .coerce(args[2].clone(), &SqlType::Bool, CastContext::Implicit)?;
        let (Some(name), Some(value), Some(Datum::Bool(local))) = (
            args[0].constant_text(),
            args[1].constant_text(),
            local.as_literal(),
        ) else {
            return Err(
                PlanError::unsupported("set_config of values that are not constant").at(at),
            );
        };
        self.effects.borrow_mut().push(Effect::SetConfig {
            name: name.to_lowercase(),
            value: value.to_owned(),
            local,
        });
        let literal = HirScalar::literal(Datum::String(value), SqlType::Text);
        Ok(Typed::new(literal, SqlType::Text))
    }

    fn pg_sleep(&self, ctx: &Ctx<'_>, args: &[Typed], at: usize) -> Result<Typed, PlanError> {
        self.check_effect(ctx, "pg_sleep", at)?;
        let seconds =
            self.coercer()
                .coerce(args[0].clone(), &SqlType::Float64, CastContext::Implicit)?;
        let seconds = crate::lower::lower_scalar(seconds, &[])?;
        self.effects.borrow_mut().push(Effect::Sleep(seconds));
        let nothing = HirScalar::literal(Datum::String(""), SqlType::Void);
        Ok(Typed::new(nothing, SqlType::Void))
    }
}
