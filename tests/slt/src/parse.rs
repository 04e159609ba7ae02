//! The part of the sqllogictest format that the files use.

use anyhow::{Context, Result, bail};

/// The dialect whose `skipif` and `onlyif` lines apply.
const DIALECT: &str = "postgresql";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    None,
    Rows,
    Values,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// Must succeed, or must fail.
    Statement { fails: bool },
    /// Must give these values, or this many values with this hash.
    Query {
        types: Vec<u8>,
        sort: Sort,
        expected: Vec<String>,
    },
}

#[derive(Clone, Debug)]
pub struct Record {
    /// Line of the SQL, counted from 1.
    pub line: usize,
    pub sql: String,
    pub action: Action,
}

/// The records of a file that concern this dialect, up to a `halt`.
pub fn records(text: &str) -> Result<Vec<Record>> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut records = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let end = (at..lines.len())
            .find(|n| lines[*n].is_empty())
            .unwrap_or(lines.len());
        if lines[at..end]
            .iter()
            .any(|l| l.split_whitespace().next() == Some("halt"))
            && applies(&lines[at..end])
        {
            break;
        }
        if let Some(record) =
            record(&lines[at..end], at).with_context(|| format!("line {}", at + 1))?
        {
            records.push(record);
        }
        at = end + 1;
    }
    Ok(records)
}

fn applies(block: &[&str]) -> bool {
    block.iter().all(|line| {
        let words: Vec<&str> = line.split_whitespace().take(2).collect();
        match words[..] {
            ["skipif", who] => who != DIALECT,
            ["onlyif", who] => who == DIALECT,
            _ => true,
        }
    })
}

fn record(block: &[&str], first: usize) -> Result<Option<Record>> {
    if !applies(block) {
        return Ok(None);
    }
    let is_prefix = |l: &str| {
        l.starts_with('#')
            || l.starts_with("skipif")
            || l.starts_with("onlyif")
            || l.starts_with("hash-threshold")
    };
    let Some(head) = block.iter().position(|l| !is_prefix(l)) else {
        return Ok(None);
    };
    let words: Vec<&str> = block[head].split_whitespace().collect();
    let body = &block[head + 1..];
    let divider = body.iter().position(|l| *l == "----").unwrap_or(body.len());
    let sql = body[..divider].join("\n");
    let action = match words[..] {
        ["statement", "ok", ..] => Action::Statement { fails: false },
        ["statement", "error", ..] => Action::Statement { fails: true },
        ["query", types, ref rest @ ..] => Action::Query {
            types: types.bytes().collect(),
            sort: match rest.first() {
                Some(&"rowsort") => Sort::Rows,
                Some(&"valuesort") => Sort::Values,
                Some(_) | None => Sort::None,
            },
            expected: body
                .get(divider + 1..)
                .unwrap_or_default()
                .iter()
                .map(|l| (*l).to_owned())
                .collect(),
        },
        _ => bail!("unknown record: {}", block[head]),
    };
    Ok(Some(Record {
        line: first + head + 2,
        sql,
        action,
    }))
}
