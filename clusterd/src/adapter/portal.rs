//! Prepared statements and portals.

use crate::adapter::compile::Compiled;
use crate::adapter::session::RowSet;
use planner::ast::Statement;
use repr::{RelationDesc, Row, SqlType};
use std::sync::Arc;

/// A parsed and planned statement.
#[derive(Debug)]
pub struct Prepared {
    pub text: Arc<str>,
    pub statement: Arc<Statement>,
    /// Types that the client declared or the literals have; `None` was inferred.
    pub declared: Vec<Option<SqlType>>,
    pub param_types: Vec<SqlType>,
    /// Columns of the answer; `None` for a statement without rows.
    pub desc: Option<Arc<RelationDesc>>,
    pub compiled: Compiled,
    /// The client keeps the statement and may have been told its columns: they must not change.
    pub promised: bool,
    /// Catalog version the plan was made at; at another version it is planned again.
    pub catalog_version: u64,
    /// Fingerprint of the names and settings that planning read.
    pub context: u64,
}

/// A prepared statement with its parameters, and the rows that have not been fetched yet.
pub struct Portal {
    pub prepared: Arc<Prepared>,
    pub params: Vec<(Row, SqlType)>,
    pub formats: Vec<i16>,
    pub rows: Option<RowSet>,
    pub done: bool,
}

/// The format of column `index`: none given = text, one given = for all.
pub fn format_of(formats: &[i16], index: usize) -> i16 {
    match formats {
        [] => 0,
        [one] => *one,
        many => many.get(index).copied().unwrap_or(0),
    }
}
