//! Statements that change the catalog: planned here, checked again and made durable by S.

mod cluster;

use crate::adapter::compile::ViewDefinitions;
use crate::adapter::error::{Result, SqlError};
use crate::adapter::execute::Failure;
use crate::adapter::read_point::ReadPoint;
use crate::adapter::session::{Output, Session};
use crate::adapter::transaction::Block;
use plan::{Dataflow, Mir, ScalarExpr};
use planner::Plan;
use planner::ast::ObjectKind;
use planner::optimize::{
    CatalogOracle, DataflowExec, ExportSpec, OptimizerCatalog, optimize_dataflow,
};
use planner::statement::DropPlan;
use repr::{ClusterId, ColumnType, DatabaseId, GlobalId, SchemaId};
use state::catalog::{Database, Item, ItemKind, Plan as StoredPlan, Schema};
use state::command::CatalogOp;
use state::{Catalog, Txn};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Session {
    pub(crate) async fn ddl(&mut self, plan: &Plan, point: &ReadPoint) -> Result<Output, Failure> {
        let catalog = Arc::clone(self.txn.view(point).0.catalog());
        let tag = match plan {
            Plan::Truncate { tables } => return Ok(self.truncate(tables, point, &catalog)?),
            Plan::NoOp { tag, notices } => {
                self.planner_notices(notices);
                return Ok(Output::Complete(tag.clone()));
            }
            Plan::CreateTable(_) => "CREATE TABLE",
            Plan::CreateView(_) => "CREATE VIEW",
            Plan::CreateSource(_) => "CREATE SOURCE",
            Plan::CreateMaterializedView(_) => "CREATE MATERIALIZED VIEW",
            Plan::CreateIndex(_) => "CREATE INDEX",
            Plan::CreateSchema { .. } => "CREATE SCHEMA",
            Plan::CreateDatabase { .. } => "CREATE DATABASE",
            Plan::CreateCluster(_) => "CREATE CLUSTER",
            Plan::AlterCluster(_) | Plan::RenameCluster { .. } => "ALTER CLUSTER",
            Plan::Drop(drop) => drop_tag(drop.kind),
            Plan::Rename { kind, .. } => alter_tag(*kind),
            other => {
                return Err(
                    SqlError::internal(format!("{other:?} is not a catalog statement")).into(),
                );
            }
        };
        self.check_writable(tag)?;
        let ops = self.catalog_ops(plan, &catalog)?;
        self.note_waiting_replicas(&ops, point);
        if self.txn.block != Block::Auto {
            self.apply_to_scratch(
                point,
                Txn {
                    catalog_ops: ops.clone(),
                    ..self.empty_txn()
                },
            )?;
            let created = ops.iter().filter_map(|op| match op {
                CatalogOp::CreateItem(item) if item.plan().is_some() => Some(item.id),
                _ => None,
            });
            self.txn.unreadable.extend(created);
        }
        self.txn.catalog_ops.extend(ops);
        Ok(Output::Complete(tag.to_owned()))
    }

    fn catalog_ops(&mut self, plan: &Plan, catalog: &Arc<Catalog>) -> Result<Vec<CatalogOp>> {
        match plan {
            Plan::CreateTable(create) | Plan::CreateView(create) | Plan::CreateSource(create) => {
                self.planner_notices(&create.notices);
                let item = Arc::new(create.item.clone());
                Ok(match create.replaces {
                    Some(_) => vec![CatalogOp::UpdateItem(item)],
                    None => vec![CatalogOp::CreateItem(item)],
                })
            }
            Plan::CreateMaterializedView(create) => {
                let types = create.desc.types.clone();
                let item = plan_materialized_view(
                    catalog,
                    create.item.clone(),
                    create.mir.clone(),
                    types,
                    &BTreeSet::new(),
                )?;
                Ok(vec![CatalogOp::CreateItem(Arc::new(item))])
            }
            Plan::CreateIndex(create) => {
                self.planner_notices(&create.notices);
                let item = plan_index(
                    catalog,
                    create.item.clone(),
                    create.on,
                    &create.keys,
                    &BTreeSet::new(),
                )?;
                Ok(vec![CatalogOp::CreateItem(Arc::new(item))])
            }
            Plan::CreateSchema { name, notices } => {
                self.planner_notices(notices);
                let (database, owner) = self.with_view(catalog, |view| {
                    Ok::<_, SqlError>((view.database()?.id, view.role()?.id))
                })?;
                let schema = Schema {
                    id: SchemaId(catalog.next_id),
                    database,
                    name: name.clone(),
                    owner,
                };
                Ok(vec![CatalogOp::CreateSchema(schema)])
            }
            Plan::CreateDatabase { name } => {
                self.check_alone("CREATE DATABASE")?;
                let owner = self.with_view(catalog, |view| view.role().map(|r| r.id))?;
                let id = DatabaseId(catalog.next_id);
                let public = Schema {
                    id: SchemaId(catalog.next_id + 1),
                    database: id,
                    name: "public".to_owned(),
                    owner,
                };
                Ok(vec![
                    CatalogOp::CreateDatabase(Database {
                        id,
                        name: name.clone(),
                    }),
                    CatalogOp::CreateSchema(public),
                ])
            }
            Plan::CreateCluster(create) => Ok(vec![self.create_cluster(create, catalog)]),
            Plan::AlterCluster(alter) => self.alter_cluster(alter, catalog),
            Plan::RenameCluster { id, name, updates } => {
                cluster::rename(catalog, *id, name, updates)
            }
            Plan::Drop(drop) => {
                self.planner_notices(&drop.notices);
                self.check_databases_unused(catalog, drop)?;
                drop_ops(catalog, drop)
            }
            // The item and its indexes with their new names and texts.
            Plan::Rename { updates, .. } => Ok(updates
                .iter()
                .map(|item| CatalogOp::UpdateItem(Arc::new(item.clone())))
                .collect()),
            other => Err(SqlError::internal(format!(
                "{other:?} does not change the catalog"
            ))),
        }
    }

    /// Refuses a statement that must be the first of its transaction, outside of BEGIN.
    pub(crate) fn check_alone(&self, statement: &str) -> Result<()> {
        let alone = match self.txn.block {
            Block::Auto => true,
            // What follows its message may be no more than a Sync that is under way.
            Block::Implicit => self.txn.statements == 1,
            Block::Explicit => false,
        };
        if alone {
            return Ok(());
        }
        let message = format!("{statement} cannot run inside a transaction block");
        Err(SqlError::new("25001", message))
    }

    /// As in PostgreSQL, a database is dropped by a statement of its own, when nobody is connected to it.
    fn check_databases_unused(&self, catalog: &Catalog, drop: &DropPlan) -> Result<()> {
        if drop.kind == ObjectKind::Database {
            self.check_alone("DROP DATABASE")?;
        }
        let databases = drop.databases.iter();
        for database in databases.filter_map(|id| catalog.databases.get(id)) {
            let sessions = self.adapter.sessions.activity();
            let inside = sessions.iter().filter(|s| s.database == database.name);
            let detail = match inside.count() {
                0 => continue,
                1 => "There is 1 other session using the database.".to_owned(),
                n => format!("There are {n} other sessions using the database."),
            };
            let name = &database.name;
            let message = format!("database \"{name}\" is being accessed by other users");
            return Err(SqlError::new("55006", message).detail(detail));
        }
        Ok(())
    }

    fn truncate(
        &mut self,
        tables: &[GlobalId],
        point: &ReadPoint,
        catalog: &Arc<Catalog>,
    ) -> Result<Output> {
        self.check_writable("TRUNCATE TABLE")?;
        for id in tables {
            let item = catalog.item(*id).ok_or_else(SqlError::conflict)?;
            let shard = item.shard().ok_or_else(|| {
                SqlError::new("42809", format!("\"{}\" is not a table", item.name))
            })?;
            self.write(point, item, shard, vec![], true)?;
        }
        Ok(Output::Complete("TRUNCATE TABLE".to_owned()))
    }
}

/// Optimizes a materialized view's query and fills the item's plan.
fn plan_materialized_view(
    catalog: &Catalog,
    mut item: Item,
    mir: Mir,
    types: Vec<ColumnType>,
    hidden: &BTreeSet<GlobalId>,
) -> Result<Item> {
    let ItemKind::MaterializedView(view) = &mut item.kind else {
        return Err(SqlError::internal("not a materialized view"));
    };
    let spec = ExportSpec::MaterializedView {
        id: item.id,
        types,
        preferred_key: None,
    };
    let exec = optimize(catalog, &item.name, mir, &spec, view.plan.cluster, hidden)?;
    view.arranged_by.clone_from(&exec.arranged_by);
    view.unique_keys.clone_from(&exec.unique_keys);
    view.plan = stored_plan(&exec)?;
    Ok(item)
}

fn plan_index(
    catalog: &Catalog,
    mut item: Item,
    on: GlobalId,
    keys: &[ScalarExpr],
    hidden: &BTreeSet<GlobalId>,
) -> Result<Item> {
    let ItemKind::Index(index) = &mut item.kind else {
        return Err(SqlError::internal("not an index"));
    };
    let types = column_types(catalog, on)
        .ok_or_else(|| SqlError::internal("an index on something without columns"))?;
    let mir = Mir::Get {
        id: plan::mir::Id::Global(on),
        types: types.clone(),
        keys: vec![],
    };
    let spec = ExportSpec::Index {
        id: item.id,
        on,
        key: keys.to_vec(),
        types,
    };
    let exec = optimize(catalog, &item.name, mir, &spec, index.plan.cluster, hidden)?;
    index.plan = stored_plan(&exec)?;
    Ok(item)
}

fn column_types(catalog: &Catalog, id: GlobalId) -> Option<Vec<ColumnType>> {
    let columns = catalog.item(id)?.columns()?;
    Some(
        columns
            .iter()
            .map(|c| ColumnType::new(c.ty.clone(), c.nullable))
            .collect(),
    )
}

fn optimize(
    catalog: &Catalog,
    name: &str,
    mir: Mir,
    spec: &ExportSpec,
    cluster: ClusterId,
    hidden: &BTreeSet<GlobalId>,
) -> Result<DataflowExec> {
    let mut oracle = CatalogOracle::new(catalog, &ViewDefinitions);
    oracle.hidden.clone_from(hidden);
    Ok(optimize_dataflow(name, mir, spec, &oracle, cluster)?)
}

fn stored_plan(exec: &DataflowExec) -> Result<StoredPlan> {
    let bytes = exec.dataflow.to_bytes()?;
    Ok(StoredPlan {
        cluster: exec.cluster,
        hash: xxhash_rust::xxh3::xxh3_64(&bytes),
        bytes,
        shards: exec.shards.clone(),
        as_of: 0,
    })
}

/// Drops the items; those that stay but use a dropped index get a new plan in the same transaction.
fn drop_ops(catalog: &Catalog, drop: &DropPlan) -> Result<Vec<CatalogOp>> {
    let dropped: BTreeSet<GlobalId> = drop.ids.iter().copied().collect();
    let mut ops = vec![];
    for item in catalog
        .items
        .values()
        .filter(|item| !dropped.contains(&item.id))
    {
        let Some(plan) = item.plan() else { continue };
        let dataflow =
            Dataflow::from_bytes(&plan.bytes).map_err(|e| SqlError::internal(e.to_string()))?;
        if dataflow.indexes.keys().any(|id| dropped.contains(id)) {
            ops.push(CatalogOp::UpdateItem(Arc::new(plan_again(
                catalog, item, &dropped,
            )?)));
        }
    }
    if !drop.ids.is_empty() {
        ops.push(CatalogOp::DropItems(drop.ids.clone()));
    }
    ops.extend(drop.schemas.iter().map(|id| CatalogOp::DropSchema(*id)));
    ops.extend(drop.databases.iter().map(|id| CatalogOp::DropDatabase(*id)));
    ops.extend(drop.clusters.iter().map(|id| CatalogOp::DropCluster(*id)));
    Ok(ops)
}

/// The item with a plan that does without the hidden arrangements.
fn plan_again(catalog: &Catalog, item: &Item, hidden: &BTreeSet<GlobalId>) -> Result<Item> {
    let oracle = CatalogOracle::new(catalog, &ViewDefinitions);
    match &item.kind {
        ItemKind::MaterializedView(_) => {
            let types = column_types(catalog, item.id).unwrap_or_default();
            let mir = oracle
                .definition(item.id)
                .ok_or_else(|| SqlError::internal("a view without a query"))??;
            plan_materialized_view(catalog, item.clone(), Mir::clone(&mir), types, hidden)
        }
        ItemKind::Index(index) => {
            let keys = oracle
                .arrangements(index.on)
                .into_iter()
                .find(|a| a.export == item.id)
                .map(|a| a.key)
                .ok_or_else(|| SqlError::internal("an index without a key"))?;
            plan_index(catalog, item.clone(), index.on, &keys, hidden)
        }
        ItemKind::Table(_) | ItemKind::View(_) | ItemKind::Source(_) => {
            Err(SqlError::internal("an object without a plan"))
        }
    }
}

fn drop_tag(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Table => "DROP TABLE",
        ObjectKind::View => "DROP VIEW",
        ObjectKind::MaterializedView => "DROP MATERIALIZED VIEW",
        ObjectKind::Index => "DROP INDEX",
        ObjectKind::Source => "DROP SOURCE",
        ObjectKind::Schema => "DROP SCHEMA",
        ObjectKind::Database => "DROP DATABASE",
        ObjectKind::Cluster => "DROP CLUSTER",
        ObjectKind::Role => "DROP ROLE",
    }
}

fn alter_tag(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Table => "ALTER TABLE",
        ObjectKind::View => "ALTER VIEW",
        ObjectKind::MaterializedView => "ALTER MATERIALIZED VIEW",
        ObjectKind::Index => "ALTER INDEX",
        ObjectKind::Source => "ALTER SOURCE",
        ObjectKind::Schema => "ALTER SCHEMA",
        ObjectKind::Database => "ALTER DATABASE",
        ObjectKind::Cluster => "ALTER CLUSTER",
        ObjectKind::Role => "ALTER ROLE",
    }
}
