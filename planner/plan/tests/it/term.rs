//! The notation of the scripts: `int4pl(#0, 1)`, `'2020-01-01'::date`, `filter([gt(#1, 2)], get(t))`.

use plan::agg::{AggregateExpr, AggregateFunc};
use plan::mir::{ColumnOrder, Id, JoinImplementation, Mir};
use plan::scalar::Unmaterializable;
use plan::{Func, ScalarExpr, TableFunc};
use repr::format::{FormatCtx, parse_datum};
use repr::{ColumnType, Datum, GlobalId, Row, RowArena, SqlType};
use std::collections::BTreeMap;

/// One term.
#[derive(Clone, Debug)]
pub enum Term {
    /// A number or word.
    Word(String),
    Text(String),
    Column(usize),
    Call(String, Vec<Term>),
    List(Vec<Term>),
    Typed(Box<Term>, SqlType),
}

/// Parses one term.
pub fn parse(text: &str) -> Term {
    let mut parser = Parser {
        text: text.as_bytes(),
        at: 0,
    };
    let term = parser.term();
    parser.skip_spaces();
    assert_eq!(
        parser.at,
        text.len(),
        "stray text after the term in {text:?}"
    );
    term
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn skip_spaces(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip_spaces();
        let found = self.text[self.at..].starts_with(token.as_bytes());
        if found {
            self.at += token.len();
        }
        found
    }

    fn word(&mut self) -> String {
        self.skip_spaces();
        let start = self.at;
        let part =
            |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.' || b == b'-' || b == b'+';
        while self.text.get(self.at).is_some_and(|b| part(*b)) {
            self.at += 1;
        }
        assert!(
            self.at > start,
            "expected a word at {:?}",
            String::from_utf8_lossy(&self.text[start..])
        );
        String::from_utf8_lossy(&self.text[start..self.at]).into_owned()
    }

    fn list(&mut self, close: &str) -> Vec<Term> {
        let mut terms = vec![];
        while !self.eat(close) {
            if !terms.is_empty() {
                assert!(
                    self.eat(","),
                    "expected a comma at {:?}",
                    String::from_utf8_lossy(&self.text[self.at..])
                );
            }
            terms.push(self.term());
        }
        terms
    }

    fn term(&mut self) -> Term {
        let mut term = if self.eat("'") {
            Term::Text(self.quoted())
        } else if self.eat("[") {
            Term::List(self.list("]"))
        } else if self.eat("#") {
            Term::Column(self.word().parse().expect("a column number"))
        } else {
            let word = self.word();
            if self.eat("(") {
                Term::Call(word, self.list(")"))
            } else {
                Term::Word(word)
            }
        };
        while self.eat("::") {
            term = Term::Typed(Box::new(term), self.ty());
        }
        term
    }

    /// The rest of a text; two quotes stand for one.
    fn quoted(&mut self) -> String {
        let mut bytes = vec![];
        loop {
            match self.text[self.at] {
                b'\'' if self.text.get(self.at + 1) == Some(&b'\'') => {
                    bytes.push(b'\'');
                    self.at += 2;
                }
                b'\'' => {
                    self.at += 1;
                    return String::from_utf8(bytes).expect("scripts are UTF-8");
                }
                byte => {
                    bytes.push(byte);
                    self.at += 1;
                }
            }
        }
    }

    fn ty(&mut self) -> SqlType {
        let name = self.word();
        let mut ty = SqlType::from_typname(&name).unwrap_or_else(|| panic!("no type {name}"));
        if self.eat("(") {
            let first: u32 = self.word().parse().expect("a modifier");
            let second: i16 = if self.eat(",") {
                self.word().parse().expect("a modifier")
            } else {
                0
            };
            assert!(self.eat(")"), "modifiers end");
            ty = match ty {
                SqlType::Numeric(_) => SqlType::Numeric(Some(repr::NumericTypmod {
                    precision: first as u16,
                    scale: second,
                })),
                SqlType::Varchar(_) => SqlType::Varchar(Some(first)),
                SqlType::Char(_) => SqlType::Char(Some(first)),
                SqlType::Timestamp(_) => SqlType::Timestamp(Some(first as u8)),
                SqlType::TimestampTz(_) => SqlType::TimestampTz(Some(first as u8)),
                other => panic!("{other} takes no modifier"),
            };
        }
        while self.eat("[]") {
            ty = ty.array_of();
        }
        ty
    }
}

fn literal(text: &str, ty: SqlType) -> ScalarExpr {
    let arena = RowArena::new();
    let ctx = FormatCtx::default();
    match parse_datum(&ty, text, &ctx, &arena) {
        Ok(datum) => ScalarExpr::literal(datum, ty),
        Err(error) => ScalarExpr::Literal(Err(error.into()), ty.nullable(false)),
    }
}

/// A scalar expression. A call without type annotation has the type `text`, which only matters to functions that look at it.
pub fn scalar(term: &Term) -> ScalarExpr {
    match term {
        Term::Column(c) => ScalarExpr::Column(*c),
        Term::Text(text) => literal(text, SqlType::Text),
        Term::Word(word) => match word.as_str() {
            "true" | "false" => ScalarExpr::bool(word == "true"),
            "null" => ScalarExpr::null(SqlType::Text),
            number if number.contains(['.', 'e']) => literal(number, SqlType::Numeric(None)),
            number => literal(number, SqlType::Int32),
        },
        Term::Typed(inner, ty) => match &**inner {
            Term::Text(text) => literal(text, ty.clone()),
            Term::Word(word) if word == "null" => ScalarExpr::null(ty.clone()),
            Term::Word(word) => literal(word, ty.clone()),
            Term::Call(name, args) => call(name, args, ty.clone()),
            other => panic!("a type belongs to a literal or a call, not to {other:?}"),
        },
        Term::Call(name, args) => call(name, args, SqlType::Text),
        Term::List(terms) => {
            let elements: Vec<ScalarExpr> = terms.iter().map(scalar).collect();
            ScalarExpr::call(Func::get("make_array"), elements, SqlType::Text.array_of())
        }
    }
}

fn call(name: &str, args: &[Term], ty: SqlType) -> ScalarExpr {
    let mut args: Vec<ScalarExpr> = args.iter().map(scalar).collect();
    match name {
        "case" => {
            let els = args.pop().expect("three arguments");
            let then = args.pop().expect("three arguments");
            let cond = args.pop().expect("three arguments");
            ScalarExpr::If {
                cond: cond.into(),
                then: then.into(),
                els: els.into(),
            }
        }
        "mz_now" => ScalarExpr::Unmaterializable(Unmaterializable::MzNow),
        "and" | "or" | "not" | "eq" | "ne" | "lt" | "le" | "gt" | "ge" => {
            ScalarExpr::call(Func::get(name), args, SqlType::Bool)
        }
        // Without an annotation, arithmetic has the type of its argument.
        "int4pl" | "int4mi" | "int4mul" | "int4div" => {
            ScalarExpr::call(Func::get(name), args, SqlType::Int32)
        }
        _ => {
            let func = Func::by_name(name).unwrap_or_else(|| panic!("no function {name}"));
            ScalarExpr::call(func, args, ty)
        }
    }
}

/// The tables that a script has defined.
pub type Tables = BTreeMap<String, (GlobalId, Mir)>;

/// A plan.
pub fn mir(term: &Term, tables: &Tables) -> Mir {
    let Term::Call(name, args) = term else {
        panic!("a plan is a call, not {term:?}")
    };
    let input = || Box::new(mir(args.last().expect("an input"), tables));
    match (name.as_str(), args.as_slice()) {
        ("get", [Term::Word(table)]) => {
            match table.strip_prefix("l").and_then(|n| n.parse().ok()) {
                Some(id) => Mir::Get {
                    id: Id::Local(id),
                    types: vec![SqlType::Int32.nullable(true)],
                    keys: vec![],
                },
                None => {
                    let (id, content) = tables
                        .get(table)
                        .unwrap_or_else(|| panic!("no table {table}"));
                    Mir::Get {
                        id: Id::Global(*id),
                        types: content.types(),
                        keys: content.keys(),
                    }
                }
            }
        }
        ("const", rows) => constant(rows),
        ("error", [Term::Text(message)]) => Mir::Constant {
            rows: Err(plan::EvalError::new("XX000", message.as_str())),
            types: vec![SqlType::Int32.nullable(true)],
        },
        ("let", [Term::Word(id), value, body]) => Mir::Let {
            id: id
                .strip_prefix("l")
                .and_then(|n| n.parse().ok())
                .expect("l<number>"),
            value: Box::new(mir(value, tables)),
            body: Box::new(mir(body, tables)),
        },
        ("project", [columns, _]) => Mir::Project {
            input: input(),
            outputs: numbers(columns),
        },
        ("map", [scalars, _]) => Mir::Map {
            input: input(),
            scalars: list(scalars).iter().map(scalar).collect(),
        },
        ("filter", [predicates, _]) => Mir::Filter {
            input: input(),
            predicates: list(predicates).iter().map(scalar).collect(),
        },
        ("flatmap", [Term::Call(name, args), _]) => {
            let (func, ty) = match name.as_str() {
                "generate_series" => (TableFunc::GenerateSeriesInt32, Some(SqlType::Int32)),
                "unnest" => (
                    TableFunc::Unnest {
                        element: SqlType::Int32,
                    },
                    Some(SqlType::Int32),
                ),
                "generate_subscripts" => (TableFunc::GenerateSubscripts, Some(SqlType::Int32)),
                "repeat" => (TableFunc::Repeat, None),
                other => panic!("no table function {other}"),
            };
            Mir::FlatMap {
                input: input(),
                func,
                args: args.iter().map(scalar).collect(),
                types: ty.into_iter().map(|ty| ty.nullable(true)).collect(),
            }
        }
        ("join", [classes, inputs @ ..]) => Mir::Join {
            inputs: inputs.iter().map(|t| mir(t, tables)).collect(),
            equivalences: list(classes)
                .iter()
                .map(|class| list(class).iter().map(scalar).collect())
                .collect(),
            implementation: JoinImplementation::Unimplemented,
        },
        ("reduce", [key, aggregates, _]) => Mir::Reduce {
            input: input(),
            group_key: list(key).iter().map(scalar).collect(),
            aggregates: list(aggregates).iter().map(aggregate).collect(),
        },
        ("topk", [key, order, limit, offset, _]) => Mir::TopK {
            input: input(),
            group_key: numbers(key),
            order_key: list(order).iter().map(order_term).collect(),
            limit: match limit {
                Term::Word(word) if word == "all" => None,
                limit => Some(scalar(&Term::Typed(
                    Box::new(limit.clone()),
                    SqlType::Int64,
                ))),
            },
            offset: number(offset) as u64,
        },
        ("negate", [_]) => Mir::Negate { input: input() },
        ("threshold", [_]) => Mir::Threshold { input: input() },
        ("union", inputs) => Mir::Union {
            inputs: inputs.iter().map(|t| mir(t, tables)).collect(),
        },
        ("arrange", [keys, _]) => Mir::ArrangeBy {
            input: input(),
            keys: list(keys)
                .iter()
                .map(|key| list(key).iter().map(scalar).collect())
                .collect(),
        },
        (other, _) => panic!("no plan term {other} with {} arguments", args.len()),
    }
}

/// Rows of literals; `[1, 'a']`, or `times([1, 'a'], -2)`.
fn constant(rows: &[Term]) -> Mir {
    let mut types: Vec<ColumnType> = vec![];
    let mut packed = vec![];
    for row in rows {
        let (row, diff) = match row {
            Term::Call(name, args) if name == "times" => (&args[0], number(&args[1])),
            row => (row, 1),
        };
        let exprs: Vec<ScalarExpr> = list(row).iter().map(scalar).collect();
        let datums: Vec<Datum<'_>> = exprs
            .iter()
            .map(|e| e.as_literal().expect("a literal"))
            .collect();
        packed.push((Row::pack_slice(&datums), diff));
        let row_types: Vec<ColumnType> = exprs.iter().map(|e| e.typ(&[])).collect();
        if types.is_empty() {
            types = row_types;
        } else {
            types
                .iter_mut()
                .zip(row_types)
                .for_each(|(kept, ty)| kept.nullable |= ty.nullable);
        }
    }
    Mir::Constant {
        rows: Ok(packed),
        types,
    }
}

fn aggregate(term: &Term) -> AggregateExpr {
    let Term::Call(name, args) = term else {
        panic!("an aggregate is a call")
    };
    let (name, distinct) = match name.strip_prefix("distinct_") {
        Some(name) => (name, true),
        None => (name.as_str(), false),
    };
    let func = match name {
        "count" => AggregateFunc::Count,
        "sum_int4" => AggregateFunc::SumInt,
        "sum_int8" => AggregateFunc::SumInt8,
        "sum_numeric" => AggregateFunc::SumNumeric { scale: None },
        "sum_float4" => AggregateFunc::SumFloat32,
        "sum_float8" => AggregateFunc::SumFloat64,
        "sum_interval" => AggregateFunc::SumInterval,
        "min" => AggregateFunc::Min(SqlType::Numeric(None)),
        "max" => AggregateFunc::Max(SqlType::Numeric(None)),
        "bool_and" => AggregateFunc::BoolAnd,
        "bool_or" => AggregateFunc::BoolOr,
        "array_agg" => AggregateFunc::ArrayAgg {
            element: SqlType::Int32,
        },
        "string_agg" => AggregateFunc::StringAgg,
        other => panic!("no aggregate {other}"),
    };
    AggregateExpr {
        func,
        expr: scalar(&args[0]),
        distinct,
    }
}

/// `asc(0)`, `desc(1)`; NULLs as PostgreSQL puts them, or with `_nulls_first`, `_nulls_last`.
pub fn order_term(term: &Term) -> ColumnOrder {
    let Term::Call(name, args) = term else {
        panic!("an order term is a call")
    };
    let desc = name.starts_with("desc");
    let nulls_last = if name.ends_with("_nulls_first") {
        false
    } else {
        name.ends_with("_nulls_last") || !desc
    };
    ColumnOrder {
        column: number(&args[0]) as usize,
        desc,
        nulls_last,
    }
}

pub fn list(term: &Term) -> &[Term] {
    match term {
        Term::List(terms) => terms,
        other => panic!("expected a list, not {other:?}"),
    }
}

pub fn number(term: &Term) -> i64 {
    match term {
        Term::Word(word) => word
            .parse()
            .unwrap_or_else(|_| panic!("expected a number, not {word}")),
        other => panic!("expected a number, not {other:?}"),
    }
}

pub fn numbers(term: &Term) -> Vec<usize> {
    list(term).iter().map(|t| number(t) as usize).collect()
}
