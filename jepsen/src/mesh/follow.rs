//! A subscription that moves to the next node whenever its connection ends: the sum of all it was sent up to a time is the content at that time.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use harness::{Answer, Sql};

use super::client::{Hopper, Shared, think};

const VIEW: &str = "entry_view";
/// A subscription without a word for so long is given up and taken up at the next node; no fault lasts longer.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Time between two comparisons with a SELECT at the same time.
const COMPARE_EVERY: Duration = Duration::from_millis(300);

/// What a subscription has said.
#[derive(Default)]
struct Followed {
    /// Rows with their count, as of just before `frontier`.
    content: BTreeMap<Vec<String>, i64>,
    /// Changes at `frontier` or later, which may not be complete.
    pending: Vec<(u64, Vec<String>, i64)>,
    /// Everything before it has been sent; 0 before the first progress.
    frontier: u64,
}

/// Follows until the run is stopped.
pub async fn run(shared: Arc<Shared>, number: usize) {
    let mut hopper = Hopper::new(&shared, number);
    let mut checker = Hopper::new(&shared, number + 1);
    let mut followed = Followed::default();
    while shared.is_running() {
        if let Some(sql) = hopper.hop().await {
            if let Err(reason) = follow(&shared, &sql, &mut checker, &mut followed).await {
                shared.count("subscription ended", &reason);
                // History that is gone cannot be had again: begin with the content.
                if reason == "22023" {
                    followed = Followed::default();
                }
            }
            hopper.leave();
            followed.pending.clear();
        }
        think().await;
    }
}

/// Follows one subscription to its end; the SQLSTATE of that end.
async fn follow(
    shared: &Shared,
    sql: &Sql,
    checker: &mut Hopper,
    followed: &mut Followed,
) -> Result<(), String> {
    let subscribe = match followed.frontier {
        0 => format!("subscribe {VIEW} with (progress)"),
        frontier => format!(
            "subscribe {VIEW} with (progress, snapshot = false) as of {}",
            frontier - 1
        ),
    };
    let copy = format!("copy ({subscribe}) to stdout");
    let state = |error: tokio_postgres::Error| harness::sqlstate(&error);
    let copying = tokio::time::timeout(SILENCE_MAX, sql.client().copy_out(&copy)).await;
    let mut stream = pin!(copying.map_err(|_| "silent")?.map_err(state)?);
    let mut compared = Instant::now();
    while shared.is_running() {
        let chunk = tokio::time::timeout(SILENCE_MAX, stream.next()).await;
        let Some(chunk) = chunk.map_err(|_| "silent")? else {
            return Err("closed".to_owned());
        };
        let chunk = chunk.map_err(state)?;
        for line in String::from_utf8_lossy(&chunk).lines() {
            if let Err(reason) = followed.read(line) {
                shared.finding(format!("{subscribe} sent `{line}`: {reason}"));
                return Err("nonsense".to_owned());
            }
        }
        if followed.frontier > 0 && compared.elapsed() > COMPARE_EVERY {
            compared = Instant::now();
            compare(shared, checker, followed).await;
        }
    }
    Ok(())
}

/// Compares with a SELECT at the same time, on some other node.
async fn compare(shared: &Shared, checker: &mut Hopper, followed: &Followed) {
    let Some(sql) = checker.hop().await else {
        return;
    };
    let time = followed.frontier - 1;
    let query = format!("select client, n, last from {VIEW} as of {time}");
    // History is kept for a few seconds; a comparison that comes too late shows nothing.
    let Ok(Ok(answer)) = tokio::time::timeout(SILENCE_MAX, sql.rows(&query)).await else {
        shared.count("comparison of a subscription", "failed");
        checker.leave();
        return;
    };
    shared.count("comparison of a subscription", "ok");
    if let Some(difference) = followed.rows().difference(&answer) {
        let place = checker.place();
        shared.finding(format!(
            "a subscription (<) is at {time} not what place {place} says (>): {difference}"
        ));
    }
}

impl Followed {
    /// One line: time, whether it is progress, count, columns.
    fn read(&mut self, line: &str) -> Result<(), String> {
        let mut fields = line.split('\t');
        let mut field = || fields.next().ok_or("a field is missing");
        let (time, progress, diff) = (field()?, field()?, field()?);
        let time: u64 = time.parse().map_err(|_| "no timestamp")?;
        if time < self.frontier {
            return Err(format!("everything before {} had been sent", self.frontier));
        }
        if progress == "t" {
            self.advance(time);
            return Ok(());
        }
        let diff = diff.parse().map_err(|_| "no count")?;
        self.pending
            .push((time, fields.map(str::to_owned).collect(), diff));
        Ok(())
    }

    fn advance(&mut self, frontier: u64) {
        self.frontier = frontier;
        let done = self.pending.extract_if(.., |(time, _, _)| *time < frontier);
        for (_, row, diff) in done {
            *self.content.entry(row).or_default() += diff;
        }
        self.content.retain(|_, count| *count != 0);
    }

    fn rows(&self) -> Answer {
        let rows = self.content.iter().flat_map(|(row, count)| {
            let row: Vec<Option<String>> = row.iter().cloned().map(Some).collect();
            // A negative count is shown as a row that no table has.
            let (row, times) = match usize::try_from(*count) {
                Ok(times) => (row, times),
                Err(_) => (vec![Some(format!("{row:?} x {count}"))], 1),
            };
            std::iter::repeat_n(row, times)
        });
        Answer::new(rows.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_count_once_their_time_is_over() {
        let mut followed = Followed::default();
        for line in [
            "5\tf\t1\ta\t1",
            "6\tt\t\\N",
            "7\tf\t-1\ta\t1",
            "7\tf\t1\ta\t2",
        ] {
            followed.read(line).expect("a line");
        }
        assert_eq!(followed.rows().len(), 1);
        assert_eq!(followed.rows().rows()[0][1].as_deref(), Some("1"));
        followed.read("8\tt\t\\N").expect("a line");
        assert_eq!(followed.rows().rows()[0][1].as_deref(), Some("2"));
        assert!(followed.read("7\tf\t1\tb\t1").is_err(), "too late");
    }
}
