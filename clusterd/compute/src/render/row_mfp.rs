//! Map, filter and project, compiled for rows that come in one or more packed parts.
//!
//! Parts are, for example, the key and the value of an arrangement. Each part is walked once: columns that expressions read are decoded, columns
//! that only come out again are copied as they are, the others are stepped over.

use crate::render::ok_err::Changes;
use crate::types::T;
use plan::mfp::TemporalBound;
use plan::scalar::EvalCtx;
use plan::{EvalError, Mfp, ScalarExpr};
use repr::{Datum, Diff, Row, RowArena, RowPacker, RowRef};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

/// A compiled [`Mfp`].
pub struct RowMfp {
    /// Values of literals: the first slots. Decoding them anew for every row would cost as much as decoding a column.
    constants: Vec<Datum<'static>>,
    /// Per part: where to stop, in order.
    loads: Vec<Vec<Load>>,
    steps: Vec<Step>,
    output: Vec<Output>,
    temporal: Vec<TemporalBound>,
    identity: bool,
    /// The same block over all columns of the parts: it decides what a row means whose fast evaluation met an error.
    reference: Mfp,
    ctx: EvalCtx,
    arena: RowArena,
    packer: RowPacker,
}

/// One column that is needed, after so many that are not.
struct Load {
    skip: usize,
    /// Its value becomes the next slot.
    decode: bool,
    /// Its bytes become the next slice.
    copy: bool,
}

enum Step {
    /// The value becomes the next slot.
    Map(ScalarExpr),
    Filter(ScalarExpr),
}

#[derive(Clone, Copy)]
enum Output {
    Slot(usize),
    Slice(usize),
}

type Slots<'a> = SmallVec<[Datum<'a>; 12]>;
type Slices<'a> = SmallVec<[RowRef<'a>; 16]>;

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

/// A row that came out, not yet packed.
pub struct View<'v, 'a> {
    slots: &'v [Datum<'a>],
    slices: &'v [RowRef<'a>],
    output: &'v [Output],
}

impl<'a> View<'_, 'a> {
    pub fn arity(&self) -> usize {
        self.output.len()
    }

    #[inline]
    pub fn datum(&self, column: usize) -> Datum<'a> {
        match self.output[column] {
            Output::Slot(slot) => self.slots[slot],
            Output::Slice(slice) => self.slices[slice]
                .iter()
                .next()
                .expect("a slice holds one datum"),
        }
    }

    #[inline]
    pub fn pack(&self, columns: std::ops::Range<usize>, packer: &mut RowPacker) {
        for output in &self.output[columns] {
            match output {
                Output::Slot(slot) => packer.push(self.slots[*slot]),
                Output::Slice(slice) => packer.push_packed(self.slices[*slice]),
            }
        }
    }
}

impl RowMfp {
    /// For rows whose columns are those of the parts, one part after another.
    pub fn new(mfp: &Mfp, part_arities: &[usize]) -> Self {
        Self::permuted(mfp, part_arities, &|c| c)
    }

    /// As [`RowMfp::new`], for a reader who packs only the first `packed` columns of the output: the others are at hand as values.
    pub fn with_values(mfp: &Mfp, part_arities: &[usize], packed: usize) -> Self {
        Self::compile(mfp, part_arities, &|c| c, packed)
    }

    /// Column `c` of the block's input is column `map(c)` of the parts.
    pub fn permuted(mfp: &Mfp, part_arities: &[usize], map: &dyn Fn(usize) -> usize) -> Self {
        Self::compile(mfp, part_arities, map, usize::MAX)
    }

    fn compile(
        mfp: &Mfp,
        part_arities: &[usize],
        map: &dyn Fn(usize) -> usize,
        packed: usize,
    ) -> Self {
        let reference = renumbered(mfp, part_arities.iter().sum(), map);
        let (decoded, copied) = demand(&reference, packed);

        let literals = literals(&reference);
        let first = literals.len();
        let (mut slots, mut slices) = (BTreeMap::new(), BTreeMap::new());
        let mut loads = vec![];
        let mut start = 0;
        for arity in part_arities {
            let mut part = vec![];
            let mut at = start;
            for c in (start..start + arity).filter(|c| decoded.contains(c) || copied.contains(c)) {
                let load = Load {
                    skip: c - at,
                    decode: decoded.contains(&c),
                    copy: copied.contains(&c),
                };
                if load.decode {
                    slots.insert(c, first + slots.len());
                }
                if load.copy {
                    slices.insert(c, slices.len());
                }
                part.push(load);
                at = c + 1;
            }
            start += arity;
            loads.push(part);
        }

        let mut steps = vec![];
        let to_slots = |expr: &ScalarExpr, slots: &BTreeMap<usize, usize>| {
            let mut expr = expr.clone();
            expr.permute(&|c| slots[&c]);
            expr.visit_mut_post(&mut |e| {
                if let ScalarExpr::Literal(Ok(row), _) = e
                    && let Some(slot) = literals.iter().position(|l| l == row)
                {
                    *e = ScalarExpr::Column(slot);
                }
            });
            expr
        };
        let mut filters = reference.predicates.iter().peekable();
        for (i, expr) in reference.expressions.iter().enumerate() {
            while let Some((_, p)) = filters.next_if(|(n, _)| *n <= reference.input_arity + i) {
                steps.push(Step::Filter(to_slots(p, &slots)));
            }
            if decoded.contains(&(reference.input_arity + i)) {
                steps.push(Step::Map(to_slots(expr, &slots)));
                slots.insert(reference.input_arity + i, first + slots.len());
            }
        }
        steps.extend(filters.map(|(_, p)| Step::Filter(to_slots(p, &slots))));
        let temporal = reference.temporal.iter().map(|bound| {
            let mut bound = bound.clone();
            *bound.expression_mut() = to_slots(bound.expression(), &slots);
            bound
        });
        let output = reference
            .projection
            .iter()
            .enumerate()
            .map(|(i, c)| match slices.get(c) {
                Some(slice) if i < packed => Output::Slice(*slice),
                Some(_) | None => Output::Slot(slots[c]),
            });
        RowMfp {
            temporal: temporal.collect(),
            output: output.collect(),
            constants: literals.iter().filter_map(constant).collect(),
            loads,
            steps,
            identity: part_arities.len() == 1 && reference.is_identity(),
            reference,
            ctx: EvalCtx::default(),
            arena: RowArena::new(),
            packer: RowPacker::new(),
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
    #[inline]
    pub fn evaluate(
        &mut self,
        parts: &[RowRef<'_>],
        time: T,
    ) -> Result<Option<(Row, Presence)>, EvalError> {
        let (mut slots, mut slices) = (Slots::from_slice(&self.constants), Slices::new());
        load(&self.loads, parts, &mut slots, &mut slices);
        let arena = &self.arena;
        let result = match run(&self.ctx, &self.steps, &mut slots, arena) {
            Ok(false) => Ok(None),
            Ok(true) if self.temporal.is_empty() => Ok(Some(Presence {
                from: time,
                until: None,
            })),
            Ok(true) => presence(&self.ctx, &self.temporal, &slots, arena, time),
            Err(error) => Err(error),
        };
        let result = result.map(|presence| {
            presence.map(|presence| {
                let view = View {
                    slots: &slots,
                    slices: &slices,
                    output: &self.output,
                };
                view.pack(0..self.output.len(), &mut self.packer);
                (self.packer.finish_row(), presence)
            })
        });
        drop((slots, slices));
        self.arena.clear();
        match result {
            Ok(result) => Ok(result),
            Err(_) => self.evaluate_by_reference(parts, time),
        }
    }

    #[cold]
    fn evaluate_by_reference(
        &self,
        parts: &[RowRef<'_>],
        time: T,
    ) -> Result<Option<(Row, Presence)>, EvalError> {
        let datums: Vec<Datum<'_>> = parts.iter().flat_map(|p| p.iter()).collect();
        let result = self.reference.eval_temporal(&self.ctx, &datums)?;
        Ok(result.and_then(|(row, interval)| {
            let presence = Presence {
                from: interval.lower.max(time),
                until: interval.upper,
            };
            (!presence.is_empty()).then_some((row, presence))
        }))
    }

    /// Evaluates the row and shows what comes out instead of packing it. Without temporal bounds.
    #[inline]
    pub fn view<R>(
        &mut self,
        parts: &[RowRef<'_>],
        show: impl FnOnce(View<'_, '_>) -> R,
    ) -> Result<Option<R>, EvalError> {
        assert!(
            self.temporal.is_empty(),
            "temporal filters are rows' business"
        );
        let (mut slots, mut slices) = (Slots::from_slice(&self.constants), Slices::new());
        load(&self.loads, parts, &mut slots, &mut slices);
        let result = match run(&self.ctx, &self.steps, &mut slots, &self.arena) {
            Ok(false) => Ok(None),
            Ok(true) => Ok(Some(show(View {
                slots: &slots,
                slices: &slices,
                output: &self.output,
            }))),
            Err(_) => match self.evaluate_by_reference(parts, 0) {
                Ok(None) => Ok(None),
                Ok(Some((row, _))) => {
                    let output: Vec<Output> = (0..self.output.len()).map(Output::Slot).collect();
                    Ok(Some(show(View {
                        slots: &row.unpack(),
                        slices: &[],
                        output: &output,
                    })))
                }
                Err(error) => Err(error),
            },
        };
        drop((slots, slices));
        self.arena.clear();
        result
    }
}

/// The block over the columns of the parts.
fn renumbered(mfp: &Mfp, parts_arity: usize, map: &dyn Fn(usize) -> usize) -> Mfp {
    let map = |c: usize| {
        if c < mfp.input_arity {
            map(c)
        } else {
            parts_arity + (c - mfp.input_arity)
        }
    };
    let remapped = |expr: &ScalarExpr| {
        let mut expr = expr.clone();
        expr.permute(&map);
        expr
    };
    Mfp {
        input_arity: parts_arity,
        expressions: mfp.expressions.iter().map(&remapped).collect(),
        predicates: mfp
            .predicates
            .iter()
            .map(|(n, p)| (n.saturating_sub(mfp.input_arity) + parts_arity, remapped(p)))
            .collect(),
        projection: mfp.projection.iter().map(|c| map(*c)).collect(),
        temporal: mfp
            .temporal
            .iter()
            .map(|bound| {
                let mut bound = bound.clone();
                *bound.expression_mut() = remapped(bound.expression());
                bound
            })
            .collect(),
    }
}

/// Columns whose values are needed (mapped ones included), and columns whose bytes are: those of the first `packed` of the output.
fn demand(mfp: &Mfp, packed: usize) -> (BTreeSet<usize>, BTreeSet<usize>) {
    let (mut decoded, mut copied) = (BTreeSet::new(), BTreeSet::new());
    for (_, predicate) in &mfp.predicates {
        predicate.support_into(&mut decoded);
    }
    for bound in &mfp.temporal {
        bound.expression().support_into(&mut decoded);
    }
    for (i, c) in mfp.projection.iter().enumerate() {
        if *c < mfp.input_arity && i < packed {
            copied.insert(*c);
        } else {
            decoded.insert(*c);
        }
    }
    for (i, expr) in mfp.expressions.iter().enumerate().rev() {
        if decoded.contains(&(mfp.input_arity + i)) {
            expr.support_into(&mut decoded);
        }
    }
    (decoded, copied)
}

/// The literals of the block whose values can be kept decoded, each once.
fn literals(mfp: &Mfp) -> Vec<Row> {
    let mut literals: Vec<Row> = vec![];
    let predicates = mfp.predicates.iter().map(|(_, p)| p);
    let temporal = mfp.temporal.iter().map(|bound| bound.expression());
    for expr in mfp.expressions.iter().chain(predicates).chain(temporal) {
        expr.visit(&mut |e| {
            if let ScalarExpr::Literal(Ok(row), _) = e
                && constant(row).is_some()
                && !literals.contains(row)
            {
                literals.push(row.clone());
            }
        });
    }
    literals
}

/// The row's datum, unless it borrows from the row.
fn constant(row: &Row) -> Option<Datum<'static>> {
    match row.iter().next()? {
        Datum::Null => Some(Datum::Null),
        Datum::Bool(v) => Some(Datum::Bool(v)),
        Datum::Int16(v) => Some(Datum::Int16(v)),
        Datum::Int32(v) => Some(Datum::Int32(v)),
        Datum::Int64(v) => Some(Datum::Int64(v)),
        Datum::Float32(v) => Some(Datum::Float32(v)),
        Datum::Float64(v) => Some(Datum::Float64(v)),
        Datum::Numeric(v) => Some(Datum::Numeric(v)),
        Datum::Date(v) => Some(Datum::Date(v)),
        Datum::Time(v) => Some(Datum::Time(v)),
        Datum::Timestamp(v) => Some(Datum::Timestamp(v)),
        Datum::TimestampTz(v) => Some(Datum::TimestampTz(v)),
        Datum::Interval(v) => Some(Datum::Interval(v)),
        Datum::Uuid(v) => Some(Datum::Uuid(v)),
        Datum::Oid(v) => Some(Datum::Oid(v)),
        Datum::MzTimestamp(v) => Some(Datum::MzTimestamp(v)),
        Datum::String(_) | Datum::Bytes(_) | Datum::Array(_) | Datum::Record(_) => None,
    }
}

#[inline]
fn load<'a>(
    loads: &[Vec<Load>],
    parts: &[RowRef<'a>],
    slots: &mut Slots<'a>,
    slices: &mut Slices<'a>,
) {
    debug_assert_eq!(loads.len(), parts.len());
    for (part_loads, part) in loads.iter().zip(parts) {
        let mut datums = part.iter();
        for Load { skip, decode, copy } in part_loads {
            if *skip > 0 {
                datums.skip_n(*skip);
            }
            if *copy {
                let slice = datums.take_packed(1);
                slices.push(slice);
                if *decode {
                    slots.push(
                        slice
                            .iter()
                            .next()
                            .expect("row has the columns of its plan"),
                    );
                }
            } else {
                slots.push(datums.next().expect("row has the columns of its plan"));
            }
        }
    }
}

#[inline]
fn run<'a>(
    ctx: &EvalCtx,
    steps: &'a [Step],
    slots: &mut Slots<'a>,
    arena: &'a RowArena,
) -> Result<bool, EvalError> {
    for step in steps {
        match step {
            Step::Map(expr) => {
                let value = expr.eval(ctx, slots, arena)?;
                slots.push(value);
            }
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
    let mut presence = Presence {
        from: time,
        until: None,
    };
    for bound in temporal {
        let Datum::MzTimestamp(at) = bound.expression().eval(ctx, slots, arena)? else {
            return Ok(None);
        };
        match bound {
            TemporalBound::From(_) => presence.from = presence.from.max(at),
            // The greatest timestamp stands for "never".
            TemporalBound::Until(_) if at == T::MAX => {}
            TemporalBound::Until(_) => {
                presence.until = Some(presence.until.map_or(at, |u| u.min(at)))
            }
        }
    }
    Ok((!presence.is_empty()).then_some(presence))
}
