//! What a new environment holds.

use std::sync::Arc;

use repr::{ClusterId, DatabaseId, ReplicaId, RoleId, SchemaId};

use super::State;
use crate::catalog::{Catalog, Cluster, Database, FIRST_USER_ID, Role, Schema};

/// Database `clusterd`.
pub const DEFAULT_DATABASE: DatabaseId = DatabaseId(1);
/// Schema `public` of it; the number is PostgreSQL's.
pub const DEFAULT_SCHEMA: SchemaId = SchemaId(2200);
/// The first superuser, owner of the defaults; the number is PostgreSQL's. Others get user ids.
pub const DEFAULT_ROLE: RoleId = RoleId(10);
/// CLUSTER `quickstart`.
pub const DEFAULT_CLUSTER: ClusterId = ClusterId(1);
/// Its replica.
pub const DEFAULT_REPLICA: ReplicaId = ReplicaId(1);

impl State {
    pub(super) fn init(
        &mut self,
        environment: u128,
        generation: u64,
        superusers: &[String],
        index: u64,
    ) {
        self.environment = environment;
        self.generation = generation;
        self.catalog = Arc::new(catalog(superusers, index));
    }
}

fn catalog(superusers: &[String], index: u64) -> Catalog {
    let mut catalog = Catalog {
        version: index,
        next_id: FIRST_USER_ID,
        ..Catalog::default()
    };
    for name in superusers {
        if catalog.role_by_name(name).is_none() {
            let id = if catalog.roles.is_empty() {
                DEFAULT_ROLE
            } else {
                RoleId(take_id(&mut catalog))
            };
            catalog.roles.insert(
                id,
                Arc::new(Role {
                    id,
                    name: name.clone(),
                    superuser: true,
                }),
            );
        }
    }
    catalog.databases.insert(
        DEFAULT_DATABASE,
        Arc::new(Database {
            id: DEFAULT_DATABASE,
            name: "clusterd".into(),
        }),
    );
    let schema = Schema {
        id: DEFAULT_SCHEMA,
        database: DEFAULT_DATABASE,
        name: "public".into(),
        owner: DEFAULT_ROLE,
    };
    catalog.schemas.insert(DEFAULT_SCHEMA, Arc::new(schema));
    let cluster = Cluster {
        id: DEFAULT_CLUSTER,
        name: "quickstart".into(),
        incarnation: 1,
        workers: 1,
        memory_limit_bytes: None,
        replicas: vec![DEFAULT_REPLICA],
    };
    catalog.clusters.insert(DEFAULT_CLUSTER, Arc::new(cluster));
    catalog
}

fn take_id(catalog: &mut Catalog) -> u64 {
    catalog.next_id += 1;
    catalog.next_id - 1
}
