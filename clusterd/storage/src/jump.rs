//! From one state to a later one without the entries in between.

use std::sync::Arc;

use repr::{Diff, Row, ShardId, Timestamp};
use state::{Shard, State};

/// The state moved on in one step: a snapshot was installed, or a listener was too slow.
#[derive(Clone)]
pub struct Jump {
    /// What the listener had seen.
    pub from: Arc<State>,
    pub to: Arc<State>,
}

/// What a jump means for one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardJump {
    /// If set, what lay between is lost: nothing may be read before this time any more. Whoever follows must forget its own history up to
    /// here *before* it takes the updates, which hold the whole difference at this time.
    pub lost_before: Option<Timestamp>,
    /// By row and time; all times are after the state before.
    pub updates: Vec<(Row, Timestamp, Diff)>,
}

impl Jump {
    /// The changes of one shard; `None` if it is gone.
    pub fn shard(&self, id: ShardId) -> Option<ShardJump> {
        let (to, since) = (self.to.shard(id)?, self.to.since(id)?);
        let Some(from) = self.from.shard(id) else {
            return Some(ShardJump {
                lost_before: None,
                updates: to.updates_after(0),
            });
        };
        let seen = self.from.last_ts();
        if since <= seen {
            return Some(ShardJump {
                lost_before: None,
                updates: to.updates_after(seen),
            });
        }
        let mut updates = difference(from, seen, to, since);
        updates.extend(to.updates_after(since));
        updates.sort();
        Some(ShardJump {
            lost_before: Some(since),
            updates,
        })
    }
}

/// What must be added, at time `since`, to the old content to get the new content at `since`.
fn difference(
    from: &Shard,
    seen: Timestamp,
    to: &Shard,
    since: Timestamp,
) -> Vec<(Row, Timestamp, Diff)> {
    let (mut old, mut new) = (from.cursor(seen), to.cursor(since));
    let mut take_old = || old.next().map(|(row, diff)| (row.to_row(), diff));
    let mut take_new = || new.next().map(|(row, diff)| (row.to_row(), diff));
    let (mut before, mut after) = (take_old(), take_new());
    let mut out = vec![];
    loop {
        let order = match (&before, &after) {
            (None, None) => return out,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let gone = if order.is_le() {
            std::mem::replace(&mut before, take_old())
        } else {
            None
        };
        let come = if order.is_ge() {
            std::mem::replace(&mut after, take_new())
        } else {
            None
        };
        let diff =
            come.as_ref().map_or(0, |(_, diff)| *diff) - gone.as_ref().map_or(0, |(_, diff)| *diff);
        if let Some((row, _)) = come.or(gone)
            && diff != 0
        {
            out.push((row, since, diff));
        }
    }
}
