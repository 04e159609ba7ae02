//! System relations: rows made from the catalog and from what this node knows, at the moment they are read.

use crate::adapter::error::{Result, SqlError};
use crate::adapter::query::TableView;
use crate::adapter::session::Session;
use repr::{Diff, GlobalId, Row};
use state::Catalog;
use std::sync::Arc;

impl Session {
    /// The rows of a built-in relation.
    pub(crate) fn system_rows(&self, id: GlobalId, catalog: &Arc<Catalog>, view: &TableView) -> Result<Vec<(Row, Diff)>> {
        let _ = (catalog, view);
        Err(SqlError::internal(format!("system relation {id} has no rows yet")))
    }
}
