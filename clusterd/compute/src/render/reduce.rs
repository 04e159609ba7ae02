//! Grouping with aggregates.
//!
//! Aggregates that add up are summed per worker before anything is exchanged. If any aggregate of the plan needs its values kept (least and
//! greatest, DISTINCT, lists), the group keeps what those need beside the counters of the others.

mod sets;

use crate::footprint::Footprint;
use crate::render::accum::{Accum, AccumPlan, TOTAL};
use crate::render::arrange::PassHasher;
use crate::render::groups::{GroupLogic, maintain};
use crate::render::ok_err::{Changes, OkErr, demux};
use crate::render::row_mfp::{RowMfp, View};
use crate::types::*;
use hashbrown::HashTable;
use plan::agg::ReductionKind;
use plan::lir::ReducePlan;
use plan::{EvalError, Mfp, ScalarExpr};
use repr::{Diff, Row, RowPacker};
use timely::container::NoopBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

/// A change of a group's counters.
pub type AccumUpdate = (Row, T, Accum);

/// Whether all aggregates are sums of some kind.
pub fn adds_up(plan: &ReducePlan) -> bool {
    plan.aggregates
        .iter()
        .all(|a| a.func.kind() == ReductionKind::Accumulable && !a.distinct)
}

/// The groups of the rows that come out of `input`, a block over `rows`.
pub fn reduce<'s>(
    rows: Rows<'s>,
    input: &Mfp,
    plan: &ReducePlan,
    footprint: &Footprint,
    name: &str,
) -> (Rows<'s>, Vec<Rows<'s>>) {
    if !adds_up(plan) {
        return sets::reduce(rows, input, plan, footprint, name);
    }
    let (evaluate, sums) = local(input, plan);
    let (summed, row_errs) = sum_locally(rows, evaluate, sums, name);
    let (oks, errs) = total(summed, plan, footprint, name);
    (oks, vec![row_errs, errs])
}

/// The block that evaluates key and arguments of rows that come out of `input`, and the sums that take its output.
pub fn local(input: &Mfp, plan: &ReducePlan) -> (RowMfp, LocalSums) {
    let accum = AccumPlan::new(&plan.aggregates);
    let exprs: Vec<ScalarExpr> = plan.group_key.iter().chain(accum.args()).cloned().collect();
    let keys = plan.group_key.len();
    let evaluate = RowMfp::with_values(&compose(input, &exprs), &[input.input_arity], keys);
    (evaluate, LocalSums::new(accum, keys))
}

/// The groups whose changes these local sums are.
pub fn total<'s>(
    summed: Stream<'s, T, Vec<AccumUpdate>>,
    plan: &ReducePlan,
    footprint: &Footprint,
    name: &str,
) -> (Rows<'s>, Rows<'s>) {
    maintain(
        summed,
        Sums {
            plan: AccumPlan::new(&plan.aggregates),
            output: GroupOutput::new(plan),
        },
        footprint,
        name,
    )
}

/// The block that evaluates expressions over the output of another.
pub fn compose(input: &Mfp, exprs: &[ScalarExpr]) -> Mfp {
    let mut block = Mfp {
        projection: vec![],
        ..input.clone()
    };
    for expr in exprs {
        let mut expr = expr.clone();
        expr.permute(&|c| input.projection[c]);
        match expr {
            ScalarExpr::Column(c) => block.projection.push(c),
            expr @ (ScalarExpr::Literal(..)
            | ScalarExpr::Param(..)
            | ScalarExpr::Unmaterializable(_)
            | ScalarExpr::Call { .. }
            | ScalarExpr::If { .. }) => {
                block
                    .projection
                    .push(block.input_arity + block.expressions.len());
                block.expressions.push(expr);
            }
        }
    }
    block
}

/// Evaluates group key and arguments of each row and adds up what one activation brings.
fn sum_locally<'s>(
    rows: Rows<'s>,
    mut evaluate: RowMfp,
    mut sums: LocalSums,
    name: &str,
) -> (Stream<'s, T, Vec<AccumUpdate>>, Rows<'s>) {
    let name = format!("{name} (local sums)");
    let changes =
        rows.unary::<NoopBuilder<OkErr<AccumUpdate>>, _, _, _>(Pipeline, &name, move |_, _| {
            move |input, output| {
                let mut out = OkErr::default();
                let mut held = None;
                input.for_each(|capability, data| {
                    let capability = capability.retain(0);
                    if held
                        .as_ref()
                        .is_none_or(|h: &timely::dataflow::operators::Capability<T>| {
                            capability.time() < h.time()
                        })
                    {
                        held = Some(capability);
                    }
                    let held = held.as_ref().expect("just set");
                    for (row, time, diff) in data.drain(..) {
                        let added = evaluate.view(&[row.as_ref()], |row| {
                            sums.add(&row, time, diff, &mut out.oks)
                        });
                        if let Err(error) = added {
                            out.push_err(&error, time, diff);
                        }
                        if out.is_full() {
                            output.session_with_builder(held).give_container(&mut out);
                        }
                    }
                });
                if let Some(held) = held {
                    sums.flush(&mut out.oks);
                    if !out.is_empty() {
                        output.session_with_builder(&held).give_container(&mut out);
                    }
                }
            }
        });
    demux(changes, &name)
}

/// Sums per key of one time. Where most rows are groups of their own, it steps aside.
pub struct LocalSums {
    plan: AccumPlan,
    /// Columns of the key; the arguments follow.
    key_arity: usize,
    time: T,
    rows: usize,
    keys: Vec<Row>,
    slots: Vec<i128>,
    table: HashTable<u32>,
    packer: RowPacker,
    /// Rows to pass on one by one before summing is tried again.
    bypass: usize,
    scratch: Vec<i128>,
    /// The group of the row before.
    last: usize,
}

/// Below this many rows nothing is learnt about how many groups there are.
const SAMPLE_ROWS_MIN: usize = 512;
/// Rows passed on one by one after a sample with hardly any repetition.
const BYPASS_ROWS: usize = 1 << 16;
/// Groups summed at once: more would leave the cache.
const LOCAL_GROUPS_MAX: usize = 1 << 14;

impl LocalSums {
    pub fn new(plan: AccumPlan, key_arity: usize) -> Self {
        LocalSums {
            key_arity,
            scratch: vec![0; plan.slots()],
            plan,
            time: 0,
            rows: 0,
            keys: vec![],
            slots: vec![],
            table: HashTable::new(),
            packer: RowPacker::new(),
            bypass: 0,
            last: 0,
        }
    }

    /// Takes a row of key and arguments.
    #[inline]
    pub fn add(&mut self, row: &View<'_, '_>, time: T, diff: Diff, out: &mut Vec<AccumUpdate>) {
        row.pack(0..self.key_arity, &mut self.packer);
        if self.bypass > 0 {
            self.bypass -= 1;
            self.scratch.fill(0);
            let args = |i| row.datum(self.key_arity + i);
            self.plan.accumulate(args, diff, &mut self.scratch);
            out.push((
                self.packer.finish_row(),
                time,
                Accum::from_slots(&self.scratch),
            ));
            return;
        }
        if time != self.time || self.keys.len() >= LOCAL_GROUPS_MAX {
            self.flush(out);
            self.time = time;
        }
        self.rows += 1;
        // The removal of a row and what replaces it are mostly of one group.
        if let Some(key) = self.keys.get(self.last)
            && key.as_bytes() == self.packer.as_bytes()
        {
            self.packer.clear();
            return self.accumulate(self.last, row, diff);
        }
        let hash = self.packer.as_row_ref().to_hash();
        let keys = &self.keys;
        let found = self
            .table
            .find(hash, |i| {
                keys[*i as usize].as_bytes() == self.packer.as_bytes()
            })
            .copied();
        let index = match found {
            Some(index) => {
                self.packer.clear();
                index as usize
            }
            None => {
                let index = self.keys.len();
                self.keys.push(self.packer.finish_row());
                self.slots.resize(self.slots.len() + self.plan.slots(), 0);
                let keys = &self.keys;
                self.table
                    .insert_unique(hash, index as u32, |i| keys[*i as usize].as_ref().to_hash());
                index
            }
        };
        self.last = index;
        self.accumulate(index, row, diff);
    }

    #[inline]
    fn accumulate(&mut self, group: usize, row: &View<'_, '_>, diff: Diff) {
        let width = self.plan.slots();
        let slots = &mut self.slots[group * width..(group + 1) * width];
        let args = |i| row.datum(self.key_arity + i);
        self.plan.accumulate(args, diff, slots);
    }

    /// Hands out the sums.
    pub fn flush(&mut self, out: &mut Vec<AccumUpdate>) {
        if self.rows >= SAMPLE_ROWS_MIN && self.keys.len() > self.rows / 2 {
            self.bypass = BYPASS_ROWS;
        }
        for (key, slots) in self
            .keys
            .drain(..)
            .zip(self.slots.chunks_exact(self.plan.slots()))
        {
            let accum = Accum::from_slots(slots);
            if !accum.is_zero() {
                out.push((key, self.time, accum));
            }
        }
        self.slots.clear();
        self.table.clear();
        self.rows = 0;
    }
}

/// The stable hash of a key.
trait ToHash {
    fn to_hash(self) -> u64;
}

impl ToHash for repr::RowRef<'_> {
    #[inline]
    fn to_hash(self) -> u64 {
        use std::hash::{BuildHasher, BuildHasherDefault};
        BuildHasherDefault::<PassHasher>::default().hash_one(self)
    }
}

/// What was last said of a group.
#[derive(Default, PartialEq)]
pub enum Said {
    #[default]
    Nothing,
    Row(Row),
    Error(Box<EvalError>),
}

impl From<Result<Row, EvalError>> for Said {
    fn from(result: Result<Row, EvalError>) -> Self {
        match result {
            Ok(row) => Said::Row(row),
            Err(error) => Said::Error(Box::new(error)),
        }
    }
}

/// Turns a group's key and aggregates into changes of the output.
pub struct GroupOutput {
    mfp: RowMfp,
    packer: RowPacker,
}

impl GroupOutput {
    fn new(plan: &ReducePlan) -> Self {
        GroupOutput {
            mfp: RowMfp::new(&plan.mfp, &[plan.group_key.len(), plan.aggregates.len()]),
            packer: RowPacker::new(),
        }
    }

    /// Takes back what was said and says what holds now.
    fn change(&mut self, key: &Row, said: &mut Said, now: Said, time: T, out: &mut Changes) {
        if *said == now {
            return;
        }
        self.say(key, said, time, -1, out);
        self.say(key, &now, time, 1, out);
        *said = now;
    }

    fn say(&mut self, key: &Row, what: &Said, time: T, diff: Diff, out: &mut Changes) {
        match what {
            Said::Nothing => {}
            Said::Row(values) => self
                .mfp
                .apply(&[key.as_ref(), values.as_ref()], time, diff, out),
            Said::Error(error) => out.push_err(error, time, diff),
        }
    }
}

/// A group with fewer than no rows: a bug of the plan or the engine, shown as an error rather than as a wrong row.
fn negative_group() -> EvalError {
    tracing::error!("a group has a negative number of rows");
    EvalError::new("XX000", "a group has a negative number of rows")
}

struct Sums {
    plan: AccumPlan,
    output: GroupOutput,
}

#[derive(Default)]
struct SumState {
    accum: Accum,
    said: Said,
}

impl GroupLogic for Sums {
    type Update = AccumUpdate;
    type State = SumState;

    fn key(update: &AccumUpdate) -> &Row {
        &update.0
    }

    fn time(update: &AccumUpdate) -> T {
        update.1
    }

    fn apply(&mut self, state: &mut SumState, update: AccumUpdate) {
        state.accum.add(&update.2);
    }

    fn emit(&mut self, key: &Row, state: &mut SumState, time: T, out: &mut Changes) {
        let now = match state.accum.slot(TOTAL) {
            0 => Said::Nothing,
            1.. => self
                .plan
                .finish_row(&state.accum, &mut self.output.packer)
                .into(),
            ..0 => Said::Error(Box::new(negative_group())),
        };
        self.output.change(key, &mut state.said, now, time, out);
    }

    fn is_gone(state: &SumState) -> bool {
        state.accum.is_zero()
    }
}
