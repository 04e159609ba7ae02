//! From SQL text to plans.
//!
//! What this is: the parser ([`parse()`]), statements as parsed ([`ast`]) and as planned ([`statement`]), name resolution, PostgreSQL's typing
//! rules, queries with their subqueries, and the rewrites of the optimizer.
//!
//! What this is not: no I/O, no clock, no randomness. The same catalog version, session view and text give the same plan.
//!
//! The life of one query: [`parse()`] cuts the text into statements; [`plan_statement`] resolves names and types into the HIR, a relational
//! tree whose scalars may hold subqueries, and lowers that to [`plan::Mir`], which has none.

pub mod ast;
pub mod builtin;
pub mod error;
pub mod func;
pub mod hir;
pub mod lower;
pub mod lower_lir;
pub mod names;
pub mod optimize;
pub mod parse;
pub mod query;
pub mod scope;
pub mod session;
pub mod statement;
pub mod transform;
pub mod types;

pub use error::{Notice, PlanError};
pub use parse::{Parsed, parse};
pub use session::{SessionView, Settings};
pub use statement::{ParamTypes, Plan, plan_statement};

#[cfg(test)]
mod testing;
