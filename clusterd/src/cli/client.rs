//! A client of a running node.

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// A node that does not let a client in within this time does not serve.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which node to ask, and as whom.
#[derive(Clone, Debug, Args)]
pub struct ServerArgs {
    /// SQL address of a running node.
    #[arg(long, env = "CLUSTERD_SQL_ADDR", default_value = "127.0.0.1:6875")]
    pub sql_addr: String,
    #[command(flatten)]
    pub role: RoleArgs,
}

/// As whom.
#[derive(Clone, Debug, Args)]
pub struct RoleArgs {
    /// Role to connect as.
    #[arg(long, default_value = "clusterd")]
    pub user: String,
    /// Database to connect to.
    #[arg(long, default_value = "clusterd")]
    pub database: String,
}

/// Connects to the node at `sql_addr` (host:port).
pub async fn connect(sql_addr: &str, role: &RoleArgs) -> Result<Client> {
    let (host, port) = sql_addr
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
        .ok_or_else(|| anyhow!("--sql-addr must be host:port, not {sql_addr:?}"))?;
    let mut config = tokio_postgres::Config::new();
    config
        .host(host.trim_start_matches('[').trim_end_matches(']'))
        .port(port)
        .user(&role.user)
        .dbname(&role.database)
        .application_name("clusterd")
        .connect_timeout(CONNECT_TIMEOUT);
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, config.connect(NoTls)).await;
    let (client, connection) = connecting
        .with_context(|| format!("the node at {sql_addr} does not answer"))?
        .map_err(in_words)
        .with_context(|| format!("cannot connect to a node at {sql_addr}"))?;
    // It ends with the client.
    drop(tokio::spawn(async move { drop(connection.await) }));
    Ok(client)
}

/// The rows of one statement, as text; the first are the names of the columns.
pub async fn query(client: &Client, sql: &str) -> Result<Vec<Vec<String>>> {
    let messages = client.simple_query(sql).await.map_err(in_words)?;
    let mut rows = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                rows.push(columns.iter().map(|c| c.name().to_owned()).collect());
            }
            SimpleQueryMessage::Row(row) => {
                let text = |at| row.get(at).unwrap_or_default().to_owned();
                rows.push((0..row.len()).map(text).collect());
            }
            _ => {}
        }
    }
    Ok(rows)
}

/// The only value that a statement returns.
pub async fn value(client: &Client, sql: &str) -> Result<String> {
    let mut rows = query(client, sql).await?.into_iter().skip(1);
    match (rows.next().as_deref(), rows.next()) {
        (Some([value]), None) => Ok(value.clone()),
        _ => bail!("the node did not answer {sql} with one value"),
    }
}

/// What the node says, with its detail and hint.
fn in_words(error: tokio_postgres::Error) -> anyhow::Error {
    let Some(db) = error.as_db_error() else {
        return anyhow!(error);
    };
    let mut text = db.message().to_owned();
    for more in [db.detail(), db.hint()].into_iter().flatten() {
        text.push_str(". ");
        text.push_str(more);
    }
    match *db.code() == SqlState::SYNTAX_ERROR {
        true => anyhow!("{text} (is the node of an older version?)"),
        false => anyhow!(text),
    }
}
