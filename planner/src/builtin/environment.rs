//! What is not in any one schema: pg_namespace, pg_database, pg_roles, pg_user, pg_tablespace.

use super::BuiltinCtx;
use super::object::{SYSTEM_OWNER, oid};
use super::table::Table;
use repr::Datum;

/// PostgreSQL's number of the encoding UTF8.
const UTF8: i32 = 6;
/// The tablespaces that PostgreSQL always has.
const TABLESPACES: &[(u32, &str)] = &[(DEFAULT_TABLESPACE, "pg_default"), (1664, "pg_global")];
const DEFAULT_TABLESPACE: u32 = 1663;

pub(super) fn pg_namespace(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for (id, name, owner) in ctx.namespaces() {
        table.add(&[
            ("oid", Datum::Oid(id)),
            ("nspname", Datum::String(name)),
            ("nspowner", Datum::Oid(owner)),
        ]);
    }
}

pub(super) fn pg_database(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for database in ctx.catalog.databases.values() {
        table.add(&[
            ("oid", Datum::Oid(oid(database.id.0))),
            ("datname", Datum::String(&database.name)),
            ("datdba", Datum::Oid(SYSTEM_OWNER)),
            ("encoding", Datum::Int32(UTF8)),
            ("datlocprovider", Datum::String("c")),
            ("datallowconn", Datum::TRUE),
            ("datconnlimit", Datum::Int32(-1)),
            ("dattablespace", Datum::Oid(DEFAULT_TABLESPACE)),
            ("datcollate", Datum::String("C")),
            ("datctype", Datum::String("C")),
        ]);
    }
}

pub(super) fn pg_roles(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for role in ctx.catalog.roles.values() {
        let superuser = Datum::Bool(role.superuser);
        table.add(&[
            ("rolname", Datum::String(&role.name)),
            ("rolsuper", superuser),
            ("rolinherit", Datum::TRUE),
            ("rolcreaterole", superuser),
            ("rolcreatedb", superuser),
            ("rolcanlogin", Datum::TRUE),
            ("rolreplication", Datum::FALSE),
            ("rolconnlimit", Datum::Int32(-1)),
            ("rolpassword", Datum::String("********")),
            ("rolbypassrls", superuser),
            ("oid", Datum::Oid(oid(role.id.0))),
        ]);
    }
}

pub(super) fn pg_user(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for role in ctx.catalog.roles.values() {
        let superuser = Datum::Bool(role.superuser);
        table.add(&[
            ("usename", Datum::String(&role.name)),
            ("usesysid", Datum::Oid(oid(role.id.0))),
            ("usecreatedb", superuser),
            ("usesuper", superuser),
            ("userepl", Datum::FALSE),
            ("usebypassrls", superuser),
            ("passwd", Datum::String("********")),
        ]);
    }
}

pub(super) fn pg_tablespace(table: &mut Table) {
    for (id, name) in TABLESPACES {
        table.add(&[
            ("oid", Datum::Oid(*id)),
            ("spcname", Datum::String(name)),
            ("spcowner", Datum::Oid(SYSTEM_OWNER)),
        ]);
    }
}
