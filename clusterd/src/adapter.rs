//! The gateway: SQL sessions and everything they share on one node.
//!
//! There is no coordinator: each connection is a task that plans and runs its own statements. What sessions share is listed in [`Adapter`]; each of its parts
//! is a queue with a meter or a lock held for nanoseconds. Nothing here is authoritative: a gateway that dies loses only unacknowledged work.
//!
//! The life of a SELECT: `pgwire` cuts the message, `cache` finds the plan, [`read_point`] gives the point in history, `query` reads tables here or peeks the CLUSTER's
//! replicas through [`crate::lead`], `pgwire::rows` encodes the answer. The life of an INSERT: the same up to the plan, then `dml` builds the transaction and
//! [`commit`] carries it into ENV's log.

pub mod cache;
pub mod commit;
pub mod compile;
mod control;
pub mod copy;
pub mod cursor;
mod ddl;
mod dml;
mod ended;
pub mod error;
mod execute;
mod explain;
pub mod fair;
mod introspection;
pub mod lease;
mod nodes;
pub mod pgwire;
pub mod portal;
mod query;
pub mod read_point;
pub mod registry;
pub mod session;
pub mod settings;
pub mod subscribe;
pub mod transaction;

use crate::config::Config;
use crate::env::Env;
use crate::lead::Clusters;
use crate::node::Neighbours;
use bytes::Bytes;
use cache::PlanCache;
use commit::Committer;
use ended::Ended;
use error::SqlError;
use fair::FairQueues;
use host::metrics::{IntCounter, counter};
use host::{BoxFuture, Host};
use lease::Leases;
use mesh::{Message, Refusal, Request, Transport};
use protocol::{Cancel, Kind, Lane};
use read_point::ReadPoints;
use registry::Sessions;
use repr::{GlobalId, PgTimestamp};
use state::command::Gateway;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// What a client says when it connects.
#[derive(Clone, Debug, Default)]
pub struct SessionStart {
    pub user: String,
    pub database: Option<String>,
    pub settings: Vec<(String, String)>,
}

/// Counters of the adapter.
pub struct Metrics {
    pub retries: IntCounter,
    pub statements: IntCounter,
}

/// Everything that the sessions of one node share.
pub struct Adapter {
    pub config: Config,
    pub host: Host,
    pub env: Arc<Env>,
    pub read_points: Arc<ReadPoints>,
    pub committer: Committer,
    pub clusters: Arc<Clusters>,
    /// How the other nodes fare.
    pub neighbours: Arc<Neighbours>,
    pub plans: PlanCache,
    pub sessions: Sessions,
    pub leases: Leases,
    pub metrics: Metrics,
    /// This process's life as a gateway.
    pub gateway: Gateway,
    /// True once the server stops.
    pub stopping: watch::Receiver<bool>,
    transient: AtomicU64,
    /// For writers whose first attempt met a conflict.
    pub fair: FairQueues,
    ended_sessions: Ended,
}

/// How long a cancel request may take to another node.
const CANCEL_WITHIN: Duration = Duration::from_secs(2);

/// Where the ids of this gateway's temporary dataflows and subscriptions start. Catalog ids never reach them, and neither do the ids of another gateway or of an earlier start:
/// a CLUSTER's leader serves all gateways.
fn transient_base(gateway: Gateway) -> u64 {
    const COUNTER_BITS: u32 = 36;
    const START_BITS: u32 = 14;
    const NODE_BITS: u32 = 12;
    let start = gateway.incarnation & ((1 << START_BITS) - 1);
    let node = gateway.node.0 & ((1 << NODE_BITS) - 1);
    (1 << 63) | (node << (COUNTER_BITS + START_BITS)) | (start << COUNTER_BITS)
}

impl Adapter {
    /// The adapter and the task that tells ENV about sessions that have ended.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        config: Config,
        host: Host,
        env: Arc<Env>,
        read_points: Arc<ReadPoints>,
        committer: Committer,
        clusters: Arc<Clusters>,
        neighbours: Arc<Neighbours>,
        gateway: Gateway,
        stopping: watch::Receiver<bool>,
    ) -> (Arc<Adapter>, impl Future<Output = ()> + Send + 'static) {
        let (ended_sessions, receiver) = Ended::new();
        let told = Arc::clone(&env);
        let propose = move |command| {
            let env = Arc::clone(&told);
            async move { env.propose(&command).await.map(drop) }
        };
        let forget = ended::tell(gateway, receiver, Arc::clone(&host.clock), propose);
        let adapter = Adapter {
            sessions: Sessions::new(Arc::clone(&host.rng), registry::slot_of_node(gateway.node)),
            config,
            host,
            env,
            read_points,
            committer,
            clusters,
            neighbours,
            plans: PlanCache::default(),
            leases: Leases::default(),
            metrics: Metrics {
                retries: counter(
                    "clusterd_statement_retries_total",
                    "Statements run again after a definite rejection.",
                ),
                statements: counter("clusterd_statements_total", "Statements run."),
            },
            gateway,
            stopping,
            transient: AtomicU64::new(transient_base(gateway)),
            fair: FairQueues::default(),
            ended_sessions,
        };
        (Arc::new(adapter), forget)
    }

    /// A CancelRequest packet. A balancer brings it to any node: it is sent on to the one whose session it names.
    pub async fn cancel(&self, pid: i32, secret: &[u8]) {
        let slot = registry::slot_of_pid(pid);
        if slot == registry::slot_of_node(self.gateway.node) {
            return self.sessions.cancel(pid, secret);
        }
        let state = self.env.storage().view();
        let Some(node) = state
            .nodes()
            .keys()
            .find(|node| registry::slot_of_node(**node) == slot)
        else {
            return;
        };
        let body = Cancel {
            pid,
            secret: secret.to_vec(),
        };
        let message = Message::new(Lane::Control, Kind::CANCEL, body.encode());
        // As Postgres does: whoever asked hears nothing.
        if let Err(error) = self
            .env
            .transport()
            .call(*node, message, CANCEL_WITHIN)
            .await
        {
            tracing::debug!(%error, %node, "a cancel request was not delivered");
        }
    }

    /// Lets cancel requests in that reached other nodes.
    pub fn serve_cancels(self: &Arc<Self>, transport: &dyn Transport) {
        let adapter = Arc::downgrade(self);
        let cancel = move |request: Request| -> BoxFuture<'static, Result<Bytes, Refusal>> {
            let adapter = adapter.clone();
            Box::pin(async move {
                let Cancel { pid, secret } = Cancel::decode(&request.body)
                    .map_err(|error| Refusal::Malformed(error.to_string()))?;
                if let Some(adapter) = adapter.upgrade() {
                    adapter.sessions.cancel(pid, &secret);
                }
                Ok(Bytes::new())
            })
        };
        transport.serve_calls(Lane::Control, Kind::CANCEL, Arc::new(cancel));
    }

    pub fn transient_id(&self) -> GlobalId {
        GlobalId(self.transient.fetch_add(1, Ordering::Relaxed))
    }

    /// The wall clock as SQL sees it.
    pub fn now(&self) -> PgTimestamp {
        // A clock outside of what SQL can show reads as 2000.
        PgTimestamp::from_unix_micros(self.host.clock.wall_us() as i64).unwrap_or(PgTimestamp(0))
    }

    /// Lets ENV forget the session's token, some time soon.
    pub fn end_session(&self, number: u64) {
        self.ended_sessions.push(number);
    }

    /// One-shot SQL for HTTP: every statement's answer in order.
    pub async fn sql(
        self: &Arc<Self>,
        start: SessionStart,
        text: &str,
    ) -> Result<Vec<session::Output>, SqlError> {
        let mut session = session::Session::start(Arc::clone(self), start).await?;
        let outputs = session.run_script(text).await;
        session.close().await;
        outputs
    }
}
