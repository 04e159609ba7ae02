//! Rows with a positive multiplicity.

use crate::footprint::Footprint;
use crate::render::groups::{GroupLogic, maintain};
use crate::render::ok_err::Changes;
use crate::types::*;
use repr::{Diff, Row};

/// Remembers each row's multiplicity and how often it was last said to be there.
struct Threshold;

#[derive(Default)]
struct Multiplicity {
    input: Diff,
    output: Diff,
}

impl GroupLogic for Threshold {
    type Update = Update;
    type State = Multiplicity;

    fn key(update: &Update) -> &Row {
        &update.0
    }

    fn time(update: &Update) -> T {
        update.1
    }

    fn apply(&mut self, state: &mut Multiplicity, update: Update) {
        state.input += update.2;
    }

    fn emit(&mut self, key: &Row, state: &mut Multiplicity, time: T, out: &mut Changes) {
        let output = state.input.max(0);
        if output != state.output {
            out.oks.push((key.clone(), time, output - state.output));
            state.output = output;
        }
    }

    fn is_gone(state: &Multiplicity) -> bool {
        state.input == 0
    }
}

pub fn threshold<'s>(rows: Rows<'s>, footprint: &Footprint, name: &str) -> (Rows<'s>, Rows<'s>) {
    maintain(rows, Threshold, footprint, name)
}
