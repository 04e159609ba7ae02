//! From the records of the log to the state of each group.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use super::WalError;
use super::group::{GroupLog, cached_bytes, next_index};
use super::record::{GroupState, LogEntry, LogPos, Record};
use super::scan::Place;
use crate::GroupId;

/// Groups as far as the records read say, and the newest entries themselves: they are applied next, and need not be read
/// twice.
pub(super) struct Replay {
    groups: BTreeMap<GroupId, Log>,
    /// Entries kept, in log order; some may be gone from their group since.
    kept: VecDeque<(GroupId, LogPos, u64)>,
    kept_bytes: u64,
    kept_bytes_max: u64,
}

/// What the log holds.
pub(super) struct Replayed {
    pub groups: BTreeMap<GroupId, GroupLog>,
    /// Entries in memory, in log order.
    pub cache: VecDeque<(GroupId, LogPos)>,
    pub cached_bytes: u64,
}

#[derive(Default)]
struct Log {
    state: GroupState,
    entries: BTreeMap<u64, Found>,
    /// One above the index the log must reach. An entry below it and above `purged` that is not there was lost.
    end: u64,
}

/// One entry that the log has.
pub(super) struct Found {
    pub term: u64,
    pub place: Place,
    /// The entry itself, if it is kept.
    pub entry: Option<LogEntry>,
}

impl Replay {
    /// Keeps at most `kept_bytes_max` bytes of entries in memory.
    pub fn new(kept_bytes_max: u64) -> Replay {
        Replay {
            groups: BTreeMap::new(),
            kept: VecDeque::new(),
            kept_bytes: 0,
            kept_bytes_max,
        }
    }

    /// Takes one record of a batch whose body has `body_bytes`; records come in log order.
    pub fn record(&mut self, group: GroupId, record: Record, place: Place, body_bytes: usize) {
        let entry = match &record {
            Record::Entry(entry) | Record::Copy(entry) => Some(entry.pos),
            Record::Vote(_)
            | Record::TruncateAfter(_)
            | Record::Purge(_)
            | Record::Committed(_)
            | Record::State(_)
            | Record::Forget => None,
        };
        self.take(group, record.detached(body_bytes), place);
        if let Some(pos) = entry {
            self.keep(group, pos, u64::from(place.bytes));
        }
    }

    /// Notes an entry just taken, and lets go of the oldest ones beyond the limit.
    fn keep(&mut self, group: GroupId, pos: LogPos, bytes: u64) {
        self.kept.push_back((group, pos, bytes));
        self.kept_bytes += bytes;
        while self.kept_bytes > self.kept_bytes_max
            && let Some((group, pos, bytes)) = self.kept.pop_front()
        {
            self.kept_bytes -= bytes;
            let found = self
                .groups
                .get_mut(&group)
                .and_then(|log| log.entries.get_mut(&pos.index));
            if let Some(found) = found.filter(|found| found.term == pos.term) {
                found.entry = None;
            }
        }
    }

    fn take(&mut self, group: GroupId, record: Record, place: Place) {
        if record == Record::Forget {
            self.groups.remove(&group);
            return;
        }
        let log = self.groups.entry(group).or_default();
        match record {
            Record::Entry(entry) => {
                if log.end == 0 {
                    log.state.start = entry.pos.index;
                }
                log.end = entry.pos.index + 1;
                log.insert(entry, place);
            }
            Record::Copy(entry) => log.insert(entry, place),
            Record::Vote(vote) => log.state.vote = Some(vote),
            Record::TruncateAfter(after) => {
                let end = after.map_or(0, |index| index + 1);
                log.entries.split_off(&end);
                log.end = log.end.min(end.max(next_index(log.state.purged)));
            }
            Record::Purge(upto) => log.purge(upto),
            Record::Committed(pos) => log.state.committed = Some(pos),
            Record::State(state) => {
                let GroupState {
                    vote,
                    committed,
                    purged,
                    last,
                    start,
                } = state;
                log.state.vote = vote;
                log.state.committed = committed;
                if let Some(purged) = purged {
                    log.purge(purged);
                }
                log.end = next_index(last);
                log.state.start = start;
            }
            Record::Forget => {}
        }
    }

    /// The groups, each without a gap.
    pub fn finish(self, dir: &Path) -> Result<Replayed, WalError> {
        let (mut groups, mut cached) = (BTreeMap::new(), 0);
        for (group, log) in self.groups {
            log.check(group, dir)?;
            let entries = log
                .entries
                .values()
                .filter_map(|found| found.entry.as_ref());
            cached += entries.map(cached_bytes).sum::<u64>();
            groups.insert(group, GroupLog::recovered(log.state, log.entries));
        }
        // One that is gone since is passed over when its turn comes.
        let cache = self.kept.into_iter().map(|(group, pos, _)| (group, pos));
        Ok(Replayed {
            groups,
            cache: cache.collect(),
            cached_bytes: cached,
        })
    }
}

impl Log {
    fn insert(&mut self, entry: LogEntry, place: Place) {
        let LogPos { term, index } = entry.pos;
        let entry = Some(entry);
        self.entries.insert(index, Found { term, place, entry });
    }

    fn purge(&mut self, upto: LogPos) {
        self.entries = self.entries.split_off(&(upto.index + 1));
        self.state.purged = Some(upto);
        self.end = self.end.max(upto.index + 1);
    }

    fn check(&self, group: GroupId, dir: &Path) -> Result<(), WalError> {
        let mut expected = next_index(self.state.purged).max(self.state.start);
        let gap = |index| WalError::Gap {
            path: dir.to_owned(),
            group: group.0,
            index,
        };
        for index in self.entries.keys() {
            if *index != expected {
                return Err(gap(expected));
            }
            expected += 1;
        }
        if expected == self.end || self.end == 0 {
            Ok(())
        } else {
            Err(gap(expected))
        }
    }
}
