//! From a stream of keyed updates to the batches of an arrangement.
//!
//! Updates wait unsorted until the frontier passes them; then they are sorted once, by a cached prefix of the key, so that most comparisons
//! touch eight bytes instead of two rows.

use crate::types::{KeyedUpdate, T};
use differential_dataflow::logging::Logger;
use differential_dataflow::trace::{Batcher, Description};
use repr::Row;
use std::collections::VecDeque;
use timely::container::{ContainerBuilder, PushInto};
use timely::progress::Timestamp;
use timely::progress::frontier::{Antichain, AntichainRef};

/// Hands containers on as they are.
#[derive(Default)]
pub struct PassThrough {
    queue: VecDeque<Vec<KeyedUpdate>>,
    current: Vec<KeyedUpdate>,
}

impl PushInto<&mut Vec<KeyedUpdate>> for PassThrough {
    fn push_into(&mut self, container: &mut Vec<KeyedUpdate>) {
        self.queue.push_back(std::mem::take(container));
    }
}

impl ContainerBuilder for PassThrough {
    type Container = Vec<KeyedUpdate>;

    fn extract(&mut self) -> Option<&mut Vec<KeyedUpdate>> {
        self.current = self.queue.pop_front()?;
        Some(&mut self.current)
    }

    fn finish(&mut self) -> Option<&mut Vec<KeyedUpdate>> {
        self.extract()
    }
}

/// Updates that wait for the frontier.
pub struct RowBatcher {
    pending: Vec<KeyedUpdate>,
    /// Length of `pending` when cancelling updates were last looked for.
    consolidated: usize,
    lower: Antichain<T>,
    frontier: Antichain<T>,
}

/// Below this many waiting updates it is not worth looking for ones that cancel.
const CONSOLIDATE_MIN: usize = 1 << 16;

impl PushInto<Vec<KeyedUpdate>> for RowBatcher {
    fn push_into(&mut self, mut chunk: Vec<KeyedUpdate>) {
        if self.pending.is_empty() {
            self.pending = chunk;
        } else {
            self.pending.append(&mut chunk);
        }
        if self.pending.len() > CONSOLIDATE_MIN.max(2 * self.consolidated) {
            self.pending = sorted(std::mem::take(&mut self.pending));
            self.consolidated = self.pending.len();
        }
    }
}

impl Batcher for RowBatcher {
    type Output = Vec<KeyedUpdate>;
    type Time = T;

    fn new(_logger: Option<Logger>, _operator_id: usize) -> Self {
        RowBatcher {
            pending: vec![],
            consolidated: 0,
            lower: Antichain::from_elem(T::minimum()),
            frontier: Antichain::new(),
        }
    }

    fn seal(&mut self, upper: Antichain<T>) -> (Vec<Vec<KeyedUpdate>>, Description<T>) {
        let updates = std::mem::take(&mut self.pending);
        let (ready, kept): (Vec<_>, Vec<_>) =
            if updates.iter().all(|(_, t, _)| !upper.less_equal(t)) {
                (updates, vec![])
            } else {
                updates
                    .into_iter()
                    .partition(|(_, t, _)| !upper.less_equal(t))
            };
        self.pending = sorted(kept);
        self.consolidated = self.pending.len();
        self.frontier.clear();
        for (_, t, _) in &self.pending {
            self.frontier.insert(*t);
        }
        let ready = sorted(ready);
        let description = Description::new(
            self.lower.clone(),
            upper.clone(),
            Antichain::from_elem(T::minimum()),
        );
        self.lower = upper;
        (
            if ready.is_empty() {
                vec![]
            } else {
                vec![ready]
            },
            description,
        )
    }

    fn frontier(&mut self) -> AntichainRef<'_, T> {
        self.frontier.borrow()
    }
}

/// The first eight bytes, so that prefixes compare like the rows wherever they differ.
#[inline]
fn prefix(row: &Row) -> u64 {
    let bytes = row.as_bytes();
    match bytes.first_chunk::<8>() {
        Some(chunk) => u64::from_be_bytes(*chunk),
        None => {
            let mut chunk = [0; 8];
            chunk[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(chunk)
        }
    }
}

/// The updates by key, value and time, equal ones added up, those that cancel gone.
fn sorted(mut updates: Vec<KeyedUpdate>) -> Vec<KeyedUpdate> {
    if updates.len() <= 1 {
        updates.retain(|(_, _, d)| *d != 0);
        return updates;
    }
    if updates.is_sorted_by(|a, b| (&a.0, a.1) < (&b.0, b.1)) {
        updates.retain(|(_, _, d)| *d != 0);
        return updates;
    }
    let Ok(count) = u32::try_from(updates.len()) else {
        differential_dataflow::consolidation::consolidate_updates(&mut updates);
        return updates;
    };
    let mut order: Vec<(u64, u32)> = (0..count)
        .map(|i| (prefix(&updates[i as usize].0.0), i))
        .collect();
    order.sort_unstable_by(|(p, i), (q, j)| {
        p.cmp(q).then_with(|| {
            let (a, b) = (&updates[*i as usize], &updates[*j as usize]);
            a.0.cmp(&b.0).then(a.1.cmp(&b.1))
        })
    });
    let mut out: Vec<KeyedUpdate> = Vec::with_capacity(updates.len());
    for (_, i) in order {
        let update = std::mem::take(&mut updates[i as usize]);
        match out.last_mut() {
            Some(last) if last.0 == update.0 && last.1 == update.1 => {
                last.2 += update.2;
            }
            Some(last) if last.2 == 0 => *last = update,
            Some(_) | None => out.push(update),
        }
    }
    if out.last().is_some_and(|(_, _, d)| *d == 0) {
        out.pop();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use repr::Datum;

    #[test]
    fn sorted_equals_plain_consolidation() {
        let mut seed = 7u64;
        let mut next = || {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            seed >> 33
        };
        for size in [0, 1, 2, 10, 1000] {
            let updates: Vec<KeyedUpdate> = (0..size)
                .map(|_| {
                    let key = Row::pack_slice(&[
                        Datum::String("a long shared prefix"),
                        Datum::Int64((next() % 20) as i64),
                    ]);
                    let val = Row::pack_slice(&[Datum::Int64((next() % 3) as i64)]);
                    ((key, val), next() % 3, (next() % 3) as i64 - 1)
                })
                .collect();
            let mut expected = updates.clone();
            differential_dataflow::consolidation::consolidate_updates(&mut expected);
            assert_eq!(sorted(updates), expected);
        }
    }
}
