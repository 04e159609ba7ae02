//! One file against one server.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail};
use harness::sql::error_text;
use harness::{Answer, Sql, Target, sqlstate};
use md5::{Digest, Md5};

use crate::parse::{Action, Record, Sort};

/// Views that exist before the first INSERT of a file.
const EARLY_VIEWS: usize = 20;
/// Failures that are printed for each file.
const SHOWN: usize = 10;

/// (file name, line) -> reason.
pub type Exceptions = BTreeMap<(String, usize), String>;

/// Reads lines of `file:line<TAB>reason`.
pub fn exceptions(text: &str) -> Result<Exceptions> {
    let lines = text
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|l| {
            let (place, reason) = l
                .split_once('\t')
                .with_context(|| format!("no reason: {l}"))?;
            let (file, line) = place
                .rsplit_once(':')
                .with_context(|| format!("no line: {l}"))?;
            Ok(((file.to_owned(), line.parse()?), reason.to_owned()))
        })
        .collect()
}

#[derive(Default)]
pub struct Count {
    pub passed: usize,
    pub failed: usize,
    excused: usize,
    unsupported: usize,
    views: usize,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count {
            passed,
            failed,
            excused,
            unsupported,
            views,
        } = self;
        write!(
            f,
            "{passed} passed, {views} views compared, {failed} failed, {excused} excused, {unsupported} not supported yet"
        )
    }
}

/// Runs the records in order, at most `queries` of them queries (0: all).
pub async fn file(
    target: &Target,
    name: &str,
    records: &[Record],
    exceptions: &Exceptions,
    queries: usize,
    maintained: bool,
) -> Result<Count> {
    let sql = target.connect().await.context("connecting")?;
    clean(&sql, records).await;
    let mut count = Count::default();
    let mut asked = 0;
    let mut early: BTreeMap<usize, String> = BTreeMap::new();
    let first_insert = records
        .iter()
        .position(|r| r.sql.trim_start().to_lowercase().starts_with("insert"));
    for (n, record) in records.iter().enumerate() {
        if maintained && Some(n) == first_insert {
            early = early_views(&sql, &records[n..]).await;
        }
        let is_query = matches!(record.action, Action::Query { .. });
        asked += usize::from(is_query);
        if queries > 0 && asked > queries {
            break;
        }
        if !early.is_empty()
            && record
                .sql
                .trim_start()
                .to_lowercase()
                .starts_with("drop table")
        {
            for view in std::mem::take(&mut early).into_values() {
                let _ = sql.run(&format!("drop materialized view {view}")).await;
            }
        }
        let mut result = one(&sql, record).await;
        if maintained && is_query && matches!(result, Ok(true)) {
            let compared = compare_view(&sql, record, early.get(&record.line)).await;
            count.views += usize::from(matches!(compared, Ok(true)));
            // A query that cannot be a view still passed as a query.
            result = compared.map(|_| true);
        }
        match (result, exceptions.get(&(name.to_owned(), record.line))) {
            (Ok(false), _) => count.unsupported += 1,
            (Ok(true), None) => count.passed += 1,
            (Err(_), Some(_)) => count.excused += 1,
            (Ok(true), Some(reason)) => fail(
                &mut count,
                name,
                record,
                &format!("passes, but is excused: {reason}"),
            ),
            (Err(error), None) => fail(&mut count, name, record, &format!("{error:#}")),
        }
    }
    clean(&sql, records).await;
    Ok(count)
}

fn fail(count: &mut Count, name: &str, record: &Record, why: &str) {
    count.failed += 1;
    if count.failed <= SHOWN {
        println!("{name}:{}: {}\n  {why}", record.line, record.sql);
    }
}

/// Drops what the file creates.
async fn clean(sql: &Sql, records: &[Record]) {
    for record in records {
        let words: Vec<String> = record
            .sql
            .split_whitespace()
            .take(3)
            .map(str::to_lowercase)
            .collect();
        if let [create, kind, object] = &words[..]
            && create == "create"
            && (kind == "table" || kind == "view")
        {
            let object = object.split('(').next().unwrap_or(object);
            let _ = sql
                .run(&format!("drop {kind} if exists {object} cascade"))
                .await;
        }
    }
}

/// Whether the record holds; false when the server says that it cannot do this yet.
async fn one(sql: &Sql, record: &Record) -> Result<bool> {
    let answer = match (sql.rows(&record.sql).await, &record.action) {
        (Err(error), _) if sqlstate(&error) == "0A000" => return Ok(false),
        (Err(error), _) if sqlstate(&error) == "connection" => {
            bail!("the connection broke: {error}")
        }
        (Err(_), Action::Statement { fails: true }) => return Ok(true),
        (Err(error), _) => bail!("{}", error_text(&error)),
        (Ok(_), Action::Statement { fails: true }) => bail!("succeeded, an error was expected"),
        (Ok(answer), _) => answer,
    };
    let Action::Query {
        types,
        sort,
        expected,
    } = &record.action
    else {
        return Ok(true);
    };
    let found = values(&answer, types, *sort);
    let right = match &expected[..] {
        [one] if one.contains(" values hashing to ") => vec![hash_line(&found)] == expected[..],
        _ => found == *expected,
    };
    if !right {
        bail!(
            "expected {}, found {}",
            expected.join(" "),
            found.iter().take(30).cloned().collect::<Vec<_>>().join(" ")
        );
    }
    Ok(true)
}

/// The values as the files write them, in the order that is compared.
fn values(answer: &Answer, types: &[u8], sort: Sort) -> Vec<String> {
    let format = |(n, value): (usize, &Option<String>)| match value.as_deref() {
        None => "NULL".to_owned(),
        Some("") => "(empty)".to_owned(),
        Some("t") if types.get(n) == Some(&b'I') => "1".to_owned(),
        Some("f") if types.get(n) == Some(&b'I') => "0".to_owned(),
        Some(text) => match types.get(n) {
            Some(b'I') => text
                .parse::<f64>()
                .map_or_else(|_| "0".to_owned(), |_| whole(text)),
            Some(b'R') => text
                .parse::<f64>()
                .map_or_else(|_| text.to_owned(), |v| format!("{v:.3}")),
            _ => text.to_owned(),
        },
    };
    let mut rows: Vec<Vec<String>> = answer
        .rows()
        .iter()
        .map(|row| row.iter().enumerate().map(format).collect())
        .collect();
    if sort == Sort::Rows {
        rows.sort();
    }
    let mut values: Vec<String> = rows.into_iter().flatten().collect();
    if sort == Sort::Values {
        values.sort();
    }
    values
}

/// A number without its fraction.
fn whole(text: &str) -> String {
    let whole = text.split('.').next().unwrap_or(text);
    if whole == "-0" {
        "0".to_owned()
    } else {
        whole.to_owned()
    }
}

fn hash_line(values: &[String]) -> String {
    let mut hash = Md5::new();
    for value in values {
        hash.update(value.as_bytes());
        hash.update(b"\n");
    }
    let digest: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    format!("{} values hashing to {digest}", values.len())
}

/// Views of the next queries, made while the tables are empty: line of the query -> name of its view. A query that cannot be a view (yet) has none.
async fn early_views(sql: &Sql, records: &[Record]) -> BTreeMap<usize, String> {
    let mut views = BTreeMap::new();
    for record in records
        .iter()
        .filter(|r| matches!(r.action, Action::Query { .. }))
        .take(EARLY_VIEWS)
    {
        let name = format!("slt_early_{}", record.line);
        if sql
            .state(&format!(
                "create materialized view {name} as {}",
                named(&record.sql)
            ))
            .await
            == "00000"
        {
            views.insert(record.line, name);
        }
    }
    views
}

/// The maintained answer must be the one-shot answer; false when the query cannot be a view: not yet, or because
/// its columns share names.
async fn compare_view(sql: &Sql, record: &Record, early: Option<&String>) -> Result<bool> {
    let query = named(&record.sql);
    let name = early.cloned().unwrap_or_else(|| "slt_view".to_owned());
    if early.is_none() {
        match sql
            .run(&format!("create materialized view {name} as {query}"))
            .await
        {
            Ok(()) => {}
            Err(error) if ["0A000", "42701"].contains(&sqlstate(&error).as_str()) => {
                return Ok(false);
            }
            Err(error) => bail!("as a view: {}", error_text(&error)),
        }
    }
    let maintained = sql.rows(&format!("select * from {name}")).await;
    let direct = sql
        .rows(&query)
        .await
        .map_err(|e| anyhow::anyhow!("{}", error_text(&e)))?;
    let _ = sql.run(&format!("drop materialized view {name}")).await;
    let maintained =
        maintained.map_err(|e| anyhow::anyhow!("reading the view: {}", error_text(&e)))?;
    match maintained.difference(&direct) {
        Some(difference) => bail!("the view (<) and the one-shot answer (>) differ: {difference}"),
        None => Ok(true),
    }
}

/// The query with distinct column names, which a view needs.
fn named(query: &str) -> String {
    let query = query.trim().trim_end_matches(';');
    let columns = (1..=64).map(|n| format!("c{n}")).collect::<Vec<_>>();
    let width = count_columns(query);
    match width {
        Some(width) => format!(
            "select * from ({query}) slt_q({})",
            columns[..width.min(64)].join(", ")
        ),
        None => query.to_owned(),
    }
}

/// How many items the outermost select list has; unknown for `*` and for what is not a plain SELECT.
fn count_columns(query: &str) -> Option<usize> {
    let lower = query.to_lowercase();
    let list = lower.strip_prefix("select")?;
    let (mut depth, mut items, mut end) = (0_i32, 1, list.len());
    for (at, c) in list.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => items += 1,
            'f' if depth == 0
                && list[at..].starts_with("from")
                && list[..at].ends_with(char::is_whitespace) =>
            {
                end = at;
                break;
            }
            _ => {}
        }
    }
    let stars = list[..end]
        .split(',')
        .any(|item| item.trim().ends_with('*') && !item.contains("count"));
    (!stars).then_some(items)
}
