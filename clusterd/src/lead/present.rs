//! Leaders that do not see what ENV commits give way to others that do.
//!
//! A leader that is cut off from ENV alone keeps its office: the CLUSTER's voters hear it. But it cannot act on a new catalog, nor run a query at a time that it has not
//! seen. Once it has lost sight of ENV it hands its leaderships over. Who became a leader without ENV keeps the office until it has seen ENV: while ENV has no leader
//! at all, leaderships do not wander.

use super::{Clusters, Shared};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often ENV is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long its answer may take.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// Looks in vain, one after another, after which it is out of sight.
const VAIN_MAX: u32 = 2;

impl Shared {
    /// Brings S here up to what anybody has seen; false if ENV's leader does not answer in time.
    pub(super) async fn see_the_present(&self, within: Duration) -> bool {
        let seen = tokio::select! {
            biased;
            seen = self.env.read_index() => seen.is_ok(),
            () = self.host.clock.sleep(within) => false,
        };
        self.sees_env.store(seen, Ordering::Release);
        seen
    }
}

impl Clusters {
    /// Watches ENV for as long as the process lives.
    pub(super) async fn watch_env(self: Arc<Self>) {
        let shared = &self.shared;
        let mut vain = 0;
        let mut newest = 0;
        loop {
            shared.host.clock.sleep(LOOK_EVERY).await;
            let last_ts = shared.env.storage().view().last_ts();
            let is_fed = std::mem::replace(&mut newest, last_ts) != last_ts;
            let leads = self
                .all_sites()
                .into_iter()
                .any(|site| site.may_hand_over());
            if is_fed || !leads {
                vain = 0;
                continue;
            }
            let before = shared.sees_env.load(Ordering::Acquire);
            if shared.see_the_present(ANSWER_WITHIN).await {
                vain = 0;
                continue;
            }
            vain += 1;
            shared
                .sees_env
                .store(before && vain < VAIN_MAX, Ordering::Release);
            if before && vain >= VAIN_MAX {
                tracing::warn!(
                    "the environment is out of sight: this node gives its clusters to others"
                );
                self.hand_over().await;
            }
        }
    }
}
