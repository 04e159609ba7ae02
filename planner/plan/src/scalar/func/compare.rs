//! Comparisons. One implementation serves all types: datums of one type are ordered as SQL orders them.
//!
//! Only `character(n)` needs its own: trailing spaces do not count there.

use super::FuncDef;
use crate::scalar::EvalError;
use repr::{Datum, Row, RowRef};

pub(super) static TABLE: &[FuncDef] = &[
    FuncDef::strict("eq", |_, _, a, _| Ok(Datum::Bool(a[0] == a[1])))
        .negated_by("ne")
        .commutes_to("eq"),
    FuncDef::strict("ne", |_, _, a, _| Ok(Datum::Bool(a[0] != a[1])))
        .negated_by("eq")
        .commutes_to("ne"),
    FuncDef::strict("lt", |_, _, a, _| Ok(Datum::Bool(a[0] < a[1])))
        .negated_by("ge")
        .commutes_to("gt"),
    FuncDef::strict("le", |_, _, a, _| Ok(Datum::Bool(a[0] <= a[1])))
        .negated_by("gt")
        .commutes_to("ge"),
    FuncDef::strict("gt", |_, _, a, _| Ok(Datum::Bool(a[0] > a[1])))
        .negated_by("le")
        .commutes_to("lt"),
    FuncDef::strict("ge", |_, _, a, _| Ok(Datum::Bool(a[0] >= a[1])))
        .negated_by("lt")
        .commutes_to("le"),
    FuncDef::null_aware("is_distinct_from", |_, _, a, _| {
        Ok(Datum::Bool(a[0] != a[1]))
    })
    .negated_by("is_not_distinct_from")
    .commutes_to("is_distinct_from"),
    FuncDef::null_aware("is_not_distinct_from", |_, _, a, _| {
        Ok(Datum::Bool(a[0] == a[1]))
    })
    .negated_by("is_distinct_from")
    .commutes_to("is_not_distinct_from"),
    FuncDef::strict("bpchareq", |_, _, a, _| {
        Ok(Datum::Bool(trimmed(a[0]) == trimmed(a[1])))
    })
    .negated_by("bpcharne")
    .commutes_to("bpchareq"),
    FuncDef::strict("bpcharne", |_, _, a, _| {
        Ok(Datum::Bool(trimmed(a[0]) != trimmed(a[1])))
    })
    .negated_by("bpchareq")
    .commutes_to("bpcharne"),
    FuncDef::strict("bpcharlt", |_, _, a, _| {
        Ok(Datum::Bool(trimmed(a[0]) < trimmed(a[1])))
    })
    .negated_by("bpcharge")
    .commutes_to("bpchargt"),
    FuncDef::strict("bpcharle", |_, _, a, _| {
        Ok(Datum::Bool(trimmed(a[0]) <= trimmed(a[1])))
    })
    .negated_by("bpchargt")
    .commutes_to("bpcharge"),
    FuncDef::strict("bpchargt", |_, _, a, _| {
        Ok(Datum::Bool(trimmed(a[0]) > trimmed(a[1])))
    })
    .negated_by("bpcharle")
    .commutes_to("bpcharlt"),
    FuncDef::strict("bpcharge", |_, _, a, _| {
        Ok(Datum::Bool(trimmed(a[0]) >= trimmed(a[1])))
    })
    .negated_by("bpcharlt")
    .commutes_to("bpcharle"),
    // The representative of all values equal to this one; the type is the call's.
    FuncDef::null_aware("key_canonical", |_, ty, a, arena| {
        Ok(a[0].key_canonical(ty, arena))
    })
    .nullable(),
    // A value's bytes: equal for identical values only, NULL included. And back; the type is the call's.
    FuncDef::null_aware("identity", |_, _, a, arena| {
        Ok(Datum::Bytes(
            arena.push_bytes(Row::pack_slice(&a[..1]).as_bytes()),
        ))
    }),
    FuncDef::strict("of_identity", |_, _, a, _| {
        let Datum::Bytes(bytes) = a[0] else {
            return Err(no_identity());
        };
        let row = RowRef::from_bytes(bytes).map_err(|_| no_identity())?;
        row.iter().next().ok_or_else(no_identity)
    })
    .nullable(),
];

fn no_identity() -> EvalError {
    EvalError::new("XX000", "these bytes are not those of a value")
}

fn trimmed(d: Datum<'_>) -> &str {
    d.unwrap_str().trim_end_matches(' ')
}
