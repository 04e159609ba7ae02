//! One step of a delta join: each change of a stream meets an arrangement as it was at the change's own time.

use crate::render::arrange::{Arrangement, key_hash};
use crate::render::ok_err::{CONTAINER_LEN, Changes, demux};
use crate::render::row_mfp::RowMfp;
use crate::types::*;
use differential_dataflow::trace::{Cursor, TraceReader};
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::progress::frontier::Antichain;

/// What a stream's change at time `t` sees of the arrangement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// Updates at times up to and including `t`.
    Included,
    /// Updates at times before `t`.
    Excluded,
}

impl Ties {
    #[inline]
    fn sees(self, theirs: T, ours: T) -> bool {
        match self {
            Ties::Included => theirs <= ours,
            Ties::Excluded => theirs < ours,
        }
    }

    /// Whether the arrangement is complete for changes at `time` when its frontier is this.
    fn complete(self, frontier: Option<T>, time: T) -> bool {
        match (self, frontier) {
            (_, None) => true,
            (Ties::Included, Some(frontier)) => time < frontier,
            (Ties::Excluded, Some(frontier)) => time <= frontier,
        }
    }

    /// Updates before the result may be moved up to it without changing what changes from `time` on see.
    fn hold(self, time: T) -> T {
        match self {
            Ties::Included => time,
            Ties::Excluded => time.saturating_sub(1),
        }
    }
}

/// Changes handled per activation, so that other operators and peeks get their turn.
const CHANGES_PER_ACTIVATION: usize = 1 << 16;

/// The stream's changes, each joined with what it sees, through `closure` over (key, rest of the stream's row, rest of the row looked up).
///
/// Relies on the total order of time: an output's time is the change's own.
pub fn half_join<'s>(
    stream: KeyedRows<'s>,
    lookup: &Arrangement<'s>,
    ties: Ties,
    mut closure: RowMfp,
    as_of: T,
    name: &str,
) -> (Rows<'s>, Rows<'s>) {
    let mut trace = Some(lookup.arranged.trace.clone());
    let advance = lookup.advance;
    let exchange = Exchange::new(|update: &KeyedUpdate| key_hash(update.0.0.as_ref()));
    let scope = stream.scope();
    let changes = stream.binary_frontier::<_, NoopBuilder<Changes>, _, _, _, _>(
        lookup.arranged.stream.clone(),
        exchange,
        Pipeline,
        name,
        move |capability, info| {
            drop(capability);
            let activator = scope.activator_for(info.address);
            let mut pending: Vec<KeyedUpdate> = vec![];
            let mut ready: std::vec::IntoIter<KeyedUpdate> = vec![].into_iter();
            let mut held: Option<Capability<T>> = None;
            move |(input, input_frontier), (batches, trace_frontier), output| {
                batches.for_each(|_, batches| batches.clear());
                input.for_each(|capability, data| {
                    if held.as_ref().is_none_or(|h| capability.time() < h.time()) {
                        held = Some(capability.retain(0));
                    }
                    pending.append(data);
                });
                let Some(trace_ref) = trace.as_mut() else {
                    return;
                };
                let complete_to = trace_frontier.frontier().first().copied();
                if ready.len() == 0 && !pending.is_empty() {
                    let (mut due, kept): (Vec<_>, Vec<_>) = if pending
                        .iter()
                        .all(|(_, t, _)| ties.complete(complete_to, *t))
                    {
                        (std::mem::take(&mut pending), vec![])
                    } else {
                        std::mem::take(&mut pending)
                            .into_iter()
                            .partition(|(_, t, _)| ties.complete(complete_to, *t))
                    };
                    pending = kept;
                    due.sort_unstable_by(|a, b| a.0.0.cmp(&b.0.0));
                    ready = due.into_iter();
                }
                if ready.len() > 0 {
                    let capability = held.as_ref().expect("held while changes wait");
                    let mut session = output.session_with_builder(capability);
                    let mut out = Changes::default();
                    let (mut cursor, storage) = trace_ref.cursor();
                    for ((key, rest), time, diff) in ready.by_ref().take(CHANGES_PER_ACTIVATION) {
                        cursor.seek_key(&storage, key.as_ref());
                        if cursor.get_key(&storage) != Some(key.as_ref()) {
                            continue;
                        }
                        cursor.rewind_vals(&storage);
                        while let Some(value) = cursor.get_val(&storage) {
                            let mut sum = 0;
                            cursor.map_times(&storage, |t, d| {
                                if ties.sees((*t).max(advance), time) {
                                    sum += *d;
                                }
                            });
                            if sum != 0 {
                                closure.apply(
                                    &[key.as_ref(), rest.as_ref(), value],
                                    time,
                                    sum * diff,
                                    &mut out,
                                );
                                if out.oks.len() >= CONTAINER_LEN {
                                    session.give_container(&mut out);
                                }
                            }
                            cursor.step_val(&storage);
                        }
                    }
                    if !out.is_empty() {
                        session.give_container(&mut out);
                    }
                }
                if ready.len() > 0
                    || (!pending.is_empty()
                        && pending
                            .iter()
                            .any(|(_, t, _)| ties.complete(complete_to, *t)))
                {
                    activator.activate();
                    return;
                }
                // What is still to come: waiting changes, and those at or after the input's frontier.
                let waiting = pending.iter().map(|(_, t, _)| *t).min();
                match waiting {
                    Some(time) => {
                        let capability = held.as_mut().expect("held while changes wait");
                        let time = time.max(*capability.time());
                        capability.downgrade(&time);
                    }
                    None => held = None,
                }
                let coming = input_frontier.frontier().first().copied();
                match [waiting, coming].into_iter().flatten().min() {
                    Some(time) => {
                        let hold = Antichain::from_elem(ties.hold(time.max(as_of)));
                        trace_ref.set_logical_compaction(hold.borrow());
                        trace_ref.set_physical_compaction(trace_frontier.frontier());
                    }
                    None => trace = None,
                }
            }
        },
    );
    demux(changes, name)
}
