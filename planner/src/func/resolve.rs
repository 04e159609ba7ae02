//! Choosing one of several overloads.

use super::Signature;
use crate::types::cast::{CastContext, cast_context};
use repr::SqlType;

/// An overload with its polymorphic types made concrete.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    pub signature: &'a Signature,
    pub args: Vec<SqlType>,
    pub ret: SqlType,
}

pub enum Choice<'a> {
    One(Candidate<'a>),
    None,
    Ambiguous,
}

/// The overload that a call with arguments of these types means; `unknown` stands for constants without a type.
pub fn select<'a>(signatures: &'a [Signature], types: &[SqlType]) -> Choice<'a> {
    let mut candidates: Vec<Candidate<'a>> = signatures
        .iter()
        .filter_map(|s| applicable(s, types))
        .collect();
    if let Some(exact) = candidates.iter().position(|c| is_exact(c, types)) {
        return Choice::One(candidates.swap_remove(exact));
    }
    if candidates.len() > 1 {
        keep_most(&mut candidates, |c| count(c, types, same));
        keep_most(&mut candidates, |c| {
            count(c, types, |a, t| {
                same(a, t) || (a.is_preferred() && a.category() == t.category())
            })
        });
        resolve_unknowns(&mut candidates, types);
    }
    if candidates.len() > 1 {
        assume_one_type(&mut candidates, types);
    }
    match candidates.len() {
        0 => Choice::None,
        1 => Choice::One(candidates.remove(0)),
        _ => Choice::Ambiguous,
    }
}

fn same(arg: &SqlType, ty: &SqlType) -> bool {
    *ty != SqlType::Unknown && arg.same_base(ty)
}

fn is_exact(candidate: &Candidate<'_>, types: &[SqlType]) -> bool {
    candidate.args.iter().zip(types).all(|(a, t)| same(a, t))
}

fn count(
    candidate: &Candidate<'_>,
    types: &[SqlType],
    f: impl Fn(&SqlType, &SqlType) -> bool,
) -> usize {
    candidate
        .args
        .iter()
        .zip(types)
        .filter(|(a, t)| **t != SqlType::Unknown && f(a, t))
        .count()
}

fn keep_most(candidates: &mut Vec<Candidate<'_>>, score: impl Fn(&Candidate<'_>) -> usize) {
    if let Some(best) = candidates.iter().map(&score).max() {
        candidates.retain(|c| score(c) == best);
    }
}

/// For each unknown argument: the string category if some candidate accepts it, else the one category that all accept; then, within it,
/// preferred types.
fn resolve_unknowns(candidates: &mut Vec<Candidate<'_>>, types: &[SqlType]) {
    for (i, ty) in types.iter().enumerate() {
        if *ty != SqlType::Unknown || candidates.len() < 2 {
            continue;
        }
        let categories: Vec<char> = candidates.iter().map(|c| c.args[i].category()).collect();
        let chosen = if categories.contains(&'S') {
            'S'
        } else if categories.iter().all(|c| *c == categories[0]) {
            categories[0]
        } else {
            continue;
        };
        candidates.retain(|c| c.args[i].category() == chosen);
        if candidates.iter().any(|c| c.args[i].is_preferred()) {
            candidates.retain(|c| c.args[i].is_preferred());
        }
    }
}

/// If all known arguments have one type, unknown ones are taken to have it too.
fn assume_one_type(candidates: &mut Vec<Candidate<'_>>, types: &[SqlType]) {
    let mut known = types.iter().filter(|t| **t != SqlType::Unknown);
    let Some(first) = known.next() else { return };
    if !known.all(|t| t.same_base(first)) || !types.contains(&SqlType::Unknown) {
        return;
    }
    let accepting: Vec<Candidate<'_>> = candidates
        .iter()
        .filter(|c| c.args.iter().all(|a| a.same_base(first)))
        .cloned()
        .collect();
    if accepting.len() == 1 {
        *candidates = accepting;
    }
}

/// The overload for arguments of these types, if every one converts implicitly.
fn applicable<'a>(signature: &'a Signature, types: &[SqlType]) -> Option<Candidate<'a>> {
    let declared = expand(signature, types.len())?;
    let element = polymorphic_element(&declared, types)?;
    let concrete = |ty: &SqlType| match (ty, &element) {
        (SqlType::AnyElement, Some(e)) => e.clone(),
        (SqlType::AnyArray, Some(e)) => e.clone().array_of(),
        (other, _) => other.clone(),
    };
    let args: Vec<SqlType> = declared.iter().map(concrete).collect();
    let fits = args.iter().zip(types).all(|(arg, ty)| {
        matches!(arg, SqlType::Any) || cast_context(ty, arg) == Some(CastContext::Implicit)
    });
    let args = args
        .into_iter()
        .zip(types)
        .map(|(arg, ty)| match arg.same_base(ty) {
            true => ty.clone(),
            false => arg,
        })
        .collect();
    fits.then(|| Candidate {
        signature,
        args,
        ret: concrete(&signature.ret),
    })
}

/// Argument types for a call with `n` arguments.
fn expand(signature: &Signature, n: usize) -> Option<Vec<SqlType>> {
    let mut args = signature.args.clone();
    if signature.variadic && n >= args.len() {
        let last = args.last()?.clone();
        args.resize(n, last);
    }
    (args.len() == n).then_some(args)
}

/// What `anyelement` stands for; the outer `None`: the arguments disagree.
fn polymorphic_element(declared: &[SqlType], types: &[SqlType]) -> Option<Option<SqlType>> {
    let is_polymorphic = |t: &SqlType| matches!(t, SqlType::AnyElement | SqlType::AnyArray);
    if !declared.iter().any(is_polymorphic) {
        return Some(None);
    }
    let mut elements = vec![];
    for (d, t) in declared.iter().zip(types) {
        match (d, t) {
            (_, SqlType::Unknown) => {}
            (SqlType::AnyElement, t) => elements.push(t.without_typmod()),
            (SqlType::AnyArray, t) => elements.push(t.element()?.without_typmod()),
            _ => {}
        }
    }
    if elements.is_empty() {
        return Some(Some(SqlType::Text));
    }
    crate::types::common_type(&elements).map(Some)
}
