//! SHOW: lists of objects are queries over constants made from the catalog; lists of what is not in the catalog are queries of system
//! relations.

mod relations;

use super::{ParamTypes, Plan, SelectPlan, StatementPlanner};
use crate::ast::{ObjectKind, Show, ShowFilter, ShowKind, ShowObjects};
use crate::error::PlanError;
use crate::func;
use crate::hir::{Hir, HirScalar};
use crate::lower::lower;
use crate::names::{Name, quote};
use crate::query::desc_scope;
use crate::types::coerce::Typed;
use plan::Finishing;
use plan::mir::ColumnOrder;
use repr::{Datum, RelationDesc, Row, RowPacker, SqlType};
use state::Catalog;
use state::catalog::{Item, ItemKind, LoadGenerator, Schema};
use std::sync::Arc;

/// A cell of a list.
enum Cell {
    Text(String),
    Bool(bool),
    List(Vec<String>),
}

/// Column names with their types, and rows.
struct List {
    columns: Vec<(&'static str, SqlType)>,
    rows: Vec<Vec<Cell>>,
}

impl StatementPlanner<'_> {
    pub(super) fn show(&self, show: &Show, params: &mut ParamTypes) -> Result<Plan, PlanError> {
        match show {
            Show::Variable(name) => Ok(Plan::ShowVariable { name: name.clone() }),
            Show::All => Ok(Plan::ShowAll),
            Show::Create { kind, name } => {
                let name = Name::new(name)?;
                let (full, sql) = self.show_create(*kind, &name)?;
                let list = List {
                    columns: vec![("name", SqlType::Text), ("create_sql", SqlType::Text)],
                    rows: vec![vec![Cell::Text(full), Cell::Text(sql)]],
                };
                self.list_plan(list, None, params)
            }
            Show::Objects(objects) => match relations::listing_of(objects.kind) {
                Some(listing) => self.query_list(&listing, objects.filter.as_ref(), params),
                None => {
                    let list = self.list(objects)?;
                    self.list_plan(list, objects.filter.as_ref(), params)
                }
            },
        }
    }

    fn show_create(&self, kind: ObjectKind, name: &Name) -> Result<(String, String), PlanError> {
        match kind {
            ObjectKind::Table
            | ObjectKind::View
            | ObjectKind::MaterializedView
            | ObjectKind::Index
            | ObjectKind::Source => {
                let item = self.item_of_kind(name, kind).map_err(|mut e| {
                    e.hint = None;
                    e
                })?;
                Ok((self.session.full_name(item), item.create_sql.clone()))
            }
            ObjectKind::Cluster => {
                let cluster = self.session.cluster(Some(&name.name))?;
                let mut sql = format!(
                    "CREATE CLUSTER {} (WORKERS {}",
                    quote(&cluster.name),
                    cluster.workers
                );
                if let Some(limit) = cluster.memory_limit_bytes {
                    sql.push_str(&format!(", MEMORY LIMIT '{limit}B'"));
                }
                sql.push_str(&format!(", REPLICATION FACTOR {})", cluster.replicas.len()));
                Ok((cluster.name.clone(), sql))
            }
            ObjectKind::Schema | ObjectKind::Database | ObjectKind::Role => Err(
                PlanError::unsupported(format!("SHOW CREATE {}", kind.name().to_uppercase())),
            ),
        }
    }

    /// The schema that a list is about.
    fn list_schema(&self, show: &ShowObjects) -> Result<Arc<Schema>, PlanError> {
        match &show.from {
            Some(name) => Ok(self.session.schema(&Name::new(name)?.name)?.clone()),
            None => Ok(self.session.creation_schema()?.clone()),
        }
    }

    fn list(&self, show: &ShowObjects) -> Result<List, PlanError> {
        let text = |name: &'static str| (name, SqlType::Text);
        let catalog = self.session.catalog;
        Ok(match show.kind {
            ShowKind::Tables | ShowKind::Views => {
                let kind = if show.kind == ShowKind::Tables {
                    ObjectKind::Table
                } else {
                    ObjectKind::View
                };
                let rows = self.items(show, Some(kind))?;
                List {
                    columns: vec![text("name")],
                    rows: rows
                        .iter()
                        .map(|i| vec![Cell::Text(i.name.clone())])
                        .collect(),
                }
            }
            ShowKind::MaterializedViews => List {
                columns: vec![text("name"), text("cluster")],
                rows: self.named_with_cluster(show, ObjectKind::MaterializedView)?,
            },
            ShowKind::Sources => List {
                columns: vec![text("name"), text("type"), text("cluster")],
                rows: self
                    .named_with_cluster(show, ObjectKind::Source)?
                    .into_iter()
                    .map(|mut row| {
                        row.insert(1, Cell::Text("load-generator".to_owned()));
                        row
                    })
                    .collect(),
            },
            ShowKind::Objects => List {
                columns: vec![text("name"), text("type")],
                rows: self
                    .items(show, None)?
                    .iter()
                    .map(|i| {
                        let kind = super::other::item_kind(i).name().replace(' ', "-");
                        vec![Cell::Text(i.name.clone()), Cell::Text(kind)]
                    })
                    .collect(),
            },
            ShowKind::Indexes => self.indexes(show)?,
            ShowKind::Columns => self.columns(show)?,
            ShowKind::Schemas => {
                let database = self.session.database()?.id;
                let user = catalog
                    .schemas
                    .values()
                    .filter(|s| s.database == database)
                    .map(|s| s.name.clone());
                let system = [
                    "information_schema",
                    "mz_catalog",
                    "mz_internal",
                    "pg_catalog",
                ]
                .map(str::to_owned);
                single("name", user.chain(system))
            }
            ShowKind::Databases => {
                single("name", catalog.databases.values().map(|d| d.name.clone()))
            }
            ShowKind::Roles => single("name", catalog.roles.values().map(|r| r.name.clone())),
            ShowKind::Clusters => List {
                columns: vec![text("name"), text("replicas")],
                rows: catalog
                    .clusters
                    .values()
                    .map(|c| {
                        let replicas: Vec<String> = (1..=c.replicas.len())
                            .map(|n| format!("r{n} ({} workers)", c.workers))
                            .collect();
                        vec![Cell::Text(c.name.clone()), Cell::Text(replicas.join(", "))]
                    })
                    .collect(),
            },
            ShowKind::ClusterReplicas | ShowKind::Nodes => {
                return Err(PlanError::new("XX000", "not a list of the catalog"));
            }
        })
    }

    /// The items of a schema, of one kind, in the CLUSTER asked for.
    fn items(
        &self,
        show: &ShowObjects,
        kind: Option<ObjectKind>,
    ) -> Result<Vec<Arc<Item>>, PlanError> {
        let schema = self.list_schema(show)?.id;
        let cluster = match &show.in_cluster {
            Some(name) => Some(self.session.cluster(Some(&crate::parse::fold(name)))?.id),
            None => None,
        };
        let wanted = |i: &&Arc<Item>| {
            i.schema == schema
                && kind.is_none_or(|k| super::other::item_kind(i) == k)
                && cluster.is_none_or(|c| cluster_of(i) == Some(c))
        };
        Ok(self
            .session
            .catalog
            .items
            .values()
            .filter(wanted)
            .cloned()
            .collect())
    }

    fn named_with_cluster(
        &self,
        show: &ShowObjects,
        kind: ObjectKind,
    ) -> Result<Vec<Vec<Cell>>, PlanError> {
        let items = self.items(show, Some(kind))?;
        Ok(items
            .iter()
            .map(|i| vec![Cell::Text(i.name.clone()), Cell::Text(self.cluster_name(i))])
            .collect())
    }

    fn cluster_name(&self, item: &Item) -> String {
        let cluster = cluster_of(item).and_then(|c| self.session.catalog.clusters.get(&c));
        cluster.map_or_else(String::new, |c| c.name.clone())
    }

    /// `SHOW INDEXES [FROM schema | ON relation]`.
    fn indexes(&self, show: &ShowObjects) -> Result<List, PlanError> {
        let catalog = self.session.catalog;
        let mut on = None;
        let mut schema = None;
        match &show.from {
            None => schema = Some(self.list_schema(show)?.id),
            Some(name) => {
                let name = Name::new(name)?;
                match self.session.find(&name)? {
                    Some(relation) => on = Some(relation.id()),
                    None if name.schema.is_none() && self.session.schema(&name.name).is_ok() => {
                        schema = Some(self.session.schema(&name.name)?.id);
                    }
                    None => {
                        return Err(
                            PlanError::relation_not_found(&name.to_string()).at(name.position)
                        );
                    }
                }
            }
        }
        let mut rows = vec![];
        for item in catalog.items.values() {
            let ItemKind::Index(index) = &item.kind else {
                continue;
            };
            let listed =
                on.is_none_or(|id| index.on == id) && schema.is_none_or(|s| item.schema == s);
            if !listed {
                continue;
            }
            let relation = catalog
                .item(index.on)
                .map_or_else(String::new, |i| i.name.clone());
            let keys = index.keys.iter().map(|k| k.sql.clone()).collect();
            rows.push(vec![
                Cell::Text(item.name.clone()),
                Cell::Text(relation),
                Cell::Text(self.cluster_name(item)),
                Cell::List(keys),
            ]);
        }
        Ok(List {
            columns: vec![
                ("name", SqlType::Text),
                ("on", SqlType::Text),
                ("cluster", SqlType::Text),
                ("key", SqlType::Text.array_of()),
            ],
            rows,
        })
    }

    fn columns(&self, show: &ShowObjects) -> Result<List, PlanError> {
        let Some(name) = &show.from else {
            return Err(PlanError::syntax(None));
        };
        let name = Name::new(name)?;
        let desc = self
            .session
            .resolve(&name)?
            .desc()
            .map_err(|e| e.at(name.position))?;
        Ok(List {
            columns: vec![
                ("name", SqlType::Text),
                ("nullable", SqlType::Bool),
                ("type", SqlType::Text),
            ],
            rows: desc
                .columns()
                .map(|(name, ty)| {
                    vec![
                        Cell::Text(name.to_owned()),
                        Cell::Bool(ty.nullable),
                        Cell::Text(ty.ty.pg_name()),
                    ]
                })
                .collect(),
        })
    }

    fn list_plan(
        &self,
        list: List,
        filter: Option<&ShowFilter>,
        params: &mut ParamTypes,
    ) -> Result<Plan, PlanError> {
        let desc = RelationDesc::from_columns(
            list.columns
                .iter()
                .map(|(name, ty)| (*name, ty.clone().nullable(false))),
        );
        // Columns of a relation stay in their order.
        let sorted = list
            .columns
            .first()
            .is_some_and(|_| !list.columns.iter().any(|(n, _)| *n == "nullable"));
        let mut hir = Hir::Constant {
            rows: list.rows.into_iter().map(row).collect(),
            types: desc.types.clone(),
        };
        match filter {
            None => {}
            Some(ShowFilter::Like(pattern)) => {
                let name = Typed::new(HirScalar::column(0), SqlType::Text);
                let pattern = HirScalar::literal(Datum::String(pattern), SqlType::Text);
                let pattern = Typed::new(pattern, SqlType::Text);
                let like = self.with_queries(params, |p| {
                    func::binary(&p.coercer(), "~~", name, pattern, 0)
                })?;
                hir = hir.filter(vec![like.expr]);
            }
            Some(ShowFilter::Where(expr)) => {
                let scope = desc_scope(&desc, None, "show");
                let predicate =
                    self.with_queries(params, |p| p.condition(expr, &scope, "WHERE"))?;
                hir = hir.filter(predicate.into_conjuncts());
            }
        }
        let mut finishing = Finishing::trivial(desc.arity());
        if sorted {
            finishing.order_by = (0..desc.arity().min(2))
                .map(|column| ColumnOrder {
                    column,
                    desc: false,
                    nulls_last: true,
                })
                .collect();
        }
        Ok(Plan::Select(SelectPlan {
            mir: lower(hir)?,
            finishing,
            limit: None,
            offset: None,
            desc,
            as_of: None,
            effects: vec![],
        }))
    }
}

fn row(cells: Vec<Cell>) -> Row {
    let mut packer = RowPacker::new();
    for cell in &cells {
        match cell {
            Cell::Text(text) => packer.push(Datum::String(text)),
            Cell::Bool(value) => packer.push(Datum::Bool(*value)),
            Cell::List(texts) => {
                let datums: Vec<Datum<'_>> = texts.iter().map(|t| Datum::String(t)).collect();
                packer.push_list(datums.iter());
            }
        }
    }
    packer.finish_row()
}

fn single(name: &'static str, values: impl Iterator<Item = String>) -> List {
    List {
        columns: vec![(name, SqlType::Text)],
        rows: values.map(|v| vec![Cell::Text(v)]).collect(),
    }
}

/// The CLUSTER that does an item's work.
pub(super) fn cluster_of(item: &Item) -> Option<repr::ClusterId> {
    match &item.kind {
        ItemKind::MaterializedView(view) => Some(view.plan.cluster),
        ItemKind::Index(index) => Some(index.plan.cluster),
        ItemKind::Source(source) => Some(source.cluster),
        ItemKind::Table(_) | ItemKind::View(_) => None,
    }
}

/// Canonical SQL that creates the item again, names fully qualified.
pub fn create_sql(catalog: &Catalog, item: &Item) -> String {
    let schema_of = |item: &Item| {
        let schema = catalog
            .schemas
            .get(&item.schema)
            .map_or("?", |s| s.name.as_str());
        quote(schema)
    };
    let name = format!("{}.{}", schema_of(item), quote(&item.name));
    let cluster =
        |id: &repr::ClusterId| quote(catalog.clusters.get(id).map_or("?", |c| c.name.as_str()));
    let columns = |columns: &[state::catalog::Column]| {
        let names: Vec<String> = columns.iter().map(|c| quote(&c.name)).collect();
        names.join(", ")
    };
    match &item.kind {
        ItemKind::Table(table) => {
            format!("CREATE TABLE {name} {}", super::table::definition(table))
        }
        ItemKind::View(view) => {
            format!(
                "CREATE VIEW {name} ({}) AS {}",
                columns(&view.columns),
                view.query_sql
            )
        }
        ItemKind::MaterializedView(view) => format!(
            "CREATE MATERIALIZED VIEW {name} ({}) IN CLUSTER {} AS {}",
            columns(&view.columns),
            cluster(&view.plan.cluster),
            view.query_sql
        ),
        ItemKind::Index(index) => {
            let keys: Vec<&str> = index.keys.iter().map(|k| k.sql.as_str()).collect();
            let on = catalog.item(index.on).map_or_else(
                || "?".to_owned(),
                |on| format!("{}.{}", schema_of(on), quote(&on.name)),
            );
            format!(
                "CREATE INDEX {} IN CLUSTER {} ON {on} ({})",
                quote(&item.name),
                cluster(&index.plan.cluster),
                keys.join(", ")
            )
        }
        ItemKind::Source(source) => {
            let LoadGenerator::Counter {
                tick_interval_us,
                max_cardinality,
            } = &source.generator;
            let mut options = vec![format!("TICK INTERVAL '{} microseconds'", tick_interval_us)];
            options.extend(max_cardinality.map(|n| format!("MAX CARDINALITY {n}")));
            format!(
                "CREATE SOURCE {name} IN CLUSTER {} FROM LOAD GENERATOR COUNTER ({})",
                cluster(&source.cluster),
                options.join(", ")
            )
        }
    }
}
