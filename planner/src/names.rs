//! Names of schemas and relations, resolved through the search path.

use crate::ast;
use crate::ast::sql::{Ident, ObjectName, ObjectNamePart};
use crate::builtin::{self, BuiltinRelation};
use crate::error::PlanError;
use crate::parse::fold;
use crate::session::{INFORMATION_SCHEMA, MZ_CATALOG, MZ_INTERNAL, PG_CATALOG, SessionView};
use repr::{ColumnType, GlobalId, RelationDesc};
use state::Catalog;
use state::catalog::{Item, ItemKind, Schema};
use std::sync::Arc;

/// What a relation's name means.
#[derive(Clone, Debug)]
pub enum Relation<'a> {
    Item(&'a Arc<Item>),
    Builtin(&'static BuiltinRelation),
}

/// The parts of a name, case folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub database: Option<String>,
    pub schema: Option<String>,
    pub name: String,
    /// The first character, and the one after the last; 0 if unknown.
    pub position: usize,
    pub end: usize,
}

impl Name {
    pub fn new(name: &ObjectName) -> Result<Name, PlanError> {
        let mut parts = vec![];
        for part in &name.0 {
            match part {
                ObjectNamePart::Identifier(ident) => parts.push(ident),
                ObjectNamePart::Function(_) => return Err(improper(&name.to_string())),
            }
        }
        Name::from_idents(&parts)
    }

    pub fn from_idents(parts: &[&Ident]) -> Result<Name, PlanError> {
        let position = parts.first().map_or(0, |i| ast::position(i.span));
        let folded: Vec<String> = parts.iter().map(|i| fold(i)).collect();
        let (database, schema, name) = match folded.as_slice() {
            [name] => (None, None, name),
            [schema, name] => (None, Some(schema), name),
            [database, schema, name] => (Some(database), Some(schema), name),
            _ => return Err(improper(&folded.join(".")).at(position)),
        };
        Ok(Name {
            database: database.cloned(),
            schema: schema.cloned(),
            name: name.clone(),
            position,
            end: parts.last().map_or(0, |i| i.span.end.column as usize),
        })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        f.write_str(&self.name)
    }
}

fn improper(name: &str) -> PlanError {
    PlanError::new(
        "42601",
        format!("improper relation name (too many dotted names): {name}"),
    )
}

pub fn is_system_schema(name: &str) -> bool {
    matches!(
        name,
        PG_CATALOG | INFORMATION_SCHEMA | MZ_CATALOG | MZ_INTERNAL
    )
}

impl<'a> SessionView<'a> {
    /// The schemas that unqualified names are looked up in, in order; those that do not exist are left out.
    pub fn effective_path(&self) -> Vec<PathEntry<'a>> {
        search_entries(
            self.catalog,
            self.database,
            self.search_path,
            self.current_user,
        )
    }

    fn first_user_schema(&self) -> Option<&'a Arc<Schema>> {
        self.effective_path()
            .into_iter()
            .find_map(|entry| match entry {
                PathEntry::User(schema) => Some(schema),
                PathEntry::System(_) => None,
            })
    }

    /// The schema in which new objects without a schema are made: `current_schema()`.
    pub fn creation_schema(&self) -> Result<&'a Arc<Schema>, PlanError> {
        self.first_user_schema()
            .ok_or_else(|| PlanError::new("3F000", "no schema has been selected to create in"))
    }

    /// The names of the schemas of the search path that exist; those searched without being listed only on request.
    pub fn current_schemas(&self, include_implicit: bool) -> Vec<String> {
        let listed = |name: &str| self.search_path.iter().any(|s| s == name);
        self.effective_path()
            .into_iter()
            .filter_map(|entry| match entry {
                PathEntry::System(name)
                    if include_implicit && name == PG_CATALOG || listed(name) =>
                {
                    Some(name.to_owned())
                }
                PathEntry::System(_) => None,
                PathEntry::User(schema) => Some(schema.name.clone()),
            })
            .collect()
    }

    fn check_database(&self, name: &Name) -> Result<(), PlanError> {
        match &name.database {
            Some(database) if database != self.database => {
                let message =
                    format!("cross-database references are not implemented: \"{database}.{name}\"");
                Err(PlanError::new("0A000", message).at(name.position))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A user's schema of this database.
    pub fn schema(&self, name: &str) -> Result<&'a Arc<Schema>, PlanError> {
        let database = self.database()?;
        self.catalog
            .schema_by_name(database.id, name)
            .ok_or_else(|| PlanError::schema_not_found(name))
    }

    /// The schema and name for an object to be created.
    pub fn schema_for(&self, name: &Name) -> Result<&'a Arc<Schema>, PlanError> {
        self.check_database(name)?;
        match &name.schema {
            Some(schema) if is_system_schema(schema) => {
                let message = format!("permission denied to create \"{schema}.{}\"", name.name);
                Err(PlanError::new("42501", message)
                    .with_detail("System catalog modifications are currently disallowed."))
            }
            Some(schema) => self.schema(schema).map_err(|e| e.at(name.position)),
            None => self.creation_schema().map_err(|e| e.at(name.position)),
        }
    }

    /// The relation (or index) that a name means, if there is one.
    pub fn find(&self, name: &Name) -> Result<Option<Relation<'a>>, PlanError> {
        self.check_database(name)?;
        let found = match &name.schema {
            Some(schema) => match system_schema(schema) {
                Some(system) => builtin::lookup(system, &name.name).map(Relation::Builtin),
                None => {
                    let schema = self.schema(schema).map_err(|e| e.at(name.position))?;
                    self.catalog
                        .item_by_name(schema.id, &name.name)
                        .map(Relation::Item)
                }
            },
            None => self
                .effective_path()
                .into_iter()
                .find_map(|entry| match entry {
                    PathEntry::System(system) => {
                        builtin::lookup(system, &name.name).map(Relation::Builtin)
                    }
                    PathEntry::User(schema) => self
                        .catalog
                        .item_by_name(schema.id, &name.name)
                        .map(Relation::Item),
                }),
        };
        Ok(found)
    }

    /// The relation or index that a name means.
    pub fn resolve(&self, name: &Name) -> Result<Relation<'a>, PlanError> {
        // A qualified name in a schema that does not exist is a missing relation, as in PostgreSQL.
        let missing = || PlanError::relation_not_found(&name.to_string()).at(name.position);
        match self.find(name) {
            Ok(found) => found.ok_or_else(missing),
            Err(error) if error.sqlstate == "3F000" => Err(missing()),
            Err(error) => Err(error),
        }
    }

    /// `schema.name` of an item.
    pub fn full_name(&self, item: &Item) -> String {
        let schema = self.catalog.schemas.get(&item.schema);
        let schema = schema.map_or("?", |s| s.name.as_str());
        format!("{}.{}", quote(schema), quote(&item.name))
    }
}

/// A schema of the search path.
#[derive(Clone, Copy, Debug)]
pub enum PathEntry<'a> {
    System(&'static str),
    User(&'a Arc<Schema>),
}

/// The schemas that a search path means for a user of a database; those that do not exist are left out.
pub fn search_entries<'a>(
    catalog: &'a Catalog,
    database: &str,
    search_path: &[String],
    user: &str,
) -> Vec<PathEntry<'a>> {
    let mut path = vec![];
    let listed = |name: &str| search_path.iter().any(|s| s == name);
    for system in [PG_CATALOG, MZ_CATALOG] {
        if !listed(system) {
            path.push(PathEntry::System(system));
        }
    }
    let database = catalog.database_by_name(database);
    for name in search_path {
        let name = match name.as_str() {
            "$user" => user,
            name => name,
        };
        if let Some(system) = system_schema(name) {
            path.push(PathEntry::System(system));
        } else if let Some(schema) = database.and_then(|d| catalog.schema_by_name(d.id, name)) {
            path.push(PathEntry::User(schema));
        }
    }
    path
}

fn system_schema(name: &str) -> Option<&'static str> {
    [PG_CATALOG, INFORMATION_SCHEMA, MZ_CATALOG, MZ_INTERNAL]
        .into_iter()
        .find(|s| *s == name)
}

impl Relation<'_> {
    pub fn id(&self) -> GlobalId {
        match self {
            Relation::Item(item) => item.id,
            Relation::Builtin(builtin) => builtin.id,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Relation::Item(item) => &item.name,
            Relation::Builtin(builtin) => builtin.name,
        }
    }

    /// The relation's columns; 42809 for an index.
    pub fn desc(&self) -> Result<RelationDesc, PlanError> {
        match self {
            Relation::Builtin(builtin) => Ok(builtin.desc.clone()),
            Relation::Item(item) => item_desc(item)
                .ok_or_else(|| PlanError::new("42809", format!("\"{}\" is an index", item.name))),
        }
    }
}

/// The columns and keys of a relation's item; `None` for an index.
pub fn item_desc(item: &Item) -> Option<RelationDesc> {
    let columns = item.columns()?;
    let mut desc = RelationDesc::from_columns(
        columns
            .iter()
            .map(|c| (c.name.clone(), ColumnType::new(c.ty.clone(), c.nullable))),
    );
    match &item.kind {
        ItemKind::Table(table) => {
            for key in &table.keys {
                // A UNIQUE constraint lets NULLs repeat.
                if key.columns.iter().all(|c| !columns[*c].nullable) {
                    desc = desc.with_key(key.columns.clone());
                }
            }
        }
        ItemKind::MaterializedView(view) => {
            for key in &view.unique_keys {
                desc = desc.with_key(key.clone());
            }
        }
        ItemKind::View(_) | ItemKind::Source(_) | ItemKind::Index(_) => {}
    }
    Some(desc)
}

/// An identifier as it must be written in SQL: the same text that `quote_ident` gives.
pub fn quote(name: &str) -> String {
    plan::scalar::func::quote_ident(name)
}
