//! SQL types: their names, OIDs and modifiers, as Postgres has them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The declared precision and scale of a numeric: `numeric(precision, scale)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NumericTypmod {
    /// The number of digits, 1 to 1000.
    pub precision: u16,
    /// The number of digits after the point, -1000 to 1000; negative: rounded before the point.
    pub scale: i16,
}

/// An SQL type with its modifier. Serialized: append variants, never reorder them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SqlType {
    /// `boolean`
    Bool,
    /// `smallint`
    Int16,
    /// `integer`
    Int32,
    /// `bigint`
    Int64,
    /// `real`
    Float32,
    /// `double precision`
    Float64,
    /// `numeric`
    Numeric(Option<NumericTypmod>),
    /// `text`
    Text,
    /// `character varying`, with the most characters allowed
    Varchar(Option<u32>),
    /// `character` (`bpchar`), with the number of characters
    Char(Option<u32>),
    /// `"char"`: one byte
    PgChar,
    /// `name`: at most 63 bytes
    Name,
    /// `bytea`
    Bytea,
    /// `date`
    Date,
    /// `time without time zone`
    Time,
    /// `timestamp without time zone`, with the digits after the second
    Timestamp(Option<u8>),
    /// `timestamp with time zone`, with the digits after the second
    TimestampTz(Option<u8>),
    /// `interval`
    Interval,
    /// `uuid`
    Uuid,
    /// `oid`
    Oid,
    /// `regclass`
    RegClass,
    /// `regtype`
    RegType,
    /// `regproc`
    RegProc,
    /// `regnamespace`
    RegNamespace,
    /// `regrole`
    RegRole,
    /// `int2vector`
    Int2Vector,
    /// `oidvector`
    OidVector,
    /// An array of the element type. Elements are not arrays.
    Array(Box<SqlType>),
    /// `mz_timestamp`
    MzTimestamp,
    /// `unknown`: a string literal that has not found its type
    Unknown,
    /// An anonymous record of these field types
    Record(Vec<SqlType>),
    /// `void`
    Void,
    /// `anyarray`
    AnyArray,
    /// `anyelement`
    AnyElement,
    /// `"any"`
    Any,
    /// `xid`, held as an OID
    Xid,
    /// `regprocedure`
    RegProcedure,
    /// `regoper`
    RegOper,
    /// `regoperator`
    RegOperator,
    /// `regcollation`
    RegCollation,
    /// `cid`, held as an OID
    Cid,
}

/// One row of the table of types.
struct TypeInfo {
    ty: SqlType,
    oid: u32,
    array_oid: u32,
    typname: &'static str,
    pg_name: &'static str,
    typlen: i16,
    category: char,
    preferred: bool,
}

macro_rules! types {
    ($($ty:expr, $oid:literal, $array:literal, $typname:literal, $pg_name:literal, $len:literal, $cat:literal $(, $preferred:ident)?;)*) => {
        &[$(TypeInfo {
            ty: $ty,
            oid: $oid,
            array_oid: $array,
            typname: $typname,
            pg_name: $pg_name,
            typlen: $len,
            category: $cat,
            preferred: types!(@ $($preferred)?),
        }),*]
    };
    (@ preferred) => { true };
    (@) => { false };
}

/// Every type that is not an array or a record, without modifier.
static TYPES: &[TypeInfo] = types! {
    SqlType::Bool, 16, 1000, "bool", "boolean", 1, 'B', preferred;
    SqlType::Bytea, 17, 1001, "bytea", "bytea", -1, 'U';
    SqlType::PgChar, 18, 1002, "char", "\"char\"", 1, 'Z';
    SqlType::Name, 19, 1003, "name", "name", 64, 'S';
    SqlType::Int64, 20, 1016, "int8", "bigint", 8, 'N';
    SqlType::Int16, 21, 1005, "int2", "smallint", 2, 'N';
    SqlType::Int2Vector, 22, 1006, "int2vector", "int2vector", -1, 'A';
    SqlType::Int32, 23, 1007, "int4", "integer", 4, 'N';
    SqlType::RegProc, 24, 1008, "regproc", "regproc", 4, 'N';
    SqlType::Text, 25, 1009, "text", "text", -1, 'S', preferred;
    SqlType::Oid, 26, 1028, "oid", "oid", 4, 'N', preferred;
    SqlType::Xid, 28, 1011, "xid", "xid", 4, 'U';
    SqlType::Cid, 29, 1012, "cid", "cid", 4, 'U';
    SqlType::OidVector, 30, 1013, "oidvector", "oidvector", -1, 'A';
    SqlType::Float32, 700, 1021, "float4", "real", 4, 'N';
    SqlType::Float64, 701, 1022, "float8", "double precision", 8, 'N', preferred;
    SqlType::Unknown, 705, 0, "unknown", "unknown", -2, 'X';
    SqlType::Char(None), 1042, 1014, "bpchar", "character", -1, 'S';
    SqlType::Varchar(None), 1043, 1015, "varchar", "character varying", -1, 'S';
    SqlType::Date, 1082, 1182, "date", "date", 4, 'D';
    SqlType::Time, 1083, 1183, "time", "time without time zone", 8, 'D';
    SqlType::Timestamp(None), 1114, 1115, "timestamp", "timestamp without time zone", 8, 'D';
    SqlType::TimestampTz(None), 1184, 1185, "timestamptz", "timestamp with time zone", 8, 'D', preferred;
    SqlType::Interval, 1186, 1187, "interval", "interval", 16, 'T', preferred;
    SqlType::Numeric(None), 1700, 1231, "numeric", "numeric", -1, 'N';
    SqlType::RegProcedure, 2202, 2207, "regprocedure", "regprocedure", 4, 'N';
    SqlType::RegOper, 2203, 2208, "regoper", "regoper", 4, 'N';
    SqlType::RegOperator, 2204, 2209, "regoperator", "regoperator", 4, 'N';
    SqlType::RegClass, 2205, 2210, "regclass", "regclass", 4, 'N';
    SqlType::RegType, 2206, 2211, "regtype", "regtype", 4, 'N';
    SqlType::Any, 2276, 0, "any", "\"any\"", 4, 'P';
    SqlType::AnyArray, 2277, 0, "anyarray", "anyarray", -1, 'P';
    SqlType::Void, 2278, 0, "void", "void", 4, 'P';
    SqlType::AnyElement, 2283, 0, "anyelement", "anyelement", 4, 'P';
    SqlType::Uuid, 2950, 2951, "uuid", "uuid", 16, 'U';
    SqlType::RegNamespace, 4089, 4090, "regnamespace", "regnamespace", 4, 'N';
    SqlType::RegRole, 4096, 4097, "regrole", "regrole", 4, 'N';
    SqlType::RegCollation, 4191, 4192, "regcollation", "regcollation", 4, 'N';
    SqlType::MzTimestamp, 16300, 16301, "mz_timestamp", "mz_timestamp", 8, 'U';
};

/// The OID of `record`.
const RECORD_OID: u32 = 2249;
/// The OID of `record[]`.
const RECORD_ARRAY_OID: u32 = 2287;

impl SqlType {
    /// Every type that is not an array or a record, without modifier: what `pg_type` lists.
    pub fn all() -> impl Iterator<Item = &'static SqlType> {
        TYPES.iter().map(|info| &info.ty)
    }

    /// The same type without its modifier.
    pub fn without_typmod(&self) -> SqlType {
        match self {
            SqlType::Numeric(_) => SqlType::Numeric(None),
            SqlType::Varchar(_) => SqlType::Varchar(None),
            SqlType::Char(_) => SqlType::Char(None),
            SqlType::Timestamp(_) => SqlType::Timestamp(None),
            SqlType::TimestampTz(_) => SqlType::TimestampTz(None),
            SqlType::Array(element) => SqlType::Array(Box::new(element.without_typmod())),
            other => other.clone(),
        }
    }

    /// Whether the two are the same type up to the modifier.
    pub fn same_base(&self, other: &SqlType) -> bool {
        match (self, other) {
            (SqlType::Array(a), SqlType::Array(b)) => a.same_base(b),
            (SqlType::Record(a), SqlType::Record(b)) => a == b,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }

    fn info(&self) -> Option<&'static TypeInfo> {
        TYPES.iter().find(|info| info.ty.same_base(self))
    }

    fn listed(&self) -> &'static TypeInfo {
        self.info()
            .unwrap_or_else(|| panic!("type {self:?} is missing from the table"))
    }

    /// An array of this type.
    pub fn array_of(self) -> SqlType {
        SqlType::Array(Box::new(self))
    }

    /// The element type of an array, `int2vector` or `oidvector`.
    pub fn element(&self) -> Option<SqlType> {
        match self {
            SqlType::Array(element) => Some((**element).clone()),
            SqlType::Int2Vector => Some(SqlType::Int16),
            SqlType::OidVector => Some(SqlType::Oid),
            _ => None,
        }
    }

    /// The type's OID.
    pub fn oid(&self) -> u32 {
        match self {
            SqlType::Array(element) => element.array_oid(),
            SqlType::Record(_) => RECORD_OID,
            other => other.listed().oid,
        }
    }

    /// The OID of arrays of this type; 0 if there are none.
    pub fn array_oid(&self) -> u32 {
        match self {
            SqlType::Array(_) => 0,
            SqlType::Record(_) => RECORD_ARRAY_OID,
            other => other.listed().array_oid,
        }
    }

    /// The type with this OID and modifier (-1: none).
    pub fn from_oid(oid: u32, typmod: i32) -> Option<SqlType> {
        match oid {
            RECORD_OID => return Some(SqlType::Record(Vec::new())),
            RECORD_ARRAY_OID => return Some(SqlType::Record(Vec::new()).array_of()),
            0 => return None,
            _ => {}
        }
        TYPES.iter().find_map(|info| {
            if info.oid == oid {
                Some(info.ty.with_typmod(typmod))
            } else if info.array_oid == oid {
                Some(info.ty.with_typmod(typmod).array_of())
            } else {
                None
            }
        })
    }

    /// The type with this `typname` (`int4`, `_int4`, `timestamptz`).
    pub fn from_typname(typname: &str) -> Option<SqlType> {
        let by_name = |name: &str| TYPES.iter().find(|info| info.typname == name);
        if let Some(info) = by_name(typname) {
            return Some(info.ty.clone());
        }
        match typname {
            "record" => Some(SqlType::Record(Vec::new())),
            "_record" => Some(SqlType::Record(Vec::new()).array_of()),
            _ => {
                let element = by_name(typname.strip_prefix('_')?)?;
                (element.array_oid != 0).then(|| element.ty.clone().array_of())
            }
        }
    }

    /// This type with Postgres's `atttypmod`; types without modifiers ignore it.
    pub fn with_typmod(&self, typmod: i32) -> SqlType {
        let length = u32::try_from(typmod.saturating_sub(VARHDRSZ))
            .ok()
            .filter(|n| *n > 0);
        let subsecond = u8::try_from(typmod).ok();
        match self {
            SqlType::Varchar(_) => SqlType::Varchar(length),
            SqlType::Char(_) => SqlType::Char(length),
            SqlType::Timestamp(_) => SqlType::Timestamp(subsecond),
            SqlType::TimestampTz(_) => SqlType::TimestampTz(subsecond),
            SqlType::Numeric(_) => SqlType::Numeric((typmod >= VARHDRSZ).then(|| {
                let packed = typmod - VARHDRSZ;
                // The scale is an 11-bit two's complement number.
                let scale = ((packed & 0x7ff) ^ 1024) - 1024;
                NumericTypmod {
                    precision: (packed >> 16) as u16,
                    scale: scale as i16,
                }
            })),
            SqlType::Array(element) => element.with_typmod(typmod).array_of(),
            other => other.clone(),
        }
    }

    /// Postgres's `atttypmod`: -1 without modifier.
    pub fn typmod(&self) -> i32 {
        match self {
            SqlType::Varchar(Some(n)) | SqlType::Char(Some(n)) => {
                i32::try_from(*n).map_or(-1, |n| n.saturating_add(VARHDRSZ))
            }
            SqlType::Timestamp(Some(p)) | SqlType::TimestampTz(Some(p)) => i32::from(*p),
            SqlType::Numeric(Some(NumericTypmod { precision, scale })) => {
                ((i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff)) + VARHDRSZ
            }
            SqlType::Array(element) => element.typmod(),
            _ => -1,
        }
    }

    /// `pg_type.typname`: `int4`, `_int4`.
    pub fn typname(&self) -> String {
        match self {
            SqlType::Array(element) => format!("_{}", element.typname()),
            SqlType::Record(_) => "record".to_owned(),
            other => other.listed().typname.to_owned(),
        }
    }

    /// The name as `format_type` prints it: `numeric(10,2)`, `timestamp(3) with time zone`,
    /// `integer[]`.
    pub fn pg_name(&self) -> String {
        match self {
            SqlType::Array(element) => format!("{}[]", element.pg_name()),
            SqlType::Record(_) => "record".to_owned(),
            SqlType::Varchar(Some(n)) => format!("character varying({n})"),
            SqlType::Char(Some(n)) => format!("character({n})"),
            SqlType::Char(None) => "bpchar".to_owned(),
            SqlType::Numeric(Some(NumericTypmod { precision, scale })) => {
                format!("numeric({precision},{scale})")
            }
            SqlType::Timestamp(Some(p)) => format!("timestamp({p}) without time zone"),
            SqlType::TimestampTz(Some(p)) => format!("timestamp({p}) with time zone"),
            other => other.listed().pg_name.to_owned(),
        }
    }

    /// The name without modifier, as error messages print it: `integer`, `character varying`.
    pub fn base_name(&self) -> String {
        match self {
            SqlType::Array(element) => format!("{}[]", element.base_name()),
            SqlType::Record(_) => "record".to_owned(),
            other => other.listed().pg_name.to_owned(),
        }
    }

    /// `pg_type.typlen`: bytes, -1 variable, -2 null-terminated.
    pub fn typlen(&self) -> i16 {
        match self {
            SqlType::Array(_) | SqlType::Record(_) => -1,
            other => other.listed().typlen,
        }
    }

    /// `pg_type.typcategory`: 'N' numeric, 'S' string, 'D' date and time, ...
    pub fn category(&self) -> char {
        match self {
            SqlType::Array(_) => 'A',
            SqlType::Record(_) => 'P',
            other => other.listed().category,
        }
    }

    /// Whether implicit conversion within the category prefers this type.
    pub fn is_preferred(&self) -> bool {
        self.info().is_some_and(|info| info.preferred)
    }

    /// Whether values can be SQL-equal without being identical, so that keys need
    /// [`crate::Datum::key_canonical`].
    pub fn needs_key_canonical(&self) -> bool {
        match self {
            // With a typmod the scale is fixed, and so is the length with its padding.
            SqlType::Numeric(typmod) => typmod.is_none(),
            SqlType::Char(length) => length.is_none(),
            SqlType::Float32 | SqlType::Float64 | SqlType::Interval => true,
            SqlType::Array(element) => element.needs_key_canonical(),
            SqlType::Record(fields) => {
                fields.is_empty() || fields.iter().any(SqlType::needs_key_canonical)
            }
            SqlType::Any | SqlType::AnyArray | SqlType::AnyElement => true,
            SqlType::Bool
            | SqlType::Int16
            | SqlType::Int32
            | SqlType::Int64
            | SqlType::Text
            | SqlType::Varchar(_)
            | SqlType::PgChar
            | SqlType::Name
            | SqlType::Bytea
            | SqlType::Date
            | SqlType::Time
            | SqlType::Timestamp(_)
            | SqlType::TimestampTz(_)
            | SqlType::Uuid
            | SqlType::Oid
            | SqlType::RegClass
            | SqlType::RegType
            | SqlType::RegProc
            | SqlType::RegNamespace
            | SqlType::RegRole
            | SqlType::Int2Vector
            | SqlType::OidVector
            | SqlType::MzTimestamp
            | SqlType::Unknown
            | SqlType::Void
            | SqlType::Xid
            | SqlType::RegProcedure
            | SqlType::RegOper
            | SqlType::RegOperator
            | SqlType::RegCollation
            | SqlType::Cid => false,
        }
    }
}

/// Postgres stores some modifiers plus the length of a varlena header.
const VARHDRSZ: i32 = 4;

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pg_name())
    }
}
