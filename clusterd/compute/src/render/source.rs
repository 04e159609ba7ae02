//! Where tables enter a dataflow.
//!
//! A table that only one operator reads is evaluated for that operator as its rows come in: group key and arguments for a reduction, key and
//! value for an arrangement. Others enter as rows.

use crate::render::ok_err::{CONTAINER_LEN, Changes};
use crate::render::reduce::{AccumUpdate, LocalSums};
use crate::render::row_mfp::RowMfp;
use crate::types::*;
use plan::lir::{JoinPlan, Node};
use plan::mir::Id;
use plan::{Dataflow, Mfp};
use repr::{Diff, GlobalId, RowPacker, RowRef, ShardId};
use std::collections::BTreeMap;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::core::input::Handle;

/// The handle by which updates enter a dataflow.
pub type SourceInput<D> = Handle<T, CapacityContainerBuilder<Vec<D>>>;

/// One table's way into one dataflow.
pub struct SourcePort {
    pub shard: ShardId,
    sink: Sink,
    errs: SourceInput<Update>,
    /// What is not yet sent.
    out: Changes,
}

enum Sink {
    Rows {
        mfp: RowMfp,
        oks: SourceInput<Update>,
    },
    Sums {
        mfp: RowMfp,
        sums: Box<LocalSums>,
        oks: SourceInput<AccumUpdate>,
        out: Vec<AccumUpdate>,
    },
    Keyed {
        splitter: KeyedRowMfp,
        oks: SourceInput<KeyedUpdate>,
        out: Vec<KeyedUpdate>,
    },
}

/// A block whose output is the columns of a key, then those of a value.
pub struct KeyedRowMfp {
    pub mfp: RowMfp,
    pub keys: usize,
    /// A row with NULL in its key is dropped.
    pub skip_null_keys: bool,
    packer: RowPacker,
}

impl KeyedRowMfp {
    pub fn new(mfp: &Mfp, keys: usize, skip_null_keys: bool) -> Self {
        KeyedRowMfp {
            mfp: RowMfp::new(mfp, &[mfp.input_arity]),
            keys,
            skip_null_keys,
            packer: RowPacker::new(),
        }
    }
}

impl SourcePort {
    fn new(shard: ShardId, sink: Sink, errs: SourceInput<Update>) -> Self {
        SourcePort {
            shard,
            sink,
            errs,
            out: Changes::default(),
        }
    }

    pub fn rows(
        shard: ShardId,
        mfp: RowMfp,
        oks: SourceInput<Update>,
        errs: SourceInput<Update>,
    ) -> Self {
        Self::new(shard, Sink::Rows { mfp, oks }, errs)
    }

    pub fn sums(
        shard: ShardId,
        mfp: RowMfp,
        sums: LocalSums,
        oks: SourceInput<AccumUpdate>,
        errs: SourceInput<Update>,
    ) -> Self {
        Self::new(
            shard,
            Sink::Sums {
                mfp,
                sums: Box::new(sums),
                oks,
                out: vec![],
            },
            errs,
        )
    }

    pub fn keyed(
        shard: ShardId,
        splitter: KeyedRowMfp,
        oks: SourceInput<KeyedUpdate>,
        errs: SourceInput<Update>,
    ) -> Self {
        Self::new(
            shard,
            Sink::Keyed {
                splitter,
                oks,
                out: vec![],
            },
            errs,
        )
    }

    /// Takes a row of the table.
    #[inline]
    pub fn take(&mut self, row: RowRef<'_>, time: T, diff: Diff) {
        match &mut self.sink {
            Sink::Rows { mfp, oks } => {
                mfp.apply(&[row], time, diff, &mut self.out);
                send_full(oks, &mut self.out.oks);
            }
            Sink::Sums {
                mfp,
                sums,
                oks,
                out,
            } => {
                if let Err(error) = mfp.view(&[row], |view| sums.add(&view, time, diff, out)) {
                    self.out.push_err(&error, time, diff);
                }
                send_full(oks, out);
            }
            Sink::Keyed { splitter, oks, out } => {
                let KeyedRowMfp {
                    mfp,
                    keys,
                    skip_null_keys,
                    packer,
                } = splitter;
                let split = mfp.view(&[row], |view| {
                    if *skip_null_keys && (0..*keys).any(|k| view.datum(k).is_null()) {
                        return;
                    }
                    view.pack(0..*keys, packer);
                    let key = packer.finish_row();
                    view.pack(*keys..view.arity(), packer);
                    out.push(((key, packer.finish_row()), time, diff));
                });
                if let Err(error) = split {
                    self.out.push_err(&error, time, diff);
                }
                send_full(oks, out);
            }
        }
        send_full(&mut self.errs, &mut self.out.errs);
    }

    /// Sends all that was taken.
    pub fn flush(&mut self) {
        match &mut self.sink {
            Sink::Rows { oks, .. } => send(oks, &mut self.out.oks),
            Sink::Sums { sums, oks, out, .. } => {
                sums.flush(out);
                send(oks, out);
            }
            Sink::Keyed { oks, out, .. } => send(oks, out),
        }
        send(&mut self.errs, &mut self.out.errs);
    }

    /// No update before `upper` will be taken any more. All taken ones have been flushed.
    pub fn advance_to(&mut self, upper: T) {
        match &mut self.sink {
            Sink::Rows { oks, .. } => oks.advance_to(upper),
            Sink::Sums { oks, .. } => oks.advance_to(upper),
            Sink::Keyed { oks, .. } => oks.advance_to(upper),
        }
        self.errs.advance_to(upper);
    }
}

#[inline]
fn send_full<D: Clone + 'static>(input: &mut SourceInput<D>, out: &mut Vec<D>) {
    if out.len() >= CONTAINER_LEN {
        send(input, out);
    }
}

fn send<D: Clone + 'static>(input: &mut SourceInput<D>, out: &mut Vec<D>) {
    if !out.is_empty() {
        input.send_batch(out);
        out.clear();
    }
}

/// How often the plan reads each import.
pub fn count_uses(dataflow: &Dataflow) -> BTreeMap<GlobalId, usize> {
    let mut uses = BTreeMap::new();
    for (_, node) in &dataflow.objects {
        count_in(node, &mut uses);
    }
    for export in &dataflow.exports {
        count_id(export.from, &mut uses);
    }
    uses
}

fn count_id(id: Id, uses: &mut BTreeMap<GlobalId, usize>) {
    if let Id::Global(id) = id {
        *uses.entry(id).or_default() += 1;
    }
}

fn count_in(node: &Node, uses: &mut BTreeMap<GlobalId, usize>) {
    match node {
        Node::Constant { .. } => {}
        Node::Get { id } | Node::GetArrangement { id, .. } => count_id(*id, uses),
        Node::Let { value, body, .. } => {
            count_in(value, uses);
            count_in(body, uses);
        }
        Node::Mfp { input, .. }
        | Node::FlatMap { input, .. }
        | Node::Reduce { input, .. }
        | Node::TopK { input, .. }
        | Node::Negate { input }
        | Node::Threshold { input, .. }
        | Node::ArrangeBy { input, .. } => count_in(input, uses),
        Node::Join { inputs, plan } => {
            for (i, input) in inputs.iter().enumerate() {
                count_in(input, uses);
                // A join may read its start a second time, by a stage.
                if let JoinPlan::Linear { stages, .. } = plan
                    && stages.iter().any(|s| s.lookup == i)
                    && matches!(input, Node::Get { .. })
                {
                    count_in(input, uses);
                }
            }
        }
        Node::Union { inputs } => inputs.iter().for_each(|input| count_in(input, uses)),
    }
}

/// The import that the node reads, and the block between.
pub fn import_below(node: &Node) -> Option<(GlobalId, Option<&Mfp>)> {
    match node {
        Node::Get { id: Id::Global(id) } => Some((*id, None)),
        Node::Mfp { input, mfp } if mfp.temporal.is_empty() => match &**input {
            Node::Get { id: Id::Global(id) } => Some((*id, Some(mfp))),
            Node::Constant { .. }
            | Node::Get { .. }
            | Node::GetArrangement { .. }
            | Node::Let { .. }
            | Node::Mfp { .. }
            | Node::FlatMap { .. }
            | Node::Join { .. }
            | Node::Reduce { .. }
            | Node::TopK { .. }
            | Node::Negate { .. }
            | Node::Threshold { .. }
            | Node::Union { .. }
            | Node::ArrangeBy { .. } => None,
        },
        Node::Constant { .. }
        | Node::Get { .. }
        | Node::GetArrangement { .. }
        | Node::Let { .. }
        | Node::Mfp { .. }
        | Node::FlatMap { .. }
        | Node::Join { .. }
        | Node::Reduce { .. }
        | Node::TopK { .. }
        | Node::Negate { .. }
        | Node::Threshold { .. }
        | Node::Union { .. }
        | Node::ArrangeBy { .. } => None,
    }
}
