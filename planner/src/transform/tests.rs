//! Every rewrite, and all of them together, against the interpreter.

use crate::transform::inline_lets::unique_locals;
use crate::transform::pipeline::{FINAL, LOGICAL, optimize};
use crate::transform::random::{Dice, Relations, random_plan};
use plan::Mir;
use plan::explain::{NoNames, explain_mir};
use repr::{Diff, Row};

const PLANS: u64 = 250;

fn compare(relations: &Relations, before: &Mir, after: &Mir, expected: &[(Row, Diff)], what: &str) {
    let types = |mir: &Mir| {
        mir.types()
            .into_iter()
            .map(|t| t.ty.without_typmod())
            .collect::<Vec<_>>()
    };
    let text = |mir: &Mir| explain_mir(mir, &NoNames);
    let context = || format!("{what}:\n{}\nbecame\n{}", text(before), text(after));
    assert_eq!(types(before), types(after), "types, {}", context());
    match relations.eval(after) {
        Ok(rows) => assert_eq!(rows, expected, "{}", context()),
        Err(error) if error.sqlstate == "53200" => {}
        Err(error) => panic!("{error} {}", context()),
    }
}

/// Calls `f` with random plans that can be evaluated.
pub fn for_random_plans(count: u64, mut f: impl FnMut(u64, &Relations, Mir, Vec<(Row, Diff)>)) {
    for seed in 0..count {
        let mut dice = Dice::new(seed);
        let relations = Relations::random(&mut dice);
        let depth = 1 + dice.roll(4);
        let mut plan = random_plan(&mut dice, &relations, depth);
        unique_locals(&mut plan, &mut 0);
        if let Ok(expected) = relations.eval(&plan) {
            f(seed, &relations, plan, expected);
        }
    }
}

#[test]
fn each_rewrite_keeps_the_meaning() {
    for_random_plans(PLANS, |seed, relations, plan, expected| {
        for (name, rewrite) in LOGICAL.iter().chain(FINAL) {
            let after = rewrite(plan.clone());
            compare(
                relations,
                &plan,
                &after,
                &expected,
                &format!("{name}, seed {seed}"),
            );
        }
    });
}

#[test]
fn all_rewrites_together_keep_the_meaning() {
    for_random_plans(PLANS, |seed, relations, plan, expected| {
        let mut after = plan.clone();
        for round in 0..3 {
            for (name, rewrite) in LOGICAL {
                let before = after.clone();
                after = rewrite(after);
                compare(
                    relations,
                    &before,
                    &after,
                    &expected,
                    &format!("{name}, round {round}, seed {seed}"),
                );
            }
        }
        let after = optimize(plan.clone());
        compare(
            relations,
            &plan,
            &after,
            &expected,
            &format!("all, seed {seed}"),
        );
        assert_eq!(
            optimize(plan.clone()),
            after,
            "the same plan twice, seed {seed}"
        );
    });
}
