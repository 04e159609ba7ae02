//! Random tables, their rows, and changes to them.

use super::dice::Dice;

/// The column types that are generated. Domains are small, so that joins meet and groups collect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Int,
    Big,
    Numeric,
    Text,
    Date,
    Timestamp,
    Bool,
}

pub const TYPES: [Type; 7] = [
    Type::Int,
    Type::Big,
    Type::Numeric,
    Type::Text,
    Type::Date,
    Type::Timestamp,
    Type::Bool,
];

impl Type {
    /// The name in DDL and casts.
    pub fn sql(self) -> &'static str {
        match self {
            Type::Int => "int",
            Type::Big => "bigint",
            Type::Numeric => "numeric(10,2)",
            Type::Text => "text",
            Type::Date => "date",
            Type::Timestamp => "timestamp",
            Type::Bool => "boolean",
        }
    }

    /// A random value of the type as a literal that carries its type.
    pub fn literal(self, dice: &mut Dice) -> String {
        match self {
            // A minus sign binds weaker than a cast: negative numbers stand in parentheses.
            Type::Int => format!("({})", dice.range(-3, 10)),
            Type::Big => format!("({})::bigint", dice.range(-3, 12)),
            Type::Numeric => format!("{}.{:02}", dice.range(0, 9), dice.range(0, 4) * 25),
            Type::Text => format!(
                "'{}'",
                dice.pick(&["", "a", "b", "ab", "abc", "B", "xyz", "a_c", "100%"])
            ),
            Type::Date => format!(
                "date '2024-{:02}-{:02}'",
                dice.range(1, 4),
                dice.range(27, 30)
            ),
            Type::Timestamp => format!(
                "timestamp '2024-02-{:02} {:02}:30:00'",
                dice.range(27, 30),
                dice.range(0, 24)
            ),
            Type::Bool => (*dice.pick(&["true", "false"])).to_owned(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub kind: Type,
    pub nullable: bool,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    /// Whether the first column is an int PRIMARY KEY. Tables without one hold duplicate rows.
    pub keyed: bool,
}

impl Table {
    fn new(name: String, dice: &mut Dice) -> Table {
        let keyed = dice.chance(60);
        let mut columns = vec![Column {
            name: "k".to_owned(),
            kind: Type::Int,
            nullable: !keyed,
        }];
        for (n, letter) in ["a", "b", "c", "d"]
            .iter()
            .enumerate()
            .take(dice.range(1, 5) as usize)
        {
            // Every table has a second int to join on.
            let kind = if n == 0 {
                Type::Int
            } else {
                *dice.pick(&TYPES)
            };
            columns.push(Column {
                name: (*letter).to_owned(),
                kind,
                nullable: dice.chance(70),
            });
        }
        Table {
            name,
            columns,
            keyed,
        }
    }

    pub fn ddl(&self) -> String {
        let column = |c: &Column| {
            format!(
                "{} {}{}",
                c.name,
                c.kind.sql(),
                if c.nullable { "" } else { " not null" }
            )
        };
        let mut parts: Vec<String> = self.columns.iter().map(column).collect();
        if self.keyed {
            parts.push("primary key (k)".to_owned());
        }
        format!("create table {} ({})", self.name, parts.join(", "))
    }

    fn value(column: &Column, dice: &mut Dice) -> String {
        if column.nullable && dice.chance(20) {
            "null".to_owned()
        } else {
            column.kind.literal(dice)
        }
    }

    fn row(&self, key: i64, dice: &mut Dice) -> String {
        let value = |(n, c): (usize, &Column)| {
            if n == 0 && self.keyed {
                key.to_string()
            } else {
                Table::value(c, dice)
            }
        };
        format!(
            "({})",
            self.columns
                .iter()
                .enumerate()
                .map(value)
                .collect::<Vec<_>>()
                .join(", ")
        )
    }

    /// One INSERT, UPDATE or DELETE of this table. Keys of keyed tables come from a counter, so that no change is refused.
    fn change(&self, next_key: &mut i64, dice: &mut Dice) -> String {
        let name = &self.name;
        match dice.range(0, 10) {
            0..5 => {
                let rows: Vec<String> = (0..dice.range(1, 4))
                    .map(|_| {
                        *next_key += 1;
                        self.row(*next_key, dice)
                    })
                    .collect();
                format!("insert into {name} values {}", rows.join(", "))
            }
            5..8 => {
                let column = &self.columns[1 + dice.index(self.columns.len() - 1)];
                let value = Table::value(column, dice);
                format!(
                    "update {name} set {} = {value} where {}",
                    column.name,
                    self.some_rows(dice)
                )
            }
            8 => format!("delete from {name} where {}", self.some_rows(dice)),
            _ => format!("update {name} set a = a + 1 where {}", self.some_rows(dice)),
        }
    }

    fn some_rows(&self, dice: &mut Dice) -> String {
        match dice.range(0, 4) {
            0 => format!("k % 3 = {}", dice.range(0, 3)),
            1 => "a is null".to_owned(),
            2 => format!("a = {}", dice.range(-3, 10)),
            _ => format!("k = {}", dice.range(0, 30)),
        }
    }
}

/// A set of tables with the key counter of their changes.
pub struct World {
    pub tables: Vec<Table>,
    next_key: i64,
}

impl World {
    pub fn new(dice: &mut Dice) -> World {
        let tables = (0..dice.range(2, 5))
            .map(|n| Table::new(format!("t{n}"), dice))
            .collect();
        World {
            tables,
            next_key: 0,
        }
    }

    /// The rows the tables start with, one statement each.
    pub fn rows(&mut self, dice: &mut Dice) -> Vec<String> {
        let mut statements = Vec::new();
        for table in &self.tables {
            // Some tables stay empty: outer joins and aggregates over nothing.
            let rows = if dice.chance(10) {
                0
            } else {
                dice.range(1, 12)
            };
            for _ in 0..rows {
                self.next_key += 1;
                statements.push(format!(
                    "insert into {} values {}",
                    table.name,
                    table.row(self.next_key, dice)
                ));
            }
        }
        statements
    }

    /// One change: a statement, or several in one transaction.
    pub fn change(&mut self, dice: &mut Dice) -> String {
        let mut one = |dice: &mut Dice| {
            self.tables[dice.index(self.tables.len())].change(&mut self.next_key, dice)
        };
        if dice.chance(70) {
            return one(dice);
        }
        let several: Vec<String> = (0..dice.range(2, 5)).map(|_| one(dice)).collect();
        format!("begin; {}; commit", several.join("; "))
    }
}
