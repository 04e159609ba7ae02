//! Physical plans of random queries against the interpreter, with and without arrangements to use.

use crate::lower_lir::reference::{Reference, consolidated};
use crate::lower_lir::{Imports, Time, lower};
use crate::transform::join_implementation::join_implementation;
use crate::transform::pipeline::optimize;
use crate::transform::random::{Dice, Relations};
use crate::transform::tests::for_random_plans;
use plan::ScalarExpr;
use plan::explain::{NoNames, explain_mir, explain_node};
use repr::{ColumnType, GlobalId, ShardId};
use std::collections::BTreeMap;

struct TestImports<'a> {
    relations: &'a Relations,
    arrangements: BTreeMap<GlobalId, Vec<Vec<ScalarExpr>>>,
    /// Only the arrangements can be read, as of materialized views.
    maintained: bool,
}

impl Imports for TestImports<'_> {
    fn arrangements(&self, id: GlobalId) -> Vec<(GlobalId, Vec<ScalarExpr>)> {
        let keys = self.arrangements.get(&id).cloned().unwrap_or_default();
        keys.into_iter()
            .enumerate()
            .map(|(i, key)| (GlobalId(id.0 * 10 + i as u64), key))
            .collect()
    }

    fn source(&self, id: GlobalId) -> Option<(ShardId, Vec<ColumnType>)> {
        (!self.maintained).then(|| (ShardId(id.0), self.relations.0[&id].types.clone()))
    }
}

fn check(
    name: &str,
    arrangements: &dyn Fn(&mut Dice, GlobalId) -> Vec<Vec<usize>>,
    maintained: bool,
) {
    let (mut linear, mut delta, mut lookups) = (0, 0, 0);
    for_random_plans(250, |seed, relations, plan, expected| {
        let mut dice = Dice::new(seed + 1_000_000);
        let columns = |key: Vec<usize>| key.into_iter().map(ScalarExpr::Column).collect();
        let mut keys = |id: GlobalId| {
            arrangements(&mut dice, id)
                .into_iter()
                .map(columns)
                .collect()
        };
        let arrangements = relations.0.keys().map(|id| (*id, keys(*id))).collect();
        let imports = TestImports {
            relations,
            arrangements,
            maintained,
        };
        let logical = optimize(plan.clone());
        let keys = |id| {
            imports
                .arrangements(id)
                .into_iter()
                .map(|(_, key)| key)
                .collect()
        };
        let physical = join_implementation(logical, &keys);
        let text = format!("{name}, seed {seed}:\n{}", explain_mir(&physical, &NoNames));
        let lowered =
            lower(physical, &imports, Time::Moving).unwrap_or_else(|e| panic!("{e} {text}"));
        let text = format!(
            "{text}\nlowered to\n{}",
            explain_node(&lowered.node, &NoNames)
        );
        linear += text.matches("inear").count();
        delta += text.matches("elta").count();
        lookups += text.matches("ookup").count();
        let mut reference = Reference {
            relations,
            lowered: &lowered,
            locals: BTreeMap::new(),
            arranged: BTreeMap::new(),
        };
        let rows = reference
            .eval(&lowered.node)
            .unwrap_or_else(|e| panic!("{e} {text}"));
        assert_eq!(consolidated(rows), expected, "{text}");
    });
    println!("{name}: {linear} linear, {delta} delta, {lookups} lookups");
}

#[test]
fn plans_over_sources() {
    check("no arrangements", &|_, _| vec![], false);
}

#[test]
fn plans_over_some_arrangements() {
    check(
        "some",
        &|dice, _| {
            (0..2)
                .filter(|_| dice.chance(50))
                .map(|c| vec![c])
                .collect()
        },
        false,
    );
}

#[test]
fn plans_over_all_arrangements() {
    check(
        "all",
        &|_, id| {
            if id.0 == 20_002 {
                vec![vec![0], vec![1]]
            } else {
                vec![vec![0], vec![1], vec![2], vec![0, 1]]
            }
        },
        false,
    );
}

#[test]
fn plans_over_maintained_relations() {
    check("maintained", &|_, _| vec![vec![0], vec![1]], true);
}
