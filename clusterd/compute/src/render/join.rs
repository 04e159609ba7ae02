//! Joins: a stream of rows meets one arrangement after another.

use crate::render::arrange::{Arrangement, arrange_keyed, flatten, split_rows};
use crate::render::half_join::{Ties, half_join};
use crate::render::ok_err::{ChangesBuilder, demux, union};
use crate::render::row_mfp::RowMfp;
use crate::render::{Bundle, Context, RenderError};
use crate::types::*;
use differential_dataflow::operators::join::join_traces;
use plan::Mfp;
use plan::lir::{DeltaPath, JoinPlan, JoinStage, KeyValPermutation, Node};
use repr::{Diff, RowRef};
use std::rc::Rc;

pub fn render<'s>(
    cx: &mut Context<'s>,
    inputs: &[Node],
    plan: &JoinPlan,
) -> Result<Bundle<'s>, RenderError> {
    let own_start = own_start(cx, inputs, plan);
    let mut bundles = vec![];
    for (i, input) in inputs.iter().enumerate() {
        bundles.push(match &own_start {
            Some((start, bundle)) if *start == i => bundle.clone(),
            Some(_) | None => cx.render(input)?,
        });
    }
    let inputs = bundles;
    let mut errs: Vec<Rows<'s>> = inputs.iter().map(|b| b.errs.clone()).collect();
    let rows = match plan {
        JoinPlan::Linear {
            start,
            initial,
            stages,
        } => linear(cx, &inputs, *start, initial, stages, &mut errs)?,
        JoinPlan::Delta { paths } => {
            let mut parts = vec![];
            for path in paths {
                parts.push(delta_path(cx, &inputs, path, &mut errs)?);
            }
            union(cx.scope, parts)
        }
    };
    Ok(Bundle::from_rows(rows, union(cx.scope, errs)))
}

/// A start that nothing else reads enters the dataflow as what the first stage wants: key and rest.
fn own_start<'s>(
    cx: &mut Context<'s>,
    inputs: &[Node],
    plan: &JoinPlan,
) -> Option<(usize, Bundle<'s>)> {
    let JoinPlan::Linear {
        start,
        initial,
        stages,
    } = plan
    else {
        return None;
    };
    let first = stages.first().filter(|_| initial.is_identity())?;
    let (shard, block) = cx.own_import(&inputs[*start])?;
    let split = KeyValPermutation::new(&first.stream_key, first.stream_arity);
    let name = cx.operator_name("join start");
    let (keyed, errs) = cx.keyed_source(shard, &block, &split, true);
    let arrangement = Arrangement {
        split: Rc::new(split),
        arranged: arrange_keyed(keyed, &cx.footprint, &name),
        advance: 0,
    };
    Some((
        *start,
        Bundle {
            rows: None,
            arrangements: vec![arrangement],
            errs,
        },
    ))
}

/// The stream between two stages.
enum Stream<'s> {
    Rows(Rows<'s>),
    /// Not yet read: an input that is arranged already by the key of the next stage.
    Arranged(Arrangement<'s>),
}

fn linear<'s>(
    cx: &mut Context<'s>,
    inputs: &[Bundle<'s>],
    start: usize,
    initial: &Mfp,
    stages: &[JoinStage],
    errs: &mut Vec<Rows<'s>>,
) -> Result<Rows<'s>, RenderError> {
    let ready = stages
        .first()
        .filter(|_| initial.is_identity())
        .and_then(|stage| inputs[start].arrangement(&stage.stream_key));
    let mut stream = match ready {
        Some(arrangement) => Stream::Arranged(arrangement.clone()),
        None => Stream::Rows(cx.rows_through(&inputs[start], initial, "join start", errs)?),
    };
    for (n, stage) in stages.iter().enumerate() {
        let name = cx.operator_name(&format!("join stage {n}"));
        let lookup = inputs[stage.lookup]
            .arrangement(&stage.lookup_key)
            .ok_or(RenderError::MissingArrangement)?;
        let shared = matches!(stream, Stream::Arranged(_));
        let streamed = match stream {
            Stream::Arranged(arrangement) => arrangement,
            Stream::Rows(rows) => {
                let split = KeyValPermutation::new(&stage.stream_key, stage.stream_arity);
                let (keyed, key_errs) = split_rows(rows, &split, true, &name);
                errs.push(key_errs);
                Arrangement {
                    split: Rc::new(split),
                    arranged: arrange_keyed(keyed, &cx.footprint, &name),
                    advance: 0,
                }
            }
        };
        let (rows, stage_errs) = join_stage(&streamed, lookup, stage, &name, shared);
        errs.push(stage_errs);
        stream = Stream::Rows(cx.delayed(rows, &stage.closure));
    }
    match stream {
        Stream::Rows(rows) => Ok(rows),
        Stream::Arranged(_) => unreachable!("an arranged stream has a first stage, which reads it"),
    }
}

/// Rows with NULL in the key do not join; keys are compared as bytes, so that NULL would meet NULL.
fn has_null(key: RowRef<'_>) -> bool {
    key.iter().any(|d| d.is_null())
}

fn join_stage<'s>(
    stream: &Arrangement<'s>,
    lookup: &Arrangement<'s>,
    stage: &JoinStage,
    name: &str,
    shared: bool,
) -> (Rows<'s>, Rows<'s>) {
    let mut closure = compile_stage(&stream.split, &lookup.split, stage);
    let advance = stream.advance.max(lookup.advance);
    // A stream that was split for this join has no NULL keys; a shared arrangement may.
    let changes = join_traces::<_, _, _, _, ChangesBuilder>(
        stream.arranged.clone(),
        lookup.arranged.clone(),
        move |key: RowRef<'_>,
              left: RowRef<'_>,
              right: RowRef<'_>,
              time: T,
              l: &Diff,
              r: &Diff,
              out: &mut ChangesBuilder| {
            if !(shared && has_null(key)) {
                closure.apply(
                    &[key, left, right],
                    time.max(advance),
                    l * r,
                    &mut out.current,
                );
            }
        },
    );
    demux(changes, name)
}

/// The stage's block, compiled for (key, rest of the stream's row, rest of the row looked up).
fn compile_stage(
    stream: &KeyValPermutation,
    lookup: &KeyValPermutation,
    stage: &JoinStage,
) -> RowMfp {
    let keys = stream.key.len();
    let stream_values = stream.value.len();
    let map = |c: usize| {
        if c < stage.stream_arity {
            stream.permutation[c]
        } else {
            let c = lookup.permutation[c - stage.stream_arity];
            if c < keys { c } else { c + stream_values }
        }
    };
    RowMfp::permuted(
        &stage.closure,
        &[keys, stream_values, lookup.value.len()],
        &map,
    )
}

/// One path of a delta join: changes of one input meet the arrangements of all others.
///
/// When inputs change at the same time, exactly one path must see each combination: a path sees the changes that an earlier input makes
/// at its own time, and not those of a later input.
fn delta_path<'s>(
    cx: &mut Context<'s>,
    inputs: &[Bundle<'s>],
    path: &DeltaPath,
    errs: &mut Vec<Rows<'s>>,
) -> Result<Rows<'s>, RenderError> {
    let source = inputs[path.source]
        .arrangement(&path.source_key)
        .ok_or(RenderError::MissingArrangement)?;
    let name = cx.operator_name(&format!("delta path {}", path.source));
    let (rows, source_errs) = flatten(source, &path.initial, None, &name);
    errs.push(source_errs);
    let mut rows = cx.delayed(rows, &path.initial);
    for stage in &path.stages {
        let name = cx.operator_name(&format!("delta path {} to {}", path.source, stage.lookup));
        let lookup = inputs[stage.lookup]
            .arrangement(&stage.lookup_key)
            .ok_or(RenderError::MissingArrangement)?;
        let split = KeyValPermutation::new(&stage.stream_key, stage.stream_arity);
        let (keyed, key_errs) = split_rows(rows, &split, true, &name);
        errs.push(key_errs);
        let ties = if stage.lookup < path.source {
            Ties::Included
        } else {
            Ties::Excluded
        };
        let closure = compile_stage(&split, &lookup.split, stage);
        let (joined, stage_errs) = half_join(keyed, lookup, ties, closure, cx.as_of, &name);
        errs.push(stage_errs);
        rows = cx.delayed(joined, &stage.closure);
    }
    Ok(rows)
}
