//! Operators.

use super::{Choice, Index, Signature, build, exact, parse_table, select};
use crate::error::PlanError;
use crate::hir::HirScalar;
use crate::types::cast::{self, CastContext, is_oid_like, is_string};
use crate::types::coerce::{Coercer, Typed};
use crate::types::common_type;
use plan::Func;
use repr::SqlType;
use std::sync::OnceLock;

/// Operators that are neither comparisons nor arithmetic on numbers. `name(left, right)`, or `name(right)` for prefix operators.
const OPERATORS: &str = "
+(date,int4) date date_pli
+(date,interval) timestamp date_pl_interval
+(date,time) timestamp datetime_timestamp
+(timestamp,interval) timestamp timestamp_pl_interval
+(timestamptz,interval) timestamptz timestamptz_pl_interval
+(time,interval) time time_pl_interval
+(interval,interval) interval interval_pl
-(date,int4) date date_mii
-(date,date) int4 date_mi
-(date,interval) timestamp date_mi_interval
-(timestamp,interval) timestamp timestamp_mi_interval
-(timestamp,timestamp) interval timestamp_mi
-(timestamptz,interval) timestamptz timestamptz_mi_interval
-(timestamptz,timestamptz) interval timestamptz_mi
-(time,time) interval time_mi_time
-(time,interval) time time_mi_interval
-(interval,interval) interval interval_mi
-(interval) interval interval_um
*(interval,float8) interval interval_mul
*(float8,interval) interval mul_d_interval
/(interval,float8) interval interval_div
^(float8,float8) float8 dpow
^(numeric,numeric) numeric numeric_power
|/(float8) float8 dsqrt
||/(float8) float8 dcbrt
@(int2) int2 int2abs
@(int4) int4 int4abs
@(int8) int8 int8abs
@(float8) float8 float8abs
@(numeric) numeric numeric_abs
~(text,text) bool textregexeq
~(name,text) bool textregexeq
!~(text,text) bool textregexne
!~(name,text) bool textregexne
~*(text,text) bool texticregexeq
~*(name,text) bool texticregexeq
!~*(text,text) bool texticregexne
!~*(name,text) bool texticregexne
~~(text,text) bool textlike
~~(name,text) bool textlike
~~(bpchar,text) bool textlike
~~(bytea,bytea) bool bytealike
!~~(text,text) bool textnlike
!~~(name,text) bool textnlike
!~~(bpchar,text) bool textnlike
~~*(text,text) bool texticlike
~~*(name,text) bool texticlike
~~*(bpchar,text) bool texticlike
!~~*(text,text) bool texticnlike
!~~*(name,text) bool texticnlike
!~~*(bpchar,text) bool texticnlike
^@(text,text) bool text_starts_with
||(text,text) text textcat
||(bytea,bytea) bytea byteacat
@>(anyarray,anyarray) bool arraycontains
<@(anyarray,anyarray) bool arraycontained
&&(anyarray,anyarray) bool arrayoverlap
&(int2,int2) int2 int2and
&(int4,int4) int4 int4and
&(int8,int8) int8 int8and
|(int2,int2) int2 int2or
|(int4,int4) int4 int4or
|(int8,int8) int8 int8or
#(int2,int2) int2 int2xor
#(int4,int4) int4 int4xor
#(int8,int8) int8 int8xor
<<(int2,int4) int2 int2shl
<<(int4,int4) int4 int4shl
<<(int8,int4) int8 int8shl
>>(int2,int4) int2 int2shr
>>(int4,int4) int4 int4shr
>>(int8,int4) int8 int8shr
~(int2) int2 int2not
~(int4) int4 int4not
~(int8) int8 int8not
";

pub(super) fn all() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| parse_table(OPERATORS))
}

fn overloads(op: &str) -> &'static [Signature] {
    all().get(op).map_or(&[], Vec::as_slice)
}

/// `left op right`.
pub fn binary(
    coercer: &Coercer<'_>,
    op: &str,
    left: Typed,
    right: Typed,
    position: usize,
) -> Result<Typed, PlanError> {
    let result = match op {
        "=" => comparison(coercer, "eq", op, left, right, position),
        "<>" | "!=" => comparison(coercer, "ne", "<>", left, right, position),
        "<" => comparison(coercer, "lt", op, left, right, position),
        "<=" => comparison(coercer, "le", op, left, right, position),
        ">" => comparison(coercer, "gt", op, left, right, position),
        ">=" => comparison(coercer, "ge", op, left, right, position),
        "+" | "-" | "*" | "/" | "%" => arithmetic(coercer, op, left, right, position),
        "||" => concatenation(coercer, left, right, position),
        _ => general(coercer, op, left, right, position),
    };
    result.map(|t| t.at(position))
}

/// `op right`.
pub fn unary(
    coercer: &Coercer<'_>,
    op: &str,
    right: Typed,
    position: usize,
) -> Result<Typed, PlanError> {
    if matches!(op, "+" | "-") && !right.is_unknown() && is_number(&right.ty) {
        let ty = right.ty.without_typmod();
        if op == "+" {
            return Ok(right);
        }
        let func = match &ty {
            SqlType::Int16 => "int2um",
            SqlType::Int32 => "int4um",
            SqlType::Int64 => "int8um",
            SqlType::Float32 => "float4um",
            SqlType::Float64 => "float8um",
            _ => "numeric_uminus",
        };
        let literal = matches!(right.expr, HirScalar::Literal(..));
        let negated = exact(func, vec![right.expr], ty)?;
        return Ok(match literal {
            true => Typed::new(coercer.fold(negated.expr)?, negated.ty),
            false => negated,
        });
    }
    let right = match op {
        "+" | "-" if right.is_unknown() => {
            let expr = coercer.coerce(right, &SqlType::Float64, CastContext::Implicit)?;
            return unary(coercer, op, Typed::new(expr, SqlType::Float64), position);
        }
        _ => right,
    };
    let signatures: Vec<Signature> = overloads(op)
        .iter()
        .filter(|s| s.args.len() == 1)
        .cloned()
        .collect();
    match select(&signatures, std::slice::from_ref(&right.ty)) {
        Choice::One(candidate) => build(coercer, candidate, vec![right]),
        Choice::None => {
            let message = format!("operator does not exist: {op} {}", right.ty.base_name());
            Err(PlanError::new("42883", message)
                .at(position)
                .with_hint(NO_OPERATOR))
        }
        Choice::Ambiguous => {
            let message = format!("operator is not unique: {op} {}", right.ty.base_name());
            Err(PlanError::new("42725", message)
                .at(position)
                .with_hint(AMBIGUOUS))
        }
    }
}

const NO_OPERATOR: &str = "No operator matches the given name and argument types. You might need to add explicit type casts.";
const AMBIGUOUS: &str =
    "Could not choose a best candidate operator. You might need to add explicit type casts.";

fn no_operator(op: &str, left: &SqlType, right: &SqlType, position: usize) -> PlanError {
    let message = format!(
        "operator does not exist: {} {op} {}",
        left.base_name(),
        right.base_name()
    );
    PlanError::new("42883", message)
        .at(position)
        .with_hint(NO_OPERATOR)
}

fn is_number(ty: &SqlType) -> bool {
    matches!(
        ty,
        SqlType::Int16
            | SqlType::Int32
            | SqlType::Int64
            | SqlType::Float32
            | SqlType::Float64
            | SqlType::Numeric(_)
    )
}

/// Comparisons exist for every type with itself; different types are compared as the one that both convert to.
fn comparison(
    coercer: &Coercer<'_>,
    func: &str,
    op: &str,
    left: Typed,
    right: Typed,
    position: usize,
) -> Result<Typed, PlanError> {
    let Some(ty) = comparison_type(&left.ty, &right.ty) else {
        return Err(no_operator(op, &left.ty, &right.ty, position));
    };
    let (left, right) = (narrow(left, &right), narrow(right, &left_type(&ty)));
    let ty = match (left.ty.same_base(&right.ty), left.is_unknown()) {
        (true, false) => left.ty.clone(),
        _ => ty,
    };
    let left = operand(coercer, left, &ty)?;
    let right = operand(coercer, right, &ty)?;
    let func = match (&ty, func) {
        (SqlType::Char(_), func) => format!("bpchar{func}"),
        (_, func) => func.to_owned(),
    };
    exact(&func, vec![left, right], SqlType::Bool)
}

/// Stands for "no column" where only a type is of interest.
fn left_type(ty: &SqlType) -> Typed {
    Typed::new(HirScalar::null(ty.clone()), ty.clone())
}

/// A literal next to a narrower integer takes its type if it fits, so that the other side stays a plain column.
fn narrow(side: Typed, other: &Typed) -> Typed {
    if matches!(other.expr, HirScalar::Literal(..)) {
        return side;
    }
    let width = |ty: &SqlType| match ty {
        SqlType::Int16 => 2,
        SqlType::Int32 => 4,
        SqlType::Int64 => 8,
        _ => 0,
    };
    if width(&other.ty) == 0 || width(&side.ty) <= width(&other.ty) {
        return side;
    }
    match cast::narrow_integer(&side.expr, &other.ty) {
        Some(expr) => Typed::new(expr, other.ty.clone()).at(side.position),
        None => side,
    }
}

/// An operand of a comparison. Strings and OIDs of different names compare as they are.
fn operand(coercer: &Coercer<'_>, side: Typed, ty: &SqlType) -> Result<HirScalar, PlanError> {
    let as_they_are = |t: &SqlType| {
        matches!(t, SqlType::Text | SqlType::Varchar(_) | SqlType::Name)
            && !matches!(ty, SqlType::Char(_))
            || is_oid_like(t)
    };
    let same_kind =
        (is_string(ty) && is_string(&side.ty)) || (is_oid_like(ty) && is_oid_like(&side.ty));
    if !side.is_unknown() && as_they_are(&side.ty) && same_kind {
        return Ok(side.expr);
    }
    coercer.coerce(side, &ty.without_typmod(), CastContext::Implicit)
}

/// The type as which two types are compared.
pub fn comparison_type(left: &SqlType, right: &SqlType) -> Option<SqlType> {
    let bare = |t: &SqlType| t.without_typmod();
    match (left, right) {
        (SqlType::Unknown, SqlType::Unknown) => Some(SqlType::Text),
        (SqlType::Unknown, ty) | (ty, SqlType::Unknown) => Some(bare(ty)),
        (SqlType::Record(a), SqlType::Record(b)) if a.len() == b.len() => Some(left.clone()),
        (SqlType::Record(_), _) | (_, SqlType::Record(_)) => None,
        (l, r) if l.same_base(r) => Some(bare(l)),
        // Binary-compatible types are compared as the string type of the other, text before the others.
        (SqlType::Char(_), SqlType::Varchar(_)) | (SqlType::Varchar(_), SqlType::Char(_)) => {
            Some(SqlType::Char(None))
        }
        (l, r) if is_string(l) && is_string(r) => Some(SqlType::Text),
        (l, r) if is_oid_like(l) && (is_oid_like(r) || is_integer(r)) => Some(SqlType::Oid),
        (l, r) if is_oid_like(r) && is_integer(l) => Some(SqlType::Oid),
        (l, r) => common_type(&[bare(l), bare(r)]),
    }
}

fn is_integer(ty: &SqlType) -> bool {
    matches!(ty, SqlType::Int16 | SqlType::Int32 | SqlType::Int64)
}

fn arithmetic(
    coercer: &Coercer<'_>,
    op: &str,
    left: Typed,
    right: Typed,
    position: usize,
) -> Result<Typed, PlanError> {
    let ty = match (&left.ty, &right.ty) {
        (l, r) if is_number(l) && is_number(r) => arithmetic_type(l, r),
        (SqlType::Unknown, t) | (t, SqlType::Unknown) if is_number(t) => t.without_typmod(),
        _ => return general(coercer, op, left, right, position),
    };
    let Some(func) = arithmetic_func(op, &ty) else {
        return Err(no_operator(op, &left.ty, &right.ty, position));
    };
    let left = coercer.coerce(left, &ty, CastContext::Implicit)?;
    let right = coercer.coerce(right, &ty, CastContext::Implicit)?;
    exact(func, vec![left, right], ty)
}

/// The wider integer; numeric over integers; double precision when any float meets another type.
fn arithmetic_type(left: &SqlType, right: &SqlType) -> SqlType {
    let rank = |t: &SqlType| match t {
        SqlType::Int16 => 0,
        SqlType::Int32 => 1,
        SqlType::Int64 => 2,
        SqlType::Numeric(_) => 3,
        SqlType::Float32 => 4,
        _ => 5,
    };
    let (low, high) = match rank(left) <= rank(right) {
        true => (left, right),
        false => (right, left),
    };
    match (low, high) {
        (SqlType::Float32, SqlType::Float32) => SqlType::Float32,
        (_, SqlType::Float32) => SqlType::Float64,
        (_, high) => high.without_typmod(),
    }
}

fn arithmetic_func(op: &str, ty: &SqlType) -> Option<&'static str> {
    let row: [&'static str; 5] = match ty {
        SqlType::Int16 => ["int2pl", "int2mi", "int2mul", "int2div", "int2mod"],
        SqlType::Int32 => ["int4pl", "int4mi", "int4mul", "int4div", "int4mod"],
        SqlType::Int64 => ["int8pl", "int8mi", "int8mul", "int8div", "int8mod"],
        SqlType::Float32 => ["float4pl", "float4mi", "float4mul", "float4div", ""],
        SqlType::Float64 => ["float8pl", "float8mi", "float8mul", "float8div", ""],
        _ => [
            "numeric_add",
            "numeric_sub",
            "numeric_mul",
            "numeric_div",
            "numeric_mod",
        ],
    };
    let column = ["+", "-", "*", "/", "%"].iter().position(|o| *o == op)?;
    Some(row[column]).filter(|f| !f.is_empty())
}

fn concatenation(
    coercer: &Coercer<'_>,
    left: Typed,
    right: Typed,
    position: usize,
) -> Result<Typed, PlanError> {
    let array = |t: &SqlType| matches!(t, SqlType::Array(_));
    let (l, r) = (array(&left.ty), array(&right.ty));
    if l || r {
        let func = match (l, r) {
            (true, true) => "array_cat",
            // A constant of unknown type next to an array is an array.
            (true, false) if right.is_unknown() => "array_cat",
            (false, true) if left.is_unknown() => "array_cat",
            (true, false) => "array_append",
            (false, _) => "array_prepend",
        };
        return super::call(coercer, func, vec![left, right], position).map_err(|e| e.at(position));
    }
    let bytes = |t: &Typed| t.ty == SqlType::Bytea;
    let text = |t: &Typed| is_string(&t.ty) && !t.is_unknown();
    let both_bytes = (bytes(&left) && (bytes(&right) || right.is_unknown()))
        || (bytes(&right) && left.is_unknown());
    if both_bytes {
        return general(coercer, "||", left, right, position);
    }
    let any_text = text(&left) || text(&right) || left.is_unknown() || right.is_unknown();
    if !any_text {
        return Err(no_operator("||", &left.ty, &right.ty, position));
    }
    // `anything || text`: the other side in its text form.
    let left = coercer.coerce(left, &SqlType::Text, CastContext::Assignment)?;
    let right = coercer.coerce(right, &SqlType::Text, CastContext::Assignment)?;
    exact("textcat", vec![left, right], SqlType::Text)
}

fn general(
    coercer: &Coercer<'_>,
    op: &str,
    left: Typed,
    right: Typed,
    position: usize,
) -> Result<Typed, PlanError> {
    let types = [left.ty.clone(), right.ty.clone()];
    let signatures = with_commuted(op);
    let same_type = match (&types[0], &types[1]) {
        (SqlType::Unknown, SqlType::Unknown) => None,
        (SqlType::Unknown, t) | (t, SqlType::Unknown) => Some([t.clone(), t.clone()]),
        _ => None,
    };
    // An unknown operand is first taken to be of the other's type.
    let exactly = same_type.as_ref().and_then(|same| {
        let fits = |s: &&Signature| {
            s.args.len() == 2 && s.args.iter().zip(same).all(|(a, t)| a.same_base(t))
        };
        signatures.iter().find(fits)
    });
    let choice = match (exactly, &same_type) {
        (Some(signature), Some(same)) => select(std::slice::from_ref(signature), same),
        _ => select(&signatures, &types),
    };
    match choice {
        Choice::One(candidate) => {
            let args = match candidate.signature.func.strip_prefix("commuted:") {
                Some(_) => vec![right, left],
                None => vec![left, right],
            };
            build_operator(coercer, candidate, args)
        }
        Choice::None => Err(no_operator(op, &types[0], &types[1], position)),
        Choice::Ambiguous => {
            let message = format!(
                "operator is not unique: {} {op} {}",
                types[0].base_name(),
                types[1].base_name()
            );
            Err(PlanError::new("42725", message)
                .at(position)
                .with_hint(AMBIGUOUS))
        }
    }
}

fn build_operator(
    coercer: &Coercer<'_>,
    candidate: super::Candidate<'_>,
    args: Vec<Typed>,
) -> Result<Typed, PlanError> {
    let Some(func) = candidate.signature.func.strip_prefix("commuted:") else {
        // LIKE on character(n) sees the padding.
        let keep_padding = candidate.signature.args.first() == Some(&SqlType::Char(None));
        if keep_padding {
            let [left, right]: [Typed; 2] =
                args.try_into().expect("binary operators have two operands");
            let right = coercer.coerce(right, &SqlType::Text, CastContext::Implicit)?;
            return exact(
                candidate.signature.func,
                vec![left.expr, right],
                SqlType::Bool,
            );
        }
        return build(coercer, candidate, args);
    };
    let mut types = candidate.args.clone();
    types.reverse();
    let mut coerced = vec![];
    for (arg, ty) in args.into_iter().zip(&types) {
        coerced.push(coercer.coerce(arg, ty, CastContext::Implicit)?);
    }
    let func = Func::by_name(func)
        .ok_or_else(|| PlanError::unsupported(format!("the function {func}")))?;
    Ok(Typed::new(
        HirScalar::Call {
            func,
            args: coerced,
            ty: candidate.ret.clone(),
        },
        candidate.ret,
    ))
}

/// The overloads of a binary operator; `+` between different types also works the other way round.
fn with_commuted(op: &str) -> Vec<Signature> {
    let mut signatures: Vec<Signature> = overloads(op)
        .iter()
        .filter(|s| s.args.len() == 2)
        .cloned()
        .collect();
    if op == "+" {
        let commuted: Vec<Signature> = signatures
            .iter()
            .filter(|s| s.args[0] != s.args[1])
            .map(|s| Signature {
                args: s.args.iter().rev().cloned().collect(),
                func: commuted_name(s.func),
                ..s.clone()
            })
            .collect();
        signatures.extend(commuted);
    }
    signatures
}

fn commuted_name(func: &'static str) -> &'static str {
    match func {
        "date_pli" => "commuted:date_pli",
        "date_pl_interval" => "commuted:date_pl_interval",
        "datetime_timestamp" => "commuted:datetime_timestamp",
        "timestamp_pl_interval" => "commuted:timestamp_pl_interval",
        "timestamptz_pl_interval" => "commuted:timestamptz_pl_interval",
        "time_pl_interval" => "commuted:time_pl_interval",
        other => other,
    }
}
