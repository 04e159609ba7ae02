//! Statements about the session itself: transactions, settings, prepared statements, cursors.

use crate::adapter::compile::{Compiled, evaluate_constant};
use crate::adapter::error::{Result, SqlError};
use crate::adapter::execute::{Failure, Params};
use crate::adapter::pgwire::writer::Notice;
use crate::adapter::portal::Prepared;
use crate::adapter::session::{Output, RowSet, Session};
use crate::adapter::settings::is_transaction_mode;
use crate::adapter::transaction::Block;
use plan::ScalarExpr;
use plan::scalar::EvalCtx;
use plan::scalar::catalog_fns::RegKind;
use planner::Plan;
use planner::ast::{Discard, IsolationLevel, SetValue, TransactionMode, TransactionScope};
use repr::{Datum, Row, SqlType};
use std::sync::Arc;

impl Session {
    pub(crate) async fn run_control(
        &mut self,
        prepared: &Arc<Prepared>,
        params: &Params,
    ) -> Result<Output, Failure> {
        let Compiled::Plan(plan) = &prepared.compiled else {
            return Err(SqlError::internal("a query was taken for a control statement").into());
        };
        let done = match &**plan {
            Plan::Begin { modes } => self.begin(modes),
            Plan::Commit { chain } => self.commit_block(*chain).await,
            Plan::Rollback { chain } => Ok(self.rollback_block(*chain)),
            Plan::SetTransaction { modes, scope } => self.set_transaction(modes, *scope),
            Plan::SetVariable { name, value, local } => self.set_variable(name, value, *local),
            Plan::ResetVariable { name } => self.reset_variable(name.as_deref()),
            Plan::ShowVariable { name } => self.show_variable(name, prepared),
            Plan::ShowAll => Ok(self.show_all(prepared)),
            Plan::Prepare(prepare) => {
                let statement = self
                    .prepare_statement(
                        prepare.statement.clone(),
                        &prepare.text,
                        prepare.declared.clone(),
                        true,
                    )
                    .await?;
                self.name_statement(prepare.name.clone(), statement)?;
                Ok(Output::Complete("PREPARE".to_owned()))
            }
            Plan::Execute { name, args } => return self.execute_named(name, args, params).await,
            Plan::Deallocate { name } => self.deallocate_named(name.as_deref()),
            Plan::Discard(what) => self.discard(*what),
            Plan::Fetch(fetch) => self.fetch(fetch).await,
            Plan::Close { name } => self.close_cursor(name.as_deref()),
            Plan::NoOp { tag, notices } => {
                self.planner_notices(notices);
                Ok(if tag.is_empty() {
                    Output::Empty
                } else {
                    Output::Complete(tag.clone())
                })
            }
            _ => Err(SqlError::internal(
                "a statement was taken for a control statement",
            )),
        };
        Ok(done?)
    }

    pub(crate) fn planner_notices(&mut self, notices: &[planner::Notice]) {
        for n in notices {
            self.notice(Notice {
                severity: n.severity,
                sqlstate: n.sqlstate,
                message: n.message.clone(),
            });
        }
    }

    // Transactions.

    fn begin(&mut self, modes: &[TransactionMode]) -> Result<Output> {
        match self.txn.block {
            Block::Explicit => {
                self.notice(Notice::warning(
                    "25001",
                    "there is already a transaction in progress",
                ));
            }
            // BEGIN inside a pipeline turns what it has done so far into the start of the block.
            Block::Implicit => {
                self.txn.block = Block::Explicit;
                self.keep_modes()?;
            }
            Block::Auto => {
                self.reset_transaction(Block::Explicit);
                self.settings.begin_transaction();
                self.keep_modes()?;
            }
        }
        self.apply_modes(modes)?;
        Ok(Output::Complete("BEGIN".to_owned()))
    }

    /// The modes of a block are those it began with: a default that is set in it counts for the next one.
    fn keep_modes(&mut self) -> Result<()> {
        for mode in ["transaction_isolation", "transaction_read_only"] {
            let value = self.settings.known(mode).to_owned();
            self.settings.set(mode, &value, true)?;
        }
        Ok(())
    }

    fn apply_modes(&mut self, modes: &[TransactionMode]) -> Result<()> {
        for mode in modes {
            match mode {
                TransactionMode::ReadOnly => self.set_read_only(true)?,
                TransactionMode::ReadWrite => self.set_read_only(false)?,
                TransactionMode::Isolation(level) => {
                    if self.txn.read_point.is_some() {
                        return Err(isolation_too_late());
                    }
                    self.settings
                        .set("transaction_isolation", isolation_setting(*level), true)?;
                }
                TransactionMode::Deferrable(_) => {}
            }
        }
        Ok(())
    }

    fn set_read_only(&mut self, read_only: bool) -> Result<()> {
        if self.txn.read_only && !read_only && self.txn.read_point.is_some() {
            return Err(SqlError::new(
                "25001",
                "transaction read-write mode must be set before any query",
            ));
        }
        self.txn.read_only = read_only;
        self.settings.set(
            "transaction_read_only",
            if read_only { "on" } else { "off" },
            true,
        )?;
        Ok(())
    }

    async fn commit_block(&mut self, chain: bool) -> Result<Output> {
        let block = self.txn.block;
        if block == Block::Auto {
            self.notice(Notice::warning(
                "25P01",
                "there is no transaction in progress",
            ));
            return Ok(Output::Complete("COMMIT".to_owned()));
        }
        if self.txn.failed {
            self.end_block(false);
            self.chain(chain)?;
            return Ok(Output::Complete("ROLLBACK".to_owned()));
        }
        let done = self.commit_or_error().await;
        self.end_block(done.is_ok());
        done?;
        self.chain(chain)?;
        Ok(Output::Complete("COMMIT".to_owned()))
    }

    fn rollback_block(&mut self, chain: bool) -> Output {
        if self.txn.block == Block::Auto {
            self.notice(Notice::warning(
                "25P01",
                "there is no transaction in progress",
            ));
        } else {
            self.end_block(false);
            // Beginning with default modes cannot fail.
            let _ = self.chain(chain);
        }
        Output::Complete("ROLLBACK".to_owned())
    }

    fn chain(&mut self, chain: bool) -> Result<()> {
        if chain {
            self.begin(&[])?;
        }
        Ok(())
    }

    fn set_transaction(
        &mut self,
        modes: &[TransactionMode],
        scope: TransactionScope,
    ) -> Result<Output> {
        match scope {
            TransactionScope::Current if self.txn.block == Block::Auto => {
                self.notice(Notice::warning(
                    "25P01",
                    "SET TRANSACTION can only be used in transaction blocks",
                ));
            }
            TransactionScope::Current => self.apply_modes(modes)?,
            TransactionScope::Session => {
                for mode in modes {
                    let (name, value) = match mode {
                        TransactionMode::ReadOnly => ("default_transaction_read_only", "on"),
                        TransactionMode::ReadWrite => ("default_transaction_read_only", "off"),
                        TransactionMode::Isolation(level) => {
                            ("default_transaction_isolation", isolation_setting(*level))
                        }
                        TransactionMode::Deferrable(_) => continue,
                    };
                    self.set_and_report(name, value, false)?;
                }
            }
        }
        Ok(Output::Complete("SET".to_owned()))
    }

    // Settings.

    pub(crate) fn set_and_report(&mut self, name: &str, value: &str, local: bool) -> Result<()> {
        if is_transaction_mode(name) {
            return self.set_mode(name, value);
        }
        let before = self.settings.reported();
        self.settings.set(name, value, local)?;
        self.report_changes(&before);
        Ok(())
    }

    /// A mode of the current transaction, set by name. Outside of a block that is the statement's own transaction, over with it.
    fn set_mode(&mut self, name: &str, value: &str) -> Result<()> {
        let value = self.settings.check(name, value)?;
        if self.txn.block == Block::Auto {
            return Ok(());
        }
        if name.eq_ignore_ascii_case("transaction_read_only") {
            return self.set_read_only(value == "on");
        }
        if name.eq_ignore_ascii_case("transaction_isolation")
            && self.txn.read_point.is_some()
            && value != self.settings.known("transaction_isolation")
        {
            return Err(isolation_too_late());
        }
        self.settings.set(name, &value, true)?;
        Ok(())
    }

    fn set_variable(&mut self, name: &str, value: &SetValue, local: bool) -> Result<Output> {
        if local && self.txn.block != Block::Explicit {
            self.notice(Notice::warning(
                "25P01",
                "SET LOCAL can only be used in transaction blocks",
            ));
            return Ok(Output::Complete("SET".to_owned()));
        }
        match value {
            SetValue::Default => {
                return self
                    .reset_variable(Some(name))
                    .map(|_| Output::Complete("SET".to_owned()));
            }
            SetValue::Values(values) => {
                let text = if name.eq_ignore_ascii_case("search_path") {
                    values
                        .iter()
                        .map(|v| planner::names::quote(v))
                        .collect::<Vec<_>>()
                        .join(", ")
                } else {
                    values.join(", ")
                };
                self.set_and_report(name, &text, local)?;
            }
        }
        if name.eq_ignore_ascii_case("cluster") {
            self.warn_unknown_cluster();
        }
        Ok(Output::Complete("SET".to_owned()))
    }

    fn warn_unknown_cluster(&mut self) {
        let name = self.settings.known("cluster").to_owned();
        if self
            .adapter
            .env
            .storage()
            .view()
            .catalog()
            .cluster_by_name(&name)
            .is_none()
        {
            self.notice(Notice::plain(format!("cluster \"{name}\" does not exist")));
        }
    }

    fn reset_variable(&mut self, name: Option<&str>) -> Result<Output> {
        let before = self.settings.reported();
        match name {
            // Not behind the back of a transaction that has read already.
            Some(name) if let Some(default) = self.settings.default_of_mode(name) => {
                self.set_mode(name, &default)?;
            }
            Some(name) => {
                self.settings.reset(name)?;
            }
            None => self.settings.reset_all(),
        }
        self.report_changes(&before);
        Ok(Output::Complete("RESET".to_owned()))
    }

    fn show_variable(&self, name: &str, prepared: &Prepared) -> Result<Output> {
        let Some(value) = self.settings.get(name) else {
            return Err(SqlError::new(
                "42704",
                format!("unrecognized configuration parameter \"{name}\""),
            ));
        };
        let desc = prepared
            .desc
            .clone()
            .ok_or_else(|| SqlError::internal("SHOW without columns"))?;
        Ok(Output::Rows(
            RowSet::new(desc, vec![Row::pack_slice(&[Datum::String(value)])], "SHOW")
                .without_count(),
        ))
    }

    fn show_all(&self, prepared: &Prepared) -> Output {
        let rows = self
            .settings
            .all()
            .iter()
            .map(|(name, value, help)| {
                Row::pack_slice(&[
                    Datum::String(name),
                    Datum::String(value),
                    Datum::String(help),
                ])
            })
            .collect();
        let desc = prepared.desc.clone().unwrap_or_default();
        Output::Rows(RowSet::new(desc, rows, "SHOW").without_count())
    }

    // Prepared statements by name.

    async fn execute_named(
        &mut self,
        name: &str,
        args: &[ScalarExpr],
        params: &Params,
    ) -> Result<Output, Failure> {
        let prepared = self.revalidated(name).await?;
        if args.len() != prepared.param_types.len() {
            return Err(SqlError::new(
                "42601",
                format!("wrong number of parameters for prepared statement \"{name}\""),
            )
            .detail(format!(
                "Expected {} parameters but got {}.",
                prepared.param_types.len(),
                args.len()
            ))
            .into());
        }
        let eval = match &self.txn.read_point {
            Some(point) if self.txn.reads.catalog => {
                self.eval_context(self.txn.view(point).0.catalog())
            }
            Some(_) | None => self.eval.clone(),
        };
        let mut values = Params::default();
        for (n, (arg, ty)) in args.iter().zip(&prepared.param_types).enumerate() {
            let row = match convert_argument(&eval, arg, ty, params)? {
                Argument::Value(row) => row,
                Argument::Name(name) => {
                    values.names.push((n, name));
                    Row::pack_slice(&[Datum::Null])
                }
            };
            values.values.push((row, ty.clone()));
        }
        // Not through `run`: this statement's guard is in force already.
        if self.txn.reads.catalog {
            // The values mean the same at this read point only: to try again is to evaluate them again.
            return Box::pin(self.attempt(&prepared, &values, false)).await;
        }
        Ok(Box::pin(self.run_inner(prepared, &values)).await?)
    }

    fn deallocate_named(&mut self, name: Option<&str>) -> Result<Output> {
        match name {
            Some(name) if !self.deallocate(Some(name)) => Err(SqlError::new(
                "26000",
                format!("prepared statement \"{name}\" does not exist"),
            )),
            Some(_) => Ok(Output::Complete("DEALLOCATE".to_owned())),
            None => {
                self.deallocate(None);
                Ok(Output::Complete("DEALLOCATE ALL".to_owned()))
            }
        }
    }

    fn discard(&mut self, what: Discard) -> Result<Output> {
        let tag = match what {
            Discard::All => {
                if self.txn.block == Block::Explicit {
                    return Err(SqlError::new(
                        "25001",
                        "DISCARD ALL cannot run inside a transaction block",
                    ));
                }
                self.deallocate(None);
                self.close_portals();
                self.cursors.clear();
                self.reset_variable(None)?;
                "DISCARD ALL"
            }
            Discard::Plans => "DISCARD PLANS",
            Discard::Sequences => "DISCARD SEQUENCES",
            Discard::Temp => "DISCARD TEMP",
        };
        Ok(Output::Complete(tag.to_owned()))
    }
}

/// An argument of EXECUTE.
enum Argument {
    Value(Row),
    /// The name of an object, to be looked up at the statement's read point.
    Name(String),
}

/// Evaluates an argument of EXECUTE as a value of the parameter's type.
fn convert_argument(
    eval: &EvalCtx,
    arg: &ScalarExpr,
    ty: &SqlType,
    params: &Params,
) -> Result<Argument> {
    let from = arg.typ(&[]).ty;
    evaluate_constant(arg, params, eval, |datum| {
        if datum.is_null() || from == *ty {
            return Ok(Argument::Value(Row::pack_slice(&[datum])));
        }
        // Values cross over as text, as an unknown literal would.
        let text = repr::format::to_text(&from, datum, &eval.format);
        if RegKind::of(ty).is_some() {
            return Ok(Argument::Name(text));
        }
        let arena = repr::RowArena::new();
        let value = repr::format::parse_datum(ty, &text, &eval.format, &arena)?;
        Ok(Argument::Value(Row::pack_slice(&[value])))
    })
}

fn isolation_too_late() -> SqlError {
    SqlError::new(
        "25001",
        "SET TRANSACTION ISOLATION LEVEL must be called before any query",
    )
}

/// The mode that gives at least what the level promises: all but `serializable` keep real-time order too.
fn isolation_setting(level: IsolationLevel) -> &'static str {
    match level {
        IsolationLevel::Serializable => "serializable",
        IsolationLevel::ReadUncommitted
        | IsolationLevel::ReadCommitted
        | IsolationLevel::RepeatableRead
        | IsolationLevel::StrictSerializable => "strict serializable",
    }
}
