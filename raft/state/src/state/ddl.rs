//! Catalog operations. The caller undoes all of them when one is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use repr::{ClusterId, GlobalId, ShardId, Timestamp};

use super::{ROW_OVERHEAD_BYTES, State};
use crate::catalog::{Catalog, Cluster, Database, Item, ItemKind, Plan, Role, Schema};
use crate::command::{CatalogOp, Outcome};
use crate::shard::{KeySpace, Shard};

/// Ids that a transaction takes: each at least the catalog's next id before it, each once.
struct Ids {
    first: u64,
    taken: BTreeSet<u64>,
}

impl Ids {
    fn take(&mut self, id: u64) -> Result<(), Outcome> {
        // Object ids are OIDs: 32 bits.
        if id < self.first || id > u64::from(u32::MAX) || !self.taken.insert(id) {
            return Err(Outcome::CatalogMoved);
        }
        Ok(())
    }
}

fn invalid(reason: impl Into<String>) -> Outcome {
    Outcome::Invalid {
        reason: reason.into(),
    }
}

fn free(taken: bool, name: &str) -> Result<(), Outcome> {
    if taken {
        Err(Outcome::NameTaken {
            name: name.to_owned(),
        })
    } else {
        Ok(())
    }
}

impl State {
    pub(super) fn catalog_ops(&mut self, ops: &[CatalogOp], ts: Timestamp) -> Result<(), Outcome> {
        let mut ids = Ids {
            first: self.catalog.next_id,
            taken: BTreeSet::new(),
        };
        ops.iter()
            .try_for_each(|op| self.catalog_op(op, ts, &mut ids))?;
        let version = self.applied;
        let catalog = self.catalog_mut();
        catalog.version = version;
        catalog.next_id = ids
            .taken
            .last()
            .map_or(catalog.next_id, |last| catalog.next_id.max(last + 1));
        Ok(())
    }

    fn catalog_mut(&mut self) -> &mut Catalog {
        Arc::make_mut(&mut self.catalog)
    }

    fn catalog_op(&mut self, op: &CatalogOp, ts: Timestamp, ids: &mut Ids) -> Result<(), Outcome> {
        match op {
            CatalogOp::CreateDatabase(database) => self.create_database(database, ids),
            CatalogOp::CreateSchema(schema) => self.create_schema(schema, ids),
            CatalogOp::CreateRole(role) => self.create_role(role, ids),
            CatalogOp::CreateCluster(cluster) => self.create_cluster(cluster, ids),
            CatalogOp::CreateItem(item) => self.create_item(item, ts, ids),
            CatalogOp::UpdateItem(item) => self.update_item(item, ts),
            CatalogOp::DropItems(list) => self.drop_items(list),
            CatalogOp::DropSchema(id) => {
                if self.catalog.items.values().any(|item| item.schema == *id) {
                    return Err(invalid(format!("{id} is not empty")));
                }
                self.catalog_mut()
                    .schemas
                    .remove(id)
                    .map(drop)
                    .ok_or(Outcome::CatalogMoved)
            }
            CatalogOp::RenameItem { id, name } => self.rename_item(*id, name),
            CatalogOp::UpdateCluster(cluster) => self.update_cluster(cluster),
            CatalogOp::DropCluster(id) => {
                if self
                    .catalog
                    .items
                    .values()
                    .any(|item| runs_on(item) == Some(*id))
                {
                    return Err(invalid(format!("{id} is in use")));
                }
                let gone = self.catalog_mut().clusters.remove(id);
                gone.ok_or(Outcome::CatalogMoved)?;
                self.forget_cluster(*id);
                Ok(())
            }
            CatalogOp::KeepReplicas(id) => self.keep_replicas(*id),
            CatalogOp::DropRole(id) => {
                let owns = self.catalog.items.values().any(|item| item.owner == *id);
                if owns
                    || self
                        .catalog
                        .schemas
                        .values()
                        .any(|schema| schema.owner == *id)
                {
                    return Err(invalid(format!("{id} owns objects")));
                }
                self.catalog_mut()
                    .roles
                    .remove(id)
                    .map(drop)
                    .ok_or(Outcome::CatalogMoved)
            }
            CatalogOp::DropDatabase(id) => {
                if self
                    .catalog
                    .schemas
                    .values()
                    .any(|schema| schema.database == *id)
                {
                    return Err(invalid(format!("{id} is not empty")));
                }
                self.catalog_mut()
                    .databases
                    .remove(id)
                    .map(drop)
                    .ok_or(Outcome::CatalogMoved)
            }
        }
    }

    fn create_database(&mut self, database: &Database, ids: &mut Ids) -> Result<(), Outcome> {
        ids.take(database.id.0)?;
        free(
            self.catalog.database_by_name(&database.name).is_some(),
            &database.name,
        )?;
        self.catalog_mut()
            .databases
            .insert(database.id, Arc::new(database.clone()));
        Ok(())
    }

    fn create_schema(&mut self, schema: &Schema, ids: &mut Ids) -> Result<(), Outcome> {
        ids.take(schema.id.0)?;
        free(
            self.catalog
                .schema_by_name(schema.database, &schema.name)
                .is_some(),
            &schema.name,
        )?;
        if !self.catalog.databases.contains_key(&schema.database)
            || !self.catalog.roles.contains_key(&schema.owner)
        {
            return Err(Outcome::CatalogMoved);
        }
        self.catalog_mut()
            .schemas
            .insert(schema.id, Arc::new(schema.clone()));
        Ok(())
    }

    fn create_role(&mut self, role: &Role, ids: &mut Ids) -> Result<(), Outcome> {
        ids.take(role.id.0)?;
        free(self.catalog.role_by_name(&role.name).is_some(), &role.name)?;
        self.catalog_mut()
            .roles
            .insert(role.id, Arc::new(role.clone()));
        Ok(())
    }

    fn create_cluster(&mut self, cluster: &Cluster, ids: &mut Ids) -> Result<(), Outcome> {
        ids.take(cluster.id.0)?;
        free(
            self.catalog.cluster_by_name(&cluster.name).is_some(),
            &cluster.name,
        )?;
        cluster
            .replicas
            .iter()
            .try_for_each(|replica| ids.take(replica.0))?;
        self.catalog_mut()
            .clusters
            .insert(cluster.id, Arc::new(cluster.clone()));
        Ok(())
    }

    fn update_cluster(&mut self, cluster: &Cluster) -> Result<(), Outcome> {
        let old = self
            .catalog
            .clusters
            .get(&cluster.id)
            .ok_or(Outcome::CatalogMoved)?;
        if cluster.incarnation < old.incarnation {
            return Err(invalid(format!(
                "the incarnation of {} goes back",
                cluster.id
            )));
        }
        if cluster.name != old.name {
            free(
                self.catalog.cluster_by_name(&cluster.name).is_some(),
                &cluster.name,
            )?;
        }
        let elsewhere = self
            .catalog
            .clusters
            .values()
            .filter(|other| other.id != cluster.id);
        if elsewhere
            .flat_map(|other| &other.replicas)
            .any(|replica| cluster.replicas.contains(replica))
        {
            return Err(Outcome::CatalogMoved);
        }
        let next_replica = cluster
            .replicas
            .iter()
            .map(|replica| replica.0 + 1)
            .max()
            .unwrap_or(0);
        let catalog = self.catalog_mut();
        catalog.next_id = catalog.next_id.max(next_replica);
        catalog
            .clusters
            .insert(cluster.id, Arc::new(cluster.clone()));
        if let Some(hold) = Arc::make_mut(&mut self.holds).get_mut(&cluster.id) {
            hold.incarnation = hold.incarnation.max(cluster.incarnation);
        }
        self.forget_replicas(cluster.id);
        Ok(())
    }

    fn create_item(&mut self, item: &Item, ts: Timestamp, ids: &mut Ids) -> Result<(), Outcome> {
        ids.take(item.id.0)?;
        self.check_references(item)?;
        free(
            self.catalog.item_by_name(item.schema, &item.name).is_some(),
            &item.name,
        )?;
        match &item.kind {
            ItemKind::Table(table) => {
                table.keys.iter().try_for_each(|key| ids.take(key.id.0))?;
                let spaces = KeySpace::of_table(table)
                    .ok_or_else(|| invalid("a key names a column that is not there"))?;
                self.create_shard(item, table.shard, table.columns.len(), spaces, ts, ids)?;
            }
            ItemKind::Source(source) => {
                self.create_shard(item, source.shard, source.columns.len(), vec![], ts, ids)?
            }
            ItemKind::View(_) | ItemKind::MaterializedView(_) | ItemKind::Index(_) => {}
        }
        let item = self.start_plan(item.clone(), ts)?;
        let catalog = self.catalog_mut();
        catalog
            .names
            .insert((item.schema, item.name.clone()), item.id);
        catalog.items.insert(item.id, Arc::new(item));
        Ok(())
    }

    /// What an item refers to must be there: it may have gone since planning.
    fn check_references(&self, item: &Item) -> Result<(), Outcome> {
        let catalog = &self.catalog;
        let there = catalog.schemas.contains_key(&item.schema)
            && catalog.roles.contains_key(&item.owner)
            && item
                .depends_on
                .iter()
                .all(|id| id.is_system() || catalog.items.contains_key(id))
            && runs_on(item).is_none_or(|cluster| catalog.clusters.contains_key(&cluster))
            && item.plan().is_none_or(|plan| {
                plan.shards
                    .iter()
                    .all(|shard| self.shards.contains_key(shard))
            });
        if there {
            Ok(())
        } else {
            Err(Outcome::CatalogMoved)
        }
    }

    fn create_shard(
        &mut self,
        item: &Item,
        id: ShardId,
        arity: usize,
        spaces: Vec<KeySpace>,
        ts: Timestamp,
        ids: &mut Ids,
    ) -> Result<(), Outcome> {
        if id.0 != item.id.0 {
            ids.take(id.0)?;
        }
        if self.shards.contains_key(&id) {
            return Err(Outcome::CatalogMoved);
        }
        self.shards
            .insert(id, Arc::new(Shard::new(id, arity, spaces.into(), ts)));
        Ok(())
    }

    /// Takes the inputs of the item's dataflow and fixes where it starts, in the same step.
    fn start_plan(&mut self, mut item: Item, ts: Timestamp) -> Result<Item, Outcome> {
        let Some(plan) = plan_mut(&mut item) else {
            return Ok(item);
        };
        let incarnation = self
            .cluster_incarnation(plan.cluster)
            .ok_or(Outcome::CatalogMoved)?;
        plan.as_of = ts;
        if !planted::is("h8") {
            self.take_holds(plan, incarnation, ts);
        }
        Ok(item)
    }

    fn update_item(&mut self, item: &Item, ts: Timestamp) -> Result<(), Outcome> {
        let old = self
            .catalog
            .item(item.id)
            .cloned()
            .ok_or(Outcome::CatalogMoved)?;
        self.check_references(item)?;
        if !same_storage(&old, item) {
            return Err(invalid(format!(
                "the stored columns or keys of {} cannot change",
                item.id
            )));
        }
        if (item.schema, &item.name) != (old.schema, &old.name) {
            free(
                self.catalog.item_by_name(item.schema, &item.name).is_some(),
                &item.name,
            )?;
        }
        let mut item = match (old.plan(), item.plan()) {
            (Some(before), Some(after))
                if before.hash == after.hash && before.cluster == after.cluster =>
            {
                keep_as_of(item, before.as_of)
            }
            (_, _) => self.start_plan(item.clone(), ts)?,
        };
        item.version = old.version + 1;
        let catalog = self.catalog_mut();
        catalog.names.remove(&(old.schema, old.name.clone()));
        catalog
            .names
            .insert((item.schema, item.name.clone()), item.id);
        catalog.items.insert(item.id, Arc::new(item));
        self.release_holds_of(&[old]);
        Ok(())
    }

    fn drop_items(&mut self, list: &[GlobalId]) -> Result<(), Outcome> {
        let mut dropped = vec![];
        for id in list {
            let catalog = self.catalog_mut();
            let item = catalog.items.remove(id).ok_or(Outcome::CatalogMoved)?;
            catalog.names.remove(&(item.schema, item.name.clone()));
            dropped.push(item);
        }
        let needs = |item: &Arc<Item>| list.iter().any(|id| item.depends_on.contains(id));
        if self.catalog.items.values().any(needs) {
            return Err(Outcome::CatalogMoved);
        }
        for shard in dropped.iter().filter_map(|item| item.shard()) {
            if let Some(gone) = self.shards.remove(&shard) {
                self.stored_bytes -= gone.bytes + gone.rows * ROW_OVERHEAD_BYTES;
            }
        }
        self.release_holds_of(&dropped);
        Ok(())
    }

    fn rename_item(&mut self, id: GlobalId, name: &str) -> Result<(), Outcome> {
        let old = self
            .catalog
            .item(id)
            .cloned()
            .ok_or(Outcome::CatalogMoved)?;
        free(self.catalog.item_by_name(old.schema, name).is_some(), name)?;
        let mut item = Item::clone(&old);
        item.name = name.to_owned();
        item.version += 1;
        let catalog = self.catalog_mut();
        catalog.names.remove(&(old.schema, old.name.clone()));
        catalog.names.insert((item.schema, item.name.clone()), id);
        catalog.items.insert(id, Arc::new(item));
        Ok(())
    }
}

/// The cluster that does an item's work.
fn runs_on(item: &Item) -> Option<ClusterId> {
    match &item.kind {
        ItemKind::MaterializedView(view) => Some(view.plan.cluster),
        ItemKind::Index(index) => Some(index.plan.cluster),
        ItemKind::Source(source) => Some(source.cluster),
        ItemKind::Table(_) | ItemKind::View(_) => None,
    }
}

fn plan_mut(item: &mut Item) -> Option<&mut Plan> {
    match &mut item.kind {
        ItemKind::MaterializedView(view) => Some(&mut view.plan),
        ItemKind::Index(index) => Some(&mut index.plan),
        ItemKind::Table(_) | ItemKind::View(_) | ItemKind::Source(_) => None,
    }
}

fn keep_as_of(item: &Item, as_of: Timestamp) -> Item {
    let mut item = item.clone();
    if let Some(plan) = plan_mut(&mut item) {
        plan.as_of = as_of;
    }
    item
}

/// Whether both keep the same rows by the same keys.
fn same_storage(old: &Item, new: &Item) -> bool {
    match (&old.kind, &new.kind) {
        (ItemKind::Table(old), ItemKind::Table(new)) => {
            let types = |t: &crate::catalog::Table| {
                t.columns.iter().map(|c| c.ty.clone()).collect::<Vec<_>>()
            };
            old.shard == new.shard
                && types(old) == types(new)
                && KeySpace::of_table(old) == KeySpace::of_table(new)
        }
        (ItemKind::Source(old), ItemKind::Source(new)) => {
            old.shard == new.shard && old.columns == new.columns
        }
        (_, _) => old.shard().is_none() && new.shard().is_none(),
    }
}
