//! From a relational plan to something that can be executed.
//!
//! [`optimize_select`] serves one-shot queries, [`optimize_dataflow`] everything that is maintained. Both inline views, apply the fixed
//! list of rewrites of [`crate::transform`], then choose: the interpreter, a read of stored rows, a peek of an arrangement, or a dataflow
//! ([`crate::lower_lir`]). Everything here is a pure function of the plan and of the answers of [`OptimizerCatalog`].

pub mod bind;
pub mod catalog;
pub mod dataflow;
pub mod explain;
pub mod extract;
pub mod lookup;
pub mod select;

pub use bind::{BoundAccess, BoundPath, BoundSelect, Params};
pub use catalog::{Arrangement, CatalogOracle, Definitions, OptimizerCatalog, StoredRelation};
pub use dataflow::{DataflowExec, ExportSpec, optimize_dataflow};
pub use explain::{explain_optimized, explain_physical};
pub use lookup::{KeyColumn, KeyExpr, LookupKeys};
pub use select::{
    Execution, SelectExec, SelectOptions, SelectPath, TableAccess, looks_into_catalog,
    optimize_select,
};

#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;
