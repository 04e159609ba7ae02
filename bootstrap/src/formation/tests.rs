use super::*;
use host::Rng;
use host::sim::SimRng;
use std::collections::BTreeSet;

fn founder(key: u8) -> Founder {
    Founder {
        public_key: vec![key],
        address: format!("n{key}:1"),
    }
}

fn node(key: u8, expect: u32) -> Formation {
    Formation::new(founder(key), u64::from(key), expect, None)
}

fn start() -> Instant {
    Instant::from_nanos(0)
}

/// Everybody asks everybody, and hears the answer.
fn meet_all(nodes: &mut [Formation], now: Instant) {
    for asking in 0..nodes.len() {
        for answering in 0..nodes.len() {
            let question = nodes[asking].meeting(now);
            nodes[answering].heard(now, question);
            let answer = nodes[answering].meeting(now);
            nodes[asking].heard(now, answer);
        }
    }
}

fn agree_all(nodes: &mut [Formation], now: Instant) {
    for node in nodes {
        match node.step(now) {
            Step::Agree(members) => node.agree(members),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_smallest_key_founds_once_all_have_agreed() {
    let mut nodes = [node(3, 3), node(1, 3), node(2, 3)];
    meet_all(&mut nodes[..2], start());
    assert!(nodes.iter().all(|node| node.step(start()) == Step::Wait));
    assert_eq!(
        nodes[0].waits_for(start()),
        "waiting for 1 of 3 founders; here are n1:1, n3:1"
    );
    meet_all(&mut nodes, start());
    // The first that met all of them does not know yet that they have met each other too.
    meet_all(&mut nodes, start());
    agree_all(&mut nodes, start());
    // Nobody has heard yet that the others have agreed.
    assert!(nodes.iter().all(|node| node.step(start()) == Step::Wait));
    meet_all(&mut nodes, start());
    let members = vec![founder(1), founder(2), founder(3)];
    assert_eq!(nodes[1].step(start()), Step::Found(members));
    assert_eq!(nodes[0].step(start()), Step::Wait);
    assert!(
        nodes[0]
            .waits_for(start())
            .contains("certificate from n1:1")
    );
}

#[test]
fn one_alone_founds_if_one_is_expected() {
    let mut one = node(1, 1);
    assert_eq!(one.step(start()), Step::Agree(vec![founder(1)]));
    one.agree(vec![founder(1)]);
    assert_eq!(one.step(start()), Step::Found(vec![founder(1)]));
}

#[test]
fn one_too_many_stops_all_of_them() {
    let mut nodes = [node(1, 2), node(2, 2), node(3, 2)];
    meet_all(&mut nodes, start());
    for node in &nodes {
        let Step::Fail(failure @ Failure::TooMany { .. }) = node.step(start()) else {
            panic!("{:?}", node.step(start()));
        };
        let text = failure.to_string();
        assert!(text.contains("3 nodes have this token"), "{text}");
        assert!(text.contains("n1:1, n2:1, n3:1"), "{text}");
    }
}

#[test]
fn whoever_comes_after_the_others_have_agreed_is_told_so() {
    let mut nodes = [node(1, 2), node(2, 2), node(3, 2)];
    meet_all(&mut nodes[..2], start());
    meet_all(&mut nodes[..2], start());
    agree_all(&mut nodes[..2], start());
    meet_all(&mut nodes, start());
    assert!(matches!(
        nodes[2].step(start()),
        Step::Fail(Failure::Without { .. })
    ));
    assert!(matches!(nodes[0].step(start()), Step::Found(_)));
}

#[test]
fn different_expectations_are_named() {
    let mut nodes = [node(1, 2), node(2, 3)];
    meet_all(&mut nodes, start());
    for node in &nodes {
        assert!(matches!(
            node.step(start()),
            Step::Fail(Failure::Expect { .. })
        ));
    }
}

#[test]
fn a_disk_that_was_emptied_is_another_node() {
    // Before anything is agreed the new one takes the place of the old one.
    let mut nodes = [node(1, 2), node(2, 2)];
    nodes[0].heard(start(), nodes[1].meeting(start()));
    let mut emptied = founder(9);
    emptied.address = "n2:1".to_owned();
    nodes[1] = Formation::new(emptied, 9, 2, None);
    meet_all(&mut nodes, start());
    meet_all(&mut nodes, start());
    let Step::Agree(members) = nodes[0].step(start()) else {
        panic!("{:?}", nodes[0].step(start()));
    };
    assert_eq!(members.len(), 2);
    assert_eq!(members[1].public_key, [9]);
    // Afterwards it does not.
    nodes[0].agree(vec![founder(1), founder(2)]);
    assert_eq!(nodes[0].step(start()), Step::Wait);
    assert!(nodes[0].waits_for(start()).contains("emptied or exchanged"));
}

#[test]
fn a_copied_directory_is_noticed() {
    let mut one = node(1, 2);
    let copy = Formation::new(founder(1), 77, 2, None);
    one.heard(start(), copy.meeting(start()));
    assert!(matches!(
        one.step(start()),
        Step::Fail(Failure::Copy { .. })
    ));
}

#[test]
fn whoever_is_silent_is_gone_unless_it_has_agreed() {
    let mut nodes = [node(1, 2), node(2, 2)];
    meet_all(&mut nodes, start());
    meet_all(&mut nodes, start());
    let later = start() + SILENCE_MAX + Duration::from_secs(1);
    assert_eq!(nodes[0].step(later), Step::Wait);
    assert_eq!(nodes[0].meeting(later).met.len(), 1);
    agree_all(&mut nodes, start());
    meet_all(&mut nodes, start());
    assert!(matches!(nodes[0].step(later), Step::Found(_)));
}

/// Any start, any links, any crashes: the environments that are made share no node, and if nobody is superfluous and the links heal, one is made.
#[test]
fn split_starts_never_make_two_environments_of_one_node() {
    for seed in 0..500 {
        let rng = SimRng::new(seed);
        let nodes = 2 + u8::try_from(rng.below(4)).unwrap();
        let expect = 1 + u32::try_from(rng.below(u64::from(nodes))).unwrap();
        let mut world: Vec<Formation> = (0..nodes).map(|key| node(key, expect)).collect();
        let mut founded: BTreeSet<Vec<Key>> = BTreeSet::new();
        let mut now = start();
        let mut cut: BTreeSet<(u64, u64)> = BTreeSet::new();
        for round in 0..200 {
            now = now + Duration::from_millis(rng.below(700));
            let healed = round > 150;
            let (a, b) = (rng.below(nodes.into()), rng.below(nodes.into()));
            match rng.below(6) {
                0 if !healed => drop(cut.insert((a, b))),
                1 => drop(cut.remove(&(a, b))),
                2 if !healed => {
                    // A crash: what was agreed is on the disk.
                    let key = u8::try_from(a).unwrap();
                    let agreed = world[a as usize].agreed.clone();
                    world[a as usize] = Formation::new(founder(key), round, expect, agreed);
                }
                _ => {}
            }
            if healed {
                cut.clear();
                meet_all(&mut world, now);
            } else if !cut.contains(&(a, b)) {
                let question = world[a as usize].meeting(now);
                world[b as usize].heard(now, question);
                // The answer may be lost.
                if !cut.contains(&(b, a)) {
                    let answer = world[b as usize].meeting(now);
                    world[a as usize].heard(now, answer);
                }
            }
            for node in &mut world {
                match node.step(now) {
                    Step::Agree(members) => node.agree(members),
                    Step::Found(members) => {
                        assert_eq!(members.len(), expect as usize, "seed {seed}");
                        founded.insert(keys(&members).cloned().collect());
                    }
                    Step::Wait | Step::Fail(_) => {}
                }
            }
        }
        let all: Vec<&Key> = founded.iter().flatten().collect();
        let distinct: BTreeSet<&Key> = all.iter().copied().collect();
        assert_eq!(all.len(), distinct.len(), "seed {seed}: {founded:?}");
        if expect == u32::from(nodes) {
            assert_eq!(founded.len(), 1, "seed {seed}");
        }
    }
}
