//! Aggregates with an ORDER BY of their own: their values are collected with the sort keys, then put in order here.

use super::{EvalResult, FuncDef};
use crate::scalar::eval::EvalCtx;
use repr::{Datum, RowArena, SqlType};
use std::cmp::Ordering;

pub(super) static TABLE: &[FuncDef] = &[
    // array_ordered(array of records (keys, value), order): the values as an array.
    FuncDef::null_aware("array_ordered", array_ordered).nullable(),
    // string_ordered(array of records (keys, value, separator), order): the values, each after the first preceded by its separator.
    FuncDef::null_aware("string_ordered", string_ordered).nullable(),
];

/// The records in the order that `order` says, two letters for each key: `a`scending or `d`escending, NULLs `f`irst or `l`ast. NULL
/// records are those that the aggregate's FILTER left out.
fn sorted<'a>(records: Datum<'a>, order: &str) -> Vec<Vec<Datum<'a>>> {
    let Datum::Array(array) = records else {
        return vec![];
    };
    let mut rows: Vec<Vec<Datum<'a>>> = array
        .iter()
        .filter_map(|d| match d {
            Datum::Record(record) => Some(record.iter().collect()),
            _ => None,
        })
        .collect();
    rows.sort_by(|l, r| compare(l, r, order));
    rows
}

fn compare(left: &[Datum<'_>], right: &[Datum<'_>], order: &str) -> Ordering {
    for (i, code) in order.as_bytes().chunks_exact(2).enumerate() {
        let (l, r) = (left[i], right[i]);
        let ordering = match (l.is_null(), r.is_null()) {
            (true, true) => Ordering::Equal,
            (true, false) if code[1] == b'f' => Ordering::Less,
            (true, false) => Ordering::Greater,
            (false, true) if code[1] == b'f' => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) if code[0] == b'd' => r.cmp(&l),
            (false, false) => l.cmp(&r),
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
    Ordering::Equal
}

fn array_ordered<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    let rows = sorted(a[0], a[1].unwrap_str());
    if rows.is_empty() {
        return Ok(Datum::Null);
    }
    let values: Vec<Datum<'_>> = rows.iter().filter_map(|row| row.last().copied()).collect();
    Ok(super::array::list(&values, arena))
}

fn string_ordered<'a>(
    _: &EvalCtx,
    _: &SqlType,
    a: &[Datum<'a>],
    arena: &'a RowArena,
) -> EvalResult<'a> {
    let mut text: Option<String> = None;
    for row in sorted(a[0], a[1].unwrap_str()) {
        let [.., value, separator] = row.as_slice() else {
            continue;
        };
        let Datum::String(value) = value else {
            continue;
        };
        match &mut text {
            None => text = Some((*value).to_owned()),
            Some(text) => {
                if let Datum::String(separator) = separator {
                    text.push_str(separator);
                }
                text.push_str(value);
            }
        }
    }
    Ok(text.map_or(Datum::Null, |text| Datum::String(arena.push_string(text))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar::Func;
    use crate::scalar::ScalarExpr;
    use repr::{Row, RowPacker};

    fn records(rows: &[&[Datum<'_>]]) -> Row {
        let arena = RowArena::new();
        let records: Vec<Datum<'_>> = rows
            .iter()
            .map(|r| arena.make_datum(|p| p.push_record(r.iter())))
            .collect();
        let mut packer = RowPacker::new();
        packer.push_list(records.iter());
        packer.finish_row()
    }

    #[test]
    fn keys_decide_the_order_and_null_values_are_not_joined() {
        let rows = records(&[
            &[Datum::Int32(1), Datum::String("a"), Datum::String("-")],
            &[Datum::Null, Datum::String("n"), Datum::String("+")],
            &[Datum::Int32(2), Datum::Null, Datum::String("*")],
            &[Datum::Int32(3), Datum::String("c"), Datum::String("/")],
        ]);
        let ty = SqlType::Record(vec![]).array_of().nullable(false);
        let call = |order: &str| {
            let order = ScalarExpr::literal(Datum::String(order), SqlType::Text);
            let args = vec![ScalarExpr::Literal(Ok(rows.clone()), ty.clone()), order];
            let call = ScalarExpr::call(Func::get("string_ordered"), args, SqlType::Text);
            let arena = RowArena::new();
            call.eval(&EvalCtx::default(), &[], &arena)
                .unwrap()
                .unwrap_str()
                .to_owned()
        };
        assert_eq!(call("dl"), "c-a+n");
        assert_eq!(call("af"), "n-a/c");
    }
}
