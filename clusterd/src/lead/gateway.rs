//! The gateway's side: finding the leader of a CLUSTER, wherever it is, and asking again when it moves.

use super::lookup::Lead;
use super::miss::{Miss, Try};
use super::rows::{Answered, ask, read_of};
use super::site::Site;
use super::subscription::SubscribeHandle;
use super::{Clusters, PeekRequest, Rows, TransientQuery};
use crate::adapter::error::{Result, SqlError};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use host::{BoxFuture, Instant};
use plan::Dataflow;
use protocol::cluster::PeekCall;
use repr::{ClusterId, NodeId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A statement whose CLUSTER has no leader that can be reached gives up after this long, if it has no time-out of its own that is shorter.
const NO_LEADER_MAX: Duration = Duration::from_secs(60);
/// The same for one that does not insist on a leader.
const NO_LEADER_RELAXED: Duration = Duration::from_secs(2);
/// Pause after everybody was asked in vain.
const ROUND: Duration = Duration::from_millis(20);
/// How long an elected leader here may take to begin.
const BEGINS_WITHIN: Duration = Duration::from_millis(100);
/// How long a replica here may take before the leader is asked, too.
const HEDGE: Duration = Duration::from_millis(10);

/// Where to ask.
pub(super) enum Leader {
    Here(Arc<Lead>),
    At(NodeId),
}

/// One statement's way to the leader.
pub(super) struct Search<'a> {
    site: &'a Site,
    /// When it is given up.
    until: Instant,
    /// Asked in vain in this round.
    asked: BTreeSet<NodeId>,
    /// Named by the last one that was asked.
    named: Option<NodeId>,
}

impl<'a> Search<'a> {
    pub fn new(site: &'a Site) -> Search<'a> {
        Search::within(site, NO_LEADER_MAX)
    }

    fn within(site: &'a Site, longest: Duration) -> Search<'a> {
        Search {
            site,
            until: site.shared.host.clock.now() + longest,
            asked: BTreeSet::new(),
            named: None,
        }
    }

    /// Where to ask next.
    ///
    /// # Errors
    /// If there is nobody to wait for.
    pub async fn next(&mut self) -> Result<Leader> {
        loop {
            if let Some(lead) = self.site.leading() {
                return Ok(Leader::Here(lead));
            }
            if let Some(error) = self.site.ended() {
                return Err(error);
            }
            let me = self.site.shared.node;
            match self.candidate() {
                Some(node) if node == me => {
                    self.asked.insert(me);
                    self.wait_for_lead(BEGINS_WITHIN).await;
                }
                Some(node) => return Ok(Leader::At(node)),
                None => self.end_round().await?,
            }
        }
    }

    fn candidate(&mut self) -> Option<NodeId> {
        let fresh = |node: &NodeId| !self.asked.contains(node);
        let known = self.named.take().or_else(|| self.site.known_leader());
        if let Some(node) = known.filter(fresh) {
            return Some(node);
        }
        let wanted = self.site.wanted();
        let wanted = wanted.borrow();
        let voters = wanted.group.as_ref().map(|group| &group.voters)?;
        voters.iter().copied().find(fresh)
    }

    /// Nobody leads at the moment: an election, or a leader that has yet to be placed.
    async fn end_round(&mut self) -> Result<()> {
        if self.site.shared.host.clock.now() >= self.until {
            let name = &self.site.name;
            return Err(SqlError::new(
                "57P03",
                format!("cluster \"{name}\" has no leader that can be reached"),
            )
            .hint("Try again; SHOW CLUSTER REPLICAS and SHOW NODES tell which nodes it needs."));
        }
        self.asked.clear();
        self.wait_for_lead(ROUND).await;
        Ok(())
    }

    /// Until this node leads, or a while.
    async fn wait_for_lead(&self, longest: Duration) {
        let mut lead = self.site.lead.subscribe();
        let group = self.site.group();
        let elected = async {
            match &group {
                // Whoever is elected has to be asked.
                Some(group) => {
                    let mut status = group.status();
                    status.mark_unchanged();
                    let _ = status.changed().await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = lead.wait_for(Option::is_some) => {}
            () = elected => {}
            () = self.site.shared.host.clock.sleep(longest) => {}
        }
    }

    /// That one was not it.
    pub fn missed(&mut self, asked: Option<NodeId>, named: Option<NodeId>) {
        self.asked.extend(asked);
        self.site.set_hint(named);
        // Asking the same two in turns is no search.
        self.named = named.filter(|node| !self.asked.contains(node));
    }

    /// That one leads; `None`: it is here.
    pub fn found(&self, node: Option<NodeId>) {
        self.site.set_hint(node);
    }

    /// Resolves when the group says that another node than `asked` leads: its silence needs not be waited for.
    pub async fn overtaken(&self, asked: NodeId) {
        let Some(group) = self.site.group() else {
            return std::future::pending().await;
        };
        let mut status = group.status();
        let other = |leader: Option<u64>| leader.is_some_and(|leader| leader != asked.0);
        if status.wait_for(|now| other(now.leader)).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Clusters {
    /// Reads an arrangement of a CLUSTER.
    pub async fn peek(&self, cluster: ClusterId, request: PeekRequest) -> Result<Rows> {
        let site = self.site(cluster).await?;
        if let Some(lead) = site.leading() {
            match lead.peek(&request).await {
                Ok(rows) => return Ok(rows),
                Err(Miss::Sql(error)) => return Err(error),
                Err(Miss::Moved(_)) => {}
            }
        }
        Box::pin(site.peek_anywhere(&request)).await
    }

    /// Runs a query by a dataflow that lives as long as the query.
    pub async fn query(&self, cluster: ClusterId, query: TransientQuery) -> Result<Rows> {
        let site = self.site(cluster).await?;
        Box::pin(site.at_leader(Asked::Query(&query))).await
    }

    /// Starts a dataflow that sends its changes, from `dataflow.as_of` on.
    pub async fn subscribe(
        &self,
        cluster: ClusterId,
        dataflow: Dataflow,
        catalog_version: u64,
    ) -> Result<SubscribeHandle> {
        let site = self.site(cluster).await?;
        SubscribeHandle::begin(site, dataflow, catalog_version).await
    }
}

impl Site {
    /// From the replica that is here; if there is none or it takes long, from the leader as well.
    async fn peek_anywhere(&self, request: &PeekRequest) -> Result<Rows> {
        let here = self.peek_here(request);
        tokio::pin!(here);
        let answer = tokio::select! {
            biased;
            answer = &mut here => Some(answer),
            () = self.shared.host.clock.sleep(HEDGE) => None,
        };
        match answer {
            Some(Some(answer)) => answer,
            Some(None) => self.peek_at_leader(request).await,
            None => tokio::select! {
                biased;
                Some(answer) = &mut here => answer,
                answer = self.peek_at_leader(request) => answer,
            },
        }
    }

    async fn peek_at_leader(&self, request: &PeekRequest) -> Result<Rows> {
        if request.relaxed
            && let Some(answer) = self.peek_elsewhere(request).await
        {
            return answer;
        }
        self.at_leader(Asked::Peek(request)).await
    }

    /// From a replica on another node, past the leader. `None`: none that can be reached has it.
    async fn peek_elsewhere(&self, request: &PeekRequest) -> Option<Result<Rows>> {
        let nodes: BTreeSet<NodeId> = {
            let wanted = self.wanted();
            let nodes: Vec<NodeId> = wanted.borrow().replicas.values().copied().collect();
            let me = self.shared.node;
            nodes.into_iter().filter(|node| *node != me).collect()
        };
        let call = PeekCall::Direct {
            cluster: self.cluster,
            plan_hash: request.plan_hash,
            read: read_of(request),
        };
        let mut asked: FuturesUnordered<BoxFuture<'_, Answered>> = nodes
            .into_iter()
            .map(|node| -> BoxFuture<'_, Answered> { Box::pin(ask(&self.shared, node, &call)) })
            .collect();
        // A node that has applied less of ENV's log than this one may never be complete at this time.
        let given_up = self.shared.host.clock.sleep(NO_LEADER_RELAXED);
        tokio::pin!(given_up);
        loop {
            let answer = tokio::select! {
                biased;
                answer = asked.next() => answer?,
                () = &mut given_up => return None,
            };
            match answer {
                Answered::Rows(rows) => return Some(Ok(rows)),
                Answered::Failed(error) => return Some(Err(error)),
                Answered::Refused(_) | Answered::NotLeader(_) | Answered::Nothing => {}
            }
        }
    }

    /// Asks whoever leads, until somebody who does has answered.
    async fn at_leader(&self, asked: Asked<'_>) -> Result<Rows> {
        let longest = match asked.is_relaxed() {
            true => NO_LEADER_RELAXED,
            false => NO_LEADER_MAX,
        };
        let mut search = Search::within(self, longest);
        loop {
            let (node, answer) = match search.next().await? {
                Leader::Here(lead) => (None, asked.here(&lead).await),
                Leader::At(node) => {
                    let call = asked.call(self.cluster);
                    let answer = tokio::select! {
                        biased;
                        answer = ask(&self.shared, node, &call) => answer.of_leader(),
                        () = search.overtaken(node) => Err(Miss::Moved(None)),
                    };
                    (Some(node), answer)
                }
            };
            match answer {
                Ok(rows) => {
                    search.found(node);
                    return Ok(rows);
                }
                Err(Miss::Sql(error)) => return Err(error),
                Err(Miss::Moved(named)) => search.missed(node, named),
            }
        }
    }
}

/// What a leader is asked for.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Peek(&'a PeekRequest),
    Query(&'a TransientQuery),
}

impl Asked<'_> {
    fn is_relaxed(self) -> bool {
        match self {
            Asked::Peek(request) => request.relaxed,
            Asked::Query(query) => query.relaxed,
        }
    }

    async fn here(self, lead: &Lead) -> Try<Rows> {
        match self {
            Asked::Peek(request) => lead.peek(request).await,
            Asked::Query(query) => lead.query(query).await,
        }
    }

    fn call(self, cluster: ClusterId) -> PeekCall {
        match self {
            Asked::Peek(request) => PeekCall::Export {
                cluster,
                read: read_of(request),
                catalog_version: request.catalog_version,
            },
            Asked::Query(query) => PeekCall::Query {
                cluster,
                dataflow: Arc::clone(&query.dataflow),
                ts: query.ts,
                arity: query.arity as u64,
                bytes_max: query.bytes_max,
                catalog_version: query.catalog_version,
            },
        }
    }
}
