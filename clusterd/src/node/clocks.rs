//! Wall clocks of the nodes, compared: one that is far ahead must not hurry the environment's time (H21).
//!
//! Correctness does not depend on any clock: timestamps only ever rise. But a clock that is an hour ahead would carry all timestamps an hour ahead, and
//! they never come back. With three or more clocks known, this node's own among them, what it proposes is at most [`AHEAD_MAX`] ahead of their median.

use parking_lot::Mutex;
use repr::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

/// How far ahead of the median of all clocks a proposal may be.
pub const AHEAD_MAX: Duration = Duration::from_millis(500);
/// Fewer clocks than this have no median worth following.
const SAMPLES_MIN: usize = 3;

/// What this node knows of the other nodes' clocks.
#[derive(Default)]
pub struct Clocks {
    /// Microseconds that each other node's clock is ahead of this node's.
    ahead_us: Mutex<BTreeMap<NodeId, i64>>,
    /// The most that may be added to this node's clock; positive when it is not ahead.
    bound_us: AtomicI64,
    /// Whether enough clocks are known to bound this one.
    bounded: AtomicBool,
    /// Other nodes that are too far ahead of the median.
    hasty: Mutex<BTreeSet<NodeId>>,
}

impl Clocks {
    /// Takes in that `node`'s clock is `ahead_us` ahead of this node's.
    pub fn observe(&self, node: NodeId, ahead_us: i64) {
        let mut known = self.ahead_us.lock();
        known.insert(node, ahead_us);
        self.update(&known);
    }

    /// Only these nodes are left.
    pub fn retain(&self, nodes: &[NodeId]) {
        let mut known = self.ahead_us.lock();
        let before = known.len();
        known.retain(|node, _| nodes.contains(node));
        if known.len() != before {
            self.update(&known);
        }
    }

    /// `wall_us` by this node's clock, not further ahead than the others allow.
    pub fn clamp(&self, wall_us: u64) -> u64 {
        match self.bounded.load(Ordering::Acquire) {
            true if planted::is("h21") => wall_us,
            true => wall_us.saturating_add_signed(self.bound_us.load(Ordering::Acquire).min(0)),
            false => wall_us,
        }
    }

    /// How far each known node's clock is ahead of this one's, in microseconds.
    pub fn known(&self) -> BTreeMap<NodeId, i64> {
        self.ahead_us.lock().clone()
    }

    fn update(&self, known: &BTreeMap<NodeId, i64>) {
        let mut all: Vec<i64> = known.values().copied().chain([0]).collect();
        all.sort_unstable();
        let enough = all.len() >= SAMPLES_MIN;
        // The lower one of two in the middle: behind is harmless.
        let median = all[(all.len() - 1) / 2];
        let bound = median + AHEAD_MAX.as_micros() as i64;
        if enough {
            self.name_the_hasty(known, bound);
        }
        let before = self.bound_us.swap(bound, Ordering::AcqRel);
        self.bounded.store(enough, Ordering::Release);
        if enough && bound < 0 && before >= 0 {
            tracing::warn!(
                ahead_us = -median,
                "this node's clock is far ahead of the others'; it is not believed"
            );
        }
    }

    /// Says once of each other node that its clock is not believed, so that whoever looks here knows it too.
    fn name_the_hasty(&self, known: &BTreeMap<NodeId, i64>, bound: i64) {
        let now = hasty(known, bound);
        let mut told = self.hasty.lock();
        for node in now.difference(&told) {
            let ahead_us = known.get(node);
            tracing::warn!(%node, ahead_us, "that node's clock is far ahead of the others'; it is not believed");
        }
        *told = now;
    }
}

/// The nodes that are ahead by more than `bound`.
fn hasty(known: &BTreeMap<NodeId, i64>, bound: i64) -> BTreeSet<NodeId> {
    let ahead = known.iter().filter(|(_, ahead)| **ahead > bound);
    ahead.map(|(node, _)| *node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_US: i64 = 3_600_000_000;

    #[test]
    fn a_clock_far_ahead_of_two_others_is_held_back() {
        let clocks = Clocks::default();
        let now = 10 * HOUR_US as u64;
        clocks.observe(NodeId(2), -HOUR_US);
        // Two clocks that differ: nobody knows which is right.
        assert_eq!(clocks.clamp(now), now);
        clocks.observe(NodeId(3), -HOUR_US + 1_000);
        assert_eq!(clocks.clamp(now), now - HOUR_US as u64 + 1_000 + 500_000);
        clocks.retain(&[NodeId(2)]);
        assert_eq!(clocks.clamp(now), now);
    }

    #[test]
    fn the_others_know_whose_clock_is_ahead() {
        let clocks = Clocks::default();
        clocks.observe(NodeId(2), HOUR_US);
        assert!(clocks.hasty.lock().is_empty());
        clocks.observe(NodeId(3), 400_000);
        assert_eq!(*clocks.hasty.lock(), BTreeSet::from([NodeId(2)]));
        clocks.observe(NodeId(2), 1_000);
        assert!(clocks.hasty.lock().is_empty());
    }

    #[test]
    fn clocks_that_agree_or_are_ahead_change_nothing() {
        let clocks = Clocks::default();
        for (node, ahead) in [(2, -400_000), (3, 100_000), (4, HOUR_US)] {
            clocks.observe(NodeId(node), ahead);
        }
        assert_eq!(clocks.clamp(77), 77);
    }
}
