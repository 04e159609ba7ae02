//! The Postgres wire protocol: one task per connection drives its own statements.
//!
//! Answers are messages of crate pgwire, what clients say is read by [`frame`]; the loop is ours, so that everything up to a Sync is answered with one write to the socket, a pipelined group of
//! Executes shares one implicit transaction, and a statement can be cancelled at any await.

pub mod copy;
pub mod frame;
pub mod rows;
pub mod startup;
pub mod writer;

use crate::adapter::error::{Result, SqlError};
use crate::adapter::portal::{Portal, Prepared};
use crate::adapter::registry::CancelHandle;
use crate::adapter::session::{Output, Session};
use crate::adapter::{Adapter, SessionStart};
use bytes::BytesMut;
use frame::{Message, Target};
use pgwire::messages::PgWireBackendMessage as Backend;
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    BindComplete, CloseComplete, ParseComplete, PortalSuspended,
};
use pgwire::messages::response::TransactionStatus;
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use writer::Writer;

/// A client has this long to say who it is.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the client went away")]
    Io(#[from] std::io::Error),
    #[error("protocol violation: {0}")]
    Protocol(#[from] frame::ProtocolViolation),
    #[error("{0}")]
    Fatal(SqlError),
    #[error("closed")]
    Closed,
}

/// Serves one accepted socket until it closes. Without an adapter the node is starting still.
pub async fn serve(adapter: Option<Arc<Adapter>>, mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let startup = tokio::time::timeout(STARTUP_TIMEOUT, startup::read_startup(&mut stream)).await;
    let parameters = match startup {
        Ok(Ok(startup::Startup::Session(parameters))) => parameters,
        Ok(Ok(startup::Startup::Cancel { pid, secret })) => {
            if let Some(adapter) = adapter {
                adapter.cancel(pid, &secret).await;
            }
            return;
        }
        Ok(Err(startup::StartupError::Refused { sqlstate, message })) => {
            return refuse(stream, SqlError::fatal(sqlstate, message)).await;
        }
        Ok(Err(startup::StartupError::Closed(_))) | Err(_) => return,
    };
    let Some(adapter) = adapter else {
        return refuse(stream, starting()).await;
    };
    let start = match session_start(&parameters) {
        Ok(start) => start,
        Err(error) => return refuse(stream, error).await,
    };
    let session = match Session::start(adapter, start).await {
        Ok(session) => session,
        Err(mut error) => {
            error.fatal = true;
            return refuse(stream, error).await;
        }
    };
    Connection::new(stream, session).run(parameters).await;
}

fn starting() -> SqlError {
    SqlError::fatal("57P03", "the database system is starting up").hint(
        "This node reads its log, or waits for a majority of its environment's voters. Try again, or another node.",
    )
}

async fn refuse(stream: TcpStream, error: SqlError) {
    let (_reader, socket) = stream.into_split();
    let mut writer = Writer::new(socket);
    // The client may be gone already; then nobody wants the reason.
    let _ = writer.error(&error);
    let _ = writer.flush().await;
}

fn session_start(parameters: &startup::StartParameters) -> Result<SessionStart> {
    let mut start = SessionStart::default();
    for (key, value) in &parameters.values {
        match key.as_str() {
            "user" => start.user = value.clone(),
            "database" => start.database = Some(value.clone()),
            "replication" if ["off", "false", "no", "0"].contains(&value.as_str()) => {}
            "replication" => {
                return Err(SqlError::fatal(
                    "0A000",
                    "replication connections are not supported",
                ));
            }
            "options" => {
                let settings = startup::parse_options(value)
                    .map_err(|e| SqlError::fatal("22023", e.to_string()))?;
                start.settings.extend(settings);
            }
            _ => start.settings.push((key.clone(), value.clone())),
        }
    }
    if start.user.is_empty() {
        return Err(SqlError::fatal(
            "28000",
            "no PostgreSQL user name specified in startup packet",
        ));
    }
    Ok(start)
}

/// Which of the two protocols a statement came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Simple,
    Extended,
}

/// One client.
struct Connection {
    reader: OwnedReadHalf,
    input: BytesMut,
    writer: Writer,
    session: Session,
    /// After an error in the extended protocol, everything up to the next Sync is ignored.
    skip_to_sync: bool,
}

impl Connection {
    fn new(stream: TcpStream, session: Session) -> Self {
        let (reader, socket) = stream.into_split();
        Connection {
            reader,
            input: BytesMut::with_capacity(8 * 1024),
            writer: Writer::new(socket),
            session,
            skip_to_sync: false,
        }
    }

    async fn run(mut self, parameters: startup::StartParameters) {
        let ended = match self.greet(&parameters).await {
            Ok(()) => self.serve().await,
            Err(error) => Err(error.into()),
        };
        let farewell = match ended {
            Ok(()) | Err(Ended::Closed | Ended::Io(_)) => None,
            Err(Ended::Protocol(violation)) => {
                Some(SqlError::fatal(violation.sqlstate, violation.message))
            }
            Err(Ended::Fatal(error)) => Some(SqlError {
                fatal: true,
                ..error
            }),
        };
        if let Some(error) = farewell {
            let _ = self.writer.error(&error);
            let _ = self.writer.flush().await;
        }
        self.session.close().await;
    }

    async fn greet(&mut self, parameters: &startup::StartParameters) -> std::io::Result<()> {
        if parameters.minor > 0 || !parameters.unknown_options.is_empty() {
            let options = parameters.unknown_options.clone();
            self.writer.message(Backend::NegotiateProtocolVersion(
                NegotiateProtocolVersion::new(0, options),
            ))?;
        }
        self.writer
            .message(Backend::Authentication(Authentication::Ok))?;
        for (name, value) in self.session.settings().reported() {
            self.writer.parameter(name, &value)?;
        }
        let (pid, secret) = self.session.key();
        self.writer
            .message(Backend::BackendKeyData(BackendKeyData::new(
                pid,
                SecretKey::I32(secret),
            )))?;
        self.send_notices()?;
        self.writer.ready(TransactionStatus::Idle)?;
        self.writer.flush().await
    }

    async fn serve(&mut self) -> std::result::Result<(), Ended> {
        loop {
            let idle_limit = self.session.idle_limit();
            let Some(message) = self.next_message(idle_limit).await? else {
                return Ok(());
            };
            match message {
                Message::Terminate => return Ok(()),
                Message::Sync => self.sync().await?,
                Message::Flush => self.writer.flush().await?,
                // Late COPY messages after an error are dropped, as the protocol asks.
                Message::CopyData(_) | Message::CopyDone | Message::CopyFail(_) => {}
                // A Query, too: only a Sync tells where the client has seen the error.
                Message::Query(_)
                | Message::Parse { .. }
                | Message::Bind { .. }
                | Message::Describe(..)
                | Message::Execute { .. }
                | Message::Close(..)
                | Message::Password
                    if self.skip_to_sync => {}
                Message::Query(query) => self.query(&query).await?,
                Message::Parse {
                    name,
                    query,
                    type_oids,
                } => self.parse(name, &query, &type_oids).await?,
                Message::Bind {
                    portal,
                    statement,
                    param_formats,
                    values,
                    formats,
                } => {
                    let bound =
                        self.session
                            .bind(portal, &statement, &param_formats, &values, formats);
                    self.bound(bound)?;
                }
                Message::Describe(target, name) => self.describe(target, &name).await?,
                Message::Execute { portal, rows_max } => self.execute(portal, rows_max).await?,
                Message::Close(target, name) => self.close(target, &name)?,
                Message::Password => {
                    return Err(Ended::Fatal(SqlError::fatal(
                        "08P01",
                        "unexpected message from the client",
                    )));
                }
            }
        }
    }

    /// The next message; `None` at an orderly end of the connection. Waiting for longer than `idle_limit` ends the connection. Cancelling it loses nothing.
    async fn next_message(
        &mut self,
        idle_limit: Option<Duration>,
    ) -> std::result::Result<Option<Message>, Ended> {
        loop {
            if let Some(message) = frame::next_message(&mut self.input)? {
                return Ok(Some(message));
            }
            let read = self.reader.read_buf(&mut self.input);
            let count = tokio::select! {
                biased;
                count = read => count?,
                () = self.session.cancel.stopped() => return Err(Ended::Fatal(SqlError::shutdown())),
                () = after(idle_limit) => return Err(Ended::Fatal(SqlError::fatal(
                    "25P03", "terminating connection due to idle-in-transaction timeout"))),
            };
            if count == 0 {
                return Ok(None);
            }
        }
    }

    fn send_notices(&mut self) -> std::io::Result<()> {
        for notice in self.session.take_notices() {
            self.writer.notice(&notice)?;
        }
        for (name, value) in self.session.take_parameter_changes() {
            self.writer.parameter(name, &value)?;
        }
        Ok(())
    }

    /// Reports an error; a fatal one ends the connection.
    fn report(&mut self, error: SqlError) -> std::result::Result<(), Ended> {
        self.send_notices()?;
        if error.fatal {
            return Err(Ended::Fatal(error));
        }
        self.writer.error(&error)?;
        Ok(())
    }

    // Simple protocol.

    async fn query(&mut self, sql: &str) -> std::result::Result<(), Ended> {
        if let Err(error) = self.session.finish_pipeline().await {
            self.report(error)?;
        }
        self.session.close_unnamed();
        let gone = gone(&mut self.reader, &self.input);
        let cancel = Arc::clone(&self.session.cancel);
        match watched(gone, cancel, self.session.run_cached(sql)).await {
            Some(Ok(output)) => self.send_or_report(output).await?,
            Some(Err(error)) => self.report(error)?,
            None => self.query_statements(sql).await?,
        }
        self.send_notices()?;
        self.writer.ready(self.session.status())?;
        self.writer.flush().await?;
        Ok(())
    }

    async fn query_statements(&mut self, sql: &str) -> std::result::Result<(), Ended> {
        let statements = match self.session.parse(sql) {
            Ok(statements) => statements,
            Err(error) => {
                self.session.fail_transaction();
                return self.report(error);
            }
        };
        if statements.is_empty() {
            self.writer.empty_query()?;
            return Ok(());
        }
        // Several statements in one string share an implicit transaction.
        let several = statements.len() > 1;
        for statement in statements {
            if several {
                self.session.begin_pipeline();
            }
            let gone = gone(&mut self.reader, &self.input);
            let cancel = Arc::clone(&self.session.cancel);
            let done = watched(gone, cancel, self.session.run_simple(statement)).await;
            let sent = match done {
                Ok(output) => self.send(output, &[], Protocol::Simple).await?,
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                self.session.fail_transaction();
                self.session.abandon_pipeline();
                return self.report(error);
            }
        }
        if let Err(error) = self.session.finish_pipeline().await {
            self.report(error)?;
        }
        Ok(())
    }

    async fn send_or_report(&mut self, output: Output) -> std::result::Result<(), Ended> {
        if let Err(error) = self.send(output, &[], Protocol::Simple).await? {
            self.session.fail_transaction();
            self.report(error)?;
        }
        Ok(())
    }

    /// Sends the result of one statement.
    async fn send(
        &mut self,
        output: Output,
        formats: &[i16],
        protocol: Protocol,
    ) -> std::result::Result<Result<()>, Ended> {
        self.send_notices()?;
        match output {
            Output::Complete(tag) => self.writer.complete(&tag)?,
            Output::Empty => self.writer.empty_query()?,
            Output::Rows(mut rows) => {
                rows::describe(&rows.desc, formats, self.writer.buffer());
                let sent = self.send_rows(&mut rows, formats, usize::MAX).await?;
                if sent.is_ok() {
                    self.writer.complete(&rows.tag())?;
                }
                return Ok(sent);
            }
            Output::CopyIn(copy) => return self.copy_in(*copy).await,
            Output::CopyOut(out) => return self.copy_out(*out).await,
            Output::Subscribe(subscription) => {
                return self.subscribe(*subscription, formats, protocol).await;
            }
        }
        Ok(Ok(()))
    }

    /// Encodes up to `max` rows; the socket's speed limits how many are encoded ahead.
    async fn send_rows(
        &mut self,
        rows: &mut crate::adapter::session::RowSet,
        formats: &[i16],
        max: usize,
    ) -> std::result::Result<Result<()>, Ended> {
        let context = self.session.format_context();
        let names = rows.names.clone();
        for _ in 0..max {
            let Some(row) = rows.next_row() else { break };
            if let Err(error) = rows::data_row(
                &rows.desc,
                &row,
                formats,
                &context,
                names.as_deref(),
                self.writer.buffer(),
            ) {
                return Ok(Err(error));
            }
            self.writer.relieve().await?;
        }
        Ok(Ok(()))
    }

    // Extended protocol.

    /// In the extended protocol an error skips to the next Sync.
    fn extended_error(&mut self, error: SqlError) -> std::result::Result<(), Ended> {
        self.session.fail_transaction();
        self.skip_to_sync = true;
        self.report(error)
    }

    async fn sync(&mut self) -> std::result::Result<(), Ended> {
        if self.skip_to_sync {
            self.session.abandon_pipeline();
        } else if let Err(error) = self.session.finish_pipeline().await {
            self.report(error)?;
        }
        self.skip_to_sync = false;
        // Outside of a block a Sync ends the transaction, and portals end with it.
        if self.session.status() == TransactionStatus::Idle {
            self.session.close_portals();
        }
        self.send_notices()?;
        self.writer.ready(self.session.status())?;
        self.writer.flush().await?;
        Ok(())
    }

    async fn parse(
        &mut self,
        name: String,
        query: &str,
        type_oids: &[u32],
    ) -> std::result::Result<(), Ended> {
        match self.session.prepare(name, query, type_oids).await {
            Ok(()) => Ok(self
                .writer
                .message(Backend::ParseComplete(ParseComplete::new()))?),
            Err(error) => self.extended_error(error),
        }
    }

    fn bound(&mut self, bound: Result<()>) -> std::result::Result<(), Ended> {
        match bound {
            Ok(()) => Ok(self
                .writer
                .message(Backend::BindComplete(BindComplete::new()))?),
            Err(error) => self.extended_error(error),
        }
    }

    async fn describe(&mut self, target: Target, name: &str) -> std::result::Result<(), Ended> {
        let described = match target {
            Target::Statement => self.describe_statement(name).await,
            Target::Portal => self.describe_portal(name),
        };
        match described {
            Ok(sent) => Ok(sent?),
            Err(error) => self.extended_error(error),
        }
    }

    async fn describe_statement(&mut self, name: &str) -> Result<std::io::Result<()>> {
        let prepared = self.session.describe(name).await?;
        let oids = prepared
            .param_types
            .iter()
            .map(repr::SqlType::oid)
            .collect();
        let sent = self
            .writer
            .message(Backend::ParameterDescription(ParameterDescription::new(
                oids,
            )));
        Ok(sent.and_then(|()| send_description(&mut self.writer, &prepared, &[])))
    }

    fn describe_portal(&mut self, name: &str) -> Result<std::io::Result<()>> {
        // DECLARE makes a portal of its name, too.
        if let Some(cursor) = self.session.cursors.get(name) {
            let desc = cursor.desc();
            rows::describe(&desc, &[], self.writer.buffer());
            return Ok(Ok(()));
        }
        let portal = self.session.portal(name)?;
        Ok(send_description(
            &mut self.writer,
            &portal.prepared,
            &portal.formats,
        ))
    }

    async fn execute(&mut self, name: String, rows_max: i32) -> std::result::Result<(), Ended> {
        let max = usize::try_from(rows_max)
            .ok()
            .filter(|n| *n > 0)
            .unwrap_or(usize::MAX);
        // A Sync right behind this message: the statement is a transaction of its own and may be retried.
        let alone = self.input.first() == Some(&b'S') && !self.session.in_pipeline();
        if !alone {
            self.session.begin_pipeline();
        }
        let mut portal = match self.session.take_portal(&name) {
            Ok(portal) => portal,
            Err(error) => return self.extended_error(error),
        };
        let done = self.execute_portal(&name, &mut portal, max).await?;
        self.session.put_portal(name, portal);
        match done {
            Ok(()) => Ok(()),
            Err(error) => self.extended_error(error),
        }
    }

    async fn execute_portal(
        &mut self,
        name: &str,
        portal: &mut Portal,
        max: usize,
    ) -> std::result::Result<Result<()>, Ended> {
        if portal.done {
            return Ok(Err(SqlError::new(
                "55000",
                format!("portal \"{name}\" cannot be run"),
            )));
        }
        if portal.rows.is_none() {
            let gone = gone(&mut self.reader, &self.input);
            let cancel = Arc::clone(&self.session.cancel);
            match watched(gone, cancel, self.session.run_portal(portal)).await {
                Err(error) => return Ok(Err(error)),
                Ok(Output::Rows(rows)) => portal.rows = Some(rows),
                Ok(other) => {
                    // An empty query may be run again.
                    portal.done = !matches!(other, Output::Empty);
                    let formats = portal.formats.clone();
                    return self.send(other, &formats, Protocol::Extended).await;
                }
            }
        }
        self.send_notices()?;
        let Some(rows) = &mut portal.rows else {
            return Ok(Err(SqlError::internal("a portal without rows")));
        };
        rows.start_count();
        let sent = self.send_rows(rows, &portal.formats, max).await?;
        if sent.is_err() {
            return Ok(sent);
        }
        // Rows that ran out stay: running the portal once more gives none.
        if rows.sent() < max {
            self.writer.complete(&rows.tag())?;
        } else {
            self.writer
                .message(Backend::PortalSuspended(PortalSuspended::new()))?;
        }
        Ok(Ok(()))
    }

    fn close(&mut self, target: Target, name: &str) -> std::result::Result<(), Ended> {
        match target {
            Target::Statement => self.session.close_statement(name),
            Target::Portal => self.session.close_portal(name),
        }
        Ok(self
            .writer
            .message(Backend::CloseComplete(CloseComplete::new()))?)
    }
}

/// Runs a statement, and asks it to stop when the client goes away meanwhile. What it had to commit by then is committed.
async fn watched<T>(
    gone: impl Future<Output = ()>,
    cancel: Arc<CancelHandle>,
    statement: impl Future<Output = T>,
) -> T {
    tokio::pin!(statement);
    tokio::select! {
        biased;
        done = &mut statement => return done,
        () = gone => cancel.hang_up(),
    }
    statement.await
}

/// The Sync that most drivers send along with an Execute.
const SYNC: &[u8] = &[b'S', 0, 0, 0, 4];

/// Resolves when the client has closed its side. A client that has sent more than this statement and its Sync may close in good order: that is seen when its messages have been read.
async fn gone(reader: &mut OwnedReadHalf, input: &BytesMut) {
    let waits = input.is_empty() || &**input == SYNC;
    if waits && matches!(reader.peek(&mut [0]).await, Ok(0) | Err(_)) {
        return;
    }
    std::future::pending().await
}

fn send_description(
    writer: &mut Writer,
    prepared: &Prepared,
    formats: &[i16],
) -> std::io::Result<()> {
    match &prepared.desc {
        Some(desc) => {
            rows::describe(desc, formats, writer.buffer());
            Ok(())
        }
        None => writer.message(Backend::NoData(NoData::new())),
    }
}

async fn after(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}
