//! SUBSCRIBE: the changes of a query, as they happen.

use crate::adapter::compile::{ViewDefinitions, evaluate_constant};
use crate::adapter::error::{Result, SqlError};
use crate::adapter::execute::{Failure, Params};
use crate::adapter::lease::SubscriptionLease;
use crate::adapter::read_point::ReadPoint;
use crate::adapter::session::Session;
use crate::lead::SubscribeHandle;
use planner::optimize::{CatalogOracle, ExportSpec, optimize_dataflow};
use planner::statement::SubscribePlan;
use protocol::SubscribeBatch;
use repr::{Datum, RelationDesc, Row, RowPacker, Timestamp};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A running SUBSCRIBE. Dropping it ends its dataflow.
pub struct Subscription {
    pub desc: Arc<RelationDesc>,
    progress: bool,
    /// Changes from this time on are not wanted.
    up_to: Option<Timestamp>,
    handle: SubscribeHandle,
    /// Keeps what the next leader would have to read, should this one go.
    lease: SubscriptionLease,
    /// Rows that have arrived but were not given out.
    ready: VecDeque<Row>,
    ended: bool,
    /// Why no more will come.
    failed: Option<SqlError>,
    packer: RowPacker,
    /// Columns of the relation.
    arity: usize,
}

impl Session {
    pub(crate) async fn subscribe(
        &mut self,
        plan: &SubscribePlan,
        params: &Params,
        point: &ReadPoint,
        _limit: Option<usize>,
    ) -> Result<Subscription, Failure> {
        if self.txn.has_effects() {
            return Err(SqlError::unsupported(
                "SUBSCRIBE in a transaction that has written",
                "COMMIT first.",
            )
            .into());
        }
        let as_of = match &plan.as_of {
            Some(as_of) => self.as_of(as_of, params, point).await?,
            None => point.ts,
        };
        let up_to = match &plan.up_to {
            None => None,
            Some(expr) => {
                let up_to = self.resolve_time(expr, params, point)?;
                if up_to < as_of {
                    return Err(SqlError::new("22023", format!("subscription lower bound (`AS OF`) is greater than its upper bound (`UP TO`): {as_of} > {up_to}")).into());
                }
                Some(up_to)
            }
        };
        let catalog = Arc::clone(point.state.catalog());
        let cluster = self.with_view(&catalog, |view| view.cluster(None).map(|c| c.id))?;
        let id = self.adapter.transient_id();
        let spec = ExportSpec::Subscribe {
            id,
            types: plan.desc.types.clone(),
            with_snapshot: plan.snapshot,
        };
        let mut dataflow = {
            let oracle = CatalogOracle::new(&catalog, &ViewDefinitions);
            optimize_dataflow(
                &format!("subscribe {id}"),
                plan.mir.clone(),
                &spec,
                &oracle,
                cluster,
            )?
            .dataflow
        };
        dataflow.as_of = Some(as_of);
        dataflow.until = up_to;
        let lease = self.adapter.leases.subscribe(as_of);
        let handle = self
            .adapter
            .clusters
            .subscribe(cluster, dataflow, catalog.version)
            .await?;
        Ok(Subscription {
            desc: Arc::new(plan.output_desc()),
            progress: plan.progress,
            up_to,
            handle,
            lease,
            ready: VecDeque::new(),
            ended: false,
            failed: None,
            packer: RowPacker::new(),
            arity: plan.desc.types.len(),
        })
    }

    fn resolve_time(
        &self,
        expr: &plan::ScalarExpr,
        params: &Params,
        point: &ReadPoint,
    ) -> Result<Timestamp> {
        let mut expr = expr.clone();
        expr.visit_mut_post(&mut |e| {
            if matches!(
                e,
                plan::ScalarExpr::Unmaterializable(plan::scalar::Unmaterializable::MzNow)
            ) {
                *e = plan::ScalarExpr::literal(
                    Datum::MzTimestamp(point.ts),
                    repr::SqlType::MzTimestamp,
                );
            }
        });
        evaluate_constant(&expr, params, &self.eval, |datum| match datum {
            Datum::Null => Err(SqlError::new(
                "22023",
                "UP TO requires a time that is not null",
            )),
            datum => Ok(datum.unwrap_mz_timestamp()),
        })
    }
}

impl Subscription {
    /// The next row; `None` when the subscription has ended.
    pub async fn next(&mut self) -> Result<Option<Row>> {
        loop {
            if let Some(row) = self.ready.pop_front() {
                return Ok(Some(row));
            }
            if self.ended {
                return Ok(None);
            }
            self.receive().await?;
        }
    }

    /// Whether [`Subscription::next`] would wait.
    pub fn is_idle(&self) -> bool {
        self.ready.is_empty() && !self.ended && self.handle.is_idle()
    }

    /// Up to `max` rows: those that are there, or those that arrive within the time-out. Cancelling it loses nothing: rows are taken out only at its end.
    pub async fn fetch(&mut self, max: usize, timeout: Option<Duration>) -> Result<Vec<Row>> {
        let gathered = match timeout {
            None => self.gather(max, false).await,
            // When time is up, what has arrived is the answer.
            Some(limit) => tokio::time::timeout(limit, self.gather(max, true))
                .await
                .unwrap_or(Ok(())),
        };
        if self.ready.is_empty() {
            gathered?;
        }
        let count = self.ready.len().min(max);
        Ok(self.ready.drain(..count).collect())
    }

    /// Waits until `max` rows are ready; unless `patient`, only for the first one and what has arrived with it.
    async fn gather(&mut self, max: usize, patient: bool) -> Result<()> {
        while self.ready.len() < max && !self.ended {
            if !patient && !self.ready.is_empty() && self.handle.is_idle() {
                break;
            }
            self.receive().await?;
        }
        Ok(())
    }

    /// Takes the next batch of changes in. An error is told once the rows before it are given out, and again whenever it is asked for.
    async fn receive(&mut self) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let done = match self.handle.next().await {
            Some(batch) => batch.and_then(|batch| self.accept(batch)),
            None => Err(SqlError::shutdown()),
        };
        self.lease.raise(self.handle.needed_from());
        self.failed = done.clone().err();
        done
    }

    fn accept(&mut self, batch: SubscribeBatch) -> Result<()> {
        for (time, row, diff) in batch.updates? {
            if self.up_to.is_some_and(|up_to| time >= up_to) {
                continue;
            }
            self.packer.push(Datum::MzTimestamp(time));
            if self.progress {
                self.packer.push(Datum::Bool(false));
            }
            self.packer.push(Datum::Int64(diff));
            self.packer.extend_row(row.as_ref());
            self.ready.push_back(self.packer.finish_row());
        }
        if self.progress
            && let Some(upper) = batch.upper
        {
            self.packer.push(Datum::MzTimestamp(upper));
            self.packer.push(Datum::Bool(true));
            for _ in 0..=self.arity {
                self.packer.push(Datum::Null);
            }
            self.ready.push_back(self.packer.finish_row());
        }
        let complete = batch
            .upper
            .is_none_or(|upper| self.up_to.is_some_and(|up_to| upper >= up_to));
        self.ended |= complete;
        Ok(())
    }
}
