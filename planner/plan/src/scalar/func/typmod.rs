//! Type modifiers: `numeric(p, s)`, `varchar(n)`, `char(n)`, `timestamp(p)`. The modifier is that of the call's result type.

use super::{EvalResult, FuncDef};
use crate::error::EvalError;
use repr::{ArrayDim, Datum, PgTimestamp, RowArena, SqlType};

pub(super) static TABLE: &[FuncDef] = &[
    // An explicit cast: text that is too long is cut.
    FuncDef::fallible("apply_typmod", |_, ty, a, arena| apply(a[0], ty, Excess::Cut, arena)),
    // Assignment to a column: text that is too long is an error, unless all that is lost are spaces.
    FuncDef::fallible("apply_typmod_assign", |_, ty, a, arena| apply(a[0], ty, Excess::Refuse, arena)),
];

#[derive(Clone, Copy)]
enum Excess {
    Cut,
    Refuse,
}

fn apply<'a>(value: Datum<'a>, ty: &SqlType, excess: Excess, arena: &'a RowArena) -> EvalResult<'a> {
    match (ty, value) {
        (SqlType::Numeric(Some(typmod)), Datum::Numeric(v)) => Ok(Datum::Numeric(v.apply_typmod(*typmod)?)),
        (SqlType::Varchar(Some(n)), Datum::String(s)) => Ok(Datum::String(cut(s, *n, ty, excess)?)),
        (SqlType::Char(Some(n)), Datum::String(s)) => {
            let cut = cut(s, *n, ty, excess)?;
            let missing = (*n as usize).saturating_sub(cut.chars().count());
            super::text::check_length(missing)?;
            Ok(Datum::String(if missing == 0 { cut } else { arena.push_string(cut.to_owned() + &" ".repeat(missing)) }))
        }
        (SqlType::Name, Datum::String(s)) => Ok(Datum::String(&s[..s.floor_char_boundary(NAME_BYTES_MAX)])),
        (SqlType::Timestamp(Some(p)), Datum::Timestamp(t)) => Ok(Datum::Timestamp(round_timestamp(t, *p))),
        (SqlType::TimestampTz(Some(p)), Datum::TimestampTz(t)) => Ok(Datum::TimestampTz(round_timestamp(t, *p))),
        (SqlType::Array(element), Datum::Array(array)) => {
            let dims: Vec<ArrayDim> = array.dims().collect();
            let elements =
                array.iter().map(|e| apply(e, element, excess, arena)).collect::<Result<Vec<Datum<'_>>, EvalError>>()?;
            Ok(arena.make_datum(|packer| packer.push_array(&dims, elements.iter())))
        }
        (_, other) => Ok(other),
    }
}

/// The longest `name`, in bytes.
const NAME_BYTES_MAX: usize = 63;

fn cut<'a>(s: &'a str, n: u32, ty: &SqlType, excess: Excess) -> Result<&'a str, EvalError> {
    let Some((end, _)) = s.char_indices().nth(n as usize) else { return Ok(s) };
    match excess {
        Excess::Refuse if s[end..].bytes().any(|b| b != b' ') => {
            Err(EvalError::new("22001", format!("value too long for type {}", ty.pg_name())))
        }
        Excess::Refuse | Excess::Cut => Ok(&s[..end]),
    }
}

/// To `precision` digits after the second, halves away from zero (of the year 2000, as PostgreSQL counts).
fn round_timestamp(t: PgTimestamp, precision: u8) -> PgTimestamp {
    if !t.is_finite() || precision >= 6 {
        return t;
    }
    let unit = 10i64.pow(6 - u32::from(precision));
    let half = if t.0 >= 0 { unit / 2 } else { -unit / 2 };
    PgTimestamp((t.0 + half) / unit * unit)
}
