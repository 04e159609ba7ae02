//! Runs the scripts beside this file: SQL in, what the planner and the interpreter make of it out.
//!
//! Each line is `> statements`. Tables are kept as multisets of rows; every query is planned, lowered and interpreted without any rewrite,
//! so that a script shows what the plan means. Tags: `[plan]` prints the plan, `[types]` the columns, `[params]` the parameters' types.

use crate::builtin::{BuiltinCtx, CatalogFunctions};
use crate::statement::{CopyToSource, Plan, SelectPlan};
use crate::{ParamTypes, PlanError, SessionView, Settings, parse, plan_statement};
use plan::eval::{Collections, Env, Limits};
use plan::explain::{NoNames, explain_mir};
use plan::scalar::{EvalCtx, Unmaterializable};
use plan::{EvalError, Mir, ScalarExpr};
use repr::{
    ClusterId, DatabaseId, Datum, Diff, GlobalId, RelationDesc, RoleId, Row, SchemaId, SqlType,
};
use state::Catalog;
use state::catalog::{Cluster, Database, Item, ItemKind, Role, Schema};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;

struct Runner {
    catalog: Catalog,
    tables: BTreeMap<GlobalId, Vec<(Row, Diff)>>,
    search_path: Vec<String>,
}

struct TestSettings;

impl Settings for TestSettings {
    fn get(&self, name: &str) -> Option<String> {
        (name == "server_version").then(|| "15.0".to_owned())
    }
}

impl Runner {
    fn new() -> Runner {
        let mut catalog = Catalog {
            next_id: 20_000,
            ..Catalog::default()
        };
        let (database, owner) = (DatabaseId(1), RoleId(10));
        let name = "clusterd".to_owned();
        catalog.databases.insert(
            database,
            Arc::new(Database {
                id: database,
                name: name.clone(),
            }),
        );
        catalog.roles.insert(
            owner,
            Arc::new(Role {
                id: owner,
                name,
                superuser: true,
            }),
        );
        let schema = Schema {
            id: SchemaId(2200),
            database,
            name: "public".to_owned(),
            owner,
        };
        catalog.schemas.insert(schema.id, Arc::new(schema));
        let cluster = Cluster {
            id: ClusterId(5),
            name: "quickstart".to_owned(),
            incarnation: 1,
            workers: 1,
            memory_limit_bytes: None,
            replicas: vec![],
        };
        catalog.clusters.insert(cluster.id, Arc::new(cluster));
        Runner {
            catalog,
            tables: BTreeMap::new(),
            search_path: vec!["$user".to_owned(), "public".to_owned()],
        }
    }

    fn execute(&mut self, sql: &str, tags: &[&str], out: &mut String) -> Result<(), PlanError> {
        for parsed in parse(sql)? {
            let mut params = ParamTypes::default();
            let eval = self.eval_context();
            let session = SessionView {
                catalog: &self.catalog,
                database: "clusterd",
                search_path: &self.search_path,
                current_user: "clusterd",
                session_user: "clusterd",
                cluster: "quickstart",
                backend_pid: 1,
                version: "PostgreSQL 15.0",
                eval: &eval,
                settings: &TestSettings,
            };
            let plan = plan_statement(&session, &parsed.statement, &mut params)?;
            if tags.contains(&"params") {
                let types: Vec<String> = params.finish()?.iter().map(SqlType::pg_name).collect();
                writeln!(out, "params: {}", types.join(", ")).expect("a string");
            }
            self.carry_out(plan, tags, out)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, plan: Plan, tags: &[&str], out: &mut String) -> Result<(), PlanError> {
        match plan {
            Plan::Select(select) => self.select(select, tags, out)?,
            Plan::CopyTo(copy) => match copy.source {
                CopyToSource::Select(select) => self.select(*select, tags, out)?,
                CopyToSource::Subscribe(_) | CopyToSource::Statement(_) => {
                    writeln!(out, "{:?}", copy.options).expect("a string")
                }
            },
            Plan::Insert(insert) => {
                self.show_plan(&insert.rows, tags, out);
                let rows = self.eval(&insert.rows)?;
                self.tables.entry(insert.table).or_default().extend(rows);
            }
            Plan::Delete(delete) => {
                self.show_plan(&delete.rows, tags, out);
                let rows = self.eval(&delete.rows)?;
                let removed = rows.into_iter().map(|(row, diff)| (row, -diff));
                self.tables.entry(delete.table).or_default().extend(removed);
            }
            Plan::Update(update) => {
                self.show_plan(&update.rows, tags, out);
                let rows = self.eval(&update.rows)?;
                let table = self.tables.entry(update.table).or_default();
                for (row, diff) in rows {
                    let datums = row.unpack();
                    let (old, new) = datums.split_at(datums.len() / 2);
                    table.push((Row::pack_slice(old), -diff));
                    table.push((Row::pack_slice(new), diff));
                }
            }
            Plan::CreateTable(create) | Plan::CreateView(create) | Plan::CreateSource(create) => {
                self.create(create.item, out)
            }
            Plan::CreateMaterializedView(create) => {
                self.show_plan(&create.mir, tags, out);
                self.create(create.item, out);
            }
            Plan::CreateIndex(create) => {
                if tags.contains(&"plan") {
                    writeln!(
                        out,
                        "keys: {}",
                        plan::explain::explain_scalars(&create.keys)
                    )
                    .expect("a string");
                }
                self.create(create.item, out);
            }
            Plan::Drop(drop) => {
                for notice in &drop.notices {
                    writeln!(out, "{}: {}", notice.severity, notice.message).expect("a string");
                }
                for id in drop.ids {
                    if let Some(item) = self.catalog.items.remove(&id) {
                        self.catalog.names.remove(&(item.schema, item.name.clone()));
                        writeln!(out, "dropped {}", item.name).expect("a string");
                    }
                }
            }
            Plan::NoOp { tag, notices } => {
                for notice in &notices {
                    writeln!(out, "{}: {}", notice.severity, notice.message).expect("a string");
                }
                writeln!(out, "{tag}").expect("a string");
            }
            other => writeln!(out, "{other:?}").expect("a string"),
        }
        Ok(())
    }

    fn create(&mut self, item: Item, out: &mut String) {
        writeln!(out, "{}", item.create_sql).expect("a string");
        let keys = match &item.kind {
            ItemKind::Table(table) => table.keys.len() as u64,
            _ => 0,
        };
        self.catalog.next_id = self.catalog.next_id.max(item.id.0 + 1 + keys);
        self.catalog
            .names
            .insert((item.schema, item.name.clone()), item.id);
        self.catalog.items.insert(item.id, Arc::new(item));
    }

    fn show_plan(&self, mir: &Mir, tags: &[&str], out: &mut String) {
        if tags.contains(&"plan") {
            out.push_str(&explain_mir(mir, &NoNames));
        }
    }

    fn select(&self, select: SelectPlan, tags: &[&str], out: &mut String) -> Result<(), PlanError> {
        self.show_plan(&select.mir, tags, out);
        if tags.contains(&"types") {
            let columns: Vec<String> = select
                .desc
                .columns()
                .map(|(name, ty)| {
                    format!(
                        "{name} {}{}",
                        ty.ty.pg_name(),
                        if ty.nullable { "" } else { " not null" }
                    )
                })
                .collect();
            writeln!(out, "{}", columns.join(", ")).expect("a string");
        }
        if tags.contains(&"plan") || tags.contains(&"types") || tags.contains(&"params") {
            return Ok(());
        }
        let rows = self.eval(&select.mir)?;
        if select.mir.depends_on().iter().any(|id| id.is_system()) {
            self.check_optimized(&select.mir, &rows)?;
        }
        let finished = select
            .finishing
            .finish(rows)
            .map_err(PlanError::from_eval)?;
        for row in finished {
            writeln!(out, "{}", text_of(&row, &select.desc)).expect("a string");
        }
        Ok(())
    }

    fn eval_context(&self) -> EvalCtx {
        let catalog = Arc::new(self.catalog.clone());
        let settings = Arc::new(TestSettings);
        let functions = CatalogFunctions::with_settings(
            catalog,
            "clusterd",
            &self.search_path,
            "clusterd",
            settings,
        );
        EvalCtx {
            catalog: Some(functions),
            ..EvalCtx::default()
        }
    }

    /// System relations are always interpreted, but after rewriting: that must not change the answer.
    fn check_optimized(&self, mir: &Mir, rows: &[(Row, Diff)]) -> Result<(), PlanError> {
        let sorted = |rows: &[(Row, Diff)]| {
            let mut counts = BTreeMap::<Row, Diff>::new();
            rows.iter()
                .for_each(|(row, diff)| *counts.entry(row.clone()).or_default() += diff);
            counts.retain(|_, diff| *diff != 0);
            counts
        };
        let optimized = self.eval(&crate::transform::pipeline::optimize(mir.clone()))?;
        assert_eq!(
            sorted(&optimized),
            sorted(rows),
            "rewriting has changed the answer"
        );
        Ok(())
    }

    fn eval(&self, mir: &Mir) -> Result<Vec<(Row, Diff)>, PlanError> {
        let mut mir = mir.clone();
        mir.visit_mut_post(&mut |node| {
            crate::transform::visit_scalars_mut(node, &mut bind_session_values)
        });
        let ctx = self.eval_context();
        let env = Env {
            collections: self,
            ctx: &ctx,
            limits: Limits::NONE,
            time: Some(1_000_000),
        };
        plan::eval::eval(&mir, &env).map_err(PlanError::from_eval)
    }
}

fn bind_session_values(expr: &mut ScalarExpr) {
    expr.visit_mut_post(&mut |e| {
        if let ScalarExpr::Unmaterializable(value) = e
            && *value != Unmaterializable::MzNow
        {
            *e = match value {
                Unmaterializable::CurrentUser | Unmaterializable::CurrentDatabase => {
                    ScalarExpr::literal(Datum::String("clusterd"), SqlType::Name)
                }
                other => ScalarExpr::null(other.typ().ty),
            };
        }
    });
}

impl Collections for Runner {
    fn rows(&self, id: GlobalId) -> Result<Arc<Vec<(Row, Diff)>>, EvalError> {
        if id.is_system() {
            let ctx = BuiltinCtx {
                catalog: &self.catalog,
                database: "clusterd",
                state: None,
            };
            let rows = crate::builtin::rows(id, &ctx).unwrap_or_default();
            return Ok(Arc::new(rows.into_iter().map(|row| (row, 1)).collect()));
        }
        let sql = self.catalog.item(id).and_then(|item| match &item.kind {
            ItemKind::View(view) => Some(&view.query_sql),
            ItemKind::MaterializedView(view) => Some(&view.query_sql),
            ItemKind::Table(_) | ItemKind::Source(_) | ItemKind::Index(_) => None,
        });
        let Some(sql) = sql else {
            return Ok(Arc::new(self.tables.get(&id).cloned().unwrap_or_default()));
        };
        let to_eval = |e: PlanError| EvalError::new(e.sqlstate, e.message);
        let mir = crate::statement::plan_stored_query(&self.catalog, id, sql).map_err(to_eval)?;
        self.eval(&mir).map(Arc::new).map_err(to_eval)
    }
}

fn text_of(row: &Row, desc: &RelationDesc) -> String {
    let ctx = EvalCtx::default();
    let mut cells = vec![];
    for (datum, ty) in row.iter().zip(&desc.types) {
        let mut text = String::new();
        match datum {
            Datum::Null => text.push_str("NULL"),
            datum => repr::format::write_text(&ty.ty, datum, &ctx.format, &mut text)
                .expect("strings take all text"),
        }
        cells.push(text);
    }
    cells.join("|")
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &Self::Command,
        context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let mut tags: Vec<&str> = context.tags.iter().map(String::as_str).collect();
        tags.sort_unstable();
        let mut out = String::new();
        if let Err(e) = self.execute(&command.name, &tags, &mut out) {
            write!(out, "ERROR {}", e.sqlstate)?;
            if let Some(position) = e.position {
                write!(out, " at {position}")?;
            }
            writeln!(out, ": {}", e.message)?;
            if let Some(detail) = e.detail {
                writeln!(out, "DETAIL: {detail}")?;
            }
            if let Some(hint) = e.hint {
                writeln!(out, "HINT: {hint}")?;
            }
        }
        Ok(out)
    }
}

fn run(name: &str) {
    let path = format!("{}/src/testscripts/{name}", env!("CARGO_MANIFEST_DIR"));
    goldenscript::run(&mut Runner::new(), path).expect("the script's output is as recorded");
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { run(stringify!($name)); })*
    };
}

scripts!(
    syntax_errors_have_positions,
    names_resolve_through_the_search_path,
    literals_and_operators_get_postgres_types,
    aggregates_follow_sql,
    joins_keep_multiplicities_and_nulls,
    subqueries_mean_what_sql_says,
    subqueries_tell_equal_values_apart,
    set_operations_count_rows,
    dml_plans_whole_rows,
    definitions_are_stored_with_full_names,
    parameters_get_their_types_from_context,
    statements_around_queries,
    psql_describes_the_catalog,
    drivers_look_types_up,
    clusters_and_nodes_are_administered,
);

/// Deep or long statements end in an error, not in a stack overflow.
#[test]
fn recursion_bombs_are_refused() {
    let runner = Runner::new();
    let eval = EvalCtx::default();
    let session = SessionView {
        catalog: &runner.catalog,
        database: "clusterd",
        search_path: &[],
        current_user: "clusterd",
        session_user: "clusterd",
        cluster: "quickstart",
        backend_pid: 1,
        version: "",
        eval: &eval,
        settings: &TestSettings,
    };
    let bombs = [
        format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT 1{}", "+1".repeat(20_000)),
        format!("SELECT {}1", "-".repeat(3) + &" -".repeat(20_000)),
        format!("SELECT {} true", "NOT ".repeat(20_000)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(20_000)),
        format!(
            "SELECT * FROM {}(SELECT 1) a{}",
            "(SELECT * FROM ".repeat(500),
            ") a".repeat(500)
        ),
        format!(
            "SELECT {}1{}",
            "CASE WHEN true THEN ".repeat(5_000),
            " END".repeat(5_000)
        ),
        format!("SELECT 1{}", "::int".repeat(20_000)),
        format!("SELECT {}1{}", "abs(".repeat(5_000), ")".repeat(5_000)),
        format!("SELECT {}1{}", "ARRAY[".repeat(5_000), "]".repeat(5_000)),
    ];
    for bomb in bombs {
        let outcome = parse(&bomb).and_then(|parsed| {
            plan_statement(&session, &parsed[0].statement, &mut ParamTypes::default())
        });
        let error = outcome.expect_err("a bomb was taken for a statement");
        assert!(
            matches!(error.sqlstate, "54001" | "42601"),
            "{}: {error}",
            &bomb[..40]
        );
    }
}
