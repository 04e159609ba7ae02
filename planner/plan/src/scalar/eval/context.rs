//! Session settings that evaluation depends on.

use crate::scalar::catalog_fns::CatalogFns;
use repr::format::{FormatCtx, write_text};
use repr::{Datum, SqlType, TimeZone};
use std::sync::Arc;

/// What an evaluation may know of its session. The default (time zone UTC, ISO styles) is what dataflows use, so that a view's
/// content does not depend on who reads it.
#[derive(Clone, Debug, Default)]
pub struct EvalCtx {
    pub format: FormatCtx,
    /// The catalog, for the functions that look into it; dataflows have none.
    pub catalog: Option<Arc<dyn CatalogFns>>,
}

impl EvalCtx {
    pub fn new(format: FormatCtx) -> EvalCtx {
        EvalCtx {
            format,
            catalog: None,
        }
    }

    /// The session's time zone.
    #[inline]
    pub fn zone(&self) -> &TimeZone {
        &self.format.timezone
    }

    /// Appends the text form of a value whose type only the value itself tells.
    pub fn write_text(&self, datum: Datum<'_>, out: &mut String) {
        write_text(&type_of(datum), datum, &self.format, out).expect("strings take all text");
    }
}

/// A type whose text form is that of the value's type. NULL is taken for text.
fn type_of(datum: Datum<'_>) -> SqlType {
    match datum {
        Datum::Bool(_) => SqlType::Bool,
        Datum::Int16(_) => SqlType::Int16,
        Datum::Int32(_) => SqlType::Int32,
        Datum::Int64(_) => SqlType::Int64,
        Datum::Float32(_) => SqlType::Float32,
        Datum::Float64(_) => SqlType::Float64,
        Datum::Numeric(_) => SqlType::Numeric(None),
        Datum::Null | Datum::String(_) => SqlType::Text,
        Datum::Bytes(_) => SqlType::Bytea,
        Datum::Date(_) => SqlType::Date,
        Datum::Time(_) => SqlType::Time,
        Datum::Timestamp(_) => SqlType::Timestamp(None),
        Datum::TimestampTz(_) => SqlType::TimestampTz(None),
        Datum::Interval(_) => SqlType::Interval,
        Datum::Uuid(_) => SqlType::Uuid,
        Datum::Oid(_) => SqlType::Oid,
        Datum::MzTimestamp(_) => SqlType::MzTimestamp,
        Datum::Array(array) => {
            let element = array
                .iter()
                .find(|d| !d.is_null())
                .map_or(SqlType::Text, type_of);
            // Only the vector types start at zero.
            let from_zero = array.ndims() == 1 && array.dims().all(|d| d.lower_bound == 0);
            match element {
                SqlType::Int16 if from_zero => SqlType::Int2Vector,
                SqlType::Oid if from_zero => SqlType::OidVector,
                element => element.array_of(),
            }
        }
        Datum::Record(record) => SqlType::Record(record.iter().map(type_of).collect()),
    }
}
