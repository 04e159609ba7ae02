//! The first rows of each group in an order.

use crate::footprint::Footprint;
use crate::render::arrange::split_rows;
use crate::render::groups::{GroupLogic, KEPT_VALUE_BYTES, maintain};
use crate::render::ok_err::Changes;
use crate::types::*;
use plan::lir::{KeyValPermutation, TopKPlan};
use plan::mir::ColumnOrder;
use plan::scalar::EvalCtx;
use plan::{EvalError, ScalarExpr};
use repr::{Datum, Diff, Row, RowArena};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

/// The collection's first rows per group, and errors of the limit.
pub fn top_k<'s>(
    rows: Rows<'s>,
    plan: &TopKPlan,
    footprint: &Footprint,
    name: &str,
) -> (Rows<'s>, Vec<Rows<'s>>) {
    if plan.limit.is_none() && plan.offset == 0 {
        return (rows, vec![]);
    }
    let key: Vec<ScalarExpr> = plan
        .group_key
        .iter()
        .map(|c| ScalarExpr::Column(*c))
        .collect();
    // The value is the whole row: it is what comes out.
    let split = KeyValPermutation {
        key,
        value: (0..plan.arity).collect(),
        permutation: (0..plan.arity).map(|c| c + plan.group_key.len()).collect(),
    };
    let (keyed, split_errs) = split_rows(rows, &split, false, name);
    let logic = TopK {
        order: plan.order_key.clone().into(),
        limit: plan.limit.clone(),
        offset: plan.offset,
        ctx: EvalCtx::default(),
        kept: 0,
    };
    let (oks, errs) = maintain(keyed, logic, footprint, name);
    (oks, vec![split_errs, errs])
}

struct TopK {
    order: Rc<[ColumnOrder]>,
    limit: Option<ScalarExpr>,
    offset: u64,
    ctx: EvalCtx,
    /// Rows kept, of all groups.
    kept: usize,
}

#[derive(Default)]
struct Group {
    rows: BTreeMap<Ordered, Diff>,
    /// What was last said: rows with multiplicities, in order.
    output: Vec<(Row, Diff)>,
    error: Option<EvalError>,
}

/// A row that compares in the plan's order, ties broken by its bytes.
struct Ordered {
    row: Row,
    order: Rc<[ColumnOrder]>,
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        for order in self.order.iter() {
            let by_column = compare(
                self.row.column(order.column),
                other.row.column(order.column),
                order,
            );
            if by_column != Ordering::Equal {
                return by_column;
            }
        }
        match planted::is("h25") {
            true => by_chance(&self.row).cmp(&by_chance(&other.row)),
            false => self.row.cmp(&other.row),
        }
    }
}

/// The planted bug `h25`: an order that each worker has for itself.
fn by_chance(row: &Row) -> u64 {
    thread_local! {
        static ORDER: RandomState = RandomState::new();
    }
    ORDER.with(|order| order.hash_one(row.as_bytes()))
}

fn compare(a: Datum<'_>, b: Datum<'_>, order: &ColumnOrder) -> Ordering {
    match (a.is_null(), b.is_null()) {
        (true, true) => Ordering::Equal,
        (true, false) => {
            if order.nulls_last {
                Ordering::Greater
            } else {
                Ordering::Less
            }
        }
        (false, true) => {
            if order.nulls_last {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
        (false, false) => {
            if order.desc {
                b.cmp(&a)
            } else {
                a.cmp(&b)
            }
        }
    }
}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ordered {
    fn eq(&self, other: &Self) -> bool {
        self.row == other.row
    }
}

impl Eq for Ordered {}

impl TopK {
    /// How many rows may come out; `None`: all.
    fn limit(&self, key: &Row) -> Result<Option<u64>, EvalError> {
        let Some(expr) = &self.limit else {
            return Ok(None);
        };
        let arena = RowArena::new();
        match expr.eval(&self.ctx, &key.unpack(), &arena)? {
            Datum::Null => Ok(None),
            datum => match u64::try_from(datum.unwrap_int64()) {
                Ok(limit) => Ok(Some(limit)),
                Err(_) => Err(EvalError::new("2201W", "LIMIT must not be negative")),
            },
        }
    }

    fn output(&self, key: &Row, group: &Group) -> Result<Vec<(Row, Diff)>, EvalError> {
        let mut skip = self.offset;
        let mut left = self.limit(key)?;
        let mut output = vec![];
        for (ordered, count) in &group.rows {
            if left == Some(0) {
                break;
            }
            let mut count = u64::try_from(*count).unwrap_or(0);
            let skipped = count.min(skip);
            skip -= skipped;
            count -= skipped;
            if let Some(left) = &mut left {
                count = count.min(*left);
                *left -= count;
            }
            if count > 0 {
                output.push((ordered.row.clone(), count as Diff));
            }
        }
        Ok(output)
    }
}

impl GroupLogic for TopK {
    type Update = KeyedUpdate;
    type State = Group;

    fn key(update: &KeyedUpdate) -> &Row {
        &update.0.0
    }

    fn time(update: &KeyedUpdate) -> T {
        update.1
    }

    fn apply(&mut self, state: &mut Group, ((_, row), _, diff): KeyedUpdate) {
        use std::collections::btree_map::Entry;
        match state.rows.entry(Ordered {
            row,
            order: Rc::clone(&self.order),
        }) {
            Entry::Vacant(entry) => {
                entry.insert(diff);
                self.kept += 1;
            }
            Entry::Occupied(mut entry) => {
                *entry.get_mut() += diff;
                if *entry.get() == 0 {
                    entry.remove();
                    self.kept -= 1;
                }
            }
        }
    }

    fn emit(&mut self, key: &Row, state: &mut Group, time: T, out: &mut Changes) {
        let output = if state.rows.is_empty() {
            Ok(vec![])
        } else {
            self.output(key, state)
        };
        let (output, error) = match output {
            Ok(output) => (output, None),
            Err(error) => (vec![], Some(error)),
        };
        if output != state.output {
            let mut changes: Vec<(Row, Diff)> = std::mem::take(&mut state.output)
                .into_iter()
                .map(|(row, d)| (row, -d))
                .collect();
            changes.extend(output.iter().cloned());
            differential_dataflow::consolidation::consolidate(&mut changes);
            out.oks
                .extend(changes.into_iter().map(|(row, d)| (row, time, d)));
            state.output = output;
        }
        if error != state.error {
            if let Some(old) = &state.error {
                out.push_err(old, time, -1);
            }
            if let Some(new) = &error {
                out.push_err(new, time, 1);
            }
            state.error = error;
        }
    }

    fn kept_bytes(&self) -> usize {
        self.kept * KEPT_VALUE_BYTES
    }

    fn is_gone(state: &Group) -> bool {
        state.rows.is_empty()
    }
}
