//! One writing session and its memory of what the server answered.

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::SinkExt;
use harness::{Sql, Target, sql::error_text, sqlstate};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_postgres::Error;

/// Rows of one multi-row INSERT.
pub const BATCH_ROWS: usize = 20;
/// Rows of one COPY.
pub const COPY_ROWS: usize = 3000;

/// What one operation was, which tells what it leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One row of `entry`.
    Entry,
    /// `BATCH_ROWS` rows of `batch` in one statement.
    Batch,
    /// `COPY_ROWS` rows of `batch` in one COPY.
    Copy,
    /// Read a counter, write it plus one, and a row of `increment`: one transaction.
    Increment,
    /// Two rows of `leg` and two balances in one transaction.
    Transfer,
    /// A table of its own, `d_<client>_<seq>`.
    Ddl,
}

/// What the server let its client know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    /// A definite error, or the connection broke before the commit was sent.
    Refused,
    /// The commit was sent and no answer came.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub client: usize,
    pub seq: u64,
    pub kind: Kind,
    pub outcome: Outcome,
}

/// A writer. It keeps its sequence numbers over all rounds.
pub struct Client {
    id: usize,
    seq: u64,
    rng: StdRng,
}

/// How an operation ended: what it means, and whether the session can go on.
struct End {
    outcome: Outcome,
    alive: bool,
}

impl Client {
    pub fn new(id: usize, seed: u64) -> Client {
        Client {
            id,
            seq: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Writes until the connection breaks.
    pub async fn write_until_broken(mut self, target: Target) -> Result<(Client, Vec<Record>)> {
        let mut records = Vec::new();
        let Ok(sql) = target.connect().await else {
            return Ok((self, records));
        };
        loop {
            self.seq += 1;
            let kind = match self.rng.random_range(0..100) {
                0..40 => Kind::Entry,
                40..55 => Kind::Batch,
                55..57 => Kind::Copy,
                57..77 => Kind::Increment,
                77..97 => Kind::Transfer,
                _ => Kind::Ddl,
            };
            let end = self.operation(&sql, kind).await?;
            records.push(Record {
                client: self.id,
                seq: self.seq,
                kind,
                outcome: end.outcome,
            });
            if !end.alive {
                return Ok((self, records));
            }
        }
    }

    async fn operation(&mut self, sql: &Sql, kind: Kind) -> Result<End> {
        let (client, seq) = (self.id, self.seq);
        match kind {
            Kind::Entry => committed(
                sql.run(&format!(
                    "insert into entry values ({client}, {seq}, 'note {seq}')"
                ))
                .await,
            ),
            Kind::Batch => {
                let rows: Vec<String> = (0..BATCH_ROWS)
                    .map(|n| format!("({client}, {seq}, {n})"))
                    .collect();
                committed(
                    sql.run(&format!("insert into batch values {}", rows.join(", ")))
                        .await,
                )
            }
            Kind::Copy => {
                let data: String = (0..COPY_ROWS)
                    .map(|n| format!("{client}\t{seq}\t{n}\n"))
                    .collect();
                committed(copy(sql, data).await)
            }
            Kind::Increment => {
                let k = self.rng.random_range(0..10);
                self.transaction(sql, async {
                    let value: i64 = sql
                        .one(&format!("select v from counter where k = {k}"))
                        .await?
                        .parse()
                        .unwrap_or(i64::MIN);
                    sql.run(&format!(
                        "update counter set v = {} where k = {k}",
                        value + 1
                    ))
                    .await?;
                    sql.run(&format!(
                        "insert into increment values ({k}, {client}, {seq})"
                    ))
                    .await
                })
                .await
            }
            Kind::Transfer => {
                let (from, amount) = (self.rng.random_range(0..20), self.rng.random_range(1..50));
                let to = (from + self.rng.random_range(1..20)) % 20;
                self.transaction(sql, async {
                    sql.run(&format!("update account set balance = balance - {amount} where id = {from}")).await?;
                    sql.run(&format!("insert into leg values ({client}, {seq}, {from}, -{amount}), ({client}, {seq}, {to}, {amount})")).await?;
                    sql.run(&format!("update account set balance = balance + {amount} where id = {to}")).await
                })
                .await
            }
            Kind::Ddl => committed(
                sql.run(&format!("create table d_{client}_{seq} (a int)"))
                    .await,
            ),
        }
    }

    /// BEGIN, these statements, COMMIT. What breaks before the COMMIT is sent never happened.
    async fn transaction(
        &self,
        sql: &Sql,
        statements: impl Future<Output = Result<(), Error>>,
    ) -> Result<End> {
        let before = async {
            sql.run("begin").await?;
            statements.await
        };
        if let Err(error) = before.await {
            let end = refused(&error)?;
            let alive = end.alive && sql.run("rollback").await.is_ok();
            return Ok(End {
                outcome: Outcome::Refused,
                alive,
            });
        }
        let end = committed(sql.run("commit").await)?;
        if end.outcome == Outcome::Refused && end.alive {
            let alive = sql.run("rollback").await.is_ok();
            return Ok(End {
                outcome: Outcome::Refused,
                alive,
            });
        }
        Ok(end)
    }
}

async fn copy(sql: &Sql, data: String) -> Result<(), Error> {
    let sink = sql.client().copy_in("copy batch from stdin").await?;
    futures::pin_mut!(sink);
    for chunk in data.as_bytes().chunks(8192) {
        sink.send(Bytes::copy_from_slice(chunk)).await?;
    }
    sink.finish().await.map(|_| ())
}

/// The end of a statement that commits by itself.
fn committed(result: Result<(), Error>) -> Result<End> {
    match result {
        Ok(()) => Ok(End {
            outcome: Outcome::Acknowledged,
            alive: true,
        }),
        Err(error) if is_unknown(&error) => Ok(End {
            outcome: Outcome::Unknown,
            alive: false,
        }),
        Err(error) => refused(&error),
    }
}

/// A failure before anything could commit.
fn refused(error: &Error) -> Result<End> {
    let broken = is_unknown(error);
    // Conflicts are part of the load; nothing else about these statements can be wrong.
    ensure!(
        broken || ["40001", "40P01"].contains(&sqlstate(error).as_str()),
        "a write failed with {}",
        error_text(error)
    );
    Ok(End {
        outcome: Outcome::Refused,
        alive: !broken,
    })
}

/// The server said that it does not know, or said nothing because it was going away.
fn is_unknown(error: &Error) -> bool {
    let state = sqlstate(error);
    state == "connection" || state == "40003" || state.starts_with("08") || state.starts_with("57P")
}
