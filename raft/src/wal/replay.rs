//! From the records of the log to the state of each group.

use std::collections::BTreeMap;
use std::path::Path;

use super::WalError;
use super::group::{GroupLog, next_index};
use super::record::{GroupState, Record};
use super::scan::Place;
use crate::GroupId;

/// Groups as far as the records read say.
#[derive(Default)]
pub(super) struct Replay {
    groups: BTreeMap<GroupId, Replayed>,
}

#[derive(Default)]
struct Replayed {
    state: GroupState,
    /// Index -> term and place.
    entries: BTreeMap<u64, (u64, Place)>,
    /// One above the index the log must reach. An entry below it and above `purged` that is not there was lost.
    end: u64,
}

impl Replay {
    /// Takes one record; they come in log order.
    pub fn record(&mut self, group: GroupId, record: Record, place: Place) {
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
                log.entries.insert(entry.pos.index, (entry.pos.term, place));
                log.end = entry.pos.index + 1;
            }
            Record::Copy(entry) => {
                log.entries.insert(entry.pos.index, (entry.pos.term, place));
            }
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
    pub fn finish(self, dir: &Path) -> Result<BTreeMap<GroupId, GroupLog>, WalError> {
        let mut logs = BTreeMap::new();
        for (group, log) in self.groups {
            log.check(group, dir)?;
            logs.insert(group, GroupLog::recovered(log.state, log.entries));
        }
        Ok(logs)
    }
}

impl Replayed {
    fn purge(&mut self, upto: super::LogPos) {
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
