//! The physical plan as text.

use super::mir::{conjunction, keys_text, reduce_text, table_func_name, top_k_text};
use super::scalar::{datum_text, scalar_text, scalars_text};
use super::{Columns, Printer, columns_text};
use crate::agg::ReductionKind;
use crate::lir::{Dataflow, ExportKind, JoinPlan, JoinStage, Node, ReducePlan, TopKPlan};
use crate::mfp::{Mfp, TemporalBound};
use crate::scalar::ScalarExpr;
use repr::{Row, SqlType};

/// Physical plans print column positions only.
const NO_COLUMNS: &Columns = &vec![];

impl Printer<'_> {
    pub(super) fn node(&mut self, node: &Node) {
        match node {
            Node::Constant { rows } => self.constant(rows, None),
            Node::Get { id } => self.line(&format!("Get {}", self.id(*id))),
            Node::GetArrangement {
                id,
                key,
                lookup,
                mfp,
            } => {
                let key = scalars_text(key, NO_COLUMNS);
                let lookup = lookup.as_ref().map_or(String::new(), |rows| {
                    format!(" lookup=[{}]", rows_text(rows))
                });
                self.line(&format!(
                    "GetArrangement {} key=[{key}]{lookup}",
                    self.id(*id)
                ));
                self.indented(|p| p.mfp(mfp));
            }
            Node::Let { .. } => self.node_lets(node),
            Node::Mfp { input, mfp } => {
                self.line("MapFilterProject");
                self.indented(|p| {
                    p.mfp(mfp);
                    p.node(input);
                });
            }
            Node::FlatMap {
                input,
                func,
                args,
                mfp,
            } => {
                self.line(&format!(
                    "FlatMap {}({})",
                    table_func_name(func),
                    scalars_text(args, NO_COLUMNS)
                ));
                self.indented(|p| {
                    p.mfp(mfp);
                    p.node(input);
                });
            }
            Node::Join { inputs, plan } => self.node_join(inputs, plan),
            Node::Reduce { input, plan } => self.node_reduce(input, plan),
            Node::TopK { input, plan } => self.node_top_k(input, plan),
            Node::Negate { input } => {
                self.line("Negate");
                self.indented(|p| p.node(input));
            }
            Node::Threshold { input, .. } => {
                self.line("Threshold");
                self.indented(|p| p.node(input));
            }
            Node::Union { inputs } => {
                self.line("Union");
                self.indented(|p| inputs.iter().for_each(|input| p.node(input)));
            }
            Node::ArrangeBy { input, keys, .. } => {
                self.line(&format!("ArrangeBy keys=[{}]", keys_text(keys, NO_COLUMNS)));
                self.indented(|p| p.node(input));
            }
        }
    }

    fn node_lets(&mut self, node: &Node) {
        self.line("With");
        let mut body = node;
        self.indented(|p| {
            while let Node::Let {
                id,
                value,
                body: inner,
            } = body
            {
                p.line(&format!("cte l{id} ="));
                p.indented(|p| p.node(value));
                body = inner;
            }
        });
        self.line("Return");
        self.indented(|p| p.node(body));
    }

    /// The lines of a block; none if it does nothing.
    fn mfp(&mut self, mfp: &Mfp) {
        if !mfp.predicates.is_empty() {
            let predicates: Vec<ScalarExpr> =
                mfp.predicates.iter().map(|(_, p)| p.clone()).collect();
            self.line(&format!(
                "filter=({})",
                conjunction(&predicates, NO_COLUMNS)
            ));
        }
        for bound in &mfp.temporal {
            let (operator, e) = match bound {
                TemporalBound::From(e) => (">=", e),
                TemporalBound::Until(e) => ("<", e),
            };
            self.line(&format!(
                "temporal=(mz_now() {operator} {})",
                scalar_text(e, NO_COLUMNS)
            ));
        }
        if !mfp.expressions.is_empty() {
            self.line(&format!(
                "map=({})",
                scalars_text(&mfp.expressions, NO_COLUMNS)
            ));
        }
        let everything = 0..mfp.input_arity + mfp.expressions.len();
        if mfp.projection.iter().copied().ne(everything) {
            self.line(&format!(
                "project=({})",
                columns_text(&mfp.projection, NO_COLUMNS)
            ));
        }
    }

    fn node_join(&mut self, inputs: &[Node], plan: &JoinPlan) {
        match plan {
            JoinPlan::Linear {
                start,
                initial,
                stages,
            } => {
                self.line("LinearJoin");
                self.indented(|p| {
                    p.line(&format!("start=%{start}"));
                    p.indented(|p| p.mfp(initial));
                    p.stages(stages);
                });
            }
            JoinPlan::Delta { paths } => {
                self.line("DeltaJoin");
                self.indented(|p| {
                    for path in paths {
                        p.line(&format!(
                            "path %{} key=[{}]",
                            path.source,
                            scalars_text(&path.source_key, NO_COLUMNS)
                        ));
                        p.indented(|p| {
                            p.mfp(&path.initial);
                            p.stages(&path.stages);
                        });
                    }
                });
            }
        }
        self.indented(|p| inputs.iter().for_each(|input| p.node(input)));
    }

    fn stages(&mut self, stages: &[JoinStage]) {
        for stage in stages {
            let stream = scalars_text(&stage.stream_key, NO_COLUMNS);
            let lookup = scalars_text(&stage.lookup_key, NO_COLUMNS);
            self.line(&format!(
                "lookup %{} stream_key=[{stream}] lookup_key=[{lookup}]",
                stage.lookup
            ));
            self.indented(|p| p.mfp(&stage.closure));
        }
    }

    fn node_reduce(&mut self, input: &Node, plan: &ReducePlan) {
        let kind = |aggregate: &crate::agg::AggregateExpr| match aggregate.func.kind() {
            ReductionKind::Accumulable => "accumulable",
            ReductionKind::Hierarchical => "hierarchical",
            ReductionKind::Basic => "basic",
        };
        let mut kinds: Vec<&str> = plan.aggregates.iter().map(kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let kinds = if kinds.is_empty() {
            String::new()
        } else {
            format!(" type={}", kinds.join("+"))
        };
        self.line(&(reduce_text(&plan.group_key, &plan.aggregates, NO_COLUMNS) + &kinds));
        self.indented(|p| {
            p.mfp(&plan.mfp);
            p.node(input);
        });
    }

    fn node_top_k(&mut self, input: &Node, plan: &TopKPlan) {
        let limit = plan.limit.as_ref().map(|e| scalar_text(e, NO_COLUMNS));
        self.line(&top_k_text(
            &plan.group_key,
            &plan.order_key,
            limit,
            plan.offset,
            NO_COLUMNS,
        ));
        self.indented(|p| p.node(input));
    }

    pub(super) fn dataflow(&mut self, dataflow: &Dataflow) {
        for (id, source) in &dataflow.sources {
            self.line(&format!("Source {}", self.object(*id)));
            self.indented(|p| p.mfp(&source.mfp));
        }
        for (id, index) in &dataflow.indexes {
            let key = scalars_text(&index.key, NO_COLUMNS);
            self.line(&format!(
                "UsedIndex {} on={} key=[{key}]",
                self.object(*id),
                self.object(index.on)
            ));
        }
        for (id, node) in &dataflow.objects {
            self.line(&format!("{} =", self.id(*id)));
            self.indented(|p| p.node(node));
        }
        for export in &dataflow.exports {
            let kind = match &export.kind {
                ExportKind::Index { key, .. } => {
                    format!("index key=[{}]", scalars_text(key, NO_COLUMNS))
                }
                ExportKind::Subscribe { with_snapshot, .. } => {
                    format!("subscribe snapshot={with_snapshot}")
                }
            };
            self.line(&format!(
                "Export {} from={} {kind}",
                self.object(export.id),
                self.id(export.from)
            ));
        }
    }
}

fn rows_text(rows: &[Row]) -> String {
    let row = |row: &Row| {
        let datums: Vec<String> = row.iter().map(|d| datum_text(d, &SqlType::Text)).collect();
        format!("({})", datums.join(", "))
    };
    rows.iter().map(row).collect::<Vec<_>>().join(", ")
}
