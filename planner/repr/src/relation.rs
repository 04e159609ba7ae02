//! The shape of a relation.

use serde::{Deserialize, Serialize};

use crate::types::SqlType;

/// A column's type and whether it can hold NULL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ColumnType {
    /// The SQL type.
    pub ty: SqlType,
    /// False only if NULL can never occur.
    pub nullable: bool,
}

impl ColumnType {
    /// A column type.
    pub fn new(ty: SqlType, nullable: bool) -> ColumnType {
        ColumnType { ty, nullable }
    }
}

impl SqlType {
    /// This type as that of a column which may hold NULL (or not).
    pub fn nullable(self, nullable: bool) -> ColumnType {
        ColumnType { ty: self, nullable }
    }
}

/// Names, types and unique keys of a relation's columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RelationDesc {
    /// One name per column. Names need not be unique (a query's output).
    pub names: Vec<String>,
    /// One type per column.
    pub types: Vec<ColumnType>,
    /// Each key is a set of column positions, ascending, whose values no two rows share. The empty
    /// key means: at most one row.
    pub keys: Vec<Vec<usize>>,
}

impl RelationDesc {
    /// The shape of a relation without columns.
    pub fn empty() -> RelationDesc {
        RelationDesc::default()
    }

    /// A shape from (name, type) pairs, with no known keys.
    pub fn from_columns<N: Into<String>>(
        columns: impl IntoIterator<Item = (N, ColumnType)>,
    ) -> RelationDesc {
        let mut desc = RelationDesc::empty();
        for (name, ty) in columns {
            desc.push(name, ty);
        }
        desc
    }

    /// Appends a column.
    pub fn push(&mut self, name: impl Into<String>, ty: ColumnType) {
        self.names.push(name.into());
        self.types.push(ty);
    }

    /// Adds a unique key.
    pub fn with_key(mut self, mut columns: Vec<usize>) -> RelationDesc {
        columns.sort_unstable();
        columns.dedup();
        if !self.keys.contains(&columns) {
            self.keys.push(columns);
        }
        self
    }

    /// The number of columns.
    pub fn arity(&self) -> usize {
        self.types.len()
    }

    /// (name, type) of each column.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = (&str, &ColumnType)> {
        self.names.iter().map(String::as_str).zip(&self.types)
    }

    /// The position of the first column with this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }
}
