//! What memory knows of one group's log: where each entry lies, and the recent ones themselves.

use std::collections::{BTreeMap, VecDeque};

use super::record::{ENTRY_RECORD_OVERHEAD, GroupState, LogEntry, LogPos, StoredVote};
use super::replay;
use super::scan::Place;

/// One entry.
#[derive(Debug)]
struct Slot {
    term: u64,
    /// Bytes of its record.
    bytes: u32,
    /// `None` until the writer has put it into a segment.
    place: Option<Place>,
    /// `None` once evicted; then `place` is set.
    cached: Option<LogEntry>,
}

/// How to get an entry: it is here, or it has to be read.
pub(super) enum Found {
    Cached(LogEntry),
    At(LogPos, Place),
}

/// Entries and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub entries: u64,
    pub bytes: u64,
}

/// The index of one group. Entries are consecutive: slot `i` has index `first + i`.
#[derive(Debug, Default)]
pub(super) struct GroupLog {
    pub vote: Option<StoredVote>,
    pub committed: Option<LogPos>,
    purged: Option<LogPos>,
    start: u64,
    first: u64,
    slots: VecDeque<Slot>,
    /// Live placed entries per segment; a segment in no group's table can go.
    live: BTreeMap<u64, Live>,
}

impl GroupLog {
    /// A log as recovered.
    pub fn recovered(state: GroupState, entries: BTreeMap<u64, replay::Found>) -> GroupLog {
        let GroupState {
            vote,
            committed,
            purged,
            last: _,
            start,
        } = state;
        let first = entries
            .keys()
            .next()
            .copied()
            .unwrap_or_else(|| next_index(purged).max(start));
        let mut log = GroupLog {
            vote,
            committed,
            purged,
            start,
            first,
            ..GroupLog::default()
        };
        for replay::Found { term, place, entry } in entries.into_values() {
            log.count(place, true);
            log.slots.push_back(Slot {
                term,
                bytes: place.bytes,
                place: Some(place),
                cached: entry,
            });
        }
        log
    }

    /// The small state, as memory has it.
    pub fn state(&self) -> GroupState {
        let GroupLog {
            vote,
            committed,
            purged,
            start,
            ..
        } = self;
        GroupState {
            vote: *vote,
            committed: *committed,
            purged: *purged,
            last: self.last(),
            start: *start,
        }
    }

    /// The last entry, or where the log was purged to.
    pub fn last(&self) -> Option<LogPos> {
        match self.slots.back() {
            Some(slot) => Some(LogPos {
                term: slot.term,
                index: self.end() - 1,
            }),
            None => self.purged,
        }
    }

    /// One above the last index.
    pub fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Lowest index present.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The lowest index such that the entries from it up to `upto` inclusive take at most `bytes`.
    pub fn keep_from(&self, upto: u64, bytes: u64) -> u64 {
        let mut kept = 0;
        let mut index = upto.saturating_add(1).min(self.end());
        while index > self.first {
            kept += u64::from(self.slots[(index - 1 - self.first) as usize].bytes);
            if kept > bytes {
                break;
            }
            index -= 1;
        }
        index
    }

    /// Adds an entry. False: it does not follow the last one.
    #[must_use]
    pub fn append(&mut self, entry: &LogEntry) -> bool {
        if self.slots.is_empty() && self.purged.is_none() {
            // openraft's own test suite begins some logs at one.
            self.first = entry.pos.index;
            self.start = entry.pos.index;
        }
        if entry.pos.index != self.end() {
            return false;
        }
        let bytes = record_bytes(entry);
        self.slots.push_back(Slot {
            term: entry.pos.term,
            bytes,
            place: None,
            cached: Some(entry.clone()),
        });
        true
    }

    /// Drops entries after `after`; returns cached bytes freed.
    pub fn truncate_after(&mut self, after: Option<u64>) -> u64 {
        let end = after.map_or(self.first, |index| index.saturating_add(1));
        let mut freed = 0;
        while self.end() > end.max(self.first) {
            let slot = self.slots.pop_back().expect("end is above first");
            freed += self.forget(slot);
        }
        freed
    }

    /// Drops entries up to `upto`, which may lie beyond the last; returns cached bytes freed.
    pub fn purge(&mut self, upto: LogPos) -> u64 {
        if self.purged.is_some_and(|p| p.index >= upto.index) {
            return 0;
        }
        self.purged = Some(upto);
        let mut freed = 0;
        while self.first <= upto.index
            && let Some(slot) = self.slots.pop_front()
        {
            freed += self.forget(slot);
            self.first += 1;
        }
        self.first = self.first.max(upto.index + 1);
        freed
    }

    fn forget(&mut self, slot: Slot) -> u64 {
        if let Some(place) = slot.place {
            self.count(place, false);
        }
        slot.cached.map_or(0, |entry| cached_bytes(&entry))
    }

    /// Notes where an entry lies now. False: it is no longer in the log.
    pub fn placed(&mut self, pos: LogPos, place: Place) -> bool {
        let Some(at) = self.slot_at(pos) else {
            return false;
        };
        let old = self.slots[at].place.replace(place);
        if let Some(old) = old {
            self.count(old, false);
        }
        self.count(place, true);
        true
    }

    /// Drops an entry from memory if it is on disk; returns cached bytes freed.
    pub fn evict(&mut self, pos: LogPos) -> u64 {
        let Some(at) = self.slot_at(pos) else {
            return 0;
        };
        let slot = &mut self.slots[at];
        if slot.place.is_none() {
            return 0;
        }
        slot.cached.take().map_or(0, |entry| cached_bytes(&entry))
    }

    fn slot_at(&self, pos: LogPos) -> Option<usize> {
        let at = usize::try_from(pos.index.checked_sub(self.first)?).ok()?;
        self.slots
            .get(at)
            .filter(|slot| slot.term == pos.term)
            .map(|_| at)
    }

    /// The entry with `index`, if the log has it.
    pub fn find(&self, index: u64) -> Option<(Found, u32)> {
        let slot = self
            .slots
            .get(usize::try_from(index.checked_sub(self.first)?).ok()?)?;
        let pos = LogPos {
            term: slot.term,
            index,
        };
        let found = match (&slot.cached, slot.place) {
            (Some(entry), _) => Found::Cached(entry.clone()),
            (None, Some(place)) => Found::At(pos, place),
            (None, None) => return None,
        };
        Some((found, slot.bytes))
    }

    /// Entries that lie in `segment`, oldest first, until their records reach `bytes_max`.
    pub fn in_segment(&self, segment: u64, bytes_max: u64) -> Vec<Found> {
        let mut wanted = self.live.get(&segment).map_or(0, |live| live.entries);
        let (mut found, mut bytes) = (Vec::new(), 0);
        for (i, slot) in self.slots.iter().enumerate() {
            if wanted == 0 || bytes >= bytes_max {
                break;
            }
            let Some(place) = slot.place.filter(|place| place.segment == segment) else {
                continue;
            };
            wanted -= 1;
            bytes += u64::from(slot.bytes);
            let pos = LogPos {
                term: slot.term,
                index: self.first + i as u64,
            };
            found.push(
                slot.cached
                    .clone()
                    .map_or(Found::At(pos, place), Found::Cached),
            );
        }
        found
    }

    /// Live entries per segment.
    pub fn live(&self) -> &BTreeMap<u64, Live> {
        &self.live
    }

    fn count(&mut self, place: Place, up: bool) {
        let live = self.live.entry(place.segment).or_default();
        let bytes = u64::from(place.bytes);
        if up {
            live.entries += 1;
            live.bytes += bytes;
        } else {
            live.entries -= 1;
            live.bytes -= bytes;
        }
        if live.entries == 0 {
            self.live.remove(&place.segment);
        }
    }
}

/// Index after `pos`; zero for nothing.
pub(super) fn next_index(pos: Option<LogPos>) -> u64 {
    pos.map_or(0, |p| p.index + 1)
}

/// Bytes an entry counts for in the cache.
pub(super) fn cached_bytes(entry: &LogEntry) -> u64 {
    u64::from(record_bytes(entry))
}

fn record_bytes(entry: &LogEntry) -> u32 {
    // `Wal::append` has refused anything that does not fit into a segment.
    u32::try_from(entry.payload.len() + ENTRY_RECORD_OVERHEAD).unwrap_or(u32::MAX)
}
