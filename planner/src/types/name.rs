//! Type names of SQL.

use crate::ast::sql::{
    ArrayElemTypeDef, CharacterLength, DataType, ExactNumberInfo, ObjectName, ObjectNamePart,
    TimezoneInfo,
};
use crate::error::PlanError;
use crate::parse::fold;
use repr::{NumericTypmod, SqlType};

/// The type that a name as written means.
pub fn resolve_type(data_type: &DataType) -> Result<SqlType, PlanError> {
    use DataType as D;
    Ok(match data_type {
        D::Bool | D::Boolean => SqlType::Bool,
        D::SmallInt(_) | D::Int2(_) => SqlType::Int16,
        D::Int(_) | D::Integer(_) | D::Int4(_) => SqlType::Int32,
        D::BigInt(_) | D::Int8(_) => SqlType::Int64,
        D::Real | D::Float4 => SqlType::Float32,
        D::DoublePrecision | D::Double(_) | D::Float8 => SqlType::Float64,
        D::Float(info) => float(info)?,
        D::Numeric(info) | D::Decimal(info) | D::Dec(info) => numeric(info)?,
        D::Text => SqlType::Text,
        D::Varchar(length) | D::CharacterVarying(length) | D::CharVarying(length) => {
            SqlType::Varchar(character_length(length.as_ref(), "varchar")?)
        }
        D::Char(length) | D::Character(length) => SqlType::Char(Some(
            character_length(length.as_ref(), "char")?.unwrap_or(1),
        )),
        D::Bytea => SqlType::Bytea,
        D::Date => SqlType::Date,
        D::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => SqlType::Time,
        D::Timestamp(p, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            SqlType::Timestamp(precision(*p)?)
        }
        D::Timestamp(p, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            SqlType::TimestampTz(precision(*p)?)
        }
        D::Interval { .. } => SqlType::Interval,
        D::Uuid => SqlType::Uuid,
        D::Regclass => SqlType::RegClass,
        D::Array(
            ArrayElemTypeDef::SquareBracket(element, _)
            | ArrayElemTypeDef::AngleBracket(element)
            | ArrayElemTypeDef::Parenthesis(element),
        ) => {
            // The number of dimensions is not part of a type.
            match resolve_type(element)? {
                array @ SqlType::Array(_) => array,
                element => element.array_of(),
            }
        }
        D::Custom(name, modifiers) => custom(name, modifiers)?,
        other => {
            let name = other.to_string().to_lowercase();
            return Err(match is_known_elsewhere(&name) {
                true => PlanError::unsupported(format!("type {name}")),
                false => PlanError::type_not_found(&name),
            });
        }
    })
}

/// Types that PostgreSQL has and we do not.
fn is_known_elsewhere(name: &str) -> bool {
    let base = name.split(['(', ' ']).next().unwrap_or(name);
    matches!(
        base,
        "json"
            | "jsonb"
            | "xml"
            | "bit"
            | "varbit"
            | "time"
            | "timetz"
            | "money"
            | "point"
            | "line"
            | "lseg"
            | "box"
            | "path"
            | "polygon"
            | "circle"
            | "inet"
            | "cidr"
            | "macaddr"
            | "tsvector"
            | "tsquery"
            | "int4range"
            | "int8range"
            | "numrange"
            | "tsrange"
            | "tstzrange"
            | "daterange"
            | "hstore"
            | "pg_lsn"
            | "serial"
            | "bigserial"
            | "smallserial"
    )
}

fn custom(name: &ObjectName, modifiers: &[String]) -> Result<SqlType, PlanError> {
    let mut parts = vec![];
    for part in &name.0 {
        match part {
            ObjectNamePart::Identifier(ident) => parts.push((fold(ident), ident)),
            ObjectNamePart::Function(_) => {
                return Err(PlanError::type_not_found(&name.to_string()));
            }
        }
    }
    let Some((base, ident)) = parts.pop() else {
        return Err(PlanError::type_not_found(""));
    };
    let position = crate::ast::position(ident.span);
    let qualified = match parts.pop() {
        None => false,
        Some((schema, _)) if schema == "pg_catalog" || schema == "mz_catalog" => true,
        Some((schema, _)) => {
            return Err(PlanError::type_not_found(&format!("{schema}.{base}")).at(position));
        }
    };
    // `char` alone is a keyword; quoted or qualified it is the one-byte type.
    let ty = match base.as_str() {
        "decimal" => Some(SqlType::Numeric(None)),
        "string" => Some(SqlType::Text),
        "char" if ident.quote_style.is_none() && !qualified => Some(SqlType::Char(Some(1))),
        "bool" | "boolean" => Some(SqlType::Bool),
        "any" | "anyelement" | "anyarray" | "unknown" if !qualified => None,
        other => SqlType::from_typname(other),
    };
    let Some(ty) = ty else {
        let error = match is_known_elsewhere(&base) {
            true => PlanError::unsupported(format!("type {base}")),
            false => PlanError::type_not_found(&base),
        };
        return Err(error.at(position));
    };
    let mut numbers = vec![];
    for modifier in modifiers {
        match modifier.parse::<i64>() {
            Ok(n) => numbers.push(n),
            Err(_) => {
                let message = format!("invalid type modifier \"{modifier}\"");
                return Err(PlanError::new("22023", message).at(position));
            }
        }
    }
    with_modifiers(ty, &numbers)
}

fn with_modifiers(ty: SqlType, numbers: &[i64]) -> Result<SqlType, PlanError> {
    let length = |n: i64| u32::try_from(n).ok().filter(|n| *n > 0);
    match (&ty, numbers) {
        (_, []) => Ok(ty),
        (SqlType::Varchar(_), [n]) if length(*n).is_some() => Ok(SqlType::Varchar(length(*n))),
        (SqlType::Char(_), [n]) if length(*n).is_some() => Ok(SqlType::Char(length(*n))),
        (SqlType::Timestamp(_), [p]) => Ok(SqlType::Timestamp(precision(u64::try_from(*p).ok())?)),
        (SqlType::TimestampTz(_), [p]) => {
            Ok(SqlType::TimestampTz(precision(u64::try_from(*p).ok())?))
        }
        (SqlType::Numeric(_), [p]) => numeric_typmod(*p, 0),
        (SqlType::Numeric(_), [p, s]) => numeric_typmod(*p, *s),
        _ => {
            let message = format!("type modifier is not allowed for type \"{}\"", ty.typname());
            Err(PlanError::new("42601", message))
        }
    }
}

fn character_length(length: Option<&CharacterLength>, ty: &str) -> Result<Option<u32>, PlanError> {
    /// PostgreSQL's limit.
    const LENGTH_MAX: u64 = 10_485_760;
    match length {
        None => Ok(None),
        Some(CharacterLength::IntegerLength { length: 0, .. }) => Err(PlanError::new(
            "22023",
            format!("length for type {ty} must be at least 1"),
        )),
        Some(CharacterLength::IntegerLength { length, .. }) if *length <= LENGTH_MAX => {
            Ok(Some(*length as u32))
        }
        Some(_) => Err(PlanError::new(
            "22023",
            format!("length for type {ty} cannot exceed {LENGTH_MAX}"),
        )),
    }
}

fn precision(precision: Option<u64>) -> Result<Option<u8>, PlanError> {
    // PostgreSQL reduces a larger precision to the largest there is, with a warning.
    Ok(precision.map(|p| p.min(6) as u8))
}

fn float(info: &ExactNumberInfo) -> Result<SqlType, PlanError> {
    match info {
        ExactNumberInfo::None => Ok(SqlType::Float64),
        ExactNumberInfo::Precision(1..=24) => Ok(SqlType::Float32),
        ExactNumberInfo::Precision(25..=53) => Ok(SqlType::Float64),
        ExactNumberInfo::Precision(0) => Err(PlanError::new(
            "22023",
            "precision for type float must be at least 1 bit",
        )),
        ExactNumberInfo::Precision(_) | ExactNumberInfo::PrecisionAndScale(..) => {
            Err(PlanError::new(
                "22023",
                "precision for type float must be less than 54 bits",
            ))
        }
    }
}

fn numeric(info: &ExactNumberInfo) -> Result<SqlType, PlanError> {
    match info {
        ExactNumberInfo::None => Ok(SqlType::Numeric(None)),
        ExactNumberInfo::Precision(p) => numeric_typmod(*p as i64, 0),
        ExactNumberInfo::PrecisionAndScale(p, s) => numeric_typmod(*p as i64, *s),
    }
}

fn numeric_typmod(precision: i64, scale: i64) -> Result<SqlType, PlanError> {
    if !(1..=1000).contains(&precision) {
        let message = format!("NUMERIC precision {precision} must be between 1 and 1000");
        return Err(PlanError::new("22023", message));
    }
    if !(-1000..=1000).contains(&scale) {
        let message = format!("NUMERIC scale {scale} must be between -1000 and 1000");
        return Err(PlanError::new("22023", message));
    }
    Ok(SqlType::Numeric(Some(NumericTypmod {
        precision: precision as u16,
        scale: scale as i16,
    })))
}
