//! Compares this crate with the results of a PostgreSQL 15 server, kept in `golden/` (made by
//! `golden/generate.py`).

use bytes::BytesMut;
use repr::format::{
    ByteaOutput, DateOrder, DateStyle, FormatCtx, IntervalStyle, parse_binary, parse_datum,
    to_text, write_binary,
};
use repr::{
    Date, Datum, FormatError, Interval, Numeric, NumericTypmod, PgTimestamp, RowArena, SqlType,
    Time, TimeZone,
};

/// Collects differences, so that one run shows them all.
#[derive(Default)]
struct Report {
    checked: usize,
    differences: Vec<String>,
}

impl Report {
    fn check(&mut self, line: &str, expected: &str, actual: &str) {
        self.checked += 1;
        if expected != actual {
            self.differences
                .push(format!("{line}\n    got      {actual}"));
        }
    }

    fn finish(self, at_least: usize) {
        assert!(
            self.differences.is_empty(),
            "{} of {} differ:\n{}",
            self.differences.len(),
            self.checked,
            self.differences.join("\n")
        );
        assert!(self.checked >= at_least, "only {} cases", self.checked);
    }
}

/// Lines of a golden file as (line, fields before the result, result).
fn cases(
    file: &'static str,
) -> impl Iterator<Item = (&'static str, Vec<&'static str>, &'static str)> {
    file.lines().map(|line| {
        let mut fields: Vec<&str> = line.split('\t').collect();
        let result = fields.pop().expect("a result");
        (line, fields, result)
    })
}

fn show_error(error: FormatError) -> String {
    format!("!{} {}", error.sqlstate(), error.message())
}

fn show<T: ToString, E: Into<FormatError>>(result: Result<T, E>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(error) => show_error(error.into()),
    }
}

fn num(text: &str) -> Numeric {
    Numeric::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

/// Whether two results are the same number, one shown with fewer digits because it would need more
/// than 38, or one refused for that reason.
fn same_up_to_precision(expected: &str, actual: &str) -> bool {
    let digits = expected.bytes().filter(u8::is_ascii_digit).count();
    let leading = expected
        .bytes()
        .filter(|b| b.is_ascii_digit())
        .take_while(|b| *b == b'0')
        .count();
    if digits - leading <= 38 {
        return false;
    }
    if actual == "!22003 value overflows numeric format" {
        return true;
    }
    // The shown digits agree, but for rounding of the last.
    let shown = actual.len().saturating_sub(1);
    shown > 20 && expected.len() > shown && expected[..shown] == actual[..shown]
}

fn numeric_result(op: &str, a: &str, b: &str) -> String {
    let int = |text: &str| text.parse::<i32>().expect("an integer");
    match op {
        "add" => show(num(a).checked_add(num(b))),
        "sub" => show(num(a).checked_sub(num(b))),
        "mul" => show(num(a).checked_mul(num(b))),
        "div" => show(num(a).checked_div(num(b))),
        "rem" => show(num(a).checked_rem(num(b))),
        "div_trunc" => show(num(a).checked_div_trunc(num(b))),
        "cmp" => (num(a).cmp(&num(b)) as i32).to_string(),
        "round" => show(num(a).round(int(b))),
        "trunc" => show(num(a).trunc(int(b))),
        "ceil" => show(num(a).ceil()),
        "floor" => show(num(a).floor()),
        "abs" => num(a).abs().to_string(),
        "sign" => num(a).signum().to_string(),
        "sqrt" => show(num(a).sqrt()),
        "trim_scale" => num(a).trim_scale().to_string(),
        "exp" => show(num(a).exp()),
        "ln" => show(num(a).ln()),
        "log10" => show(num(a).log10()),
        "log" => show(num(b).log(num(a))),
        "power" => show(num(a).power(num(b))),
        "int2" => show(num(a).to_i16()),
        "int4" => show(num(a).to_i32()),
        "int8" => show(num(a).to_i64()),
        "float4" => show(
            num(a)
                .to_f32()
                .map(|v| text_of(&SqlType::Float32, Datum::Float32(v))),
        ),
        "float8" => text_of(&SqlType::Float64, Datum::Float64(num(a).to_f64())),
        "typmod" => {
            let (precision, scale) = b.split_once(',').expect("a typmod");
            show(num(a).apply_typmod(NumericTypmod {
                precision: precision.parse().expect("a precision"),
                scale: scale.parse().expect("a scale"),
            }))
        }
        "from_float8" => show(Numeric::from_f64(a.parse().expect("a float"))),
        "from_float4" => show(Numeric::from_f32(a.parse().expect("a float"))),
        "binary" => {
            let mut out = BytesMut::new();
            num(a).write_binary(&mut out);
            assert_eq!(
                Numeric::parse_binary(&out).map(|n| n.to_string()),
                Ok(num(a).to_string())
            );
            hex(&out)
        }
        other => panic!("unknown operation {other}"),
    }
}

fn text_of(ty: &SqlType, datum: Datum<'_>) -> String {
    to_text(ty, datum, &FormatCtx::default())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn numerics() {
    let mut report = Report::default();
    for (line, fields, expected) in cases(include_str!("golden/numeric.txt")) {
        let [op, a, b] = fields[..] else {
            panic!("malformed line {line}");
        };
        let actual = numeric_result(op, a, b);
        if same_up_to_precision(expected, &actual) {
            continue;
        }
        report.check(line, expected, &actual);
    }
    report.finish(9000);
}

fn context(settings: &str) -> FormatCtx {
    let mut ctx = FormatCtx::default();
    for setting in settings.split(';') {
        let (name, value) = setting.split_once('=').expect("name=value");
        match name {
            "timezone" => ctx.timezone = TimeZone::parse(value).expect("a zone"),
            "datestyle" => {
                let (style, order) = value.split_once(", ").expect("a style and an order");
                ctx.date_style = match style {
                    "ISO" => DateStyle::Iso,
                    "SQL" => DateStyle::Sql,
                    "Postgres" => DateStyle::Postgres,
                    "German" => DateStyle::German,
                    other => panic!("unknown style {other}"),
                };
                ctx.date_order = match order {
                    "MDY" => DateOrder::Mdy,
                    "DMY" => DateOrder::Dmy,
                    "YMD" => DateOrder::Ymd,
                    other => panic!("unknown order {other}"),
                };
            }
            "intervalstyle" => {
                ctx.interval_style = match value {
                    "postgres_verbose" => IntervalStyle::PostgresVerbose,
                    "iso_8601" => IntervalStyle::Iso8601,
                    "sql_standard" => IntervalStyle::SqlStandard,
                    other => panic!("unknown style {other}"),
                }
            }
            "extra_float_digits" => ctx.extra_float_digits = value.parse().expect("a number"),
            "bytea_output" => ctx.bytea_output = ByteaOutput::Escape,
            other => panic!("unknown setting {other}"),
        }
    }
    ctx
}

/// Undoes the escapes of the golden files.
fn unescape(text: &str) -> String {
    text.replace("\\\\", "\u{1}")
        .replace("\\t", "\t")
        .replace("\\n", "\n")
        .replace('\u{1}', "\\")
}

fn type_named(name: &str) -> SqlType {
    match name.strip_suffix("[]") {
        Some(element) => type_named(element).array_of(),
        None => SqlType::from_typname(name.trim_matches('"')).expect("a type"),
    }
}

#[test]
fn casts_from_text_and_back() {
    let mut report = Report::default();
    let mut ctx = FormatCtx::default();
    let mut settings = "";
    for (line, fields, result) in cases(include_str!("golden/casts.txt")) {
        let [name, ..] = fields[..] else {
            panic!("malformed line {line}");
        };
        if name == "set" {
            ctx = context(result);
            settings = result;
            continue;
        }
        let text = unescape(fields[1]);
        let ty = type_named(name);
        let arena = RowArena::new();
        let actual = match parse_datum(&ty, &text, &ctx, &arena) {
            // The cast to text of a boolean is not its output.
            Ok(Datum::Bool(v)) => v.to_string(),
            Ok(datum) => {
                let shown = to_text(&ty, datum, &ctx);
                let again = parse_datum(&ty, &shown, &ctx, &arena);
                let lossy = ctx.extra_float_digits < 1 || ctx.date_style != DateStyle::Iso;
                assert!(
                    lossy || again == Ok(datum),
                    "{line}: {shown} reads as {again:?}"
                );
                shown
            }
            Err(error) => show_error(error),
        };
        report.check(
            &format!("{line}   [{settings}]"),
            &unescape(result),
            &actual,
        );
    }
    report.finish(1000);
}

#[test]
fn float_output() {
    let mut report = Report::default();
    let arena = RowArena::new();
    for (line, fields, expected) in cases(include_str!("golden/floats.txt")) {
        let ty = type_named(fields[0]);
        let datum = parse_datum(&ty, fields[1], &FormatCtx::default(), &arena).expect("a float");
        report.check(line, expected, &text_of(&ty, datum));
    }
    report.finish(2000);
}

#[test]
fn binary_forms() {
    let mut report = Report::default();
    for (line, fields, expected) in cases(include_str!("golden/binary.txt")) {
        let ty = type_named(fields[0]);
        let arena = RowArena::new();
        let ctx = FormatCtx::default();
        let text = unescape(fields[1]);
        let datum =
            parse_datum(&ty, &text, &ctx, &arena).unwrap_or_else(|error| panic!("{line}: {error}"));
        let mut out = BytesMut::new();
        write_binary(&ty, datum, &mut out);
        report.check(line, expected, &hex(&out));
        let again = parse_binary(&ty, &out, &arena);
        assert_eq!(again, Ok(datum), "{line}");
        for cut in 0..out.len() {
            // A shorter value is an error or another value, never a panic.
            let _ = parse_binary(&ty, &out[..cut], &arena);
        }
    }
    report.finish(200);
}

struct Times {
    ctx: FormatCtx,
}

impl Times {
    fn parse<T>(&self, ty: &SqlType, text: &str, get: impl Fn(Datum<'_>) -> T) -> T {
        let arena = RowArena::new();
        let datum = parse_datum(ty, text, &self.ctx, &arena);
        get(datum.unwrap_or_else(|error| panic!("{text}: {error}")))
    }

    fn stamp(&self, text: &str) -> PgTimestamp {
        self.parse(&SqlType::Timestamp(None), text, |d| d.unwrap_timestamp())
    }

    fn utc(&self, text: &str) -> PgTimestamp {
        let text = format!("{text} UTC");
        self.parse(&SqlType::TimestampTz(None), &text, |d| {
            d.unwrap_timestamptz()
        })
    }

    fn date(&self, text: &str) -> Date {
        self.parse(&SqlType::Date, text, |d| d.unwrap_date())
    }

    fn time(&self, text: &str) -> Time {
        self.parse(&SqlType::Time, text, |d| d.unwrap_time())
    }

    fn span(&self, text: &str) -> Interval {
        self.parse(&SqlType::Interval, text, |d| d.unwrap_interval())
    }

    fn show<'a, E: Into<FormatError>>(&self, ty: SqlType, datum: Result<Datum<'a>, E>) -> String {
        show(datum.map(|datum| to_text(&ty, datum, &self.ctx)))
    }

    fn show_stamp<E: Into<FormatError>>(&self, ts: Result<PgTimestamp, E>) -> String {
        self.show(SqlType::Timestamp(None), ts.map(Datum::Timestamp))
    }

    fn show_tz<E: Into<FormatError>>(&self, ts: Result<PgTimestamp, E>) -> String {
        self.show(SqlType::TimestampTz(None), ts.map(Datum::TimestampTz))
    }

    fn result(&self, op: &str, a: &str, b: &str) -> String {
        let zone = &self.ctx.timezone;
        let nullable = |number: Option<Numeric>| match number {
            Some(number) => number.to_string(),
            None => "NULL".to_owned(),
        };
        let factor = |text: &str| text.parse::<f64>().expect("a float");
        match op {
            "extract_ts" => show(self.stamp(b).extract(a).map(nullable)),
            "extract_tz" => show(self.utc(b).extract_in(a, zone).map(nullable)),
            "extract_date" => show(self.date(b).extract(a).map(nullable)),
            "extract_time" => show(self.time(b).extract(a)),
            "extract_interval" => show(self.span(b).extract(a)),
            "trunc_ts" => self.show_stamp(self.stamp(b).trunc(a)),
            "trunc_tz" => self.show_tz(self.utc(b).trunc_in(a, zone)),
            "trunc_interval" => show(self.span(b).trunc(a)),
            "add_ts" => self.show_stamp(self.stamp(a).checked_add_interval(self.span(b))),
            "add_tz" => {
                let sum = self.utc(a).checked_add_interval_in(self.span(b), zone);
                self.show_tz(sum)
            }
            "add_time" => {
                let sum = self.time(a).wrapping_add_interval(self.span(b));
                text_of(&SqlType::Time, Datum::Time(sum))
            }
            "sub_ts" => show(self.stamp(a).checked_sub(self.stamp(b))),
            "age" => show(self.stamp(a).age(self.stamp(b))),
            "mul" => show(self.span(a).checked_mul(factor(b))),
            "div" => show(self.span(a).checked_div(factor(b))),
            "add_interval" => show(self.span(a).checked_add(self.span(b))),
            "cmp_interval" => (self.span(a).cmp(&self.span(b)) as i32).to_string(),
            "justify_days" => show(self.span(a).justify_days()),
            "justify_hours" => show(self.span(a).justify_hours()),
            "justify_interval" => show(self.span(a).justify()),
            other => panic!("unknown operation {other}"),
        }
    }
}

#[test]
fn dates_and_times() {
    let mut report = Report::default();
    let times = Times {
        ctx: FormatCtx {
            timezone: TimeZone::parse("America/New_York").expect("a zone"),
            ..FormatCtx::default()
        },
    };
    for (line, fields, expected) in cases(include_str!("golden/times.txt")) {
        let [op, a, b] = fields[..] else {
            panic!("malformed line {line}");
        };
        report.check(line, expected, &times.result(op, a, b));
    }
    report.finish(8000);
}
