//! Answers as text, and when two of them are the same.

use std::cmp::Ordering;
use std::fmt;

/// One row: each value as the server's text, `None` for NULL.
pub type TextRow = Vec<Option<String>>;

/// The rows of a statement in the order of arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer(Vec<TextRow>);

impl Answer {
    pub fn new(rows: Vec<TextRow>) -> Answer {
        Answer(rows)
    }

    pub fn rows(&self) -> &[TextRow] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The rows with plain decimal values in one spelling (`1.50` and `1.5` are the same number), sorted: equal iff equal as multisets.
    pub fn canonical(&self) -> Vec<TextRow> {
        let mut rows: Vec<TextRow> = self
            .0
            .iter()
            .map(|row| {
                row.iter()
                    .map(|v| v.as_deref().map(canonical_value))
                    .collect()
            })
            .collect();
        rows.sort();
        rows
    }

    /// The rows with plain decimal values in one spelling, in order.
    pub fn canonical_in_order(&self) -> Vec<TextRow> {
        self.0
            .iter()
            .map(|row| {
                row.iter()
                    .map(|v| v.as_deref().map(canonical_value))
                    .collect()
            })
            .collect()
    }

    /// `None` when both hold the same rows as multisets, else the rows that only one side has.
    pub fn difference(&self, other: &Answer) -> Option<Difference> {
        let (left, right) = (self.canonical(), other.canonical());
        let (mut only_left, mut only_right) = (Vec::new(), Vec::new());
        let (mut i, mut j) = (0, 0);
        while i < left.len() || j < right.len() {
            let order = match (left.get(i), right.get(j)) {
                (Some(a), Some(b)) => a.cmp(b),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            match order {
                Ordering::Equal => (i, j) = (i + 1, j + 1),
                Ordering::Less => {
                    only_left.push(left[i].clone());
                    i += 1;
                }
                Ordering::Greater => {
                    only_right.push(right[j].clone());
                    j += 1;
                }
            }
        }
        (!only_left.is_empty() || !only_right.is_empty()).then_some(Difference {
            only_left,
            only_right,
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|row| writeln!(f, "  {}", show_row(row)))
    }
}

/// The rows in which two answers differ, with multiplicity.
#[derive(Clone, Debug)]
pub struct Difference {
    pub only_left: Vec<TextRow>,
    pub only_right: Vec<TextRow>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        writeln!(
            f,
            "{} row(s) only on the left, {} only on the right",
            self.only_left.len(),
            self.only_right.len()
        )?;
        for (side, rows) in [('<', &self.only_left), ('>', &self.only_right)] {
            rows.iter()
                .take(SHOWN)
                .try_for_each(|row| writeln!(f, "  {side} {}", show_row(row)))?;
        }
        Ok(())
    }
}

fn show_row(row: &TextRow) -> String {
    row.iter()
        .map(|v| v.as_deref().unwrap_or("NULL"))
        .collect::<Vec<_>>()
        .join(" | ")
}

/// A plain decimal (`-12.340`) without the zeros that do not change its value; every other text unchanged.
fn canonical_value(text: &str) -> String {
    let (sign, digits) = text
        .strip_prefix('-')
        .map_or(("", text), |rest| ("-", rest));
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && digits.bytes().filter(|b| *b == b'.').count() == 1;
    let outer = digits.starts_with('.') || digits.ends_with('.');
    if !plain || outer {
        return text.to_owned();
    }
    let trimmed = digits.trim_end_matches('0').trim_end_matches('.');
    if trimmed.bytes().all(|b| b == b'0') {
        "0".to_owned()
    } else {
        format!("{sign}{trimmed}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(values: &[&str]) -> Answer {
        Answer::new(values.iter().map(|v| vec![Some((*v).to_owned())]).collect())
    }

    #[test]
    fn spelling_of_a_decimal_does_not_matter_but_its_value_does() {
        assert!(
            answer(&["1.50", "-0.00", "10"])
                .difference(&answer(&["10", "0", "1.5"]))
                .is_none()
        );
        assert!(answer(&["1.50"]).difference(&answer(&["1.51"])).is_some());
        assert!(answer(&["10"]).difference(&answer(&["1"])).is_some());
        assert!(
            answer(&["2024.01.01"])
                .difference(&answer(&["2024.01.01"]))
                .is_none()
        );
    }

    #[test]
    fn multiplicity_counts() {
        let difference = answer(&["a", "a", "b"])
            .difference(&answer(&["a", "b", "b"]))
            .expect("differs");
        assert_eq!(
            (difference.only_left.len(), difference.only_right.len()),
            (1, 1)
        );
    }
}
