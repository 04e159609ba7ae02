//! Functions that look something up in the catalog of the session.
//!
//! An evaluation finds the catalog in its [`EvalCtx`]; dataflows have none, and there these functions raise 0A000. What they mean
//! is PostgreSQL's; names are resolved and printed along the session's search path.

use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use crate::scalar::func::{EvalResult, FuncDef};
use repr::{Datum, RowArena, SqlType};
use std::fmt;

/// What an OID alias type names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegKind {
    Class,
    Type,
    Proc,
    Procedure,
    Namespace,
    Role,
    Oper,
    Operator,
    Collation,
}

impl RegKind {
    /// The kind of object that a type of the reg* family names.
    pub fn of(ty: &SqlType) -> Option<RegKind> {
        Some(match ty {
            SqlType::RegClass => RegKind::Class,
            SqlType::RegType => RegKind::Type,
            SqlType::RegProc => RegKind::Proc,
            SqlType::RegProcedure => RegKind::Procedure,
            SqlType::RegNamespace => RegKind::Namespace,
            SqlType::RegRole => RegKind::Role,
            SqlType::RegOper => RegKind::Oper,
            SqlType::RegOperator => RegKind::Operator,
            SqlType::RegCollation => RegKind::Collation,
            _ => return None,
        })
    }
}

/// Objects whose place in the search path can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visible {
    Relation,
    Type,
    Function,
    Collation,
}

/// Parts of a function's declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionPart {
    Arguments,
    Result,
}

/// One catalog as one session sees it.
///
/// OIDs that name nothing give `None`, which becomes NULL (or the bare number, where a name is printed).
pub trait CatalogFns: fmt::Debug + Send + Sync {
    /// The object that a name means, as written in SQL: folded, quoted, qualified.
    ///
    /// # Errors
    /// If the text is not a name, or names nothing (42P01, 42704, 42883).
    fn lookup(&self, kind: RegKind, name: &str) -> Result<u32, EvalError>;
    /// The name as SQL would have to write it: quoted, and qualified where the search path does not lead to it.
    fn display(&self, kind: RegKind, oid: u32) -> Option<String>;
    fn is_visible(&self, kind: Visible, oid: u32) -> Option<bool>;
    fn role_name(&self, oid: u32) -> Option<String>;
    /// `CREATE INDEX`, or with a `column` from 1 on that key's expression.
    fn index_definition(&self, index: u32, column: i32) -> Option<String>;
    fn constraint_definition(&self, constraint: u32) -> Option<String>;
    /// The query of a view or materialized view.
    fn view_definition(&self, view: u32) -> Option<String>;
    /// `CREATE RULE` of a view.
    fn rule_definition(&self, rule: u32) -> Option<String>;
    fn function_part(&self, function: u32, part: FunctionPart) -> Option<String>;
    /// The value of a session setting.
    fn setting(&self, name: &str) -> Option<String>;
}

/// The text of a value of a reg* type.
pub fn display(catalog: &dyn CatalogFns, kind: RegKind, oid: u32) -> String {
    match oid {
        0 => "-".to_owned(),
        oid => catalog
            .display(kind, oid)
            .unwrap_or_else(|| oid.to_string()),
    }
}

/// The value of a reg* type that a text means: a name, a number, or `-` for none.
///
/// # Errors
/// Those of [`CatalogFns::lookup`]; 22003 if a number is too large.
pub fn parse(catalog: &dyn CatalogFns, kind: RegKind, text: &str) -> Result<u32, EvalError> {
    match number(text)? {
        Some(oid) => Ok(oid),
        None => catalog.lookup(kind, text),
    }
}

/// The name of the function that reads a value of this type from text.
pub fn from_text(kind: RegKind) -> &'static str {
    match kind {
        RegKind::Class => "regclassin",
        RegKind::Type => "regtypein",
        RegKind::Proc => "regprocin",
        RegKind::Procedure => "regprocedurein",
        RegKind::Namespace => "regnamespacein",
        RegKind::Role => "regrolein",
        RegKind::Oper => "regoperin",
        RegKind::Operator => "regoperatorin",
        RegKind::Collation => "regcollationin",
    }
}

/// The name of the function that writes a value of this type as text.
pub fn to_text(kind: RegKind) -> &'static str {
    match kind {
        RegKind::Class => "regclassout",
        RegKind::Type => "regtypeout",
        RegKind::Proc => "regprocout",
        RegKind::Procedure => "regprocedureout",
        RegKind::Namespace => "regnamespaceout",
        RegKind::Role => "regroleout",
        RegKind::Oper => "regoperout",
        RegKind::Operator => "regoperatorout",
        RegKind::Collation => "regcollationout",
    }
}

macro_rules! reg {
    ($kind:ident, $input:literal, $output:literal) => {
        [
            FuncDef::fallible($input, |ctx, _, a, _| {
                input(ctx, RegKind::$kind, a[0].unwrap_str())
            })
            .reading_catalog(),
            FuncDef::fallible($output, |ctx, _, a, arena| {
                let text = display(catalog(ctx)?, RegKind::$kind, a[0].unwrap_oid());
                Ok(Datum::String(arena.push_string(text)))
            })
            .reading_catalog(),
        ]
    };
}

macro_rules! to_reg {
    ($kind:ident, $name:literal) => {
        FuncDef::fallible($name, |ctx, _, a, _| {
            Ok(catalog(ctx)?
                .lookup(RegKind::$kind, a[0].unwrap_str())
                .map_or(Datum::Null, Datum::Oid))
        })
        .nullable()
        .reading_catalog()
    };
}

macro_rules! visible {
    ($kind:ident, $name:literal) => {
        FuncDef::fallible($name, |ctx, _, a, _| {
            let visible = catalog(ctx)?.is_visible(Visible::$kind, a[0].unwrap_oid());
            Ok(visible.map_or(Datum::Null, Datum::Bool))
        })
        .nullable()
        .reading_catalog()
    };
}

/// A function of an OID whose text the catalog gives.
macro_rules! text_of {
    ($name:literal, $f:expr) => {
        FuncDef::fallible($name, |ctx, _, a, arena| {
            Ok(optional_text($f(catalog(ctx)?, a), arena))
        })
        .nullable()
        .reading_catalog()
    };
}

pub(super) static REG: &[[FuncDef; 2]] = &[
    reg!(Class, "regclassin", "regclassout"),
    reg!(Type, "regtypein", "regtypeout"),
    reg!(Proc, "regprocin", "regprocout"),
    reg!(Procedure, "regprocedurein", "regprocedureout"),
    reg!(Namespace, "regnamespacein", "regnamespaceout"),
    reg!(Role, "regrolein", "regroleout"),
    reg!(Oper, "regoperin", "regoperout"),
    reg!(Operator, "regoperatorin", "regoperatorout"),
    reg!(Collation, "regcollationin", "regcollationout"),
];

pub(super) static TABLE: &[FuncDef] = &[
    to_reg!(Class, "to_regclass"),
    to_reg!(Type, "to_regtype"),
    to_reg!(Proc, "to_regproc"),
    to_reg!(Procedure, "to_regprocedure"),
    to_reg!(Namespace, "to_regnamespace"),
    to_reg!(Role, "to_regrole"),
    to_reg!(Collation, "to_regcollation"),
    visible!(Relation, "pg_table_is_visible"),
    visible!(Type, "pg_type_is_visible"),
    visible!(Function, "pg_function_is_visible"),
    visible!(Collation, "pg_collation_is_visible"),
    text_of!("pg_get_indexdef", |c: &dyn CatalogFns, a: &[Datum<'_>]| c
        .index_definition(a[0].unwrap_oid(), 0)),
    text_of!(
        "pg_get_indexdef_ext",
        |c: &dyn CatalogFns, a: &[Datum<'_>]| {
            // A key that is not there has an empty definition.
            let (index, column) = (a[0].unwrap_oid(), a[1].unwrap_int32());
            c.index_definition(index, 0)?;
            Some(c.index_definition(index, column).unwrap_or_default())
        }
    ),
    text_of!(
        "pg_get_constraintdef",
        |c: &dyn CatalogFns, a: &[Datum<'_>]| c.constraint_definition(a[0].unwrap_oid())
    ),
    text_of!("pg_get_viewdef", |c: &dyn CatalogFns, a: &[Datum<'_>]| c
        .view_definition(a[0].unwrap_oid())),
    FuncDef::fallible("pg_get_viewdef_name", view_definition_by_name)
        .nullable()
        .reading_catalog(),
    text_of!("pg_get_ruledef", |c: &dyn CatalogFns, a: &[Datum<'_>]| c
        .rule_definition(a[0].unwrap_oid())),
    text_of!(
        "pg_get_function_arguments",
        |c: &dyn CatalogFns, a: &[Datum<'_>]| c
            .function_part(a[0].unwrap_oid(), FunctionPart::Arguments)
    ),
    text_of!(
        "pg_get_function_result",
        |c: &dyn CatalogFns, a: &[Datum<'_>]| c
            .function_part(a[0].unwrap_oid(), FunctionPart::Result)
    ),
    text_of!("pg_get_userbyid", |c: &dyn CatalogFns, a: &[Datum<'_>]| {
        let oid = a[0].unwrap_oid();
        Some(
            c.role_name(oid)
                .unwrap_or_else(|| format!("unknown (OID={oid})")),
        )
    }),
    FuncDef::fallible("show_config_by_name", setting).reading_catalog(),
    FuncDef::fallible("show_config_by_name_missing_ok", |ctx, _, a, arena| {
        let value = catalog(ctx)?.setting(&a[0].unwrap_str().to_lowercase());
        match value {
            None if !a[1].unwrap_bool() => Err(no_setting(a[0].unwrap_str())),
            value => Ok(optional_text(value, arena)),
        }
    })
    .nullable()
    .reading_catalog(),
    // Expressions are kept as SQL, so that there is nothing to decompile.
    FuncDef::strict("pg_get_expr", |_, _, a, _| Ok(a[0])),
    // Every role may do everything: there are no grants.
    FuncDef::strict("has_privilege", |_, _, _, _| Ok(Datum::TRUE)),
    // There are no comments on objects.
    FuncDef::strict("description", |_, _, _, _| Ok(Datum::Null)).nullable(),
    // Definitions of kinds of objects that do not exist: triggers, partitions, extended statistics, owned sequences, grants.
    FuncDef::strict("no_such_object", |_, _, _, _| Ok(Datum::Null)).nullable(),
    // Kinds of relations that do not exist: published ones, those of other sessions.
    FuncDef::strict("never", |_, _, _, _| Ok(Datum::FALSE)),
    // Rows live in the log's state, not in files of their own.
    FuncDef::strict("size_on_disk", |_, _, _, _| Ok(Datum::Int64(0))),
    FuncDef::strict("tablespace_location", |_, _, _, _| Ok(Datum::String(""))),
    FuncDef::strict("client_encoding", |_, _, _, _| Ok(Datum::String("UTF8"))),
    FuncDef::strict("no_oid", |_, _, _, _| Ok(Datum::Oid(0))),
];

fn catalog(ctx: &EvalCtx) -> Result<&dyn CatalogFns, EvalError> {
    ctx.catalog.as_deref().ok_or_else(|| {
        EvalError::new(
            "0A000",
            "functions of the system catalog cannot be used in maintained views",
        )
    })
}

fn optional_text(text: Option<String>, arena: &RowArena) -> Datum<'_> {
    text.map_or(Datum::Null, |text| Datum::String(arena.push_string(text)))
}

fn input<'a>(ctx: &EvalCtx, kind: RegKind, text: &str) -> EvalResult<'a> {
    match number(text)? {
        Some(oid) => Ok(Datum::Oid(oid)),
        None => catalog(ctx)?.lookup(kind, text).map(Datum::Oid),
    }
}

/// The OID that a text gives as a number, or `-` for none.
fn number(text: &str) -> Result<Option<u32>, EvalError> {
    let text = text.trim();
    if text == "-" {
        return Ok(Some(0));
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    let number = text.parse().map(Some);
    number.map_err(|_| {
        EvalError::new(
            "22003",
            format!("value \"{text}\" is out of range for type oid"),
        )
    })
}

fn view_definition_by_name<'a>(
    ctx: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    let catalog = catalog(ctx)?;
    let oid = catalog.lookup(RegKind::Class, a[0].unwrap_str())?;
    Ok(optional_text(catalog.view_definition(oid), arena))
}

fn setting<'a>(ctx: &EvalCtx, _: &SqlType, a: &[Datum<'a>], arena: &'a RowArena) -> EvalResult<'a> {
    let name = a[0].unwrap_str();
    let value = catalog(ctx)?
        .setting(&name.to_lowercase())
        .ok_or_else(|| no_setting(name))?;
    Ok(Datum::String(arena.push_string(value)))
}

fn no_setting(name: &str) -> EvalError {
    EvalError::new(
        "42704",
        format!("unrecognized configuration parameter \"{name}\""),
    )
}
