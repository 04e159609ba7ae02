//! How long CLUSTERs have had no leader.
//!
//! What S says about a group's voters is a wish: the group's own log may not have come that far. A group that was founded by one node and lost it before it had others
//! looks alive by its placement, and elects nobody for ever. So ENV's leader asks the nodes now and then which CLUSTERs they lead.
//!
//! Only what is heard counts: a CLUSTER whose leader is merely out of this node's reach is one whose other voters follow it, but such a leader is out of ENV's sight, too,
//! and gives way to one that is not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use repr::{ClusterId, NodeId};
use state::{Placement, State};

/// Since when groups have had no leader, as one node sees it.
#[derive(Debug, Default)]
pub struct Unled {
    since: BTreeMap<ClusterId, Since>,
}

#[derive(Debug)]
struct Since {
    /// Another incarnation is another group.
    incarnation: u64,
    at: Duration,
}

impl Unled {
    /// Takes in what the nodes that answered said they lead, at a time `now` on any clock that does not go back.
    pub fn heard(
        &mut self,
        state: &State,
        answers: &BTreeMap<NodeId, BTreeSet<(ClusterId, u64)>>,
        now: Duration,
    ) {
        let placements = state.placements();
        self.since.retain(|id, _| placements.contains_key(id));
        for (id, placement) in placements {
            let group = (*id, placement.incarnation);
            let is_led = answers.values().any(|led| led.contains(&group));
            if is_led || !is_most_there(placement, answers) {
                self.since.remove(id);
                continue;
            }
            let incarnation = placement.incarnation;
            let fresh = Since {
                incarnation,
                at: now,
            };
            let since = self.since.entry(*id).or_insert(fresh);
            if since.incarnation != incarnation {
                *since = Since {
                    incarnation,
                    at: now,
                };
            }
        }
    }

    /// For how long each has had none.
    pub fn times(&self, now: Duration) -> BTreeMap<ClusterId, Duration> {
        let since = self.since.iter();
        since
            .map(|(id, since)| (*id, now.saturating_sub(since.at)))
            .collect()
    }
}

fn is_most_there(
    placement: &Placement,
    answers: &BTreeMap<NodeId, BTreeSet<(ClusterId, u64)>>,
) -> bool {
    let voters = &placement.voters;
    let there = voters.iter().filter(|node| answers.contains_key(node));
    there.count() * 2 > voters.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::state::DEFAULT_CLUSTER;
    use state::{Command, NodeOp};

    const SECOND: Duration = Duration::from_secs(1);

    /// Three nodes that vote in the first CLUSTER's group; its incarnation.
    fn three() -> (State, u64) {
        let mut state = State::new();
        let mut apply = |command| {
            let index = state.applied() + 1;
            state.apply(index, &command);
        };
        apply(Command::Init {
            environment: 1,
            generation: 0,
            wall_us: 1,
            superusers: vec![],
        });
        let nodes = [1, 2, 3].map(NodeId);
        for node in nodes {
            apply(Command::Node(NodeOp::Admit {
                node,
                public_key: vec![node.0 as u8],
                mesh_addr: String::new(),
                token_hash: None,
                wall_us: 1,
            }));
        }
        apply(Command::Place {
            cluster: DEFAULT_CLUSTER,
            placement: Placement {
                incarnation: 1,
                replicas: BTreeMap::new(),
                voters: nodes.into(),
            },
        });
        let incarnation = state.placements()[&DEFAULT_CLUSTER].incarnation;
        (state, incarnation)
    }

    fn answers(of: &[(u64, &[u64])]) -> BTreeMap<NodeId, BTreeSet<(ClusterId, u64)>> {
        let leads = |incarnations: &[u64]| {
            let led = incarnations.iter().map(|n| (DEFAULT_CLUSTER, *n));
            led.collect()
        };
        of.iter()
            .map(|(node, led)| (NodeId(*node), leads(led)))
            .collect()
    }

    #[test]
    fn time_counts_while_most_voters_are_there_and_nobody_leads() {
        let (state, incarnation) = three();
        let mut unled = Unled::default();
        let time = |unled: &Unled, now| unled.times(now).get(&DEFAULT_CLUSTER).copied();
        unled.heard(&state, &answers(&[(1, &[incarnation]), (2, &[])]), SECOND);
        assert_eq!(time(&unled, SECOND), None);
        // The leader is gone, and one that leads another incarnation leads another group.
        unled.heard(
            &state,
            &answers(&[(2, &[]), (3, &[incarnation - 1])]),
            SECOND * 2,
        );
        unled.heard(&state, &answers(&[(2, &[]), (3, &[])]), SECOND * 50);
        assert_eq!(time(&unled, SECOND * 62), Some(SECOND * 60));
        // Two that are away may lead and follow each other.
        unled.heard(&state, &answers(&[(3, &[])]), SECOND * 63);
        assert_eq!(time(&unled, SECOND * 63), None);
        unled.heard(&state, &answers(&[(2, &[]), (3, &[])]), SECOND * 70);
        unled.heard(
            &state,
            &answers(&[(2, &[incarnation]), (3, &[])]),
            SECOND * 80,
        );
        assert_eq!(time(&unled, SECOND * 80), None);
    }

    #[test]
    fn another_incarnation_begins_anew() {
        let (mut state, incarnation) = three();
        let mut unled = Unled::default();
        let nobody = answers(&[(1, &[]), (2, &[]), (3, &[])]);
        unled.heard(&state, &nobody, SECOND);
        let placement = Placement {
            incarnation: incarnation + 1,
            ..Placement::clone(&state.placements()[&DEFAULT_CLUSTER])
        };
        let cluster = DEFAULT_CLUSTER;
        state.apply(state.applied() + 1, &Command::Place { cluster, placement });
        unled.heard(&state, &nobody, SECOND * 61);
        assert_eq!(unled.times(SECOND * 61)[&cluster], Duration::ZERO);
    }
}
