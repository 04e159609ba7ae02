//! Operators with two outputs: rows, and the errors met on the way to them.

use crate::error_row;
use crate::types::{Rows, ScopeT, T, Update};
use plan::EvalError;
use repr::Diff;
use std::collections::VecDeque;
use timely::container::{Accountable, ContainerBuilder, NoopBuilder};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{ParallelizationContract, Pipeline};
use timely::dataflow::operators::Concatenate;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::{Operator, OutputBuilder};
use timely::progress::operate::FrontierInterest;

/// A container handed on after this many entries: small enough for the cache, large enough to forget the cost of a message.
pub const CONTAINER_LEN: usize = 1024;

/// Rows and errors that an operator makes; travels as one container to [`demux`].
pub struct OkErr<D> {
    pub oks: Vec<D>,
    pub errs: Vec<Update>,
}

pub type Changes = OkErr<Update>;

impl<D> Default for OkErr<D> {
    fn default() -> Self {
        OkErr {
            oks: vec![],
            errs: vec![],
        }
    }
}

impl<D> OkErr<D> {
    pub fn push_err(&mut self, error: &EvalError, time: T, diff: Diff) {
        self.errs.push((error_row::to_row(error), time, diff));
    }

    pub fn is_empty(&self) -> bool {
        self.oks.is_empty() && self.errs.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.oks.len() >= CONTAINER_LEN || self.errs.len() >= CONTAINER_LEN
    }
}

impl<D> Accountable for OkErr<D> {
    fn record_count(&self) -> i64 {
        (self.oks.len() + self.errs.len()) as i64
    }
}

/// Fills [`Changes`] for operators that want a container builder.
#[derive(Default)]
pub struct ChangesBuilder {
    pub current: Changes,
    ready: VecDeque<Changes>,
    lent: Changes,
}

impl ChangesBuilder {
    fn lend(&mut self) -> Option<&mut Changes> {
        self.lent = self.ready.pop_front()?;
        Some(&mut self.lent)
    }
}

impl ContainerBuilder for ChangesBuilder {
    type Container = Changes;

    fn extract(&mut self) -> Option<&mut Changes> {
        if self.current.is_full() {
            self.ready.push_back(std::mem::take(&mut self.current));
        }
        self.lend()
    }

    fn finish(&mut self) -> Option<&mut Changes> {
        if !self.current.is_empty() {
            self.ready.push_back(std::mem::take(&mut self.current));
        }
        self.lend()
    }
}

/// Separates the rows from the errors, a container at a time.
pub fn demux<'s, D: 'static>(
    stream: Stream<'s, T, OkErr<D>>,
    name: &str,
) -> (Stream<'s, T, Vec<D>>, Rows<'s>) {
    let mut builder = OperatorBuilder::new(format!("{name} (split errors)"), stream.scope());
    let mut input = builder.new_input(stream, Pipeline);
    builder.set_notify_for(0, FrontierInterest::Never);
    let (oks, ok_stream) = builder.new_output();
    let (errs, err_stream) = builder.new_output();
    let mut oks = OutputBuilder::<T, NoopBuilder<Vec<D>>>::from(oks);
    let mut errs = OutputBuilder::<T, NoopBuilder<Vec<Update>>>::from(errs);
    builder.build(move |_capabilities| {
        move |_frontiers| {
            let mut oks = oks.activate();
            let mut errs = errs.activate();
            input.for_each(|capability, changes| {
                if !changes.oks.is_empty() {
                    oks.session_with_builder(&capability)
                        .give_container(&mut changes.oks);
                }
                if !changes.errs.is_empty() {
                    errs.session_with_builder(&capability)
                        .give_container(&mut changes.errs);
                }
            });
        }
    });
    (ok_stream, err_stream)
}

/// An operator without memory: `logic` turns each container into rows and errors, calling the given function whenever enough have come
/// together.
pub fn stateless<'s, C, D, P, L>(
    stream: Stream<'s, T, C>,
    pact: P,
    name: &str,
    mut logic: L,
) -> (Stream<'s, T, Vec<D>>, Rows<'s>)
where
    C: timely::Container,
    D: 'static,
    P: ParallelizationContract<T, C>,
    L: FnMut(&mut C, &mut OkErr<D>, &mut dyn FnMut(&mut OkErr<D>)) + 'static,
{
    let mut builder = OperatorBuilder::new(name.to_owned(), stream.scope());
    let mut input = builder.new_input(stream, pact);
    builder.set_notify_for(0, FrontierInterest::Never);
    let (oks, ok_stream) = builder.new_output();
    let (errs, err_stream) = builder.new_output();
    let mut oks = OutputBuilder::<T, NoopBuilder<Vec<D>>>::from(oks);
    let mut errs = OutputBuilder::<T, NoopBuilder<Vec<Update>>>::from(errs);
    builder.build(move |_capabilities| {
        let mut out = OkErr::default();
        move |_frontiers| {
            let mut oks = oks.activate();
            let mut errs = errs.activate();
            input.for_each(|capability, data| {
                let mut ship = |out: &mut OkErr<D>| {
                    if !out.oks.is_empty() {
                        oks.session_with_builder(&capability)
                            .give_container(&mut out.oks);
                        out.oks.clear();
                    }
                    if !out.errs.is_empty() {
                        errs.session_with_builder(&capability)
                            .give_container(&mut out.errs);
                        out.errs.clear();
                    }
                };
                logic(data, &mut out, &mut ship);
                ship(&mut out);
            });
        }
    });
    (ok_stream, err_stream)
}

/// The sum of collections.
pub fn union<'s>(scope: ScopeT<'s>, mut streams: Vec<Rows<'s>>) -> Rows<'s> {
    match streams.len() {
        1 => streams.remove(0),
        _ => scope.concatenate(streams),
    }
}

/// The collection with every multiplicity negated.
pub fn negate<'s>(rows: Rows<'s>) -> Rows<'s> {
    rows.unary::<NoopBuilder<Vec<Update>>, _, _, _>(Pipeline, "Negate", |_, _| {
        move |input, output| {
            input.for_each(|capability, data| {
                for (_, _, diff) in data.iter_mut() {
                    *diff = -*diff;
                }
                output
                    .session_with_builder(&capability)
                    .give_container(data);
            });
        }
    })
}
