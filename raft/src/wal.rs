//! One write-ahead log for all groups of a process.
//!
//! A group's appends, votes, truncations and purges are queued as records; whoever writes, writes everything queued as one
//! batch, syncs once, and completes the callbacks in order (group commit). Segments of a fixed size are made ahead;
//! two stand by as a reserve, so that a full disk still lets the node vote and drop things ([`Wal::disk_low`]).
//!
//! Old segments go as soon as nothing in them is alive. A slow group's few live entries are copied forward when the
//! log grows beyond [`WalConfig::segments_max`]; a busy group frees its own by snapshot and purge. Each segment begins
//! with the small state of all groups (vote, committed, purged), so nothing but entries ever keeps a segment.
//!
//! Start-up: see `scan`. A torn last batch is cut off; anything else that is not as it was written is refused with
//! file and offset.
//!
//! Caveats: an error of write or sync ends the log for good, and the owner's fatal hook is expected to end the
//! process: after a failed sync nobody knows what the disk holds. An entry dead in a sealed segment, and the unused end
//! of a sealed segment, are not read again before they go; changes there are found at the next start, or do not
//! matter.

mod error;
mod format;
mod group;
mod record;
mod replay;
mod scan;
mod segment;
mod writer;

pub(crate) use error::RECOVERY;
pub use error::WalError;
pub use record::{EntryKind, GroupState, LogEntry, LogPos, StoredVote};

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::metrics::{self, Histogram, IntCounter, IntGauge};
use host::{Clock, Disk, Host, ThreadHandle};

use crate::{FatalHook, GroupId};
use group::{Found, GroupLog, cached_bytes};
use record::{ENTRY_RECORD_OVERHEAD, Record};
use replay::{Replay, Replayed};
use scan::{Place, Tail};
use segment::{Segment, Spares};

/// A batch is closed when its records reach this size, or an eighth of a segment; one request may exceed it.
const BATCH_BYTES_MAX: usize = 2 << 20;
/// What a record without an entry counts for.
const SMALL_RECORD_BYTES: usize = 64;
/// How often the free space is looked at, and a failed preallocation tried again.
const SPACE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Called once a request is durable, or has failed for good; on the thread that wrote, so it must not block.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Settings of the log.
#[derive(Clone, Debug)]
pub struct WalConfig {
    /// Directory of the segment files; created when missing.
    pub dir: PathBuf,
    /// Size of a segment file; a change applies to new segments.
    pub segment_bytes: u64,
    /// Empty segments kept in reserve.
    pub spare_segments: usize,
    /// Above this many written segments, live entries of the oldest are copied forward.
    pub segments_max: usize,
    /// Recent entries kept in memory, all groups together: for the apply tasks, and for followers that lag a little.
    pub cache_bytes_max: u64,
    /// The same for what a start has read, until the next batch: all of it is applied next.
    pub replay_bytes_max: u64,
    /// Below this much free space the disk counts as low.
    pub free_bytes_min: u64,
    /// Something has been acknowledged that is in this log: if it is not there, it is lost, and an empty one must not take its place.
    pub expected: bool,
    /// Who writes it.
    pub written_by: WrittenBy,
}

/// Who writes a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenBy {
    /// Threads of its own.
    Threads,
    /// A task, for simulations on one thread. Each time it is woken it pauses for as long as the disk is said to take, then writes all that is queued.
    Task(Duration),
}

impl WalConfig {
    /// The defaults: 64 MiB segments, two in reserve.
    pub fn new(dir: impl Into<PathBuf>) -> WalConfig {
        WalConfig {
            dir: dir.into(),
            segment_bytes: 64 << 20,
            spare_segments: 2,
            segments_max: 8,
            cache_bytes_max: 16 << 20,
            replay_bytes_max: 64 << 20,
            free_bytes_min: 128 << 20,
            expected: false,
            written_by: WrittenBy::Threads,
        }
    }

    /// The largest payload of an entry: a batch with it and the groups' small state must fit into a segment.
    pub fn entry_bytes_max(&self) -> usize {
        let room = format::stream_capacity(self.segment_bytes) / 4;
        room.saturating_sub(ENTRY_RECORD_OVERHEAD + format::BATCH_OVERHEAD)
    }

    fn batch_bytes_max(&self) -> usize {
        (format::stream_capacity(self.segment_bytes) / 8).min(BATCH_BYTES_MAX)
    }
}

/// See the module.
pub struct Wal {
    shared: Arc<Shared>,
    writer: Arc<Mutex<writer::Writer>>,
    /// The writer, then the keeper of the spares.
    threads: Mutex<Vec<ThreadHandle>>,
}

struct Shared {
    config: WalConfig,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Signalled when there is something to write.
    work: Work,
    spares: Mutex<Spares>,
    /// Signalled when a spare is taken, made, or cannot be made.
    spares_changed: Condvar,
    disk_low: AtomicBool,
    fatal: FatalHook,
    metrics: WalMetrics,
}

/// Wakes whoever writes, whichever it is.
#[derive(Default)]
struct Work {
    thread: Condvar,
    task: tokio::sync::Notify,
}

impl Work {
    fn notify_one(&self) {
        self.thread.notify_one();
        self.task.notify_one();
    }
}

struct State {
    groups: BTreeMap<GroupId, GroupLog>,
    queue: VecDeque<Request>,
    /// Commit positions to go with the next batch; they never cause one.
    lazy_committed: BTreeMap<GroupId, LogPos>,
    /// Segments that may be read.
    segments: BTreeMap<u64, Segment>,
    /// Entries in memory that are also on disk, in the order they were written.
    cache: VecDeque<(GroupId, LogPos)>,
    cached_bytes: u64,
    /// Why the log is down.
    broken: Option<String>,
    closing: bool,
}

/// An entry, or where to read it. The file stays readable even when its segment is given up meanwhile.
enum Pinned {
    Cached(LogEntry),
    At(LogPos, Place, Segment),
}

impl State {
    fn pin(&self, found: Found) -> Pinned {
        match found {
            Found::Cached(entry) => Pinned::Cached(entry),
            Found::At(pos, place) => {
                let segment = self
                    .segments
                    .get(&place.segment)
                    .expect("a live entry keeps its segment");
                Pinned::At(pos, place, segment.clone())
            }
        }
    }
}

/// Records of one group that belong into one batch.
struct Request {
    group: GroupId,
    records: Vec<Record>,
    bytes: usize,
    done: Option<Done>,
}

struct WalMetrics {
    sync_seconds: Histogram,
    batch_records: Histogram,
    batch_bytes: Histogram,
    written_bytes: IntCounter,
    queue: IntGauge,
    segments: IntGauge,
    low: IntGauge,
}

impl WalMetrics {
    fn new() -> WalMetrics {
        WalMetrics {
            sync_seconds: metrics::histogram(
                "clusterd_wal_sync_seconds",
                "Time to make a batch of the log durable",
                metrics::SECONDS_BUCKETS,
            ),
            batch_records: metrics::histogram(
                "clusterd_wal_batch_records",
                "Records written with one sync of the log",
                metrics::COUNT_BUCKETS,
            ),
            batch_bytes: metrics::histogram(
                "clusterd_wal_batch_bytes",
                "Bytes written with one sync of the log",
                metrics::BYTES_BUCKETS,
            ),
            written_bytes: metrics::counter(
                "clusterd_wal_written_bytes_total",
                "Bytes written to the log",
            ),
            queue: metrics::gauge(
                "clusterd_wal_queue_requests",
                "Requests that wait for the log's writer",
            ),
            segments: metrics::gauge(
                "clusterd_wal_segments",
                "Segment files of the log in use, without the reserve",
            ),
            low: metrics::gauge(
                "clusterd_wal_disk_low",
                "1 while the disk is too full for growth",
            ),
        }
    }
}

impl Wal {
    /// Opens the log in `config.dir`, or starts an empty one. Reads all of it; errors: damage, see [`WalError`].
    pub fn open(host: &Host, config: WalConfig, fatal: FatalHook) -> Result<Arc<Wal>, WalError> {
        let disk = host.disk.clone();
        disk.create_dir_all(&config.dir)
            .map_err(|e| WalError::io("create", &config.dir, e))?;
        let mut replay = Replay::new(config.replay_bytes_max);
        let tail = scan::scan(
            &*disk,
            &config.dir,
            config.expected,
            &mut |group, record, place, body| replay.record(group, record, place, body),
        )?;
        let Replayed {
            groups,
            cache,
            cached_bytes,
        } = replay.finish(&config.dir)?;
        let tail = match tail {
            Some(tail) => tail,
            None => Wal::first_segment(host, &config)?,
        };
        let written = groups
            .iter()
            .map(|(group, log)| (*group, log.state()))
            .collect();
        let segments: BTreeMap<_, _> = tail
            .segments
            .iter()
            .map(|s| (s.number, s.clone()))
            .collect();
        let next = tail.segments.last().map_or(1, |s| s.number + 1);
        let metrics = WalMetrics::new();
        metrics.segments.set(segments.len() as i64);
        let state = State {
            groups,
            queue: VecDeque::new(),
            lazy_committed: BTreeMap::new(),
            segments,
            cache,
            cached_bytes,
            broken: None,
            closing: false,
        };
        let shared = Arc::new(Shared {
            disk,
            clock: host.clock.clone(),
            state: Mutex::new(state),
            work: Work::default(),
            spares: Mutex::new(Spares {
                next,
                ..Spares::default()
            }),
            spares_changed: Condvar::new(),
            disk_low: AtomicBool::new(false),
            fatal,
            metrics,
            config,
        });
        let writer = writer::Writer::new(shared.clone(), tail, written);
        let wal = Arc::new(Wal {
            shared: shared.clone(),
            writer: Arc::new(Mutex::new(writer)),
            threads: Mutex::new(Vec::new()),
        });
        let writer = wal.writer.clone();
        match shared.config.written_by {
            WrittenBy::Threads => {
                let thread = shared.clone();
                wal.start(
                    host,
                    "wal-writer",
                    Box::new(move || writer::run(&writer, &thread)),
                )?;
                wal.start(host, "wal-spare", Box::new(move || shared.make_spares()))?;
            }
            WrittenBy::Task(pause) => {
                drop(shared.keep_spares(shared.lock_spares()));
                let clock = host.clock.clone();
                let write = async move {
                    while writer::write_due(&writer, &shared) {
                        drop(shared.keep_spares(shared.lock_spares()));
                        shared.work.task.notified().await;
                        clock.sleep(pause).await;
                    }
                };
                drop(host.spawn.spawn("wal-writer", Box::pin(write)));
            }
        }
        Ok(wal)
    }

    fn first_segment(host: &Host, config: &WalConfig) -> Result<Tail, WalError> {
        let segment = Segment::create(&*host.disk, &config.dir, 1, config.segment_bytes)?;
        let wal_id = host.rng.next_u64();
        Ok(Tail {
            wal_id,
            segments: vec![segment],
            at: 0,
            next_batch: 1,
            chain: 0,
            dirty_to: 0,
        })
    }

    fn start(
        &self,
        host: &Host,
        name: &str,
        work: Box<dyn FnOnce() + Send>,
    ) -> Result<(), WalError> {
        let spawned = host.spawn.spawn_thread(name, work);
        let thread = spawned
            .map_err(|e| WalError::io("start the threads of the", &self.shared.config.dir, e))?;
        self.threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(thread);
        Ok(())
    }

    /// True while the disk is too full for growth: answer 53100 to whatever adds data. Votes, drops, truncations,
    /// membership and snapshots may go on; they live on the reserve.
    pub fn disk_low(&self) -> bool {
        self.shared.disk_low.load(Ordering::Relaxed)
    }

    /// Settings it was opened with.
    pub fn config(&self) -> &WalConfig {
        &self.shared.config
    }

    /// Groups that have anything in the log.
    pub fn groups(&self) -> Vec<GroupId> {
        self.shared.lock().groups.keys().copied().collect()
    }

    /// Written segment files.
    pub fn segments(&self) -> usize {
        self.shared.lock().segments.len()
    }

    /// A group's small state; the default for an unknown group.
    pub fn state(&self, group: GroupId) -> GroupState {
        self.shared
            .lock()
            .groups
            .get(&group)
            .map(GroupLog::state)
            .unwrap_or_default()
    }

    /// Appends entries that follow the group's last one. `done` is called once they are durable; they can be read at
    /// once. Errors: the log is down, the entries do not follow, an entry is too large.
    pub(crate) fn append(
        &self,
        group: GroupId,
        entries: Vec<LogEntry>,
        done: Done,
    ) -> io::Result<()> {
        self.enqueue(group, entries, done)?;
        self.shared.work.notify_one();
        Ok(())
    }

    /// Like [`Wal::append`], for a caller that has nothing better to do than to wait: when nobody writes and syncs have been quick, the caller's
    /// thread writes and syncs, and calls `done`, before this returns.
    pub(crate) fn append_now(
        &self,
        group: GroupId,
        entries: Vec<LogEntry>,
        done: Done,
    ) -> io::Result<()> {
        self.enqueue(group, entries, done)?;
        writer::write_now(&self.writer, &self.shared);
        Ok(())
    }

    fn enqueue(&self, group: GroupId, entries: Vec<LogEntry>, done: Done) -> io::Result<()> {
        let max = self.shared.config.entry_bytes_max();
        let batch_bytes_max = self.shared.config.batch_bytes_max();
        if entries.iter().any(|entry| entry.payload.len() > max) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "log entry is too large",
            ));
        }
        let mut state = self.shared.usable()?;
        let log = state.groups.entry(group).or_default();
        let mut cached = 0;
        let mut requests = Vec::new();
        let mut request = Request {
            group,
            records: Vec::new(),
            bytes: 0,
            done: None,
        };
        for entry in entries {
            if !log.append(&entry) {
                let (end, got) = (log.end(), entry.pos.index);
                let message = format!(
                    "entry {got} does not follow the log of group {}, which ends at {end}",
                    group.0
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            cached += cached_bytes(&entry);
            request.bytes += entry.payload.len() + ENTRY_RECORD_OVERHEAD;
            request.records.push(Record::Entry(entry));
            if request.bytes >= batch_bytes_max {
                let next = Request {
                    group,
                    records: Vec::new(),
                    bytes: 0,
                    done: None,
                };
                requests.push(std::mem::replace(&mut request, next));
            }
        }
        request.done = Some(done);
        requests.push(request);
        state.cached_bytes += cached;
        state.queue.extend(requests);
        Ok(())
    }

    /// Stores a vote; `done` once it is durable.
    pub(crate) fn vote(&self, group: GroupId, vote: StoredVote, done: Done) -> io::Result<()> {
        let mut state = self.shared.usable()?;
        state.groups.entry(group).or_default().vote = Some(vote);
        self.shared
            .push(state, group, Record::Vote(vote), Some(done));
        Ok(())
    }

    /// Drops the entries after index `after`, all for `None`. Durable before anything appended later is.
    pub(crate) fn truncate_after(&self, group: GroupId, after: Option<u64>) -> io::Result<()> {
        let mut state = self.shared.usable()?;
        let freed = state.groups.entry(group).or_default().truncate_after(after);
        state.cached_bytes -= freed;
        self.shared
            .push(state, group, Record::TruncateAfter(after), None);
        Ok(())
    }

    /// Drops the entries up to `upto`; their segments go once that is durable.
    pub(crate) fn purge(&self, group: GroupId, upto: LogPos) -> io::Result<()> {
        let mut state = self.shared.usable()?;
        let freed = state.groups.entry(group).or_default().purge(upto);
        state.cached_bytes -= freed;
        self.shared.push(state, group, Record::Purge(upto), None);
        Ok(())
    }

    /// Notes how far the group is committed. Goes to disk with the next batch, whenever that is.
    pub(crate) fn committed(&self, group: GroupId, pos: LogPos) -> io::Result<()> {
        let mut state = self.shared.usable()?;
        state.groups.entry(group).or_default().committed = Some(pos);
        state.lazy_committed.insert(group, pos);
        Ok(())
    }

    /// Removes everything of a group that is no more.
    pub fn remove_group(&self, group: GroupId) -> io::Result<()> {
        let mut state = self.shared.usable()?;
        state.lazy_committed.remove(&group);
        if let Some(mut log) = state.groups.remove(&group) {
            state.cached_bytes -= log.truncate_after(None);
        }
        self.shared.push(state, group, Record::Forget, None);
        Ok(())
    }

    /// The entries with an index in `range` that the log has, until their records reach `bytes_max`; at least one
    /// if there is any. Errors: the file cannot be read, or has changed.
    pub(crate) fn read(
        &self,
        group: GroupId,
        range: Range<u64>,
        bytes_max: u64,
    ) -> io::Result<Vec<LogEntry>> {
        let found = self.find(group, range, bytes_max);
        found
            .into_iter()
            .map(|found| self.shared.resolve(found))
            .collect()
    }

    fn find(&self, group: GroupId, range: Range<u64>, bytes_max: u64) -> Vec<Pinned> {
        let state = self.shared.lock();
        let Some(log) = state.groups.get(&group) else {
            return Vec::new();
        };
        let (mut found, mut bytes) = (Vec::new(), 0);
        for index in range.start.max(log.first())..range.end.min(log.end()) {
            let Some((entry, entry_bytes)) = log.find(index) else {
                break;
            };
            bytes += u64::from(entry_bytes);
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push(state.pin(entry));
        }
        found
    }

    /// Lowest index whose entry may stay when entries up to `upto` shall take at most `bytes`.
    pub(crate) fn keep_from(&self, group: GroupId, upto: u64, bytes: u64) -> u64 {
        self.shared
            .lock()
            .groups
            .get(&group)
            .map_or(0, |log| log.keep_from(upto, bytes))
    }

    /// Writes what is queued, then stops the threads. Later requests fail. Idempotent.
    pub fn close(&self) {
        let closed = std::mem::replace(&mut self.shared.lock().closing, true);
        self.shared.work.notify_one();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let mut threads = threads.into_iter();
        // The writer first: what it still writes may need a spare, and may be the end of some segments.
        match (threads.next(), self.shared.config.written_by) {
            (Some(writer), _) => drop(writer.join()),
            (None, WrittenBy::Task(_)) if !closed => {
                while writer::write_due(&self.writer, &self.shared) {}
            }
            (None, _) => {}
        }
        self.shared.stop_spares();
        for thread in threads {
            thread.join();
        }
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_spares(&self) -> MutexGuard<'_, Spares> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless the log is down.
    fn usable(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.lock();
        match &state.broken {
            Some(why) => Err(io::Error::other(why.clone())),
            None if state.closing => Err(io::Error::other("the log is closed")),
            None => Ok(state),
        }
    }

    fn push(
        &self,
        mut state: MutexGuard<'_, State>,
        group: GroupId,
        record: Record,
        done: Option<Done>,
    ) {
        state.queue.push_back(Request {
            group,
            records: vec![record],
            bytes: SMALL_RECORD_BYTES,
            done,
        });
        self.work.notify_one();
    }

    /// The entry itself. Errors: the file cannot be read, or has changed since the start.
    fn resolve(&self, pinned: Pinned) -> io::Result<LogEntry> {
        let (pos, place, segment) = match pinned {
            Pinned::Cached(entry) => return Ok(entry),
            Pinned::At(pos, place, segment) => (pos, place, segment),
        };
        let bytes = segment.read_stream(place.at as usize, place.bytes as usize)?;
        match record::decode(&bytes.into()) {
            Some((_, Record::Entry(entry) | Record::Copy(entry), _)) if entry.pos == pos => {
                Ok(entry)
            }
            Some(_) | None => {
                let error = WalError::Damaged {
                    path: segment::path(&self.config.dir, place.segment),
                    offset: format::file_offset(place.at as usize) as u64,
                    reason: "an entry's checksum is wrong",
                };
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// After a batch: notes the places of its entries, bounds the cache, gives up the dead segments.
    fn finish(&self, placed: impl Iterator<Item = (GroupId, LogPos, Place)>, dead: &[u64]) {
        let mut state = self.lock();
        for (group, pos, place) in placed {
            let known = state
                .groups
                .get_mut(&group)
                .is_some_and(|log| log.placed(pos, place));
            if known {
                state.cache.push_back((group, pos));
            }
        }
        while state.cached_bytes > self.config.cache_bytes_max
            && let Some((group, pos)) = state.cache.pop_front()
        {
            let freed = state.groups.get_mut(&group).map_or(0, |log| log.evict(pos));
            state.cached_bytes -= freed;
        }
        for segment in dead {
            state.segments.remove(segment);
        }
        self.metrics.segments.set(state.segments.len() as i64);
        drop(state);
        if !dead.is_empty() {
            self.lock_spares().dead.extend(dead);
            self.spares_changed.notify_all();
        }
    }

    /// The log is down: everybody learns it.
    fn fail(&self, error: WalError) {
        tracing::error!(%error, "the write-ahead log failed");
        let mut state = self.lock();
        state.broken = Some(error.to_string());
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        for done in queue.into_iter().filter_map(|request| request.done) {
            done(Err(io::Error::other(error.to_string())));
        }
        self.stop_spares();
        (self.fatal)(&error);
    }

    fn stop_spares(&self) {
        self.lock_spares().stop = true;
        self.spares_changed.notify_all();
    }

    /// The next segment to write. Waits while one is being made; errors: there is no room for one.
    fn take_spare(&self) -> Result<Segment, WalError> {
        let mut spares = self.lock_spares();
        loop {
            if let Some(segment) = spares.ready.pop_front() {
                drop(spares);
                self.spares_changed.notify_all();
                let mut state = self.lock();
                state.segments.insert(segment.number, segment.clone());
                return Ok(segment);
            }
            if spares.full || spares.stop {
                let error = io::Error::from(io::ErrorKind::StorageFull);
                return Err(WalError::io(
                    "find room for another",
                    &self.config.dir,
                    error,
                ));
            }
            spares = self
                .spares_changed
                .wait(spares)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Removes dead segments, keeps the reserve full, and watches the free space.
    fn make_spares(&self) {
        let mut spares = self.lock_spares();
        loop {
            spares = self.keep_spares(spares);
            if spares.stop {
                return;
            }
            let waited = self
                .spares_changed
                .wait_timeout(spares, SPACE_CHECK_INTERVAL);
            spares = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What is to be done now about dead segments, the reserve and the free space.
    fn keep_spares<'a>(&'a self, mut spares: MutexGuard<'a, Spares>) -> MutexGuard<'a, Spares> {
        loop {
            if let Some(number) = spares.dead.pop_front() {
                drop(spares);
                self.remove_segment(number);
                spares = self.lock_spares();
                continue;
            }
            if spares.stop || spares.ready.len() >= self.config.spare_segments {
                break;
            }
            let number = spares.next;
            drop(spares);
            let made = Segment::create(
                &*self.disk,
                &self.config.dir,
                number,
                self.config.segment_bytes,
            );
            spares = self.lock_spares();
            self.spare_made(&mut spares, made);
            self.spares_changed.notify_all();
            if spares.full {
                break;
            }
        }
        self.check_space(&spares);
        spares
    }

    /// One at a time and in order, each durably, so that no crash leaves a gap in the numbers.
    fn remove_segment(&self, number: u64) {
        let path = segment::path(&self.config.dir, number);
        let removed = self
            .disk
            .remove(&path)
            .and_then(|()| self.disk.sync_dir(&self.config.dir));
        if let Err(error) = removed {
            // It is found dead, and removed, after the next start.
            tracing::warn!(path = %path.display(), %error, "cannot remove a segment of the log");
        }
    }

    fn spare_made(&self, spares: &mut Spares, made: Result<Segment, WalError>) {
        match made {
            Ok(segment) => {
                spares.next += 1;
                spares.full = false;
                spares.ready.push_back(segment);
            }
            Err(error) => {
                if !spares.full {
                    tracing::warn!(%error, "no room for another segment of the log");
                }
                spares.full = true;
            }
        }
    }

    fn check_space(&self, spares: &Spares) {
        let free = self.disk.free_bytes(&self.config.dir).unwrap_or(u64::MAX);
        let low = spares.full || free < self.config.free_bytes_min;
        if low != self.disk_low.swap(low, Ordering::Relaxed) {
            if low {
                tracing::warn!(
                    free_bytes = free,
                    "the disk is nearly full: growth is refused"
                );
            } else {
                tracing::info!(free_bytes = free, "the disk has room again");
            }
        }
        self.metrics.low.set(i64::from(low));
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "tests have deadlines of their own"
)]
mod tests;
