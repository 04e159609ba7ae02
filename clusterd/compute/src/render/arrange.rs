//! Arrangements: rows split into key and value, sorted, shared.

use crate::footprint::Footprint;
use crate::render::ok_err::stateless;
use crate::render::row_mfp::RowMfp;
use crate::types::*;
use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::trace::{BatchReader, Cursor, Navigable};
use plan::lir::KeyValPermutation;
use plan::{EvalError, Mfp, ScalarExpr};
use repr::{Row, RowPacker, RowRef};
use smallvec::SmallVec;
use std::rc::Rc;
use timely::dataflow::channels::pact::{Exchange, Pipeline};

/// An arrangement that operators of the dataflow can read.
#[derive(Clone)]
pub struct Arrangement<'s> {
    pub split: Rc<KeyValPermutation>,
    pub arranged: RowArranged<'s>,
    /// Times before this one count as this one. For imported arrangements, which keep their own history, it is the dataflow's `as_of`.
    pub advance: T,
}

impl<'s> Arrangement<'s> {
    pub fn arity(&self) -> usize {
        self.split.permutation.len()
    }

    /// A block over the arranged rows, compiled for (key, value).
    pub fn compile(&self, mfp: &Mfp) -> RowMfp {
        compile(&self.split, mfp)
    }
}

/// A block over rows, compiled for the (key, value) that they are split into.
pub fn compile(split: &KeyValPermutation, mfp: &Mfp) -> RowMfp {
    RowMfp::permuted(mfp, &[split.key.len(), split.value.len()], &|c| {
        split.permutation[c]
    })
}

/// Splits rows into key and value.
pub struct Splitter {
    arity: usize,
    key: KeyPart,
    value: Vec<usize>,
    /// A row with NULL in its key is dropped: it joins with nothing.
    skip_null_keys: bool,
    packer: RowPacker,
}

enum KeyPart {
    Columns(Vec<usize>),
    Computed(Box<RowMfp>),
}

impl Splitter {
    pub fn new(split: &KeyValPermutation, skip_null_keys: bool) -> Self {
        let arity = split.permutation.len();
        let columns: Option<Vec<usize>> = split
            .key
            .iter()
            .map(|e| match e {
                ScalarExpr::Column(c) => Some(*c),
                ScalarExpr::Literal(..)
                | ScalarExpr::Param(..)
                | ScalarExpr::Unmaterializable(_)
                | ScalarExpr::Call { .. }
                | ScalarExpr::If { .. } => None,
            })
            .collect();
        let key = match columns {
            Some(columns) => KeyPart::Columns(columns),
            None => KeyPart::Computed(Box::new(RowMfp::new(&map_to(&split.key, arity), &[arity]))),
        };
        Splitter {
            arity,
            key,
            value: split.value.clone(),
            skip_null_keys,
            packer: RowPacker::new(),
        }
    }

    /// Key and value of the row; `None` for a row that is dropped.
    pub fn split(&mut self, row: RowRef<'_>) -> Result<Option<(Row, Row)>, EvalError> {
        let mut columns: SmallVec<[RowRef<'_>; 24]> = SmallVec::new();
        let mut datums = row.iter();
        for _ in 0..self.arity {
            columns.push(datums.take_packed(1));
        }
        let key = match &mut self.key {
            KeyPart::Columns(key) => {
                for c in key.iter() {
                    if self.skip_null_keys && is_null(columns[*c]) {
                        self.packer.clear();
                        return Ok(None);
                    }
                    self.packer.push_packed(columns[*c]);
                }
                self.packer.finish_row()
            }
            KeyPart::Computed(mfp) => match mfp.evaluate(&[row], 0)? {
                Some((key, _)) => key,
                None => return Ok(None),
            },
        };
        if self.skip_null_keys && key.iter().any(|d| d.is_null()) {
            return Ok(None);
        }
        for c in &self.value {
            self.packer.push_packed(columns[*c]);
        }
        Ok(Some((key, self.packer.finish_row())))
    }
}

fn is_null(packed: RowRef<'_>) -> bool {
    packed.iter().next().is_some_and(|d| d.is_null())
}

/// The block whose output is these expressions.
pub fn map_to(exprs: &[ScalarExpr], arity: usize) -> Mfp {
    Mfp {
        expressions: exprs.to_vec(),
        projection: (arity..arity + exprs.len()).collect(),
        ..Mfp::identity(arity)
    }
}

/// Splits every row of a collection.
pub fn split_rows<'s>(
    rows: Rows<'s>,
    split: &KeyValPermutation,
    skip_null_keys: bool,
    name: &str,
) -> (KeyedRows<'s>, Rows<'s>) {
    let mut splitter = Splitter::new(split, skip_null_keys);
    stateless(
        rows,
        Pipeline,
        &format!("Split {name}"),
        move |data: &mut Vec<Update>, out, ship| {
            for (row, time, diff) in data.drain(..) {
                match splitter.split(row.as_ref()) {
                    Ok(Some(keyed)) => out.oks.push((keyed, time, diff)),
                    Ok(None) => {}
                    Err(error) => out.push_err(&error, time, diff),
                }
                if out.is_full() {
                    ship(out);
                }
            }
        },
    )
}

/// Where a key lives: the same for arrangements, joins and lookups by peeks.
pub fn key_hash(key: RowRef<'_>) -> u64 {
    use std::hash::{BuildHasher, BuildHasherDefault};
    BuildHasherDefault::<PassHasher>::default().hash_one(key)
}

/// Takes the hash that rows bring along.
#[derive(Default, Clone, Copy)]
pub struct PassHasher(u64);

impl std::hash::Hasher for PassHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Sends every key to the worker that owns it, and arranges there.
pub fn arrange_keyed<'s>(
    keyed: KeyedRows<'s>,
    footprint: &Footprint,
    name: &str,
) -> RowArranged<'s> {
    arrange_at(keyed, None, footprint, name)
}

/// Arranges at one worker, or each key at its owner.
fn arrange_at<'s>(
    keyed: KeyedRows<'s>,
    worker: Option<u64>,
    footprint: &Footprint,
    name: &str,
) -> RowArranged<'s> {
    let exchange = Exchange::new(move |update: &KeyedUpdate| {
        worker.unwrap_or_else(|| key_hash(update.0.0.as_ref()))
    });
    let name = format!("Arrange {name}");
    let arranged = arrange_core::<_, _, RowChunker, RowSpineBatcher, RowSpineBuilder, RowSpine>(
        keyed, exchange, &name,
    );
    footprint.add_trace(&arranged.trace);
    arranged
}

/// Arranges a collection by a key; errors of the key expressions come beside.
pub fn arrange<'s>(
    rows: Rows<'s>,
    key: &[ScalarExpr],
    arity: usize,
    footprint: &Footprint,
    name: &str,
) -> (Arrangement<'s>, Rows<'s>) {
    let split = KeyValPermutation::new(key, arity);
    let (keyed, errs) = split_rows(rows, &split, false, name);
    let arranged = arrange_keyed(keyed, footprint, name);
    (
        Arrangement {
            split: Rc::new(split),
            arranged,
            advance: 0,
        },
        errs,
    )
}

/// Errors as an arrangement of this worker: the key is the error, the value is empty.
pub fn arrange_errors<'s>(errs: Rows<'s>, footprint: &Footprint, name: &str) -> RowArranged<'s> {
    let split = KeyValPermutation {
        key: error_columns(),
        value: vec![],
        permutation: vec![0, 1, 2, 3],
    };
    let name = format!("{name} errors");
    let (keyed, _) = split_rows(errs, &split, false, &name);
    let here = keyed.scope().index() as u64;
    arrange_at(keyed, Some(here), footprint, &name)
}

fn error_columns() -> Vec<ScalarExpr> {
    (0..4).map(ScalarExpr::Column).collect()
}

/// The arranged rows, through a block, as a collection; with `lookup`, only those of these keys.
pub fn flatten<'s>(
    arrangement: &Arrangement<'s>,
    mfp: &Mfp,
    lookup: Option<&[Row]>,
    name: &str,
) -> (Rows<'s>, Rows<'s>) {
    let mut mfp = arrangement.compile(mfp);
    let advance = arrangement.advance;
    let lookup: Option<Vec<Row>> = lookup.map(|keys| {
        let mut keys = keys.to_vec();
        keys.sort();
        keys.dedup();
        keys
    });
    stateless(
        arrangement.arranged.stream.clone(),
        Pipeline,
        name,
        move |batches: &mut Vec<RowBatch>, out, ship| {
            for batch in batches.drain(..) {
                if batch.is_empty() {
                    continue;
                }
                let mut cursor = batch.cursor();
                match &lookup {
                    Some(keys) => {
                        for key in keys {
                            cursor.seek_key(&batch, key.as_ref());
                            if cursor.get_key(&batch) == Some(key.as_ref()) {
                                flatten_key(&mut cursor, &batch, &mut mfp, advance, out, ship);
                            }
                        }
                    }
                    None => {
                        while cursor.key_valid(&batch) {
                            flatten_key(&mut cursor, &batch, &mut mfp, advance, out, ship);
                            cursor.step_key(&batch);
                        }
                    }
                }
            }
        },
    )
}

type RowBatchCursor = <RowBatch as Navigable>::Cursor;

fn flatten_key(
    cursor: &mut RowBatchCursor,
    batch: &RowBatch,
    mfp: &mut RowMfp,
    advance: T,
    out: &mut crate::render::ok_err::Changes,
    ship: &mut dyn FnMut(&mut crate::render::ok_err::Changes),
) {
    let key = cursor.key(batch);
    while let Some(val) = cursor.get_val(batch) {
        // Differences at times that count as one are added up, so that what happened before `advance` costs one evaluation.
        let mut advanced = 0;
        cursor.map_times(batch, |time, diff| {
            if *time <= advance {
                advanced += *diff;
            }
        });
        if advanced != 0 {
            mfp.apply(&[key, val], advance, advanced, out);
        }
        cursor.map_times(batch, |time, diff| {
            if *time > advance {
                mfp.apply(&[key, val], *time, *diff, out);
            }
        });
        if out.is_full() {
            ship(out);
        }
        cursor.step_val(batch);
    }
}
