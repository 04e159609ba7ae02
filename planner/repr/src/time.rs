//! Dates, times, timestamps and intervals, with Postgres's ranges and meaning.

pub mod arith;
pub mod calendar;
mod error;
pub mod field;
pub mod zone;

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

pub use calendar::{CivilDate, CivilTime};
pub use error::TimeError;
pub use field::DateField;
pub use zone::TimeZone;

/// Microseconds in a second.
pub const USECS_PER_SEC: i64 = 1_000_000;
/// Microseconds in a minute.
pub const USECS_PER_MINUTE: i64 = 60 * USECS_PER_SEC;
/// Microseconds in an hour.
pub const USECS_PER_HOUR: i64 = 60 * USECS_PER_MINUTE;
/// Microseconds in a day of 24 hours.
pub const USECS_PER_DAY: i64 = 24 * USECS_PER_HOUR;
/// From the Unix epoch (1970-01-01) to the Postgres epoch (2000-01-01).
pub const UNIX_TO_PG_EPOCH_DAYS: i32 = 10_957;
/// From the Unix epoch to the Postgres epoch.
pub const UNIX_TO_PG_EPOCH_USECS: i64 = UNIX_TO_PG_EPOCH_DAYS as i64 * USECS_PER_DAY;

/// A calendar day: days since 2000-01-01, or one of the infinities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Date(pub i32);

impl Date {
    /// Later than every other date.
    pub const INFINITY: Date = Date(i32::MAX);
    /// Earlier than every other date.
    pub const NEG_INFINITY: Date = Date(i32::MIN);

    /// Whether this is a real day.
    pub fn is_finite(self) -> bool {
        self != Date::INFINITY && self != Date::NEG_INFINITY
    }
}

/// A time of day: microseconds since midnight, 0 to 24:00:00 inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub i64);

/// Microseconds since 2000-01-01 00:00:00, or one of the infinities. Whether it is in UTC
/// (`timestamptz`) or in no zone (`timestamp`) is known by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PgTimestamp(pub i64);

impl PgTimestamp {
    /// Later than every other timestamp.
    pub const INFINITY: PgTimestamp = PgTimestamp(i64::MAX);
    /// Earlier than every other timestamp.
    pub const NEG_INFINITY: PgTimestamp = PgTimestamp(i64::MIN);

    /// Whether this is a real point in time.
    pub fn is_finite(self) -> bool {
        self != PgTimestamp::INFINITY && self != PgTimestamp::NEG_INFINITY
    }
}

/// A span of time in three parts that do not convert exactly into each other.
///
/// `Eq`, `Ord` and `Hash` are Postgres's: a month counts as 30 days and a day as 24 hours, so that
/// `1 month = 30 days` although the two are not identical.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Interval {
    /// Months, of any length.
    pub months: i32,
    /// Days, of any length.
    pub days: i32,
    /// Microseconds.
    pub micros: i64,
}

impl Interval {
    /// The empty span.
    pub const ZERO: Interval = Interval {
        months: 0,
        days: 0,
        micros: 0,
    };

    /// A span of months, days and microseconds.
    pub fn new(months: i32, days: i32, micros: i64) -> Interval {
        Interval {
            months,
            days,
            micros,
        }
    }

    /// The length in microseconds with months of 30 days and days of 24 hours: what comparisons use.
    pub fn justified_usecs(self) -> i128 {
        let days = i128::from(self.months) * 30 + i128::from(self.days);
        days * i128::from(USECS_PER_DAY) + i128::from(self.micros)
    }

    /// The one representative of all intervals that compare equal to this one: months of 30 days
    /// first, then days of 24 hours, then microseconds, all with the sign of the whole. Where the
    /// months overflow, the rest stays in the smaller parts.
    pub fn key_canonical(self) -> Interval {
        let total = self.justified_usecs();
        let day = i128::from(USECS_PER_DAY);
        let (days, micros) = (total / day, total % day);
        let months = (days / 30).clamp(i128::from(i32::MIN), i128::from(i32::MAX));
        let days = days - months * 30;
        let day_part = days.clamp(i128::from(i32::MIN), i128::from(i32::MAX));
        let micros = micros + (days - day_part) * day;
        Interval {
            months: months as i32,
            days: day_part as i32,
            micros: micros as i64,
        }
    }
}

impl PartialEq for Interval {
    fn eq(&self, other: &Interval) -> bool {
        self.justified_usecs() == other.justified_usecs()
    }
}

impl Eq for Interval {}

impl PartialOrd for Interval {
    fn partial_cmp(&self, other: &Interval) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Interval {
    fn cmp(&self, other: &Interval) -> Ordering {
        self.justified_usecs().cmp(&other.justified_usecs())
    }
}

impl Hash for Interval {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.justified_usecs().hash(state);
    }
}
