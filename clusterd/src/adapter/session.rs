//! One client's session: settings, transaction, prepared statements, portals, cursors.
//!
//! A session drives its own statements. It holds nothing that others rely on: when its task ends, at any instruction, only its unacknowledged work is
//! gone.

use crate::adapter::cache;
use crate::adapter::compile::{CompileOptions, Compiled, StatementValues, compile};
use crate::adapter::copy::{CopyIn, CopyOut};
use crate::adapter::cursor::Cursor;
use crate::adapter::error::{Result, SqlError};
use crate::adapter::execute::needs_read_point;
use crate::adapter::introspection::Watched;
use crate::adapter::pgwire::writer::Notice;
use crate::adapter::portal::{Params, Portal, Portals, Prepared, format_of};
use crate::adapter::query::LastBlock;
use crate::adapter::read_point::ReadPoint;
use crate::adapter::registry::{CancelHandle, SessionKey};
use crate::adapter::settings::Settings;
use crate::adapter::subscribe::Subscription;
use crate::adapter::transaction::{Block, Transaction};
use crate::adapter::{Adapter, SessionStart};
use bytes::Bytes;
use pgwire::messages::response::TransactionStatus;
use plan::scalar::EvalCtx;
use plan::scalar::catalog_fns::{CatalogFns, RegKind};
use planner::ast::Statement;
use planner::optimize::Execution;
use planner::{ParamTypes, Parsed, SessionView};
use repr::TimeZone;
use repr::format::{ByteaOutput, DateOrder, FormatCtx};
use repr::{RelationDesc, Row, RowArena, SqlType, Timestamp};
use state::Catalog;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// Prepared statements, portals and cursors that one session may keep.
const NAMED_OBJECTS_MAX: usize = 10_000;

/// Columns of one answer, as in PostgreSQL.
const RESULT_COLUMNS_MAX: usize = 1664;

/// What a statement answers.
pub enum Output {
    Complete(String),
    Empty,
    Rows(RowSet),
    CopyIn(Box<CopyIn>),
    CopyOut(Box<CopyOut>),
    Subscribe(Box<Subscription>),
}

/// Rows that are ready to be sent.
pub struct RowSet {
    pub desc: Arc<RelationDesc>,
    rows: std::vec::IntoIter<Row>,
    tag: &'static str,
    /// What values of `regclass` and its family are shown with as text; without it they are numbers.
    pub names: Option<Arc<dyn CatalogFns>>,
    /// The tag carries the number of rows.
    counted: bool,
    /// Rows given out since the last [`RowSet::start_count`].
    sent: usize,
}

impl RowSet {
    /// `tag` is the command tag without the row count, for example `SELECT` or `INSERT 0`.
    pub fn new(desc: Arc<RelationDesc>, rows: Vec<Row>, tag: &'static str) -> Self {
        RowSet {
            desc,
            rows: rows.into_iter(),
            tag,
            names: None,
            counted: true,
            sent: 0,
        }
    }

    pub fn next_row(&mut self) -> Option<Row> {
        let row = self.rows.next();
        match row {
            Some(_) => self.sent += 1,
            // A portal may keep the set for long.
            None => self.rows = vec![].into_iter(),
        }
        row
    }

    /// Starts the count that the tag shows: each Execute of a portal tells of its own rows.
    pub fn start_count(&mut self) {
        self.sent = 0;
    }

    pub fn sent(&self) -> usize {
        self.sent
    }

    #[must_use]
    pub fn with_tag(mut self, tag: &'static str) -> Self {
        self.tag = tag;
        self
    }

    /// Leaves the row count out of the tag, as SHOW does.
    #[must_use]
    pub fn without_count(mut self) -> Self {
        self.counted = false;
        self
    }

    pub fn tag(&self) -> String {
        if self.counted {
            format!("{} {}", self.tag, self.sent)
        } else {
            self.tag.to_owned()
        }
    }

    pub fn remaining(&self) -> &[Row] {
        self.rows.as_slice()
    }
}

pub struct Session {
    pub(crate) adapter: Arc<Adapter>,
    pub(crate) key: SessionKey,
    pub(crate) cancel: Arc<CancelHandle>,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) settings: Settings,
    /// Derived from `settings` at `derived_at`.
    pub(crate) eval: EvalCtx,
    /// As set, `$user` included.
    pub(crate) search_path: Vec<String>,
    context: u64,
    pub(crate) derived_at: Option<u64>,
    pub(crate) txn: Transaction,
    pub(crate) token_seq: u64,
    /// When the session's last commit was.
    pub(crate) last_commit: Timestamp,
    statements: BTreeMap<String, Arc<Prepared>>,
    portals: Portals,
    pub(crate) cursors: HashMap<String, Cursor>,
    pub(crate) last_block: Option<LastBlock>,
    notices: Vec<Notice>,
    parameter_changes: Vec<(&'static str, String)>,
}

/// The state whose roles and databases a login is checked against.
///
/// Without a leader it is what this node has, if the login is good there: otherwise nobody could connect to the minority of a partition, where reads in `serializable` mode go
/// on. A refusal always has a read point behind it: the role may have been created a moment ago, on another node.
async fn login_state(adapter: &Adapter, start: &SessionStart) -> Result<Arc<state::State>> {
    let error = match adapter.read_points.join().await {
        Ok(point) => return Ok(point.state),
        Err(error) => error,
    };
    let state = adapter.env.storage().view();
    let catalog = state.catalog();
    let database = start.database.as_ref().unwrap_or(&start.user);
    let known =
        catalog.role_by_name(&start.user).is_some() && catalog.database_by_name(database).is_some();
    match known && error.sqlstate == "57P03" {
        true => Ok(state),
        false => Err(error),
    }
}

impl Session {
    /// Checks role and database against a read point, and registers the session.
    pub async fn start(adapter: Arc<Adapter>, start: SessionStart) -> Result<Session> {
        let state = login_state(&adapter, &start).await?;
        let catalog = state.catalog();
        if catalog.role_by_name(&start.user).is_none() {
            let names: Vec<_> = catalog.roles.values().map(|r| r.name.as_str()).collect();
            return Err(SqlError::fatal(
                "28000",
                format!("role \"{}\" does not exist", start.user),
            )
            .hint(format!("Connect as one of: {}.", names.join(", "))));
        }
        let database = start.database.unwrap_or_else(|| start.user.clone());
        if catalog.database_by_name(&database).is_none() {
            let names: Vec<_> = catalog
                .databases
                .values()
                .map(|d| d.name.as_str())
                .collect();
            return Err(SqlError::fatal(
                "3D000",
                format!("database \"{database}\" does not exist"),
            )
            .hint(format!("Connect to one of: {}.", names.join(", "))));
        }
        let mut settings = Settings::new(&start.user);
        let mut notices = vec![];
        for (name, value) in &start.settings {
            match settings.set_base(name, value) {
                Ok(()) => {}
                Err(error) if error.sqlstate == "42704" => {
                    notices.push(Notice::warning(
                        "42704",
                        format!("{}: ignored", error.message),
                    ));
                }
                Err(error) => return Err(error),
            }
        }
        let (key, cancel) = adapter.sessions.register(&start.user, &database)?;
        drop(state);
        let mut session = Session {
            txn: Transaction::new(Block::Auto, false),
            adapter,
            key,
            cancel,
            user: start.user,
            database,
            settings,
            eval: EvalCtx::default(),
            search_path: vec![],
            context: 0,
            derived_at: None,
            token_seq: 0,
            last_commit: 0,
            statements: BTreeMap::new(),
            portals: Portals::default(),
            cursors: HashMap::new(),
            last_block: None,
            notices,
            parameter_changes: vec![],
        };
        session.derive_settings();
        Ok(session)
    }

    /// Ends the session: whatever it had open is rolled back.
    pub async fn close(self) {
        drop(self);
    }

    pub fn key(&self) -> (i32, i32) {
        (self.key.pid, self.key.secret)
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn status(&self) -> TransactionStatus {
        match self.txn.block {
            Block::Explicit if self.txn.failed => TransactionStatus::Error,
            Block::Explicit => TransactionStatus::Transaction,
            Block::Auto | Block::Implicit => TransactionStatus::Idle,
        }
    }

    pub fn idle_limit(&self) -> Option<Duration> {
        (self.txn.block == Block::Explicit)
            .then(|| self.settings.idle_in_transaction_timeout())
            .flatten()
    }

    pub fn format_context(&self) -> FormatCtx {
        self.eval.format
    }

    pub fn notice(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    pub(crate) fn notice_count(&self) -> usize {
        self.notices.len()
    }

    /// Takes back the notices of an attempt that did not count.
    pub(crate) fn forget_notices(&mut self, keep: usize) {
        self.notices.truncate(keep);
    }

    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    pub fn take_parameter_changes(&mut self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.parameter_changes)
    }

    /// Tells the client about every reported setting that differs from `before`.
    pub(crate) fn report_changes(&mut self, before: &[(&'static str, String)]) {
        let after = self.settings.reported();
        self.parameter_changes.extend(
            after
                .into_iter()
                .zip(before)
                .filter(|(a, b)| a != *b)
                .map(|(a, _)| a),
        );
        self.derive_settings();
    }

    /// Recomputes what depends on settings.
    pub(crate) fn derive_settings(&mut self) {
        if self.derived_at == Some(self.settings.generation()) {
            return;
        }
        self.derived_at = Some(self.settings.generation());
        self.search_path = split_identifiers(self.settings.known("search_path"));
        self.eval = EvalCtx {
            format: format_context(&self.settings),
            ..EvalCtx::default()
        };
        let mut hasher = DefaultHasher::new();
        // A plan may hold the value of any setting: current_setting() of a constant is folded.
        (&self.database, &self.user).hash(&mut hasher);
        for (name, value, _) in self.settings.all() {
            // Modes of one transaction decide nothing about plans.
            if !name.starts_with("transaction_") {
                value.hash(&mut hasher);
            }
        }
        self.context = hasher.finish();
    }

    pub(crate) fn execution(&self) -> Execution {
        match self.settings.known("clusterd.execution") {
            "interpreter" => Execution::Interpreter,
            _ => Execution::Auto,
        }
    }

    /// Calls `f` with the session's view of a catalog.
    pub(crate) fn with_view<T>(
        &self,
        catalog: &Arc<Catalog>,
        f: impl FnOnce(&SessionView<'_>) -> T,
    ) -> T {
        self.watched_view(catalog, |view, _| f(view)).0
    }

    /// As [`Session::with_view`]; the flag tells whether a function has looked into the catalog.
    fn watched_view<T>(
        &self,
        catalog: &Arc<Catalog>,
        f: impl FnOnce(&SessionView<'_>, &Watched) -> T,
    ) -> (T, bool) {
        let watched = Arc::new(Watched::new(self.catalog_functions(catalog)));
        let eval = EvalCtx {
            catalog: Some(Arc::clone(&watched) as Arc<dyn CatalogFns>),
            ..self.eval.clone()
        };
        let view = SessionView {
            catalog,
            database: &self.database,
            search_path: &self.search_path,
            current_user: &self.user,
            session_user: &self.user,
            cluster: self.settings.known("cluster"),
            backend_pid: self.key.pid,
            version: crate::VERSION_TEXT,
            eval: &eval,
            settings: &self.settings,
        };
        let done = f(&view, &watched);
        (done, watched.was_used())
    }

    // Parsing and planning.

    pub fn parse(&self, sql: &str) -> Result<Vec<Parsed>> {
        Ok(planner::parse(sql)?)
    }

    /// Runs a statement whose plan (up to literals) is known already; `None` if it is not of that kind.
    pub async fn run_cached(&mut self, sql: &str) -> Option<Result<Output>> {
        if self.txn.failed {
            return None;
        }
        let lifted = cache::lift(sql)?;
        let key = lifted.key(self.context);
        // A plan of an older catalog would be made again by each run, and its answer may have had other columns.
        let newest = match &self.txn.read_point {
            Some(point) => point.state.catalog().version,
            None => self.latest_state().state.catalog().version,
        };
        let prepared = match self
            .adapter
            .plans
            .get(&key)
            .filter(|p| p.catalog_version == newest)
        {
            Some(prepared) => prepared,
            None => {
                let guard = self.guard();
                let planned = guard.run(async { Ok(self.plan_lifted(&lifted).await) });
                match planned.await {
                    Ok(prepared) => {
                        let prepared = prepared?;
                        self.adapter.plans.put(key, Arc::clone(&prepared));
                        prepared
                    }
                    Err(error) => {
                        self.fail_transaction();
                        return Some(Err(error));
                    }
                }
            }
        };
        let params = self.literal_params(&lifted.literals, &prepared.param_types);
        match params {
            Ok(params) => Some(self.run(prepared, &params.into()).await),
            // The plain path words the error as PostgreSQL does, with its position.
            Err(_) => None,
        }
    }

    /// Plans a lifted statement; `None` if it cannot be shared (errors are found again by the plain path).
    async fn plan_lifted(&mut self, lifted: &cache::Lifted<'_>) -> Option<Arc<Prepared>> {
        let [parsed] = <[Parsed; 1]>::try_from(planner::parse(&lifted.text).ok()?).ok()?;
        let declared = lifted
            .literals
            .iter()
            .map(cache::Literal::declared)
            .collect();
        let point = self.statement_read_point().await.ok()?;
        let (prepared, volatile) = self
            .plan(&point, parsed.statement, &lifted.text, declared)
            .ok()?;
        (!volatile && prepared.param_types.len() == lifted.literals.len())
            .then(|| Arc::new(prepared))
    }

    fn literal_params(
        &self,
        literals: &[cache::Literal<'_>],
        types: &[SqlType],
    ) -> Result<Vec<(Row, SqlType)>> {
        let arena = RowArena::new();
        literals
            .iter()
            .zip(types)
            .map(|(literal, ty)| {
                let datum = match literal {
                    cache::Literal::Int4(n) => repr::Datum::Int32(*n),
                    cache::Literal::Int8(n) => repr::Datum::Int64(*n),
                    cache::Literal::Unknown(text) => {
                        repr::format::parse_datum(ty, text, &self.eval.format, &arena)?
                    }
                };
                Ok((Row::pack_slice(&[datum]), ty.clone()))
            })
            .collect()
    }

    /// Plans and compiles one statement against the transaction's catalog. The flag: not to be reused.
    pub(crate) fn plan(
        &self,
        point: &crate::adapter::read_point::ReadPoint,
        statement: Statement,
        text: &str,
        declared: Vec<Option<SqlType>>,
    ) -> Result<(Prepared, bool)> {
        self.plan_with(
            point,
            Arc::new(statement),
            Arc::from(text),
            declared,
            self.execution(),
            false,
        )
    }

    pub(crate) fn plan_with(
        &self,
        point: &crate::adapter::read_point::ReadPoint,
        statement: Arc<Statement>,
        text: Arc<str>,
        declared: Vec<Option<SqlType>>,
        execution: Execution,
        inline_materialized: bool,
    ) -> Result<(Prepared, bool)> {
        let (state, _) = self.txn.view(point);
        let catalog = state.catalog();
        let (planned, looked_up) = self.watched_view(catalog, |view, watched| {
            let mut params = ParamTypes::new(declared.clone());
            let plan = planner::plan_statement(view, &statement, &mut params)?;
            let param_types = params.finish()?;
            let desc = plan.desc().map(Arc::new);
            if desc
                .as_ref()
                .is_some_and(|d| d.arity() > RESULT_COLUMNS_MAX)
            {
                return Err(SqlError::new(
                    "54011",
                    format!("target lists can have at most {RESULT_COLUMNS_MAX} entries"),
                ));
            }
            let values = StatementValues {
                view,
                hidden: &self.txn.unreadable,
                ts: point.ts,
                now: self.statement_time(),
                watched,
            };
            let options = CompileOptions {
                execution,
                inline_materialized,
                transient: self.adapter.transient_id(),
            };
            let (compiled, volatile) = compile(plan, &values, options)?;
            // Planning does not await: a cancel or the end of its time is seen here at the latest.
            self.cancel.check()?;
            let prepared = Prepared {
                text,
                statement,
                declared,
                param_types,
                desc,
                reads_catalog: compiled.looks_into_catalog(),
                compiled,
                promised: false,
                // Plans over a transaction's own DDL are never reused.
                catalog_version: if self.txn.catalog_ops.is_empty() && !volatile {
                    catalog.version
                } else {
                    u64::MAX
                },
                context: self.context,
            };
            Ok((prepared, volatile))
        });
        let (mut prepared, volatile) = planned?;
        prepared.reads_catalog |= looked_up;
        Ok((prepared, volatile))
    }

    // The extended protocol.

    pub async fn prepare(&mut self, name: String, sql: &str, type_oids: &[u32]) -> Result<()> {
        if self.txn.failed && !is_end_of_transaction(sql) {
            return Err(failed_transaction());
        }
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(SqlError::new(
                "42P05",
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        if self.statements.len() >= NAMED_OBJECTS_MAX {
            return Err(SqlError::new("53400", "too many prepared statements")
                .hint("DEALLOCATE those that are not needed."));
        }
        let declared = type_oids
            .iter()
            .map(|oid| match oid {
                0 | 705 => Ok(None),
                oid => SqlType::from_oid(*oid, -1).map(Some).ok_or_else(|| {
                    SqlError::new("42704", format!("type with OID {oid} does not exist"))
                }),
            })
            .collect::<Result<Vec<_>>>()?;
        let guard = self.guard();
        let prepared = guard.run(self.prepare_text(sql, declared)).await?;
        self.statements.insert(name, prepared);
        Ok(())
    }

    /// What Describe tells of a prepared statement.
    pub async fn describe(&mut self, name: &str) -> Result<Arc<Prepared>> {
        let guard = self.guard();
        guard.run(self.revalidated(name)).await
    }

    async fn prepare_text(
        &mut self,
        sql: &str,
        declared: Vec<Option<SqlType>>,
    ) -> Result<Arc<Prepared>> {
        let mut parsed = planner::parse(sql)?;
        if parsed.len() > 1 {
            return Err(SqlError::new(
                "42601",
                "cannot insert multiple commands into a prepared statement",
            ));
        }
        match parsed.pop() {
            None => Ok(Arc::new(Prepared::empty())),
            Some(parsed) => {
                self.prepare_statement(parsed.statement, sql, declared, true)
                    .await
            }
        }
    }

    pub(crate) async fn prepare_statement(
        &mut self,
        statement: Statement,
        text: &str,
        declared: Vec<Option<SqlType>>,
        promised: bool,
    ) -> Result<Arc<Prepared>> {
        let point = self.planning_point(&statement).await?;
        let statement = Arc::new(statement);
        let plan = |session: &Session, point: &ReadPoint| {
            session.plan_with(
                point,
                Arc::clone(&statement),
                Arc::from(text),
                declared.clone(),
                session.execution(),
                false,
            )
        };
        let mut planned = plan(self, &point);
        // EXECUTE of a value that names an object: nothing of it, errors included, may come from a catalog that is behind.
        let behind = !needs_read_point(&statement) && !self.txn.failed;
        if behind && planned.as_ref().map_or(true, |(p, _)| p.reads_catalog) {
            let point = self.barrier_point().await?;
            planned = plan(self, &point);
        }
        let (mut prepared, _) = planned?;
        prepared.desc = self.session_desc(&prepared)?.or(prepared.desc);
        prepared.promised = promised;
        Ok(Arc::new(prepared))
    }

    /// The prepared statement, planned again if the catalog has moved since.
    pub(crate) async fn revalidated(&mut self, name: &str) -> Result<Arc<Prepared>> {
        let prepared = self.statement(name)?;
        if prepared.is_empty() {
            return Ok(prepared);
        }
        let point = self.planning_point(&prepared.statement).await?;
        if self.is_current(&prepared, &point) {
            return Ok(prepared);
        }
        let (mut again, _) = self.plan(
            &point,
            Statement::clone(&prepared.statement),
            &prepared.text,
            prepared.declared.clone(),
        )?;
        again.desc = self.session_desc(&again)?.or(again.desc);
        again.promised = prepared.promised;
        prepared.check_promise(&again)?;
        let again = Arc::new(again);
        self.statements.insert(name.to_owned(), Arc::clone(&again));
        Ok(again)
    }

    pub(crate) fn is_current(
        &self,
        prepared: &Prepared,
        point: &crate::adapter::read_point::ReadPoint,
    ) -> bool {
        self.txn.catalog_ops.is_empty()
            && prepared.catalog_version == point.state.catalog().version
            && prepared.context == self.context
    }

    pub(crate) fn statement(&self, name: &str) -> Result<Arc<Prepared>> {
        self.statements.get(name).cloned().ok_or_else(|| {
            let what = if name.is_empty() {
                "unnamed prepared statement".to_owned()
            } else {
                format!("prepared statement \"{name}\"")
            };
            SqlError::new("26000", format!("{what} does not exist"))
        })
    }

    /// Keeps the plan that was made again, so that the next run need not make it once more.
    pub(crate) fn renew_statement(&mut self, old: &Arc<Prepared>, new: &Arc<Prepared>) {
        // A plan for this one execution is not kept.
        if new.catalog_version != u64::MAX {
            self.statements
                .values_mut()
                .filter(|kept| Arc::ptr_eq(kept, old))
                .for_each(|kept| *kept = Arc::clone(new));
        }
    }

    pub(crate) fn name_statement(&mut self, name: String, prepared: Arc<Prepared>) -> Result<()> {
        if self.statements.contains_key(&name) {
            return Err(SqlError::new(
                "42P05",
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        self.statements.insert(name, prepared);
        Ok(())
    }

    /// Forgets a prepared statement (all with `None`); says whether it was there.
    pub(crate) fn deallocate(&mut self, name: Option<&str>) -> bool {
        match name {
            Some(name) => self.statements.remove(name).is_some(),
            None => {
                self.statements.clear();
                true
            }
        }
    }

    pub fn bind(
        &mut self,
        portal: String,
        statement: &str,
        param_formats: &[i16],
        values: &[Option<Bytes>],
        formats: Vec<i16>,
    ) -> Result<()> {
        let prepared = self.statement(statement)?;
        if self.txn.failed && !prepared.ends_transaction() {
            return Err(failed_transaction());
        }
        if values.len() != prepared.param_types.len() {
            return Err(SqlError::new(
                "08P01",
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{statement}\" requires {}",
                    values.len(),
                    prepared.param_types.len()
                ),
            ));
        }
        if param_formats.len() > 1 && param_formats.len() != values.len() {
            return Err(SqlError::new(
                "08P01",
                format!(
                    "bind message has {} parameter formats but {} parameters",
                    param_formats.len(),
                    values.len()
                ),
            ));
        }
        // Checked before the statement runs: an error after its commit would be a lie.
        if let Some(code) = formats.iter().find(|code| !matches!(code, 0 | 1)) {
            return Err(SqlError::new(
                "22023",
                format!("unsupported format code: {code}"),
            ));
        }
        if let Some(desc) = &prepared.desc
            && formats.len() > 1
            && formats.len() != desc.arity()
        {
            let message = format!(
                "bind message has {} result formats but query has {} columns",
                formats.len(),
                desc.arity()
            );
            return Err(SqlError::new("08P01", message));
        }
        if !portal.is_empty() && self.portals.get(&portal).is_some() {
            return Err(SqlError::new(
                "42P03",
                format!("portal \"{portal}\" already exists"),
            ));
        }
        if self.portals.count() >= NAMED_OBJECTS_MAX {
            return Err(SqlError::new("53400", "too many portals"));
        }
        let params = self.decode_params(&prepared.param_types, param_formats, values)?;
        self.portals.insert(
            portal,
            Portal {
                prepared,
                params,
                formats,
                rows: None,
                done: false,
            },
        );
        Ok(())
    }

    fn decode_params(
        &self,
        types: &[SqlType],
        formats: &[i16],
        values: &[Option<Bytes>],
    ) -> Result<Params> {
        let arena = RowArena::new();
        let mut params = Params::default();
        for (i, (value, ty)) in values.iter().zip(types).enumerate() {
            let datum = match value {
                None => repr::Datum::Null,
                Some(bytes) => match format_of(formats, i) {
                    0 => {
                        let text = std::str::from_utf8(bytes).map_err(|_| {
                            SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\"")
                        })?;
                        if text.contains('\0') {
                            return Err(SqlError::new(
                                "22021",
                                "invalid byte sequence for encoding \"UTF8\": 0x00",
                            ));
                        }
                        if RegKind::of(ty).is_some() {
                            params.names.push((i, text.to_owned()));
                            repr::Datum::Null
                        } else {
                            repr::format::parse_datum(ty, text, &self.eval.format, &arena)?
                        }
                    }
                    1 => repr::format::parse_binary(ty, bytes, &arena)?,
                    code => {
                        return Err(SqlError::new(
                            "22023",
                            format!("unsupported format code: {code}"),
                        ));
                    }
                },
            };
            params.values.push((Row::pack_slice(&[datum]), ty.clone()));
        }
        Ok(params)
    }

    pub fn portal(&self, name: &str) -> Result<&Portal> {
        self.portals.get(name).ok_or_else(|| no_portal(name))
    }

    pub fn take_portal(&mut self, name: &str) -> Result<Portal> {
        self.portals.remove(name).ok_or_else(|| no_portal(name))
    }

    /// Puts a portal back after an Execute, unless the statement has ended the transaction that it belonged to.
    pub fn put_portal(&mut self, name: String, portal: Portal) {
        self.portals.insert(name, portal);
    }

    pub fn close_portal(&mut self, name: &str) {
        self.portals.remove(name);
    }

    pub fn close_statement(&mut self, name: &str) {
        self.statements.remove(name);
    }

    /// A simple query destroys the unnamed statement and portal.
    pub fn close_unnamed(&mut self) {
        self.statements.remove("");
        self.portals.remove("");
    }

    pub(crate) fn close_portals(&mut self) {
        self.portals.clear();
    }

    pub async fn run_portal(&mut self, portal: &Portal) -> Result<Output> {
        if portal.prepared.is_empty() {
            return Ok(Output::Empty);
        }
        self.run(Arc::clone(&portal.prepared), &portal.params).await
    }

    /// Plans and runs one statement of a simple query.
    pub async fn run_simple(&mut self, parsed: Parsed) -> Result<Output> {
        if self.txn.failed && !ends_transaction(&parsed.statement) {
            return Err(failed_transaction());
        }
        let guard = self.guard();
        let text = parsed.text;
        let prepared = guard
            .run(self.prepare_statement(parsed.statement, &text, vec![], false))
            .await;
        match prepared {
            Ok(prepared) => self.run(prepared, &Params::default()).await,
            Err(error) => {
                self.fail_transaction();
                Err(error)
            }
        }
    }

    /// Runs statements one after another, as the simple protocol does, up to the first error.
    pub async fn run_script(&mut self, text: &str) -> Result<Vec<Output>> {
        let statements = self.parse(text)?;
        if statements.len() > 1 {
            self.begin_pipeline();
        }
        let mut outputs = vec![];
        for statement in statements {
            outputs.push(self.run_simple(statement).await?);
        }
        self.finish_pipeline().await?;
        Ok(outputs)
    }

    /// A statement that committed nothing has ended by itself (COPY TO of a SUBSCRIBE, SUBSCRIBE).
    pub fn end_single_statement(&mut self) {
        if self.txn.block == Block::Auto {
            self.reset_transaction(Block::Auto);
        }
    }

    /// Compiles a plan that is part of another statement.
    pub(crate) fn compile_here(
        &mut self,
        plan: planner::Plan,
        point: &crate::adapter::read_point::ReadPoint,
        prepared: &Prepared,
    ) -> Result<Compiled> {
        debug_assert!(matches!(prepared.compiled, Compiled::Plan(_)));
        let (compiled, looked_up) = self.compile_at(plan, point)?;
        self.txn.reads.catalog |= looked_up;
        Ok(compiled)
    }

    /// Compiles a plan for this transaction; its own writes are seen. The flag: its answer holds for this catalog only.
    pub(crate) fn compile_at(
        &self,
        plan: planner::Plan,
        point: &crate::adapter::read_point::ReadPoint,
    ) -> Result<(Compiled, bool)> {
        let catalog = Arc::clone(self.txn.view(point).0.catalog());
        let (compiled, looked_up) =
            self.watched_view(&catalog, |view, watched| -> Result<Compiled> {
                let values = StatementValues {
                    view,
                    hidden: &self.txn.unreadable,
                    ts: point.ts,
                    now: self.statement_time(),
                    watched,
                };
                let mut options = CompileOptions {
                    execution: self.execution(),
                    inline_materialized: false,
                    transient: self.adapter.transient_id(),
                };
                let (compiled, _) = compile(plan.clone(), &values, options)?;
                let own = compiled
                    .shards()
                    .is_some_and(|shards| self.txn.has_own(shards, point));
                if !own || compiled.overlays_writes() {
                    return Ok(compiled);
                }
                options.execution = Execution::Interpreter;
                options.inline_materialized = true;
                Ok(compile(plan, &values, options)?.0)
            });
        let compiled = compiled?;
        let looked_up = looked_up || compiled.looks_into_catalog();
        Ok((compiled, looked_up))
    }

    /// `now()`: fixed at the start of a block.
    pub(crate) fn statement_time(&self) -> repr::PgTimestamp {
        match self.txn.started {
            Some(started) => started,
            None => self.adapter.now(),
        }
    }

    pub(crate) fn eval_context(&self, catalog: &Arc<Catalog>) -> EvalCtx {
        EvalCtx {
            catalog: Some(self.catalog_functions(catalog)),
            ..self.eval.clone()
        }
    }

    /// Columns of statements whose rows only the session knows: FETCH and EXECUTE.
    pub(crate) fn session_desc(&self, prepared: &Prepared) -> Result<Option<Arc<RelationDesc>>> {
        let Compiled::Plan(plan) = &prepared.compiled else {
            return Ok(None);
        };
        match &**plan {
            planner::Plan::Execute { name, .. } => Ok(self.statement(name)?.desc.clone()),
            planner::Plan::Fetch(fetch) if !fetch.is_move => {
                Ok(self.cursors.get(&fetch.name).map(|c| c.desc()))
            }
            _ => Ok(None),
        }
    }
}

/// However the session ends (an HTTP client that went away, a panic), nothing of it stays behind: no lease that keeps history, no entry among the sessions.
impl Drop for Session {
    fn drop(&mut self) {
        self.adapter.leases.close(self.key.number);
        if self.token_seq > 0 {
            self.adapter.end_session(self.key.number);
        }
        self.adapter.sessions.remove(&self.key);
    }
}

impl Prepared {
    /// The empty query string.
    pub fn empty() -> Self {
        let nothing = planner::Plan::NoOp {
            tag: String::new(),
            notices: vec![],
        };
        Prepared {
            text: Arc::from(""),
            statement: Arc::new(Statement::Rollback { chain: false }),
            declared: vec![],
            param_types: vec![],
            desc: None,
            compiled: Compiled::Plan(Arc::new(nothing)),
            reads_catalog: false,
            promised: true,
            catalog_version: 0,
            context: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub fn ends_transaction(&self) -> bool {
        self.is_empty() || ends_transaction(&self.statement)
    }
}

/// Statements that a failed transaction still accepts.
pub(crate) fn ends_transaction(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Commit { .. } | Statement::Rollback { .. } | Statement::RollbackTo { .. }
    )
}

fn is_end_of_transaction(sql: &str) -> bool {
    planner::parse(sql).is_ok_and(|parsed| parsed.iter().all(|p| ends_transaction(&p.statement)))
}

pub(crate) fn failed_transaction() -> SqlError {
    SqlError::new(
        "25P02",
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

fn no_portal(name: &str) -> SqlError {
    SqlError::new("34000", format!("portal \"{name}\" does not exist"))
}

/// The names of a search path: folded to lower case unless quoted.
fn split_identifiers(list: &str) -> Vec<String> {
    let mut names = vec![];
    let mut name = String::new();
    let mut quoted = false;
    for c in list.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => names.push(std::mem::take(&mut name)),
            c if quoted => name.push(c),
            c if c.is_whitespace() => {}
            c => name.extend(c.to_lowercase()),
        }
    }
    names.push(name);
    names.retain(|n| !n.is_empty());
    names
}

fn format_context(settings: &Settings) -> FormatCtx {
    let date_order = match settings.known("datestyle") {
        style if style.ends_with("DMY") => DateOrder::Dmy,
        style if style.ends_with("YMD") => DateOrder::Ymd,
        _ => DateOrder::Mdy,
    };
    FormatCtx {
        // Settings were checked when they were set.
        timezone: TimeZone::parse_setting(settings.known("timezone")).unwrap_or(TimeZone::UTC),
        date_order,
        extra_float_digits: settings.known("extra_float_digits").parse().unwrap_or(1),
        bytea_output: if settings.known("bytea_output") == "escape" {
            ByteaOutput::Escape
        } else {
            ByteaOutput::Hex
        },
        ..FormatCtx::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_path_names_fold_unless_quoted() {
        assert_eq!(
            split_identifiers("\"$user\", Public, \"A b\""),
            ["$user", "public", "A b"]
        );
        assert!(split_identifiers("").is_empty());
    }
}
