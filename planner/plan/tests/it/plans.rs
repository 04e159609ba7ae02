//! What plans return, and how they are printed and typed.

use crate::functions::scripts;
use crate::term::{self, Tables};
use plan::eval::{Collections, Env, Limits, eval};
use plan::explain::{NoNames, explain_mir};
use plan::scalar::EvalCtx;
use plan::{EvalError, Finishing, Mir};
use repr::{Diff, GlobalId, Row};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

/// Commands:
/// * `> t := const(...)` defines a table;
/// * `> <plan>` prints the rows of a plan;
/// * `> types <plan>` prints its column types and keys, `> explain <plan>` its text;
/// * `> order [..] limit offset [columns] <plan>` prints what a client sees, in order.
#[derive(Default)]
struct Runner {
    tables: Tables,
    contents: Contents,
}

#[derive(Default)]
struct Contents(BTreeMap<GlobalId, Arc<Vec<(Row, Diff)>>>);

impl Collections for Contents {
    fn rows(&self, id: GlobalId) -> Result<Arc<Vec<(Row, Diff)>>, EvalError> {
        self.0
            .get(&id)
            .cloned()
            .ok_or_else(|| EvalError::new("42P01", format!("{id} does not exist")))
    }
}

impl Runner {
    fn eval(&self, plan: &Mir) -> Result<Vec<(Row, Diff)>, EvalError> {
        let env = Env {
            collections: &self.contents,
            ctx: &EvalCtx::default(),
            limits: Limits::NONE,
            time: Some(1000),
        };
        eval(plan, &env)
    }

    fn define(&mut self, name: &str, plan: Mir) {
        let id = GlobalId(1 + self.tables.len() as u64);
        let Mir::Constant { rows: Ok(rows), .. } = &plan else {
            panic!("a table is a constant")
        };
        self.contents.0.insert(id, Arc::new(rows.clone()));
        self.tables.insert(name.to_owned(), (id, plan));
    }
}

fn show_row(row: &Row) -> String {
    let ctx = EvalCtx::default();
    let datums: Vec<String> = row
        .iter()
        .map(|d| crate::functions::show(&ctx, &Ok(d)))
        .collect();
    format!("({})", datums.join(", "))
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &Self::Command,
        _: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let text = command.name.as_str();
        if let Some((name, plan)) = text.split_once(":=") {
            let plan = term::mir(&term::parse(plan.trim()), &self.tables);
            self.define(name.trim(), plan);
            return Ok(String::new());
        }
        if let Some(plan) = text.strip_prefix("types ") {
            let plan = term::mir(&term::parse(plan), &self.tables);
            let types: Vec<String> = plan
                .types()
                .iter()
                .map(|t| format!("{}{}", t.ty.typname(), if t.nullable { "?" } else { "" }))
                .collect();
            return Ok(format!("({}) keys {:?}", types.join(", "), plan.keys()));
        }
        if let Some(plan) = text.strip_prefix("explain ") {
            return Ok(explain_mir(
                &term::mir(&term::parse(plan), &self.tables),
                &NoNames,
            ));
        }
        if let Some(finish) = text.strip_prefix("finish") {
            let term::Term::Call(_, args) = term::parse(&format!("finish{finish}")) else {
                panic!("a call")
            };
            let finishing = Finishing {
                order_by: term::list(&args[0]).iter().map(term::order_term).collect(),
                limit: u64::try_from(term::number(&args[1])).ok(),
                offset: term::number(&args[2]) as u64,
                project: term::numbers(&args[3]),
            };
            let rows = self.eval(&term::mir(&args[4], &self.tables))?;
            let rows: Vec<String> = finishing.finish(rows)?.map(|row| show_row(&row)).collect();
            return Ok(rows.join("\n"));
        }
        let plan = term::mir(&term::parse(text), &self.tables);
        Ok(match self.eval(&plan) {
            Ok(rows) if rows.is_empty() => "no rows".to_owned(),
            Ok(rows) => {
                let rows: Vec<String> = rows
                    .iter()
                    .map(|(row, diff)| match diff {
                        1 => show_row(row),
                        diff => format!("{} x {diff}", show_row(row)),
                    })
                    .collect();
                rows.join("\n")
            }
            Err(error) => format!("ERROR {}: {}", error.sqlstate, error.message),
        })
    }
}

#[test]
fn plans_mean_what_the_scripts_say() {
    for path in scripts("plans") {
        goldenscript::run(&mut Runner::default(), &path).expect("the script can be read");
    }
}
