//! Statements that wait for another node end when their client says so, when their time is over, or when nobody is left to answer.
//!
//! A CancelRequest goes to whatever node the balancer picks; statements wait for a paused leader, or without a majority. Each check names what must come
//! within which time.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use harness::mesh::Mesh;
use harness::sql::error_text;
use harness::wire::{Raw, startup};

const SETUP: &str = "
    create table t (k int primary key, v bigint not null);
    insert into t select x, x from generate_series(0, 999) x;
    create materialized view totals as select k % 10 as g, sum(v) as s from t group by k % 10";

/// A cancel has an effect within this.
const CANCELLED_WITHIN: Duration = Duration::from_secs(2);
/// A statement without a majority, or in an election, ends within this.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// How much later than its statement_timeout a statement may end on a busy machine.
const LATE_MAX: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct Options {
    #[arg(long)]
    binary: PathBuf,
    /// Rounds; each takes other nodes.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// A session whose key is known.
struct Session {
    raw: Raw,
    key: Vec<u8>,
}

/// How a statement ended: `00000`, or the SQLSTATE of its error.
struct Ended {
    state: String,
    took: Duration,
}

pub async fn run(options: &Options) -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let mut mesh = Mesh::form(&options.binary, temporary.path(), 3).await?;
    let sql = mesh.sql(0).await?;
    for statement in SETUP.split(';') {
        let done = sql.run(statement).await;
        done.map_err(|error| anyhow::anyhow!("{statement}: {}", error_text(&error)))?;
    }
    drop(sql);
    for round in 0..options.rounds {
        let done = one_round(&mut mesh, round).await;
        if done.is_err() {
            for place in 0..mesh.count() {
                mesh.resume(place);
            }
            println!("the nodes printed (end):\n{}", mesh.output_ends());
        }
        done.with_context(|| format!("round {round}"))?;
    }
    println!(
        "OK: {} rounds, every statement ended when it had to",
        options.rounds
    );
    Ok(())
}

async fn one_round(mesh: &mut Mesh, round: usize) -> Result<()> {
    let home = round % mesh.count();
    let other = (home + 1) % mesh.count();
    cancel_elsewhere(mesh, home, other)?;
    wrong_secret(mesh, home, other)?;
    let roles = mesh.roles(home, Some("totals")).await?;
    let leader = mesh
        .place(roles.env_leader)
        .context("ENV's leader is not one of these")?;
    leader_paused(mesh, leader)?;
    went_on(mesh).await?;
    let roles = mesh.roles(home, Some("totals")).await?;
    let leader = roles.cluster_leader.and_then(|id| mesh.place(id));
    view_cancelled(
        mesh,
        leader.context("the CLUSTER's leader is not one of these")?,
    )?;
    went_on(mesh).await?;
    alone(mesh, home)?;
    went_on(mesh).await
}

/// A statement that runs for a minute ends at once, whichever node the cancel reaches.
fn cancel_elsewhere(mesh: &Mesh, home: usize, other: usize) -> Result<()> {
    for asked in [other, (other + 1) % mesh.count(), home] {
        let session = Session::open(mesh.node(home).sql_addr())?;
        let key = session.key.clone();
        let running = session.start("select pg_sleep(15)");
        let begun = Instant::now();
        // A cancel that comes before the statement has begun cancels nothing: it is sent again.
        while !running.is_finished() {
            cancel(mesh.node(asked).sql_addr(), &key)?;
            std::thread::sleep(Duration::from_millis(200));
            ensure!(
                begun.elapsed() < CANCELLED_WITHIN,
                "a cancel through place {asked} does not end a statement of place {home}"
            );
        }
        let (ended, _) = join(running)?;
        ensure!(
            ended.state == "57014",
            "a cancel through place {asked} ended a statement of place {home} with {}",
            ended.state
        );
    }
    Ok(())
}

/// Whoever does not know the secret cancels nothing.
fn wrong_secret(mesh: &Mesh, home: usize, other: usize) -> Result<()> {
    let session = Session::open(mesh.node(home).sql_addr())?;
    let mut key = session.key.clone();
    let last = key.len() - 1;
    key[last] ^= 1;
    let running = session.start("select pg_sleep(1)");
    while !running.is_finished() {
        for asked in [home, other] {
            cancel(mesh.node(asked).sql_addr(), &key)?;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let (ended, _) = join(running)?;
    ensure!(
        ended.state == "00000",
        "a cancel with a wrong secret ended a statement with {}",
        ended.state
    );
    Ok(())
}

/// ENV's leader stands still: a time limit holds where the statement is, and without one the election ends the wait.
fn leader_paused(mesh: &Mesh, leader: usize) -> Result<()> {
    let home = (leader + 1) % mesh.count();
    let mut limited = Session::open(mesh.node(home).sql_addr())?;
    limited.state("set statement_timeout = '150ms'")?;
    let mut patient = Session::open(mesh.node(home).sql_addr())?;
    mesh.pause(leader);
    let checked = (|| {
        let ended = limited.timed("select count(*) from t")?;
        within(
            &ended,
            Duration::from_millis(150) + LATE_MAX,
            &["57014", "00000", "57P03"],
            "a read with a time limit",
        )?;
        let ended = patient.timed("insert into t values (1000, 1) , (1001, 1)")?;
        within(&ended, ENDS_WITHIN, &["00000", "08007"], "a write")?;
        let ended = patient.timed("delete from t where k >= 1000")?;
        within(&ended, ENDS_WITHIN, &["00000", "08007"], "a delete")?;
        let ended = patient.timed("select s from totals")?;
        within(&ended, ENDS_WITHIN, &["00000"], "a read of a view")
    })();
    mesh.resume(leader);
    checked
}

/// The CLUSTER's leader stands still: a read of its view ends when it is cancelled through a third node.
fn view_cancelled(mesh: &Mesh, leader: usize) -> Result<()> {
    let (home, third) = ((leader + 1) % mesh.count(), (leader + 2) % mesh.count());
    let session = Session::open(mesh.node(home).sql_addr())?;
    let key = session.key.clone();
    mesh.pause(leader);
    let running = session.start("select s from totals where g = 3");
    let begun = Instant::now();
    let cancelled = (|| {
        while !running.is_finished() {
            cancel(mesh.node(third).sql_addr(), &key)?;
            std::thread::sleep(Duration::from_millis(50));
            ensure!(
                begun.elapsed() < CANCELLED_WITHIN,
                "a cancel does not end a read that waits for the CLUSTER's leader"
            );
        }
        Ok(())
    })();
    mesh.resume(leader);
    cancelled?;
    let (ended, _) = join(running)?;
    within(
        &ended,
        CANCELLED_WITHIN,
        &["57014", "00000"],
        "a cancelled read of a view",
    )
}

/// The others stand still: no statement of the one that is left waits for ever.
fn alone(mesh: &Mesh, home: usize) -> Result<()> {
    let mut session = Session::open(mesh.node(home).sql_addr())?;
    let others: Vec<usize> = (0..mesh.count()).filter(|place| *place != home).collect();
    others.iter().for_each(|place| mesh.pause(*place));
    let checked = (|| {
        let refused: [(&str, &[&str]); 6] = [
            ("select count(*) from t", &["57P03"]),
            ("insert into t values (2000, 1)", &["57P03", "08007"]),
            ("select s from totals", &["57P03"]),
            ("create table u (k int)", &["57P03", "08007"]),
            ("show tables", &["57P03"]),
            ("subscribe totals", &["57P03"]),
        ];
        for (statement, states) in refused {
            let ended = session.timed(statement)?;
            within(&ended, ENDS_WITHIN, states, statement)?;
        }
        session.state("begin isolation level serializable")?;
        for read in ["select v from t where k = 5", "select s from totals"] {
            let ended = session.timed(read)?;
            within(&ended, ENDS_WITHIN, &["00000"], "a serializable read")?;
        }
        // It needs a dataflow, and that the CLUSTER's leader.
        let ended = session.timed("select v % 7, count(*) from t group by 1")?;
        let states = ["00000", "57P03"];
        within(&ended, ENDS_WITHIN, &states, "a serializable query")?;
        session.state("rollback")?;
        let mut fresh = Session::open(mesh.node(home).sql_addr())?;
        let ended = fresh.timed("select count(*) from t")?;
        within(&ended, ENDS_WITHIN, &["57P03"], "a read of a new session")
    })();
    others.iter().for_each(|place| mesh.resume(*place));
    checked
}

/// After a fault every node does everything again.
async fn went_on(mesh: &mut Mesh) -> Result<()> {
    tokio::task::block_in_place(|| mesh.wait_ready(Duration::from_secs(30)))?;
    for place in 0..mesh.count() {
        let begun = Instant::now();
        loop {
            let sql = mesh.sql(place).await?;
            let done = sql
                .run("delete from t where k >= 1000; select s from totals; drop table if exists u")
                .await;
            match done {
                Ok(()) => break,
                Err(error) if begun.elapsed() > ENDS_WITHIN => {
                    bail!("place {place} does not go on: {}", error_text(&error))
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
    Ok(())
}

fn within(ended: &Ended, limit: Duration, states: &[&str], what: &str) -> Result<()> {
    println!(
        "{what}: {} after {:.2} s",
        ended.state,
        ended.took.as_secs_f64()
    );
    ensure!(
        states.contains(&ended.state.as_str()),
        "{what} ended with {}, {} was due",
        ended.state,
        states.join(" or ")
    );
    ensure!(
        ended.took <= limit,
        "{what} took {:?}, longer than {limit:?}",
        ended.took
    );
    Ok(())
}

impl Session {
    fn open(addr: SocketAddr) -> Result<Session> {
        let mut raw = Raw::open(addr)?;
        raw.bytes(&startup(&[("user", "clusterd"), ("database", "clusterd")]))?;
        let messages = raw.until(b'Z').context("a session")?;
        let key = messages.into_iter().find(|message| message.tag == b'K');
        let key = key.context("the server sent no key to cancel with")?.body;
        Ok(Session { raw, key })
    }

    fn state(&mut self, statement: &str) -> Result<String> {
        let messages = self
            .raw
            .query(statement)
            .with_context(|| statement.to_owned())?;
        let error = messages.iter().find(|message| message.tag == b'E');
        Ok(error.map_or_else(
            || "00000".to_owned(),
            |error| error.field(b'C').unwrap_or_default(),
        ))
    }

    fn timed(&mut self, statement: &str) -> Result<Ended> {
        let begun = Instant::now();
        let state = self.state(statement)?;
        Ok(Ended {
            state,
            took: begun.elapsed(),
        })
    }

    /// Runs the statement on a thread of its own.
    fn start(mut self, statement: &'static str) -> JoinHandle<Result<(Ended, Session)>> {
        std::thread::spawn(move || Ok((self.timed(statement)?, self)))
    }
}

fn join(running: JoinHandle<Result<(Ended, Session)>>) -> Result<(Ended, Session)> {
    running
        .join()
        .map_err(|_| anyhow::anyhow!("a session's thread panicked"))?
}

/// A CancelRequest as any client sends it: on a connection of its own, to whatever node answers there.
fn cancel(addr: SocketAddr, key: &[u8]) -> Result<()> {
    const CODE: u32 = 80_877_102;
    let mut packet = (key.len() as u32 + 8).to_be_bytes().to_vec();
    packet.extend(CODE.to_be_bytes());
    packet.extend(key);
    Raw::open(addr)?.bytes(&packet)?;
    Ok(())
}
