//! The gateway's standing lease: the oldest timestamp that its open transactions may still read.
//!
//! Statements need none: history is kept for a read window that is longer than a statement's retries. A transaction, cursor or SUBSCRIBE that stays open longer is covered by one
//! lease per gateway, renewed about once a second, that only moves up.

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

/// Read timestamps of open transactions by session.
#[derive(Default)]
pub struct Leases {
    open: Mutex<BTreeMap<u64, Timestamp>>,
}

impl Leases {
    pub fn open(&self, session: u64, ts: Timestamp) {
        self.open.lock().insert(session, ts);
    }

    pub fn close(&self, session: u64) {
        self.open.lock().remove(&session);
    }

    pub fn oldest(&self) -> Option<Timestamp> {
        self.open.lock().values().min().copied()
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
