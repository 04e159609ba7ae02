//! The fast path: a block prepared for running over packed rows.
//!
//! The row is walked twice at most: once to decode the columns that predicates need, and, if the row is kept, once more to decode
//! what remaining expressions need and to find the bytes of the columns that are output as they are. Any error is left to
//! [`Mfp::eval_temporal`], which knows whether it matters.

use super::{Interval, Mfp, TemporalBound};
use crate::error::EvalError;
use crate::scalar::ScalarExpr;
use crate::scalar::eval::EvalCtx;
use repr::{Datum, DatumIter, Row, RowArena, RowPacker, RowRef, decode_columns};
use smallvec::SmallVec;
use std::collections::BTreeSet;

/// Buffers that evaluation reuses from row to row.
#[derive(Default)]
pub struct MfpScratch {
    input: RowPacker,
    output: RowPacker,
    arena: RowArena,
}

impl MfpScratch {
    pub fn new() -> MfpScratch {
        MfpScratch::default()
    }
}

/// An [`Mfp`] prepared for evaluation. Expressions are renumbered to read the slots of decoded and computed values.
#[derive(Clone, Debug)]
pub struct MfpPlan {
    mfp: Mfp,
    ctx: EvalCtx,
    /// Input columns to decode before the predicates, ascending; they are the first slots.
    early: Vec<usize>,
    /// Predicates, and the expressions that they need, each of which fills the next slot.
    tests: Vec<Step>,
    /// The second walk over the row. Its decoded columns are the next slots.
    walk: Vec<Visit>,
    /// Expressions that only the output needs; each fills the next slot.
    late: Vec<ScalarExpr>,
    /// Temporal bounds over the slots.
    temporal: Vec<TemporalBound>,
    output: Vec<Output>,
    /// The output is the input row, unchanged.
    passes_through: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Compute(ScalarExpr),
    Test(ScalarExpr),
}

/// One stop of the second walk: skip `skip` columns, then take `columns` columns.
#[derive(Clone, Copy, Debug)]
struct Visit {
    skip: usize,
    columns: usize,
    /// Keep the packed bytes for the output.
    copy: bool,
    /// Decode the (one) column into the next slot.
    decode: bool,
    /// Nothing after it is needed and it reaches to the row's end.
    last: bool,
}

#[derive(Clone, Copy, Debug)]
enum Output {
    /// The bytes kept by the n-th copying visit.
    Copied(usize),
    Slot(usize),
}

/// Values in slots; enough room for most blocks without allocating.
type Slots<'a> = SmallVec<[Datum<'a>; 16]>;

impl MfpPlan {
    /// Prepares a block for dataflows, which evaluate with the default settings.
    pub fn new(mfp: Mfp) -> MfpPlan {
        MfpPlan::with_ctx(mfp, EvalCtx::default())
    }

    pub fn with_ctx(mfp: Mfp, ctx: EvalCtx) -> MfpPlan {
        Planner::new(&mfp).plan(ctx)
    }

    pub fn mfp(&self) -> &Mfp {
        &self.mfp
    }

    /// Whether rows come and go by time: then [`MfpPlan::evaluate_temporal`] is to be used.
    pub fn is_temporal(&self) -> bool {
        !self.temporal.is_empty()
    }

    /// Whether every row passes unchanged.
    pub fn is_identity(&self) -> bool {
        self.passes_through && self.tests.is_empty() && self.temporal.is_empty()
    }

    /// The output row, or nothing if the row is dropped.
    ///
    /// # Panics
    /// If the block is temporal.
    #[inline]
    pub fn evaluate(
        &self,
        row: RowRef<'_>,
        scratch: &mut MfpScratch,
    ) -> Result<Option<Row>, EvalError> {
        assert!(
            !self.is_temporal(),
            "a temporal block has no answer without a time"
        );
        let MfpScratch { output, arena, .. } = scratch;
        Ok(self.run(row, output, arena)?.map(|_| output.finish_row()))
    }

    /// As [`MfpPlan::evaluate`], over the columns of several packed rows one after another (key and value of an arrangement).
    #[inline]
    pub fn evaluate_parts(
        &self,
        parts: &[RowRef<'_>],
        scratch: &mut MfpScratch,
    ) -> Result<Option<Row>, EvalError> {
        if let [row] = parts {
            return self.evaluate(*row, scratch);
        }
        assert!(
            !self.is_temporal(),
            "a temporal block has no answer without a time"
        );
        let MfpScratch {
            input,
            output,
            arena,
        } = scratch;
        join(input, parts);
        Ok(self
            .run(input.as_row_ref(), output, arena)?
            .map(|_| output.finish_row()))
    }

    /// As [`MfpPlan::evaluate`], appending the output row's datums to `output`. Returns whether the row was kept; `output` is
    /// unchanged if not.
    #[inline]
    pub fn evaluate_into(
        &self,
        row: RowRef<'_>,
        scratch: &mut MfpScratch,
        output: &mut RowPacker,
    ) -> Result<bool, EvalError> {
        assert!(
            !self.is_temporal(),
            "a temporal block has no answer without a time"
        );
        Ok(self.run(row, output, &mut scratch.arena)?.is_some())
    }

    /// The output row and the times at which it is present; nothing if there are none.
    pub fn evaluate_temporal(
        &self,
        parts: &[RowRef<'_>],
        scratch: &mut MfpScratch,
    ) -> Result<Option<(Row, Interval)>, EvalError> {
        let MfpScratch {
            input,
            output,
            arena,
        } = scratch;
        let row = match parts {
            [row] => *row,
            _ => {
                join(input, parts);
                input.as_row_ref()
            }
        };
        Ok(self
            .run(row, output, arena)?
            .map(|interval| (output.finish_row(), interval)))
    }

    /// Appends the output to `output` and returns its interval; clears the arena before.
    #[inline]
    fn run(
        &self,
        row: RowRef<'_>,
        output: &mut RowPacker,
        arena: &mut RowArena,
    ) -> Result<Option<Interval>, EvalError> {
        arena.clear();
        match self.run_fast(row, output, arena) {
            Ok(done) => Ok(done),
            Err(_) => self.run_exactly(row, output),
        }
    }

    /// Fails on the first error, before anything was appended to `output`.
    #[inline]
    fn run_fast<'a>(
        &'a self,
        row: RowRef<'a>,
        output: &mut RowPacker,
        arena: &'a RowArena,
    ) -> Result<Option<Interval>, EvalError> {
        let mut slots: Slots<'a> = SmallVec::new();
        if !self.tests.is_empty() {
            slots.resize(self.early.len(), Datum::Null);
            decode_columns(row, &self.early, &mut slots);
            for step in &self.tests {
                match step {
                    Step::Compute(expression) => {
                        let value = expression.eval(&self.ctx, &slots, arena)?;
                        slots.push(value);
                    }
                    Step::Test(predicate) => {
                        if !predicate.eval(&self.ctx, &slots, arena)?.is_true() {
                            return Ok(None);
                        }
                    }
                }
            }
        }
        if self.passes_through && self.temporal.is_empty() {
            output.extend_row(row);
            return Ok(Some(Interval::ALWAYS));
        }
        let mut copied: SmallVec<[RowRef<'a>; 8]> = SmallVec::new();
        self.walk_row(row.iter(), &mut slots, &mut copied);
        for expression in &self.late {
            let value = expression.eval(&self.ctx, &slots, arena)?;
            slots.push(value);
        }
        let mut interval = Interval::ALWAYS;
        for bound in &self.temporal {
            match bound.expression().eval(&self.ctx, &slots, arena)? {
                Datum::MzTimestamp(time) => interval.restrict(bound, time),
                _ => return Ok(None),
            }
        }
        if interval.is_empty() {
            return Ok(None);
        }
        for part in &self.output {
            match part {
                Output::Copied(n) => output.push_packed(copied[*n]),
                Output::Slot(n) => output.push(slots[*n]),
            }
        }
        Ok(Some(interval))
    }

    #[inline]
    fn walk_row<'a>(
        &self,
        mut datums: DatumIter<'a>,
        slots: &mut Slots<'a>,
        copied: &mut SmallVec<[RowRef<'a>; 8]>,
    ) {
        for visit in &self.walk {
            datums.skip_n(visit.skip);
            if !visit.copy {
                slots.push(datums.next().expect("the row has the input's columns"));
                continue;
            }
            let packed = if visit.last {
                datums.remainder()
            } else {
                datums.take_packed(visit.columns)
            };
            if visit.decode {
                slots.push(
                    packed
                        .iter()
                        .next()
                        .expect("the row has the input's columns"),
                );
            }
            copied.push(packed);
        }
    }

    /// The reference semantics, for rows where something failed.
    #[cold]
    fn run_exactly(
        &self,
        row: RowRef<'_>,
        output: &mut RowPacker,
    ) -> Result<Option<Interval>, EvalError> {
        let Some((row, interval)) = self.mfp.eval_temporal(&self.ctx, &row.unpack())? else {
            return Ok(None);
        };
        output.extend_row(row.as_ref());
        Ok(Some(interval))
    }
}

fn join(input: &mut RowPacker, parts: &[RowRef<'_>]) {
    input.clear();
    parts.iter().for_each(|part| input.extend_row(*part));
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
