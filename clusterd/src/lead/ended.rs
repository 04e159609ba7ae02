//! The end of CLUSTERs that were dropped: their tasks, workers and groups stop, and nothing of them stays on disk.

use super::driver::LeadEvent;
use super::{Clusters, Lead, Shared, group};
use crate::adapter::error::SqlError;
use compute::ReplicaHandle;
use repr::ClusterId;
use state::Catalog;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a statement hears whose CLUSTER goes while it runs.
pub(super) fn cluster_dropped(name: &str) -> SqlError {
    SqlError::new("42704", format!("cluster \"{name}\" was dropped"))
        .hint("SHOW CLUSTERS lists the clusters; SET cluster = name chooses one.")
}

impl Clusters {
    /// Ends the leads of CLUSTERs that a catalog does not have any more.
    pub(super) fn end_dropped(&self, catalog: &Catalog) {
        let mut leads = self.leads.write();
        let dropped = leads.extract_if(.., |id, _| !catalog.clusters.contains_key(id));
        for (_, lead) in dropped {
            tracing::info!(cluster = %lead.name, "a cluster was dropped");
            let ending = Arc::clone(&lead).end(self.shared.clone());
            let spawn = &self.shared.host.spawn;
            drop(spawn.spawn("cluster-end", Box::pin(ending)));
        }
    }

    /// Removes the groups of CLUSTERs that were dropped before this start. The catalog must hold everything that was acknowledged.
    pub(super) fn remove_dropped(&self) {
        let state = self.shared.env.storage().view();
        let catalog = state.catalog();
        // An id that the catalog has yet to give away may be that of a CLUSTER to come.
        let is_dropped = |id: &ClusterId| {
            id.0 != 0 && id.0 < catalog.next_id && !catalog.clusters.contains_key(id)
        };
        let shared = &self.shared;
        group::stored(&shared.host, &shared.wal, &shared.snapshots)
            .into_iter()
            .filter(is_dropped)
            .for_each(|id| remove_group(shared, id));
    }
}

impl Lead {
    pub(super) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }

    /// Why nobody answers here any more.
    pub(super) fn ended(&self) -> SqlError {
        match self.is_dropped() {
            true => cluster_dropped(&self.name),
            false => SqlError::shutdown(),
        }
    }

    /// From those who act for the CLUSTER to those whom they use.
    async fn end(self: Arc<Self>, shared: Shared) {
        self.dropped.store(true, Ordering::Release);
        // A driver that has ended already needs no event.
        let _ = self.events.send(LeadEvent::End);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        if let Some(driver) = tasks.driver
            && let Err(error) = driver.join().await
        {
            tracing::error!(cluster = %self.name, %error, "the controller of a dropped cluster");
        }
        tasks.feeds.iter().for_each(|feed| feed.abort());
        let replicas: Vec<ReplicaHandle> = self.replicas.values().cloned().collect();
        // Workers end between two steps: not on a thread of the runtime.
        let stop = move || replicas.iter().for_each(ReplicaHandle::shutdown);
        let spawn = &shared.host.spawn;
        let stopped = spawn.spawn_blocking("replica-end", Box::new(stop));
        if let Err(error) = stopped.join().await {
            tracing::error!(cluster = %self.name, %error, "the replicas of a dropped cluster");
        }
        self.group.shutdown().await;
        let (cluster, spawn) = (self.cluster, Arc::clone(&shared.host.spawn));
        let removed = spawn.spawn_blocking(
            "group-remove",
            Box::new(move || remove_group(&shared, cluster)),
        );
        if let Err(error) = removed.join().await {
            tracing::error!(cluster = %self.name, %error, "the files of a dropped cluster");
        }
    }
}

fn remove_group(shared: &Shared, cluster: ClusterId) {
    let removed = group::remove(cluster, &shared.host, &shared.wal, &shared.snapshots);
    if let Err(error) = removed {
        tracing::warn!(%cluster, %error, "a dropped cluster's log was not removed; the next start tries again");
    }
}
