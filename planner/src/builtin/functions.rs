//! The functions that look into the catalog, over one catalog as one session sees it.

use super::object::{IndexInfo, Kind, Object, oid};
use super::type_info::{COLLATIONS, all_types};
use super::{BuiltinCtx, proc, sql_text};
use crate::ast::sql;
use crate::error::PlanError;
use crate::names::{PathEntry, quote, search_entries};
use crate::session::{MZ_CATALOG, PG_CATALOG, Settings};
use plan::EvalError;
use plan::scalar::catalog_fns::{CatalogFns, FunctionPart, RegKind, Visible};
use repr::SqlType;
use state::Catalog;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Cheap to make: names are indexed when the first one is asked for.
pub struct CatalogFunctions {
    catalog: Arc<Catalog>,
    database: String,
    /// The schemas that unqualified names are looked up in, in order.
    path: Vec<String>,
    /// mz_catalog is searched without being listed; then what it holds does not count as visible, so that `\d` lists users' objects.
    hides_own: bool,
    settings: Option<Arc<dyn Settings + Send + Sync>>,
    names: OnceLock<Names>,
}

/// Relations and indexes by name and by OID.
struct Names {
    by_name: BTreeMap<(String, String), u32>,
    by_oid: BTreeMap<u32, (String, String)>,
}

impl CatalogFunctions {
    #[expect(
        clippy::new_ret_no_self,
        reason = "only ever used as an evaluation's catalog"
    )]
    pub fn new(
        catalog: Arc<Catalog>,
        database: &str,
        search_path: &[String],
        user: &str,
    ) -> Arc<dyn CatalogFns> {
        Arc::new(CatalogFunctions::build(
            catalog,
            database,
            search_path,
            user,
            None,
        ))
    }

    /// Also answers `current_setting` of names that are not constant.
    pub fn with_settings(
        catalog: Arc<Catalog>,
        database: &str,
        search_path: &[String],
        user: &str,
        settings: Arc<dyn Settings + Send + Sync>,
    ) -> Arc<dyn CatalogFns> {
        Arc::new(CatalogFunctions::build(
            catalog,
            database,
            search_path,
            user,
            Some(settings),
        ))
    }

    fn build(
        catalog: Arc<Catalog>,
        database: &str,
        search_path: &[String],
        user: &str,
        settings: Option<Arc<dyn Settings + Send + Sync>>,
    ) -> CatalogFunctions {
        let entries = search_entries(&catalog, database, search_path, user);
        let path = entries.into_iter().map(|entry| match entry {
            PathEntry::System(name) => name.to_owned(),
            PathEntry::User(schema) => schema.name.clone(),
        });
        let path = path.collect();
        let hides_own = !search_path.iter().any(|s| s == MZ_CATALOG);
        CatalogFunctions {
            catalog,
            database: database.to_owned(),
            path,
            hides_own,
            settings,
            names: OnceLock::new(),
        }
    }

    fn ctx(&self) -> BuiltinCtx<'_> {
        BuiltinCtx {
            catalog: &self.catalog,
            database: &self.database,
            state: None,
        }
    }

    fn names(&self) -> &Names {
        self.names.get_or_init(|| {
            let mut names = Names {
                by_name: BTreeMap::new(),
                by_oid: BTreeMap::new(),
            };
            for object in self.ctx().objects() {
                let name = (object.schema_name.to_owned(), object.name.to_owned());
                names.by_oid.insert(object.oid, name.clone());
                names.by_name.insert(name, object.oid);
            }
            names
        })
    }

    fn object(&self, id: u32) -> Option<Object<'_>> {
        self.ctx().user_objects().into_iter().find(|o| o.oid == id)
    }

    fn index(&self, id: u32) -> Option<IndexInfo<'_>> {
        self.object(id)?.index(&self.catalog)
    }

    /// The first relation of this name along the search path.
    fn visible_relation(&self, name: &str) -> Option<u32> {
        let names = self.names();
        self.path.iter().find_map(|schema| {
            names
                .by_name
                .get(&(schema.clone(), name.to_owned()))
                .copied()
        })
    }

    fn is_relation_visible(&self, id: u32, schema: &str, name: &str) -> bool {
        !(self.hides_own && schema == MZ_CATALOG) && self.visible_relation(name) == Some(id)
    }

    fn relation(&self, text: &str) -> Result<u32, EvalError> {
        let parts = split_name(text)?;
        let found = match parts.as_slice() {
            [name] => self.visible_relation(name),
            [schema, name] => self.qualified_relation(schema, name)?,
            [database, schema, name] if *database == self.database => {
                self.qualified_relation(schema, name)?
            }
            [_, _, _] => {
                let message = format!("cross-database references are not implemented: \"{text}\"");
                return Err(EvalError::new("0A000", message));
            }
            _ => {
                let message = format!("improper relation name (too many dotted names): {text}");
                return Err(EvalError::new("42601", message));
            }
        };
        found.ok_or_else(|| {
            EvalError::new(
                "42P01",
                format!("relation \"{}\" does not exist", parts.join(".")),
            )
        })
    }

    fn qualified_relation(&self, schema: &str, name: &str) -> Result<Option<u32>, EvalError> {
        if !self.ctx().namespaces().iter().any(|(_, n, _)| *n == schema) {
            return Err(EvalError::new(
                "3F000",
                format!("schema \"{schema}\" does not exist"),
            ));
        }
        Ok(self
            .names()
            .by_name
            .get(&(schema.to_owned(), name.to_owned()))
            .copied())
    }

    fn role(&self, name: &str) -> Option<u32> {
        self.catalog.role_by_name(name).map(|r| oid(r.id.0))
    }

    fn namespace(&self, name: &str) -> Option<u32> {
        self.ctx()
            .namespaces()
            .iter()
            .find(|(_, n, _)| *n == name)
            .map(|(id, _, _)| *id)
    }
}

impl fmt::Debug for CatalogFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CatalogFunctions {
            catalog,
            database,
            path,
            hides_own: _,
            settings: _,
            names: _,
        } = self;
        f.debug_struct("CatalogFunctions")
            .field("version", &catalog.version)
            .field("database", database)
            .field("path", path)
            .finish()
    }
}

impl CatalogFns for CatalogFunctions {
    fn lookup(&self, kind: RegKind, name: &str) -> Result<u32, EvalError> {
        let missing = |sqlstate: &str, what: &str| {
            EvalError::new(sqlstate, format!("{what} \"{name}\" does not exist"))
        };
        match kind {
            RegKind::Class => self.relation(name),
            RegKind::Type => type_named(name).map(|ty| ty.oid()).map_err(to_eval),
            RegKind::Proc => function_named(name),
            RegKind::Procedure => function_with_arguments(name),
            RegKind::Namespace => self
                .namespace(&single(name)?)
                .ok_or_else(|| missing("3F000", "schema")),
            RegKind::Role => self
                .role(&single(name)?)
                .ok_or_else(|| missing("42704", "role")),
            RegKind::Oper | RegKind::Operator => Err(EvalError::new(
                "42883",
                format!("operator does not exist: {name}"),
            )),
            RegKind::Collation => {
                let wanted = unqualified(name)?;
                let found = COLLATIONS.iter().find(|(_, n)| **n == wanted);
                found.map(|(id, _)| *id).ok_or_else(|| {
                    EvalError::new(
                        "42704",
                        format!("collation \"{wanted}\" for encoding \"UTF8\" does not exist"),
                    )
                })
            }
        }
    }

    fn display(&self, kind: RegKind, id: u32) -> Option<String> {
        match kind {
            RegKind::Class => {
                let (schema, name) = self.names().by_oid.get(&id)?;
                Some(match self.is_relation_visible(id, schema, name) {
                    true => quote(name),
                    false => format!("{}.{}", quote(schema), quote(name)),
                })
            }
            RegKind::Type => SqlType::from_oid(id, -1).map(|ty| ty.base_name()),
            RegKind::Proc => {
                let function = proc::by_oid(id)?;
                let unique = proc::by_name(function.name).count() == 1;
                Some(if unique {
                    quote(function.name)
                } else {
                    format!("{PG_CATALOG}.{}", quote(function.name))
                })
            }
            RegKind::Procedure => Some(proc::by_oid(id)?.signature()),
            RegKind::Namespace => {
                let namespaces = self.ctx().namespaces();
                namespaces
                    .iter()
                    .find(|(n, _, _)| *n == id)
                    .map(|(_, name, _)| quote(name))
            }
            RegKind::Role => self.role_name(id).map(|name| quote(&name)),
            RegKind::Oper | RegKind::Operator => None,
            RegKind::Collation => COLLATIONS
                .iter()
                .find(|(c, _)| *c == id)
                .map(|(_, name)| quote(name)),
        }
    }

    fn is_visible(&self, kind: Visible, id: u32) -> Option<bool> {
        match kind {
            Visible::Relation => {
                let (schema, name) = self.names().by_oid.get(&id)?;
                Some(self.is_relation_visible(id, schema, name))
            }
            // Types, functions and collations are in schemas that are always searched.
            Visible::Type => all_types().any(|ty| ty.oid() == id).then_some(true),
            Visible::Function => proc::by_oid(id).map(|_| true),
            Visible::Collation => COLLATIONS.iter().any(|(c, _)| *c == id).then_some(true),
        }
    }

    fn role_name(&self, id: u32) -> Option<String> {
        self.catalog
            .roles
            .values()
            .find(|r| oid(r.id.0) == id)
            .map(|r| r.name.clone())
    }

    fn index_definition(&self, index: u32, column: i32) -> Option<String> {
        let index = self.index(index)?;
        match usize::try_from(column).ok()?.checked_sub(1) {
            None => Some(sql_text::index_definition(&index)),
            Some(key) => index.keys.get(key).map(|(_, sql)| sql.clone()),
        }
    }

    fn constraint_definition(&self, constraint: u32) -> Option<String> {
        sql_text::constraint_definition(&self.index(constraint)?)
    }

    fn view_definition(&self, view: u32) -> Option<String> {
        match self.object(view)?.kind {
            Kind::Item(item) => sql_text::view_definition(item),
            Kind::Builtin(_) | Kind::Key(..) => None,
        }
    }

    fn rule_definition(&self, rule: u32) -> Option<String> {
        let object = self.object(rule)?;
        match object.kind {
            Kind::Item(item) => sql_text::rule_definition(&object, item),
            Kind::Builtin(_) | Kind::Key(..) => None,
        }
    }

    fn function_part(&self, function: u32, part: FunctionPart) -> Option<String> {
        let function = proc::by_oid(function)?;
        Some(match part {
            FunctionPart::Arguments => function.arguments(),
            FunctionPart::Result => function.ret.base_name(),
        })
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.settings.as_ref()?.get(name)
    }
}

fn to_eval(error: PlanError) -> EvalError {
    EvalError::new(error.sqlstate, error.message)
}

fn invalid_name() -> EvalError {
    EvalError::new("42602", "invalid name syntax")
}

/// The identifiers of a dotted name, folded unless quoted.
fn split_name(text: &str) -> Result<Vec<String>, EvalError> {
    let mut parts = vec![];
    let mut rest = text.trim();
    loop {
        let part;
        (part, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_identifier(quoted)?,
            None => {
                let end = rest
                    .find(|c: char| c == '.' || c == '"' || c.is_whitespace())
                    .unwrap_or(rest.len());
                (rest[..end].to_lowercase(), &rest[end..])
            }
        };
        if part.is_empty() {
            return Err(invalid_name());
        }
        parts.push(part);
        match rest.trim_start() {
            "" => return Ok(parts),
            more => {
                rest = more
                    .strip_prefix('.')
                    .ok_or_else(invalid_name)?
                    .trim_start()
            }
        }
    }
}

/// The identifier up to its closing quote, and what follows.
fn quoted_identifier(text: &str) -> Result<(String, &str), EvalError> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"').ok_or_else(invalid_name)?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Ok((name, after)),
        }
    }
}

/// A name that has no schema.
fn single(text: &str) -> Result<String, EvalError> {
    match <[String; 1]>::try_from(split_name(text)?) {
        Ok([name]) => Ok(name),
        Err(_) => Err(invalid_name()),
    }
}

/// The name of something of pg_catalog, which may be qualified.
fn unqualified(text: &str) -> Result<String, EvalError> {
    let mut parts = split_name(text)?;
    match parts.as_slice() {
        [_] => Ok(parts.remove(0)),
        [schema, _] if schema == PG_CATALOG => Ok(parts.remove(1)),
        [schema, _] => Err(EvalError::new(
            "3F000",
            format!("schema \"{schema}\" does not exist"),
        )),
        _ => Err(invalid_name()),
    }
}

/// The type that a text names in SQL's grammar: `timestamp(3) with time zone`, `int4[]`.
fn type_named(text: &str) -> Result<SqlType, PlanError> {
    // The only place where the grammar has nothing but a type is behind `::`.
    match crate::parse::parse_expr(&format!("NULL::{text}")) {
        Ok(sql::Expr::Cast {
            expr, data_type, ..
        }) if matches!(*expr, sql::Expr::Value(_)) => {
            let mut found = crate::types::resolve_type(&data_type).map_err(|mut e| {
                e.position = None;
                e
            })?;
            found = found.without_typmod();
            Ok(found)
        }
        Ok(_) | Err(_) => Err(PlanError::type_not_found(text)),
    }
}

fn function_named(text: &str) -> Result<u32, EvalError> {
    let name = unqualified(text)?;
    let mut found = proc::by_name(&name);
    match (found.next(), found.next()) {
        (Some(function), None) => Ok(function.oid),
        (None, _) => Err(EvalError::new(
            "42883",
            format!("function \"{text}\" does not exist"),
        )),
        (Some(_), Some(_)) => Err(EvalError::new(
            "42725",
            format!("more than one function named \"{text}\""),
        )),
    }
}

/// `lower(text)`.
fn function_with_arguments(text: &str) -> Result<u32, EvalError> {
    let missing = || EvalError::new("42883", format!("function \"{text}\" does not exist"));
    let Some((name, args)) = text
        .trim()
        .strip_suffix(')')
        .and_then(|t| t.split_once('('))
    else {
        return Err(EvalError::new("22P02", "expected a left parenthesis"));
    };
    let name = unqualified(name)?;
    let types = args.split(',').map(str::trim).filter(|a| !a.is_empty());
    let types: Vec<SqlType> = types
        .map(type_named)
        .collect::<Result<_, _>>()
        .map_err(to_eval)?;
    let mut candidates = proc::by_name(&name);
    candidates
        .find(|f| f.args == types)
        .map(|f| f.oid)
        .ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_names_split_at_dots_outside_of_quotes() {
        let split = |text| split_name(text).map_err(|e| e.message);
        assert_eq!(
            split("A . \"B.\"\"c\""),
            Ok(vec!["a".to_owned(), "B.\"c".to_owned()])
        );
        for bad in ["", "a.", "a b", "\"a", ".a", "\"\""] {
            assert!(split(bad).is_err(), "{bad:?} was taken for a name");
        }
    }

    #[test]
    fn a_type_name_is_nothing_but_a_type() {
        let oid = |text| type_named(text).map(|t| t.oid()).ok();
        assert_eq!(oid("timestamp(3) with time zone"), Some(1184));
        assert_eq!(oid("pg_catalog.int4[]"), Some(1007));
        assert_eq!(oid("\"char\""), Some(18));
        for bad in ["int + 1", "int::text", "nosuch", "int) + (1", ""] {
            assert_eq!(oid(bad), None, "{bad:?} was taken for a type");
        }
    }
}
