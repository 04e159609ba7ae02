//! This node in a CLUSTER's group, and in office when the group elects it.

use super::Shared;
use super::driver;
use super::driver::LeadEvents;
use super::group::{self, ClusterGroup, Incarnation};
use super::site::{Site, WantedGroup};
use controller::log::Entry;
use host::TaskHandle;
use parking_lot::Mutex;
use raft::GroupError;
use state::State;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A node that is no voter any more, and has not heard of a leader for this long, was removed by the others without hearing of it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// How long a new leader waits for ENV.
const PRESENT_WITHIN: Duration = Duration::from_secs(1);
/// Pause before the group is asked again whether this node leads.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// Where committed grants go: to the lead, while there is one.
pub(super) type Tap = Arc<Mutex<Option<LeadEvents>>>;

pub(crate) struct Member {
    group: ClusterGroup,
    stop: watch::Sender<bool>,
    /// Waits for elections and leads.
    task: TaskHandle,
}

impl Member {
    /// Joins the group, and founds it if this node is one of its founders.
    pub async fn start(site: &Arc<Site>, wanted: &WantedGroup) -> Result<Member, GroupError> {
        let shared = &site.shared;
        let tap = Tap::default();
        let granted = Arc::clone(&tap);
        let tell = move |term, grants| {
            if let Some(events) = &*granted.lock() {
                events.granted(term, grants);
            }
        };
        let group = ClusterGroup::start(wanted.incarnation, shared, Box::new(tell)).await?;
        if wanted.founders.contains(&shared.node)
            && let Err(error) = group.found(&wanted.founders).await
        {
            group.shutdown(shared).await;
            return Err(error);
        }
        site.set_group(Some(group.clone()));
        let stop = watch::Sender::new(false);
        let office = lead_when_elected(Arc::clone(site), group.clone(), tap, stop.subscribe());
        let task = shared.host.spawn.spawn("controller", Box::pin(office));
        Ok(Member { group, stop, task })
    }

    pub fn incarnation(&self) -> Incarnation {
        self.group.incarnation()
    }

    /// Ends the lead, if there is one, and the membership.
    pub async fn end(self, site: &Site) {
        let Member { group, stop, task } = self;
        stop.send_replace(true);
        if let Err(error) = task.join().await {
            tracing::error!(cluster = %site.name, %error, "a controller ended abnormally");
        }
        site.set_group(None);
        group.shutdown(&site.shared).await;
    }
}

/// Resolves when a member that shall not vote is no voter any more, by all that it knows. Its part of the log stays: should it become a voter again, it must not
/// take the group for one that is yet to be founded.
pub(super) async fn left(member: Option<&Member>, shared: &Shared) {
    let Some(member) = member else {
        return std::future::pending().await;
    };
    let mut status = member.group.status();
    loop {
        {
            let now = status.borrow_and_update();
            if !now.voters.is_empty() && !now.voters.contains(&shared.node.0) {
                return;
            }
        }
        let forgotten = shared.host.clock.sleep(FORGOTTEN_AFTER);
        tokio::select! {
            biased;
            changed = status.changed() => if changed.is_err() { return },
            () = forgotten => if status.borrow().leader.is_none() { return },
        }
    }
}

/// Removes what is stored of a group. What cannot be removed now is tried again at the next start.
pub(super) fn remove(shared: &Shared, group: Incarnation) {
    let removed = group::remove(group, &shared.host, &shared.wal, &shared.snapshots);
    if let Err(error) = removed {
        tracing::warn!(cluster = %group.cluster, %error, "the log of a group that is no more was not removed; the next start tries again");
    }
}

async fn lead_when_elected(
    site: Arc<Site>,
    group: ClusterGroup,
    tap: Tap,
    mut stop: watch::Receiver<bool>,
) {
    let mut status = group.status();
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            elected = status.wait_for(|status| status.is_leader) => if elected.is_err() { return },
        }
        let term = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            term = group.lead() => term,
        };
        match term {
            Ok(term) => {
                if !site.shared.see_the_present(PRESENT_WITHIN).await {
                    tracing::warn!(cluster = %site.name, "leads without a word from the environment's leader");
                }
                let state = tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => return,
                    state = with_catalog(&site, &group, term) => state,
                };
                if let Some(state) = state {
                    driver::lead(&site, &group, term, &state, &tap, &mut stop).await;
                }
            }
            Err(error) => {
                tracing::debug!(cluster = %site.name, %error, "elected, but not in office")
            }
        }
        site.shared.host.clock.sleep(ASK_AGAIN).await;
    }
}

/// A state whose catalog is at least as new as what replicas have been told of, once this node has it and has the group know; `None` if it does not lead any more.
///
/// A leader that knew less would have replicas drop what was created since, only to build it again.
async fn with_catalog(site: &Site, group: &ClusterGroup, term: u64) -> Option<Arc<State>> {
    let storage = site.shared.env.storage();
    let mut applied = storage.watch_applied();
    let mut status = group.status();
    let mut waits = false;
    let state = loop {
        let state = storage.view();
        if state.catalog().version >= group.acted() {
            break state;
        }
        if !std::mem::replace(&mut waits, true) {
            tracing::info!(cluster = %site.name, "elected, and waits for the catalog of the leader before");
        }
        // After the loss of ENV's majority there may be no newer one.
        if site.shared.see_the_present(PRESENT_WITHIN).await {
            break storage.view();
        }
        tokio::select! {
            biased;
            left = status.wait_for(|status| !status.is_leader || status.term != term) => {
                drop(left);
                return None;
            }
            more = applied.changed() => more.ok()?,
            () = site.shared.host.clock.sleep(PRESENT_WITHIN) => {}
        }
    };
    let catalog_version = state.catalog().version;
    if catalog_version > group.acted()
        && let Err(error) = group.propose(&Entry::Acts { catalog_version }).await
    {
        tracing::debug!(cluster = %site.name, %error, "elected, but not followed");
        return None;
    }
    Some(state)
}
