//! Preparing a block: which columns are decoded when, which expression fills which slot, which bytes are copied.

use super::{MfpPlan, Output, Step, Visit};
use crate::mfp::{Mfp, TemporalBound};
use crate::scalar::ScalarExpr;
use crate::scalar::eval::EvalCtx;
use std::collections::BTreeSet;

pub(super) fn prepare(mfp: &Mfp, ctx: EvalCtx) -> MfpPlan {
    Planner::new(mfp).plan(ctx)
}

/// Decides what is done when.
struct Planner<'m> {
    mfp: &'m Mfp,
    /// The slot of each column (input or mapped) that has one.
    slot_of: Vec<Option<usize>>,
    slots: usize,
}

impl<'m> Planner<'m> {
    fn new(mfp: &'m Mfp) -> Planner<'m> {
        Planner {
            mfp,
            slot_of: vec![None; mfp.mapped_arity()],
            slots: 0,
        }
    }

    /// Everything that the given columns are computed from, themselves included.
    fn closure(&self, columns: BTreeSet<usize>) -> BTreeSet<usize> {
        let mut needed = columns;
        for (i, expression) in self.mfp.expressions.iter().enumerate().rev() {
            if needed.contains(&(self.mfp.input_arity + i)) {
                expression.support_into(&mut needed);
            }
        }
        needed
    }

    fn give_slot(&mut self, column: usize) {
        self.slot_of[column] = Some(self.slots);
        self.slots += 1;
    }

    /// The expression, reading slots.
    fn over_slots(&self, expression: &ScalarExpr) -> ScalarExpr {
        let mut expression = expression.clone();
        expression.permute(&|c| self.slot_of[c].expect("a column is known before it is read"));
        expression
    }

    /// The mapped columns among `needed` that have no slot yet get one, in order.
    fn compute(&mut self, needed: &BTreeSet<usize>) -> Vec<ScalarExpr> {
        let mut computed = vec![];
        for column in needed.range(self.mfp.input_arity..) {
            if self.slot_of[*column].is_none() {
                computed
                    .push(self.over_slots(&self.mfp.expressions[column - self.mfp.input_arity]));
                self.give_slot(*column);
            }
        }
        computed
    }

    fn plan(mut self, ctx: EvalCtx) -> MfpPlan {
        let mfp = self.mfp;
        let mut tested = BTreeSet::new();
        mfp.predicates
            .iter()
            .for_each(|(_, p)| p.support_into(&mut tested));
        let tested = self.closure(tested);
        let early: Vec<usize> = tested.range(..mfp.input_arity).copied().collect();
        early.iter().for_each(|c| self.give_slot(*c));
        let mut tests = vec![];
        for (_, predicate) in &mfp.predicates {
            let needed = self.closure(predicate.support());
            tests.extend(self.compute(&needed).into_iter().map(Step::Compute));
            tests.push(Step::Test(self.over_slots(predicate)));
        }

        // What the output and the temporal bounds compute with; plain output columns are copied.
        let mut computed: BTreeSet<usize> = mfp
            .projection
            .iter()
            .copied()
            .filter(|c| *c >= mfp.input_arity)
            .collect();
        mfp.temporal
            .iter()
            .for_each(|bound| bound.expression().support_into(&mut computed));
        let computed = self.closure(computed);
        let decoded: BTreeSet<usize> = computed
            .range(..mfp.input_arity)
            .copied()
            .filter(|c| self.slot_of[*c].is_none())
            .collect();
        let (walk, output_of) = self.walk(&decoded);
        decoded.iter().for_each(|c| self.give_slot(*c));
        let late = self.compute(&computed);
        let temporal = mfp
            .temporal
            .iter()
            .map(|bound| match bound {
                TemporalBound::From(e) => TemporalBound::From(self.over_slots(e)),
                TemporalBound::Until(e) => TemporalBound::Until(self.over_slots(e)),
            })
            .collect();
        let output = self.output(&walk, &output_of);
        MfpPlan {
            ctx,
            early,
            tests,
            walk,
            late,
            temporal,
            output,
            passes_through: mfp.projection.iter().copied().eq(0..mfp.input_arity),
            mfp: mfp.clone(),
        }
    }

    /// The stops of the second walk, and for each input column the copying stop that begins with it, if any.
    fn walk(&self, decoded: &BTreeSet<usize>) -> (Vec<Visit>, Vec<Option<usize>>) {
        let arity = self.mfp.input_arity;
        // A stop may not run across the end of an output run, and starts where one starts.
        let mut copied = vec![false; arity];
        let mut starts = vec![false; arity + 1];
        let mut previous = None;
        for column in &self.mfp.projection {
            let continues = previous.is_some_and(|p: usize| p + 1 == *column);
            if let Some(previous) = previous.filter(|_| !continues) {
                starts[previous + 1] = true;
            }
            previous = None;
            if *column < arity {
                copied[*column] = true;
                starts[*column] |= !continues;
                previous = Some(*column);
            }
        }
        if let Some(last) = previous {
            starts[last + 1] = true;
        }
        for column in decoded {
            starts[*column] = true;
            starts[*column + 1] = true;
        }
        let mut walk: Vec<Visit> = vec![];
        let mut visit_of = vec![None; arity];
        let (mut at, mut copies) = (0, 0);
        let mut column = 0;
        while column < arity {
            let (copy, decode) = (copied[column], decoded.contains(&column));
            if !copy && !decode {
                column += 1;
                continue;
            }
            let mut end = column + 1;
            while copy && end < arity && copied[end] && !starts[end] {
                end += 1;
            }
            if copy {
                visit_of[column] = Some(copies);
                copies += 1;
            }
            walk.push(Visit {
                skip: column - at,
                columns: end - column,
                copy,
                decode,
                last: end == arity && !decode,
            });
            (at, column) = (end, end);
        }
        (walk, visit_of)
    }

    fn output(&self, walk: &[Visit], visit_of: &[Option<usize>]) -> Vec<Output> {
        let widths: Vec<usize> = walk
            .iter()
            .filter(|visit| visit.copy)
            .map(|visit| visit.columns)
            .collect();
        let mut output = vec![];
        let mut projection = self.mfp.projection.iter().peekable();
        while let Some(column) = projection.next() {
            if *column >= self.mfp.input_arity {
                output.push(Output::Slot(
                    self.slot_of[*column].expect("projected columns are computed"),
                ));
                continue;
            }
            let visit =
                visit_of[*column].expect("a stop begins with every run and every cut of a run");
            output.push(Output::Copied(visit));
            (1..widths[visit]).for_each(|_| {
                projection.next();
            });
        }
        output
    }
}
