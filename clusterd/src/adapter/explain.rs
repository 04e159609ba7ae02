//! EXPLAIN: plans as text, and EXPLAIN TIMESTAMP.

use crate::adapter::compile::{Compiled, ViewDefinitions};
use crate::adapter::error::{Result, SqlError};
use crate::adapter::execute::{Failure, Params};
use crate::adapter::read_point::ReadPoint;
use crate::adapter::session::{Output, RowSet, Session};
use crate::adapter::transaction::Block;
use crate::lead::{describe, frontiers_of};
use plan::explain::{Names, explain_dataflow};
use planner::Plan;
use planner::ast::{ExplainFormat, ExplainStage};
use planner::optimize::{
    CatalogOracle, SelectExec, SelectPath, TableAccess, explain_optimized, explain_physical,
};
use planner::statement::ExplainPlan;
use protocol::cluster::ClusterInfo;
use repr::{Datum, RelationDesc, Row, ShardId, SqlType, Timestamp};
use std::fmt::Write;
use std::sync::Arc;

impl Session {
    pub(crate) async fn explain(
        &mut self,
        explain: &ExplainPlan,
        params: &Params,
        point: &ReadPoint,
    ) -> Result<Output, Failure> {
        let text = match explain.stage {
            ExplainStage::Raw => explain
                .raw
                .clone()
                .ok_or_else(|| SqlError::internal("EXPLAIN without a raw plan"))?,
            ExplainStage::Decorrelated => match query_of(&explain.target) {
                Some(mir) => plan::explain::explain_mir(mir, &CatalogNames(point.state.catalog())),
                None => return Err(not_explained(&explain.target).into()),
            },
            ExplainStage::Optimized | ExplainStage::Physical => {
                self.explain_plan(explain, point)?
            }
            ExplainStage::Timestamp => self.explain_timestamp(explain, params, point).await?,
        };
        let text = match explain.format {
            ExplainFormat::Text => text,
            ExplainFormat::Json => {
                serde_json::json!([{ "Plan": text.lines().collect::<Vec<_>>() }]).to_string()
            }
        };
        let desc = RelationDesc::from_columns([(
            "QUERY PLAN",
            repr::ColumnType::new(SqlType::Text, false),
        )]);
        let rows = text
            .lines()
            .map(|line| Row::pack_slice(&[Datum::String(line)]))
            .collect();
        Ok(Output::Rows(
            RowSet::new(Arc::new(desc), rows, "EXPLAIN").without_count(),
        ))
    }

    fn compiled_query(&self, explain: &ExplainPlan, point: &ReadPoint) -> Result<Compiled> {
        let (compiled, _) = self.compile_at((*explain.target).clone(), point)?;
        Ok(compiled)
    }

    fn explain_plan(&self, explain: &ExplainPlan, point: &ReadPoint) -> Result<String> {
        let catalog = Arc::clone(point.state.catalog());
        let oracle = CatalogOracle::new(&catalog, &ViewDefinitions);
        let names = CatalogNames(&catalog);
        let cluster = self.with_view(&catalog, |view| view.cluster(None).map(|c| c.id))?;
        if explain.stage == ExplainStage::Optimized
            && let Some(mir) = query_of(&explain.target)
        {
            let finishing = match &*explain.target {
                Plan::Select(select) => Some(&select.finishing),
                _ => None,
            };
            return Ok(explain_optimized(
                mir.clone(),
                finishing,
                &oracle,
                cluster,
                &names,
            )?);
        }
        if let Plan::CreateMaterializedView(create) = &*explain.target {
            let spec = planner::optimize::ExportSpec::MaterializedView {
                id: create.item.id,
                types: create.desc.types.clone(),
                preferred_key: None,
            };
            let exec = planner::optimize::optimize_dataflow(
                &create.item.name,
                create.mir.clone(),
                &spec,
                &oracle,
                cluster,
            )?;
            return Ok(explain_dataflow(&exec.dataflow, &names));
        }
        let compiled = self.compiled_query(explain, point)?;
        let exec = match &compiled {
            Compiled::Select(select) => &select.exec,
            Compiled::Dml(dml) => &dml.exec,
            Compiled::Plan(_) => return Err(not_explained(&explain.target)),
        };
        Ok(explain_physical(exec, &names))
    }

    async fn explain_timestamp(
        &self,
        explain: &ExplainPlan,
        params: &Params,
        point: &ReadPoint,
    ) -> Result<String> {
        let compiled = self.compiled_query(explain, point)?;
        let Compiled::Select(select) = &compiled else {
            return Err(not_explained(&explain.target));
        };
        let env = &self.adapter.env;
        let mut text = String::new();
        let (ts, mode) = match &select.as_of {
            Some(as_of) => (self.as_of(as_of, params, point).await?, "AS OF"),
            None => (point.ts, self.how_determined()),
        };
        let _ = writeln!(text, "                query timestamp: {ts}");
        let _ = writeln!(text, "         how it was determined: {mode}");
        let _ = writeln!(
            text,
            "                      gateway: node {}, incarnation {}",
            self.adapter.gateway.node.0, self.adapter.gateway.incarnation
        );
        let _ = writeln!(
            text,
            "                   ENV leader: node {}, term {}, applied index {}",
            env.leader().map_or(0, |n| n.0),
            env.term(),
            point.state.applied()
        );
        let _ = writeln!(
            text,
            "              catalog version: {}",
            point.state.catalog().version
        );
        let info = match &select.exec.path {
            SelectPath::Peek { cluster, .. } | SelectPath::Dataflow { cluster, .. } => {
                self.adapter.clusters.info(*cluster).await
            }
            SelectPath::Constant { .. }
            | SelectPath::Interpret { .. }
            | SelectPath::Table { .. } => None,
        };
        explain_inputs(&select.exec, point, info.as_ref(), &mut text);
        Ok(text)
    }

    fn how_determined(&self) -> &'static str {
        match (self.settings.relaxed_reads(), self.txn.block) {
            (true, Block::Auto) => "newest local state, no read point",
            (false, Block::Auto) => "read point: ReadIndex at ENV's leader",
            (true, Block::Implicit | Block::Explicit) => {
                "newest local state at the transaction's first read, no read point"
            }
            (false, Block::Implicit | Block::Explicit) => {
                "the transaction's read point: ReadIndex at ENV's leader at its first read"
            }
        }
    }
}

fn explain_inputs(
    exec: &SelectExec,
    point: &ReadPoint,
    info: Option<&ClusterInfo>,
    text: &mut String,
) {
    let served = match &exec.path {
        SelectPath::Constant { .. } => "constant".to_owned(),
        SelectPath::Interpret { .. } => "interpreter on the gateway".to_owned(),
        SelectPath::Table {
            access: TableAccess::Lookup { .. },
            ..
        } => "key lookup in the gateway's storage".to_owned(),
        SelectPath::Table {
            access: TableAccess::Scan,
            ..
        } => "scan of the gateway's storage".to_owned(),
        SelectPath::Peek {
            cluster, export, ..
        } => {
            let (since, upper) = info.map_or((None, None), |info| frontiers_of(info, *export));
            let _ = writeln!(
                text,
                "{}",
                collection_line(&export.to_string(), since, upper)
            );
            format!("peek of {export}; {}", describe(*cluster, info))
        }
        SelectPath::Dataflow { cluster, .. } => {
            format!("temporary dataflow; {}", describe(*cluster, info))
        }
    };
    let _ = writeln!(text, "                    served by: {served}");
    for shard in &exec.shards {
        let ShardId(id) = shard;
        let since = point.state.since(*shard);
        let _ = writeln!(
            text,
            "{}",
            collection_line(&format!("shard {id}"), since, Some(point.state.upper()))
        );
    }
}

/// Names of the catalog's objects, for plans.
struct CatalogNames<'a>(&'a state::Catalog);

impl Names for CatalogNames<'_> {
    fn object(&self, id: repr::GlobalId) -> Option<String> {
        match self.0.item(id) {
            Some(item) => {
                let schema = self.0.schemas.get(&item.schema)?;
                Some(format!("{}.{}", schema.name, item.name))
            }
            None => planner::builtin::by_id(id).map(|r| format!("{}.{}", r.schema, r.name)),
        }
    }

    fn columns(&self, id: repr::GlobalId) -> Option<Vec<String>> {
        match self.0.item(id) {
            Some(item) => item
                .columns()
                .map(|columns| columns.iter().map(|c| c.name.clone()).collect()),
            None => planner::builtin::by_id(id).map(|r| r.desc.names.clone()),
        }
    }
}

fn collection_line(name: &str, since: Option<Timestamp>, upper: Option<Timestamp>) -> String {
    let show = |t: Option<Timestamp>| t.map_or_else(|| "unknown".to_owned(), |t| t.to_string());
    format!("{name:>29}: since {}, upper {}", show(since), show(upper))
}

fn query_of(plan: &Plan) -> Option<&plan::Mir> {
    match plan {
        Plan::Select(select) => Some(&select.mir),
        Plan::Insert(p) => Some(&p.rows),
        Plan::Update(p) => Some(&p.rows),
        Plan::Delete(p) => Some(&p.rows),
        Plan::CreateMaterializedView(p) => Some(&p.mir),
        Plan::Subscribe(p) => Some(&p.mir),
        _ => None,
    }
}

fn not_explained(plan: &Plan) -> SqlError {
    let _ = plan;
    SqlError::unsupported(
        "EXPLAIN of this statement",
        "EXPLAIN a query, INSERT, UPDATE, DELETE or CREATE MATERIALIZED VIEW.",
    )
}
