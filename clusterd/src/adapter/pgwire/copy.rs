//! The COPY sub-protocol and the streams of SUBSCRIBE.

use super::frame::{self, Message};
use super::{Connection, Ended, Protocol, rows};
use crate::adapter::copy::{CopyIn, CopyOut, CopyRows};
use crate::adapter::error::{Result, SqlError};
use crate::adapter::subscribe::Subscription;
use pgwire::messages::PgWireBackendMessage as Backend;
use pgwire::messages::copy::{CopyDone, CopyInResponse, CopyOutResponse};
use tokio::io::AsyncReadExt;

const QUERY_CANCELED: &str = "57014";

impl Connection {
    pub(super) async fn copy_in(
        &mut self,
        mut copy: CopyIn,
    ) -> std::result::Result<Result<()>, Ended> {
        let columns = i16::try_from(copy.columns).unwrap_or(i16::MAX);
        self.writer
            .message(Backend::CopyInResponse(CopyInResponse::new(
                0,
                columns,
                vec![0; copy.columns],
            )))?;
        self.writer.flush().await?;
        // One guard from the first byte to the commit: what the client still sends after a cancel is dropped by the main loop, as the protocol asks.
        let guard = self.session.guard();
        let copied = guard.run(async {
            match self.receive_copy(&mut copy).await {
                Err(ended) => Ok(Err(ended)),
                Ok(received) => {
                    received?;
                    self.session.finish_copy(copy).await.map(Ok)
                }
            }
        });
        Ok(match copied.await {
            Ok(count) => {
                let count = count?;
                self.writer.complete(&format!("COPY {count}"))?;
                Ok(())
            }
            Err(error) => Err(error),
        })
    }

    /// Feeds the client's data to the decoder until its end.
    async fn receive_copy(&mut self, copy: &mut CopyIn) -> std::result::Result<Result<()>, Ended> {
        let mut failed = None;
        loop {
            // The statement is running: the session does not idle, however slow the client is.
            let Some(message) = self.next_message(None).await? else {
                return Err(Ended::Closed);
            };
            match message {
                Message::CopyData(data) => {
                    // After an error the rest of the data is read and dropped.
                    if failed.is_none() {
                        failed = copy.decoder.push(&data).err();
                    }
                }
                Message::CopyDone => break,
                Message::CopyFail(reason) => {
                    failed = failed.or_else(|| {
                        Some(SqlError::new(
                            "57014",
                            format!("COPY from stdin failed: {reason}"),
                        ))
                    });
                    break;
                }
                Message::Flush | Message::Sync => {}
                Message::Query(_)
                | Message::Parse { .. }
                | Message::Bind { .. }
                | Message::Describe(..)
                | Message::Execute { .. }
                | Message::Close(..)
                | Message::Password
                | Message::Terminate => {
                    return Err(Ended::Fatal(SqlError::fatal(
                        "08P01",
                        "unexpected message during COPY from stdin",
                    )));
                }
            }
        }
        Ok(failed.map_or(Ok(()), Err))
    }

    pub(super) async fn copy_out(
        &mut self,
        mut out: CopyOut,
    ) -> std::result::Result<Result<()>, Ended> {
        let columns = i16::try_from(out.columns).unwrap_or(i16::MAX);
        self.writer
            .message(Backend::CopyOutResponse(CopyOutResponse::new(
                0,
                columns,
                vec![0; out.columns],
            )))?;
        let mut line = vec![];
        out.encoder.header(&mut line);
        if !line.is_empty() {
            self.writer.copy_data(&line);
        }
        let mut count = 0u64;
        match out.source {
            CopyRows::Rows(rows) => {
                for row in &rows {
                    line.clear();
                    out.encoder.row(row, &mut line);
                    self.writer.copy_data(&line);
                    self.writer.relieve().await?;
                    count += 1;
                }
            }
            CopyRows::Subscribe(mut subscription) => {
                let _running = self.session.cancel.running(None);
                self.writer.flush().await?;
                loop {
                    match self.next_change(&mut subscription).await? {
                        Err(error) => return Ok(Err(error)),
                        Ok(None) => break,
                        Ok(Some(row)) => {
                            line.clear();
                            // Objects may be made and renamed while it runs.
                            out.encoder.names = self.session.latest_names(&subscription.desc);
                            out.encoder.row(&row, &mut line);
                            self.writer.copy_data(&line);
                            count += 1;
                        }
                    }
                }
            }
        }
        self.writer.message(Backend::CopyDone(CopyDone::new()))?;
        self.writer.complete(&format!("COPY {count}"))?;
        Ok(Ok(()))
    }

    /// Plain SUBSCRIBE: data rows until the subscription ends, is cancelled, or the client goes.
    ///
    /// In the simple protocol each burst of changes is a result of its own, because libpq (and so psql) shows a result only once it is complete. In the extended protocol
    /// there is one result, and a cancel is its regular end: libpq would throw the rows away if an error followed them.
    pub(super) async fn subscribe(
        &mut self,
        mut subscription: Subscription,
        formats: &[i16],
        protocol: Protocol,
    ) -> std::result::Result<Result<()>, Ended> {
        let context = self.session.format_context();
        let mut count = 0u64;
        let mut described = protocol == Protocol::Extended;
        // One mark for all changes: between two of them a cancel would be lost.
        let _running = self.session.cancel.running(None);
        loop {
            if protocol == Protocol::Simple && count > 0 && subscription.is_idle() {
                self.writer.complete(&format!("SUBSCRIBE {count}"))?;
                // psql shows a result when the next one begins: an empty one makes it show this one now.
                self.writer.empty_query()?;
                (count, described) = (0, false);
            }
            match self.next_change(&mut subscription).await? {
                Err(error)
                    if protocol == Protocol::Extended && error.sqlstate == QUERY_CANCELED =>
                {
                    break;
                }
                Err(error) => return Ok(Err(error)),
                Ok(None) => break,
                Ok(Some(row)) => {
                    if !std::mem::replace(&mut described, true) {
                        rows::describe(&subscription.desc, formats, self.writer.buffer());
                    }
                    // Objects may be made and renamed while it runs.
                    let names = self.session.latest_names(&subscription.desc);
                    if let Err(error) = rows::data_row(
                        &subscription.desc,
                        &row,
                        formats,
                        &context,
                        names.as_deref(),
                        self.writer.buffer(),
                    ) {
                        return Ok(Err(error));
                    }
                    count += 1;
                }
            }
        }
        self.writer.complete(&format!("SUBSCRIBE {count}"))?;
        self.session.end_single_statement();
        Ok(Ok(()))
    }

    /// The next row of a subscription. Flushes before waiting, and notices a client that has closed its side.
    async fn next_change(
        &mut self,
        subscription: &mut Subscription,
    ) -> std::result::Result<Result<Option<repr::Row>>, Ended> {
        if subscription.is_idle() {
            self.writer.flush().await?;
        } else {
            self.writer.relieve().await?;
        }
        if self.input.len() > frame::MESSAGE_BYTES_MAX {
            return Err(Ended::Fatal(SqlError::fatal(
                "08P01",
                "too much input during SUBSCRIBE",
            )));
        }
        loop {
            // Asked first: a subscription that always has changes ready must end, too.
            tokio::select! {
                biased;
                interrupt = self.session.cancel.interrupted() => return Ok(Err(interrupt.into())),
                row = subscription.next() => return Ok(row),
                read = self.reader.read_buf(&mut self.input) => {
                    if read? == 0 {
                        return Err(Ended::Closed);
                    }
                }
            }
        }
    }
}
