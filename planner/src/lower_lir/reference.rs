//! An evaluator of physical plans for tests, as naive as possible: it shows what the lowering means, not how the engine works.

use crate::lower_lir::Lowered;
use crate::transform::random::Relations;
use plan::lir::{DeltaPath, JoinPlan, JoinStage, Node, ReducePlan, TopKPlan};
use plan::mir::Id;
use plan::scalar::EvalCtx;
use plan::{EvalError, Mfp, Mir, ScalarExpr};
use repr::{ColumnType, Diff, Row, RowArena, SqlType};
use std::collections::BTreeMap;

pub type Rows = Vec<(Row, Diff)>;

pub struct Reference<'a> {
    pub relations: &'a Relations,
    pub lowered: &'a Lowered,
    pub locals: BTreeMap<u64, Rows>,
    /// What the local bindings are.
    pub arranged: BTreeMap<u64, Node>,
}

pub fn consolidated(rows: Rows) -> Rows {
    let mut sums: BTreeMap<Row, Diff> = BTreeMap::new();
    for (row, diff) in rows {
        *sums.entry(row).or_default() += diff;
    }
    sums.into_iter().filter(|(_, diff)| *diff != 0).collect()
}

impl Reference<'_> {
    pub fn eval(&mut self, node: &Node) -> Result<Rows, EvalError> {
        Ok(match node {
            Node::Constant { rows } => rows.clone()?,
            Node::Get { id: Id::Local(id) } => self.locals[id].clone(),
            Node::Get { id: Id::Global(id) } => match self.lowered.sources.get(id) {
                Some(source) => through(&source.mfp, self.relations.0[id].rows.to_vec())?,
                // Only arranged.
                None => self.relations.0[id].rows.to_vec(),
            },
            Node::GetArrangement {
                id: Id::Global(id),
                key,
                lookup,
                mfp,
            } => {
                let import = self
                    .lowered
                    .indexes
                    .values()
                    .find(|import| import.on == *id && import.key == *key);
                assert!(import.is_some(), "{id} is not imported by that key");
                let mut rows = self.relations.0[id].rows.to_vec();
                if let Some(keys) = lookup {
                    rows.retain(|(row, _)| keys.contains(&key_of(row, key).unwrap()));
                }
                through(mfp, rows)?
            }
            Node::GetArrangement { .. } => unreachable!("local arrangements are not made"),
            Node::Let { id, value, body } => {
                self.arranged.insert(*id, (**value).clone());
                let value = self.eval(value)?;
                self.locals.insert(*id, value);
                self.eval(body)?
            }
            Node::Mfp { input, mfp } => through(mfp, self.eval(input)?)?,
            Node::FlatMap {
                input,
                func,
                args,
                mfp,
            } => {
                let mut rows = vec![];
                for (row, diff) in self.eval(input)? {
                    let arena = RowArena::new();
                    let columns = row.unpack();
                    let values: Vec<_> = args
                        .iter()
                        .map(|e| e.eval(&EvalCtx::default(), &columns, &arena))
                        .collect::<Result<_, _>>()?;
                    for (added, times) in func.eval(&EvalCtx::default(), &values)? {
                        rows.push((Row::pack(row.iter().chain(added.iter())), times * diff));
                    }
                }
                through(mfp, rows)?
            }
            Node::Join { inputs, plan } => self.join(inputs, plan)?,
            Node::Reduce { input, plan } => {
                let rows = self.eval(input)?;
                self.reduce(rows, plan)?
            }
            Node::TopK { input, plan } => {
                let rows = self.eval(input)?;
                self.top_k(rows, plan)?
            }
            Node::Negate { input } => self
                .eval(input)?
                .into_iter()
                .map(|(row, diff)| (row, -diff))
                .collect(),
            Node::Threshold { input, .. } => consolidated(self.eval(input)?)
                .into_iter()
                .filter(|(_, diff)| *diff > 0)
                .collect(),
            Node::Union { inputs } => {
                let mut all = vec![];
                for input in inputs {
                    all.extend(self.eval(input)?);
                }
                all
            }
            Node::ArrangeBy { input, .. } => self.eval(input)?,
        })
    }

    fn join(&mut self, inputs: &[Node], plan: &JoinPlan) -> Result<Rows, EvalError> {
        let contents: Vec<Rows> = inputs
            .iter()
            .map(|input| self.eval(input))
            .collect::<Result<_, _>>()?;
        let arranged_by = |input: usize, key: &[ScalarExpr]| {
            let node = match &inputs[input] {
                Node::Get { id: Id::Local(id) } => &self.arranged[id],
                other => other,
            };
            matches!(node, Node::ArrangeBy { keys, .. } if keys.iter().any(|k| k == key))
        };
        match plan {
            JoinPlan::Linear {
                start,
                initial,
                stages,
            } => {
                assert!(stages.iter().all(|s| arranged_by(s.lookup, &s.lookup_key)));
                stages_of(&contents, *start, initial, stages)
            }
            JoinPlan::Delta { paths } => {
                // Over complete inputs each path alone gives the whole join.
                let mut answer: Option<Rows> = None;
                for DeltaPath {
                    source,
                    source_key,
                    initial,
                    stages,
                } in paths
                {
                    assert!(arranged_by(*source, source_key));
                    assert!(stages.iter().all(|s| arranged_by(s.lookup, &s.lookup_key)));
                    let rows = consolidated(stages_of(&contents, *source, initial, stages)?);
                    if let Some(other) = &answer {
                        assert_eq!(other, &rows, "paths differ");
                    }
                    answer = Some(rows);
                }
                Ok(answer.unwrap())
            }
        }
    }

    fn reduce(&self, rows: Rows, plan: &ReducePlan) -> Result<Rows, EvalError> {
        let reduce = Mir::Reduce {
            input: Box::new(untyped(rows, plan.input_arity)),
            group_key: plan.group_key.clone(),
            aggregates: plan.aggregates.clone(),
        };
        through(&plan.mfp, self.relations.eval(&reduce)?)
    }

    fn top_k(&self, rows: Rows, plan: &TopKPlan) -> Result<Rows, EvalError> {
        let TopKPlan {
            arity,
            group_key,
            order_key,
            limit,
            offset,
        } = plan.clone();
        let input = Box::new(untyped(rows, arity));
        self.relations.eval(&Mir::TopK {
            input,
            group_key,
            order_key,
            limit,
            offset,
        })
    }
}

/// Rows of unknown types: nothing is made canonical for them, as in the engine.
fn untyped(rows: Rows, arity: usize) -> Mir {
    let types = vec![ColumnType::new(SqlType::Text, true); arity];
    Mir::Constant {
        rows: Ok(rows),
        types,
    }
}

fn through(mfp: &Mfp, rows: Rows) -> Result<Rows, EvalError> {
    let mut out = vec![];
    for (row, diff) in rows {
        if let Some(row) = mfp.eval(&EvalCtx::default(), &row.unpack())? {
            out.push((row, diff));
        }
    }
    Ok(out)
}

fn key_of(row: &Row, key: &[ScalarExpr]) -> Result<Row, EvalError> {
    let arena = RowArena::new();
    let columns = row.unpack();
    let datums: Vec<_> = key
        .iter()
        .map(|e| e.eval(&EvalCtx::default(), &columns, &arena))
        .collect::<Result<_, _>>()?;
    Ok(Row::pack(datums))
}

/// Keys are compared as bytes; rows with a NULL in it do not join.
fn stages_of(
    contents: &[Rows],
    start: usize,
    initial: &Mfp,
    stages: &[JoinStage],
) -> Result<Rows, EvalError> {
    let mut stream = through(initial, contents[start].clone())?;
    for stage in stages {
        let mut next = vec![];
        for (left, left_diff) in &stream {
            assert_eq!(left.arity(), stage.stream_arity);
            let stream_key = key_of(left, &stage.stream_key)?;
            for (right, right_diff) in &contents[stage.lookup] {
                assert_eq!(right.arity(), stage.lookup_arity);
                let key = key_of(right, &stage.lookup_key)?;
                if key == stream_key && !key.iter().any(|d| d.is_null()) {
                    next.push((
                        Row::pack(left.iter().chain(right.iter())),
                        left_diff * right_diff,
                    ));
                }
            }
        }
        stream = through(&stage.closure, next)?;
    }
    Ok(stream)
}
