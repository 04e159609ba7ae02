//! Joins: one input after the other is looked up in a hash table by the expressions that tie it to those before.

use super::{Interpreter, Rows};
use crate::error::EvalError;
use crate::mir::Mir;
use crate::scalar::ScalarExpr;
use repr::{ColumnType, Datum, Diff, Row, RowArena, RowPacker};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// The rows joined so far. Their columns are those of the inputs joined, in the order of joining.
struct Joined {
    rows: Vec<(Row, Diff)>,
    /// Where each column of the join's output is in these rows, if it is there.
    position: Vec<Option<usize>>,
    arity: usize,
    /// Which members of the equivalence classes the rows are known to satisfy.
    checked: Vec<Vec<bool>>,
}

impl Joined {
    fn has(&self, e: &ScalarExpr) -> bool {
        e.support().iter().all(|c| self.position[*c].is_some())
    }

    /// The expression, over the joined rows.
    fn localize(&self, e: &ScalarExpr) -> ScalarExpr {
        let mut e = e.clone();
        e.permute(&|c| self.position[c].expect("checked by `has`"));
        e
    }
}

/// One equality that ties the next input to the rows joined so far.
struct Tie {
    left: ScalarExpr,
    right: ScalarExpr,
    ty: ColumnType,
}

impl Interpreter<'_> {
    pub(super) fn join(
        &mut self,
        inputs: &[Mir],
        equivalences: &[Vec<ScalarExpr>],
    ) -> Result<Rows, EvalError> {
        let types: Vec<ColumnType> = inputs.iter().flat_map(Mir::types).collect();
        let mut ranges: Vec<Range<usize>> = vec![];
        for input in inputs {
            let start = ranges.last().map_or(0, |r| r.end);
            ranges.push(start..start + input.arity());
        }
        let mut errors = self.output(None);
        let mut contents = vec![];
        for input in inputs {
            let rows = self.eval(input)?.consolidated();
            if let Some(error) = rows.error {
                errors.fail(error);
            }
            contents.push(rows.rows);
        }

        let mut joined = Joined {
            rows: vec![(Row::empty(), 1)],
            position: vec![None; types.len()],
            arity: 0,
            checked: equivalences
                .iter()
                .map(|class| vec![false; class.len()])
                .collect(),
        };
        let mut remaining: Vec<usize> = (0..inputs.len()).collect();
        while !remaining.is_empty() {
            // An input that is tied to what is there, so that no cross product is made needlessly.
            let tied = |i: &usize| !ties(&joined, &ranges[*i], equivalences, &types).is_empty();
            let at = remaining.iter().position(tied).unwrap_or(0);
            let next = remaining.remove(at);
            let ties = ties(&joined, &ranges[next], equivalences, &types);
            self.join_one(
                &mut joined,
                &contents[next],
                &ranges[next],
                &ties,
                &mut errors,
            )?;
            self.check_equivalences(&mut joined, equivalences, &types, &mut errors)?;
        }

        // Back into the order of the inputs.
        let order: Vec<usize> = joined
            .position
            .iter()
            .map(|p| p.expect("all inputs are joined"))
            .collect();
        if order.iter().copied().eq(0..order.len()) {
            return Ok(Rows {
                rows: Arc::new(joined.rows),
                error: errors.error,
            });
        }
        let mut packer = RowPacker::new();
        for (row, _) in &mut joined.rows {
            let columns = row.unpack();
            packer.extend(order.iter().map(|c| columns[*c]));
            *row = packer.finish_row();
        }
        Ok(Rows {
            rows: Arc::new(joined.rows),
            error: errors.error,
        })
    }

    /// Joins the rows so far with one input.
    fn join_one(
        &mut self,
        joined: &mut Joined,
        input: &[(Row, Diff)],
        range: &Range<usize>,
        ties: &[Tie],
        errors: &mut super::Output,
    ) -> Result<(), EvalError> {
        let key = |exprs: Vec<&ScalarExpr>| -> Vec<(ScalarExpr, ColumnType)> {
            exprs
                .into_iter()
                .cloned()
                .zip(ties.iter().map(|t| t.ty.clone()))
                .collect()
        };
        let right_key = key(ties.iter().map(|t| &t.right).collect());
        let left_key = key(ties.iter().map(|t| &t.left).collect());
        let mut table: HashMap<Row, Vec<usize>> = HashMap::new();
        for (i, (row, _)) in input.iter().enumerate() {
            self.tick()?;
            match self.key_of(row, &right_key) {
                Ok(Some(key)) => table.entry(key).or_default().push(i),
                Ok(None) => {}
                Err(error) => errors.fail(error),
            }
        }
        let mut output = self.output(None);
        let mut packer = RowPacker::new();
        for (left, left_diff) in &joined.rows {
            self.tick()?;
            let matches = match self.key_of(left, &left_key) {
                Ok(Some(key)) => table.get(&key),
                Ok(None) => None,
                Err(error) => {
                    errors.fail(error);
                    None
                }
            };
            for i in matches.into_iter().flatten() {
                self.tick()?;
                let (right, right_diff) = &input[*i];
                packer.extend_row(left.as_ref());
                packer.extend_row(right.as_ref());
                output.push(packer.finish_row(), left_diff.saturating_mul(*right_diff))?;
            }
        }
        joined.rows = output.rows;
        for (offset, column) in range.clone().enumerate() {
            joined.position[column] = Some(joined.arity + offset);
        }
        joined.arity += range.len();
        Ok(())
    }

    /// The canonical key of a row; nothing if a part of it is NULL.
    fn key_of(
        &self,
        row: &Row,
        key: &[(ScalarExpr, ColumnType)],
    ) -> Result<Option<Row>, EvalError> {
        let columns = row.unpack();
        let arena = RowArena::new();
        let mut packer = RowPacker::new();
        for (e, ty) in key {
            let value = e.eval(self.env.ctx, &columns, &arena)?;
            if value.is_null() {
                return Ok(None);
            }
            packer.push(value.key_canonical(&ty.ty.without_typmod(), &arena));
        }
        Ok(Some(packer.finish_row()))
    }

    /// Drops rows that violate a class whose members have all come to be known since the last check.
    fn check_equivalences(
        &mut self,
        joined: &mut Joined,
        equivalences: &[Vec<ScalarExpr>],
        types: &[ColumnType],
        errors: &mut super::Output,
    ) -> Result<(), EvalError> {
        let mut tests: Vec<Vec<(ScalarExpr, ColumnType)>> = vec![];
        for (class, members) in equivalences.iter().enumerate() {
            let known: Vec<usize> = (0..members.len())
                .filter(|m| joined.has(&members[*m]))
                .collect();
            if known.iter().all(|m| joined.checked[class][*m]) {
                continue;
            }
            tests.push(
                known
                    .iter()
                    .map(|m| (joined.localize(&members[*m]), members[*m].typ(types)))
                    .collect(),
            );
            known.iter().for_each(|m| joined.checked[class][*m] = true);
        }
        if tests.is_empty() {
            return Ok(());
        }
        let mut kept = Vec::with_capacity(joined.rows.len());
        for (row, diff) in std::mem::take(&mut joined.rows) {
            self.tick()?;
            match self.satisfies(&row, &tests) {
                Ok(true) => kept.push((row, diff)),
                Ok(false) => {}
                Err(error) => errors.fail(error),
            }
        }
        joined.rows = kept;
        Ok(())
    }

    /// Whether the members of each class are equal and not NULL.
    fn satisfies(
        &self,
        row: &Row,
        tests: &[Vec<(ScalarExpr, ColumnType)>],
    ) -> Result<bool, EvalError> {
        let columns = row.unpack();
        let arena = RowArena::new();
        for class in tests {
            let mut first: Option<Datum<'_>> = None;
            for (e, ty) in class {
                let value = e
                    .eval(self.env.ctx, &columns, &arena)?
                    .key_canonical(&ty.ty.without_typmod(), &arena);
                if value.is_null() || first.is_some_and(|first| first != value) {
                    return Ok(false);
                }
                first = Some(value);
            }
        }
        Ok(true)
    }
}

/// The classes that have a member over the rows joined so far and one over the input. `right` is over the input's own columns.
fn ties(
    joined: &Joined,
    range: &Range<usize>,
    equivalences: &[Vec<ScalarExpr>],
    types: &[ColumnType],
) -> Vec<Tie> {
    let over_input = |e: &ScalarExpr| {
        let support = e.support();
        !support.is_empty() && support.iter().all(|c| range.contains(c))
    };
    let tie = |class: &Vec<ScalarExpr>| {
        let left = class.iter().find(|e| joined.has(e))?;
        let right = class.iter().find(|e| over_input(e))?;
        let mut local = right.clone();
        local.permute(&|c| c - range.start);
        Some(Tie {
            left: joined.localize(left),
            right: local,
            ty: right.typ(types),
        })
    };
    equivalences.iter().filter_map(tie).collect()
}
