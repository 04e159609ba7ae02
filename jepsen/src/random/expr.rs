//! Random expressions of a wanted type over the columns in scope.

use super::dice::Dice;
use super::query;
use super::world::{Table, Type};

/// A column that an expression may name.
#[derive(Clone, Debug)]
pub struct Source {
    pub sql: String,
    pub kind: Type,
}

/// What an expression can see.
pub struct Scope<'a> {
    pub columns: Vec<Source>,
    /// Tables for uncorrelated subqueries.
    pub tables: &'a [Table],
    /// Expressions that can fail on some rows (division, casts of text) are allowed.
    pub risky: bool,
}

impl Scope<'_> {
    fn column(&self, kind: Type, dice: &mut Dice) -> Option<String> {
        let fitting: Vec<&Source> = self.columns.iter().filter(|c| c.kind == kind).collect();
        (!fitting.is_empty()).then(|| dice.pick(&fitting).sql.clone())
    }
}

/// An expression of type `kind`, nested at most `depth` deep.
pub fn of(kind: Type, scope: &Scope, depth: u32, dice: &mut Dice) -> String {
    if depth == 0 || dice.chance(35) {
        let column = if dice.chance(80) {
            scope.column(kind, dice)
        } else {
            None
        };
        return column.unwrap_or_else(|| kind.literal(dice));
    }
    if dice.chance(20) {
        return conditional(kind, scope, depth, dice);
    }
    let d = depth - 1;
    match kind {
        Type::Int => int(scope, d, dice),
        Type::Big => big(scope, d, dice),
        Type::Numeric => numeric(scope, d, dice),
        Type::Text => text(scope, d, dice),
        Type::Date => date(scope, d, dice),
        Type::Timestamp => timestamp(scope, d, dice),
        Type::Bool => boolean(scope, d, dice),
    }
}

/// CASE, COALESCE, NULLIF: they exist for every type.
fn conditional(kind: Type, scope: &Scope, depth: u32, dice: &mut Dice) -> String {
    let d = depth - 1;
    let one = |dice: &mut Dice| of(kind, scope, d, dice);
    let (x, y) = (one(dice), one(dice));
    match dice.range(0, 4) {
        0 => format!(
            "case when {} then {x} else {y} end",
            boolean(scope, d, dice)
        ),
        1 => format!("case when {} then {x} end", boolean(scope, d, dice)),
        2 => format!("coalesce({x}, {y})"),
        _ => format!("nullif({x}, {y})"),
    }
}

fn int(scope: &Scope, d: u32, dice: &mut Dice) -> String {
    let (x, y) = (of(Type::Int, scope, d, dice), of(Type::Int, scope, d, dice));
    match dice.range(0, 9) {
        0 => format!("({x} + {y})"),
        1 => format!("({x} - {y})"),
        2 => format!("({x} * {y})"),
        3 => format!("({x} % 4)"),
        4 => format!("abs({x})"),
        5 => format!("length({})", of(Type::Text, scope, d, dice)),
        6 => format!("{}::int", of(Type::Numeric, scope, d, dice)),
        7 if scope.risky => format!("({x} / {y})"),
        7 => format!("({x} / 3)"),
        _ => format!(
            "extract(month from {})::int",
            of(Type::Date, scope, d, dice)
        ),
    }
}

fn big(scope: &Scope, d: u32, dice: &mut Dice) -> String {
    let (x, y) = (of(Type::Big, scope, d, dice), of(Type::Int, scope, d, dice));
    match dice.range(0, 4) {
        0 => format!("({x} + {y})"),
        1 => format!("({x} * {y})"),
        2 => format!("({y})::bigint"),
        _ => format!("(- {x})"),
    }
}

fn numeric(scope: &Scope, d: u32, dice: &mut Dice) -> String {
    let (x, y) = (
        of(Type::Numeric, scope, d, dice),
        of(Type::Numeric, scope, d, dice),
    );
    match dice.range(0, 7) {
        0 => format!("({x} + {y})"),
        1 => format!("({x} - {y})"),
        2 => format!("({x} * {})", of(Type::Int, scope, d, dice)),
        3 => format!("round({x}, 1)"),
        4 => format!("{}::numeric", of(Type::Int, scope, d, dice)),
        5 if scope.risky => format!("({x} / {y})"),
        5 => format!("({x} / 4)"),
        _ => format!("abs({x})"),
    }
}

fn text(scope: &Scope, d: u32, dice: &mut Dice) -> String {
    let x = of(Type::Text, scope, d, dice);
    match dice.range(0, 5) {
        0 => format!("({x} || {})", of(Type::Text, scope, d, dice)),
        1 => format!("upper({x})"),
        2 => format!("substr({x}, 1, 2)"),
        3 => format!("{}::text", of(Type::Int, scope, d, dice)),
        _ => format!("lower({x})"),
    }
}

fn date(scope: &Scope, d: u32, dice: &mut Dice) -> String {
    let x = of(Type::Date, scope, d, dice);
    match dice.range(0, 3) {
        0 => format!("({x} + {})", of(Type::Int, scope, d, dice)),
        1 => format!("({x} - 31)"),
        _ => format!("{}::date", of(Type::Timestamp, scope, d, dice)),
    }
}

fn timestamp(scope: &Scope, d: u32, dice: &mut Dice) -> String {
    let (x, y) = (
        of(Type::Timestamp, scope, d, dice),
        of(Type::Date, scope, d, dice),
    );
    match dice.range(0, 4) {
        0 => format!("({y} + interval '1 month')"),
        1 => format!("({x} - interval '1 day 2 hours')"),
        2 => format!("({y} - interval '1 year 3 days')"),
        _ => format!("{y}::timestamp"),
    }
}

/// A condition.
pub fn boolean(scope: &Scope, d: u32, dice: &mut Dice) -> String {
    let next = d.saturating_sub(1);
    let kind = *dice.pick(&[
        Type::Int,
        Type::Int,
        Type::Big,
        Type::Numeric,
        Type::Text,
        Type::Date,
        Type::Timestamp,
    ]);
    let x = of(kind, scope, next, dice);
    match dice.range(0, 20) {
        0..7 => format!(
            "({x} {} {})",
            dice.pick(&["=", "<>", "<", "<=", ">", ">="]),
            of(kind, scope, next, dice)
        ),
        7 | 8 if d > 0 => format!(
            "({} and {})",
            boolean(scope, next, dice),
            boolean(scope, next, dice)
        ),
        9 | 10 if d > 0 => format!(
            "({} or {})",
            boolean(scope, next, dice),
            boolean(scope, next, dice)
        ),
        11 if d > 0 => format!("(not {})", boolean(scope, next, dice)),
        12 => format!("({x} is null)"),
        13 => format!("({x} is not null)"),
        14 => format!(
            "({x} {}between {} and {})",
            dice.pick(&["", "not "]),
            of(kind, scope, next, dice),
            of(kind, scope, next, dice)
        ),
        15 => format!(
            "({x} {}in ({}, {}))",
            dice.pick(&["", "not "]),
            kind.literal(dice),
            kind.literal(dice)
        ),
        16 => {
            let pattern = dice.pick(&["a%", "%b%", "_", "%", "a\\_c", "x_z", ""]);
            format!(
                "({} {}like '{pattern}')",
                of(Type::Text, scope, next, dice),
                dice.pick(&["", "not "])
            )
        }
        17 => format!("({x} is distinct from {})", of(kind, scope, next, dice)),
        18 if d > 0 && !scope.tables.is_empty() => query::subquery_condition(scope, next, dice),
        _ => scope
            .column(Type::Bool, dice)
            .unwrap_or_else(|| format!("({x} >= {})", kind.literal(dice))),
    }
}
