//! Which attempts to write have been decided, so that a repeated one is not executed again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use repr::NodeId;

use crate::command::{Gateway, Outcome, Session, Token};

/// Sessions are spread over this many maps, so that a write copies a small part of them.
const BUCKETS: u64 = 64;
/// Ended sessions that are remembered one by one; older ones are covered by the horizon.
const ENDED_MAX: usize = 1024;

/// The last outcome of each live session, and what is known of those that ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sessions {
    /// The highest incarnation of each gateway that has started.
    pub(super) gateways: Arc<BTreeMap<NodeId, u64>>,
    /// Empty or [`BUCKETS`] maps.
    pub(super) live: Arc<Vec<Arc<BTreeMap<Session, Last>>>>,
    pub(super) ended: Arc<Ended>,
    /// A token of an unknown session with a lower base may belong to a session that has been forgotten.
    pub(super) horizon: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Last {
    pub(super) seq: u64,
    pub(super) outcome: Outcome,
}

/// Sessions that ended lately, with the index of the entry, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ended {
    at: BTreeMap<Session, u64>,
    pub(super) order: VecDeque<(u64, Session)>,
}

/// What a token is.
#[derive(Debug, PartialEq)]
pub(super) enum Admission {
    New,
    /// A repetition of the session's last attempt.
    Known(Outcome),
    Expired,
}

impl Sessions {
    pub(super) fn is_over(&self, gateway: Gateway) -> bool {
        self.gateways
            .get(&gateway.node)
            .is_some_and(|newest| gateway.incarnation < *newest)
    }

    pub(super) fn admit(&self, token: &Token) -> Admission {
        if planted::is("h13") {
            return Admission::New;
        }
        if self.is_over(token.session.gateway) || self.ended.at.contains_key(&token.session) {
            return Admission::Expired;
        }
        match self.last(&token.session) {
            Some(last) if last.seq == token.seq => Admission::Known(last.outcome.clone()),
            Some(last) if last.seq > token.seq => Admission::Expired,
            Some(_) => Admission::New,
            None if token.base < self.horizon => Admission::Expired,
            None => Admission::New,
        }
    }

    fn last(&self, session: &Session) -> Option<&Last> {
        self.live.get(bucket(session))?.get(session)
    }

    pub(super) fn record(&mut self, session: Session, seq: u64, outcome: Outcome) {
        Arc::make_mut(self.bucket_mut(&session)).insert(session, Last { seq, outcome });
    }

    /// Forgets a session. Tokens of it are refused from now on.
    pub(super) fn end(&mut self, session: Session, index: u64) {
        if self.is_over(session.gateway) || self.ended.at.contains_key(&session) {
            return;
        }
        if self.last(&session).is_some() {
            Arc::make_mut(self.bucket_mut(&session)).remove(&session);
        }
        if planted::is("h38") {
            return;
        }
        let ended = Arc::make_mut(&mut self.ended);
        ended.insert(index, session);
        if ended.order.len() > ENDED_MAX
            && let Some((at, oldest)) = ended.order.pop_front()
        {
            ended.at.remove(&oldest);
            self.horizon = self.horizon.max(at);
        }
    }

    /// Ends all sessions of older incarnations: their tokens are recognized by the incarnation.
    pub(super) fn gateway_started(&mut self, gateway: Gateway) {
        if self.is_over(gateway) {
            return;
        }
        Arc::make_mut(&mut self.gateways).insert(gateway.node, gateway.incarnation);
        let over = |session: &Session| {
            session.gateway.node == gateway.node
                && session.gateway.incarnation < gateway.incarnation
        };
        for map in Arc::make_mut(&mut self.live) {
            if map.keys().any(over) {
                Arc::make_mut(map).retain(|session, _| !over(session));
            }
        }
    }

    /// All live sessions, in a fixed order.
    pub(super) fn live(&self) -> impl Iterator<Item = (&Session, &Last)> {
        self.live.iter().flat_map(|map| map.iter())
    }

    fn bucket_mut(&mut self, session: &Session) -> &mut Arc<BTreeMap<Session, Last>> {
        let live = Arc::make_mut(&mut self.live);
        live.resize_with(BUCKETS as usize, Arc::default);
        &mut live[bucket(session)]
    }
}

impl Ended {
    pub(super) fn insert(&mut self, index: u64, session: Session) {
        self.at.insert(session, index);
        self.order.push_back((index, session));
    }
}

fn bucket(session: &Session) -> usize {
    (session
        .number
        .wrapping_add(session.gateway.node.0.wrapping_mul(7))
        % BUCKETS) as usize
}
