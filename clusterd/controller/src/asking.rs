//! One read on its way to the replicas: whom to ask next, and which answer counts.
//!
//! One replica is asked, and the others if it refuses or takes long. Rows and a definite error are the same from every replica, so the first of them is the answer; a refusal says
//! only that this replica cannot answer, and counts when all of them have refused. Whoever carries the read tells what comes back and when it takes long.

use std::collections::VecDeque;

use protocol::compute::{PeekResponse, Refusal};

use crate::Route;

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Ask these replicas, too.
    Ask(Vec<Route>),
    /// Wait for those that were asked.
    Wait,
    /// This is it.
    Answer(PeekResponse),
}

/// A read that has no answer yet.
#[derive(Debug)]
pub struct Asking {
    /// Not asked yet, the one to ask first in front.
    routes: VecDeque<Route>,
    unanswered: usize,
    /// The refusal that says most.
    refusal: Refusal,
}

/// How much a refusal says about the collection; the others only say that this replica could not be asked. One that has forgotten a time did so because all may.
fn says(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::HoldLost => 4,
        Refusal::Busy => 3,
        Refusal::UnknownId => 2,
        Refusal::StaleEpoch | Refusal::NotLeader | Refusal::Cancelled => 1,
        Refusal::Stopping => 0,
    }
}

impl Asking {
    /// A read that may be answered by each of these, in the order in which they should be asked.
    pub fn new(routes: Vec<Route>) -> Asking {
        Asking {
            routes: routes.into(),
            unanswered: 0,
            refusal: Refusal::Stopping,
        }
    }

    /// The first to ask.
    pub fn begin(&mut self) -> Next {
        self.ask(1)
    }

    /// The answer takes long.
    pub fn slow(&mut self) -> Next {
        self.ask(self.routes.len())
    }

    /// One of those that were asked has answered.
    pub fn answered(&mut self, answer: PeekResponse) -> Next {
        self.unanswered = self.unanswered.saturating_sub(1);
        match answer {
            PeekResponse::Rows(_) | PeekResponse::Error(_) => Next::Answer(answer),
            PeekResponse::Refused(_) if planted::is("h35") => Next::Answer(answer),
            PeekResponse::Refused(refusal) => {
                if says(refusal) > says(self.refusal) {
                    self.refusal = refusal;
                }
                self.ask(self.routes.len())
            }
        }
    }

    fn ask(&mut self, count: usize) -> Next {
        let count = count.min(self.routes.len());
        let routes: Vec<Route> = self.routes.drain(..count).collect();
        self.unanswered += routes.len();
        match (routes.is_empty(), self.unanswered) {
            (false, _) => Next::Ask(routes),
            (true, 0) => Next::Answer(PeekResponse::Refused(self.refusal)),
            (true, _) => Next::Wait,
        }
    }

    /// How many were asked and have not answered.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Whether somebody can be asked who was not.
    pub fn has_others(&self) -> bool {
        !self.routes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Epoch;
    use repr::ReplicaId;

    #[test]
    fn of_all_refusals_the_one_that_says_most_is_told() {
        let route = |replica| Route {
            replica: ReplicaId(replica),
            epoch: Epoch::default(),
            after: 1,
        };
        let told = |refusals: [Refusal; 3]| {
            let mut asking = Asking::new((1..=3).map(route).collect());
            asking.begin();
            asking.slow();
            let refused = |refusal| PeekResponse::Refused(refusal);
            let answers = refusals.map(|refusal| asking.answered(refused(refusal)));
            match answers {
                [
                    Next::Wait,
                    Next::Wait,
                    Next::Answer(PeekResponse::Refused(refusal)),
                ] => refusal,
                other => panic!("{other:?}"),
            }
        };
        let (lost, unknown, stopping) = (Refusal::HoldLost, Refusal::UnknownId, Refusal::Stopping);
        assert_eq!(told([lost, stopping, unknown]), lost);
        assert_eq!(told([unknown, stopping, stopping]), unknown);
        assert_eq!(told([Refusal::Busy, unknown, stopping]), Refusal::Busy);
        assert_eq!(told([stopping, stopping, stopping]), stopping);
    }
}
