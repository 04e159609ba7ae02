//! Whoever holds the [`Writer`] drains the queue: one write, one sync, then everybody is told, in order.
//!
//! Usually that is the log's thread. Waking it, and being woken by it, costs as much as a fast disk's sync, so a lone small append may be written by
//! its own thread: see [`write_now`].

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use host::metrics::{BusyMeter, waiting};

use super::format::{self, BatchHeader, HEADER_BYTES, SegmentHeader};
use super::group::next_index;
use super::record::{self, GroupState, LogEntry, LogPos, Record};
use super::scan::{Place, Tail};
use super::segment::Segment;
use super::{Done, Pinned, Request, Shared, WalError};
use crate::GroupId;

/// A sync that takes longer must not hold up the thread of a caller.
const INLINE_SYNC_MAX: Duration = Duration::from_millis(1);
/// More than this is not written on the thread of a caller.
const INLINE_BYTES_MAX: usize = 16 << 10;
/// Room that a batch needs beside its records, generously.
const INLINE_ROOM_MIN: usize = 16 << 10;

/// So far ahead of a batch its sync also writes zeros. Blocks that were only reserved cost each sync that writes to them for the first time a change of the
/// file system's own, which takes longer than the batch, and is shared with all who sync on that file system.
const ZEROS_AHEAD: usize = 256 << 10;
/// A larger batch changes so many blocks that writing them twice would cost more.
const ZEROED_BATCH_MAX: usize = 64 << 10;

/// An entry to be repeated in the current segment.
struct ToCopy {
    group: GroupId,
    pinned: Pinned,
}

/// What one turn of the loop works on.
struct Work {
    requests: Vec<Request>,
    copies: Vec<ToCopy>,
    /// Segments that hold nothing live once this batch is durable.
    dead: Vec<u64>,
    closing: bool,
}

/// Where an entry of the batch lies.
struct Placed {
    group: GroupId,
    pos: LogPos,
    place: Place,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    wal_id: u64,
    segment: Segment,
    /// Stream offset of the end of the log in `segment`.
    at: usize,
    next_batch: u64,
    chain: u32,
    /// Small state of the groups as of the last batch encoded.
    written: BTreeMap<GroupId, GroupState>,
    /// File offset in `segment` up to which blocks have been written, with zeros at least.
    zeroed_to: usize,
    body: Vec<u8>,
    stream: Vec<u8>,
    framed: Vec<u8>,
    busy: BusyMeter,
    /// Moving average of the time that a sync takes.
    sync_time: Duration,
    /// A turn has failed, or panicked, or is going on: what is on disk is not known, and nothing may be written behind it.
    pub(super) broken: bool,
}

/// The log's thread: runs until the log is closed or fails.
pub(super) fn run(writer: &Mutex<Writer>, shared: &Shared) {
    loop {
        let active = lock(writer).segment.number;
        if !shared.wait_work(active) || !write_all(writer, shared) {
            return;
        }
    }
}

/// Writes what is queued now, if anything is. False: the log is closed or has failed.
pub(super) fn write_due(writer: &Mutex<Writer>, shared: &Shared) -> bool {
    let active = lock(writer).segment.number;
    let state = shared.lock();
    let (broken, closing) = (state.broken.is_some(), state.closing);
    let due = state.has_work(active, shared.config.segments_max);
    drop(state);
    let open = !broken && (!due && !closing || write_all(writer, shared));
    if open && shared.has_work(active) {
        // One batch does not hold everything.
        shared.work.notify_one();
    }
    open
}

/// One turn over all that is queued. False: it was the last one.
fn write_all(writer: &Mutex<Writer>, shared: &Shared) -> bool {
    let mut writer = lock(writer);
    let work = shared.take_work(writer.segment.number, true);
    let closing = work.closing;
    let result = writer.turn(work);
    drop(writer);
    match result {
        Ok(()) => !closing,
        Err(error) => {
            shared.fail(error);
            false
        }
    }
}

/// A poisoned writer is [`Writer::broken`], and says so when it is used.
fn lock(writer: &Mutex<Writer>) -> MutexGuard<'_, Writer> {
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes what is queued on the caller's thread, if nobody else is writing, the disk is quick, and it surely fits where the log ends. Otherwise
/// wakes the log's thread.
pub(super) fn write_now(writer: &Mutex<Writer>, shared: &Shared) {
    let mut writer = match writer.try_lock() {
        Ok(writer) => writer,
        Err(TryLockError::Poisoned(_) | TryLockError::WouldBlock) => {
            return shared.work.notify_one();
        }
    };
    let room = writer.segment.capacity().saturating_sub(writer.at);
    let queued = shared.queued_bytes();
    if writer.broken
        || writer.sync_time > INLINE_SYNC_MAX
        || queued > INLINE_BYTES_MAX
        || room < queued + INLINE_ROOM_MIN
    {
        return shared.work.notify_one();
    }
    let work = shared.take_work(writer.segment.number, false);
    let result = writer.turn(work);
    let active = writer.segment.number;
    drop(writer);
    match result {
        Ok(()) if shared.has_work(active) => shared.work.notify_one(),
        Ok(()) => {}
        Err(error) => shared.fail(error),
    }
}

impl Writer {
    pub fn new(shared: Arc<Shared>, tail: Tail, written: BTreeMap<GroupId, GroupState>) -> Writer {
        let Tail {
            wal_id,
            mut segments,
            at,
            next_batch,
            chain,
            dirty_to: _,
        } = tail;
        let segment = segments.pop().expect("a tail has the segment it is in");
        let busy = BusyMeter::named("wal-writer");
        let (body, stream, framed) = (Vec::new(), Vec::new(), Vec::new());
        Writer {
            shared,
            wal_id,
            segment,
            at,
            next_batch,
            chain,
            written,
            zeroed_to: 0,
            body,
            stream,
            framed,
            busy,
            sync_time: Duration::ZERO,
            broken: false,
        }
    }

    /// Writes and syncs what it is given, and tells everybody. After an error every further turn fails too.
    fn turn(&mut self, work: Work) -> Result<(), WalError> {
        let result = match std::mem::replace(&mut self.broken, true) {
            true => Err(self.refuse(work)),
            false => self.carry_out(work),
        };
        self.broken = result.is_err();
        result
    }

    fn refuse(&self, work: Work) -> WalError {
        let before = || io::Error::other("an earlier write failed");
        for done in work.requests.into_iter().filter_map(|request| request.done) {
            done(Err(before()));
        }
        WalError::io("write", &self.shared.config.dir, before())
    }

    fn carry_out(&mut self, work: Work) -> Result<(), WalError> {
        let Work {
            requests,
            copies,
            dead,
            closing: _,
        } = work;
        let mut dones = Vec::new();
        let written = if requests.is_empty() && copies.is_empty() {
            Ok(Vec::new())
        } else {
            self.write(requests, copies, &mut dones)
        };
        let placed = match written {
            Ok(placed) => placed,
            Err(error) => {
                for done in dones {
                    done(Err(io::Error::other(error.to_string())));
                }
                return Err(error);
            }
        };
        let _guard = self.busy.start();
        for done in dones {
            done(Ok(()));
        }
        self.shared
            .finish(placed.into_iter().map(|p| (p.group, p.pos, p.place)), &dead);
        Ok(())
    }

    fn write(
        &mut self,
        requests: Vec<Request>,
        copies: Vec<ToCopy>,
        dones: &mut Vec<Done>,
    ) -> Result<Vec<Placed>, WalError> {
        let busy = self.busy.clone();
        let mut guard = Some(busy.start());
        self.body.clear();
        let mut placed = Vec::new();
        let mut records = 0;
        for Request {
            group,
            records: wanted,
            bytes: _,
            done,
        } in requests
        {
            dones.extend(done);
            records += wanted.len();
            for record in wanted {
                self.encode(group, &record, &mut placed);
            }
        }
        for ToCopy { group, pinned } in copies {
            let entry = self
                .shared
                .resolve(pinned)
                .map_err(|e| WalError::io("read", &self.shared.config.dir, e))?;
            self.encode(group, &Record::Copy(entry), &mut placed);
        }
        let start = self.make_room()?;
        // Places were offsets in the body until now.
        let body_at = (start + HEADER_BYTES) as u32;
        for p in &mut placed {
            p.place.segment = self.segment.number;
            p.place.at += body_at;
        }
        let file_at = self.seal(start);
        let batch_bytes = self.framed.len();
        self.write_zeros_ahead(file_at);
        let path = || super::segment::path(&self.shared.config.dir, self.segment.number);
        let metrics = &self.shared.metrics;
        metrics.batch_records.observe(records as f64);
        metrics.batch_bytes.observe(batch_bytes as f64);
        metrics.written_bytes.inc_by(batch_bytes as u64);
        let wrote = self.segment.file.write_at(file_at as u64, &self.framed);
        wrote.map_err(|e| WalError::io("write", path(), e))?;
        guard.take();
        let before = self.shared.clock.now();
        waiting(|| self.segment.file.sync_data()).map_err(|e| WalError::io("sync", path(), e))?;
        let took = self.shared.clock.now() - before;
        metrics.sync_seconds.observe(took.as_secs_f64());
        self.sync_time = (self.sync_time * 7 + took) / 8;
        Ok(placed)
    }

    /// Lets the batch in `framed`, which goes to `file_at`, carry the next zeros, if it is the first to come to where there are none.
    fn write_zeros_ahead(&mut self, file_at: usize) {
        let batch = self.framed.len();
        let end = file_at + batch;
        if end <= self.zeroed_to {
            return;
        }
        if batch <= ZEROED_BATCH_MAX {
            let zeroed = (end + ZEROS_AHEAD) / ZEROS_AHEAD * ZEROS_AHEAD;
            let zeroed = zeroed.min(self.segment.file_bytes as usize).max(end);
            self.framed.resize(zeroed - file_at, 0);
        }
        self.zeroed_to = file_at + self.framed.len();
    }

    fn encode(&mut self, group: GroupId, record: &Record, placed: &mut Vec<Placed>) {
        let at = self.body.len();
        let bytes = record::encode(group, record, &mut self.body);
        let place = Place {
            segment: 0,
            at: at as u32,
            bytes: bytes as u32,
        };
        if *record == Record::Forget {
            self.written.remove(&group);
            return;
        }
        let state = self.written.entry(group).or_default();
        match record {
            Record::Entry(LogEntry { pos, .. }) => {
                if state.last.is_none() {
                    state.start = pos.index;
                }
                state.last = Some(*pos);
                placed.push(Placed {
                    group,
                    pos: *pos,
                    place,
                });
            }
            Record::Copy(LogEntry { pos, .. }) => placed.push(Placed {
                group,
                pos: *pos,
                place,
            }),
            Record::Vote(vote) => state.vote = Some(*vote),
            Record::TruncateAfter(after) => state.truncate_after(*after),
            Record::Purge(upto) => {
                state.purged = Some(*upto);
                if next_index(state.last) <= upto.index {
                    state.last = Some(*upto);
                }
            }
            Record::Committed(pos) => state.committed = Some(*pos),
            Record::State(_) | Record::Forget => {}
        }
    }

    /// Moves to the next segment if the body does not fit into this one, and repeats all small state when the batch
    /// is a segment's first. Returns the stream offset of the batch.
    fn make_room(&mut self) -> Result<usize, WalError> {
        let start = format::batch_start(self.at);
        if start + format::BATCH_OVERHEAD + self.body.len() > self.segment.capacity() {
            self.segment = self.shared.take_spare()?;
            self.at = 0;
            self.zeroed_to = 0;
        }
        if self.at > HEADER_BYTES {
            return Ok(start);
        }
        for (group, state) in &self.written {
            record::encode(*group, &Record::State(*state), &mut self.body);
        }
        self.at = HEADER_BYTES;
        let needed = HEADER_BYTES + format::BATCH_OVERHEAD + self.body.len();
        assert!(
            needed <= self.segment.capacity(),
            "sizes of requests are bounded so that a batch fits a segment"
        );
        Ok(HEADER_BYTES)
    }

    /// Makes the batch at stream offset `start` from the body, with the segment's header when it is the first.
    /// Returns the file offset to write `framed` at.
    fn seal(&mut self, start: usize) -> usize {
        self.stream.clear();
        let first = start == HEADER_BYTES;
        if first {
            let Segment {
                number, file_bytes, ..
            } = self.segment;
            let header = SegmentHeader {
                wal_id: self.wal_id,
                segment: number,
                file_bytes,
                first_batch: self.next_batch,
            };
            header.encode(&mut self.stream);
        }
        let batch_at = format::begin_batch(&mut self.stream);
        self.stream.extend_from_slice(&self.body);
        let header = BatchHeader {
            body_bytes: 0,
            number: self.next_batch,
            segment: self.segment.number,
            synced: start as u64,
            chain: self.chain,
            body_crc: 0,
        };
        let header = format::end_batch(&mut self.stream, batch_at, header, self.wal_id);
        self.at = start + header.batch_bytes();
        self.next_batch += 1;
        self.chain = header.body_crc;
        format::frame(
            if first { 0 } else { start },
            &self.stream,
            &mut self.framed,
        )
    }
}

impl GroupState {
    fn truncate_after(&mut self, after: Option<u64>) {
        let end = after
            .map_or(0, |index| index + 1)
            .max(next_index(self.purged));
        if next_index(self.last) > end {
            // The term of the entry that is last now does not matter: only the index is checked at start.
            self.last = end.checked_sub(1).map(|index| LogPos { term: 0, index });
        }
    }
}

impl Shared {
    /// Waits for something to write. False: the log has failed.
    fn wait_work(&self, active: u64) -> bool {
        let mut state = self.lock();
        loop {
            if state.broken.is_some() {
                return false;
            }
            if state.has_work(active, self.config.segments_max) || state.closing {
                return true;
            }
            state = self
                .work
                .thread
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the log's thread has something to do after somebody else has written.
    fn has_work(&self, active: u64) -> bool {
        self.lock().has_work(active, self.config.segments_max)
    }

    /// Size of all that waits to be written, roughly.
    fn queued_bytes(&self) -> usize {
        self.lock().queue.iter().map(|request| request.bytes).sum()
    }

    /// Takes as much of the queue as one batch may hold, and, with `upkeep`, the copies that free old segments. The writer must be held: batches are
    /// written in the order in which they are taken.
    fn take_work(&self, active: u64, upkeep: bool) -> Work {
        let bytes_max = self.config.batch_bytes_max();
        let mut state = self.lock();
        let (mut requests, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some(request) = state.queue.pop_front()
        {
            bytes += request.bytes;
            requests.push(request);
        }
        let drained = state.queue.is_empty();
        let committed = std::mem::take(&mut state.lazy_committed);
        for (group, pos) in committed {
            requests.push(Request {
                group,
                records: vec![Record::Committed(pos)],
                bytes: 0,
                done: None,
            });
        }
        // Memory runs ahead of the log by what is still queued, so only an empty queue lets it decide what is dead and what is live.
        let upkeep = upkeep && drained;
        let dead = match upkeep {
            true => state.dead_segments(active),
            false => Vec::new(),
        };
        let copies = match upkeep {
            true => {
                let victim = state.victim(active, self.config.segments_max);
                state.copies(victim, bytes_max as u64 / 2)
            }
            false => Vec::new(),
        };
        let closing = state.closing && drained && copies.is_empty();
        self.metrics.queue.set(state.queue.len() as i64);
        Work {
            requests,
            copies,
            dead,
            closing,
        }
    }
}

impl super::State {
    fn has_work(&self, active: u64, segments_max: usize) -> bool {
        !self.queue.is_empty()
            || self.victim(active, segments_max).is_some()
            || !self.dead_segments(active).is_empty()
    }

    /// The oldest segment, if there are too many and repeating what lives in it makes progress.
    fn victim(&self, active: u64, segments_max: usize) -> Option<u64> {
        let (oldest, segment) = self.segments.first_key_value()?;
        if self.segments.len() <= segments_max || *oldest == active {
            return None;
        }
        let live = self.groups.values().flat_map(|group| group.live().values());
        let live_bytes: u64 = live.map(|live| live.bytes).sum();
        // With more than half of the log alive, copying would chase its own tail; snapshots have to free it.
        (live_bytes * 2 <= self.segments.len() as u64 * segment.file_bytes).then_some(*oldest)
    }

    fn copies(&self, victim: Option<u64>, bytes_max: u64) -> Vec<ToCopy> {
        let Some(victim) = victim else {
            return Vec::new();
        };
        let mut copies = Vec::new();
        for (group, log) in &self.groups {
            for found in log.in_segment(victim, bytes_max) {
                copies.push(ToCopy {
                    group: *group,
                    pinned: self.pin(found),
                });
            }
            if !copies.is_empty() {
                break;
            }
        }
        copies
    }

    /// Segments, oldest first, before the first that holds anything live.
    fn dead_segments(&self, active: u64) -> Vec<u64> {
        let is_live = |segment: &u64| {
            self.groups
                .values()
                .any(|group| group.live().contains_key(segment))
        };
        let old = self
            .segments
            .keys()
            .take_while(|segment| **segment != active);
        old.take_while(|segment| !is_live(segment))
            .copied()
            .collect()
    }
}
