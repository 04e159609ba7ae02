//! Where peeks go: shared with the peek path, which never passes the controller.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::compute::Epoch;
use repr::ReplicaId;

/// A replica that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub replica: ReplicaId,
    pub epoch: Epoch,
    /// The last command sent to the replica: a peek follows it, so that it never overtakes a dataflow's creation.
    pub after: u64,
}

/// The replicas that have been told all wishes of this leader.
#[derive(Debug, Default)]
pub struct Routes {
    routes: Mutex<BTreeMap<ReplicaId, (Epoch, u64)>>,
}

impl Routes {
    pub fn new() -> Arc<Routes> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ReplicaId, (Epoch, u64)>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everywhere a peek should be sent; empty if this node does not lead or no replica is ready.
    pub fn all(&self) -> Vec<Route> {
        let route = |(replica, (epoch, after)): (&ReplicaId, &(Epoch, u64))| Route {
            replica: *replica,
            epoch: *epoch,
            after: *after,
        };
        self.lock().iter().map(route).collect()
    }

    /// The route if there is exactly one.
    pub fn only(&self) -> Option<Route> {
        let routes = self.lock();
        let mut all = routes.iter();
        let (replica, (epoch, after)) = all.next()?;
        all.next().is_none().then_some(Route {
            replica: *replica,
            epoch: *epoch,
            after: *after,
        })
    }

    pub(crate) fn set(&self, replica: ReplicaId, epoch: Epoch, after: u64) {
        self.lock().insert(replica, (epoch, after));
    }

    pub(crate) fn remove(&self, replica: ReplicaId) {
        self.lock().remove(&replica);
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }
}
