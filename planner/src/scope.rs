//! The columns that a query's expressions can name.

use crate::error::PlanError;
use repr::ColumnType;
use std::rc::Rc;

/// The name by which a FROM item's columns can be qualified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationName {
    /// Only of a relation named without an alias.
    pub schema: Option<String>,
    pub name: String,
}

#[derive(Clone, Debug)]
pub struct ScopeColumn {
    pub relation: Option<Rc<RelationName>>,
    pub name: String,
    pub ty: ColumnType,
    /// The display scale of all values of a numeric, if it is known.
    pub scale: Option<u16>,
    /// Reachable by a qualified name only: the second column of a pair merged by USING.
    pub hidden: bool,
    /// The whole value of a function in FROM: `f` alone means this column.
    pub is_function_result: bool,
}

/// Columns in the order of the relation's, and which of them determine others.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub columns: Vec<ScopeColumn>,
    /// (primary key columns, all columns of the table), by position.
    pub determined: Vec<(Vec<usize>, Vec<usize>)>,
}

/// What a column name means in a scope.
pub enum Resolved {
    Column(usize),
    /// All columns of a FROM item.
    WholeRow(Vec<usize>),
    None,
}

impl Scope {
    pub fn types(&self) -> Vec<ColumnType> {
        self.columns.iter().map(|c| c.ty.clone()).collect()
    }

    /// The columns of both, the second's after the first's.
    pub fn concat(mut self, other: Scope) -> Scope {
        let offset = self.columns.len();
        let shift = |v: Vec<usize>| v.into_iter().map(|c| c + offset).collect();
        self.determined.extend(
            other
                .determined
                .into_iter()
                .map(|(k, d)| (shift(k), shift(d))),
        );
        self.columns.extend(other.columns);
        self
    }

    /// The scope after a projection.
    pub fn project(self, outputs: &[usize]) -> Scope {
        let find = |c: &usize| outputs.iter().position(|o| o == c);
        let determined = self
            .determined
            .iter()
            .filter_map(|(key, columns)| {
                let key = key.iter().map(find).collect::<Option<Vec<_>>>()?;
                Some((key, columns.iter().filter_map(find).collect()))
            })
            .collect();
        Scope {
            columns: outputs.iter().map(|c| self.columns[*c].clone()).collect(),
            determined,
        }
    }

    /// Resolves an unqualified name.
    pub fn resolve(&self, name: &str) -> Result<Resolved, PlanError> {
        let mut found = self
            .columns
            .iter()
            .enumerate()
            .filter(|(_, c)| c.name == name && !c.hidden);
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(PlanError::new(
                "42702",
                format!("column reference \"{name}\" is ambiguous"),
            )),
            (Some((i, _)), None) => Ok(Resolved::Column(i)),
            (None, _) => {
                let columns = self.of_relation(None, name);
                let result = columns
                    .iter()
                    .find(|c| self.columns[**c].is_function_result);
                Ok(match (columns.as_slice(), result) {
                    ([], _) => Resolved::None,
                    (_, Some(column)) => Resolved::Column(*column),
                    (_, None) => Resolved::WholeRow(columns),
                })
            }
        }
    }

    /// Resolves `relation.name`; `Ok(None)` if no FROM item has that name.
    pub fn resolve_qualified(
        &self,
        schema: Option<&str>,
        relation: &str,
        name: &str,
    ) -> Result<Option<usize>, PlanError> {
        let columns = self.of_relation(schema, relation);
        if columns.is_empty() {
            return Ok(None);
        }
        let mut found = columns.iter().filter(|c| self.columns[**c].name == name);
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(PlanError::new(
                "42702",
                format!("column reference \"{relation}.{name}\" is ambiguous"),
            )),
            (Some(column), None) => Ok(Some(*column)),
            (None, _) => {
                let message = format!("column {relation}.{name} does not exist");
                let error = PlanError::new("42703", message);
                let candidates = columns.iter().map(|c| self.columns[*c].name.as_str());
                Err(match closest(name, candidates) {
                    Some(hint) => error.with_hint(format!(
                        "Perhaps you meant to reference the column \"{relation}.{hint}\"."
                    )),
                    None => error,
                })
            }
        }
    }

    /// The columns of a FROM item.
    pub fn of_relation(&self, schema: Option<&str>, relation: &str) -> Vec<usize> {
        let is = |c: &ScopeColumn| {
            c.relation.as_ref().is_some_and(|r| {
                r.name == relation && schema.is_none_or(|s| r.schema.as_deref() == Some(s))
            })
        };
        (0..self.columns.len())
            .filter(|i| is(&self.columns[*i]))
            .collect()
    }

    /// A column whose name is like this one, qualified.
    pub fn suggestion(&self, name: &str) -> Option<String> {
        let candidates = self.columns.iter().map(|c| c.name.as_str());
        let similar = closest(name, candidates)?;
        let column = self.columns.iter().find(|c| c.name == similar)?;
        Some(match &column.relation {
            Some(relation) => format!("{}.{similar}", relation.name),
            None => similar.to_owned(),
        })
    }
}

/// More edits than these are no misspelling.
const DISTANCE_MAX: usize = 3;

/// The candidate that differs least, if it differs little.
fn closest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|c| (distance(name, c), c))
        .filter(|(d, _)| *d <= DISTANCE_MAX && *d <= name.chars().count() / 2)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// The number of single-character edits between two short names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
