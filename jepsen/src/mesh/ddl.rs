//! What one node acknowledged to have created is there for the next statement on the next node; what was dropped is not.

use std::sync::Arc;

use harness::Sql;

use super::client::{Failure, Hopper, Shared, is_fault};

/// A client's own objects come and go until the run is stopped.
pub async fn run(shared: Arc<Shared>, number: usize) {
    let mut hopper = Hopper::new(&shared, number);
    for round in 0.. {
        if !shared.is_running() {
            return;
        }
        let life = Life {
            shared: &shared,
            table: format!("ddl_{number}_{round}"),
        };
        // Where the outcome of a step is not known the next one cannot be judged: that table is left alone.
        let _ = life.run(&mut hopper).await;
        super::client::think().await;
    }
}

struct Life<'a> {
    shared: &'a Shared,
    table: String,
}

impl Life<'_> {
    async fn run(&self, hopper: &mut Hopper) -> Result<(), Failure> {
        let table = &self.table;
        self.done(hopper, &format!("create table {table} (k int primary key)"))
            .await?;
        self.done(hopper, &format!("insert into {table} values (1), (2)"))
            .await?;
        self.answer(hopper, &format!("select count(*) from {table}"), "2")
            .await?;
        let view =
            format!("create materialized view {table}_view as select sum(k) as s from {table}");
        self.done(hopper, &view).await?;
        let sum = format!("select s from {table}_view");
        self.answer(hopper, &sum, "3").await?;
        self.done(hopper, &format!("insert into {table} values (4)"))
            .await?;
        self.answer(hopper, &sum, "7").await?;
        self.done(hopper, &format!("drop materialized view {table}_view"))
            .await?;
        self.refusal(hopper, &sum, "42P01").await?;
        self.done(hopper, &format!("drop table {table}")).await?;
        self.refusal(hopper, &format!("insert into {table} values (3)"), "42P01")
            .await
    }

    /// A step that only a fault can keep from succeeding.
    async fn done(&self, hopper: &mut Hopper, statement: &str) -> Result<(), Failure> {
        let sql = next(hopper).await;
        hopper.attempt("ddl", sql.run(statement)).await
    }

    async fn answer(&self, hopper: &mut Hopper, query: &str, wanted: &str) -> Result<(), Failure> {
        let sql = next(hopper).await;
        let answer = hopper.attempt("read after ddl", sql.one(query)).await?;
        if answer != wanted {
            let place = hopper.place();
            self.shared.finding(format!(
                "{query} at place {place} is {answer}, not {wanted}"
            ));
        }
        Ok(())
    }

    async fn refusal(
        &self,
        hopper: &mut Hopper,
        statement: &str,
        state: &str,
    ) -> Result<(), Failure> {
        let sql = next(hopper).await;
        let statement_state = async { Ok(sql.state(statement).await) };
        let found = hopper.attempt("read after drop", statement_state).await?;
        if found != state && !is_fault(&found) {
            let place = hopper.place();
            self.shared.finding(format!(
                "{statement} at place {place} ends with {found} after the drop, {state} was due"
            ));
        }
        Ok(())
    }
}

async fn next(hopper: &mut Hopper) -> Arc<Sql> {
    loop {
        match hopper.hop().await {
            Some(sql) => return sql,
            None => super::client::think().await,
        }
    }
}
