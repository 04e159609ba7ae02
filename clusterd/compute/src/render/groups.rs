//! The operator behind reductions, top-k, distinct and threshold: one state per key, brought forward in time.
//!
//! It relies on the total order of time. Updates wait until the frontier has passed their time; those at the frontier itself, before which
//! nothing can come any more, go into the states at once, so that loading a large input does not keep it twice. For each time, the keys
//! touched then say how their output changed.

use crate::footprint::Footprint;
use crate::render::arrange::{PassHasher, key_hash};
use crate::render::ok_err::{Changes, demux};
use crate::types::*;
use hashbrown::HashMap;
use repr::Row;
use serde::{Deserialize, Serialize};
use std::hash::BuildHasherDefault;
use timely::container::NoopBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

/// What a group is and how it reacts.
pub trait GroupLogic: 'static {
    /// A change of one group at one time.
    type Update: Serialize + for<'a> Deserialize<'a> + Send + Clone + 'static;
    type State: Default;

    fn key(update: &Self::Update) -> &Row;
    fn time(update: &Self::Update) -> T;
    fn apply(&mut self, state: &mut Self::State, update: Self::Update);
    /// Says how the group's output at `time` differs from what was said last.
    fn emit(&mut self, key: &Row, state: &mut Self::State, time: T, out: &mut Changes);
    /// Bytes kept in all states beyond their own size, about.
    fn kept_bytes(&self) -> usize {
        0
    }

    /// Whether the state, once emitted, is that of a group that never was.
    fn is_gone(state: &Self::State) -> bool;
}

/// What a value kept in an ordered map counts for.
pub const KEPT_VALUE_BYTES: usize = 64;

type KeyMap<S> = HashMap<Row, Group<S>, BuildHasherDefault<PassHasher>>;

#[derive(Default)]
struct Group<S> {
    state: S,
    touched: bool,
}

struct Groups<L: GroupLogic> {
    logic: L,
    groups: KeyMap<L::State>,
    /// Keys with changes at the time being worked on.
    touched: Vec<Row>,
}

impl<L: GroupLogic> Groups<L> {
    fn apply(&mut self, update: L::Update) {
        let key = L::key(&update);
        let group = self.groups.entry(key.clone()).or_default();
        if !group.touched {
            group.touched = true;
            self.touched.push(key.clone());
        }
        self.logic.apply(&mut group.state, update);
    }

    fn bytes(&self) -> usize {
        self.groups.capacity() * (size_of::<(Row, Group<L::State>)>() + 1) + self.logic.kept_bytes()
    }

    /// Says what changed at `time`.
    fn close(&mut self, time: T, ship: &mut dyn FnMut(&mut Changes)) {
        let mut out = Changes::default();
        for key in std::mem::take(&mut self.touched) {
            let Some(group) = self.groups.get_mut(&key) else {
                continue;
            };
            group.touched = false;
            self.logic.emit(&key, &mut group.state, time, &mut out);
            if L::is_gone(&group.state) {
                self.groups.remove(&key);
            }
            if out.is_full() {
                ship(&mut out);
            }
        }
        if !out.is_empty() {
            ship(&mut out);
        }
        if self.groups.len() < self.groups.capacity() / 8 {
            self.groups.shrink_to_fit();
        }
    }
}

/// Maintains the output of `logic` over the stream's groups.
pub fn maintain<'s, L: GroupLogic>(
    stream: Stream<'s, T, Vec<L::Update>>,
    logic: L,
    footprint: &Footprint,
    name: &str,
) -> (Rows<'s>, Rows<'s>) {
    let gauge = footprint.new_gauge();
    let exchange = Exchange::new(|update: &L::Update| key_hash(L::key(update).as_ref()));
    let changes = stream.unary_frontier::<NoopBuilder<Changes>, _, _, _>(
        exchange,
        name,
        move |capability, _| {
            drop(capability);
            let mut groups = Groups {
                logic,
                groups: KeyMap::default(),
                touched: vec![],
            };
            // The time whose updates are being applied, and updates at later times.
            let mut open: Option<T> = None;
            let mut waiting: Vec<L::Update> = vec![];
            let mut held: Option<Capability<T>> = None;
            move |(input, frontier), output| {
                let lower = frontier.frontier().first().copied();
                let mut work: Vec<L::Update> = vec![];
                // At the frontier itself: to be applied once all that is due before it has been said.
                let mut ahead: Vec<L::Update> = vec![];
                input.for_each(|capability, data| {
                    if held.as_ref().is_none_or(|h| capability.time() < h.time()) {
                        held = Some(capability.retain(0));
                    }
                    for update in data.drain(..) {
                        let time = L::time(&update);
                        if Some(time) == open {
                            groups.apply(update);
                        } else if lower.is_none_or(|l| time < l) {
                            work.push(update);
                        } else if Some(time) == lower {
                            ahead.push(update);
                        } else {
                            waiting.push(update);
                        }
                    }
                });
                let Some(capability) = held.as_mut() else {
                    return;
                };
                let mut ship = |out: &mut Changes| {
                    output
                        .session_with_builder(&*capability)
                        .give_container(out);
                };
                if let Some(time) = open
                    && lower.is_none_or(|l| time < l)
                {
                    // What came before the time was opened belongs to it too: a group closed without it would say what never held.
                    for update in waiting.extract_if(.., |u| L::time(u) == time) {
                        groups.apply(update);
                    }
                    groups.close(time, &mut ship);
                    open = None;
                }
                if waiting.iter().any(|u| lower.is_none_or(|l| L::time(u) < l)) {
                    let (due, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut waiting)
                        .into_iter()
                        .partition(|u| lower.is_none_or(|l| L::time(u) < l));
                    waiting = kept;
                    work.extend(due);
                }
                if !work.is_sorted_by_key(|u| L::time(u)) {
                    work.sort_by_key(|u| L::time(u));
                }
                let mut at = None;
                for update in work {
                    let time = L::time(&update);
                    if let Some(before) = at
                        && before != time
                    {
                        groups.close(before, &mut ship);
                    }
                    at = Some(time);
                    groups.apply(update);
                }
                if let Some(time) = at {
                    groups.close(time, &mut ship);
                }
                for update in ahead {
                    open = Some(L::time(&update));
                    groups.apply(update);
                }
                gauge.set(groups.bytes() + waiting.capacity() * size_of::<L::Update>());
                let next = waiting.iter().map(L::time).chain(open).min();
                match next {
                    Some(time) => {
                        let time = time.max(*capability.time());
                        capability.downgrade(&time);
                    }
                    None => held = None,
                }
            }
        },
    );
    demux(changes, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;
    use timely::dataflow::operators::{Input, Probe};

    /// Notes the sum of each group whenever it is asked for it.
    struct Sum(Rc<RefCell<Vec<(T, i64)>>>);

    impl GroupLogic for Sum {
        type Update = (Row, T, i64);
        type State = i64;

        fn key(update: &Self::Update) -> &Row {
            &update.0
        }

        fn time(update: &Self::Update) -> T {
            update.1
        }

        fn apply(&mut self, state: &mut i64, update: Self::Update) {
            *state += update.2;
        }

        fn emit(&mut self, _: &Row, state: &mut i64, time: T, _: &mut Changes) {
            self.0.borrow_mut().push((time, *state));
        }

        fn is_gone(state: &i64) -> bool {
            *state == 0
        }
    }

    #[test]
    fn what_comes_at_the_frontier_is_not_said_at_an_earlier_time() {
        let said = timely::execute_directly(|worker| {
            let said = Rc::new(RefCell::new(vec![]));
            let logic = Sum(Rc::clone(&said));
            let (mut input, probe) = worker.dataflow::<T, _, _>(|scope| {
                let (input, stream) = scope.new_input::<Vec<(Row, T, i64)>>();
                let (rows, _) = maintain(stream, logic, &Footprint::default(), "sums");
                (input, rows.probe().0)
            });
            // The first waits for the frontier; when that has passed, the second is there as well.
            input.send((Row::default(), 5, 1));
            input.flush();
            worker.step();
            input.advance_to(6);
            input.send((Row::default(), 6, 1));
            input.flush();
            worker.step();
            input.advance_to(7);
            worker.step_while(|| probe.less_than(&7));
            said.take()
        });
        assert_eq!(said, [(5, 1), (6, 2)]);
    }

    #[test]
    fn a_time_is_said_once_with_all_that_came_for_it() {
        let said = timely::execute_directly(|worker| {
            let said = Rc::new(RefCell::new(vec![]));
            let logic = Sum(Rc::clone(&said));
            let (mut input, probe) = worker.dataflow::<T, _, _>(|scope| {
                let (input, stream) = scope.new_input::<Vec<(Row, T, i64)>>();
                let (rows, _) = maintain(stream, logic, &Footprint::default(), "sums");
                (input, rows.probe().0)
            });
            // The first comes while the frontier is below its time, the second when it has reached it.
            input.send((Row::default(), 5, 1));
            input.flush();
            worker.step();
            input.advance_to(5);
            worker.step();
            input.send((Row::default(), 5, -1));
            input.send((Row::default(), 6, 1));
            input.advance_to(7);
            worker.step_while(|| probe.less_than(&7));
            said.take()
        });
        assert_eq!(said, [(5, 0), (6, 1)]);
    }
}
