//! The interpreter: what a plan means, computed operator by operator over whole collections.
//!
//! It answers constant and catalog queries, and tests compare dataflows with it. It is written to be obviously right; equi-joins
//! and groups go through hash tables, so that it is fast enough for catalogs.
//!
//! Errors are data, as in a dataflow: a row whose evaluation fails leaves an error behind and the other rows go on. If any
//! operator met errors, the result is the least of them. Map, Filter and Project one above the other are one block: see
//! [`crate::mfp`] for what that means for errors.

mod group;
mod join;
mod rows;

use crate::error::EvalError;
use crate::mfp::{Mfp, MfpPlan, MfpScratch};
use crate::mir::{Id, Mir};
use crate::scalar::ScalarExpr;
use crate::scalar::eval::{EvalCtx, keep_least};
use crate::table_func::TableFunc;
use repr::{Diff, GlobalId, Row, RowArena, RowPacker, Timestamp};
use rows::Rows;
use std::collections::HashMap;
use std::sync::Arc;

pub use rows::consolidate;

/// Where the interpreter finds catalog objects.
pub trait Collections {
    /// The content of a collection at the time of the query; each row with its multiplicity.
    ///
    /// # Errors
    /// Whatever makes the collection unreadable; it becomes the query's error.
    fn rows(&self, id: GlobalId) -> Result<Arc<Vec<(Row, Diff)>>, EvalError>;
}

/// What an interpretation may cost, and when it has to stop.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// The most rows that one operator may return.
    pub rows_max: usize,
    /// The most bytes of rows that one operator may return.
    pub bytes_max: usize,
    /// Asked every few thousand rows; an error ends the interpretation.
    pub check: &'a dyn Fn() -> Result<(), EvalError>,
}

impl Limits<'_> {
    /// No limit but memory: for tests and constants.
    pub const NONE: Limits<'static> = Limits {
        rows_max: usize::MAX,
        bytes_max: usize::MAX,
        check: &|| Ok(()),
    };
}

/// The settings of one interpretation.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    pub collections: &'a dyn Collections,
    pub ctx: &'a EvalCtx,
    pub limits: Limits<'a>,
    /// What `mz_now()` is.
    pub time: Option<Timestamp>,
}

/// The collection that the plan denotes, consolidated: every row once, in the order of its bytes, none with multiplicity zero.
///
/// # Errors
/// The least error of any operator; a limit; what [`Limits::check`] says.
pub fn eval(plan: &Mir, env: &Env<'_>) -> Result<Vec<(Row, Diff)>, EvalError> {
    let mut rows = interpret(plan, env)?;
    consolidate(&mut rows);
    Ok(rows)
}

/// As [`eval`], in the order in which the operators produce the rows: that of VALUES lists and series. Rows may repeat.
///
/// # Errors
/// As for [`eval`].
pub fn eval_in_order(plan: &Mir, env: &Env<'_>) -> Result<Vec<(Row, Diff)>, EvalError> {
    let mut rows = interpret(plan, env)?;
    if rows.iter().any(|(_, diff)| *diff <= 0) {
        consolidate(&mut rows);
    }
    Ok(rows)
}

fn interpret(plan: &Mir, env: &Env<'_>) -> Result<Vec<(Row, Diff)>, EvalError> {
    let mut interpreter = Interpreter {
        env,
        locals: HashMap::new(),
        rows_until_check: CHECK_ROWS,
    };
    let rows = interpreter.eval(plan)?;
    if let Some(error) = rows.error {
        return Err(error);
    }
    Ok(Arc::unwrap_or_clone(rows.rows))
}

/// How many rows pass between two calls of [`Limits::check`].
const CHECK_ROWS: u32 = 4096;

struct Interpreter<'a> {
    env: &'a Env<'a>,
    locals: HashMap<u64, Rows>,
    rows_until_check: u32,
}

impl Interpreter<'_> {
    /// The rows of a plan. `Err` is for what ends the interpretation; errors that are data are in the result.
    fn eval(&mut self, plan: &Mir) -> Result<Rows, EvalError> {
        match plan {
            Mir::Constant { rows, .. } => Ok(match rows {
                Ok(rows) => Rows::new(rows.clone()),
                Err(error) => Rows::failed(error.clone()),
            }),
            Mir::Get { id, .. } => self.get(*id),
            Mir::Let { id, value, body } => self.bind(*id, value, body),
            Mir::Map { .. } | Mir::Filter { .. } | Mir::Project { .. } => {
                let (mfp, base) = Mfp::extract_from(plan);
                let input = self.eval(base)?;
                self.mfp(input, mfp)
            }
            Mir::FlatMap {
                input, func, args, ..
            } => {
                let input = self.eval(input)?;
                self.flat_map(input, func, args)
            }
            Mir::Join {
                inputs,
                equivalences,
                ..
            } => self.join(inputs, equivalences),
            Mir::Reduce {
                input,
                group_key,
                aggregates,
            } => {
                let types = input.types();
                let input = self.eval(input)?.consolidated();
                self.reduce(input, &types, group_key, aggregates)
            }
            Mir::TopK {
                input,
                group_key,
                order_key,
                limit,
                offset,
            } => {
                let types = input.types();
                let input = self.eval(input)?.consolidated();
                self.top_k(input, &types, group_key, order_key, limit.as_ref(), *offset)
            }
            Mir::Negate { input } => Ok(self.eval(input)?.map_diffs(|diff| -diff)),
            Mir::Threshold { input } => Ok(self
                .eval(input)?
                .consolidated()
                .map_diffs(|diff| diff.max(0))),
            Mir::Union { inputs } => self.union(inputs),
            Mir::ArrangeBy { input, .. } => self.eval(input),
        }
    }

    fn get(&mut self, id: Id) -> Result<Rows, EvalError> {
        match id {
            Id::Global(id) => {
                let rows = self.env.collections.rows(id)?;
                self.check(rows.len())?;
                Ok(Rows { rows, error: None })
            }
            Id::Local(id) => match self.locals.get(&id) {
                Some(rows) => Ok(rows.clone()),
                None => Err(EvalError::new(
                    "XX000",
                    format!("plan reads the unbound local collection {id}"),
                )),
            },
        }
    }

    fn bind(&mut self, id: u64, value: &Mir, body: &Mir) -> Result<Rows, EvalError> {
        let mut used = false;
        body.visit(&mut |m| {
            used |= matches!(m, Mir::Get { id: Id::Local(local), .. } if *local == id)
        });
        // What nobody reads cannot fail the query.
        if !used {
            return self.eval(body);
        }
        let value = self.eval(value)?.consolidated();
        let shadowed = self.locals.insert(id, value);
        let result = self.eval(body);
        self.locals.remove(&id);
        if let Some(shadowed) = shadowed {
            self.locals.insert(id, shadowed);
        }
        result
    }

    fn mfp(&mut self, input: Rows, mut mfp: Mfp) -> Result<Rows, EvalError> {
        if let Some(time) = self.env.time {
            mfp.fix_time(time);
        }
        let plan = MfpPlan::with_ctx(mfp, self.env.ctx.clone());
        if plan.is_identity() {
            return Ok(input);
        }
        let mut scratch = MfpScratch::new();
        let input = input.without_cancelled();
        let mut output = self.output(input.error.clone());
        for (row, diff) in input.rows.iter() {
            self.tick()?;
            match plan.evaluate(row.as_ref(), &mut scratch) {
                Ok(Some(row)) => output.push(row, *diff)?,
                Ok(None) => {}
                Err(error) => output.fail(error),
            }
        }
        Ok(output.finish())
    }

    fn flat_map(
        &mut self,
        input: Rows,
        func: &TableFunc,
        args: &[ScalarExpr],
    ) -> Result<Rows, EvalError> {
        let input = input.without_cancelled();
        let mut output = self.output(input.error.clone());
        let mut packer = RowPacker::new();
        for (row, diff) in input.rows.iter() {
            let arena = RowArena::new();
            let columns = row.unpack();
            let values: Result<Vec<_>, EvalError> = args
                .iter()
                .map(|e| e.eval(self.env.ctx, &columns, &arena))
                .collect();
            let added = match values.and_then(|values| func.eval(self.env.ctx, &values)) {
                Ok(added) => added,
                Err(error) => {
                    output.fail(error);
                    continue;
                }
            };
            for (added, times) in added {
                self.tick()?;
                packer.extend_row(row.as_ref());
                packer.extend_row(added.as_ref());
                output.push(packer.finish_row(), times.saturating_mul(*diff))?;
            }
        }
        Ok(output.finish())
    }

    fn union(&mut self, inputs: &[Mir]) -> Result<Rows, EvalError> {
        let mut output = self.output(None);
        for input in inputs {
            let input = self.eval(input)?;
            if let Some(error) = input.error {
                output.fail(error);
            }
            for (row, diff) in Arc::unwrap_or_clone(input.rows) {
                self.tick()?;
                output.push(row, diff)?;
            }
        }
        Ok(output.finish())
    }

    /// Collects an operator's rows within the limits.
    fn output(&self, error: Option<EvalError>) -> Output {
        Output {
            rows: vec![],
            bytes: 0,
            error,
            rows_max: self.env.limits.rows_max,
            bytes_max: self.env.limits.bytes_max,
        }
    }

    /// Counts a step of work; now and then asks whether to stop.
    #[inline]
    fn tick(&mut self) -> Result<(), EvalError> {
        self.check(1)
    }

    fn check(&mut self, rows: usize) -> Result<(), EvalError> {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        self.rows_until_check = match self.rows_until_check.checked_sub(rows) {
            Some(left) => left,
            None => {
                (self.env.limits.check)()?;
                CHECK_ROWS
            }
        };
        Ok(())
    }
}

/// The rows that an operator returns, counted against the limits.
struct Output {
    rows: Vec<(Row, Diff)>,
    bytes: usize,
    error: Option<EvalError>,
    rows_max: usize,
    bytes_max: usize,
}

impl Output {
    fn push(&mut self, row: Row, diff: Diff) -> Result<(), EvalError> {
        self.bytes += size_of::<(Row, Diff)>() + row.heap_bytes();
        self.rows.push((row, diff));
        if self.rows.len() > self.rows_max {
            return Err(limit_exceeded(format!(
                "a step of the query returns more than {} rows",
                self.rows_max
            )));
        }
        if self.bytes > self.bytes_max {
            return Err(limit_exceeded(format!(
                "a step of the query returns more than {} bytes",
                self.bytes_max
            )));
        }
        Ok(())
    }

    /// Records an error that is data.
    fn fail(&mut self, error: EvalError) {
        keep_least(&mut self.error, error);
    }

    fn finish(self) -> Rows {
        Rows {
            rows: Arc::new(self.rows),
            error: self.error,
        }
    }
}

fn limit_exceeded(message: String) -> EvalError {
    EvalError::new("53200", message)
}
