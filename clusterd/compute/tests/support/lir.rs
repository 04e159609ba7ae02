//! Small words for writing physical plans by hand.
#![allow(dead_code)]

use plan::agg::AggregateFunc;
use plan::lir::*;
use plan::mir::Id;
use plan::{AggregateExpr, Func, Mfp, ScalarExpr};
use repr::{ColumnType, Datum, GlobalId, Numeric, ShardId, SqlType};

pub fn col(c: usize) -> ScalarExpr {
    ScalarExpr::Column(c)
}

pub fn lit(datum: Datum<'_>, ty: SqlType) -> ScalarExpr {
    ScalarExpr::literal(datum, ty)
}

pub fn call(name: &str, args: Vec<ScalarExpr>, ty: SqlType) -> ScalarExpr {
    ScalarExpr::call(Func::get(name), args, ty)
}

pub fn numeric() -> SqlType {
    SqlType::Numeric(None)
}

pub fn one() -> ScalarExpr {
    lit(Datum::Numeric(Numeric::ONE), numeric())
}

/// `price * (1 - discount)`
pub fn revenue(price: usize, discount: usize) -> ScalarExpr {
    let rest = call("numeric_sub", vec![one(), col(discount)], numeric());
    call("numeric_mul", vec![col(price), rest], numeric())
}

pub fn mfp(
    arity: usize,
    expressions: Vec<ScalarExpr>,
    predicates: Vec<ScalarExpr>,
    projection: &[usize],
) -> Mfp {
    Mfp {
        input_arity: arity,
        expressions,
        predicates: predicates.into_iter().map(|p| (arity, p)).collect(),
        projection: projection.to_vec(),
        temporal: vec![],
    }
}

pub fn project(arity: usize, projection: &[usize]) -> Mfp {
    mfp(arity, vec![], vec![], projection)
}

pub fn source(shard: u64, mfp: Mfp) -> SourceImport {
    SourceImport {
        shard: ShardId(shard),
        types: types(mfp.input_arity),
        mfp,
    }
}

/// Column types as far as the engine looks at them: their number.
pub fn types(arity: usize) -> Vec<ColumnType> {
    vec![
        ColumnType {
            ty: SqlType::Int64,
            nullable: true
        };
        arity
    ]
}

pub fn global(id: u64) -> Id {
    Id::Global(GlobalId(id))
}

pub fn get(id: u64) -> Node {
    Node::Get { id: global(id) }
}

pub fn arranged(input: Node, arity: usize, key: &[usize]) -> Node {
    Node::ArrangeBy {
        input: Box::new(input),
        keys: vec![cols(key)],
        arity,
    }
}

pub fn cols(columns: &[usize]) -> Vec<ScalarExpr> {
    columns.iter().map(|c| col(*c)).collect()
}

/// Looks `stream_key` of the stream up in input `lookup`.
pub fn stage(
    (lookup, lookup_arity, lookup_key): (usize, usize, &[usize]),
    (stream_arity, stream_key): (usize, &[usize]),
    closure: Mfp,
) -> JoinStage {
    JoinStage {
        lookup,
        lookup_arity,
        lookup_key: cols(lookup_key),
        stream_key: cols(stream_key),
        stream_arity,
        closure,
    }
}

pub fn agg(func: AggregateFunc, expr: ScalarExpr) -> AggregateExpr {
    AggregateExpr {
        func,
        expr,
        distinct: false,
    }
}

pub fn count_all() -> AggregateExpr {
    agg(AggregateFunc::Count, ScalarExpr::bool(true))
}

pub fn reduce(
    input: Node,
    input_arity: usize,
    key: &[usize],
    aggregates: Vec<AggregateExpr>,
) -> Node {
    let mfp = Mfp::identity(key.len() + aggregates.len());
    Node::Reduce {
        input: Box::new(input),
        plan: ReducePlan {
            input_arity,
            group_key: cols(key),
            aggregates,
            mfp,
        },
    }
}

/// A dataflow with one object, exported as index `export` by `key`.
pub fn dataflow(
    export: u64,
    sources: Vec<(u64, SourceImport)>,
    node: Node,
    arity: usize,
    key: &[usize],
) -> Dataflow {
    let object = export + 1_000_000;
    Dataflow {
        name: format!("view {export}"),
        sources: sources
            .into_iter()
            .map(|(id, s)| (GlobalId(id), s))
            .collect(),
        indexes: Default::default(),
        objects: vec![(global(object), node)],
        exports: vec![Export {
            id: GlobalId(export),
            from: global(object),
            kind: ExportKind::Index {
                key: cols(key),
                types: types(arity),
            },
        }],
        as_of: None,
        until: None,
    }
}
