//! What the optimizer asks about the objects that a plan reads.

use crate::PlanError;
use plan::{Mir, ScalarExpr};
use repr::{ClusterId, ColumnType, GlobalId, ShardId};
use state::Catalog;
use state::catalog::{Column, ItemKind};
use std::collections::BTreeSet;
use std::sync::Arc;

/// An arrangement that a CLUSTER keeps: an index, or a materialized view's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrangement {
    /// The index or the materialized view: what a peek names.
    pub export: GlobalId,
    /// Over the columns of the arranged relation.
    pub key: Vec<ScalarExpr>,
    pub cluster: ClusterId,
}

/// A durable collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRelation {
    pub shard: ShardId,
    pub types: Vec<ColumnType>,
    /// The PRIMARY KEY and UNIQUE constraints; the position is the key space of the shard.
    pub keys: Vec<Vec<usize>>,
}

/// The optimizer's view of one version of the catalog. Equal answers give equal plans.
pub trait OptimizerCatalog {
    /// The query that defines a view or a materialized view, over other catalog objects; `None` for anything else.
    fn definition(&self, id: GlobalId) -> Option<Result<Arc<Mir>, PlanError>>;

    /// The CLUSTER that maintains this materialized view; `None` for anything else.
    fn maintained_by(&self, id: GlobalId) -> Option<ClusterId>;

    /// The indexes on a relation, and a materialized view's own arrangement (`arranged_by`), in id order.
    fn arrangements(&self, id: GlobalId) -> Vec<Arrangement>;

    /// The shard of a table or a source; `None` for anything else.
    fn stored(&self, id: GlobalId) -> Option<StoredRelation>;

    /// The base shards that the relation is computed from, transitively.
    fn shards(&self, id: GlobalId) -> BTreeSet<ShardId>;

    /// Whether this is a relation of the system, which only the interpreter can read.
    fn is_builtin(&self, id: GlobalId) -> bool;

    /// The object's name, for EXPLAIN.
    fn name(&self, id: GlobalId) -> String;
}

/// Gives meaning to the SQL that the catalog keeps: planning of names and expressions is not the optimizer's.
pub trait Definitions {
    /// The planned query of a view or a materialized view.
    fn query(&self, catalog: &Catalog, id: GlobalId, sql: &str) -> Result<Arc<Mir>, PlanError>;

    /// A key expression of an index over the columns of `on`.
    fn index_key(
        &self,
        catalog: &Catalog,
        on: GlobalId,
        sql: &str,
    ) -> Result<ScalarExpr, PlanError>;
}

/// [`OptimizerCatalog`] over the replicated catalog.
pub struct CatalogOracle<'a> {
    pub catalog: &'a Catalog,
    pub definitions: &'a dyn Definitions,
    /// Arrangements that do not count, such as indexes about to be dropped.
    pub hidden: BTreeSet<GlobalId>,
}

impl<'a> CatalogOracle<'a> {
    pub fn new(catalog: &'a Catalog, definitions: &'a dyn Definitions) -> Self {
        CatalogOracle {
            catalog,
            definitions,
            hidden: BTreeSet::new(),
        }
    }

    fn kind(&self, id: GlobalId) -> Option<&'a ItemKind> {
        self.catalog.item(id).map(|item| &item.kind)
    }
}

fn column_types(columns: &[Column]) -> Vec<ColumnType> {
    columns
        .iter()
        .map(|c| ColumnType::new(c.ty.clone(), c.nullable))
        .collect()
}

impl OptimizerCatalog for CatalogOracle<'_> {
    fn definition(&self, id: GlobalId) -> Option<Result<Arc<Mir>, PlanError>> {
        let sql = match self.kind(id)? {
            ItemKind::View(view) => &view.query_sql,
            ItemKind::MaterializedView(view) => &view.query_sql,
            ItemKind::Table(_) | ItemKind::Source(_) | ItemKind::Index(_) => return None,
        };
        Some(self.definitions.query(self.catalog, id, sql))
    }

    fn maintained_by(&self, id: GlobalId) -> Option<ClusterId> {
        match self.kind(id)? {
            ItemKind::MaterializedView(view) => Some(view.plan.cluster),
            ItemKind::View(_) | ItemKind::Table(_) | ItemKind::Source(_) | ItemKind::Index(_) => {
                None
            }
        }
    }

    fn arrangements(&self, id: GlobalId) -> Vec<Arrangement> {
        let mut found = vec![];
        if let Some(ItemKind::MaterializedView(view)) = self.kind(id)
            && !self.hidden.contains(&id)
        {
            let key = view
                .arranged_by
                .iter()
                .map(|c| ScalarExpr::Column(*c))
                .collect();
            found.push(Arrangement {
                export: id,
                key,
                cluster: view.plan.cluster,
            });
        }
        for (item, index) in self.catalog.indexes_on(id) {
            let key: Result<Vec<_>, PlanError> = index
                .keys
                .iter()
                .map(|key| match key.column {
                    Some(column) => Ok(ScalarExpr::Column(column)),
                    None => self.definitions.index_key(self.catalog, id, &key.sql),
                })
                .collect();
            // An index whose key cannot be planned any more is of no use to a query; it must not make the query fail.
            if let Ok(key) = key
                && !self.hidden.contains(&item.id)
            {
                found.push(Arrangement {
                    export: item.id,
                    key,
                    cluster: index.plan.cluster,
                });
            }
        }
        found
    }

    fn stored(&self, id: GlobalId) -> Option<StoredRelation> {
        match self.kind(id)? {
            ItemKind::Table(table) => Some(StoredRelation {
                shard: table.shard,
                types: column_types(&table.columns),
                keys: table.keys.iter().map(|k| k.columns.clone()).collect(),
            }),
            ItemKind::Source(source) => Some(StoredRelation {
                shard: source.shard,
                types: column_types(&source.columns),
                keys: vec![],
            }),
            ItemKind::View(_) | ItemKind::MaterializedView(_) | ItemKind::Index(_) => None,
        }
    }

    fn shards(&self, id: GlobalId) -> BTreeSet<ShardId> {
        let Some(item) = self.catalog.item(id) else {
            return BTreeSet::new();
        };
        match &item.kind {
            ItemKind::Table(table) => BTreeSet::from([table.shard]),
            ItemKind::Source(source) => BTreeSet::from([source.shard]),
            ItemKind::MaterializedView(view) => view.plan.shards.clone(),
            ItemKind::Index(index) => index.plan.shards.clone(),
            ItemKind::View(_) => item
                .depends_on
                .iter()
                .flat_map(|id| self.shards(*id))
                .collect(),
        }
    }

    fn is_builtin(&self, id: GlobalId) -> bool {
        id.is_system()
    }

    fn name(&self, id: GlobalId) -> String {
        self.catalog
            .item(id)
            .map_or_else(|| id.to_string(), |item| item.name.clone())
    }
}

/// The catalog as an older object may see it: a maintained object reads no arrangement that was created after it, so that planning one
/// anew never makes two dataflows wait for each other.
pub(crate) struct CreatedBefore<'a> {
    pub catalog: &'a dyn OptimizerCatalog,
    pub id: GlobalId,
}

impl OptimizerCatalog for CreatedBefore<'_> {
    fn definition(&self, id: GlobalId) -> Option<Result<Arc<Mir>, PlanError>> {
        self.catalog.definition(id)
    }

    fn maintained_by(&self, id: GlobalId) -> Option<ClusterId> {
        self.catalog.maintained_by(id)
    }

    fn arrangements(&self, id: GlobalId) -> Vec<Arrangement> {
        let mut found = self.catalog.arrangements(id);
        found.retain(|a| a.export < self.id);
        found
    }

    fn stored(&self, id: GlobalId) -> Option<StoredRelation> {
        self.catalog.stored(id)
    }

    fn shards(&self, id: GlobalId) -> BTreeSet<ShardId> {
        self.catalog.shards(id)
    }

    fn is_builtin(&self, id: GlobalId) -> bool {
        self.catalog.is_builtin(id)
    }

    fn name(&self, id: GlobalId) -> String {
        self.catalog.name(id)
    }
}
