//! Leaders that do not see what ENV commits give way to others that do.
//!
//! A leader that is cut off from ENV alone keeps its office: the CLUSTER's voters hear it. But it cannot act on a new catalog, nor run a query at a time that it has not
//! seen. Once it has lost sight of ENV, or was elected without seeing it, it asks the CLUSTER's other voters whether they see it, and hands its leaderships to those that do.
//! While ENV has no leader at all nobody sees it, and leaderships do not wander.

use super::{Clusters, Shared};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use mesh::Message;
use protocol::cluster::{self, CALL_BYTES_MAX};
use protocol::{Kind, Lane};
use repr::NodeId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often ENV is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long its answer may take.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// How long a voter may take to say whether it sees ENV: it looks, too.
const TELL_WITHIN: Duration = Duration::from_millis(750);
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

    /// Whether another node sees ENV's leader.
    async fn does_see(&self, node: NodeId) -> bool {
        let message = Message::new(Lane::Control, Kind::SEES_ENV, Bytes::new());
        let answer = self.transport.call(node, message, TELL_WITHIN).await;
        answer.is_ok_and(|bytes| cluster::decode(CALL_BYTES_MAX, &bytes).unwrap_or(false))
    }
}

impl Clusters {
    /// For another node, which asks before it hands a leadership to this one.
    pub(super) async fn tell_sight(self: Arc<Self>, _: Bytes) -> Result<Bytes, mesh::Refusal> {
        let sees = self.shared.see_the_present(ANSWER_WITHIN).await;
        Ok(cluster::encode(&sees).into())
    }

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
            if is_fed {
                shared.sees_env.store(true, Ordering::Release);
            }
            if is_fed || !leads {
                vain = 0;
                continue;
            }
            let before = shared.sees_env.load(Ordering::Acquire);
            if shared.see_the_present(ANSWER_WITHIN).await {
                vain = 0;
                continue;
            }
            // Who was elected without seeing it has looked already.
            vain = if before { vain + 1 } else { VAIN_MAX };
            shared.sees_env.store(vain < VAIN_MAX, Ordering::Release);
            if vain >= VAIN_MAX {
                self.give_way().await;
            }
        }
    }

    /// Hands what this node leads to voters that see ENV.
    async fn give_way(&self) {
        let mut sites = self.all_sites();
        sites.retain(|site| site.may_hand_over());
        let heirs: BTreeSet<NodeId> = sites.iter().flat_map(|site| site.heirs()).collect();
        let asks = heirs.into_iter().map(|node| async move {
            let sees = self.shared.does_see(node).await;
            sees.then_some(node)
        });
        let mut asked: FuturesUnordered<_> = asks.collect();
        let mut seeing = BTreeSet::new();
        let provided = |seeing: &BTreeSet<NodeId>| {
            let mut heirs = sites.iter().map(|site| site.heirs());
            heirs.all(|heirs| heirs.iter().any(|node| seeing.contains(node)))
        };
        // Whoever does not see it does not answer for long either: nobody waits for that one.
        while !provided(&seeing) {
            match asked.next().await {
                Some(node) => seeing.extend(node),
                None => break,
            }
        }
        let moves = sites.iter().map(|site| async {
            let heir = site.heirs().into_iter().find(|node| seeing.contains(node));
            if let Some(heir) = heir {
                tracing::warn!(cluster = %site.name, %heir, "the environment is out of sight: this node gives the cluster to another");
                site.hand_over_to(heir).await;
            }
        });
        futures::future::join_all(moves).await;
    }
}
