//! Reads of arrangements: from the hold to the answer, or to the order that takes the read back.

use super::driver::LeadEvent;
use super::{Clusters, Lead, NOT_RUNNING};
use crate::adapter::error::{Result, SqlError};
use controller::{Hold, HoldError, Route};
use plan::Mfp;
use protocol::{Peek, PeekId, PeekResponse, PeekTarget, Refusal};
use repr::{Diff, GlobalId, ReplicaId, Row, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};

/// One read of one arrangement.
#[derive(Clone)]
pub struct PeekRequest {
    pub export: GlobalId,
    pub keys: Option<Vec<Row>>,
    pub ts: Timestamp,
    pub mfp: Arc<Mfp>,
    pub limit: Option<u64>,
    pub bytes_max: u64,
    /// The catalog version the read was planned at: the controller must have seen it.
    pub catalog_version: u64,
}

/// A peek that replicas have been sent. Dropped before all of them have answered (the statement was cancelled, its time is up, its connection is gone, or another replica
/// was faster), it is taken back; the hold is given back after that.
struct Pending<'a> {
    id: PeekId,
    hold: Option<Hold>,
    lead: &'a Lead,
    /// Replicas that have not answered.
    unanswered: usize,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.unanswered > 0
            && let Some(hold) = self.hold.take()
        {
            let id = self.id;
            // A lead that has ended has no replicas any more.
            let _ = self.lead.events.send(LeadEvent::CancelPeek { id, hold });
        }
    }
}

/// The request as a replica takes it.
fn peek(id: PeekId, request: PeekRequest, route: Route) -> Peek {
    let PeekRequest {
        export,
        keys,
        ts,
        mfp,
        limit,
        bytes_max,
        catalog_version: _,
    } = request;
    Peek {
        id,
        epoch: route.epoch,
        after: route.after,
        target: PeekTarget { id: export, keys },
        ts,
        mfp,
        limit,
        bytes_max,
    }
}

impl Clusters {
    pub(super) async fn peek_lead(
        &self,
        lead: &Lead,
        request: PeekRequest,
    ) -> Result<Vec<(Row, Diff)>> {
        let hold = lead.hold(request.export, request.ts)?;
        let timer = self.peek_seconds.start_timer();
        let id = PeekId(
            (u128::from(self.peek_base) << 64)
                | u128::from(self.peek_ids.fetch_add(1, Ordering::Relaxed)),
        );
        let (export, ts) = (request.export, request.ts);
        let answer = lead.ask(id, hold, request).await;
        timer.observe_duration();
        match answer? {
            PeekResponse::Rows(rows) => Ok(rows.rows),
            PeekResponse::Error(error) => Err(error.into()),
            PeekResponse::Refused(refusal) => Err(lead.refused(refusal, export, ts)),
        }
    }
}

impl Lead {
    fn hold(&self, export: GlobalId, ts: Timestamp) -> Result<Hold> {
        self.holds.acquire(export, ts).map_err(|error| match error {
            HoldError::Unknown { .. } if self.is_dropped() => self.ended(),
            HoldError::Unknown { .. } => self.not_running(export),
            HoldError::Lost { since, ts, .. } => SqlError::forgotten(format!(
                "timestamp {ts} is not valid: history has been compacted up to {since}"
            ))
            .hint("Read AS OF a later time, or AS OF AT LEAST this one."),
        })
    }

    /// Asks every replica; rows or a definite error win, a refusal counts only when all refuse.
    async fn ask(&self, id: PeekId, hold: Hold, request: PeekRequest) -> Result<PeekResponse> {
        let mut pending = Pending {
            id,
            hold: Some(hold),
            lead: self,
            unanswered: 0,
        };
        if let Some(route) = self.routes.only() {
            let (sender, receiver) = oneshot::channel();
            let reply = Box::new(move |answer| drop(sender.send(answer)));
            self.send(peek(id, request, route), route.replica, reply)?;
            pending.unanswered = 1;
            let answer = receiver.await;
            pending.unanswered = 0;
            return answer.map_err(|_| self.ended());
        }
        let (sender, mut receiver) = mpsc::unbounded_channel();
        for route in self.routes.all() {
            let sender = sender.clone();
            let reply = Box::new(move |answer| drop(sender.send(answer)));
            self.send(peek(id, request.clone(), route), route.replica, reply)?;
            pending.unanswered += 1;
        }
        drop(sender);
        let mut refusal = None;
        while let Some(answer) = receiver.recv().await {
            pending.unanswered -= 1;
            match answer {
                PeekResponse::Refused(_) => refusal = Some(answer),
                PeekResponse::Rows(_) | PeekResponse::Error(_) => return Ok(answer),
            }
        }
        refusal.ok_or_else(|| match self.is_dropped() {
            true => self.ended(),
            false => SqlError::new("57P03", "the cluster has no replica that can be reached"),
        })
    }

    fn send(&self, peek: Peek, replica: ReplicaId, reply: compute::Reply) -> Result<()> {
        let replica = self
            .replicas
            .get(&replica)
            .ok_or_else(|| SqlError::internal("a route to an unknown replica"))?;
        replica.peek(peek, reply);
        Ok(())
    }

    fn refused(&self, refusal: Refusal, export: GlobalId, ts: Timestamp) -> SqlError {
        match refusal {
            Refusal::HoldLost => {
                SqlError::forgotten(format!("timestamp {ts} has been compacted away"))
            }
            Refusal::UnknownId => self.not_running(export),
            Refusal::Cancelled => SqlError::cancelled(),
            Refusal::Stopping => self.ended(),
            Refusal::Busy => SqlError::new("53400", "too many reads wait for this cluster"),
            Refusal::StaleEpoch | Refusal::NotLeader => {
                SqlError::new("57P03", "the cluster's leader has changed").hint("Try again.")
            }
        }
    }

    fn not_running(&self, export: GlobalId) -> SqlError {
        let error = SqlError::new(
            NOT_RUNNING,
            format!("{export} is not running on its cluster"),
        )
        .hint(
            "It is started again from time to time, and when something of its cluster is dropped.",
        );
        match self.failures.lock().get(&export) {
            Some(reason) => error.detail(reason.message.clone()),
            None => error,
        }
    }
}
