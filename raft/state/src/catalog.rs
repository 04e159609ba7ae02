//! The catalog: databases, schemas, roles, clusters and items, at one version.
//!
//! Built-in objects (pg_catalog, information_schema, the system relations) are code of the planner, not entries here.
//! The version of the catalog is the log index of the entry that changed it last.

pub mod item;

pub use item::{
    Column, ColumnDefault, Index, IndexKey, Item, ItemKind, KeyConstraint, KeyConstraintKind,
    LoadGenerator, MaterializedView, Plan, Source, Table, View,
};

use repr::{ClusterId, DatabaseId, GlobalId, ReplicaId, RoleId, SchemaId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All named objects. Cloning is cheap: entries are shared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// Log index of the last entry that changed the catalog.
    pub version: u64,
    pub databases: BTreeMap<DatabaseId, Arc<Database>>,
    pub schemas: BTreeMap<SchemaId, Arc<Schema>>,
    pub roles: BTreeMap<RoleId, Arc<Role>>,
    pub clusters: BTreeMap<ClusterId, Arc<Cluster>>,
    pub items: BTreeMap<GlobalId, Arc<Item>>,
    /// (schema, name) -> item; relations, indexes and types of one schema share one name space as in PostgreSQL.
    pub names: BTreeMap<(SchemaId, String), GlobalId>,
    /// The next object id (= OID) to hand out; user objects start at 16384.
    pub next_id: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Database {
    pub id: DatabaseId,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    pub id: SchemaId,
    pub database: DatabaseId,
    pub name: String,
    pub owner: RoleId,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Role {
    pub id: RoleId,
    pub name: String,
    pub superuser: bool,
}

/// A pool of compute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    pub id: ClusterId,
    pub name: String,
    /// Bumped when the CLUSTER's Raft group is created anew; orders of an older incarnation are refused.
    pub incarnation: u64,
    /// Timely workers per replica.
    pub workers: u32,
    /// Limit of arrangement bytes per replica.
    pub memory_limit_bytes: Option<u64>,
    pub replicas: Vec<ReplicaId>,
}

/// First id of user objects; smaller ones belong to built-in objects, whose ids are fixed in code.
pub const FIRST_USER_ID: u64 = 16384;

impl Catalog {
    pub fn item(&self, id: GlobalId) -> Option<&Arc<Item>> {
        self.items.get(&id)
    }

    pub fn item_by_name(&self, schema: SchemaId, name: &str) -> Option<&Arc<Item>> {
        self.names
            .get(&(schema, name.to_owned()))
            .and_then(|id| self.items.get(id))
    }

    pub fn database_by_name(&self, name: &str) -> Option<&Arc<Database>> {
        self.databases.values().find(|d| d.name == name)
    }

    pub fn schema_by_name(&self, database: DatabaseId, name: &str) -> Option<&Arc<Schema>> {
        self.schemas
            .values()
            .find(|s| s.database == database && s.name == name)
    }

    pub fn cluster_by_name(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.values().find(|c| c.name == name)
    }

    pub fn role_by_name(&self, name: &str) -> Option<&Arc<Role>> {
        self.roles.values().find(|r| r.name == name)
    }

    /// The indexes on an item, in id order.
    pub fn indexes_on(&self, id: GlobalId) -> impl Iterator<Item = (&Arc<Item>, &Index)> {
        self.items
            .values()
            .filter_map(move |item| match &item.kind {
                ItemKind::Index(index) if index.on == id => Some((item, index)),
                ItemKind::Index(_)
                | ItemKind::Table(_)
                | ItemKind::View(_)
                | ItemKind::MaterializedView(_)
                | ItemKind::Source(_) => None,
            })
    }

    /// The items that directly depend on `id`, in id order.
    pub fn dependents_of(&self, id: GlobalId) -> impl Iterator<Item = &Arc<Item>> {
        self.items
            .values()
            .filter(move |item| item.depends_on.contains(&id))
    }
}
