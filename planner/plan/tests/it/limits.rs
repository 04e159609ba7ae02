//! The interpreter stops where it is told to.

use crate::term;
use plan::EvalError;
use plan::eval::{Collections, Env, Limits, eval};
use plan::scalar::EvalCtx;
use repr::{Diff, GlobalId, Row};
use std::cell::Cell;
use std::sync::Arc;

struct Nothing;

impl Collections for Nothing {
    fn rows(&self, id: GlobalId) -> Result<Arc<Vec<(Row, Diff)>>, EvalError> {
        Err(EvalError::new("42P01", format!("{id} does not exist")))
    }
}

/// A billion rows, if nobody stops it.
const ENDLESS: &str = "flatmap(generate_series(1, 1000000000), const([1]))";

fn run(plan: &str, limits: Limits<'_>) -> Result<Vec<(Row, Diff)>, EvalError> {
    let plan = term::mir(&term::parse(plan), &Default::default());
    eval(
        &plan,
        &Env {
            collections: &Nothing,
            ctx: &EvalCtx::default(),
            limits,
            time: None,
        },
    )
}

#[test]
fn rows_and_bytes_are_limited() {
    let error = run(
        ENDLESS,
        Limits {
            rows_max: 1000,
            ..Limits::NONE
        },
    )
    .expect_err("too many rows");
    assert_eq!(error.sqlstate, "53200");
    let error = run(
        ENDLESS,
        Limits {
            bytes_max: 100_000,
            ..Limits::NONE
        },
    )
    .expect_err("too many bytes");
    assert_eq!(error.sqlstate, "53200");
    let joined = format!("join([], {ENDLESS}, {ENDLESS})").replace("1000000000", "100");
    assert!(
        run(
            &joined,
            Limits {
                rows_max: 9_999,
                ..Limits::NONE
            }
        )
        .is_err()
    );
    assert_eq!(
        run(
            &joined,
            Limits {
                rows_max: 10_000,
                ..Limits::NONE
            }
        )
        .expect("within the limit")
        .len(),
        10_000
    );
}

#[test]
fn work_without_output_can_be_cancelled() {
    let asked = Cell::new(0);
    let check = || {
        asked.set(asked.get() + 1);
        if asked.get() < 3 {
            Ok(())
        } else {
            Err(EvalError::new(
                "57014",
                "canceling statement due to user request",
            ))
        }
    };
    // A cross product of which no row is kept.
    let plan = format!("join([[#1], [#3]], {ENDLESS}, {ENDLESS})").replace("1000000000", "10000");
    let error = run(
        &plan,
        Limits {
            check: &check,
            ..Limits::NONE
        },
    )
    .expect_err("cancelled");
    assert_eq!(error.sqlstate, "57014");
    assert_eq!(asked.get(), 3);
}

#[test]
fn mz_now_needs_a_time() {
    assert!(
        run(
            "filter([lt(mz_now(), 5::mz_timestamp)], const([1]))",
            Limits::NONE
        )
        .is_err()
    );
}

#[test]
fn missing_collections_are_errors() {
    let tables = [(
        "t".to_owned(),
        (
            GlobalId(4),
            term::mir(&term::parse("const([1])"), &Default::default()),
        ),
    )]
    .into();
    let plan = term::mir(&term::parse("get(t)"), &tables);
    let env = Env {
        collections: &Nothing,
        ctx: &EvalCtx::default(),
        limits: Limits::NONE,
        time: None,
    };
    assert_eq!(eval(&plan, &env).expect_err("missing").sqlstate, "42P01");
}
