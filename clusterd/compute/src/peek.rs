//! Peeks: a read of one arrangement at one timestamp, answered exactly once.

use crate::mailbox::lock;
use crate::render::arrange::compile;
use crate::render::row_mfp::RowMfp;
use crate::traces::TraceEntry;
use crate::types::*;
use differential_dataflow::trace::{Cursor, TraceReader};
use plan::{EvalError, Mfp};
use protocol::compute::{Peek, PeekResponse, PeekRows, Refusal};
use repr::{Diff, GlobalId, Row, RowRef};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Takes the answer, on a worker's thread: it must not block.
pub type Reply = Box<dyn FnOnce(PeekResponse) + Send>;

/// One worker's share of a peek. Dropping it unanswered refuses the peek, so that nobody waits for ever.
pub struct PeekTask {
    pub peek: Arc<Peek>,
    /// The keys that this worker owns, sorted; `None`: all rows.
    pub keys: Option<Vec<Row>>,
    to: Option<ReplyTo>,
}

/// Who takes the answer.
enum ReplyTo {
    /// The peek's only share.
    Whole(Reply, Counted),
    Share(Arc<Gather>),
}

/// Brings the workers' shares together.
struct Gather {
    limit: Option<u64>,
    bytes_max: u64,
    state: Mutex<Gathered>,
}

struct Gathered {
    left: usize,
    rows: Vec<(Row, Diff)>,
    bytes: u64,
    error: Option<EvalError>,
    refusal: Option<Refusal>,
    reply: Option<Reply>,
    counted: Option<Counted>,
}

/// Peeks that have not been answered.
#[derive(Clone, Default)]
pub struct PendingPeeks(Arc<AtomicUsize>);

/// One of them, as long as this lives.
struct Counted(PendingPeeks);

impl PendingPeeks {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PeekTask {
    /// The whole of a peek, for a worker that has no others beside it.
    pub fn whole(mut peek: Peek, reply: Reply, pending: &PendingPeeks) -> PeekTask {
        PeekTask {
            keys: peek.target.keys.take(),
            peek: Arc::new(peek),
            to: Some(ReplyTo::Whole(reply, pending.add())),
        }
    }

    /// The shares of a peek: for each the worker's index and its keys.
    pub fn split(
        peek: Arc<Peek>,
        shares: Vec<(usize, Option<Vec<Row>>)>,
        reply: Reply,
        pending: &PendingPeeks,
    ) -> Vec<(usize, PeekTask)> {
        let gather = Arc::new(Gather {
            limit: peek.limit,
            bytes_max: peek.bytes_max,
            state: Mutex::new(Gathered {
                left: shares.len(),
                rows: vec![],
                bytes: 0,
                error: None,
                refusal: None,
                reply: Some(reply),
                counted: Some(pending.add()),
            }),
        });
        let task = |keys| PeekTask {
            peek: Arc::clone(&peek),
            keys,
            to: Some(ReplyTo::Share(Arc::clone(&gather))),
        };
        shares
            .into_iter()
            .map(|(worker, keys)| (worker, task(keys)))
            .collect()
    }

    pub fn answer(mut self, answer: PeekResponse) {
        self.give(answer);
    }

    fn give(&mut self, answer: PeekResponse) {
        match self.to.take() {
            None => {}
            Some(ReplyTo::Share(gather)) => gather.add(answer),
            Some(ReplyTo::Whole(reply, counted)) => {
                drop(counted);
                reply(match (answer, self.peek.limit) {
                    (PeekResponse::Rows(mut part), Some(limit)) => {
                        cut(&mut part.rows, limit);
                        PeekResponse::Rows(part)
                    }
                    (answer, _) => answer,
                });
            }
        }
    }

    pub fn refuse(self, refusal: Refusal) {
        self.answer(PeekResponse::Refused(refusal));
    }
}

impl Drop for PeekTask {
    fn drop(&mut self) {
        self.give(PeekResponse::Refused(Refusal::Stopping));
    }
}

impl Gather {
    fn add(&self, answer: PeekResponse) {
        let mut state = lock(&self.state);
        match answer {
            PeekResponse::Rows(mut part) => {
                state.bytes += part.rows.iter().map(|(row, _)| row_bytes(row)).sum::<u64>();
                state.rows.append(&mut part.rows);
            }
            PeekResponse::Error(error) => {
                if state.error.as_ref().is_none_or(|e| error < *e) {
                    state.error = Some(error);
                }
            }
            PeekResponse::Refused(refusal) => state.refusal = Some(refusal),
        }
        state.left -= 1;
        if state.left > 0 {
            return;
        }
        let response = match (state.refusal.take(), state.error.take()) {
            (Some(refusal), _) => PeekResponse::Refused(refusal),
            (None, Some(error)) => PeekResponse::Error(error),
            (None, None) if state.bytes > self.bytes_max => {
                PeekResponse::Error(too_large(self.bytes_max))
            }
            (None, None) => {
                let mut rows = std::mem::take(&mut state.rows);
                if let Some(limit) = self.limit {
                    cut(&mut rows, limit);
                }
                PeekResponse::Rows(PeekRows { rows })
            }
        };
        let reply = state.reply.take();
        state.counted = None;
        drop(state);
        if let Some(reply) = reply {
            reply(response);
        }
    }
}

/// What a row counts for in the answer's size limit.
fn row_bytes(row: &Row) -> u64 {
    row.byte_len() as u64 + 16
}

fn too_large(bytes_max: u64) -> EvalError {
    EvalError {
        hint: Some("Add a filter or a limit, or read the result through a cursor.".to_owned()),
        ..EvalError::new("53400", format!("result is larger than {bytes_max} bytes"))
    }
}

/// Keeps rows up to a number of occurrences.
fn cut(rows: &mut Vec<(Row, Diff)>, limit: u64) {
    let mut left = limit;
    rows.retain_mut(|(_, count)| {
        let keep = (*count as u64).min(left);
        left -= keep;
        *count = keep as Diff;
        keep > 0
    });
}

/// Blocks of recent peeks, compiled.
#[derive(Default)]
pub struct MfpCache {
    compiled: HashMap<(GlobalId, usize), (Arc<Mfp>, RowMfp)>,
}

/// Blocks kept compiled. Prepared statements share theirs; others come and go.
const COMPILED_MAX: usize = 256;

impl MfpCache {
    fn get(&mut self, id: GlobalId, mfp: &Arc<Mfp>, trace: &TraceEntry) -> &mut RowMfp {
        if self.compiled.len() > COMPILED_MAX {
            self.compiled.clear();
        }
        // The address names the block as long as the cache holds on to it.
        let key = (id, Arc::as_ptr(mfp) as usize);
        let (_, compiled) = self
            .compiled
            .entry(key)
            .or_insert_with(|| (Arc::clone(mfp), compile(&trace.split, mfp)));
        compiled
    }

    pub fn forget(&mut self, id: GlobalId) {
        self.compiled.retain(|(cached, _), _| *cached != id);
    }
}

/// What one peek has found so far.
struct Answer {
    rows: Vec<(Row, Diff)>,
    count: u64,
    bytes: u64,
    error: Option<EvalError>,
}

impl Answer {
    fn new() -> Self {
        Answer {
            rows: vec![],
            count: 0,
            bytes: 0,
            error: None,
        }
    }

    /// Takes an arranged row that occurs `count` times.
    fn add(&mut self, mfp: &mut RowMfp, parts: &[RowRef<'_>], count: Diff, ts: T) {
        if count < 0 {
            tracing::error!(count, "a row of an arrangement has a negative multiplicity");
            self.fail(EvalError::new("XX000", "a row has a negative multiplicity"));
            return;
        }
        match mfp.evaluate(parts, ts) {
            Ok(Some((row, presence))) if presence.from == ts => {
                self.bytes += row_bytes(&row);
                self.count += count as u64;
                self.rows.push((row, count));
            }
            Ok(_) => {}
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: EvalError) {
        if self.error.as_ref().is_none_or(|e| error < *e) {
            self.error = Some(error);
        }
    }

    /// Nothing that is still to be found can change the answer.
    fn is_full(&self, peek: &Peek) -> bool {
        self.bytes > peek.bytes_max || peek.limit.is_some_and(|limit| self.count >= limit)
    }

    fn into_response(self, peek: &Peek) -> PeekResponse {
        match self.error {
            Some(error) => PeekResponse::Error(error),
            None if self.bytes > peek.bytes_max => PeekResponse::Error(too_large(peek.bytes_max)),
            None => PeekResponse::Rows(PeekRows { rows: self.rows }),
        }
    }
}

/// Answers peeks of one arrangement which is complete at all of their times; lookups of keys in one pass.
pub fn answer(id: GlobalId, trace: &mut TraceEntry, tasks: Vec<PeekTask>, cache: &mut MfpCache) {
    let may_fail = trace.holds_errors();
    let mut lookups = Vec::with_capacity(tasks.len());
    for task in tasks {
        let error = may_fail.then(|| trace.error_at(task.peek.ts)).flatten();
        if let Some(error) = error {
            task.answer(PeekResponse::Error(error));
        } else if task.keys.is_some() {
            lookups.push(task);
        } else {
            let response = scan(id, trace, &task.peek, cache);
            task.answer(response);
        }
    }
    if !lookups.is_empty() {
        look_up(id, trace, lookups, cache);
    }
}

fn look_up(id: GlobalId, trace: &mut TraceEntry, tasks: Vec<PeekTask>, cache: &mut MfpCache) {
    let mut answers: Vec<Answer> = tasks.iter().map(|_| Answer::new()).collect();
    let mut requests: Vec<(&Row, usize)> = tasks
        .iter()
        .enumerate()
        .flat_map(|(i, task)| task.keys.iter().flatten().map(move |key| (key, i)))
        .collect();
    requests.sort_unstable();
    requests.dedup();
    let (mut cursor, storage) = trace.oks.cursor();
    for (key, i) in requests {
        let peek = &tasks[i].peek;
        cursor.seek_key(&storage, key.as_ref());
        if cursor.get_key(&storage) == Some(key.as_ref()) {
            let mfp = cache.get(id, &peek.mfp, trace);
            cursor.rewind_vals(&storage);
            add_key(&mut cursor, &storage, peek, mfp, &mut answers[i]);
        }
    }
    drop((cursor, storage));
    for (task, answer) in tasks.into_iter().zip(answers) {
        let response = answer.into_response(&task.peek);
        task.answer(response);
    }
}

fn scan(id: GlobalId, trace: &mut TraceEntry, peek: &Peek, cache: &mut MfpCache) -> PeekResponse {
    let mut answer = Answer::new();
    let (mut cursor, storage) = trace.oks.cursor();
    let mfp = cache.get(id, &peek.mfp, trace);
    while cursor.key_valid(&storage) && !answer.is_full(peek) {
        add_key(&mut cursor, &storage, peek, mfp, &mut answer);
        cursor.step_key(&storage);
    }
    answer.into_response(peek)
}

/// Adds what the cursor's key holds at the peek's time.
fn add_key<C>(
    cursor: &mut C,
    storage: &C::Storage,
    peek: &Peek,
    mfp: &mut RowMfp,
    answer: &mut Answer,
) where
    C: for<'a> Cursor<
            Key<'a> = RowRef<'a>,
            Val<'a> = RowRef<'a>,
            TimeGat<'a> = &'a T,
            DiffGat<'a> = &'a Diff,
        >,
{
    let key = cursor.key(storage);
    while let Some(value) = cursor.get_val(storage) {
        let mut count = 0;
        cursor.map_times(storage, |time, diff| {
            if *time <= peek.ts {
                count += *diff;
            }
        });
        if count != 0 {
            answer.add(mfp, &[key, value], count, peek.ts);
            if answer.is_full(peek) {
                return;
            }
        }
        cursor.step_val(storage);
    }
}
