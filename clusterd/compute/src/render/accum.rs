//! Aggregates that add up: counts, exact sums, and boolean connectives as counts of true and false.
//!
//! A group's state is a list of 128-bit counters. Counters that are usually zero (NULLs seen, high halves of sums, NaNs) come last, and
//! trailing zeros are not kept.

use plan::agg::AggregateFunc;
use plan::{AggregateExpr, EvalError, ScalarExpr};
use repr::{Datum, Diff, Numeric, Row, RowPacker};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

/// Counters of one group, or changes of them. The first is the number of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accum(SmallVec<[i128; 3]>);

impl Accum {
    /// From counters, trailing zeros left out.
    pub fn from_slots(slots: &[i128]) -> Self {
        let len = slots.iter().rposition(|s| *s != 0).map_or(0, |i| i + 1);
        Accum(SmallVec::from_slice(&slots[..len]))
    }

    pub fn add(&mut self, other: &Accum) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (slot, change) in self.0.iter_mut().zip(&other.0) {
            *slot = slot.wrapping_add(*change);
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    pub fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub fn slot(&self, index: usize) -> i128 {
        self.0.get(index).copied().unwrap_or(0)
    }
}

impl Serialize for Accum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_slice().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Accum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Accum(Vec::deserialize(deserializer)?.into()))
    }
}

/// Which counters a list of aggregates needs, how a row changes them, and what they say.
#[derive(Clone, Debug)]
pub struct AccumPlan {
    /// The arguments that a row brings, without duplicates, with the counter of NULLs of each.
    args: Vec<(ScalarExpr, Option<usize>)>,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    slots: usize,
}

/// What a row's argument adds to.
#[derive(Clone, Copy, Debug)]
enum Input {
    Int {
        arg: usize,
        sum: usize,
    },
    Numeric {
        arg: usize,
        scale: u16,
        sum: Wide,
    },
    Bool {
        arg: usize,
        value: bool,
        count: usize,
    },
}

/// Counters of a numeric sum: the halves of the mantissas, and the values that are no numbers.
#[derive(Clone, Copy, Debug)]
struct Wide {
    low: usize,
    high: usize,
    nans: usize,
    infinities: usize,
    neg_infinities: usize,
}

#[derive(Clone, Debug)]
struct Output {
    nulls: Option<usize>,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Count,
    /// int8
    Int(usize),
    /// numeric of scale 0
    WideInt(usize),
    Numeric(Wide, u16),
    /// TRUE unless this counter of FALSEs is positive.
    And(usize),
    /// FALSE unless this counter of TRUEs is positive.
    Or(usize),
}

/// Number of rows in the group.
pub const TOTAL: usize = 0;

impl AccumPlan {
    /// The aggregates must be accumulable; whether they are DISTINCT is the caller's business.
    pub fn new(aggregates: &[AggregateExpr]) -> Self {
        let mut plan = AccumPlan {
            args: vec![],
            inputs: vec![],
            outputs: vec![],
            slots: 1,
        };
        let args: Vec<usize> = aggregates.iter().map(|a| plan.arg(&a.expr)).collect();
        // The counters that every row changes come first.
        let firsts: Vec<usize> = aggregates
            .iter()
            .map(|a| {
                if a.func == AggregateFunc::Count {
                    TOTAL
                } else {
                    plan.slot()
                }
            })
            .collect();
        for arg in 0..plan.args.len() {
            let nullable = !matches!(plan.args[arg].0.as_literal(), Some(d) if !d.is_null());
            plan.args[arg].1 = nullable.then(|| plan.slot());
        }
        for ((aggregate, arg), first) in aggregates.iter().zip(args).zip(firsts) {
            let value = plan.value(&aggregate.func, arg, first);
            plan.outputs.push(Output {
                nulls: plan.args[arg].1,
                value,
            });
        }
        plan
    }

    fn arg(&mut self, expr: &ScalarExpr) -> usize {
        self.args
            .iter()
            .position(|(e, _)| e == expr)
            .unwrap_or_else(|| {
                self.args.push((expr.clone(), None));
                self.args.len() - 1
            })
    }

    fn slot(&mut self) -> usize {
        self.slots += 1;
        self.slots - 1
    }

    fn value(&mut self, func: &AggregateFunc, arg: usize, first: usize) -> Value {
        match func {
            AggregateFunc::Count => Value::Count,
            AggregateFunc::SumInt => {
                self.inputs.push(Input::Int { arg, sum: first });
                Value::Int(first)
            }
            AggregateFunc::SumInt8 => {
                self.inputs.push(Input::Int { arg, sum: first });
                Value::WideInt(first)
            }
            AggregateFunc::SumNumeric { scale: Some(scale) } => {
                let sum = Wide {
                    low: first,
                    high: self.slot(),
                    nans: self.slot(),
                    infinities: self.slot(),
                    neg_infinities: self.slot(),
                };
                self.inputs.push(Input::Numeric {
                    arg,
                    scale: *scale,
                    sum,
                });
                Value::Numeric(sum, *scale)
            }
            AggregateFunc::BoolAnd => {
                self.inputs.push(Input::Bool {
                    arg,
                    value: false,
                    count: first,
                });
                Value::And(first)
            }
            AggregateFunc::BoolOr => {
                self.inputs.push(Input::Bool {
                    arg,
                    value: true,
                    count: first,
                });
                Value::Or(first)
            }
            AggregateFunc::SumNumeric { scale: None }
            | AggregateFunc::SumFloat32
            | AggregateFunc::SumFloat64
            | AggregateFunc::SumInterval
            | AggregateFunc::Min(_)
            | AggregateFunc::Max(_)
            | AggregateFunc::ArrayAgg { .. }
            | AggregateFunc::StringAgg => panic!("{func:?} does not add up"),
        }
    }

    /// What to evaluate per row, in the order that [`AccumPlan::accumulate`] expects.
    pub fn args(&self) -> impl Iterator<Item = &ScalarExpr> {
        self.args.iter().map(|(expr, _)| expr)
    }

    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Adds `diff` times a row with these arguments, which are asked for by number.
    #[inline]
    pub fn accumulate<'a>(
        &self,
        args: impl Fn(usize) -> Datum<'a>,
        diff: Diff,
        slots: &mut [i128],
    ) {
        let diff = i128::from(diff);
        slots[TOTAL] += diff;
        for (arg, (_, nulls)) in self.args.iter().enumerate() {
            if let Some(nulls) = nulls
                && args(arg).is_null()
            {
                slots[*nulls] += diff;
            }
        }
        for input in &self.inputs {
            match input {
                Input::Int { arg, sum } => {
                    let value = match args(*arg) {
                        Datum::Null => continue,
                        Datum::Int16(v) => i128::from(v),
                        Datum::Int32(v) => i128::from(v),
                        other => i128::from(other.unwrap_int64()),
                    };
                    slots[*sum] = slots[*sum].wrapping_add(value * diff);
                }
                Input::Numeric { arg, scale, sum } => match args(*arg) {
                    Datum::Null => {}
                    datum => accumulate_numeric(datum.unwrap_numeric(), *scale, *sum, diff, slots),
                },
                Input::Bool { arg, value, count } => match args(*arg) {
                    Datum::Null => {}
                    datum => {
                        if datum.unwrap_bool() == *value {
                            slots[*count] += diff;
                        }
                    }
                },
            }
        }
    }

    /// The aggregates' values for a group with these counters, packed onto the packer; or the least of their errors.
    pub fn finish(&self, accum: &Accum, packer: &mut RowPacker) -> Result<(), EvalError> {
        let mut least: Option<EvalError> = None;
        for output in &self.outputs {
            match self.finish_one(output, accum) {
                Ok(datum) => packer.push(datum),
                Err(error) if least.as_ref().is_none_or(|l| error < *l) => least = Some(error),
                Err(_) => {}
            }
        }
        least.map_or(Ok(()), Err)
    }

    fn finish_one(&self, output: &Output, accum: &Accum) -> Result<Datum<'static>, EvalError> {
        let count = accum.slot(TOTAL) - output.nulls.map_or(0, |slot| accum.slot(slot));
        if matches!(output.value, Value::Count) {
            return match i64::try_from(count) {
                Ok(count) => Ok(Datum::Int64(count)),
                Err(_) => Err(EvalError::out_of_range("bigint")),
            };
        }
        if count <= 0 {
            return Ok(Datum::Null);
        }
        match &output.value {
            Value::Count => unreachable!("handled above"),
            Value::Int(sum) => match i64::try_from(accum.slot(*sum)) {
                Ok(sum) => Ok(Datum::Int64(sum)),
                Err(_) => Err(EvalError::out_of_range("bigint")),
            },
            Value::WideInt(sum) => numeric(accum.slot(*sum), 0),
            Value::Numeric(wide, scale) => finish_numeric(*wide, *scale, accum),
            Value::And(falses) => Ok(Datum::Bool(accum.slot(*falses) <= 0)),
            Value::Or(trues) => Ok(Datum::Bool(accum.slot(*trues) > 0)),
        }
    }

    /// As [`AccumPlan::finish`], as a row.
    pub fn finish_row(&self, accum: &Accum, packer: &mut RowPacker) -> Result<Row, EvalError> {
        packer.clear();
        self.finish(accum, packer)?;
        Ok(packer.finish_row())
    }
}

const LOW_BITS: u32 = 64;

#[inline]
fn accumulate_numeric(value: Numeric, scale: u16, sum: Wide, diff: i128, slots: &mut [i128]) {
    if !value.is_finite() {
        let slot = if value.is_nan() {
            sum.nans
        } else if value.is_negative() {
            sum.neg_infinities
        } else {
            sum.infinities
        };
        slots[slot] += diff;
        return;
    }
    let mut mantissa = value.mantissa();
    // The planner promises one scale for all values; smaller ones are brought up to it, so that a sum never mixes units.
    for _ in value.scale()..scale {
        mantissa = mantissa.wrapping_mul(10);
    }
    assert!(
        value.scale() <= scale,
        "numeric of scale {} in a sum of scale {scale}",
        value.scale()
    );
    let low = (mantissa as u128 & u128::from(u64::MAX)) as i128;
    let high = mantissa >> LOW_BITS;
    slots[sum.low] = slots[sum.low].wrapping_add(low * diff);
    slots[sum.high] = slots[sum.high].wrapping_add(high * diff);
}

fn finish_numeric(sum: Wide, scale: u16, accum: &Accum) -> Result<Datum<'static>, EvalError> {
    let (nans, plus, minus) = (
        accum.slot(sum.nans) > 0,
        accum.slot(sum.infinities) > 0,
        accum.slot(sum.neg_infinities) > 0,
    );
    if nans || (plus && minus) {
        return Ok(Datum::Numeric(Numeric::NAN));
    }
    if plus {
        return Ok(Datum::Numeric(Numeric::INFINITY));
    }
    if minus {
        return Ok(Datum::Numeric(Numeric::NEG_INFINITY));
    }
    let low = accum.slot(sum.low);
    let high = accum.slot(sum.high) + (low >> LOW_BITS);
    let low = low & i128::from(u64::MAX);
    match i64::try_from(high) {
        Ok(high) => numeric((i128::from(high) << LOW_BITS) | low, scale),
        Err(_) => Err(numeric_overflow()),
    }
}

fn numeric(mantissa: i128, scale: u16) -> Result<Datum<'static>, EvalError> {
    Numeric::from_parts(mantissa, scale)
        .map(Datum::Numeric)
        .map_err(|_| numeric_overflow())
}

fn numeric_overflow() -> EvalError {
    EvalError::new("22003", "value overflows numeric format")
}
