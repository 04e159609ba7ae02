//! Properties of datums and rows, on random values.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use proptest::prelude::*;
use repr::format::{FormatCtx, parse_binary, parse_datum, to_text, write_binary};
use repr::{
    ArrayDim, Date, Datum, Interval, Numeric, PgTimestamp, Row, RowArena, RowPacker, RowRef,
    SqlType, Time, decode_columns,
};

/// A datum that owns its parts.
#[derive(Clone, Debug)]
enum Value {
    Null,
    Bool(bool),
    Int16(i16),
    Int32(i32),
    Int64(i64),
    Float32(f32),
    Float64(f64),
    Numeric(Numeric),
    String(String),
    Bytes(Vec<u8>),
    Date(i32),
    Time(i64),
    Timestamp(i64),
    Interval(Interval),
    Uuid([u8; 16]),
    Oid(u32),
    MzTimestamp(u64),
    Array(Vec<Value>),
    Record(Vec<Value>),
}

impl Value {
    fn push(&self, packer: &mut RowPacker) {
        let arena = RowArena::new();
        packer.push(self.datum(&arena));
    }

    fn datum<'a>(&'a self, arena: &'a RowArena) -> Datum<'a> {
        let parts = |values: &'a [Value]| -> Vec<Datum<'a>> {
            values.iter().map(|value| value.datum(arena)).collect()
        };
        match self {
            Value::Null => Datum::Null,
            Value::Bool(v) => Datum::Bool(*v),
            Value::Int16(v) => Datum::Int16(*v),
            Value::Int32(v) => Datum::Int32(*v),
            Value::Int64(v) => Datum::Int64(*v),
            Value::Float32(v) => Datum::Float32(*v),
            Value::Float64(v) => Datum::Float64(*v),
            Value::Numeric(v) => Datum::Numeric(*v),
            Value::String(v) => Datum::String(v),
            Value::Bytes(v) => Datum::Bytes(v),
            Value::Date(v) => Datum::Date(Date(*v)),
            Value::Time(v) => Datum::Time(Time(*v)),
            Value::Timestamp(v) => Datum::Timestamp(PgTimestamp(*v)),
            Value::Interval(v) => Datum::Interval(*v),
            Value::Uuid(v) => Datum::Uuid(repr::Uuid(*v)),
            Value::Oid(v) => Datum::Oid(*v),
            Value::MzTimestamp(v) => Datum::MzTimestamp(*v),
            Value::Array(v) => arena.make_datum(|packer| packer.push_list(parts(v))),
            Value::Record(v) => arena.make_datum(|packer| packer.push_record(parts(v))),
        }
    }
}

fn small_int() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        any::<i8>().prop_map(i64::from),
        any::<i16>().prop_map(i64::from),
        (0u32..63).prop_flat_map(|bits| {
            prop_oneof![
                Just(1i64 << bits),
                Just((1i64 << bits) - 1),
                Just(-(1i64 << bits))
            ]
        }),
    ]
}

fn numeric() -> impl Strategy<Value = Numeric> {
    let max = Numeric::MANTISSA_MAX;
    let mantissa = prop_oneof![-max..=max, any::<i32>().prop_map(i128::from), -20i128..20];
    let scale = prop_oneof![0u16..6, 0u16..300];
    let finite = (mantissa, scale).prop_map(|(m, s)| Numeric::from_parts(m, s).unwrap());
    prop_oneof![
        20 => finite,
        1 => Just(Numeric::NAN),
        1 => Just(Numeric::INFINITY),
        1 => Just(Numeric::NEG_INFINITY),
    ]
}

fn interval() -> impl Strategy<Value = Interval> {
    let wide = (any::<i32>(), any::<i32>(), any::<i64>());
    let near = (-3i32..3, -70i32..70, -3i64..3)
        .prop_map(|(months, days, hours)| (months, days, hours * 43_200_000_000));
    prop_oneof![wide, near].prop_map(|(m, d, us)| Interval::new(m, d, us))
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        Just(0.0),
        Just(-0.0),
        Just(f64::NAN),
        -4.0..4.0f64
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        small_int().prop_map(|v| Value::Int16(v as i16)),
        small_int().prop_map(|v| Value::Int32(v as i32)),
        small_int().prop_map(Value::Int64),
        float().prop_map(|v| Value::Float32(v as f32)),
        float().prop_map(Value::Float64),
        numeric().prop_map(Value::Numeric),
        "\\PC{0,40}|[ab]{120,135}".prop_map(Value::String),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::Bytes),
        any::<i32>().prop_map(Value::Date),
        (0i64..86_400_000_000).prop_map(Value::Time),
        any::<i64>().prop_map(Value::Timestamp),
        interval().prop_map(Value::Interval),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        small_int().prop_map(|v| Value::Oid(v as u32)),
        any::<u64>().prop_map(Value::MzTimestamp),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec(inner, 0..4).prop_map(Value::Record),
        ]
    })
}

fn row() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(value(), 0..8)
}

fn pack(values: &[Value]) -> Row {
    let mut packer = RowPacker::new();
    values.iter().for_each(|value| value.push(&mut packer));
    packer.finish_row()
}

/// Like `Eq`, but tells `1.0` from `1.00` and `-0` from `0`.
fn identical(a: Datum<'_>, b: Datum<'_>) -> bool {
    match (a, b) {
        (Datum::Float32(a), Datum::Float32(b)) => a.to_bits() == b.to_bits(),
        (Datum::Float64(a), Datum::Float64(b)) => a.to_bits() == b.to_bits(),
        (Datum::Numeric(a), Datum::Numeric(b)) => a == b && a.scale() == b.scale(),
        (Datum::Interval(a), Datum::Interval(b)) => {
            (a.months, a.days, a.micros) == (b.months, b.days, b.micros)
        }
        (Datum::Array(a), Datum::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| identical(a, b))
        }
        (Datum::Record(a), Datum::Record(b)) => {
            a.iter().count() == b.iter().count()
                && a.iter().zip(b.iter()).all(|(a, b)| identical(a, b))
        }
        (a, b) => a == b,
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn key(datum: Datum<'_>, ty: &SqlType) -> Row {
    let arena = RowArena::new();
    let copied = arena.copy_datum(datum);
    Row::pack([copied.key_canonical(ty, &arena)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn rows_give_back_what_was_packed(values in row()) {
        let arena = RowArena::new();
        let packed = pack(&values);
        let read = packed.unpack();
        prop_assert_eq!(read.len(), values.len());
        for (datum, value) in read.iter().zip(&values) {
            prop_assert!(identical(*datum, value.datum(&arena)), "{:?} {:?}", datum, value);
        }
        let checked = Row::from_bytes(packed.as_bytes());
        prop_assert_eq!(checked.as_ref(), Ok(&packed));
        let encoded = repr::codec::encode(1, &packed);
        prop_assert_eq!(repr::codec::decode::<Row>(1..=1, 1 << 20, &encoded).unwrap(), packed.clone());
        let mut copy = RowPacker::new();
        copy.push_packed(RowRef::from(&packed));
        prop_assert_eq!(copy.finish_row(), packed);
    }

    #[test]
    fn skipping_is_like_decoding(values in row(), mask in any::<u8>()) {
        let packed = pack(&values);
        let all = packed.unpack();
        let demand: Vec<usize> = (0..values.len()).filter(|i| mask & 1 << i != 0).collect();
        let mut out = vec![Datum::Null; demand.len()];
        decode_columns(RowRef::from(&packed), &demand, &mut out);
        for (column, datum) in demand.iter().zip(&out) {
            prop_assert!(identical(*datum, all[*column]));
        }
        for at in 0..=values.len() {
            let mut datums = packed.iter();
            let head = datums.take_packed(at);
            let mut packer = RowPacker::new();
            packer.push_packed(head);
            packer.push_packed(datums.remainder());
            prop_assert_eq!(packer.finish_row(), packed.clone());
        }
    }

    #[test]
    fn equal_bytes_mean_identical_datums(a in value(), b in value()) {
        let arena = RowArena::new();
        let (row_a, row_b) = (pack(std::slice::from_ref(&a)), pack(std::slice::from_ref(&b)));
        prop_assert_eq!(row_a == row_b, identical(a.datum(&arena), b.datum(&arena)));
        prop_assert_eq!(row_a == row_b, row_a.cmp(&row_b).is_eq());
    }

    #[test]
    fn datum_order_is_total(a in value(), b in value(), c in value()) {
        let arena = RowArena::new();
        let (a, b, c) = (a.datum(&arena), b.datum(&arena), c.datum(&arena));
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        prop_assert!(a.cmp(&a).is_eq());
        if a <= b && b <= c {
            prop_assert!(a <= c);
        }
        if a == b {
            prop_assert_eq!(hash(a), hash(b));
        }
    }

    #[test]
    fn numeric_keys_are_equal_where_values_are(a in numeric(), zeros in 0u16..4, b in numeric()) {
        let ty = SqlType::Numeric(None);
        let mut variants = vec![a, b];
        if let Ok(padded) = a.round(i32::from(a.scale() + zeros)) {
            prop_assert_eq!(a, padded);
            prop_assert_eq!(hash(a), hash(padded));
            variants.push(padded);
        }
        for x in &variants {
            for y in &variants {
                let (x, y) = (Datum::Numeric(*x), Datum::Numeric(*y));
                prop_assert_eq!(key(x, &ty) == key(y, &ty), x == y);
            }
        }
    }

    #[test]
    fn interval_keys_are_equal_where_values_are(a in interval(), b in interval()) {
        let ty = SqlType::Interval;
        let canonical = a.key_canonical();
        prop_assert_eq!(a, canonical);
        let (x, y) = (Datum::Interval(a), Datum::Interval(b));
        prop_assert_eq!(key(x, &ty) == key(y, &ty), x == y);
        prop_assert_eq!(key(x, &ty), key(Datum::Interval(canonical), &ty));
    }

    #[test]
    fn float_keys_are_equal_where_values_are(a in float(), b in float()) {
        let ty = SqlType::Float64;
        let (x, y) = (Datum::Float64(a), Datum::Float64(b));
        prop_assert_eq!(key(x, &ty) == key(y, &ty), x == y);
        let ty = SqlType::Float32;
        let (x, y) = (Datum::Float32(a as f32), Datum::Float32(b as f32));
        prop_assert_eq!(key(x, &ty) == key(y, &ty), x == y);
    }

    #[test]
    fn bad_row_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(row) = Row::from_bytes(&bytes) {
            let again = Row::pack(row.iter());
            prop_assert_eq!(again.as_bytes(), bytes.as_slice());
        }
    }

    #[test]
    fn damaged_rows_are_refused_or_canonical(values in row(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = pack(&values).as_bytes().to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        if let Ok(row) = Row::from_bytes(&bytes) {
            let again = Row::pack(row.iter());
            prop_assert_eq!(again.as_bytes(), bytes.as_slice());
        }
    }

    #[test]
    fn any_bytes_parse_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let arena = RowArena::new();
        for ty in all_types() {
            if let Ok(datum) = parse_binary(&ty, &bytes, &arena) {
                let mut again = bytes::BytesMut::new();
                write_binary(&ty, datum, &mut again);
                prop_assert_eq!(parse_binary(&ty, &again, &arena), Ok(datum));
            }
        }
    }

    #[test]
    fn any_array_bytes_parse_or_fail(
        head in prop::collection::vec(0u8..4, 0..30),
        tail in prop::collection::vec(any::<u8>(), 0..30),
    ) {
        let arena = RowArena::new();
        let ty = SqlType::Int32.array_of();
        let mut bytes = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23];
        bytes.extend(head);
        bytes.extend(tail);
        let _ = parse_binary(&ty, &bytes, &arena);
    }

    #[test]
    fn any_text_parses_or_fails(text in "\\PC{0,24}|[-+0-9:. TZPYMDHSeE/,{}\"a-z]{0,24}") {
        let arena = RowArena::new();
        let ctx = FormatCtx::default();
        for ty in all_types() {
            if let Ok(datum) = parse_datum(&ty, &text, &ctx, &arena) {
                let shown = to_text(&ty, datum, &ctx);
                prop_assert_eq!(parse_datum(&ty, &shown, &ctx, &arena), Ok(datum), "{} {}", ty, shown);
            }
        }
    }

    #[test]
    fn intervals_and_timestamps_survive_text(i in interval(), ts in any::<i64>()) {
        let arena = RowArena::new();
        let ctx = FormatCtx {
            timezone: repr::TimeZone::parse("Europe/Paris").unwrap(),
            ..FormatCtx::default()
        };
        let check = |ty: SqlType, datum: Datum<'_>| {
            let shown = to_text(&ty, datum, &ctx);
            let read = parse_datum(&ty, &shown, &ctx, &arena).map(|read| identical(read, datum));
            prop_assert_eq!(read, Ok(true), "{}", shown);
            Ok(())
        };
        check(SqlType::Interval, Datum::Interval(i))?;
        if let Ok(ts) = PgTimestamp::from_micros(ts) {
            check(SqlType::Timestamp(None), Datum::Timestamp(ts))?;
            check(SqlType::TimestampTz(None), Datum::TimestampTz(ts))?;
        }
    }
}

fn all_types() -> Vec<SqlType> {
    let mut types: Vec<SqlType> = SqlType::all().cloned().collect();
    types.push(SqlType::Int32.array_of());
    types.push(SqlType::Text.array_of());
    types.push(SqlType::Char(Some(3)));
    types
}

#[test]
fn blanks_of_char_keys_do_not_count() {
    let ty = SqlType::Char(None);
    assert_eq!(
        key(Datum::String("a"), &ty),
        key(Datum::String("a   "), &ty)
    );
    assert_ne!(key(Datum::String("a"), &ty), key(Datum::String(" a"), &ty));
    let arrays = ty.array_of();
    let (one, other) = (Row::pack_slice(&[]), RowArena::new());
    assert!(one.is_empty());
    let padded = other.make_datum(|packer| packer.push_list([Datum::String("a ")]));
    let plain = other.make_datum(|packer| packer.push_list([Datum::String("a")]));
    assert_eq!(key(padded, &arrays), key(plain, &arrays));
}

#[test]
fn arrays_keep_bounds_and_dimensions() {
    let arena = RowArena::new();
    let dims = [
        ArrayDim {
            lower_bound: 0,
            length: 2,
        },
        ArrayDim::new(1),
    ];
    let elements = [Datum::Int32(7), Datum::Null];
    let datum = arena.make_datum(|packer| packer.push_array(&dims, elements));
    let array = datum.unwrap_array();
    assert_eq!(array.dims().collect::<Vec<_>>(), dims);
    assert_eq!(array.iter().collect::<Vec<_>>(), elements);
    let vector = arena.make_datum(|packer| packer.push_array(&dims[..1], elements));
    assert_eq!(vector.unwrap_array().get(0), Some(Datum::Int32(7)));
    assert_eq!(vector.unwrap_array().get(1), Some(Datum::Null));
    assert_eq!(vector.unwrap_array().get(2), None);
    assert_eq!(vector.unwrap_array().get(-1), None);
}

/// The packed form is on disks and in logs: these bytes must never change.
#[test]
fn golden_bytes() {
    let arena = RowArena::new();
    let array = arena.make_datum(|packer| packer.push_list([Datum::Int32(1), Datum::Null]));
    let record = arena.make_datum(|packer| packer.push_record([Datum::Bool(true)]));
    let cases: Vec<(Datum<'_>, &str)> = vec![
        (Datum::Null, "00"),
        (Datum::Bool(false), "01"),
        (Datum::Bool(true), "02"),
        (Datum::Int16(0), "03"),
        (Datum::Int16(-2), "04fe"),
        (Datum::Int32(128), "088000"),
        (Datum::Int32(i32::MIN), "0a00000080"),
        (Datum::Int64(0), "0b"),
        (Datum::Int64(i64::MAX), "13ffffffffffffff7f"),
        (Datum::Float32(1.0), "140000803f"),
        (Datum::Float64(-0.0), "150000000000000080"),
        (Datum::Numeric(Numeric::parse("-1.50").unwrap()), "18026aff"),
        (
            Datum::Numeric(Numeric::from_parts(3, 300).unwrap()),
            "272c010103",
        ),
        (Datum::Numeric(Numeric::NAN), "28"),
        (Datum::String(""), "80"),
        (Datum::String("ab"), "826162"),
        (Datum::Bytes(&[9]), "390109"),
        (Datum::Date(Date(-1)), "2bffffffff"),
        (Datum::Time(Time(1)), "2c0100000000000000"),
        (Datum::Timestamp(PgTimestamp(1)), "2d0100000000000000"),
        (
            Datum::TimestampTz(PgTimestamp::INFINITY),
            "2effffffffffffff7f",
        ),
        (
            Datum::Interval(Interval::new(1, 2, 3)),
            "2f01000000020000000300000000000000",
        ),
        (
            Datum::Uuid(repr::Uuid([5; 16])),
            "3005050505050505050505050505050505",
        ),
        (Datum::Oid(0), "31"),
        (Datum::Oid(16384), "330040"),
        (Datum::MzTimestamp(2), "360200000000000000"),
        (array, "370c00000001010000000200000007 0100"),
        (record, "380100000002"),
    ];
    for (datum, expected) in cases {
        let row = Row::pack([datum]);
        let hex: String = row.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, expected.replace(' ', ""), "{datum:?}");
    }
    let long = "x".repeat(128);
    let row = Row::pack([Datum::String(&long)]);
    assert_eq!(&row.as_bytes()[..6], &[0x3b, 128, 0, 0, 0, b'x']);
    assert_eq!(
        Row::pack([Datum::Int64(300)]).hash64(),
        9_926_498_575_889_101_888
    );
}
