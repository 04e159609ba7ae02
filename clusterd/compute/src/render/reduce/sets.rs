//! Groups that keep values: for least and greatest in SQL order, for DISTINCT once each, for lists all.

use super::{GroupOutput, Said, compose, negative_group};
use crate::footprint::Footprint;
use crate::render::accum::{Accum, AccumPlan};
use crate::render::groups::{GroupLogic, KEPT_VALUE_BYTES, maintain};
use crate::render::ok_err::{Changes, stateless};
use crate::render::row_mfp::RowMfp;
use crate::types::*;
use plan::agg::{AggregateFunc, ReductionKind};
use plan::lir::ReducePlan;
use plan::{AggregateExpr, EvalError, Mfp, ScalarExpr};
use repr::{Datum, Diff, Row, RowArena, RowPacker, SqlType};
use smallvec::SmallVec;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use timely::dataflow::channels::pact::Pipeline;

pub fn reduce<'s>(
    rows: Rows<'s>,
    input: &Mfp,
    plan: &ReducePlan,
    footprint: &Footprint,
    name: &str,
) -> (Rows<'s>, Vec<Rows<'s>>) {
    let (parts, args) = Part::split(&plan.aggregates);
    let key_arity = plan.group_key.len();
    let exprs: Vec<ScalarExpr> = plan.group_key.iter().chain(&args).cloned().collect();
    let mut evaluate = RowMfp::new(&compose(input, &exprs), &[input.input_arity]);
    let mut packer = RowPacker::new();
    let (keyed, row_errs) = stateless(
        rows,
        Pipeline,
        &format!("{name} (keys)"),
        move |data: &mut Vec<Update>, out, ship| {
            for (row, time, diff) in data.drain(..) {
                let shown = evaluate.view(&[row.as_ref()], |row| {
                    row.pack(0..key_arity, &mut packer);
                    let key = packer.finish_row();
                    row.pack(key_arity..row.arity(), &mut packer);
                    (key, packer.finish_row())
                });
                match shown {
                    Ok(Some(keyed)) => out.oks.push((keyed, time, diff)),
                    Ok(None) => {}
                    Err(error) => out.push_err(&error, time, diff),
                }
                if out.is_full() {
                    ship(out);
                }
            }
        },
    );
    let logic = Sets {
        parts,
        args: args.len(),
        output: GroupOutput::new(plan),
        kept: 0,
    };
    let (oks, errs) = maintain(keyed, logic, footprint, name);
    (oks, vec![row_errs, errs])
}

/// What one aggregate keeps, and which of the row's arguments are its own.
enum Part {
    /// Counters; arguments `first..first + plan.args().count()`.
    Sum {
        plan: AccumPlan,
        first: usize,
    },
    /// The same over distinct values of one argument.
    DistinctSum {
        plan: AccumPlan,
        arg: usize,
    },
    Least {
        arg: usize,
    },
    Greatest {
        arg: usize,
    },
    List {
        aggregate: AggregateExpr,
        arg: usize,
    },
}

impl Part {
    /// One part per aggregate, and the expressions that a row brings for all of them.
    fn split(aggregates: &[AggregateExpr]) -> (Vec<Part>, Vec<ScalarExpr>) {
        let mut args = vec![];
        let mut parts = vec![];
        for aggregate in aggregates {
            let first = args.len();
            let part = match (aggregate.func.kind(), aggregate.distinct, &aggregate.func) {
                (ReductionKind::Accumulable, distinct, _) => {
                    let plan = AccumPlan::new(std::slice::from_ref(aggregate));
                    if distinct {
                        Part::DistinctSum { plan, arg: first }
                    } else {
                        Part::Sum { plan, first }
                    }
                }
                // Padded text compares without its padding, not as values are kept.
                (
                    ReductionKind::Hierarchical,
                    _,
                    AggregateFunc::Min(SqlType::Char(_)) | AggregateFunc::Max(SqlType::Char(_)),
                )
                | (ReductionKind::Basic, _, _) => Part::List {
                    aggregate: aggregate.clone(),
                    arg: first,
                },
                (ReductionKind::Hierarchical, _, AggregateFunc::Min(_)) => {
                    Part::Least { arg: first }
                }
                (ReductionKind::Hierarchical, _, _) => Part::Greatest { arg: first },
            };
            parts.push(part);
            args.push(aggregate.expr.clone());
        }
        (parts, args)
    }
}

struct Sets {
    parts: Vec<Part>,
    args: usize,
    output: GroupOutput,
    /// Values kept, of all groups.
    kept: usize,
}

#[derive(Default)]
struct State {
    rows: Diff,
    parts: Vec<Kept>,
    said: Said,
}

enum Kept {
    Sum(Accum),
    Values(BTreeMap<Value, Diff>),
}

/// A packed datum that compares in SQL's order of its type.
pub struct Value(pub Row);

impl Value {
    fn datum(&self) -> Datum<'_> {
        self.0.iter().next().expect("a value is one datum")
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        self.datum()
            .cmp(&other.datum())
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Value {}

impl Sets {
    /// Returns by how many the values kept became more.
    fn apply_part(part: &Part, kept: &mut Kept, args: &[Datum<'_>], diff: Diff) -> isize {
        match (part, kept) {
            (Part::Sum { plan, first }, Kept::Sum(accum)) => {
                let mut slots: SmallVec<[i128; 8]> = SmallVec::from_elem(0, plan.slots());
                plan.accumulate(|i| args[*first + i], diff, &mut slots);
                accum.add(&Accum::from_slots(&slots));
                0
            }
            (
                Part::Least { arg } | Part::Greatest { arg } | Part::DistinctSum { arg, .. },
                Kept::Values(values),
            ) => {
                if args[*arg].is_null() {
                    0
                } else {
                    keep(values, args[*arg], diff)
                }
            }
            (Part::List { arg, .. }, Kept::Values(values)) => keep(values, args[*arg], diff),
            (Part::Sum { .. }, Kept::Values(_))
            | (
                Part::Least { .. }
                | Part::Greatest { .. }
                | Part::DistinctSum { .. }
                | Part::List { .. },
                Kept::Sum(_),
            ) => {
                unreachable!("parts and what they keep are made together")
            }
        }
    }

    fn finish(&mut self, state: &State) -> Result<Row, EvalError> {
        let packer = &mut self.output.packer;
        packer.clear();
        let mut least: Option<EvalError> = None;
        for (part, kept) in self.parts.iter().zip(&state.parts) {
            if let Err(error) = Self::finish_part(part, kept, packer)
                && least.as_ref().is_none_or(|l| error < *l)
            {
                least = Some(error);
            }
        }
        least.map_or_else(|| Ok(packer.finish_row()), Err)
    }

    fn finish_part(part: &Part, kept: &Kept, packer: &mut RowPacker) -> Result<(), EvalError> {
        match (part, kept) {
            (Part::Sum { plan, .. }, Kept::Sum(accum)) => plan.finish(accum, packer)?,
            (Part::DistinctSum { plan, .. }, Kept::Values(values)) => {
                let mut slots = vec![0; plan.slots()];
                let mut last = None;
                for value in present(values).map(|(value, _)| value.datum()) {
                    // Equal values that are not identical stand side by side and count once.
                    if last != Some(value) {
                        plan.accumulate(|_| value, 1, &mut slots);
                        last = Some(value);
                    }
                }
                plan.finish(&Accum::from_slots(&slots), packer)?;
            }
            (Part::Least { .. }, Kept::Values(values)) => {
                push_value(packer, present(values).next())
            }
            (Part::Greatest { .. }, Kept::Values(values)) => {
                push_value(packer, present(values).next_back())
            }
            (Part::List { aggregate, .. }, Kept::Values(values)) => {
                let arena = RowArena::new();
                let values = values.iter().map(|(value, count)| (value.datum(), *count));
                packer.push(aggregate.eval(values, &arena)?);
            }
            (Part::Sum { .. }, Kept::Values(_))
            | (
                Part::Least { .. }
                | Part::Greatest { .. }
                | Part::DistinctSum { .. }
                | Part::List { .. },
                Kept::Sum(_),
            ) => {
                unreachable!("parts and what they keep are made together")
            }
        }
        Ok(())
    }
}

/// Returns by how many the values became more.
fn keep(values: &mut BTreeMap<Value, Diff>, datum: Datum<'_>, diff: Diff) -> isize {
    use std::collections::btree_map::Entry;
    match values.entry(Value(Row::pack_slice(&[datum]))) {
        Entry::Vacant(entry) => {
            entry.insert(diff);
            1
        }
        Entry::Occupied(mut entry) => {
            *entry.get_mut() += diff;
            if *entry.get() == 0 {
                entry.remove();
                return -1;
            }
            0
        }
    }
}

/// The values that occur, in order.
fn present(values: &BTreeMap<Value, Diff>) -> impl DoubleEndedIterator<Item = (&Value, &Diff)> {
    values.iter().filter(|(_, count)| **count > 0)
}

fn push_value(packer: &mut RowPacker, entry: Option<(&Value, &Diff)>) {
    packer.push(entry.map_or(Datum::Null, |(value, _)| value.datum()));
}

impl GroupLogic for Sets {
    type Update = KeyedUpdate;
    type State = State;

    fn key(update: &KeyedUpdate) -> &Row {
        &update.0.0
    }

    fn time(update: &KeyedUpdate) -> T {
        update.1
    }

    fn apply(&mut self, state: &mut State, ((_, args), _, diff): KeyedUpdate) {
        state.rows += diff;
        if state.parts.is_empty() {
            state.parts.extend(self.parts.iter().map(|part| match part {
                Part::Sum { .. } => Kept::Sum(Accum::default()),
                Part::DistinctSum { .. }
                | Part::Least { .. }
                | Part::Greatest { .. }
                | Part::List { .. } => Kept::Values(BTreeMap::new()),
            }));
        }
        let args: SmallVec<[Datum<'_>; 8]> = args.iter().collect();
        debug_assert_eq!(args.len(), self.args);
        for (part, kept) in self.parts.iter().zip(&mut state.parts) {
            self.kept = self
                .kept
                .saturating_add_signed(Self::apply_part(part, kept, &args, diff));
        }
    }

    fn emit(&mut self, key: &Row, state: &mut State, time: T, out: &mut Changes) {
        let now = match state.rows {
            0 => Said::Nothing,
            1.. => self.finish(state).into(),
            ..0 => Said::Error(Box::new(negative_group())),
        };
        self.output.change(key, &mut state.said, now, time, out);
    }

    fn kept_bytes(&self) -> usize {
        self.kept * KEPT_VALUE_BYTES
    }

    fn is_gone(state: &State) -> bool {
        state.rows == 0
            && state.parts.iter().all(|kept| match kept {
                Kept::Sum(accum) => accum.is_zero(),
                Kept::Values(values) => values.is_empty(),
            })
    }
}
