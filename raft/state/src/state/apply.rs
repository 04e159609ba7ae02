//! Applying one log entry.

use std::collections::BTreeSet;
use std::sync::Arc;

use repr::{ShardId, Timestamp};

use super::{Applied, Changes, State};
use crate::command::{Batch, Command, Gateway, Outcome, Session};
use crate::shard::Batch as Updates;

/// Timestamps stay below this, so that sums of them cannot overflow; a clock beyond it is ignored.
const TIMESTAMP_MAX: Timestamp = i64::MAX as Timestamp;

/// What an entry has changed so far.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) writes: Vec<(ShardId, Arc<Updates>)>,
    pub(super) touched: BTreeSet<ShardId>,
    pub(super) catalog_changed: bool,
    ts: Option<Timestamp>,
}

impl State {
    /// Applies the entry at `index`. Total: whatever the command says, the answer is an outcome.
    ///
    /// # Panics
    /// If the index does not rise: the log is broken, and the node must stop.
    pub fn apply(&mut self, index: u64, command: &Command) -> Applied {
        self.advance(index);
        let mut effects = Effects::default();
        let members = self.members.clone();
        let outcomes = if self.initialized() || matches!(command, Command::Init { .. }) {
            self.dispatch(command, &mut effects)
        } else {
            refused(command, "the environment is not initialized")
        };
        self.raise_floor();
        self.chain(command, &outcomes, &effects.touched);
        let changes = Changes {
            index,
            ts: effects.ts,
            upper: self.upper(),
            writes: effects.writes,
            catalog_changed: effects.catalog_changed,
            nodes_changed: !Arc::ptr_eq(&members, &self.members),
        };
        Applied {
            outcomes,
            changes: Arc::new(changes),
        }
    }

    fn dispatch(&mut self, command: &Command, effects: &mut Effects) -> Vec<Outcome> {
        match command {
            Command::Init { .. } if self.initialized() => {
                return refused(command, "the environment is initialized already");
            }
            Command::Init { environment: 0, .. } => {
                return refused(command, "an environment's id is not zero");
            }
            Command::Init {
                environment,
                generation,
                wall_us,
                superusers,
            } => {
                effects.ts = Some(self.next_ts(*wall_us));
                effects.catalog_changed = true;
                self.init(*environment, *generation, superusers, self.applied);
            }
            Command::Batch(batch) => return self.batch(batch, effects),
            Command::Close { wall_us } => {
                if (self.last_ts..TIMESTAMP_MAX).contains(wall_us) {
                    self.last_ts = *wall_us;
                }
            }
            Command::Holds {
                cluster,
                incarnation,
                frontiers,
            } => self.raise_holds(*cluster, *incarnation, frontiers),
            Command::Lease { gateway, oldest } => self.set_lease(*gateway, *oldest),
            Command::ExpireLease { gateway } => self.set_lease(*gateway, None),
            Command::Stage {
                token,
                number,
                writes,
            } => return self.stage(token, *number, writes).into_iter().collect(),
            Command::EndSession { session } => self.end_session(session),
            Command::EndSessions { sessions } => sessions.iter().for_each(|s| self.end_session(s)),
            Command::GatewayStarted { gateway } => self.end_gateways_before(*gateway),
            Command::Authority(authority) => self.set_authority(authority),
            Command::Node(op) => return vec![self.node_op(op)],
            Command::Place { cluster, placement } => self.place(*cluster, placement),
        }
        vec![]
    }

    fn end_session(&mut self, session: &Session) {
        Arc::make_mut(&mut self.stages).drop_session(session);
        self.sessions.end(*session, self.applied);
    }

    /// Ends what older lives of a gateway have left: sessions, their attempts and chunks, leases.
    pub(super) fn end_gateways_before(&mut self, gateway: Gateway) {
        self.sessions.gateway_started(gateway);
        self.end_older_leases(gateway);
        Arc::make_mut(&mut self.stages).drop_older(gateway);
    }

    fn batch(&mut self, batch: &Batch, effects: &mut Effects) -> Vec<Outcome> {
        let ts = self.next_ts(batch.wall_us);
        effects.ts = Some(ts);
        let outcomes = batch.txns.iter().map(|txn| self.txn(txn, ts, effects));
        let mut outcomes: Vec<Outcome> = outcomes.collect();
        if planted::is("h32")
            && let Some(first) = outcomes.first().cloned()
        {
            outcomes.fill(first);
        }
        outcomes
    }

    /// Hands out the next timestamp: after all before, and as late as the proposer's clock.
    fn next_ts(&mut self, wall_us: u64) -> Timestamp {
        let wall_us = if wall_us < TIMESTAMP_MAX { wall_us } else { 0 };
        self.last_ts = wall_us.max(self.last_ts + 1);
        self.last_ts
    }
}

/// The answer to a command that cannot be.
fn refused(command: &Command, reason: &str) -> Vec<Outcome> {
    let outcome = Outcome::Invalid {
        reason: reason.to_owned(),
    };
    match command {
        Command::Batch(batch) => vec![outcome; batch.txns.len()],
        Command::Init { .. }
        | Command::Close { .. }
        | Command::Holds { .. }
        | Command::Lease { .. }
        | Command::ExpireLease { .. }
        | Command::Stage { .. }
        | Command::EndSession { .. }
        | Command::EndSessions { .. }
        | Command::GatewayStarted { .. }
        | Command::Authority(_)
        | Command::Node(_)
        | Command::Place { .. } => vec![outcome],
    }
}
