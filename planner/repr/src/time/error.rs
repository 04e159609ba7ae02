//! What can go wrong with dates and times.

use thiserror::Error;

/// Why a date or time operation has no result.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TimeError {
    /// A timestamp before 4713 BC or after 294276 AD.
    #[error("timestamp out of range")]
    TimestampOutOfRange,
    /// A date before 4713 BC or after 5874897 AD.
    #[error("date out of range")]
    DateOutOfRange,
    /// A date that is too late for a timestamp.
    #[error("date out of range for timestamp")]
    DateOutOfRangeForTimestamp,
    /// A part of an interval does not fit.
    #[error("interval out of range")]
    IntervalOutOfRange,
    /// An infinity has no distance.
    #[error("cannot subtract infinite timestamps")]
    InfiniteTimestamps,
    /// An infinity has no distance.
    #[error("cannot subtract infinite dates")]
    InfiniteDates,
    /// An interval divided by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// No such unit.
    #[error("unit \"{unit}\" not recognized for type {ty}")]
    UnknownUnit {
        /// The unit as given, in lower case.
        unit: String,
        /// The type's SQL name.
        ty: &'static str,
    },
    /// A unit which this type does not have.
    #[error("unit \"{unit}\" not supported for type {ty}")]
    UnsupportedUnit {
        /// The unit as given, in lower case.
        unit: String,
        /// The type's SQL name.
        ty: &'static str,
    },
    /// No such time zone.
    #[error("time zone \"{0}\" not recognized")]
    UnknownZone(String),
    /// The parts make no date.
    #[error("date field value out of range: {year}-{month:02}-{day:02}")]
    InvalidDate {
        /// The year.
        year: i32,
        /// The month.
        month: i32,
        /// The day.
        day: i32,
    },
}

impl TimeError {
    /// The five-character SQLSTATE.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            TimeError::TimestampOutOfRange
            | TimeError::DateOutOfRange
            | TimeError::DateOutOfRangeForTimestamp
            | TimeError::IntervalOutOfRange
            | TimeError::InfiniteTimestamps
            | TimeError::InfiniteDates
            | TimeError::InvalidDate { .. } => "22008",
            TimeError::DivisionByZero => "22012",
            TimeError::UnknownUnit { .. } | TimeError::UnknownZone(_) => "22023",
            TimeError::UnsupportedUnit { .. } => "0A000",
        }
    }
}
