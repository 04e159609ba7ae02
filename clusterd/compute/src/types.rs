//! The few concrete types that every dataflow is made of.
//!
//! One data type (a packed [`Row`]), one time, one difference, one arrangement. Each further type through an arrangement or a join costs
//! seconds of compile time, so new ones need a reason. Errors are rows too ([`crate::error_row`]).

use crate::batch::{SortedBatch, SortedBuilder};
use crate::batcher::{PassThrough, RowBatcher};
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::spine_fueled::Spine;
use repr::{Diff, Row};
use std::rc::Rc;
use timely::dataflow::{Scope, Stream};

/// The timestamp of every dataflow.
///
/// Recursive queries will need a time with an iteration counter. Operators that rely on the total order of this type say so; the others take
/// it from here.
pub type T = u64;

/// A change of a collection.
pub type Update = (Row, T, Diff);
/// A change of a collection whose rows are split into key and value.
pub type KeyedUpdate = ((Row, Row), T, Diff);

pub type ScopeT<'s> = Scope<'s, T>;
/// A collection of rows, as a stream of its changes.
pub type Rows<'s> = Stream<'s, T, Vec<Update>>;
pub type KeyedRows<'s> = Stream<'s, T, Vec<KeyedUpdate>>;

pub type RowBatch = Rc<SortedBatch>;
/// The arrangement: rows by key, value, time.
pub type RowSpine = Spine<RowBatch>;
pub type RowTrace = TraceAgent<RowSpine>;
pub type RowArranged<'s> = Arranged<'s, RowTrace>;

/// Parts that build a [`RowSpine`] from a stream of [`KeyedUpdate`]s.
pub type RowChunker = PassThrough;
pub type RowSpineBatcher = RowBatcher;
pub type RowSpineBuilder = SortedBuilder;
