//! SIGKILL at random moments under write load.
//!
//! Several sessions write through every path: single rows, multi-row statements, COPY, read-modify-write transactions, transfers, DDL. The server is
//! killed, started again over its directory, and what it shows is compared with what it had answered:
//! - acknowledged: there, exactly once, complete;
//! - refused, or never committed: not there;
//! - unknown (the connection broke at the commit): there completely, or not at all;
//! - every maintained view equals its query, asked of the interpreter.

mod load;
mod verify;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use harness::sql::error_text;
use harness::{Launch, Server, Sql};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use load::{Client, Record};

/// What exists before the first round.
const SETUP: &str = "
    create table entry (client int, seq bigint, note text);
    create table batch (client int, seq bigint, n int, primary key (client, seq, n));
    create table counter (k int primary key, v bigint not null);
    create table increment (k int, client int, seq bigint);
    create table account (id int primary key, balance bigint not null);
    create table leg (client int, seq bigint, account int, amount bigint);
    insert into counter select x, 0 from generate_series(0, 9) x;
    insert into account select x, 1000 from generate_series(0, 19) x;
    create materialized view v_entry as select client, count(*) as n, max(seq) as last from entry group by client;
    create materialized view v_batch as select client, seq, count(*) as n from batch group by client, seq;
    create materialized view v_counter as select c.k, c.v, count(i.client) as n from counter c left join increment i on i.k = c.k group by c.k, c.v;
    create materialized view v_account as select a.id, a.balance, sum(l.amount) as moved from account a left join leg l on l.account = a.id group by a.id, a.balance;
    create materialized view v_top as select client, seq, amount from leg order by amount desc, seq desc, client limit 10;
    create materialized view v_kinds as select distinct k from increment union all select min(balance)::int from account;
    create index v_entry_client on v_entry (client)";

/// The tables, and how many clients write them.
const CLIENTS: usize = 8;

#[derive(Args)]
pub struct Options {
    #[arg(long)]
    binary: PathBuf,
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// The data directory; a temporary one if not given. It is kept when given.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Longest load of one round in milliseconds.
    #[arg(long, default_value_t = 1500)]
    load_ms_max: u64,
    #[arg(long)]
    seed: Option<u64>,
    /// The server is a PostgreSQL, whose views are not maintained: do not compare them. For testing this checker.
    #[arg(long)]
    plain: bool,
}

/// Totals for the last line.
#[derive(Default)]
struct Totals {
    acknowledged: usize,
    refused: usize,
    unknown: usize,
    unknown_applied: usize,
    longest_start: Duration,
}

pub async fn run(options: &Options) -> Result<()> {
    let seed = options.seed.unwrap_or_else(rand::random);
    println!(
        "jepsen kill9: {} rounds, seed {seed} (replay with --seed {seed}; the moments of the kills follow it, the interleaving does not)",
        options.rounds
    );
    let mut rng = StdRng::seed_from_u64(seed);
    let temporary = tempfile::tempdir()?;
    let directory = options
        .data_dir
        .clone()
        .unwrap_or_else(|| temporary.path().join("data"));
    let mut server = Launch::new(&options.binary, directory).start()?;
    let sql = connect(&server).await?;
    for statement in SETUP.split(';') {
        sql.run(statement)
            .await
            .map_err(|e| anyhow::anyhow!("{statement}: {}", error_text(&e)))?;
    }
    drop(sql);
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|id| Client::new(id, rng.random()))
        .collect();
    let mut known = verify::Known::default();
    let mut totals = Totals::default();
    for round in 1..=options.rounds {
        if let Err(error) = one_round(
            &mut server,
            &mut clients,
            &mut known,
            &mut totals,
            &mut rng,
            options,
        )
        .await
        {
            if options.data_dir.is_none() {
                println!(
                    "the data directory is kept at {}",
                    temporary.keep().display()
                );
            }
            println!("the server printed (end):\n{}", server.output_end());
            return Err(error.context(format!("round {round}, seed {seed}")));
        }
        println!(
            "round {round}: {} acknowledged, {} refused, {} unknown of which {} applied; longest start {:.2} s",
            totals.acknowledged,
            totals.refused,
            totals.unknown,
            totals.unknown_applied,
            totals.longest_start.as_secs_f64()
        );
    }
    ensure!(
        totals.acknowledged > options.rounds * CLIENTS,
        "hardly anything was written: the run shows nothing"
    );
    println!(
        "OK: {} rounds, {} writes acknowledged, none lost, none doubled, none halved, views equal; seed {seed}",
        options.rounds, totals.acknowledged
    );
    Ok(())
}

async fn connect(server: &Server) -> Result<Sql> {
    server
        .target()
        .connect()
        .await
        .context("connecting to a server that says it is ready")
}

async fn one_round(
    server: &mut Server,
    clients: &mut Vec<Client>,
    known: &mut verify::Known,
    totals: &mut Totals,
    rng: &mut StdRng,
    options: &Options,
) -> Result<()> {
    let records = load_until_killed(server, clients, rng, options).await?;
    restart(server, totals, rng).await?;
    let sql = connect(server).await?;
    let found = verify::writes(&sql, known, &records).await?;
    if !options.plain {
        verify::views(&sql).await?;
    }
    for record in &records {
        match record.outcome {
            load::Outcome::Acknowledged => totals.acknowledged += 1,
            load::Outcome::Refused => totals.refused += 1,
            load::Outcome::Unknown => totals.unknown += 1,
        }
    }
    totals.unknown_applied += found;
    Ok(())
}

/// Lets all clients write for a random time, then kills the server; what they recorded.
async fn load_until_killed(
    server: &mut Server,
    clients: &mut Vec<Client>,
    rng: &mut StdRng,
    options: &Options,
) -> Result<Vec<Record>> {
    let target = server.target();
    let tasks: Vec<_> = std::mem::take(clients)
        .into_iter()
        .map(|client| tokio::spawn(client.write_until_broken(target.clone())))
        .collect();
    tokio::time::sleep(Duration::from_millis(
        rng.random_range(20..options.load_ms_max.max(21)),
    ))
    .await;
    if rng.random_bool(0.1) {
        // A graceful stop now and then: the same promises hold.
        ensure!(
            server.terminate().is_some_and(|s| s.success()),
            "SIGTERM did not end the server cleanly:\n{}",
            server.output()
        );
    } else {
        server.kill9();
    }
    let mut records = Vec::new();
    for task in tasks {
        let (client, mut own) = task.await.context("a client task")??;
        records.append(&mut own);
        clients.push(client);
    }
    Ok(records)
}

/// Starts the server again, sometimes killing it while it recovers.
async fn restart(server: &mut Server, totals: &mut Totals, rng: &mut StdRng) -> Result<()> {
    while rng.random_bool(0.25) {
        let mut early = server.spawn_again()?;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..400))).await;
        early.kill9();
    }
    let started = Instant::now();
    server.restart()?;
    totals.longest_start = totals.longest_start.max(started.elapsed());
    Ok(())
}
