//! The log against a disk that loses, tears, reorders, fails and fills up, and against every flipped byte.

use std::path::Path;
use std::sync::mpsc;

use bytes::Bytes;
use host::sim::{CrashStyle, Faults, SimDisk, SimRng};
use host::{Host, OpenMode, RealDisk, Rng};

use super::*;

const DIR: &str = "/wal";

fn config() -> WalConfig {
    WalConfig {
        segment_bytes: 32 << 10,
        segments_max: 3,
        cache_bytes_max: 8 << 10,
        replay_bytes_max: 8 << 10,
        free_bytes_min: 0,
        ..WalConfig::new(DIR)
    }
}

fn open_with(disk: &SimDisk, config: WalConfig) -> Result<Arc<Wal>, WalError> {
    let host = Host {
        disk: Arc::new(disk.clone()),
        ..Host::real()
    };
    // The tests kill the disk under the log, so its failure is no news.
    Wal::open(&host, config, Arc::new(|_| ()))
}

fn open(disk: &SimDisk) -> Result<Arc<Wal>, WalError> {
    open_with(disk, config())
}

fn entry(term: u64, index: u64, payload: Vec<u8>) -> LogEntry {
    LogEntry {
        pos: LogPos { term, index },
        kind: EntryKind::Normal,
        payload: payload.into(),
    }
}

/// Appends and waits until it is durable.
fn append(wal: &Wal, group: GroupId, entries: Vec<LogEntry>) -> io::Result<()> {
    let (done, durable) = mpsc::channel();
    wal.append(
        group,
        entries,
        Box::new(move |result| drop(done.send(result))),
    )?;
    durable.recv().expect("answered")
}

/// The same, written by this thread if possible.
fn append_now(wal: &Wal, group: GroupId, entries: Vec<LogEntry>) -> io::Result<()> {
    let (done, durable) = mpsc::channel();
    wal.append_now(
        group,
        entries,
        Box::new(move |result| drop(done.send(result))),
    )?;
    durable.recv().expect("answered")
}

fn vote(wal: &Wal, group: GroupId, term: u64) -> io::Result<()> {
    let (done, durable) = mpsc::channel();
    let vote = StoredVote {
        term,
        node: 1,
        committed: false,
    };
    wal.vote(group, vote, Box::new(move |result| drop(done.send(result))))?;
    durable.recv().expect("answered")
}

/// What a group should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    vote: Option<StoredVote>,
    purged: Option<LogPos>,
    entries: Vec<LogEntry>,
}

impl Model {
    fn of(wal: &Wal, group: GroupId) -> Model {
        let GroupState { vote, purged, .. } = wal.state(group);
        Model {
            vote,
            purged,
            entries: wal.read(group, 0..u64::MAX, u64::MAX).expect("readable"),
        }
    }

    /// Whether this is a state on the way from `before` to `after`: entries appended together may spread over batches.
    fn is_between(&self, before: &Model, after: &Model) -> bool {
        let same = |m: &Model| (m.vote, m.purged) == (self.vote, self.purged);
        let grows =
            self.entries.starts_with(&before.entries) && after.entries.starts_with(&self.entries);
        same(before) && same(after) && grows
    }

    fn next(&self) -> u64 {
        self.entries
            .last()
            .map(|e| e.pos)
            .or(self.purged)
            .map_or(0, |pos| pos.index + 1)
    }
}

/// A group under test: every state it has been in, and which of them are acknowledged.
struct History {
    group: GroupId,
    states: Vec<Model>,
    acked: usize,
    /// Number of the last state noted with a callback.
    asked: usize,
    answered: usize,
    acks: mpsc::Receiver<(usize, bool)>,
    ack: mpsc::Sender<(usize, bool)>,
}

impl History {
    fn new(group: GroupId, start: Model) -> History {
        let (ack, acks) = mpsc::channel();
        History {
            group,
            states: vec![start],
            acked: 0,
            asked: 0,
            answered: 0,
            acks,
            ack,
        }
    }

    fn last(&self) -> Model {
        self.states.last().expect("never empty").clone()
    }

    /// Notes a state, acknowledged when the callback says so.
    fn note(&mut self, state: Model) -> Done {
        self.states.push(state);
        let (ack, number) = (self.ack.clone(), self.states.len() - 1);
        self.asked = number;
        // The test may have ended before the answer comes.
        Box::new(move |result| {
            let _ = ack.send((number, result.is_ok()));
        })
    }

    /// A request that was refused gets no answer.
    fn ask(&mut self, asked: io::Result<()>) -> io::Result<()> {
        if asked.is_err() {
            self.asked = self.answered;
        }
        asked
    }

    fn collect(&mut self) {
        while let Ok(answer) = self.acks.try_recv() {
            self.take(answer);
        }
    }

    fn take(&mut self, (number, durable): (usize, bool)) {
        assert!(number > self.answered, "answered in order");
        self.answered = number;
        if durable {
            self.acked = number;
        }
    }

    /// Waits for the last answer asked for.
    fn wait(&mut self) {
        while self.answered < self.asked {
            let answer = self.acks.recv().expect("every request is answered");
            self.take(answer);
        }
    }

    fn random_step(&mut self, wal: &Wal, rng: &SimRng) -> io::Result<()> {
        let mut state = self.last();
        let next = state.next();
        match rng.below(20) {
            0 => {
                let vote = StoredVote {
                    term: next,
                    node: rng.below(3),
                    committed: rng.below(2) == 0,
                };
                state.vote = Some(vote);
                let done = self.note(state);
                self.ask(wal.vote(self.group, vote, done))
            }
            1 if !state.entries.is_empty() => {
                state
                    .entries
                    .truncate(rng.below(state.entries.len() as u64 + 1) as usize);
                let after = state.next().checked_sub(1);
                self.states.push(state);
                wal.truncate_after(self.group, after)
            }
            2 | 3 if !state.entries.is_empty() => {
                let n = rng.below(state.entries.len() as u64) as usize;
                let upto = state.entries[n].pos;
                state.purged = Some(upto);
                state.entries.drain(..=n);
                self.states.push(state);
                wal.purge(self.group, upto)
            }
            4 => match state.entries.last() {
                Some(last) => wal.committed(self.group, last.pos),
                None => Ok(()),
            },
            _ => {
                let sizes = [0, 10, 100, 500, 600, 3_000];
                let entries: Vec<_> = (0..1 + rng.below(3))
                    .map(|i| {
                        let size = sizes[rng.below(sizes.len() as u64) as usize];
                        // Zeros are what a lost sector reads as.
                        let byte = rng.below(3) as u8;
                        entry(self.states.len() as u64, next + i, vec![byte; size])
                    })
                    .collect();
                state.entries.extend(entries.iter().cloned());
                let done = self.note(state);
                self.ask(wal.append(self.group, entries, done))
            }
        }
    }
}

/// Lives of a log on one disk, each ended by a crash at a random call. After each, every group is in a state it has
/// been in, and not before the last acknowledged one.
fn crash_lives(seed: u64, style: CrashStyle) {
    let rng = SimRng::new(seed);
    let disk = SimDisk::new(seed);
    let mut models = vec![Model::default(); 3];
    for _ in 0..4 {
        let wal = match open(&disk) {
            Ok(wal) => wal,
            Err(error) => panic!("seed {seed} {style:?}: {error}"),
        };
        disk.set_faults(Faults {
            calls_until_death: Some(rng.below(60)),
            ..Faults::default()
        });
        let mut histories: Vec<_> = models
            .iter()
            .enumerate()
            .map(|(i, m)| History::new(GroupId(i as u64), m.clone()))
            .collect();
        for _ in 0..120 {
            let history = &mut histories[rng.below(3) as usize];
            if history.random_step(&wal, &rng).is_err() {
                break;
            }
            if rng.below(6) == 0 {
                history.wait();
            }
        }
        wal.close();
        histories.iter_mut().for_each(History::collect);
        drop(wal);
        disk.crash(style);
        let wal = open(&disk).unwrap_or_else(|error| panic!("seed {seed} {style:?}: {error}"));
        for (model, history) in models.iter_mut().zip(histories) {
            let found = Model::of(&wal, history.group);
            let allowed = &history.states[history.acked..];
            assert!(
                allowed.contains(&found)
                    || allowed.windows(2).any(|w| found.is_between(&w[0], &w[1])),
                "seed {seed} {style:?} group {}: acknowledged up to {} of {}, found {:?}",
                history.group.0,
                history.acked,
                history.states.len(),
                history.states.iter().position(|s| *s == found),
            );
            *model = found;
        }
        wal.close();
    }
}

/// The first `count` seeds, or as many as the environment variable CRASH_SEEDS asks for.
fn seeds(count: u64) -> Range<u64> {
    let asked = std::env::var("CRASH_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok());
    0..asked.unwrap_or(count)
}

#[tokio::test]
async fn a_killed_process_loses_nothing_acknowledged() {
    seeds(40).for_each(|seed| crash_lives(seed, CrashStyle::Kill));
}

#[tokio::test]
async fn power_loss_loses_nothing_acknowledged() {
    seeds(40).for_each(|seed| crash_lives(seed, CrashStyle::PowerInOrder));
}

#[tokio::test]
async fn power_loss_with_reordered_sectors_loses_nothing_acknowledged() {
    seeds(80).for_each(|seed| crash_lives(seed, CrashStyle::PowerReordered));
}

/// A log of several segments, of two groups, with a purge, a truncation and copies in it.
fn sample(disk: &SimDisk) {
    let wal = open(disk).unwrap();
    let (slow, busy) = (GroupId(1), GroupId(2));
    append(
        &wal,
        slow,
        (0..5).map(|i| entry(1, i, vec![3; 40])).collect(),
    )
    .unwrap();
    for i in 0..120 {
        append(&wal, busy, vec![entry(2, i, vec![i as u8; 1_000])]).unwrap();
        if i % 20 == 19 && i > 60 {
            wal.purge(
                busy,
                LogPos {
                    term: 2,
                    index: i - 60,
                },
            )
            .unwrap();
        }
    }
    wal.truncate_after(busy, Some(117)).unwrap();
    append(
        &wal,
        busy,
        vec![entry(3, 118, vec![9; 900]), entry(3, 119, vec![0; 700])],
    )
    .unwrap();
    vote(&wal, slow, 7).unwrap();
    append(&wal, slow, vec![entry(3, 5, vec![0; 600])]).unwrap();
    wal.close();
}

type Records = Vec<(GroupId, Record)>;

/// What the log on `disk` says, and where it ends: segment and file offset.
fn read_log(disk: &SimDisk) -> Result<(Records, u64, usize), WalError> {
    let (mut records, mut replay) = (Vec::new(), Replay::new(4 << 10));
    let tail = scan::scan(
        disk,
        Path::new(DIR),
        false,
        &mut |group, record, place, body| {
            records.push((group, record.clone()));
            replay.record(group, record, place, body)
        },
    )?;
    replay.finish(Path::new(DIR))?;
    let tail = tail.expect("there is a log");
    let last = tail.segments.last().expect("a segment").number;
    Ok((records, last, format::file_offset(tail.at)))
}

#[tokio::test]
async fn every_flipped_byte_below_the_end_is_refused_or_harmless() {
    let disk = SimDisk::new(1);
    sample(&disk);
    let (records, last, end) = read_log(&disk.fork(0)).unwrap();
    let rng = SimRng::new(9);
    let (mut refused, mut harmless) = (0, 0);
    for name in disk.list(Path::new(DIR)).unwrap() {
        let number = segment::number(&name).unwrap();
        if number > last {
            continue;
        }
        let written = if number == last { end } else { 32 << 10 };
        let path = Path::new(DIR).join(&name);
        for at in 0..written {
            // All of the last segment, where a torn tail could be mistaken, and a sample of the others.
            if number != last && at > 200 && rng.below(20) != 0 {
                continue;
            }
            let mask = if at % 3 == 0 {
                disk.read(&path).unwrap()[at]
            } else {
                1 << rng.below(8)
            };
            let fork = disk.fork(0);
            // A mask equal to the byte turns it into zero, the likeliest mimicry of an unwritten byte.
            fork.flip(&path, at as u64, mask).unwrap();
            match read_log(&fork) {
                Ok((found, ..)) => {
                    assert_eq!(found, records, "flip of {at} in {name}");
                    harmless += 1;
                }
                Err(WalError::Damaged {
                    path: told, offset, ..
                }) => {
                    assert_eq!(told, path);
                    assert!(offset <= at as u64, "told {offset}, flipped {at}");
                    refused += 1;
                }
                Err(other) => panic!("flip of {at} in {name}: {other}"),
            }
        }
    }
    assert!(refused > 1_000, "{refused} refused, {harmless} harmless");
}

#[tokio::test]
async fn a_complete_last_batch_that_is_bad_is_not_a_torn_tail() {
    let disk = SimDisk::new(1);
    let wal = open(&disk).unwrap();
    append(&wal, GroupId(0), vec![entry(1, 0, vec![1; 100])]).unwrap();
    append(&wal, GroupId(0), vec![entry(1, 1, vec![2; 100])]).unwrap();
    wal.close();
    let (records, last, end) = read_log(&disk.fork(0)).unwrap();
    let path = segment::path(Path::new(DIR), last);
    let fork = disk.fork(0);
    fork.flip(&path, end as u64 - 20, 0xff).unwrap();
    let error = open(&fork).err().expect("refused").to_string();
    assert!(
        error.contains(path.to_str().unwrap()) && error.contains("at byte"),
        "{error}"
    );
    // Cut short, as by a crash while it was written, it is cut off.
    for cut in [1, 8, 9, 60, 150] {
        let fork = disk.fork(0);
        let file = fork.open(&path, OpenMode::Write).unwrap();
        file.write_at((end - cut) as u64, &vec![0; cut]).unwrap();
        let (found, ..) = read_log(&fork).unwrap();
        // Only the end mark is missing: the batch itself is whole.
        let expected = if cut <= 8 {
            records.len()
        } else {
            records.len() - 1
        };
        assert_eq!(found, records[..expected], "cut {cut}");
    }
}

#[tokio::test]
async fn a_log_that_was_there_is_not_begun_anew() {
    let disk = SimDisk::new(1);
    let wal = open(&disk).unwrap();
    append(&wal, GroupId(0), vec![entry(1, 0, vec![1; 100])]).unwrap();
    wal.close();
    let path = segment::path(Path::new(DIR), 1);
    disk.open(&path, OpenMode::Write)
        .unwrap()
        .write_at(0, &[0; 512])
        .unwrap();
    let before = disk.read(&path).unwrap();
    let host = Host {
        disk: Arc::new(disk.clone()),
        ..Host::real()
    };
    let config = WalConfig {
        expected: true,
        ..WalConfig::new(DIR)
    };
    let error = Wal::open(&host, config, Arc::new(|_| {}))
        .err()
        .expect("refused");
    assert!(
        error.to_string().contains("the segment header is gone"),
        "{error}"
    );
    assert_eq!(disk.read(&path).unwrap(), before, "nothing was touched");
}

#[tokio::test]
async fn missing_and_foreign_segments_are_refused() {
    let disk = SimDisk::new(1);
    sample(&disk);
    let names: Vec<_> = disk
        .list(Path::new(DIR))
        .unwrap()
        .into_iter()
        .filter_map(|n| segment::number(&n))
        .collect();
    let (_, last, _) = read_log(&disk.fork(0)).unwrap();
    assert!(names[0] + 1 < last, "several segments are in use");
    for missing in names[0]..last {
        let fork = disk.fork(0);
        fork.remove(&segment::path(Path::new(DIR), missing))
            .unwrap();
        assert!(read_log(&fork).is_err(), "segment {missing} is missing");
    }
    let (other, fork) = (SimDisk::new(2), disk.fork(0));
    sample(&other);
    let path = segment::path(Path::new(DIR), last);
    let foreign = other.read(&path).unwrap();
    fork.open(&path, OpenMode::Write)
        .unwrap()
        .write_at(0, &foreign)
        .unwrap();
    let error = read_log(&fork).expect_err("refused").to_string();
    assert!(error.contains("belongs to another log"), "{error}");
}

#[tokio::test]
async fn slow_groups_do_not_pin_the_log() {
    let disk = SimDisk::new(1);
    let (slow, busy, gone) = (GroupId(1), GroupId(2), GroupId(3));
    let wal = open(&disk).unwrap();
    append(
        &wal,
        slow,
        (0..10).map(|i| entry(1, i, vec![4; 50])).collect(),
    )
    .unwrap();
    append(
        &wal,
        gone,
        (0..10).map(|i| entry(1, i, vec![5; 500])).collect(),
    )
    .unwrap();
    vote(&wal, slow, 9).unwrap();
    let expected = Model::of(&wal, slow);
    wal.remove_group(gone).unwrap();
    for i in 0..400 {
        append(&wal, busy, vec![entry(2, i, vec![6; 1_000])]).unwrap();
        wal.purge(
            busy,
            LogPos {
                term: 2,
                index: i.saturating_sub(3),
            },
        )
        .unwrap();
    }
    // 400 KiB went through segments of 32 KiB.
    append(&wal, busy, vec![entry(2, 400, vec![])]).unwrap();
    assert!(wal.segments() <= 5, "{} segments", wal.segments());
    assert_eq!(Model::of(&wal, slow), expected);
    wal.close();
    disk.crash(CrashStyle::PowerInOrder);
    let wal = open(&disk).unwrap();
    assert_eq!(Model::of(&wal, slow), expected);
    assert_eq!(
        wal.state(busy).last,
        Some(LogPos {
            term: 2,
            index: 400
        })
    );
    assert_eq!(wal.groups(), vec![slow, busy]);
    append(&wal, gone, vec![entry(5, 0, vec![1])]).unwrap();
    wal.close();
}

#[tokio::test]
async fn a_full_disk_is_low_and_still_takes_votes() {
    let disk = SimDisk::new(1);
    let group = GroupId(0);
    let wal = open(&disk).unwrap();
    wait(|| disk.used_bytes() == 3 * (32 << 10));
    assert!(!wal.disk_low());
    disk.set_capacity(Some(disk.used_bytes()));
    let mut index = 0;
    while wal.segments() < 2 {
        append(&wal, group, vec![entry(1, index, vec![1; 2_000])]).unwrap();
        index += 1;
    }
    // One of the two segments in reserve is in use, and no other can be made.
    wait(|| wal.disk_low());
    for term in 2..20 {
        vote(&wal, group, term).unwrap();
    }
    wal.purge(
        group,
        LogPos {
            term: 1,
            index: index - 1,
        },
    )
    .unwrap();
    append(&wal, group, vec![entry(20, index, vec![])]).unwrap();
    disk.set_capacity(None);
    wait(|| !wal.disk_low());
    wal.close();
    let wal = open(&disk).unwrap();
    assert_eq!(wal.state(group).last, Some(LogPos { term: 20, index }));
    wal.close();
}

#[tokio::test]
async fn failed_writes_and_syncs_end_the_log_and_acknowledge_nothing() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let group = GroupId(0);
        let fatal = Arc::new(AtomicBool::new(false));
        let told = fatal.clone();
        let host = Host {
            disk: Arc::new(disk.clone()),
            ..Host::real()
        };
        let wal = Wal::open(
            &host,
            config(),
            Arc::new(move |_| told.store(true, Ordering::Relaxed)),
        )
        .unwrap();
        append(&wal, group, vec![entry(1, 0, vec![1; 700])]).unwrap();
        wait(|| wal.shared.lock_spares().ready.len() == 2);
        disk.set_faults(match seed % 2 {
            0 => Faults {
                syncs_until_error: Some(0),
                ..Faults::default()
            },
            _ => Faults {
                writes_until_error: Some(0),
                ..Faults::default()
            },
        });
        let append = if seed % 4 < 2 { append } else { append_now };
        assert!(append(&wal, group, vec![entry(1, 1, vec![2; 700])]).is_err());
        // The fault is over, but nothing may be written behind what failed, not even before everybody has learnt of it.
        disk.set_faults(Faults::default());
        let refused = wal.writer.try_lock().map(|writer| writer.broken);
        assert!(refused.unwrap_or(true), "the writer goes on");
        assert!(
            append(&wal, group, vec![entry(1, 2, vec![2; 700])]).is_err(),
            "it stays down"
        );
        wait(|| fatal.load(Ordering::Relaxed));
        wal.close();
        disk.crash(CrashStyle::PowerInOrder);
        let wal = open(&disk).unwrap();
        let last = wal.state(group).last.unwrap().index;
        // Of a write that failed, all may have reached the disk; an acknowledged entry has.
        assert!(last <= 1, "seed {seed}: {last}");
        wal.close();
    }
}

#[tokio::test]
async fn an_entry_that_changed_on_disk_is_not_handed_out() {
    let disk = SimDisk::new(1);
    let group = GroupId(0);
    let wal = open_with(
        &disk,
        WalConfig {
            cache_bytes_max: 0,
            replay_bytes_max: 0,
            ..config()
        },
    )
    .unwrap();
    append(&wal, group, vec![entry(1, 0, vec![1; 700])]).unwrap();
    append(&wal, group, vec![entry(1, 1, vec![2; 700])]).unwrap();
    wait(|| wal.shared.lock().cached_bytes == 0);
    assert_eq!(wal.read(group, 0..2, u64::MAX).unwrap().len(), 2);
    disk.flip(&segment::path(Path::new(DIR), 1), 400, 1)
        .unwrap();
    let error = wal.read(group, 0..2, u64::MAX).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("is damaged at byte"), "{error}");
    assert_eq!(
        wal.read(group, 1..2, u64::MAX).unwrap()[0].payload,
        Bytes::from(vec![2; 700])
    );
    wal.close();
}

#[tokio::test]
async fn a_start_reads_the_newest_entries_only_once() {
    let disk = SimDisk::new(1);
    let (group, other) = (GroupId(0), GroupId(7));
    let wal = open(&disk).unwrap();
    for index in 0..30 {
        append(&wal, group, vec![entry(1, index, vec![1; 700])]).unwrap();
    }
    append(&wal, other, vec![entry(1, 0, vec![2; 700])]).unwrap();
    wal.truncate_after(group, Some(27)).unwrap();
    append(&wal, group, vec![entry(2, 28, vec![3; 700])]).unwrap();
    wal.close();
    let wal = open(&disk).unwrap();
    let cached = {
        let state = wal.shared.lock();
        assert!(
            (6 << 10..=8 << 10).contains(&state.cached_bytes),
            "{}",
            state.cached_bytes
        );
        state.cached_bytes / 734
    };
    // What was in memory does not come from the file, and what was not does.
    for at in (0..30 << 10).step_by(64) {
        disk.flip(&segment::path(Path::new(DIR), 1), at, 1).unwrap();
    }
    assert_eq!(wal.read(other, 0..1, u64::MAX).unwrap()[0].payload[0], 2);
    let newest = 29 - (cached - 1)..29;
    let read = wal.read(group, newest, u64::MAX).unwrap();
    assert_eq!(read.last().unwrap(), &entry(2, 28, vec![3; 700]));
    assert!(wal.read(group, 5..6, u64::MAX).is_err());
    // And it is let go of like any other.
    wal.purge(group, LogPos { term: 2, index: 28 }).unwrap();
    wal.truncate_after(other, None).unwrap();
    wait(|| wal.shared.lock().cached_bytes == 0);
    wal.close();
}

/// Waits for a condition, with a deadline.
fn wait(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(
            std::time::Instant::now() < deadline,
            "the condition does not come true"
        );
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn zeros_go_ahead_of_small_batches_and_mean_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = || WalConfig {
        segment_bytes: 1 << 20,
        ..WalConfig::new(dir.path())
    };
    let open = || Wal::open(&Host::real(), config(), Arc::new(|_| ())).unwrap();
    let written = || {
        let file = RealDisk.open(&segment::path(dir.path(), 1), OpenMode::Read);
        file.unwrap().data_end().unwrap()
    };
    let (group, step) = (GroupId(7), 256 << 10);
    let mut model = Vec::new();
    let mut put = |wal: &Wal, bytes: usize| {
        let entry = entry(1, model.len() as u64, vec![1; bytes]);
        append(wal, group, vec![entry.clone()]).unwrap();
        model.push(entry);
        model.clone()
    };
    let wal = open();
    put(&wal, 10);
    // File systems that do not tell holes from zeros say so at once.
    if written() == 1 << 20 {
        return;
    }
    assert_eq!(written(), step);
    put(&wal, 60 << 10);
    assert_eq!(written(), step, "there were zeros already");
    // A large one brings none; what is small again brings the next.
    put(&wal, 200 << 10);
    let model = put(&wal, 10);
    assert_eq!(written(), 2 * step);
    drop(wal);
    let wal = open();
    assert_eq!(wal.read(group, 0..u64::MAX, u64::MAX).unwrap(), model);
    let model = put(&wal, 10);
    drop(wal);
    assert_eq!(open().read(group, 0..u64::MAX, u64::MAX).unwrap(), model);
}
