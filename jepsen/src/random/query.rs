//! Random queries of the supported surface: joins, derived tables, CTEs, uncorrelated subqueries, grouping, set operations, top-k.

use super::dice::Dice;
use super::expr::{self, Scope, Source};
use super::world::{TYPES, Table, Type};

/// How deep derived tables and CTEs nest.
const NESTING: u32 = 2;
/// How deep one expression nests.
const EXPRESSION_DEPTH: u32 = 3;

/// A query and what is known about its answer.
#[derive(Clone, Debug)]
pub struct Query {
    pub sql: String,
    /// The query orders by every output column: its rows have one right order.
    pub ordered: bool,
    /// The query may fail on some rows.
    pub risky: bool,
}

/// A random query over these tables.
pub fn random(tables: &[Table], dice: &mut Dice) -> Query {
    let risky = dice.chance(10);
    let kinds: Vec<Type> = (0..dice.range(1, 5)).map(|_| *dice.pick(&TYPES)).collect();
    let maker = Maker { tables, risky };
    let body = maker.body(&kinds, NESTING, dice);
    let (sql, ordered) = if dice.chance(25) {
        (format!("{body} {}", order(kinds.len(), dice)), true)
    } else {
        (body, false)
    };
    Query {
        sql,
        ordered,
        risky,
    }
}

/// `x in (select ..)`, `exists (select ..)`, or a comparison with a scalar subquery; none refers to the outer query.
pub fn subquery_condition(scope: &Scope, depth: u32, dice: &mut Dice) -> String {
    let table = dice.pick(scope.tables);
    let inner = Scope {
        columns: columns_of(table, "s"),
        tables: &[],
        risky: false,
    };
    let condition = expr::boolean(&inner, 1, dice);
    let name = &table.name;
    let int = expr::of(Type::Int, scope, depth, dice);
    match dice.range(0, 4) {
        0 => format!(
            "({int} {}in (select s.a from {name} s where {condition}))",
            dice.pick(&["", "not "])
        ),
        1 => format!(
            "({}exists (select 1 from {name} s where {condition}))",
            dice.pick(&["", "not "])
        ),
        2 => format!(
            "({int} {} (select {}(s.a) from {name} s where {condition}))",
            dice.pick(&["<", ">=", "="]),
            dice.pick(&["min", "max"])
        ),
        _ => format!("({int} < (select count(*) from {name} s where {condition}))"),
    }
}

/// ORDER BY all columns, in a random sequence, with LIMIT and OFFSET: the answer is unique up to equal rows.
fn order(columns: usize, dice: &mut Dice) -> String {
    let mut places: Vec<usize> = (1..=columns).collect();
    for i in (1..places.len()).rev() {
        places.swap(i, dice.index(i + 1));
    }
    let keys: Vec<String> = places
        .iter()
        .map(|p| {
            format!(
                "{p}{}",
                dice.pick(&["", " desc", " nulls first", " desc nulls last"])
            )
        })
        .collect();
    let limit = if dice.chance(80) {
        format!(" limit {}", dice.range(0, 8))
    } else {
        String::new()
    };
    let offset = if dice.chance(30) {
        format!(" offset {}", dice.range(0, 4))
    } else {
        String::new()
    };
    format!("order by {}{limit}{offset}", keys.join(", "))
}

fn columns_of(table: &Table, alias: &str) -> Vec<Source> {
    table
        .columns
        .iter()
        .map(|c| Source {
            sql: format!("{alias}.{}", c.name),
            kind: c.kind,
        })
        .collect()
}

struct Maker<'a> {
    tables: &'a [Table],
    risky: bool,
}

impl Maker<'_> {
    /// A SELECT or a UNION whose columns are named c1, c2, ... and have these types.
    fn body(&self, kinds: &[Type], nesting: u32, dice: &mut Dice) -> String {
        if dice.chance(15) {
            let all = dice.pick(&["", " all"]);
            return format!(
                "{} union{all} {}",
                self.select(kinds, nesting, dice),
                self.select(kinds, nesting, dice)
            );
        }
        if nesting > 0 && dice.chance(15) {
            return self.with(kinds, nesting, dice);
        }
        self.select(kinds, nesting, dice)
    }

    /// A CTE used once or twice.
    fn with(&self, kinds: &[Type], nesting: u32, dice: &mut Dice) -> String {
        let inner: Vec<Type> = [Type::Int]
            .into_iter()
            .chain((0..dice.range(1, 3)).map(|_| *dice.pick(&TYPES)))
            .collect();
        let definition = self.body(&inner, nesting - 1, dice);
        let columns = |alias: &str| -> Vec<Source> {
            inner
                .iter()
                .enumerate()
                .map(|(n, k)| Source {
                    sql: format!("{alias}.c{}", n + 1),
                    kind: *k,
                })
                .collect()
        };
        let mut scope = Scope {
            columns: columns("x"),
            tables: self.tables,
            risky: self.risky,
        };
        let mut from = "w x".to_owned();
        if dice.chance(40) {
            from.push_str(&format!(
                " {} w y on x.c1 = y.c1",
                dice.pick(&["join", "left join"])
            ));
            scope.columns.extend(columns("y"));
        }
        format!(
            "with w as ({definition}) {}",
            self.output(kinds, &from, &scope, dice)
        )
    }

    fn select(&self, kinds: &[Type], nesting: u32, dice: &mut Dice) -> String {
        let (from, columns) = self.from(nesting, dice);
        let scope = Scope {
            columns,
            tables: self.tables,
            risky: self.risky,
        };
        self.output(kinds, &from, &scope, dice)
    }

    /// Select list, WHERE, GROUP BY over a FROM clause that is already there.
    fn output(&self, kinds: &[Type], from: &str, scope: &Scope, dice: &mut Dice) -> String {
        let filter = if dice.chance(40) {
            format!(" where {}", expr::boolean(scope, 2, dice))
        } else {
            String::new()
        };
        match dice.range(0, 10) {
            0..4 => self.grouped(kinds, from, &filter, scope, dice),
            4 => format!(
                "select distinct {} from {from}{filter}",
                list(
                    kinds,
                    |k, dice| expr::of(k, scope, EXPRESSION_DEPTH, dice),
                    dice
                )
            ),
            _ => format!(
                "select {} from {from}{filter}",
                list(
                    kinds,
                    |k, dice| expr::of(k, scope, EXPRESSION_DEPTH, dice),
                    dice
                )
            ),
        }
    }

    /// Each output column is a grouping key or an aggregate; sometimes there is no GROUP BY and all are aggregates.
    fn grouped(
        &self,
        kinds: &[Type],
        from: &str,
        filter: &str,
        scope: &Scope,
        dice: &mut Dice,
    ) -> String {
        let everything = dice.chance(30);
        let mut keys = Vec::new();
        let items = list(
            kinds,
            |kind, dice| {
                if !everything && dice.chance(50) {
                    let key = expr::of(kind, scope, 1, dice);
                    // A literal key would be read as a column number or refused.
                    if key.contains('.')
                        && key.contains(char::is_alphabetic)
                        && !key.contains("select")
                    {
                        keys.push(key.clone());
                        return key;
                    }
                }
                aggregate(kind, scope, dice)
            },
            dice,
        );
        let grouping = if keys.is_empty() {
            String::new()
        } else {
            format!(" group by {}", keys.join(", "))
        };
        let having = match dice.range(0, 5) {
            0 => format!(" having count(*) > {}", dice.range(0, 4)),
            1 => format!(" having {} is not null", aggregate(Type::Int, scope, dice)),
            _ => String::new(),
        };
        format!("select {items} from {from}{filter}{grouping}{having}")
    }

    /// One to three relations and the columns they bring.
    fn from(&self, nesting: u32, dice: &mut Dice) -> (String, Vec<Source>) {
        let (mut from, mut columns) = self.relation("r0", nesting, dice);
        for n in 1..*dice.pick(&[1, 1, 2, 2, 2, 3]) {
            let (next, brought) = self.relation(&format!("r{n}"), nesting, dice);
            let ints = |sources: &[Source]| {
                sources
                    .iter()
                    .filter(|s| s.kind == Type::Int)
                    .cloned()
                    .collect::<Vec<_>>()
            };
            let equal = format!(
                "{} = {}",
                dice.pick(&ints(&columns)).sql,
                dice.pick(&ints(&brought)).sql
            );
            columns.extend(brought);
            let scope = Scope {
                columns: columns.clone(),
                tables: &[],
                risky: false,
            };
            let more = if dice.chance(20) {
                format!(" and {}", expr::boolean(&scope, 1, dice))
            } else {
                String::new()
            };
            from = match dice.range(0, 10) {
                0..4 => format!("{from} join {next} on {equal}{more}"),
                4..8 => format!("{from} left join {next} on {equal}{more}"),
                8 if n == 1 => format!("{from} cross join {next}"),
                _ => format!("{from} join {next} on {equal}"),
            };
        }
        (from, columns)
    }

    /// A table or a derived table. Each has an int column at least.
    fn relation(&self, alias: &str, nesting: u32, dice: &mut Dice) -> (String, Vec<Source>) {
        if nesting == 0 || dice.chance(80) {
            let table = dice.pick(self.tables);
            return (format!("{} {alias}", table.name), columns_of(table, alias));
        }
        let kinds: Vec<Type> = [Type::Int]
            .into_iter()
            .chain((0..dice.range(0, 3)).map(|_| *dice.pick(&TYPES)))
            .collect();
        let mut body = self.body(&kinds, nesting - 1, dice);
        if dice.chance(20) {
            body = format!("{body} {}", order(kinds.len(), dice));
        }
        let columns = kinds
            .iter()
            .enumerate()
            .map(|(n, k)| Source {
                sql: format!("{alias}.c{}", n + 1),
                kind: *k,
            })
            .collect();
        (format!("({body}) {alias}"), columns)
    }
}

fn list(
    kinds: &[Type],
    mut item: impl FnMut(Type, &mut Dice) -> String,
    dice: &mut Dice,
) -> String {
    let items: Vec<String> = kinds
        .iter()
        .enumerate()
        .map(|(n, k)| format!("{} as c{}", item(*k, dice), n + 1))
        .collect();
    items.join(", ")
}

/// An aggregate whose result has this type, by a cast where sums widen.
fn aggregate(kind: Type, scope: &Scope, dice: &mut Dice) -> String {
    let argument = |k: Type, dice: &mut Dice| expr::of(k, scope, 1, dice);
    match kind {
        Type::Int => match dice.range(0, 3) {
            0 => format!("count({})::int", argument(*dice.pick(&TYPES), dice)),
            _ => format!(
                "{}({})",
                dice.pick(&["min", "max"]),
                argument(Type::Int, dice)
            ),
        },
        Type::Big => match dice.range(0, 3) {
            0 => "count(*)".to_owned(),
            1 => format!("sum({})", argument(Type::Int, dice)),
            _ => format!(
                "{}({})",
                dice.pick(&["min", "max"]),
                argument(Type::Big, dice)
            ),
        },
        Type::Numeric => match dice.range(0, 4) {
            0 => format!("avg({})", argument(Type::Int, dice)),
            1 => format!("avg({})", argument(Type::Numeric, dice)),
            2 => format!(
                "sum({})",
                argument(*dice.pick(&[Type::Numeric, Type::Big]), dice)
            ),
            _ => format!(
                "{}({})",
                dice.pick(&["min", "max"]),
                argument(Type::Numeric, dice)
            ),
        },
        Type::Text | Type::Date | Type::Timestamp => {
            format!("{}({})", dice.pick(&["min", "max"]), argument(kind, dice))
        }
        Type::Bool => format!("(count({}) > 1)", argument(*dice.pick(&TYPES), dice)),
    }
}
