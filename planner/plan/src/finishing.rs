//! What remains to be done with the rows of a peek before they are a query's answer.

use crate::error::EvalError;
use crate::mir::ColumnOrder;
use repr::{Datum, Diff, Row, RowPacker};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Sort, cut and project, in that order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Finishing {
    pub order_by: Vec<ColumnOrder>,
    pub limit: Option<u64>,
    pub offset: u64,
    pub project: Vec<usize>,
}

impl Finishing {
    /// Rows of this arity, in any order, all of them.
    pub fn trivial(arity: usize) -> Self {
        Finishing {
            order_by: vec![],
            limit: None,
            offset: 0,
            project: (0..arity).collect(),
        }
    }

    pub fn is_trivial(&self, arity: usize) -> bool {
        self.order_by.is_empty()
            && self.limit.is_none()
            && self.offset == 0
            && self.project.len() == arity
            && self.project.iter().enumerate().all(|(i, c)| i == *c)
    }

    /// The answer's rows. Rows that the order does not tell apart come in the order of their bytes, so that the answer is the same
    /// everywhere.
    ///
    /// # Errors
    /// If a row has a negative multiplicity, which no query may show.
    pub fn finish(&self, mut rows: Vec<(Row, Diff)>) -> Result<FinishedRows, EvalError> {
        rows.retain(|(_, diff)| *diff != 0);
        if rows.iter().any(|(_, diff)| *diff < 0) {
            return Err(EvalError::new(
                "XX000",
                "a row of the result has a negative multiplicity",
            ));
        }
        let wanted = self.limit.map(|limit| limit.saturating_add(self.offset));
        let order = if self.order_by.is_empty() && wanted.is_none() {
            (0..rows.len()).collect()
        } else {
            sorted(&rows, &self.order_by, wanted)
        };
        let arity = rows.first().map_or(0, |(row, _)| row.arity());
        let mut finished = FinishedRows {
            rows,
            order: order.into_iter(),
            current: None,
            remaining: self.limit.unwrap_or(u64::MAX),
            project: (!self.projects_nothing_away(arity)).then(|| self.project.clone()),
            packer: RowPacker::new(),
        };
        finished.skip_rows(self.offset);
        Ok(finished)
    }

    fn projects_nothing_away(&self, arity: usize) -> bool {
        self.project.iter().copied().eq(0..arity)
    }
}

/// The rows of an answer, in order.
pub struct FinishedRows {
    rows: Vec<(Row, Diff)>,
    order: std::vec::IntoIter<usize>,
    /// The row that is being repeated, and how often it still has to be.
    current: Option<(Row, u64)>,
    /// How many rows the limit still allows.
    remaining: u64,
    /// `None`: rows are returned as they are.
    project: Option<Vec<usize>>,
    packer: RowPacker,
}

impl FinishedRows {
    fn skip_rows(&mut self, mut offset: u64) {
        while offset > 0 {
            let Some(index) = self.order.next() else {
                return;
            };
            let (row, diff) = &mut self.rows[index];
            let count = diff.unsigned_abs();
            if count > offset {
                self.current = Some((self.project(index), count - offset));
                return;
            }
            let _ = std::mem::take(row);
            offset -= count;
        }
    }

    fn project(&mut self, index: usize) -> Row {
        let row = std::mem::take(&mut self.rows[index].0);
        let Some(project) = &self.project else {
            return row;
        };
        let datums = row.unpack();
        project.iter().for_each(|c| self.packer.push(datums[*c]));
        self.packer.finish_row()
    }
}

impl Iterator for FinishedRows {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        if self.remaining == 0 {
            return None;
        }
        if self.current.is_none() {
            let index = self.order.next()?;
            let count = self.rows[index].1.unsigned_abs();
            self.current = Some((self.project(index), count));
        }
        self.remaining -= 1;
        let (row, count) = self.current.as_mut()?;
        *count -= 1;
        if *count > 0 {
            return Some(row.clone());
        }
        self.current.take().map(|(row, _)| row)
    }
}

/// Compares two rows by these columns, in SQL order. `left` and `right` have all columns.
pub fn compare_columns(order: &[ColumnOrder], left: &[Datum<'_>], right: &[Datum<'_>]) -> Ordering {
    compare_by(order, |term| (left[term.column], right[term.column]))
}

fn compare_by<'a>(
    order: &[ColumnOrder],
    mut pair: impl FnMut(&ColumnOrder) -> (Datum<'a>, Datum<'a>),
) -> Ordering {
    for term in order {
        let (l, r) = pair(term);
        let ordering = term.compare(l, r);
        if ordering.is_ne() {
            return ordering;
        }
    }
    Ordering::Equal
}

impl ColumnOrder {
    /// Compares two values of the column.
    #[inline]
    pub fn compare(&self, left: Datum<'_>, right: Datum<'_>) -> Ordering {
        match (left.is_null(), right.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) if self.nulls_last => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, true) if self.nulls_last => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) if self.desc => right.cmp(&left),
            (false, false) => left.cmp(&right),
        }
    }
}

/// The positions of the rows in order; if only the first `wanted` count, maybe only those.
pub(crate) fn sorted(
    rows: &[(Row, Diff)],
    order: &[ColumnOrder],
    wanted: Option<u64>,
) -> Vec<usize> {
    let keys: Vec<Datum<'_>> = rows
        .iter()
        .flat_map(|(row, _)| order.iter().map(|term| row.column(term.column)))
        .collect();
    let width = order.len();
    let compare = |l: &usize, r: &usize| {
        let (left, right) = (
            &keys[l * width..(l + 1) * width],
            &keys[r * width..(r + 1) * width],
        );
        let mut at = 0;
        compare_by(order, |_| {
            at += 1;
            (left[at - 1], right[at - 1])
        })
        .then_with(|| rows[*l].0.cmp(&rows[*r].0))
    };
    let mut positions: Vec<usize> = (0..rows.len()).collect();
    // Every row occurs at least once: the first `wanted` positions suffice.
    if let Some(wanted) = wanted
        .and_then(|n| usize::try_from(n).ok())
        .filter(|n| *n < positions.len())
    {
        if wanted > 0 {
            positions.select_nth_unstable_by(wanted - 1, compare);
        }
        positions.truncate(wanted);
    }
    positions.sort_unstable_by(compare);
    positions
}
