//! Bytes that lie in logs and snapshots: what was written once is read for ever. A changed hash means a changed encoding: append to enums,
//! or raise the version and keep reading the old one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use repr::{
    ClusterId, DatabaseId, GlobalId, NodeId, ReplicaId, RoleId, Row, SchemaId, ShardId, SqlType,
};
use xxhash_rust::xxh3::xxh3_64;

use super::build::{admit, batch, index, init, row, table, token, txn, write};
use crate::catalog::{
    Cluster, Column, ColumnDefault, Database, Item, ItemKind, LoadGenerator, MaterializedView,
    Plan, Role, Schema, Source, View,
};
use crate::command::{CatalogOp, Check, Command, NodeOp, Outcome, Write};
use crate::node::{Authority, NodeStatus, Placement};
use crate::state::{DEFAULT_CLUSTER, DEFAULT_REPLICA, State};

fn every_kind_of_item() -> Vec<Arc<Item>> {
    let columns = vec![Column {
        name: "a".into(),
        ty: SqlType::Text,
        nullable: false,
    }];
    let plan = Plan {
        cluster: ClusterId(1),
        bytes: vec![1, 2],
        hash: 3,
        shards: BTreeSet::from([ShardId(4)]),
        as_of: 5,
    };
    let view = View {
        columns: columns.clone(),
        query_sql: "SELECT 1".into(),
    };
    let materialized = MaterializedView {
        columns: columns.clone(),
        query_sql: "SELECT 1".into(),
        plan,
        arranged_by: vec![0],
        unique_keys: vec![vec![0]],
    };
    let generator = LoadGenerator::Counter {
        tick_interval_us: 7,
        max_cardinality: Some(8),
    };
    let source = Source {
        shard: ShardId(9),
        columns,
        cluster: ClusterId(1),
        generator,
    };
    let mut with_default = Item::clone(&table(16384, "t", &[&[0], &[1, 0]]));
    if let ItemKind::Table(table) = &mut with_default.kind {
        table.defaults = vec![ColumnDefault {
            column: 1,
            sql: "0".into(),
        }];
    }
    let of_kind = |kind| {
        Arc::new(Item {
            kind,
            ..with_default.clone()
        })
    };
    vec![
        Arc::new(with_default.clone()),
        index(16390, "i", 16384, ClusterId(1)),
        of_kind(ItemKind::View(view)),
        of_kind(ItemKind::MaterializedView(materialized)),
        of_kind(ItemKind::Source(source)),
    ]
}

fn every_operation() -> Vec<CatalogOp> {
    let cluster = Cluster {
        id: ClusterId(1),
        name: "c".into(),
        incarnation: 2,
        workers: 3,
        memory_limit_bytes: Some(4),
        replicas: vec![ReplicaId(5)],
    };
    let schema = Schema {
        id: SchemaId(1),
        database: DatabaseId(2),
        name: "s".into(),
        owner: RoleId(3),
    };
    let mut ops = vec![
        CatalogOp::CreateDatabase(Database {
            id: DatabaseId(1),
            name: "d".into(),
        }),
        CatalogOp::CreateSchema(schema),
        CatalogOp::CreateRole(Role {
            id: RoleId(1),
            name: "r".into(),
            superuser: true,
        }),
        CatalogOp::CreateCluster(cluster.clone()),
        CatalogOp::DropItems(vec![GlobalId(16384)]),
        CatalogOp::DropSchema(SchemaId(1)),
        CatalogOp::RenameItem {
            id: GlobalId(16384),
            name: "n".into(),
        },
        CatalogOp::UpdateCluster(cluster),
        CatalogOp::DropCluster(ClusterId(1)),
        CatalogOp::DropRole(RoleId(1)),
        CatalogOp::DropDatabase(DatabaseId(1)),
    ];
    for item in every_kind_of_item() {
        ops.push(CatalogOp::CreateItem(item.clone()));
        ops.push(CatalogOp::UpdateItem(item));
    }
    ops
}

#[test]
fn catalog_operations_keep_their_bytes() {
    let mut all = txn(token(1, 2, 3));
    all.catalog_ops = every_operation();
    all.checks = vec![
        Check::ShardUnchanged {
            shard: ShardId(1),
            since: 2,
        },
        Check::CatalogUnchanged { version: 3 },
    ];
    all.writes = vec![Write {
        truncate: true,
        ..write(ShardId(1), vec![(row(1, None), -1)])
    }];
    let command = batch(9, vec![all]);
    let bytes = command.encode();
    assert_eq!(Command::decode(&bytes).unwrap(), command);
    assert_eq!((bytes.len(), xxh3_64(&bytes)), (529, 3490688832893976276));
}

#[test]
fn commands_about_nodes_keep_their_bytes() {
    let hash = [7; 32];
    let placement = Placement {
        incarnation: 2,
        replicas: BTreeMap::from([(ReplicaId(3), NodeId(4))]),
        voters: BTreeSet::from([NodeId(4), NodeId(5)]),
    };
    let authority = Authority {
        certificate: vec![1, 2],
        key_pem: "k".into(),
    };
    let started = NodeOp::Started {
        node: NodeId(2),
        incarnation: 3,
        mesh_addr: "m".into(),
        sql_addr: "s".into(),
        http_addr: "h".into(),
        version: "v".into(),
    };
    let status = |status| {
        Command::Node(NodeOp::SetStatus {
            node: NodeId(2),
            status,
        })
    };
    let expires_us = 9;
    let commands = [
        (Command::Authority(authority), "0109020102016b"),
        (
            admit(NodeId(2), "a", None, 5),
            "010a0002016106613a323130300005",
        ),
        (
            admit(NodeId(2), "a", Some(7), 5),
            &format!("010a0002016106613a3231303001{}05", "07".repeat(32)),
        ),
        (Command::Node(started), "010a010203016d017301680176"),
        (status(NodeStatus::Active), "010a020200"),
        (status(NodeStatus::Draining), "010a020201"),
        (status(NodeStatus::Removed), "010a020202"),
        (
            Command::Node(NodeOp::Token { hash, expires_us }),
            &format!("010a03{}09", "07".repeat(32)),
        ),
        (
            Command::Place {
                cluster: ClusterId(1),
                placement,
            },
            "010b0102010304020405",
        ),
    ];
    for (command, golden) in commands {
        let bytes = command.encode();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden, "{command:?}");
        assert_eq!(Command::decode(&bytes).unwrap(), command);
    }
}

#[test]
fn snapshots_of_nodes_keep_their_bytes() {
    let mut state = State::new();
    let authority = Authority {
        certificate: vec![1, 2],
        key_pem: "k".into(),
    };
    let placement = Placement {
        incarnation: 1,
        replicas: BTreeMap::from([(DEFAULT_REPLICA, NodeId(1))]),
        voters: BTreeSet::from([NodeId(1)]),
    };
    let mut keep = txn(token(1, 1, 1));
    keep.catalog_ops = vec![CatalogOp::KeepReplicas(DEFAULT_CLUSTER)];
    let commands = [
        init(),
        Command::Authority(authority),
        admit(NodeId(1), "a", None, 5),
        Command::Node(NodeOp::Token {
            hash: [7; 32],
            expires_us: 2000,
        }),
        admit(NodeId(2), "b", Some(7), 5),
        Command::Place {
            cluster: DEFAULT_CLUSTER,
            placement,
        },
        batch(2000, vec![keep]),
    ];
    for (command, index) in commands.iter().zip(1..) {
        let applied = state.apply(index, command);
        assert_eq!(applied.changes.nodes_changed, index > 1, "{command:?}");
    }
    let mut bytes = vec![];
    state.write_snapshot(&mut bytes).unwrap();
    assert_eq!(state.hash(), 9695610578239366475);
    assert_eq!((bytes.len(), xxh3_64(&bytes)), (228, 10953499525919438637));
    let restored = State::read_snapshot(&mut &bytes[..]).unwrap();
    assert_eq!(restored.hash(), state.hash());
    assert_eq!(restored.nodes(), state.nodes());
    assert_eq!(restored.tokens(), state.tokens());
    assert_eq!(restored.placements(), state.placements());
    let founders = |state: &State| state.founders(DEFAULT_CLUSTER).cloned();
    assert_eq!(founders(&restored), Some(BTreeSet::from([NodeId(1)])));
    assert_eq!(restored.authority(), state.authority());
    assert!(restored.is_sized_by_user(DEFAULT_CLUSTER));
}

#[test]
fn outcomes_keep_their_bytes() {
    let outcomes = vec![
        Outcome::Committed { ts: 1 },
        Outcome::Conflict {
            shard: Some(ShardId(2)),
        },
        Outcome::UniqueViolation {
            shard: ShardId(3),
            space: 1,
            key: Row::empty(),
        },
        Outcome::CatalogMoved,
        Outcome::NameTaken { name: "n".into() },
        Outcome::TokenExpired,
        Outcome::Invalid { reason: "r".into() },
        Outcome::TooLarge { limit_bytes: 4 },
        Outcome::NoSpace,
    ];
    let bytes = repr::codec::encode(1, &outcomes);
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, "01090001010102020301000304016e05060172070408");
    assert_eq!(
        repr::codec::decode::<Vec<Outcome>>(1..=1, 100, &bytes).unwrap(),
        outcomes
    );
}

#[test]
fn snapshots_and_hashes_keep_their_bytes() {
    let mut state = State::new();
    state.apply(1, &init());
    let mut create = txn(token(1, 1, 1));
    create.catalog_ops = vec![
        CatalogOp::CreateItem(table(16384, "t", &[&[0]])),
        CatalogOp::CreateItem(index(16390, "i", 16384, ClusterId(1))),
    ];
    create.writes = vec![write(
        ShardId(16384),
        (0..9).map(|a| (row(a, Some(-a)), 1)).collect(),
    )];
    state.apply(2, &batch(2000, vec![create]));
    let stage = Command::Stage {
        token: token(2, 1, 2),
        number: 0,
        writes: vec![write(ShardId(16384), vec![(row(7, None), 1)])],
    };
    state.apply(3, &stage);
    let mut bytes = vec![];
    state.write_snapshot(&mut bytes).unwrap();
    // Nodes of different versions compare hashes, so these may not change either.
    assert_eq!(state.hash(), 4303849874348381429);
    assert_eq!((bytes.len(), xxh3_64(&bytes)), (389, 4536710494612729076));
    assert_eq!(
        State::read_snapshot(&mut &bytes[..]).unwrap().hash(),
        state.hash()
    );
}
