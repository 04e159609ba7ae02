//! The fast path: a block prepared for running over packed rows.
//!
//! The row is walked twice at most: once to decode the columns that predicates need, and, if the row is kept, once more to decode
//! what remaining expressions need and to find the bytes of the columns that are output as they are. Any error is left to
//! [`Mfp::eval_temporal`], which knows whether it matters.

mod prepare;

use super::{Interval, Mfp, TemporalBound};
use crate::error::EvalError;
use crate::scalar::ScalarExpr;
use crate::scalar::eval::EvalCtx;
use repr::{Datum, DatumIter, Row, RowArena, RowPacker, RowRef, decode_columns};
use smallvec::SmallVec;

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
        prepare::prepare(&mfp, ctx)
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
