//! Commands and catalog entries, made short.

use std::collections::BTreeSet;
use std::sync::Arc;

use repr::{ClusterId, Datum, Diff, GlobalId, NodeId, ReplicaId, Row, ShardId, SqlType};

use crate::catalog::{
    Cluster, Column, Index, Item, ItemKind, KeyConstraint, KeyConstraintKind, Plan, Table,
};
use crate::command::{
    Batch, CatalogOp, Check, Command, Gateway, NodeOp, Session, Token, Txn, Write,
};
use crate::state::{DEFAULT_CLUSTER, DEFAULT_ROLE, DEFAULT_SCHEMA, State};

pub fn gateway(node: u64, incarnation: u64) -> Gateway {
    Gateway {
        node: NodeId(node),
        incarnation,
    }
}

pub fn session(number: u64) -> Session {
    Session {
        gateway: gateway(1, 1),
        number,
    }
}

pub fn token(number: u64, seq: u64, base: u64) -> Token {
    Token {
        session: session(number),
        seq,
        base,
    }
}

pub fn txn(token: Token) -> Txn {
    Txn {
        token,
        schema: vec![],
        catalog_ops: vec![],
        checks: vec![],
        writes: vec![],
        staged: 0,
    }
}

pub fn batch(wall_us: u64, txns: Vec<Txn>) -> Command {
    Command::Batch(Batch { wall_us, txns })
}

pub fn row(a: i32, b: Option<i32>) -> Row {
    Row::pack_slice(&[Datum::Int32(a), b.map_or(Datum::Null, Datum::Int32)])
}

pub fn key(a: i32) -> Row {
    Row::pack_slice(&[Datum::Int32(a)])
}

pub fn write(shard: ShardId, updates: Vec<(Row, Diff)>) -> Write {
    Write {
        shard,
        updates,
        truncate: false,
    }
}

/// Table (a int4, b int4); key `i` is on the columns `keys[i]`.
pub fn table(id: u64, name: &str, keys: &[&[usize]]) -> Arc<Item> {
    let column = |name: &str| Column {
        name: name.into(),
        ty: SqlType::Int32,
        nullable: true,
    };
    let constraint = |(i, columns): (usize, &&[usize])| KeyConstraint {
        name: format!("{name}_key{i}"),
        id: GlobalId(id + 1 + i as u64),
        kind: KeyConstraintKind::Unique,
        columns: columns.to_vec(),
    };
    let table = Table {
        shard: ShardId(id),
        columns: vec![column("a"), column("b")],
        defaults: vec![],
        keys: keys.iter().enumerate().map(constraint).collect(),
    };
    item(id, name, BTreeSet::new(), ItemKind::Table(table))
}

/// An index with a plan that reads these tables' shards.
pub fn index(id: u64, name: &str, on: u64, cluster: ClusterId) -> Arc<Item> {
    let plan = Plan {
        cluster,
        bytes: vec![id as u8],
        hash: id,
        shards: BTreeSet::from([ShardId(on)]),
        as_of: 0,
    };
    let kind = ItemKind::Index(Index {
        on: GlobalId(on),
        keys: vec![],
        plan,
    });
    item(id, name, BTreeSet::from([GlobalId(on)]), kind)
}

fn item(id: u64, name: &str, depends_on: BTreeSet<GlobalId>, kind: ItemKind) -> Arc<Item> {
    Arc::new(Item {
        id: GlobalId(id),
        schema: DEFAULT_SCHEMA,
        name: name.into(),
        owner: DEFAULT_ROLE,
        create_sql: format!("CREATE {name}"),
        depends_on,
        version: 1,
        kind,
    })
}

pub fn cluster(id: u64, replicas: Vec<ReplicaId>) -> Cluster {
    Cluster {
        id: ClusterId(id),
        name: format!("c{id}"),
        incarnation: 1,
        workers: 1,
        memory_limit_bytes: None,
        replicas,
    }
}

/// The token's hash is that byte, repeated.
pub fn admit(node: NodeId, key: &str, token: Option<u8>, wall_us: u64) -> Command {
    Command::Node(NodeOp::Admit {
        node,
        public_key: key.into(),
        mesh_addr: format!("{key}:2100"),
        token_hash: token.map(|byte| [byte; 32]),
        wall_us,
    })
}

pub fn init() -> Command {
    Command::Init {
        environment: 1,
        generation: 0,
        wall_us: 1000,
        superusers: vec!["clusterd".into()],
    }
}

/// An initialized state with `keyed` (16384: keys a, b) and `bag` (16400: none).
pub fn with_tables() -> State {
    let mut state = State::new();
    state.apply(1, &init());
    let mut create = txn(token(1, 1, 1));
    create.catalog_ops = vec![
        CatalogOp::CreateItem(table(16384, "keyed", &[&[0], &[1]])),
        CatalogOp::CreateItem(table(16400, "bag", &[])),
    ];
    create.checks = vec![Check::CatalogUnchanged { version: 1 }];
    let applied = state.apply(2, &batch(2000, vec![create]));
    assert_eq!(applied.outcomes, [crate::Outcome::Committed { ts: 2000 }]);
    assert!(state.catalog().clusters.contains_key(&DEFAULT_CLUSTER));
    state
}
