//! Where a subscription goes on after whoever computed it is gone.
//!
//! The content of a collection at a time is the same whoever computes it. So a subscription may be begun anew anywhere, at the last time that is
//! complete, and what its owner has seen already is left out: no gap, nothing twice.

use protocol::compute::SubscribeBatch;
use repr::Timestamp;

/// What the owner of a subscription has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    as_of: Timestamp,
    /// Changes before this time have been handed on; `None`: all there will ever be.
    delivered: Option<Timestamp>,
}

impl Resume {
    /// Nothing yet of a subscription that begins at `as_of`.
    pub fn new(as_of: Timestamp) -> Resume {
        Resume {
            as_of,
            delivered: Some(0),
        }
    }

    /// The time at which a dataflow that begins anew has to read its inputs.
    pub fn needed_from(&self) -> Timestamp {
        match self.delivered {
            Some(delivered) => self.as_of.max(delivered.saturating_sub(1)),
            None => Timestamp::MAX,
        }
    }

    /// Whether it begins with the rows that are there at [`Resume::needed_from`], if it ever did: not once they have been handed on.
    pub fn wants_snapshot(&self) -> bool {
        self.delivered
            .is_some_and(|delivered| delivered <= self.as_of)
    }

    /// What of a batch is new; `None` if nothing, or if it does not join what has been handed on.
    pub fn accept(&mut self, mut batch: SubscribeBatch) -> Option<SubscribeBatch> {
        let delivered = self.delivered?;
        let beyond = batch.upper.is_none_or(|upper| upper > delivered);
        // A gap would lose changes: the batch belongs to a dataflow that began later than what was handed on.
        let joins = batch.lower <= delivered.max(self.as_of);
        if !beyond || !joins {
            return None;
        }
        if let Ok(updates) = &mut batch.updates {
            updates.retain(|(time, _, _)| *time >= delivered);
        }
        batch.lower = batch.lower.max(delivered);
        self.delivered = batch.upper;
        Some(batch)
    }
}
