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

/// Time between two hearings counts up to this much: the process may have been stopped meanwhile.
const STEP_MAX: Duration = Duration::from_secs(5);

/// How long groups have had no leader, as one node sees it.
#[derive(Debug, Default)]
pub struct Unled {
    groups: BTreeMap<ClusterId, Group>,
}

#[derive(Debug)]
struct Group {
    /// Another incarnation is another group.
    incarnation: u64,
    without: Duration,
    /// When it was last heard to have none; `None` if too few were heard.
    last: Option<Duration>,
}

impl Unled {
    /// Takes in what the nodes that answered said they lead, at a time `now` on any clock that does not go back.
    ///
    /// While too few answer nothing is counted, and nothing is forgotten: a busy node that misses an answer now and then would put it off for ever.
    pub fn heard(
        &mut self,
        state: &State,
        answers: &BTreeMap<NodeId, BTreeSet<(ClusterId, u64)>>,
        now: Duration,
    ) {
        let placements = state.placements();
        self.groups.retain(|id, group| {
            let placement = placements.get(id);
            placement.is_some_and(|placement| placement.incarnation == group.incarnation)
        });
        for (id, placement) in placements {
            let incarnation = placement.incarnation;
            if answers
                .values()
                .any(|led| led.contains(&(*id, incarnation)))
            {
                self.groups.remove(id);
                continue;
            }
            let group = self.groups.entry(*id).or_insert(Group {
                incarnation,
                without: Duration::ZERO,
                last: None,
            });
            let heard = is_most_there(placement, answers).then_some(now);
            if let (Some(now), Some(last)) = (heard, group.last) {
                group.without += now.saturating_sub(last).min(STEP_MAX);
            }
            group.last = heard;
        }
    }

    /// For how long each has had none.
    pub fn times(&self) -> BTreeMap<ClusterId, Duration> {
        let groups = self.groups.iter();
        groups.map(|(id, group)| (*id, group.without)).collect()
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
        let mut now = Duration::ZERO;
        let mut after = |seconds: u32, of: &[(u64, &[u64])]| {
            now += SECOND * seconds;
            unled.heard(&state, &answers(of), now);
            unled.times().get(&DEFAULT_CLUSTER).map(Duration::as_secs)
        };
        assert_eq!(after(1, &[(1, &[incarnation]), (2, &[])]), None);
        // The leader is gone, and one that leads another incarnation leads another group.
        assert_eq!(after(2, &[(2, &[]), (3, &[incarnation - 1])]), Some(0));
        assert_eq!(after(2, &[(2, &[]), (3, &[])]), Some(2));
        assert_eq!(after(2, &[(1, &[]), (2, &[]), (3, &[])]), Some(4));
        // Two that are away may lead and follow each other.
        assert_eq!(after(2, &[(3, &[])]), Some(4));
        assert_eq!(after(90, &[(2, &[]), (3, &[])]), Some(4));
        assert_eq!(after(2, &[(2, &[]), (3, &[])]), Some(6));
        assert_eq!(after(90, &[(2, &[]), (3, &[])]), Some(11), "it was stopped");
        assert_eq!(after(2, &[(2, &[incarnation]), (3, &[])]), None);
    }

    #[test]
    fn another_incarnation_begins_anew() {
        let (mut state, incarnation) = three();
        let mut unled = Unled::default();
        let nobody = answers(&[(1, &[]), (2, &[]), (3, &[])]);
        unled.heard(&state, &nobody, SECOND);
        unled.heard(&state, &nobody, SECOND * 3);
        assert_eq!(unled.times()[&DEFAULT_CLUSTER], SECOND * 2);
        let placement = Placement {
            incarnation: incarnation + 1,
            ..Placement::clone(&state.placements()[&DEFAULT_CLUSTER])
        };
        let cluster = DEFAULT_CLUSTER;
        let index = state.applied() + 1;
        state.apply(index, &Command::Place { cluster, placement });
        unled.heard(&state, &nobody, SECOND * 5);
        assert_eq!(unled.times()[&cluster], Duration::ZERO);
    }
}
