//! Laws that hold for all expressions, checked on random ones.

use plan::mfp::{MfpPlan, MfpScratch};
use plan::scalar::EvalCtx;
use plan::{EvalError, Func, Mfp, ScalarExpr};
use proptest::prelude::*;
use repr::{ColumnType, Datum, Numeric, Row, RowArena, SqlType};

/// The columns of the random rows: two int4, a bool, a text, a numeric; all nullable.
const TYPES: [SqlType; 5] = [
    SqlType::Int32,
    SqlType::Int32,
    SqlType::Bool,
    SqlType::Text,
    SqlType::Numeric(None),
];

fn call(name: &str, args: Vec<ScalarExpr>, ty: SqlType) -> ScalarExpr {
    ScalarExpr::call(Func::get(name), args, ty)
}

/// Integer expressions over `ints` (positions of int4 columns); division makes errors.
fn integer(depth: u32, ints: Vec<usize>) -> BoxedStrategy<ScalarExpr> {
    let leaf = prop_oneof![
        prop::sample::select(ints.clone()).prop_map(ScalarExpr::Column),
        (-2i32..3).prop_map(|n| ScalarExpr::literal(Datum::Int32(n), SqlType::Int32)),
        Just(ScalarExpr::literal(Datum::Int32(i32::MAX), SqlType::Int32)),
        Just(ScalarExpr::null(SqlType::Int32)),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let inner = integer(depth - 1, ints.clone());
    let arithmetic = prop::sample::select(vec!["int4pl", "int4mi", "int4mul", "int4div"]);
    prop_oneof![
        2 => leaf,
        3 => (arithmetic, inner.clone(), inner.clone()).prop_map(|(f, x, y)| call(f, vec![x, y], SqlType::Int32)),
        1 => (inner.clone(), inner.clone()).prop_map(|(x, y)| call("coalesce", vec![x, y], SqlType::Int32)),
        1 => (boolean(depth - 1, ints), inner.clone(), inner)
            .prop_map(|(c, x, y)| ScalarExpr::If { cond: c.into(), then: x.into(), els: y.into() }),
    ]
    .boxed()
}

fn boolean(depth: u32, ints: Vec<usize>) -> BoxedStrategy<ScalarExpr> {
    let leaf = prop_oneof![
        Just(ScalarExpr::Column(2)),
        any::<bool>().prop_map(ScalarExpr::bool),
        Just(ScalarExpr::null(SqlType::Bool)),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let inner = boolean(depth - 1, ints.clone());
    let numbers = integer(depth - 1, ints);
    let comparison =
        prop::sample::select(vec!["eq", "ne", "lt", "le", "gt", "ge", "is_distinct_from"]);
    let connective = prop::sample::select(vec!["and", "or"]);
    let test = prop::sample::select(vec![
        "not",
        "is_null",
        "is_not_null",
        "is_true",
        "is_not_false",
    ]);
    prop_oneof![
        1 => leaf,
        3 => (comparison, numbers.clone(), numbers).prop_map(|(f, x, y)| call(f, vec![x, y], SqlType::Bool)),
        3 => (connective, prop::collection::vec(inner.clone(), 1..4)).prop_map(|(f, args)| call(f, args, SqlType::Bool)),
        2 => (test, inner).prop_map(|(f, x)| call(f, vec![x], SqlType::Bool)),
    ]
    .boxed()
}

fn row() -> impl Strategy<Value = Row> {
    let int = || prop::option::of(-2i32..3);
    (
        int(),
        int(),
        prop::option::of(any::<bool>()),
        prop::option::of("[a-c]{0,40}"),
        prop::option::of(-20i64..20),
    )
        .prop_map(|(a, b, c, d, e)| {
            let numeric = e.map(|n| Numeric::from_parts(n.into(), 1).expect("small"));
            Row::pack_slice(&[
                a.into(),
                b.into(),
                c.into(),
                d.as_deref().into(),
                numeric.into(),
            ])
        })
}

/// Blocks with mapped integers, predicates over everything before them, and any projection.
fn mfp() -> impl Strategy<Value = Mfp> {
    let ints = vec![0, 1];
    let scalars = prop::collection::vec(integer(2, ints.clone()), 0..3);
    scalars.prop_flat_map(move |scalars| {
        let arity = TYPES.len() + scalars.len();
        let mut known = ints.clone();
        known.extend(TYPES.len()..arity);
        let more = prop::collection::vec(integer(2, known.clone()), 0..2);
        let predicates = prop::collection::vec(boolean(2, known), 0..3);
        let projection = prop::collection::vec(0..arity, 0..8);
        (more, predicates, projection).prop_map(move |(more, predicates, projection)| {
            let mapped = Mfp::identity(TYPES.len())
                .map(scalars.clone())
                .filter(predicates);
            mapped
                .project(projection.iter().copied().chain(0..arity))
                .map(more.into_iter().map(|mut e| {
                    e.permute(&|c| projection.len() + c);
                    e
                }))
        })
    })
}

fn eval(e: &ScalarExpr, row: &Row) -> Result<Row, EvalError> {
    let arena = RowArena::new();
    e.eval(&EvalCtx::default(), &row.unpack(), &arena)
        .map(|d| Row::pack_slice(&[d]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// An optimizer may evaluate conjuncts in any order.
    #[test]
    fn and_and_or_do_not_depend_on_order(mut args in prop::collection::vec(boolean(2, vec![0, 1]), 1..5), row in row()) {
        for func in ["and", "or"] {
            let forward = eval(&call(func, args.clone(), SqlType::Bool), &row);
            args.reverse();
            prop_assert_eq!(&forward, &eval(&call(func, args.clone(), SqlType::Bool), &row));
        }
    }

    /// De Morgan: the negation of AND is the OR of the negations, errors included.
    #[test]
    fn negation_distributes(args in prop::collection::vec(boolean(2, vec![0, 1]), 1..4), row in row()) {
        let negated = |e: &ScalarExpr| call("not", vec![e.clone()], SqlType::Bool);
        let left = negated(&call("and", args.clone(), SqlType::Bool));
        let right = call("or", args.iter().map(negated).collect(), SqlType::Bool);
        prop_assert_eq!(eval(&left, &row), eval(&right, &row));
    }

    #[test]
    fn folding_keeps_the_value(e in boolean(4, vec![0, 1]), row in row()) {
        let mut folded = e.clone();
        folded.fold(&EvalCtx::default());
        prop_assert_eq!(eval(&folded, &row), eval(&e, &row), "{:?} became {:?}", e, folded);
    }

    #[test]
    fn an_expression_that_cannot_be_null_is_not(e in integer(3, vec![0, 1]), row in row()) {
        let types: Vec<ColumnType> =
            row.iter().zip(TYPES).map(|(d, ty)| ty.nullable(d.is_null())).collect();
        if let Ok(value) = eval(&e, &row)
            && !e.nullable(&types)
        {
            prop_assert!(!value.column(0).is_null(), "{:?}", e);
        }
    }

    #[test]
    fn an_expression_without_error_potential_does_not_fail(e in boolean(3, vec![0, 1]), row in row()) {
        if !e.contains_error_potential() {
            prop_assert!(eval(&e, &row).is_ok());
        }
    }

    /// The fast path and the optimized block give what the definition gives.
    #[test]
    fn blocks_run_as_defined(block in mfp(), row in row()) {
        let expected = block.eval(&EvalCtx::default(), &row.unpack());
        let mut optimized = block.clone();
        optimized.optimize();
        let mut scratch = MfpScratch::new();
        let original = block.clone();
        for block in [block, optimized] {
            let plan = MfpPlan::new(block.clone());
            prop_assert_eq!(&plan.evaluate(row.as_ref(), &mut scratch), &expected, "{:?} from {:?}", block, original);
            // Split anywhere, as the key and the value of an arrangement.
            for at in 0..=TYPES.len() {
                let datums = row.unpack();
                let (key, value) = (Row::pack_slice(&datums[..at]), Row::pack_slice(&datums[at..]));
                prop_assert_eq!(&plan.evaluate_parts(&[key.as_ref(), value.as_ref()], &mut scratch), &expected);
            }
        }
    }

    /// One block after the other is the same as both in one, where neither fails.
    #[test]
    fn composition_is_application_in_sequence(first in mfp(), predicates in prop::collection::vec(boolean(1, vec![0]), 0..2), row in row()) {
        let ctx = EvalCtx::default();
        let arity = first.output_arity();
        let second = Mfp::identity(arity).filter(
            predicates.into_iter().filter(|p| p.support().is_empty()),
        ).project([arity - 1, 0]);
        let composed = first.clone().compose(second.clone());
        if let Ok(middle) = first.eval(&ctx, &row.unpack()) {
            let expected = match middle {
                Some(middle) => second.eval(&ctx, &middle.unpack()),
                None => Ok(None),
            };
            prop_assert_eq!(composed.eval(&ctx, &row.unpack()), expected);
        }
    }

    /// A block only looks at the columns that it says it needs, and can be moved to another layout.
    #[test]
    fn demand_is_all_that_is_needed(mut block in mfp(), row in row()) {
        block.projection.truncate(block.projection.len() / 2);
        let ctx = EvalCtx::default();
        let expected = block.eval(&ctx, &row.unpack());
        let demand: Vec<usize> = block.demand().into_iter().collect();
        let narrow: Vec<Datum<'_>> = demand.iter().map(|c| row.column(*c)).collect();
        let mut moved = block.clone();
        moved.permute_input(&|c| demand.iter().position(|d| *d == c).expect("demanded"), demand.len());
        prop_assert_eq!(moved.eval(&ctx, &narrow), expected);
    }
}
