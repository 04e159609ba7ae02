//! What aggregates mean: the result over all values of a group.
//!
//! Results do not depend on the order of the values: where it matters (sums of floats, concatenations, the choice among values
//! that are equal but not identical) the order of [`AggregateFunc::compare`] is taken.

use super::{AggregateExpr, AggregateFunc};
use crate::error::EvalError;
use repr::{Datum, Diff, Interval, Numeric, Row, RowArena, SqlType, TimeError};
use std::cmp::Ordering;

/// The most bytes that an aggregate collects into one value.
const COLLECTED_BYTES_MAX: usize = 256 * 1024 * 1024;

impl AggregateExpr {
    /// The aggregate of a group, from the argument's values and how often each occurs. Values may repeat.
    ///
    /// # Errors
    /// Overflow; a value that occurs a negative number of times.
    pub fn eval<'a>(
        &self,
        values: impl IntoIterator<Item = (Datum<'a>, Diff)>,
        arena: &'a RowArena,
    ) -> Result<Datum<'a>, EvalError> {
        let values = values.into_iter();
        if self.distinct || self.func.needs_order() {
            self.func.eval(self.ordered(values)?.into_iter(), arena)
        } else {
            self.func.eval(values, arena)
        }
    }

    /// The values that contribute, equal ones side by side; with DISTINCT, each once.
    fn ordered<'a>(
        &self,
        values: impl Iterator<Item = (Datum<'a>, Diff)>,
    ) -> Result<Vec<(Datum<'a>, Diff)>, EvalError> {
        let keeps_null = self.func.keeps_null();
        let mut ordered: Vec<(Datum<'a>, Diff)> =
            values.filter(|(d, _)| keeps_null || !d.is_null()).collect();
        ordered.sort_by(|(l, _), (r, _)| self.func.compare(*l, *r));
        if self.distinct {
            // Copies may come apart, with the counts that cancel each other out.
            let mut merged: Vec<(Datum<'a>, Diff)> = Vec::with_capacity(ordered.len());
            for (value, diff) in ordered {
                match merged.last_mut() {
                    Some((kept, total)) if self.func.sql_cmp(*kept, value).is_eq() => {
                        *total += diff
                    }
                    _ => merged.push((value, diff)),
                }
            }
            merged.retain(|(_, diff)| *diff != 0);
            for (_, diff) in &mut merged {
                count(*diff)?;
                *diff = 1;
            }
            return Ok(merged);
        }
        Ok(ordered)
    }
}

impl AggregateFunc {
    /// SQL order of the argument, and the order of bytes where SQL sees no difference.
    pub fn compare(&self, left: Datum<'_>, right: Datum<'_>) -> Ordering {
        self.sql_cmp(left, right).then_with(|| match (left, right) {
            // Only these have values that are equal without being identical.
            (
                Datum::Numeric(_)
                | Datum::Float32(_)
                | Datum::Float64(_)
                | Datum::Interval(_)
                | Datum::String(_)
                | Datum::Array(_)
                | Datum::Record(_),
                _,
            ) => Row::pack_slice(&[left]).cmp(&Row::pack_slice(&[right])),
            _ => Ordering::Equal,
        })
    }

    fn sql_cmp(&self, left: Datum<'_>, right: Datum<'_>) -> Ordering {
        match (self, left, right) {
            (
                AggregateFunc::Min(SqlType::Char(_)) | AggregateFunc::Max(SqlType::Char(_)),
                Datum::String(l),
                Datum::String(r),
            ) => l.trim_end_matches(' ').cmp(r.trim_end_matches(' ')),
            (_, l, r) => l.cmp(&r),
        }
    }

    /// Whether the result depends on the order in which the values are taken.
    fn needs_order(&self) -> bool {
        match self {
            AggregateFunc::SumFloat32
            | AggregateFunc::SumFloat64
            | AggregateFunc::SumNumeric { .. }
            | AggregateFunc::SumInterval
            | AggregateFunc::ArrayAgg { .. }
            | AggregateFunc::StringAgg => true,
            AggregateFunc::Count
            | AggregateFunc::SumInt
            | AggregateFunc::SumInt8
            | AggregateFunc::Min(_)
            | AggregateFunc::Max(_)
            | AggregateFunc::BoolAnd
            | AggregateFunc::BoolOr => false,
        }
    }

    fn keeps_null(&self) -> bool {
        matches!(self, AggregateFunc::ArrayAgg { .. })
    }

    fn eval<'a>(
        &self,
        values: impl Iterator<Item = (Datum<'a>, Diff)>,
        arena: &'a RowArena,
    ) -> Result<Datum<'a>, EvalError> {
        let keeps_null = self.keeps_null();
        let values = values.filter(|(d, _)| keeps_null || !d.is_null());
        match self {
            AggregateFunc::Count => {
                let total = values.map(|(_, diff)| i128::from(diff)).sum::<i128>();
                i64::try_from(total)
                    .map(Datum::Int64)
                    .map_err(|_| EvalError::out_of_range("bigint"))
            }
            AggregateFunc::SumInt => match integer_sum(values)? {
                None => Ok(Datum::Null),
                Some(sum) => i64::try_from(sum)
                    .map(Datum::Int64)
                    .map_err(|_| EvalError::out_of_range("bigint")),
            },
            AggregateFunc::SumInt8 => match integer_sum(values)? {
                None => Ok(Datum::Null),
                Some(sum) => Ok(Datum::Numeric(Numeric::from_i128(sum)?)),
            },
            AggregateFunc::SumNumeric { .. } => fold(values, |sum: Numeric, value, diff| {
                Ok(sum.checked_add(value.unwrap_numeric().checked_mul(Numeric::from(diff))?)?)
            }),
            // Copies of a value are added at once, rounded once.
            AggregateFunc::SumFloat32 => fold(values, |sum: f32, value, diff| {
                let value = value.unwrap_float32();
                let next = value.mul_add(diff as f32, sum);
                if next.is_infinite() && sum.is_finite() && value.is_finite() {
                    Err(overflow())
                } else {
                    Ok(next)
                }
            }),
            AggregateFunc::SumFloat64 => fold(values, |sum: f64, value, diff| {
                let value = value.unwrap_float64();
                let next = value.mul_add(diff as f64, sum);
                if next.is_infinite() && sum.is_finite() && value.is_finite() {
                    Err(overflow())
                } else {
                    Ok(next)
                }
            }),
            AggregateFunc::SumInterval => fold(values, |sum: Interval, value, diff| {
                add_interval(sum, value.unwrap_interval(), diff)
                    .ok_or_else(|| TimeError::IntervalOutOfRange.into())
            }),
            AggregateFunc::Min(_) => self.best(values, Ordering::Less),
            AggregateFunc::Max(_) => self.best(values, Ordering::Greater),
            AggregateFunc::BoolAnd => Ok(values
                .map(|(v, _)| v.unwrap_bool())
                .reduce(|l, r| l && r)
                .into()),
            AggregateFunc::BoolOr => Ok(values
                .map(|(v, _)| v.unwrap_bool())
                .reduce(|l, r| l || r)
                .into()),
            AggregateFunc::ArrayAgg { .. } => array_agg(values, arena),
            AggregateFunc::StringAgg => string_agg(values, arena),
        }
    }

    fn best<'a>(
        &self,
        values: impl Iterator<Item = (Datum<'a>, Diff)>,
        wanted: Ordering,
    ) -> Result<Datum<'a>, EvalError> {
        let mut best = Datum::Null;
        for (value, diff) in values {
            count(diff)?;
            if best.is_null() || self.compare(value, best) == wanted {
                best = value;
            }
        }
        Ok(best)
    }
}

fn overflow() -> EvalError {
    EvalError::new("22003", "value out of range: overflow")
}

/// The number of times a value occurs.
fn count(diff: Diff) -> Result<usize, EvalError> {
    usize::try_from(diff)
        .map_err(|_| EvalError::new("XX000", "an aggregated row has a negative multiplicity"))
}

fn integer_sum<'a>(
    values: impl Iterator<Item = (Datum<'a>, Diff)>,
) -> Result<Option<i128>, EvalError> {
    let mut sum = None;
    for (value, diff) in values {
        let value = match value {
            Datum::Int16(v) => i64::from(v),
            Datum::Int32(v) => i64::from(v),
            other => other.unwrap_int64(),
        };
        let added = i128::from(value) * i128::from(diff);
        sum = Some(
            sum.unwrap_or(0i128)
                .checked_add(added)
                .ok_or_else(|| EvalError::out_of_range("bigint"))?,
        );
    }
    Ok(sum)
}

/// What a fold starts from.
trait Start {
    const START: Self;
}

impl Start for Numeric {
    const START: Numeric = Numeric::ZERO;
}

impl Start for f32 {
    // Minus zero is the neutral element: the sum of minus zeros is minus zero.
    const START: f32 = -0.0;
}

impl Start for f64 {
    const START: f64 = -0.0;
}

impl Start for Interval {
    const START: Interval = Interval::ZERO;
}

/// The fold of the values, or NULL over none.
fn fold<'a, S: Start + Into<Datum<'a>>>(
    values: impl Iterator<Item = (Datum<'a>, Diff)>,
    mut step: impl FnMut(S, Datum<'a>, Diff) -> Result<S, EvalError>,
) -> Result<Datum<'a>, EvalError> {
    let mut sum = None;
    for (value, diff) in values {
        sum = Some(step(sum.unwrap_or(S::START), value, diff)?);
    }
    Ok(sum.map_or(Datum::Null, Into::into))
}

fn add_interval(sum: Interval, value: Interval, diff: Diff) -> Option<Interval> {
    let part = |sum: i32, value: i32| {
        i32::try_from(i128::from(sum) + i128::from(value) * i128::from(diff)).ok()
    };
    let micros = i128::from(sum.micros) + i128::from(value.micros) * i128::from(diff);
    Some(Interval {
        months: part(sum.months, value.months)?,
        days: part(sum.days, value.days)?,
        micros: i64::try_from(micros).ok()?,
    })
}

fn too_large() -> EvalError {
    EvalError::new("54000", "the aggregated value is too large")
}

fn array_agg<'a>(
    values: impl Iterator<Item = (Datum<'a>, Diff)>,
    arena: &'a RowArena,
) -> Result<Datum<'a>, EvalError> {
    let mut elements = vec![];
    for (value, diff) in values {
        let copies = count(diff)?;
        if (elements.len() + copies).saturating_mul(size_of::<Datum<'_>>()) > COLLECTED_BYTES_MAX {
            return Err(too_large());
        }
        elements.extend(std::iter::repeat_n(value, copies));
    }
    if elements.is_empty() {
        return Ok(Datum::Null);
    }
    Ok(arena.make_datum(|packer| packer.push_list(elements.iter())))
}

fn string_agg<'a>(
    values: impl Iterator<Item = (Datum<'a>, Diff)>,
    arena: &'a RowArena,
) -> Result<Datum<'a>, EvalError> {
    let mut text: Option<String> = None;
    for (pair, diff) in values {
        let mut fields = pair.unwrap_record().iter();
        let (Some(Datum::String(value)), separator) = (fields.next(), fields.next()) else {
            continue;
        };
        let separator = separator
            .filter(|d| !d.is_null())
            .map_or("", |d| d.unwrap_str());
        for _ in 0..count(diff)? {
            match &mut text {
                None => text = Some(value.to_owned()),
                Some(text) => {
                    text.push_str(separator);
                    text.push_str(value);
                }
            }
            if text.as_ref().is_some_and(|t| t.len() > COLLECTED_BYTES_MAX) {
                return Err(too_large());
            }
        }
    }
    Ok(text.map_or(Datum::Null, |text| Datum::String(arena.push_string(text))))
}
