//! One lane of one peer, as the side sees it that answers requests.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use host::{BoxFuture, TaskHandle};
use protocol::{Kind, Lane};
use quinn::{Connection, Incoming, RecvStream, SendStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::Shared;
use super::frame::{Decoder, Frame, FrameError, SMALL_FRAME_BYTES_MAX, frame_limit};
use super::hello::{self, Hello, ReadHelloError};
use super::link::{Broken, Reason, close_malformed, read_alone, write_alone};
use super::pump;
use super::queue::{Batch, Queue};
use super::tls;
use crate::registry::Registry;
use crate::stats::Counters;
use crate::{Caller, Refusal, Request, Stream};

/// A stranger has this long to show who it is, and a stream to say what it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes a connection in and serves it to its end; `place` is its place among the strangers.
pub(super) async fn serve(shared: Arc<Shared>, incoming: Incoming, place: OwnedSemaphorePermit) {
    let from = incoming.remote_address();
    let met = tokio::select! {
        biased;
        met = meet(&shared, incoming) => met,
        () = shared.host.clock.sleep(HELLO_TIMEOUT) => {
            Err(Reason::Ended("it did not say hello in time".to_owned()))
        }
    };
    drop(place);
    match met {
        Ok(Met::Peer(session, send, recv)) => session.run(send, recv).await,
        Ok(Met::Joiner(connection)) => shared.door.receive(&shared.host, connection).await,
        Err(Reason::Rejected(reason)) => {
            let now = shared.host.clock.now();
            match shared.peers.is_news(from.ip(), &reason, now) {
                true => tracing::warn!(%from, %reason, "a mesh connection was refused"),
                false => tracing::debug!(%from, %reason, "a mesh connection was refused again"),
            }
        }
        Err(Reason::Expelled(reason)) => shared.expel(&reason),
        Err(Reason::Ended(reason)) => {
            tracing::debug!(%from, %reason, "a mesh connection ended before its hello");
        }
    }
}

/// Who came.
enum Met {
    Peer(Arc<Session>, SendStream, RecvStream),
    /// Somebody without a certificate, who wants to join.
    Joiner(Connection),
}

async fn meet(shared: &Arc<Shared>, incoming: Incoming) -> Result<Met, Reason> {
    let connection = incoming.accept()?.await?;
    if tls::wants_to_join(&connection) {
        return Ok(Met::Joiner(connection));
    }
    match greet(shared, &connection).await {
        Ok((theirs, send, recv)) => {
            let session = Session::new(shared, connection, &theirs);
            Ok(Met::Peer(session, send, recv))
        }
        Err(ReadHelloError::Rejected(rejection)) => {
            connection.close(rejection.code(), rejection.to_string().as_bytes());
            Err(rejection.into())
        }
        Err(ReadHelloError::Ended) => Err(connection.closed().await.into()),
    }
}

async fn greet(
    shared: &Shared,
    connection: &Connection,
) -> Result<(Hello, SendStream, RecvStream), ReadHelloError> {
    let proven = hello::proven_name(connection).map_err(ReadHelloError::Rejected)?;
    let accepted = connection.accept_bi().await;
    let (mut send, mut recv) = accepted.map_err(|_| ReadHelloError::Ended)?;
    let theirs = hello::read(&mut recv, shared.config.version).await?;
    let mine = Hello {
        lane: theirs.lane,
        version: shared.config.version,
        identity: shared.config.identity,
    };
    let admitted = mine.check(&theirs, proven);
    admitted
        .and_then(|()| shared.peers.meet(&theirs.identity, connection))
        .map_err(ReadHelloError::Rejected)?;
    hello::write(&mut send, &mine).await?;
    // Whoever can reach this node can most likely be reached.
    shared.kick(proven.node);
    Ok((theirs, send, recv))
}

/// An accepted connection.
struct Session {
    shared: Arc<Shared>,
    connection: Connection,
    caller: Caller,
    lane: Lane,
    counters: Arc<Counters>,
    answers: Mutex<Queue>,
    /// Something waits to be written.
    wake: Notify,
    /// Something was written.
    written: Notify,
    /// One for each handler that may begin. Closed when the connection has ended.
    slots: Arc<Semaphore>,
    /// Handlers that did not answer at once; `None` until the task is known.
    running: Mutex<HashMap<Work, Option<TaskHandle>>>,
    messages: AtomicU64,
}

/// What a handler is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Work {
    /// By the caller's id.
    Call(u64),
    /// Nobody waits for an answer. The id is the session's own.
    Message(u64),
}

impl Session {
    fn new(shared: &Arc<Shared>, connection: Connection, theirs: &Hello) -> Arc<Session> {
        let caller = Caller {
            node: theirs.identity.name.node,
            incarnation: theirs.identity.incarnation,
        };
        let handlers_max = shared.config.limits.handlers_max;
        Arc::new(Session {
            shared: shared.clone(),
            connection,
            caller,
            lane: theirs.lane,
            counters: shared.peers.counters(caller.node, theirs.lane),
            answers: Mutex::default(),
            wake: Notify::new(),
            written: Notify::new(),
            slots: Arc::new(Semaphore::new(handlers_max.min(Semaphore::MAX_PERMITS))),
            running: Mutex::default(),
            messages: AtomicU64::new(0),
        })
    }

    async fn run(self: Arc<Session>, send: SendStream, recv: RecvStream) {
        let broken = tokio::select! {
            biased;
            _ = self.connection.closed() => Broken::Ended,
            broken = self.read_small(recv) => broken,
            broken = self.read_large() => broken,
            broken = self.accept_streams() => broken,
            broken = self.write(send) => broken,
        };
        broken.close(self.caller.node, &self.connection);
        if let Reason::Expelled(reason) = self.connection.closed().await.into() {
            self.shared.expel(&reason);
        }
        // Nobody waits for these any more.
        self.slots.close();
        let running = std::mem::take(&mut *self.running());
        running
            .into_values()
            .flatten()
            .for_each(|task| task.abort());
    }

    fn answers(&self) -> MutexGuard<'_, Queue> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Work, Option<TaskHandle>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_small(self: &Arc<Session>, mut recv: RecvStream) -> Broken {
        let mut decoder = Decoder::new(SMALL_FRAME_BYTES_MAX);
        loop {
            let Ok(Some(chunk)) = recv.read_chunk(pump::READ_BYTES, true).await else {
                return Broken::Ended;
            };
            Counters::add(&self.counters.bytes_received, chunk.bytes.len());
            decoder.feed(chunk.bytes);
            if let Err(error) = self.take_requests(&mut decoder) {
                return Broken::Malformed(error);
            }
            self.room_for_answers().await;
        }
    }

    async fn read_large(self: &Arc<Session>) -> Broken {
        loop {
            let Ok(recv) = self.connection.accept_uni().await else {
                return Broken::Ended;
            };
            self.room_for_answers().await;
            let session = self.clone();
            let limit = self.shared.config.limits.message_bytes_max;
            let work = async move {
                let taken = match read_alone(recv, limit, &session.counters).await {
                    Ok(Some(mut decoder)) => session
                        .take_requests(&mut decoder)
                        .and_then(|()| decoder.check_end()),
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                };
                if let Err(error) = taken {
                    close_malformed(session.caller.node, &session.connection, &error);
                }
            };
            let spawn = &self.shared.host.spawn;
            spawn.spawn("mesh-large-in", Box::pin(work));
        }
    }

    /// A peer that does not take its answers gets no more of its requests read.
    async fn room_for_answers(&self) {
        let bytes_max = self.shared.config.limits.queue_bytes_max;
        loop {
            let written = self.written.notified();
            if self.answers().has_room(0, bytes_max) {
                return;
            }
            written.await;
        }
    }

    fn take_requests(self: &Arc<Session>, decoder: &mut Decoder) -> Result<(), FrameError> {
        while let Some(frame) = decoder.next()? {
            match frame {
                Frame::Call {
                    id,
                    kind,
                    timeout_ms,
                    body,
                } => self.take_call(id, kind, timeout_ms, body),
                Frame::OneWay { kind, body } => {
                    let work = Work::Message(self.messages.fetch_add(1, Relaxed));
                    let request = self.request(kind, body);
                    self.handle(work, None, request);
                }
                Frame::Cancel { id } => {
                    let task = self.running().remove(&Work::Call(id)).flatten();
                    if let Some(task) = task {
                        task.abort();
                    }
                }
                other @ (Frame::Answer { .. }
                | Frame::Refused { .. }
                | Frame::Open { .. }
                | Frame::Item { .. }
                | Frame::End
                | Frame::Failed { .. }) => return Err(FrameError::Unexpected(other.name())),
            }
        }
        Ok(())
    }

    fn take_call(self: &Arc<Session>, id: u64, kind: Kind, timeout_ms: u32, body: Bytes) {
        let timeout = Duration::from_millis(timeout_ms.into());
        let mut request = self.request(kind, body);
        request.deadline = Some(self.shared.host.clock.now() + timeout);
        self.handle(Work::Call(id), Some(timeout), request);
    }

    fn request(&self, kind: Kind, body: Bytes) -> Request {
        Counters::add(&self.counters.requests_received, 1);
        Request {
            from: self.caller,
            lane: self.lane,
            kind,
            body,
            deadline: None,
        }
    }

    /// Runs a handler: here if it is done at once, else in a task.
    fn handle(self: &Arc<Session>, work: Work, timeout: Option<Duration>, request: Request) {
        // Before the handler's first step: what was refused as busy may be sent again.
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            return self.answer(work, Err(Refusal::Busy));
        };
        match begin(&self.shared.registry, request) {
            Begun::Done(answer) => self.answer(work, answer),
            Begun::Waits(handled) => self.run_handler(work, timeout, handled, slot),
        }
    }

    fn run_handler(
        self: &Arc<Session>,
        work: Work,
        timeout: Option<Duration>,
        handled: BoxFuture<'static, Result<Bytes, Refusal>>,
        slot: OwnedSemaphorePermit,
    ) {
        if !self.enlist(work) {
            return self.answer(work, Err(Refusal::Abandoned));
        }
        let owed = Owed {
            session: self.clone(),
            work,
            _slot: slot,
        };
        let clock = self.shared.host.clock.clone();
        let until = async move {
            match timeout {
                Some(timeout) => clock.sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        let run = async move {
            tokio::select! {
                biased;
                answer = handled => owed.pay(answer),
                () = until => owed.forget(),
            }
        };
        // Not under the lock: a runtime that is shutting down drops the task here, which takes itself out of the table.
        let task = self.shared.host.spawn.spawn("mesh-request", Box::pin(run));
        let mut running = self.running();
        let Some(entry) = running.get_mut(&work) else {
            // It has ended, or was cancelled meanwhile.
            drop(running);
            return task.abort();
        };
        *entry = Some(task);
    }

    /// Enters a handler into the table; false if it must not go on.
    fn enlist(&self, work: Work) -> bool {
        let mut running = self.running();
        if self.slots.is_closed() || running.contains_key(&work) {
            return false;
        }
        running.insert(work, None);
        true
    }

    fn answer(&self, work: Work, answer: Result<Bytes, Refusal>) {
        let id = match work {
            Work::Call(id) => id,
            Work::Message(_) => return,
        };
        let limit = self.shared.config.limits.message_bytes_max;
        let frame = match answer {
            Ok(body) if body.len() > limit => Frame::Refused {
                id,
                refusal: Refusal::AnswerTooLong(body.len()),
            },
            Ok(body) => Frame::Answer { id, body },
            Err(refusal) => Frame::Refused { id, refusal },
        };
        self.answers().push(frame);
        self.wake.notify_one();
    }

    async fn write(self: &Arc<Session>, mut send: SendStream) -> Broken {
        loop {
            let batch = self.answers().take();
            if batch.is_empty() {
                self.wake.notified().await;
                continue;
            }
            let Batch { small, large } = batch;
            for large in large {
                let session = self.clone();
                let done = move |bytes| {
                    session.answers().large_done(bytes);
                    session.written.notify_waiters();
                };
                write_alone(&self.shared, &self.connection, large, &self.counters, done);
            }
            Counters::add(&self.counters.bytes_sent, small.len());
            if !small.is_empty() && send.write_chunk(small).await.is_err() {
                return Broken::Ended;
            }
            self.written.notify_waiters();
        }
    }

    async fn accept_streams(self: &Arc<Session>) -> Broken {
        loop {
            let Ok((send, recv)) = self.connection.accept_bi().await else {
                return Broken::Ended;
            };
            let work = self.clone().stream(send, recv);
            let spawn = &self.shared.host.spawn;
            spawn.spawn("mesh-stream", Box::pin(work));
        }
    }

    async fn stream(self: Arc<Session>, send: SendStream, mut recv: RecvStream) {
        let opened = tokio::select! {
            biased;
            opened = read_open(&mut recv, self.shared.config.limits.message_bytes_max) => opened,
            () = self.shared.host.clock.sleep(HELLO_TIMEOUT) => Ok(None),
        };
        let carried = match opened {
            Ok(Some((decoder, kind, body))) => {
                let request = self.request(kind, body);
                self.carry(request, decoder, send, recv).await
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = carried {
            close_malformed(self.caller.node, &self.connection, &error);
        }
    }

    async fn carry(
        &self,
        request: Request,
        decoder: Decoder,
        send: SendStream,
        recv: RecvStream,
    ) -> Result<(), FrameError> {
        let (carried, handled) = Stream::pair();
        let handler = self.shared.registry.open(request, handled);
        if let Some(handler) = handler {
            self.shared.host.spawn.spawn("mesh-stream-handler", handler);
        }
        let outward = pump::outward(carried.receiver, send, self.counters.clone());
        let inward = pump::inward(decoder, recv, carried.sender, self.counters.clone());
        let ((), inward) = tokio::join!(outward, inward);
        inward
    }
}

/// The frame that opens a stream, and what was read behind it. `None` if the stream was lost.
async fn read_open(
    recv: &mut RecvStream,
    body_bytes_max: usize,
) -> Result<Option<(Decoder, Kind, Bytes)>, FrameError> {
    let largest = body_bytes_max.max(crate::STREAM_FRAME_BYTES_MAX);
    let mut decoder = Decoder::new(frame_limit(largest));
    loop {
        match decoder.next()? {
            Some(Frame::Open { kind, body }) => return Ok(Some((decoder, kind, body))),
            Some(other) => return Err(FrameError::Unexpected(other.name())),
            None => {}
        }
        match recv.read_chunk(pump::READ_BYTES, true).await {
            Ok(Some(chunk)) => decoder.feed(chunk.bytes),
            Ok(None) => return Err(FrameError::Truncated),
            Err(_) => return Ok(None),
        }
    }
}

/// An answer that a task owes. Dropped unpaid, because the handler panicked or was stopped, it says so.
struct Owed {
    session: Arc<Session>,
    work: Work,
    _slot: OwnedSemaphorePermit,
}

impl Owed {
    fn pay(self, answer: Result<Bytes, Refusal>) {
        self.session.running().remove(&self.work);
        self.session.answer(self.work, answer);
    }

    /// The caller has stopped waiting by itself.
    fn forget(self) {
        self.session.running().remove(&self.work);
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        let unpaid = self.session.running().remove(&self.work).is_some();
        if unpaid {
            self.session.answer(self.work, Err(Refusal::Abandoned));
        }
    }
}

/// A handler after its first step.
enum Begun {
    Done(Result<Bytes, Refusal>),
    Waits(BoxFuture<'static, Result<Bytes, Refusal>>),
}

/// Handlers that need not wait are done where their request is read. A panic of one is its own affair.
fn begin(registry: &Registry, request: Request) -> Begun {
    let first_step = || {
        let mut handled = registry.call(request);
        let mut context = Context::from_waker(Waker::noop());
        match handled.as_mut().poll(&mut context) {
            Poll::Ready(answer) => Begun::Done(answer),
            Poll::Pending => Begun::Waits(handled),
        }
    };
    let begun = catch_unwind(AssertUnwindSafe(first_step));
    begun.unwrap_or(Begun::Done(Err(Refusal::Abandoned)))
}
