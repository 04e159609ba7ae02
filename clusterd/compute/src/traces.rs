//! The arrangements that dataflows export, by id.

use crate::error_row;
use crate::render::{DataflowToken, RenderError};
use crate::types::*;
use differential_dataflow::trace::{Cursor, TraceReader};
use plan::lir::{Dataflow, KeyValPermutation};
use plan::{EvalError, ScalarExpr};
use repr::GlobalId;
use std::collections::BTreeMap;
use std::rc::Rc;
use timely::progress::Antichain;

/// An exported arrangement, with the errors of its collection beside.
pub struct TraceEntry {
    pub split: Rc<KeyValPermutation>,
    pub oks: RowTrace,
    pub err_split: Rc<KeyValPermutation>,
    pub errs: RowTrace,
}

impl TraceEntry {
    pub fn new(split: Rc<KeyValPermutation>, oks: RowTrace, errs: RowTrace) -> Self {
        let key = (0..4).map(ScalarExpr::Column).collect();
        let err_split = Rc::new(KeyValPermutation {
            key,
            value: vec![],
            permutation: vec![0, 1, 2, 3],
        });
        TraceEntry {
            split,
            oks,
            err_split,
            errs,
        }
    }

    /// The arrangement and its errors are complete before this time; `None`: for ever.
    pub fn upper(&mut self) -> Option<T> {
        let mut upper = Antichain::new();
        self.oks.read_upper(&mut upper);
        let oks = upper.first().copied();
        self.errs.read_upper(&mut upper);
        [oks, upper.first().copied()].into_iter().flatten().min()
    }

    /// Lets batches merge up to what is complete. Without this they never do.
    pub fn allow_merging(&mut self) {
        let mut upper = Antichain::new();
        self.oks.read_upper(&mut upper);
        self.oks.set_physical_compaction(upper.borrow());
        self.errs.read_upper(&mut upper);
        self.errs.set_physical_compaction(upper.borrow());
    }

    fn compact_to(&mut self, frontier: T) {
        let frontier = Antichain::from_elem(frontier);
        self.oks.set_logical_compaction(frontier.borrow());
        self.errs.set_logical_compaction(frontier.borrow());
    }

    /// Whether there is, or was, any error in the collection.
    pub fn holds_errors(&mut self) -> bool {
        let (cursor, storage) = self.errs.cursor();
        cursor.key_valid(&storage)
    }

    /// The least error of the collection at a time.
    pub fn error_at(&mut self, time: T) -> Option<EvalError> {
        let (mut cursor, storage) = self.errs.cursor();
        let mut least: Option<EvalError> = None;
        while let Some(key) = cursor.get_key(&storage) {
            let mut count = 0;
            while cursor.val_valid(&storage) {
                cursor.map_times(&storage, |t, d| {
                    if *t <= time {
                        count += *d;
                    }
                });
                cursor.step_val(&storage);
            }
            if count > 0 {
                let error = error_row::from_row(key);
                if least.as_ref().is_none_or(|l| error < *l) {
                    least = Some(error);
                }
            }
            cursor.step_key(&storage);
        }
        least
    }
}

/// A traced export and what keeps it alive.
pub struct Managed {
    pub trace: TraceEntry,
    pub token: Rc<DataflowToken>,
    /// Readable from here on, as far as the leader is concerned. The same on all workers at the same command.
    pub since: T,
    /// The frontier that was granted; it is applied once no peek needs what lies before.
    pub granted: T,
}

/// All exports of this worker.
#[derive(Default)]
pub struct TraceManager {
    traces: BTreeMap<GlobalId, Managed>,
}

impl TraceManager {
    pub fn insert(&mut self, id: GlobalId, trace: TraceEntry, token: Rc<DataflowToken>, as_of: T) {
        let mut managed = Managed {
            trace,
            token,
            since: as_of,
            granted: as_of,
        };
        managed.trace.compact_to(as_of);
        self.traces.insert(id, managed);
    }

    pub fn remove(&mut self, id: GlobalId) {
        self.traces.remove(&id);
    }

    pub fn get_mut(&mut self, id: GlobalId) -> Option<&mut Managed> {
        self.traces.get_mut(&id)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (GlobalId, &mut Managed)> {
        self.traces.iter_mut().map(|(id, managed)| (*id, managed))
    }

    /// Remembers that history before `frontier` may go; never goes back.
    pub fn grant(&mut self, id: GlobalId, frontier: T) {
        if let Some(managed) = self.traces.get_mut(&id) {
            managed.granted = managed.granted.max(frontier);
        }
    }

    /// Whether every arrangement that the dataflow reads is here and readable at `as_of`.
    ///
    /// It compares with what was granted, not with what was already forgotten, because the former is the same on all workers.
    pub fn check_imports(&self, dataflow: &Dataflow, as_of: T) -> Result<(), RenderError> {
        for id in dataflow.indexes.keys() {
            let managed = self.traces.get(id).ok_or(RenderError::UnknownIndex(*id))?;
            if as_of < managed.granted {
                return Err(RenderError::IndexNotReadable {
                    index: *id,
                    since: managed.granted,
                    as_of,
                });
            }
        }
        Ok(())
    }

    /// Upkeep of each tick: merging is allowed up to what is complete, and granted history goes unless a peek at or after `owed(id)` is
    /// waiting for it.
    pub fn maintain(&mut self, owed: impl Fn(GlobalId) -> Option<T>) {
        for (id, managed) in &mut self.traces {
            managed.trace.allow_merging();
            let frontier = owed(*id).map_or(managed.granted, |ts| managed.granted.min(ts));
            if frontier > managed.since {
                managed.since = frontier;
                managed.trace.compact_to(frontier);
            }
        }
    }
}
