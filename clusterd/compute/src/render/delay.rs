//! Holds back updates of future times until the frontier reaches them.
//!
//! Temporal filters schedule retractions far ahead. An arrangement would sort and sift them anew at every step, so they wait here, by time.

use crate::types::{Rows, T, Update};
use differential_dataflow::consolidation::consolidate;
use repr::{Diff, Row};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

/// Updates of one future time.
#[derive(Default)]
struct Waiting {
    updates: Vec<(Row, Diff)>,
    /// Length at which cancelling updates are next looked for.
    consolidate_at: usize,
}

impl Waiting {
    fn push(&mut self, row: Row, diff: Diff) {
        self.updates.push((row, diff));
        if self.updates.len() > self.consolidate_at.max(1024) {
            consolidate(&mut self.updates);
            self.consolidate_at = 2 * self.updates.len();
        }
    }
}

/// The same collection, each update sent when the frontier has reached its time. With `dropped` set, what waits is forgotten.
pub fn delay<'s>(rows: Rows<'s>, dropped: Rc<Cell<bool>>) -> Rows<'s> {
    rows.unary_frontier::<NoopBuilder<Vec<Update>>, _, _, _>(
        Pipeline,
        "TemporalDelay",
        move |capability, _| {
            drop(capability);
            let mut waiting: BTreeMap<T, Waiting> = BTreeMap::new();
            let mut held: Option<Capability<T>> = None;
            move |(input, frontier), output| {
                input.for_each(|capability, data| {
                    let time = *capability.time();
                    if held.as_ref().is_none_or(|h| time < *h.time()) {
                        held = Some(capability.retain(0));
                    }
                    for (row, t, diff) in data.drain(..) {
                        waiting.entry(t).or_default().push(row, diff);
                    }
                });
                if dropped.get() {
                    waiting.clear();
                }
                // At times that the frontier has passed the updates are due; at the frontier itself they do no harm earlier than needed.
                while let Some(entry) = waiting.first_entry()
                    && !frontier.less_equal(entry.key())
                {
                    let (time, due) = entry.remove_entry();
                    let mut updates = due.updates;
                    consolidate(&mut updates);
                    let mut container: Vec<Update> = updates
                        .into_iter()
                        .map(|(row, diff)| (row, time, diff))
                        .collect();
                    if !container.is_empty() {
                        let capability = held.as_ref().expect("held while updates wait");
                        output
                            .session_with_builder(capability)
                            .give_container(&mut container);
                    }
                }
                match waiting.first_key_value() {
                    Some((time, _)) => {
                        let capability = held.as_mut().expect("held while updates wait");
                        let time = (*time).max(*capability.time());
                        capability.downgrade(&time);
                    }
                    None => held = None,
                }
            }
        },
    )
}
