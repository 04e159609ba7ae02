//! Seeded choices.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The one source of randomness of a run: the same seed makes the same tables, changes and queries.
pub struct Dice(StdRng);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(StdRng::seed_from_u64(seed))
    }

    /// A number of `low..high`.
    pub fn range(&mut self, low: i64, high: i64) -> i64 {
        self.0.random_range(low..high)
    }

    /// An index of `0..len`.
    pub fn index(&mut self, len: usize) -> usize {
        self.0.random_range(0..len)
    }

    /// True in `percent` of the cases.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }
}
