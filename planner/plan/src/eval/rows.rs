//! A collection as the interpreter holds it.

use crate::error::EvalError;
use repr::{Diff, Row};
use std::sync::Arc;

/// Rows with multiplicities, not necessarily consolidated, and the least error met on the way to them.
#[derive(Clone)]
pub(super) struct Rows {
    pub rows: Arc<Vec<(Row, Diff)>>,
    pub error: Option<EvalError>,
}

impl Rows {
    pub fn new(rows: Vec<(Row, Diff)>) -> Rows {
        Rows {
            rows: Arc::new(rows),
            error: None,
        }
    }

    pub fn failed(error: EvalError) -> Rows {
        Rows {
            rows: Arc::new(vec![]),
            error: Some(error),
        }
    }

    pub fn consolidated(self) -> Rows {
        let sorted = self.rows.is_sorted_by(|(l, _), (r, _)| l < r)
            && self.rows.iter().all(|(_, diff)| *diff != 0);
        if sorted {
            return self;
        }
        let mut rows = Arc::unwrap_or_clone(self.rows);
        consolidate(&mut rows);
        Rows {
            rows: Arc::new(rows),
            error: self.error,
        }
    }

    /// Without rows that come and go: an outer join subtracts what it has matched, and evaluating over rows that are not there
    /// could raise errors that nothing takes back.
    pub fn without_cancelled(self) -> Rows {
        match self.rows.iter().any(|(_, diff)| *diff <= 0) {
            true => self.consolidated(),
            false => self,
        }
    }

    pub fn map_diffs(self, f: impl Fn(Diff) -> Diff) -> Rows {
        let mut rows = Arc::unwrap_or_clone(self.rows);
        rows.iter_mut().for_each(|(_, diff)| *diff = f(*diff));
        rows.retain(|(_, diff)| *diff != 0);
        Rows {
            rows: Arc::new(rows),
            error: self.error,
        }
    }
}

/// Sorts by row bytes, adds up the multiplicities of each row and drops those that come to zero.
pub fn consolidate(rows: &mut Vec<(Row, Diff)>) {
    rows.sort_unstable_by(|(l, _), (r, _)| l.cmp(r));
    let mut kept: usize = 0;
    for i in 0..rows.len() {
        if kept > 0 && rows[kept - 1].0 == rows[i].0 {
            let diff = rows[i].1;
            rows[kept - 1].1 = rows[kept - 1].1.saturating_add(diff);
            continue;
        }
        // The last group is complete: a sum of zero makes room for the next.
        if kept > 0 && rows[kept - 1].1 == 0 {
            kept -= 1;
        }
        rows.swap(kept, i);
        kept += 1;
    }
    if kept > 0 && rows[kept - 1].1 == 0 {
        kept -= 1;
    }
    rows.truncate(kept);
}
