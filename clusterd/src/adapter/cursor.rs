//! Cursors: DECLARE, FETCH, MOVE, CLOSE.

use crate::adapter::compile::Compiled;
use crate::adapter::error::{Result, SqlError};
use crate::adapter::execute::{Failure, Params};
use crate::adapter::portal::Prepared;
use crate::adapter::read_point::ReadPoint;
use crate::adapter::session::{Output, RowSet, Session};
use crate::adapter::subscribe::Subscription;
use crate::adapter::transaction::Block;
use planner::ast::FetchDirection;
use planner::statement::{DeclarePlan, DeclareSource, FetchPlan};
use repr::{RelationDesc, Row};
use std::sync::Arc;
use std::time::Duration;

pub struct Cursor {
    /// Stays open after COMMIT.
    pub hold: bool,
    /// Its transaction has committed: a later rollback does not end it.
    pub kept: bool,
    source: Source,
}

enum Source {
    Rows(RowSet),
    Subscribe(Box<Subscription>),
}

impl Cursor {
    pub fn desc(&self) -> Arc<RelationDesc> {
        match &self.source {
            Source::Rows(rows) => Arc::clone(&rows.desc),
            Source::Subscribe(subscription) => Arc::clone(&subscription.desc),
        }
    }
}

impl Session {
    pub(crate) async fn declare(
        &mut self,
        declare: &DeclarePlan,
        prepared: &Arc<Prepared>,
        params: &Params,
        point: &ReadPoint,
    ) -> Result<Output, Failure> {
        if self.txn.block == Block::Auto && !declare.hold {
            return Err(SqlError::new(
                "25P01",
                "DECLARE CURSOR can only be used in transaction blocks",
            )
            .into());
        }
        if self.cursors.contains_key(&declare.name) {
            return Err(SqlError::new(
                "42P03",
                format!("cursor \"{}\" already exists", declare.name),
            )
            .into());
        }
        if declare.binary {
            return Err(SqlError::unsupported(
                "DECLARE BINARY CURSOR",
                "Ask for binary results in the protocol instead.",
            )
            .into());
        }
        let source = match &declare.source {
            DeclareSource::Select(select) => {
                let plan = planner::Plan::Select((**select).clone());
                let compiled = self.compile_here(plan, point, prepared)?;
                let Compiled::Select(select) = compiled else {
                    return Err(SqlError::internal("a cursor's query was not compiled").into());
                };
                let rows = self.select_rows(&select, params, point).await?;
                let mut rows = RowSet::new(Arc::clone(&select.desc), rows, "FETCH");
                rows.names = self.names_for(&rows.desc, self.txn.view(point).0.catalog());
                self.txn.reads.catalog |= rows.names.is_some();
                Source::Rows(rows)
            }
            DeclareSource::Subscribe(subscribe) => {
                let subscription = self.subscribe(subscribe, params, point, None).await?;
                Source::Subscribe(Box::new(subscription))
            }
        };
        self.cursors.insert(
            declare.name.clone(),
            Cursor {
                hold: declare.hold,
                kept: self.txn.block == Block::Auto,
                source,
            },
        );
        Ok(Output::Complete("DECLARE CURSOR".to_owned()))
    }

    pub(crate) async fn fetch(&mut self, fetch: &FetchPlan) -> Result<Output> {
        let unknown =
            || SqlError::new("34000", format!("cursor \"{}\" does not exist", fetch.name));
        let cursor = self.cursors.get_mut(&fetch.name).ok_or_else(unknown)?;
        let max = match fetch.direction {
            FetchDirection::Forward(n) => usize::try_from(n).unwrap_or(usize::MAX),
            FetchDirection::All => usize::MAX,
            FetchDirection::Backward => {
                return Err(SqlError::new("55000", "cursor can only scan forward")
                    .hint("Declare it again to start over."));
            }
        };
        let desc = cursor.desc();
        let rows: Vec<Row> = match &mut cursor.source {
            Source::Rows(rows) => std::iter::from_fn(|| rows.next_row()).take(max).collect(),
            Source::Subscribe(subscription) => {
                let timeout = fetch.timeout_us.map(Duration::from_micros);
                subscription.fetch(max, timeout).await?
            }
        };
        if fetch.is_move {
            return Ok(Output::Complete(format!("MOVE {}", rows.len())));
        }
        let mut rows = RowSet::new(desc, rows, "FETCH");
        rows.names = match &cursor.source {
            Source::Rows(declared) => declared.names.clone(),
            // Its rows are younger than the transaction.
            Source::Subscribe(_) => self.latest_names(&rows.desc),
        };
        Ok(Output::Rows(rows))
    }

    pub(crate) fn close_cursor(&mut self, name: Option<&str>) -> Result<Output> {
        match name {
            None => {
                self.cursors.clear();
                Ok(Output::Complete("CLOSE CURSOR ALL".to_owned()))
            }
            Some(name) => match self.cursors.remove(name) {
                Some(_) => Ok(Output::Complete("CLOSE CURSOR".to_owned())),
                None => Err(SqlError::new(
                    "34000",
                    format!("cursor \"{name}\" does not exist"),
                )),
            },
        }
    }
}
