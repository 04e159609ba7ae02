//! Holds in the leader's memory: what keeps an export readable at a timestamp while a peek is under way.
//!
//! The table is shared: the peek path acquires and releases without asking the controller. Why no compaction overtakes a peek: each
//! export has one *frontier*, the highest grant that was ever proposed. [`HoldTable::acquire`] checks `frontier <= ts` and registers the
//! hold under one lock; the controller, under the same lock, raises the frontier no further than the least hold. So either the hold
//! was there first, and the grant stays at or below it, or the frontier was, and the acquisition is refused.
//!
//! A hold is dropped when every replica has answered its peek or has been told to cancel it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use repr::{GlobalId, Timestamp};
use thiserror::Error;

/// Locks, so that peeks of different exports seldom meet.
const STRIPES: u64 = 16;

/// Why a hold is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HoldError {
    /// This leader (or no leader here) knows no such export.
    #[error("{id} is not known here")]
    Unknown { id: GlobalId },
    #[error("{id} is readable from {since} on, not at {ts}")]
    Lost {
        id: GlobalId,
        since: Timestamp,
        ts: Timestamp,
    },
}

/// The exports of a CLUSTER while this node leads it, and the holds on them.
#[derive(Debug)]
pub struct HoldTable {
    stripes: Vec<Mutex<BTreeMap<GlobalId, Export>>>,
    /// How many exports were opened so far.
    opened: AtomicU64,
}

#[derive(Debug)]
struct Export {
    /// Tells it from an export of the same id that was closed before, whose holds may still be out.
    opening: u64,
    frontier: Timestamp,
    /// Timestamps held, and how often.
    holds: BTreeMap<Timestamp, usize>,
}

/// A promise that an export stays readable at `ts`. Dropping it gives it back.
#[derive(Debug)]
pub struct Hold {
    table: Arc<HoldTable>,
    id: GlobalId,
    opening: u64,
    ts: Timestamp,
}

impl Hold {
    pub fn ts(&self) -> Timestamp {
        self.ts
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut stripe = self.table.stripe(self.id);
        let Some(export) = stripe
            .get_mut(&self.id)
            .filter(|export| export.opening == self.opening)
        else {
            return;
        };
        if let Some(count) = export.holds.get_mut(&self.ts) {
            *count -= 1;
            if *count == 0 {
                export.holds.remove(&self.ts);
            }
        }
    }
}

impl HoldTable {
    pub fn new() -> Arc<HoldTable> {
        Arc::new(HoldTable {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            opened: AtomicU64::new(0),
        })
    }

    /// A map stays valid if a holder of its lock panics: each change is one insertion or assignment.
    fn stripe(&self, id: GlobalId) -> MutexGuard<'_, BTreeMap<GlobalId, Export>> {
        self.stripes[(id.0 % STRIPES) as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds an export at a timestamp.
    ///
    /// # Errors
    /// If the export is not known to a leader here, or the timestamp has been given up.
    pub fn acquire(self: &Arc<Self>, id: GlobalId, ts: Timestamp) -> Result<Hold, HoldError> {
        let mut stripe = self.stripe(id);
        let export = stripe.get_mut(&id).ok_or(HoldError::Unknown { id })?;
        if ts < export.frontier {
            return Err(HoldError::Lost {
                id,
                since: export.frontier,
                ts,
            });
        }
        *export.holds.entry(ts).or_insert(0) += 1;
        let opening = export.opening;
        drop(stripe);
        Ok(Hold {
            table: self.clone(),
            id,
            opening,
            ts,
        })
    }

    /// Where an export can be read from, if it is known.
    pub fn since(&self, id: GlobalId) -> Option<Timestamp> {
        self.stripe(id).get(&id).map(|export| export.frontier)
    }

    /// How many holds are out.
    pub fn outstanding(&self) -> usize {
        let in_stripe = |stripe: &Mutex<BTreeMap<GlobalId, Export>>| {
            let stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            stripe
                .values()
                .flat_map(|export| export.holds.values())
                .sum::<usize>()
        };
        self.stripes.iter().map(in_stripe).sum()
    }

    /// Begins to serve an export from a frontier on, or moves it up.
    pub(crate) fn open(&self, id: GlobalId, frontier: Timestamp) {
        let mut stripe = self.stripe(id);
        let export = stripe.entry(id).or_insert_with(|| Export {
            opening: self.opened.fetch_add(1, Ordering::Relaxed),
            frontier,
            holds: BTreeMap::new(),
        });
        export.frontier = export.frontier.max(frontier);
    }

    /// Gives up an export up to `wish` or the least hold. The answer is its frontier now.
    pub(crate) fn give_up(&self, id: GlobalId, wish: Timestamp) -> Option<Timestamp> {
        let mut stripe = self.stripe(id);
        let export = stripe.get_mut(&id)?;
        let least = export
            .holds
            .keys()
            .next()
            .copied()
            .unwrap_or(Timestamp::MAX);
        export.frontier = export.frontier.max(wish.min(least));
        Some(export.frontier)
    }

    pub(crate) fn close(&self, id: GlobalId) {
        self.stripe(id).remove(&id);
    }

    pub(crate) fn close_all(&self) {
        let clear = |stripe: &Mutex<BTreeMap<GlobalId, Export>>| {
            stripe
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear()
        };
        self.stripes.iter().for_each(clear);
    }
}
