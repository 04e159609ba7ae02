//! CREATE CLUSTER, ALTER CLUSTER. Which node runs a replica is decided by ENV's leader (`controller::placement`), not here.

use crate::adapter::error::{Result, SqlError};
use crate::adapter::pgwire::writer::Notice;
use crate::adapter::read_point::ReadPoint;
use crate::adapter::session::Session;
use planner::statement::{AlterClusterPlan, CreateClusterPlan};
use repr::{ClusterId, ReplicaId};
use state::catalog::{Cluster, Item};
use state::command::CatalogOp;
use state::{Catalog, NodeStatus, State};
use std::sync::Arc;

impl Session {
    pub(super) fn create_cluster(
        &self,
        create: &CreateClusterPlan,
        catalog: &Catalog,
    ) -> CatalogOp {
        let id = catalog.next_id;
        let replicas = u64::from(create.replication_factor.unwrap_or(1));
        CatalogOp::CreateCluster(Cluster {
            id: ClusterId(id),
            name: create.name.clone(),
            incarnation: 1,
            workers: create.workers.unwrap_or(self.adapter.config.workers),
            memory_limit_bytes: create.memory_limit_bytes,
            replicas: (id + 1..=id + replicas).map(ReplicaId).collect(),
        })
    }

    pub(super) fn alter_cluster(
        &self,
        alter: &AlterClusterPlan,
        catalog: &Catalog,
    ) -> Result<Vec<CatalogOp>> {
        let AlterClusterPlan {
            id,
            memory_limit_bytes,
            replication_factor,
        } = alter;
        let cluster = Cluster {
            memory_limit_bytes: memory_limit_bytes.or(cluster(catalog, *id)?.memory_limit_bytes),
            ..Cluster::clone(cluster(catalog, *id)?)
        };
        let Some(wanted) = replication_factor else {
            let changes = memory_limit_bytes.is_some();
            let update = changes.then_some(CatalogOp::UpdateCluster(cluster));
            return Ok(update.into_iter().collect());
        };
        let wanted = *wanted as usize;
        let state = self.adapter.env.storage().view();
        let mut replicas = cluster.replicas.clone();
        if wanted < replicas.len() {
            // Those that wait for a node go first, then the youngest.
            let placement = state.placements().get(id);
            let waits = |replica: &ReplicaId| {
                placement.is_some_and(|placement| !placement.replicas.contains_key(replica))
            };
            replicas.sort_by_key(|replica| (waits(replica), *replica));
            replicas.truncate(wanted);
            replicas.sort();
        } else {
            let missing = (wanted - replicas.len()) as u64;
            replicas.extend((catalog.next_id..catalog.next_id + missing).map(ReplicaId));
        }
        let altered = Cluster {
            replicas,
            ..cluster
        };
        // Also if the number is the one it has: from now on it is somebody's choice.
        Ok(vec![
            CatalogOp::UpdateCluster(altered),
            CatalogOp::KeepReplicas(*id),
        ])
    }

    /// Says so if a CLUSTER gets more replicas than there are nodes to run them.
    pub(super) fn note_waiting_replicas(&mut self, ops: &[CatalogOp], point: &ReadPoint) {
        let nodes = active_nodes(&point.state);
        let known = point.state.catalog();
        for op in ops {
            let (CatalogOp::CreateCluster(cluster) | CatalogOp::UpdateCluster(cluster)) = op else {
                continue;
            };
            let wanted = cluster.replicas.len();
            let before = known.clusters.get(&cluster.id).map(|c| c.replicas.len());
            if wanted > nodes && before != Some(wanted) {
                let are = if nodes == 1 { "is" } else { "are" };
                let s = if nodes == 1 { "" } else { "s" };
                self.notice(Notice::plain(format!(
                    "cluster \"{}\" has {wanted} replicas, but there {are} {nodes} active node{s}: the others wait for more nodes",
                    cluster.name
                )));
            }
        }
    }
}

/// Nodes that take replicas. An environment of an older version does not list its only one before that has started anew.
fn active_nodes(state: &State) -> usize {
    let nodes = state.nodes().values();
    let active = nodes.filter(|node| node.status == NodeStatus::Active);
    active.count().max(1)
}

/// The CLUSTER with its new name, and what runs on it with texts that name it so.
pub(super) fn rename(
    catalog: &Catalog,
    id: ClusterId,
    name: &str,
    updates: &[Item],
) -> Result<Vec<CatalogOp>> {
    let renamed = Cluster {
        name: name.to_owned(),
        ..Cluster::clone(cluster(catalog, id)?)
    };
    let items = updates.iter();
    let items = items.map(|item| CatalogOp::UpdateItem(Arc::new(item.clone())));
    Ok(std::iter::once(CatalogOp::UpdateCluster(renamed))
        .chain(items)
        .collect())
}

fn cluster(catalog: &Catalog, id: ClusterId) -> Result<&Arc<Cluster>> {
    catalog.clusters.get(&id).ok_or_else(SqlError::conflict)
}
