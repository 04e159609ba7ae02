//! System relations: rows made from the catalog and from what this node knows, at the moment they are read.

mod node;

use crate::adapter::error::{Result, SqlError};
use crate::adapter::query::TableView;
use crate::adapter::session::Session;
use plan::EvalError;
use plan::scalar::catalog_fns::{CatalogFns, FunctionPart, RegKind, Visible};
use planner::builtin::{self, BuiltinCtx, CatalogFunctions, Table};
use repr::{Datum, Diff, GlobalId, RelationDesc, Row};
use state::Catalog;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The functions that look into a catalog, and whether one of them did: what was folded into a plan no longer shows that.
#[derive(Debug)]
pub(crate) struct Watched {
    functions: Arc<dyn CatalogFns>,
    used: AtomicBool,
}

impl Watched {
    pub fn new(functions: Arc<dyn CatalogFns>) -> Self {
        Watched {
            functions,
            used: AtomicBool::new(false),
        }
    }

    pub fn was_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// The catalog was looked into.
    pub fn note(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    fn functions(&self) -> &dyn CatalogFns {
        self.note();
        &*self.functions
    }
}

impl CatalogFns for Watched {
    fn lookup(&self, kind: RegKind, name: &str) -> Result<u32, EvalError> {
        self.functions().lookup(kind, name)
    }

    fn display(&self, kind: RegKind, oid: u32) -> Option<String> {
        self.functions().display(kind, oid)
    }

    fn is_visible(&self, kind: Visible, oid: u32) -> Option<bool> {
        self.functions().is_visible(kind, oid)
    }

    fn role_name(&self, oid: u32) -> Option<String> {
        self.functions().role_name(oid)
    }

    fn index_definition(&self, index: u32, column: i32) -> Option<String> {
        self.functions().index_definition(index, column)
    }

    fn constraint_definition(&self, constraint: u32) -> Option<String> {
        self.functions().constraint_definition(constraint)
    }

    fn view_definition(&self, view: u32) -> Option<String> {
        self.functions().view_definition(view)
    }

    fn rule_definition(&self, rule: u32) -> Option<String> {
        self.functions().rule_definition(rule)
    }

    fn function_part(&self, function: u32, part: FunctionPart) -> Option<String> {
        self.functions().function_part(function, part)
    }

    fn setting(&self, name: &str) -> Option<String> {
        // Not of the catalog.
        self.functions.setting(name)
    }
}

/// Whether what leaders of CLUSTERs know is in a relation, so that they have to be asked before it is read.
pub(crate) fn asks_leaders(id: GlobalId) -> bool {
    let from_leaders = ["mz_frontiers", "mz_cluster_leaders", "mz_replica_statuses"];
    builtin::by_id(id).is_some_and(|relation| from_leaders.contains(&relation.name))
}

impl Session {
    /// The rows of a built-in relation.
    pub(crate) fn system_rows(
        &self,
        id: GlobalId,
        catalog: &Arc<Catalog>,
        view: &TableView,
    ) -> Result<Vec<(Row, Diff)>> {
        let ctx = BuiltinCtx {
            catalog,
            database: &self.database,
            state: Some(&view.state),
        };
        let rows = match builtin::rows(id, &ctx) {
            Some(rows) => rows,
            None => self.node_rows(id, catalog, view)?,
        };
        Ok(rows.into_iter().map(|row| (row, 1)).collect())
    }

    /// The rows of relations that are not made from the catalog.
    fn node_rows(&self, id: GlobalId, catalog: &Catalog, view: &TableView) -> Result<Vec<Row>> {
        let unknown = || SqlError::internal(format!("{id} is not a system relation"));
        let relation = builtin::by_id(id).ok_or_else(unknown)?;
        let mut table = Table::new(relation);
        match relation.name {
            "pg_settings" => self.setting_rows(&mut table),
            "pg_stat_activity" => self.activity_rows(catalog, &mut table),
            "mz_frontiers" => self.frontier_rows(catalog, view, &mut table),
            "mz_node_liveness" => node::liveness(&self.adapter, &view.state, &mut table),
            "mz_groups" => node::groups(&self.adapter, catalog, &mut table),
            "mz_cluster_leaders" => node::cluster_leaders(&self.adapter, &mut table),
            "mz_replica_statuses" => node::replica_statuses(&self.adapter, &mut table),
            "mz_mesh_links" => node::mesh_links(&self.adapter, &mut table),
            _ => return Err(unknown()),
        }
        Ok(table.into_rows())
    }

    fn setting_rows(&self, table: &mut Table) {
        for (name, value, help) in self.settings.all() {
            table.add(&[
                ("name", Datum::String(name)),
                ("setting", Datum::String(&value)),
                ("short_desc", Datum::String(help)),
                ("context", Datum::String("user")),
                ("vartype", Datum::String("string")),
                ("source", Datum::String("session")),
                ("pending_restart", Datum::FALSE),
            ]);
        }
    }

    /// The sessions of this node: those of other nodes are theirs to tell.
    fn activity_rows(&self, catalog: &Catalog, table: &mut Table) {
        let oid = |id: u64| u32::try_from(id).map_or(Datum::Null, Datum::Oid);
        for activity in self.adapter.sessions.activity() {
            table.add(&[
                (
                    "datid",
                    catalog
                        .database_by_name(&activity.database)
                        .map_or(Datum::Null, |d| oid(d.id.0)),
                ),
                ("datname", Datum::String(&activity.database)),
                ("pid", Datum::Int32(activity.pid)),
                (
                    "usesysid",
                    catalog
                        .role_by_name(&activity.user)
                        .map_or(Datum::Null, |r| oid(r.id.0)),
                ),
                ("usename", Datum::String(&activity.user)),
                (
                    "state",
                    Datum::String(if activity.active { "active" } else { "idle" }),
                ),
                ("backend_type", Datum::String("client backend")),
            ]);
        }
    }

    /// What can be read when: tables everywhere, maintained objects as the leaders of their CLUSTERs last said.
    fn frontier_rows(&self, catalog: &Catalog, view: &TableView, table: &mut Table) {
        for item in catalog.items.values() {
            let Some(shard) = item.shard() else { continue };
            table.add(&[
                ("object_id", Datum::String(&item.id.to_string())),
                (
                    "read_frontier",
                    view.state
                        .since(shard)
                        .map_or(Datum::Null, Datum::MzTimestamp),
                ),
                ("write_frontier", Datum::MzTimestamp(view.state.upper())),
            ]);
        }
        for (cluster, id, frontier) in self.adapter.clusters.frontiers() {
            // Temporary dataflows have no name to be found by.
            if catalog.item(id).is_none() {
                continue;
            }
            table.add(&[
                ("object_id", Datum::String(&id.to_string())),
                (
                    "cluster_id",
                    i64::try_from(cluster.0).map_or(Datum::Null, Datum::Int64),
                ),
                ("read_frontier", Datum::MzTimestamp(frontier.since)),
                (
                    "write_frontier",
                    frontier.upper.map_or(Datum::Null, Datum::MzTimestamp),
                ),
            ]);
        }
    }

    /// The functions that look into a catalog, for one statement.
    pub(crate) fn catalog_functions(&self, catalog: &Arc<Catalog>) -> Arc<dyn CatalogFns> {
        let settings = Arc::new(self.settings.clone());
        CatalogFunctions::with_settings(
            Arc::clone(catalog),
            &self.database,
            &self.search_path,
            &self.user,
            settings,
        )
    }

    /// What gives OIDs their names in the answer, if it has columns of a type that is shown by name.
    pub(crate) fn names_for(
        &self,
        desc: &RelationDesc,
        catalog: &Arc<Catalog>,
    ) -> Option<Arc<dyn CatalogFns>> {
        let named = desc
            .types
            .iter()
            .any(|column| RegKind::of(&column.ty).is_some());
        named.then(|| self.catalog_functions(catalog))
    }

    /// The same for rows that belong to no read point: those of subscriptions.
    pub(crate) fn latest_names(&self, desc: &RelationDesc) -> Option<Arc<dyn CatalogFns>> {
        match &self.txn.scratch {
            Some(scratch) => self.names_for(desc, scratch.catalog()),
            None => self.names_for(desc, self.adapter.env.storage().view().catalog()),
        }
    }
}
