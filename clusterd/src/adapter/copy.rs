//! COPY FROM STDIN and COPY TO STDOUT: the text and csv formats (PostgreSQL 15, COPY, "File Formats").

mod csv;
mod decode;
mod encode;
mod text;

use crate::adapter::compile::Compiled;
use crate::adapter::error::{Result, SqlError};
use crate::adapter::execute::{Failure, Params};
use crate::adapter::portal::Prepared;
use crate::adapter::read_point::ReadPoint;
use crate::adapter::session::{Output, Session};
use crate::adapter::subscribe::Subscription;
use crate::adapter::transaction::Block;
use plan::scalar::catalog_fns::RegKind;
use planner::statement::{CopyFormat, CopyFromPlan, CopyOptions, CopyToPlan, CopyToSource};
use repr::{RelationDesc, Row};
use state::catalog::{Item, ItemKind};
use std::sync::Arc;

pub use decode::LineDecoder;
pub use encode::RowEncoder;

/// A COPY FROM that waits for data.
pub struct CopyIn {
    pub columns: usize,
    pub decoder: LineDecoder,
    point: ReadPoint,
    item: Arc<Item>,
}

/// A COPY TO that is ready to send.
pub struct CopyOut {
    pub columns: usize,
    pub encoder: RowEncoder,
    pub source: CopyRows,
}

pub enum CopyRows {
    Rows(Vec<Row>),
    Subscribe(Box<Subscription>),
}

impl Session {
    pub(crate) fn copy_from(&mut self, plan: &CopyFromPlan, point: &ReadPoint) -> Result<CopyIn> {
        self.check_writable("COPY FROM")?;
        refuse_binary(&plan.options)?;
        let catalog = Arc::clone(self.txn.view(point).0.catalog());
        let item = catalog.item(plan.table).ok_or_else(SqlError::conflict)?;
        if !matches!(item.kind, ItemKind::Table(_)) {
            return Err(SqlError::new(
                "42809",
                format!("cannot copy to \"{}\": it is not a table", item.name),
            ));
        }
        // Names in the data are looked up at this read point.
        let named = |c: &repr::ColumnType| RegKind::of(&c.ty).is_some();
        self.txn.reads.catalog |= plan.desc.types.iter().any(named);
        let decoder = LineDecoder::new(plan, &item.name, self.eval_context(&catalog));
        Ok(CopyIn {
            columns: plan.desc.types.len(),
            decoder,
            point: point.clone(),
            item: Arc::clone(item),
        })
    }

    /// Takes all rows of a COPY FROM as one write; the number of rows.
    pub(crate) async fn finish_copy(&mut self, copy: CopyIn) -> Result<u64> {
        let rows = copy.decoder.finish()?;
        let ItemKind::Table(table) = &copy.item.kind else {
            return Err(SqlError::internal(
                "COPY into something that is not a table",
            ));
        };
        let count = rows.len() as u64;
        for row in &rows {
            self.check_not_null(&row.row, &copy.item, table, &row_not_null(table))
                .map_err(|e| row.locate(e, &copy.item.name))?;
        }
        let updates = rows.into_iter().map(|row| (row.row, 1)).collect();
        self.write(&copy.point, &copy.item, table.shard, updates, false)?;
        if self.txn.block == Block::Auto {
            self.commit_or_error().await?;
        }
        Ok(count)
    }

    pub(crate) async fn copy_to(
        &mut self,
        plan: &CopyToPlan,
        prepared: &Arc<Prepared>,
        params: &Params,
        point: &ReadPoint,
    ) -> Result<Output, Failure> {
        refuse_binary(&plan.options)?;
        let (desc, source) = match &plan.source {
            CopyToSource::Subscribe(subscribe) => {
                let subscription = self.subscribe(subscribe, params, point, None).await?;
                (
                    Arc::clone(&subscription.desc),
                    CopyRows::Subscribe(Box::new(subscription)),
                )
            }
            CopyToSource::Select(select) => {
                let (desc, rows) = self
                    .run_here(
                        planner::Plan::Select((**select).clone()),
                        prepared,
                        params,
                        point,
                    )
                    .await?;
                (desc, CopyRows::Rows(rows))
            }
            CopyToSource::Statement(plan) => {
                let (desc, rows) = self
                    .run_here((**plan).clone(), prepared, params, point)
                    .await?;
                (desc, CopyRows::Rows(rows))
            }
        };
        let columns = desc.arity();
        let names = self.names_for(&desc, self.txn.view(point).0.catalog());
        self.txn.reads.catalog |= names.is_some();
        let mut encoder = RowEncoder::new(desc, plan.options.clone(), self.format_context());
        encoder.names = names;
        Ok(Output::CopyOut(Box::new(CopyOut {
            columns,
            encoder,
            source,
        })))
    }

    /// Compiles and runs a plan that is part of another statement; its rows.
    async fn run_here(
        &mut self,
        plan: planner::Plan,
        prepared: &Arc<Prepared>,
        params: &Params,
        point: &ReadPoint,
    ) -> Result<(Arc<RelationDesc>, Vec<Row>), Failure> {
        let compiled = self.compile_here(plan, point, prepared)?;
        match compiled {
            Compiled::Select(select) => {
                let rows = self.select_rows(&select, params, point).await?;
                Ok((Arc::clone(&select.desc), rows))
            }
            Compiled::Dml(dml) => match self.dml(&dml, params, point).await? {
                Output::Rows(rows) => Ok((Arc::clone(&rows.desc), rows.remaining().to_vec())),
                _ => Err(SqlError::new("0A000", "COPY query must have a RETURNING clause").into()),
            },
            Compiled::Plan(_) => {
                Err(SqlError::internal("COPY of something that is not a query").into())
            }
        }
    }
}

fn row_not_null(table: &state::catalog::Table) -> Vec<usize> {
    table
        .columns
        .iter()
        .enumerate()
        .filter(|(_, c)| !c.nullable)
        .map(|(i, _)| i)
        .collect()
}

fn refuse_binary(options: &CopyOptions) -> Result<()> {
    match options.format {
        CopyFormat::Binary => Err(SqlError::unsupported(
            "COPY in binary format",
            "Use FORMAT text or csv.",
        )),
        CopyFormat::Text | CopyFormat::Csv => Ok(()),
    }
}
