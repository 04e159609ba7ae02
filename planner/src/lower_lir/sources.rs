//! Moves filters and projections into the imports of sources: rows and columns that no use needs never enter the dataflow.

use plan::lir::{IndexImport, Node, SourceImport};
use plan::mir::Id;
use plan::{Mfp, ScalarExpr};
use repr::GlobalId;
use std::collections::{BTreeMap, BTreeSet};

/// Narrows each import to what its uses have in common, and the uses to what remains.
pub fn push_into_imports(
    node: &mut Node,
    sources: &mut BTreeMap<GlobalId, SourceImport>,
    indexes: &BTreeMap<GlobalId, IndexImport>,
) {
    for (id, source) in sources.iter_mut() {
        // Uses of an index see whole rows; both must mean the same columns.
        if indexes.values().any(|import| import.on == *id) {
            continue;
        }
        let mut uses = vec![];
        collect(node, *id, source.types.len(), &mut uses);
        let common = common(&uses, source.types.len());
        rewrite(node, *id, &common);
        source.mfp = common;
    }
}

fn is_import(node: &Node, id: GlobalId) -> bool {
    matches!(node, Node::Get { id: Id::Global(global) } if *global == id)
}

/// The blocks that the import is read through.
fn collect(node: &Node, id: GlobalId, arity: usize, uses: &mut Vec<Mfp>) {
    match node {
        Node::Mfp { input, mfp } if is_import(input, id) => uses.push(mfp.clone()),
        node if is_import(node, id) => uses.push(Mfp::identity(arity)),
        other => children(other)
            .into_iter()
            .for_each(|child| collect(child, id, arity, uses)),
    }
}

/// The block that all uses can be computed from.
fn common(uses: &[Mfp], arity: usize) -> Mfp {
    let Some((first, rest)) = uses.split_first() else {
        return Mfp::identity(arity);
    };
    if first.temporal.is_empty() && rest.iter().all(|mfp| mfp == first) {
        return first.clone();
    }
    let demand: BTreeSet<usize> = uses.iter().flat_map(|mfp| mfp.demand()).collect();
    let shared: Vec<ScalarExpr> = own_predicates(first)
        .filter(|p| rest.iter().all(|mfp| own_predicates(mfp).any(|q| q == *p)))
        .cloned()
        .collect();
    Mfp::identity(arity).filter(shared).project(demand)
}

/// Predicates over the input's columns alone.
fn own_predicates(mfp: &Mfp) -> impl Iterator<Item = &ScalarExpr> {
    mfp.predicates
        .iter()
        .map(|(_, p)| p)
        .filter(|p| p.support().last().is_none_or(|c| *c < mfp.input_arity))
}

fn rewrite(node: &mut Node, id: GlobalId, common: &Mfp) {
    match node {
        Node::Mfp { input, mfp } if is_import(input, id) => {
            let rest = remainder(mfp, common);
            if rest.is_identity() {
                *node = Node::Get { id: Id::Global(id) };
            } else {
                *mfp = rest;
            }
        }
        other => children_mut(other)
            .into_iter()
            .for_each(|child| rewrite(child, id, common)),
    }
}

/// What the use still has to do after the common block.
fn remainder(mfp: &Mfp, common: &Mfp) -> Mfp {
    if mfp == common {
        return Mfp::identity(common.output_arity());
    }
    let mut rest = mfp.clone();
    rest.predicates
        .retain(|(_, p)| !common.predicates.iter().any(|(_, q)| q == p));
    let place = |c: usize| common.projection.iter().position(|p| *p == c).unwrap_or(0);
    rest.permute_input(&place, common.output_arity());
    rest
}

pub(super) fn children(node: &Node) -> Vec<&Node> {
    match node {
        Node::Constant { .. } | Node::Get { .. } | Node::GetArrangement { .. } => vec![],
        Node::Let { value, body, .. } => vec![value, body],
        Node::Mfp { input, .. }
        | Node::FlatMap { input, .. }
        | Node::Reduce { input, .. }
        | Node::TopK { input, .. }
        | Node::Negate { input }
        | Node::Threshold { input, .. }
        | Node::ArrangeBy { input, .. } => vec![input],
        Node::Join { inputs, .. } | Node::Union { inputs } => inputs.iter().collect(),
    }
}

pub(crate) fn children_mut(node: &mut Node) -> Vec<&mut Node> {
    match node {
        Node::Constant { .. } | Node::Get { .. } | Node::GetArrangement { .. } => vec![],
        Node::Let { value, body, .. } => vec![value, body],
        Node::Mfp { input, .. }
        | Node::FlatMap { input, .. }
        | Node::Reduce { input, .. }
        | Node::TopK { input, .. }
        | Node::Negate { input }
        | Node::Threshold { input, .. }
        | Node::ArrangeBy { input, .. } => vec![input],
        Node::Join { inputs, .. } | Node::Union { inputs } => inputs.iter_mut().collect(),
    }
}
