//! Asking ENV's leader, wherever it is.
//!
//! A request goes to the leader that this node's own membership knows, and again to the next when that one is gone or refuses, until the request's patience ends. Asking
//! again is safe: a ReadIndex has no effect, and S executes a transaction once however often its token comes (H13). So an election costs a statement time, not an error.

use super::{Env, disk_full, grows};
use crate::adapter::error::{Result, SqlError};
use bytes::Bytes;
use host::Instant;
use mesh::{CallError, Delivery, Message};
use protocol::{Kind, Lane, ProposeAnswer, ReadPointAnswer, ReadPointCall};
use raft::{ProposeError, ReadError};
use repr::NodeId;
use state::{Command, Outcome};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a leader may take that is still there: one that is not is noticed by the transport, or by the election of another.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Pause before a request is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(3);

/// An entry of the log that its leader has applied.
#[derive(Clone, Debug)]
pub struct Applied {
    pub index: u64,
    /// One per transaction.
    pub outcomes: Vec<Outcome>,
}

/// Why one attempt brought nothing.
struct Failed {
    reason: String,
    /// Somebody may have acted on it.
    perhaps_done: bool,
}

impl Failed {
    fn not_done(reason: impl ToString) -> Failed {
        Failed {
            reason: reason.to_string(),
            perhaps_done: false,
        }
    }

    fn perhaps(reason: impl ToString) -> Failed {
        Failed {
            reason: reason.to_string(),
            perhaps_done: true,
        }
    }
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Failed {
        match error.delivery() {
            Delivery::Never => Failed::not_done(error),
            Delivery::Unknown => Failed::perhaps(error),
        }
    }
}

/// What an attempt ended with: the answer, a definite error, or a reason to try again.
type Attempt<T> = std::result::Result<Result<T>, Failed>;

impl Env {
    /// Confirms with a quorum that the state here holds everything that was acknowledged before this call.
    pub async fn read_index(&self) -> Result<()> {
        let deadline = self.deadline();
        loop {
            // Each attempt is sent after all who wait for it have arrived.
            let failed = match self.try_read_index().await {
                Ok(answer) => return self.found(answer),
                Err(failed) => failed,
            };
            if !self.pause_until(deadline).await {
                self.abandoned.store(true, Ordering::Relaxed);
                return Err(no_leader(&failed.reason).hint(
                    "Try again, or SET default_transaction_isolation = 'serializable' to read what this node has.",
                ));
            }
        }
    }

    async fn try_read_index(&self) -> Attempt<()> {
        match self.leader_elsewhere()? {
            // The view is published before the group counts the entry as applied.
            None => match self.while_confirmed(self.group.read_index()).await {
                None => Err(Failed::not_done(ReadError::NoQuorum)),
                Some(Ok(_)) => Ok(Ok(())),
                Some(Err(ReadError::Closed { .. })) => Ok(Err(SqlError::shutdown())),
                Some(Err(error @ (ReadError::NotLeader { .. } | ReadError::NoQuorum))) => {
                    Err(Failed::not_done(error))
                }
            },
            Some(leader) => {
                let voted_term = self.group.voted_term();
                let call = Bytes::from(ReadPointCall { voted_term }.encode());
                let bytes = self.ask(leader, Kind::READ_POINT, call).await?;
                match ReadPointAnswer::decode(&bytes).map_err(Failed::not_done)? {
                    ReadPointAnswer::At { index } => match self.applied_in_time(index).await {
                        Some(applied) => Ok(applied),
                        None => Err(Failed::not_done(
                            "this node does not hear what its leader has committed",
                        )),
                    },
                    ReadPointAnswer::NotLeader { .. } => {
                        Err(Failed::not_done("its leader has changed"))
                    }
                    ReadPointAnswer::NoQuorum => Err(Failed::not_done(ReadError::NoQuorum)),
                    ReadPointAnswer::Stopping => Err(Failed::not_done("its leader is stopping")),
                }
            }
        }
    }

    /// Puts a command into the log and waits until it is applied here. What has an effect each time it is applied must carry tokens.
    pub async fn propose(&self, command: &Command) -> Result<Vec<Outcome>> {
        let applied = self.propose_at(command).await?;
        self.wait_applied(applied.index).await?;
        Ok(applied.outcomes)
    }

    /// Proposes what only ENV's leader decides, in one attempt: a decision of a leader that was deposed meanwhile must not reach the next one.
    pub async fn propose_as_leader(&self, command: &Command) -> Result<()> {
        let bytes = Bytes::from(command.encode());
        match self.while_confirmed(self.group.propose(bytes)).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(no_leader(&error.to_string())),
            None => Err(no_leader("no quorum confirms the entry")),
        }
    }

    /// Puts a command into the log and waits until its leader has applied it: it is committed, and its outcomes will never be others. This node applies it a little later, see
    /// [`Env::wait_applied`]; a read point asked for from now on includes it.
    pub async fn propose_at(&self, command: &Command) -> Result<Applied> {
        if self.group.disk_low() && grows(command) {
            return Err(disk_full());
        }
        let bytes = Bytes::from(command.encode());
        let deadline = self.deadline();
        let mut perhaps_done = false;
        loop {
            let failed = match self.try_propose(bytes.clone()).await {
                // What an earlier attempt has brought into the log, a refusal of this one does not take back.
                Ok(Err(error)) if perhaps_done => {
                    return Err(SqlError::unknown_outcome().detail(error.message));
                }
                Ok(answer) => return self.found(answer),
                Err(failed) => failed,
            };
            perhaps_done |= failed.perhaps_done;
            if !self.pause_until(deadline).await {
                self.abandoned.store(true, Ordering::Relaxed);
                return Err(match perhaps_done {
                    true => SqlError::unknown_outcome().detail(failed.reason),
                    false => no_leader(&failed.reason)
                        .hint("Try again; reads in serializable mode go on working."),
                });
            }
        }
    }

    async fn try_propose(&self, command: Bytes) -> Attempt<Applied> {
        match self.leader_elsewhere()? {
            None => match self.while_confirmed(self.group.propose(command)).await {
                None => Err(Failed::perhaps("no quorum confirms the entry")),
                Some(Ok(done)) => Ok(Ok(Applied {
                    index: done.pos.index,
                    outcomes: done.response,
                })),
                Some(Err(ProposeError::TooLarge { bytes, limit })) => {
                    Ok(Err(too_large(bytes as u64, limit as u64)))
                }
                Some(Err(ProposeError::Closed)) => Ok(Err(SqlError::shutdown())),
                Some(Err(error @ ProposeError::NotLeader { .. })) => Err(Failed::not_done(error)),
                Some(Err(error @ ProposeError::Unknown { .. })) => Err(Failed::perhaps(error)),
            },
            Some(leader) => {
                let bytes = self.ask(leader, Kind::PROPOSE, command).await?;
                match ProposeAnswer::decode(&bytes).map_err(Failed::perhaps)? {
                    ProposeAnswer::Applied { index, outcomes } => {
                        Ok(Ok(Applied { index, outcomes }))
                    }
                    ProposeAnswer::NotLeader { .. } => {
                        Err(Failed::not_done("its leader has changed"))
                    }
                    ProposeAnswer::TooLarge { bytes, limit } => Ok(Err(too_large(bytes, limit))),
                    ProposeAnswer::DiskFull => Ok(Err(disk_full())),
                    ProposeAnswer::Unknown { reason } => Err(Failed::perhaps(reason)),
                    ProposeAnswer::Stopping => Err(Failed::not_done("its leader is stopping")),
                }
            }
        }
    }

    fn deadline(&self) -> Instant {
        let patience = match self.abandoned.load(Ordering::Relaxed) {
            true => self.patience / 10,
            false => self.patience,
        };
        self.host.clock.now() + patience
    }

    fn found<T>(&self, answer: Result<T>) -> Result<T> {
        if self.abandoned.load(Ordering::Relaxed) {
            self.abandoned.store(false, Ordering::Relaxed);
        }
        answer
    }

    /// Gives up what this node does as the leader once a quorum has been silent for the patience of a request: an entry that nobody confirms would wait for ever.
    pub(super) async fn while_confirmed<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let mut deadline = self.deadline();
        loop {
            let left = deadline.since(self.host.clock.now()).max(RETRY_PAUSE);
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = self.host.clock.sleep(left) => {}
            }
            if !self.group.has_quorum() {
                return None;
            }
            // Only slow: a full disk queue, a machine under load.
            deadline = self.host.clock.now() + self.patience;
        }
    }

    /// The leader, if it is another node.
    fn leader_elsewhere(&self) -> std::result::Result<Option<NodeId>, Failed> {
        match self.leader() {
            None => Err(Failed::not_done("it has no leader now")),
            Some(leader) if leader == self.node() => Ok(None),
            Some(leader) => Ok(Some(leader)),
        }
    }

    /// Sends a request to a leader, and gives up as soon as another one is known.
    async fn ask(
        &self,
        leader: NodeId,
        kind: Kind,
        body: Bytes,
    ) -> std::result::Result<Bytes, Failed> {
        let message = Message::new(Lane::Control, kind, body);
        let call = self.transport.call(leader, message, ANSWER_WITHIN);
        let mut status = self.group.status();
        let term = status.borrow().term;
        // The same node may lead again, in a later term, and know nothing of the request.
        let deposed = status.wait_for(|status| {
            status.term > term && status.leader.is_some()
                || status.leader.is_some_and(|l| l != leader.0)
        });
        tokio::select! {
            biased;
            answer = call => Ok(answer?),
            _ = deposed => Err(Failed::perhaps("its leader has changed")),
        }
    }

    /// Waits until this node has applied the entry, at most for the patience of a request; `None` if that was not enough.
    pub async fn applied_in_time(&self, index: u64) -> Option<Result<()>> {
        let patience = self.deadline().since(self.host.clock.now());
        tokio::select! {
            biased;
            applied = self.wait_applied(index) => Some(applied),
            () = self.host.clock.sleep(patience) => None,
        }
    }

    /// Waits until this node has applied the entry.
    pub async fn wait_applied(&self, index: u64) -> Result<()> {
        let applied = self.group.wait_applied(index).await;
        applied.map(drop).map_err(|_| SqlError::shutdown())
    }

    /// False once the deadline has passed. A leader that appears meanwhile ends the pause.
    async fn pause_until(&self, deadline: Instant) -> bool {
        if self.host.clock.now() >= deadline {
            return false;
        }
        self.host.clock.sleep(RETRY_PAUSE).await;
        true
    }
}

fn no_leader(reason: &str) -> SqlError {
    SqlError::new("57P03", "the environment has no leader that can be reached")
        .detail(reason.to_owned())
}

fn too_large(bytes: u64, limit: u64) -> SqlError {
    let text = format!("a log entry of {bytes} bytes is larger than {limit} bytes");
    SqlError::new("54000", text)
}
