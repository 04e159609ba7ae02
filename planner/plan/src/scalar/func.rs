//! The scalar functions: tables of named implementations.
//!
//! A function is known by its stable name, which is the one that plans are encoded with: PostgreSQL's internal name
//! (`pg_proc.prosrc`) where PostgreSQL has the function, else a descriptive one. Overloads are distinct functions; arguments
//! already have the exact type that the implementation expects. Each family is one file with one table; [`all`] chains the tables.

use crate::error::EvalError;
use crate::scalar::eval::EvalCtx;
use repr::{Datum, RowArena, SqlType};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;

mod array;
mod array_search;
mod array_text;
mod boolean;
mod bytes;
mod cast_number;
mod cast_text;
mod cast_time;
mod catalog;
mod compare;
mod date;
mod datetime_format;
mod extract;
mod float;
mod format_text;
mod hash;
mod integer;
mod interval;
mod numeric;
mod ordered;
mod pad;
mod pattern;
mod quote;
mod regex;
mod text;
mod timestamp;
mod to_char;
mod to_date;
mod to_number;
mod typmod;
mod zone;

pub use quote::quote_ident;

/// What an implementation returns.
pub type EvalResult<'a> = Result<Datum<'a>, EvalError>;

/// An implementation over evaluated arguments. `ty` is the result type of the call, typmod included; results that need memory
/// borrow from the arena.
pub type EvalFn = for<'a> fn(
    ctx: &EvalCtx,
    ty: &SqlType,
    args: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a>;

/// How a function treats its arguments.
#[derive(Clone, Copy)]
pub enum Kind {
    /// NULL if any argument is NULL; the implementation never sees one.
    Strict(EvalFn),
    /// The implementation sees NULL arguments.
    NullAware(EvalFn),
    /// The evaluator itself decides which arguments to evaluate.
    Lazy(LazyKind),
}

/// The functions that do not evaluate all of their arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LazyKind {
    /// FALSE if any argument is, whatever the others are, errors included.
    And,
    /// TRUE if any argument is, whatever the others are, errors included.
    Or,
    /// The first argument that is not NULL; arguments after it are not evaluated.
    Coalesce,
}

/// One function.
pub struct FuncDef {
    /// The stable name.
    pub name: &'static str,
    pub kind: Kind,
    /// Whether evaluation over arguments of the right types can raise an error.
    pub can_error: bool,
    /// Whether the result can be NULL although no argument is.
    pub introduces_nulls: bool,
    /// The function whose result is the negation of this one's (`lt` and `ge`), NULL going to NULL.
    pub negation: Option<&'static str>,
    /// The function that gives the same result with its two arguments exchanged (`lt` and `gt`, `eq` and itself).
    pub commuted: Option<&'static str>,
    /// Depends on session settings (time zone, styles): not to be folded into durable plans by another session's settings.
    pub session_dependent: bool,
    /// Needs the catalog that an evaluation may or may not have.
    pub reads_catalog: bool,
}

impl FuncDef {
    const fn new(name: &'static str, kind: Kind) -> FuncDef {
        FuncDef {
            name,
            kind,
            can_error: false,
            introduces_nulls: false,
            negation: None,
            commuted: None,
            session_dependent: false,
            reads_catalog: false,
        }
    }

    /// A strict function that never fails.
    pub(crate) const fn strict(name: &'static str, f: EvalFn) -> FuncDef {
        FuncDef::new(name, Kind::Strict(f))
    }

    /// A strict function that may raise an error.
    pub(crate) const fn fallible(name: &'static str, f: EvalFn) -> FuncDef {
        FuncDef {
            can_error: true,
            ..FuncDef::new(name, Kind::Strict(f))
        }
    }

    /// A function that sees NULL arguments and never returns NULL.
    pub(crate) const fn null_aware(name: &'static str, f: EvalFn) -> FuncDef {
        FuncDef::new(name, Kind::NullAware(f))
    }

    pub(crate) const fn lazy(name: &'static str, kind: LazyKind) -> FuncDef {
        FuncDef::new(name, Kind::Lazy(kind))
    }

    /// Marks that the result can be NULL without a NULL argument.
    pub(crate) const fn nullable(self) -> FuncDef {
        FuncDef {
            introduces_nulls: true,
            ..self
        }
    }

    /// Marks that evaluation can fail.
    pub(crate) const fn erring(self) -> FuncDef {
        FuncDef {
            can_error: true,
            ..self
        }
    }

    pub(crate) const fn negated_by(self, name: &'static str) -> FuncDef {
        FuncDef {
            negation: Some(name),
            ..self
        }
    }

    pub(crate) const fn commutes_to(self, name: &'static str) -> FuncDef {
        FuncDef {
            commuted: Some(name),
            ..self
        }
    }

    pub(crate) const fn by_session(self) -> FuncDef {
        FuncDef {
            session_dependent: true,
            ..self
        }
    }

    /// Marks that the catalog is looked into, along the session's search path.
    pub(crate) const fn reading_catalog(self) -> FuncDef {
        FuncDef {
            session_dependent: true,
            reads_catalog: true,
            ..self
        }
    }

    /// Whether a NULL argument always makes the result NULL.
    pub fn propagates_nulls(&self) -> bool {
        match self.kind {
            Kind::Strict(_) => true,
            Kind::NullAware(_) | Kind::Lazy(_) => false,
        }
    }
}

/// All functions, family by family.
pub fn all() -> impl Iterator<Item = &'static FuncDef> {
    let tables = [
        array::TABLE,
        array_search::TABLE,
        array_text::TABLE,
        boolean::TABLE,
        bytes::TABLE,
        cast_number::TABLE,
        cast_text::TABLE,
        cast_time::TABLE,
        catalog::TABLE,
        super::catalog_fns::TABLE,
        compare::TABLE,
        date::TABLE,
        extract::TABLE,
        format_text::TABLE,
        interval::TABLE,
        numeric::TABLE,
        ordered::TABLE,
        pad::TABLE,
        pattern::TABLE,
        quote::TABLE,
        regex::TABLE,
        text::TABLE,
        timestamp::TABLE,
        to_char::TABLE,
        to_date::TABLE,
        to_number::TABLE,
        typmod::TABLE,
        zone::TABLE,
    ];
    tables
        .into_iter()
        .chain(integer::TABLES)
        .chain(float::TABLES)
        .flatten()
        .chain(super::catalog_fns::REG.iter().flatten())
}

/// A function of the tables. Identity, order, hash and encoding go by the stable name.
#[derive(Clone, Copy)]
pub struct Func(&'static FuncDef);

impl Func {
    /// The function with this stable name.
    pub fn by_name(name: &str) -> Option<Func> {
        static INDEX: OnceLock<HashMap<&'static str, &'static FuncDef>> = OnceLock::new();
        let index = INDEX.get_or_init(|| all().map(|def| (def.name, def)).collect());
        index.get(name).map(|def| Func(def))
    }

    /// A function that the caller knows to exist.
    ///
    /// # Panics
    /// If there is none of this name: for names that are constants of the program.
    #[track_caller]
    pub fn get(name: &str) -> Func {
        match Func::by_name(name) {
            Some(func) => func,
            None => panic!("no scalar function is named {name:?}"),
        }
    }

    pub fn name(self) -> &'static str {
        self.0.name
    }

    pub fn def(self) -> &'static FuncDef {
        self.0
    }

    /// The function whose result is the negation of this one's.
    pub fn negation(self) -> Option<Func> {
        self.0.negation.map(Func::get)
    }

    /// The function that takes this one's two arguments in the other order.
    pub fn commuted(self) -> Option<Func> {
        self.0.commuted.map(Func::get)
    }

    /// Whether this is the function with that name.
    #[inline]
    pub fn is(self, name: &str) -> bool {
        self.0.name == name
    }
}

impl std::ops::Deref for Func {
    type Target = FuncDef;

    #[inline]
    fn deref(&self) -> &FuncDef {
        self.0
    }
}

impl fmt::Debug for Func {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Display for Func {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl PartialEq for Func {
    #[inline]
    fn eq(&self, other: &Func) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Func {}

impl PartialOrd for Func {
    fn partial_cmp(&self, other: &Func) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Func {
    fn cmp(&self, other: &Func) -> Ordering {
        self.0.name.cmp(other.0.name)
    }
}

impl Hash for Func {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl Serialize for Func {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

impl<'de> Deserialize<'de> for Func {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Func, D::Error> {
        let name = String::deserialize(deserializer)?;
        Func::by_name(&name)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown scalar function {name:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plans name functions; two of one name, or a dangling reference, would change what a stored plan means.
    #[test]
    fn names_are_unique_and_references_resolve() {
        let mut seen = std::collections::BTreeSet::new();
        for def in all() {
            assert!(seen.insert(def.name), "{} is defined twice", def.name);
        }
        for def in all() {
            for name in def.negation.iter().chain(&def.commuted) {
                assert!(
                    Func::by_name(name).is_some(),
                    "{} refers to {name}",
                    def.name
                );
            }
            if let Some(name) = def.negation {
                assert_eq!(Func::get(name).def().negation, Some(def.name));
            }
            if let Some(name) = def.commuted {
                assert_eq!(Func::get(name).def().commuted, Some(def.name));
            }
        }
    }
}
