//! What a dataflow keeps in memory: its arrangements and the states of its groups.

use crate::types::{RowSpine, RowTrace};
use differential_dataflow::operators::arrange::agent::trace_box::TraceBox;
use differential_dataflow::trace::TraceReader;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// Collects what operators keep, without keeping it alive.
#[derive(Clone, Default)]
pub struct Footprint {
    inner: Rc<RefCell<Inner>>,
}

#[derive(Default)]
struct Inner {
    traces: Vec<Weak<RefCell<TraceBox<RowSpine>>>>,
    gauges: Vec<Weak<Cell<usize>>>,
}

impl Footprint {
    pub fn add_trace(&self, trace: &RowTrace) {
        self.inner
            .borrow_mut()
            .traces
            .push(Rc::downgrade(&trace.trace_box_unstable()));
    }

    /// A gauge of bytes, for the operator to set.
    pub fn new_gauge(&self) -> Rc<Cell<usize>> {
        let gauge = Rc::new(Cell::new(0));
        self.inner.borrow_mut().gauges.push(Rc::downgrade(&gauge));
        gauge
    }

    /// Bytes, about.
    pub fn bytes(&self) -> u64 {
        let inner = self.inner.borrow();
        let mut bytes = 0;
        for trace in inner.traces.iter().filter_map(Weak::upgrade) {
            trace
                .borrow()
                .trace()
                .map_batches(|batch| bytes += batch.heap_bytes());
        }
        let states: usize = inner
            .gauges
            .iter()
            .filter_map(Weak::upgrade)
            .map(|gauge| gauge.get())
            .sum();
        (bytes + states) as u64
    }
}
