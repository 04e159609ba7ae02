//! Money moves between accounts. Every read of every node, of the table or of a view, sees all of each transfer or nothing of it, and a view equals
//! its definition over the tables at the same timestamp.

use std::sync::Arc;

use harness::Sql;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_postgres::Error;

use super::client::{Failure, Hopper, Shared, think};

pub const SETUP: &str = "
    create table account (id int primary key, balance bigint not null);
    create table leg (client int, seq bigint, account int, amount bigint);
    insert into account select x, 1000 from generate_series(0, 9) x;
    create materialized view account_view as select a.id, a.balance, coalesce(sum(l.amount), 0) as moved from account a left join leg l on l.account = a.id group by a.id, a.balance;
    create materialized view account_total as select sum(balance) as total, count(*) as n from account";

const ACCOUNTS: usize = 10;
const TOTAL: i64 = 10_000;
/// What `account_view` stands for.
const DEFINITION: &str = "select a.id, a.balance, coalesce(sum(l.amount), 0) as moved from account a left join leg l on l.account = a.id group by a.id, a.balance";
/// Reads between two comparisons of a view with its definition, which is computed from scratch.
const READS_PER_COMPARISON: u64 = 20;

/// Transfers and reads until the run is stopped.
pub async fn run(shared: Arc<Shared>, number: usize, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut hopper = Hopper::new(&shared, number);
    let mut seq = 0;
    while shared.is_running() {
        let Some(sql) = hopper.hop().await else {
            think().await;
            continue;
        };
        seq += 1;
        // A failure has been judged and counted where it came up.
        let _ = match rng.random_range(0..4) {
            0 => transfer(&mut hopper, &sql, &mut rng, (number, seq)).await,
            1 => total(&shared, &mut hopper, &sql).await,
            2 => balances(&shared, &mut hopper, &sql).await,
            _ if seq % READS_PER_COMPARISON == 0 => compare(&shared, &mut hopper, &sql).await,
            _ => moved(&shared, &mut hopper, &sql).await,
        };
        think().await;
    }
}

/// Rolls back what did not come to its end; nothing of it may stay.
async fn or_rollback<T>(
    hopper: &mut Hopper,
    sql: &Sql,
    result: Result<T, Failure>,
) -> Result<T, Failure> {
    if result.is_err()
        && hopper
            .attempt("rollback", sql.run("rollback"))
            .await
            .is_err()
    {
        hopper.leave();
    }
    result
}

async fn transfer(
    hopper: &mut Hopper,
    sql: &Sql,
    rng: &mut StdRng,
    (client, seq): (usize, u64),
) -> Result<(), Failure> {
    let (from, amount) = (rng.random_range(0..ACCOUNTS), rng.random_range(1..50));
    let to = (from + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
    let steps = async {
        sql.run("begin").await?;
        sql.run(&format!(
            "update account set balance = balance - {amount} where id = {from}"
        ))
        .await?;
        sql.run(&format!("insert into leg values ({client}, {seq}, {from}, -{amount}), ({client}, {seq}, {to}, {amount})")).await?;
        sql.run(&format!(
            "update account set balance = balance + {amount} where id = {to}"
        ))
        .await
    };
    let done = hopper.attempt("transfer", steps).await;
    or_rollback(hopper, sql, done).await?;
    hopper.attempt("commit", sql.run("commit")).await
}

async fn total(shared: &Shared, hopper: &mut Hopper, sql: &Sql) -> Result<(), Failure> {
    let read = sql.rows("select total, n from account_total");
    let answer = hopper.attempt("read of a view", read).await?;
    if answer.rows() != [vec![Some(TOTAL.to_string()), Some(ACCOUNTS.to_string())]] {
        let place = hopper.place();
        shared.finding(format!("account_total at place {place} is\n{answer}"));
    }
    Ok(())
}

async fn balances(shared: &Shared, hopper: &mut Hopper, sql: &Sql) -> Result<(), Failure> {
    let read = sql.one("select sum(balance) from account");
    let sum = hopper.attempt("read", read).await?;
    if sum != TOTAL.to_string() {
        let place = hopper.place();
        shared.finding(format!("the balances at place {place} are {sum} together"));
    }
    Ok(())
}

/// Balance and transfers come from two tables of one transaction.
async fn moved(shared: &Shared, hopper: &mut Hopper, sql: &Sql) -> Result<(), Failure> {
    let read =
        sql.rows("select id, balance, moved from account_view where balance <> 1000 + moved");
    let torn = hopper.attempt("read of a view", read).await?;
    if !torn.is_empty() {
        let place = hopper.place();
        shared.finding(format!(
            "account_view at place {place} shows a torn transfer:\n{torn}"
        ));
    }
    Ok(())
}

/// One transaction reads the view, and then its definition.
async fn compare(shared: &Shared, hopper: &mut Hopper, sql: &Sql) -> Result<(), Failure> {
    let steps = async {
        sql.run("begin").await?;
        let view = sql
            .rows("select id, balance, moved from account_view")
            .await?;
        let definition = sql.rows(DEFINITION).await?;
        Ok::<_, Error>((view, definition))
    };
    let read = hopper.attempt("comparison of a view", steps).await;
    let (view, definition) = or_rollback(hopper, sql, read).await?;
    if let Some(difference) = view.difference(&definition) {
        let place = hopper.place();
        shared.finding(format!(
            "account_view (<) at place {place} is not its definition (>): {difference}"
        ));
    }
    hopper.attempt("end of a read", sql.run("commit")).await
}
