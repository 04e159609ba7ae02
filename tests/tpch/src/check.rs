//! The comparison: load, maintain, change, compare.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use clap::{Args, ValueEnum};
use futures::SinkExt;
use harness::{Sql, Target, sql::error_text};

use crate::change::Changes;
use crate::data;

const SCHEMA: &str = include_str!("../schema.sql");
/// How many bytes of CSV go into one CopyData message.
const COPY_CHUNK_BYTES: usize = 64 << 10;

const QUERIES: [(&str, &str); 8] = [
    ("q1", include_str!("../queries/q1.sql")),
    ("q3", include_str!("../queries/q3.sql")),
    ("q5", include_str!("../queries/q5.sql")),
    ("q6", include_str!("../queries/q6.sql")),
    ("q10", include_str!("../queries/q10.sql")),
    ("q12", include_str!("../queries/q12.sql")),
    ("q14", include_str!("../queries/q14.sql")),
    ("q19", include_str!("../queries/q19.sql")),
];

/// Cheap summaries of the tables themselves: they tell a wrong view from a wrong table.
const TABLE_SUMS: &str = "select count(*), sum(l_quantity), sum(l_extendedprice) from lineitem;
    select count(*), sum(o_totalprice), min(o_orderdate) from orders; select count(*), sum(c_acctbal) from customer";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Views {
    /// The views exist before the first row: they are maintained through the load.
    Before,
    /// The views are created over loaded tables: they hydrate.
    After,
    /// The subject keeps no views and answers the queries themselves.
    None,
}

#[derive(Args)]
pub struct Options {
    /// The server under test, as user@host:port/dbname.
    #[arg(long)]
    subject: String,
    /// The server that is right: a PostgreSQL 15, as user@host:port/dbname.
    #[arg(long)]
    reference: String,
    #[arg(long, default_value_t = 0.01)]
    scale: f64,
    /// Batches of changes.
    #[arg(long, default_value_t = 20)]
    batches: usize,
    /// Changed rows per batch, about.
    #[arg(long, default_value_t = 100)]
    rows: usize,
    /// Whether the views are created before or after the load.
    #[arg(long, value_enum, default_value = "after")]
    views: Views,
    /// Seed of the changes; random if not given, printed in any case.
    #[arg(long)]
    seed: Option<u64>,
    /// Keep the tables that are there (a restarted server) and compare only, changing nothing.
    #[arg(long)]
    compare_only: bool,
}

pub async fn run(options: &Options) -> Result<()> {
    let seed = options.seed.unwrap_or_else(rand::random);
    let subject = connect(&options.subject).await?;
    let reference = connect(&options.reference).await?;
    if options.compare_only {
        let waited = compare(&subject, &reference, options.views).await?;
        println!("all {} answers equal in {waited:.3} s", QUERIES.len());
        return Ok(());
    }
    println!(
        "scale {}, seed {seed} (replay with --seed {seed})",
        options.scale
    );
    let mut changes = load(&subject, &reference, options, seed).await?;
    let (mut rows, mut longest) = (0, 0_f64);
    let started = Instant::now();
    for batch in 1..=options.batches {
        let statements = changes.batch(options.rows);
        let text = format!("begin; {}; commit", statements.join(";\n"));
        apply(&reference, "the reference", &text, &statements).await?;
        let now = Instant::now();
        apply(&subject, "the subject", &text, &statements).await?;
        let waited = compare(&subject, &reference, options.views)
            .await
            .with_context(|| format!("after batch {batch}, seed {seed}"))?;
        longest = longest.max(now.elapsed().as_secs_f64());
        rows += options.rows;
        println!(
            "batch {batch}: {} statements, all {} answers equal (read in {waited:.3} s)",
            statements.len(),
            QUERIES.len()
        );
    }
    println!(
        "OK: {} batches, about {rows} changed rows, {:.1} s, longest batch {longest:.2} s, seed {seed}",
        options.batches,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn connect(text: &str) -> Result<Sql> {
    let target =
        Target::parse(text).with_context(|| format!("{text} is not user@host:port/dbname"))?;
    target
        .connect()
        .await
        .with_context(|| format!("connecting to {text}"))
}

async fn load(subject: &Sql, reference: &Sql, options: &Options, seed: u64) -> Result<Changes> {
    for sql in [subject, reference] {
        for (name, _) in QUERIES {
            must(sql, &format!("drop materialized view if exists {name}")).await?;
        }
        for table in data::TABLES.iter().rev() {
            must(sql, &format!("drop table if exists {table} cascade")).await?;
        }
        must(sql, SCHEMA).await?;
    }
    if options.views == Views::Before {
        create_views(subject).await?;
    }
    for table in data::TABLES {
        let rows = copy(reference, table, options.scale).await?;
        let started = Instant::now();
        ensure!(
            copy(subject, table, options.scale).await? == rows,
            "{table}: COPY counted other rows on the subject"
        );
        println!(
            "{table}: {rows} rows in {:.2} s",
            started.elapsed().as_secs_f64()
        );
    }
    must(reference, "analyze").await?;
    if options.views == Views::After {
        create_views(subject).await?;
    }
    let waited = compare(subject, reference, options.views)
        .await
        .context("after the load")?;
    println!(
        "loaded: all {} answers equal (read in {waited:.3} s)",
        QUERIES.len()
    );
    let key = |line: &str, field: usize| {
        line.split(',')
            .nth(field)
            .and_then(|f| f.parse::<i64>().ok())
            .expect("a key")
    };
    let lines = data::csv("lineitem", options.scale)
        .map(|l| (key(&l, 0), key(&l, 3)))
        .collect();
    let orders = data::csv("orders", options.scale)
        .map(|l| key(&l, 0))
        .collect();
    let customers = data::csv("customer", options.scale)
        .map(|l| key(&l, 0))
        .collect();
    let count = |table| data::csv(table, options.scale).count() as i64;
    Ok(Changes::new(
        seed,
        lines,
        orders,
        customers,
        count("part"),
        count("supplier"),
    ))
}

async fn create_views(subject: &Sql) -> Result<()> {
    for (name, query) in QUERIES {
        let started = Instant::now();
        must(
            subject,
            &format!("create materialized view {name} as {query}"),
        )
        .await?;
        println!(
            "{name}: created in {:.3} s",
            started.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

async fn copy(sql: &Sql, table: &str, scale: f64) -> Result<u64> {
    let sink = sql
        .client()
        .copy_in(&format!("copy {table} from stdin with (format csv)"))
        .await
        .map_err(|e| anyhow::anyhow!("{table}: {}", error_text(&e)))?;
    futures::pin_mut!(sink);
    let mut chunk = BytesMut::new();
    for line in data::csv(table, scale) {
        chunk.extend_from_slice(line.as_bytes());
        chunk.extend_from_slice(b"\n");
        if chunk.len() >= COPY_CHUNK_BYTES {
            sink.send(chunk.split().freeze())
                .await
                .map_err(|e| anyhow::anyhow!("{table}: {}", error_text(&e)))?;
        }
    }
    sink.send(Bytes::from(chunk)).await?;
    sink.finish()
        .await
        .map_err(|e| anyhow::anyhow!("{table}: {}", error_text(&e)))
}

async fn must(sql: &Sql, text: &str) -> Result<()> {
    sql.run(text)
        .await
        .map_err(|e| anyhow::anyhow!("{text:.200}: {}", error_text(&e)))
}

async fn apply(sql: &Sql, who: &str, text: &str, statements: &[String]) -> Result<()> {
    if let Err(error) = sql.run(text).await {
        bail!(
            "{who} refused a batch of {} statements: {}\n{text:.2000}",
            statements.len(),
            error_text(&error)
        );
    }
    Ok(())
}

/// Compares every answer; the seconds the subject took for its part.
async fn compare(subject: &Sql, reference: &Sql, views: Views) -> Result<f64> {
    let mut waited = 0.0;
    for (name, query) in [("tables", TABLE_SUMS)].into_iter().chain(QUERIES) {
        let asked = if views == Views::None || name == "tables" {
            query.to_owned()
        } else {
            format!("select * from {name}")
        };
        let started = Instant::now();
        let found = subject
            .rows(&asked)
            .await
            .map_err(|e| anyhow::anyhow!("{name} on the subject: {}", error_text(&e)))?;
        waited += started.elapsed().as_secs_f64();
        let right = reference
            .rows(query)
            .await
            .map_err(|e| anyhow::anyhow!("{name} on the reference: {}", error_text(&e)))?;
        ensure!(
            !right.is_empty(),
            "{name} has no rows at all: nothing would be compared"
        );
        if let Some(difference) = found.difference(&right) {
            bail!("{name} differs (left: subject, right: reference): {difference}");
        }
    }
    Ok(waited)
}
