//! What keeps history: the read window, input holds of clusters, leases of gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use repr::{ClusterId, ShardId, Timestamp};

use super::{READ_WINDOW_US, State};
use crate::catalog::{Item, Plan};
use crate::command::Gateway;

/// A CLUSTER's promise to read each shard only from its frontier on, which keeps the shard readable there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputHold {
    /// Of the CLUSTER's Raft group; requests of another incarnation change nothing.
    pub incarnation: u64,
    pub frontiers: BTreeMap<ShardId, Timestamp>,
}

impl State {
    /// The lowest hold of any cluster on a shard.
    pub(super) fn least_hold(&self, shard: ShardId) -> Option<Timestamp> {
        self.holds
            .values()
            .filter_map(|hold| hold.frontiers.get(&shard).copied())
            .min()
    }

    /// Moves the floor with time, as far as leases let it.
    pub(super) fn raise_floor(&mut self) {
        let window = self.last_ts.saturating_sub(READ_WINDOW_US);
        let floor = self
            .leases
            .values()
            .copied()
            .min()
            .map_or(window, |lease| lease.min(window));
        self.read_floor = self.read_floor.max(floor);
    }

    /// Takes the inputs of a new dataflow at `ts`. A hold that lies lower stays.
    pub(super) fn take_holds(&mut self, plan: &Plan, incarnation: u64, ts: Timestamp) {
        let hold = Arc::make_mut(&mut self.holds)
            .entry(plan.cluster)
            .or_default();
        hold.incarnation = incarnation;
        for shard in &plan.shards {
            hold.frontiers.entry(*shard).or_insert(ts);
        }
    }

    /// Drops the holds that no dataflow of the cluster needs any more.
    pub(super) fn release_holds(&mut self, cluster: ClusterId) {
        let plans = self.catalog.items.values().filter_map(|item| item.plan());
        let needed: BTreeSet<ShardId> = plans
            .filter(|p| p.cluster == cluster)
            .flat_map(|p| p.shards.iter().copied())
            .collect();
        let holds = Arc::make_mut(&mut self.holds);
        let Some(hold) = holds.get_mut(&cluster) else {
            return;
        };
        hold.frontiers.retain(|shard, _| needed.contains(shard));
        if hold.frontiers.is_empty() {
            holds.remove(&cluster);
        }
    }

    pub(super) fn release_holds_of(&mut self, items: &[Arc<Item>]) {
        let clusters: BTreeSet<ClusterId> = items
            .iter()
            .filter_map(|item| Some(item.plan()?.cluster))
            .collect();
        clusters
            .into_iter()
            .for_each(|cluster| self.release_holds(cluster));
    }

    /// A request of a CLUSTER's leader: frontiers only rise, and only those that exist.
    pub(super) fn raise_holds(
        &mut self,
        cluster: ClusterId,
        incarnation: u64,
        frontiers: &BTreeMap<ShardId, Timestamp>,
    ) {
        if self
            .holds
            .get(&cluster)
            .is_none_or(|hold| hold.incarnation != incarnation)
        {
            return;
        }
        let holds = Arc::make_mut(&mut self.holds);
        let Some(hold) = holds.get_mut(&cluster) else {
            return;
        };
        for (shard, frontier) in frontiers {
            if let Some(held) = hold.frontiers.get_mut(shard) {
                *held = (*held).max(*frontier);
            }
        }
    }

    /// Sets, raises or ends a gateway's lease. Gateways of an incarnation that is over get none.
    pub(super) fn set_lease(&mut self, gateway: Gateway, oldest: Option<Timestamp>) {
        let leases = Arc::make_mut(&mut self.leases);
        match oldest {
            None => drop(leases.remove(&gateway)),
            Some(_) if self.sessions.is_over(gateway) => {}
            Some(oldest) => {
                let held = leases.entry(gateway).or_insert(oldest);
                *held = (*held).max(oldest);
            }
        }
    }

    /// Ends the leases of older incarnations of a gateway.
    pub(super) fn end_older_leases(&mut self, started: Gateway) {
        Arc::make_mut(&mut self.leases).retain(|gateway, _| {
            gateway.node != started.node || gateway.incarnation >= started.incarnation
        });
    }
}
