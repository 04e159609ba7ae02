//! Functions that return a set of rows.

use repr::SqlType;
use serde::{Deserialize, Serialize};

/// A set-returning function applied to each input row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TableFunc {
    /// `generate_series(start, stop, step)` over int4 (as int8 arguments and results cast by the planner), int8, or timestamps.
    GenerateSeriesInt32,
    GenerateSeriesInt64,
    GenerateSeriesTimestamp,
    GenerateSeriesTimestampTz,
    /// `unnest(array)`.
    Unnest { element: SqlType },
    /// `generate_subscripts(array, dim)`: int4.
    GenerateSubscripts,
    /// `regexp_split_to_table`-free way to repeat a row: emits the row as many times as its int8 argument says.
    Repeat,
}
