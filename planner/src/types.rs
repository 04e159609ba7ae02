//! PostgreSQL's typing rules: which type a name in SQL means, and how one type becomes another.

pub mod cast;
pub mod coerce;
pub mod name;
pub mod scale;

pub use cast::{CastContext, cast_context};
pub use coerce::{Typed, common_type};
pub use name::resolve_type;
