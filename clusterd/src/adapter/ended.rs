//! Sessions that have written and are over: ENV forgets their last outcome and what they staged, some time soon.
//!
//! Many ends share an entry of the log. While ENV has no leader they wait, and are told again until it has one. What is lost when too many wait, or when the node stops, costs a
//! little memory until this gateway's next start, which ends all its sessions.

use super::error::SqlError;
use host::Clock;
use host::metrics::{IntCounter, counter};
use state::command::{Command, Gateway, Session};
use std::time::Duration;
use tokio::sync::mpsc;

/// Ends that wait; of more ENV is not told.
const WAITING_MAX: usize = 65_536;
/// Ends in one entry. S remembers some thousand of them one by one, which has to span what is in flight: so they also come at a pace.
const ENTRY_SESSIONS_MAX: usize = 128;
const ENTRY_EVERY: Duration = Duration::from_millis(50);
/// Pause before ENV is told again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Where the ends of sessions are handed in.
pub struct Ended {
    numbers: mpsc::Sender<u64>,
    untold: IntCounter,
}

impl Ended {
    /// The other half is for [`tell`].
    pub fn new() -> (Ended, mpsc::Receiver<u64>) {
        let (numbers, receiver) = mpsc::channel(WAITING_MAX);
        let ended = Ended {
            numbers,
            untold: counter(
                "clusterd_ended_sessions_untold_total",
                "Ends of sessions that were not recorded, because too many waited or the node was stopping.",
            ),
        };
        (ended, receiver)
    }

    pub fn push(&self, number: u64) {
        if self.numbers.try_send(number).is_err() {
            self.untold.inc();
        }
    }
}

/// Tells ENV, by `propose`, until nobody hands anything in any more.
pub async fn tell<P>(
    gateway: Gateway,
    mut ended: mpsc::Receiver<u64>,
    clock: std::sync::Arc<dyn Clock>,
    propose: impl Fn(Command) -> P,
) where
    P: Future<Output = Result<(), SqlError>>,
{
    let mut numbers = Vec::new();
    while ended.recv_many(&mut numbers, ENTRY_SESSIONS_MAX).await > 0 {
        let session = |number| Session { gateway, number };
        let command = Command::EndSessions {
            sessions: numbers.drain(..).map(session).collect(),
        };
        // Ending a session twice changes nothing, so an unknown outcome is no reason to stop.
        while let Err(error) = propose(command.clone()).await {
            if error.sqlstate == SqlError::shutdown().sqlstate {
                return;
            }
            tracing::debug!(%error, "the end of sessions was not recorded; it will be told again");
            clock.sleep(RETRY_PAUSE).await;
        }
        clock.sleep(ENTRY_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use repr::NodeId;
    use std::collections::VecDeque;
    use std::sync::Arc;

    const GATEWAY: Gateway = Gateway {
        node: NodeId(1),
        incarnation: 1,
    };

    /// What was proposed while `failures` were the first answers, in order.
    async fn told(ended: Ended, receiver: mpsc::Receiver<u64>, failures: &[&str]) -> Vec<Vec<u64>> {
        drop(ended);
        let failures: VecDeque<&str> = failures.iter().copied().collect();
        let (failures, proposed) = (Mutex::new(failures), Mutex::new(Vec::new()));
        let propose = |command| {
            let Command::EndSessions { sessions } = command else {
                panic!("{command:?}");
            };
            let numbers = sessions.iter().map(|session| session.number).collect();
            proposed.lock().push(numbers);
            let failure = failures.lock().pop_front();
            std::future::ready(match failure {
                Some(sqlstate) => Err(SqlError::new(sqlstate, "no")),
                None => Ok(()),
            })
        };
        tell(GATEWAY, receiver, Arc::new(Skipping), propose).await;
        proposed.into_inner()
    }

    /// Nobody waits.
    struct Skipping;

    impl Clock for Skipping {
        fn wall_us(&self) -> u64 {
            0
        }

        fn now(&self) -> host::Instant {
            host::Instant::default()
        }

        fn sleep(&self, _: Duration) -> host::BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    #[tokio::test]
    async fn many_share_an_entry_and_an_outage_loses_none() {
        let (ended, receiver) = Ended::new();
        (0..200).for_each(|number| ended.push(number));
        let first: Vec<u64> = (0..128).collect();
        let second: Vec<u64> = (128..200).collect();
        let proposed = told(ended, receiver, &["57P03", "08007"]).await;
        assert_eq!(proposed, [first.clone(), first.clone(), first, second]);
    }

    #[tokio::test]
    async fn those_who_wait_are_bounded_and_a_stop_ends_it() {
        let (ended, receiver) = Ended::new();
        let before = ended.untold.get();
        (0..WAITING_MAX as u64 + 3).for_each(|number| ended.push(number));
        assert_eq!(ended.untold.get() - before, 3);
        assert_eq!(told(ended, receiver, &["57P01"]).await.len(), 1);
    }
}
