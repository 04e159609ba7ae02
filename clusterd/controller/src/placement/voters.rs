//! Who votes in a CLUSTER's Raft group: three nodes if there are three, else one, so that no even number makes an election harder to win.

use std::collections::BTreeSet;

use repr::NodeId;
use state::Placement;

use super::nodes::{Nodes, Standing};

const VOTERS_MAX: usize = 3;

/// Voters of a new group.
pub(super) fn choose(placement: &Placement, nodes: &Nodes) -> BTreeSet<NodeId> {
    let anew = Placement {
        voters: BTreeSet::new(),
        ..placement.clone()
    };
    let candidates = nodes.for_votes(&anew);
    let count = odd(candidates.len());
    candidates.into_iter().take(count).collect()
}

/// Voters of the group that has to take this one's place, if so many are lost that it can elect nobody and change nothing, its voters
/// included; or if it elects nobody, whoever is there (`headless`).
pub(super) fn of_new_group(
    placement: &Placement,
    headless: bool,
    nodes: &Nodes,
) -> Option<BTreeSet<NodeId>> {
    let there = placement
        .voters
        .iter()
        .filter(|node| match nodes.standing(**node) {
            Standing::Ready | Standing::Silent | Standing::Draining => true,
            Standing::Lost | Standing::Gone => false,
        });
    if !headless && there.count() * 2 > placement.voters.len() {
        return None;
    }
    let voters = choose(placement, nodes);
    (!voters.is_empty()).then_some(voters)
}

/// One step towards voters that are there and of the right number, if one is needed.
pub(super) fn change(placement: &mut Placement, nodes: &Nodes) {
    let fresh = nodes.for_votes(placement);
    let of_standing = |wanted: &[Standing]| {
        let mut voters = placement.voters.iter().copied();
        voters.find(|node| wanted.contains(&nodes.standing(*node)))
    };
    let leaving = of_standing(&[Standing::Gone]).or_else(|| of_standing(&[Standing::Draining]));
    let lost = of_standing(&[Standing::Lost]);
    match (leaving.or(lost), fresh.first()) {
        (Some(out), Some(in_its_place)) => {
            placement.voters.remove(&out);
            placement.voters.insert(*in_its_place);
        }
        (Some(_), None) if leaving.is_some() => shrink(placement, nodes),
        // A lost voter that nobody can replace may come back, and the others have a majority.
        (Some(_), None) => {}
        (None, _) => grow(placement, fresh),
    }
}

/// Nobody can take the place of those that leave: the best of the others go on, in a number that is odd.
fn shrink(placement: &mut Placement, nodes: &Nodes) {
    let mut staying: Vec<NodeId> = placement.voters.iter().copied().collect();
    staying.retain(|node| match nodes.standing(*node) {
        Standing::Ready | Standing::Silent | Standing::Lost => true,
        Standing::Draining | Standing::Gone => false,
    });
    staying.sort_by_key(|node| {
        let elsewhere = !placement.replicas.values().any(|host| host == node);
        (nodes.standing(*node) != Standing::Ready, elsewhere, *node)
    });
    if !staying.is_empty() {
        staying.truncate(odd(staying.len()));
        placement.voters = staying.into_iter().collect();
    }
}

fn grow(placement: &mut Placement, fresh: Vec<NodeId>) {
    let count = odd(placement.voters.len() + fresh.len());
    let missing = count.saturating_sub(placement.voters.len());
    placement.voters.extend(fresh.into_iter().take(missing));
}

/// The number of voters among so many nodes.
pub(super) fn odd(nodes: usize) -> usize {
    match nodes.min(VOTERS_MAX) {
        0 => 0,
        1 | 2 => 1,
        more => more,
    }
}
