//! What may be forgotten.
//!
//! The order that must hold for each dataflow D: hold on D's inputs in ENV <= committed grant of D <= frontier in the hold table (proposed)
//! <= every lease, hold and importer. Each tick moves all of them up, from right to left, each only after the one before is certain.

use std::collections::BTreeMap;

use protocol::compute::Command;
use repr::{GlobalId, ShardId, Timestamp};

use crate::Controller;
use crate::desired::shards;
use crate::event::Action;
use crate::order::creation_order;
use crate::retry::Due;

impl Controller {
    pub(crate) fn tick(
        &mut self,
        last_ts: Timestamp,
        oldest_lease: Option<Timestamp>,
        actions: &mut Vec<Action>,
    ) {
        let Some(leading) = &mut self.leading else {
            return;
        };
        leading.ticks += 1;
        let epoch = leading.epoch;
        self.retry_failed(Due::AsScheduled, actions);
        let window = match planted::is("h7") {
            true => last_ts,
            false => last_ts.saturating_sub(self.config.read_window_us),
        };
        let grants = self.give_up(oldest_lease.map_or(window, |lease| lease.min(window)));
        if planted::is("h16") {
            self.grant_committed(grants.clone(), actions);
        }
        actions.extend((!grants.is_empty()).then_some(Action::ProposeGrants(grants)));
        let frontiers = self.raised_holds(window);
        let propose = Action::ProposeHolds {
            incarnation: epoch.incarnation,
            frontiers,
        };
        actions.extend(
            matches!(&propose, Action::ProposeHolds { frontiers, .. } if !frontiers.is_empty())
                .then_some(propose),
        );
    }

    /// Gives up every dataflow's history up to `limit`, or less where it is held; importers first, because an arrangement is kept for them.
    fn give_up(&mut self, limit: Timestamp) -> BTreeMap<GlobalId, Timestamp> {
        let mut imported: BTreeMap<GlobalId, Timestamp> = BTreeMap::new();
        for transient in self.transients.values() {
            transient
                .dataflow
                .indexes
                .keys()
                .for_each(|index| lower(&mut imported, *index, transient.needed_from()));
        }
        let mut proposals = BTreeMap::new();
        let order = creation_order(self.desired.iter().map(|(id, d)| (*id, &d.dataflow)));
        for id in order.into_iter().rev() {
            let desired = &self.desired[&id];
            let needed = desired
                .exports()
                .filter_map(|export| imported.get(&export).copied())
                .min();
            let wish = [needed, self.starting_from(id)]
                .into_iter()
                .flatten()
                .fold(limit, Timestamp::min);
            // Each export gives up what it can; the dataflow has the least of them.
            let frontier = desired
                .exports()
                .filter_map(|export| self.holds.give_up(export, wish))
                .min();
            let Some(frontier) = frontier else { continue };
            desired
                .dataflow
                .indexes
                .keys()
                .for_each(|index| lower(&mut imported, *index, frontier));
            if frontier > self.readable_from(id, desired) {
                proposals.insert(id, frontier);
            }
        }
        proposals
    }

    /// The least that any dataflow still needs of each shard, where ENV holds it lower. Never beyond `limit`: an earlier leader's grants may
    /// be based on a newer catalog than this node has seen, and dataflows that it has not seen begin after what it has seen.
    fn raised_holds(&self, limit: Timestamp) -> BTreeMap<ShardId, Timestamp> {
        let mut needed: BTreeMap<ShardId, Timestamp> = BTreeMap::new();
        for (id, desired) in &self.desired {
            let granted = self
                .granted
                .get(id)
                .copied()
                .unwrap_or(0)
                .max(desired.as_of);
            // A grant proposed before a replica began to start may be committed after.
            let from = self
                .starting_from(*id)
                .map_or(granted, |starting| starting.min(granted));
            shards(&desired.dataflow).for_each(|shard| lower(&mut needed, shard, from));
        }
        for transient in self.transients.values() {
            shards(&transient.dataflow)
                .for_each(|shard| lower(&mut needed, shard, transient.needed_from()));
        }
        needed
            .values_mut()
            .for_each(|from| *from = (*from).min(limit));
        needed.retain(|shard, from| self.inputs.get(shard).is_some_and(|held| held < from));
        needed
    }

    /// Only now may the replicas forget. Grants of an older leader's proposals are committed before a new one leads.
    pub(crate) fn grant_committed(
        &mut self,
        grants: BTreeMap<GlobalId, Timestamp>,
        actions: &mut Vec<Action>,
    ) {
        for (id, frontier) in grants {
            let granted = self.granted.entry(id).or_insert(0);
            if frontier <= *granted {
                continue;
            }
            *granted = frontier;
            if let Some(desired) = self.desired.get(&id)
                && self.leading.is_some()
            {
                desired
                    .exports()
                    .for_each(|export| self.holds.open(export, frontier));
                self.broadcast(
                    &Command::AllowCompaction {
                        id,
                        frontier: Some(frontier),
                    },
                    actions,
                );
            }
        }
    }
}

fn lower<K: Ord>(map: &mut BTreeMap<K, Timestamp>, key: K, ts: Timestamp) {
    let least = map.entry(key).or_insert(ts);
    *least = (*least).min(ts);
}
