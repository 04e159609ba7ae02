//! Clients on the surviving gateways that note when each of their operations began and ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::mesh::Mesh;
use harness::sql::error_text;
use harness::{Sql, sqlstate};
use tokio::task::JoinHandle;

use super::Options;
use crate::mesh::entries::{Entries, Told};

/// No operation may take longer.
const HUNG_AFTER: Duration = Duration::from_secs(30);

/// Numbers of clients that no probe has used yet.
static CLIENTS: AtomicU64 = AtomicU64::new(0);

/// When an operation that succeeded began and ended.
#[derive(Clone, Copy, Debug)]
struct Span {
    begin: Instant,
    end: Instant,
}

/// What one session did.
#[derive(Default)]
struct Log {
    spans: Vec<Span>,
    errors: Vec<String>,
    unknown: usize,
}

/// What the probes saw of one fault.
#[derive(Debug, Default)]
pub struct Seen {
    /// From the fault to the end of the first strict SELECT begun after it, for the probe that waited longest. Of the table, and of the view.
    pub table_read: Duration,
    pub view_read: Duration,
    /// The same for a write.
    pub write: Duration,
    /// Longest time between the ends of two writes of one probe, one of them after the fault.
    pub write_gap: Duration,
    pub reads: usize,
    pub writes: usize,
    pub unknown: usize,
    pub read_errors: Vec<String>,
    pub write_errors: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    TableRead,
    ViewRead,
    Write,
}

/// Probes and load under way.
pub struct Probes {
    stopped: Arc<AtomicBool>,
    probes: Vec<(Kind, JoinHandle<Log>)>,
    load: Vec<JoinHandle<Log>>,
}

impl Probes {
    /// Starts probes and load on the gateways at these places. Each probe has a session for each kind of operation.
    ///
    /// # Errors
    /// If a gateway takes no session.
    pub async fn start(
        options: &Options,
        mesh: &Mesh,
        places: &[usize],
        entries: &Arc<Entries>,
    ) -> Result<Probes> {
        let stopped = Arc::new(AtomicBool::new(false));
        let every = Duration::from_millis(options.every_ms);
        let (mut probes, mut load) = (Vec::new(), Vec::new());
        for number in 0..options.probes {
            let place = places[number % places.len()];
            for kind in [Kind::TableRead, Kind::ViewRead, Kind::Write] {
                let session = Session::open(mesh, place, kind, entries).await?;
                probes.push((kind, tokio::spawn(session.run(every, Arc::clone(&stopped)))));
            }
        }
        for number in 0..options.load {
            let place = places[number % places.len()];
            let kind = [Kind::Write, Kind::TableRead, Kind::Write, Kind::ViewRead][number % 4];
            let session = Session::open(mesh, place, kind, entries).await?;
            load.push(tokio::spawn(
                session.run(Duration::ZERO, Arc::clone(&stopped)),
            ));
        }
        Ok(Probes {
            stopped,
            probes,
            load,
        })
    }

    /// Ends all of them; what they saw of a fault at this moment.
    ///
    /// # Errors
    /// If a session did nothing after the fault.
    pub async fn stop(self, fault: Instant) -> Result<Seen> {
        self.stopped.store(true, Ordering::Relaxed);
        let mut seen = Seen::default();
        for (kind, probe) in self.probes {
            let log = probe.await.context("a probe")?;
            let wait = log.first_after(fault);
            let wait = wait.with_context(|| {
                format!("a probe did nothing after the fault: {:?}", log.errors)
            })?;
            match kind {
                Kind::TableRead => seen.table_read = seen.table_read.max(wait),
                Kind::ViewRead => seen.view_read = seen.view_read.max(wait),
                Kind::Write => {
                    seen.write = seen.write.max(wait);
                    seen.write_gap = seen.write_gap.max(log.longest_gap(fault));
                }
            }
            seen.add(kind, log);
        }
        for load in self.load {
            let log = load.await.context("a load session")?;
            (seen.reads, seen.unknown) = (seen.reads + log.spans.len(), seen.unknown + log.unknown);
        }
        Ok(seen)
    }
}

impl Seen {
    fn add(&mut self, kind: Kind, log: Log) {
        match kind {
            Kind::TableRead | Kind::ViewRead => {
                self.reads += log.spans.len();
                self.read_errors.extend(log.errors);
            }
            Kind::Write => {
                self.writes += log.spans.len();
                self.unknown += log.unknown;
                self.write_errors.extend(log.errors);
            }
        }
    }
}

impl Log {
    fn first_after(&self, fault: Instant) -> Option<Duration> {
        let first = self.spans.iter().find(|span| span.begin >= fault)?;
        Some(first.end.duration_since(fault))
    }

    fn longest_gap(&self, fault: Instant) -> Duration {
        let pairs = self.spans.windows(2).filter(|pair| pair[1].end > fault);
        let gaps = pairs.map(|pair| pair[1].end.duration_since(pair[0].end));
        gaps.max().unwrap_or(Duration::MAX)
    }
}

/// One session that does one kind of thing.
struct Session {
    sql: Sql,
    kind: Kind,
    client: u64,
    entries: Arc<Entries>,
}

impl Session {
    async fn open(
        mesh: &Mesh,
        place: usize,
        kind: Kind,
        entries: &Arc<Entries>,
    ) -> Result<Session> {
        Ok(Session {
            sql: mesh.sql(place).await?,
            kind,
            client: CLIENTS.fetch_add(1, Ordering::Relaxed),
            entries: Arc::clone(entries),
        })
    }

    async fn run(self, every: Duration, stopped: Arc<AtomicBool>) -> Log {
        let mut log = Log::default();
        let mut tick = tokio::time::interval(every.max(Duration::from_micros(1)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for seq in 0.. {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            if !every.is_zero() {
                tick.tick().await;
            }
            if !self.once(seq, &mut log).await {
                break;
            }
        }
        log
    }

    /// One operation; whether the session can go on.
    async fn once(&self, seq: u64, log: &mut Log) -> bool {
        let text = match self.kind {
            Kind::TableRead => format!("select v from kv where id = {}", seq * 31 % 10_000),
            Kind::ViewRead => format!("select s, n from {} where k = {}", super::VIEW, seq % 100),
            Kind::Write => format!("insert into entry values ({}, {seq})", self.client),
        };
        let begin = Instant::now();
        let done = tokio::time::timeout(HUNG_AFTER, self.sql.run(&text)).await;
        let end = Instant::now();
        let (told, error) = match done {
            Ok(Ok(())) => {
                log.spans.push(Span { begin, end });
                (Told::Acknowledged, None)
            }
            Ok(Err(error)) if ["08007", "40003"].contains(&sqlstate(&error).as_str()) => {
                log.unknown += 1;
                (Told::Unknown, None)
            }
            Ok(Err(error)) if error.as_db_error().is_some() => {
                (Told::Refused, Some(error_text(&error)))
            }
            Ok(Err(error)) => (Told::Unknown, Some(error.to_string())),
            Err(_) => (
                Told::Unknown,
                Some(format!("no answer within {HUNG_AFTER:?}")),
            ),
        };
        if self.kind == Kind::Write {
            self.entries.tell(self.client, seq, told);
        }
        log.errors.extend(error);
        !self.sql.is_closed() && log.errors.len() < 100
    }
}
