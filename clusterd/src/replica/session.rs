//! Who may give orders to a replica: the leader of the highest epoch that has come, by its newest connection.
//!
//! The replica goes on when leaders change: its dataflows are kept, and the next leader learns of them by the inventory. Each worker refuses commands of an older
//! epoch by itself; what is added here is that responses go to one session only, and that a session which was replaced is told so.

use compute::ReplicaHandle;
use parking_lot::Mutex;
use protocol::{Command, Epoch, Numbered, Response};
use repr::GlobalId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Takes responses, on a worker's thread: it must not block.
pub type Responses = Arc<dyn Fn(Response) + Send + Sync>;

/// The sessions of one replica, of which the last one counts.
#[derive(Default)]
pub struct Sessions {
    current: Mutex<Current>,
}

/// Why a leader may not give orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAttached {
    #[error("a leader of a higher epoch has been here: {0:?}")]
    Stale(Epoch),
    #[error("the replica has stopped")]
    Ended,
}

#[derive(Default)]
struct Current {
    /// Of the newest session; 0 before the first.
    number: u64,
    /// The highest that has come.
    epoch: Epoch,
    responses: Option<Responses>,
    /// Dropped when the session is replaced.
    _ended: Option<oneshot::Sender<()>>,
    /// Number of the last command handed to the workers.
    sent: u64,
    /// Hashes of the dataflows that the workers have been told to run.
    running: BTreeMap<GlobalId, u64>,
    /// Those named since the last Hello.
    named: BTreeSet<GlobalId>,
    /// The replica stops: nobody comes any more.
    is_over: bool,
}

/// The right to give orders, until a newer one is given away.
pub struct Session {
    sessions: Arc<Sessions>,
    handle: ReplicaHandle,
    number: u64,
}

impl Sessions {
    pub fn new() -> Arc<Sessions> {
        Arc::default()
    }

    /// Hands a response to the session that counts.
    pub fn respond(&self, response: Response) {
        let responses = self.current.lock().responses.clone();
        if let Some(responses) = responses {
            responses(response);
        }
    }

    /// Begins a session. The receiver resolves when another one has taken its place.
    ///
    /// # Errors
    /// If a leader of a higher epoch has been here, or the replica has ended: a leader that found it just before would wait for answers for ever.
    pub fn attach(
        self: &Arc<Self>,
        handle: &ReplicaHandle,
        epoch: Epoch,
        responses: Responses,
    ) -> Result<(Session, oneshot::Receiver<()>), NotAttached> {
        let mut current = self.current.lock();
        if current.is_over {
            return Err(NotAttached::Ended);
        }
        if epoch < current.epoch {
            return Err(NotAttached::Stale(current.epoch));
        }
        let (ended, replaced) = oneshot::channel();
        current.number += 1;
        if epoch > current.epoch {
            current.sent = 0;
        }
        current.epoch = epoch;
        current.responses = Some(responses);
        current._ended = Some(ended);
        let session = Session {
            sessions: Arc::clone(self),
            handle: handle.clone(),
            number: current.number,
        };
        Ok((session, replaced))
    }

    /// Ends the session: the replica stops.
    pub fn end(&self) {
        let mut current = self.current.lock();
        current.number += 1;
        current.responses = None;
        current._ended = None;
        current.running.clear();
        current.is_over = true;
    }

    /// What a read of a dataflow's export has to follow, if the workers have been told to run that plan of it. A leader's own reads follow the same.
    pub fn route(&self, dataflow: GlobalId, hash: u64) -> Option<(Epoch, u64)> {
        let current = self.current.lock();
        (current.running.get(&dataflow) == Some(&hash)).then_some((current.epoch, current.sent))
    }
}

impl Current {
    fn note(&mut self, numbered: &Numbered) {
        self.sent = numbered.seq;
        match &numbered.command {
            Command::Hello => self.named.clear(),
            Command::CreateDataflow { id, hash, .. } => {
                self.named.insert(*id);
                self.running.insert(*id, *hash);
            }
            Command::AllowCompaction { id, frontier: None } => {
                self.running.remove(id);
            }
            Command::InitializationComplete => {
                let named = &self.named;
                self.running.retain(|id, _| named.contains(id));
            }
            Command::AllowCompaction {
                id: _,
                frontier: Some(_),
            }
            | Command::CancelPeek { .. } => {}
        }
    }
}

impl Session {
    /// Tells the sessions of this replica apart.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Gives the workers a command; false if the session has been replaced. Commands come in the order of their numbers.
    pub fn send(&self, numbered: Numbered) -> bool {
        let mut current = self.sessions.current.lock();
        let counts = current.number == self.number && current.epoch == numbered.epoch;
        if counts {
            current.note(&numbered);
            // Under the lock: workers must not see commands of two sessions mixed.
            self.handle.send(numbered);
        }
        counts
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut current = self.sessions.current.lock();
        if current.number == self.number {
            current.responses = None;
            current._ended = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compute::{Replica, ReplicaConfig};
    use host::Host;
    use storage::Storage;

    #[tokio::test]
    async fn nobody_attaches_to_a_replica_that_has_ended() {
        let host = Host::real();
        let storage = Storage::new(Arc::new(state::State::new()));
        let handle = Replica::spawn(
            ReplicaConfig::default(),
            Arc::new(storage),
            Arc::new(|_| {}),
            Arc::clone(&host.clock),
            &*host.spawn,
        )
        .expect("threads");
        let sessions = Sessions::new();
        let epoch = Epoch {
            incarnation: 1,
            term: 1,
        };
        let attach = |epoch| sessions.attach(&handle, epoch, Arc::new(|_| {}));
        let (_session, mut replaced) = attach(epoch).expect("the first");
        let older = attach(Epoch { term: 0, ..epoch }).map(drop);
        assert_eq!(older, Err(NotAttached::Stale(epoch)));
        sessions.end();
        assert!(replaced.try_recv().is_err(), "told at once");
        assert_eq!(attach(epoch).map(drop), Err(NotAttached::Ended));
        handle.shutdown();
    }
}
