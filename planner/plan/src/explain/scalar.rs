//! Scalar expressions and aggregates as text, near to SQL.

use super::{Columns, column};
use crate::agg::{AggregateExpr, AggregateFunc};
use crate::error::EvalError;
use crate::scalar::{Func, ScalarExpr, Unmaterializable};
use repr::format::{FormatCtx, to_text};
use repr::{ColumnType, Datum, Row, SqlType};

/// Several expressions, separated by commas.
pub(super) fn scalars_text(exprs: &[ScalarExpr], columns: &Columns) -> String {
    let texts: Vec<String> = exprs.iter().map(|e| scalar_text(e, columns)).collect();
    texts.join(", ")
}

/// The expression over columns of these names.
pub(super) fn scalar_text(e: &ScalarExpr, columns: &Columns) -> String {
    match e {
        ScalarExpr::Column(index) => column(*index, columns),
        ScalarExpr::Literal(value, ty) => literal_text(value, ty),
        ScalarExpr::Param(n, _) => format!("${}", n + 1),
        ScalarExpr::Unmaterializable(value) => unmaterializable_text(value),
        ScalarExpr::Call { func, args, ty } => call_text(*func, args, ty, columns),
        ScalarExpr::If { cond, then, els } => format!(
            "case when {} then {} else {} end",
            scalar_text(cond, columns),
            scalar_text(then, columns),
            scalar_text(els, columns)
        ),
    }
}

fn literal_text(value: &Result<Row, EvalError>, ty: &ColumnType) -> String {
    match value {
        Ok(row) => datum_text(row.iter().next().unwrap_or(Datum::Null), &ty.ty),
        Err(error) => format!("error({:?})", error.message),
    }
}

pub(super) fn datum_text(datum: Datum<'_>, ty: &SqlType) -> String {
    let text = || to_text(ty, datum, &FormatCtx::default());
    match datum {
        Datum::Null => "null".to_owned(),
        Datum::Bool(value) => value.to_string(),
        Datum::Int16(_)
        | Datum::Int32(_)
        | Datum::Int64(_)
        | Datum::Float32(_)
        | Datum::Float64(_)
        | Datum::Numeric(_)
        | Datum::Oid(_)
        | Datum::MzTimestamp(_) => text(),
        Datum::String(_)
        | Datum::Bytes(_)
        | Datum::Date(_)
        | Datum::Time(_)
        | Datum::Timestamp(_)
        | Datum::TimestampTz(_)
        | Datum::Interval(_)
        | Datum::Uuid(_)
        | Datum::Array(_)
        | Datum::Record(_) => format!("'{}'", text().replace('\'', "''")),
    }
}

fn unmaterializable_text(value: &Unmaterializable) -> String {
    match value {
        Unmaterializable::MzNow => "mz_now()".to_owned(),
        Unmaterializable::Now => "now()".to_owned(),
        Unmaterializable::CurrentDatabase => "current_database()".to_owned(),
        Unmaterializable::CurrentUser => "current_user".to_owned(),
        Unmaterializable::SessionUser => "session_user".to_owned(),
        Unmaterializable::CurrentSchema => "current_schema()".to_owned(),
        Unmaterializable::CurrentSchemas { include_implicit } => {
            format!("current_schemas({include_implicit})")
        }
        Unmaterializable::Version => "version()".to_owned(),
        Unmaterializable::BackendPid => "pg_backend_pid()".to_owned(),
        Unmaterializable::Setting(name) => format!("current_setting('{name}')"),
    }
}

/// The SQL operator of a function with two arguments.
fn infix(func: Func) -> Option<&'static str> {
    Some(match func.name() {
        "eq" | "bpchareq" => "=",
        "ne" | "bpcharne" => "!=",
        "lt" | "bpcharlt" => "<",
        "le" | "bpcharle" => "<=",
        "gt" | "bpchargt" => ">",
        "ge" | "bpcharge" => ">=",
        "is_distinct_from" => "is distinct from",
        "is_not_distinct_from" => "is not distinct from",
        "int2pl"
        | "int4pl"
        | "int8pl"
        | "float4pl"
        | "float8pl"
        | "numeric_add"
        | "interval_pl"
        | "date_pli"
        | "date_pl_interval"
        | "time_pl_interval"
        | "timestamp_pl_interval"
        | "timestamptz_pl_interval"
        | "datetime_timestamp" => "+",
        "int2mi"
        | "int4mi"
        | "int8mi"
        | "float4mi"
        | "float8mi"
        | "numeric_sub"
        | "interval_mi"
        | "date_mii"
        | "date_mi"
        | "date_mi_interval"
        | "time_mi_interval"
        | "time_mi_time"
        | "timestamp_mi"
        | "timestamptz_mi"
        | "timestamp_mi_interval"
        | "timestamptz_mi_interval" => "-",
        "int2mul" | "int4mul" | "int8mul" | "float4mul" | "float8mul" | "numeric_mul"
        | "interval_mul" | "mul_d_interval" => "*",
        "int2div" | "int4div" | "int8div" | "float4div" | "float8div" | "numeric_div"
        | "interval_div" => "/",
        "int2mod" | "int4mod" | "int8mod" | "numeric_mod" => "%",
        "textcat" | "byteacat" | "array_cat" => "||",
        "textlike" => "like",
        "textnlike" => "not like",
        "texticlike" => "ilike",
        "texticnlike" => "not ilike",
        "textregexeq" => "~",
        "textregexne" => "!~",
        "texticregexeq" => "~*",
        "texticregexne" => "!~*",
        "arraycontains" => "@>",
        "arraycontained" => "<@",
        "arrayoverlap" => "&&",
        _ => return None,
    })
}

fn call_text(func: Func, args: &[ScalarExpr], ty: &SqlType, columns: &Columns) -> String {
    let text = |e: &ScalarExpr| scalar_text(e, columns);
    let name = func.name();
    match (name, args) {
        ("and" | "or", _) => {
            let parts: Vec<String> = args.iter().map(text).collect();
            format!("({})", parts.join(&format!(" {name} ")))
        }
        ("not", [x]) => format!("not({})", text(x)),
        (
            "is_null" | "is_not_null" | "is_true" | "is_not_true" | "is_false" | "is_not_false",
            [x],
        ) => {
            format!("({}) {}", text(x), name.replace('_', " "))
        }
        (
            "int2um" | "int4um" | "int8um" | "float4um" | "float8um" | "numeric_uminus"
            | "interval_um",
            [x],
        ) => {
            format!("-({})", text(x))
        }
        ("cast_from_text" | "relabel" | "apply_typmod" | "apply_typmod_assign", [x]) => {
            format!("{}::{ty}", operand(x, columns))
        }
        (_, [x]) if name.starts_with("cast_") => {
            format!("{}::{}", operand(x, columns), ty.without_typmod())
        }
        (_, [x, y]) if infix(func).is_some() => {
            format!(
                "({} {} {})",
                text(x),
                infix(func).unwrap_or_default(),
                text(y)
            )
        }
        _ => {
            let parts: Vec<String> = args.iter().map(text).collect();
            format!("{name}({})", parts.join(", "))
        }
    }
}

/// The text, in parentheses unless it is one word.
fn operand(e: &ScalarExpr, columns: &Columns) -> String {
    let text = scalar_text(e, columns);
    let closed = text.starts_with('(') || !text.contains(' ') || text.starts_with('\'');
    if closed { text } else { format!("({text})") }
}

pub(super) fn aggregates_text(aggregates: &[AggregateExpr], columns: &Columns) -> String {
    let texts: Vec<String> = aggregates
        .iter()
        .map(|a| aggregate_text(a, columns))
        .collect();
    texts.join(", ")
}

fn aggregate_text(aggregate: &AggregateExpr, columns: &Columns) -> String {
    let name = match aggregate.func {
        AggregateFunc::Count => "count",
        AggregateFunc::SumInt
        | AggregateFunc::SumInt8
        | AggregateFunc::SumNumeric { .. }
        | AggregateFunc::SumFloat32
        | AggregateFunc::SumFloat64
        | AggregateFunc::SumInterval => "sum",
        AggregateFunc::Min(_) => "min",
        AggregateFunc::Max(_) => "max",
        AggregateFunc::BoolAnd => "bool_and",
        AggregateFunc::BoolOr => "bool_or",
        AggregateFunc::ArrayAgg { .. } => "array_agg",
        AggregateFunc::StringAgg => "string_agg",
    };
    let distinct = if aggregate.distinct { "distinct " } else { "" };
    let argument = match &aggregate.expr {
        e if e.is_literal_true() && aggregate.func == AggregateFunc::Count => "*".to_owned(),
        e => scalar_text(e, columns),
    };
    format!("{name}({distinct}{argument})")
}
