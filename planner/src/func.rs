//! The functions and operators of SQL: their signatures, and which one a call means.
//!
//! A signature is a line of a table: name, argument types, result type, and the name of the [`plan::Func`] behind it. Choosing among
//! overloads follows PostgreSQL's rules (its manual's chapter 10).

mod aggregate;
mod operator;
mod resolve;
mod table;

pub use aggregate::{AggregateCall, is_aggregate, plan_aggregate};
pub use operator::{binary, comparison_type, unary};
pub use resolve::{Candidate, Choice, select};

use crate::error::PlanError;
use crate::hir::HirScalar;
use crate::types::cast::{self, CastContext};
use crate::types::coerce::{Coercer, Typed};
use repr::SqlType;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::OnceLock;

/// One overload of a function or operator.
#[derive(Clone, Debug)]
pub struct Signature {
    pub name: &'static str,
    pub args: Vec<SqlType>,
    /// The last argument type may repeat.
    pub variadic: bool,
    pub ret: SqlType,
    /// Name of the [`plan::Func`].
    pub func: &'static str,
}

type Index = HashMap<&'static str, Vec<Signature>, BuildHasherDefault<DefaultHasher>>;

fn parse_table(text: &'static str) -> Index {
    let mut index = Index::default();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let signature = parse_line(line);
        index.entry(signature.name).or_default().push(signature);
    }
    index
}

/// The signatures of a table, in its order.
pub(crate) fn parse_signatures(text: &'static str) -> Vec<Signature> {
    text.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .map(parse_line)
        .collect()
}

/// `name(type, type) result implementation`; `variadic type` as the last argument.
fn parse_line(line: &'static str) -> Signature {
    let fail = || -> ! { panic!("bad line in a table of functions: {line}") };
    let Some((name, rest)) = line.split_once('(') else {
        fail()
    };
    let Some((args, rest)) = rest.split_once(')') else {
        fail()
    };
    let mut words = rest.split_whitespace();
    let (Some(ret), Some(func)) = (words.next(), words.next()) else {
        fail()
    };
    let mut variadic = false;
    let args = args
        .split(',')
        .map(str::trim)
        .filter(|a| !a.is_empty())
        .map(|arg| {
            let arg = arg
                .strip_prefix("variadic ")
                .inspect(|_| variadic = true)
                .unwrap_or(arg);
            SqlType::from_typname(arg).unwrap_or_else(|| fail())
        })
        .collect();
    Signature {
        name,
        args,
        variadic,
        ret: SqlType::from_typname(ret).unwrap_or_else(|| fail()),
        func,
    }
}

fn functions() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| parse_table(table::FUNCTIONS))
}

/// All overloads of a function.
pub fn overloads(name: &str) -> &'static [Signature] {
    functions().get(name).map_or(&[], Vec::as_slice)
}

/// All functions by name, in alphabetical order.
pub fn all_functions() -> Vec<&'static Signature> {
    let mut all: Vec<&Signature> = functions().values().flatten().collect();
    all.sort_by(|a, b| a.name.cmp(b.name));
    all
}

/// Plans a call of an ordinary function.
pub fn call(
    coercer: &Coercer<'_>,
    name: &str,
    args: Vec<Typed>,
    position: usize,
) -> Result<Typed, PlanError> {
    let candidates = overloads(name);
    let types: Vec<SqlType> = args.iter().map(|a| a.ty.clone()).collect();
    match select(candidates, &types) {
        Choice::One(candidate) => build(coercer, candidate, args),
        Choice::None => Err(no_function(name, &types, position)),
        Choice::Ambiguous => {
            let message = format!("function {} is not unique", describe(name, &types));
            Err(PlanError::new("42725", message)
                .at(position)
                .with_hint("Could not choose a best candidate function. You might need to add explicit type casts."))
        }
    }
}

/// Coerces the arguments and makes the call.
pub fn build(
    coercer: &Coercer<'_>,
    candidate: Candidate<'_>,
    args: Vec<Typed>,
) -> Result<Typed, PlanError> {
    let Candidate {
        signature,
        args: types,
        ret,
    } = candidate;
    let mut coerced = vec![];
    for (arg, ty) in args.into_iter().zip(&types) {
        // The modifiers of arguments are kept where the type does not change.
        coerced.push(coercer.coerce(arg, ty, CastContext::Implicit)?);
    }
    let expr = cast::call(signature.func, coerced, ret.clone())?;
    Ok(Typed::new(expr, ret))
}

fn describe(name: &str, types: &[SqlType]) -> String {
    let types: Vec<String> = types.iter().map(SqlType::base_name).collect();
    format!("{name}({})", types.join(", "))
}

pub fn no_function(name: &str, types: &[SqlType], position: usize) -> PlanError {
    let message = format!("function {} does not exist", describe(name, types));
    PlanError::new("42883", message).at(position).with_hint(
        "No function matches the given name and argument types. You might need to add explicit type casts.",
    )
}

/// A call with exact argument types, of a function known to exist.
pub fn exact(func: &str, args: Vec<HirScalar>, ty: SqlType) -> Result<Typed, PlanError> {
    Ok(Typed::new(cast::call(func, args, ty.clone())?, ty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_has_an_implementation() {
        let missing: Vec<&str> = functions()
            .values()
            .chain(operator::all().values())
            .flatten()
            .map(|s| s.func)
            .filter(|f| plan::Func::by_name(f).is_none())
            .collect();
        assert_eq!(missing, Vec::<&str>::new());
    }
}
