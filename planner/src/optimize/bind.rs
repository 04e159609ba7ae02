//! Putting the parameters of one execution into a cached plan.
//!
//! A point lookup shares the plan's map-filter-project block and allocates only its keys.

use crate::lower_lir::{children_mut, late_lookup};
use crate::optimize::lookup::LookupKeys;
use crate::optimize::select::{SelectExec, SelectPath, TableAccess};
use plan::lir::{Dataflow, JoinPlan, Node};
use plan::scalar::{EvalCtx, Unmaterializable};
use plan::{EvalError, Finishing, Mfp, Mir, ScalarExpr};
use repr::{ClusterId, Datum, Diff, GlobalId, Row, ShardId, SqlType, Timestamp};
use std::sync::Arc;

/// The value of each parameter with the type it was planned with.
pub type Params<'a> = &'a [(Row, SqlType)];

/// A query ready to run: no parameters are left.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundSelect {
    pub path: BoundPath,
    pub finishing: Arc<Finishing>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum BoundPath {
    Constant {
        rows: Result<Vec<(Row, Diff)>, EvalError>,
    },
    Interpret {
        mir: Arc<Mir>,
    },
    Table {
        table: GlobalId,
        shard: ShardId,
        access: BoundAccess,
        mfp: Arc<Mfp>,
    },
    /// Exactly these keys (canonical, sorted, without duplicates), or all rows.
    Peek {
        export: GlobalId,
        on: GlobalId,
        cluster: ClusterId,
        keys: Option<Vec<Row>>,
        mfp: Arc<Mfp>,
    },
    Dataflow {
        dataflow: Arc<Dataflow>,
        export: GlobalId,
        arity: usize,
        cluster: ClusterId,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum BoundAccess {
    /// Exactly these keys (canonical, sorted, without duplicates) of key space `space`; none: no row can qualify.
    Lookup {
        space: u32,
        keys: Vec<Row>,
    },
    Scan,
}

impl SelectExec {
    /// Replaces parameters by values and computes lookup keys.
    ///
    /// # Errors
    /// If an expression that gives a key fails, as evaluating the predicate would have, or if parameters are missing (08P01).
    pub fn bind(&self, params: Params<'_>, ctx: &EvalCtx) -> Result<BoundSelect, EvalError> {
        if params.len() < self.param_count {
            let message = format!(
                "{} parameters are given, but {} are required",
                params.len(),
                self.param_count
            );
            return Err(EvalError::new("08P01", message));
        }
        let path = match &self.path {
            SelectPath::Constant { rows } => BoundPath::Constant { rows: rows.clone() },
            SelectPath::Interpret { mir } => BoundPath::Interpret {
                mir: bind_mir(mir, params),
            },
            SelectPath::Table {
                table,
                shard,
                access,
                mfp,
            } => {
                let access = match access {
                    TableAccess::Lookup { space, keys } => BoundAccess::Lookup {
                        space: *space,
                        keys: keys.bind(params, ctx)?,
                    },
                    TableAccess::Scan => BoundAccess::Scan,
                };
                BoundPath::Table {
                    table: *table,
                    shard: *shard,
                    access,
                    mfp: bind_mfp(mfp, params),
                }
            }
            SelectPath::Peek {
                export,
                on,
                cluster,
                keys,
                mfp,
            } => {
                let keys = keys
                    .as_ref()
                    .map(|keys| keys.bind(params, ctx))
                    .transpose()?;
                BoundPath::Peek {
                    export: *export,
                    on: *on,
                    cluster: *cluster,
                    keys,
                    mfp: bind_mfp(mfp, params),
                }
            }
            SelectPath::Dataflow {
                dataflow,
                lookups,
                export,
                arity,
                cluster,
            } => BoundPath::Dataflow {
                dataflow: bind_dataflow(dataflow, lookups, params, ctx)?,
                export: *export,
                arity: *arity,
                cluster: *cluster,
            },
        };
        Ok(BoundSelect {
            path,
            finishing: Arc::clone(&self.finishing),
        })
    }
}

impl BoundSelect {
    /// Replaces `mz_now()` by the time of the read. [`BoundPath::Interpret`] has it replaced by the interpreter.
    pub fn fix_time(&mut self, time: Timestamp) {
        match &mut self.path {
            BoundPath::Constant { .. } | BoundPath::Interpret { .. } => {}
            BoundPath::Table { mfp, .. } | BoundPath::Peek { mfp, .. } => {
                let mut found = false;
                mfp.visit_expressions(&mut |e| found |= e.contains_mz_now());
                if found {
                    Arc::make_mut(mfp).fix_time(time);
                }
            }
            BoundPath::Dataflow { dataflow, .. } => {
                let mut found = false;
                let mut fixed = Dataflow::clone(dataflow);
                dataflow_exprs_mut(&mut fixed, &mut |root| {
                    root.visit_mut_post(&mut |e| {
                        if matches!(e, ScalarExpr::Unmaterializable(Unmaterializable::MzNow)) {
                            found = true;
                            *e =
                                ScalarExpr::literal(Datum::MzTimestamp(time), SqlType::MzTimestamp);
                        }
                    });
                });
                if found {
                    *dataflow = Arc::new(fixed);
                }
            }
        }
    }
}

fn bind_mfp(mfp: &Arc<Mfp>, params: Params<'_>) -> Arc<Mfp> {
    let mut has_params = false;
    mfp.visit_expressions(&mut |e| has_params |= e.contains_param());
    if !has_params {
        return Arc::clone(mfp);
    }
    let mut bound = Mfp::clone(mfp);
    bound.bind(params);
    Arc::new(bound)
}

fn bind_mir(mir: &Arc<Mir>, params: Params<'_>) -> Arc<Mir> {
    if params.is_empty() {
        return Arc::clone(mir);
    }
    let mut bound = Mir::clone(mir);
    bound.visit_mut_post(&mut |node| {
        crate::transform::visit_scalars_mut(node, &mut |e| e.bind(params))
    });
    Arc::new(bound)
}

fn bind_dataflow(
    dataflow: &Arc<Dataflow>,
    lookups: &[LookupKeys],
    params: Params<'_>,
    ctx: &EvalCtx,
) -> Result<Arc<Dataflow>, EvalError> {
    if params.is_empty() {
        return Ok(Arc::clone(dataflow));
    }
    let mut bound = Dataflow::clone(dataflow);
    dataflow_exprs_mut(&mut bound, &mut |e| e.bind(params));
    let keys: Vec<Vec<Row>> = lookups
        .iter()
        .map(|keys| keys.bind(params, ctx))
        .collect::<Result<_, _>>()?;
    if !keys.is_empty() {
        bound
            .objects
            .iter_mut()
            .for_each(|(_, node)| fill_lookups(node, &keys));
    }
    Ok(Arc::new(bound))
}

/// Puts the keys of late lookups where the plan waits for them.
fn fill_lookups(node: &mut Node, keys: &[Vec<Row>]) {
    if let Node::GetArrangement {
        key,
        lookup: Some(rows),
        ..
    } = node
        && let Some(n) = late_lookup(rows, key.len())
        && let Some(found) = keys.get(n)
    {
        rows.clone_from(found);
    }
    children_mut(node)
        .into_iter()
        .for_each(|child| fill_lookups(child, keys));
}

fn dataflow_exprs_mut(dataflow: &mut Dataflow, f: &mut dyn FnMut(&mut ScalarExpr)) {
    dataflow
        .sources
        .values_mut()
        .for_each(|source| source.mfp.visit_expressions_mut(f));
    dataflow
        .objects
        .iter_mut()
        .for_each(|(_, node)| node_exprs_mut(node, f));
}

/// Visits the expressions of a physical plan that can hold parameters.
fn node_exprs_mut(node: &mut Node, f: &mut dyn FnMut(&mut ScalarExpr)) {
    match node {
        Node::Constant { .. } | Node::Get { .. } => {}
        Node::GetArrangement { mfp, .. } => mfp.visit_expressions_mut(f),
        Node::Let { value, body, .. } => {
            node_exprs_mut(value, f);
            node_exprs_mut(body, f);
        }
        Node::Mfp { input, mfp } => {
            node_exprs_mut(input, f);
            mfp.visit_expressions_mut(f);
        }
        Node::FlatMap {
            input, args, mfp, ..
        } => {
            node_exprs_mut(input, f);
            args.iter_mut().for_each(&mut *f);
            mfp.visit_expressions_mut(f);
        }
        Node::Join { inputs, plan } => {
            inputs.iter_mut().for_each(|input| node_exprs_mut(input, f));
            join_exprs_mut(plan, f);
        }
        Node::Reduce { input, plan } => {
            node_exprs_mut(input, f);
            plan.group_key.iter_mut().for_each(&mut *f);
            plan.aggregates.iter_mut().for_each(|a| f(&mut a.expr));
            plan.mfp.visit_expressions_mut(f);
        }
        Node::TopK { input, plan } => {
            node_exprs_mut(input, f);
            plan.limit.iter_mut().for_each(f);
        }
        Node::Negate { input } | Node::Threshold { input, .. } => node_exprs_mut(input, f),
        Node::Union { inputs } => inputs.iter_mut().for_each(|input| node_exprs_mut(input, f)),
        Node::ArrangeBy { input, keys, .. } => {
            node_exprs_mut(input, f);
            keys.iter_mut().flatten().for_each(f);
        }
    }
}

fn join_exprs_mut(plan: &mut JoinPlan, f: &mut dyn FnMut(&mut ScalarExpr)) {
    let (initials, stages): (Vec<_>, Vec<_>) = match plan {
        JoinPlan::Linear {
            initial, stages, ..
        } => (vec![initial], stages.iter_mut().collect()),
        JoinPlan::Delta { paths } => {
            let mut initials = vec![];
            let mut all = vec![];
            for path in paths {
                path.source_key.iter_mut().for_each(&mut *f);
                initials.push(&mut path.initial);
                all.extend(path.stages.iter_mut());
            }
            (initials, all)
        }
    };
    initials
        .into_iter()
        .for_each(|mfp| mfp.visit_expressions_mut(f));
    for stage in stages {
        stage.lookup_key.iter_mut().for_each(&mut *f);
        stage.stream_key.iter_mut().for_each(&mut *f);
        stage.closure.visit_expressions_mut(f);
    }
}
