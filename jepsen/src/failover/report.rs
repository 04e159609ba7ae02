//! Rounds in numbers, and which limits they miss.

use std::time::Duration;

use super::probe::Seen;

const MEDIAN_MAX: Duration = Duration::from_millis(700);
/// All rounds but one in thirty.
const MOST_MAX: Duration = Duration::from_secs(1);
const MAX: Duration = Duration::from_secs(2);

/// Figures of rounds of one kind.
pub struct Report {
    /// Limit of a writer's gap, if nodes are stopped and not killed.
    gap_max: Option<Duration>,
    table_read: Vec<Duration>,
    view_read: Vec<Duration>,
    write: Vec<Duration>,
    write_gap: Vec<Duration>,
    operations: usize,
    unknown: usize,
    read_errors: Vec<String>,
    write_errors: Vec<String>,
}

impl Report {
    pub fn new(gap_max: Option<Duration>) -> Report {
        Report {
            gap_max,
            table_read: Vec::new(),
            view_read: Vec::new(),
            write: Vec::new(),
            write_gap: Vec::new(),
            operations: 0,
            unknown: 0,
            read_errors: Vec::new(),
            write_errors: Vec::new(),
        }
    }

    /// Takes a round in; its figures in words.
    pub fn add(&mut self, seen: &Seen) -> String {
        self.table_read.push(seen.table_read);
        self.view_read.push(seen.view_read);
        self.write.push(seen.write);
        self.write_gap.push(seen.write_gap);
        self.operations += seen.reads + seen.writes;
        self.unknown += seen.unknown;
        self.read_errors.extend(seen.read_errors.iter().cloned());
        self.write_errors.extend(seen.write_errors.iter().cloned());
        format!(
            "SELECT of a table {}, of a view {}, write {} ms; longest gap of a writer {} ms; {}",
            ms(seen.table_read),
            ms(seen.view_read),
            ms(seen.write),
            ms(seen.write_gap),
            volume(seen)
        )
    }

    /// All rounds together.
    pub fn summary(&self) -> String {
        let figures = [
            ("SELECT of a table", &self.table_read),
            ("SELECT of a view", &self.view_read),
            ("write", &self.write),
            ("longest gap of a writer", &self.write_gap),
        ];
        let figures = figures.map(|(what, times)| {
            let sorted = sorted(times);
            format!(
                "{what} median {}, all but 1 in 30 {}, max {} ms",
                ms(median(&sorted)),
                ms(most(&sorted)),
                ms(sorted[sorted.len() - 1])
            )
        });
        format!(
            "{} rounds, {} operations: {}; {} unknown writes, {} read errors, {} write errors; no acknowledged write lost, no dataflow built",
            self.write.len(),
            self.operations,
            figures.join("; "),
            self.unknown,
            self.read_errors.len(),
            self.write_errors.len()
        )
    }

    /// Limits that do not hold.
    pub fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        let mut limit = |what: &str, found: Duration, most: Duration| {
            if found >= most {
                missed.push(format!(
                    "{what} is {} ms, not below {} ms",
                    ms(found),
                    ms(most)
                ));
            }
        };
        if let Some(gap_max) = self.gap_max {
            let gaps = sorted(&self.write_gap);
            limit("the longest gap of a writer", gaps[gaps.len() - 1], gap_max);
        } else {
            for (what, times) in [
                ("SELECT of a table", &self.table_read),
                ("SELECT of a view", &self.view_read),
                ("write", &self.write),
            ] {
                let sorted = sorted(times);
                limit(&format!("{what}: the median"), median(&sorted), MEDIAN_MAX);
                limit(&format!("{what}: all but 1 in 30"), most(&sorted), MOST_MAX);
                limit(
                    &format!("{what}: the maximum"),
                    sorted[sorted.len() - 1],
                    MAX,
                );
            }
        }
        for (what, errors) in [("reads", &self.read_errors), ("writes", &self.write_errors)] {
            if let Some(first) = errors.first() {
                missed.push(format!(
                    "{} {what} ended with an error, such as: {first}",
                    errors.len()
                ));
            }
        }
        missed
    }
}

/// How much was done.
pub fn volume(seen: &Seen) -> String {
    format!(
        "{} reads, {} writes, {} unknown",
        seen.reads, seen.writes, seen.unknown
    )
}

fn sorted(times: &[Duration]) -> Vec<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
}

fn median(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}

/// The highest after one in thirty is left out; with fewer rounds than thirty none is.
fn most(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() - 1 - sorted.len() / 30]
}

fn ms(time: Duration) -> u128 {
    time.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_round_in_thirty_is_allowed_and_a_second_is_not() {
        let times = |slow: usize| {
            let mut report = Report::new(None);
            for round in 0..30 {
                let time = Duration::from_millis(if round < slow { 1500 } else { 400 });
                report.add(&Seen {
                    table_read: time,
                    view_read: time,
                    write: time,
                    ..Seen::default()
                });
            }
            report.missed().len()
        };
        assert_eq!((times(0), times(1), times(2)), (0, 0, 3));
    }
}
