//! Rows of a built-in relation, written by column name.

use super::BuiltinRelation;
use repr::{ArrayDim, ArrayRef, Datum, Row, RowArena, SqlType};

/// A built-in relation being filled.
#[derive(Debug)]
pub struct Table {
    relation: &'static BuiltinRelation,
    rows: Vec<Row>,
}

impl Table {
    pub fn new(relation: &'static BuiltinRelation) -> Table {
        Table {
            relation,
            rows: vec![],
        }
    }

    /// Adds a row. Columns that are not named are NULL, or where NULL is not allowed what PostgreSQL calls nothing: zero, false, empty.
    ///
    /// # Panics
    /// If a column does not exist: names are constants of the program.
    pub fn add(&mut self, values: &[(&str, Datum<'_>)]) {
        let desc = &self.relation.desc;
        let mut datums: Vec<Datum<'_>> = desc
            .types
            .iter()
            .map(|column| {
                if column.nullable {
                    Datum::Null
                } else {
                    zero(&column.ty)
                }
            })
            .collect();
        for (name, value) in values {
            let Some(position) = desc.position(name) else {
                panic!("{} has no column {name}", self.relation.name);
            };
            datums[position] = *value;
        }
        self.rows.push(Row::pack_slice(&datums));
    }

    pub fn into_rows(self) -> Vec<Row> {
        self.rows
    }
}

fn zero(ty: &SqlType) -> Datum<'static> {
    match ty {
        SqlType::Bool => Datum::FALSE,
        SqlType::Int16 => Datum::Int16(0),
        SqlType::Int32 => Datum::Int32(0),
        SqlType::Int64 => Datum::Int64(0),
        SqlType::MzTimestamp => Datum::MzTimestamp(0),
        SqlType::Float32 => Datum::Float32(0.0),
        SqlType::Oid | SqlType::Xid | SqlType::RegProc => Datum::Oid(0),
        SqlType::Bytea => Datum::Bytes(&[]),
        SqlType::Int2Vector | SqlType::OidVector | SqlType::Array(_) => {
            Datum::Array(ArrayRef::EMPTY)
        }
        ty if crate::types::cast::is_string(ty) => Datum::String(""),
        other => panic!("no built-in relation has a column of type {other} without NULL"),
    }
}

/// An `int2vector` or `oidvector`: its subscripts start at 0.
pub(super) fn vector<'a>(
    values: impl IntoIterator<Item = Datum<'a>>,
    arena: &'a RowArena,
) -> Datum<'a> {
    let values: Vec<Datum<'_>> = values.into_iter().collect();
    if values.is_empty() {
        return Datum::Array(ArrayRef::EMPTY);
    }
    let dim = ArrayDim {
        lower_bound: 0,
        ..ArrayDim::new(values.len())
    };
    arena.make_datum(|packer| packer.push_array(&[dim], &values))
}

/// An array of one dimension.
pub(super) fn array<'a>(
    values: impl IntoIterator<Item = Datum<'a>>,
    arena: &'a RowArena,
) -> Datum<'a> {
    let values: Vec<Datum<'_>> = values.into_iter().collect();
    arena.make_datum(|packer| packer.push_list(&values))
}

/// A position from 0 as an attribute number from 1.
pub(super) fn attribute_number(column: usize) -> i16 {
    i16::try_from(column + 1).unwrap_or(i16::MAX)
}

/// `YES` or `NO`, as information_schema has it.
pub(super) fn yes_or_no(value: bool) -> Datum<'static> {
    Datum::String(if value { "YES" } else { "NO" })
}
