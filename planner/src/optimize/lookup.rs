//! Keys of index lookups: expressions over literals and parameters.

use crate::optimize::bind::Params;
use plan::scalar::EvalCtx;
use plan::{EvalError, ScalarExpr};
use repr::{Datum, Row, RowArena, SqlType};

/// More keys than this in one statement, and a scan is used.
pub const KEYS_MAX: usize = 10_000;

/// The keys of a lookup. A key with a NULL in it matches nothing. Values take the form of `types`: with a modifier, that of stored
/// columns; without one, that of arrangements, where keys of different scales and lengths meet.
#[derive(Clone, Debug, PartialEq)]
pub enum LookupKeys {
    /// Every combination of one value per key column.
    Product {
        columns: Vec<KeyColumn>,
        types: Vec<SqlType>,
    },
    /// These keys (`(a, b) IN ((1, 2), (3, 4))`).
    Tuples {
        tuples: Vec<Vec<KeyExpr>>,
        types: Vec<SqlType>,
    },
}

/// The values of one key column.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyColumn {
    OneOf(Vec<KeyExpr>),
    /// The elements of an array (`k = ANY($1)`).
    AnyElement(ScalarExpr),
}

/// One value, of the key column's type.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyExpr {
    pub expr: ScalarExpr,
    /// The value was converted to the narrower type of the column: out of its range means that no row can match.
    pub narrowed: bool,
}

impl LookupKeys {
    /// The canonical packed keys, sorted, each once.
    ///
    /// # Errors
    /// If an expression fails, or if there are too many keys.
    pub fn bind(&self, params: Params<'_>, ctx: &EvalCtx) -> Result<Vec<Row>, EvalError> {
        let arena = RowArena::new();
        let mut keys = match self {
            LookupKeys::Product { columns, types } => product(columns, types, params, ctx, &arena)?,
            LookupKeys::Tuples { tuples, types } => {
                let mut rows = Vec::with_capacity(tuples.len());
                for tuple in tuples {
                    rows.extend(tuple_key(tuple, types, params, ctx, &arena)?);
                }
                rows
            }
        };
        if keys.len() > 1 {
            keys.sort_unstable();
            keys.dedup();
        }
        Ok(keys)
    }

    /// Whether the keys depend on parameters.
    pub fn has_params(&self) -> bool {
        let of = |key: &KeyExpr| key.expr.contains_param();
        match self {
            LookupKeys::Product { columns, .. } => columns.iter().any(|column| match column {
                KeyColumn::OneOf(exprs) => exprs.iter().any(of),
                KeyColumn::AnyElement(array) => array.contains_param(),
            }),
            LookupKeys::Tuples { tuples, .. } => tuples.iter().flatten().any(of),
        }
    }

    /// The most rows that the lookup asks for, if the plan knows.
    pub fn count(&self) -> Option<usize> {
        match self {
            LookupKeys::Product { columns, .. } => {
                columns.iter().try_fold(1usize, |n, column| match column {
                    KeyColumn::OneOf(exprs) => n.checked_mul(exprs.len()),
                    KeyColumn::AnyElement(_) => None,
                })
            }
            LookupKeys::Tuples { tuples, .. } => Some(tuples.len()),
        }
    }
}

/// The value in the form that keys of this type have; `None` if no value of the type is equal to it.
fn key_datum<'a>(datum: Datum<'a>, ty: &SqlType, arena: &'a RowArena) -> Option<Datum<'a>> {
    match (datum, ty) {
        (Datum::Numeric(n), SqlType::Numeric(Some(typmod))) => {
            let fitted = n.apply_typmod(*typmod).ok()?;
            (fitted == n).then_some(Datum::Numeric(fitted))
        }
        (Datum::String(s), SqlType::Char(Some(length))) => {
            let trimmed = s.trim_end_matches(' ');
            let missing = (*length as usize).checked_sub(trimmed.chars().count())?;
            let padded = trimmed.to_owned() + &" ".repeat(missing);
            Some(Datum::String(arena.push_string(padded)))
        }
        (other, ty) => Some(other.key_canonical(ty, arena)),
    }
}

/// The value of a key expression; `None` if it cannot match.
fn value<'a>(
    key: &'a KeyExpr,
    ty: &SqlType,
    params: Params<'a>,
    ctx: &EvalCtx,
    arena: &'a RowArena,
) -> Result<Option<Datum<'a>>, EvalError> {
    let datum = match &key.expr {
        ScalarExpr::Param(n, _) => Ok(param(params, *n)?),
        ScalarExpr::Literal(Ok(row), _) => Ok(row.iter().next().unwrap_or(Datum::Null)),
        other => evaluate(other, params, ctx, arena),
    };
    match datum {
        Ok(Datum::Null) => Ok(None),
        Ok(datum) => Ok(key_datum(datum, ty, arena)),
        Err(_) if key.narrowed => Ok(None),
        Err(error) => Err(error),
    }
}

fn param<'a>(params: Params<'a>, n: usize) -> Result<Datum<'a>, EvalError> {
    match params.get(n) {
        Some((row, _)) => Ok(row.iter().next().unwrap_or(Datum::Null)),
        None => Err(EvalError::new(
            "08P01",
            format!("there is no parameter ${}", n + 1),
        )),
    }
}

fn evaluate<'a>(
    expr: &ScalarExpr,
    params: Params<'a>,
    ctx: &EvalCtx,
    arena: &'a RowArena,
) -> Result<Datum<'a>, EvalError> {
    let mut bound = expr.clone();
    bound.bind(params);
    let temporary = RowArena::new();
    let datum = bound.eval(ctx, &[], &temporary)?;
    Ok(arena.copy_datum(datum))
}

fn product(
    columns: &[KeyColumn],
    types: &[SqlType],
    params: Params<'_>,
    ctx: &EvalCtx,
    arena: &RowArena,
) -> Result<Vec<Row>, EvalError> {
    if let Some(row) = single(columns, types, params, ctx, arena)? {
        return Ok(row.into_iter().collect());
    }
    let mut alternatives: Vec<Vec<Datum<'_>>> = Vec::with_capacity(columns.len());
    for (column, ty) in columns.iter().zip(types) {
        let mut values = vec![];
        match column {
            KeyColumn::OneOf(exprs) => {
                for expr in exprs {
                    values.extend(value(expr, ty, params, ctx, arena)?);
                }
            }
            KeyColumn::AnyElement(array) => match evaluate(array, params, ctx, arena)? {
                Datum::Null => {}
                array => values.extend(
                    array
                        .unwrap_array()
                        .iter()
                        .filter(|d| !d.is_null())
                        .filter_map(|d| key_datum(d, ty, arena)),
                ),
            },
        }
        values.sort_unstable();
        values.dedup();
        alternatives.push(values);
    }
    let total = alternatives
        .iter()
        .try_fold(1usize, |n, values| n.checked_mul(values.len()));
    if total.is_none_or(|n| n > KEYS_MAX * 100) {
        return Err(EvalError::new(
            "54000",
            "too many combinations of key values",
        ));
    }
    let mut prefixes: Vec<Vec<Datum<'_>>> = vec![vec![]];
    for values in &alternatives {
        prefixes = prefixes
            .iter()
            .flat_map(|prefix| {
                values
                    .iter()
                    .map(move |v| [prefix.as_slice(), &[*v]].concat())
            })
            .collect();
    }
    Ok(prefixes.iter().map(|key| Row::pack_slice(key)).collect())
}

/// The common case, one value per column, without intermediate vectors. The inner `None`: nothing can match.
fn single(
    columns: &[KeyColumn],
    types: &[SqlType],
    params: Params<'_>,
    ctx: &EvalCtx,
    arena: &RowArena,
) -> Result<Option<Option<Row>>, EvalError> {
    let mut packer = repr::RowPacker::new();
    for (column, ty) in columns.iter().zip(types) {
        let KeyColumn::OneOf(exprs) = column else {
            return Ok(None);
        };
        let [expr] = exprs.as_slice() else {
            return Ok(None);
        };
        match value(expr, ty, params, ctx, arena)? {
            Some(datum) => packer.push(datum),
            None => return Ok(Some(None)),
        }
    }
    Ok(Some(Some(packer.finish_row())))
}

fn tuple_key(
    tuple: &[KeyExpr],
    types: &[SqlType],
    params: Params<'_>,
    ctx: &EvalCtx,
    arena: &RowArena,
) -> Result<Option<Row>, EvalError> {
    let mut packer = repr::RowPacker::new();
    for (expr, ty) in tuple.iter().zip(types) {
        match value(expr, ty, params, ctx, arena)? {
            Some(datum) => packer.push(datum),
            None => return Ok(None),
        }
    }
    Ok(Some(packer.finish_row()))
}
