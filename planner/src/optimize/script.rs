//! Scripts of plans: `scripts/*` say what a query becomes over tables, views and indexes that they define.

use crate::PlanError;
use crate::lower::lower;
use crate::optimize::{
    CatalogOracle, Definitions, Execution, ExportSpec, SelectOptions, explain_optimized,
    explain_physical, optimize_dataflow, optimize_select,
};
use crate::query::QueryPlanner;
use crate::session::{NoSettings, SessionView};
use crate::statement::ParamTypes;
use crate::transform::inline_views::{Keep, inline_views};
use crate::transform::pipeline::{FINAL, LOGICAL};
use goldenscript::Command;
use plan::explain::{Names, explain_dataflow, explain_mir};
use plan::scalar::EvalCtx;
use plan::{Finishing, Mir, ScalarExpr};
use repr::{ClusterId, ColumnType, DatabaseId, GlobalId, RoleId, SchemaId, ShardId, SqlType};
use state::Catalog;
use state::catalog::{
    Cluster, Column, Database, Index, IndexKey, Item, ItemKind, KeyConstraint, KeyConstraintKind,
    MaterializedView, Plan, Role, Schema, Table, View,
};
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

const SCHEMA: SchemaId = SchemaId(1);
const CLUSTER: ClusterId = ClusterId(1);

struct Runner {
    catalog: Catalog,
}

/// Plans the SQL that the catalog keeps.
struct Sql;

fn session<'a>(
    catalog: &'a Catalog,
    search_path: &'a [String],
    eval: &'a EvalCtx,
) -> SessionView<'a> {
    SessionView {
        catalog,
        database: "db",
        search_path,
        current_user: "me",
        session_user: "me",
        cluster: "c",
        backend_pid: 1,
        version: "1",
        eval,
        settings: &NoSettings,
    }
}

/// The plan of a query, its finishing and the names of its columns.
fn plan_query(catalog: &Catalog, sql: &str) -> Result<(Mir, Finishing, Vec<String>), PlanError> {
    let (path, eval) = (vec!["public".to_owned()], EvalCtx::default());
    let session = session(catalog, &path, &eval);
    let planner = QueryPlanner::new(&session, ParamTypes::default());
    let query = crate::parse::parse_query(sql)?;
    let planned = planner.root(&query)?;
    let names = planned
        .scope
        .columns
        .iter()
        .map(|c| c.name.clone())
        .take(planned.arity)
        .collect();
    let literal = |limit: Option<crate::hir::HirScalar>| -> Result<Option<u64>, PlanError> {
        let Some(limit) = limit else { return Ok(None) };
        let value = crate::lower::lower_scalar(limit, &[])?;
        Ok(value.as_literal().map(|d| d.unwrap_int64() as u64))
    };
    let finishing = Finishing {
        order_by: planned.order_by,
        limit: literal(planned.limit)?,
        offset: literal(planned.offset)?.unwrap_or(0),
        project: (0..planned.arity).collect(),
    };
    Ok((lower(planned.hir)?, finishing, names))
}

/// A query with nothing left to finish: what a view's definition is.
fn plan_definition(catalog: &Catalog, sql: &str) -> Result<(Mir, Vec<String>), PlanError> {
    let (mir, finishing, names) = plan_query(catalog, sql)?;
    let Finishing {
        order_by,
        limit,
        offset,
        project,
    } = finishing;
    let input = Box::new(mir);
    let limit = limit.map(|n| ScalarExpr::literal(repr::Datum::Int64(n as i64), SqlType::Int64));
    let mir = match (&limit, offset) {
        (None, 0) => *input,
        _ => Mir::TopK {
            input,
            group_key: vec![],
            order_key: order_by,
            limit,
            offset,
        },
    };
    Ok((
        Mir::Project {
            input: Box::new(mir),
            outputs: project,
        },
        names,
    ))
}

impl Definitions for Sql {
    fn query(&self, catalog: &Catalog, _: GlobalId, sql: &str) -> Result<Arc<Mir>, PlanError> {
        Ok(Arc::new(plan_definition(catalog, sql)?.0))
    }

    fn index_key(&self, _: &Catalog, _: GlobalId, sql: &str) -> Result<ScalarExpr, PlanError> {
        Err(PlanError::unsupported(format!("the index key {sql}")))
    }
}

struct CatalogNames<'a>(&'a Catalog);

impl Names for CatalogNames<'_> {
    fn object(&self, id: GlobalId) -> Option<String> {
        self.0.item(id).map(|item| item.name.clone())
    }

    fn columns(&self, id: GlobalId) -> Option<Vec<String>> {
        let columns = self.0.item(id)?.columns()?;
        Some(columns.iter().map(|c| c.name.clone()).collect())
    }
}

impl Runner {
    fn new() -> Runner {
        let mut catalog = Catalog {
            next_id: GlobalId::FIRST_USER.0,
            ..Catalog::default()
        };
        let (database, role) = (DatabaseId(1), RoleId(1));
        catalog.databases.insert(
            database,
            Arc::new(Database {
                id: database,
                name: "db".to_owned(),
            }),
        );
        catalog.roles.insert(
            role,
            Arc::new(Role {
                id: role,
                name: "me".to_owned(),
                superuser: true,
            }),
        );
        let schema = Schema {
            id: SCHEMA,
            database,
            name: "public".to_owned(),
            owner: role,
        };
        catalog.schemas.insert(SCHEMA, Arc::new(schema));
        let cluster = Cluster {
            id: CLUSTER,
            name: "c".to_owned(),
            incarnation: 1,
            workers: 1,
            memory_limit_bytes: None,
            replicas: vec![],
        };
        catalog.clusters.insert(CLUSTER, Arc::new(cluster));
        Runner { catalog }
    }

    fn add(&mut self, name: &str, depends_on: BTreeSet<GlobalId>, kind: ItemKind) -> GlobalId {
        let id = GlobalId(self.catalog.next_id);
        self.catalog.next_id += 1;
        self.catalog.names.insert((SCHEMA, name.to_owned()), id);
        let item = Item {
            id,
            schema: SCHEMA,
            name: name.to_owned(),
            owner: RoleId(1),
            create_sql: String::new(),
            depends_on,
            version: 1,
            kind,
        };
        self.catalog.items.insert(id, Arc::new(item));
        id
    }

    fn id(&self, name: &str) -> Result<GlobalId, Box<dyn Error>> {
        let item = self
            .catalog
            .item_by_name(SCHEMA, name)
            .ok_or_else(|| format!("no relation {name}"))?;
        Ok(item.id)
    }

    fn columns(&self, on: GlobalId) -> Vec<Column> {
        self.catalog
            .item(on)
            .and_then(|item| item.columns())
            .unwrap_or(&[])
            .to_vec()
    }

    fn positions(&self, columns: &[Column], names: &str) -> Result<Vec<usize>, Box<dyn Error>> {
        let position = |n: &str| columns.iter().position(|c| c.name == n);
        names
            .split(',')
            .map(|n| position(n).ok_or_else(|| format!("no column {n}").into()))
            .collect()
    }

    /// table NAME 'COLUMN TYPE[?] ...' [key=COLUMN,...] [unique=COLUMN,...]: a question mark makes a column nullable.
    fn table(&mut self, command: &Command) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let name = args.next_pos().ok_or("no name")?;
        let mut columns = vec![];
        for column in args.next_pos().ok_or("no columns")?.split(", ") {
            let (name, ty) = column.split_once(' ').ok_or("a column needs a type")?;
            let nullable = ty.ends_with('?');
            columns.push(Column {
                name: name.to_owned(),
                ty: sql_type(ty.trim_end_matches('?'))?,
                nullable,
            });
        }
        let mut keys = vec![];
        for (arg, kind) in [
            ("key", KeyConstraintKind::Primary),
            ("unique", KeyConstraintKind::Unique),
        ] {
            if let Some(key) = args.take_key(arg) {
                let columns = self.positions(&columns, key)?;
                keys.push(KeyConstraint {
                    name: format!("{name}_{arg}"),
                    id: GlobalId(0),
                    kind,
                    columns,
                });
            }
        }
        args.reject_next()?;
        let shard = ShardId(self.catalog.next_id);
        self.add(
            name,
            BTreeSet::new(),
            ItemKind::Table(Table {
                shard,
                columns,
                defaults: vec![],
                keys,
            }),
        );
        Ok(String::new())
    }

    /// view NAME SQL, materialized NAME SQL
    fn view(&mut self, command: &Command, materialized: bool) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let name = args.next_pos().ok_or("no name")?;
        let query_sql = args.next_pos().ok_or("no query")?.to_owned();
        args.reject_next()?;
        let (mir, names) = plan_definition(&self.catalog, &query_sql)?;
        let types = mir.types();
        let column = |(name, ty): (String, ColumnType)| Column {
            name,
            ty: ty.ty,
            nullable: ty.nullable,
        };
        let columns: Vec<Column> = names.into_iter().zip(types.clone()).map(column).collect();
        let depends_on = mir.depends_on();
        if !materialized {
            self.add(
                name,
                depends_on,
                ItemKind::View(View { columns, query_sql }),
            );
            return Ok(String::new());
        }
        let id = GlobalId(self.catalog.next_id);
        let spec = ExportSpec::MaterializedView {
            id,
            types,
            preferred_key: None,
        };
        let exec = optimize_dataflow(
            name,
            mir,
            &spec,
            &CatalogOracle::new(&self.catalog, &Sql),
            CLUSTER,
        )?;
        let plan = Plan {
            cluster: CLUSTER,
            bytes: vec![],
            hash: 0,
            shards: exec.shards,
            as_of: 0,
        };
        let (arranged_by, unique_keys) = (exec.arranged_by, exec.unique_keys);
        let text = format!("arranged by {arranged_by:?}, unique {unique_keys:?}\n");
        let view = MaterializedView {
            columns,
            query_sql,
            plan,
            arranged_by,
            unique_keys,
        };
        self.add(name, depends_on, ItemKind::MaterializedView(view));
        Ok(text)
    }

    /// index NAME on=RELATION key=COLUMN,...
    fn index(&mut self, command: &Command) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let name = args.next_pos().ok_or("no name")?;
        let on = self.id(args.take_key("on").ok_or("no relation")?)?;
        let key = args.take_key("key").ok_or("no key")?;
        let columns = self.positions(&self.columns(on), key)?;
        args.reject_next()?;
        let keys = columns
            .iter()
            .map(|c| IndexKey {
                sql: c.to_string(),
                column: Some(*c),
            })
            .collect();
        let plan = Plan {
            cluster: CLUSTER,
            bytes: vec![],
            hash: 0,
            shards: BTreeSet::new(),
            as_of: 0,
        };
        self.add(
            name,
            BTreeSet::from([on]),
            ItemKind::Index(Index { on, keys, plan }),
        );
        Ok(String::new())
    }

    /// select SQL: how a one-shot query is executed.
    fn select(&self, sql: &str) -> Result<String, Box<dyn Error>> {
        let (mir, finishing, _) = plan_query(&self.catalog, sql)?;
        let options = SelectOptions {
            cluster: CLUSTER,
            execution: Execution::Auto,
            inline_materialized: false,
            transient: GlobalId(u64::MAX),
        };
        let exec = optimize_select(
            mir,
            finishing,
            &CatalogOracle::new(&self.catalog, &Sql),
            &options,
        )?;
        Ok(explain_physical(&exec, &CatalogNames(&self.catalog)))
    }

    /// optimized SQL: the logical plan.
    fn optimized(&self, sql: &str) -> Result<String, Box<dyn Error>> {
        let (mir, _) = plan_definition(&self.catalog, sql)?;
        let oracle = CatalogOracle::new(&self.catalog, &Sql);
        Ok(explain_optimized(
            mir,
            None,
            &oracle,
            CLUSTER,
            &CatalogNames(&self.catalog),
        )?)
    }

    /// maintained SQL: the dataflow of a materialized view.
    fn maintained(&self, sql: &str) -> Result<String, Box<dyn Error>> {
        let (mir, _) = plan_definition(&self.catalog, sql)?;
        let spec = ExportSpec::MaterializedView {
            id: GlobalId(u64::MAX),
            types: mir.types(),
            preferred_key: None,
        };
        let exec = optimize_dataflow(
            "mv",
            mir,
            &spec,
            &CatalogOracle::new(&self.catalog, &Sql),
            CLUSTER,
        )?;
        Ok(explain_dataflow(
            &exec.dataflow,
            &CatalogNames(&self.catalog),
        ))
    }

    /// rewrite SQL expect=RULE: the plan before and after one rewrite, which must change it.
    fn rewrite(&self, command: &Command) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let rule = args.take_key("expect").ok_or("no rule")?;
        let sql = args.next_pos().ok_or("no query")?;
        args.reject_next()?;
        let (mir, _) = plan_definition(&self.catalog, sql)?;
        let (mut mir, _) =
            inline_views(mir, &CatalogOracle::new(&self.catalog, &Sql), Keep::Nothing)?;
        for _ in 0..3 {
            for (name, rewrite) in LOGICAL.iter().chain(FINAL) {
                let before = mir.clone();
                mir = rewrite(mir);
                if *name == rule && mir != before {
                    let text = |mir: &Mir| explain_mir(mir, &CatalogNames(&self.catalog));
                    return Ok(format!("{}=>\n{}", text(&before), text(&mir)));
                }
            }
        }
        Err(format!("{rule} changes nothing").into())
    }
}

fn sql_type(name: &str) -> Result<SqlType, Box<dyn Error>> {
    if let Some((precision, scale)) = name
        .strip_prefix("numeric(")
        .and_then(|m| m.trim_end_matches(')').split_once(','))
    {
        let typmod = repr::NumericTypmod {
            precision: precision.parse()?,
            scale: scale.parse()?,
        };
        return Ok(SqlType::Numeric(Some(typmod)));
    }
    if let Some(n) = name.strip_prefix("char(") {
        return Ok(SqlType::Char(Some(n.trim_end_matches(')').parse()?)));
    }
    SqlType::from_typname(name).ok_or_else(|| format!("no type {name}").into())
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(
        &mut self,
        command: &Command,
        _: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let sql = || {
            command
                .consume_args()
                .next_pos()
                .map(str::to_owned)
                .ok_or("no query")
        };
        match command.name.as_str() {
            "table" => self.table(command),
            "view" => self.view(command, false),
            "materialized" => self.view(command, true),
            "index" => self.index(command),
            "select" => self.select(&sql()?),
            "optimized" => self.optimized(&sql()?),
            "maintained" => self.maintained(&sql()?),
            "rewrite" => self.rewrite(command),
            name => Err(format!("invalid command {name}").into()),
        }
    }
}

#[test]
fn scripts() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/optimize/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        goldenscript::run(&mut Runner::new(), &path)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}
