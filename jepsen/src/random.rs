//! Random queries over random tables and random changes: every answer three ways.
//!
//! Each query becomes a materialized view (the dataflow). After every change its rows are compared with the one-shot answer of the interpreter
//! (`SET clusterd.execution = 'interpreter'`), now and then with the one-shot answer of the server's own choice, and with PostgreSQL if there is one.
//! A difference is replayed with ever fewer statements, and the shortest script that still shows it is printed with the seed.
//!
//! Errors: the view and the interpreter must both fail or both answer. PostgreSQL may evaluate in another order, so a query that can fail at all
//! counts as agreeing with it when either side fails.

mod dice;
mod expr;
mod query;
mod world;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use harness::sql::error_text;
use harness::{Answer, Launch, Sql, Target, sqlstate};

use dice::Dice;
use query::Query;
use world::World;

/// Queries that share one set of tables and its changes.
const QUERIES_PER_WORLD: usize = 10;
/// A statement that takes longer has hung.
const STATEMENT_TIMEOUT: &str = "60s";

#[derive(Args)]
pub struct Options {
    /// The server binary; it is started on an empty directory. Or use --subject.
    #[arg(long, conflicts_with = "subject")]
    binary: Option<PathBuf>,
    /// A running server under test, as user@host:port/dbname. Its tables t0, t1, .. and views q0, q1, .. are dropped.
    #[arg(long)]
    subject: Option<String>,
    /// A PostgreSQL 15 to compare with, as user@host:port/dbname, in the C locale.
    #[arg(long)]
    reference: Option<String>,
    #[arg(long, default_value_t = 500)]
    queries: usize,
    /// Changes per set of tables.
    #[arg(long, default_value_t = 8)]
    changes: usize,
    #[arg(long)]
    seed: Option<u64>,
    /// The subject is a PostgreSQL: no views are made and no execution is chosen. For testing this checker.
    #[arg(long)]
    plain: bool,
}

pub async fn run(options: &Options) -> Result<()> {
    let seed = options.seed.unwrap_or_else(rand::random);
    println!(
        "jepsen random: {} queries, seed {seed} (replay with --seed {seed})",
        options.queries
    );
    let directory = tempfile::tempdir()?;
    let server = options
        .binary
        .as_ref()
        .map(|binary| Launch::new(binary, directory.path().join("data")).start())
        .transpose()?;
    let target = match (&server, &options.subject) {
        (Some(server), _) => server.target(),
        (None, Some(text)) => {
            Target::parse(text).context("--subject is not user@host:port/dbname")?
        }
        (None, None) => bail!("give --binary or --subject"),
    };
    let reference = match &options.reference {
        Some(text) => Some(
            connect(
                &Target::parse(text).context("--reference is not user@host:port/dbname")?,
                true,
            )
            .await?,
        ),
        None => None,
    };
    let mut sides = Sides {
        subject: connect(&target, options.plain).await?,
        reference,
        plain: options.plain,
        tally: Tally::default(),
    };
    let started = Instant::now();
    let mut dice = Dice::new(seed);
    let mut worlds = 0;
    while sides.tally.queries < options.queries {
        worlds += 1;
        if let Err(error) = one_world(&mut sides, options, &mut dice).await {
            if let Some(server) = &server {
                println!("the server printed (end):\n{}", server.output_end());
            }
            return Err(error.context(format!("in the tables number {worlds} of seed {seed}")));
        }
    }
    sides.tally.report(started.elapsed().as_secs_f64(), seed)
}

async fn connect(target: &Target, plain: bool) -> Result<Sql> {
    let sql = target.connect().await.context("connecting")?;
    must(
        &sql,
        &format!("set statement_timeout = '{STATEMENT_TIMEOUT}'"),
    )
    .await?;
    if plain {
        must(&sql, "set client_min_messages = error").await?;
    }
    Ok(sql)
}

async fn must(sql: &Sql, text: &str) -> Result<()> {
    sql.run(text)
        .await
        .map_err(|e| anyhow::anyhow!("{text}: {}", error_text(&e)))
}

/// What was compared.
#[derive(Default)]
struct Tally {
    queries: usize,
    comparisons: usize,
    rows: usize,
    empty: usize,
    errors: usize,
    risky_disagreements: usize,
}

impl Tally {
    fn report(&self, seconds: f64, seed: u64) -> Result<()> {
        println!(
            "OK: {} queries, {} comparisons ({} of empty answers, {} of errors, {} left to evaluation order), {} rows, {seconds:.1} s, seed {seed}",
            self.queries,
            self.comparisons,
            self.empty,
            self.errors,
            self.risky_disagreements,
            self.rows
        );
        ensure!(
            self.empty * 10 < self.comparisons * 7,
            "most answers were empty: the generator compares nothing"
        );
        Ok(())
    }
}

/// An answer or a SQLSTATE.
type Outcome = Result<Answer, String>;

async fn ask(sql: &Sql, query: &str) -> Result<Outcome> {
    match sql.rows(query).await {
        Ok(answer) => Ok(Ok(answer)),
        Err(error) => {
            let state = sqlstate(&error);
            ensure!(
                state != "connection"
                    && state != "57014"
                    && !state.starts_with("XX")
                    && !state.starts_with("42"),
                "{query}\nended with {}",
                error_text(&error)
            );
            Ok(Err(state))
        }
    }
}

struct Sides {
    subject: Sql,
    reference: Option<Sql>,
    plain: bool,
    tally: Tally,
}

/// One history: what is replayed to show a difference.
struct History {
    ddl: Vec<String>,
    rows: Vec<String>,
    changes: Vec<String>,
    views_first: bool,
}

async fn one_world(sides: &mut Sides, options: &Options, dice: &mut Dice) -> Result<()> {
    let mut world = World::new(dice);
    let queries: Vec<Query> = (0..QUERIES_PER_WORLD.min(options.queries - sides.tally.queries))
        .map(|_| query::random(&world.tables, dice))
        .collect();
    let mut history = History {
        ddl: world.tables.iter().map(world::Table::ddl).collect(),
        rows: world.rows(dice),
        changes: Vec::new(),
        views_first: dice.chance(50),
    };
    sides.tally.queries += queries.len();
    sides.build(&history, &queries).await?;
    for change in 0..=options.changes {
        if change > 0 {
            let text = world.change(dice);
            sides.apply(&text).await?;
            history.changes.push(text);
        }
        for (n, query) in queries.iter().enumerate() {
            if let Some(difference) = sides.compare(n, query, dice.chance(30)).await? {
                let shortest = sides.shorten(history, query).await?;
                bail!(
                    "{difference}\nquery: {}\nshortest script that shows it:\n{shortest}",
                    query.sql
                );
            }
        }
    }
    Ok(())
}

impl Sides {
    /// Tables and views from nothing, on every side.
    async fn build(&self, history: &History, queries: &[Query]) -> Result<()> {
        for sql in [Some(&self.subject), self.reference.as_ref()]
            .into_iter()
            .flatten()
        {
            for n in 0..4 {
                must(sql, &format!("drop table if exists t{n} cascade")).await?;
            }
            for table in &history.ddl {
                must(sql, table).await?;
            }
        }
        if history.views_first {
            self.create_views(queries).await?;
        }
        for row in &history.rows {
            self.apply(row).await?;
        }
        if !history.views_first {
            self.create_views(queries).await?;
        }
        Ok(())
    }

    async fn create_views(&self, queries: &[Query]) -> Result<()> {
        for (n, query) in queries.iter().enumerate().filter(|_| !self.plain) {
            must(
                &self.subject,
                &format!("create materialized view q{n} as {}", query.sql),
            )
            .await?;
        }
        Ok(())
    }

    /// The same change on every side. A change may fail (an overflow), but then everywhere.
    async fn apply(&self, text: &str) -> Result<()> {
        let found = self.subject.state(text).await;
        if found != "00000" {
            let _ = self.subject.state("rollback").await;
        }
        if let Some(reference) = &self.reference {
            let right = reference.state(text).await;
            if right != "00000" {
                let _ = reference.state("rollback").await;
            }
            ensure!(
                found == right,
                "{text}\nends with {found}, on PostgreSQL with {right}"
            );
        }
        ensure!(
            found != "connection" && !found.starts_with("XX"),
            "{text}\nends with {found}"
        );
        Ok(())
    }

    /// Says how the sides differ on a query, or counts that they agree.
    async fn compare(
        &mut self,
        n: usize,
        query: &Query,
        own_choice: bool,
    ) -> Result<Option<String>> {
        let maintained = if self.plain {
            ask(&self.subject, &query.sql).await?
        } else {
            ask(&self.subject, &format!("select * from q{n}")).await?
        };
        let interpreted = self.one_shot(query, "interpreter").await?;
        self.tally.comparisons += 1;
        match &interpreted {
            Ok(answer) => {
                self.tally.rows += answer.len();
                self.tally.empty += usize::from(answer.is_empty());
            }
            Err(_) => self.tally.errors += 1,
        }
        if let Some(text) = differ("the view", &maintained, "the interpreter", &interpreted) {
            return Ok(Some(text));
        }
        if own_choice {
            let automatic = self.one_shot(query, "auto").await?;
            if let Some(text) = differ(
                "one-shot auto",
                &automatic,
                "one-shot interpreter",
                &interpreted,
            )
            .or_else(|| disordered(query, &automatic, &interpreted))
            {
                return Ok(Some(text));
            }
        }
        let Some(reference) = &self.reference else {
            return Ok(None);
        };
        let right = ask(reference, &query.sql).await?;
        if interpreted.is_err() || right.is_err() {
            ensure!(
                query.risky || interpreted.is_err() == right.is_err(),
                "{}\nthe interpreter: {}, PostgreSQL: {}",
                query.sql,
                show(&interpreted),
                show(&right)
            );
            self.tally.risky_disagreements += usize::from(interpreted.is_err() != right.is_err());
            return Ok(None);
        }
        Ok(
            differ("the interpreter", &interpreted, "PostgreSQL", &right)
                .or_else(|| disordered(query, &interpreted, &right)),
        )
    }

    async fn one_shot(&self, query: &Query, execution: &str) -> Result<Outcome> {
        if self.plain {
            return ask(&self.subject, &query.sql).await;
        }
        must(
            &self.subject,
            &format!("set clusterd.execution = '{execution}'"),
        )
        .await?;
        let outcome = ask(&self.subject, &query.sql).await;
        must(&self.subject, "reset clusterd.execution").await?;
        outcome
    }

    /// Drops statements from the history as long as the sides still differ on the query; the script that is left.
    async fn shorten(&mut self, mut history: History, query: &Query) -> Result<String> {
        if !self.differs(&history, query).await {
            return Ok(format!(
                "(the difference did not come back in a replay)\n{}",
                script(&history, query)
            ));
        }
        loop {
            let before = history.rows.len() + history.changes.len();
            for from_changes in [true, false] {
                let mut n = 0;
                while n < if from_changes {
                    history.changes.len()
                } else {
                    history.rows.len()
                } {
                    let list = if from_changes {
                        &mut history.changes
                    } else {
                        &mut history.rows
                    };
                    let taken = list.remove(n);
                    if !self.differs(&history, query).await {
                        let list = if from_changes {
                            &mut history.changes
                        } else {
                            &mut history.rows
                        };
                        list.insert(n, taken);
                        n += 1;
                    }
                }
            }
            if history.rows.len() + history.changes.len() == before {
                return Ok(script(&history, query));
            }
        }
    }

    /// Whether a replay of this history ends in a difference on the query. A replay that fails shows nothing.
    async fn differs(&mut self, history: &History, query: &Query) -> bool {
        if self
            .build(history, std::slice::from_ref(query))
            .await
            .is_err()
        {
            return false;
        }
        for change in &history.changes {
            if self.apply(change).await.is_err() {
                return false;
            }
        }
        matches!(self.compare(0, query, true).await, Ok(Some(_)))
    }
}

fn script(history: &History, query: &Query) -> String {
    let view = format!("create materialized view q0 as {}", query.sql);
    let mut lines: Vec<&str> = history.ddl.iter().map(String::as_str).collect();
    if history.views_first {
        lines.push(&view);
    }
    lines.extend(history.rows.iter().map(String::as_str));
    if !history.views_first {
        lines.push(&view);
    }
    lines.extend(history.changes.iter().map(String::as_str));
    lines.extend([
        "select * from q0",
        "set clusterd.execution = 'interpreter'",
        &query.sql,
    ]);
    lines.iter().map(|line| format!("{line};\n")).collect()
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Ok(answer) => format!("{} rows", answer.len()),
        Err(state) => format!("error {state}"),
    }
}

fn differ(left_name: &str, left: &Outcome, right_name: &str, right: &Outcome) -> Option<String> {
    match (left, right) {
        (Ok(a), Ok(b)) => a
            .difference(b)
            .map(|d| format!("{left_name} (<) and {right_name} (>) differ: {d}")),
        // Which of several errors is met first depends on the order of evaluation.
        (Err(_), Err(_)) => None,
        _ => Some(format!(
            "{left_name}: {}, {right_name}: {}",
            show(left),
            show(right)
        )),
    }
}

/// Two answers with the same rows in another order, where the query gives one.
fn disordered(query: &Query, left: &Outcome, right: &Outcome) -> Option<String> {
    let (Ok(a), Ok(b)) = (left, right) else {
        return None;
    };
    (query.ordered && a.canonical_in_order() != b.canonical_in_order())
        .then(|| format!("rows come in another order:\n{a}and\n{b}"))
}
