//! SHOW lists that are queries of system relations, because the catalog does not know what they show.

use super::super::{ParamTypes, Plan, StatementPlanner};
use crate::ast::sql::SetExpr;
use crate::ast::{QueryStatement, ShowFilter, ShowKind};
use crate::error::PlanError;
use crate::parse::parse_query;

/// The query behind a list. Rows are ordered by its first two columns.
pub(super) struct Listing {
    query: &'static str,
    /// What LIKE looks at.
    like: &'static str,
}

pub(super) fn listing_of(kind: ShowKind) -> Option<Listing> {
    match kind {
        ShowKind::ClusterReplicas => Some(Listing {
            query: "SELECT c.name AS cluster, r.name AS replica, c.workers::text || ' workers' AS size, r.node_id AS node, s.ready \
             FROM mz_catalog.mz_cluster_replicas r JOIN mz_catalog.mz_clusters c ON r.cluster_id = c.id \
             LEFT JOIN mz_internal.mz_replica_statuses s ON s.replica_id = r.id",
            like: "c.name",
        }),
        ShowKind::Nodes => Some(Listing {
            query: "SELECT n.id AS node, n.status, l.role, l.reachable, n.sql_addr, n.http_addr, n.mesh_addr, n.version \
             FROM mz_catalog.mz_nodes n LEFT JOIN mz_internal.mz_node_liveness l ON n.id = l.node_id",
            like: "n.sql_addr",
        }),
        ShowKind::Tables
        | ShowKind::Views
        | ShowKind::MaterializedViews
        | ShowKind::Indexes
        | ShowKind::Columns
        | ShowKind::Schemas
        | ShowKind::Databases
        | ShowKind::Clusters
        | ShowKind::Sources
        | ShowKind::Objects
        | ShowKind::Roles => None,
    }
}

impl StatementPlanner<'_> {
    pub(super) fn query_list(
        &self,
        listing: &Listing,
        filter: Option<&ShowFilter>,
        params: &mut ParamTypes,
    ) -> Result<Plan, PlanError> {
        let Listing { query, like } = listing;
        let rows = match filter {
            Some(ShowFilter::Like(pattern)) => {
                format!(
                    "{query} WHERE {like} LIKE '{}'",
                    pattern.replace('\'', "''")
                )
            }
            Some(ShowFilter::Where(_)) | None => (*query).to_owned(),
        };
        let mut query = parse_query(&format!("SELECT * FROM ({rows}) AS list ORDER BY 1, 2"))?;
        if let (Some(ShowFilter::Where(condition)), SetExpr::Select(select)) =
            (filter, &mut *query.body)
        {
            select.selection = Some(condition.clone());
        }
        let query = QueryStatement { query, as_of: None };
        Ok(Plan::Select(self.select(&query, params)?))
    }
}
