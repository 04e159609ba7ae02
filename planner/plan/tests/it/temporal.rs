//! Conditions on `mz_now()`.

use crate::term;
use plan::mfp::{Interval, MfpPlan, MfpScratch};
use plan::scalar::EvalCtx;
use plan::{EvalError, Mfp};
use proptest::prelude::*;
use repr::{Datum, Row};

/// A block over two `mz_timestamp` columns, with these predicates.
fn block(predicates: &[&str]) -> Result<Mfp, EvalError> {
    let predicates = predicates
        .iter()
        .map(|text| term::scalar(&term::parse(text)));
    let mut block = Mfp::identity(2).filter(predicates);
    block.extract_temporal()?;
    block.optimize();
    Ok(block)
}

fn row(first: Option<u64>, second: Option<u64>) -> Row {
    Row::pack([first, second].map(|time| time.map_or(Datum::Null, Datum::MzTimestamp)))
}

fn presence(predicates: &[&str], row: &Row) -> Option<Interval> {
    let plan = MfpPlan::new(block(predicates).expect("supported"));
    let found = plan
        .evaluate_temporal(&[row.as_ref()], &mut MfpScratch::new())
        .expect("no error");
    found.map(|(_, interval)| interval)
}

#[test]
fn bounds_follow_the_operator() {
    let at = |predicate: &str| presence(&[predicate], &row(Some(10), None));
    assert_eq!(
        at("ge(mz_now(), #0)"),
        Some(Interval {
            lower: 10,
            upper: None
        })
    );
    assert_eq!(
        at("gt(mz_now(), #0)"),
        Some(Interval {
            lower: 11,
            upper: None
        })
    );
    assert_eq!(
        at("lt(mz_now(), #0)"),
        Some(Interval {
            lower: 0,
            upper: Some(10)
        })
    );
    assert_eq!(
        at("le(mz_now(), #0)"),
        Some(Interval {
            lower: 0,
            upper: Some(11)
        })
    );
    assert_eq!(
        at("eq(mz_now(), #0)"),
        Some(Interval {
            lower: 10,
            upper: Some(11)
        })
    );
    // The other way round.
    assert_eq!(
        at("ge(#0, mz_now())"),
        Some(Interval {
            lower: 0,
            upper: Some(11)
        })
    );
    // NULL never holds.
    assert_eq!(at("ge(mz_now(), #1)"), None);
}

#[test]
fn the_last_time_is_never_reached() {
    let last = row(Some(u64::MAX), None);
    assert_eq!(
        presence(&["le(mz_now(), #0)"], &last),
        Some(Interval::ALWAYS)
    );
    assert_eq!(
        presence(&["lt(mz_now(), #0)"], &last),
        Some(Interval::ALWAYS)
    );
}

#[test]
fn other_uses_of_mz_now_are_refused() {
    for predicate in [
        "ne(mz_now(), #0)",
        "or(lt(mz_now(), #0), eq(#0, #1))",
        "not(lt(mz_now(), #0))",
        "lt(mz_now(), mz_now())",
        "lt(mz_timestamp_step(mz_now()), #0)",
        "is_null(mz_now())",
    ] {
        let error = block(&[predicate]).expect_err(predicate);
        assert_eq!(error.sqlstate, "0A000");
    }
    let mut mapped = Mfp::identity(0).map([term::scalar(&term::parse("mz_now()"))]);
    assert!(mapped.extract_temporal().is_err());
}

proptest! {
    /// A row is present at a time exactly if its conditions hold when `mz_now()` is that time.
    #[test]
    fn presence_is_truth_at_the_time(
        operators in prop::collection::vec(prop::sample::select(vec!["ge", "gt", "lt", "le", "eq"]), 1..4),
        columns in prop::collection::vec(0usize..2, 4),
        first in prop::option::of(0u64..5),
        second in prop::option::of(0u64..5),
    ) {
        let texts: Vec<String> =
            operators.iter().zip(&columns).map(|(f, c)| format!("{f}(mz_now(), #{c})")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let row = row(first, second);
        let interval = presence(&texts, &row);
        for time in 0..8 {
            let mut fixed = block(&texts).expect("supported");
            fixed.fix_time(time);
            let kept = fixed.eval(&EvalCtx::default(), &row.unpack()).expect("no error");
            prop_assert_eq!(kept.is_some(), interval.is_some_and(|i| i.contains(time)));
        }
    }
}
