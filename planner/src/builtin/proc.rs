//! Functions as objects: pg_proc, and looking functions up by name or OID.

use super::object::SYSTEM_OWNER;
use super::schema_oid;
use super::table::{Table, vector};
use super::type_info::io_functions;
use crate::func;
use crate::session::PG_CATALOG;
use repr::{Datum, RowArena, SqlType};
use std::collections::BTreeSet;
use std::sync::OnceLock;

/// A function of pg_catalog.
#[derive(Debug)]
pub(super) struct Function {
    pub oid: u32,
    pub name: &'static str,
    pub args: Vec<SqlType>,
    pub variadic: bool,
    pub ret: SqlType,
    /// `pg_proc.prokind`: `f` for a function, `a` for an aggregate.
    pub kind: &'static str,
    /// `pg_proc.prosrc`.
    pub source: &'static str,
}

/// Functions get their OIDs in the order of their names, from here on.
const FIRST_OID: u32 = 13_000;

const AGGREGATES: &str = "
array_agg(anyelement) anyarray aggregate_dummy
avg(int2) numeric aggregate_dummy
avg(int4) numeric aggregate_dummy
avg(int8) numeric aggregate_dummy
avg(numeric) numeric aggregate_dummy
avg(float4) float8 aggregate_dummy
avg(float8) float8 aggregate_dummy
avg(interval) interval aggregate_dummy
bool_and(bool) bool aggregate_dummy
bool_or(bool) bool aggregate_dummy
count() int8 aggregate_dummy
count(any) int8 aggregate_dummy
every(bool) bool aggregate_dummy
max(anyelement) anyelement aggregate_dummy
min(anyelement) anyelement aggregate_dummy
string_agg(text,text) text aggregate_dummy
sum(int2) int8 aggregate_dummy
sum(int4) int8 aggregate_dummy
sum(int8) numeric aggregate_dummy
sum(numeric) numeric aggregate_dummy
sum(float4) float4 aggregate_dummy
sum(float8) float8 aggregate_dummy
sum(interval) interval aggregate_dummy
";

/// All functions, by OID.
pub(super) fn functions() -> &'static [Function] {
    static FUNCTIONS: OnceLock<Vec<Function>> = OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        let mut signatures: Vec<(&func::Signature, &'static str)> = func::all_functions()
            .into_iter()
            .map(|s| (s, "f"))
            .collect();
        let aggregates: &'static [func::Signature] = aggregates();
        signatures.extend(aggregates.iter().map(|s| (s, "a")));
        signatures.sort_by(|a, b| (a.0.name, a.0.func).cmp(&(b.0.name, b.0.func)));
        let numbered = signatures
            .into_iter()
            .zip(FIRST_OID..)
            .map(|((signature, kind), oid)| Function {
                oid,
                name: signature.name,
                args: signature.args.clone(),
                variadic: signature.variadic,
                ret: signature.ret.clone(),
                kind,
                source: signature.func,
            });
        let mut all: Vec<Function> = numbered.collect();
        let distinct: BTreeSet<(u32, &str)> =
            io_functions().map(|(name, oid)| (oid, name)).collect();
        all.extend(distinct.into_iter().map(|(oid, name)| Function {
            oid,
            name,
            args: vec![],
            variadic: false,
            ret: SqlType::Void,
            kind: "f",
            source: name,
        }));
        all.sort_by_key(|f| f.oid);
        all
    })
}

fn aggregates() -> &'static [func::Signature] {
    static AGGREGATE_SIGNATURES: OnceLock<Vec<func::Signature>> = OnceLock::new();
    AGGREGATE_SIGNATURES.get_or_init(|| func::parse_signatures(AGGREGATES))
}

pub(super) fn by_oid(oid: u32) -> Option<&'static Function> {
    let all = functions();
    all.binary_search_by_key(&oid, |f| f.oid)
        .ok()
        .map(|i| &all[i])
}

pub(super) fn by_name(name: &str) -> impl Iterator<Item = &'static Function> {
    functions().iter().filter(move |f| f.name == name)
}

impl Function {
    /// `text, VARIADIC integer`, as `\df` prints it.
    pub fn arguments(&self) -> String {
        let last = self.args.len().saturating_sub(1);
        let name = |(i, ty): (usize, &SqlType)| match self.variadic && i == last {
            true => format!("VARIADIC {}", ty.base_name()),
            false => ty.base_name(),
        };
        let names: Vec<String> = self.args.iter().enumerate().map(name).collect();
        names.join(", ")
    }

    /// `lower(text)`: how `regprocedure` is written.
    pub fn signature(&self) -> String {
        let types: Vec<String> = self.args.iter().map(SqlType::base_name).collect();
        format!("{}({})", self.name, types.join(","))
    }
}

pub(super) fn pg_proc(table: &mut Table) {
    let arena = RowArena::new();
    for function in functions() {
        let variadic = match function.variadic {
            true => function.args.last().map_or(0, SqlType::oid),
            false => 0,
        };
        table.add(&[
            ("oid", Datum::Oid(function.oid)),
            ("proname", Datum::String(function.name)),
            (
                "pronamespace",
                Datum::Oid(schema_oid(PG_CATALOG).unwrap_or(0)),
            ),
            ("proowner", Datum::Oid(SYSTEM_OWNER)),
            // The language `internal`.
            ("prolang", Datum::Oid(12)),
            ("procost", Datum::Float32(1.0)),
            ("provariadic", Datum::Oid(variadic)),
            ("prokind", Datum::String(function.kind)),
            ("proisstrict", Datum::TRUE),
            ("provolatile", Datum::String("i")),
            ("proparallel", Datum::String("s")),
            (
                "pronargs",
                Datum::Int16(i16::try_from(function.args.len()).unwrap_or(i16::MAX)),
            ),
            ("prorettype", Datum::Oid(function.ret.oid())),
            (
                "proargtypes",
                vector(function.args.iter().map(|t| Datum::Oid(t.oid())), &arena),
            ),
            ("prosrc", Datum::String(function.source)),
        ]);
    }
}
