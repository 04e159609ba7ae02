//! The gateway's standing lease: the oldest timestamp that its open transactions may still read.
//!
//! Statements need none: history is kept for a read window that is longer than a statement's retries. A transaction, cursor or SUBSCRIBE that stays open longer is covered by one
//! lease per gateway, renewed about once a second, that only moves up: the oldest of what they need. A subscription needs what comes after its last progress.

use crate::env::Env;
use host::Clock;
use parking_lot::Mutex;
use repr::Timestamp;
use state::command::{Command, Gateway};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often the lease is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// Read timestamps of open transactions and subscriptions.
#[derive(Clone, Default)]
pub struct Leases {
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    /// By session.
    transactions: BTreeMap<u64, Timestamp>,
    /// By number, in the order in which they began.
    subscriptions: BTreeMap<u64, Timestamp>,
    next: u64,
}

impl Leases {
    pub fn open(&self, session: u64, ts: Timestamp) {
        self.open.lock().transactions.insert(session, ts);
    }

    pub fn close(&self, session: u64) {
        self.open.lock().transactions.remove(&session);
    }

    /// Opens a lease that moves by itself, whatever the session's transactions read, until it is dropped.
    pub fn subscribe(&self, ts: Timestamp) -> SubscriptionLease {
        let mut open = self.open.lock();
        let number = open.next;
        open.next += 1;
        open.subscriptions.insert(number, ts);
        let leases = self.clone();
        SubscriptionLease { leases, number, ts }
    }

    pub fn oldest(&self) -> Option<Timestamp> {
        let open = self.open.lock();
        let all = open
            .transactions
            .values()
            .chain(open.subscriptions.values());
        all.min().copied()
    }
}

/// What one subscription may still have to read again: another leader goes on from there.
pub struct SubscriptionLease {
    leases: Leases,
    number: u64,
    ts: Timestamp,
}

impl SubscriptionLease {
    /// What lies before `ts` has been taken.
    pub fn raise(&mut self, ts: Timestamp) {
        if ts > self.ts {
            self.ts = ts;
            let mut open = self.leases.open.lock();
            open.subscriptions.insert(self.number, ts);
        }
    }
}

impl Drop for SubscriptionLease {
    fn drop(&mut self) {
        let mut open = self.leases.open.lock();
        open.subscriptions.remove(&self.number);
    }
}

/// Renews the lease in ENV for as long as the process lives.
pub async fn keep(
    leases: impl Fn() -> Option<Timestamp>,
    env: Arc<Env>,
    gateway: Gateway,
    clock: Arc<dyn Clock>,
) {
    let mut held = None;
    loop {
        clock.sleep(RENEW_EVERY).await;
        // Young transactions are covered by the read window.
        let oldest = leases()
            .filter(|ts| *ts + RENEW_EVERY.as_micros() as u64 <= env.storage().view().last_ts());
        if oldest == held {
            continue;
        }
        match env.propose(&Command::Lease { gateway, oldest }).await {
            Ok(_) => held = oldest,
            Err(error) => tracing::warn!(%error, "the gateway's lease was not renewed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_moves_on_while_its_session_reads_other_times() {
        let leases = Leases::default();
        let mut first = leases.subscribe(5);
        let second = leases.subscribe(7);
        leases.open(1, 6);
        assert_eq!(leases.oldest(), Some(5));
        first.raise(9);
        first.raise(8);
        assert_eq!(leases.oldest(), Some(6));
        leases.close(1);
        assert_eq!(leases.oldest(), Some(7));
        drop(second);
        assert_eq!(leases.oldest(), Some(9));
        drop(first);
        assert_eq!(leases.oldest(), None);
    }
}
