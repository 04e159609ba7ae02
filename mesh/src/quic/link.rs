//! One lane to one peer, as the side sees it that sends requests.
//!
//! A link lives as long as the peer is known, through any number of connections. Its supervisor connects, carries frames both ways until the
//! connection ends, fails what waited for answers, and connects again. While the last try to connect has failed, requests fail at once.

mod dial;

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use protocol::{Kind, Lane};
use quinn::{Connection, RecvStream, SendStream};
use repr::NodeId;
use tokio::sync::{Notify, oneshot};

use super::Shared;
use super::frame::{Decoder, Frame, FrameError, SMALL_FRAME_BYTES_MAX, frame_limit};
use super::hello::{CLOSED_MALFORMED, CLOSED_STOPPING};
use super::pump;
use super::queue::{Batch, Large, Queue};
use crate::stats::Counters;
use crate::stream::pipe;
use crate::{CallError, LinkStats, Message, Stream};

type Answer = Result<Bytes, CallError>;

pub(super) struct Link {
    to: NodeId,
    lane: Lane,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    state: Mutex<State>,
    /// Something waits to be written.
    wake: Notify,
    /// The phase changed.
    changed: Notify,
    /// The peer gave a sign of life: try again now.
    kick: Notify,
}

struct State {
    phase: Phase,
    queue: Queue,
    /// Calls without an answer yet. Ids are never used twice, so that a late answer cannot meet a wrong call.
    pending: HashMap<u64, oneshot::Sender<Answer>>,
    next_id: u64,
    last_error: Option<String>,
}

enum Phase {
    /// The first try, or the first after a connection was lost: requests wait.
    Connecting,
    Up(Connection),
    /// The last try failed: requests fail.
    Down(CallError),
    /// For good.
    Over(CallError),
}

impl Link {
    /// Makes the link and starts its supervisor.
    pub(super) fn start(shared: &Arc<Shared>, to: NodeId, lane: Lane) -> Arc<Link> {
        let link = Arc::new(Link {
            to,
            lane,
            shared: shared.clone(),
            counters: shared.peers.counters(to, lane),
            state: Mutex::new(State {
                phase: Phase::Connecting,
                queue: Queue::default(),
                pending: HashMap::new(),
                next_id: 1,
                last_error: None,
            }),
            wake: Notify::new(),
            changed: Notify::new(),
            kick: Notify::new(),
        });
        let supervisor = Box::pin(link.clone().supervise());
        shared.host.spawn.spawn("mesh-link", supervisor);
        link
    }

    pub(super) async fn call(self: Arc<Link>, message: Message, timeout: Duration) -> Answer {
        let mut waiting = self.begin(message, timeout)?;
        let answer = tokio::select! {
            biased;
            answer = &mut waiting.answer => answer,
            () = self.shared.host.clock.sleep(timeout) => {
                self.failed();
                return Err(CallError::Deadline { to: self.to });
            }
        };
        waiting.answered = true;
        answer.unwrap_or_else(|_| Err(self.lost(&CallError::Closed.to_string().into())))
    }

    pub(super) fn send(&self, message: Message) -> Result<(), CallError> {
        let Message {
            lane: _,
            kind,
            body,
        } = message;
        let mut state = self.admit(body.len())?;
        state.queue.push(Frame::OneWay { kind, body });
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    pub(super) async fn open(
        self: Arc<Link>,
        message: Message,
        timeout: Duration,
    ) -> Result<Stream, CallError> {
        Counters::add(&self.counters.requests_sent, 1);
        let clock = self.shared.host.clock.clone();
        let opened = tokio::select! {
            biased;
            opened = self.open_now(message) => opened,
            () = clock.sleep(timeout) => Err(CallError::Deadline { to: self.to }),
        };
        opened.inspect_err(|_| self.failed())
    }

    async fn open_now(&self, message: Message) -> Result<Stream, CallError> {
        let Message {
            lane: _,
            kind,
            body,
        } = message;
        self.check_length(body.len())?;
        let connection = self.connection().await?;
        let opened = connection.open_bi().await;
        let (mut send, recv) = opened.map_err(|error| self.lost(&error.into()))?;
        let mut head = bytes::BytesMut::new();
        let body = Frame::Open { kind, body }.encode_head(&mut head);
        let chunks = &mut [head.freeze(), body];
        Counters::add(&self.counters.bytes_sent, chunks[0].len() + chunks[1].len());
        let mut opening = Opening {
            send: &mut send,
            written: false,
        };
        let written = opening.send.write_all_chunks(chunks).await;
        written.map_err(|error| self.lost(&error.to_string().into()))?;
        opening.written = true;
        drop(opening);
        Ok(self.pumped(connection, send, recv))
    }

    fn pumped(&self, connection: Connection, send: SendStream, recv: RecvStream) -> Stream {
        let (sender, to_peer) = pipe();
        let (from_peer, receiver) = pipe();
        let spawn = &self.shared.host.spawn;
        let outward = pump::outward(to_peer, send, self.counters.clone());
        spawn.spawn("mesh-stream-out", Box::pin(outward));
        let decoder = Decoder::new(frame_limit(crate::STREAM_FRAME_BYTES_MAX));
        let inward = pump::inward(decoder, recv, from_peer, self.counters.clone());
        let to = self.to;
        let work = async move {
            if let Err(error) = inward.await {
                close_malformed(to, &connection, &error);
            }
        };
        spawn.spawn("mesh-stream-in", Box::pin(work));
        Stream { sender, receiver }
    }

    /// The connection, once there is one.
    async fn connection(&self) -> Result<Connection, CallError> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match &self.lock().phase {
                Phase::Connecting => {}
                Phase::Up(connection) => return Ok(connection.clone()),
                Phase::Down(error) | Phase::Over(error) => return Err(error.clone()),
            }
            changed.await;
        }
    }

    /// Tries again now if it waits for the next try.
    pub(super) fn kick(&self) {
        self.kick.notify_one();
    }

    /// Ends the link for good; `reason` is for the peer, `error` for whoever waits.
    pub(super) fn end(&self, error: &CallError, reason: &str) {
        let mut state = self.lock();
        let phase = std::mem::replace(&mut state.phase, Phase::Over(error.clone()));
        match phase {
            Phase::Up(connection) => {
                connection.close(CLOSED_STOPPING, reason.as_bytes());
                let lost = self.lost(&error.to_string().into());
                self.fail_all(state, &lost);
            }
            Phase::Connecting | Phase::Down(_) | Phase::Over(_) => self.fail_all(state, error),
        }
    }

    pub(super) fn stats(&self) -> LinkStats {
        let mut stats = LinkStats::new(self.to, self.lane);
        self.counters.read_into(&mut stats);
        let state = self.lock();
        if let Phase::Up(connection) = &state.phase {
            stats.connected = true;
            stats.rtt = Some(connection.rtt());
        }
        stats.in_flight = state.pending.len() as u64;
        stats.queued_bytes = state.queue.bytes() as u64;
        stats.last_error = state.last_error.clone();
        stats
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) {
        Counters::add(&self.counters.requests_failed, 1);
    }

    fn check_length(&self, bytes: usize) -> Result<(), CallError> {
        let limit = self.shared.config.limits.message_bytes_max;
        match bytes > limit {
            true => Err(CallError::TooLong {
                lane: self.lane,
                bytes,
                limit,
            }),
            false => Ok(()),
        }
    }

    /// The state, if a message of this size may be queued now.
    fn admit(&self, bytes: usize) -> Result<MutexGuard<'_, State>, CallError> {
        Counters::add(&self.counters.requests_sent, 1);
        let admitted = self.check_length(bytes).and_then(|()| {
            let state = self.lock();
            match &state.phase {
                Phase::Connecting | Phase::Up(_) => {}
                Phase::Down(error) | Phase::Over(error) => return Err(error.clone()),
            }
            let limits = &self.shared.config.limits;
            let room = state.queue.has_room(bytes, limits.queue_bytes_max);
            match room && state.pending.len() < limits.calls_max {
                true => Ok(state),
                false => Err(CallError::Full {
                    to: self.to,
                    lane: self.lane,
                }),
            }
        });
        admitted.inspect_err(|_| self.failed())
    }

    fn begin(self: &Arc<Link>, message: Message, timeout: Duration) -> Result<Waiting, CallError> {
        let Message {
            lane: _,
            kind,
            body,
        } = message;
        let (done, answer) = oneshot::channel();
        let mut state = self.admit(body.len())?;
        let id = state.next_id;
        state.next_id += 1;
        state.pending.insert(id, done);
        state.queue.push(call_frame(id, kind, timeout, body));
        drop(state);
        self.wake.notify_one();
        Ok(Waiting {
            link: self.clone(),
            id,
            answer,
            answered: false,
        })
    }

    fn cancel(&self, id: u64) {
        let mut state = self.lock();
        let Some(done) = state.pending.remove(&id) else {
            return;
        };
        if let Phase::Up(_) | Phase::Connecting = state.phase {
            state.queue.push(Frame::Cancel { id });
        }
        drop(state);
        drop(done);
        self.wake.notify_one();
    }

    // What the supervisor does.

    async fn supervise(self: Arc<Link>) {
        let mut backoff = self.shared.config.timing.backoff_min;
        loop {
            match self.dial().await {
                Ok((connection, send, recv)) => {
                    let Shared { host, config, .. } = &*self.shared;
                    let since = host.clock.now();
                    let error = self.carry(connection, send, recv).await;
                    if !self.enter(Phase::Connecting, Some(&error)) {
                        return;
                    }
                    // A peer that takes connections only to end them is not dialed in a loop.
                    match host.clock.now().since(since) < config.timing.silence_max {
                        true => self.pause(&mut backoff, &error).await,
                        false => backoff = config.timing.backoff_min,
                    }
                }
                Err(error) => {
                    let down = Phase::Down(error.clone());
                    if !self.enter(down, Some(&error)) {
                        return;
                    }
                    self.pause(&mut backoff, &error).await;
                }
            }
            if let Phase::Over(_) = self.lock().phase {
                return;
            }
        }
    }

    /// Between two tries: doubling, and not at the same moment as everybody else.
    async fn pause(&self, backoff: &mut Duration, error: &CallError) {
        let Shared { host, config, .. } = &*self.shared;
        if let CallError::Rejected { .. } = error {
            *backoff = config.timing.backoff_max;
        }
        let half = *backoff / 2;
        let jitter = host
            .rng
            .below(u64::try_from(half.as_nanos()).unwrap_or(u64::MAX));
        *backoff = (*backoff * 2).min(config.timing.backoff_max);
        tokio::select! {
            biased;
            () = self.kick.notified() => {}
            () = host.clock.sleep(half + Duration::from_nanos(jitter)) => {}
        }
    }

    /// Changes the phase, and fails what waits if there is an error; false if the link is over.
    fn enter(&self, phase: Phase, error: Option<&CallError>) -> bool {
        let mut state = self.lock();
        if let Phase::Over(_) = state.phase {
            return false;
        }
        state.phase = phase;
        match error {
            None => {
                drop(state);
                self.changed.notify_waiters();
            }
            Some(error) => {
                if state.last_error.as_ref() != Some(&error.to_string()) {
                    tracing::info!(to = %self.to, lane = %self.lane, %error, "mesh link");
                }
                state.last_error = Some(error.to_string());
                self.fail_all(state, error);
            }
        }
        true
    }

    fn fail_all(&self, mut state: MutexGuard<'_, State>, error: &CallError) {
        state.queue.clear();
        let pending = std::mem::take(&mut state.pending);
        drop(state);
        self.counters
            .requests_failed
            .fetch_add(pending.len() as u64, Relaxed);
        for done in pending.into_values() {
            // A caller that went away does not care.
            let _ = done.send(Err(error.clone()));
        }
        self.changed.notify_waiters();
        self.wake.notify_one();
    }

    /// Carries frames until the connection ends; says why it did.
    async fn carry(
        self: &Arc<Link>,
        connection: Connection,
        send: SendStream,
        recv: RecvStream,
    ) -> CallError {
        Counters::add(&self.counters.connects, 1);
        if !self.enter(Phase::Up(connection.clone()), None) {
            connection.close(CLOSED_STOPPING, b"closed");
            return CallError::Closed;
        }
        tracing::debug!(to = %self.to, lane = %self.lane, "mesh link is up");
        let broken = tokio::select! {
            biased;
            error = connection.closed() => return self.lost(&error.into()),
            error = self.read_small(recv) => error,
            error = self.read_large(&connection) => error,
            error = self.write(&connection, send) => error,
        };
        broken.close(self.to, &connection);
        self.lost(&connection.closed().await.into())
    }

    async fn read_small(&self, mut recv: RecvStream) -> Broken {
        let mut decoder = Decoder::new(SMALL_FRAME_BYTES_MAX);
        loop {
            let Ok(Some(chunk)) = recv.read_chunk(pump::READ_BYTES, true).await else {
                return Broken::Ended;
            };
            Counters::add(&self.counters.bytes_received, chunk.bytes.len());
            decoder.feed(chunk.bytes);
            if let Err(error) = self.take_answers(&mut decoder) {
                return Broken::Malformed(error);
            }
        }
    }

    fn take_answers(&self, decoder: &mut Decoder) -> Result<(), FrameError> {
        let mut state = self.lock();
        while let Some(frame) = decoder.next()? {
            let (id, answer) = match frame {
                Frame::Answer { id, body } => (id, Ok(body)),
                Frame::Refused { id, refusal } => {
                    let to = self.to;
                    (id, Err(CallError::Refused { to, refusal }))
                }
                other @ (Frame::Call { .. }
                | Frame::OneWay { .. }
                | Frame::Cancel { .. }
                | Frame::Open { .. }
                | Frame::Item { .. }
                | Frame::End
                | Frame::Failed { .. }) => return Err(FrameError::Unexpected(other.name())),
            };
            // An answer to a call that was given up, or to none: nobody waits.
            if let Some(done) = state.pending.remove(&id) {
                let _ = done.send(answer);
            }
        }
        Ok(())
    }

    async fn read_large(self: &Arc<Link>, connection: &Connection) -> Broken {
        loop {
            let Ok(recv) = connection.accept_uni().await else {
                return Broken::Ended;
            };
            let (link, connection) = (self.clone(), connection.clone());
            let limit = self.shared.config.limits.message_bytes_max;
            let work = async move {
                let taken = match read_alone(recv, limit, &link.counters).await {
                    Ok(Some(mut decoder)) => link
                        .take_answers(&mut decoder)
                        .and_then(|()| decoder.check_end()),
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                };
                if let Err(error) = taken {
                    close_malformed(link.to, &connection, &error);
                }
            };
            self.shared
                .host
                .spawn
                .spawn("mesh-large-in", Box::pin(work));
        }
    }

    async fn write(self: &Arc<Link>, connection: &Connection, mut send: SendStream) -> Broken {
        loop {
            let batch = self.lock().queue.take();
            if batch.is_empty() {
                self.wake.notified().await;
                continue;
            }
            let Batch { small, large } = batch;
            for large in large {
                let link = self.clone();
                let done = move |bytes| link.lock().queue.large_done(bytes);
                write_alone(&self.shared, connection, large, &self.counters, done);
            }
            Counters::add(&self.counters.bytes_sent, small.len());
            if !small.is_empty() && send.write_chunk(small).await.is_err() {
                return Broken::Ended;
            }
        }
    }

    /// What was sent on a connection that ended may have been carried out, for whatever reason it ended.
    fn lost(&self, reason: &Reason) -> CallError {
        let (Reason::Rejected(text) | Reason::Expelled(text) | Reason::Ended(text)) = reason;
        if let Reason::Expelled(text) = reason {
            self.shared.expel(text);
        }
        CallError::Lost {
            to: self.to,
            reason: text.clone(),
        }
    }
}

fn call_frame(id: u64, kind: Kind, timeout: Duration, body: Bytes) -> Frame {
    Frame::Call {
        id,
        kind,
        timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        body,
    }
}

/// A call that waits for its answer. Dropping it tells the peer that nobody does any more.
struct Waiting {
    link: Arc<Link>,
    id: u64,
    answer: oneshot::Receiver<Answer>,
    answered: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.answered {
            self.link.cancel(self.id);
        }
    }
}

/// A stream whose first frame is being written. Given up meanwhile it is reset: an end inside a frame would be a breach of the protocol, for which
/// the peer ends the connection.
struct Opening<'a> {
    send: &'a mut SendStream,
    written: bool,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if !self.written {
            // An error means that it has ended by itself.
            let _ = self.send.reset(pump::RESET_LOST);
        }
    }
}

/// Why frames are not carried any more.
pub(super) enum Broken {
    /// The connection knows why.
    Ended,
    Malformed(FrameError),
}

impl Broken {
    /// Ends what is left of the connection: without its lane's stream it is of no use.
    pub(super) fn close(self, peer: NodeId, connection: &Connection) {
        match self {
            Broken::Malformed(error) => close_malformed(peer, connection, &error),
            Broken::Ended if connection.close_reason().is_none() => {
                connection.close(CLOSED_STOPPING, b"the stream of the lane ended");
            }
            Broken::Ended => {}
        }
    }
}

/// Why a connection ended.
pub(super) use dial::Reason;

pub(super) fn close_malformed(peer: NodeId, connection: &Connection, error: &FrameError) {
    tracing::warn!(%peer, %error, "a peer does not keep to the mesh protocol");
    connection.close(CLOSED_MALFORMED, error.to_string().as_bytes());
}

/// Reads a stream that holds one frame. `None` if it was lost.
pub(super) async fn read_alone(
    mut recv: RecvStream,
    body_bytes_max: usize,
    counters: &Counters,
) -> Result<Option<Decoder>, FrameError> {
    let limit = frame_limit(body_bytes_max);
    let mut whole = Vec::new();
    let mut bytes = 0;
    loop {
        match recv.read_chunk(pump::READ_BYTES, true).await {
            Ok(Some(chunk)) => {
                bytes += chunk.bytes.len();
                Counters::add(&counters.bytes_received, chunk.bytes.len());
                if bytes > limit + 4 {
                    return Err(FrameError::TooLong { bytes, limit });
                }
                whole.push(chunk.bytes);
            }
            Ok(None) => return Ok(Some(one_piece(limit, whole, bytes))),
            Err(_) => return Ok(None),
        }
    }
}

fn one_piece(limit: usize, mut chunks: Vec<Bytes>, bytes: usize) -> Decoder {
    let whole = match chunks.len() {
        1 => chunks.swap_remove(0),
        _ => {
            let mut whole = Vec::with_capacity(bytes);
            chunks
                .iter()
                .for_each(|chunk| whole.extend_from_slice(chunk));
            Bytes::from(whole)
        }
    };
    let mut decoder = Decoder::new(limit);
    decoder.feed(whole);
    decoder
}

/// Sends a large frame on a stream of its own; `done` hears its size when that is over, however it ended.
pub(super) fn write_alone(
    shared: &Shared,
    connection: &Connection,
    large: Large,
    counters: &Arc<Counters>,
    done: impl FnOnce(usize) + Send + 'static,
) {
    let (connection, counters) = (connection.clone(), counters.clone());
    let work = async move {
        let bytes = large.bytes();
        // What cannot be sent fails with its connection.
        if let Ok(mut send) = connection.open_uni().await
            && send
                .write_all_chunks(&mut [large.head, large.body])
                .await
                .is_ok()
        {
            Counters::add(&counters.bytes_sent, bytes);
            let _ = send.finish();
        }
        done(bytes);
    };
    shared.host.spawn.spawn("mesh-large-out", Box::pin(work));
}
