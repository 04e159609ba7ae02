//! Plans are stored: bytes once written have to decode for ever, to the same plan.

use plan::agg::{AggregateExpr, AggregateFunc};
use plan::lir::{
    Dataflow, DeltaPath, Export, ExportKind, FORMAT_VERSION, IndexImport, JoinPlan, JoinStage,
    Node, ReducePlan, SourceImport, TopKPlan,
};
use plan::mfp::TemporalBound;
use plan::mir::{ColumnOrder, Id};
use plan::scalar::Unmaterializable;
use plan::{EvalError, Func, Mfp, ScalarExpr, TableFunc};
use repr::{Datum, GlobalId, NumericTypmod, Row, ShardId, SqlType};

const LIMIT_BYTES: usize = 1 << 20;

fn column(c: usize) -> ScalarExpr {
    ScalarExpr::Column(c)
}

/// A block with every kind of expression.
fn block() -> Mfp {
    let numeric = SqlType::Numeric(Some(NumericTypmod {
        precision: 15,
        scale: 2,
    }));
    let error = ScalarExpr::Literal(
        Err(EvalError::division_by_zero()),
        SqlType::Bool.nullable(false),
    );
    let mut block = Mfp::identity(3)
        .map([
            ScalarExpr::call(
                Func::get("numeric_mul"),
                vec![column(0), column(1)],
                numeric,
            ),
            ScalarExpr::If {
                cond: Box::new(error),
                then: Box::new(column(2)),
                els: Box::new(ScalarExpr::null(SqlType::Text)),
            },
            ScalarExpr::Param(0, SqlType::Int32),
            ScalarExpr::Unmaterializable(Unmaterializable::CurrentSchemas {
                include_implicit: true,
            }),
            ScalarExpr::Unmaterializable(Unmaterializable::Setting("search_path".to_owned())),
        ])
        .filter([ScalarExpr::call(
            Func::get("eq"),
            vec![
                column(2),
                ScalarExpr::literal(Datum::String("x"), SqlType::Text),
            ],
            SqlType::Bool,
        )])
        .project([3, 0]);
    block.temporal = vec![
        TemporalBound::From(column(1)),
        TemporalBound::Until(column(1)),
    ];
    block
}

fn stage() -> JoinStage {
    JoinStage {
        lookup: 1,
        lookup_arity: 2,
        lookup_key: vec![column(0)],
        stream_key: vec![column(1)],
        stream_arity: 3,
        closure: Mfp::identity(5),
    }
}

/// A dataflow with every kind of node. Append to it; what is there has stored bytes.
fn dataflow() -> Dataflow {
    let get = |n: u64| {
        Box::new(Node::Get {
            id: Id::Global(GlobalId(n)),
        })
    };
    let order = ColumnOrder {
        column: 1,
        desc: true,
        nulls_last: false,
    };
    let aggregates = [
        AggregateFunc::Count,
        AggregateFunc::SumInt,
        AggregateFunc::SumInt8,
        AggregateFunc::SumNumeric { scale: Some(2) },
        AggregateFunc::SumFloat32,
        AggregateFunc::SumFloat64,
        AggregateFunc::SumInterval,
        AggregateFunc::Min(SqlType::Date),
        AggregateFunc::Max(SqlType::Varchar(Some(10))),
        AggregateFunc::BoolAnd,
        AggregateFunc::BoolOr,
        AggregateFunc::ArrayAgg {
            element: SqlType::Int32,
        },
        AggregateFunc::StringAgg,
    ];
    let aggregates = aggregates.map(|func| AggregateExpr {
        func,
        expr: column(1),
        distinct: false,
    });
    let nodes = vec![
        Node::Constant {
            rows: Ok(vec![(Row::pack_slice(&[Datum::Int32(1), Datum::Null]), 2)]),
        },
        Node::Constant {
            rows: Err(EvalError::out_of_range("integer")),
        },
        Node::GetArrangement {
            id: Id::Global(GlobalId(7)),
            key: vec![column(0)],
            lookup: Some(vec![Row::pack_slice(&[Datum::Int64(5)])]),
            mfp: block(),
        },
        Node::Let {
            id: 1,
            value: get(1),
            body: Box::new(Node::Get { id: Id::Local(1) }),
        },
        Node::Mfp {
            input: get(1),
            mfp: block(),
        },
        Node::FlatMap {
            input: get(1),
            func: TableFunc::Unnest {
                element: SqlType::Text,
            },
            args: vec![column(0)],
            mfp: Mfp::identity(2),
        },
        Node::Join {
            inputs: vec![*get(1), *get(2)],
            plan: JoinPlan::Linear {
                start: 0,
                initial: Mfp::identity(3),
                stages: vec![stage()],
            },
        },
        Node::Join {
            inputs: vec![*get(1), *get(2)],
            plan: JoinPlan::Delta {
                paths: vec![DeltaPath {
                    source: 0,
                    source_key: vec![column(0)],
                    initial: Mfp::identity(3),
                    stages: vec![stage()],
                }],
            },
        },
        Node::Reduce {
            input: get(1),
            plan: ReducePlan {
                input_arity: 2,
                group_key: vec![column(0)],
                aggregates: aggregates.to_vec(),
                mfp: Mfp::identity(14),
            },
        },
        Node::TopK {
            input: get(1),
            plan: TopKPlan {
                arity: 2,
                group_key: vec![0],
                order_key: vec![order],
                limit: None,
                offset: 3,
            },
        },
        Node::Negate { input: get(1) },
        Node::Threshold {
            input: get(1),
            arity: 2,
        },
        Node::Union {
            inputs: vec![*get(1), *get(2)],
        },
        Node::ArrangeBy {
            input: get(1),
            keys: vec![vec![column(0)], vec![]],
            arity: 2,
        },
    ];
    let types = vec![
        SqlType::TimestampTz(Some(3)).nullable(true),
        SqlType::Int32.array_of().nullable(false),
    ];
    Dataflow {
        name: "every kind".to_owned(),
        sources: [(
            GlobalId(1),
            SourceImport {
                shard: ShardId(3),
                types: types.clone(),
                mfp: Mfp::identity(2),
            },
        )]
        .into(),
        indexes: [(
            GlobalId(9),
            IndexImport {
                on: GlobalId(7),
                key: vec![column(0)],
                types: types.clone(),
            },
        )]
        .into(),
        objects: nodes
            .into_iter()
            .enumerate()
            .map(|(i, node)| (Id::Local(i as u64), node))
            .collect(),
        exports: vec![
            Export {
                id: GlobalId(20_000),
                from: Id::Local(4),
                kind: ExportKind::Index {
                    key: vec![column(0)],
                    types: types.clone(),
                },
            },
            Export {
                id: GlobalId(20_001),
                from: Id::Global(GlobalId(1)),
                kind: ExportKind::Subscribe {
                    types,
                    with_snapshot: true,
                },
            },
        ],
        as_of: Some(17),
        until: None,
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a golden file is read, and written when its version is new"
)]
fn stored_plans_decode_to_the_same_plan() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/dataflow_v1.bin");
    let encoded = repr::codec::encode(FORMAT_VERSION, &dataflow());
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() && !std::path::Path::new(path).exists() {
        std::fs::write(path, &encoded).expect("the golden file can be written");
    }
    let stored = std::fs::read(path).expect("the golden file is checked in");
    let decoded: Dataflow =
        repr::codec::decode(1..=FORMAT_VERSION, LIMIT_BYTES, &stored).expect("old bytes decode");
    assert_eq!(decoded, dataflow());
    assert_eq!(
        encoded, stored,
        "equal plans have equal bytes: their hashes are compared"
    );
}

/// A binary that lacks a function refuses the plan instead of computing something else.
#[test]
fn unknown_functions_do_not_decode() {
    let encoded = repr::codec::encode(1, &Func::get("int4pl"));
    assert_eq!(
        repr::codec::decode::<Func>(1..=1, LIMIT_BYTES, &encoded).ok(),
        Some(Func::get("int4pl"))
    );
    let unknown = repr::codec::encode(1, "int4pl_of_the_future");
    assert!(repr::codec::decode::<Func>(1..=1, LIMIT_BYTES, &unknown).is_err());
}

/// What could not be read again is not stored: a client may nest expressions, and the optimizer puts them into one another.
#[test]
fn plans_that_nest_too_deeply_are_refused() {
    let nested = |depth: usize| {
        let mut deep = column(0);
        for _ in 0..depth {
            deep = ScalarExpr::call(Func::get("int4pl"), vec![deep, column(1)], SqlType::Int32);
        }
        let node = Node::Mfp {
            input: Box::new(Node::Get { id: Id::Local(0) }),
            mfp: Mfp::identity(2).map([deep]),
        };
        Dataflow {
            objects: vec![(Id::Local(0), node)],
            ..dataflow()
        }
    };
    let plain = nested(200);
    let bytes = plain.to_bytes().expect("as deep as SQL may nest");
    assert_eq!(
        Dataflow::from_bytes(&bytes).expect("stored plans decode"),
        plain
    );
    assert_eq!(
        nested(400).to_bytes().expect_err("too deep").sqlstate,
        "54001"
    );
}
