//! Reduce and TopK: rows by group.

use super::{Interpreter, Rows};
use crate::agg::AggregateExpr;
use crate::error::EvalError;
use crate::finishing::sorted;
use crate::mir::ColumnOrder;
use crate::scalar::ScalarExpr;
use repr::{ColumnType, Datum, Diff, Row, RowArena, RowPacker};
use std::collections::BTreeMap;

impl Interpreter<'_> {
    /// The output's group key is the canonical one: of numerics that differ in scale only, the shortest.
    pub(super) fn reduce(
        &mut self,
        input: Rows,
        types: &[ColumnType],
        group_key: &[ScalarExpr],
        aggregates: &[AggregateExpr],
    ) -> Result<Rows, EvalError> {
        let mut output = self.output(input.error.clone());
        let key_types: Vec<ColumnType> = group_key.iter().map(|e| e.typ(types)).collect();
        let mut groups: BTreeMap<Row, Group> = BTreeMap::new();
        for (row, diff) in input.rows.iter() {
            self.tick()?;
            match self.argument_rows(row, group_key, &key_types, aggregates) {
                Ok((key, arguments)) => {
                    groups.entry(key).or_default().rows.push((arguments, *diff))
                }
                Err(error) => output.fail(error),
            }
        }
        let mut packer = RowPacker::new();
        for (key, group) in groups {
            self.tick()?;
            let total: i128 = group.rows.iter().map(|(_, diff)| i128::from(*diff)).sum();
            if total < 0 || (!aggregates.is_empty() && group.rows.iter().any(|(_, diff)| *diff < 0))
            {
                output.fail(EvalError::new(
                    "XX000",
                    "an aggregated row has a negative multiplicity",
                ));
                continue;
            }
            if total == 0 {
                continue;
            }
            packer.extend_row(key.as_ref());
            match group.aggregate(aggregates, &mut packer) {
                Ok(()) => output.push(packer.finish_row(), 1)?,
                Err(error) => {
                    packer.clear();
                    output.fail(error);
                }
            }
        }
        Ok(output.finish())
    }

    /// The canonical group key of a row, and the arguments of the aggregates.
    fn argument_rows(
        &self,
        row: &Row,
        group_key: &[ScalarExpr],
        key_types: &[ColumnType],
        aggregates: &[AggregateExpr],
    ) -> Result<(Row, Row), EvalError> {
        let columns = row.unpack();
        let arena = RowArena::new();
        let mut packer = RowPacker::new();
        for (e, ty) in group_key.iter().zip(key_types) {
            let value = e.eval(self.env.ctx, &columns, &arena)?;
            // A numeric whose scale the type fixes keeps it: equal values are identical already.
            packer.push(if ty.ty.needs_key_canonical() {
                value.key_canonical(&ty.ty, &arena)
            } else {
                value
            });
        }
        let key = packer.finish_row();
        for aggregate in aggregates {
            packer.push(aggregate.expr.eval(self.env.ctx, &columns, &arena)?);
        }
        Ok((key, packer.finish_row()))
    }

    pub(super) fn top_k(
        &mut self,
        input: Rows,
        types: &[ColumnType],
        group_key: &[usize],
        order_key: &[ColumnOrder],
        limit: Option<&ScalarExpr>,
        offset: u64,
    ) -> Result<Rows, EvalError> {
        let mut output = self.output(input.error.clone());
        let mut groups: BTreeMap<Row, Vec<(Row, Diff)>> = BTreeMap::new();
        for (row, diff) in input.rows.iter() {
            self.tick()?;
            let columns = row.unpack();
            let arena = RowArena::new();
            let key = Row::pack(
                group_key
                    .iter()
                    .map(|c| columns[*c].key_canonical(&types[*c].ty, &arena)),
            );
            if *diff < 0 {
                output.fail(EvalError::new(
                    "XX000",
                    "a row to be limited has a negative multiplicity",
                ));
                continue;
            }
            groups.entry(key).or_default().push((row.clone(), *diff));
        }
        for (key, rows) in groups {
            let limit = match self.limit_of(&key, limit) {
                Ok(limit) => limit,
                Err(error) => {
                    output.fail(error);
                    continue;
                }
            };
            let wanted = limit.map(|n| n.saturating_add(offset));
            let (mut skip, mut left) = (offset, limit.unwrap_or(u64::MAX));
            for position in sorted(&rows, order_key, wanted) {
                self.tick()?;
                let (row, diff) = &rows[position];
                let available = diff.unsigned_abs();
                let skipped = available.min(skip);
                skip -= skipped;
                let taken = (available - skipped).min(left);
                left -= taken;
                if taken > 0 {
                    output.push(row.clone(), taken as Diff)?;
                }
            }
        }
        Ok(output.finish())
    }

    /// The limit of a group: an expression over the columns of its key.
    fn limit_of(&self, key: &Row, limit: Option<&ScalarExpr>) -> Result<Option<u64>, EvalError> {
        let Some(limit) = limit else { return Ok(None) };
        let arena = RowArena::new();
        let columns = key.unpack();
        match limit.eval(self.env.ctx, &columns, &arena)? {
            Datum::Null => Ok(None),
            Datum::Int64(n) => match u64::try_from(n) {
                Ok(n) => Ok(Some(n)),
                Err(_) => Err(EvalError::new("2201W", "LIMIT must not be negative")),
            },
            other => Err(EvalError::new(
                "XX000",
                format!("a limit is not a bigint: {other:?}"),
            )),
        }
    }
}

/// The aggregates' arguments of each row of a group.
#[derive(Default)]
struct Group {
    rows: Vec<(Row, Diff)>,
}

impl Group {
    /// Appends the aggregates.
    fn aggregate(
        &self,
        aggregates: &[AggregateExpr],
        packer: &mut RowPacker,
    ) -> Result<(), EvalError> {
        let mut least_error = None;
        for (i, aggregate) in aggregates.iter().enumerate() {
            let arena = RowArena::new();
            let values = self.rows.iter().map(|(row, diff)| (row.column(i), *diff));
            match aggregate.eval(values, &arena) {
                Ok(value) => packer.push(value),
                Err(error) => crate::scalar::eval::keep_least(&mut least_error, error),
            }
        }
        least_error.map_or(Ok(()), Err)
    }
}
