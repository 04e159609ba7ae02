//! Functions meet whatever clients send: any result is fine, a panic is not.

use plan::scalar::EvalCtx;
use plan::{Func, ScalarExpr};
use proptest::prelude::*;
use repr::time::USECS_PER_DAY;
use repr::{ArrayDim, Date, Datum, Interval, Numeric, PgTimestamp, Row, RowPacker, SqlType, Time};

/// Texts made of what the functions look for.
fn text() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "",
        "a",
        "B",
        "é",
        "日本",
        " ",
        "  ",
        "1",
        "0",
        "9",
        "-",
        "+",
        ".",
        ",",
        "%",
        "_",
        "\\",
        "\\1",
        "\"",
        "'",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "[:alpha:]",
        "[^",
        "*",
        "?",
        "|",
        "$",
        "^",
        "1$",
        "%s",
        "%I",
        "%L",
        "%-5s",
        "%*s",
        "YYYY",
        "MM",
        "Mon",
        "Month",
        "DD",
        "Day",
        "HH24",
        "HH12",
        "AM",
        "MI",
        "SS",
        "MS",
        "US",
        "FF3",
        "TZH",
        "TZ",
        "OF",
        "FM",
        "FX",
        "TH",
        "IYYY",
        "IW",
        "ID",
        "J",
        "CC",
        "Q",
        "RM",
        "WW",
        "W",
        "DDD",
        "IDDD",
        "BC",
        "Y,YYY",
        "999",
        "000",
        "S",
        "PR",
        "MI",
        "V99",
        "EEEE",
        "RN",
        "D",
        "G",
        "L",
        "hex",
        "base64",
        "escape",
        "UTF8",
        "g",
        "i",
        "year",
        "week",
        "epoch",
        "UTC",
        "America/New_York",
        "+25",
        "2020-02-29",
        "99999999999",
        "infinity",
        "<",
        ">",
        "\u{0}",
        "\n",
        "\u{10ffff}",
    ]);
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

fn int4() -> impl Strategy<Value = i32> {
    prop_oneof![
        -3i32..12,
        prop::sample::select(vec![
            i32::MIN,
            i32::MIN + 1,
            i32::MAX,
            i32::MAX - 1,
            1 << 16,
            -40_000
        ])
    ]
}

fn int8() -> impl Strategy<Value = i64> {
    prop_oneof![
        -3i64..12,
        prop::sample::select(vec![
            i64::MIN,
            i64::MIN + 1,
            i64::MAX,
            i64::from(i32::MAX) + 1,
            i64::from(i32::MIN) - 1,
            1 << 53
        ]),
    ]
}

fn float8() -> impl Strategy<Value = f64> {
    let edges = vec![
        0.0,
        -0.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN_POSITIVE,
        1e20,
        -1e20,
        0.5,
        -2.5,
    ];
    prop_oneof![prop::sample::select(edges), -100.0..100.0f64]
}

fn numeric() -> impl Strategy<Value = Numeric> {
    let edges = vec![
        Numeric::NAN,
        Numeric::INFINITY,
        Numeric::NEG_INFINITY,
        Numeric::ZERO,
    ];
    let mantissa = prop_oneof![
        Just(Numeric::MANTISSA_MAX),
        Just(-Numeric::MANTISSA_MAX),
        -2000i128..2000
    ];
    let scale = prop::sample::select(vec![0u16, 1, 2, 10, 37, 38, 100, 16_383]);
    prop_oneof![
        prop::sample::select(edges),
        (mantissa, scale).prop_map(|(m, s)| Numeric::from_parts(m, s).expect("in range")),
    ]
}

fn timestamp() -> impl Strategy<Value = PgTimestamp> {
    use repr::time::calendar::{TIMESTAMP_MAX, TIMESTAMP_MIN};
    let edges = vec![
        PgTimestamp::INFINITY,
        PgTimestamp::NEG_INFINITY,
        TIMESTAMP_MIN,
        TIMESTAMP_MAX,
        PgTimestamp(0),
    ];
    prop_oneof![
        prop::sample::select(edges),
        (TIMESTAMP_MIN.0..TIMESTAMP_MAX.0).prop_map(PgTimestamp)
    ]
}

fn date() -> impl Strategy<Value = Date> {
    use repr::time::calendar::{DATE_MAX, DATE_MIN};
    let edges = vec![
        Date::INFINITY,
        Date::NEG_INFINITY,
        DATE_MIN,
        DATE_MAX,
        Date(0),
    ];
    prop_oneof![
        prop::sample::select(edges),
        (-100_000..100_000).prop_map(Date)
    ]
}

fn interval() -> impl Strategy<Value = Interval> {
    (int4(), int4(), int8()).prop_map(|(months, days, micros)| Interval {
        months,
        days,
        micros,
    })
}

/// A row of one datum of a given kind, as `kind` says.
fn datum(kind: char) -> BoxedStrategy<Row> {
    let one = |d: Datum<'_>| Row::pack_slice(&[d]);
    match kind {
        't' => text().prop_map(move |s| one(Datum::String(&s))).boxed(),
        '2' => any::<i16>().prop_map(move |n| one(Datum::Int16(n))).boxed(),
        '4' => int4().prop_map(move |n| one(Datum::Int32(n))).boxed(),
        '8' => int8().prop_map(move |n| one(Datum::Int64(n))).boxed(),
        'e' => float8()
            .prop_map(move |f| one(Datum::Float32(f as f32)))
            .boxed(),
        'f' => float8().prop_map(move |f| one(Datum::Float64(f))).boxed(),
        'n' => numeric().prop_map(move |n| one(Datum::Numeric(n))).boxed(),
        'b' => prop::collection::vec(any::<u8>(), 0..6)
            .prop_map(move |b| one(Datum::Bytes(&b)))
            .boxed(),
        'd' => date().prop_map(move |d| one(Datum::Date(d))).boxed(),
        'h' => (0..=USECS_PER_DAY)
            .prop_map(move |t| one(Datum::Time(Time(t))))
            .boxed(),
        's' => timestamp()
            .prop_map(move |t| one(Datum::Timestamp(t)))
            .boxed(),
        'z' => timestamp()
            .prop_map(move |t| one(Datum::TimestampTz(t)))
            .boxed(),
        'i' => interval()
            .prop_map(move |i| one(Datum::Interval(i)))
            .boxed(),
        'm' => any::<u64>()
            .prop_map(move |t| one(Datum::MzTimestamp(t)))
            .boxed(),
        'o' => prop_oneof![Just(0u32), Just(23), Just(1043), any::<u32>()]
            .prop_map(move |o| one(Datum::Oid(o)))
            .boxed(),
        'a' => (
            prop::collection::vec(prop::option::of(int4()), 0..5),
            int4(),
            any::<bool>(),
        )
            .prop_map(|(elements, lower_bound, nested)| {
                let datums: Vec<Datum<'_>> = elements.iter().map(|e| (*e).into()).collect();
                let mut dims = vec![];
                if !datums.is_empty() {
                    dims.push(ArrayDim {
                        lower_bound,
                        ..ArrayDim::new(datums.len())
                    });
                    dims.extend(nested.then(|| ArrayDim::new(1)));
                }
                let mut packer = RowPacker::new();
                packer.push_array(&dims, datums.iter());
                packer.finish_row()
            })
            .boxed(),
        other => panic!("no kind {other}"),
    }
}

/// Functions and the kinds of their arguments.
const SIGNATURES: &str = "
int2pl 22, int2div 22, int2mod 22, int2um 2, int2abs 2, int2shl 24, int4pl 44, int4mi 44, int4mul 44, int4div 44, int4mod 44
int4um 4, int4abs 4, int4gcd 44, int4lcm 44, int4shl 44, int4shr 44, int8mul 88, int8div 88, int8mod 88, int8gcd 88, int8lcm 88, int8shl 84
float4mul ee, float4div ee, float8pl ff, float8mul ff, float8div ff, dround f, dsqrt f, dpow ff, dexp f, dlog1 f, dsin f, dasin f
numeric_add nn, numeric_sub nn, numeric_mul nn, numeric_div nn, numeric_mod nn, numeric_div_trunc nn, numeric_ceil n, numeric_floor n
numeric_round n4, numeric_trunc n4, numeric_sqrt n, numeric_exp n, numeric_ln n, numeric_log nn, numeric_power nn, numeric_gcd nn, numeric_lcm nn
numeric_fac 8, numeric_trim_scale n, numeric_min_scale n, numeric_uminus n
text_substr t44, text_substr_no_len t4, textoverlay tt44, textpos tt, text_left t4, text_right t4, split_part tt4, chr 4, translate ttt
replace_text ttt, lower t, upper t, initcap t, ascii t, btrim tt, lpad t4t, rpad t4t, textlike tt, texticlike tt, like_escape tt
textregexeq tt, textregexsubstr tt, textregexreplace tttt, regexp_match ttt, regexp_split_to_array tt, regexp_count ttt
text_format tttt, quote_ident t, quote_literal t, binary_encode bt, binary_decode tt, bytea_substr b44, byteaGetByte b4, bytealike bb
pg_convert_from bt, text_to_array tt, text_to_array_null ttt
timestamp_to_char st, timestamptz_to_char zt, interval_to_char it, to_date tt, to_timestamp tt
int4_to_char 4t, int8_to_char 8t, float4_to_char et, float8_to_char ft, numeric_to_char nt, numeric_to_number tt
date_pli d4, date_mii d4, date_mi dd, date_pl_interval di, date_mi_interval di, datetime_timestamp dh, make_date 444, make_time 44f
time_pl_interval hi, time_mi_interval hi, time_mi_time hh, timestamp_pl_interval si, timestamp_mi_interval si, timestamp_mi ss
timestamptz_pl_interval zi, timestamptz_mi_interval zi, timestamptz_mi zz, timestamp_age ss, timestamptz_age zz
make_timestamp 44444f, make_timestamptz 44444f, float8_timestamptz f, timestamp_bin iss, timestamptz_bin izz
interval_pl ii, interval_mi ii, interval_um i, interval_mul if, interval_div if, interval_justify_days i, interval_justify_hours i
interval_justify_interval i, make_interval 444444f, extract_date td, extract_time th, extract_timestamp ts, extract_timestamptz tz
extract_interval ti, timestamp_part ts, date_part_date td, timestamp_trunc ts, timestamptz_trunc tz, timestamptz_trunc_zone tzt, interval_trunc ti
timestamp_zone ts, timestamptz_zone tz, timestamp_izone is, timestamptz_izone iz
cast_float8_to_int4 f, cast_float8_to_int8 f, cast_float8_to_numeric f, cast_float4_to_numeric e, cast_numeric_to_int4 n, cast_numeric_to_int8 n
cast_numeric_to_float4 n, cast_numeric_to_float8 n, cast_numeric_to_mz_timestamp n, cast_int8_to_mz_timestamp 8, cast_mz_timestamp_to_int8 m
cast_date_to_timestamp d, cast_date_to_timestamptz d, cast_timestamp_to_date s, cast_timestamp_to_timestamptz s, cast_timestamptz_to_timestamp z
cast_date_to_mz_timestamp d, cast_timestamptz_to_mz_timestamp z, cast_mz_timestamp_to_timestamptz m, mz_timestamp_step m, cast_interval_to_time i
cast_to_text z, cast_to_text i, cast_to_text n, cast_to_text f, cast_to_text a, cast_to_text d
format_type o4, pg_size_pretty 8, PG_encoding_to_char 4
make_array aa, array_get a4, array_get a44, array_slice a44, array_length a4, array_upper a4, array_dims a, array_append a4, array_prepend 4a
array_cat aa, trim_array a4, array_position a44, array_positions a4, array_remove a4, array_replace a44, arraycontains aa, arrayoverlap aa
array_to_text at, any_lt 4a, all_ge 4a
";

fn call() -> impl Strategy<Value = (Func, Vec<Row>)> {
    let entries = SIGNATURES
        .split([',', '\n'])
        .map(str::trim)
        .filter(|entry| !entry.is_empty());
    let signatures: Vec<(&str, &str)> = entries
        .map(|entry| entry.split_once(' ').expect("name and kinds"))
        .collect();
    prop::sample::select(signatures).prop_flat_map(|(name, kinds)| {
        let args: Vec<BoxedStrategy<Row>> = kinds.chars().map(datum).collect();
        (Just(Func::get(name)), args)
    })
}

/// Types with modifiers, and those that text is parsed to.
fn target() -> impl Strategy<Value = SqlType> {
    let types: Vec<SqlType> = SqlType::all().cloned().collect();
    prop::sample::select(types).prop_flat_map(|ty| {
        prop::sample::select(vec![-1, 0, 3, 4, 5, 6, 100, 4 + (5 << 16) + 2])
            .prop_map(move |typmod| ty.with_typmod(typmod))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn calls_do_not_panic((func, args) in call()) {
        let literals = args.iter().map(|row| ScalarExpr::literal(row.column(0), SqlType::Text)).collect();
        let mut folded = ScalarExpr::call(func, literals, SqlType::Text);
        folded.fold(&EvalCtx::default());
        prop_assert!(folded.is_constant());
    }

    #[test]
    fn casts_from_text_do_not_panic(text in text(), ty in target()) {
        let literal = ScalarExpr::literal(Datum::String(&text), SqlType::Text);
        let mut cast = ScalarExpr::call(Func::get("cast_from_text"), vec![literal], ty.clone());
        cast.fold(&EvalCtx::default());
        let mut fitted = ScalarExpr::call(Func::get("apply_typmod_assign"), vec![cast], ty);
        fitted.fold(&EvalCtx::default());
        prop_assert!(fitted.is_constant());
    }
}
