//! Map, filter and project, compiled for rows that come in one or more packed parts.
//!
//! Parts are, for example, the key and the value of an arrangement. Only demanded columns are decoded, in one pass per part.

use crate::render::ok_err::Changes;
use crate::types::T;
use plan::mfp::TemporalBound;
use plan::scalar::EvalCtx;
use plan::{EvalError, Mfp, ScalarExpr};
use repr::{Datum, Diff, Row, RowArena, RowPacker, RowRef};
use std::collections::BTreeSet;

/// A compiled [`Mfp`].
pub struct RowMfp {
    /// Per part: how many columns to skip, then which slot the next one goes to.
    loads: Vec<Vec<(usize, usize)>>,
    slots: usize,
    steps: Vec<Step>,
    projection: Vec<usize>,
    temporal: Vec<TemporalBound>,
    identity: bool,
    /// The same block over all columns of the parts: it decides what a row means whose fast evaluation met an error.
    reference: Mfp,
    ctx: EvalCtx,
    scratch: Scratch,
}

enum Step {
    Map(ScalarExpr, usize),
    Filter(ScalarExpr),
}

#[derive(Default)]
struct Scratch {
    datums: Vec<Datum<'static>>,
    arena: RowArena,
    packer: RowPacker,
}

/// The times at which a row is present: from the first on, before the second.
pub struct Presence {
    pub from: T,
    pub until: Option<T>,
}

impl Presence {
    fn is_empty(&self) -> bool {
        self.from == T::MAX || self.until.is_some_and(|until| until <= self.from)
    }
}

impl RowMfp {
    /// For rows whose columns are those of the parts, one part after another.
    pub fn new(mfp: &Mfp, part_arities: &[usize]) -> Self {
        Self::permuted(mfp, part_arities, &|c| c)
    }

    /// Column `c` of the block's input is column `map(c)` of the parts.
    pub fn permuted(mfp: &Mfp, part_arities: &[usize], map: &dyn Fn(usize) -> usize) -> Self {
        let parts_arity: usize = part_arities.iter().sum();
        let input_arity = mfp.input_arity;
        let map = |c: usize| if c < input_arity { map(c) } else { parts_arity + (c - input_arity) };
        let remapped = |expr: &ScalarExpr| {
            let mut expr = expr.clone();
            expr.permute(&map);
            expr
        };
        let projection: Vec<usize> = mfp.projection.iter().map(|c| map(*c)).collect();
        let expressions: Vec<ScalarExpr> = mfp.expressions.iter().map(&remapped).collect();
        let predicates: Vec<(usize, ScalarExpr)> = mfp.predicates.iter().map(|(n, p)| (*n, remapped(p))).collect();
        let temporal: Vec<TemporalBound> = mfp
            .temporal
            .iter()
            .map(|bound| match bound {
                TemporalBound::From(e) => TemporalBound::From(remapped(e)),
                TemporalBound::Until(e) => TemporalBound::Until(remapped(e)),
            })
            .collect();
        let reference = Mfp {
            input_arity: parts_arity,
            expressions: expressions.clone(),
            predicates: predicates.clone(),
            projection: projection.clone(),
            temporal: temporal.clone(),
        };

        let mut demand: BTreeSet<usize> = projection.iter().copied().collect();
        for (_, predicate) in &predicates {
            predicate.support_into(&mut demand);
        }
        for bound in &temporal {
            match bound {
                TemporalBound::From(e) | TemporalBound::Until(e) => e.support_into(&mut demand),
            }
        }
        for (i, expr) in expressions.iter().enumerate().rev() {
            if demand.contains(&(parts_arity + i)) {
                expr.support_into(&mut demand);
            }
        }

        let mut steps = vec![];
        let mut filters = predicates.into_iter().peekable();
        for (i, expr) in expressions.into_iter().enumerate() {
            while let Some((_, p)) = filters.next_if(|(n, _)| *n <= input_arity + i) {
                steps.push(Step::Filter(p));
            }
            if demand.contains(&(parts_arity + i)) {
                steps.push(Step::Map(expr, parts_arity + i));
            }
        }
        steps.extend(filters.map(|(_, p)| Step::Filter(p)));

        let identity = part_arities.len() == 1
            && steps.is_empty()
            && temporal.is_empty()
            && projection.iter().copied().eq(0..part_arities[0]);
        RowMfp {
            loads: loads(part_arities, &demand),
            slots: parts_arity + mfp.expressions.len(),
            steps,
            projection,
            temporal,
            identity,
            reference,
            ctx: EvalCtx::default(),
            scratch: Scratch::default(),
        }
    }


    /// Evaluates the row; what comes out of it goes to `out`, errors included.
    #[inline]
    pub fn apply(&mut self, parts: &[RowRef<'_>], time: T, diff: Diff, out: &mut Changes) {
        if self.identity {
            out.oks.push((parts[0].to_row(), time, diff));
            return;
        }
        match self.evaluate(parts, time) {
            Ok(None) => {}
            Ok(Some((row, presence))) => {
                if let Some(until) = presence.until {
                    out.oks.push((row.clone(), until, -diff));
                }
                out.oks.push((row, presence.from, diff));
            }
            Err(error) => out.push_err(&error, time, diff),
        }
    }

    /// The row that comes out, if any, and when it is present from `time` on.
    pub fn evaluate(&mut self, parts: &[RowRef<'_>], time: T) -> Result<Option<(Row, Presence)>, EvalError> {
        let (arena, packer) = (&self.scratch.arena, &mut self.scratch.packer);
        let mut slots: Vec<Datum<'_>> = std::mem::take(&mut self.scratch.datums);
        slots.resize(self.slots, Datum::Null);
        load(&self.loads, parts, &mut slots);
        let result = run(&self.ctx, &self.steps, &mut slots, arena)
            .and_then(|keep| if keep { presence(&self.ctx, &self.temporal, &slots, arena, time) } else { Ok(None) });
        let result = result.map(|presence| {
            presence.map(|presence| {
                for c in &self.projection {
                    packer.push(slots[*c]);
                }
                (packer.finish_row(), presence)
            })
        });
        self.scratch.datums = recycle(slots);
        self.scratch.arena.clear();
        match result {
            Ok(result) => Ok(result),
            Err(_) => self.evaluate_by_reference(parts, time),
        }
    }

    #[cold]
    fn evaluate_by_reference(&self, parts: &[RowRef<'_>], time: T) -> Result<Option<(Row, Presence)>, EvalError> {
        let datums: Vec<Datum<'_>> = parts.iter().flat_map(|p| p.iter()).collect();
        let result = self.reference.eval_temporal(&self.ctx, &datums)?;
        Ok(result.and_then(|(row, interval)| {
            let presence = Presence { from: interval.lower.max(time), until: interval.upper };
            (!presence.is_empty()).then_some((row, presence))
        }))
    }

    /// Evaluates the row and shows the projected datums instead of packing them. Without temporal bounds.
    #[inline]
    pub fn with_datums<R>(
        &mut self,
        parts: &[RowRef<'_>],
        show: impl FnOnce(&[Datum<'_>]) -> R,
    ) -> Result<Option<R>, EvalError> {
        assert!(self.temporal.is_empty(), "temporal filters are rows' business");
        let arena = &self.scratch.arena;
        let mut slots: Vec<Datum<'_>> = std::mem::take(&mut self.scratch.datums);
        slots.resize(self.slots, Datum::Null);
        load(&self.loads, parts, &mut slots);
        let result = run(&self.ctx, &self.steps, &mut slots, arena);
        let result = match result {
            Ok(false) => Ok(None),
            Ok(true) => {
                let start = slots.len();
                for c in &self.projection {
                    slots.push(slots[*c]);
                }
                Ok(Some(show(&slots[start..])))
            }
            Err(_) => match self.evaluate_by_reference(parts, 0) {
                Ok(None) => Ok(None),
                Ok(Some((row, _))) => Ok(Some(show(&row.unpack()))),
                Err(error) => Err(error),
            },
        };
        self.scratch.datums = recycle(slots);
        self.scratch.arena.clear();
        result
    }
}

fn loads(part_arities: &[usize], demand: &BTreeSet<usize>) -> Vec<Vec<(usize, usize)>> {
    let mut start = 0;
    part_arities
        .iter()
        .map(|arity| {
            let mut at = start;
            let load = demand
                .range(start..start + arity)
                .map(|c| {
                    let skip = c - at;
                    at = c + 1;
                    (skip, *c)
                })
                .collect();
            start += arity;
            load
        })
        .collect()
}

#[inline]
fn load<'a>(loads: &[Vec<(usize, usize)>], parts: &[RowRef<'a>], slots: &mut [Datum<'a>]) {
    debug_assert_eq!(loads.len(), parts.len());
    for (load, part) in loads.iter().zip(parts) {
        let mut datums = part.iter();
        for (skip, slot) in load {
            if *skip > 0 {
                datums.skip_n(*skip);
            }
            slots[*slot] = datums.next().expect("row has the columns of its plan");
        }
    }
}

#[inline]
fn run<'a>(ctx: &EvalCtx, steps: &'a [Step], slots: &mut [Datum<'a>], arena: &'a RowArena) -> Result<bool, EvalError> {
    for step in steps {
        match step {
            Step::Map(expr, slot) => slots[*slot] = expr.eval(ctx, slots, arena)?,
            Step::Filter(expr) => {
                if !expr.eval(ctx, slots, arena)?.is_true() {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

/// When the row is present, at or after `time`.
fn presence<'a>(
    ctx: &EvalCtx,
    temporal: &'a [TemporalBound],
    slots: &[Datum<'a>],
    arena: &'a RowArena,
    time: T,
) -> Result<Option<Presence>, EvalError> {
    let mut presence = Presence { from: time, until: None };
    for bound in temporal {
        let Datum::MzTimestamp(at) = bound.expression().eval(ctx, slots, arena)? else { return Ok(None) };
        match bound {
            TemporalBound::From(_) => presence.from = presence.from.max(at),
            // The greatest timestamp stands for "never".
            TemporalBound::Until(_) if at == T::MAX => {}
            TemporalBound::Until(_) => presence.until = Some(presence.until.map_or(at, |u| u.min(at))),
        }
    }
    Ok((!presence.is_empty()).then_some(presence))
}

/// The same allocation, for datums of another lifetime.
fn recycle(mut datums: Vec<Datum<'_>>) -> Vec<Datum<'static>> {
    datums.clear();
    datums.into_iter().map(|_| unreachable!("cleared")).collect()
}
