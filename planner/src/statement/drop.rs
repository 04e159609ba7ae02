//! DROP, ALTER ... RENAME, TRUNCATE.

use super::other::item_kind;
use super::show::cluster_of;
use super::{DropPlan, Plan, StatementPlanner};
use crate::ast::{Drop, ObjectKind, Rename, Truncate};
use crate::error::{Notice, PlanError};
use crate::names::Name;
use crate::parse::fold;
use repr::{ClusterId, DatabaseId, GlobalId, SchemaId};
use state::catalog::{Item, ItemKind};
use std::sync::Arc;

impl StatementPlanner<'_> {
    pub(super) fn drop(&self, drop: &Drop) -> Result<Plan, PlanError> {
        let mut plan = DropPlan {
            kind: drop.kind,
            ids: vec![],
            schemas: vec![],
            databases: vec![],
            clusters: vec![],
            notices: vec![],
        };
        let mut wanted: Vec<GlobalId> = vec![];
        for name in &drop.names {
            let name = Name::new(name)?;
            match drop.kind {
                ObjectKind::Table
                | ObjectKind::View
                | ObjectKind::MaterializedView
                | ObjectKind::Index
                | ObjectKind::Source => match self.item_of_kind(&name, drop.kind) {
                    Ok(item) => wanted.push(item.id),
                    Err(e) if drop.if_exists && matches!(e.sqlstate, "42P01" | "42704") => {
                        plan.notices.push(skipping(drop.kind, &name.to_string()));
                    }
                    Err(mut e) => {
                        // PostgreSQL names no position here.
                        e.position = None;
                        return Err(e);
                    }
                },
                ObjectKind::Schema => match self.session.schema(&name.name) {
                    Ok(schema) => plan.schemas.push(schema.id),
                    Err(_) if drop.if_exists => plan.notices.push(skipping(drop.kind, &name.name)),
                    Err(e) => return Err(e),
                },
                ObjectKind::Database => {
                    let found = self.session.catalog.database_by_name(&name.name);
                    if let Some(database) = found_or_skipped(found, drop, &name, &mut plan)? {
                        if name.name == self.session.database {
                            return Err(PlanError::new(
                                "55006",
                                "cannot drop the currently open database",
                            ));
                        }
                        plan.databases.push(database.id);
                    }
                }
                ObjectKind::Cluster => {
                    self.check_superuser("drop a cluster")?;
                    let found = self.session.catalog.cluster_by_name(&name.name);
                    let cluster = found_or_skipped(found, drop, &name, &mut plan)?;
                    plan.clusters.extend(cluster.map(|cluster| cluster.id));
                }
                ObjectKind::Role => {
                    let found = self.session.catalog.role_by_name(&name.name);
                    if found_or_skipped(found, drop, &name, &mut plan)?.is_some() {
                        return Err(PlanError::unsupported("DROP ROLE"));
                    }
                }
            }
        }
        // Somebody may name one thing twice.
        plan.clusters.sort_unstable();
        plan.clusters.dedup();
        plan.databases.sort_unstable();
        plan.databases.dedup();
        self.check_schemas(drop, &plan.schemas)?;
        self.check_databases(drop, &plan.databases)?;
        let in_databases = self.session.catalog.schemas.values();
        let in_databases = in_databases.filter(|s| plan.databases.contains(&s.database));
        plan.schemas.extend(in_databases.map(|s| s.id));
        for schema in &plan.schemas {
            wanted.extend(self.items_of(*schema).map(|i| i.id));
        }
        plan.schemas.sort_unstable();
        plan.schemas.dedup();
        self.check_clusters(drop, &plan.clusters)?;
        let mut cascaded = vec![];
        for cluster in &plan.clusters {
            for item in self.items_on(*cluster) {
                cascaded.push(format!("{} {}", item_kind(item).name(), item.name));
                wanted.push(item.id);
            }
        }
        self.close_under_dependents(drop, &wanted, cascaded, &mut plan)?;
        Ok(Plan::Drop(plan))
    }

    fn items_on(&self, cluster: ClusterId) -> impl Iterator<Item = &Arc<Item>> {
        let items = self.session.catalog.items.values();
        items.filter(move |item| cluster_of(item) == Some(cluster))
    }

    /// RESTRICT: a database that still has objects stays.
    fn check_databases(&self, drop: &Drop, databases: &[DatabaseId]) -> Result<(), PlanError> {
        let catalog = self.session.catalog;
        for database in databases.iter().filter(|_| !drop.cascade) {
            let name = catalog.databases.get(database).map_or("", |d| &d.name);
            let schemas = catalog.schemas.values();
            let inside: Vec<String> = schemas
                .filter(|schema| schema.database == *database)
                .flat_map(|schema| self.items_of(schema.id))
                .map(|item| format!("{} {}", item_kind(item).name(), item.name))
                .collect();
            still_used("database", name, &inside)?;
        }
        Ok(())
    }

    /// A CLUSTER that still does something needs CASCADE.
    fn check_clusters(&self, drop: &Drop, clusters: &[ClusterId]) -> Result<(), PlanError> {
        for cluster in clusters.iter().filter(|_| !drop.cascade) {
            let found = self.session.catalog.clusters.get(cluster);
            let name = found.map_or("", |c| &c.name);
            let inside: Vec<String> = self
                .items_on(*cluster)
                .map(|item| format!("{} {}", item_kind(item).name(), item.name))
                .collect();
            still_used("cluster", name, &inside)?;
        }
        Ok(())
    }

    fn items_of(&self, schema: SchemaId) -> impl Iterator<Item = &Arc<Item>> {
        self.session
            .catalog
            .items
            .values()
            .filter(move |i| i.schema == schema)
    }

    /// A schema that still has objects needs CASCADE.
    fn check_schemas(&self, drop: &Drop, schemas: &[SchemaId]) -> Result<(), PlanError> {
        for schema in schemas {
            let items: Vec<&Arc<Item>> = self.items_of(*schema).collect();
            if items.is_empty() || drop.cascade {
                continue;
            }
            let name = self
                .session
                .catalog
                .schemas
                .get(schema)
                .map_or("", |s| s.name.as_str());
            let inside: Vec<String> = items
                .iter()
                .map(|item| format!("{} {}", item_kind(item).name(), item.name))
                .collect();
            still_used("schema", name, &inside)?;
        }
        Ok(())
    }

    /// Adds what depends on the items, dependents first. An index goes with its relation; other dependents need CASCADE. `cascaded` are items that nobody has named.
    fn close_under_dependents(
        &self,
        drop: &Drop,
        wanted: &[GlobalId],
        mut cascaded: Vec<String>,
        plan: &mut DropPlan,
    ) -> Result<(), PlanError> {
        let mut found: Vec<GlobalId> = wanted.to_vec();
        found.dedup();
        let mut blocked = vec![];
        let mut next = 0;
        while next < found.len() {
            let id = found[next];
            next += 1;
            for dependent in self.session.catalog.dependents_of(id) {
                if found.contains(&dependent.id) {
                    continue;
                }
                found.push(dependent.id);
                if !matches!(dependent.kind, ItemKind::Index(_)) {
                    let (kind, name) = (item_kind(dependent).name(), &dependent.name);
                    cascaded.push(format!("{kind} {name}"));
                    if let Some(on) = self.session.catalog.item(id) {
                        blocked.push(format!(
                            "{kind} {name} depends on {} {}",
                            item_kind(on).name(),
                            on.name
                        ));
                    }
                }
            }
        }
        if !blocked.is_empty() && !drop.cascade {
            let target = wanted.first().and_then(|id| self.session.catalog.item(*id));
            let target = target.map_or_else(String::new, |i| {
                format!("{} {}", item_kind(i).name(), i.name)
            });
            return Err(PlanError::new(
                "2BP01",
                format!("cannot drop {target} because other objects depend on it"),
            )
            .with_detail(blocked.join("\n"))
            .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        if let [only] = cascaded.as_slice() {
            plan.notices
                .push(Notice::info("00000", format!("drop cascades to {only}")));
        } else if !cascaded.is_empty() {
            let mut notice = Notice::info(
                "00000",
                format!("drop cascades to {} other objects", cascaded.len()),
            );
            let lines: Vec<String> = cascaded
                .iter()
                .map(|c| format!("drop cascades to {c}"))
                .collect();
            notice.detail = Some(lines.join("\n"));
            plan.notices.push(notice);
        }
        found.reverse();
        plan.ids = self.dependents_first(found);
        Ok(())
    }

    fn dependents_first(&self, ids: Vec<GlobalId>) -> Vec<GlobalId> {
        let mut ordered: Vec<GlobalId> = vec![];
        let mut rest = ids;
        while !rest.is_empty() {
            let is_free = |id: &GlobalId| {
                let mut dependents = self.session.catalog.dependents_of(*id);
                dependents.all(|d| !rest.contains(&d.id))
            };
            let (free, waiting): (Vec<GlobalId>, Vec<GlobalId>) =
                rest.iter().copied().partition(is_free);
            if free.is_empty() {
                ordered.extend(waiting);
                break;
            }
            ordered.extend(free);
            rest = waiting;
        }
        ordered
    }

    pub(super) fn rename(&self, rename: &Rename) -> Result<Plan, PlanError> {
        let name = Name::new(&rename.name)?;
        let to = fold(&rename.to);
        if rename.kind == ObjectKind::Cluster {
            let there = self.session.catalog.cluster_by_name(&name.name).is_some();
            if rename.if_exists && !there {
                return Ok(Plan::NoOp {
                    tag: "ALTER CLUSTER".to_owned(),
                    notices: vec![skipping(rename.kind, &name.name)],
                });
            }
            return self.rename_cluster(&name, to);
        }
        if matches!(
            rename.kind,
            ObjectKind::Schema | ObjectKind::Database | ObjectKind::Role
        ) {
            self.check_exists(rename.kind, &name)?;
            let what = format!("ALTER {} ... RENAME", rename.kind.name().to_uppercase());
            return Err(PlanError::unsupported(what).with_hint(format!(
                "Create a {} of the new name, and what belongs to it there, then DROP this one.",
                rename.kind.name()
            )));
        }
        let item = match self.item_of_kind(&name, rename.kind) {
            Ok(item) => item,
            Err(e) if rename.if_exists && matches!(e.sqlstate, "42P01" | "42704") => {
                return Ok(Plan::NoOp {
                    tag: format!("ALTER {}", rename.kind.name().to_uppercase()),
                    notices: vec![skipping(rename.kind, &name.to_string())],
                });
            }
            Err(e) => return Err(e),
        };
        if self.taken_names(item.schema).contains(&to) {
            return Err(PlanError::new(
                "42P07",
                format!("relation \"{to}\" already exists"),
            ));
        }
        // The texts of views name what they read.
        let dependents = self.session.catalog.dependents_of(item.id);
        let readers: Vec<String> = dependents
            .filter(|d| !matches!(d.kind, ItemKind::Index(_)))
            .map(|d| format!("{} {} depends on it", item_kind(d).name(), d.name))
            .collect();
        if !readers.is_empty() {
            let message = format!(
                "cannot rename {} {} because other objects depend on it",
                rename.kind.name(),
                item.name
            );
            return Err(PlanError::new("0A000", message).with_detail(readers.join("\n")));
        }
        let mut catalog = self.session.catalog.clone();
        let mut renamed = item.as_ref().clone();
        renamed.name.clone_from(&to);
        catalog.items.insert(item.id, Arc::new(renamed.clone()));
        renamed.create_sql = super::create_sql(&catalog, &renamed);
        let mut updates = vec![renamed];
        for (index, _) in self.session.catalog.indexes_on(item.id) {
            let mut index = index.as_ref().clone();
            index.create_sql = super::create_sql(&catalog, &index);
            updates.push(index);
        }
        Ok(Plan::Rename {
            id: item.id,
            kind: rename.kind,
            name: to,
            updates,
        })
    }

    /// An error if there is no such database, schema, CLUSTER or role.
    fn check_exists(&self, kind: ObjectKind, name: &Name) -> Result<(), PlanError> {
        let catalog = self.session.catalog;
        let name = &name.name;
        match kind {
            ObjectKind::Schema => self.session.schema(name).map(drop),
            ObjectKind::Cluster => self.session.cluster(Some(name)).map(drop),
            ObjectKind::Database if catalog.database_by_name(name).is_none() => {
                Err(missing(kind, name))
            }
            ObjectKind::Role if catalog.role_by_name(name).is_none() => Err(missing(kind, name)),
            ObjectKind::Database
            | ObjectKind::Role
            | ObjectKind::Table
            | ObjectKind::View
            | ObjectKind::MaterializedView
            | ObjectKind::Index
            | ObjectKind::Source => Ok(()),
        }
    }

    pub(super) fn truncate(&self, truncate: &Truncate) -> Result<Plan, PlanError> {
        let mut tables = vec![];
        for name in &truncate.names {
            let target = self.target(name, "truncate")?;
            if !tables.contains(&target.item.id) {
                tables.push(target.item.id);
            }
        }
        Ok(Plan::Truncate { tables })
    }
}

/// What a name in DROP stands for; `None` if it stands for nothing and IF EXISTS was said.
fn found_or_skipped<'a, T>(
    found: Option<&'a Arc<T>>,
    drop: &Drop,
    name: &Name,
    plan: &mut DropPlan,
) -> Result<Option<&'a Arc<T>>, PlanError> {
    if name.schema.is_some() {
        return Err(PlanError::new(
            "42601",
            format!("a {} name cannot be qualified", drop.kind.name()),
        )
        .at(name.position));
    }
    if found.is_none() && !drop.if_exists {
        return Err(missing(drop.kind, &name.name));
    }
    if found.is_none() {
        plan.notices.push(skipping(drop.kind, &name.name));
    }
    Ok(found)
}

fn missing(kind: ObjectKind, name: &str) -> PlanError {
    let sqlstate = match kind == ObjectKind::Database {
        true => "3D000",
        false => "42704",
    };
    PlanError::new(
        sqlstate,
        format!("{} \"{name}\" does not exist", kind.name()),
    )
}

/// 2BP01 if there are objects in it or on it.
fn still_used(kind: &str, name: &str, objects: &[String]) -> Result<(), PlanError> {
    if objects.is_empty() {
        return Ok(());
    }
    let detail: Vec<String> = objects
        .iter()
        .map(|object| format!("{object} depends on {kind} {name}"))
        .collect();
    Err(PlanError::new(
        "2BP01",
        format!("cannot drop {kind} {name} because other objects depend on it"),
    )
    .with_detail(detail.join("\n"))
    .with_hint("Use DROP ... CASCADE to drop the dependent objects too."))
}

fn skipping(kind: ObjectKind, name: &str) -> Notice {
    let message = format!("{} \"{name}\" does not exist, skipping", kind.name());
    Notice::info("00000", message)
}
