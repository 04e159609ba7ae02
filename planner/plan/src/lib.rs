//! The plan languages of clusterd and their reference semantics.
//!
//! What this is: scalar expressions ([`scalar`]), aggregates ([`agg`]), table functions ([`table_func`]), the relational
//! language the optimizer rewrites ([`mir`]), the physical language the dataflow engine renders ([`lir`]), fused
//! map-filter-project blocks ([`mfp`]), and the row-at-a-time interpreter ([`eval`]) that defines what each of them means.
//!
//! What this is not: no parsing, no names, no catalog (crate `planner`), no timely operators (crate `compute`), no I/O, no clock and
//! no randomness.
//!
//! The life of one plan: `planner` lowers SQL to [`mir::Mir`], rewrites it, lowers it to [`lir::Dataflow`], whose bytes travel in the
//! catalog operation that creates the object; `compute` renders those bytes, [`eval`] answers constant and catalog queries.

pub mod agg;
pub mod error;
pub mod eval;
pub mod explain;
pub mod finishing;
pub mod lir;
pub mod mfp;
pub mod mir;
pub mod scalar;
pub mod table_func;

pub use agg::{AggregateExpr, AggregateFunc};
pub use error::EvalError;
pub use finishing::Finishing;
pub use lir::Dataflow;
pub use mfp::Mfp;
pub use mir::Mir;
pub use scalar::{Func, ScalarExpr};
pub use table_func::TableFunc;
