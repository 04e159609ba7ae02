//! Random queries by every path, with parameters, against the interpreter.

use crate::PlanError;
use crate::lower_lir::Lowered;
use crate::lower_lir::reference::{Reference, Rows, consolidated};
use crate::optimize::SelectPath;
use crate::optimize::extract::KeyForm;
use crate::optimize::{
    Arrangement, BoundAccess, BoundPath, BoundSelect, Execution, OptimizerCatalog, SelectOptions,
    StoredRelation, optimize_select,
};
use crate::transform::random::{Dice, Relation, Relations, random_plan};
use plan::explain::{NoNames, explain_mir};
use plan::lir::Dataflow;
use plan::scalar::EvalCtx;
use plan::{Finishing, Mfp, Mir, ScalarExpr};
use repr::{ClusterId, ColumnType, GlobalId, Row, RowArena, ShardId, SqlType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const HERE: ClusterId = ClusterId(1);
const ELSEWHERE: ClusterId = ClusterId(2);
const VIEW: GlobalId = GlobalId(20_010);
const MATERIALIZED: GlobalId = GlobalId(20_011);
const REMOTE: GlobalId = GlobalId(20_012);

struct TestCatalog {
    relations: Relations,
    definitions: BTreeMap<GlobalId, Arc<Mir>>,
    clusters: BTreeMap<GlobalId, ClusterId>,
    arrangements: BTreeMap<GlobalId, Vec<Arrangement>>,
}

impl OptimizerCatalog for TestCatalog {
    fn definition(&self, id: GlobalId) -> Option<Result<Arc<Mir>, PlanError>> {
        self.definitions.get(&id).map(|mir| Ok(Arc::clone(mir)))
    }

    fn maintained_by(&self, id: GlobalId) -> Option<ClusterId> {
        self.clusters.get(&id).copied()
    }

    fn arrangements(&self, id: GlobalId) -> Vec<Arrangement> {
        self.arrangements.get(&id).cloned().unwrap_or_default()
    }

    fn stored(&self, id: GlobalId) -> Option<StoredRelation> {
        let stored = id < VIEW;
        let relation = self.relations.0.get(&id).filter(|_| stored)?;
        Some(StoredRelation {
            shard: ShardId(id.0),
            types: relation.types.clone(),
            keys: relation.keys.clone(),
        })
    }

    fn shards(&self, id: GlobalId) -> BTreeSet<ShardId> {
        match self.definitions.get(&id) {
            Some(mir) => mir
                .depends_on()
                .into_iter()
                .flat_map(|id| self.shards(id))
                .collect(),
            None => BTreeSet::from([ShardId(id.0)]),
        }
    }

    fn is_builtin(&self, _: GlobalId) -> bool {
        false
    }

    fn name(&self, id: GlobalId) -> String {
        id.to_string()
    }
}

impl TestCatalog {
    /// Tables, a view, and two materialized views, one of them of another CLUSTER; some indexes.
    fn random(dice: &mut Dice) -> TestCatalog {
        let relations = Relations::random(dice);
        let tables: Vec<GlobalId> = relations.0.keys().copied().collect();
        let mut catalog = TestCatalog {
            relations,
            definitions: BTreeMap::new(),
            clusters: BTreeMap::from([(MATERIALIZED, HERE), (REMOTE, ELSEWHERE)]),
            arrangements: BTreeMap::new(),
        };
        for id in [VIEW, MATERIALIZED, REMOTE] {
            let (definition, rows) = loop {
                let depth = dice.roll(3);
                let mir = random_plan(dice, &catalog.relations, depth);
                if let Ok(rows) = catalog.relations.eval(&mir) {
                    break (mir, rows);
                }
            };
            let types = definition.types();
            catalog.definitions.insert(id, Arc::new(definition));
            catalog.relations.0.insert(
                id,
                Relation {
                    types,
                    keys: vec![],
                    rows: Arc::new(rows),
                },
            );
        }
        for id in [MATERIALIZED, REMOTE] {
            let arity = catalog.relations.0[&id].types.len();
            catalog.arrange(id, id, (0..arity).collect(), catalog.clusters[&id]);
        }
        for id in tables.into_iter().chain([VIEW, MATERIALIZED, REMOTE]) {
            let arity = catalog.relations.0[&id].types.len();
            if dice.chance(40) {
                catalog.arrange(id, GlobalId(id.0 + 1000), vec![dice.roll(arity)], HERE);
            }
        }
        catalog
    }

    fn arrange(&mut self, on: GlobalId, export: GlobalId, key: Vec<usize>, cluster: ClusterId) {
        let key = key.into_iter().map(ScalarExpr::Column).collect();
        self.arrangements.entry(on).or_default().push(Arrangement {
            export,
            key,
            cluster,
        });
    }

    fn key_matches(
        &self,
        id: GlobalId,
        key: &[ScalarExpr],
        keys: &[Row],
        form: KeyForm,
        rows: &mut Rows,
    ) {
        let types = &self.relations.0[&id].types;
        rows.retain(|(row, _)| {
            let arena = RowArena::new();
            let columns = row.unpack();
            let datums = key.iter().map(|e| {
                let datum = e.eval(&EvalCtx::default(), &columns, &arena).unwrap();
                match form {
                    KeyForm::Stored => datum.key_canonical(&e.typ(types).ty, &arena),
                    KeyForm::Arranged => {
                        datum.key_canonical(&e.typ(types).ty.without_typmod(), &arena)
                    }
                }
            });
            keys.contains(&Row::pack(datums.collect::<Vec<_>>()))
        });
    }

    /// What the path gives.
    fn run(&self, bound: &BoundSelect) -> Rows {
        let stored = |id: &GlobalId| self.relations.0[id].rows.to_vec();
        match &bound.path {
            BoundPath::Constant { rows } => rows.clone().unwrap(),
            BoundPath::Interpret { mir } => {
                assert!(
                    mir.depends_on().iter().all(|id| *id < VIEW),
                    "the interpreter reads tables only"
                );
                self.relations.eval(mir).unwrap()
            }
            BoundPath::Table {
                table, access, mfp, ..
            } => {
                let mut rows = stored(table);
                if let BoundAccess::Lookup { space, keys } = access {
                    let key = self.relations.0[table].keys[*space as usize]
                        .iter()
                        .map(|c| ScalarExpr::Column(*c));
                    self.key_matches(
                        *table,
                        &key.collect::<Vec<_>>(),
                        keys,
                        KeyForm::Stored,
                        &mut rows,
                    );
                }
                through(mfp, rows)
            }
            BoundPath::Peek {
                export,
                on,
                keys,
                mfp,
                cluster,
            } => {
                let arrangement = self.arrangements[on]
                    .iter()
                    .find(|a| a.export == *export)
                    .unwrap();
                assert_eq!(arrangement.cluster, *cluster);
                let mut rows = stored(on);
                if let Some(keys) = keys {
                    self.key_matches(*on, &arrangement.key, keys, KeyForm::Arranged, &mut rows);
                }
                through(mfp, rows)
            }
            BoundPath::Dataflow { dataflow, .. } => self.run_dataflow(dataflow),
        }
    }

    fn run_dataflow(&self, dataflow: &Dataflow) -> Rows {
        for (index, import) in &dataflow.indexes {
            let arrangement = self.arrangements[&import.on]
                .iter()
                .find(|a| a.export == *index);
            assert_eq!(
                arrangement.map(|a| a.cluster),
                Some(HERE),
                "only arrangements of the session's CLUSTER are imported"
            );
        }
        let (_, node) = &dataflow.objects[0];
        let lowered = Lowered {
            node: node.clone(),
            sources: dataflow.sources.clone(),
            indexes: dataflow.indexes.clone(),
            late: vec![],
        };
        let mut reference = Reference {
            relations: &self.relations,
            lowered: &lowered,
            locals: BTreeMap::new(),
            arranged: BTreeMap::new(),
        };
        reference.eval(node).unwrap()
    }
}

fn through(mfp: &Mfp, rows: Rows) -> Rows {
    let eval = |row: &Row| mfp.eval(&EvalCtx::default(), &row.unpack()).unwrap();
    rows.into_iter()
        .filter_map(|(row, diff)| eval(&row).map(|row| (row, diff)))
        .collect()
}

/// Replaces some literals in predicates by parameters.
fn parametrized(mir: &mut Mir, dice: &mut Dice) -> Vec<(Row, SqlType)> {
    let mut params = vec![];
    mir.visit_mut_post(&mut |node| {
        let Mir::Filter { predicates, .. } = node else {
            return;
        };
        for predicate in predicates {
            predicate.visit_mut_post(&mut |e| {
                if let ScalarExpr::Literal(Ok(row), ColumnType { ty, .. }) = e
                    && dice.chance(50)
                {
                    params.push((row.clone(), ty.clone()));
                    *e = ScalarExpr::Param(params.len() - 1, ty.clone());
                }
            });
        }
    });
    params
}

/// A query that often is a filter over one relation.
fn random_query(dice: &mut Dice, catalog: &TestCatalog) -> Mir {
    if dice.chance(50) {
        let depth = 1 + dice.roll(3);
        return random_plan(dice, &catalog.relations, depth);
    }
    let ids: Vec<GlobalId> = catalog.relations.0.keys().copied().collect();
    let id = dice.pick(&ids);
    let types = catalog.relations.0[&id].types.clone();
    let mut predicates = vec![];
    for (c, ty) in types.iter().enumerate() {
        if dice.chance(60) {
            predicates.extend(equality(dice, c, ty));
        }
    }
    let input = Box::new(catalog.relations.get(id));
    Mir::Filter { input, predicates }
}

/// `c = 1`, `c = 1 OR c = 2`, or `cast(c) = 1`.
fn equality(dice: &mut Dice, c: usize, ty: &ColumnType) -> Option<ScalarExpr> {
    let int = |n: usize| ScalarExpr::literal(repr::Datum::Int32(n as i32), SqlType::Int32);
    let call = |name: &str, args, ty| ScalarExpr::call(plan::Func::get(name), args, ty);
    let eq = |value| call("eq", vec![ScalarExpr::Column(c), value], SqlType::Bool);
    match &ty.ty {
        SqlType::Int32 => Some(match dice.roll(3) {
            0 => eq(int(dice.roll(4))),
            1 => call(
                "or",
                vec![eq(int(dice.roll(4))), eq(int(dice.roll(4)))],
                SqlType::Bool,
            ),
            _ => {
                let wide = call(
                    "cast_int4_to_int8",
                    vec![ScalarExpr::Column(c)],
                    SqlType::Int64,
                );
                let n = if dice.chance(20) {
                    i64::MAX
                } else {
                    dice.roll(4) as i64
                };
                let value = ScalarExpr::literal(repr::Datum::Int64(n), SqlType::Int64);
                call("eq", vec![wide, value], SqlType::Bool)
            }
        }),
        SqlType::Numeric(_) => {
            let n = repr::Numeric::from_parts(dice.roll(4) as i128 * 10, 1).unwrap();
            Some(eq(ScalarExpr::literal(
                repr::Datum::Numeric(n),
                SqlType::Numeric(None),
            )))
        }
        SqlType::Char(_) => {
            let value = ScalarExpr::literal(repr::Datum::String("a"), SqlType::Char(None));
            Some(call(
                "bpchareq",
                vec![ScalarExpr::Column(c), value],
                SqlType::Bool,
            ))
        }
        SqlType::Text => Some(eq(ScalarExpr::literal(
            repr::Datum::String("a"),
            SqlType::Text,
        ))),
        _ => None,
    }
}

#[test]
fn every_path_answers_as_the_interpreter() {
    let mut paths: BTreeMap<&str, usize> = BTreeMap::new();
    // Dataflows with lookups by parameters.
    let mut late = 0;
    for seed in 0..600 {
        let mut dice = Dice::new(seed);
        let catalog = TestCatalog::random(&mut dice);
        let query = random_query(&mut dice, &catalog);
        let Ok(expected) = catalog.relations.eval(&query) else {
            continue;
        };
        let mut mir = query.clone();
        let params = parametrized(&mut mir, &mut dice);
        let options = SelectOptions {
            cluster: HERE,
            execution: if dice.chance(30) {
                Execution::Interpreter
            } else {
                Execution::Auto
            },
            inline_materialized: dice.chance(20),
            transient: GlobalId(99_999),
        };
        let finishing = Finishing::trivial(mir.arity());
        let text = format!("seed {seed}, {options:?}:\n{}", explain_mir(&mir, &NoNames));
        let exec = optimize_select(mir, finishing, &catalog, &options)
            .unwrap_or_else(|e| panic!("{e} {text}"));
        let text = format!("{text}\nby {:?}", exec.path);
        let bound = exec
            .bind(&params, &EvalCtx::default())
            .unwrap_or_else(|e| panic!("{e} {text}"));
        let base: BTreeSet<ShardId> = query
            .depends_on()
            .into_iter()
            .flat_map(|id| catalog.shards(id))
            .collect();
        assert!(exec.shards.is_subset(&base), "{text}");
        let rows = catalog.run(&bound);
        assert_eq!(consolidated(rows), expected, "{text}");
        if let SelectPath::Dataflow { lookups, .. } = &exec.path
            && !lookups.is_empty()
        {
            late += 1;
        }
        let name = match &bound.path {
            BoundPath::Constant { .. } => "constant",
            BoundPath::Interpret { .. } => "interpret",
            BoundPath::Table {
                access: BoundAccess::Lookup { .. },
                ..
            } => "table lookup",
            BoundPath::Table {
                access: BoundAccess::Scan,
                ..
            } => "table scan",
            BoundPath::Peek { keys: Some(_), .. } => "peek by key",
            BoundPath::Peek { keys: None, .. } => "peek",
            BoundPath::Dataflow { .. } => "dataflow",
        };
        *paths.entry(name).or_default() += 1;
    }
    assert!(
        late >= 2 && paths.len() == 7 && paths.values().all(|n| *n >= 5),
        "each path is taken: {paths:?}, late lookups: {late}"
    );
}

/// Only equality on all columns of a constraint is a lookup, which a transaction checks by key.
#[test]
fn a_table_is_looked_up_by_a_whole_key() {
    let mut dice = Dice::new(1);
    let mut catalog = TestCatalog::random(&mut dice);
    catalog.arrangements.clear();
    let table = GlobalId(20_001);
    let options = SelectOptions {
        cluster: HERE,
        execution: Execution::Auto,
        inline_materialized: false,
        transient: GlobalId(99_999),
    };
    let access = |predicates: Vec<ScalarExpr>| {
        let input = Box::new(catalog.relations.get(table));
        let mir = Mir::Filter { input, predicates };
        let exec = optimize_select(mir, Finishing::trivial(3), &catalog, &options).unwrap();
        let bound = exec.bind(
            &[(Row::pack_slice(&[repr::Datum::Int32(7)]), SqlType::Int32)],
            &EvalCtx::default(),
        );
        match bound.unwrap().path {
            BoundPath::Table { access, mfp, .. } => (access, mfp.predicates.len()),
            other => panic!("{other:?}"),
        }
    };
    let eq = |c, value| {
        ScalarExpr::call(
            plan::Func::get("eq"),
            vec![ScalarExpr::Column(c), value],
            SqlType::Bool,
        )
    };
    let one = || ScalarExpr::literal(repr::Datum::Int32(1), SqlType::Int32);
    let param = || ScalarExpr::Param(0, SqlType::Int32);
    let half = |cents: i128, scale| {
        let n = repr::Numeric::from_parts(cents, scale).unwrap();
        ScalarExpr::literal(repr::Datum::Numeric(n), SqlType::Numeric(None))
    };
    assert_eq!(access(vec![eq(0, one())]), (BoundAccess::Scan, 1));
    // A stored numeric(10,2) has two digits after the point.
    let stored = repr::Numeric::from_parts(150, 2).unwrap();
    let key = Row::pack_slice(&[repr::Datum::Int32(7), repr::Datum::Numeric(stored)]);
    let found = access(vec![eq(1, half(15, 1)), eq(0, param())]);
    assert_eq!(
        found,
        (
            BoundAccess::Lookup {
                space: 0,
                keys: vec![key]
            },
            0
        )
    );
    let none = access(vec![eq(1, half(1555, 3)), eq(0, param())]);
    assert_eq!(
        none,
        (
            BoundAccess::Lookup {
                space: 0,
                keys: vec![]
            },
            0
        )
    );
}
