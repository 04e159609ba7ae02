//! Makes an arrangement that occurs more than once only once.

use crate::lower_lir::sources::{children, children_mut};
use plan::lir::Node;
use plan::mir::Id;
use std::collections::BTreeSet;

/// Binds repeated arrangements where everything they read is in scope.
pub fn share_arrangements(node: Node) -> Node {
    let mut next = 1 + greatest_local(&node);
    share_in_scope(node, &BTreeSet::new(), &mut next)
}

fn greatest_local(node: &Node) -> u64 {
    let own = match node {
        Node::Let { id, .. } => *id,
        _ => 0,
    };
    children(node)
        .into_iter()
        .map(greatest_local)
        .fold(own, u64::max)
}

fn share_in_scope(mut node: Node, scope: &BTreeSet<u64>, next: &mut u64) -> Node {
    let mut bound = vec![];
    while let Some(repeated) = repeated_arrangement(&node, scope) {
        replace(&mut node, &repeated, *next);
        bound.push((*next, repeated));
        *next += 1;
    }
    let mut scope = scope.clone();
    scope.extend(bound.iter().map(|(id, _)| *id));
    share_in_bodies(&mut node, &scope, next);
    bound
        .into_iter()
        .rev()
        .fold(node, |body, (id, value)| Node::Let {
            id,
            value: Box::new(value),
            body: Box::new(body),
        })
}

/// Below a binding, what reads it can be shared too.
fn share_in_bodies(node: &mut Node, scope: &BTreeSet<u64>, next: &mut u64) {
    if let Node::Let { id, value, body } = node {
        share_in_bodies(value, scope, next);
        let mut inner = scope.clone();
        inner.insert(*id);
        let taken = std::mem::replace(&mut **body, Node::Union { inputs: vec![] });
        **body = share_in_scope(taken, &inner, next);
        return;
    }
    children_mut(node)
        .into_iter()
        .for_each(|child| share_in_bodies(child, scope, next));
}

/// An arrangement that occurs at least twice and reads no binding but those in scope; the largest such.
fn repeated_arrangement(node: &Node, scope: &BTreeSet<u64>) -> Option<Node> {
    let mut found = vec![];
    arrangements(node, &mut found);
    let repeated = found
        .iter()
        .enumerate()
        .filter(|(i, n)| found[i + 1..].contains(n) && reads_only(n, scope));
    repeated
        .map(|(_, n)| *n)
        .reduce(|a, b| if size(b) > size(a) { b } else { a })
        .cloned()
}

fn arrangements<'a>(node: &'a Node, found: &mut Vec<&'a Node>) {
    if matches!(node, Node::ArrangeBy { .. }) {
        found.push(node);
    }
    children(node)
        .into_iter()
        .for_each(|child| arrangements(child, found));
}

fn size(node: &Node) -> usize {
    1 + children(node).into_iter().map(size).sum::<usize>()
}

fn reads_only(node: &Node, scope: &BTreeSet<u64>) -> bool {
    match node {
        Node::Get { id: Id::Local(id) }
        | Node::GetArrangement {
            id: Id::Local(id), ..
        } => scope.contains(id),
        Node::Let { id, value, body } => {
            let mut inner = scope.clone();
            inner.insert(*id);
            reads_only(value, scope) && reads_only(body, &inner)
        }
        other => children(other)
            .into_iter()
            .all(|child| reads_only(child, scope)),
    }
}

fn replace(node: &mut Node, what: &Node, id: u64) {
    if node == what {
        *node = Node::Get { id: Id::Local(id) };
        return;
    }
    children_mut(node)
        .into_iter()
        .for_each(|child| replace(child, what, id));
}
