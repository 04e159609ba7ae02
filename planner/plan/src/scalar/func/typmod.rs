//! Type modifiers: `numeric(p, s)`, `varchar(n)`, `char(n)`, `timestamp(p)`. The modifier is that of the call's result type.

use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use repr::format::{char_fit, name_fit, varchar_fit};
use repr::{ArrayDim, Datum, RowArena, SqlType};

pub(super) static TABLE: &[FuncDef] = &[
    // An explicit cast: text that is too long is cut.
    FuncDef::fallible("apply_typmod", |_, ty, a, arena| {
        apply(a[0], ty, true, arena)
    }),
    // Assignment to a column: text that is too long is an error, unless all that is lost are spaces.
    FuncDef::fallible("apply_typmod_assign", |_, ty, a, arena| {
        apply(a[0], ty, false, arena)
    }),
];

fn apply<'a>(
    value: Datum<'a>,
    ty: &SqlType,
    explicit: bool,
    arena: &'a RowArena,
) -> EvalResult<'a> {
    Ok(match (ty, value) {
        (SqlType::Numeric(Some(typmod)), Datum::Numeric(v)) => {
            Datum::Numeric(v.apply_typmod(*typmod)?)
        }
        (SqlType::Varchar(length), Datum::String(s)) => {
            Datum::String(varchar_fit(s, *length, explicit)?)
        }
        (SqlType::Char(length), Datum::String(s)) => {
            Datum::String(char_fit(s, *length, explicit, arena)?)
        }
        (SqlType::Name, Datum::String(s)) => Datum::String(name_fit(s)),
        (SqlType::Timestamp(Some(digits)), Datum::Timestamp(t)) => {
            Datum::Timestamp(t.round_to_digits(*digits))
        }
        (SqlType::TimestampTz(Some(digits)), Datum::TimestampTz(t)) => {
            Datum::TimestampTz(t.round_to_digits(*digits))
        }
        (SqlType::Array(element), Datum::Array(array)) => {
            let dims: Vec<ArrayDim> = array.dims().collect();
            let elements = array
                .iter()
                .map(|e| apply(e, element, explicit, arena))
                .collect::<Result<Vec<Datum<'_>>, EvalError>>()?;
            arena.make_datum(|packer| packer.push_array(&dims, elements.iter()))
        }
        (_, other) => other,
    })
}
