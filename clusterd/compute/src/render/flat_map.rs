//! Functions that return rows, applied to every row.

use crate::render::ok_err::stateless;
use crate::render::reduce::compose;
use crate::render::row_mfp::RowMfp;
use crate::types::*;
use plan::scalar::EvalCtx;
use plan::{EvalError, Mfp, ScalarExpr, TableFunc};
use repr::{Datum, Diff, Row};
use timely::dataflow::channels::pact::Pipeline;

/// The most rows that one call may return: a worker makes them all before it does anything else.
const ROWS_PER_CALL_MAX: usize = 10_000_000;

/// Each input row with each row that the function returns for it, through a block.
pub fn flat_map<'s>(
    rows: Rows<'s>,
    func: &TableFunc,
    args: &[ScalarExpr],
    mfp: &Mfp,
    name: &str,
) -> (Rows<'s>, Rows<'s>) {
    let func = func.clone();
    let added_arity = match func {
        TableFunc::GenerateSeriesInt32
        | TableFunc::GenerateSeriesInt64
        | TableFunc::GenerateSeriesTimestamp
        | TableFunc::GenerateSeriesTimestampTz
        | TableFunc::Unnest { .. }
        | TableFunc::GenerateSubscripts => 1,
        TableFunc::Repeat => 0,
    };
    let arity = mfp.input_arity - added_arity;
    let mut arguments = RowMfp::new(&compose(&Mfp::identity(arity), args), &[arity]);
    let mut mfp = RowMfp::new(mfp, &[arity, added_arity]);
    let ctx = EvalCtx::default();
    stateless(
        rows,
        Pipeline,
        name,
        move |data: &mut Vec<Update>, out, ship| {
            for (row, time, diff) in data.drain(..) {
                let added = arguments.view(&[row.as_ref()], |args| {
                    let args: Vec<Datum<'_>> = (0..args.arity()).map(|i| args.datum(i)).collect();
                    call(&func, &ctx, &args)
                });
                match added.map(|added| added.unwrap_or(Ok(vec![]))) {
                    Ok(Ok(added)) => {
                        for (added, times) in added {
                            mfp.apply(
                                &[row.as_ref(), added.as_ref()],
                                time,
                                diff.saturating_mul(times),
                                out,
                            );
                            if out.is_full() {
                                ship(out);
                            }
                        }
                    }
                    Ok(Err(error)) | Err(error) => out.push_err(&error, time, diff),
                }
            }
        },
    )
}

fn call(
    func: &TableFunc,
    ctx: &EvalCtx,
    args: &[Datum<'_>],
) -> Result<Vec<(Row, Diff)>, EvalError> {
    let mut rows = vec![];
    for row in func.eval(ctx, args)? {
        if rows.len() == ROWS_PER_CALL_MAX {
            return Err(EvalError::new(
                "54000",
                format!("a table function returns more than {ROWS_PER_CALL_MAX} rows"),
            ));
        }
        rows.push(row);
    }
    Ok(rows)
}
