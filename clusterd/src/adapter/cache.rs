//! The plan cache of the simple protocol: statements that differ only in literals share a plan.
//!
//! Literals are lifted into typed parameters where their typing cannot change the statement's meaning: behind a comparison operator, and in
//! the tuples of `INSERT ... VALUES`. Everything else stays part of the key, so a statement that this lexer does not understand is just
//! not shared.

use crate::adapter::portal::Prepared;
use parking_lot::RwLock;
use repr::SqlType;
use std::collections::HashMap;
use std::sync::Arc;

/// Statements longer than this are planned each time.
const TEXT_BYTES_MAX: usize = 4096;
/// Plans kept; the cache is emptied when it is full.
const PLANS_MAX: usize = 4096;
/// Literals lifted out of one statement.
const LITERALS_MAX: usize = 256;

/// A statement with its literals taken out.
#[derive(Debug, PartialEq)]
pub struct Lifted<'a> {
    /// The text with `$n` in place of the literals.
    pub text: String,
    pub literals: Vec<Literal<'a>>,
}

/// A lifted literal. Its class is part of the cache key, because it decides types.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal<'a> {
    Int4(i32),
    Int8(i64),
    /// A string without backslashes or doubled quotes: its type comes from the context.
    Unknown(&'a str),
}

impl Literal<'_> {
    /// The type that the parameter is declared with; `None`: inferred from its context.
    pub fn declared(&self) -> Option<SqlType> {
        match self {
            Literal::Int4(_) => Some(SqlType::Int32),
            Literal::Int8(_) => Some(SqlType::Int64),
            Literal::Unknown(_) => None,
        }
    }

    fn class(&self) -> char {
        match self {
            Literal::Int4(_) => 'i',
            Literal::Int8(_) => 'l',
            Literal::Unknown(_) => 's',
        }
    }
}

impl Lifted<'_> {
    /// What plans of such statements are found by.
    pub fn key(&self, context: u64) -> Key {
        Key {
            text: self.text.clone(),
            classes: self.literals.iter().map(Literal::class).collect(),
            context,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    text: String,
    classes: String,
    /// Hash of the session's names and settings that planning reads.
    context: u64,
}

/// Plans shared by all sessions of a node. A plan found here is still to be validated against the read point's catalog version.
#[derive(Default)]
pub struct PlanCache {
    plans: RwLock<HashMap<Key, Arc<Prepared>>>,
}

impl PlanCache {
    pub fn get(&self, key: &Key) -> Option<Arc<Prepared>> {
        self.plans.read().get(key).cloned()
    }

    pub fn put(&self, key: Key, prepared: Arc<Prepared>) {
        let mut plans = self.plans.write();
        if plans.len() >= PLANS_MAX {
            plans.clear();
        }
        plans.insert(key, prepared);
    }
}

/// Lifts the literals of a single SELECT, INSERT, UPDATE or DELETE; `None` if the text is anything else.
pub fn lift(sql: &str) -> Option<Lifted<'_>> {
    if sql.len() > TEXT_BYTES_MAX {
        return None;
    }
    let mut lexer = Lexer { sql, at: 0 };
    let first = lexer.next()?;
    let insert = first.is_word("insert");
    if !(insert
        || ["select", "update", "delete"]
            .iter()
            .any(|w| first.is_word(w)))
    {
        return None;
    }
    let mut lifter = Lifter {
        text: String::with_capacity(sql.len() + 16),
        literals: vec![],
        sql,
        copied: 0,
        insert,
        values: false,
    };
    let mut previous = first;
    let mut current = lexer.next()?;
    loop {
        let next = lexer.next()?;
        match current.kind {
            Kind::End => break,
            Kind::Semicolon if next.kind == Kind::End => break,
            // A second statement, a parameter, or something the lexer does not know.
            Kind::Semicolon | Kind::Foreign => return None,
            Kind::Word | Kind::Operator | Kind::Number | Kind::String | Kind::Punctuation => {}
        }
        lifter.token(&previous, &current, &next)?;
        previous = current;
        current = next;
    }
    let end = current.start;
    lifter.text.push_str(&sql[lifter.copied..end]);
    if lifter.literals.is_empty() {
        lifter.text.clear();
        lifter.text.push_str(&sql[..end]);
    }
    Some(Lifted {
        text: lifter.text,
        literals: lifter.literals,
    })
}

struct Lifter<'a> {
    text: String,
    literals: Vec<Literal<'a>>,
    sql: &'a str,
    /// Everything before this byte is in `text`.
    copied: usize,
    insert: bool,
    /// Inside the tuples of VALUES.
    values: bool,
}

impl<'a> Lifter<'a> {
    fn token(&mut self, previous: &Token<'a>, current: &Token<'a>, next: &Token<'a>) -> Option<()> {
        if self.insert && current.is_word("values") {
            self.values = true;
        } else if current.kind == Kind::Word {
            self.values = self.values
                && matches!(
                    current.text.to_ascii_lowercase().as_str(),
                    "null" | "true" | "false" | "default"
                );
        }
        let literal = match current.kind {
            Kind::Number => number(current.text),
            Kind::String => plain_string(current.text),
            _ => None,
        };
        let Some(literal) = literal else {
            return Some(());
        };
        let compared = previous.kind == Kind::Operator
            && matches!(previous.text, "=" | "<" | ">" | "<=" | ">=" | "<>" | "!=");
        let ends = matches!(next.kind, Kind::End | Kind::Semicolon | Kind::Word)
            || matches!(next.text, ")" | ",");
        // A word after a comparison's literal must not turn it into something else, as `5 second` or `'x' collate` would.
        let safe_word = next.kind != Kind::Word || is_clause_word(next.text);
        let in_tuple =
            self.values && matches!(previous.text, "(" | ",") && matches!(next.text, ")" | ",");
        if !(in_tuple || compared && ends && safe_word) || self.literals.len() >= LITERALS_MAX {
            return Some(());
        }
        self.text.push_str(&self.sql[self.copied..current.start]);
        self.literals.push(literal);
        self.text.push('$');
        self.text.push_str(itoa(self.literals.len()).as_str());
        self.copied = current.start + current.text.len();
        Some(())
    }
}

fn itoa(n: usize) -> String {
    n.to_string()
}

fn is_clause_word(word: &str) -> bool {
    [
        "and",
        "or",
        "order",
        "limit",
        "group",
        "where",
        "returning",
        "offset",
        "then",
        "end",
        "else",
        "union",
        "having",
        "as",
    ]
    .iter()
    .any(|w| word.eq_ignore_ascii_case(w))
}

fn number(text: &str) -> Option<Literal<'static>> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: i64 = text.parse().ok()?;
    Some(i32::try_from(value).map_or(Literal::Int8(value), Literal::Int4))
}

fn plain_string(text: &str) -> Option<Literal<'_>> {
    let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
    (!inner.contains('\'') && !inner.contains('\\')).then_some(Literal::Unknown(inner))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    Number,
    String,
    Operator,
    Punctuation,
    Semicolon,
    Foreign,
    End,
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    start: usize,
}

impl Token<'_> {
    fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }
}

/// Tokens of plain SQL. Comments, dollar quotes, parameters and prefixed strings are [`Kind::Foreign`].
struct Lexer<'a> {
    sql: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    /// The next token; `None` if the text cannot be cut.
    fn next(&mut self) -> Option<Token<'a>> {
        let bytes = self.sql.as_bytes();
        while self.at < bytes.len() && bytes[self.at].is_ascii_whitespace() {
            self.at += 1;
        }
        let start = self.at;
        let Some(&first) = bytes.get(start) else {
            return Some(Token {
                kind: Kind::End,
                text: "",
                start,
            });
        };
        let (kind, length) = match first {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => self.word(start),
            b'0'..=b'9' => (
                Kind::Number,
                run(&bytes[start..], |b| {
                    b.is_ascii_alphanumeric() || b == b'.' || b == b'_'
                }),
            ),
            b'\'' => (Kind::String, quoted(&bytes[start..], b'\'')?),
            b'"' => (Kind::Word, quoted(&bytes[start..], b'"')?),
            b'(' | b')' | b',' | b'.' | b'[' | b']' | b':' => (Kind::Punctuation, 1),
            b';' => (Kind::Semicolon, 1),
            b'-' if bytes.get(start + 1) == Some(&b'-') => (Kind::Foreign, 1),
            b'/' if bytes.get(start + 1) == Some(&b'*') => (Kind::Foreign, 1),
            b'=' | b'<' | b'>' | b'!' | b'+' | b'-' | b'*' | b'/' | b'%' | b'~' | b'|' | b'&'
            | b'#' | b'^' | b'@' => (
                Kind::Operator,
                run(&bytes[start..], |b| b"=<>!+-*/%~|&#^@".contains(&b)),
            ),
            _ => (Kind::Foreign, 1),
        };
        if kind == Kind::Operator
            && (self.sql[start..start + length].contains("--")
                || self.sql[start..start + length].contains("/*"))
        {
            return None;
        }
        self.at = start + length;
        Some(Token {
            kind,
            text: self.sql.get(start..start + length)?,
            start,
        })
    }

    fn word(&self, start: usize) -> (Kind, usize) {
        let bytes = &self.sql.as_bytes()[start..];
        let length = run(bytes, |b| {
            b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b >= 0x80
        });
        // E'..', B'..', U&'..': strings with rules of their own.
        let prefixed = matches!(bytes.get(length), Some(b'\''))
            || bytes.get(length) == Some(&b'&') && length == 1;
        (if prefixed { Kind::Foreign } else { Kind::Word }, length)
    }
}

fn run(bytes: &[u8], accept: impl Fn(u8) -> bool) -> usize {
    bytes
        .iter()
        .position(|b| !accept(*b))
        .unwrap_or(bytes.len())
}

/// Length of a quoted token, doubled quotes inside included.
fn quoted(bytes: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    loop {
        at += bytes[at..].iter().position(|b| *b == quote)? + 1;
        if bytes.get(at) != Some(&quote) {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifted(sql: &str) -> (String, usize) {
        let l = lift(sql).unwrap();
        (l.text, l.literals.len())
    }

    #[test]
    fn comparisons_and_values_are_lifted() {
        assert_eq!(
            lifted("SELECT v FROM kv WHERE k = 17;"),
            ("SELECT v FROM kv WHERE k = $1".into(), 1)
        );
        assert_eq!(
            lifted("insert into t values (1, 'x'), (-2, null)"),
            ("insert into t values ($1, $2), (-2, null)".into(), 2)
        );
        assert_eq!(
            lifted("update t set v = v + 1 where k = 5 and s >= 'a'"),
            ("update t set v = v + 1 where k = $1 and s >= $2".into(), 2)
        );
    }

    #[test]
    fn literals_that_decide_types_or_shape_stay() {
        for sql in [
            "select 1",
            "select x from t order by 1 limit 5",
            "select date '2020-01-01'",
            "select x from t where d < '2020-01-01'::date",
            "select x from t where s = E'a'",
            "select x from t where s = 'it''s'",
            "select x from t where k = 1.5",
            "select x from t where k = -5",
            "select x from t where k in (1, 2)",
            "insert into t select 5, 'a'",
            "select x from t where k = 5 + 1",
        ] {
            match lift(sql) {
                Some(l) => assert_eq!((l.text.as_str(), l.literals.len()), (sql, 0)),
                None => assert!(sql.contains("E'")),
            }
        }
    }

    #[test]
    fn anything_but_one_plain_statement_is_left_alone() {
        for sql in [
            "select 1; select 2",
            "begin",
            "select $1",
            "select 1 -- x",
            "select /* x */ 1",
            "select $$a$$",
            "select 'open",
            "",
        ] {
            assert_eq!(lift(sql), None, "{sql}");
        }
    }

    #[test]
    fn classes_are_part_of_the_key() {
        let small = lift("select a from t where k = 1").unwrap();
        let large = lift("select a from t where k = 10000000000").unwrap();
        assert_eq!(small.text, large.text);
        assert_ne!(small.key(0), large.key(0));
    }
}
