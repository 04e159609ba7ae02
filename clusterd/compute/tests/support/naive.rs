//! What a physical plan means at one time, computed as naively as possible.

use plan::lir::*;
use plan::mir::{ColumnOrder, Id};
use plan::scalar::EvalCtx;
use plan::{EvalError, Mfp, ScalarExpr};
use repr::{Datum, Diff, Row, RowArena, Timestamp};
use std::collections::BTreeMap;

/// Rows, and every error met.
#[derive(Clone, Default)]
pub struct Content {
    pub rows: Vec<(Row, Diff)>,
    pub errors: Vec<EvalError>,
}

impl Content {
    fn consolidated(mut self) -> Self {
        let mut sums: BTreeMap<Row, Diff> = BTreeMap::new();
        for (row, diff) in self.rows {
            *sums.entry(row).or_default() += diff;
        }
        self.rows = sums.into_iter().filter(|(_, d)| *d != 0).collect();
        self
    }

    fn each(self, mut f: impl FnMut(&Row) -> Result<Vec<(Row, Diff)>, EvalError>) -> Self {
        let mut out = Content {
            rows: vec![],
            errors: self.errors,
        };
        for (row, diff) in &self.rows {
            match f(row) {
                Ok(rows) => out
                    .rows
                    .extend(rows.into_iter().map(|(r, d)| (r, d * diff))),
                Err(error) => out.errors.push(error),
            }
        }
        out
    }

    fn through(self, mfp: &Mfp, ts: Timestamp) -> Self {
        self.each(|row| {
            let out = mfp.eval_temporal(&EvalCtx::default(), &row.unpack())?;
            Ok(out
                .filter(|(_, interval)| interval.contains(ts))
                .map(|(row, _)| (row, 1))
                .into_iter()
                .collect())
        })
    }
}

pub struct Naive<'a> {
    pub tables: &'a BTreeMap<u64, Vec<(Row, Diff)>>,
    pub dataflow: &'a Dataflow,
    pub ts: Timestamp,
    bound: BTreeMap<Id, Content>,
}

/// The content of the dataflow's first export at `ts`, in order; or its least error.
pub fn content(
    dataflow: &Dataflow,
    tables: &BTreeMap<u64, Vec<(Row, Diff)>>,
    ts: Timestamp,
) -> Result<Vec<(Row, Diff)>, EvalError> {
    let mut naive = Naive {
        tables,
        dataflow,
        ts,
        bound: BTreeMap::new(),
    };
    for (id, node) in &dataflow.objects {
        let content = naive.eval(node);
        naive.bound.insert(*id, content);
    }
    let mut content = naive.get(dataflow.exports[0].from).consolidated();
    if let ExportKind::Index { key, .. } = &dataflow.exports[0].kind {
        let failed = content
            .rows
            .iter()
            .filter_map(|(row, _)| eval_row(key, row).err());
        content.errors.extend(failed);
    }
    match content.errors.into_iter().min() {
        Some(error) => Err(error),
        None => Ok(content.rows),
    }
}

fn eval_row(exprs: &[ScalarExpr], row: &Row) -> Result<Row, EvalError> {
    let arena = RowArena::new();
    let columns = row.unpack();
    let datums: Result<Vec<Datum<'_>>, EvalError> = exprs
        .iter()
        .map(|e| e.eval(&EvalCtx::default(), &columns, &arena))
        .collect();
    Ok(Row::pack_slice(&datums?))
}

fn concat(a: &Row, b: &Row) -> Row {
    Row::pack(a.iter().chain(b.iter()))
}

impl Naive<'_> {
    fn get(&self, id: Id) -> Content {
        if let Some(content) = self.bound.get(&id) {
            return content.clone();
        }
        let Id::Global(global) = id else {
            panic!("unbound {id:?}")
        };
        let source = &self.dataflow.sources[&global];
        let rows = self.tables[&source.shard.0].clone();
        Content {
            rows,
            errors: vec![],
        }
        .consolidated()
        .through(&source.mfp, self.ts)
    }

    fn eval(&mut self, node: &Node) -> Content {
        match node {
            Node::Constant { rows: Ok(rows) } => Content {
                rows: rows.clone(),
                errors: vec![],
            },
            Node::Constant { rows: Err(error) } => Content {
                rows: vec![],
                errors: vec![error.clone()],
            },
            Node::Get { id } => self.get(*id),
            Node::GetArrangement {
                id,
                key,
                lookup,
                mfp,
            } => {
                let mut content = self.get(*id);
                if let Some(keys) = lookup {
                    content
                        .rows
                        .retain(|(row, _)| keys.contains(&eval_row(key, row).unwrap()));
                }
                content.through(mfp, self.ts)
            }
            Node::Let { id, value, body } => {
                let value = self.eval(value);
                self.bound.insert(Id::Local(*id), value);
                self.eval(body)
            }
            Node::Mfp { input, mfp } => {
                let ts = self.ts;
                self.eval(input).consolidated().through(mfp, ts)
            }
            Node::FlatMap {
                input,
                func,
                args,
                mfp,
            } => {
                let ts = self.ts;
                let content = self.eval(input).each(|row| {
                    let args = eval_row(args, row)?;
                    let added: Vec<_> = func.eval(&EvalCtx::default(), &args.unpack())?.collect();
                    Ok(added
                        .into_iter()
                        .map(|(more, times)| (concat(row, &more), times))
                        .collect())
                });
                content.through(mfp, ts)
            }
            Node::Join { inputs, plan } => {
                let inputs: Vec<Content> = inputs
                    .iter()
                    .map(|input| self.eval(input).consolidated())
                    .collect();
                let (start, initial, stages) = match plan {
                    JoinPlan::Linear {
                        start,
                        initial,
                        stages,
                    } => (*start, initial, stages),
                    JoinPlan::Delta { paths } => {
                        (paths[0].source, &paths[0].initial, &paths[0].stages)
                    }
                };
                let mut stream = inputs[start].clone().through(initial, self.ts);
                for (i, input) in inputs.iter().enumerate() {
                    if i != start {
                        stream.errors.extend(input.errors.iter().cloned());
                    }
                }
                for stage in stages {
                    let joined = stream.each(|row| {
                        let key = eval_row(&stage.stream_key, row)?;
                        if key.iter().any(|d| d.is_null()) {
                            return Ok(vec![]);
                        }
                        let matches = inputs[stage.lookup].rows.iter();
                        let matches = matches.filter(|(other, _)| {
                            eval_row(&stage.lookup_key, other).unwrap() == key
                        });
                        Ok(matches.map(|(other, d)| (concat(row, other), *d)).collect())
                    });
                    stream = joined.through(&stage.closure, self.ts);
                }
                stream
            }
            Node::Reduce { input, plan } => self.reduce(input, plan),
            Node::TopK { input, plan } => self.top_k(input, plan),
            Node::Negate { input } => {
                let mut content = self.eval(input);
                content.rows.iter_mut().for_each(|(_, d)| *d = -*d);
                content
            }
            Node::Threshold { input, .. } => {
                let mut content = self.eval(input).consolidated();
                content.rows.retain(|(_, d)| *d > 0);
                content
            }
            Node::Union { inputs } => {
                let mut out = Content::default();
                for input in inputs {
                    let content = self.eval(input);
                    out.rows.extend(content.rows);
                    out.errors.extend(content.errors);
                }
                out
            }
            Node::ArrangeBy { input, .. } => self.eval(input),
        }
    }

    fn reduce(&mut self, input: &Node, plan: &ReducePlan) -> Content {
        let content = self.eval(input).consolidated();
        let mut out = Content {
            rows: vec![],
            errors: content.errors,
        };
        let mut groups: BTreeMap<Row, Vec<(Row, Diff)>> = BTreeMap::new();
        let args: Vec<ScalarExpr> = plan.aggregates.iter().map(|a| a.expr.clone()).collect();
        for (row, diff) in &content.rows {
            match eval_row(&plan.group_key, row).and_then(|key| Ok((key, eval_row(&args, row)?))) {
                Ok((key, args)) => groups.entry(key).or_default().push((args, *diff)),
                Err(error) => out.errors.push(error),
            }
        }
        for (key, rows) in groups {
            let arena = RowArena::new();
            let aggregates: Result<Vec<Datum<'_>>, EvalError> = plan
                .aggregates
                .iter()
                .enumerate()
                .map(|(i, a)| a.eval(rows.iter().map(|(row, d)| (row.column(i), *d)), &arena))
                .collect();
            match aggregates {
                Ok(aggregates) => out.rows.push((Row::pack(key.iter().chain(aggregates)), 1)),
                Err(error) => out.errors.push(error),
            }
        }
        out.through(&plan.mfp, self.ts)
    }

    fn top_k(&mut self, input: &Node, plan: &TopKPlan) -> Content {
        let content = self.eval(input).consolidated();
        let mut out = Content {
            rows: vec![],
            errors: content.errors,
        };
        let mut groups: BTreeMap<Row, Vec<Row>> = BTreeMap::new();
        for (row, diff) in &content.rows {
            let key = Row::pack(plan.group_key.iter().map(|c| row.column(*c)));
            groups
                .entry(key)
                .or_default()
                .extend(std::iter::repeat_n(row.clone(), *diff as usize));
        }
        for (_, mut rows) in groups {
            rows.sort_by(|a, b| order(&plan.order_key, a, b).then_with(|| a.cmp(b)));
            let limit = plan.limit.as_ref().map_or(usize::MAX, |l| {
                l.as_literal().unwrap().unwrap_int64() as usize
            });
            out.rows.extend(
                rows.into_iter()
                    .skip(plan.offset as usize)
                    .take(limit)
                    .map(|row| (row, 1)),
            );
        }
        out
    }
}

fn order(terms: &[ColumnOrder], a: &Row, b: &Row) -> std::cmp::Ordering {
    for term in terms {
        let (a, b) = (a.column(term.column), b.column(term.column));
        let ordering = match (a.is_null(), b.is_null()) {
            (true, true) => std::cmp::Ordering::Equal,
            (a_null, b_null) if a_null || b_null => {
                if a_null == term.nulls_last {
                    std::cmp::Ordering::Greater
                } else {
                    std::cmp::Ordering::Less
                }
            }
            _ => {
                if term.desc {
                    b.cmp(&a)
                } else {
                    a.cmp(&b)
                }
            }
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
    std::cmp::Ordering::Equal
}
