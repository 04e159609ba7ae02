//! One leadership as reads see it: from the hold to the answer, or to the order that takes the read back.

use super::driver::{LeadEvent, LeadEvents, Owner};
use super::link::Target;
use super::miss::{Miss, Try};
use super::queue::{Receiver, SubscribeQueue};
use super::rows::{Answered, ask, read_of};
use super::site::{Site, peek};
use super::{PeekRequest, Rows, Shared, TransientQuery};
use crate::adapter::error::SqlError;
use compute::ReplicaHandle;
use controller::{
    Asking, Controller, ExportFrontier, Hold, HoldError, HoldTable, Next, Route, Routes,
};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use host::{BoxFuture, Instant};
use parking_lot::{Mutex, RwLock};
use plan::{Dataflow, EvalError, Mfp};
use protocol::cluster::{ClusterInfo, PeekCall, ReplicaInfo};
use protocol::{Epoch, PeekId, PeekResponse, PeekRows, Refusal};
use repr::{ClusterId, GlobalId, NodeId, ReplicaId, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// SQLSTATE of a read of what is not there to be read at the moment.
const NOT_RUNNING: &str = "57P03";
const OUT_OF_MEMORY: &str = "53200";
/// How long a read waits for a replica that knows what its leader wishes.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Columns of a row; far beyond what a plan has.
const ARITY_MAX: usize = 1 << 16;
/// How long a read goes on asking when replicas say that what the controller had them build is not there: the reason is on its way, or a replica was connected to anew.
const ASK_FOR: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// How long the first replica may take before the others are asked, too.
const HEDGE: Duration = Duration::from_millis(10);
/// Ids of temporary dataflows; those of the catalog never reach them.
const TRANSIENT_BASE: u64 = 1 << 63;

/// Why the catalog's dataflows do not run that no replica could run.
pub(super) type Failures = Arc<Mutex<BTreeMap<GlobalId, EvalError>>>;

/// How far the controller has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub catalog_version: u64,
    /// Some replica knows all wishes.
    pub ready: bool,
}

/// A leadership that this node holds, or held.
pub(crate) struct Lead {
    cluster: ClusterId,
    shared: Arc<Shared>,
    pub epoch: Epoch,
    pub holds: Arc<HoldTable>,
    routes: Arc<Routes>,
    /// Where each connected replica is asked.
    pub targets: RwLock<BTreeMap<ReplicaId, Target>>,
    /// Where the replicas are, connected or not.
    pub placed: Mutex<BTreeMap<ReplicaId, NodeId>>,
    events: LeadEvents,
    /// Catalog version that the controller has acted on; raised after each step that may open exports or routes.
    seen: watch::Receiver<Seen>,
    pub frontiers: Arc<Mutex<BTreeMap<GlobalId, ExportFrontier>>>,
    pub failures: Failures,
    over: AtomicBool,
}

/// A temporary dataflow; dropping this drops it.
pub(crate) struct Transient {
    id: GlobalId,
    events: LeadEvents,
}

impl Drop for Transient {
    fn drop(&mut self) {
        // A lead that has ended has no dataflows any more.
        self.events.send(LeadEvent::Drop { id: self.id });
    }
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
            self.lead.events.send(LeadEvent::CancelPeek { id, hold });
        }
    }
}

fn not_ready() -> SqlError {
    SqlError::new(NOT_RUNNING, "the cluster has no replica that is ready")
        .hint("SHOW CLUSTER REPLICAS tells where they are.")
}

impl Lead {
    pub fn new(
        site: &Site,
        epoch: Epoch,
        controller: &Controller,
        events: LeadEvents,
        seen: watch::Receiver<Seen>,
    ) -> Lead {
        Lead {
            cluster: site.cluster,
            shared: Arc::clone(&site.shared),
            epoch,
            holds: controller.holds(),
            routes: controller.routes(),
            targets: RwLock::default(),
            placed: Mutex::default(),
            events,
            seen,
            frontiers: Arc::default(),
            failures: Failures::default(),
            over: AtomicBool::new(false),
        }
    }

    /// It leads no more.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn is_ready(&self, version: u64) -> bool {
        let seen = *self.seen.borrow();
        seen.ready && seen.catalog_version >= version
    }

    /// Waits until the controller has acted on a catalog version and a replica can be asked.
    async fn wait_for(&self, version: u64) -> Try<()> {
        if self.is_ready(version) {
            return Ok(());
        }
        let mut seen = self.seen.clone();
        let reached = seen.wait_for(|seen| seen.ready && seen.catalog_version >= version);
        tokio::select! {
            biased;
            reached = reached => reached.map(drop).map_err(|_| Miss::Moved(None)),
            () = self.shared.host.clock.sleep(READY_WITHIN) => Err(Miss::Sql(not_ready())),
        }
    }

    /// Waits until this node has seen what the gateway has, as long as it leads.
    async fn wait_for_time(&self, ts: Timestamp) -> Try<()> {
        let mut seen = self.seen.clone();
        let over = async { while seen.changed().await.is_ok() {} };
        tokio::select! {
            biased;
            reached = self.shared.env.wait_for_time(ts) => Ok(reached?),
            () = over => Err(Miss::Moved(None)),
        }
    }

    /// Reads what is maintained.
    pub async fn peek(&self, request: &PeekRequest) -> Try<Rows> {
        self.wait_for(request.catalog_version).await?;
        self.read(request).await
    }

    /// Runs a query by a dataflow that lives as long as the query.
    pub async fn query(&self, query: &TransientQuery) -> Try<Rows> {
        let TransientQuery {
            dataflow,
            ts,
            arity,
            bytes_max,
            catalog_version,
            relaxed: _,
        } = query;
        if *arity > ARITY_MAX {
            return Err(Miss::Sql(SqlError::new("54000", "the rows are too wide")));
        }
        self.wait_for(*catalog_version).await?;
        // The gateway may have seen more of the tables than this node.
        self.wait_for_time(*ts).await?;
        let mut dataflow = Dataflow::clone(dataflow);
        dataflow.as_of = Some(*ts);
        dataflow.until = Some(ts + 1);
        let (failed, mut failure) = oneshot::channel();
        let transient = self.create(dataflow, Owner::Query(failed)).await?;
        let request = PeekRequest {
            export: transient.id,
            plan_hash: transient.id.0,
            keys: None,
            ts: *ts,
            mfp: Arc::new(Mfp::identity(*arity)),
            limit: None,
            bytes_max: *bytes_max,
            catalog_version: *catalog_version,
            relaxed: false,
        };
        // The worker that could not build the dataflow refuses its peek at once; why comes by way of the controller.
        tokio::select! {
            biased;
            Ok(miss) = &mut failure => Err(miss),
            answer = self.read(&request) => answer,
        }
    }

    /// Starts a dataflow that sends its changes.
    pub async fn subscribe(
        &self,
        dataflow: &Dataflow,
        catalog_version: u64,
    ) -> Try<(Receiver, Transient)> {
        self.wait_for(catalog_version).await?;
        let as_of = dataflow.as_of.unwrap_or(0);
        self.wait_for_time(as_of).await?;
        let (sender, receiver) = SubscribeQueue::new();
        let owner = Owner::Subscribe(sender);
        let transient = self.create(dataflow.clone(), owner).await?;
        Ok((receiver, transient))
    }

    /// Under a new id: what ran under an older one, for whomever, is never taken for it.
    async fn create(&self, mut dataflow: Dataflow, owner: Owner) -> Try<Transient> {
        let id = GlobalId(TRANSIENT_BASE | (self.shared.host.rng.next_u64() >> 1));
        for export in &mut dataflow.exports {
            export.id = id;
        }
        let (done, created) = oneshot::channel();
        let event = LeadEvent::Create {
            id,
            dataflow: Arc::new(dataflow),
            owner,
            done,
        };
        let moved = || Miss::Moved(None);
        if !self.events.send(event) {
            return Err(moved());
        }
        let transient = Transient {
            id,
            events: self.events.clone(),
        };
        created.await.map_err(|_| moved())?;
        Ok(transient)
    }

    fn hold(&self, export: GlobalId, ts: Timestamp) -> Try<Hold> {
        self.holds.acquire(export, ts).map_err(|error| match error {
            HoldError::Unknown { .. } if self.is_over() => Miss::Moved(None),
            HoldError::Unknown { .. } => self.not_running(export).into(),
            HoldError::Lost { since, ts, .. } => SqlError::forgotten(format!(
                "timestamp {ts} is not valid: history has been compacted up to {since}"
            ))
            .hint("Read AS OF a later time, or AS OF AT LEAST this one.")
            .into(),
        })
    }

    /// Asks until there is an answer, or it is clear that there will be none.
    async fn read(&self, request: &PeekRequest) -> Try<Rows> {
        let mut since = None;
        loop {
            let timer = self.shared.peek_seconds.start_timer();
            let answer = self.ask(request).await?;
            timer.observe_duration();
            let refusal = match answer {
                PeekResponse::Rows(rows) => return Ok(rows.rows),
                PeekResponse::Error(error) => return Err(SqlError::from(error).into()),
                PeekResponse::Refused(refusal) => refusal,
            };
            self.may_ask_again(refusal, request, &mut since)?;
            self.shared.host.clock.sleep(ASK_AGAIN).await;
        }
    }

    /// After all replicas have refused.
    fn may_ask_again(
        &self,
        refusal: Refusal,
        request: &PeekRequest,
        since: &mut Option<Instant>,
    ) -> Try<()> {
        if self.is_over() {
            return Err(Miss::Moved(None));
        }
        let error = match refusal {
            Refusal::HoldLost => {
                let ts = request.ts;
                return Err(
                    SqlError::forgotten(format!("timestamp {ts} has been compacted away")).into(),
                );
            }
            Refusal::Busy => {
                let busy = SqlError::new("53400", "too many reads wait for this cluster");
                return Err(busy.into());
            }
            Refusal::UnknownId => self.not_running(request.export),
            Refusal::StaleEpoch | Refusal::NotLeader | Refusal::Stopping | Refusal::Cancelled => {
                SqlError::new(
                    NOT_RUNNING,
                    "the cluster's replicas do not answer at the moment",
                )
                .hint("Try again.")
            }
        };
        let now = self.shared.host.clock.now();
        let known = self.failures.lock().contains_key(&request.export);
        if known || now.since(*since.get_or_insert(now)) >= ASK_FOR {
            return Err(error.into());
        }
        Ok(())
    }

    /// Asks one replica, and the others if it takes long or refuses; rows or a definite error win, a refusal counts only when all refuse.
    async fn ask(&self, request: &PeekRequest) -> Try<PeekResponse> {
        let hold = self.hold(request.export, request.ts)?;
        let mut pending = Pending {
            id: self.shared.peek_id(),
            hold: Some(hold),
            lead: self,
            unanswered: 0,
        };
        if let Some((route, handle)) = self.only_here() {
            let (sender, receiver) = oneshot::channel();
            let peek = peek(pending.id, route.epoch, route.after, request);
            handle.peek(peek, Box::new(move |answer| drop(sender.send(answer))));
            pending.unanswered = 1;
            let answer = receiver.await;
            pending.unanswered = 0;
            return Ok(answer.unwrap_or(PeekResponse::Refused(Refusal::Stopping)));
        }
        Box::pin(self.ask_several(&mut pending, request)).await
    }

    /// The only replica that can be asked, if it is here.
    fn only_here(&self) -> Option<(Route, ReplicaHandle)> {
        let route = self.routes.only()?;
        match self.targets.read().get(&route.replica)? {
            Target::Here(handle) => Some((route, handle.clone())),
            Target::Elsewhere(_) => None,
        }
    }

    async fn ask_several(
        &self,
        pending: &mut Pending<'_>,
        request: &PeekRequest,
    ) -> Try<PeekResponse> {
        let mut asking = Asking::new(self.by_nearness(pending.id));
        let mut asked = FuturesUnordered::new();
        let hedge = self.shared.host.clock.sleep(HEDGE);
        tokio::pin!(hedge);
        let mut next = asking.begin();
        loop {
            pending.unanswered = asking.unanswered();
            match next {
                Next::Answer(answer) => return Ok(answer),
                Next::Ask(routes) => {
                    let sent = routes.into_iter();
                    asked.extend(sent.map(|route| self.send(pending.id, request, route)));
                }
                Next::Wait => {}
            }
            next = tokio::select! {
                biased;
                Some(answer) = asked.next() => asking.answered(answer),
                () = &mut hedge, if asking.has_others() => asking.slow(),
                else => return Ok(PeekResponse::Refused(Refusal::Stopping)),
            };
        }
    }

    /// The replicas that can be asked: those here first, the others in an order that spreads the reads.
    fn by_nearness(&self, id: PeekId) -> Vec<Route> {
        let mut routes = self.routes.all();
        if !routes.is_empty() {
            let start = (id.0 % routes.len() as u128) as usize;
            routes.rotate_left(start);
        }
        let targets = self.targets.read();
        routes.sort_by_key(|route| !matches!(targets.get(&route.replica), Some(Target::Here(_))));
        routes
    }

    fn send(
        &self,
        id: PeekId,
        request: &PeekRequest,
        route: Route,
    ) -> BoxFuture<'static, PeekResponse> {
        let Route {
            replica,
            epoch,
            after,
        } = route;
        match self.targets.read().get(&replica) {
            Some(Target::Here(handle)) => {
                let (sender, receiver) = oneshot::channel();
                let reply = Box::new(move |answer| drop(sender.send(answer)));
                handle.peek(peek(id, epoch, after, request), reply);
                let refused = PeekResponse::Refused(Refusal::Stopping);
                Box::pin(async move { receiver.await.unwrap_or(refused) })
            }
            Some(Target::Elsewhere(node)) => {
                let call = PeekCall::Replica {
                    cluster: self.cluster,
                    replica,
                    id,
                    epoch,
                    after,
                    read: read_of(request),
                };
                Box::pin(ask_elsewhere(Arc::clone(&self.shared), *node, call))
            }
            // It was disconnected meanwhile.
            None => Box::pin(std::future::ready(PeekResponse::Refused(Refusal::Stopping))),
        }
    }

    fn not_running(&self, export: GlobalId) -> SqlError {
        let failure = self.failures.lock().get(&export).cloned();
        // The reader is to know that it is the limit, and which one.
        if let Some(limit) = failure.as_ref().filter(|f| f.sqlstate == OUT_OF_MEMORY) {
            return limit.clone().into();
        }
        let error = SqlError::new(
            NOT_RUNNING,
            format!("{export} is not running on its cluster"),
        )
        .hint(
            "It is started again from time to time, and when something of its cluster is dropped.",
        );
        match failure {
            Some(reason) => error.detail(reason.message),
            None => error,
        }
    }

    /// What it knows, for those who want to see.
    pub fn info(&self) -> ClusterInfo {
        let ready: Vec<ReplicaId> = self.routes.all().iter().map(|r| r.replica).collect();
        let replica = |(replica, node): (&ReplicaId, &NodeId)| ReplicaInfo {
            replica: *replica,
            node: *node,
            ready: ready.contains(replica),
        };
        let frontiers = self.frontiers.lock();
        ClusterInfo {
            leader: self.shared.node,
            epoch: self.epoch,
            replicas: self.placed.lock().iter().map(replica).collect(),
            exports: frontiers
                .iter()
                .map(|(id, frontier)| {
                    let since = self.holds.since(*id).unwrap_or(frontier.since);
                    (*id, since, frontier.upper)
                })
                .collect(),
        }
    }
}

async fn ask_elsewhere(shared: Arc<Shared>, node: NodeId, call: PeekCall) -> PeekResponse {
    match ask(&shared, node, &call).await {
        Answered::Rows(rows) => PeekResponse::Rows(PeekRows { rows }),
        Answered::Failed(error) => PeekResponse::Error(EvalError {
            detail: error.detail,
            hint: error.hint,
            ..EvalError::new(&error.sqlstate, error.message)
        }),
        Answered::Refused(refusal) => PeekResponse::Refused(refusal),
        Answered::NotLeader(_) | Answered::Nothing => PeekResponse::Refused(Refusal::Stopping),
    }
}
