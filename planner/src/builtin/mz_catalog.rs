//! mz_catalog: what PostgreSQL has no words for.

use super::BuiltinCtx;
use super::object::{Kind, oid};
use super::table::Table;
use repr::{ClusterId, Datum};
use state::Node;
use state::catalog::{Item, ItemKind};

pub(super) fn fill(name: &str, ctx: &BuiltinCtx<'_>, table: &mut Table) {
    match name {
        "mz_clusters" => clusters(ctx, table),
        "mz_cluster_replicas" => cluster_replicas(ctx, table),
        "mz_objects" => objects(ctx, table),
        "mz_materialized_views" => materialized_views(ctx, table),
        "mz_indexes" => indexes(ctx, table),
        "mz_sources" => sources(ctx, table),
        "mz_nodes" => nodes(ctx, table),
        _ => {}
    }
}

/// An id or a number of bytes; both stay far below 2^63.
pub(super) fn number(n: u64) -> Datum<'static> {
    Datum::Int64(i64::try_from(n).unwrap_or(i64::MAX))
}

fn clusters(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for cluster in ctx.catalog.clusters.values() {
        table.add(&[
            ("id", number(cluster.id.0)),
            ("name", Datum::String(&cluster.name)),
            (
                "workers",
                Datum::Int32(i32::try_from(cluster.workers).unwrap_or(i32::MAX)),
            ),
            (
                "memory_limit_bytes",
                cluster.memory_limit_bytes.map_or(Datum::Null, number),
            ),
        ]);
    }
}

fn cluster_replicas(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for cluster in ctx.catalog.clusters.values() {
        let placement = ctx.state.and_then(|s| s.placements().get(&cluster.id));
        for (replica, position) in cluster.replicas.iter().zip(1..) {
            let name = format!("r{position}");
            let node = placement.and_then(|placement| placement.replicas.get(replica));
            table.add(&[
                ("id", number(replica.0)),
                ("cluster_id", number(cluster.id.0)),
                ("name", Datum::String(&name)),
                ("node_id", node.map_or(Datum::Null, |node| number(node.0))),
            ]);
        }
    }
}

fn nodes(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for node in ctx.state.iter().flat_map(|state| state.nodes().values()) {
        let Node {
            id,
            mesh_addr,
            sql_addr,
            http_addr,
            public_key: _,
            status,
            incarnation,
            version,
        } = &**node;
        table.add(&[
            ("id", number(id.0)),
            ("mesh_addr", Datum::String(mesh_addr)),
            ("sql_addr", Datum::String(sql_addr)),
            ("http_addr", Datum::String(http_addr)),
            ("status", Datum::String(status.name())),
            ("incarnation", number(*incarnation)),
            ("version", Datum::String(version)),
        ]);
    }
}

fn cluster_of(item: &Item) -> Option<ClusterId> {
    match &item.kind {
        ItemKind::MaterializedView(view) => Some(view.plan.cluster),
        ItemKind::Index(index) => Some(index.plan.cluster),
        ItemKind::Source(source) => Some(source.cluster),
        ItemKind::Table(_) | ItemKind::View(_) => None,
    }
}

fn kind_of(kind: &Kind<'_>) -> &'static str {
    match kind {
        Kind::Builtin(relation) if relation.kind == 'v' => "view",
        Kind::Builtin(_) => "table",
        Kind::Key(..) => "index",
        Kind::Item(item) => match item.kind {
            ItemKind::Table(_) => "table",
            ItemKind::View(_) => "view",
            ItemKind::MaterializedView(_) => "materialized-view",
            ItemKind::Index(_) => "index",
            ItemKind::Source(_) => "source",
        },
    }
}

fn objects(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for object in ctx.objects() {
        let cluster = match object.kind {
            Kind::Item(item) => cluster_of(item),
            Kind::Builtin(_) | Kind::Key(..) => None,
        };
        let id = repr::GlobalId(u64::from(object.oid)).to_string();
        table.add(&[
            ("id", Datum::String(&id)),
            ("oid", Datum::Oid(object.oid)),
            ("schema_id", Datum::Oid(object.schema)),
            ("name", Datum::String(object.name)),
            ("type", Datum::String(kind_of(&object.kind))),
            ("owner_id", Datum::Oid(object.owner)),
            ("cluster_id", cluster.map_or(Datum::Null, |c| number(c.0))),
        ]);
    }
}

fn materialized_views(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for (schema, item) in ctx.items() {
        let ItemKind::MaterializedView(view) = &item.kind else {
            continue;
        };
        table.add(&[
            ("id", Datum::String(&item.id.to_string())),
            ("oid", Datum::Oid(oid(item.id.0))),
            ("schema_id", Datum::Oid(oid(schema.id.0))),
            ("name", Datum::String(&item.name)),
            ("cluster_id", number(view.plan.cluster.0)),
            ("definition", Datum::String(&view.query_sql)),
            ("owner_id", Datum::Oid(oid(item.owner.0))),
            ("create_sql", Datum::String(&item.create_sql)),
        ]);
    }
}

fn indexes(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for (_, item) in ctx.items() {
        let ItemKind::Index(index) = &item.kind else {
            continue;
        };
        table.add(&[
            ("id", Datum::String(&item.id.to_string())),
            ("oid", Datum::Oid(oid(item.id.0))),
            ("name", Datum::String(&item.name)),
            ("on_id", Datum::String(&index.on.to_string())),
            ("cluster_id", number(index.plan.cluster.0)),
            ("owner_id", Datum::Oid(oid(item.owner.0))),
            ("create_sql", Datum::String(&item.create_sql)),
        ]);
    }
}

fn sources(ctx: &BuiltinCtx<'_>, table: &mut Table) {
    for (schema, item) in ctx.items() {
        let ItemKind::Source(source) = &item.kind else {
            continue;
        };
        table.add(&[
            ("id", Datum::String(&item.id.to_string())),
            ("oid", Datum::Oid(oid(item.id.0))),
            ("schema_id", Datum::Oid(oid(schema.id.0))),
            ("name", Datum::String(&item.name)),
            ("type", Datum::String("load-generator")),
            ("cluster_id", number(source.cluster.0)),
            ("owner_id", Datum::Oid(oid(item.owner.0))),
            ("create_sql", Datum::String(&item.create_sql)),
        ]);
    }
}
