//! Types and what PostgreSQL keeps beside them: pg_type, pg_opclass, pg_collation, pg_am, pg_language.

use super::object::SYSTEM_OWNER;
use super::schema_oid;
use super::table::Table;
use crate::session::{MZ_CATALOG, PG_CATALOG};
use repr::{Datum, SqlType};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Access methods, by PostgreSQL's OIDs.
pub(super) const HEAP: u32 = 2;
pub(super) const BTREE: u32 = 403;

/// The collations `default` and `C`; both sort by bytes here.
const DEFAULT_COLLATION: u32 = 100;
pub(super) const COLLATIONS: &[(u32, &str)] = &[
    (DEFAULT_COLLATION, "default"),
    (C_COLLATION, "C"),
    (951, "POSIX"),
];
const C_COLLATION: u32 = 950;

/// How PostgreSQL would lay out values of a type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage {
    pub align: &'static str,
    pub storage: &'static str,
    pub by_value: bool,
    /// The functions `in`, `out`, `recv` and `send`: name and OID.
    pub io: [(&'static str, u32); 4],
}

/// type, alignment, storage, passed by value, then the functions that read and write it with their OIDs.
const STORAGE: &str = "
bool c p t boolin 1242 boolout 1243 boolrecv 2436 boolsend 2437
bytea i x f byteain 1244 byteaout 31 bytearecv 2412 byteasend 2413
char c p t charin 1245 charout 33 charrecv 2434 charsend 2435
name c p f namein 34 nameout 35 namerecv 2422 namesend 2423
int8 d p t int8in 460 int8out 461 int8recv 2408 int8send 2409
int2 s p t int2in 38 int2out 39 int2recv 2404 int2send 2405
int2vector i p f int2vectorin 40 int2vectorout 41 int2vectorrecv 2410 int2vectorsend 2411
int4 i p t int4in 42 int4out 43 int4recv 2406 int4send 2407
regproc i p t regprocin 44 regprocout 45 regprocrecv 2444 regprocsend 2445
text i x f textin 46 textout 47 textrecv 2414 textsend 2415
oid i p t oidin 1798 oidout 1799 oidrecv 2418 oidsend 2419
xid i p t xidin 50 xidout 51 xidrecv 2440 xidsend 2441
cid i p t cidin 52 cidout 53 cidrecv 2442 cidsend 2443
oidvector i p f oidvectorin 54 oidvectorout 55 oidvectorrecv 2420 oidvectorsend 2421
float4 i p t float4in 200 float4out 201 float4recv 2424 float4send 2425
float8 d p t float8in 214 float8out 215 float8recv 2426 float8send 2427
unknown c p f unknownin 109 unknownout 110 unknownrecv 2416 unknownsend 2417
bpchar i x f bpcharin 1044 bpcharout 1045 bpcharrecv 2430 bpcharsend 2431
varchar i x f varcharin 1046 varcharout 1047 varcharrecv 2432 varcharsend 2433
date i p t date_in 1084 date_out 1085 date_recv 2468 date_send 2469
time d p t time_in 1143 time_out 1144 time_recv 2470 time_send 2471
timestamp d p t timestamp_in 1312 timestamp_out 1313 timestamp_recv 2474 timestamp_send 2475
timestamptz d p t timestamptz_in 1150 timestamptz_out 1151 timestamptz_recv 2476 timestamptz_send 2477
interval d p f interval_in 1160 interval_out 1161 interval_recv 2478 interval_send 2479
numeric i m f numeric_in 1701 numeric_out 1702 numeric_recv 2460 numeric_send 2461
regprocedure i p t regprocedurein 2212 regprocedureout 2213 regprocedurerecv 2446 regproceduresend 2447
regoper i p t regoperin 2214 regoperout 2215 regoperrecv 2448 regopersend 2449
regoperator i p t regoperatorin 2216 regoperatorout 2217 regoperatorrecv 2450 regoperatorsend 2451
regclass i p t regclassin 2218 regclassout 2219 regclassrecv 2452 regclasssend 2453
regtype i p t regtypein 2220 regtypeout 2221 regtyperecv 2454 regtypesend 2455
record d x f record_in 2290 record_out 2291 record_recv 2402 record_send 2403
any i p t any_in 2294 any_out 2295 - 0 - 0
anyarray d x f anyarray_in 2296 anyarray_out 2297 anyarray_recv 2502 anyarray_send 2503
void i p t void_in 2298 void_out 2299 void_recv 3120 void_send 3121
anyelement i p t anyelement_in 2312 anyelement_out 2313 - 0 - 0
uuid c p f uuid_in 2952 uuid_out 2953 uuid_recv 2961 uuid_send 2962
regnamespace i p t regnamespacein 4084 regnamespaceout 4085 regnamespacerecv 4087 regnamespacesend 4088
regrole i p t regrolein 4098 regroleout 4092 regrolerecv 4094 regrolesend 4095
regcollation i p t regcollationin 4193 regcollationout 4194 regcollationrecv 4196 regcollationsend 4197
mz_timestamp d p t mz_timestamp_in 12501 mz_timestamp_out 12502 mz_timestamp_recv 12503 mz_timestamp_send 12504
";

/// The functions of all array types.
const ARRAY_IO: [(&str, u32); 4] = [
    ("array_in", 750),
    ("array_out", 751),
    ("array_recv", 2400),
    ("array_send", 2401),
];
pub(super) const ARRAY_SUBSCRIPT: (&str, u32) = ("array_subscript_handler", 6179);

fn parse_storage(line: &'static str) -> (&'static str, Storage) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, align, storage, by_value, ref functions @ ..] = words[..] else {
        panic!("bad line in the table of types: {line}");
    };
    let function = |i: usize| {
        let (name, oid) = (functions[2 * i], functions[2 * i + 1].parse().unwrap_or(0));
        (if oid == 0 { "" } else { name }, oid)
    };
    let io = [function(0), function(1), function(2), function(3)];
    let by_value = by_value == "t";
    (
        name,
        Storage {
            align,
            storage,
            by_value,
            io,
        },
    )
}

fn storages() -> &'static BTreeMap<&'static str, Storage> {
    static TABLE: OnceLock<BTreeMap<&'static str, Storage>> = OnceLock::new();
    TABLE.get_or_init(|| {
        STORAGE
            .lines()
            .filter(|l| !l.is_empty())
            .map(parse_storage)
            .collect()
    })
}

pub(super) fn storage(ty: &SqlType) -> Storage {
    match ty {
        SqlType::Array(element) => {
            let align = if storage(element).align == "d" {
                "d"
            } else {
                "i"
            };
            Storage {
                align,
                storage: "x",
                by_value: false,
                io: ARRAY_IO,
            }
        }
        other => {
            let name = other.without_typmod().typname();
            *storages()
                .get(name.as_str())
                .unwrap_or_else(|| panic!("type {name} is missing from the table of storage"))
        }
    }
}

/// Functions that read and write values: (name, OID).
pub(super) fn io_functions() -> impl Iterator<Item = (&'static str, u32)> {
    let of_types = storages().values().flat_map(|s| s.io);
    of_types
        .filter(|(_, oid)| *oid != 0)
        .chain(ARRAY_IO)
        .chain([ARRAY_SUBSCRIPT])
}

/// `attcollation` of a column of this type.
pub(super) fn collation(ty: &SqlType) -> u32 {
    match ty {
        SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) => DEFAULT_COLLATION,
        SqlType::Name => C_COLLATION,
        SqlType::Array(element) => collation(element),
        _ => 0,
    }
}

/// Every type there is: base types, then their arrays.
pub(super) fn all_types() -> impl Iterator<Item = SqlType> {
    let record = || SqlType::Record(vec![]);
    let base = SqlType::all().cloned().chain([record()]);
    let arrays = SqlType::all()
        .filter(|t| t.array_oid() != 0)
        .cloned()
        .chain([record()]);
    base.chain(arrays.map(SqlType::array_of))
}

fn typtype(ty: &SqlType) -> &'static str {
    match ty {
        SqlType::Unknown
        | SqlType::Any
        | SqlType::AnyArray
        | SqlType::AnyElement
        | SqlType::Void
        | SqlType::Record(_) => "p",
        SqlType::Array(element) => match **element {
            SqlType::Record(_) => "p",
            _ => "b",
        },
        _ => "b",
    }
}

/// The schema that a type is in.
pub(super) fn type_schema(ty: &SqlType) -> u32 {
    let schema = match ty {
        SqlType::MzTimestamp => MZ_CATALOG,
        SqlType::Array(element) => return type_schema(element),
        _ => PG_CATALOG,
    };
    schema_oid(schema).unwrap_or(0)
}

pub(super) fn pg_type(table: &mut Table) {
    for ty in all_types() {
        let storage = storage(&ty);
        let [input, output, receive, send] = storage.io.map(|(_, oid)| Datum::Oid(oid));
        let element = ty.element();
        let (name, category) = (ty.typname(), ty.category().to_string());
        let subscript = if element.is_some() {
            ARRAY_SUBSCRIPT.1
        } else {
            0
        };
        table.add(&[
            ("oid", Datum::Oid(ty.oid())),
            ("typname", Datum::String(&name)),
            ("typnamespace", Datum::Oid(type_schema(&ty))),
            ("typowner", Datum::Oid(SYSTEM_OWNER)),
            ("typlen", Datum::Int16(ty.typlen())),
            ("typbyval", Datum::Bool(storage.by_value)),
            ("typtype", Datum::String(typtype(&ty))),
            ("typcategory", Datum::String(&category)),
            ("typispreferred", Datum::Bool(ty.is_preferred())),
            ("typisdefined", Datum::TRUE),
            ("typdelim", Datum::String(",")),
            ("typsubscript", Datum::Oid(subscript)),
            ("typelem", Datum::Oid(element.map_or(0, |e| e.oid()))),
            ("typarray", Datum::Oid(ty.array_oid())),
            ("typinput", input),
            ("typoutput", output),
            ("typreceive", receive),
            ("typsend", send),
            ("typalign", Datum::String(storage.align)),
            ("typstorage", Datum::String(storage.storage)),
            ("typtypmod", Datum::Int32(-1)),
            ("typcollation", Datum::Oid(collation(&ty))),
        ]);
    }
}

/// type, OID, name and family of the operator class by which a btree orders values of the type.
const OPERATOR_CLASSES: &str = "
int4 1978 int4_ops 1976
int2 1979 int2_ops 1976
oid 1981 oid_ops 1989
date 3122 date_ops 434
float8 3123 float8_ops 1970
int8 3124 int8_ops 1976
numeric 3125 numeric_ops 1988
text 3126 text_ops 1994
timestamptz 3127 timestamptz_ops 434
timestamp 3128 timestamp_ops 434
anyarray 10000 array_ops 397
bool 10003 bool_ops 424
bpchar 10004 bpchar_ops 426
bytea 10006 bytea_ops 428
char 10007 char_ops 429
float4 10012 float4_ops 1970
interval 10022 interval_ops 1982
name 10028 name_ops 1994
oidvector 10032 oidvector_ops 1991
time 10038 time_ops 1996
uuid 10065 uuid_ops 2968
";

struct OperatorClass {
    ty: SqlType,
    oid: u32,
    name: &'static str,
    family: u32,
}

fn operator_classes() -> &'static [OperatorClass] {
    static CLASSES: OnceLock<Vec<OperatorClass>> = OnceLock::new();
    CLASSES.get_or_init(|| {
        let parse = |line: &'static str| {
            let mut words = line.split_whitespace();
            let ty = words.next().and_then(SqlType::from_typname)?;
            let oid = words.next()?.parse().ok()?;
            let name = words.next()?;
            Some(OperatorClass {
                ty,
                oid,
                name,
                family: words.next()?.parse().ok()?,
            })
        };
        OPERATOR_CLASSES.lines().filter_map(parse).collect()
    })
}

/// The operator class of an index key of this type; that of `text` and `int4` where PostgreSQL would use it by coercion.
pub(super) fn operator_class(ty: &SqlType) -> u32 {
    let class = |ty: &SqlType| {
        operator_classes()
            .iter()
            .find(|c| c.ty.same_base(ty))
            .map(|c| c.oid)
    };
    let stand_in = match ty {
        SqlType::Array(_) => SqlType::AnyArray,
        SqlType::Varchar(_) => SqlType::Text,
        ty if crate::types::cast::is_oid_like(ty) => SqlType::Oid,
        other => other.clone(),
    };
    class(ty).or_else(|| class(&stand_in)).unwrap_or(0)
}

pub(super) fn pg_opclass(table: &mut Table) {
    for class in operator_classes() {
        table.add(&[
            ("oid", Datum::Oid(class.oid)),
            ("opcmethod", Datum::Oid(BTREE)),
            ("opcname", Datum::String(class.name)),
            (
                "opcnamespace",
                Datum::Oid(schema_oid(PG_CATALOG).unwrap_or(0)),
            ),
            ("opcowner", Datum::Oid(SYSTEM_OWNER)),
            ("opcfamily", Datum::Oid(class.family)),
            ("opcintype", Datum::Oid(class.ty.oid())),
            ("opcdefault", Datum::TRUE),
        ]);
    }
}

/// The families of those classes.
const OPERATOR_FAMILIES: &[(u32, &str)] = &[
    (397, "array_ops"),
    (424, "bool_ops"),
    (426, "bpchar_ops"),
    (428, "bytea_ops"),
    (429, "char_ops"),
    (434, "datetime_ops"),
    (1970, "float_ops"),
    (1976, "integer_ops"),
    (1982, "interval_ops"),
    (1988, "numeric_ops"),
    (1989, "oid_ops"),
    (1991, "oidvector_ops"),
    (1994, "text_ops"),
    (1996, "time_ops"),
    (2968, "uuid_ops"),
];

pub(super) fn pg_opfamily(table: &mut Table) {
    for (oid, name) in OPERATOR_FAMILIES {
        table.add(&[
            ("oid", Datum::Oid(*oid)),
            ("opfmethod", Datum::Oid(BTREE)),
            ("opfname", Datum::String(name)),
            (
                "opfnamespace",
                Datum::Oid(schema_oid(PG_CATALOG).unwrap_or(0)),
            ),
            ("opfowner", Datum::Oid(SYSTEM_OWNER)),
        ]);
    }
}

pub(super) fn pg_collation(table: &mut Table) {
    for (oid, name) in COLLATIONS {
        let default = *oid == DEFAULT_COLLATION;
        table.add(&[
            ("oid", Datum::Oid(*oid)),
            ("collname", Datum::String(name)),
            (
                "collnamespace",
                Datum::Oid(schema_oid(PG_CATALOG).unwrap_or(0)),
            ),
            ("collowner", Datum::Oid(SYSTEM_OWNER)),
            (
                "collprovider",
                Datum::String(if default { "d" } else { "c" }),
            ),
            ("collisdeterministic", Datum::TRUE),
            ("collencoding", Datum::Int32(-1)),
            (
                "collcollate",
                if default {
                    Datum::Null
                } else {
                    Datum::String(name)
                },
            ),
            (
                "collctype",
                if default {
                    Datum::Null
                } else {
                    Datum::String(name)
                },
            ),
        ]);
    }
}

pub(super) fn pg_am(table: &mut Table) {
    for (oid, name, kind) in [(HEAP, "heap", "t"), (BTREE, "btree", "i")] {
        table.add(&[
            ("oid", Datum::Oid(oid)),
            ("amname", Datum::String(name)),
            ("amtype", Datum::String(kind)),
        ]);
    }
}

pub(super) fn pg_language(table: &mut Table) {
    for (oid, name, trusted) in [(12, "internal", false), (13, "c", false), (14, "sql", true)] {
        table.add(&[
            ("oid", Datum::Oid(oid)),
            ("lanname", Datum::String(name)),
            ("lanowner", Datum::Oid(SYSTEM_OWNER)),
            ("lanpltrusted", Datum::Bool(trusted)),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_storage_and_an_oid_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for ty in all_types() {
            storage(&ty);
            assert!(seen.insert(ty.oid()), "{ty} has the OID of another type");
        }
        assert_eq!(
            operator_classes().len(),
            OPERATOR_CLASSES.lines().filter(|l| !l.is_empty()).count()
        );
        assert!(
            operator_classes()
                .iter()
                .all(|c| OPERATOR_FAMILIES.iter().any(|(oid, _)| *oid == c.family))
        );
    }
}
