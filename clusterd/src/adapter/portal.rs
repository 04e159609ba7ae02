//! Prepared statements and portals.

use crate::adapter::compile::Compiled;
use crate::adapter::error::{Result, SqlError};
use crate::adapter::session::RowSet;
use planner::ast::Statement;
use repr::{RelationDesc, Row, SqlType};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

/// The values of a statement's parameters.
#[derive(Clone, Debug, Default)]
pub struct Params {
    pub values: Vec<(Row, SqlType)>,
    /// Those that name an object of the catalog, with the name: which one it is is decided at the read point of the statement, until then the value is NULL.
    pub names: Vec<(usize, String)>,
}

impl From<Vec<(Row, SqlType)>> for Params {
    fn from(values: Vec<(Row, SqlType)>) -> Self {
        Params {
            values,
            names: vec![],
        }
    }
}

impl Deref for Params {
    type Target = [(Row, SqlType)];

    fn deref(&self) -> &Self::Target {
        &self.values
    }
}

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
    /// Making or running the plan looks up names or numbers in the catalog: its answer holds at that version only.
    pub reads_catalog: bool,
    /// The client keeps the statement and may have been told its columns: they must not change.
    pub promised: bool,
    /// Catalog version the plan was made at; at another version it is planned again.
    pub catalog_version: u64,
    /// Fingerprint of the names and settings that planning read.
    pub context: u64,
}

impl Prepared {
    /// An INSERT that needs no read point: it reads neither rows nor, by what its values mean, the catalog.
    pub fn is_blind_insert(&self) -> bool {
        self.compiled.is_blind_insert() && !self.reads_catalog
    }

    /// Refuses a plan made again that answers something else than clients were told.
    ///
    /// # Errors
    /// 0A000, as PostgreSQL, if types of parameters, or names or types of columns differ.
    pub fn check_promise(&self, again: &Prepared) -> Result<()> {
        let same_columns = match (&self.desc, &again.desc) {
            (None, None) => true,
            (Some(old), Some(new)) => {
                old.names == new.names
                    && old
                        .types
                        .iter()
                        .map(|column| &column.ty)
                        .eq(new.types.iter().map(|column| &column.ty))
            }
            (None, Some(_)) | (Some(_), None) => false,
        };
        if self.param_types == again.param_types && (same_columns || !self.promised) {
            return Ok(());
        }
        Err(SqlError::new(
            "0A000",
            "cached plan must not change result type",
        ))
    }
}

/// A prepared statement with its parameters, and the rows that have not been fetched yet.
pub struct Portal {
    pub prepared: Arc<Prepared>,
    pub params: Params,
    pub formats: Vec<i16>,
    /// What it has to give, once it has run.
    pub rows: Option<RowSet>,
    /// It was a statement without rows, and has run: it cannot be run again.
    pub done: bool,
}

/// The portals of a session. The unnamed one comes and goes with every statement of most drivers, and has a place of its own.
#[derive(Default)]
pub struct Portals {
    unnamed: Option<Portal>,
    named: HashMap<String, Portal>,
}

impl Portals {
    pub fn get(&self, name: &str) -> Option<&Portal> {
        match name {
            "" => self.unnamed.as_ref(),
            name => self.named.get(name),
        }
    }

    pub fn insert(&mut self, name: String, portal: Portal) {
        if name.is_empty() {
            self.unnamed = Some(portal);
        } else {
            self.named.insert(name, portal);
        }
    }

    pub fn remove(&mut self, name: &str) -> Option<Portal> {
        match name {
            "" => self.unnamed.take(),
            name => self.named.remove(name),
        }
    }

    pub fn count(&self) -> usize {
        self.named.len() + usize::from(self.unnamed.is_some())
    }

    pub fn clear(&mut self) {
        self.unnamed = None;
        self.named.clear();
    }
}

/// The format of column `index`: none given = text, one given = for all.
pub fn format_of(formats: &[i16], index: usize) -> i16 {
    match formats {
        [] => 0,
        [one] => *one,
        many => many.get(index).copied().unwrap_or(0),
    }
}
