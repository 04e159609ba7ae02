//! A SQL client over the simple protocol: every value as the text the server sent.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{CancelToken, Client, Config, Error, NoTls, SimpleQueryMessage};

use crate::answer::{Answer, TextRow};

/// Where a server of the Postgres protocol is, and as whom to go there.
#[derive(Clone, Debug)]
pub struct Target {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub dbname: String,
}

impl Target {
    /// A clusterd with its standard user and database.
    pub fn clusterd(addr: SocketAddr) -> Target {
        Target {
            host: addr.ip().to_string(),
            port: addr.port(),
            user: "clusterd".to_owned(),
            dbname: "clusterd".to_owned(),
        }
    }

    /// Reads `user@host:port/dbname`.
    pub fn parse(text: &str) -> Option<Target> {
        let (user, rest) = text.split_once('@')?;
        let (address, dbname) = rest.split_once('/')?;
        let (host, port) = address.rsplit_once(':')?;
        Some(Target {
            host: host.to_owned(),
            port: port.parse().ok()?,
            user: user.to_owned(),
            dbname: dbname.to_owned(),
        })
    }

    /// The driver's own configuration, for tests that need more than [`Sql`] offers.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .user(&self.user)
            .dbname(&self.dbname)
            .connect_timeout(Duration::from_secs(20));
        config
    }

    /// Opens one session.
    pub async fn connect(&self) -> Result<Sql, Error> {
        let (client, connection) = self.config().connect(NoTls).await?;
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Sql { client, driver })
    }
}

/// One session.
pub struct Sql {
    client: Client,
    driver: JoinHandle<()>,
}

impl Sql {
    /// Runs statements and forgets their rows.
    pub async fn run(&self, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await
    }

    /// Runs statements; the rows of all of them, as text.
    pub async fn rows(&self, sql: &str) -> Result<Answer, Error> {
        let messages = self.client.simple_query(sql).await?;
        let rows = messages.iter().filter_map(|m| match m {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|i| row.get(i).map(str::to_owned))
                    .collect::<TextRow>(),
            ),
            _ => None,
        });
        Ok(Answer::new(rows.collect()))
    }

    /// Runs one statement; the row count of its command tag.
    pub async fn count(&self, sql: &str) -> Result<u64, Error> {
        let messages = self.client.simple_query(sql).await?;
        Ok(messages
            .iter()
            .filter_map(|m| {
                if let SimpleQueryMessage::CommandComplete(n) = m {
                    Some(*n)
                } else {
                    None
                }
            })
            .sum())
    }

    /// The first column of the first row; empty when there is none or it is NULL.
    pub async fn one(&self, sql: &str) -> Result<String, Error> {
        let answer = self.rows(sql).await?;
        Ok(answer
            .rows()
            .first()
            .and_then(|row| row.first())
            .cloned()
            .flatten()
            .unwrap_or_default())
    }

    /// The SQLSTATE of a statement: `00000` when it succeeds.
    pub async fn state(&self, sql: &str) -> String {
        match self.run(sql).await {
            Ok(()) => "00000".to_owned(),
            Err(error) => sqlstate(&error),
        }
    }

    /// Whether the server has closed this session.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The handle that cancels this session's running statement.
    pub fn cancel_token(&self) -> CancelToken {
        self.client.cancel_token()
    }

    /// The driver's client, for the extended protocol and COPY.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The driver's client, for its transaction helper.
    pub fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for Sql {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The SQLSTATE of a failure; `connection` when the server did not give one (the connection broke: the outcome is unknown).
pub fn sqlstate(error: &Error) -> String {
    error
        .code()
        .map_or_else(|| "connection".to_owned(), |code| code.code().to_owned())
}

/// The server's own words about a failure, with detail, hint and context; the driver's words when the connection broke.
pub fn error_text(error: &Error) -> String {
    let Some(db) = error.as_db_error() else {
        return error.to_string();
    };
    let mut text = format!("{}: {}", db.code().code(), db.message());
    for (label, part) in [
        ("detail", db.detail()),
        ("hint", db.hint()),
        ("context", db.where_()),
    ] {
        if let Some(part) = part {
            text.push_str(&format!("; {label}: {part}"));
        }
    }
    text
}
