//! Changes of a collection, in order of time, for a subscriber.

use crate::error_row;
use crate::types::*;
use differential_dataflow::consolidation::consolidate_updates;
use plan::EvalError;
use protocol::compute::SubscribeBatch;
use repr::{Diff, GlobalId, Row};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// Batches that are ready to be sent.
#[derive(Clone)]
pub struct SubscribeSink {
    pub id: GlobalId,
    batches: Rc<RefCell<VecDeque<SubscribeBatch>>>,
}

impl SubscribeSink {
    pub fn take(&self) -> Option<SubscribeBatch> {
        self.batches.borrow_mut().pop_front()
    }
}

struct Collector {
    /// Everything before this time has been sent.
    lower: T,
    done: bool,
    updates: Vec<Update>,
    errs: Vec<Update>,
    /// Errors that hold at `lower`, with their multiplicities.
    standing: BTreeMap<Row, Diff>,
    until: Option<T>,
    /// The subscriber knows the collection at this time and wants only what comes after.
    skip_through: Option<T>,
}

impl Collector {
    /// The batch up to a frontier (`None`: to the end), if that is new.
    fn advance(&mut self, frontier: Option<T>) -> Option<SubscribeBatch> {
        if self.done {
            return None;
        }
        let end = match (frontier, self.until) {
            (Some(f), Some(u)) => Some(f.min(u)),
            (f, u) => f.or(u),
        };
        if end.is_some_and(|end| end <= self.lower) {
            return None;
        }
        let lower = self.lower;
        let before = |t: T| end.is_none_or(|end| t < end);
        let (errs, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.errs)
            .into_iter()
            .partition(|u| before(u.1));
        self.errs = later;
        let (mut due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.updates)
            .into_iter()
            .partition(|u| before(u.1));
        self.updates = later;
        let updates = match self.first_error(errs) {
            Some(error) => Err(error),
            None => {
                consolidate_updates(&mut due);
                due.retain(|(_, t, _)| self.skip_through.is_none_or(|through| *t > through));
                let mut updates: Vec<(T, Row, Diff)> =
                    due.into_iter().map(|(row, t, d)| (t, row, d)).collect();
                updates.sort();
                Ok(updates)
            }
        };
        match end {
            Some(end) => self.lower = end,
            None => self.done = true,
        }
        self.done |= end.is_some() && end == self.until;
        Some(SubscribeBatch {
            lower,
            upper: if self.done { None } else { end },
            updates,
        })
    }

    /// The least error that holds at any time of the batch.
    fn first_error(&mut self, mut errs: Vec<Update>) -> Option<EvalError> {
        consolidate_updates(&mut errs);
        errs.sort_by_key(|(_, t, _)| *t);
        let mut least = self
            .standing
            .iter()
            .find(|(_, d)| **d > 0)
            .map(|(row, _)| row.clone());
        for (row, _, diff) in errs {
            let count = self.standing.entry(row.clone()).or_insert(0);
            *count += diff;
            if *count > 0 && least.as_ref().is_none_or(|l| row < *l) {
                least = Some(row);
            }
        }
        self.standing.retain(|_, count| *count != 0);
        least.map(|row| error_row::from_row(row.as_ref()))
    }
}

/// Collects all changes on one worker.
pub fn sink<'s>(
    rows: Rows<'s>,
    errs: Rows<'s>,
    id: GlobalId,
    as_of: T,
    until: Option<T>,
    with_snapshot: bool,
    name: &str,
) -> SubscribeSink {
    let batches = Rc::new(RefCell::new(VecDeque::new()));
    let sink = SubscribeSink {
        id,
        batches: Rc::clone(&batches),
    };
    let scope = rows.scope();
    let owner = id.0;
    let collects = owner % scope.peers() as u64 == scope.index() as u64;
    let mut builder = OperatorBuilder::new(name.to_owned(), scope);
    let mut rows = builder.new_input(rows, Exchange::new(move |_: &Update| owner));
    let mut errs = builder.new_input(errs, Exchange::new(move |_: &Update| owner));
    builder.build(move |_| {
        let mut collector = Collector {
            lower: as_of,
            done: !collects,
            updates: vec![],
            errs: vec![],
            standing: BTreeMap::new(),
            until,
            skip_through: (!with_snapshot).then_some(as_of),
        };
        move |frontiers| {
            rows.for_each(|_, data| collector.updates.append(data));
            errs.for_each(|_, data| collector.errs.append(data));
            let frontier = frontiers
                .iter()
                .filter_map(|f| f.frontier().first().copied())
                .min();
            if let Some(batch) = collector.advance(frontier) {
                batches.borrow_mut().push_back(batch);
            }
        }
    });
    sink
}
