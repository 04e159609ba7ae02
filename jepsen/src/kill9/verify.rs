//! What a restarted server must still show.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use harness::{Answer, Sql, sql::error_text};

use super::load::{BATCH_ROWS, COPY_ROWS, Kind, Outcome, Record};

/// Each maintained view with the query it stands for.
const VIEWS: [(&str, &str); 6] = [
    (
        "v_entry",
        "select client, count(*), max(seq) from entry group by client",
    ),
    (
        "v_batch",
        "select client, seq, count(*) from batch group by client, seq",
    ),
    (
        "v_counter",
        "select c.k, c.v, count(i.client) from counter c left join increment i on i.k = c.k group by c.k, c.v",
    ),
    (
        "v_account",
        "select a.id, a.balance, sum(l.amount) from account a left join leg l on l.account = a.id group by a.id, a.balance",
    ),
    (
        "v_top",
        "select client, seq, amount from leg order by amount desc, seq desc, client limit 10",
    ),
    (
        "v_kinds",
        "select distinct k from increment union all select min(balance)::int from account",
    ),
];

/// What earlier rounds have settled.
#[derive(Default)]
pub struct Known {
    /// Highest verified sequence number per client.
    verified: BTreeMap<usize, u64>,
    /// Rows per table that belong to verified operations.
    rows: BTreeMap<&'static str, usize>,
    tables: usize,
}

async fn rows(sql: &Sql, query: &str) -> Result<Answer> {
    sql.rows(query)
        .await
        .map_err(|e| anyhow::anyhow!("{query}: {}", error_text(&e)))
}

async fn number(sql: &Sql, query: &str) -> Result<usize> {
    let answer = rows(sql, query).await?;
    let cell = answer
        .rows()
        .first()
        .and_then(|r| r.first())
        .cloned()
        .flatten();
    cell.and_then(|c| c.parse().ok())
        .with_context(|| format!("{query} gave no number"))
}

/// Compares every table with the records; the number of unknown operations that turned out to be applied.
pub async fn writes(sql: &Sql, known: &mut Known, records: &[Record]) -> Result<usize> {
    let mut applied = 0;
    for (table, kinds) in [
        ("entry", &[Kind::Entry][..]),
        ("batch", &[Kind::Batch, Kind::Copy][..]),
        ("increment", &[Kind::Increment][..]),
        ("leg", &[Kind::Transfer][..]),
    ] {
        let own: Vec<&Record> = records.iter().filter(|r| kinds.contains(&r.kind)).collect();
        applied += table_holds(sql, known, table, &own)
            .await
            .with_context(|| format!("table {table}"))?;
    }
    applied += tables_exist(sql, known, records).await?;
    for record in records {
        let last = known.verified.entry(record.client).or_default();
        *last = (*last).max(record.seq);
    }
    balanced(sql).await?;
    Ok(applied)
}

/// How many rows a complete operation leaves in its table.
fn rows_of(kind: Kind) -> usize {
    match kind {
        Kind::Entry | Kind::Increment => 1,
        Kind::Batch => BATCH_ROWS,
        Kind::Copy => COPY_ROWS,
        Kind::Transfer => 2,
        Kind::Ddl => 0,
    }
}

async fn table_holds(
    sql: &Sql,
    known: &mut Known,
    table: &'static str,
    records: &[&Record],
) -> Result<usize> {
    let old = known.rows.entry(table).or_default();
    let mut found: BTreeMap<(usize, u64), usize> = BTreeMap::new();
    let fresh: Vec<String> = known
        .verified
        .iter()
        .map(|(client, seq)| format!("(client = {client} and seq > {seq})"))
        .collect();
    let filter = if fresh.is_empty() {
        String::new()
    } else {
        format!("where {}", fresh.join(" or "))
    };
    for row in rows(
        sql,
        &format!("select client, seq, count(*) from {table} {filter} group by client, seq"),
    )
    .await?
    .rows()
    {
        let cell = |n: usize| {
            row[n]
                .as_deref()
                .unwrap_or("")
                .parse::<u64>()
                .context("a number")
        };
        found.insert((cell(0)? as usize, cell(1)?), cell(2)? as usize);
    }
    let mut applied = 0;
    for record in records {
        let there = found.remove(&(record.client, record.seq)).unwrap_or(0);
        let complete = rows_of(record.kind);
        match record.outcome {
            Outcome::Acknowledged if there != complete => bail!(
                "LOST, doubled or halved: {record:?} was acknowledged and left {there} of {complete} rows"
            ),
            Outcome::Refused if there != 0 => {
                bail!("PHANTOM: {record:?} was refused and left {there} rows")
            }
            Outcome::Unknown if there != 0 && there != complete => {
                bail!("PARTIAL: {record:?} left {there} of {complete} rows")
            }
            Outcome::Unknown if there != 0 => applied += 1,
            Outcome::Acknowledged | Outcome::Refused | Outcome::Unknown => {}
        }
        *old += there;
    }
    ensure!(found.is_empty(), "rows that nobody wrote: {found:?}");
    let total = number(sql, &format!("select count(*) from {table}")).await?;
    ensure!(
        total == *old,
        "{table} holds {total} rows, {old} were settled: rows of earlier rounds changed"
    );
    Ok(applied)
}

/// Tables made by DDL: acknowledged ones are there, refused ones are not.
async fn tables_exist(sql: &Sql, known: &mut Known, records: &[Record]) -> Result<usize> {
    let answer = rows(
        sql,
        "select relname from pg_catalog.pg_class where relname like 'd\\_%'",
    )
    .await?;
    let there: BTreeSet<String> = answer.rows().iter().filter_map(|r| r[0].clone()).collect();
    let mut applied = 0;
    for record in records.iter().filter(|r| r.kind == Kind::Ddl) {
        let name = format!("d_{}_{}", record.client, record.seq);
        let exists = there.contains(&name);
        match record.outcome {
            Outcome::Acknowledged => ensure!(exists, "LOST: table {name} was acknowledged"),
            Outcome::Refused => ensure!(!exists, "PHANTOM: table {name} was refused"),
            Outcome::Unknown => applied += usize::from(exists),
        }
        if exists {
            known.tables += 1;
            let state = sql.state(&format!("insert into {name} values (1)")).await;
            ensure!(
                state == "00000",
                "table {name} is in the catalog and cannot be written: {state}"
            );
            ensure!(
                number(sql, &format!("select count(*) from {name}")).await? == 1,
                "table {name} is not empty and new"
            );
        }
    }
    ensure!(
        there.len() == known.tables,
        "{} tables of earlier rounds, {} now",
        known.tables,
        there.len()
    );
    Ok(applied)
}

/// What no transaction may break.
async fn balanced(sql: &Sql) -> Result<()> {
    let counters = "select c.k from counter c left join (select k, count(*) as n from increment group by k) i on i.k = c.k where c.v <> coalesce(i.n, 0)";
    ensure!(
        rows(sql, counters).await?.is_empty(),
        "a counter differs from its increments: an update was lost, doubled or halved"
    );
    let accounts = "select a.id from account a left join (select account, sum(amount) as s from leg group by account) l on l.account = a.id
        where a.balance <> 1000 + coalesce(l.s, 0)";
    ensure!(
        rows(sql, accounts).await?.is_empty(),
        "a balance differs from its transfers: a transaction was torn"
    );
    let total = number(sql, "select sum(balance) from account").await?;
    ensure!(total == 20_000, "money appeared or went: {total}");
    Ok(())
}

/// Every maintained view equals its query.
pub async fn views(sql: &Sql) -> Result<()> {
    for (name, query) in VIEWS {
        let maintained = rows(sql, &format!("select * from {name}")).await?;
        sql.run("set clusterd.execution = 'interpreter'").await?;
        let direct = rows(sql, query).await?;
        sql.run("reset clusterd.execution").await?;
        if let Some(difference) = maintained.difference(&direct) {
            bail!("{name} (<) is not its query (>): {difference}");
        }
    }
    Ok(())
}
